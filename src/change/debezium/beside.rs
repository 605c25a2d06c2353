//! Records of the connector that are not changes of a table: heartbeats, and the boundaries of transactions.

use serde::Deserialize;

use super::envelope::Letter;

/// Why a heartbeat is ignored.
const HEARTBEAT: &str = "heartbeat";
/// Why the beginning or the end of a transaction is ignored.
const BOUNDARY: &str = "transaction boundary";

/// A record that the connector writes beside the changes of tables. Each kind has a topic of its own, unless a
/// transform routes it elsewhere.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Beside {
    #[serde(rename = "ts_ms")]
    _millis: i64,
    /// The status of a transaction's boundary.
    status: Option<Boundary>,
    #[serde(rename = "id")]
    _id: Option<String>,
    #[serde(rename = "event_count")]
    _events: Option<i64>,
    #[serde(rename = "data_collections")]
    _collections: Option<serde::de::IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(rename_all = "UPPERCASE")]
enum Boundary {
    Begin,
    End,
}

/// The kind of a record without an operation, if it is one of the connector's own and not a change of a table.
pub(super) fn of_no_table(op: &Letter, text: &str) -> Option<&'static str> {
    if *op != Letter::Absent {
        return None;
    }
    let beside: Beside = serde_json::from_str(text).ok()?;
    Some(match beside.status {
        None => HEARTBEAT,
        Some(Boundary::Begin | Boundary::End) => BOUNDARY,
    })
}
