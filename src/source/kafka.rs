//! The Kafka source: librdkafka's consumer on its own thread, which decodes the records it reads.
//!
//! Rebalances are answered here. A revocation is answered at once, an assignment only when the loop has found out where
//! to resume. The thread keeps polling whatever the loop does, so that the group does not count this member as dead. If
//! the loop is slow, it pauses the partitions.
//!
//! - this file: the interface for the loop
//! - [`reader`]: the thread, [`context`]: callbacks of the client
//! - [`topics`](mod@topics): the topics of the source
//! - [`decoding`]: decoding messages, [`ahead`]: limit on records that wait for the loop

mod ahead;
mod context;
pub mod decoding;
mod delivered;
mod reader;
pub mod topics;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use rdkafka::config::ClientConfig;
use rdkafka::consumer::{CommitMode, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::{Offset, TopicPartitionList};
use tokio::sync::mpsc;

use ahead::Sent;
use context::{Context, GroupConsumer};
use reader::{Command, Reader};

use self::topics::ReadTopics;
use super::{Beside, CommitOffsets, Event, Follow, Source, Standing};
use crate::change::Decode;
use crate::change::debezium::Decoder;
use crate::failure::{CallError, Kind};
use crate::kafka::group::{Member, Membership, offsets_list};
use crate::kafka::{Client, Cluster, Isolation, error};
use crate::model::Timestamp;
use crate::progress::group::GroupMember;
use crate::progress::topics::partition_of;
use crate::progress::{Offsets, TopicState, Topics};

/// The number of batches that may wait for the loop.
const BATCHES_AHEAD: usize = 8;
/// The longest wait for the consumer to leave the group.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(10);

/// Tripline's own consumer settings. `[kafka.properties]` may add to them.
const SETTINGS: [(&str, &str); 11] = [
    ("enable.auto.commit", "false"),
    ("enable.auto.offset.store", "false"),
    // Tripline decides where to start. An offset that no longer exists is an error, never a silent jump.
    ("auto.offset.reset", "error"),
    ("enable.partition.eof", "true"),
    // The default of one second stalls a consumer that works through a backlog.
    ("fetch.queue.backoff.ms", "2"),
    ("queued.min.messages", "200000"),
    // One more record is queued beyond this limit, whatever its size.
    ("queued.max.messages.kbytes", "32768"),
    // The limit is for all partitions together, and at least one more record is fetched. Compressed data is unpacked at
    // once and can become ten times as large.
    ("fetch.max.bytes", "4194304"),
    // The ends of the partitions are read from the statistics. They are only for display.
    ("statistics.interval.ms", "1000"),
    // After a kill the partitions are free again after this time instead of 45 s.
    ("session.timeout.ms", "10000"),
    // Added partitions are read after this time instead of five minutes.
    ("topic.metadata.refresh.interval.ms", "10000"),
];

/// Topics of a Kafka cluster, read in a consumer group.
pub struct KafkaSource<D: Decode = Decoder> {
    cluster: Cluster,
    /// A client for look-ups of the group, beside the member.
    client: Arc<Client>,
    beside: Arc<KafkaBeside>,
    membership: Membership,
    topics: ReadTopics<D>,
    /// The lanes that are read without joining the group.
    without_group: Option<Vec<i32>>,
    reading: Reading<D::Change>,
    member: Member,
    cut_off: Arc<AtomicBool>,
    /// How often it has joined.
    joined: u32,
    /// The longest wait for other members to be gone. `None`: no limit.
    patience: Option<Duration>,
}

/// A consumer and its thread.
struct Reading<T> {
    consumer: Arc<GroupConsumer>,
    commands: Sender<Command>,
    events: mpsc::Receiver<Sent<T>>,
    /// The number of assignments that the loop has received.
    assignments: u64,
    thread: Option<JoinHandle<()>>,
}

impl<T: Send + 'static> Reading<T> {
    /// Starts a consumer. `without_group`: read these lanes without joining. `joined`: how often this instance has
    /// joined before.
    fn start<D: Decode<Change = T>>(
        base: &ClientConfig,
        membership: &Membership,
        topics: ReadTopics<D>,
        without_group: Option<&[i32]>,
        joined: u32,
        cut_off: &Arc<AtomicBool>,
    ) -> Result<Self, CallError> {
        let mut config = base.clone();
        for (name, value) in SETTINGS {
            // The client refuses to fetch less than the largest message that it is configured to write.
            let is_contradicted = name == "fetch.max.bytes" && config.get("message.max.bytes").is_some();
            if config.get(name).is_none() && !is_contradicted {
                config.set(name, value);
            }
        }
        config.set("group.id", &membership.group);
        if let Some(instance) = &membership.instance {
            // Each attempt has a name of its own, because the broker's memory of the previous one may be out of date.
            let name = if joined == 0 { instance.clone() } else { format!("{instance}-{joined}") };
            config.set("group.instance.id", name);
        }
        let context = Context::new(&membership.group, &topics.topics, cut_off);
        let made: Result<GroupConsumer, KafkaError> = config.create_with_context(context);
        let consumer = Arc::new(made.map_err(|error| error::bad_property(&error, &config))?);
        match without_group {
            None => {
                let names: Vec<&str> = topics.topics.read().map(|(_, name)| name).collect();
                consumer.subscribe(&names).map_err(|error| error::failed("Kafka: joining the group", error))?;
            }
            Some(partitions) => consumer.context().give(partitions),
        }
        let (commands, inbox) = channel();
        let (outbox, events) = mpsc::channel(BATCHES_AHEAD);
        let reader = Reader::new(Arc::clone(&consumer), topics, inbox, outbox, &membership.group);
        let runtime = tokio::runtime::Handle::current();
        let thread = std::thread::Builder::new().name("kafka-source".into()).spawn(move || reader.run(&runtime)).ok();
        Ok(Self { consumer, commands, events, assignments: 0, thread })
    }

    /// Leaves the group, and waits at most a few seconds for that, because an unreachable broker must not delay the
    /// end.
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
    /// Joins the group. `patience` is the longest wait for other members to be gone when it joins again.
    ///
    /// # Errors
    /// librdkafka rejects a property.
    pub fn join(
        cluster: &Cluster,
        membership: Membership,
        topics: ReadTopics<D>,
        patience: Option<Duration>,
    ) -> Result<Self, CallError> {
        Self::open(cluster, membership, topics, None, patience)
    }

    /// Reads these lanes without joining the group. No member notices it, and the group is not created.
    ///
    /// # Errors
    /// librdkafka rejects a property.
    pub fn open_without_group(
        cluster: &Cluster,
        group: &str,
        topics: ReadTopics<D>,
        lanes: Vec<i32>,
    ) -> Result<Self, CallError> {
        let membership = Membership { group: group.to_owned(), instance: None };
        Self::open(cluster, membership, topics, Some(lanes), None)
    }

    fn open(
        cluster: &Cluster,
        membership: Membership,
        topics: ReadTopics<D>,
        without_group: Option<Vec<i32>>,
        patience: Option<Duration>,
    ) -> Result<Self, CallError> {
        let cut_off = Arc::default();
        let client = Arc::new(cluster.client(&membership.group, Isolation::Committed)?);
        let (settings, partitions) = (cluster.settings(), without_group.as_deref());
        let reading = Reading::start(&settings, &membership, topics.clone(), partitions, 0, &cut_off)?;
        let cluster = cluster.clone();
        let beside =
            KafkaBeside { cluster: cluster.clone(), client: Arc::clone(&client), topics: topics.topics.clone() };
        let beside = Arc::new(beside);
        let (member, joined) = (None, 1);
        Ok(Self {
            cluster,
            client,
            beside,
            membership,
            topics,
            without_group,
            reading,
            member,
            cut_off,
            joined,
            patience,
        })
    }

    /// Leaves the group, and waits at most a few seconds for that.
    pub async fn close(mut self) {
        self.reading.end().await;
        let Self { reading, .. } = self;
        // This closes the consumer, which may hang while the broker is unreachable.
        let closed = tokio::task::spawn_blocking(move || drop(reading));
        if tokio::time::timeout(CLOSE_TIMEOUT, closed).await.is_err() {
            tracing::warn!("the consumer did not close in time");
        }
    }

    /// Returns the committer of this member.
    pub fn committer(&self) -> Committer {
        Committer { consumer: Arc::clone(&self.reading.consumer), topics: self.topics.topics.clone() }
    }
}

