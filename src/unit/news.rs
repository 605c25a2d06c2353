//! What has happened in a unit since it was last asked, for whoever shows a run. Pure.

use serde::Serialize;
use serde_json::{Map, Value as Json};

use super::{Answer, Asked};
use crate::alert::{key_json, key_label};
use crate::episode::Candidate;
use crate::model::Timestamp;
use crate::rule::Rule;

/// Answers that are told one by one between two askings; the rest is only counted.
const HEARD_MAX: usize = 256;

/// Since it was last asked.
#[derive(Debug, Default)]
pub struct News {
    /// By rule, in the unit's order; rules at the end of which nothing is new may be missing.
    pub tallies: Vec<Tally>,
    /// What Postgres said of candidates, in order.
    pub heard: Vec<Heard>,
    /// Microseconds from a change's commit to the decision that it brought, per decision.
    pub delays: Vec<u64>,
}

/// What was counted of one rule.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Tally {
    /// Groups that became candidates.
    pub candidates: u64,
    /// Answers that confirmed.
    pub confirmed: u64,
    /// Answers that did not.
    pub refuted: u64,
    /// Answers that left it open.
    pub undecided: u64,
    /// Groups whose statement failed.
    pub failed: u64,
}

/// How Postgres answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Said {
    /// It agrees with memory.
    Confirmed,
    /// It does not.
    Refuted,
    /// It does not show yet what memory has applied.
    Undecided,
    /// The statement failed.
    Failed,
}

/// A candidate with what Postgres said of it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Heard {
    /// When.
    pub at: Timestamp,
    /// Name of the rule.
    pub rule: String,
    /// The key's columns.
    pub key: Json,
    /// The key as text.
    pub label: String,
    /// How it was answered.
    pub said: Said,
    /// The aggregates in memory.
    pub stream: Map<String, Json>,
    /// The aggregates in Postgres; `None` where the statement failed.
    pub database: Option<Map<String, Json>>,
    /// The statement's duration in milliseconds.
    pub millis: Option<u64>,
}

impl News {
    /// Whether there is any.
    pub fn is_empty(&self) -> bool {
        self.tallies.is_empty() && self.heard.is_empty() && self.delays.is_empty()
    }

    /// The tally of the rule with this index.
    pub(super) fn of(&mut self, rule: usize) -> Option<&mut Tally> {
        if self.tallies.len() <= rule {
            self.tallies.resize(rule.saturating_add(1), Tally::default());
        }
        self.tallies.get_mut(rule)
    }

    /// A candidate became one.
    pub(super) fn raised(&mut self, index: usize) {
        self.of(index).map(|tally| tally.candidates += 1).unwrap_or_default();
    }

    /// Postgres was heard on a candidate.
    pub(super) fn heard(
        &mut self,
        index: usize,
        rule: &Rule,
        asked: &Asked,
        answer: Option<&Answer>,
        said: Said,
        at: Timestamp,
    ) {
        if let Some(tally) = self.of(index) {
            match said {
                Said::Confirmed => tally.confirmed += 1,
                Said::Refuted => tally.refuted += 1,
                Said::Undecided => tally.undecided += 1,
                Said::Failed => tally.failed += 1,
            }
        }
        if self.heard.len() >= HEARD_MAX {
            return;
        }
        self.heard.push(Heard {
            at,
            rule: rule.name.clone(),
            key: key_json(&rule.query, &asked.key),
            label: key_label(&rule.query, &asked.key),
            said,
            stream: asked.stream.clone(),
            database: answer.map(|answer| answer.outputs.clone()),
            millis: answer.map(|answer| answer.millis),
        });
    }

    /// A candidate was decided.
    pub(super) fn decided(&mut self, candidate: &Candidate, now: Timestamp) {
        let committed_at = candidate.trigger.as_ref().and_then(|trigger| trigger.committed_at);
        self.delays.extend(committed_at.map(|at| u64::try_from(now.0.saturating_sub(at.0)).unwrap_or(0)));
    }
}
