//! Reads the fake topic's state without its reader.

use std::collections::BTreeMap;

use tokio::task::yield_now;

use super::MemoryTopic;
use crate::failure::CallError;
use crate::model::NextOffset;
use crate::progress::{PartitionState, TopicState};
use crate::source::Beside;

/// Reads the state of a [`MemoryTopic`] while it is read.
#[derive(Clone, Debug)]
pub struct MemoryBeside<T>(MemoryTopic<T>);

impl<T> MemoryBeside<T> {
    pub(super) fn of(topic: &MemoryTopic<T>) -> Self
    where
        T: Clone,
    {
        Self(topic.clone())
    }
}

impl<T: Clone> Beside for MemoryBeside<T> {
    async fn state(&self) -> Result<TopicState, CallError> {
        yield_now().await;
        let all: Vec<i32> = self.0.lock().partitions.keys().copied().collect();
        Ok(self.0.state_for("", &all))
    }

    async fn timestamps(&self, offsets: &BTreeMap<i32, i64>) -> Result<BTreeMap<i32, i64>, CallError> {
        yield_now().await;
        Ok(self.0.timestamps_at(offsets))
    }
}

impl<T: Clone> MemoryTopic<T> {
    pub(super) fn state_for(&self, group: &str, partitions: &[i32]) -> TopicState {
        let state = self.lock();
        let layer = |partition: &i32| {
            let log = state.partitions.get(partition);
            PartitionState {
                partition: *partition,
                committed: state.groups.get(group).and_then(|group| group.get(partition)).cloned(),
                low: NextOffset(log.map_or(0, |log| log.low)),
                high: NextOffset(log.map_or(0, |log| log.high)),
            }
        };
        TopicState { cluster: Some(state.cluster.clone()), partitions: partitions.iter().map(layer).collect() }
    }

    pub(super) fn timestamps_at(&self, offsets: &BTreeMap<i32, i64>) -> BTreeMap<i32, i64> {
        let state = self.lock();
        let has = |(partition, offset): &(&i32, &i64)| {
            state.partitions.get(partition).is_some_and(|log| log.records.contains_key(offset))
        };
        offsets.iter().filter(has).map(|(partition, offset)| (*partition, state.born_ms + offset)).collect()
    }
}
