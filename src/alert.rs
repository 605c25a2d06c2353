//! Alerts: the decision, the record's bytes, its id and its message. Pure.
//!
//! - [`record`]: an alert record that is read back
//! - [`ending`]: the end of an episode whose rule was removed

mod ending;
pub mod record;

pub use ending::Ending;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json, json};
use uuid::Uuid;

use crate::episode::{EpisodeId, Open, Reason, Status};
use crate::model::text::shortened;
use crate::model::{Key, Table, Timestamp, Value, decimal_text};
use crate::progress::topics::partition_of;
use crate::rule::message::Field;
use crate::rule::{Confirm, Expression, OutputExpr, Query, Rule, render};
use crate::window::{GRACE_MICROS, Trigger};

/// The namespace of alert ids, itself a UUIDv5 of the DNS name `tripline.alerts`.
const NAMESPACE: Uuid = Uuid::from_u128(0x8d5c_5a9e_4b0f_5c1e_9d2a_6f0e_3b7c_1a44);

/// The greatest size of a message in bytes. An alert that the broker rejects would be rejected at every start.
const MESSAGE_MAX: usize = 16 * 1024;

/// The greatest size of a record key in bytes. A longer one ends in a hash of the whole key.
const RECORD_KEY_MAX: usize = 1_024;

/// The greatest size of all texts of a key in a record's value, in bytes. If they are longer, each text is cut to its
/// share and ends in a hash of the whole text.
const KEY_TEXTS_MAX: usize = 16 * 1024;

/// The contents of an alert, before it is serialized.
#[derive(Debug)]
pub struct Decision<'a> {
    /// Consumer group.
    pub group: &'a str,
    /// Lineage of the group's progress.
    pub lineage: &'a str,
    /// Topic of the changes.
    pub topic: &'a str,
    /// The table of the trigger, where it is known which it is.
    pub trigger_table: Option<&'a Table>,
    /// The rule.
    pub rule: &'a Rule,
    /// The group of rows.
    pub key: &'a Key,
    /// Firing or resolved.
    pub status: Status,
    /// Why the episode is over, for an alert that closes it.
    pub reason: Reason,
    /// The episode that the alert opens or closes.
    pub episode: EpisodeId,
    /// The change that caused the alert. `None`: time alone did.
    pub trigger: Option<&'a Trigger>,
    /// The aggregates in memory when Postgres was asked.
    pub stream: &'a Map<String, Json>,
    /// The aggregates in Postgres. `None` without confirmation.
    pub database: Option<&'a Map<String, Json>>,
    /// When Postgres returned the aggregates, if that was before the confirmation. This occurs in resolved alerts of a
    /// rule that Postgres alone evaluates.
    pub database_as_of: Option<Timestamp>,
    /// Left edge of the window (`None` without a time bound) and NOW().
    pub window: (Option<Timestamp>, Timestamp),
    /// How Postgres confirmed the alert.
    pub confirmation: Option<Confirmation<'a>>,
    /// When the alert was decided.
    pub emitted_at: Timestamp,
}

/// The basis of a confirmation.
#[derive(Clone, Copy, Debug)]
pub struct Confirmation<'a> {
    /// NOW() in the statement.
    pub as_of: Timestamp,
    /// `pg_current_snapshot()`.
    pub snapshot: &'a str,
    /// How often Postgres was asked about the candidate.
    pub attempts: u32,
    /// The statement's duration in milliseconds.
    pub millis: u64,
}

/// A finished alert. Its bytes are logged in `offsets/N` and delivered unchanged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alert {
    /// The alert's id. It is the same on every retry.
    pub id: Uuid,
    /// Name of the rule.
    pub rule: String,
    /// The group of rows.
    pub key: Key,
    /// Firing or resolved.
    pub status: Status,
    /// The episode that the alert opens or closes.
    #[serde(default)]
    pub episode: EpisodeId,
    /// Record key on the alert topic: `weekly-spend|27956157`.
    pub record_key: String,
    /// The line for the log.
    pub line: String,
    /// When the alert was decided.
    pub emitted_at: Timestamp,
    /// The record's value: JSON text.
    pub body: String,
}

impl Alert {
    /// The open episode after this alert, if it is firing.
    pub fn open(&self) -> Open {
        Open { episode: self.episode, alert: self.id, since: self.emitted_at }
    }

