//! How far everything of a partition has been handed to the loop. Pure.
//!
//! The last offsets of a partition may hold no record: a transaction's marker, or what was aborted. The client says in its
//! statistics what it has fetched. That is delivered once its queue has been found empty after that.

use crate::progress::Offsets;

/// Statistics that may have been made before a pause ended, or before reading began somewhere else.
const STATISTICS_IN_DOUBT: u64 = 2;

/// The client's statistics.
#[derive(Clone, Debug, Default)]
pub(super) struct Fetched {
    /// How often they have come.
    pub(super) count: u64,
    /// By partition, what is before this has been fetched.
    pub(super) offsets: Offsets,
}

/// What has been delivered.
#[derive(Debug, Default)]
pub(super) struct Delivered {
    /// Statistics count from here on.
    from: u64,
    /// The statistics that the last poll began with, which found nothing.
    empty: Option<Offsets>,
    /// What was returned last.
    known: Offsets,
}

impl Delivered {
    /// Nothing was polled for a while, or partitions are read from elsewhere: what was fetched is fetched again.
    pub(super) fn interrupted(&mut self, count: u64) {
        *self = Self { from: count + STATISTICS_IN_DOUBT, empty: None, known: Offsets::new() };
    }

    /// A poll that began with these statistics has ended. Returns what is known to be delivered now, if that is news. Two
    /// polls have to be empty: the client counts a record as fetched a moment before it is in the queue.
    pub(super) fn polled(&mut self, fetched: Fetched, is_empty: bool) -> Option<Offsets> {
        if !is_empty || fetched.count < self.from {
            self.empty = None;
            return None;
        }
        let delivered = self.empty.replace(fetched.offsets).filter(|delivered| *delivered != self.known)?;
        self.known.clone_from(&delivered);
        Some(delivered)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::NextOffset;

    fn fetched(count: u64, next: i64) -> Fetched {
        Fetched { count, offsets: Offsets::from([(0, NextOffset(next))]) }
    }

    #[test]
    fn what_was_fetched_before_two_empty_polls_is_delivered() {
        let mut delivered = Delivered::default();
        assert_eq!(delivered.polled(fetched(1, 5), true), None, "it may not be in the queue yet");
        assert_eq!(delivered.polled(fetched(1, 9), true), Some(fetched(1, 5).offsets));
        assert_eq!(delivered.polled(fetched(1, 9), false), None);
        assert_eq!(delivered.polled(fetched(1, 9), true), None, "the queue was not empty");
        assert_eq!(delivered.polled(fetched(1, 9), true), Some(fetched(1, 9).offsets));
        assert_eq!(delivered.polled(fetched(1, 9), true), None, "that is known");
    }

    #[test]
    fn after_a_pause_statistics_are_of_before_for_a_while() {
        let mut delivered = Delivered::default();
        delivered.interrupted(7);
        for count in [7, 7, 8, 8] {
            assert_eq!(delivered.polled(fetched(count, 50), true), None);
        }
        assert_eq!(delivered.polled(fetched(9, 20), true), None);
        assert_eq!(delivered.polled(fetched(9, 20), true), Some(fetched(9, 20).offsets));
    }
}
