//! The thread that polls librdkafka and decodes what it reads.

use std::sync::mpsc::Receiver;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use rdkafka::TopicPartitionList;
use rdkafka::consumer::Consumer;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Message, OwnedMessage};
use rdkafka::topic_partition_list::TopicPartitionListElem;
use tokio::sync::mpsc;

use super::super::Event;
use super::ahead::{Ahead, Sent};
use super::context::{GroupConsumer, Rebalance};
use super::delivered::Delivered;
use super::topics::ReadTopics;
use crate::change::Decode;
use crate::change::avro::SchemaId;
use crate::change::record::{BATCH_BYTES_MAX, BATCH_RECORDS_MAX, Batch, SourceRecord};
use crate::failure::{CallError, Kind};
use crate::kafka::error;
use crate::progress::LastRecord;
use crate::progress::topics::partition_of;
use crate::retry::Outage;

/// The duration of a poll without records. It bounds how long a command waits.
const POLL_WAIT: Duration = Duration::from_millis(20);
/// The number of polls before an unreachable schema registry is asked again: about a second.
const POLLS_BEFORE_REGISTRY: u32 = 50;
/// How long the loop may keep a batch waiting before the partitions are paused and polling continues.
const LAG_BEFORE_PAUSE: Duration = Duration::from_secs(1);

pub(super) enum Command {
    /// Start to read at these offsets, unless the assignment with this number (from 1) is over.
    Start(u64, TopicPartitionList),
    Stop,
}

/// The state of the reading thread.
pub(super) struct Reader<D: Decode> {
    consumer: Arc<GroupConsumer>,
    topics: ReadTopics<D>,
    /// The lanes that are read.
    lanes: Vec<i32>,
    inbox: Receiver<Command>,
    outbox: mpsc::Sender<Sent<D::Change>>,
    ahead: Arc<Ahead>,
    /// The topics and the group, for errors.
    what: String,
    /// The next message of its partition, whose schema has to be fetched before it can be decoded.
    pending: Option<OwnedMessage>,
    delivered: Delivered,
    /// The number of assignments that the group has made.
    assignments: u64,
    /// Whether the last of them is still current.
    assigned: bool,
}

impl<D: Decode> Reader<D> {
    pub(super) fn new(
        consumer: Arc<GroupConsumer>,
        topics: ReadTopics<D>,
        inbox: Receiver<Command>,
        outbox: mpsc::Sender<Sent<D::Change>>,
        group: &str,
    ) -> Self {
        let (ahead, pending, delivered) = (Arc::default(), None, Delivered::default());
        let (what, lanes) = (format!("reading {} as group {group}", topics.topics.text()), Vec::new());
        Self {
            consumer,
            topics,
            lanes,
            inbox,
            outbox,
            ahead,
            what,
            pending,
            delivered,
            assignments: 0,
            assigned: false,
        }
    }

    pub(super) fn run(mut self, runtime: &tokio::runtime::Handle) {
        loop {
            match self.inbox.try_recv() {
                Ok(Command::Start(number, _)) if !self.assigned || number != self.assignments => {
                    tracing::debug!("the assignment was over before reading could start");
                }
                Ok(Command::Start(_, assignment)) => {
                    self.pending = None; // it is read again
                    self.interrupted();
                    let elements = assignment.elements();
                    let lane = |of: &TopicPartitionListElem<'_>| self.topics.topics.lane(of.topic(), of.partition());
                    self.lanes = elements.iter().filter_map(lane).collect();
                    if let Err(error) = self.consumer.assign(&assignment) {
                        let failed = CallError::from_source("Kafka: assigning the partitions", error, Kind::Unsafe);
                        self.send(runtime, Event::Failed(failed), 0);
                        return;
                    }
                }
                Ok(Command::Stop) | Err(std::sync::mpsc::TryRecvError::Disconnected) => return,
                Err(std::sync::mpsc::TryRecvError::Empty) => {}
            }
            let (batch, bytes, failed) = self.fill();
            let rebalances =
                std::mem::take(&mut *self.consumer.context().rebalances.lock().unwrap_or_else(PoisonError::into_inner));
            let mut events = Vec::new();
            if !batch.is_empty() {
                events.push((Event::Batch(batch), bytes));
            }
            for rebalance in rebalances {
                self.pending = None; // its partition is read from where its next owner begins
                self.assigned = matches!(rebalance, Rebalance::Assign(_));
                self.assignments += u64::from(self.assigned);
                let event = match rebalance {
                    Rebalance::Assign(partitions) => Event::Assigned(partitions),
                    Rebalance::Revoke => Event::Revoked,
                };
                events.push((event, 0));
            }
            events.extend(failed.map(|error| (Event::Failed(error), 0)));
            for (event, bytes) in events {
                if !self.send(runtime, event, bytes) {
                    return;
                }
            }
        }
    }

