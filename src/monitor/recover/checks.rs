//! Whether what a run is to go on with is still there, and still what it was.

use std::collections::BTreeMap;

use crate::change::Change;
use crate::checkpoint::{Marks, Offsets};
use crate::clock::Clock;
use crate::confirm::Confirm;
use crate::monitor::{Monitor, MonitorError, patiently};
use crate::sink::Sinks;
use crate::source::{Layers, PartitionState, Source};

impl<S: Source<Change = Change>, C: Confirm, K: Sinks<Member = S::Member>, T: Clock> Monitor<S, C, K, T> {
    /// Offsets mean nothing in another cluster, or in a topic of the same name that was made anew.
    pub(super) async fn check_same_topic(
        &self,
        cluster: Option<&String>,
        marks: &Marks,
        layers: &Layers,
    ) -> Result<(), MonitorError> {
        let (topic, folder) = (&self.settings.topic, self.folder.path().display());
        if let (Some(then), Some(now)) = (cluster, &layers.cluster)
            && then != now
        {
            return Err(MonitorError::Unsafe(format!(
                "{folder} holds progress in Kafka cluster {then}, and this is cluster {now}: use a new group id, or move the folder away to go by what the group has committed here"
            )));
        }
        let mut asked = BTreeMap::new();
        for state in &layers.partitions {
            let Some(mark) = marks.get(&state.partition) else { continue };
            if mark.offset >= state.high.0 {
                let found = format!("it ends at offset {}", state.high.0);
                return Err(made_anew(topic, state.partition, &found, mark.offset));
            }
            if mark.offset >= state.low.0 {
                asked.insert(state.partition, mark.offset);
            }
        }
        if asked.is_empty() {
            return Ok(());
        }
        let found = patiently(async || self.source.timestamps(&asked).await).await?;
        for (partition, timestamp) in found {
            let Some(mark) = marks.get(&partition) else { continue };
            if mark.timestamp_ms != timestamp {
                return Err(made_anew(topic, partition, "another record stands there", mark.offset));
            }
        }
        Ok(())
    }
}

fn made_anew(topic: &str, partition: i32, found: &str, offset: i64) -> MonitorError {
    MonitorError::Unsafe(format!(
        "{topic} partition {partition} is not the one that was read: offset {offset} was, and {found}; the topic was truncated or made anew. To read what is there now from its beginning: tripline offsets reset --to-earliest --execute, or a new group id"
    ))
}

/// Going on from an offset that is gone, or not there yet, would lose or repeat changes in silence.
pub(super) fn check_readable(topic: &str, from: &Offsets, layers: &[PartitionState]) -> Result<(), MonitorError> {
    for layer in layers {
        let Some(next) = from.get(&layer.partition) else { continue };
        let partition = layer.partition;
        if *next < layer.low {
            return Err(MonitorError::Unsafe(format!(
                "{topic} partition {partition}: offsets {} to {} were removed by retention before they were read; to go on with what is left: tripline offsets reset --to-earliest --execute, or a new group id",
                next.0,
                layer.low.0 - 1
            )));
        }
        if *next > layer.high {
            return Err(made_anew(topic, partition, &format!("it ends at offset {}", layer.high.0), next.0 - 1));
        }
    }
    Ok(())
}
