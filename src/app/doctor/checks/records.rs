//! Checks of the records: whether Debezium wrote them, whether they can be read, and which keys they have. Pure.

use crate::change::record::TopicRecord;
use std::collections::BTreeSet;

use serde_json::{Map, Value as Json};

use super::super::facts::{Topic, Unread};
use super::super::finding::{Finding, ok, problem, warning};
use crate::change::Decoded;
use crate::change::debezium::{self, Decoder};
use crate::config::Config;
use crate::failure::Exit;
use crate::model::Table;

/// Checks the newest records of the topic. `identity` is the table's replica identity. `wanted` are the columns that
/// the rules need.
pub(in crate::app::doctor) fn records(
    config: &Config,
    topic: &Topic,
    table: Option<(&Table, &[usize])>,
    identity: Option<&str>,
) -> Vec<Finding> {
    if let Some(Unread { text, exit, fix }) = &topic.unread {
        return vec![problem("records", text, *fix).ends(*exit)];
    }
    if topic.newest.is_empty() {
        let fix = "insert or update a row of the table, and look again: how records are written can be seen then only";
        return vec![warning("records", format!("{} holds no records", config.source.topic), fix)];
    }
    let mut found = vec![readable(config, topic, table)];
    if let Some((table, _)) = table {
        found.extend(keys(topic, table, identity));
    }
    found
}

fn readable(config: &Config, topic: &Topic, table: Option<(&Table, &[usize])>) -> Finding {
    const CHECK: &str = "records";
    let looked = topic.newest.len();
    let unwrapped = topic.newest.iter().filter(|record| shape(record) == RecordShape::Row).count();
    if unwrapped > 0 && config.source.format.shape() == debezium::Shape::Envelope {
        return problem(
            CHECK,
            format!(
                "{unwrapped} of the newest {looked} records are rows that ExtractNewRecordState has unwrapped, and source.format says that they are not"
            ),
            "source.format = \"auto\"",
        )
        .ends(Exit::Misconfigured);
    }
    let foreign = topic.newest.iter().filter(|record| shape(record) == RecordShape::Foreign).count();
    if foreign > 0 {
        return problem(
            CHECK,
            format!("{foreign} of the newest {looked} records are not Debezium's JSON envelope"),
            "correct source.topic; for Avro, set source.schema_registry.url; else set JsonConverter as key.converter and value.converter of the connector",
        )
        .ends(Exit::Misconfigured);
    }
    let settings = config.source.encodings();
    let Some(Ok(mut decoder)) = table.map(|(table, wanted)| Decoder::new(table, wanted, settings)) else {
        return ok(CHECK, format!("the newest {looked} are Debezium's; without the table they cannot be decoded"));
    };
    decoder = decoder.with_placeholder(&config.source.unavailable_value_placeholder);
    let mut rejects = Vec::new();
    let mut changes = 0_usize;
    for record in &topic.newest {
        match decoder.decode(record.key.as_deref(), record.value.as_deref()) {
            Ok(Decoded::Change(_)) => changes = changes.saturating_add(1),
            Ok(Decoded::Ignored(_)) => {}
            Ok(Decoded::Partial(_, reject)) | Err(reject) => rejects.push((record, reject)),
        }
    }
    match rejects.first() {
        None => ok(CHECK, format!("the newest {looked} can be read, changes among them: {changes}")),
        Some((record, reject)) => problem(
            CHECK,
            format!(
                "{} of the newest {looked} records cannot be read; partition {} offset {}: {}",
                rejects.len(),
                record.partition,
                record.offset,
                reject.detail
            ),
            "what the record says; what is in the topic already goes to the dead-letter topic, unless source.on_bad_record = \"stop\"",
        ),
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RecordShape {
    /// Debezium's envelope, or a record that does not show its form.
    Envelope,
    Row,
    Foreign,
}

/// Returns the form of a record.
fn shape(record: &TopicRecord) -> RecordShape {
    let Some(value) = record.value.as_deref().filter(|value| value.trim_ascii() != b"null") else {
        return RecordShape::Envelope;
    };
    let Some(value) = object(value) else { return RecordShape::Foreign };
    if value.contains_key("op") && (value.contains_key("source") || value.contains_key("after")) {
        return RecordShape::Envelope;
    }
    // The columns are at the top level, beside the fields that `add.fields` and the rewriting modes add.
    let nested = ["before", "after", "source"].iter().any(|name| value.get(*name).is_some_and(Json::is_object));
    if nested || value.is_empty() { RecordShape::Foreign } else { RecordShape::Row }
}

/// Parses a JSON object, without the wrapper that has the schema.
fn object(text: &[u8]) -> Option<Map<String, Json>> {
    let Ok(Json::Object(mut object)) = serde_json::from_slice(text) else { return None };
    if object.get("schema").is_some_and(Json::is_object) && object.contains_key("payload") {
        return match object.remove("payload") {
            Some(Json::Object(payload)) => Some(payload),
            _ => None,
        };
    }
    Some(object)
}

/// Checks that the records' keys are the primary key. A truncate has no key.
fn keys(topic: &Topic, table: &Table, identity: Option<&str>) -> Option<Finding> {
    const CHECK: &str = "keys";
    let truncate = |record: &&TopicRecord| {
        let op = record.value.as_deref().and_then(object).and_then(|value| value.get("op").cloned());
        op.is_some_and(|op| op == "t" || op == "m")
    };
    let name = |index: &usize| table.columns.get(*index).map(|column| column.name.clone());
    let primary: BTreeSet<String> = table.primary_key.iter().filter_map(name).collect();
    let list = |names: &BTreeSet<String>| names.iter().cloned().collect::<Vec<_>>().join(", ");
    let mut other: Option<BTreeSet<String>> = None;
    let mut looked = 0_usize;
    for record in topic.newest.iter().filter(|record| !truncate(record)) {
        looked = looked.saturating_add(1);
        let Some(key) = record.key.as_deref() else {
            let fix = "take message.key.columns and key transforms out of the connector: its records are then keyed by the primary key";
            let text = "records have no key: with several partitions, changes of one row would come in any order";
            return Some(problem(CHECK, text, fix));
        };
        let names = object(key).into_iter().flatten().map(|(name, _)| name);
        let names = debezium::own_names(table, names);
        if names != primary {
            other = Some(names);
        }
    }
    let Some(other) = other else {
        return (looked > 0).then(|| ok(CHECK, format!("records are keyed by the primary key: {}", list(&primary))));
    };
    let by = if other.is_empty() { "something that is no column".to_owned() } else { list(&other) };
    let text = format!("records are keyed by {by}, and the primary key is {}", list(&primary));
    let full = format!("ALTER TABLE {} REPLICA IDENTITY FULL", super::database::quoted(&table.schema, &table.name));
    Some(match identity {
        Some("f") => warning(
            CHECK,
            format!(
                "{text}: sound with REPLICA IDENTITY FULL, as the table has, as long as the topic is not compacted"
            ),
            "nothing, if it is meant so; else take message.key.columns out of the connector",
        ),
        _ => problem(
            CHECK,
            format!(
                "{text}: without REPLICA IDENTITY FULL deletes come under a made-up key, and an incremental snapshot loses rows"
            ),
            format!("take message.key.columns out of the connector; or {full}"),
        ),
    })
}
