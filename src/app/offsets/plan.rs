//! The effect of a reset on each partition. Pure.

use std::collections::BTreeSet;

use crate::model::NextOffset;
use crate::progress::topics::partition_of;
use crate::progress::{Offsets, PartitionState};

/// The next offset of the chosen partitions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Goal {
    /// That of the oldest record that still exists.
    Earliest,
    /// The offset after the newest record.
    Latest,
    /// This offset in each of them.
    Offset(NextOffset),
    /// The group's offset plus this number.
    Shift(i64),
    /// An own offset for each.
    Each(Offsets),
}

/// The effect on one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Move {
    /// The partition's lane.
    pub partition: i32,
    /// The oldest offset that can still be read.
    pub oldest: NextOffset,
    /// The end of the partition.
    pub end: NextOffset,
    /// The group's next offset before.
    pub from: Option<NextOffset>,
    /// The group's next offset after. `None` where it has none and the partition is not chosen.
    pub to: Option<NextOffset>,
    /// Whether the partition was chosen.
    pub chosen: bool,
    /// The requested offset, if the topic does not have it.
    pub clamped: Option<NextOffset>,
}

impl Move {
    /// The number of offsets that are read again. `None` if it is not known what has been read.
    pub fn read_again(&self) -> Option<i64> {
        let (from, to) = self.ends()?;
        Some(from.saturating_sub(to).max(0))
    }

    /// The number of offsets that are never read.
    pub fn skipped(&self) -> Option<i64> {
        let (from, to) = self.ends()?;
        Some(to.saturating_sub(from).max(0))
    }

    /// Records that retention has removed are neither read again nor skipped.
    fn ends(&self) -> Option<(i64, i64)> {
        let there = |next: NextOffset| next.max(self.oldest).min(self.end).0;
        Some((there(self.from?), there(self.to?)))
    }
}

/// Returns the effect on every partition of the topics. `chosen` has the lanes to move. Empty: all of them.
///
/// # Errors
/// A partition does not exist, or has no offset to shift.
pub fn plan(partitions: &[PartitionState], chosen: &[i32], goal: &Goal) -> Result<Vec<Move>, String> {
    let there: BTreeSet<i32> = partitions.iter().map(|state| state.partition).collect();
    let chosen: BTreeSet<i32> = match goal {
        Goal::Each(offsets) if chosen.is_empty() => offsets.keys().copied().collect(),
        _ if chosen.is_empty() => there.clone(),
        _ => chosen.iter().copied().collect(),
    };
    if let Some(missing) = chosen.difference(&there).next() {
        let there: Vec<String> = there.iter().map(i32::to_string).collect();
        return Err(format!("there is no partition {missing}; the topic has {}", there.join(", ")));
    }
    partitions.iter().map(|state| one(state, chosen.contains(&state.partition), goal)).collect()
}

fn one(state: &PartitionState, chosen: bool, goal: &Goal) -> Result<Move, String> {
    let (partition, oldest, end) = (state.partition, state.low, state.high);
    let from = state.committed.as_ref().map(|(next, _)| *next);
    let wanted = match goal {
        _ if !chosen => None,
        Goal::Earliest => Some(oldest),
        Goal::Latest => Some(end),
        Goal::Offset(next) => Some(*next),
        Goal::Shift(by) => {
            let from = from.ok_or_else(|| {
                let partition = partition_of(partition);
                format!("partition {partition} has no offset that could be shifted; give an offset, a time or an end")
            })?;
            Some(NextOffset(from.0.saturating_add(*by)))
        }
        Goal::Each(offsets) => offsets.get(&partition).copied(),
    };
    let to = wanted.map(|wanted| wanted.max(oldest).min(end));
    let clamped = wanted.filter(|wanted| Some(*wanted) != to);
    Ok(Move { partition, oldest, end, from, to: to.or(from), chosen, clamped })
}

/// Returns the group's offsets after the plan was carried out.
pub fn offsets(plan: &[Move]) -> Offsets {
    plan.iter().filter_map(|one| Some((one.partition, one.to?))).collect()
}

