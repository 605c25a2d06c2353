//! The next offset of each lane, with the topics that were added and removed.

use std::collections::BTreeSet;

use super::{Known, Lookup, Reason, Start};
use crate::progress::topics::place_of;
use crate::progress::{Committed, Offsets, StartAt};

/// The offsets at which reading continues.
pub(super) struct From {
    pub(super) offsets: Offsets,
    /// See [`Decision::fresh`].
    pub(super) fresh: BTreeSet<i32>,
    pub(super) kept: Offsets,
}

pub(super) fn from(
    known: &Known,
    start: &Start,
    reason: &Reason,
    committed: Option<&Committed>,
) -> Result<From, Lookup> {
    let first = || match known.policy.start_at {
        StartAt::Earliest => Ok(known.topic.lows()),
        StartAt::Latest => Ok(known.topic.ends()),
        StartAt::Time(at) => known.answers.since.clone().ok_or(Lookup::Since(at)),
    };
    let (mut offsets, mut kept) = match (start, &known.folder, committed) {
        (Start::Resume { .. }, Some(folder), _) => (folder.offsets.clone(), folder.kept.clone()),
        (Start::NewLineage, _, Some(committed)) if *reason == Reason::MovedByHand => {
            (committed.offsets.clone(), Offsets::new())
        }
        (Start::Rebuild { progress, .. }, _, Some(committed)) => {
            let (mut offsets, mut kept) = (committed.offsets.clone(), Offsets::new());
            if let Some(progress) = progress {
                kept.clone_from(&progress.kept);
                // Topics that are no longer read were not looked up.
                offsets.extend(progress.offsets.iter().filter(|(lane, _)| !known.policy.topics.is_read(**lane)));
            }
            (offsets, kept)
        }
        _ => (first()?, Offsets::new()),
    };
    let is_read = |lane: &i32| known.policy.topics.is_read(*lane);
    kept.extend(offsets.extract_if(.., |lane, _| !is_read(lane)));
    let mut fresh = BTreeSet::new();
    let added = known.topic.topics_beside(&offsets);
    if !added.is_empty() {
        let has_been_read = |place: &usize| kept.keys().any(|lane| place_of(*lane) == *place);
        for place in &added {
            let of = |lane: &i32| place_of(*lane) == *place;
            let states = known.topic.partitions.iter().filter(|state| of(&state.partition));
            let committed = states.filter_map(|state| Some((state.partition, state.committed.as_ref()?.0)));
            let committed: Offsets = committed.collect();
            if has_been_read(place) {
                offsets.extend(kept.iter().filter(|(lane, _)| of(lane)));
            } else if committed.is_empty() {
                let first: Offsets = first()?.into_iter().filter(|(lane, _)| of(lane)).collect();
                fresh.extend(first.keys().filter(|_| !offsets.is_empty()));
                offsets.extend(first);
            } else {
                offsets.extend(committed);
            }
        }
        kept.retain(|lane, _| !added.contains(&place_of(*lane)));
    }
    Ok(From { offsets: known.topic.with_new_partitions(offsets), fresh, kept })
}