    /// Serializes a decision.
    pub fn new(decision: &Decision<'_>) -> Self {
        let rule = decision.rule;
        let query = &rule.query;
        let id = id_of(decision);
        let message = shortened(&message_of(decision), MESSAGE_MAX).into_owned();
        let mut body = json!({
            "id": id,
            "group": decision.group,
            "lineage": decision.lineage,
            "rule": rule.name,
            "rule_version": rule.version,
            "episode": decision.episode.to_string(),
            "status": decision.status.as_str(),
            "severity": rule.severity,
            "key": key_json(query, decision.key),
            "message": message,
            "stream": query.text.is_none().then_some(decision.stream),
            "database": decision.database,
            "having": query.text.is_none().then(|| render::having_text(query)),
            "window": {
                "from": decision.window.0.map(Timestamp::rfc3339),
                "to": decision.window.1.rfc3339(),
            },
            "trigger": decision.trigger.map(|trigger| trigger_json(decision.topic, decision.trigger_table, trigger)),
            "confirmation": confirmation_json(rule.confirm, decision.confirmation, decision.trigger),
            "emitted_at": decision.emitted_at.rfc3339(),
        });
        if let Json::Object(fields) = &mut body {
            if decision.status == Status::Resolved {
                fields.insert("reason".to_owned(), Json::from(decision.reason.as_str()));
            }
            if let Some(as_of) = decision.database_as_of {
                fields.insert("database_as_of".to_owned(), Json::from(as_of.rfc3339()));
            }
            fields.insert("evaluated_by".to_owned(), Json::from(query.evaluated_by().as_str()));
        }
        let line = match decision.status {
            Status::Firing => message,
            Status::Resolved => format!("Resolved: {message}"),
        };
        Self {
            id,
            rule: rule.name.clone(),
            key: decision.key.clone(),
            status: decision.status,
            episode: decision.episode,
            record_key: record_key(&rule.name, &key_texts(query, decision.key)),
            line,
            emitted_at: decision.emitted_at,
            body: body.to_string(),
        }
    }
}

/// The alert's number among those of its episode with the same status. So far there is one of each.
const REPEAT: u32 = 0;

/// UUIDv5 (RFC 9562) over group, lineage, rule, version, key, episode, status and repeat.
fn id_of(decision: &Decision<'_>) -> Uuid {
    let rule = decision.rule;
    let key = key_texts(&rule.query, decision.key);
    let EpisodeId { epoch, ordinal } = decision.episode;
    let (status, lineage) = (decision.status.as_str(), decision.lineage);
    let name = json!([decision.group, lineage, rule.name, rule.version, key, epoch, ordinal, status, REPEAT]);
    Uuid::new_v5(&NAMESPACE, name.to_string().as_bytes())
}

fn message_of(decision: &Decision<'_>) -> String {
    let query = &decision.rule.query;
    let keys = key_texts(query, decision.key);
    let numbers = decision.database.unwrap_or(decision.stream);
    let shown = |output: &crate::rule::Output| match &output.expr {
        OutputExpr::Key(index) => keys.get(*index).cloned().flatten(),
        OutputExpr::Value(expression, _) => match numbers.get(&output.name) {
            Some(Json::String(text)) => Some(text.clone()),
            Some(Json::Number(number)) => Some(number.to_string()),
            // A sum over no rows is NULL in the record, and nothing to a reader.
            _ => sum_scale(query, expression).map(|scale| decimal_text(0, scale)),
        },
    };
    let texts: Vec<_> = query.outputs.iter().map(|output| (output, shown(output))).collect();
    decision.rule.message.render(|name| {
        let (output, text) = texts.iter().find(|(output, _)| output.name == name)?;
        Some(match (&output.expr, text) {
            (_, None) => Field::Null,
            (OutputExpr::Value(_, ty), Some(text)) if ty.is_number() => Field::Number(text),
            (_, Some(text)) => Field::Key(text),
        })
    })
}

/// The scale of a count or a sum. `None` for an output that is not 0 without rows.
fn sum_scale(query: &Query, expression: &Expression) -> Option<u8> {
    let Expression::Aggregate(index) = expression else { return None };
    let aggregate = query.aggregates.get(*index)?;
    if aggregate.is_count() {
        return Some(0);
    }
    let is_sum = aggregate.function == crate::rule::expression::AggregateFunction::Sum;
    let columns = aggregate.argument.as_ref().filter(|_| is_sum)?.columns();
    columns.into_iter().map(|column| scale_at(&query.table, column)).max()
}

/// The key's values as text, in GROUP BY order, in the form of the statement's parameters and of the message. `None`
/// for NULL.
pub fn key_texts(query: &Query, key: &Key) -> Vec<Option<String>> {
    let texts = query.group_by.iter().zip(key.values());
    texts.map(|(column, value)| value_text(&value, scale_at(&query.table, *column))).collect()
}

/// The key's values for a reader: `27956157`, or `27956157, EUR`.
pub fn key_label(query: &Query, key: &Key) -> String {
    let texts = key_texts(query, key).into_iter().map(|text| text.unwrap_or_else(|| "NULL".to_owned()));
    shortened(&texts.collect::<Vec<_>>().join(", "), RECORD_KEY_MAX).into_owned()
}

/// The record key of a group: the same for all alerts of a rule on it.
pub fn record_key_of(rule: &str, query: &Query, key: &Key) -> String {
    record_key(rule, &key_texts(query, key))
}

