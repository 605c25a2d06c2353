//! After a start: every group is evaluated once, and what was open or waiting is held against its window.

use super::Unit;
use crate::episode::Reason;
use crate::model::Timestamp;
use crate::planted;
use crate::rule::evaluate::Evaluation;

impl Unit {
    /// Table or server have changed since the windows were stored, so that all of them come from the table.
    pub fn windows_are_void(&mut self) {
        self.is_void = true;
    }

    /// Windows were rebuilt without evaluating: every group is evaluated once, and every open episode held
    /// against its window.
    pub fn evaluate_all(&mut self, now: Timestamp) {
        let is_void = std::mem::take(&mut self.is_void);
        for index in 0..self.rules.len() {
            let Some(state) = self.rules.get_mut(index) else { continue };
            let waiting = state.episodes.candidates().map(|(key, _)| key);
            let open = state.episodes.firing().filter(|_| !planted::bug("open-episodes-not-held"));
            for key in open.chain(waiting) {
                // Named whatever its evaluation, and kept although it may be empty: the transactions that emptied it may
                // not be visible yet.
                state.window.watch(key, true);
            }
            let mut transitions = state.window.evaluate_all(now);
            let is_changed = state.changed_from.take().is_some();
            let (mut open, mut resolved) = (0_usize, 0_usize);
            for transition in &mut transitions {
                let is_firing = state.episodes.is_firing(&transition.key);
                open += usize::from(is_firing);
                if transition.evaluation != Evaluation::Fails {
                    continue;
                }
                if !is_firing {
                    // It was a candidate as of these offsets, so time has taken it since, whatever change came last.
                    transition.trigger = None;
                } else if is_changed {
                    (transition.reason, transition.trigger) = (Reason::RuleChanged, None);
                    resolved += 1;
                } else if is_void && transition.reason == Reason::Time {
                    transition.reason = Reason::Healed;
                }
            }
            if is_changed {
                let (rule, reason) = (&state.rule.name, Reason::RuleChanged.as_str());
                tracing::warn!(
                    rule,
                    open,
                    resolved,
                    reason,
                    "rule {rule} has changed: its open episodes go on, but for those that no longer hold, which are resolved"
                );
            }
            self.take(index, transitions, now);
        }
    }
}
