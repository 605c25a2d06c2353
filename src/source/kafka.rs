//! The Kafka source: librdkafka's consumer on a thread of its own, which decodes what it reads.
//!
//! Rebalances are answered here: a revocation at once, an assignment only when the loop has found out where
//! to go on from. The thread keeps polling whatever the loop does, pausing the partitions when it falls
//! behind, so that the group does not take this member for dead.
//!
//! - this file: what the loop asks for
//! - [`reader`]: the thread
//! - [`group`]: who is in the group
//! - [`peek`]: the first records, without joining

pub mod group;
pub mod peek;
mod reader;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions, ResourceSpecifier};
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message;
use rdkafka::{Offset, TopicPartitionList};
use tokio::sync::mpsc;

pub use group::{Membership, Quiet, client_config, wait_until_free};
pub use reader::Member;
use reader::{Command, Context, GroupConsumer, Reader};

use super::{Event, Follow, Layers, PartitionState, Source, SourceError};
use crate::change::Decode;
use crate::change::debezium::Decoder;
use crate::checkpoint::Offsets;
use crate::model::{NextOffset, Timestamp};

/// Batches that may wait for the loop.
const BATCHES_AHEAD: usize = 8;
/// How long a call to the broker may take.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the consumer may take to leave the group.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(10);

/// Consumer settings that are Tripline's own; `[kafka.properties]` may add to them.
const SETTINGS: [(&str, &str); 9] = [
    ("enable.auto.commit", "false"),
    ("enable.auto.offset.store", "false"),
    // Where to start is decided by us; an offset that is gone is an error, never a silent jump.
    ("auto.offset.reset", "error"),
    ("enable.partition.eof", "true"),
    // The default of a second stalls a consumer that works off a backlog.
    ("fetch.queue.backoff.ms", "2"),
    ("queued.min.messages", "200000"),
    ("queued.max.messages.kbytes", "65536"),
    // How far the partitions' ends are: looked at for show alone.
    ("statistics.interval.ms", "1000"),
    // After a kill the partitions are free again after this long, not after 45 s.
    ("session.timeout.ms", "10000"),
];

/// A topic of a Kafka cluster, read in a consumer group.
pub struct KafkaSource<D: Decode = Decoder> {
    base: ClientConfig,
    membership: Membership,
    topic: String,
    decoder: D,
    /// The partitions that it reads without joining the group.
    alone: Option<Vec<i32>>,
    reading: Reading<D::Change>,
    member: Member,
    cut_off: Arc<AtomicBool>,
    /// How often it has joined.
    joined: u32,
    /// How long it waits at most for other members to be gone.
    patience: Option<Duration>,
}

/// A consumer and its thread.
struct Reading<T> {
    consumer: Arc<GroupConsumer>,
    commands: Sender<Command>,
    events: mpsc::Receiver<Event<T>>,
    /// Assignments that the loop has been told of.
    assignments: u64,
    thread: Option<JoinHandle<()>>,
}

impl<T: Send + 'static> Reading<T> {
    /// `alone`: reads these partitions without joining. `joined`: how often this instance has joined before.
    fn start<D: Decode<Change = T>>(
        base: &ClientConfig,
        membership: &Membership,
        topic: &str,
        decoder: D,
        alone: Option<&[i32]>,
        joined: u32,
        cut_off: &Arc<AtomicBool>,
    ) -> Result<Self, KafkaError> {
        let mut config = base.clone();
        for (name, value) in SETTINGS {
            if config.get(name).is_none() {
                config.set(name, value);
            }
        }
        config.set("group.id", &membership.group);
        if let Some(instance) = &membership.instance {
            // A name of its own for each time: what the broker remembers of the one before may be out of date.
            let name = if joined == 0 { instance.clone() } else { format!("{instance}-{joined}") };
            config.set("group.instance.id", name);
        }
        let consumer: Arc<GroupConsumer> = Arc::new(config.create_with_context(Context::new(cut_off))?);
        match alone {
            None => consumer.subscribe(&[topic])?,
            Some(partitions) => consumer.context().give(partitions),
        }
        let (commands, inbox) = channel();
        let (outbox, events) = mpsc::channel(BATCHES_AHEAD);
        let reader = Reader::new(Arc::clone(&consumer), decoder, inbox, outbox);
        let runtime = tokio::runtime::Handle::current();
        let thread = std::thread::Builder::new().name("kafka-source".into()).spawn(move || reader.run(&runtime)).ok();
        Ok(Self { consumer, commands, events, assignments: 0, thread })
    }

    /// Leaves the group, waiting for it at most a few seconds: an unreachable broker must not hold up the end.
    async fn end(&mut self) {
        let _ = self.commands.send(Command::Stop);
        self.events.close();
        while self.events.try_recv().is_ok() {}
        let thread = self.thread.take();
        let consumer = Arc::clone(&self.consumer);
        let leave = tokio::task::spawn_blocking(move || {
            if let Some(thread) = thread {
                let _ = thread.join();
            }
            consumer.unsubscribe();
            drop(consumer);
        });
        if tokio::time::timeout(CLOSE_TIMEOUT, leave).await.is_err() {
            tracing::warn!("the consumer did not leave its group in time; its session will expire");
        }
    }
}

