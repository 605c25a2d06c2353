//! The Kafka source: librdkafka's consumer on a thread of its own, which decodes what it reads.
//!
//! Rebalances are answered here: a revocation at once, an assignment only when the loop has found out where
//! to go on from. The thread keeps polling whatever the loop does, pausing the partitions when it falls
//! behind, so that the group does not take this member for dead.

use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use rdkafka::client::ClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Headers, Message};
use rdkafka::types::RDKafkaRespErr;
use rdkafka::{Offset, TopicPartitionList};
use tokio::sync::mpsc;

use super::{BATCH_RECORDS_MAX, Batch, Content, DeadLetter, Event, PartitionState, Record, Source, SourceError};
use crate::change::Decoded;
use crate::change::debezium::Decoder;
use crate::checkpoint::Offsets;
use crate::model::{NextOffset, Position};

/// Batches that may wait for the loop.
const BATCHES_AHEAD: usize = 8;
/// How long a poll without records lasts, which bounds how long a command waits.
const POLL_WAIT: Duration = Duration::from_millis(20);
/// How long the loop may keep a batch waiting before the partitions are paused and polling goes on.
const LAG_BEFORE_PAUSE: Duration = Duration::from_secs(1);
/// How long a call to the broker may take.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// How often a stand-by looks whether the group is free.
const STAND_BY: Duration = Duration::from_millis(500);
/// How long the consumer may take to leave the group.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(10);

type GroupConsumer = BaseConsumer<Context>;

/// Consumer settings that are Tripline's own; `[kafka.properties]` may add to them.
const SETTINGS: [(&str, &str); 8] = [
    ("enable.auto.commit", "false"),
    ("enable.auto.offset.store", "false"),
    // Where to start is decided by us; an offset that is gone is an error, never a silent jump.
    ("auto.offset.reset", "error"),
    ("enable.partition.eof", "true"),
    // The default of a second stalls a consumer that works off a backlog.
    ("fetch.queue.backoff.ms", "2"),
    ("queued.min.messages", "200000"),
    ("queued.max.messages.kbytes", "65536"),
    // After a kill the partitions are free again after this long, not after 45 s.
    ("session.timeout.ms", "10000"),
];

/// Keeps the rebalances for the thread that polls.
struct Context {
    rebalances: Mutex<Vec<Rebalance>>,
    /// The error that was logged last: an outage repeats it many times a second.
    told: Mutex<Option<RDKafkaErrorCode>>,
}

enum Rebalance {
    Assign(Vec<i32>),
    Revoke,
}

impl ClientContext for Context {
    fn error(&self, error: KafkaError, reason: &str) {
        if error.rdkafka_error_code() == Some(RDKafkaErrorCode::PartitionEOF) {
            return; // the end of a partition is an event, not an error
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
            Rebalance::Assign(partitions.elements().iter().map(|element| element.partition()).collect())
        } else {
            if let Err(error) = consumer.unassign() {
                tracing::warn!(%error, "giving the partitions back");
            }
            Rebalance::Revoke
        };
        self.rebalances.lock().unwrap_or_else(PoisonError::into_inner).push(rebalance);
    }
}

enum Command {
    /// Read from here, unless the assignment that it is meant for (counted from 1) is over.
    Start(u64, TopicPartitionList),
    Stop,
}

/// A topic of a Kafka cluster, read in a consumer group.
pub struct KafkaSource {
    topic: String,
    consumer: Arc<GroupConsumer>,
    commands: Sender<Command>,
    events: mpsc::Receiver<Event>,
    /// Assignments that the loop has been told of.
    assignments: u64,
    thread: Option<JoinHandle<()>>,
}

impl KafkaSource {
    /// Makes the consumer, without joining the group yet.
    ///
    /// # Errors
    /// A property that librdkafka does not take.
    pub fn connect(base: &ClientConfig, group: &str, topic: &str, decoder: Decoder) -> Result<Self, KafkaError> {
        let mut config = base.clone();
        for (name, value) in SETTINGS {
            if config.get(name).is_none() {
                config.set(name, value);
            }
        }
        config.set("group.id", group);
        let context = Context { rebalances: Mutex::new(Vec::new()), told: Mutex::new(None) };
        let consumer: Arc<GroupConsumer> = Arc::new(config.create_with_context(context)?);
        consumer.subscribe(&[topic])?;
        let (commands, inbox) = channel();
        let (outbox, events) = mpsc::channel(BATCHES_AHEAD);
        let reader =
            Reader { consumer: Arc::clone(&consumer), decoder, inbox, outbox, assignments: 0, assigned: false };
        let runtime = tokio::runtime::Handle::current();
        let thread = std::thread::Builder::new().name("kafka-source".into()).spawn(move || reader.run(&runtime)).ok();
        Ok(Self { topic: topic.to_owned(), consumer, commands, events, assignments: 0, thread })
    }

