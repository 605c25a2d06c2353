//! What the two layers of progress say of each other, and what the next start makes of it. Pure.

use std::collections::BTreeMap;

use crate::checkpoint::Offsets;
use crate::checkpoint::start::Named;
use crate::model::{NextOffset, Timestamp};

/// A partition as the broker knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Partition {
    /// Its number.
    pub(super) partition: i32,
    /// The oldest offset that can still be read.
    pub(super) oldest: NextOffset,
    /// The offset that the next record will get.
    pub(super) end: NextOffset,
    /// What the group committed, with its metadata text.
    pub(super) group: Option<(NextOffset, String)>,
}

/// A consumer group as its coordinator describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Group {
    /// `Stable`, `Empty` and so on; `None` when there is no such group.
    pub(super) state: Option<String>,
    /// Its active members.
    pub(super) members: Vec<Member>,
}

/// A member of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Member {
    /// The id that the coordinator gave it.
    pub(super) id: String,
    /// `client.id`
    pub(super) client: String,
    /// Its address.
    pub(super) host: String,
}

/// The newest epoch of the checkpoint folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Checkpoint {
    /// Id of the lineage.
    pub(super) lineage: String,
    /// Its number.
    pub(super) epoch: u64,
    /// Next offsets after it.
    pub(super) offsets: Offsets,
    /// When it was closed.
    pub(super) at: Timestamp,
    /// Checksum of its file.
    pub(super) crc: u32,
}

/// The metadata text of the group's offsets; empty where the partitions do not agree, `None` without any offset.
pub(super) fn metadata(partitions: &[Partition]) -> Option<&str> {
    let mut texts = partitions.iter().filter_map(|partition| partition.group.as_ref().map(|(_, text)| text.as_str()));
    let first = texts.next()?;
    Some(if texts.all(|text| text == first) { first } else { "" })
}

/// How the two layers stand to each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Agreement {
    /// There is neither.
    Nothing,
    /// The group stands at the checkpoint's newest epoch.
    Agree,
    /// The checkpoint has this many epochs that the group does not have yet.
    CheckpointAhead(u64),
    /// The group stands at this epoch of the checkpoint's lineage, which the checkpoint does not have.
    GroupAhead(u64),
    /// The group stands at this lineage and epoch, the checkpoint is of another lineage.
    OtherLineage(String, u64),
    /// The group stands at this lineage and epoch, and there is no checkpoint.
    CheckpointMissing(String, u64),
    /// The group's offsets were set by hand.
    Moved,
    /// The checkpoint is there, and the group has no offsets.
    GroupMissing,
}

impl Agreement {
    /// Holds the layers against each other.
    pub(super) fn of(checkpoint: Option<&Checkpoint>, partitions: &[Partition]) -> Self {
        let Some(text) = metadata(partitions) else {
            return if checkpoint.is_some() { Self::GroupMissing } else { Self::Nothing };
        };
        let Some(Named { lineage, epoch, crc }) = Named::parse(text) else { return Self::Moved };
        let Some(checkpoint) = checkpoint else {
            return Self::CheckpointMissing(lineage, epoch);
        };
        if lineage != checkpoint.lineage {
            return Self::OtherLineage(lineage, epoch);
        }
        match checkpoint.epoch.checked_sub(epoch) {
            None => Self::GroupAhead(epoch),
            // An epoch of this number and another content: this folder was a zombie's.
            Some(0) if crc != checkpoint.crc => Self::GroupAhead(epoch),
            // Our text with other numbers: no commit of ours.
            Some(0) if group_offsets(partitions) != checkpoint.offsets => Self::Moved,
            Some(0) => Self::Agree,
            Some(epochs) => Self::CheckpointAhead(epochs),
        }
    }

