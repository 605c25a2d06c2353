//! Rules that Postgres alone evaluates. A change touches keys, which wait a moment and are asked about. What no change says is found at
//! intervals: open episodes are asked about again, and the whole query is run.

use std::collections::BTreeSet;

use super::Unit;
use crate::episode::Reason;
use crate::model::duration::micros;
use crate::model::{Key, Timestamp};
use crate::rule::evaluate::Evaluation;

/// When Postgres is asked again; at once after a start.
#[derive(Debug, Default)]
pub(super) struct Due {
    recheck_at: Option<Timestamp>,
    sweep_at: Option<Timestamp>,
}

impl Unit {
    /// Asks again what is due.
    pub fn keep_asking(&mut self, now: Timestamp) {
        for index in 0..self.rules.len() {
            let Some(state) = self.rules.get_mut(index) else { return };
            let Some(text) = state.rule.query.text.clone() else { continue };
            let after = |interval| Some(Timestamp(now.0.saturating_add(micros(interval))));
            if state.due.sweep_at.is_none_or(|at| at <= now) {
                state.due.sweep_at = after(text.pace.sweep);
                self.audit.sweeps.insert(index);
            }
            let Some(recheck_at) = state.due.recheck_at else {
                // A start has asked about all of them.
                state.due.recheck_at = after(text.pace.recheck);
                continue;
            };
            if recheck_at > now {
                continue;
            }
            state.due.recheck_at = after(text.pace.recheck);
            let firing: Vec<Key> = state.episodes.firing().cloned().collect();
            for key in firing {
                self.found(index, key, Evaluation::Unknown, Reason::Condition, now);
            }
        }
    }

    /// When something is due next.
    pub fn next_asking(&self) -> Option<Timestamp> {
        let due = self.rules.iter().filter(|state| state.rule.query.text.is_some());
        due.flat_map(|state| [state.due.recheck_at, state.due.sweep_at]).flatten().min()
    }

    /// Takes the keys that the whole query has returned: those that are not open, and the open ones that it lacks, are asked about.
    pub(super) fn swept_by_postgres(&mut self, rule: usize, keys: &BTreeSet<Key>, now: Timestamp) {
        let Some(state) = self.rules.get(rule) else { return };
        let ended = state.episodes.firing().filter(|key| !keys.contains(*key));
        let begun = keys.iter().filter(|key| !state.episodes.is_firing(key));
        let differing: Vec<Key> = ended.chain(begun).cloned().collect();
        tracing::debug!(rule = state.rule.name, keys = keys.len(), differing = differing.len(), "ran the whole query");
        for key in differing {
            self.found(rule, key, Evaluation::Unknown, Reason::Condition, now);
        }
    }
}