    /// Leaves the group, waiting for it at most a few seconds: an unreachable broker must not hold up the end.
    pub async fn close(mut self) {
        let _ = self.commands.send(Command::Stop);
        self.events.close();
        let thread = self.thread.take();
        let consumer = self.consumer;
        let leave = tokio::task::spawn_blocking(move || {
            if let Some(thread) = thread {
                let _ = thread.join();
            }
            drop(consumer);
        });
        if tokio::time::timeout(CLOSE_TIMEOUT, leave).await.is_err() {
            tracing::warn!("the consumer did not leave its group in time; its session will expire");
        }
    }

    async fn call<T: Send + 'static>(
        &self,
        what: &'static str,
        call: impl FnOnce(&GroupConsumer) -> Result<T, KafkaError> + Send + 'static,
    ) -> Result<T, SourceError> {
        let consumer = Arc::clone(&self.consumer);
        match tokio::task::spawn_blocking(move || call(&consumer)).await {
            Ok(Ok(done)) => Ok(done),
            Ok(Err(error)) if is_fenced(&error) => Err(SourceError::Fenced(format!("{what}: {error}"))),
            Ok(Err(error)) => Err(SourceError::Call(format!("{what}: {error}"))),
            Err(error) => Err(SourceError::Call(format!("{what}: {error}"))),
        }
    }
}

fn is_fenced(error: &KafkaError) -> bool {
    use RDKafkaErrorCode as Code;
    matches!(
        error.rdkafka_error_code(),
        Some(Code::IllegalGeneration | Code::UnknownMemberId | Code::FencedInstanceId | Code::AssignmentLost)
    )
}

impl Source for KafkaSource {
    async fn next(&mut self) -> Event {
        match self.events.recv().await {
            Some(event) => {
                self.assignments += u64::from(matches!(event, Event::Assigned(_)));
                event
            }
            None => Event::Failed(SourceError::Call("the reading thread has ended".to_owned())),
        }
    }

    async fn layers(&self, partitions: &[i32]) -> Result<Vec<PartitionState>, SourceError> {
        let (topic, partitions) = (self.topic.clone(), partitions.to_vec());
        self.call("asking for the group's offsets", move |consumer| {
            let mut asked = TopicPartitionList::new();
            for partition in &partitions {
                asked.add_partition(&topic, *partition);
            }
            let committed = consumer.committed_offsets(asked, CALL_TIMEOUT)?;
            let mut states = Vec::new();
            for partition in partitions {
                let (low, high) = consumer.fetch_watermarks(&topic, partition, CALL_TIMEOUT)?;
                let committed = committed.find_partition(&topic, partition).and_then(|found| match found.offset() {
                    Offset::Offset(next) => Some((NextOffset(next), found.metadata().to_owned())),
                    _ => None,
                });
                let (low, high) = (NextOffset(low), NextOffset(high));
                states.push(PartitionState { partition, committed, low, high });
            }
            Ok(states)
        })
        .await
    }

    async fn partitions(&self) -> Result<Vec<i32>, SourceError> {
        let topic = self.topic.clone();
        self.call("asking for the topic's partitions", move |consumer| {
            let metadata = consumer.fetch_metadata(Some(&topic), CALL_TIMEOUT)?;
            let found = metadata.topics().iter().find(|found| found.name() == topic);
            Ok(found.map(|found| found.partitions().iter().map(|p| p.id()).collect()).unwrap_or_default())
        })
        .await
    }

    fn start(&mut self, from: &Offsets) {
        let mut assignment = TopicPartitionList::new();
        for (partition, next) in from {
            // Cannot fail: the offset is a plain number.
            let _ = assignment.add_partition_offset(&self.topic, *partition, Offset::Offset(next.0));
        }
        let _ = self.commands.send(Command::Start(self.assignments, assignment));
    }

