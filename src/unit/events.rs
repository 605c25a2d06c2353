//! Events in a unit since they were last taken, for counters and status pages. Pure.

use serde::Serialize;
use serde_json::{Map, Value as Json};

use super::{Answer, Asked};
use crate::alert::{key_json, key_label};
use crate::episode::{Candidate, Status};
use crate::model::Timestamp;
use crate::rule::Rule;

/// The greatest number of reported answers between two calls. Further ones are only counted.
const REPORTS_MAX: usize = 256;

/// The events since they were last taken.
#[derive(Debug, Default)]
pub struct UnitEvents {
    /// The counts by rule, in the unit's order. Rules without events may be missing at the end.
    pub rules: Vec<RuleCounts>,
    /// Postgres's answers to candidates, in order.
    pub reports: Vec<ConfirmationReport>,
    /// The time in microseconds from a change's commit to the decision that it caused, for each decision.
    pub delays: Vec<u64>,
    /// The number of episodes that fired.
    pub fired: u64,
    /// The number of episodes that were resolved.
    pub resolved: u64,
    /// The number of keys whose rows differed from the table's and were replaced.
    pub drifts: u64,
}

/// The counts of one rule.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct RuleCounts {
    /// The number of keys that became candidates.
    pub candidates: u64,
    /// The number of answers that confirmed.
    pub confirmed: u64,
    /// The number of answers that refuted.
    pub refuted: u64,
    /// The number of answers that were undecided.
    pub undecided: u64,
    /// The number of keys whose statement failed.
    pub failed: u64,
}

/// The outcome of a confirmation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ConfirmationOutcome {
    /// Postgres agrees with memory.
    Confirmed,
    /// Postgres disagrees with memory.
    Refuted,
    /// Postgres does not show yet what memory has applied.
    Undecided,
    /// The statement failed.
    Failed,
}

/// A candidate with Postgres's answer.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ConfirmationReport {
    /// The time of the answer.
    pub at: Timestamp,
    /// The name of the rule.
    pub rule: String,
    /// The key's columns.
    pub key: Json,
    /// The key as text.
    pub label: String,
    /// The outcome.
    pub outcome: ConfirmationOutcome,
    /// The aggregates in memory.
    pub stream: Map<String, Json>,
    /// The aggregates in Postgres. `None` where the statement failed.
    pub database: Option<Map<String, Json>>,
    /// The statement's duration in milliseconds.
    pub millis: Option<u64>,
}

impl UnitEvents {
    fn rule(&mut self, index: usize) -> Option<&mut RuleCounts> {
        if self.rules.len() <= index {
            self.rules.resize(index.saturating_add(1), RuleCounts::default());
        }
        self.rules.get_mut(index)
    }

    /// Counts a key that became a candidate.
    pub(super) fn raised(&mut self, index: usize) {
        if let Some(counts) = self.rule(index) {
            counts.candidates += 1;
        }
    }

    /// Counts and reports Postgres's answer to a candidate.
    pub(super) fn answered(
        &mut self,
        index: usize,
        rule: &Rule,
        asked: &Asked,
        answer: Option<&Answer>,
        outcome: ConfirmationOutcome,
        at: Timestamp,
    ) {
        if let Some(counts) = self.rule(index) {
            match outcome {
                ConfirmationOutcome::Confirmed => counts.confirmed += 1,
                ConfirmationOutcome::Refuted => counts.refuted += 1,
                ConfirmationOutcome::Undecided => counts.undecided += 1,
                ConfirmationOutcome::Failed => counts.failed += 1,
            }
        }
        if self.reports.len() >= REPORTS_MAX {
            return;
        }
        self.reports.push(ConfirmationReport {
            at,
            rule: rule.name.clone(),
            key: key_json(&rule.query, &asked.key),
            label: key_label(&rule.query, &asked.key),
            outcome,
            stream: asked.stream.clone(),
            database: answer.map(|answer| answer.outputs.clone()),
            millis: answer.map(|answer| answer.millis),
        });
    }

    /// Counts the decision of a candidate.
    pub(super) fn decided(&mut self, status: Status, candidate: &Candidate, now: Timestamp) {
        match status {
            Status::Firing => self.fired += 1,
            Status::Resolved => self.resolved += 1,
        }
        let committed_at = candidate.trigger.as_ref().and_then(|trigger| trigger.committed_at);
        self.delays.extend(committed_at.map(|at| u64::try_from(now.0.saturating_sub(at.0)).unwrap_or(0)));
    }
}
