//! Determines where the archive continues, from the checkpoint folder, the output and the group. Pure.
//!
//! A checkpoint folder that exists decides, and the group is set to it. Without it, the output shows which rows were
//! written, and the group which epochs were finished. Rows that the output has are never written again.

use std::collections::BTreeMap;

use super::names::{Owner, Range};
use crate::model::NextOffset;
use crate::planted;
use crate::progress::{Committed, EpochRef, Offsets};

/// What to do if the group has no offsets although there is an archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    /// Read everything again: the offsets were deleted for that purpose.
    Reprocess,
    /// Continue: the offsets have expired, or count as expired.
    Resume,
}

/// The state of the checkpoint folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Folder {
    /// Id of the lineage.
    pub lineage: String,
    /// The next offsets after the newest epoch, or those at which the lineage began.
    pub next: Offsets,
    /// The number of the newest epoch.
    pub newest: Option<u64>,
    /// The offsets at which the newest epoch begins. `None`: there is no epoch.
    pub from: Option<Offsets>,
    /// The checksum of this folder's epoch with the number that the group names, if there is one.
    pub named: Option<u32>,
}

/// The state of the output.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// `owner.json`
    pub owner: Option<Owner>,
    /// The last range of each partition, in the owner's lineage, or else in the folder's.
    pub last: BTreeMap<i32, Range>,
    /// The number of the newest epoch among those ranges.
    pub epoch: Option<u64>,
    /// The path of an entry that is neither the owner's nor the folder's.
    pub stranger: Option<String>,
}

/// Everything that is known at start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// This job's group.
    pub group_id: String,
    /// This job's topic.
    pub topic: String,
    /// The folder's state. `None`: it has no lineage with a known start.
    pub folder: Option<Folder>,
    /// The output's state.
    pub written: Written,
    /// The group's committed offsets.
    pub group: Option<Committed>,
    /// What to do if the group has none.
    pub missing: Missing,
}

/// Where to continue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Start {
    /// Nothing is known: begin a new lineage at `starting_offsets`.
    Fresh,
    /// Begin a new lineage at the group's offsets.
    From(Offsets),
    /// Continue from the folder.
    Resume,
    /// The folder is missing, or behind: continue the lineage with this epoch.
    Rebuild {
        /// The lineage.
        lineage: String,
        /// The number of its next epoch.
        epoch: u64,
        /// Ranges that may have been written in part.
        again: BTreeMap<i32, Range>,
        /// The offsets to continue at after that. A partition that is missing here is new.
        next: Offsets,
    },
    /// Continuing would write something twice. The text says what to do.
    Refuse(String),
}

/// Decides where to continue.
pub fn plan(known: &Known) -> Start {
    let written = &known.written;
    if let Some(owner) = &written.owner {
        if owner.group != known.group_id || owner.topic != known.topic {
            return Start::Refuse(format!(
                "it holds what group {} archived of topic {}: give group {} in topic {} an output_path of its own, or go on as group {}",
                owner.group, owner.topic, known.group_id, known.topic, owner.group
            ));
        }
        if let Some(folder) = known.folder.as_ref().filter(|folder| folder.lineage != owner.lineage) {
            return Start::Refuse(format!(
                "it holds lineage {}, and the checkpoint folder lineage {}: set output_path or checkpoint_dir back to the one that goes with it, or move the checkpoint folder away to go on with what output_path has",
                owner.lineage, folder.lineage
            ));
        }
    }
    let reprocess = known.missing == Missing::Reprocess && known.group.is_none();
    // Nothing has to be read from the names while the folder decides, and the group proves that it is no old copy.
    let proved = known.folder.as_ref().is_some_and(|folder| is_named(folder, known)) && written.owner.is_some();
    if let Some(stranger) = written.stranger.as_ref().filter(|_| !proved && !reprocess) {
        let ours = written.owner.as_ref().map(|owner| &owner.lineage).or(known.folder.as_ref().map(|f| &f.lineage));
        let has_group = ours.is_some_and(|lineage| named(known, lineage).is_some());
        let or = if has_group { ", or take that out of it for one start, and put it back after that" } else { "" };
        return Start::Refuse(format!(
            "it holds {stranger}, which is none of this archive's files, so what it covers is not known: use an empty output_path{or}"
        ));
    }
    match (&known.folder, &written.owner) {
        _ if reprocess && written.last.is_empty() && written.stranger.is_none() => Start::Fresh,
        _ if reprocess => Start::Refuse(format!(
            "group {} has no offsets and when_group_is_missing = \"reprocess\" would write everything again beside what is there: use an empty output_path, or set when_group_is_missing = \"resume\" to go on",
            known.group_id
        )),
        (Some(folder), None) if written.last.is_empty() => Start::Refuse(format!(
            "it holds nothing of lineage {}, which the checkpoint folder is of: is its disk mounted? Set output_path back to where its files are; or, to begin in this one with what comes now, move the checkpoint folder away, so that {}",
            folder.lineage,
            if known.group.is_some() { "the group's offsets decide" } else { "starting_offsets decides" }
        )),
        (Some(folder), _) if is_newest(folder, known) => Start::Resume,
        (Some(folder), _) => rebuild(&folder.lineage, known),
        (None, Some(owner)) => rebuild(&owner.lineage, known),
        (None, None) => match &known.group {
            Some(group) => Start::From(group.offsets.clone()),
            None => Start::Fresh,
        },
    }
}

