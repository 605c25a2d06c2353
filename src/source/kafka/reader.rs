//! The thread that polls librdkafka and decodes what it reads.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rdkafka::client::{ClientContext, OAuthToken};
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Message, OwnedMessage};
use rdkafka::types::RDKafkaRespErr;
use rdkafka::{Statistics, TopicPartitionList};
use tokio::sync::mpsc;

use super::super::Event;
use super::ahead::{Ahead, Sent};
use super::decoding::Decoding;
use super::delivered::{Delivered, Fetched};
use crate::change::Decode;
use crate::change::record::{BATCH_BYTES_MAX, BATCH_RECORDS_MAX, Batch, SourceRecord};
use crate::failure::{CallError, Kind, Server};
use crate::kafka::group::Member;
use crate::kafka::{error, log, token};
use crate::model::NextOffset;
use crate::progress::{LastRecord, Offsets};
use crate::retry::Outage;

/// How long a poll without records lasts, which bounds how long a command waits.
const POLL_WAIT: Duration = Duration::from_millis(20);
/// Polls before a schema registry that did not answer is asked again: a second.
const POLLS_BEFORE_REGISTRY: u32 = 50;
/// How long the loop may keep a batch waiting before the partitions are paused and polling goes on.
const LAG_BEFORE_PAUSE: Duration = Duration::from_secs(1);

pub(super) type GroupConsumer = BaseConsumer<Context>;

/// Keeps the rebalances for the thread that polls.
#[derive(Default)]
pub(super) struct Context {
    pub(super) group: String,
    rebalances: Mutex<Vec<Rebalance>>,
    /// The member that each assignment was given to, in their order.
    members: Mutex<VecDeque<Member>>,
    made: AtomicU64, // assignments that the group has made
    /// The number of the one that stands, from 1; 0 for none.
    held: AtomicU64,
    /// The partitions' ends as the client last knew them.
    ends: Mutex<Offsets>,
    /// How far they have been fetched.
    fetched: Mutex<Fetched>,
    /// The error that was logged last: an outage repeats it many times a second.
    told: Mutex<Option<RDKafkaErrorCode>>,
    /// Set while no broker answers.
    cut_off: Arc<AtomicBool>,
    connection: Mutex<Connection>,
}

/// Whether a broker is connected, as the log says it.
struct Connection {
    outage: Outage,
    /// Looks in a row that found none: a connection that is made anew is no outage.
    missed: u32,
}

impl Default for Connection {
    fn default() -> Self {
        Self { outage: Outage::new("reading the topic of changes"), missed: 0 }
    }
}

impl Connection {
    fn is(&mut self, connected: bool) {
        self.missed = if connected { 0 } else { self.missed.saturating_add(1) };
        if connected {
            self.outage.works_at(Server::Kafka);
        } else if self.missed > 1 {
            self.outage.fails_at(Server::Kafka, &"no broker is connected");
        }
    }
}

enum Rebalance {
    Assign(Vec<i32>),
    Revoke,
}

impl Context {
    pub(super) fn new(group: &str, cut_off: &Arc<AtomicBool>) -> Self {
        Self { group: group.to_owned(), cut_off: Arc::clone(cut_off), ..Self::default() }
    }

    /// These partitions are read without a group that gives them.
    pub(super) fn give(&self, partitions: &[i32]) {
        self.gave();
        self.members.lock().unwrap_or_else(PoisonError::into_inner).push_back(None);
        let given = Rebalance::Assign(partitions.to_vec());
        self.rebalances.lock().unwrap_or_else(PoisonError::into_inner).push(given);
    }

    /// Whether this assignment, counted from 1, is the one that stands.
    pub(super) fn holds(&self, assignment: u64) -> bool {
        assignment != 0 && self.held.load(Ordering::SeqCst) == assignment
    }

    /// Whether any assignment stands.
    pub(super) fn holds_any(&self) -> bool {
        self.held.load(Ordering::SeqCst) != 0
    }

    fn gave(&self) {
        let before = self.made.fetch_add(1, Ordering::SeqCst);
        self.held.store(before.wrapping_add(1), Ordering::SeqCst);
    }

