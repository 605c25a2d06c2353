//! What the broker knows of the topic and the group, and the one thing that is changed there: the group's offsets.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message;
use rdkafka::{Offset, TopicPartitionList};
use tokio::time::Instant;

use super::layers::{Group, Member, Partition};
use crate::checkpoint::Offsets;
use crate::cli::Exit;
use crate::cli::failure::Failure;
use crate::config;
use crate::model::{NextOffset, Timestamp};
use crate::source::kafka::client_config;

/// How long one call may take.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a call is tried again, e.g. while the group's coordinator is being elected.
const PATIENCE: Duration = Duration::from_secs(10);
/// Between two tries.
const PAUSE: Duration = Duration::from_millis(200);
/// How long the records are waited for whose age is wanted.
const READ_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a poll without records lasts.
const POLL_WAIT: Duration = Duration::from_millis(50);

/// Settings of a consumer that reads one record of each partition, and never joins its group.
const SETTINGS: [(&str, &str); 7] = [
    ("enable.auto.commit", "false"),
    ("enable.auto.offset.store", "false"),
    ("auto.offset.reset", "error"),
    ("enable.partition.eof", "true"),
    ("queued.min.messages", "1"),
    ("queued.max.messages.kbytes", "1024"),
    ("fetch.message.max.bytes", "65536"),
];

/// The cluster of a configuration.
pub(super) struct Kafka {
    servers: String,
    topic: String,
    group: String,
    /// Sees of the topic what a run would read.
    reader: Arc<BaseConsumer>,
    /// Sees the group's offsets even while a transaction that is to move them is under way.
    committer: Arc<BaseConsumer>,
}

impl Kafka {
    /// Makes the clients. Nothing is asked yet.
    pub(super) fn new(kafka: &config::Kafka, topic: &str) -> Result<Self, Failure> {
        let mut settings = client_config(&kafka.bootstrap_servers, &kafka.properties);
        for (name, value) in SETTINGS {
            settings.set(name, value);
        }
        settings.set("group.id", &kafka.group_id).remove("group.instance.id");
        let make = |settings: &ClientConfig| {
            let made: Result<BaseConsumer, KafkaError> = settings.create();
            made.map(Arc::new).map_err(|error| Failure::new(Exit::Misconfigured, format!("kafka.properties: {error}")))
        };
        let reader = make(&settings)?;
        let committer = make(settings.set("isolation.level", "read_uncommitted"))?;
        Ok(Self {
            servers: kafka.bootstrap_servers.clone(),
            topic: topic.to_owned(),
            group: kafka.group_id.clone(),
            reader,
            committer,
        })
    }

    /// Its servers, as the configuration has them.
    pub(super) fn servers(&self) -> &str {
        &self.servers
    }

    /// Every partition of the topic, in order.
    pub(super) async fn partitions(&self) -> Result<Vec<Partition>, Failure> {
        let topic = self.topic.clone();
        let ends = self.call(&self.reader, "asking for the topic's ends", move |consumer| {
            let metadata = consumer.fetch_metadata(Some(&topic), CALL_TIMEOUT)?;
            let found = metadata.topics().iter().find(|found| found.name() == topic);
            let mut ends = BTreeMap::new();
            for partition in found.map(|found| found.partitions()).unwrap_or_default() {
                ends.insert(partition.id(), consumer.fetch_watermarks(&topic, partition.id(), CALL_TIMEOUT)?);
            }
            Ok(ends)
        });
        let ends = ends.await?;
        let mut committed = self.committed(ends.keys().copied().collect()).await?;
        let partition = |(partition, (oldest, end)): (i32, (i64, i64))| Partition {
            partition,
            oldest: NextOffset(oldest),
            end: NextOffset(end),
            group: committed.remove(&partition),
        };
        Ok(ends.into_iter().map(partition).collect())
    }

