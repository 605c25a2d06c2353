//! What is logged of a key. Its values and its sums are at DEBUG alone, where a key is no alert; above that, a line has the rule, the place
//! of the change in the topic, and counts.

use std::borrow::Cow;

use serde_json::{Map, Value as Json};

use super::{Answer, Asked};
use crate::episode::Candidate;
use crate::failure::{CallError, HasKind};
use crate::model::{Key, Position, Timestamp};
use crate::planted;

/// Where the change stands that raised a candidate.
pub(super) fn place(candidate: Option<&Candidate>) -> Option<Position> {
    candidate.and_then(|candidate| candidate.trigger.as_ref()).map(|trigger| trigger.position)
}

/// The rule's name; with a planted bug, the key as well.
fn named<'r>(rule: &'r str, key: &Key, is_planted: bool) -> Cow<'r, str> {
    if is_planted { format!("{rule} of {key:?}").into() } else { rule.into() }
}

fn at(place: Option<Position>) -> (Option<i32>, Option<i64>) {
    (place.map(|place| place.partition), place.map(|place| place.offset))
}

pub(super) fn failed(rule: &str, asked: &Asked, place: Option<Position>, error: &CallError) {
    let (partition, offset) = at(place);
    let key = &asked.key;
    if !error.is_retried() {
        let rule = &*named(rule, key, planted::bug("key-of-a-failure-logged"));
        tracing::warn!(rule, partition, offset, %error, "not confirmed yet; asked again");
    }
    tracing::debug!(rule, ?key, partition, offset, %error, "not confirmed yet; asked again");
}

pub(super) fn refuted(
    rule: &str,
    asked: &Asked,
    place: Option<Position>,
    answer: &Answer,
    refusals: u32,
    again: Option<Timestamp>,
) {
    let (partition, offset) = at(place);
    let (key, again, snapshot) = (&asked.key, again.map(Timestamp::rfc3339), &answer.snapshot);
    let said = &*named(rule, key, planted::bug("key-of-a-refutation-logged"));
    tracing::info!(
        rule = said,
        partition,
        offset,
        refusals,
        snapshot,
        again,
        "refuted: Postgres does not agree with the stream"
    );
    let (stream, database) = (Json::from(asked.stream.clone()), Json::from(answer.outputs.clone()));
    tracing::debug!(rule, ?key, partition, offset, %stream, %database, "refuted key");
}

pub(super) fn undecided(
    rule: &str,
    asked: &Asked,
    place: Option<Position>,
    snapshot: &str,
    unseen: &[u32],
    again: Timestamp,
) {
    let (partition, offset) = at(place);
    let (key, again) = (&asked.key, again.rfc3339());
    let said = &*named(rule, key, planted::bug("key-of-an-undecided-one-logged"));
    tracing::info!(
        rule = said,
        partition,
        offset,
        snapshot,
        ?unseen,
        again,
        "undecided: Postgres does not show yet what the stream has brought"
    );
    tracing::debug!(rule, ?key, partition, offset, "undecided key");
}

pub(super) fn drift(rule: &str, key: &Key, stream: Map<String, Json>, database: Map<String, Json>, what: &str) {
    let (stream, database) = (Json::from(stream), Json::from(database));
    let what = if planted::bug("figures-of-a-drift-logged") { &format!("{what}, {stream}") } else { what };
    tracing::warn!(rule, "drift: {what}; the key is logged at DEBUG");
    tracing::debug!(rule, ?key, %stream, %database, "drifted key");
}

pub(super) fn not_evaluated(rule: &str, key: &Key, place: Option<Position>) {
    let (partition, offset) = at(place);
    tracing::warn!(rule, partition, offset, "memory cannot evaluate a key, and confirm is off: no alert either way");
    tracing::debug!(rule, ?key, "key that memory cannot evaluate");
}
