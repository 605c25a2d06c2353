//! The reasons why a record is rejected, in words.

use serde_json::error::Category;

use crate::change::{Op, Reject, RejectKind};
use crate::model::text::without_value;

/// Appended to the reason for an unwrapped row that lacks columns and does not name its table.
pub(super) const MAY_BE_ANOTHERS: &str = "; or it is a row of another table that is written to the same topic: add \
                                          source.schema and source.table to the transform's add.fields";

pub(super) fn no_change() -> Reject {
    reject(
        RejectKind::Envelope,
        "there is neither op nor the table's primary key in the record: it is no change of this table, nor a row of it; \
         is source.topic the one that the connector writes to?",
    )
}

pub(super) fn no_row(op: Op) -> Reject {
    reject(RejectKind::Envelope, format!("op is {:?} and after is null or not there; the row is needed", op.as_str()))
}

pub(super) fn no_key() -> Reject {
    reject(
        RejectKind::Key,
        "a delete whose primary key is neither in before nor in the record's key; the table needs a replica \
         identity other than NOTHING",
    )
}

pub(super) fn made_up_key() -> Reject {
    reject(
        RejectKind::Identity,
        "a delete of a table whose REPLICA IDENTITY is an index without the primary key: Debezium makes the key up, so the \
         record does not say which row is gone; ALTER TABLE … REPLICA IDENTITY DEFAULT, or FULL",
    )
}

pub(super) fn utf8<'t>(bytes: &'t [u8], place: &str, kind: RejectKind) -> Result<&'t str, Reject> {
    if bytes.starts_with(b"\xef\xbb\xbf") {
        return Err(reject(
            kind,
            format!(
                "{place} begins with a byte order mark, which JSON does not have: set JsonConverter as the converter"
            ),
        ));
    }
    std::str::from_utf8(bytes).map_err(|error| {
        let detail =
            format!("{place} is not UTF-8 from byte {}: set JsonConverter as the converter", error.valid_up_to());
        reject(kind, detail)
    })
}

pub(super) fn unreadable(error: &serde_json::Error, place: &str) -> Reject {
    match error.classify() {
        Category::Data => {
            let error = without_value(&error.to_string());
            reject(RejectKind::Envelope, format!("{place} has not the form of Debezium's envelope: {error}"))
        }
        Category::Syntax if error.to_string().starts_with("number out of range") => reject(
            RejectKind::Value,
            format!("{place} has a number that no column holds: {error}; is this topic Debezium's?"),
        ),
        Category::Syntax | Category::Eof | Category::Io => reject(
            RejectKind::Json,
            format!("{place} is not JSON: {error}; set JsonConverter as the connector's converter"),
        ),
    }
}

pub(super) fn schema_unreadable(error: &serde_json::Error) -> String {
    format!("the record's schema cannot be read: {}", without_value(&error.to_string()))
}

pub(super) fn reject(kind: RejectKind, detail: impl Into<String>) -> Reject {
    Reject { kind, detail: detail.into() }
}
