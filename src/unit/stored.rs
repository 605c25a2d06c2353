//! A unit's progress: epochs closed, windows and episodes stored, and both taken up again.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Unit;
use crate::alert::Alert;
use crate::episode::{Candidate, Episodes, Open, Status};
use crate::model::{Key, Lsn, Timestamp};
use crate::progress::{Epoch, LastRecords};
use crate::window::{StoredWindow, StoredWindow2};

/// What was decided in an epoch: the last line of `offsets/N`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decisions {
    /// Alerts, finished.
    pub alerts: Vec<Alert>,
    /// Candidates that were still waiting, by rule.
    pub waiting: Vec<(String, Key, Candidate)>,
    /// All open episodes by rule, in the first epoch that a folder holds of its lineage.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub open: Option<Vec<(String, Key, Open)>>,
}

/// What `state/N` holds of one rule, in the order of its head.
#[derive(Debug, Deserialize)]
pub struct StoredRule {
    episodes: Episodes,
    window: StoredWindow,
}

/// The same as format 2 had it.
#[derive(Debug, Deserialize)]
struct StoredRule2 {
    episodes: Episodes,
    window: StoredWindow2,
}

impl From<StoredRule2> for StoredRule {
    fn from(old: StoredRule2) -> Self {
        Self { episodes: old.episodes, window: old.window.into() }
    }
}

#[derive(Serialize)]
struct RuleOut<'a, W> {
    episodes: &'a Episodes,
    window: W,
}

impl Unit {
    /// Closes an epoch: the decided alerts and the waiting candidates with the offsets that they stand at.
    pub fn close(&mut self, last_records: &LastRecords, now: Timestamp) -> Epoch<Decisions> {
        let mut waiting = Vec::new();
        for state in &self.rules {
            let name = &state.rule.name;
            waiting.extend(state.episodes.candidates().map(|(key, c)| (name.clone(), key.clone(), c.clone())));
        }
        let number = self.epoch;
        (self.epoch, self.fired) = (number + 1, 0);
        Epoch {
            number,
            lineage: self.lineage.clone(),
            topic: self.settings.topic.clone(),
            offsets: self.offsets.clone(),
            last_records: last_records.clone(),
            at: now,
            conf: self.versions().into_iter().collect(),
            body: Decisions { alerts: std::mem::take(&mut self.alerts), waiting, open: None },
        }
    }

    /// The open episodes of all rules.
    pub fn open(&self) -> Vec<(String, Key, Open)> {
        let mut open = Vec::new();
        for state in &self.rules {
            let name = &state.rule.name;
            open.extend(state.episodes.open().map(|(key, o)| (name.clone(), key.clone(), o.clone())));
        }
        open
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
        postcard::to_io(&(rules, self.lookups.keys(), &self.streamed_in), out).map(drop)
    }

    /// Takes the body of `state/N` of this format (2 or 3), which was stored for rules of these names and versions, with its
    /// windows or without. Returns whether every rule found its windows: a rule that is new or whose meaning changed did not, and needs them
    /// rebuilt; its open episodes go by its name.
    ///
    /// # Errors
    /// The body is not what `store` writes.
    pub fn restore(
        &mut self,
        format: u32,
        versions: &[(String, String)],
        body: &[u8],
        windows: bool,
    ) -> Result<bool, postcard::Error> {
        let (stored, lookups, streamed_in): (Vec<StoredRule>, Vec<Key>, BTreeMap<i32, Lsn>) = if format < 3 {
            let stored: Vec<StoredRule2> = postcard::from_bytes(body)?;
            (stored.into_iter().map(StoredRule::from).collect(), Vec::new(), BTreeMap::new())
        } else {
            postcard::from_bytes(body)?
        };
        self.lookups = lookups.into_iter().collect();
        if windows {
            self.streamed_in = streamed_in;
        }
        let now = self.versions();
        let carry = self.settings.carry_episodes;
        let complete = windows && now.iter().all(|rule| versions.contains(rule));
        for (rule, stored) in versions.iter().zip(stored) {
            let mine = self.rules.iter_mut().zip(&now).find(|(_, now)| now.0 == rule.0);
            let Some((state, now)) = mine else { continue };
            if carries(carry, &rule.1, &now.1) {
                state.episodes = stored.episodes;
            } else {
                tracing::warn!(
                    rule = rule.0,
                    "it has changed: its open episodes are dropped, and what holds now fires anew"
                );
            }
            if complete {
                state.window.refill(stored.window);
            }
        }
        Ok(complete)
    }

