//! The evaluation after a start: every group, and every open or waiting episode, against its window.

use super::Unit;
use crate::episode::Reason;
use crate::model::Timestamp;
use crate::planted;
use crate::rule::evaluate::Evaluation;

impl Unit {
    /// Notes that table or server have changed since the windows were stored, so that all windows come from the table.
    pub fn windows_are_void(&mut self) {
        self.is_void = true;
    }

    /// Evaluates every group and every open episode once, after the windows were rebuilt without evaluating.
    pub fn evaluate_all(&mut self, now: Timestamp) {
        let is_void = std::mem::take(&mut self.is_void);
        for index in 0..self.rules.len() {
            let Some(state) = self.rules.get_mut(index) else { continue };
            let waiting = state.episodes.candidates().map(|(key, _)| key);
            let open = state.episodes.firing().filter(|_| !planted::bug("open-episodes-not-held"));
            for key in open.chain(waiting) {
                // These keys get a transition whatever their evaluation is. They are kept even if they are empty,
                // because the transactions that emptied them may not be visible yet.
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
                    // The key was a candidate at these offsets, so time has ended it since, whatever the last change
                    // was.
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