    async fn commit(&self, offsets: &Offsets, metadata: &str) -> Result<(), SourceError> {
        let mut list = TopicPartitionList::new();
        for (partition, next) in offsets {
            let mut element = list.add_partition(&self.topic, *partition);
            let _ = element.set_offset(Offset::Offset(next.0));
            element.set_metadata(metadata);
        }
        self.call("committing the group's offsets", move |consumer| consumer.commit(&list, CommitMode::Sync)).await
    }
}

/// The state of the reading thread.
struct Reader {
    consumer: Arc<GroupConsumer>,
    decoder: Decoder,
    inbox: Receiver<Command>,
    outbox: mpsc::Sender<Event>,
    /// Assignments that the group has made.
    assignments: u64,
    /// Whether the last of them still stands.
    assigned: bool,
}

impl Reader {
    fn run(mut self, runtime: &tokio::runtime::Handle) {
        loop {
            match self.inbox.try_recv() {
                Ok(Command::Start(number, _)) if !self.assigned || number != self.assignments => {
                    tracing::debug!("the assignment was over before reading could start");
                }
                Ok(Command::Start(_, assignment)) => {
                    if let Err(error) = self.consumer.assign(&assignment) {
                        let failed = SourceError::Lost(format!("the partitions cannot be read: {error}"));
                        self.send(runtime, Event::Failed(failed));
                        return;
                    }
                }
                Ok(Command::Stop) | Err(std::sync::mpsc::TryRecvError::Disconnected) => return,
                Err(std::sync::mpsc::TryRecvError::Empty) => {}
            }
            let (batch, failed) = self.fill();
            let rebalances =
                std::mem::take(&mut *self.consumer.context().rebalances.lock().unwrap_or_else(PoisonError::into_inner));
            let mut events = Vec::new();
            if !batch.records.is_empty() || !batch.ended.is_empty() {
                events.push(Event::Batch(batch));
            }
            for rebalance in rebalances {
                self.assigned = matches!(rebalance, Rebalance::Assign(_));
                self.assignments += u64::from(self.assigned);
                events.push(match rebalance {
                    Rebalance::Assign(partitions) => Event::Assigned(partitions),
                    Rebalance::Revoke => Event::Revoked,
                });
            }
            events.extend(failed.map(Event::Failed));
            for event in events {
                if !self.send(runtime, event) {
                    return;
                }
            }
        }
    }

    /// Polls until there is nothing left, or a batch is full.
    fn fill(&mut self) -> (Batch, Option<SourceError>) {
        let mut batch = Batch::default();
        let consumer = Arc::clone(&self.consumer);
        let mut wait = POLL_WAIT;
        while batch.records.len() < BATCH_RECORDS_MAX {
            match consumer.poll(wait) {
                None => break,
                Some(Ok(message)) => batch.records.push(self.decode(&message)),
                Some(Err(KafkaError::PartitionEOF(partition))) => {
                    batch.ended.push(partition);
                }
                Some(Err(error)) => match classify(&error) {
                    Some(failed) => return (batch, Some(failed)),
                    None => tracing::debug!(%error, "reading from Kafka; it is tried again"),
                },
            }
            wait = Duration::ZERO;
        }
        (batch, None)
    }

    fn decode(&mut self, message: &BorrowedMessage<'_>) -> Record {
        let position = Position { partition: message.partition(), offset: message.offset() };
        let content = match self.decoder.decode(message.key(), message.payload()) {
            Ok(Decoded::Change(change)) => Content::Change(change),
            Ok(Decoded::Ignored(reason)) => Content::Ignored(reason),
            Err(reject) => Content::Rejected(Box::new(DeadLetter {
                position,
                reject,
                key: message.key().map(<[u8]>::to_vec),
                value: message.payload().map(<[u8]>::to_vec),
                headers: headers_of(message),
            })),
        };
        Record { position, content }
    }

