//! Episodes, candidates and windows that earlier runs have left, until the rules of this run take them over. Pure.
//!
//! Between runs, rules are added, removed, changed and renamed. An episode continues if its rule is the same, was only
//! renamed, or has changed and `on_rule_change` carries it. All others end, with an alert that has the reason.

use std::collections::{BTreeMap, HashMap};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::Unit;
use super::recovery::EpisodeRecord;
use crate::alert::{Alert, Ending, record_key_of};
use crate::episode::{Candidate, Open, Reason, Status};
use crate::model::{Key, Timestamp};
use crate::progress::Epoch;
use crate::rule::Rule;
use crate::unit::stored::Decisions;
use crate::window::StoredWindow;

/// Open episodes, candidates and windows by the names of their rules, each with the version at which it was left.
#[derive(Debug, Default)]
pub(super) struct Past {
    /// The versions of the rules by the newest state or epoch.
    versions: BTreeMap<String, String>,
    open: BTreeMap<(String, Key), (Open, String)>,
    waiting: Vec<(String, Key, Candidate, String)>,
    windows: BTreeMap<String, (String, StoredWindow)>,
}

/// An open episode that no rule of this run continues.
#[derive(Debug)]
pub(super) struct Left {
    rule: String,
    version: String,
    key: Key,
    open: Open,
    reason: Reason,
}

/// An open episode whose rule was renamed.
#[derive(Debug)]
pub(super) struct Moved {
    from: String,
    rule: usize,
    key: Key,
    open: Open,
}

/// An open episode that continues under a new name of its rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Carried {
    /// The record key under the rule's old name.
    pub from: String,
    /// The alert that opened it, under the rule's new name.
    pub alert: Alert,
}

impl Past {
    /// Takes the stored episodes, candidates and windows of a rule.
    pub(super) fn store(
        &mut self,
        (rule, version): &(String, String),
        open: Vec<(Key, Open)>,
        waiting: Vec<(Key, Candidate)>,
        window: Option<StoredWindow>,
    ) {
        self.versions.insert(rule.clone(), version.clone());
        self.open.extend(open.into_iter().map(|(key, open)| ((rule.clone(), key), (open, version.clone()))));
        let named = |(key, candidate)| (rule.clone(), key, candidate, version.clone());
        self.waiting.extend(waiting.into_iter().map(named));
        if let Some(window) = window {
            self.windows.insert(rule.clone(), (version.clone(), window));
        }
    }

    /// Takes an open episode of the recovery topic.
    pub(super) fn recall(&mut self, rule: String, version: String, key: Key, open: Open) {
        self.versions.insert(rule.clone(), version.clone());
        self.open.insert((rule, key), (open, version));
    }

    /// Repeats the decisions of an epoch that was closed after the state was stored.
    pub(super) fn redo(&mut self, epoch: &Epoch<Decisions>) {
        let version = |rule: &str| epoch.conf.get(rule).cloned().unwrap_or_default();
        self.go_on_with(&epoch.conf);
        if let Some(open) = &epoch.body.open {
            let named =
                |(rule, key, open): &(String, Key, Open)| ((rule.clone(), key.clone()), (open.clone(), version(rule)));
            self.open = open.iter().map(named).collect();
        }
        for alert in &epoch.body.alerts {
            let place = (alert.rule.clone(), alert.key.clone());
            match alert.status {
                Status::Firing => drop(self.open.insert(place, (alert.open(), version(&alert.rule)))),
                Status::Resolved => drop(self.open.remove(&place)),
            }
        }
        let named = |(rule, key, candidate): &(String, Key, Candidate)| {
            (rule.clone(), key.clone(), candidate.clone(), version(rule))
        };
        self.waiting = epoch.body.waiting.iter().map(named).collect();
        // Episodes that were still open continued under the rule's version in that epoch.
        for ((rule, _), (_, held)) in &mut self.open {
            if let Some(then) = epoch.conf.get(rule).filter(|then| same_keys(held, then)) {
                held.clone_from(then);
            }
        }
    }

    /// Takes `now` (rule name to version) as the current rules. An empty `now` changes nothing. A rule counts as
    /// renamed if it is the only one of its meaning that disappeared, and exactly one of the same meaning appeared. Its
    /// episodes, candidates and windows continue under the new name. Returns the old and the new name of each renamed
    /// rule.
    fn go_on_with(&mut self, now: &BTreeMap<String, String>) -> Vec<(String, String)> {
        if now.is_empty() {
            return Vec::new(); // an epoch of format 1 does not say
        }
        let before = std::mem::replace(&mut self.versions, now.clone());
        let renamed = renamed(&before, now);
        for (old, new) in &renamed {
            let name = |rule: String| if rule == *old { new.clone() } else { rule };
            let open = std::mem::take(&mut self.open).into_iter();
            self.open = open.map(|((rule, key), open)| ((name(rule), key), open)).collect();
            self.waiting.iter_mut().filter(|(rule, ..)| rule == old).for_each(|(rule, ..)| rule.clone_from(new));
            if let Some(window) = self.windows.remove(old) {
                self.windows.insert(new.clone(), window);
            }
        }
        renamed
    }
}

/// Returns the names of renamed rules, old and new.
fn renamed(before: &BTreeMap<String, String>, now: &BTreeMap<String, String>) -> Vec<(String, String)> {
    let went: Vec<_> = before.iter().filter(|(rule, _)| !now.contains_key(*rule)).collect();
    let came: Vec<_> = now.iter().filter(|(rule, _)| !before.contains_key(*rule)).collect();
    let mut renamed = Vec::new();
    for (old, version) in &went {
        let same = |rules: &[(&String, &String)]| {
            rules.iter().filter(|(_, other)| carries(false, version, other)).map(|(rule, _)| (*rule).clone()).collect()
        };
        let (went, came): (Vec<String>, Vec<String>) = (same(&went), same(&came));
        if let ([_], [new]) = (went.as_slice(), came.as_slice()) {
            renamed.push(((*old).clone(), new.clone()));
        }
    }
    renamed
}

