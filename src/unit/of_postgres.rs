//! Rules that Postgres alone evaluates. A change touches keys. They wait for a moment and are then asked about. Effects
//! that no change shows are found at intervals: open episodes are asked about again, and the whole query is run.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value as Json};

use super::{Answer, Asked, Unit};
use crate::episode::Reason;
use crate::failure::{CallError, HasKind, Server};
use crate::model::duration::micros;
use crate::model::{Key, Timestamp};
use crate::rule::evaluate::Evaluation;
use crate::window::TOUCHED_MAX;

/// The state of a rule that Postgres alone evaluates, beside its episodes.
#[derive(Debug, Default)]
pub(super) struct OfPostgres {
    /// The time for asking about open episodes again, and the time for running the whole query. `None` before the first
    /// time.
    recheck_at: Option<Timestamp>,
    sweep_at: Option<Timestamp>,
    /// Postgres's last answer for each open episode. A start asks about all of them.
    returned: BTreeMap<Key, Returned>,
}

/// The values that Postgres last returned for a key, and the time of the question.
#[derive(Clone, Debug)]
pub(super) struct Returned {
    pub(super) outputs: Map<String, Json>,
    pub(super) as_of: Timestamp,
}

impl OfPostgres {
    /// Removes and returns Postgres's last answer for a key whose episode ends.
    pub(super) fn last(&mut self, key: &Key) -> Option<Returned> {
        self.returned.remove(key)
    }
}

impl Unit {
    /// Keeps the answer for an open episode. The end of the episode has nothing else to show.
    pub(super) fn note_returned(&mut self, rule: usize, asked: &Asked, answer: &Answer) {
        let state = self.rules.get_mut(rule).filter(|state| state.rule.query.text.is_some() && answer.holds);
        if let Some(state) = state.filter(|state| state.episodes.is_firing(&asked.key)) {
            let returned = Returned { outputs: answer.outputs.clone(), as_of: asked.now };
            state.of_postgres.returned.insert(asked.key.clone(), returned);
        }
    }

    /// Asks again about everything that is due.
    pub fn keep_asking(&mut self, now: Timestamp) {
        for index in 0..self.rules.len() {
            let Some(state) = self.rules.get_mut(index) else { return };
            let Some(text) = state.rule.query.text.clone() else { continue };
            let after = |interval| Some(Timestamp(now.0.saturating_add(micros(interval))));
            if state.of_postgres.sweep_at.is_none_or(|at| at <= now) {
                state.of_postgres.sweep_at = after(text.pace.sweep);
                if !self.audit.sweeps.insert(index) {
                    tracing::warn!(
                        rule = state.rule.name,
                        "the whole query has waited for a whole interval: statements of audit and sweep have had their share of the \
                         database; raise audit.max_database_share or the rule's sweep_interval_ms"
                    );
                }
            }
            let Some(recheck_at) = state.of_postgres.recheck_at else {
                // The start has asked about all of them.
                state.of_postgres.recheck_at = after(text.pace.recheck);
                continue;
            };
            if recheck_at > now {
                continue;
            }
            state.of_postgres.recheck_at = after(text.pace.recheck);
            let room = TOUCHED_MAX.saturating_sub(state.episodes.candidate_count());
            if state.episodes.firing().len() > room {
                // The whole query says as much for less cost.
                self.audit.sweeps.insert(index);
                continue;
            }
            let firing: Vec<Key> = state.episodes.firing().cloned().collect();
            for key in firing {
                self.found(index, key, Evaluation::Unknown, Reason::Condition, now);
            }
        }
    }

    /// Takes the keys that the whole query has returned. Asks about those without an open episode, and about open
    /// episodes that are missing.
    pub(super) fn swept_by_postgres(&mut self, rule: usize, keys: &BTreeSet<Key>, now: Timestamp) {
        let Some(state) = self.rules.get(rule) else { return };
        let ended = state.episodes.firing().filter(|key| !keys.contains(*key));
        let begun = keys.iter().filter(|key| !state.episodes.is_firing(key));
        let mut differing: Vec<Key> = ended.chain(begun).cloned().collect();
        let room = TOUCHED_MAX.saturating_sub(state.episodes.candidate_count());
        if differing.len() > room {
            tracing::warn!(
                rule = state.rule.name,
                keys = differing.len(),
                asked = room,
                "the whole query returns more keys than can wait for an answer; the others are asked about after its next run"
            );
            differing.truncate(room);
        }
        tracing::debug!(rule = state.rule.name, keys = keys.len(), differing = differing.len(), "ran the whole query");
        for key in differing {
            self.found(rule, key, Evaluation::Unknown, Reason::Condition, now);
        }
    }

    /// Notes that the whole query of a rule has failed. It is run again at its interval.
    pub(super) fn sweep_of_postgres_failed(&mut self, rule: usize, error: &CallError) {
        let Some(state) = self.rules.get(rule) else { return };
        if error.server() == Some(Server::Postgres) {
            return; // an outage has its own lines
        }
        tracing::warn!(
            rule = state.rule.name,
            %error,
            "the whole query failed: what no change says is found later, when it is run again"
        );
    }
}