impl<D: Decode> Source for KafkaSource<D> {
    type Member = Member;
    type Change = D::Change;
    type Beside = Arc<KafkaBeside>;

    async fn next(&mut self) -> Event<D::Change> {
        match self.reading.events.recv().await {
            Some(Sent { event, .. }) => {
                if matches!(event, Event::Assigned(_)) {
                    self.reading.assignments += 1;
                    self.member = self.reading.consumer.context().next_member();
                }
                event
            }
            None => Event::Failed(CallError::new("Kafka", "the reading thread has ended", Kind::Internal)),
        }
    }

    fn member(&self) -> Self::Member {
        self.member.clone()
    }

    async fn topic_state(&self, partitions: &[i32]) -> Result<TopicState, CallError> {
        self.client.topic_state(&self.topics.topics, partitions).await
    }

    fn ends(&self) -> Offsets {
        self.reading.consumer.context().ends()
    }

    fn cut_off(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.cut_off)
    }

    async fn partitions(&self) -> Result<Vec<i32>, CallError> {
        self.client.lanes(&self.topics.topics).await
    }

    async fn timestamps(&self, offsets: &BTreeMap<i32, i64>) -> Result<BTreeMap<i32, i64>, CallError> {
        self.cluster.timestamps(&self.topics.topics, offsets).await
    }

    async fn first_since(&self, partitions: &[i32], at: Timestamp) -> Result<Offsets, CallError> {
        self.client.first_since(&self.topics.topics, partitions, at).await
    }

    async fn offsets_kept_for(&self) -> Option<Duration> {
        self.cluster.offsets_retention().await
    }

    fn beside(&self) -> Arc<KafkaBeside> {
        Arc::clone(&self.beside)
    }

    fn start(&mut self, from: &Offsets) {
        let mut assignment = TopicPartitionList::new();
        for (lane, next) in from {
            let topic = self.topics.topics.name(*lane);
            // This cannot fail, because the offset is a plain number.
            let _ = assignment.add_partition_offset(topic, partition_of(*lane), Offset::Offset(next.0));
        }
        let _ = self.reading.commands.send(Command::Start(self.reading.assignments, assignment));
    }

    async fn standing(&self) -> Result<Standing, CallError> {
        let members = self.client.group_state().await?.members;
        let is_mine = |member: &GroupMember| self.membership.is_mine(member);
        let first = members.iter().min_by(|one, other| one.id.cmp(&other.id));
        Ok(match members.as_slice() {
            [only] if is_mine(only) => Standing::Alone,
            [_, ..] if members.iter().all(is_mine) => Standing::WithLeftovers,
            _ if first.is_some_and(is_mine) => Standing::First,
            _ => Standing::Behind,
        })
    }

    async fn rejoin(&mut self) -> Result<(), CallError> {
        self.member = None;
        self.reading.end().await;
        let cut_off = Arc::clone(&self.cut_off);
        let reachable = |reachable: bool| cut_off.store(!reachable, Ordering::Relaxed);
        self.client.wait_until_free(&self.membership, self.patience, reachable).await?;
        let (topics, lanes) = (self.topics.clone(), self.without_group.as_deref());
        let made =
            Reading::start(&self.cluster.settings(), &self.membership, topics, lanes, self.joined, &self.cut_off);
        self.joined += 1;
        let before = std::mem::replace(&mut self.reading, made?);
        tokio::task::spawn_blocking(move || drop(before));
        Ok(())
    }
}