    /// Its name in JSON.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Nothing => "nothing-yet",
            Self::Agree => "agree",
            Self::CheckpointAhead(_) => "checkpoint-ahead",
            Self::GroupAhead(_) => "group-ahead",
            Self::OtherLineage(..) => "other-lineage",
            Self::CheckpointMissing(..) => "checkpoint-missing",
            Self::Moved => "moved-by-hand",
            Self::GroupMissing => "group-missing",
        }
    }

    /// What the next start does, in JSON.
    pub(super) fn next_start(&self) -> &'static str {
        match self {
            Self::Agree | Self::CheckpointAhead(_) => "resume",
            Self::GroupAhead(_) | Self::OtherLineage(..) | Self::CheckpointMissing(..) => "rebuild",
            Self::Nothing | Self::Moved | Self::GroupMissing => "new-lineage",
        }
    }

    /// Whether the layers agree, and what the next start does; `reset` is the value of `kafka.auto_offset_reset`.
    pub(super) fn sentence(&self, reset: &str) -> String {
        match self {
            Self::Nothing => format!(
                "there is neither a checkpoint nor an offset of the group: the next start begins a new lineage from auto_offset_reset = {reset}"
            ),
            Self::Agree => "the layers agree: the next start resumes here".to_owned(),
            Self::CheckpointAhead(epochs) => format!(
                "the checkpoint is ahead of the group by {epochs} {}, as in the middle of a commit or after a crash there: the next start delivers what is missing and resumes from the checkpoint",
                if *epochs == 1 { "epoch" } else { "epochs" }
            ),
            Self::GroupAhead(epoch) => format!(
                "the group is ahead of the checkpoint, at epoch {epoch}: an older copy of the folder, or another instance went on; the next start rebuilds from the group's offsets in the same lineage"
            ),
            Self::OtherLineage(lineage, epoch) => format!(
                "the group is at epoch {epoch} of another lineage, {lineage}: another instance went on; the next start moves the checkpoint aside and rebuilds that lineage from the group's offsets"
            ),
            Self::CheckpointMissing(lineage, epoch) => format!(
                "there is no checkpoint; the group is at epoch {epoch} of lineage {lineage}: the next start rebuilds that lineage from the group's offsets"
            ),
            Self::Moved => {
                "the group's offsets were set by hand: the next start begins a new lineage from them".to_owned()
            }
            Self::GroupMissing => format!(
                "the group has no offsets, though there is a checkpoint: with kafka.when_group_is_missing = resume, or if they have expired, the next start goes on from where it was; else it moves the checkpoint aside and begins a new lineage from auto_offset_reset = {reset}"
            ),
        }
    }

    /// Where the next start goes on in each partition. One that has no offset in the layer to go on from is read from
    /// its beginning.
    pub(super) fn next(&self, checkpoint: Option<&Checkpoint>, partitions: &[Partition], latest: bool) -> Offsets {
        let next = |partition: &Partition| {
            let stored = match self {
                Self::Agree | Self::CheckpointAhead(_) => {
                    checkpoint.and_then(|checkpoint| checkpoint.offsets.get(&partition.partition).copied())
                }
                Self::Nothing | Self::GroupMissing => latest.then_some(partition.end),
                _ => partition.group.as_ref().map(|(next, _)| *next),
            };
            (partition.partition, stored.unwrap_or(partition.oldest))
        };
        partitions.iter().map(next).collect()
    }
}

fn group_offsets(partitions: &[Partition]) -> Offsets {
    let next = |partition: &Partition| partition.group.as_ref().map(|(next, _)| (partition.partition, *next));
    partitions.iter().filter_map(next).collect()
}

/// Where the next start cannot go on: what retention has removed, or what the topic does not hold yet.
pub(super) fn unreadable(next: &Offsets, partitions: &[Partition]) -> Vec<String> {
    let problem = |partition: &Partition| {
        let Partition { partition, oldest, end, .. } = partition;
        let next = next.get(partition)?;
        if next < oldest {
            let lost = oldest.0.saturating_sub(next.0);
            Some(format!(
                "partition {partition} goes on at {}, and the topic begins at {}: {lost} offsets are gone",
                next.0, oldest.0
            ))
        } else if next > end {
            Some(format!(
                "partition {partition} goes on at {}, and the topic ends at {}: it was made anew",
                next.0, end.0
            ))
        } else {
            None
        }
    };
    partitions.iter().filter_map(problem).collect()
}

/// Records from the next one to be read to the end.
pub(super) fn lag(next: &Offsets, partition: &Partition) -> i64 {
    next.get(&partition.partition)
        .map_or(0, |next| partition.end.0.saturating_sub(next.0.max(partition.oldest.0)).max(0))
}

/// Where there is something unread, the offset of its oldest record.
pub(super) fn unread(next: &Offsets, partitions: &[Partition]) -> Offsets {
    let unread = partitions.iter().filter(|partition| lag(next, partition) > 0);
    unread
        .map(|partition| {
            let next = next.get(&partition.partition).copied().unwrap_or(partition.oldest);
            (partition.partition, next.max(partition.oldest))
        })
        .collect()
}

