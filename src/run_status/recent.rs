//! Recent events with numbers, so that a reader can continue where it was.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::alert::Alert;
use crate::unit::events::ConfirmationReport;

/// The greatest number of alerts that are kept, and of candidates.
pub const KEPT_MAX: usize = 1_000;

/// An event.
#[derive(Debug)]
pub struct RecentEvent {
    /// The event's number. It is greater than all earlier ones, and never 0.
    pub seq: u64,
    /// The event itself.
    pub what: EventKind,
}

/// The kind of event.
#[derive(Debug)]
pub enum EventKind {
    /// Postgres answered a candidate.
    Candidate(Box<ConfirmationReport>),
    /// An alert is durable and was delivered.
    Alert(Alert),
}

/// The last events of each kind.
#[derive(Debug, Default)]
pub(super) struct Recent {
    newest: u64,
    /// The number of the newest event that is no longer kept.
    dropped: u64,
    alerts: VecDeque<Arc<RecentEvent>>,
    candidates: VecDeque<Arc<RecentEvent>>,
}

impl Recent {
    pub(super) fn push(&mut self, what: EventKind) {
        self.newest += 1;
        let kept = match &what {
            EventKind::Candidate(_) => &mut self.candidates,
            EventKind::Alert(_) => &mut self.alerts,
        };
        if kept.len() >= KEPT_MAX {
            let dropped = kept.pop_front().map_or(0, |event| event.seq);
            self.dropped = self.dropped.max(dropped);
        }
        kept.push_back(Arc::new(RecentEvent { seq: self.newest, what }));
    }

    pub(super) fn newest(&self) -> u64 {
        self.newest
    }

    /// Whether all later events are kept.
    pub(super) fn has_all_since(&self, seq: u64) -> bool {
        seq >= self.dropped
    }

    /// The later events that are kept, in order.
    pub(super) fn since(&self, seq: u64) -> Vec<Arc<RecentEvent>> {
        let later = |kept: &VecDeque<Arc<RecentEvent>>| {
            kept.range(kept.partition_point(|event| event.seq <= seq)..).cloned().collect::<Vec<_>>()
        };
        let mut found = later(&self.alerts);
        found.extend(later(&self.candidates));
        found.sort_by_key(|event| event.seq);
        found
    }

    /// The alerts, newest first.
    pub(super) fn alerts(&self) -> Vec<Arc<RecentEvent>> {
        self.alerts.iter().rev().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::episode::{EpisodeId, Status};
    use crate::model::{Key, Timestamp};

    fn alert() -> EventKind {
        let text = String::new;
        EventKind::Alert(Alert {
            id: uuid::Uuid::nil(),
            rule: text(),
            key: Key::Int(1),
            status: Status::Firing,
            episode: EpisodeId::default(),
            record_key: text(),
            line: text(),
            emitted_at: Timestamp(0),
            body: text(),
        })
    }

    #[test]
    fn a_reader_that_was_away_for_too_long_can_see_it() {
        let mut recent = Recent::default();
        assert!(recent.has_all_since(0));
        for _ in 0..KEPT_MAX {
            recent.push(alert());
        }
        assert!(recent.has_all_since(0));
        assert_eq!(recent.since(0).len(), KEPT_MAX);
        recent.push(alert());
        assert!(!recent.has_all_since(0) && recent.has_all_since(1));
        assert_eq!(recent.since(1).len(), KEPT_MAX);
    }
}
