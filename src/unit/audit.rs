//! The audit, which compares memory with the table key by key, all the time. Pure.
//!
//! A cycle goes over every rule. It begins with open episodes and the keys nearest to their thresholds. All keys of
//! memory follow in a shuffled order, then all keys of the table in pages. A key whose answers differ is a suspect,
//! since the database may be ahead of the stream. The difference is *drift* only when everything that the statement saw
//! has been read and no change has come for the key meanwhile. The rows of a key with drift are read from the table.
//!
//! - this file: the order of the keys and the pace
//! - [`steps`]: the next request, and the effect of an answer
//! - [`suspects`]: the decision whether a difference is drift

mod steps;
mod suspects;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use serde::Serialize;

use super::Question;
use crate::failure::{CallError, HasKind, Server};
use crate::model::duration::micros;
use crate::model::{Key, Timestamp};
use crate::window::Fingerprint;
use suspects::Suspects;

/// The number of keys in one statement.
pub const AUDIT_KEYS: usize = 200;

/// The number of keys near their thresholds with which a cycle begins.
pub(super) const NEAR_KEYS: usize = 64;

/// How often a sweep is tried.
const SWEEP_ATTEMPTS: u8 = 3;
/// The wait after a failed sweep.
const AGAIN_AFTER_MICROS: i64 = 1_000_000;

/// Millionths of the whole.
const WHOLE: u128 = 1_000_000;

/// A request of the audit to the database. There is one at a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AuditRequest {
    /// Compare these keys with the table.
    Compare(Question),
    /// Read the next keys of a rule from the table, after this one.
    Page(usize, Option<Key>),
    /// Read all rows of these keys, which replace memory's.
    Heal(Question),
    /// Find every key of a rule for which HAVING holds.
    Sweep(usize),
}

/// The state of the audit, for status pages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct AuditStatus {
    /// The duration of the last complete cycle in microseconds.
    pub cycle_micros: Option<i64>,
    /// The number of keys that were compared with the table.
    pub keys: u64,
    /// The number of keys whose rows differed from the table's and were replaced.
    pub drifts: u64,
    /// The number of keys with known drift that are not healed yet.
    pub unhealed: usize,
    /// The time of the audit's statements in microseconds.
    pub statement_micros: u64,
}

/// The stage of a cycle for one rule.
#[derive(Debug)]
pub(super) enum Stage {
    /// Open episodes, and keys near the threshold.
    First(VecDeque<Key>),
    /// Keys of memory. The `1 << bits` places are visited in the order of a full-period generator.
    Memory { bits: u32, visited: u64, at: u64 },
    /// Keys of the table in their order.
    Table(Option<Key>),
    /// The wait for the next cycle.
    Rest,
}

/// The audit of a unit.
#[derive(Debug)]
pub struct Audit {
    period: i64,
    share: u128,
    pub(super) stage: Option<Stage>,
    pub(super) rule: usize,
    began: Timestamp,
    cycles: u64,
    /// The time before which the cycle makes no further step.
    pub(super) step_at: Timestamp,
    /// The time until which the budget is used up.
    spent_until: Timestamp,
    /// Whether a statement is under way.
    asking: bool,
    pub(super) sweeps: BTreeSet<usize>,
    /// The number of sweeps that have failed in a row.
    sweep_failures: u8,
    /// The cycle in which a failure was last logged.
    warned_in: u64,
    pub(super) suspects: Suspects,
    /// The fingerprints in memory of the keys that are being asked about.
    pub(super) fingerprints: BTreeMap<Key, Fingerprint>,
    pub(super) status: AuditStatus,
}

impl Audit {
    /// Creates the audit. `period` is the length of a cycle. `share` is the allowed part of one connection's time, in
    /// millionths.
    pub fn new(period: Duration, share: u32) -> Self {
        Self {
            period: micros(period),
            share: u128::from(share.max(1)),
            stage: None,
            rule: 0,
            began: Timestamp::MIN,
            cycles: 0,
            step_at: Timestamp::MIN,
            spent_until: Timestamp::MIN,
            asking: false,
            sweeps: BTreeSet::new(),
            sweep_failures: 0,
            warned_in: 0,
            suspects: Suspects::default(),
            fingerprints: BTreeMap::new(),
            status: AuditStatus::default(),
        }
    }

    /// Whether no request is allowed now, because a statement is under way or the budget is used up.
    pub(super) fn is_held(&self, now: Timestamp) -> bool {
        self.asking || now < self.spent_until
    }

    /// The time at which the next statement may begin. `None` while one is under way.
    pub(super) fn next_at(&self) -> Option<Timestamp> {
        let is_known = !self.suspects.heal.is_empty() || !self.suspects.again.is_empty() || !self.sweeps.is_empty();
        let step_at = if is_known { Timestamp::MIN } else { self.step_at };
        (!self.asking).then_some(self.spent_until.max(step_at))
    }

    /// Counts a key whose rows differed from the table's and were replaced.
    pub(super) fn count_drift(&mut self) {
        self.status.drifts += 1;
    }

    /// Notes that a statement begins.
    pub(super) fn begin(&mut self) {
        self.asking = true;
    }

    /// Notes that a statement has ended after this time.
    pub(super) fn ended(&mut self, took: Duration, now: Timestamp) {
        self.asking = false;
        let took = took.as_micros();
        self.status.statement_micros =
            self.status.statement_micros.saturating_add(u64::try_from(took).unwrap_or(u64::MAX));
        // The rest makes `took` the allowed `share` of the time from its beginning to the next statement.
        let rest = took.saturating_mul(WHOLE.saturating_sub(self.share)) / self.share;
        self.spent_until = Timestamp(now.0.saturating_add(i64::try_from(rest).unwrap_or(i64::MAX)));
    }

