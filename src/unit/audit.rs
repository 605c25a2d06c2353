//! The audit: memory compared with the table, key by key, all the time. Pure.
//!
//! A cycle goes over every rule: open episodes and the keys nearest to their thresholds first, then all keys of memory in a
//! shuffled order, then all keys of the table in pages. A key whose answers differ is a suspect: the database may be ahead of
//! the stream. It is *drift* only when everything that the statement saw has been read, and no change has come for the key
//! meanwhile. What has drifted is read from the table.
//!
//! - this file: which key is asked about when
//! - [`steps`]: what is asked next, and what an answer means
//! - [`suspects`]: which difference is drift

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

/// Keys asked about in one statement.
pub const AUDIT_KEYS: usize = 200;

/// Keys near their thresholds that a cycle begins with.
pub(super) const NEAR_KEYS: usize = 64;

/// How often a sweep is tried.
const SWEEP_ATTEMPTS: u8 = 3;
/// How long after a failed sweep another one is tried.
const AGAIN_AFTER_MICROS: i64 = 1_000_000;

/// Millionths of the whole.
const WHOLE: u128 = 1_000_000;

/// Something that the audit wants from the database; one at a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AuditRequest {
    /// What the table has of these keys, to be compared.
    Compare(Question),
    /// The next keys of a rule in the table, after this one.
    Page(usize, Option<Key>),
    /// All rows of these keys, for memory to hold instead of its own.
    Heal(Question),
    /// Every key of a rule that HAVING holds for.
    Sweep(usize),
}

/// How the audit stands, for status pages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct AuditStatus {
    /// How long the last whole cycle took, in microseconds.
    pub cycle_micros: Option<i64>,
    /// Keys that were compared with the table.
    pub keys: u64,
    /// Keys whose rows differed from the table's, and were replaced by them.
    pub drifts: u64,
    /// Keys whose drift is known, and not healed yet.
    pub unhealed: usize,
    /// Microseconds that its statements took.
    pub statement_micros: u64,
}

/// Where a cycle is.
#[derive(Debug)]
pub(super) enum Stage {
    /// Open episodes, and keys near the threshold.
    First(VecDeque<Key>),
    /// Keys of memory: `1 << bits` places are visited in the order of a full-period generator.
    Memory { bits: u32, visited: u64, at: u64 },
    /// Keys of the table, in their order.
    Table(Option<Key>),
    /// Until the next cycle.
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
    /// The next step of the cycle is not taken before.
    pub(super) step_at: Timestamp,
    /// The budget is used up until then.
    spent_until: Timestamp,
    /// A statement is under way.
    asking: bool,
    pub(super) sweeps: BTreeSet<usize>,
    /// Sweeps that have failed in a row.
    sweep_failures: u8,
    /// The cycle in which a failure was last logged.
    warned_in: u64,
    pub(super) suspects: Suspects,
    /// What memory knew of the keys that are being asked about.
    pub(super) fingerprints: BTreeMap<Key, Fingerprint>,
    pub(super) status: AuditStatus,
}

impl Audit {
    /// `period`: of a cycle. `share`: of one connection's time, in millionths.
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

    /// Whether nothing may be asked now: a statement is under way, or the budget is used up.
    pub(super) fn is_held(&self, now: Timestamp) -> bool {
        self.asking || now < self.spent_until
    }

    /// When the next statement may begin; `None` while one is under way.
    pub(super) fn next_at(&self) -> Option<Timestamp> {
        let is_known = !self.suspects.heal.is_empty() || !self.suspects.again.is_empty() || !self.sweeps.is_empty();
        let step_at = if is_known { Timestamp::MIN } else { self.step_at };
        (!self.asking).then_some(self.spent_until.max(step_at))
    }

    /// A key's rows differed from the table's, and were replaced by them.
    pub(super) fn count_drift(&mut self) {
        self.status.drifts += 1;
    }

    /// A statement begins.
    pub(super) fn begin(&mut self) {
        self.asking = true;
    }

    /// A statement has ended, after so long.
    pub(super) fn ended(&mut self, took: Duration, now: Timestamp) {
        self.asking = false;
        let took = took.as_micros();
        self.status.statement_micros =
            self.status.statement_micros.saturating_add(u64::try_from(took).unwrap_or(u64::MAX));
        // So that `took` is `share` of the time from its beginning to the next one.
        let rest = took.saturating_mul(WHOLE.saturating_sub(self.share)) / self.share;
        self.spent_until = Timestamp(now.0.saturating_add(i64::try_from(rest).unwrap_or(i64::MAX)));
    }

    /// A sweep of a rule has failed. It is tried again a moment later, and given up after a few failures in a row: the cycles go
    /// over the same keys.
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

    /// A sweep has been answered.
    pub(super) fn swept(&mut self) {
        self.sweep_failures = 0;
    }

    /// Something could not be asked, and comes again in the next cycle. It is logged once per cycle; an outage has its own
    /// lines.
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

    /// A cycle begins, over so many keys of so many rules.
    pub(super) fn begin_cycle(&mut self, now: Timestamp) {
        if self.cycles > 0 {
            self.status.cycle_micros = Some(now.0.saturating_sub(self.began.0));
        }
        (self.began, self.rule) = (now, 0);
        self.cycles += 1;
    }

    /// When the cycle's next step is due, where memory has so many keys of so many rules: all steps fit in half of a
    /// period, so that what they find is healed in the other half.
    pub(super) fn pace(&mut self, keys: usize, rules: usize, now: Timestamp) {
        let batches = keys / AUDIT_KEYS * 2 + rules * 3 + 1;
        let step = self.period / i64::try_from(batches * 2).unwrap_or(i64::MAX).max(1);
        self.step_at = Timestamp(now.0.saturating_add(step));
    }

    /// The cycle is done: the next one begins when its period is over.
    pub(super) fn rest(&mut self) {
        self.stage = Some(Stage::Rest);
        self.step_at = Timestamp(self.began.0.saturating_add(self.period));
    }

    /// The seed of this cycle's order.
    pub(super) fn seed(&self) -> u64 {
        self.cycles.wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }
}

/// The place that follows `at` among `1 << bits`: each once before any comes again (Hull and Dobell: the increment is odd,
/// and the multiplier one more than a multiple of four).
pub(super) fn next_place(at: u64, bits: u32) -> u64 {
    let mask = (1_u64 << bits.min(63)) - 1;
    at.wrapping_mul(0xd134_2543_de82_ef95).wrapping_add(0x9e37_79b9_7f4a_7c15 | 1) & mask
}

/// How many bits number so many places.
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
