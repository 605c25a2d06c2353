//! Which layer of progress to believe at start. Pure.

use super::Offsets;

/// What the group's committed offsets say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed {
    /// Next offset of every partition that has one.
    pub offsets: Offsets,
    /// The text that was committed with them: `lineage:N` when it was Tripline.
    pub metadata: String,
}

/// What the folder says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Logged {
    /// Id of the current lineage.
    pub lineage: String,
    /// Number of the newest epoch.
    pub epoch: u64,
    /// Its next offsets.
    pub offsets: Offsets,
}

/// Where to go on from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Start {
    /// Neither layer: a new lineage from `auto_offset_reset`.
    Fresh,
    /// The group was deleted: a new lineage from `auto_offset_reset`; the folder is moved aside.
    Reprocess,
    /// Go on from the folder's newest epoch.
    Resume,
    /// The folder was lost, or is older than the group's commit: the same lineage (where the metadata
    /// names one, with its epoch) and offsets, windows rebuilt by reading again.
    Rebuild(Option<(String, u64)>, Offsets),
    /// The offsets were moved by hand, an order to go on from there: a new lineage.
    Moved(Offsets),
}

/// The text committed with the offsets of an epoch.
pub fn metadata(lineage: &str, epoch: u64) -> String {
    format!("{lineage}:{epoch}")
}

/// Decides where to go on from.
pub fn plan(folder: Option<&Logged>, group: Option<&Committed>) -> Start {
    match (folder, group) {
        (None, None) => Start::Fresh,
        (Some(_), None) => Start::Reprocess,
        (None, Some(committed)) => Start::Rebuild(parse(&committed.metadata), committed.offsets.clone()),
        (Some(logged), Some(committed)) => match parse(&committed.metadata) {
            Some((lineage, epoch)) if lineage == logged.lineage => {
                if epoch <= logged.epoch {
                    Start::Resume
                } else {
                    Start::Rebuild(Some((lineage, epoch)), committed.offsets.clone())
                }
            }
            _ => Start::Moved(committed.offsets.clone()),
        },
    }
}

fn parse(metadata: &str) -> Option<(String, u64)> {
    let (lineage, epoch) = metadata.rsplit_once(':')?;
    Some((lineage.to_owned(), epoch.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::NextOffset;

    fn at(offset: i64) -> Offsets {
        Offsets::from([(0, NextOffset(offset))])
    }

    #[test]
    fn every_combination_of_the_layers() {
        let logged = Logged { lineage: "a".into(), epoch: 7, offsets: at(70) };
        let committed = |metadata: &str, offset| Committed { offsets: at(offset), metadata: metadata.into() };
        let check = |folder: Option<&Logged>, group: Option<Committed>, want: Start| {
            assert_eq!(plan(folder, group.as_ref()), want, "{folder:?} {group:?}");
        };
        check(None, None, Start::Fresh);
        check(Some(&logged), None, Start::Reprocess);
        check(None, Some(committed("a:7", 70)), Start::Rebuild(Some(("a".into(), 7)), at(70)));
        check(None, Some(committed("", 70)), Start::Rebuild(None, at(70)));
        check(Some(&logged), Some(committed("a:7", 70)), Start::Resume);
        // The commit after the newest epoch was logged did not happen.
        check(Some(&logged), Some(committed("a:6", 60)), Start::Resume);
        // The same numbers, set by hand.
        check(Some(&logged), Some(committed("", 70)), Start::Moved(at(70)));
        check(Some(&logged), Some(committed("b:7", 70)), Start::Moved(at(70)));
        // A folder restored from an older copy knows less than the group.
        check(Some(&logged), Some(committed("a:8", 80)), Start::Rebuild(Some(("a".into(), 8)), at(80)));
        check(Some(&logged), Some(committed("a:x", 70)), Start::Moved(at(70)));
    }
}
