//! Looks at the fake of a topic from beside its reader.

use std::collections::BTreeMap;

use tokio::task::yield_now;

use super::MemoryTopic;
use crate::failure::CallError;
use crate::progress::TopicState;
use crate::source::Beside;

/// Looks at a [`MemoryTopic`] while it is read.
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