/// Whether the group names an epoch that this very folder has.
fn is_named(folder: &Folder, known: &Known) -> bool {
    match named(known, &folder.lineage) {
        Some(named) => folder.named == Some(named.crc),
        None => false,
    }
}

/// Whether neither the output nor the group is ahead of the folder.
fn is_newest(folder: &Folder, known: &Known) -> bool {
    // A range that ends inside of the newest epoch is of another folder, which has begun there as well.
    let covered = |(partition, range): (&i32, &Range)| {
        let Some(next) = folder.next.get(partition) else { return false };
        let from = folder.from.as_ref().and_then(|from| from.get(partition)).unwrap_or(next);
        range.to <= *from || *range == Range { from: *from, to: *next }
    };
    let named = named(known, &folder.lineage);
    let has_named = match (&named, folder.newest) {
        (None, _) => true,
        (Some(named), Some(newest)) if named.epoch <= newest => folder.named.is_none_or(|crc| crc == named.crc),
        (Some(_), _) => false,
    };
    has_named && known.written.last.iter().all(covered) || planted::bug("archive-old-folder-believed")
}

/// The epoch that the group's commit names, if it belongs to this lineage.
fn named(known: &Known, lineage: &str) -> Option<EpochRef> {
    known.group.as_ref().and_then(|group| EpochRef::parse(&group.metadata)).filter(|named| named.lineage == lineage)
}