/// Formats a record key: `weekly-spend|27956157`. Text that could be mistaken for something else (the text NULL, a bar,
/// a quote) is quoted like a name in SQL.
fn record_key(rule: &str, key: &[Option<String>]) -> String {
    let part = |text: &Option<String>| match text {
        None => "NULL".to_owned(),
        Some(text) if text == "NULL" || text.contains(['|', '"']) => format!("\"{}\"", text.replace('"', "\"\"")),
        Some(text) => text.clone(),
    };
    let parts: Vec<String> = key.iter().map(part).collect();
    let whole = format!("{rule}|{}", parts.join("|"));
    if whole.len() <= RECORD_KEY_MAX {
        return whole;
    }
    // Still one record key per group.
    let hash = Uuid::new_v5(&NAMESPACE, whole.as_bytes());
    format!("{}#{hash}", shortened(&whole, RECORD_KEY_MAX))
}

/// The separator between the beginning of a text and the hash of the whole.
const CUT: &str = "…#";

/// The beginning of a text, and a hash of the whole text.
fn cut(text: &str, max: usize) -> String {
    format!("{}#{}", shortened(text, max), Uuid::new_v5(&NAMESPACE, text.as_bytes()))
}

/// Whether a key's text in a record is only the beginning of the value, with a hash.
pub fn is_cut(text: &str) -> bool {
    text.rsplit_once(CUT).is_some_and(|(start, hash)| start.len() >= 64 && Uuid::parse_str(hash).is_ok())
}

/// A value in the form that Postgres reads. `None` for NULL.
pub fn value_text(value: &Value, scale: u8) -> Option<String> {
    Some(match value {
        Value::Null => return None,
        Value::Bool(b) => b.to_string(),
        Value::Int(n) => n.to_string(),
        Value::Decimal(n) => decimal_text(*n, scale),
        Value::Time(at) => at.rfc3339(),
        Value::Text(text) => text.to_string(),
        Value::Opaque => "NaN".to_owned(),
        Value::Double(value) => value.text(false),
    })
}

/// The number of digits after the point in this column's numbers.
pub fn scale_at(table: &Table, column: usize) -> u8 {
    table.columns.get(column).and_then(|column| column.ty.scale()).unwrap_or(0)
}

fn value_json(value: &Value, scale: u8, text_max: usize) -> Json {
    match value {
        Value::Bool(b) => Json::Bool(*b),
        Value::Int(n) => Json::from(*n),
        Value::Text(text) if text.len() > text_max => Json::String(cut(text, text_max)),
        other => value_text(other, scale).map_or(Json::Null, Json::String),
    }
}

fn columns_json<'a>(table: &Table, columns: impl Iterator<Item = &'a usize>, key: &Key) -> Json {
    let values = key.values();
    let text = |value: &Value| if let Value::Text(text) = value { text.len() } else { 0 };
    let text_max = match values.iter().map(text).sum() {
        0..=KEY_TEXTS_MAX => KEY_TEXTS_MAX,
        _ => (KEY_TEXTS_MAX / values.len().max(1)).max(64),
    };
    let pair = |(index, value): (&usize, &Value)| {
        let name = table.columns.get(*index).map(|column| column.name.clone()).unwrap_or_default();
        (name, value_json(value, scale_at(table, *index), text_max))
    };
    Json::Object(columns.zip(&values).map(pair).collect())
}

/// The key's columns by name, as in the record. A text of kilobytes is cut, see [`is_cut`].
pub fn key_json(query: &Query, key: &Key) -> Json {
    columns_json(&query.table, query.group_by.iter(), key)
}

fn trigger_json(topic: &str, table: Option<&Table>, trigger: &Trigger) -> Json {
    let pk = |table: &Table| Some(columns_json(table, table.primary_key.iter(), trigger.pk.as_ref()?));
    json!({
        "topic": topic,
        "partition": partition_of(trigger.position.partition),
        "offset": trigger.position.offset,
        "op": trigger.op,
        "lsn": trigger.lsn,
        "tx_id": trigger.tx_id,
        "pk": table.and_then(pk),
        "event_time": trigger.event_time.map(Timestamp::rfc3339),
        "committed_at": trigger.committed_at.map(Timestamp::rfc3339),
    })
}

fn confirmation_json(required: Confirm, confirmation: Option<Confirmation<'_>>, trigger: Option<&Trigger>) -> Json {
    let mut json = json!({ "required": required == Confirm::Required });
    if let (Some(made), Json::Object(fields)) = (confirmation, &mut json) {
        fields.insert("as_of".to_owned(), made.as_of.rfc3339().into());
        fields.insert("snapshot".to_owned(), made.snapshot.into());
        fields.insert("attempts".to_owned(), made.attempts.into());
        fields.insert("ms".to_owned(), made.millis.into());
        if trigger.is_some_and(Trigger::is_unstamped) {
            fields.insert("grace_ms".to_owned(), (GRACE_MICROS / 1_000).into());
        }
    }
    json
}
