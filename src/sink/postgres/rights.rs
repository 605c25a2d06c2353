//! Reads which of the sink's tables exist, and the role's rights on them.

use sqlx::postgres::{PgConnection, PgRow};
use sqlx::{Connection, Row};

use crate::postgres::query;
use crate::rule::render::quote_ident;

/// The state of the sink's tables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// There is no table `tripline.alerts`.
    Nothing,
    /// The table is of an older program version. Migrations have to be run.
    Older,
    /// All tables exist. The value has the role's rights.
    Tables(Rights),
}

/// The rights of a role.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rights {
    /// The role's name.
    pub role: String,
    /// USAGE on the schema.
    pub usage: bool,
    /// The rights on `tripline.alerts`.
    pub alerts: TableRights,
    /// The rights on `tripline.generations`.
    pub generations: TableRights,
}

/// The rights of a role on one table.
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
    /// The statements that grant the missing rights. `None`: no right is missing.
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

/// The statement that grants the wanted rights that are missing.
fn grant(table: &str, wanted: &[(bool, &str)], role: &str) -> Option<String> {
    let missing: Vec<&str> = wanted.iter().filter(|(there, _)| !there).map(|(_, right)| *right).collect();
    (!missing.is_empty()).then(|| format!("GRANT {} ON tripline.{table} TO {role}", missing.join(", ")))
}

/// Reads the state of the tables, and the rights of this connection's role.
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