impl<D: Decode> KafkaSource<D> {
    /// Joins the group. `patience`: how long it waits at most for others to be gone when it joins once more.
    ///
    /// # Errors
    /// A property that librdkafka does not take.
    pub fn join(
        base: &ClientConfig,
        membership: Membership,
        topic: &str,
        decoder: D,
        patience: Option<Duration>,
    ) -> Result<Self, KafkaError> {
        let cut_off = Arc::default();
        let reading = Reading::start(base, &membership, topic, decoder.clone(), None, 0, &cut_off)?;
        let (base, topic) = (base.clone(), topic.to_owned());
        Ok(Self { base, membership, topic, decoder, alone: None, reading, member: None, cut_off, joined: 1, patience })
    }

    /// Reads these partitions without joining the group: no member sees anything of it, and the group does not come to
    /// be by it.
    ///
    /// # Errors
    /// A property that librdkafka does not take.
    pub fn alone(
        base: &ClientConfig,
        group: &str,
        topic: &str,
        decoder: D,
        partitions: Vec<i32>,
    ) -> Result<Self, KafkaError> {
        let membership = Membership { group: group.to_owned(), instance: None };
        let cut_off = Arc::default();
        let reading = Reading::start(base, &membership, topic, decoder.clone(), Some(&partitions), 0, &cut_off)?;
        let (base, topic, alone) = (base.clone(), topic.to_owned(), Some(partitions));
        Ok(Self { base, membership, topic, decoder, alone, reading, member: None, cut_off, joined: 1, patience: None })
    }

    /// Leaves the group, waiting for it at most a few seconds.
    pub async fn close(mut self) {
        self.reading.end().await;
        let Self { reading, .. } = self;
        // Closes the consumer, which may hang while the broker is away.
        let closed = tokio::task::spawn_blocking(move || drop(reading));
        if tokio::time::timeout(CLOSE_TIMEOUT, closed).await.is_err() {
            tracing::warn!("the consumer did not close in time");
        }
    }

    /// Commits for this member.
    pub fn committer(&self) -> Committer {
        Committer { consumer: Arc::clone(&self.reading.consumer), topic: self.topic.clone() }
    }

    async fn call<T: Send + 'static>(
        &self,
        what: &'static str,
        ask: impl FnOnce(&GroupConsumer) -> Result<T, KafkaError> + Send + 'static,
    ) -> Result<T, SourceError> {
        call(&self.reading.consumer, what, ask).await
    }
}

async fn call<T: Send + 'static>(
    consumer: &Arc<GroupConsumer>,
    what: &'static str,
    ask: impl FnOnce(&GroupConsumer) -> Result<T, KafkaError> + Send + 'static,
) -> Result<T, SourceError> {
    let consumer = Arc::clone(consumer);
    match tokio::task::spawn_blocking(move || ask(&consumer)).await {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(error)) if is_fenced(&error) => Err(SourceError::Fenced(format!("{what}: {error}"))),
        Ok(Err(error)) if is_refused(&error) => Err(SourceError::Lost(format!("{what}: {error}"))),
        Ok(Err(error)) => Err(SourceError::Call(format!("{what}: {error}"))),
        // It panicked, and would again.
        Err(error) => Err(SourceError::Lost(format!("{what}: {error}"))),
    }
}

/// Whether asking again is of no use.
fn is_refused(error: &KafkaError) -> bool {
    use RDKafkaErrorCode as Code;
    matches!(
        error.rdkafka_error_code(),
        Some(
            Code::TopicAuthorizationFailed
                | Code::GroupAuthorizationFailed
                | Code::ClusterAuthorizationFailed
                | Code::OffsetMetadataTooLarge
                | Code::InvalidCommitOffsetSize
        )
    )
}

