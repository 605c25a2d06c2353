//! What is asked after an answer: the end of what time has taken meanwhile, and under event time the next candidate of the key.

use super::{Asked, Unit};
use crate::episode::Reason;
use crate::model::{Key, Timestamp};
use crate::rule::evaluate::Evaluation;
use crate::window::Transition;

impl Unit {
    /// Candidates that are asked in the order of the stream, each as of its own instant.
    pub fn waiting_in_order(&self) -> usize {
        let in_order = self.rules.iter().filter(|state| state.is_in_order());
        in_order.map(|state| state.episodes.candidate_count()).sum()
    }

    /// What time took before Postgres was heard held then, and no longer does: Postgres is asked about that as well.
    pub(super) fn resolve_overdue(&mut self, rule: usize, asked: &Asked, now: Timestamp) {
        let Some(state) = self.rules.get_mut(rule) else { return };
        let (evaluation, outputs) = state.window.evaluate(&asked.key, now);
        let (key, reason) = (asked.key.clone(), Reason::Time);
        self.take(rule, vec![Transition { key, evaluation, now, trigger: None, reason, outputs }], now);
    }

    /// An alert was decided that memory does not bear, as a sweep had found it: nothing that memory knows of brings its end, so
    /// Postgres is asked until both agree. Where memory cannot tell, it is asked until it has shown everything (`is_whole`): a
    /// transaction that becomes visible later touches nothing here.
    pub(super) fn ask_where_memory_disagrees(&mut self, rule: usize, key: &Key, is_whole: bool, now: Timestamp) {
        let Some(state) = self.rules.get_mut(rule).filter(|state| !state.is_in_order()) else { return };
        let (evaluation, _) = state.window.evaluate(key, now);
        if evaluation != Evaluation::Unknown || !is_whole {
            self.found(rule, key.clone(), evaluation, Reason::Healed, now);
        }
    }

    /// A candidate has been decided, or refuted for good: what waits behind it is asked next.
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