    /// What the group has committed, with its metadata.
    async fn committed(&self, partitions: Vec<i32>) -> Result<BTreeMap<i32, (NextOffset, String)>, Failure> {
        let topic = self.topic.clone();
        let found = self.call(&self.committer, "asking for the group's offsets", move |consumer| {
            let mut asked = TopicPartitionList::new();
            for partition in &partitions {
                asked.add_partition(&topic, *partition);
            }
            let list = consumer.committed_offsets(asked, CALL_TIMEOUT)?;
            let mut found = BTreeMap::new();
            for element in list.elements() {
                element.error()?;
                if let Offset::Offset(next) = element.offset() {
                    found.insert(element.partition(), (NextOffset(next), element.metadata().to_owned()));
                }
            }
            Ok(found)
        });
        found.await
    }

    /// The group's state and members.
    pub(super) async fn group(&self) -> Result<Group, Failure> {
        let group = self.group.clone();
        let list = self.call(&self.committer, "asking for the group's members", move |consumer| {
            let list = consumer.fetch_group_list(Some(&group), CALL_TIMEOUT)?;
            let found = list.groups().iter().find(|found| found.name() == group);
            let members = found.map(|found| found.members()).unwrap_or_default().iter().map(|member| Member {
                id: member.id().to_owned(),
                client: member.client_id().to_owned(),
                host: member.client_host().trim_start_matches('/').to_owned(),
            });
            // A group that there is not is called dead.
            let state = found.map(|found| found.state()).filter(|state| *state != "Dead");
            Ok(Group { state: state.map(str::to_owned), members: members.collect() })
        });
        list.await
    }

    /// In each of these partitions, the first record that is not older than this, or the end.
    pub(super) async fn since(&self, at: Timestamp, partitions: &[Partition]) -> Result<Offsets, Failure> {
        // Kafka's timestamps are whole milliseconds, and negative ones have a meaning of their own.
        let millis = at.millis().saturating_add(i64::from(at.0.rem_euclid(1_000) > 0)).max(0);
        let topic = self.topic.clone();
        let ends: BTreeMap<i32, NextOffset> = partitions.iter().map(|found| (found.partition, found.end)).collect();
        let found = self.call(&self.reader, "asking for the offsets of an instant", move |consumer| {
            let mut asked = TopicPartitionList::new();
            for partition in ends.keys() {
                asked.add_partition_offset(&topic, *partition, Offset::Offset(millis))?;
            }
            let list = consumer.offsets_for_times(asked, CALL_TIMEOUT)?;
            let mut found = ends.clone();
            for element in list.elements() {
                element.error()?;
                if let Offset::Offset(next) = element.offset() {
                    found.insert(element.partition(), NextOffset(next));
                }
            }
            Ok(found)
        });
        found.await
    }

    /// The timestamps of the records at these offsets, or of the next ones where there is no record at an offset. A
    /// partition without any such record is left out; one that could not be read in time has `None`.
    pub(super) async fn timestamps(&self, at: Offsets) -> Result<BTreeMap<i32, Option<Timestamp>>, Failure> {
        if at.is_empty() {
            return Ok(BTreeMap::new());
        }
        let topic = self.topic.clone();
        self.call(&self.reader, "reading the oldest unread records", move |consumer| read(consumer, &topic, &at)).await
    }

    /// Commits these offsets without any metadata, and sees to it that they are there.
    pub(super) async fn commit(&self, offsets: &Offsets) -> Result<(), Failure> {
        let (topic, wanted) = (self.topic.clone(), offsets.clone());
        let done = self.call(&self.committer, "committing the group's offsets", move |consumer| {
            let mut list = TopicPartitionList::new();
            for (partition, next) in &wanted {
                list.add_partition_offset(&topic, *partition, Offset::Offset(next.0))?;
            }
            consumer.commit(&list, CommitMode::Sync)
        });
        done.await?;
        let committed = self.committed(offsets.keys().copied().collect()).await?;
        let differs = |(partition, next): &(&i32, &NextOffset)| {
            committed.get(partition).is_none_or(|(found, text)| found != *next || !text.is_empty())
        };
        match offsets.iter().find(differs) {
            None => Ok(()),
            Some((partition, next)) => Err(Failure::new(
                Exit::Protected,
                format!(
                    "group {} was not moved as asked: partition {partition} is not at {}; has an instance just been started? Look again with `tripline offsets`",
                    self.group, next.0
                ),
            )),
        }
    }

