//! An alert record that is read from the alert topic or the table. Pure.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json};
use uuid::Uuid;

use crate::model::Timestamp;

/// An alert record of the topic or of the table. docs/alerts.md describes its fields.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the names are those of the record")]
pub struct AlertRecord {
    pub id: Uuid,
    pub group: String,
    pub lineage: String,
    pub rule: String,
    pub rule_version: String,
    pub status: String,
    pub severity: String,
    pub key: Map<String, Json>,
    /// The epoch in which the episode fired and its number there: `12.0`. `None` in records of earlier program
    /// versions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub episode: Option<String>,
    pub message: String,
    /// The aggregates in memory. `None`: Postgres alone evaluates the rule.
    pub stream: Option<Map<String, Json>>,
    pub database: Option<Map<String, Json>>,
    /// HAVING. `None`: Postgres alone evaluates the rule.
    pub having: Option<String>,
    pub window: AlertWindow,
    pub trigger: Json,
    pub confirmation: Json,
    pub emitted_at: String,
    /// Why the episode is over. `None` in firing alerts, and in records of earlier program versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// When Postgres returned `database`, if that was before the confirmation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub database_as_of: Option<String>,
    /// The evaluator of the rule. `None` in records of earlier program versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evaluated_by: Option<String>,
}

/// The window of an alert, in RFC 3339.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AlertWindow {
    /// The left edge. `None` for a rule without a time bound.
    pub from: Option<String>,
    /// NOW().
    pub to: String,
}

impl AlertRecord {
    /// Parses the JSON text of a record.
    ///
    /// # Errors
    /// The text is not an alert record. The error says why.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut record: Self = serde_json::from_str(text).map_err(|error| error.to_string())?;
        record.window.from = record.window.from.as_deref().map(uniform);
        record.window.to = uniform(&record.window.to);
        record.emitted_at = uniform(&record.emitted_at);
        record.database_as_of = record.database_as_of.as_deref().map(uniform);
        Ok(record)
    }

    /// The outputs over aggregates as Postgres returned them. If it was not asked, those in memory.
    pub fn numbers(&self) -> Option<&Map<String, Json>> {
        self.database.as_ref().or(self.stream.as_ref())
    }

    /// A field of the trigger. Null if time alone caused the alert.
    pub fn trigger(&self, field: &str) -> &Json {
        self.trigger.get(field).unwrap_or(&Json::Null)
    }

    /// A field of the confirmation. Null if there was none.
    pub fn confirmation(&self, field: &str) -> &Json {
        self.confirmation.get(field).unwrap_or(&Json::Null)
    }
}

/// Converts an instant of Postgres's JSON (`…+00:00`) to the records' form (`…Z`). Other text, such as `infinity`, is
/// unchanged.
fn uniform(text: &str) -> String {
    Timestamp::parse(text).map_or_else(|| text.to_owned(), Timestamp::rfc3339)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_read_alike_from_topic_and_table() {
        let check = |text: &str, want: &str| assert_eq!(uniform(text), want, "{text}");
        check("2026-11-22T10:00:00+00:00", "2026-11-22T10:00:00Z");
        check("2026-11-22T10:00:00.5+00:00", "2026-11-22T10:00:00.500Z");
        check("2026-11-22T10:00:00.123456Z", "2026-11-22T10:00:00.123456Z");
        check("-infinity", "-infinity");
    }
}
