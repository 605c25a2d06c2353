//! What has happened lately, numbered, so that a reader can go on from where it was.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::alert::Alert;
use crate::unit::news::Heard;

/// Alerts that are kept, and candidates.
pub const KEPT_MAX: usize = 1_000;

/// One thing that happened.
#[derive(Debug)]
pub struct Entry {
    /// Its number: greater than those before, and never 0.
    pub seq: u64,
    /// What it was.
    pub what: What,
}

/// What happened.
#[derive(Debug)]
pub enum What {
    /// Postgres was heard on a candidate.
    Candidate(Heard),
    /// An alert is durable, and told.
    Alert(Alert),
}

/// The last of each kind.
#[derive(Debug, Default)]
pub(super) struct Recent {
    newest: u64,
    alerts: VecDeque<Arc<Entry>>,
    candidates: VecDeque<Arc<Entry>>,
}

impl Recent {
    pub(super) fn push(&mut self, what: What) {
        self.newest += 1;
        let kept = match &what {
            What::Candidate(_) => &mut self.candidates,
            What::Alert(_) => &mut self.alerts,
        };
        if kept.len() >= KEPT_MAX {
            kept.pop_front();
        }
        kept.push_back(Arc::new(Entry { seq: self.newest, what }));
    }

    pub(super) fn newest(&self) -> u64 {
        self.newest
    }

    /// Everything that is kept and came after, in order.
    pub(super) fn since(&self, seq: u64) -> Vec<Arc<Entry>> {
        let later = |kept: &VecDeque<Arc<Entry>>| {
            kept.range(kept.partition_point(|entry| entry.seq <= seq)..).cloned().collect::<Vec<_>>()
        };
        let mut found = later(&self.alerts);
        found.extend(later(&self.candidates));
        found.sort_by_key(|entry| entry.seq);
        found
    }

    /// The alerts, the newest first.
    pub(super) fn alerts(&self) -> Vec<Arc<Entry>> {
        self.alerts.iter().rev().cloned().collect()
    }
}