    /// Hands an event to the loop; while it does not take it, the group is kept alive by polling with the
    /// partitions paused. Whether the loop is still there.
    fn send(&self, runtime: &tokio::runtime::Handle, event: Event) -> bool {
        let mut paused: Option<TopicPartitionList> = None;
        loop {
            let wait = if paused.is_some() { Duration::ZERO } else { LAG_BEFORE_PAUSE };
            match runtime.block_on(async { tokio::time::timeout(wait, self.outbox.reserve()).await }) {
                Ok(Ok(permit)) => {
                    permit.send(event);
                    if let Some(partitions) = paused
                        && let Err(error) = self.consumer.resume(&partitions)
                    {
                        tracing::warn!(%error, "resuming after a pause");
                    }
                    return true;
                }
                Ok(Err(_)) => return false,
                Err(_) if paused.is_none() => {
                    let assignment = self.consumer.assignment().unwrap_or_default();
                    if let Err(error) = self.consumer.pause(&assignment) {
                        tracing::warn!(%error, "pausing");
                    }
                    tracing::debug!("reading is paused: what was read before is still being worked on");
                    paused = Some(assignment);
                }
                // Paused partitions deliver nothing; a rebalance is answered and kept for the next round.
                Err(_) => match self.consumer.poll(POLL_WAIT) {
                    Some(Err(error)) if classify(&error).is_some() => {
                        tracing::error!(%error, "while reading is paused; it shows again when reading goes on");
                    }
                    _ => {}
                },
            }
        }
    }
}

fn headers_of(message: &BorrowedMessage<'_>) -> Vec<(String, Option<Vec<u8>>)> {
    let header =
        |header: rdkafka::message::Header<'_, &[u8]>| (header.key.to_owned(), header.value.map(<[u8]>::to_vec));
    message.headers().map(|headers| headers.iter().map(header).collect()).unwrap_or_default()
}

/// Errors that the source does not get over by itself.
fn classify(error: &KafkaError) -> Option<SourceError> {
    use RDKafkaErrorCode as Code;
    let text = error.to_string();
    match (error, error.rdkafka_error_code()) {
        (_, Some(Code::OffsetOutOfRange | Code::AutoOffsetReset)) => {
            Some(SourceError::Lost(format!("{text}: the offset to go on from is no longer in the topic")))
        }
        (_, Some(Code::FencedInstanceId)) | (KafkaError::MessageConsumptionFatal(_), _) => {
            Some(SourceError::Fenced(text))
        }
        (_, Some(Code::TopicAuthorizationFailed | Code::GroupAuthorizationFailed)) => Some(SourceError::Lost(text)),
        _ => None,
    }
}

/// Waits until a group has no active member: one that joined beside another would take partitions away from it, and a
/// rule needs them all. A stand-by waits here; a member that was killed is gone when its session has expired.
///
/// # Errors
/// The group still has a member after `limit`.
pub async fn wait_until_free(base: &ClientConfig, group: &str, limit: Option<Duration>) -> Result<(), SourceError> {
    let failed = |error: &dyn std::fmt::Display| SourceError::Call(format!("asking for the group's members: {error}"));
    let consumer: Arc<BaseConsumer> = Arc::new(base.create().map_err(|error| failed(&error))?);
    let deadline = limit.map(|limit| tokio::time::Instant::now() + limit);
    let mut told = false;
    loop {
        let (asked, name) = (Arc::clone(&consumer), group.to_owned());
        let free = tokio::task::spawn_blocking(move || {
            let list = asked.fetch_group_list(Some(&name), CALL_TIMEOUT)?;
            Ok::<_, KafkaError>(list.groups().iter().all(|found| found.members().is_empty()))
        });
        match free.await.map_err(|error| failed(&error))? {
            Ok(true) => return Ok(()),
            Ok(false) => {}
            Err(error) => tracing::warn!(%error, "asking for the group's members"),
        }
        if deadline.is_some_and(|deadline| tokio::time::Instant::now() >= deadline) {
            return Err(SourceError::Fenced(format!(
                "group {group} has an active member: stop that one, or use a group id of its own"
            )));
        }
        if !std::mem::replace(&mut told, true) {
            tracing::warn!(group, "the group has an active member; standing by until it is gone");
        }
        tokio::time::sleep(STAND_BY).await;
    }
}

/// The settings that every client of the cluster shares.
pub fn client_config(bootstrap_servers: &str, properties: &BTreeMap<String, String>) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", bootstrap_servers).set("client.id", "tripline");
    for (name, value) in properties {
        config.set(name, value);
    }
    config
}