    /// Calls librdkafka off the loop, again while it may help.
    async fn call<T: Send + 'static>(
        &self,
        consumer: &Arc<BaseConsumer>,
        what: &str,
        call: impl Fn(&BaseConsumer) -> Result<T, KafkaError> + Send + Sync + 'static,
    ) -> Result<T, Failure> {
        let call = Arc::new(call);
        let deadline = Instant::now() + PATIENCE;
        loop {
            let (call, consumer) = (Arc::clone(&call), Arc::clone(consumer));
            let called = tokio::task::spawn_blocking(move || call(&consumer));
            // A commit has no time limit of its own.
            let error = match tokio::time::timeout(CALL_TIMEOUT + PATIENCE, called).await {
                Ok(Ok(Ok(done))) => return Ok(done),
                Ok(Ok(Err(error))) => error,
                Ok(Err(error)) => return Err(Failure::new(Exit::Failed, format!("{what}: {error}"))),
                Err(_) => return Err(self.failed(what, Exit::Unreachable, "no answer")),
            };
            match exit(&error) {
                Some(exit) => return Err(self.failed(what, exit, &error.to_string())),
                None if Instant::now() >= deadline => {
                    return Err(self.failed(what, Exit::Unreachable, &error.to_string()));
                }
                None => {}
            }
            tracing::debug!(%error, "{what}, again");
            tokio::time::sleep(PAUSE).await;
        }
    }

    fn failed(&self, what: &str, exit: Exit, problem: &str) -> Failure {
        let advice = match exit {
            Exit::Unreachable => "; is it running, and is kafka.bootstrap_servers right?",
            Exit::Protected => "; the group has an active member: stop it first",
            _ => "",
        };
        Failure::new(exit, format!("Kafka at {}: {what}: {problem}{advice}", self.servers))
    }
}

/// How a command ends after this error; `None` where trying again may help.
fn exit(error: &KafkaError) -> Option<Exit> {
    use RDKafkaErrorCode as Code;
    match error.rdkafka_error_code()? {
        Code::TopicAuthorizationFailed
        | Code::GroupAuthorizationFailed
        | Code::ClusterAuthorizationFailed
        | Code::SaslAuthenticationFailed
        | Code::Authentication
        | Code::SSL => Some(Exit::Refused),
        // To a commit from outside of the group: it is not empty.
        Code::UnknownMemberId | Code::IllegalGeneration | Code::RebalanceInProgress | Code::FencedInstanceId => {
            Some(Exit::Protected)
        }
        _ => None,
    }
}

fn read(consumer: &BaseConsumer, topic: &str, at: &Offsets) -> Result<BTreeMap<i32, Option<Timestamp>>, KafkaError> {
    let mut list = TopicPartitionList::new();
    for (partition, next) in at {
        list.add_partition_offset(topic, *partition, Offset::Offset(next.0))?;
    }
    consumer.assign(&list)?;
    let mut waiting: BTreeSet<i32> = at.keys().copied().collect();
    let mut found: BTreeMap<i32, Option<Timestamp>> = at.keys().map(|partition| (*partition, None)).collect();
    let deadline = Instant::now() + READ_TIMEOUT;
    while !waiting.is_empty() && Instant::now() < deadline {
        match consumer.poll(POLL_WAIT) {
            None => {}
            Some(Ok(message)) => {
                let partition = message.partition();
                if waiting.remove(&partition) {
                    found.insert(partition, message.timestamp().to_millis().map(Timestamp::from_millis));
                    let mut done = TopicPartitionList::new();
                    done.add_partition(topic, partition);
                    consumer.pause(&done)?;
                }
            }
            // Only marks of transactions are left there: no record is unread.
            Some(Err(KafkaError::PartitionEOF(partition))) => {
                waiting.remove(&partition).then(|| found.remove(&partition));
            }
            Some(Err(error)) if exit(&error).is_some() => return Err(error),
            Some(Err(error)) => tracing::debug!(%error, "reading the oldest unread records; it is tried again"),
        }
    }
    consumer.unassign()?;
    Ok(found)
}
