//! The thread that polls librdkafka and decodes what it reads.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Headers, Message};
use rdkafka::types::RDKafkaRespErr;
use rdkafka::{Statistics, TopicPartitionList};
use tokio::sync::{Notify, mpsc};

use super::super::Event;
use crate::change::record::{
    BATCH_BYTES_MAX, BATCH_RECORDS_MAX, BYTES_AHEAD_MAX, Batch, Content, DeadLetter, SourceRecord,
};
use crate::change::{Decode, Decoded};
use crate::failure::{CallError, Kind, Server};
use crate::kafka::group::Member;
use crate::kafka::{error, log};
use crate::model::{NextOffset, Position};
use crate::progress::{LastRecord, Offsets};
use crate::retry::Outage;

/// How long a poll without records lasts, which bounds how long a command waits.
const POLL_WAIT: Duration = Duration::from_millis(20);
/// How long the loop may keep a batch waiting before the partitions are paused and polling goes on.
const LAG_BEFORE_PAUSE: Duration = Duration::from_secs(1);

pub(super) type GroupConsumer = BaseConsumer<Context>;

/// Keeps the rebalances for the thread that polls.
#[derive(Default)]
pub(super) struct Context {
    rebalances: Mutex<Vec<Rebalance>>,
    /// The member that each assignment was given to, in their order.
    members: Mutex<VecDeque<Member>>,
    /// Assignments that the group has made.
    made: AtomicU64,
    /// The number of the one that stands, from 1; 0 for none.
    held: AtomicU64,
    /// The partitions' ends as the client last knew them.
    ends: Mutex<Offsets>,
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
    pub(super) fn new(cut_off: &Arc<AtomicBool>) -> Self {
        Self { cut_off: Arc::clone(cut_off), ..Self::default() }
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
    fn stats(&self, statistics: Statistics) {
        let connected = |broker: &rdkafka::statistics::Broker| matches!(broker.state.as_str(), "UP" | "REAUTH");
        let is_connected = statistics.brokers.values().any(connected);
        self.cut_off.store(!is_connected, Ordering::Relaxed);
        self.connection.lock().unwrap_or_else(PoisonError::into_inner).is(is_connected);
        let partitions = statistics.topics.values().flat_map(|topic| topic.partitions.values());
        let ends = partitions.filter(|partition| partition.desired);
        let ends = ends.filter_map(|partition| Some((partition.partition, end_of(partition)?))).collect();
        *self.ends.lock().unwrap_or_else(PoisonError::into_inner) = ends;
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

/// An event on its way to the loop.
pub(super) struct Sent<T> {
    pub(super) event: Event<T>,
    _weight: Weight,
}

/// The bytes of an event's records, counted until the loop has it.
struct Weight {
    bytes: usize,
    ahead: Arc<Ahead>,
}

impl Drop for Weight {
    fn drop(&mut self) {
        self.ahead.bytes.fetch_sub(self.bytes, Ordering::SeqCst);
        self.ahead.taken.notify_one();
    }
}

/// What has been sent and not yet been taken by the loop.
#[derive(Default)]
struct Ahead {
    bytes: AtomicUsize,
    taken: Notify,
}

impl Ahead {
    fn weigh(self: &Arc<Self>, bytes: usize) -> Weight {
        self.bytes.fetch_add(bytes, Ordering::SeqCst);
        Weight { bytes, ahead: Arc::clone(self) }
    }

    /// Until there is room for more.
    async fn has_room(&self) {
        while self.bytes.load(Ordering::SeqCst) >= BYTES_AHEAD_MAX {
            self.taken.notified().await;
        }
    }
}

/// The state of the reading thread.
pub(super) struct Reader<D: Decode> {
    consumer: Arc<GroupConsumer>,
    decoder: D,
    inbox: Receiver<Command>,
    outbox: mpsc::Sender<Sent<D::Change>>,
    ahead: Arc<Ahead>,
    /// Assignments that the group has made.
    assignments: u64,
    /// Whether the last of them still stands.
    assigned: bool,
}

impl<D: Decode> Reader<D> {
    pub(super) fn new(
        consumer: Arc<GroupConsumer>,
        decoder: D,
        inbox: Receiver<Command>,
        outbox: mpsc::Sender<Sent<D::Change>>,
    ) -> Self {
        Self { consumer, decoder, inbox, outbox, ahead: Arc::default(), assignments: 0, assigned: false }
    }

    pub(super) fn run(mut self, runtime: &tokio::runtime::Handle) {
        loop {
            match self.inbox.try_recv() {
                Ok(Command::Start(number, _)) if !self.assigned || number != self.assignments => {
                    tracing::debug!("the assignment was over before reading could start");
                }
                Ok(Command::Start(_, assignment)) => {
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
            if !batch.records.is_empty() || !batch.ended.is_empty() {
                events.push((Event::Batch(batch), bytes));
            }
            for rebalance in rebalances {
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
        let mut wait = POLL_WAIT;
        let mut bytes = 0;
        while batch.records.len() < BATCH_RECORDS_MAX && bytes < BATCH_BYTES_MAX {
            match consumer.poll(wait) {
                None => break,
                Some(Ok(message)) => {
                    let (offset, timestamp_ms) = (message.offset(), message.timestamp().to_millis().unwrap_or(-1));
                    batch.last_records.insert(message.partition(), LastRecord { offset, timestamp_ms });
                    bytes += message.key_len() + message.payload_len();
                    batch.records.push(self.decode(&message, timestamp_ms));
                }
                Some(Err(KafkaError::PartitionEOF(partition))) => {
                    batch.ended.push(partition);
                }
                Some(Err(error)) => {
                    tracing::debug!(%error, "reading from Kafka");
                    if let Some(failed) = classify(error) {
                        return (batch, bytes, Some(failed));
                    }
                }
            }
            wait = Duration::ZERO;
        }
        (batch, bytes, None)
    }

    fn decode(&mut self, message: &BorrowedMessage<'_>, timestamp_ms: i64) -> SourceRecord<D::Change> {
        let position = Position { partition: message.partition(), offset: message.offset() };
        let letter = |reject, row| {
            let headers = message.headers().into_iter().flat_map(Headers::iter);
            let headers = headers.map(|header| (header.key, header.value));
            Box::new(DeadLetter::new(position, reject, message.key(), message.payload(), headers).about_row(row))
        };
        let content = match self.decoder.decode(message.key(), message.payload()) {
            Ok(Decoded::Change(change)) => Content::Change(change),
            Ok(Decoded::Partial(change, reject)) => Content::Partial(change, letter(reject, None)),
            Ok(Decoded::Ignored(reason)) => Content::Ignored(reason),
            Err(reject) => {
                // Another table's key is no row of ours.
                let mine = !reject.kind.is_elsewhere();
                let row = mine.then(|| self.decoder.row_of(message.key())).flatten();
                Content::Rejected(letter(reject, row))
            }
        };
        SourceRecord { position, timestamp_ms, content }
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
    fn send(&self, runtime: &tokio::runtime::Handle, event: Event<D::Change>, bytes: usize) -> bool {
        let mut next = Some((event, bytes));
        let mut paused: Option<TopicPartitionList> = None;
        loop {
            let wait = if paused.is_some() { Duration::ZERO } else { LAG_BEFORE_PAUSE };
            match runtime.block_on(async { tokio::time::timeout(wait, self.hand_over(&mut next)).await }) {
                Ok(true) => {
                    if let Some(partitions) = paused
                        && let Err(error) = self.consumer.resume(&partitions)
                    {
                        tracing::warn!(%error, "resuming after a pause");
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
                    if let Some(error) = failed.and_then(classify) {
                        tracing::error!(%error, "while reading is paused; it shows again when reading resumes");
                    }
                }
            }
        }
    }
}

/// Errors that the source does not recover from by itself.
fn classify(error: KafkaError) -> Option<CallError> {
    let kind = match (error::kind(&error), &error) {
        (Kind::Unreachable, _) => return None,
        // While reading: this member's own session has ended, and the client joins again.
        (Kind::Fenced, KafkaError::MessageConsumptionFatal(_)) => Kind::Fenced,
        (Kind::Fenced, _) if error.rdkafka_error_code() != Some(RDKafkaErrorCode::FencedInstanceId) => return None,
        (kind, _) => kind,
    };
    let call = if kind == Kind::Unsafe {
        "Kafka: the offset to go on from is no longer in the topic"
    } else {
        "Kafka: reading"
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
        let context = Context::new(&cut_off);
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
