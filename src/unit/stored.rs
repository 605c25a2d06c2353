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
        let mut complete = self.rules.iter().all(|state| {
            versions.iter().any(|(name, version)| *name == state.rule.name && *version == state.rule.version)
        });
        for ((name, version), stored) in versions.iter().zip(stored) {
            let Some(state) = self.rules.iter_mut().find(|state| state.rule.name == *name) else { continue };
            state.episodes = stored.episodes;
            if complete && *version == state.rule.version {
                state.window.refill(stored.window);
            } else {
                complete = false;
            }
        }
        Ok(complete)
    }

    /// Repeats the decisions of an epoch that was logged after the state was stored.
    pub fn redo(&mut self, epoch: &Epoch) {
        for alert in &epoch.alerts {
            if let Some(state) = self.rules.iter_mut().find(|state| state.rule.name == alert.rule) {
                state.episodes.decide(&alert.key, alert.status, alert.id, alert.emitted_at);
            }
        }
        for state in &mut self.rules {
            let mine = epoch.waiting.iter().filter(|(rule, ..)| *rule == state.rule.name);
            state.episodes.restore_candidates(mine.map(|(_, key, candidate)| (key.clone(), candidate.clone())));
        }
    }
}