fn is_fenced(error: &KafkaError) -> bool {
    use RDKafkaErrorCode as Code;
    matches!(
        error.rdkafka_error_code(),
        Some(
            Code::IllegalGeneration
                | Code::UnknownMemberId
                | Code::FencedInstanceId
                | Code::AssignmentLost
                | Code::Fatal
        )
    )
}

impl<D: Decode> Source for KafkaSource<D> {
    type Member = Member;
    type Change = D::Change;

    async fn next(&mut self) -> Event<D::Change> {
        match self.reading.events.recv().await {
            Some(event) => {
                if matches!(event, Event::Assigned(_)) {
                    self.reading.assignments += 1;
                    self.member = self.reading.consumer.context().next_member();
                }
                event
            }
            None => Event::Failed(SourceError::Call("the reading thread has ended".to_owned())),
        }
    }

    fn member(&self) -> Self::Member {
        self.member.clone()
    }

    async fn layers(&self, partitions: &[i32]) -> Result<Layers, SourceError> {
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
            Ok(Layers { cluster: consumer.client().fetch_cluster_id(CALL_TIMEOUT), partitions: states })
        })
        .await
    }

    fn ends(&self) -> Offsets {
        self.reading.consumer.context().ends()
    }

    fn cut_off(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.cut_off)
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

    async fn timestamps(&self, offsets: &BTreeMap<i32, i64>) -> Result<BTreeMap<i32, i64>, SourceError> {
        let (topic, offsets, base) = (self.topic.clone(), offsets.clone(), self.base.clone());
        self.call("looking at the last records", move |_| timestamps(&base, &topic, &offsets)).await
    }

    async fn first_since(&self, partitions: &[i32], at: Timestamp) -> Result<Offsets, SourceError> {
        let (topic, partitions) = (self.topic.clone(), partitions.to_vec());
        self.call("asking for offsets by time", move |consumer| {
            let mut asked = TopicPartitionList::new();
            for partition in &partitions {
                asked.add_partition_offset(&topic, *partition, Offset::Offset(at.millis()))?;
            }
            let found = consumer.offsets_for_times(asked, CALL_TIMEOUT)?;
            let mut offsets = Offsets::new();
            for partition in partitions {
                let next = match found.find_partition(&topic, partition).map(|found| found.offset()) {
                    Some(Offset::Offset(next)) => next,
                    _ => consumer.fetch_watermarks(&topic, partition, CALL_TIMEOUT)?.1,
                };
                offsets.insert(partition, NextOffset(next));
            }
            Ok(offsets)
        })
        .await
    }

    async fn offsets_kept_for(&self) -> Option<Duration> {
        const SETTING: &str = "offsets.retention.minutes";
        let broker = self
            .call("asking for the brokers", |consumer| {
                let metadata = consumer.fetch_metadata(Some("__consumer_offsets"), CALL_TIMEOUT)?;
                Ok(metadata.brokers().first().map(|broker| broker.id()))
            })
            .await
            .ok()??;
        let admin: AdminClient<_> = self.base.create().ok()?;
        let options = AdminOptions::new().request_timeout(Some(CALL_TIMEOUT));
        let found = admin.describe_configs(&[ResourceSpecifier::Broker(broker)], &options).await.ok()?;
        let minutes = found.first()?.as_ref().ok()?.get(SETTING)?.value.as_ref()?.parse::<u64>().ok()?;
        Some(Duration::from_secs(minutes.checked_mul(60)?))
    }

    fn start(&mut self, from: &Offsets) {
        let mut assignment = TopicPartitionList::new();
        for (partition, next) in from {
            // Cannot fail: the offset is a plain number.
            let _ = assignment.add_partition_offset(&self.topic, *partition, Offset::Offset(next.0));
        }
        let _ = self.reading.commands.send(Command::Start(self.reading.assignments, assignment));
    }

    async fn is_first(&self) -> Result<bool, SourceError> {
        let membership = self.membership.clone();
        self.call("asking for the group's members", move |consumer| group::is_first(consumer, &membership)).await
    }

    async fn rejoin(&mut self) -> Result<(), SourceError> {
        self.member = None;
        self.reading.end().await;
        group::wait_telling(&self.base, &self.membership, self.patience, &self.cut_off).await?;
        let (decoder, alone) = (self.decoder.clone(), self.alone.as_deref());
        let made =
            Reading::start(&self.base, &self.membership, &self.topic, decoder, alone, self.joined, &self.cut_off);
        self.joined += 1;
        let made = made.map_err(|error| SourceError::Lost(error.to_string()))?;
        let before = std::mem::replace(&mut self.reading, made);
        tokio::task::spawn_blocking(move || drop(before));
        Ok(())
    }
}