/// Whole seconds since each of these instants by partition; `None` where the record could not be read.
pub(super) fn seconds_since(at: &BTreeMap<i32, Option<Timestamp>>, now: Timestamp) -> BTreeMap<i32, Option<i64>> {
    let since = |at: Timestamp| now.0.saturating_sub(at.0).max(0) / 1_000_000;
    at.iter().map(|(partition, at)| (*partition, at.map(since))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Oldest, end, the group's next offset and its text.
    type Row<'a> = (i64, i64, Option<(i64, &'a str)>);

    /// Partitions counted from 0.
    fn partitions(of: &[Row<'_>]) -> Vec<Partition> {
        let partition = |(number, (oldest, end, group)): (i32, &Row<'_>)| Partition {
            partition: number,
            oldest: NextOffset(*oldest),
            end: NextOffset(*end),
            group: group.map(|(next, text)| (NextOffset(next), text.to_owned())),
        };
        (0..).zip(of).map(partition).collect()
    }

    fn offsets(next: &[i64]) -> Offsets {
        (0..).zip(next).map(|(partition, next)| (partition, NextOffset(*next))).collect()
    }

    fn checkpoint(lineage: &str, epoch: u64, next: &[i64]) -> Checkpoint {
        Checkpoint { lineage: lineage.to_owned(), epoch, offsets: offsets(next), at: Timestamp(0), crc: 0xabcd }
    }

    #[test]
    fn every_combination_of_the_layers() {
        let ours = checkpoint("a", 7, &[70]);
        let check = |checkpoint: Option<&Checkpoint>, group: Option<(i64, &str)>, want: Agreement, start, next| {
            let partitions = partitions(&[(10, 100, group)]);
            let got = Agreement::of(checkpoint, &partitions);
            assert_eq!(got, want, "{checkpoint:?} {group:?}");
            assert_eq!(got.next_start(), start, "{got:?}");
            assert_eq!(got.next(checkpoint, &partitions, false), offsets(&[next]), "{got:?}");
        };
        check(None, None, Agreement::Nothing, "new-lineage", 10);
        check(Some(&ours), None, Agreement::GroupMissing, "new-lineage", 10);
        check(None, Some((70, "a:7:0000abcd")), Agreement::CheckpointMissing("a".to_owned(), 7), "rebuild", 70);
        check(None, Some((70, "")), Agreement::Moved, "new-lineage", 70);
        check(Some(&ours), Some((70, "a:7:0000abcd")), Agreement::Agree, "resume", 70);
        check(Some(&ours), Some((60, "a:6:0000abcd")), Agreement::CheckpointAhead(1), "resume", 70);
        check(Some(&ours), Some((60, "a:7:0000abcd")), Agreement::Moved, "new-lineage", 60);
        check(Some(&ours), Some((80, "a:8:0000abcd")), Agreement::GroupAhead(8), "rebuild", 80);
        check(Some(&ours), Some((70, "a:7:0000abce")), Agreement::GroupAhead(7), "rebuild", 70);
        check(Some(&ours), Some((80, "b:3:0000abcd")), Agreement::OtherLineage("b".to_owned(), 3), "rebuild", 80);
        check(Some(&ours), Some((70, "")), Agreement::Moved, "new-lineage", 70);
        check(Some(&ours), Some((70, "by me")), Agreement::Moved, "new-lineage", 70);
    }

    #[test]
    fn one_partition_moved_is_the_group_moved() {
        let ours = checkpoint("a", 7, &[70, 71]);
        let moved = partitions(&[(0, 100, Some((70, "a:7:0000abcd"))), (0, 100, Some((5, "")))]);
        assert_eq!(metadata(&moved), Some(""));
        let agreement = Agreement::of(Some(&ours), &moved);
        assert_eq!(agreement, Agreement::Moved);
        assert_eq!(agreement.next(Some(&ours), &moved, true), offsets(&[70, 5]));
    }

    #[test]
    fn a_partition_new_to_the_topic_is_read_from_its_beginning() {
        let ours = checkpoint("a", 7, &[70]);
        let grown = partitions(&[(0, 100, Some((70, "a:7:0000abcd"))), (3, 9, None)]);
        let agreement = Agreement::of(Some(&ours), &grown);
        assert_eq!(agreement, Agreement::Agree);
        let next = agreement.next(Some(&ours), &grown, true);
        assert_eq!(next, offsets(&[70, 3]));
        assert_eq!(grown.iter().map(|partition| lag(&next, partition)).collect::<Vec<_>>(), [30, 6]);
    }

    #[test]
    fn a_group_without_progress_starts_where_it_is_told() {
        let partitions = partitions(&[(10, 100, None)]);
        let check = |latest, want| assert_eq!(Agreement::Nothing.next(None, &partitions, latest), offsets(&[want]));
        check(false, 10);
        check(true, 100);
    }

    #[test]
    fn lag_counts_what_can_be_read() {
        let check = |oldest, end, next, want, from: Option<i64>, gone: bool| {
            let (partitions, next) = (partitions(&[(oldest, end, None)]), offsets(&[next]));
            assert_eq!(lag(&next, &partitions[0]), want, "{next:?}");
            let from = from.map(|from| offsets(&[from])).unwrap_or_default();
            assert_eq!(unread(&next, &partitions), from, "{next:?}");
            assert_eq!(!unreadable(&next, &partitions).is_empty(), gone, "{next:?}");
        };
        check(0, 10, 4, 6, Some(4), false);
        check(0, 10, 10, 0, None, false);
        check(5, 10, 5, 5, Some(5), false);
        check(5, 10, 2, 5, Some(5), true);
        check(0, 10, 12, 0, None, true);
        check(7, 7, 7, 0, None, false);
    }

    #[test]
    fn ages_are_whole_seconds_and_never_negative() {
        let at = BTreeMap::from([(0, Some(Timestamp(1_000_000))), (1, Some(Timestamp(9_000_000))), (2, None)]);
        let want = BTreeMap::from([(0, Some(2)), (1, Some(0)), (2, None)]);
        assert_eq!(seconds_since(&at, Timestamp(3_999_999)), want);
    }
}
