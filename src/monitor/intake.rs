//! The records that have come from the topic in an assignment, and the distance to the end. Pure.

use std::collections::BTreeSet;

use crate::change::record::{BadRecord, DeadLetter};
use crate::model::{NextOffset, Position};
use crate::progress::{LastRecords, Offsets};

/// The records read, except for their effect on the windows.
#[derive(Default)]
pub(super) struct Intake {
    /// The offsets before which everything has been read before.
    pub(super) known: Offsets,
    /// The last record taken from each partition.
    pub(super) last_records: LastRecords,
    /// The end of each partition at the start, for `--until-end`.
    pub(super) ends: Offsets,
    /// The end of each partition at the start, until all of it has been read. Until then, older changes of a row may
    /// still come from one of several partitions.
    pub(super) catch_up: Offsets,
    /// The end of each partition at the start, until it has been read, if a sweep is to check afterwards whether the
    /// topic has all of the table.
    pub(super) sweep_at: Option<Offsets>,
    /// The number of records that could not be read again while windows are rebuilt.
    pub(super) unread_again: u64,
    /// The partitions that have been read up to `ends`.
    pub(super) ended: BTreeSet<i32>,
    /// The offsets before which everything has come. The last of them may have no record.
    pub(super) delivered: Offsets,
    /// Whether the last batch was full, so that there is more to read.
    pub(super) backlog: bool,
    /// The invalid records to write to the dead-letter topic.
    pub(super) dead_letters: Vec<DeadLetter>,
    /// The bytes of these records.
    pub(super) dead_bytes: usize,
    /// The kinds of the invalid records since the run status was last updated.
    pub(super) rejects: Vec<&'static str>,
    /// The record before which the run stops, once the records before it are done.
    pub(super) stopped_by: Option<BadRecord>,
}

impl Intake {
    /// Whether the record at this position was read before.
    pub(super) fn is_replayed(&self, position: Position) -> bool {
        self.known.get(&position.partition).is_some_and(|end| position.offset < end.0)
    }

    /// Keeps an invalid record for the dead-letter topic.
    pub(super) fn dead_letter(&mut self, letter: DeadLetter) {
        self.dead_bytes = self.dead_bytes.saturating_add(letter.bytes());
        self.dead_letters.push(letter);
    }

    /// Takes the invalid records to write to the dead-letter topic now.
    pub(super) fn take_dead_letters(&mut self) -> Vec<DeadLetter> {
        self.dead_bytes = 0;
        std::mem::take(&mut self.dead_letters)
    }

    /// Notes the last records of a batch, the partitions whose end it has reached, and the offsets up to which
    /// everything has come.
    pub(super) fn advance(&mut self, last_records: LastRecords, ended: Vec<i32>, delivered: Option<Offsets>) {
        for (partition, last) in last_records {
            let held = self.last_records.entry(partition).or_insert(last);
            if last.offset > held.offset {
                *held = last;
            }
        }
        self.ended.extend(ended);
        self.delivered.extend(delivered.into_iter().flatten());
    }

    /// Whether reading has reached these offsets in every partition. The last offsets of a partition may have no
    /// record.
    pub(super) fn has_reached(&self, ends: &Offsets, next: &Offsets) -> bool {
        let reached = |(partition, end): (&i32, &NextOffset)| {
            is_past(next, *partition, *end)
                || self.ended.contains(partition)
                || is_past(&self.delivered, *partition, *end)
        };
        ends.iter().all(reached)
    }

    /// Whether everything before these offsets has been read.
    pub(super) fn has_read(&self, ends: &Offsets, next: &Offsets) -> bool {
        ends.iter()
            .all(|(partition, end)| is_past(next, *partition, *end) || is_past(&self.delivered, *partition, *end))
    }

    /// The number of unread records up to `ends`, by their offsets.
    pub(super) fn left(&self, next: &Offsets) -> u64 {
        let left = |(partition, end): (&i32, &NextOffset)| match next.get(partition) {
            Some(next) if !self.ended.contains(partition) => u64::try_from(end.0.saturating_sub(next.0)).unwrap_or(0),
            _ => 0,
        };
        self.ends.iter().map(left).sum()
    }
}

/// Whether these offsets are at or after this end of a partition.
fn is_past(of: &Offsets, partition: i32, end: NextOffset) -> bool {
    of.get(&partition).is_some_and(|next| *next >= end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_are_read_once_nothing_before_them_can_come() {
        let offsets = |next| Offsets::from([(0, NextOffset(next))]);
        let mut intake = Intake::default();
        assert!(intake.has_read(&offsets(5), &offsets(5)));
        assert!(!intake.has_read(&offsets(5), &offsets(4)), "a record may be on its way");
        intake.advance(LastRecords::new(), vec![0], None);
        assert!(!intake.has_read(&offsets(5), &offsets(4)), "an end that was reached may be an older one");
        intake.advance(LastRecords::new(), Vec::new(), Some(offsets(4)));
        assert!(!intake.has_read(&offsets(5), &offsets(4)), "the last offset may hold a record");
        intake.advance(LastRecords::new(), Vec::new(), Some(offsets(5)));
        assert!(intake.has_read(&offsets(5), &offsets(4)), "the last offset holds no record");
        let two = Offsets::from([(0, NextOffset(5)), (1, NextOffset(1))]);
        assert!(!intake.has_read(&two, &offsets(4)), "nothing is known of the other partition");
    }
}