    /// Repeats the decisions of an epoch that was logged after the state was stored. Those of a rule that has
    /// changed too much since are passed over, and its episodes dropped.
    pub fn redo(&mut self, epoch: &Epoch<Decisions>) {
        let now = self.versions();
        let carry = self.settings.carry_episodes;
        for (state, now) in self.rules.iter_mut().zip(&now) {
            let name = &state.rule.name;
            if epoch.conf.get(name).is_some_and(|then| !carries(carry, then, &now.1)) {
                state.episodes = Episodes::default();
                continue;
            }
            if let Some(open) = &epoch.body.open {
                let mine = open.iter().filter(|(rule, ..)| rule == name);
                state.episodes.restore_open(mine.map(|(_, key, open)| (key.clone(), open.clone())));
            }
            for alert in epoch.body.alerts.iter().filter(|alert| alert.rule == *name) {
                state.episodes.decide(&alert.key, alert.status, alert.open());
            }
            let mine = epoch.body.waiting.iter().filter(|(rule, ..)| rule == name);
            state.episodes.restore_candidates(mine.map(|(_, key, candidate)| (key.clone(), candidate.clone())));
        }
    }

    /// Takes open episodes from elsewhere: rule, its version as [`Unit::versions`] gives it, key.
    pub fn recall(&mut self, open: impl IntoIterator<Item = (String, String, Key, Open)>) {
        let now = self.versions();
        let carry = self.settings.carry_episodes;
        for (rule, version, key, open) in open {
            let mine = self.rules.iter_mut().zip(&now).find(|(_, now)| now.0 == rule);
            if let Some((state, now)) = mine
                && carries(carry, &version, &now.1)
            {
                state.episodes.decide(&key, Status::Firing, open);
            }
        }
    }
}

/// Whether episodes of a rule go on under another version of it: never under other keys, and under another meaning
/// only where `carry` says so.
fn carries(carry: bool, then: &str, now: &str) -> bool {
    same_keys(then, now) && (carry || rule_version(then) == rule_version(now))
}

/// The rule's version alone. Another time zone is no other rule: its keys are evaluated again.
fn rule_version(text: &str) -> &str {
    text.split(['@', ' ']).next().unwrap_or(text)
}

/// Whether two versions, as [`Unit::versions`] gives them, have the same GROUP BY columns, of types that write a key alike.
fn same_keys(a: &str, b: &str) -> bool {
    let keys = |version: &str| version.split_once(' ').map(|(_, keys)| alike(keys));
    keys(a) == keys(b)
}

/// The types of keys without what does not change how they are written: the width of integers, the length of text, the
/// precision of `numeric` (but not its scale).
fn alike(keys: &str) -> String {
    let mut words: Vec<String> = Vec::new();
    for word in keys.replace("character varying", "text").split(' ') {
        let (comma, word) = word.strip_suffix(',').map_or(("", word), |word| (",", word));
        let (name, modifier) = word.split_once('(').unwrap_or((word, ""));
        let modifier = modifier.split_once(',').map(|(_, scale)| scale).unwrap_or_default();
        let name = if matches!(name, "smallint" | "bigint") { "integer" } else { name };
        words.push(format!("{name}{modifier}{comma}"));
    }
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_are_written_alike() {
        let check = |a: &str, b: &str, want: bool| {
            assert_eq!(same_keys(&format!("0 {a}"), &format!("1 {b}")), want, "{a} {b}");
        };
        check("code character varying(50)", "code character varying(100)", true);
        check("code character varying(50)", "code text", true);
        check("user_id integer", "user_id bigint", true);
        check("user_id integer, a smallint", "user_id bigint, a bigint", true);
        check("user_id integer, a smallint", "user_id bigint, b bigint", false);
        check("price numeric(12,2)", "price numeric(14,2)", true);
        check("price numeric(12,2)", "price numeric(14,4)", false);
        check("user_id integer", "user_id text", false);
    }
}
