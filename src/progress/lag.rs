//! The unread records. Pure.

use std::collections::BTreeMap;

use super::{Offsets, PartitionState, TopicState};
use crate::model::Timestamp;

/// Returns the number of offsets from the next one to read to the end of the partition.
pub fn of_partition(next: &Offsets, state: &PartitionState) -> i64 {
    let next = next.get(&state.partition).copied();
    next.map_or(0, |next| state.high.0.saturating_sub(next.0.max(state.low.0)).max(0))
}

/// Returns the number of offsets from the next ones to read to the end, in all partitions.
pub fn of_topic(next: &Offsets, topic: &TopicState) -> i64 {
    topic.partitions.iter().map(|state| of_partition(next, state)).sum()
}

/// Returns the offset of the oldest unread record in each partition that has one.
pub fn oldest_unread(next: &Offsets, topic: &TopicState) -> Offsets {
    let unread = topic.partitions.iter().filter(|state| of_partition(next, state) > 0);
    unread
        .map(|state| {
            let next = next.get(&state.partition).copied().unwrap_or(state.low);
            (state.partition, next.max(state.low))
        })
        .collect()
}

/// Returns the whole seconds since an instant, never negative.
pub fn seconds_since(at: Timestamp, now: Timestamp) -> i64 {
    now.0.saturating_sub(at.0).max(0) / 1_000_000
}

/// Returns the whole seconds since each of these instants by partition. `None` where the record could not be read.
pub fn ages(at: &BTreeMap<i32, Option<Timestamp>>, now: Timestamp) -> BTreeMap<i32, Option<i64>> {
    at.iter().map(|(partition, at)| (*partition, at.map(|at| seconds_since(at, now)))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::NextOffset;

    #[test]
    fn lag_counts_what_can_be_read() {
        let check = |low, high, next, want, from: Option<i64>| {
            let state = PartitionState { partition: 0, committed: None, low: NextOffset(low), high: NextOffset(high) };
            let topic = TopicState { cluster: None, partitions: vec![state] };
            let next = Offsets::from([(0, NextOffset(next))]);
            assert_eq!(of_topic(&next, &topic), want, "{next:?}");
            let from: Offsets = from.map(|from| (0, NextOffset(from))).into_iter().collect();
            assert_eq!(oldest_unread(&next, &topic), from, "{next:?}");
        };
        check(0, 10, 4, 6, Some(4));
        check(0, 10, 10, 0, None);
        check(5, 10, 5, 5, Some(5));
        check(5, 10, 2, 5, Some(5));
        check(0, 10, 12, 0, None);
        check(7, 7, 7, 0, None);
    }

    #[test]
    fn ages_are_whole_seconds_and_never_negative() {
        let at = BTreeMap::from([(0, Some(Timestamp(1_000_000))), (1, Some(Timestamp(9_000_000))), (2, None)]);
        let want = BTreeMap::from([(0, Some(2)), (1, Some(0)), (2, None)]);
        assert_eq!(ages(&at, Timestamp(3_999_999)), want);
    }
}