    /// Notes that a sweep of a rule has failed. It is retried a moment later. After a few failures in a row it is given
    /// up, since the cycles go over the same keys.
    pub(super) fn sweep_failed(&mut self, rule: usize, name: &str, error: &CallError, now: Timestamp) {
        self.sweep_failures += 1;
        if error.is_retried() && self.sweep_failures < SWEEP_ATTEMPTS {
            self.sweeps.insert(rule);
            self.spent_until = self.spent_until.max(Timestamp(now.0.saturating_add(AGAIN_AFTER_MICROS)));
            return;
        }
        self.sweep_failures = 0;
        tracing::warn!(
            rule = name,
            %error,
            "the sweep failed: keys that only the table has are found later by the audit; a run with --until-end ends without them"
        );
    }

    /// Notes that a sweep was answered.
    pub(super) fn swept(&mut self) {
        self.sweep_failures = 0;
    }

    /// Logs a request that failed and is repeated in the next cycle, once per cycle. An outage has its own log lines.
    pub(super) fn unread(&mut self, rule: &str, what: &str, error: &CallError) {
        if error.server() == Some(Server::Postgres) || self.warned_in == self.cycles {
            tracing::debug!(rule, %error, "{what} could not be compared");
            return;
        }
        self.warned_in = self.cycles;
        tracing::warn!(rule, %error, "{what} could not be compared; the audit leaves out such keys until its statements work");
    }

    /// Whether a sweep is wanted or under way.
    pub(super) fn is_sweeping(&self) -> bool {
        !self.sweeps.is_empty() || self.asking
    }

    /// Begins a cycle.
    pub(super) fn begin_cycle(&mut self, now: Timestamp) {
        if self.cycles > 0 {
            self.status.cycle_micros = Some(now.0.saturating_sub(self.began.0));
        }
        (self.began, self.rule) = (now, 0);
        self.cycles += 1;
    }

    /// Sets the time of the cycle's next step, for this number of keys and rules in memory. All steps fit into half of
    /// a period, so that the other half is left for healing.
    pub(super) fn pace(&mut self, keys: usize, rules: usize, now: Timestamp) {
        let batches = keys / AUDIT_KEYS * 2 + rules * 3 + 1;
        let step = self.period / i64::try_from(batches * 2).unwrap_or(i64::MAX).max(1);
        self.step_at = Timestamp(now.0.saturating_add(step));
    }

    /// Ends the cycle. The next one begins when the period is over.
    pub(super) fn rest(&mut self) {
        self.stage = Some(Stage::Rest);
        self.step_at = Timestamp(self.began.0.saturating_add(self.period));
    }

    /// The seed of this cycle's order.
    pub(super) fn seed(&self) -> u64 {
        self.cycles.wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }
}

/// Returns the place that follows `at` among `1 << bits`. Each place comes once before any comes again (Hull and
/// Dobell: the increment is odd, and the multiplier is one more than a multiple of four).
pub(super) fn next_place(at: u64, bits: u32) -> u64 {
    let mask = (1_u64 << bits.min(63)) - 1;
    at.wrapping_mul(0xd134_2543_de82_ef95).wrapping_add(0x9e37_79b9_7f4a_7c15 | 1) & mask
}

/// Returns the number of bits for this number of places.
pub(super) fn bits(places: u32) -> u32 {
    u32::BITS - places.saturating_sub(1).leading_zeros()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_place_comes_once() {
        for places in [1_u32, 2, 3, 64, 65, 1_000] {
            let bits = bits(places);
            let mut seen = BTreeSet::new();
            let mut at = 7 & ((1 << bits) - 1);
            for _ in 0..1_u64 << bits {
                seen.insert(at);
                at = next_place(at, bits);
            }
            assert_eq!(seen.len(), 1 << bits, "{places} places");
            assert!(seen.len() >= usize::try_from(places).unwrap());
        }
    }

    #[test]
    fn a_sweep_that_cannot_be_made_is_given_up() {
        use crate::failure::Kind;
        let mut audit = Audit::new(Duration::from_secs(600), 1_000_000);
        let error = CallError::new("Postgres", "canceling statement due to statement timeout", Kind::Unreachable);
        for attempt in 1..=SWEEP_ATTEMPTS {
            audit.sweep_failed(0, "rule", &error, Timestamp(0));
            assert_eq!(audit.is_sweeping(), attempt < SWEEP_ATTEMPTS, "{attempt}");
            audit.sweeps.clear();
        }
        audit.sweep_failed(0, "rule", &CallError::new("Postgres", "no such column", Kind::Misconfigured), Timestamp(0));
        assert!(!audit.is_sweeping(), "what another attempt does not change is not tried again");
    }

    #[test]
    fn a_statement_is_followed_by_a_rest_that_keeps_the_share() {
        let mut audit = Audit::new(Duration::from_secs(600), 10_000);
        audit.begin();
        assert!(audit.is_held(Timestamp(0)));
        audit.ended(Duration::from_millis(3), Timestamp(1_000_000));
        assert!(audit.is_held(Timestamp(1_000_000 + 296_999)));
        assert!(!audit.is_held(Timestamp(1_000_000 + 297_000)), "3 ms of 300 ms");
    }
}