    /// Polls until there are no more records or the batch is full. Also returns the bytes of the records.
    fn fill(&mut self) -> (Batch<D::Change>, usize, Option<CallError>) {
        let mut batch = Batch::default();
        let consumer = Arc::clone(&self.consumer);
        let fetched = consumer.context().fetched();
        let mut wait = POLL_WAIT;
        let mut bytes = 0;
        self.topics.forget_missing();
        if let Some(message) = self.pending.take() {
            match self.decode_pending(&message) {
                Ok(Some(record)) => bytes += push(&mut batch, &message, record),
                Ok(None) => return (batch, bytes, None),
                Err(failed) => return (batch, bytes, Some(failed)),
            }
        }
        while batch.records.len() < BATCH_RECORDS_MAX && bytes < BATCH_BYTES_MAX {
            match consumer.poll(wait) {
                None => break,
                Some(Ok(message)) => {
                    let Some(decoded) = self.decode(&message) else { continue };
                    let Ok(record) = decoded else {
                        // The records before this message do not wait for its schema.
                        self.pending = Some(message.detach());
                        break;
                    };
                    bytes += push(&mut batch, &message, record);
                }
                Some(Err(KafkaError::PartitionEOF(partition))) => {
                    // The client does not name the topic. Other facts about the partition's end come a moment later.
                    let mut lanes = self.lanes.iter().filter(|lane| partition_of(**lane) == partition);
                    batch.ended.extend(lanes.next().filter(|_| lanes.next().is_none()));
                }
                Some(Err(error)) => {
                    tracing::debug!(%error, "reading from Kafka");
                    if let Some(failed) = classify(error, &self.what) {
                        return (batch, bytes, Some(failed));
                    }
                }
            }
            wait = Duration::ZERO;
        }
        let is_empty = batch.records.is_empty() && self.pending.is_none();
        batch.delivered = self.delivered.polled(fetched, is_empty);
        (batch, bytes, None)
    }

    /// Returns the record of a message, or the schema that has to be fetched first. `None` for a topic that is not
    /// read.
    fn decode<M: Message>(&mut self, message: &M) -> Option<Result<SourceRecord<D::Change>, SchemaId>> {
        let lane = self.topics.lane(message)?;
        Some(self.topics.decoding(lane)?.decode(message, lane, timestamp_of(message)))
    }

    /// Notes that the client fetches the same records again.
    fn interrupted(&mut self) {
        self.delivered.interrupted(self.consumer.context().fetched().count);
    }

    /// Decodes a message after fetching its schemas. While the registry does not answer, polling with paused partitions
    /// keeps the group alive. `None`: the partitions were given back, or the loop has ended.
    fn decode_pending(&mut self, message: &OwnedMessage) -> Result<Option<SourceRecord<D::Change>>, CallError> {
        let mut outage = Outage::new("fetching a schema");
        let mut paused: Option<TopicPartitionList> = None;
        let decoded = loop {
            let id = match self.decode(message) {
                Some(Ok(record)) => break Some(record),
                Some(Err(id)) => id,
                None => break None,
            };
            let lane = self.topics.lane(message);
            let Some(decoding) = lane.and_then(|lane| self.topics.decoding(lane)) else { break None };
            match decoding.fetch(id) {
                Ok(()) => outage.is_over(),
                Err(error) if error.kind != Kind::Unreachable => return Err(error),
                Err(error) => {
                    outage.goes_on(&error);
                    if paused.is_none() {
                        let assignment = self.consumer.assignment().unwrap_or_default();
                        if let Err(error) = self.consumer.pause(&assignment) {
                            tracing::warn!(%error, "pausing");
                        }
                        paused = Some(assignment);
                    }
                    if !self.keep_alive(POLLS_BEFORE_REGISTRY)? {
                        break None;
                    }
                }
            }
        };
        if let Some(partitions) = paused {
            if let Err(error) = self.consumer.resume(&partitions) {
                tracing::debug!(%error, "resuming after a pause");
            }
            self.interrupted();
        }
        Ok(decoded)
    }

