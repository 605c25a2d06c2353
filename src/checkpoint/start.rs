//! Which layer of progress to believe at start. Pure.

use super::{Committed, Offsets};

/// An epoch as the group's metadata names it: `lineage:N:crc`, the checksum being that of the file `offsets/N`. So the
/// group's commit and the folder agree on the very bytes, and a folder that went another way is seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// Id of the lineage.
    pub lineage: String,
    /// Number of the epoch.
    pub epoch: u64,
    /// CRC-32 of its file.
    pub crc: u32,
}

impl Named {
    /// Reads the metadata of a commit; `None` when it is not one of ours.
    pub fn parse(metadata: &str) -> Option<Self> {
        let mut parts = metadata.split(':');
        let (lineage, epoch, crc) = (parts.next()?, parts.next()?, parts.next()?);
        // It names a folder: none of its characters may mean anything else.
        let plain = lineage.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        if lineage.is_empty() || !plain || parts.next().is_some() {
            return None;
        }
        Some(Self { lineage: lineage.to_owned(), epoch: epoch.parse().ok()?, crc: u32::from_str_radix(crc, 16).ok()? })
    }
}

impl std::fmt::Display for Named {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{}:{}:{:08x}", self.lineage, self.epoch, self.crc)
    }
}

/// What the folder says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Logged {
    /// Id of the current lineage.
    pub lineage: String,
    /// What the group had committed when the lineage came into this folder.
    pub origin: Option<Committed>,
    /// The newest epoch is the first one here, and is not finished: a start was cut short.
    pub beginning: bool,
    /// Checksum and next offsets of the epoch that the group's metadata names, where this folder has one of its number.
    pub named: Option<(u32, Offsets)>,
}

/// What to do when the folder is there, and the group has no offsets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    /// They were deleted, an order to read everything again.
    Reprocess,
    /// They have expired, or are to be taken for it: on from the folder.
    Resume,
}

/// Where to go on from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Start {
    /// Neither layer: a new lineage from `auto_offset_reset`.
    Fresh,
    /// The group was deleted: a new lineage from `auto_offset_reset`; the folder is moved aside.
    Reprocess,
    /// On from the folder's newest epoch. The group's offsets are of this epoch, where it has any.
    Resume(Option<u64>),
    /// The folder is missing, or went another way than the group: on from the group, in the same lineage; windows and
    /// episodes come from elsewhere.
    Rebuild(Named, Offsets),
    /// The offsets were set by hand, an order to go on from there: a new lineage.
    Moved(Offsets),
}

/// Decides where to go on from.
pub fn plan(folder: Option<&Logged>, group: Option<&Committed>, missing: Missing) -> Start {
    let Some(logged) = folder else {
        return match group {
            None => Start::Fresh,
            Some(group) => by_group(group),
        };
    };
    if logged.beginning && logged.origin.as_ref() == group {
        return Start::Resume(None);
    }
    let Some(group) = group else {
        return match missing {
            Missing::Reprocess => Start::Reprocess,
            Missing::Resume => Start::Resume(None),
        };
    };
    match Named::parse(&group.metadata) {
        Some(named) if named.lineage == logged.lineage => match &logged.named {
            Some((crc, offsets)) if *crc == named.crc => {
                if *offsets == group.offsets {
                    Start::Resume(Some(named.epoch))
                } else {
                    Start::Moved(group.offsets.clone())
                }
            }
            _ => by_group(group),
        },
        _ => by_group(group),
    }
}

fn by_group(group: &Committed) -> Start {
    match Named::parse(&group.metadata) {
        Some(named) => Start::Rebuild(named, group.offsets.clone()),
        None => Start::Moved(group.offsets.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::NextOffset;

    fn at(offset: i64) -> Offsets {
        Offsets::from([(0, NextOffset(offset))])
    }

    fn named(lineage: &str, epoch: u64, crc: u32) -> Named {
        Named { lineage: lineage.into(), epoch, crc }
    }

    #[test]
    fn every_combination_of_the_layers() {
        let logged = |named| Logged { lineage: "a".into(), origin: None, beginning: false, named };
        let committed = |metadata: &str, offset| Committed { offsets: at(offset), metadata: metadata.into() };
        let check = |folder: Option<&Logged>, group: Option<Committed>, want: Start| {
            assert_eq!(plan(folder, group.as_ref(), Missing::Reprocess), want, "{folder:?} {group:?}");
        };
        check(None, None, Start::Fresh);
        check(None, Some(committed("a:7:0000000c", 70)), Start::Rebuild(named("a", 7, 12), at(70)));
        check(None, Some(committed("", 70)), Start::Moved(at(70)));
        let same = logged(Some((12, at(70))));
        check(Some(&same), None, Start::Reprocess);
        assert_eq!(plan(Some(&same), None, Missing::Resume), Start::Resume(None));
        check(Some(&same), Some(committed("a:7:0000000c", 70)), Start::Resume(Some(7)));
        // The same numbers, set by hand.
        check(Some(&same), Some(committed("", 70)), Start::Moved(at(70)));
        check(Some(&same), Some(committed("a:x:0000000c", 70)), Start::Moved(at(70)));
        // Other numbers with our text: no tool does that, but it is no commit of ours either.
        check(Some(&same), Some(committed("a:7:0000000c", 60)), Start::Moved(at(60)));
        // An epoch that this folder does not have: restored from an older copy, or another instance went on.
        check(Some(&logged(None)), Some(committed("a:8:0000000c", 80)), Start::Rebuild(named("a", 8, 12), at(80)));
        // One of the same number with other content: this folder was a zombie's.
        let other = logged(Some((13, at(71))));
        check(Some(&other), Some(committed("a:7:0000000c", 70)), Start::Rebuild(named("a", 7, 12), at(70)));
        // Another instance started another lineage.
        check(Some(&same), Some(committed("b:7:0000000c", 70)), Start::Rebuild(named("b", 7, 12), at(70)));
    }

    #[test]
    fn a_start_that_was_cut_short_is_taken_up() {
        let origin = |metadata: &str| Some(Committed { offsets: at(70), metadata: metadata.into() });
        for before in [None, origin(""), origin("a:7:0000000c")] {
            let logged = Logged { lineage: "b".into(), origin: before.clone(), beginning: true, named: None };
            assert_eq!(plan(Some(&logged), before.as_ref(), Missing::Reprocess), Start::Resume(None), "{before:?}");
            // Once it is finished, the same offsets are a new order.
            let finished = Logged { beginning: false, ..logged };
            assert_ne!(plan(Some(&finished), before.as_ref(), Missing::Reprocess), Start::Resume(None), "{before:?}");
        }
    }

    #[test]
    fn metadata_reads_back() {
        let text = named("018f-a", 7, 0xabc).to_string();
        assert_eq!(text, "018f-a:7:00000abc");
        assert_eq!(Named::parse(&text), Some(named("018f-a", 7, 0xabc)));
        for other in ["../a:7:0000000c", "", "a", "a:7", ":7:0000000c", "a:-1:0000000c", "a:7:xyz", "a:7:0000000c:1"] {
            assert_eq!(Named::parse(other), None, "{other}");
        }
    }
}
