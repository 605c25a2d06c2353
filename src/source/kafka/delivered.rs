//! The offsets up to which everything of a partition has been delivered to the loop. Pure.
//!
//! The last offsets of a partition may have no record, but a transaction's marker or aborted records. The client's
//! statistics say which offsets it has fetched. These are delivered once its queue was empty afterwards.

use crate::progress::Offsets;

/// The number of statistics that may be from before a pause ended, or from before reading began elsewhere.
const STATISTICS_IN_DOUBT: u64 = 2;

/// The client's statistics.
#[derive(Clone, Debug, Default)]
pub(super) struct Fetched {
    /// The number of statistics so far.
    pub(super) count: u64,
    /// By partition, the offset before which everything has been fetched.
    pub(super) offsets: Offsets,
}

/// The delivered offsets.
#[derive(Debug, Default)]
pub(super) struct Delivered {
    /// The number from which statistics count.
    from: u64,
    /// The statistics at the start of the last poll, if that poll was empty.
    empty: Option<Offsets>,
    /// The last returned offsets.
    known: Offsets,
}

impl Delivered {
    /// Notes an interruption: a pause of polling, or a change of the read offsets. Records are then fetched again.
    pub(super) fn interrupted(&mut self, count: u64) {
        *self = Self { from: count + STATISTICS_IN_DOUBT, empty: None, known: Offsets::new() };
    }

    /// Takes the end of a poll that began with these statistics. Returns the newly delivered offsets. Two polls have to
    /// be empty, because the client counts a record as fetched a moment before it is in the queue.
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
