//! What has come from the topic in an assignment, and how far it is from the end. Pure.

use std::collections::BTreeSet;

use crate::change::record::{BadRecord, DeadLetter};
use crate::model::{NextOffset, Position, Timestamp};
use crate::progress::{LastRecords, Offsets};

/// Within this time a record that is in the topic has come: twice as long as a fetch waits.
const FETCHED_WITHIN_MICROS: i64 = 1_000_000;

/// Records read, beside what they did to the windows.
#[derive(Default)]
pub(super) struct Intake {
    /// What is before these offsets has been read before.
    pub(super) known: Offsets,
    /// The last record taken from each partition.
    pub(super) last_records: LastRecords,
    /// The end of each partition at the start, for `--until-end`.
    pub(super) ends: Offsets,
    /// The end of each partition at the start, while not all of it has been read: older changes of a row may still come
    /// from one of several partitions.
    pub(super) catch_up: Offsets,
    /// The end of each partition at the start, until it has been read, where a sweep is to show whether the topic has brought
    /// all of the table.
    pub(super) sweep_at: Option<Offsets>,
    /// Records that could not be read again while windows are rebuilt.
    pub(super) unread_again: u64,
    /// Partitions of which everything up to `ends` has been read.
    pub(super) ended: BTreeSet<i32>,
    /// Partitions whose end was reached, and from which nothing has come since.
    pub(super) at_end: BTreeSet<i32>,
    /// The partitions' ends in the broker's last answers, where the source knows them.
    pub(super) fetched: Option<Offsets>,
    /// The last batch was full: there is more to read right now.
    pub(super) backlog: bool,
    /// Invalid records that are to be written to the dead-letter topic.
    pub(super) dead_letters: Vec<DeadLetter>,
    /// The kinds of the invalid records since the run status was last updated.
    pub(super) rejects: Vec<&'static str>,
    /// The record that the run stops before, once what came before it is done with.
    pub(super) stopped_by: Option<BadRecord>,
}

impl Intake {
    /// Whether the record at this position was read before.
    pub(super) fn is_replayed(&self, position: Position) -> bool {
        self.known.get(&position.partition).is_some_and(|end| position.offset < end.0)
    }

    /// Takes note of the last records of a batch, and of the partitions whose end it has reached.
    pub(super) fn advance(&mut self, last_records: LastRecords, ended: impl IntoIterator<Item = i32>) {
        for (partition, last) in last_records {
            self.at_end.remove(&partition);
            let held = self.last_records.entry(partition).or_insert(last);
            if last.offset > held.offset {
                *held = last;
            }
        }
        for partition in ended {
            self.ended.insert(partition);
            self.at_end.insert(partition);
        }
    }

    /// Whether reading has come to these offsets in every partition. The last offsets of a partition may hold no record.
    pub(super) fn has_reached(&self, ends: &Offsets, next: &Offsets) -> bool {
        let reached = |(partition, end): (&i32, &NextOffset)| {
            next.get(partition).is_some_and(|next| next >= end) || self.ended.contains(partition)
        };
        ends.iter().all(reached)
    }

    /// Whether everything before these offsets has been read, where they were the topic's ends at an earlier instant. The last
    /// offsets of a partition may hold no record: nothing has come from it then for as long as a record may take.
    pub(super) fn has_read(&self, ends: &Offsets, at: Timestamp, next: &Offsets, now: Timestamp) -> bool {
        let is_settled = now.0.saturating_sub(at.0) >= FETCHED_WITHIN_MICROS;
        // A fetch that hangs brings no records, and no news of any.
        let is_fetched = |partition: &i32, end: &NextOffset| {
            self.fetched.as_ref().is_none_or(|fetched| fetched.get(partition).is_some_and(|fetched| fetched >= end))
        };
        let read = |(partition, end): (&i32, &NextOffset)| {
            next.get(partition).is_some_and(|next| next >= end)
                || (is_settled && self.at_end.contains(partition) && is_fetched(partition, end))
        };
        ends.iter().all(read)
    }

    /// How many records are still to be read up to `ends`, by their offsets.
    pub(super) fn left(&self, next: &Offsets) -> u64 {
        let left = |(partition, end): (&i32, &NextOffset)| match next.get(partition) {
            Some(next) if !self.ended.contains(partition) => u64::try_from(end.0.saturating_sub(next.0)).unwrap_or(0),
            _ => 0,
        };
        self.ends.iter().map(left).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::LastRecord;

    fn offsets(next: i64) -> Offsets {
        Offsets::from([(0, NextOffset(next))])
    }

    #[test]
    fn ends_are_read_when_nothing_can_come_any_more() {
        let mut intake = Intake::default();
        let (at, later) = (Timestamp(0), Timestamp(FETCHED_WITHIN_MICROS));
        assert!(intake.has_read(&offsets(5), at, &offsets(5), at));
        assert!(!intake.has_read(&offsets(5), at, &offsets(4), later), "a record is missing");
        intake.advance(LastRecords::new(), [0]);
        assert!(!intake.has_read(&offsets(5), at, &offsets(4), at), "it may be on its way");
        assert!(intake.has_read(&offsets(5), at, &offsets(4), later), "the last offset holds no record");
        intake.fetched = Some(offsets(4));
        assert!(
            !intake.has_read(&offsets(5), at, &offsets(4), later),
            "the broker has not answered since it was written"
        );
        intake.fetched = Some(offsets(5));
        assert!(intake.has_read(&offsets(5), at, &offsets(4), later), "it has answered, and nothing came");
        let last = LastRecord { offset: 3, timestamp_ms: 0 };
        intake.advance(LastRecords::from([(0, last)]), []);
        assert!(!intake.has_read(&offsets(5), at, &offsets(4), later), "something has come since the end");
    }
}
