//! The catalog: reads a table's description, and checks that Postgres reads a rule as memory does.

pub mod full_row;

use sqlx::postgres::{PgConnection, PgDatabaseError, PgRow};
use sqlx::{AssertSqlSafe, Executor, Row};

use crate::change::debezium::TableSource;
use crate::model::{Column, ColumnType, Lsn, Table};
use crate::postgres::{query, query_scalar};
use crate::rule::parse::Spelling;
use crate::rule::{Query, RuleError, render};

/// Why a rule does not fit the database.
#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    /// The rule's text is at fault, at a position.
    #[error(transparent)]
    Rule(#[from] RuleError),
    /// The table is not suitable, or memory and Postgres read the rule differently.
    #[error("{0}")]
    Unfit(String),
    /// The connection failed.
    #[error(transparent)]
    Connection(#[from] sqlx::Error),
}

/// Reads a table's description.
///
/// # Errors
/// There is no such table, it has no primary key, or the connection fails.
pub async fn table(connection: &mut PgConnection, schema: &str, name: &str) -> Result<Table, CatalogError> {
    let rows = query(include_str!("catalog.sql")).bind(schema).bind(name).fetch_all(&mut *connection).await?;
    if rows.is_empty() {
        return Err(no_table(connection, schema, name).await);
    }
    let mut columns = Vec::new();
    let mut key: Vec<(i32, usize)> = Vec::new();
    for (index, row) in rows.iter().enumerate() {
        if let Some(position) = row.try_get::<Option<i32>, _>("key_position")? {
            key.push((position, index));
        }
        columns.push(column(row)?);
    }
    key.sort_unstable();
    if key.is_empty() {
        return Err(CatalogError::Unfit(format!(
            "table {schema}.{name} has no primary key: updates and deletes could not be told apart; add one"
        )));
    }
    let primary_key = key.into_iter().map(|(_, index)| index).collect();
    Ok(Table { schema: schema.to_owned(), name: name.to_owned(), columns, primary_key })
}

/// Reads the properties of a table that its change events depend on.
///
/// # Errors
/// The connection fails.
pub async fn source(connection: &mut PgConnection, schema: &str, name: &str) -> Result<TableSource, sqlx::Error> {
    let row = query(include_str!("catalog/source.sql")).bind(schema).bind(name).fetch_one(connection).await?;
    Ok(TableSource {
        database: row.try_get("database")?,
        key_is_made_up: row.try_get("key_is_made_up")?,
        is_full: row.try_get("is_full")?,
    })
}

/// Reads the server's `system_identifier`.
///
/// # Errors
/// The connection fails.
pub async fn server(connection: &mut PgConnection) -> Result<String, sqlx::Error> {
    query_scalar("select system_identifier::text from pg_control_system()").fetch_one(connection).await
}

/// The position in the WAL up to which changes have been written. On a standby, the position up to which they have been
/// replayed.
pub(super) const POSITION: &str = "
    select (case when pg_is_in_recovery() then pg_last_wal_replay_lsn() else pg_current_wal_insert_lsn() end
            - '0/0')::bigint";

/// Reads [`POSITION`].
///
/// # Errors
/// The connection fails.
pub async fn position(connection: &mut PgConnection) -> Result<Lsn, sqlx::Error> {
    let position: i64 = query_scalar(POSITION).fetch_one(connection).await?;
    Ok(Lsn(u64::try_from(position).unwrap_or(0)))
}

/// Explains why there is no table of this name. There may be another kind of relation.
pub async fn no_table(connection: &mut PgConnection, schema: &str, name: &str) -> CatalogError {
    let asked = query(include_str!("catalog/instead.sql")).bind(schema).bind(name).fetch_optional(connection);
    let found = match asked.await {
        Ok(found) => found,
        Err(error) => return error.into(),
    };
    let kind = found.as_ref().and_then(|row| row.try_get::<String, _>("kind").ok()).unwrap_or_default();
    let behind = found.and_then(|row| row.try_get::<Vec<String>, _>("behind").ok()).unwrap_or_default();
    CatalogError::Unfit(instead(&format!("{schema}.{name}"), &kind, &behind))
}

/// The message about a name that is no table, from its kind in `pg_class.relkind` and the tables that a view reads.
fn instead(name: &str, kind: &str, behind: &[String]) -> String {
    let what = match kind {
        "v" => "a view",
        "m" => "a materialized view",
        "f" => "a foreign table",
        "S" => "a sequence",
        "i" | "I" => "an index",
        "c" => "a composite type",
        "" => return format!("table {name} does not exist in this database, or this role may not see it"),
        _ => "no table",
    };
    let why = "Postgres streams the changes of ordinary and partitioned tables only";
    let tables = if behind.is_empty() { String::new() } else { format!(": {}", behind.join(", ")) };
    let what_to_do = match kind {
        "v" | "m" => format!("write the rule on the table that it reads{tables}"),
        "f" => "run Tripline beside the server that has the table".to_owned(),
        _ => "correct FROM in the rule".to_owned(),
    };
    format!("{name} is {what}, and {why}; {what_to_do}")
}

/// Reads a column's description from a row of the catalog query.
pub(super) fn column(row: &PgRow) -> Result<Column, sqlx::Error> {
    let base: String = row.try_get("base_type")?;
    let modifier: i32 = row.try_get("modifier")?;
    let deterministic: bool = row.try_get("deterministic")?;
    let ty = match base.as_str() {
        _ if row.try_get("is_enum")? => ColumnType::Enum,
        "bool" => ColumnType::Bool,
        "int2" => ColumnType::Int2,
        "int4" => ColumnType::Int4,
        "int8" => ColumnType::Int8,
        "numeric" => numeric(modifier),
        "text" | "varchar" if deterministic => ColumnType::Text,
        "bpchar" if deterministic => ColumnType::Char,
        "uuid" => ColumnType::Uuid,
        "inet" => ColumnType::Inet,
        "float4" => ColumnType::Float4,
        "float8" => ColumnType::Float8,
        "timestamptz" => ColumnType::TimestampTz,
        "timestamp" => ColumnType::Timestamp { precision: u8::try_from(modifier).unwrap_or(6) },
        "date" => ColumnType::Date,
        _ => ColumnType::Other,
    };
    Ok(Column {
        name: row.try_get("name")?,
        ty,
        type_name: row.try_get("type_name")?,
        nullable: row.try_get("nullable")?,
        has_default: row.try_get("has_default")?,
    })
}

/// Decodes the type modifier of numeric: (precision << 16 | scale) + 4, with the scale in 11 signed bits (Postgres's
/// `numeric.c`, `make_numeric_typmod`). −1 means that none was declared.
fn numeric(modifier: i32) -> ColumnType {
    if modifier < 4 {
        return ColumnType::Numeric { scale: None };
    }
    let scale = (((modifier - 4) & 0x7ff) ^ 0x400) - 0x400;
    match u8::try_from(scale) {
        Ok(scale) if scale <= 28 => ColumnType::Numeric { scale: Some(scale) },
        _ => ColumnType::Other,
    }
}

/// Has Postgres parse the rule's own text. An error has its position in the text.
///
/// # Errors
/// Postgres does not accept the text, or the connection fails.
pub async fn prepare(connection: &mut PgConnection, sql: &str) -> Result<(), CatalogError> {
    match explain(connection, sql).await {
        Ok(_) => Ok(()),
        Err(sqlx::Error::Database(error)) if is_of_the_text(error.code().as_deref()) => {
            let error = error.downcast_ref::<PgDatabaseError>();
            let position = match error.position() {
                Some(sqlx::postgres::PgErrorPosition::Original(position)) => position.saturating_sub(EXPLAIN.len()),
                _ => 1,
            };
            let (line, column) = place(sql, position);
            let hint = error.hint().map(|hint| format!(" ({hint})")).unwrap_or_default();
            Err(RuleError { line, column, problem: format!("Postgres: {}{hint}", error.message()) }.into())
        }
        Err(error) => Err(error.into()),
    }
}

/// Whether an error is a mistake in the text. Excluded are a missing right (42501), and the errors of a server that is
/// starting, stopping or out of resources (classes 08, 53, 57).
pub(super) fn is_of_the_text(code: Option<&str>) -> bool {
    code.is_none_or(|code| code != "42501" && !["08", "53", "57"].iter().any(|class| code.starts_with(class)))
}

/// The line and column of a character. All three count from 1.
fn place(sql: &str, position: usize) -> (u64, u64) {
    let before = sql.chars().take(position.saturating_sub(1));
    before.fold((1, 1), |(line, column), c| if c == '\n' { (line + 1, 1) } else { (line, column + 1) })
}

/// Compares the plan of the rule's own text with that of the query rendered from the typed rule. Both evaluators must
/// agree on the meaning of the text.
///
/// # Errors
/// The plans differ, or the connection fails.
pub async fn compare(
    connection: &mut PgConnection,
    sql: &str,
    query: &Query,
    spelling: &Spelling,
) -> Result<(), CatalogError> {
    let original = explain(connection, sql).await?;
    let rendered = explain(connection, &render::as_written(query, spelling)).await?;
    if original == rendered {
        return Ok(());
    }
    Err(CatalogError::Unfit(format!(
        "Postgres reads the rule otherwise than tripline does; please report it. Its plan:\n{original}\nours:\n{rendered}"
    )))
}

/// The prefix that makes Postgres return a query's plan.
const EXPLAIN: &str = "explain (verbose, costs off) ";

async fn explain(connection: &mut PgConnection, sql: &str) -> Result<String, sqlx::Error> {
    let statement = format!("{EXPLAIN}{sql}");
    let rows = connection.fetch_all(sqlx::raw_sql(AssertSqlSafe(statement))).await?;
    let lines = rows.iter().map(|row| row.try_get::<String, _>(0)).collect::<Result<Vec<_>, _>>()?;
    Ok(lines.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_are_no_tables() {
        let check = |kind: &str, behind: &[&str], parts: &[&str]| {
            let behind: Vec<String> = behind.iter().map(|name| (*name).to_owned()).collect();
            let text = instead("s.t", kind, &behind);
            assert!(parts.iter().all(|part| text.contains(part)), "{kind}: {text}");
        };
        check("", &[], &["table s.t does not exist"]);
        check("v", &["s.a", "s.b"], &["s.t is a view", "write the rule on the table that it reads: s.a, s.b"]);
        check("m", &[], &["s.t is a materialized view", "write the rule on the table that it reads"]);
        check("f", &[], &["s.t is a foreign table", "the server that has the table"]);
        check("S", &[], &["s.t is a sequence", "correct FROM in the rule"]);
        check("t", &[], &["s.t is no table", "correct FROM in the rule"]);
    }

    #[test]
    fn numeric_modifiers() {
        let check = |modifier: i32, want: ColumnType| assert_eq!(numeric(modifier), want, "{modifier}");
        check(-1, ColumnType::Numeric { scale: None });
        check((12 << 16 | 2) + 4, ColumnType::Numeric { scale: Some(2) });
        check((10 << 16) + 4, ColumnType::Numeric { scale: Some(0) });
        check((38 << 16 | 18) + 4, ColumnType::Numeric { scale: Some(18) });
        check((5 << 16 | 0x7fe) + 4, ColumnType::Other); // numeric(5,-2)
        check((99 << 16 | 40) + 4, ColumnType::Other);
    }

    #[test]
    fn only_mistakes_in_the_text_are_shown_as_such() {
        let check = |code: &str, want: bool| assert_eq!(is_of_the_text(Some(code)), want, "{code}");
        check("42601", true); // syntax
        check("42703", true); // no such column
        check("42501", false); // no right
        check("57P01", false); // shutting down
        check("53300", false); // too many connections
        check("08006", false); // connection lost
    }

    #[test]
    fn places_count_characters() {
        assert_eq!(place("select é\nfrom x", 8), (1, 8));
        assert_eq!(place("select é\nfrom x", 10), (2, 1));
        assert_eq!(place("a", 99), (1, 2));
    }
}
