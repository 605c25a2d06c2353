//! Reads single records of a topic without joining a group.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Headers, Message};
use rdkafka::{Offset, TopicPartitionList};

use super::{CALL_TIMEOUT, Cluster, Isolation, Watch, topic};
use crate::change::avro;
use crate::change::record::TopicRecord;
use crate::failure::{CallError, Kind};
use crate::model::Timestamp;
use crate::progress::{Offsets, Topics};

/// How long a poll without records lasts.
const POLL_WAIT: Duration = Duration::from_millis(50);
/// How long to wait for the records whose age is to be shown.
const AGE_TIMEOUT: Duration = Duration::from_secs(5);

/// Settings for reading only a few records.
const FEW: [(&str, &str); 3] =
    [("queued.min.messages", "1"), ("queued.max.messages.kbytes", "1024"), ("fetch.message.max.bytes", "65536")];

impl From<&BorrowedMessage<'_>> for TopicRecord {
    fn from(message: &BorrowedMessage<'_>) -> Self {
        Self {
            partition: message.partition(),
            offset: message.offset(),
            key: message.key().map(<[u8]>::to_vec),
            value: message.payload().map(<[u8]>::to_vec),
            at: message.timestamp().to_millis().map(Timestamp::from_millis),
            schema_headers: schema_headers(message),
        }
    }
}

fn schema_headers(message: &BorrowedMessage<'_>) -> Vec<(String, Vec<u8>)> {
    let headers = message.headers().into_iter().flat_map(Headers::iter).filter(|header| avro::names_schema(header.key));
    headers.map(|header| (header.key.to_owned(), header.value.unwrap_or_default().to_vec())).collect()
}

/// What to do about an open transaction. It hides the committed records behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenTransaction {
    /// Wait for its end.
    Wait,
    /// Read the records before it. Its own records, and those behind it, count as not committed.
    LeaveOut,
}

/// What a scan does after a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    /// Continues.
    Record,
    /// Skips the rest of this partition.
    Partition,
}

/// The result of a scan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scanned {
    /// All partitions were read, or the reader had enough.
    Done,
    /// No record arrived in time.
    Silent,
}

/// Reads from these offsets to the end of each partition, or until `take` ends the scan. Blocks.
fn scan(
    consumer: &BaseConsumer<Watch>,
    topic: &str,
    from: &BTreeMap<i32, Offset>,
    silence_max: Duration,
    mut take: impl FnMut(&BorrowedMessage<'_>) -> ControlFlow<(), Next>,
) -> Result<Scanned, KafkaError> {
    let mut assignment = TopicPartitionList::new();
    for (partition, offset) in from {
        assignment.add_partition_offset(topic, *partition, *offset)?;
    }
    consumer.assign(&assignment)?;
    let mut left: BTreeSet<i32> = from.keys().copied().collect();
    let mut silent = Duration::ZERO;
    while !left.is_empty() {
        match consumer.poll(POLL_WAIT) {
            None if silent >= silence_max => return Ok(Scanned::Silent),
            None => {
                silent += POLL_WAIT;
                continue;
            }
            Some(Err(KafkaError::PartitionEOF(partition))) => drop(left.remove(&partition)),
            Some(Err(error)) if super::error::kind(&error) != Kind::Unreachable => return Err(error),
            Some(Err(error)) => {
                tracing::debug!(%error, topic, "reading single records; tried again");
                continue;
            }
            Some(Ok(message)) => {
                let partition = message.partition();
                if left.contains(&partition) {
                    match take(&message) {
                        ControlFlow::Break(()) => return Ok(Scanned::Done),
                        ControlFlow::Continue(Next::Record) => {}
                        ControlFlow::Continue(Next::Partition) => {
                            left.remove(&partition);
                            let mut done = TopicPartitionList::new();
                            done.add_partition(topic, partition);
                            consumer.pause(&done)?;
                        }
                    }
                }
            }
        }
        silent = Duration::ZERO;
    }
    Ok(Scanned::Done)
}

/// The result of a search in the first records of a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FirstRecords<T> {
    /// The first answer that `look` returned.
    pub found: Option<T>,
    /// The number of records with a value that were searched.
    pub seen: usize,
}

/// The greatest number of records with a value that are searched, and the greatest number of all records.
const FIRST_MAX: usize = 100_000;
const FIRST_ALL_MAX: usize = 10 * FIRST_MAX;

impl<T> FirstRecords<T> {
    /// Whether the search was abandoned because of its limit.
    pub fn is_given_up(&self) -> bool {
        self.found.is_none() && self.seen >= FIRST_MAX
    }
}

