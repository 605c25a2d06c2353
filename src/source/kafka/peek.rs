//! A look at the topic's first records, without joining a group.

use std::collections::BTreeSet;
use std::time::Duration;

use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::Message;
use rdkafka::{Offset, TopicPartitionList};

use super::{CALL_TIMEOUT, Quiet};

/// How long a poll without records lasts.
const POLL_WAIT: Duration = Duration::from_millis(100);
/// Records with a value that are looked at before it is given up, and records in all.
const RECORDS_MAX: usize = 100_000;
const ALL_MAX: usize = 10 * RECORDS_MAX;

/// What a look at the first records has found.
pub struct Peeked<T> {
    /// The first answer.
    pub found: Option<T>,
    /// Records with a value that were looked at.
    pub seen: usize,
}

impl<T> Peeked<T> {
    /// Whether there is no use in looking again when more has come.
    pub fn is_all_in_vain(&self) -> bool {
        self.found.is_none() && self.seen >= RECORDS_MAX
    }
}

/// The first answer that `look` has to a value, from the oldest records on. Blocks.
///
/// # Errors
/// The broker does not answer.
pub fn first<T>(
    base: &ClientConfig,
    topic: &str,
    mut look: impl FnMut(&[u8]) -> Option<T>,
) -> Result<Peeked<T>, KafkaError> {
    let mut config = base.clone();
    config.set("group.id", "tripline").set("enable.auto.commit", "false"); // never joined
    config.set("enable.partition.eof", "true").set("auto.offset.reset", "earliest");
    let consumer: BaseConsumer<Quiet> = config.create_with_context(Quiet)?;
    let metadata = consumer.fetch_metadata(Some(topic), CALL_TIMEOUT)?;
    let partitions = metadata.topics().iter().find(|found| found.name() == topic).map_or(&[][..], |t| t.partitions());
    let mut assignment = TopicPartitionList::new();
    for partition in partitions {
        assignment.add_partition_offset(topic, partition.id(), Offset::Beginning)?;
    }
    consumer.assign(&assignment)?;
    let mut left: BTreeSet<i32> = partitions.iter().map(|partition| partition.id()).collect();
    let (mut all, mut seen) = (0, 0);
    let mut silent = Duration::ZERO;
    while !left.is_empty() && seen < RECORDS_MAX && all < ALL_MAX {
        match consumer.poll(POLL_WAIT) {
            None if silent >= CALL_TIMEOUT => return Err(KafkaError::NoMessageReceived),
            None => {
                silent += POLL_WAIT;
                continue;
            }
            Some(Err(KafkaError::PartitionEOF(partition))) => drop(left.remove(&partition)),
            Some(Err(error)) => {
                tracing::debug!(%error, "looking at the first records");
                continue;
            }
            Some(Ok(message)) => {
                all += 1;
                seen += usize::from(message.payload().is_some_and(|value| value.trim_ascii() != b"null"));
                let found = message.payload().and_then(&mut look);
                if found.is_some() {
                    return Ok(Peeked { found, seen });
                }
            }
        }
        silent = Duration::ZERO;
    }
    Ok(Peeked { found: None, seen })
}
