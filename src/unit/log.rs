//! Log lines about a key. Unless the key is an alert, its values and sums appear only at DEBUG. Above DEBUG, a line has
//! the rule, the position of the change in the topic, and counts.

use std::borrow::Cow;

use serde_json::{Map, Value as Json};

use super::{Answer, Asked};
use crate::episode::Candidate;
use crate::failure::{CallError, HasKind};
use crate::model::{Key, Position, Timestamp};
use crate::planted;
use crate::progress::Topics;
use crate::progress::topics::partition_of;

/// The position of the change that raised a candidate. The topic is set if there are several.
#[derive(Default)]
pub(super) struct Place {
    topic: Option<String>,
    partition: Option<i32>,
    offset: Option<i64>,
}

pub(super) fn place(topics: &Topics, candidate: Option<&Candidate>) -> Place {
    let trigger = candidate.and_then(|candidate| candidate.trigger.as_ref());
    let Some(Position { partition: lane, offset }) = trigger.map(|trigger| trigger.position) else {
        return Place::default();
    };
    let topic = topics.are_several().then(|| topics.name(lane).to_owned());
    Place { topic, partition: Some(partition_of(lane)), offset: Some(offset) }
}

/// Returns the rule's name. With a planted bug it includes the key.
fn named<'r>(rule: &'r str, key: &Key, is_planted: bool) -> Cow<'r, str> {
    if is_planted { format!("{rule} of {key:?}").into() } else { rule.into() }
}

pub(super) fn failed(rule: &str, asked: &Asked, place: &Place, error: &CallError) {
    let Place { topic, partition, offset } = place;
    let key = &asked.key;
    if !error.is_retried() {
        let rule = &*named(rule, key, planted::bug("key-of-a-failure-logged"));
        tracing::warn!(rule, topic, partition, offset, %error, "not confirmed yet; asked again");
    }
    tracing::debug!(rule, ?key, topic, partition, offset, %error, "not confirmed yet; asked again");
}

pub(super) fn refuted(
    rule: &str,
    asked: &Asked,
    place: &Place,
    answer: &Answer,
    refusals: u32,
    again: Option<Timestamp>,
) {
    let Place { topic, partition, offset } = place;
    let (key, again, snapshot) = (&asked.key, again.map(Timestamp::rfc3339), &answer.snapshot);
    let said = &*named(rule, key, planted::bug("key-of-a-refutation-logged"));
    tracing::info!(
        rule = said,
        topic,
        partition,
        offset,
        refusals,
        snapshot,
        again,
        "refuted: Postgres does not agree with the stream"
    );
    let (stream, database) = (Json::from(asked.stream.clone()), Json::from(answer.outputs.clone()));
    tracing::debug!(rule, ?key, topic, partition, offset, %stream, %database, "refuted key");
}

pub(super) fn undecided(rule: &str, asked: &Asked, place: &Place, snapshot: &str, unseen: &[u32], again: Timestamp) {
    let Place { topic, partition, offset } = place;
    let (key, again) = (&asked.key, again.rfc3339());
    let said = &*named(rule, key, planted::bug("key-of-an-undecided-one-logged"));
    tracing::info!(
        rule = said,
        topic,
        partition,
        offset,
        snapshot,
        ?unseen,
        again,
        "undecided: Postgres does not show yet what the stream has brought"
    );
    tracing::debug!(rule, ?key, topic, partition, offset, "undecided key");
}

pub(super) fn drift(rule: &str, key: &Key, stream: Map<String, Json>, database: Map<String, Json>, what: &str) {
    let (stream, database) = (Json::from(stream), Json::from(database));
    let what = if planted::bug("figures-of-a-drift-logged") { &format!("{what}, {stream}") } else { what };
    tracing::warn!(rule, "drift: {what}; the key is logged at DEBUG");
    tracing::debug!(rule, ?key, %stream, %database, "drifted key");
}

pub(super) fn not_evaluated(rule: &str, key: &Key, place: &Place) {
    let Place { topic, partition, offset } = place;
    tracing::warn!(
        rule,
        topic,
        partition,
        offset,
        "memory cannot evaluate a key, and confirm is off: no alert either way"
    );
    tracing::debug!(rule, ?key, "key that memory cannot evaluate");
}