impl Unit {
    /// Gives the restored state to the rules of this run. Returns whether every rule got its windows. A rule that is
    /// new or has another meaning did not, and needs them to be rebuilt.
    pub fn take_over(&mut self) -> bool {
        let now: BTreeMap<String, String> = self.versions().into_iter().collect();
        let mut past = std::mem::take(&mut self.past);
        let renamed = past.go_on_with(&now);
        let windows = |past: &Past, rule: &str| past.windows.get(rule).map(|(version, _)| version) == now.get(rule);
        let complete = now.keys().all(|rule| windows(&past, rule));
        let carry = self.settings.carry_episodes;
        let mut left = BTreeMap::new();
        let mut carried: BTreeMap<&str, usize> = BTreeMap::new();
        for ((rule, key), (open, version)) in past.open {
            let place = self.rules.iter_mut().enumerate().find(|(_, state)| state.rule.name == rule);
            let version_now = now.get(&rule).map(String::as_str).unwrap_or_default();
            let reason = match place {
                Some((index, state)) if version.is_empty() || carries(carry, &version, version_now) => {
                    if !version.is_empty() && hash(&version) != hash(version_now) {
                        state.changed_from = Some(version);
                    }
                    if let Some((old, new)) = renamed.iter().find(|(_, new)| *new == rule) {
                        *carried.entry(new).or_default() += 1;
                        self.moved.push(Moved { from: old.clone(), rule: index, key: key.clone(), open: open.clone() });
                    }
                    state.episodes.restore_open(key, open);
                    continue;
                }
                Some(_) => Reason::RuleChanged,
                None => Reason::RuleRemoved,
            };
            *left.entry((rule.clone(), reason.as_str())).or_insert(0_usize) += 1;
            self.left.push(Left { rule, version, key, open, reason });
        }
        for (old, new) in &renamed {
            let open = carried.get(new.as_str()).copied().unwrap_or_default();
            tracing::info!(
                rule = new,
                open,
                "rule {old} is called {new} now: its open episodes go on under the new name"
            );
        }
        for ((rule, reason), open) in left {
            let what = if reason == Reason::RuleRemoved.as_str() {
                "is no longer configured: its open episodes are resolved"
            } else {
                "has changed: its open episodes are resolved, and what holds now fires again"
            };
            tracing::warn!(rule, resolved = open, reason, "rule {rule} {what}");
        }
        for (rule, key, candidate, version) in past.waiting {
            let state = self.rules.iter_mut().find(|state| state.rule.name == rule);
            if let (Some(state), Some(now)) = (state, now.get(&rule))
                && (version.is_empty() || carries(carry, &version, now))
            {
                state.episodes.restore_candidate(key, candidate);
            }
        }
        if complete {
            for state in &mut self.rules {
                if let Some((_, window)) = past.windows.remove(&state.rule.name) {
                    state.window.refill(window);
                }
            }
        }
        complete
    }

    /// Whether an episode has to be ended or carried. For that, [`Unit::settle`] needs the alert that opened it.
    pub fn is_unsettled(&self) -> bool {
        !self.left.is_empty() || !self.moved.is_empty()
    }

    /// Ends or carries the episodes that the rules of this run have not taken over unchanged, in the open epoch.
    /// `records` are the group's records of the recovery topic.
    pub fn settle(&mut self, records: &[EpisodeRecord], now: Timestamp) {
        let opened: HashMap<Uuid, &Alert> =
            records.iter().flat_map(|record| &record.alerts).map(|alert| (alert.id, alert)).collect();
        for Left { rule, version, key, open, reason } in std::mem::take(&mut self.left) {
            let ending = Ending {
                group: &self.settings.group,
                lineage: &self.lineage,
                rule: &rule,
                version: &version,
                key: &key,
                open: &open,
                reason,
                opened: opened.get(&open.alert).copied(),
                emitted_at: now,
            };
            self.alerts.push(ending.alert());
            self.events.resolved += 1;
        }
        for Moved { from, rule, key, open } in std::mem::take(&mut self.moved) {
            let Some(Rule { name, query, .. }) = self.rule(rule) else { continue };
            let ending = Ending {
                group: &self.settings.group,
                lineage: &self.lineage,
                rule: name,
                version: "",
                key: &key,
                open: &open,
                reason: Reason::default(),
                opened: opened.get(&open.alert).copied(),
                emitted_at: now,
            };
            let alert = ending.carried(name, record_key_of(name, query, &key));
            self.carried.push(Carried { from: record_key_of(&from, query, &key), alert });
        }
    }
}

/// Whether a rule's episodes continue under another version. They never do under other keys. They do under another
/// meaning only if `carry` is set.
fn carries(carry: bool, then: &str, now: &str) -> bool {
    same_keys(then, now) && (carry || hash(then) == hash(now))
}

/// Whether two versions of [`Unit::versions`] have the same GROUP BY columns, of types that write a key in the same
/// way.
fn same_keys(a: &str, b: &str) -> bool {
    let keys = |version: &str| version.split_once(' ').map(|(_, keys)| alike(keys));
    keys(a) == keys(b)
}

/// Returns the types of the keys without the parts that do not change how a key is written: the width of integers, the
/// length of text, the precision of `numeric` (but not its scale).
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

/// Returns the rule's version without keys and time zone. Another time zone does not make another rule, but the keys
/// are evaluated again.
fn hash(version: &str) -> &str {
    version.split(['@', ' ']).next().unwrap_or_default()
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