/// Plans to continue without a current folder. Epochs follow one after the other, so only the last range of a partition
/// can be written in part. If the group is past that range, it is complete. Offsets that another client committed prove
/// nothing. Neither does the folder, because its newest epoch may not have been written.
fn rebuild(lineage: &str, known: &Known) -> Start {
    let written = &known.written;
    let named = named(known, lineage);
    let empty = Offsets::new();
    let committed = match (&named, &known.group) {
        (Some(_), Some(group)) => &group.offsets,
        (None, Some(group)) if planted::bug("archive-group-believed") => &group.offsets,
        _ => &empty,
    };
    let mut next = written.owner.as_ref().map(|owner| owner.start.clone()).unwrap_or_default();
    let covered = written.last.iter().map(|(partition, range)| (partition, &range.to));
    let is_covered = !planted::bug("archive-names-not-compared");
    for (partition, to) in covered.filter(|_| is_covered).chain(committed) {
        let held = next.entry(*partition).or_insert(*to);
        *held = (*held).max(*to);
    }
    let begun = |(partition, range): &(&i32, &Range)| {
        let done = committed.get(partition).is_some_and(|at: &NextOffset| *at >= range.to);
        // Where more is known than its end, it was done long ago.
        !done && !planted::bug("archive-last-range-not-read") && next.get(partition) == Some(&range.to)
    };
    let again = written.last.iter().filter(begun).map(|(partition, range)| (*partition, *range)).collect();
    let newest = [named.map(|named| named.epoch), written.epoch, known.folder.as_ref().and_then(|f| f.newest)];
    let epoch = newest.into_iter().flatten().max().map_or(0, |newest| newest.saturating_add(1));
    Start::Rebuild { lineage: lineage.to_owned(), epoch, again, next }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(list: &[(i32, i64)]) -> Offsets {
        list.iter().map(|(partition, next)| (*partition, NextOffset(*next))).collect()
    }

    fn range(from: i64, to: i64) -> Range {
        Range { from: NextOffset(from), to: NextOffset(to) }
    }

    fn owner(lineage: &str) -> Owner {
        let (group, topic) = ("g".to_owned(), "t".to_owned());
        Owner { lineage: lineage.to_owned(), group, topic, cluster: None, start: at(&[(0, 0), (1, 0)]) }
    }

    fn nothing() -> Known {
        Known {
            group_id: "g".to_owned(),
            topic: "t".to_owned(),
            folder: None,
            written: Written::default(),
            group: None,
            missing: Missing::Resume,
        }
    }

    /// Two partitions and three epochs, all finished.
    fn settled() -> Known {
        Known {
            folder: Some(Folder {
                lineage: "a".to_owned(),
                next: at(&[(0, 30), (1, 40)]),
                newest: Some(2),
                from: Some(at(&[(0, 20), (1, 10)])),
                named: Some(12),
            }),
            written: Written {
                owner: Some(owner("a")),
                last: BTreeMap::from([(0, range(20, 30)), (1, range(10, 40))]),
                epoch: Some(2),
                stranger: None,
            },
            group: Some(Committed { offsets: at(&[(0, 30), (1, 40)]), metadata: "a:2:0000000c".to_owned() }),
            ..nothing()
        }
    }

    fn moved(offsets: &[(i32, i64)]) -> Option<Committed> {
        Some(Committed { offsets: at(offsets), metadata: String::new() })
    }

    fn rebuilt(known: &Known) -> (u64, BTreeMap<i32, Range>, Offsets) {
        match plan(known) {
            Start::Rebuild { lineage, epoch, again, next } if lineage == "a" => (epoch, again, next),
            other => panic!("{other:?}"),
        }
    }

    fn refused(known: &Known, want: &str) {
        match plan(known) {
            Start::Refuse(why) => assert!(why.contains(want), "{why}"),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_new_group() {
        assert_eq!(plan(&nothing()), Start::Fresh);
        let committed = Known { group: moved(&[(0, 7)]), ..nothing() };
        assert_eq!(plan(&committed), Start::From(at(&[(0, 7)])));
        // The output was exchanged for an empty one, and the folder is gone: the group still says how far it came.
        let ours = Known { group: settled().group, ..nothing() };
        assert_eq!(plan(&ours), Start::From(at(&[(0, 30), (1, 40)])));
    }

    #[test]
    fn the_folder_decides_while_it_is_there() {
        assert_eq!(plan(&settled()), Start::Resume);
        for group in [None, moved(&[(0, 3)]), moved(&[(0, 3_000), (1, 4_000)]), Some(other_commit("b:9:00000001"))] {
            assert_eq!(plan(&Known { group, ..settled() }), Start::Resume);
        }
        // Old files were removed, or owner.json.
        let mut known = settled();
        known.written.last.clear();
        assert_eq!(plan(&known), Start::Resume);
        let mut known = settled();
        known.written.owner = None;
        assert_eq!(plan(&known), Start::Resume);
        // Merged by somebody: while the group proves that the folder is no old copy.
        let mut known = settled();
        known.written.stranger = Some("merged.parquet".to_owned());
        assert_eq!(plan(&known), Start::Resume);
        refused(&Known { group: None, ..known.clone() }, "merged.parquet");
        refused(&Known { group: moved(&[(0, 30)]), ..known }, "merged.parquet");
    }

    fn other_commit(metadata: &str) -> Committed {
        Committed { offsets: at(&[(0, 30), (1, 40)]), metadata: metadata.to_owned() }
    }

    #[test]
    fn an_old_copy_of_the_folder_is_rebuilt() {
        let behind = |next: &[(i32, i64)], newest, named| Known {
            folder: Some(Folder { lineage: "a".to_owned(), next: at(next), newest, from: None, named }),
            ..settled()
        };
        let want = (3, BTreeMap::new(), at(&[(0, 30), (1, 40)]));
        assert_eq!(rebuilt(&behind(&[(0, 10), (1, 10)], Some(0), None)), want);
        // The group has another epoch of that number.
        assert_eq!(rebuilt(&behind(&[(0, 50), (1, 40)], Some(2), Some(13))), want);
        // The group does not know either, but the output does.
        let known = Known { group: None, ..behind(&[(0, 10), (1, 10)], Some(0), None) };
        let again = BTreeMap::from([(0, range(20, 30)), (1, range(10, 40))]);
        assert_eq!(rebuilt(&known), (3, again, at(&[(0, 30), (1, 40)])));
        // This folder's newest epoch was never written. Another folder began at the same place and closed its epoch
        // earlier or later. The group, which would show that, has no offsets.
        for (from, to) in [(10, 25), (10, 40), (15, 40)] {
            let mut known = Known { group: None, ..settled() };
            known.written.last.insert(1, range(from, to));
            let is_ours = (from, to) == (10, 40);
            assert_eq!(plan(&known) == Start::Resume, is_ours, "{from} to {to}");
        }
        // A rebuild that was cut short before its first epoch.
        assert_eq!(rebuilt(&behind(&[(0, 30), (1, 40)], None, None)), want);
    }

    #[test]
    fn the_folder_is_lost() {
        let known = Known { folder: None, ..settled() };
        assert_eq!(rebuilt(&known), (3, BTreeMap::new(), at(&[(0, 30), (1, 40)])));
        // In the middle of epoch 3: partition 0 has a file of it.
        let mut begun = known.clone();
        begun.written.last.insert(0, range(30, 45));
        begun.written.epoch = Some(3);
        assert_eq!(rebuilt(&begun), (4, BTreeMap::from([(0, range(30, 45))]), at(&[(0, 45), (1, 40)])));
        // Offsets that another client committed prove nothing.
        for group in [moved(&[(0, 60), (1, 60)]), Some(other_commit("b:9:00000001"))] {
            let foreign = Known { group, ..begun.clone() };
            let again = BTreeMap::from([(0, range(30, 45)), (1, range(10, 40))]);
            assert_eq!(rebuilt(&foreign), (4, again, at(&[(0, 45), (1, 40)])));
        }
        // Epochs without rows leave no file.
        let ahead = Committed { offsets: at(&[(0, 60), (1, 40)]), metadata: "a:7:0000000c".to_owned() };
        let known = Known { group: Some(ahead), ..known };
        assert_eq!(rebuilt(&known), (8, BTreeMap::new(), at(&[(0, 60), (1, 40)])));
    }

    #[test]
    fn both_are_lost() {
        let known = Known { folder: None, group: None, ..settled() };
        let again = BTreeMap::from([(0, range(20, 30)), (1, range(10, 40))]);
        assert_eq!(rebuilt(&known), (3, again.clone(), at(&[(0, 30), (1, 40)])));
        // Rewound by hand: what is there is not written again.
        let known = Known { group: moved(&[(0, 0), (1, 25)]), ..known };
        assert_eq!(rebuilt(&known), (3, again, at(&[(0, 30), (1, 40)])));
        // One whose owner.json was written again after its files: they are whole.
        let mut known = Known { folder: None, group: None, ..settled() };
        known.written.owner = Some(Owner { start: at(&[(0, 35), (1, 40)]), ..owner("a") });
        assert_eq!(rebuilt(&known), (3, BTreeMap::from([(1, range(10, 40))]), at(&[(0, 35), (1, 40)])));
        // A partition without a file goes on from where the lineage began.
        let mut known = Known { folder: None, group: None, ..settled() };
        known.written.last.remove(&1);
        assert_eq!(rebuilt(&known), (3, BTreeMap::from([(0, range(20, 30))]), at(&[(0, 30), (1, 0)])));
    }

    #[test]
    fn what_would_write_something_twice_is_refused() {
        refused(&Known { group_id: "h".to_owned(), ..settled() }, "group g archived of topic t");
        refused(&Known { topic: "u".to_owned(), ..settled() }, "group g archived of topic t");
        let mut other = settled();
        other.written.owner = Some(owner("b"));
        refused(&other, "it holds lineage b, and the checkpoint folder lineage a");
        let mut stranger = Known { folder: None, ..settled() };
        stranger.written.stranger = Some("x.parquet".to_owned());
        refused(&stranger, "it holds x.parquet");
        refused(&stranger, "for one start");
        stranger.group = None;
        refused(&stranger, "use an empty output_path");
        stranger.written.owner = None;
        refused(&stranger, "it holds x.parquet");
        stranger.folder = settled().folder;
        refused(&stranger, "it holds x.parquet");
    }

    #[test]
    fn an_output_that_is_not_there_is_missed() {
        let known = Known { written: Written::default(), ..settled() };
        refused(&known, "nothing of lineage a");
        refused(&known, "is its disk mounted?");
        refused(&known, "the group's offsets decide");
        refused(&Known { group: None, ..known.clone() }, "starting_offsets decides");
        // As it says.
        assert_eq!(plan(&Known { folder: None, ..known }), Start::From(at(&[(0, 30), (1, 40)])));
    }

    #[test]
    fn everything_again_needs_an_empty_output() {
        let known = Known { missing: Missing::Reprocess, group: None, ..settled() };
        refused(&known, "reprocess");
        refused(&Known { folder: None, ..known.clone() }, "reprocess");
        // Neither folder nor owner.json: whose the files are is not known, but they are there.
        let mut files = Known { folder: None, ..known.clone() };
        files.written = Written { stranger: Some("date=2026-11-22/part-….parquet".to_owned()), ..Written::default() };
        refused(&files, "reprocess");
        let mut empty = known;
        empty.written.last.clear();
        assert_eq!(plan(&empty), Start::Fresh);
        empty.written.stranger = Some("merged.parquet".to_owned());
        refused(&empty, "reprocess");
        // The group has its offsets, so the setting has no effect.
        assert_eq!(plan(&Known { missing: Missing::Reprocess, ..settled() }), Start::Resume);
    }
}
