//! Reading the table: alert records as they are on the topic.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json};
use sqlx::Row;
use sqlx::postgres::{PgConnection, PgRow};
use uuid::Uuid;

use crate::model::Timestamp;

/// An alert record, of the topic or of the table. See ARCHITECTURE.md for its fields.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the names are those of the record")]
pub struct Record {
    pub id: Uuid,
    pub group: String,
    pub lineage: String,
    pub rule: String,
    pub rule_version: String,
    pub status: String,
    pub severity: String,
    pub key: Map<String, Json>,
    /// The epoch in which the episode fired and its ordinal there: `12.0`; `None` in records of earlier programs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub episode: Option<String>,
    pub message: String,
    pub stream: Map<String, Json>,
    pub database: Option<Map<String, Json>>,
    pub having: String,
    pub window: Window,
    pub trigger: Json,
    pub confirmation: Json,
    pub emitted_at: String,
}

/// The window of an alert, in RFC 3339.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    /// Its left edge; `None` for a rule without a time bound.
    pub from: Option<String>,
    /// NOW().
    pub to: String,
}

impl Record {
    /// Reads the JSON text of a record.
    ///
    /// # Errors
    /// Not an alert record; the text says why.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut record: Self = serde_json::from_str(text).map_err(|error| error.to_string())?;
        record.window.from = record.window.from.as_deref().map(uniform);
        record.window.to = uniform(&record.window.to);
        record.emitted_at = uniform(&record.emitted_at);
        Ok(record)
    }

    /// A field of the trigger; null where time alone brought the alert.
    pub fn trigger(&self, field: &str) -> &Json {
        self.trigger.get(field).unwrap_or(&Json::Null)
    }

    /// A field of the confirmation; null where there was none.
    pub fn confirmation(&self, field: &str) -> &Json {
        self.confirmation.get(field).unwrap_or(&Json::Null)
    }
}

/// An instant of Postgres's JSON (`…+00:00`) as records write it (`…Z`); other text, such as `infinity`, as it is.
fn uniform(text: &str) -> String {
    instant(text).map_or_else(|| text.to_owned(), Timestamp::rfc3339)
}

/// Reads RFC 3339, to the microsecond.
pub fn instant(text: &str) -> Option<Timestamp> {
    chrono::DateTime::parse_from_rfc3339(text).ok().map(|at| Timestamp(at.timestamp_micros()))
}

/// Which alerts are wanted; `None` stands for all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Name of the rule.
    pub rule: Option<String>,
    /// `firing` or `resolved`.
    pub status: Option<String>,
    /// As in the rule.
    pub severity: Option<String>,
    /// The value of a key column, as text.
    pub key: Option<String>,
    /// Emitted at this instant or later.
    pub since: Option<Timestamp>,
}

/// Where a reader stands: an alert's `emitted_at` and id.
pub type Cursor = (String, Uuid);

/// The newest alerts, newest first.
///
/// # Errors
/// The database's.
pub async fn newest(connection: &mut PgConnection, filter: &Filter, limit: u32) -> Result<Vec<Record>, sqlx::Error> {
    let sql = concat!(include_str!("record.sql"), include_str!("filter.sql"), include_str!("newest.sql"));
    let rows = sqlx::query(sql)
        .bind(&filter.rule)
        .bind(&filter.status)
        .bind(&filter.severity)
        .bind(filter.key.as_deref().map(key_condition))
        .bind(filter.since.map(Timestamp::rfc3339))
        .bind(i64::from(limit))
        .fetch_all(connection)
        .await?;
    rows.iter().map(read).collect()
}

/// The alerts after another one, oldest first; from the first one on without it.
///
/// # Errors
/// The database's.
pub async fn later(
    connection: &mut PgConnection,
    filter: &Filter,
    after: Option<&Cursor>,
    limit: u32,
) -> Result<Vec<Record>, sqlx::Error> {
    let sql = concat!(include_str!("record.sql"), include_str!("filter.sql"), include_str!("later.sql"));
    let rows = sqlx::query(sql)
        .bind(&filter.rule)
        .bind(&filter.status)
        .bind(&filter.severity)
        .bind(filter.key.as_deref().map(key_condition))
        .bind(filter.since.map(Timestamp::rfc3339))
        .bind(after.map(|(at, _)| at))
        .bind(after.map(|(_, id)| id.to_string()))
        .bind(i64::from(limit))
        .fetch_all(connection)
        .await?;
    rows.iter().map(read).collect()
}

/// The alert of this id.
///
/// # Errors
/// The database's.
pub async fn find(connection: &mut PgConnection, id: Uuid) -> Result<Option<Record>, sqlx::Error> {
    let sql = concat!(include_str!("record.sql"), include_str!("find.sql"));
    let row = sqlx::query(sql).bind(id.to_string()).fetch_optional(connection).await?;
    row.as_ref().map(read).transpose()
}

fn read(row: &PgRow) -> Result<Record, sqlx::Error> {
    let text: &str = row.try_get("record")?;
    Record::parse(text).map_err(|problem| sqlx::Error::Protocol(format!("a row is no alert: {problem}")))
}

/// A condition in jsonpath, which the index on the keys serves: some column of the key is this text, or this number,
/// or this truth value.
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

    #[test]
    fn instants_read_alike_from_topic_and_table() {
        let check = |text: &str, want: &str| assert_eq!(uniform(text), want, "{text}");
        check("2026-11-22T10:00:00+00:00", "2026-11-22T10:00:00Z");
        check("2026-11-22T10:00:00.5+00:00", "2026-11-22T10:00:00.500Z");
        check("2026-11-22T10:00:00.123456Z", "2026-11-22T10:00:00.123456Z");
        check("-infinity", "-infinity");
    }
}
