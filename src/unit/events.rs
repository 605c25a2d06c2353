//! What has happened in a unit since it was last taken from there, for counters and status pages. Pure.

use serde::Serialize;
use serde_json::{Map, Value as Json};

use super::{Answer, Asked};
use crate::alert::{key_json, key_label};
use crate::episode::{Candidate, Status};
use crate::model::Timestamp;
use crate::rule::Rule;

/// Answers that are reported one by one between two takings; the rest is only counted.
const REPORTS_MAX: usize = 256;

/// What has happened since the events were last taken.
#[derive(Debug, Default)]
pub struct UnitEvents {
    /// By rule, in the unit's order; rules at the end that have no event may be missing.
    pub rules: Vec<RuleCounts>,
    /// Postgres's answers to candidates, in order.
    pub reports: Vec<ConfirmationReport>,
    /// Microseconds from a change's commit to the decision that it brought, per decision.
    pub delays: Vec<u64>,
    /// Episodes that fired.
    pub fired: u64,
    /// Episodes that were resolved.
    pub resolved: u64,
    /// Keys whose rows differed from the table's, and were replaced by them.
    pub drifts: u64,
}

/// What was counted of one rule.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct RuleCounts {
    /// Keys that became candidates.
    pub candidates: u64,
    /// Answers that confirmed.
    pub confirmed: u64,
    /// Answers that did not.
    pub refuted: u64,
    /// Answers that left it open.
    pub undecided: u64,
    /// Keys whose statement failed.
    pub failed: u64,
}

/// How Postgres answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ConfirmationOutcome {
    /// It agrees with memory.
    Confirmed,
    /// It does not.
    Refuted,
    /// It does not show yet what memory has applied.
    Undecided,
    /// The statement failed.
    Failed,
}

/// A candidate with Postgres's answer.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ConfirmationReport {
    /// When the answer came.
    pub at: Timestamp,
    /// Name of the rule.
    pub rule: String,
    /// The key's columns.
    pub key: Json,
    /// The key as text.
    pub label: String,
    /// How it was answered.
    pub outcome: ConfirmationOutcome,
    /// The aggregates in memory.
    pub stream: Map<String, Json>,
    /// The aggregates in Postgres; `None` where the statement failed.
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

    /// A key became a candidate.
    pub(super) fn raised(&mut self, index: usize) {
        if let Some(counts) = self.rule(index) {
            counts.candidates += 1;
        }
    }

    /// Postgres answered a candidate.
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

    /// A candidate was decided.
    pub(super) fn decided(&mut self, status: Status, candidate: &Candidate, now: Timestamp) {
        match status {
            Status::Firing => self.fired += 1,
            Status::Resolved => self.resolved += 1,
        }
        let committed_at = candidate.trigger.as_ref().and_then(|trigger| trigger.committed_at);
        self.delays.extend(committed_at.map(|at| u64::try_from(now.0.saturating_sub(at.0)).unwrap_or(0)));
    }
}
