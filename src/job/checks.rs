//! Whether what a run is to go on with is still there, and still what it was.

use std::collections::BTreeMap;

use super::{JobError, patiently};
use crate::checkpoint::{Marks, Offsets};
use crate::source::{Layers, PartitionState, Source};

/// What a job says to do where it cannot go on.
#[derive(Clone, Copy, Debug)]
pub struct Advice {
    /// In another cluster.
    pub cluster: &'static str,
    /// To read what the topic has now.
    pub anew: &'static str,
}

/// Offsets mean nothing in another cluster, or in a topic of the same name that was made anew. `cluster` and `marks` are
/// what `place` holds.
///
/// # Errors
/// It is not the same.
pub async fn check_same_topic<S: Source>(
    source: &S,
    topic: &str,
    place: &str,
    (cluster, marks): (Option<&String>, &Marks),
    layers: &Layers,
    advice: Advice,
) -> Result<(), JobError> {
    if let (Some(then), Some(now)) = (cluster, &layers.cluster)
        && then != now
    {
        return Err(JobError::Unsafe(format!(
            "{place} holds progress in Kafka cluster {then}, and this is cluster {now}: {}",
            advice.cluster
        )));
    }
    let mut asked = BTreeMap::new();
    for state in &layers.partitions {
        let Some(mark) = marks.get(&state.partition) else { continue };
        if mark.offset >= state.high.0 {
            let found = format!("it ends at offset {}", state.high.0);
            return Err(made_anew(topic, state.partition, &found, mark.offset, advice));
        }
        if mark.offset >= state.low.0 {
            asked.insert(state.partition, mark.offset);
        }
    }
    if asked.is_empty() {
        return Ok(());
    }
    let found = patiently(async || source.timestamps(&asked).await).await?;
    for (partition, timestamp) in found {
        let Some(mark) = marks.get(&partition) else { continue };
        if mark.timestamp_ms != timestamp {
            return Err(made_anew(topic, partition, "another record stands there", mark.offset, advice));
        }
    }
    Ok(())
}

/// Going on from an offset that is gone, or not there yet, would lose or repeat changes in silence.
///
/// # Errors
/// It is so.
pub fn check_readable(topic: &str, from: &Offsets, layers: &[PartitionState], advice: Advice) -> Result<(), JobError> {
    let gone = |partition: &i32| layers.iter().all(|layer| layer.partition != *partition);
    if let Some((partition, next)) = from.iter().find(|(partition, _)| gone(partition)) {
        return Err(made_anew(topic, *partition, "there is no such partition", next.0 - 1, advice));
    }
    for layer in layers {
        let Some(next) = from.get(&layer.partition) else { continue };
        let partition = layer.partition;
        if *next < layer.low {
            return Err(JobError::Unsafe(format!(
                "{topic} partition {partition}: offsets {} to {} were removed by retention before they were read, and it begins at {} now; to go on with what is left: {}",
                next.0,
                layer.low.0 - 1,
                layer.low.0,
                advice.anew
            )));
        }
        if *next > layer.high {
            return Err(made_anew(
                topic,
                partition,
                &format!("it ends at offset {}", layer.high.0),
                next.0 - 1,
                advice,
            ));
        }
    }
    Ok(())
}

pub(crate) fn made_anew(topic: &str, partition: i32, found: &str, offset: i64, advice: Advice) -> JobError {
    JobError::Unsafe(format!(
        "{topic} partition {partition} is not the one that was read: offset {offset} was, and {found}; the topic was truncated or made anew. To read what is there now from its beginning: {}",
        advice.anew
    ))
}