    /// Polls this many times with the partitions paused, so that nothing is delivered. Returns whether the partitions
    /// and the loop still exist.
    fn keep_alive(&self, polls: u32) -> Result<bool, CallError> {
        for _ in 0..polls {
            let failed = self.consumer.poll(POLL_WAIT).and_then(Result::err);
            if let Some(failed) = failed.and_then(|error| classify(error, &self.what)) {
                return Err(failed);
            }
            let rebalances = &self.consumer.context().rebalances;
            if self.outbox.is_closed() || !rebalances.lock().unwrap_or_else(PoisonError::into_inner).is_empty() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Sends an event to the loop, and waits until there is room for another one, so that nothing is read that would
    /// wait here. Returns whether the loop still exists.
    async fn hand_over(&self, next: &mut Option<(Event<D::Change>, usize)>) -> bool {
        if next.is_some() {
            let Ok(permit) = self.outbox.reserve().await else { return false };
            if let Some((event, bytes)) = next.take() {
                permit.send(Sent { event, _weight: self.ahead.weigh(bytes) });
            }
        }
        tokio::select! {
            () = self.ahead.has_room() => true,
            () = self.outbox.closed() => false,
        }
    }

    /// Sends an event to the loop. While the loop does not take it, polling with paused partitions keeps the group
    /// alive. Returns whether the loop still exists.
    fn send(&mut self, runtime: &tokio::runtime::Handle, event: Event<D::Change>, bytes: usize) -> bool {
        let mut next = Some((event, bytes));
        let mut paused: Option<TopicPartitionList> = None;
        loop {
            let wait = if paused.is_some() { Duration::ZERO } else { LAG_BEFORE_PAUSE };
            match runtime.block_on(async { tokio::time::timeout(wait, self.hand_over(&mut next)).await }) {
                Ok(true) => {
                    if let Some(partitions) = paused {
                        if let Err(error) = self.consumer.resume(&partitions) {
                            tracing::warn!(%error, "resuming after a pause");
                        }
                        self.interrupted();
                    }
                    return true;
                }
                Ok(false) => return false,
                Err(_) if paused.is_none() => {
                    let assignment = self.consumer.assignment().unwrap_or_default();
                    if let Err(error) = self.consumer.pause(&assignment) {
                        tracing::warn!(%error, "pausing");
                    }
                    tracing::debug!("reading is paused: what was read before is still being worked on");
                    paused = Some(assignment);
                }
                // Paused partitions deliver nothing. A rebalance is answered and kept for the next round.
                Err(_) => {
                    let failed = self.consumer.poll(POLL_WAIT).and_then(Result::err);
                    if let Some(error) = failed.and_then(|error| classify(error, &self.what)) {
                        tracing::error!(%error, "while reading is paused; it shows again when reading resumes");
                    }
                }
            }
        }
    }
}

fn timestamp_of<M: Message>(message: &M) -> i64 {
    message.timestamp().to_millis().unwrap_or(-1)
}

/// Adds a record to a batch. Returns the bytes of its message.
fn push<M: Message, T>(batch: &mut Batch<T>, message: &M, record: SourceRecord<T>) -> usize {
    let last = LastRecord { offset: message.offset(), timestamp_ms: record.timestamp_ms };
    batch.last_records.insert(record.position.partition, last);
    batch.records.push(record);
    message.key().map_or(0, <[u8]>::len) + message.payload().map_or(0, <[u8]>::len)
}

/// Returns errors that the source cannot recover from.
fn classify(error: KafkaError, what: &str) -> Option<CallError> {
    let kind = match (error::kind(&error), &error) {
        (Kind::Unreachable, _) => return None,
        // During reading this means that the session of this member has ended and the client joins again.
        (Kind::Fenced, KafkaError::MessageConsumptionFatal(_)) => Kind::Fenced,
        (Kind::Fenced, _) if error.rdkafka_error_code() != Some(RDKafkaErrorCode::FencedInstanceId) => return None,
        (kind, _) => kind,
    };
    let call = if kind == Kind::Unsafe {
        "Kafka: the offset to go on from is no longer in the topic".to_owned()
    } else {
        format!("Kafka: {what}")
    };
    Some(CallError::from_source(call, error, kind))
}