impl Cluster {
    /// Runs `read` with a client for reading single records, on a thread for blocking calls.
    pub(super) async fn reading<T: Send + 'static>(
        &self,
        what: &str,
        group: &str,
        isolation: Isolation,
        settings: &[(&str, &str)],
        read: impl FnOnce(&BaseConsumer<Watch>) -> Result<T, KafkaError> + Send + 'static,
    ) -> Result<T, CallError> {
        let mut config = self.lookup_settings(group, isolation);
        for (name, value) in settings {
            config.set(*name, *value);
        }
        let consumer = super::make(&config)?;
        let reading = move || {
            super::serve(&consumer); // a login may wait for its token
            read(&consumer)
        };
        match tokio::task::spawn_blocking(reading).await {
            Ok(read) => read.map_err(|error| self.failed(what, error)),
            Err(panicked) => Err(CallError::from_source(what, panicked, Kind::Internal)),
        }
    }

    /// The timestamps of the records at these offsets, in milliseconds since 1970 by lane. An offset without a record is left
    /// out.
    ///
    /// # Errors
    /// The cluster does not answer, or refuses.
    pub async fn timestamps(
        &self,
        topics: &Topics,
        offsets: &BTreeMap<i32, i64>,
    ) -> Result<BTreeMap<i32, i64>, CallError> {
        let mut found = BTreeMap::new();
        for (topic, offsets) in topics.by_topic(offsets) {
            let of_topic = self.timestamps_of(&topic, &offsets).await?;
            found.insert(topic, of_topic);
        }
        Ok(topics.by_lane(found))
    }

    async fn timestamps_of(&self, topic: &str, offsets: &BTreeMap<i32, i64>) -> Result<BTreeMap<i32, i64>, CallError> {
        let what = format!("reading the last records of {topic} that were taken");
        let (topic, offsets) = (topic.to_owned(), offsets.clone());
        let settings = [("auto.offset.reset", "latest")];
        self.reading(&what, &self.group, Isolation::Uncommitted, &settings, move |consumer| {
            let from = offsets.iter().map(|(partition, offset)| (*partition, Offset::Offset(*offset))).collect();
            let mut found = BTreeMap::new();
            let scanned = scan(consumer, &topic, &from, CALL_TIMEOUT, |message| {
                if offsets.get(&message.partition()) == Some(&message.offset()) {
                    found.extend(message.timestamp().to_millis().map(|at| (message.partition(), at)));
                }
                ControlFlow::Continue(Next::Partition)
            })?;
            if scanned == Scanned::Done { Ok(found) } else { Err(KafkaError::NoMessageReceived) }
        })
        .await
    }

    /// Reads the timestamps of the records at these offsets. If there is no record at an offset, the next record
    /// counts. A partition without any such record is omitted. A partition that could not be read in time has `None`.
    ///
    /// # Errors
    /// The cluster refuses.
    pub async fn ages(&self, topics: &Topics, from: &Offsets) -> Result<BTreeMap<i32, Option<Timestamp>>, CallError> {
        let mut found = BTreeMap::new();
        for (topic, from) in topics.by_topic(from) {
            let of_topic = self.ages_of(&topic, &from).await?;
            found.insert(topic, of_topic);
        }
        Ok(topics.by_lane(found))
    }

    async fn ages_of(&self, topic: &str, from: &Offsets) -> Result<BTreeMap<i32, Option<Timestamp>>, CallError> {
        let what = format!("reading the oldest unread records of {topic}");
        let (topic, from) = (topic.to_owned(), from.clone());
        self.reading(&what, &self.group, Isolation::Committed, &FEW, move |consumer| {
            let offsets = from.iter().map(|(partition, next)| (*partition, Offset::Offset(next.0))).collect();
            let mut found = BTreeMap::new();
            let scanned = scan(consumer, &topic, &offsets, AGE_TIMEOUT, |message| {
                found.insert(message.partition(), message.timestamp().to_millis().map(Timestamp::from_millis));
                ControlFlow::Continue(Next::Partition)
            })?;
            if scanned == Scanned::Silent {
                for partition in from.keys() {
                    found.entry(*partition).or_insert(None);
                }
            }
            Ok(found)
        })
        .await
    }

    /// Returns the first answer that `look` has to a record. Begins at the oldest records.
    ///
    /// # Errors
    /// The cluster does not answer, or refuses.
    pub async fn first_records<T: Send + 'static>(
        &self,
        topic: &str,
        mut look: impl FnMut(&TopicRecord) -> Option<T> + Send + 'static,
    ) -> Result<FirstRecords<T>, CallError> {
        let what = format!("reading the first records of {topic}");
        let topic = topic.to_owned();
        self.reading(&what, &self.group, Isolation::Committed, &[], move |consumer| {
            let partitions = topic::partitions(consumer, &topic)?;
            let from = partitions.into_iter().map(|partition| (partition, Offset::Beginning)).collect();
            let (mut all, mut seen, mut found) = (0_usize, 0_usize, None);
            let scanned = scan(consumer, &topic, &from, CALL_TIMEOUT, |message| {
                all += 1;
                seen += usize::from(message.payload().is_some_and(|value| value.trim_ascii() != b"null"));
                found = look(&TopicRecord::from(message));
                if found.is_some() || seen >= FIRST_MAX || all >= FIRST_ALL_MAX {
                    return ControlFlow::Break(());
                }
                ControlFlow::Continue(Next::Record)
            })?;
            if scanned == Scanned::Done { Ok(FirstRecords { found, seen }) } else { Err(KafkaError::NoMessageReceived) }
        })
        .await
    }

    /// Reads the newest `of_each` records of each partition, or those that can be read in time.
    ///
    /// # Errors
    /// The cluster does not answer, or refuses.
    pub async fn newest_records(&self, topic: &str, of_each: i64) -> Result<Vec<TopicRecord>, CallError> {
        let what = format!("reading the newest records of {topic}");
        let topic = topic.to_owned();
        self.reading(&what, &self.group, Isolation::Committed, &[], move |consumer| {
            let (mut from, mut ends) = (BTreeMap::new(), BTreeMap::new());
            for partition in topic::partitions(consumer, &topic)? {
                let (low, high) = consumer.fetch_watermarks(&topic, partition, CALL_TIMEOUT)?;
                if low < high {
                    from.insert(partition, Offset::Offset(high.saturating_sub(of_each).max(low)));
                    ends.insert(partition, high);
                }
            }
            let mut records = Vec::new();
            let scanned = scan(consumer, &topic, &from, CALL_TIMEOUT, |message| {
                let end = ends.get(&message.partition()).copied().unwrap_or_default();
                if message.offset() < end {
                    records.push(TopicRecord::from(message));
                }
                let is_last = message.offset().saturating_add(1) >= end;
                ControlFlow::Continue(if is_last { Next::Partition } else { Next::Record })
            })?;
            if scanned == Scanned::Silent && records.is_empty() {
                Err(KafkaError::NoMessageReceived)
            } else {
                Ok(records)
            }
        })
        .await
    }

    /// Passes every committed record of a partition to `take`, up to the end. An open transaction hides the committed
    /// records behind it, and `open` says what to do then. A topic that does not exist has no records, and is not
    /// created.
    ///
    /// # Errors
    /// The cluster does not answer, or refuses, or a transaction does not end in time.
    pub async fn committed_records<T: Send + 'static>(
        &self,
        topic: &str,
        partition: i32,
        group: &str,
        open: OpenTransaction,
        mut read: T,
        mut take: impl FnMut(&mut T, TopicRecord) + Send + 'static,
    ) -> Result<T, CallError> {
        let what = format!("reading {topic}");
        let end = {
            let topic = topic.to_owned();
            let end = self.reading(&what, group, Isolation::Uncommitted, &[], move |consumer| {
                if !topic::partitions(consumer, &topic)?.contains(&partition) {
                    return Ok(None);
                }
                consumer.fetch_watermarks(&topic, partition, CALL_TIMEOUT).map(|(_, end)| Some(end))
            });
            end.await?
        };
        let Some(end) = end else { return Ok(read) };
        let topic = topic.to_owned();
        let (read, stable) = self
            .reading(&what, group, Isolation::Committed, &[("auto.offset.reset", "earliest")], move |consumer| {
                let mut waited = Duration::ZERO;
                loop {
                    // For such a client this is the end of what is not part of an open transaction.
                    let (_, stable) = consumer.fetch_watermarks(&topic, partition, CALL_TIMEOUT)?;
                    if stable >= end || open == OpenTransaction::LeaveOut {
                        break;
                    }
                    if waited >= CALL_TIMEOUT {
                        return Ok((read, Some(stable)));
                    }
                    std::thread::sleep(POLL_WAIT);
                    waited += POLL_WAIT;
                }
                let from = BTreeMap::from([(partition, Offset::Beginning)]);
                let scanned = scan(consumer, &topic, &from, CALL_TIMEOUT, |message| {
                    take(&mut read, TopicRecord::from(message));
                    ControlFlow::Continue(Next::Record)
                })?;
                if scanned == Scanned::Done { Ok((read, None)) } else { Err(KafkaError::NoMessageReceived) }
            })
            .await?;
        match stable {
            None => Ok(read),
            Some(stable) => {
                let problem = format!("a transaction of another group is open at offset {stable}");
                Err(CallError::new(what, problem, Kind::Unreachable))
            }
        }
    }
}