impl<D: Decode> Follow for KafkaSource<D> {
    async fn commit(&self, offsets: &Offsets, metadata: &str) -> Result<(), CallError> {
        let assignment = if self.without_group.is_some() { 0 } else { self.reading.assignments };
        commit(&self.reading.consumer, Some(assignment), &self.topics.topics, offsets, metadata).await
    }

    fn open_without_group(&self, partitions: Vec<i32>) -> Result<Self, CallError> {
        Self::open_without_group(&self.cluster, &self.membership.group, self.topics.clone(), partitions)
    }

    async fn close(self) {
        Self::close(self).await;
    }
}

/// Reads the state of a topic while its records are read.
pub struct KafkaBeside {
    cluster: Cluster,
    client: Arc<Client>,
    topics: Topics,
}

impl Beside for Arc<KafkaBeside> {
    async fn state(&self) -> Result<TopicState, CallError> {
        let lanes = self.client.lanes(&self.topics).await?;
        self.client.ends(&self.topics, &lanes).await
    }

    async fn timestamps(&self, offsets: &BTreeMap<i32, i64>) -> Result<BTreeMap<i32, i64>, CallError> {
        self.cluster.timestamps(&self.topics, offsets).await
    }
}

/// Commits offsets outside of a transaction, for sinks without transactions. It commits as the member that reads, as
/// long as that stays in its group. A member that joins again needs another committer.
pub struct Committer {
    consumer: Arc<GroupConsumer>,
    topics: Topics,
}

impl CommitOffsets for Committer {
    async fn commit(&self, offsets: &Offsets, metadata: &str) -> Result<(), CallError> {
        commit(&self.consumer, None, &self.topics, offsets, metadata).await
    }
}

/// Commits offsets for this assignment, counted from 1. `None`: for the current assignment, whichever it is.
async fn commit(
    consumer: &Arc<GroupConsumer>,
    assignment: Option<u64>,
    topics: &Topics,
    offsets: &Offsets,
    metadata: &str,
) -> Result<(), CallError> {
    let call = format!("Kafka: committing the offsets of group {}", consumer.context().group);
    // A client that has left its group commits without a member, which the broker accepts while the group is empty.
    let held = assignment.map_or_else(|| consumer.context().holds_any(), |one| consumer.context().holds(one));
    if !held {
        return Err(CallError::new(call, "this member no longer has the partitions", Kind::Fenced));
    }
    let (consumer, offsets) = (Arc::clone(consumer), offsets_list(topics, offsets, metadata));
    match tokio::task::spawn_blocking(move || consumer.commit(&offsets, CommitMode::Sync)).await {
        Ok(done) => done.map_err(|error| error::failed(&call, error)),
        Err(panicked) => Err(CallError::from_source(call, panicked, Kind::Internal)),
    }
}
