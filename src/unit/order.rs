//! Questions that follow an answer. They are about the end of an episode that time has ended meanwhile, and under event
//! time about the next candidate of the key.

use super::{Asked, Unit};
use crate::episode::Reason;
use crate::model::{Key, Timestamp};
use crate::rule::evaluate::Evaluation;
use crate::window::Transition;

impl Unit {
    /// The number of candidates that are confirmed in the order of the stream, each as of its own instant.
    pub fn waiting_in_order(&self) -> usize {
        let in_order = self.rules.iter().filter(|state| state.is_in_order());
        in_order.map(|state| state.episodes.candidate_count()).sum()
    }

    /// Asks Postgres about a key that held before the answer came, and that time has ended since.
    pub(super) fn resolve_overdue(&mut self, rule: usize, asked: &Asked, now: Timestamp) {
        let Some(state) = self.rules.get_mut(rule) else { return };
        let (evaluation, outputs) = state.window.evaluate(&asked.key, now);
        let (key, reason) = (asked.key.clone(), Reason::Time);
        self.take(rule, vec![Transition { key, evaluation, now, trigger: None, reason, outputs }], now);
    }

    /// Asks Postgres about a key whose alert memory does not support, for example after a sweep. No change in memory
    /// would end that alert, so Postgres is asked until both agree. If memory cannot evaluate the key, Postgres is
    /// asked until its answer includes everything (`is_whole`), because a transaction that becomes visible later
    /// touches nothing here.
    pub(super) fn ask_where_memory_disagrees(&mut self, rule: usize, key: &Key, is_whole: bool, now: Timestamp) {
        let Some(state) = self.rules.get_mut(rule).filter(|state| !state.is_in_order()) else { return };
        let (evaluation, _) = state.window.evaluate(key, now);
        if evaluation != Evaluation::Unknown || !is_whole {
            self.found(rule, key.clone(), evaluation, Reason::Healed, now);
        }
    }

    /// Makes the next candidate of a key due, after one was decided or finally refuted.
    pub(super) fn next_in_order(&mut self, rule: usize, key: &Key, now: Timestamp) {
        let Some(state) = self.rules.get_mut(rule).filter(|state| state.is_in_order()) else { return };
        if state.episodes.candidate(key).is_none() && state.episodes.next_in_order(key, now) {
            state.window.watch(key, true);
            self.events.raised(rule);
        }
    }

    /// Makes every waiting candidate due at once.
    pub fn make_due_now(&mut self, now: Timestamp) {
        for state in &mut self.rules {
            state.episodes.make_due_now(now);
        }
    }
}
