//! The end of an episode whose rule was removed or has another meaning now. Neither memory nor Postgres can evaluate
//! it.

use serde_json::{Map, Value as Json, json};
use uuid::Uuid;

use super::{Alert, RECORD_KEY_MAX, record_key, value_json, value_text};
use crate::episode::{Open, Reason, Status};
use crate::model::text::shortened;
use crate::model::{Key, Timestamp, Value};

/// The facts that are known about such an episode.
#[derive(Debug)]
pub struct Ending<'a> {
    /// Consumer group.
    pub group: &'a str,
    /// Lineage of the group's progress.
    pub lineage: &'a str,
    /// Name of the rule.
    pub rule: &'a str,
    /// The rule's version and keys, as [`Unit::versions`](crate::unit::Unit::versions) gives them.
    pub version: &'a str,
    /// The group of rows.
    pub key: &'a Key,
    /// The episode.
    pub open: &'a Open,
    /// Why it is over.
    pub reason: Reason,
    /// The alert that opened the episode, if it is known.
    pub opened: Option<&'a Alert>,
    /// When the end was decided.
    pub emitted_at: Timestamp,
}

impl Ending<'_> {
    /// The alert that closes the episode. It repeats the fields of the alert that opened it, without the numbers, which
    /// are outdated.
    pub fn alert(&self) -> Alert {
        let id = Uuid::new_v5(&self.open.alert, Status::Resolved.as_str().as_bytes());
        let opened = self.opened.and_then(|alert| serde_json::from_str::<Map<String, Json>>(&alert.body).ok());
        let of = |field: &str, otherwise: Json| {
            opened.as_ref().and_then(|body| body.get(field)).cloned().unwrap_or(otherwise)
        };
        let version = self.version.split(['@', ' ']).next().unwrap_or_default();
        let message = of("message", Json::from(format!("{}: {}", self.rule, self.label())));
        let body = json!({
            "id": id,
            "group": self.group,
            "lineage": self.lineage,
            "rule": self.rule,
            "rule_version": of("rule_version", Json::from(version)),
            "episode": self.open.episode.to_string(),
            "status": Status::Resolved.as_str(),
            "severity": of("severity", Json::from("unknown")),
            "key": of("key", self.key_json()),
            "message": message,
            "stream": {},
            "database": null,
            "having": of("having", Json::from("")),
            "window": { "from": null, "to": self.emitted_at.rfc3339() },
            "trigger": null,
            "confirmation": { "required": false },
            "emitted_at": self.emitted_at.rfc3339(),
            "reason": self.reason.as_str(),
            // Earlier programs had rules in memory alone.
            "evaluated_by": of("evaluated_by", Json::from("memory")),
        });
        Alert {
            id,
            rule: self.rule.to_owned(),
            key: self.key.clone(),
            status: Status::Resolved,
            episode: self.open.episode,
            record_key: self
                .opened
                .map_or_else(|| record_key(self.rule, &self.texts()), |alert| alert.record_key.clone()),
            line: format!("Resolved: {}", message.as_str().unwrap_or_default()),
            emitted_at: self.emitted_at,
            body: body.to_string(),
        }
    }

    /// The alert that opened the episode, for the recovery topic to keep after its rule was renamed.
    pub fn carried(&self, rule: &str, record_key: String) -> Alert {
        let opened = self.opened.cloned().unwrap_or_else(|| Alert {
            id: self.open.alert,
            rule: String::new(),
            key: self.key.clone(),
            status: Status::Firing,
            episode: self.open.episode,
            record_key: String::new(),
            line: String::new(),
            emitted_at: self.open.since,
            body: "{}".to_owned(),
        });
        Alert { rule: rule.to_owned(), record_key, ..opened }
    }

    /// The columns of the key, each with the scale of its type. The version contains both.
    fn columns(&self) -> impl Iterator<Item = (&str, u8)> {
        let columns = self.version.split_once(' ').map(|(_, columns)| columns).unwrap_or_default();
        columns.split(", ").map(|column| {
            let (name, type_name) = column.split_once(' ').unwrap_or((column, ""));
            let scale = type_name.rsplit_once(',').and_then(|(_, scale)| scale.trim_end_matches(')').parse().ok());
            (name, scale.unwrap_or(0))
        })
    }

    fn texts(&self) -> Vec<Option<String>> {
        let scales = self.columns().map(|(_, scale)| scale).chain(std::iter::repeat(0));
        self.key.values().iter().zip(scales).map(|(value, scale)| value_text(value, scale)).collect()
    }

    fn label(&self) -> String {
        let texts = self.texts().into_iter().map(|text| text.unwrap_or_else(|| "NULL".to_owned()));
        shortened(&texts.collect::<Vec<_>>().join(", "), RECORD_KEY_MAX).into_owned()
    }

    fn key_json(&self) -> Json {
        let pair =
            |((name, scale), value): ((&str, u8), Value)| (name.to_owned(), value_json(&value, scale, RECORD_KEY_MAX));
        Json::Object(self.columns().zip(self.key.values()).map(pair).collect())
    }
}