    /// The partitions' ends as the client last knew them.
    pub(super) fn ends(&self) -> Offsets {
        self.ends.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn fetched(&self) -> Fetched {
        self.fetched.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The member that the next assignment was given to.
    pub(super) fn next_member(&self) -> Member {
        self.members.lock().unwrap_or_else(PoisonError::into_inner).pop_front().flatten()
    }
}

/// The end of a partition: past its last record, where all of it was fetched, as the last offsets may hold none.
fn end_of(partition: &rdkafka::statistics::Partition) -> Option<NextOffset> {
    let fetched = partition.eof_offset >= partition.hi_offset && partition.fetchq_cnt == 0;
    let end = if fetched { partition.app_offset } else { partition.hi_offset };
    (end >= 0).then_some(NextOffset(end))
}

impl ClientContext for Context {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn generate_oauth_token(&self, config: Option<&str>) -> Result<OAuthToken, Box<dyn std::error::Error>> {
        token::fetch(config)
    }

    fn stats(&self, statistics: Statistics) {
        let connected = |broker: &rdkafka::statistics::Broker| matches!(broker.state.as_str(), "UP" | "REAUTH");
        let is_connected = statistics.brokers.values().any(connected);
        self.cut_off.store(!is_connected, Ordering::Relaxed);
        self.connection.lock().unwrap_or_else(PoisonError::into_inner).is(is_connected);
        let partitions = statistics.topics.values().flat_map(|topic| topic.partitions.values());
        let read: Vec<_> = partitions.filter(|partition| partition.desired).collect();
        let ends = read.iter().filter_map(|partition| Some((partition.partition, end_of(partition)?))).collect();
        *self.ends.lock().unwrap_or_else(PoisonError::into_inner) = ends;
        let next = read.iter().map(|partition| (partition.partition, NextOffset(partition.next_offset)));
        let mut fetched = self.fetched.lock().unwrap_or_else(PoisonError::into_inner);
        *fetched = Fetched { count: fetched.count + 1, offsets: next.collect() };
    }

    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        if error.rdkafka_error_code() == Some(RDKafkaErrorCode::PartitionEOF) {
            return; // the end of a partition is an event, not an error
        }
        if error::is_cut_off(&error) {
            tracing::debug!(%error, reason, "Kafka client");
            return; // the statistics show it
        }
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if std::mem::replace(&mut *told, error.rdkafka_error_code()) == error.rdkafka_error_code() {
            tracing::debug!(%error, reason, "Kafka client, again");
        } else {
            tracing::warn!(%error, reason, "Kafka client");
        }
    }
}

impl ConsumerContext for Context {
    fn rebalance(&self, consumer: &BaseConsumer<Self>, err: RDKafkaRespErr, partitions: &mut TopicPartitionList) {
        let rebalance = if err == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS {
            if partitions.count() == 0 {
                // Nothing to find out: without the call, librdkafka would hold up every later rebalance.
                if let Err(error) = consumer.assign(partitions) {
                    tracing::warn!(%error, "taking no partitions");
                }
            }
            self.gave();
            let member = consumer.group_metadata().map(Arc::new);
            self.members.lock().unwrap_or_else(PoisonError::into_inner).push_back(member);
            Rebalance::Assign(partitions.elements().iter().map(|element| element.partition()).collect())
        } else {
            self.held.store(0, Ordering::SeqCst);
            // The client would join again by itself, as soon as the partitions are given back, beside whoever has taken over
            // meanwhile.
            consumer.unsubscribe();
            if let Err(error) = consumer.unassign() {
                tracing::warn!(%error, "giving the partitions back");
            }
            Rebalance::Revoke
        };
        self.rebalances.lock().unwrap_or_else(PoisonError::into_inner).push(rebalance);
    }
}

pub(super) enum Command {
    /// Read from here, unless the assignment that it is meant for (counted from 1) is over.
    Start(u64, TopicPartitionList),
    Stop,
}

/// The state of the reading thread.
pub(super) struct Reader<D: Decode> {
    consumer: Arc<GroupConsumer>,
    decoding: Decoding<D>,
    inbox: Receiver<Command>,
    outbox: mpsc::Sender<Sent<D::Change>>,
    ahead: Arc<Ahead>,
    /// What is read, and as which group, for errors.
    what: String,
    /// The next message of its partition, whose schema has to be fetched before it can be decoded.
    pending: Option<OwnedMessage>,
    delivered: Delivered,
    /// Assignments that the group has made.
    assignments: u64,
    /// Whether the last of them still stands.
    assigned: bool,
}

impl<D: Decode> Reader<D> {
    pub(super) fn new(
        consumer: Arc<GroupConsumer>,
        decoding: Decoding<D>,
        inbox: Receiver<Command>,
        outbox: mpsc::Sender<Sent<D::Change>>,
        (topic, group): (&str, &str),
    ) -> Self {
        let (ahead, pending, delivered) = (Arc::default(), None, Delivered::default());
        let what = format!("reading {topic} as group {group}");
        Self { consumer, decoding, inbox, outbox, ahead, what, pending, delivered, assignments: 0, assigned: false }
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

    /// Polls until there is nothing left, or a batch is full. Also returns the bytes of its records.
    fn fill(&mut self) -> (Batch<D::Change>, usize, Option<CallError>) {
        let mut batch = Batch::default();
        let consumer = Arc::clone(&self.consumer);
        let fetched = consumer.context().fetched();
        let mut wait = POLL_WAIT;
        let mut bytes = 0;
        self.decoding.forget_missing();
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
                    let Ok(record) = self.decoding.decode(&message, timestamp_of(&message)) else {
                        // What came before it does not wait for its schema.
                        self.pending = Some(message.detach());
                        break;
                    };
                    bytes += push(&mut batch, &message, record);
                }
                Some(Err(KafkaError::PartitionEOF(partition))) => {
                    batch.ended.push(partition);
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

    /// What the client has fetched it fetches again.
    fn interrupted(&mut self) {
        self.delivered.interrupted(self.consumer.context().fetched().count);
    }

    /// Decodes a message, fetching its schemas. While the registry does not answer, the group is kept alive by polling with
    /// the partitions paused. `None`: the partitions have been given back, or the loop is gone.
    fn decode_pending(&mut self, message: &OwnedMessage) -> Result<Option<SourceRecord<D::Change>>, CallError> {
        let mut outage = Outage::new("fetching a schema");
        let mut paused: Option<TopicPartitionList> = None;
        let decoded = loop {
            let id = match self.decoding.decode(message, timestamp_of(message)) {
                Ok(record) => break Some(record),
                Err(id) => id,
            };
            match self.decoding.fetch(id) {
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

    /// Polls so many times with the partitions paused: nothing is delivered. Whether the partitions and the loop are still there.
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

    /// Gives an event to the loop, and waits until there is room for another one: nothing is read that would wait here.
    /// Whether the loop is still there.
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

    /// Hands an event to the loop; while it does not take it, the group is kept alive by polling with the
    /// partitions paused. Whether the loop is still there.
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
                // Paused partitions deliver nothing; a rebalance is answered and kept for the next round.
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

/// Puts a record into a batch. The bytes of its message.
fn push<M: Message, T>(batch: &mut Batch<T>, message: &M, record: SourceRecord<T>) -> usize {
    let last = LastRecord { offset: message.offset(), timestamp_ms: record.timestamp_ms };
    batch.last_records.insert(message.partition(), last);
    batch.records.push(record);
    message.key().map_or(0, <[u8]>::len) + message.payload().map_or(0, <[u8]>::len)
}

/// Errors that the source does not recover from by itself.
fn classify(error: KafkaError, what: &str) -> Option<CallError> {
    let kind = match (error::kind(&error), &error) {
        (Kind::Unreachable, _) => return None,
        // While reading: this member's own session has ended, and the client joins again.
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

#[cfg(test)]
mod tests {
    use rdkafka::statistics::Broker;

    use super::*;

    #[test]
    fn cut_off_while_no_broker_is_connected() {
        let cut_off = Arc::default();
        let context = Context::new("g", &cut_off);
        let table: [(&[&str], bool); 7] = [
            (&["INIT", "UP"], false),
            (&["INIT", "DOWN"], true),
            (&["TRY_CONNECT", "CONNECT"], true),
            (&["APIVERSION_QUERY", "AUTH_HANDSHAKE"], true),
            (&["DOWN", "REAUTH"], false),
            (&[], true),
            (&["DOWN", "UP", "DOWN"], false),
        ];
        for (states, want) in table {
            let broker = |(number, state): (usize, &&str)| {
                (number.to_string(), Broker { state: (*state).to_owned(), ..Broker::default() })
            };
            let brokers = states.iter().enumerate().map(broker).collect();
            context.stats(Statistics { brokers, ..Statistics::default() });
            assert_eq!(cut_off.load(Ordering::Relaxed), want, "{states:?}");
        }
    }
}