impl<D: Decode> Follow for KafkaSource<D> {
    async fn commit(&self, offsets: &Offsets, metadata: &str) -> Result<(), SourceError> {
        let assignment = if self.alone.is_some() { 0 } else { self.reading.assignments };
        commit(&self.reading.consumer, Some(assignment), &self.topic, offsets, metadata).await
    }

    fn alone(&self, partitions: Vec<i32>) -> Result<Self, SourceError> {
        Self::alone(&self.base, &self.membership.group, &self.topic, self.decoder.clone(), partitions)
            .map_err(|error| SourceError::Lost(error.to_string()))
    }

    async fn close(self) {
        Self::close(self).await;
    }
}

/// Commits offsets outside of any transaction, for sinks that have none, as the member that reads, for as long as that
/// stays in its group. One that joins anew needs another.
pub struct Committer {
    consumer: Arc<GroupConsumer>,
    topic: String,
}

impl Committer {
    /// Commits the group's offsets, with this text on every partition.
    ///
    /// # Errors
    /// As of [`Follow::commit`].
    pub async fn commit(&self, offsets: &Offsets, metadata: &str) -> Result<(), SourceError> {
        commit(&self.consumer, None, &self.topic, offsets, metadata).await
    }
}

/// `assignment`: the one that it is for, counted from 1; `None`: whichever stands.
async fn commit(
    consumer: &Arc<GroupConsumer>,
    assignment: Option<u64>,
    topic: &str,
    offsets: &Offsets,
    metadata: &str,
) -> Result<(), SourceError> {
    const WHAT: &str = "committing the group's offsets";
    // A client that has left its group commits as nobody, which the broker takes while the group is empty.
    let held = assignment.map_or_else(|| consumer.context().holds_any(), |one| consumer.context().holds(one));
    if !held {
        return Err(SourceError::Fenced(format!("{WHAT}: this member no longer has the partitions")));
    }
    let offsets = offsets_list(topic, offsets, metadata);
    call(consumer, WHAT, move |consumer| consumer.commit(&offsets, CommitMode::Sync)).await
}

/// Next offsets with a text on every partition.
pub fn offsets_list(topic: &str, offsets: &Offsets, metadata: &str) -> TopicPartitionList {
    let mut list = TopicPartitionList::new();
    for (partition, next) in offsets {
        let mut element = list.add_partition(topic, *partition);
        let _ = element.set_offset(Offset::Offset(next.0)); // cannot fail: it is a plain number
        element.set_metadata(metadata);
    }
    list
}

/// The timestamps of the records at these offsets, where there are records. Blocks.
fn timestamps(
    base: &ClientConfig,
    topic: &str,
    offsets: &BTreeMap<i32, i64>,
) -> Result<BTreeMap<i32, i64>, KafkaError> {
    let mut config = base.clone();
    config.set("group.id", "tripline").set("enable.auto.commit", "false"); // never joined
    config.set("enable.partition.eof", "true").set("auto.offset.reset", "latest");
    let consumer: BaseConsumer<Quiet> = config.create_with_context(Quiet)?;
    let mut assignment = TopicPartitionList::new();
    for (partition, offset) in offsets {
        assignment.add_partition_offset(topic, *partition, Offset::Offset(*offset))?;
    }
    consumer.assign(&assignment)?;
    let mut found = BTreeMap::new();
    let mut left: std::collections::BTreeSet<i32> = offsets.keys().copied().collect();
    while !left.is_empty() {
        match consumer.poll(CALL_TIMEOUT) {
            None => return Err(KafkaError::NoMessageReceived),
            Some(Err(KafkaError::PartitionEOF(partition))) => drop(left.remove(&partition)),
            Some(Err(error)) => tracing::debug!(%error, "looking at the last records"),
            Some(Ok(message)) => {
                let partition = message.partition();
                if left.remove(&partition) && offsets.get(&partition) == Some(&message.offset()) {
                    found.extend(message.timestamp().to_millis().map(|at| (partition, at)));
                }
            }
        }
    }
    Ok(found)
}
