//! Reads alerts from the table, as records like those of the topic.

use crate::alert::record::AlertRecord;
use crate::postgres::query;
use serde_json::Value as Json;
use sqlx::postgres::{PgConnection, PgRow};
use sqlx::{Connection, Row};
use uuid::Uuid;

use crate::model::Timestamp;

/// Which alerts to read. `None` stands for all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// The consumer group that raised the alerts.
    pub group: Option<String>,
    /// The name of the rule.
    pub rule: Option<String>,
    /// `firing` or `resolved`.
    pub status: Option<String>,
    /// The severity, as in the rule.
    pub severity: Option<String>,
    /// The value of any key column, as text.
    pub key: Option<String>,
    /// Emitted at this instant or later.
    pub since: Option<Timestamp>,
}

/// A reader's position: the `emitted_at` and id of an alert.
pub type Cursor = (String, Uuid);

/// Reads the newest alerts, newest first.
///
/// # Errors
/// The database's error.
pub async fn newest(
    connection: &mut PgConnection,
    filter: &Filter,
    limit: u32,
) -> Result<Vec<AlertRecord>, sqlx::Error> {
    let sql = concat!(include_str!("record.sql"), include_str!("filter.sql"), include_str!("newest.sql"));
    let mut transaction = connection.begin_with(super::begin_reading()).await?;
    let rows = query(sql)
        .bind(&filter.rule)
        .bind(&filter.status)
        .bind(&filter.severity)
        .bind(filter.key.as_deref().map(key_condition))
        .bind(filter.since.map(Timestamp::rfc3339))
        .bind(&filter.group)
        .bind(i64::from(limit))
        .fetch_all(&mut *transaction)
        .await?;
    transaction.rollback().await?;
    rows.iter().map(read).collect()
}

/// Reads the alerts after `after`, oldest first. Without `after` it begins at the first alert.
///
/// # Errors
/// The database's error.
pub async fn later(
    connection: &mut PgConnection,
    filter: &Filter,
    after: Option<&Cursor>,
    limit: u32,
) -> Result<Vec<AlertRecord>, sqlx::Error> {
    let sql = concat!(include_str!("record.sql"), include_str!("filter.sql"), include_str!("later.sql"));
    let mut transaction = connection.begin_with(super::begin_reading()).await?;
    let rows = query(sql)
        .bind(&filter.rule)
        .bind(&filter.status)
        .bind(&filter.severity)
        .bind(filter.key.as_deref().map(key_condition))
        .bind(filter.since.map(Timestamp::rfc3339))
        .bind(&filter.group)
        .bind(after.map(|(at, _)| at))
        .bind(after.map(|(_, id)| id.to_string()))
        .bind(i64::from(limit))
        .fetch_all(&mut *transaction)
        .await?;
    transaction.rollback().await?;
    rows.iter().map(read).collect()
}

/// Reads the names of the rules that have alerts, for one group if it is given.
///
/// # Errors
/// The database's error.
pub async fn rules(connection: &mut PgConnection, group: Option<&str>) -> Result<Vec<String>, sqlx::Error> {
    sqlx::query_scalar(include_str!("rules.sql")).bind(group).fetch_all(connection).await
}

/// Reads the alert with this id.
///
/// # Errors
/// The database's error.
pub async fn find(connection: &mut PgConnection, id: Uuid) -> Result<Option<AlertRecord>, sqlx::Error> {
    let sql = concat!(include_str!("record.sql"), include_str!("find.sql"));
    let mut transaction = connection.begin_with(super::begin_reading()).await?;
    let row = query(sql).bind(id.to_string()).fetch_optional(&mut *transaction).await?;
    transaction.rollback().await?;
    row.as_ref().map(read).transpose()
}

/// The messages of these alerts, as far as the table has them.
///
/// # Errors
/// The database's.
pub async fn messages(connection: &mut PgConnection, ids: &[Uuid]) -> Result<Vec<(Uuid, String)>, sqlx::Error> {
    let ids: Vec<String> = ids.iter().map(Uuid::to_string).collect();
    let mut transaction = connection.begin_with(super::begin_reading()).await?;
    let rows = query(include_str!("messages.sql")).bind(&ids).fetch_all(&mut *transaction).await?;
    transaction.rollback().await?;
    let read = |row: &PgRow| {
        let id: &str = row.try_get("id")?;
        let id = Uuid::parse_str(id).map_err(|error| sqlx::Error::Protocol(format!("an id is none: {error}")))?;
        Ok((id, row.try_get("message")?))
    };
    rows.iter().map(read).collect()
}

fn read(row: &PgRow) -> Result<AlertRecord, sqlx::Error> {
    let text: &str = row.try_get("record")?;
    AlertRecord::parse(text).map_err(|problem| sqlx::Error::Protocol(format!("a row is no alert: {problem}")))
}

/// A condition in jsonpath, which uses the index on the keys: some column of the key equals this text, this number or
/// this boolean.
fn key_condition(value: &str) -> String {
    let text = Json::from(value);
    let as_text = format!("$.* == {text}");
    match serde_json::from_str::<Json>(value) {
        Ok(other @ (Json::Number(_) | Json::Bool(_) | Json::Null)) => format!("{as_text} || $.* == {other}"),
        _ => as_text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_on_keys() {
        let check = |value: &str, want: &str| assert_eq!(key_condition(value), want, "{value}");
        check("27956157", "$.* == \"27956157\" || $.* == 27956157");
        check("-5", "$.* == \"-5\" || $.* == -5");
        check("true", "$.* == \"true\" || $.* == true");
        check("a\"b\\", "$.* == \"a\\\"b\\\\\"");
        check("\" || true || \"", "$.* == \"\\\" || true || \\\"\"");
        check("{\"a\":1}", "$.* == \"{\\\"a\\\":1}\"");
        check("", "$.* == \"\"");
    }
}
