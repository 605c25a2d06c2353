//! What a role finds of the sink's tables, and what it may do with them.

use sqlx::postgres::{PgConnection, PgRow};
use sqlx::{Connection, Row};

use crate::postgres::query;
use crate::rule::render::quote_ident;

/// What is there of the sink's tables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// No table `tripline.alerts`.
    Nothing,
    /// The table as an older program made it: migrations are to be run.
    Older,
    /// All of it, and what the role may do.
    Tables(Rights),
}

/// What a role may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rights {
    /// The role's name.
    pub role: String,
    /// USAGE on the schema.
    pub usage: bool,
    /// On `tripline.alerts`.
    pub alerts: TableRights,
    /// On `tripline.generations`.
    pub generations: TableRights,
}

/// What a role may do with one table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TableRights {
    /// INSERT
    pub insert: bool,
    /// SELECT
    pub select: bool,
    /// UPDATE
    pub update: bool,
}

impl Rights {
    /// The statements that give what writing needs and is not there; `None` when nothing is missing.
    pub fn missing(&self) -> Option<String> {
        let Self { role, usage, alerts, generations } = self;
        let role = quote_ident(role);
        let mut grants = Vec::new();
        if !usage {
            grants.push(format!("GRANT USAGE ON SCHEMA tripline TO {role}"));
        }
        let (insert, select) = ((alerts.insert, "INSERT"), (alerts.select, "SELECT"));
        grants.extend(grant("alerts", &[insert, select], &role));
        // FOR SHARE asks for UPDATE.
        let (insert, select) = ((generations.insert, "INSERT"), (generations.select, "SELECT"));
        grants.extend(grant("generations", &[insert, select, (generations.update, "UPDATE")], &role));
        (!grants.is_empty()).then(|| grants.join("; "))
    }
}

/// The statement that gives those of the wanted rights that are not there.
fn grant(table: &str, wanted: &[(bool, &str)], role: &str) -> Option<String> {
    let missing: Vec<&str> = wanted.iter().filter(|(there, _)| !there).map(|(_, right)| *right).collect();
    (!missing.is_empty()).then(|| format!("GRANT {} ON tripline.{table} TO {role}", missing.join(", ")))
}

/// Reads what is there, and what this connection's role may do with it.
///
/// # Errors
/// The connection fails.
pub async fn rights(connection: &mut PgConnection) -> Result<Found, sqlx::Error> {
    let mut transaction = connection.begin_with(super::begin_reading()).await?;
    let rows = query(include_str!("rights.sql")).fetch_all(&mut *transaction).await?;
    transaction.rollback().await?;
    let (mut alerts, mut generations) = (None, None);
    for row in &rows {
        match row.try_get("name")? {
            "alerts" => alerts = Some(row),
            _ => generations = Some(row),
        }
    }
    Ok(match (alerts, generations) {
        (None, _) => Found::Nothing,
        (Some(_), None) => Found::Older,
        (Some(alerts), Some(_)) if !alerts.try_get("is_current")? => Found::Older,
        (Some(alerts), Some(generations)) => Found::Tables(Rights {
            role: alerts.try_get("role")?,
            usage: alerts.try_get("usage")?,
            alerts: on_table(alerts)?,
            generations: on_table(generations)?,
        }),
    })
}

fn on_table(row: &PgRow) -> Result<TableRights, sqlx::Error> {
    Ok(TableRights {
        insert: row.try_get("may_insert")?,
        select: row.try_get("may_select")?,
        update: row.try_get("may_update")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_rights_come_as_statements() {
        let of = |letters: &str| {
            let has = |letter| letters.contains(letter);
            TableRights { insert: has('i'), select: has('s'), update: has('u') }
        };
        let check = |usage, alerts, generations, want: &[&str]| {
            let role = "a\"b".to_owned();
            let rights = Rights { role, usage, alerts: of(alerts), generations: of(generations) };
            let statements = rights.missing().unwrap_or_default();
            let statements: Vec<&str> = statements.split("; ").filter(|statement| !statement.is_empty()).collect();
            assert_eq!(statements, want, "{usage} {alerts} {generations}");
        };
        check(true, "is", "isu", &[]);
        check(true, "i", "isu", &["GRANT SELECT ON tripline.alerts TO \"a\"\"b\""]);
        check(true, "isu", "is", &["GRANT UPDATE ON tripline.generations TO \"a\"\"b\""]);
        check(
            false,
            "",
            "",
            &[
                "GRANT USAGE ON SCHEMA tripline TO \"a\"\"b\"",
                "GRANT INSERT, SELECT ON tripline.alerts TO \"a\"\"b\"",
                "GRANT INSERT, SELECT, UPDATE ON tripline.generations TO \"a\"\"b\"",
            ],
        );
    }
}