/// Returns the group's current offsets for saving. If some partitions have no offset, the next start would read them
/// from their oldest offset, so that one is returned. The second value has these partitions. Both are empty if no
/// partition has an offset.
pub fn present(partitions: &[PartitionState]) -> (Offsets, Vec<i32>) {
    if partitions.iter().all(|state| state.committed.is_none()) {
        return (Offsets::new(), Vec::new());
    }
    let without = partitions.iter().filter(|state| state.committed.is_none());
    let next = |state: &PartitionState| {
        let next = state.committed.as_ref().map_or(state.low, |(next, _)| *next);
        (state.partition, next)
    };
    (partitions.iter().map(next).collect(), without.map(|state| state.partition).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn partition(number: i32, oldest: i64, end: i64, group: Option<i64>) -> PartitionState {
        let committed = group.map(|next| (NextOffset(next), String::new()));
        PartitionState { partition: number, committed, low: NextOffset(oldest), high: NextOffset(end) }
    }

    #[test]
    fn each_goal_and_its_clamping() {
        // The wanted effect on a partition of 10 to 100 whose group is at 50: to, read again, skipped, clamped.
        let check = |goal: Goal, to: i64, again: i64, skipped: i64, clamped: Option<i64>| {
            let plan = plan(&[partition(0, 10, 100, Some(50))], &[], &goal).unwrap();
            let got = &plan[0];
            assert_eq!(got.to, Some(NextOffset(to)), "{goal:?}");
            assert_eq!((got.read_again(), got.skipped()), (Some(again), Some(skipped)), "{goal:?}");
            assert_eq!(got.clamped, clamped.map(NextOffset), "{goal:?}");
            assert!(got.chosen);
        };
        check(Goal::Earliest, 10, 40, 0, None);
        check(Goal::Latest, 100, 0, 50, None);
        check(Goal::Offset(NextOffset(50)), 50, 0, 0, None);
        check(Goal::Offset(NextOffset(10)), 10, 40, 0, None);
        check(Goal::Offset(NextOffset(9)), 10, 40, 0, Some(9));
        check(Goal::Offset(NextOffset(100)), 100, 0, 50, None);
        check(Goal::Offset(NextOffset(101)), 100, 0, 50, Some(101));
        check(Goal::Shift(-5), 45, 5, 0, None);
        check(Goal::Shift(5), 55, 0, 5, None);
        check(Goal::Shift(-41), 10, 40, 0, Some(9));
        check(Goal::Shift(i64::MAX), 100, 0, 50, Some(i64::MAX));
        check(Goal::Shift(i64::MIN), 10, 40, 0, Some(i64::MIN + 50));
        check(Goal::Each(Offsets::from([(0, NextOffset(20))])), 20, 30, 0, None);
    }

    #[test]
    fn what_is_gone_is_neither_read_again_nor_skipped() {
        let check = |from: Option<i64>, goal: Goal, want: (Option<i64>, Option<i64>)| {
            let plan = plan(&[partition(0, 10, 100, from)], &[], &goal).unwrap();
            assert_eq!((plan[0].read_again(), plan[0].skipped()), want, "{from:?} {goal:?}");
        };
        check(Some(3), Goal::Earliest, (Some(0), Some(0)));
        check(Some(3), Goal::Latest, (Some(0), Some(90)));
        check(Some(120), Goal::Earliest, (Some(90), Some(0)));
        check(None, Goal::Earliest, (None, None));
    }

    #[test]
    fn partitions_not_chosen_keep_their_offset() {
        let all = [partition(0, 0, 9, Some(5)), partition(1, 0, 9, Some(6)), partition(2, 0, 9, None)];
        let plan = plan(&all, &[1], &Goal::Earliest).unwrap();
        assert_eq!(plan.iter().map(|one| one.chosen).collect::<Vec<_>>(), [false, true, false]);
        assert_eq!(offsets(&plan), Offsets::from([(0, NextOffset(5)), (1, NextOffset(0))]));
        let named = super::plan(&all, &[], &Goal::Each(Offsets::from([(2, NextOffset(4))]))).unwrap();
        assert_eq!(offsets(&named), Offsets::from([(0, NextOffset(5)), (1, NextOffset(6)), (2, NextOffset(4))]));
        // An offset that retention has put out of range does not change silently.
        let old = super::plan(&[partition(0, 7, 9, Some(5)), partition(1, 0, 9, None)], &[1], &Goal::Latest).unwrap();
        assert_eq!(offsets(&old), Offsets::from([(0, NextOffset(5)), (1, NextOffset(9))]));
    }

    #[test]
    fn what_cannot_be() {
        let all = [partition(0, 0, 9, Some(5)), partition(1, 0, 9, None)];
        let check = |chosen: &[i32], goal: Goal, part: &str| {
            let error = plan(&all, chosen, &goal).unwrap_err();
            assert!(error.contains(part), "{error}");
        };
        check(&[2], Goal::Earliest, "no partition 2; the topic has 0, 1");
        check(&[], Goal::Each(Offsets::from([(7, NextOffset(0))])), "no partition 7");
        check(&[], Goal::Shift(1), "partition 1 has no offset");
        assert!(plan(&all, &[0], &Goal::Shift(1)).is_ok());
    }

    #[test]
    fn present_offsets_are_kept_as_a_start_would_read_them() {
        let some = [partition(0, 0, 9, Some(5)), partition(1, 3, 9, None)];
        assert_eq!(present(&some), (Offsets::from([(0, NextOffset(5)), (1, NextOffset(3))]), vec![1]));
        assert_eq!(present(&[partition(0, 0, 9, None)]), (Offsets::new(), vec![]));
    }
}
