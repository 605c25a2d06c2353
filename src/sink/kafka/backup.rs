//! Reading the topic of episodes: how far a group has come, and the newest record of each group of rows.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rdkafka::Offset;
use rdkafka::TopicPartitionList;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::Message;

use crate::source::kafka::Quiet;
use crate::unit::backup::{Backup, EpisodeRecord, Progress};

/// How long a request, or the next record, may take.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// How often it is looked whether other groups' transactions have ended.
const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// The partition that everything is written to.
const PARTITION: i32 = 0;

/// Reads all that is committed of this group. Another group's open transaction hides what was committed behind it, so its
/// end is waited for. Blocks.
///
/// # Errors
/// The broker does not answer, or a transaction does not end in time.
#[expect(clippy::disallowed_methods, reason = "a time limit")]
pub fn read(base: &ClientConfig, topic: &str, group: &str) -> Result<Backup, String> {
    let failed = |error: KafkaError| format!("{topic}: {error}");
    let client = |isolation: &str| -> Result<BaseConsumer<Quiet>, String> {
        let mut config = base.clone();
        config
            .set("group.id", group) // never joined: the client asks for one
            .set("enable.auto.commit", "false")
            .set("auto.offset.reset", "earliest")
            .set("enable.partition.eof", "true")
            .set("isolation.level", isolation);
        config.create_with_context(Quiet).map_err(failed)
    };
    let (everything, consumer) = (client("read_uncommitted")?, client("read_committed")?);
    let (_, end) = everything.fetch_watermarks(topic, PARTITION, CALL_TIMEOUT).map_err(failed)?;
    let deadline = Instant::now() + CALL_TIMEOUT;
    loop {
        // For such a client this is the end of what is not part of an open transaction.
        let (_, stable) = consumer.fetch_watermarks(topic, PARTITION, CALL_TIMEOUT).map_err(failed)?;
        if stable >= end {
            break;
        }
        if Instant::now() > deadline {
            return Err(format!("{topic}: a transaction of another group is under way at offset {stable}"));
        }
        std::thread::sleep(LOOK_AGAIN);
    }
    let mut assignment = TopicPartitionList::new();
    assignment.add_partition_offset(topic, PARTITION, Offset::Beginning).map_err(failed)?;
    consumer.assign(&assignment).map_err(failed)?;
    let mut backup = Backup::default();
    let mut newest: BTreeMap<Vec<u8>, EpisodeRecord> = BTreeMap::new();
    let prefix = format!("{group}|");
    loop {
        match consumer.poll(CALL_TIMEOUT) {
            None => return Err(format!("{topic}: no answer within {CALL_TIMEOUT:?}")),
            Some(Err(KafkaError::PartitionEOF(_))) => break,
            Some(Err(error)) => tracing::debug!(%error, "reading the topic of episodes"),
            Some(Ok(message)) => {
                let (key, body) = (message.key().unwrap_or_default(), message.payload());
                let told = if key == group.as_bytes() {
                    parse::<Progress>(body).map(|progress| backup.progress = progress)
                } else if key.starts_with(prefix.as_bytes()) {
                    parse::<EpisodeRecord>(body).map(|record| match record {
                        Some(record) if record.group == group => drop(newest.insert(key.to_vec(), record)),
                        Some(_) => {} // the name of its group begins with this one's
                        None => drop(newest.remove(key)),
                    })
                } else {
                    Ok(())
                };
                if let Err(error) = told {
                    let offset = message.offset();
                    tracing::warn!(topic, offset, %error, "not a record of ours: passed over");
                }
            }
        }
    }
    backup.episodes = newest.into_values().collect();
    Ok(backup)
}

fn parse<T: serde::de::DeserializeOwned>(body: Option<&[u8]>) -> Result<Option<T>, serde_json::Error> {
    body.map(serde_json::from_slice).transpose()
}
