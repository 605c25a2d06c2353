//! A unit's progress: epochs closed, windows and episodes stored, and both taken up again.

use serde::{Deserialize, Serialize};

use super::Unit;
use crate::checkpoint::Epoch;
use crate::episode::Episodes;
use crate::model::Timestamp;
use crate::window::StoredWindow;

/// What `state/N` holds of one rule, in the order of its head.
#[derive(Debug, Deserialize)]
pub struct StoredRule {
    episodes: Episodes,
    window: StoredWindow,
}

#[derive(Serialize)]
struct RuleOut<'a, W> {
    episodes: &'a Episodes,
    window: W,
}

impl Unit {
    /// Closes an epoch: the decided alerts and the waiting candidates with the offsets that they stand at.
    pub fn close(&mut self, number: u64, now: Timestamp) -> Epoch {
        let mut waiting = Vec::new();
        for state in &self.rules {
            let name = &state.rule.name;
            waiting.extend(state.episodes.candidates().map(|(key, c)| (name.clone(), key.clone(), c.clone())));
        }
        Epoch {
            number,
            lineage: self.lineage.clone(),
            topic: self.topic.clone(),
            offsets: self.offsets.clone(),
            at: now,
            rules: self.versions().into_iter().collect(),
            alerts: std::mem::take(&mut self.alerts),
            waiting,
        }
    }

    /// Writes the body of `state/N`, row by row: at no time is it in memory as a whole.
    ///
    /// # Errors
    /// The writer refuses; postcard does not keep its reason.
    pub fn store(&self, out: &mut dyn std::io::Write) -> Result<(), postcard::Error> {
        let rules: Vec<_> = self
            .rules
            .iter()
            .map(|state| RuleOut { episodes: &state.episodes, window: state.window.stored() })
            .collect();
        postcard::to_io(&rules, out).map(drop)
    }

    /// Takes the body of `state/N`, which was stored for rules of these names and versions. Returns whether
    /// every rule found its windows: a rule that is new or whose meaning changed did not, and needs them
    /// rebuilt; its open episodes go by its name.
    ///
    /// # Errors
    /// The body is not what `store` writes.
    pub fn restore(&mut self, versions: &[(String, String)], body: &[u8]) -> Result<bool, postcard::Error> {
        let stored: Vec<StoredRule> = postcard::from_bytes(body)?;
        let now = self.versions();
        let complete = now.iter().all(|rule| versions.contains(rule));
        for (rule, stored) in versions.iter().zip(stored) {
            let mine = self.rules.iter_mut().zip(&now).find(|(_, now)| now.0 == rule.0);
            let Some((state, now)) = mine else { continue };
            if same_keys(&rule.1, &now.1) {
                state.episodes = stored.episodes;
            } else {
                tracing::warn!(rule = rule.0, "its GROUP BY has changed: the episodes of the old keys are dropped");
            }
            if complete {
                state.window.refill(stored.window);
            }
        }
        Ok(complete)
    }

    /// Repeats the decisions of an epoch that was logged after the state was stored. Those of a rule that grouped
    /// otherwise are passed over, and its episodes dropped.
    pub fn redo(&mut self, epoch: &Epoch) {
        let now = self.versions();
        for (state, now) in self.rules.iter_mut().zip(&now) {
            let name = &state.rule.name;
            if epoch.rules.get(name).is_some_and(|then| !same_keys(then, &now.1)) {
                state.episodes = Episodes::default();
                continue;
            }
            for alert in epoch.alerts.iter().filter(|alert| alert.rule == *name) {
                state.episodes.decide(&alert.key, alert.status, alert.id, alert.emitted_at);
            }
            let mine = epoch.waiting.iter().filter(|(rule, ..)| rule == name);
            state.episodes.restore_candidates(mine.map(|(_, key, candidate)| (key.clone(), candidate.clone())));
        }
    }
}

/// Whether two versions, as [`Unit::versions`] gives them, have the same GROUP BY columns and types.
fn same_keys(a: &str, b: &str) -> bool {
    let keys = |version: &str| version.split_once(' ').map(|(_, keys)| keys.to_owned());
    keys(a) == keys(b)
}
