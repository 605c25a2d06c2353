//! Topics: their partitions, ends and settings.

use std::collections::BTreeMap;
use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::metadata::Metadata;
use rdkafka::{Offset, TopicPartitionList};

use super::{CALL_TIMEOUT, Client, Closing, Cluster, Isolation, Quiet, error};
use crate::failure::{CallError, Kind};
use crate::model::{NextOffset, Timestamp};
use crate::progress::topics::{lane, partition_of};
use crate::progress::{Offsets, PartitionState, TopicState, Topics};

/// The number of brokers, and the topics of the cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overview {
    /// The number of brokers.
    pub brokers: usize,
    /// The names of all topics that this client may see.
    pub topics: Vec<String>,
}

impl Client {
    /// Reads the number of brokers and the names of the topics.
    ///
    /// # Errors
    /// The cluster does not answer, or refuses.
    pub async fn overview(&self) -> Result<Overview, CallError> {
        self.call("listing topics", |consumer| {
            let metadata = consumer.fetch_metadata(None, CALL_TIMEOUT)?;
            let topics = metadata.topics().iter().map(|found| found.name().to_owned()).collect();
            Ok(Overview { brokers: metadata.brokers().len(), topics })
        })
        .await
    }

    /// Reads the partitions of a topic, in order. Empty: there is no such topic.
    ///
    /// # Errors
    /// The cluster does not answer, or refuses.
    pub async fn partitions(&self, topic: &str) -> Result<Vec<i32>, CallError> {
        let topic = topic.to_owned();
        let what = format!("asking for the partitions of {topic}");
        self.call(&what, move |consumer| partitions(consumer, &topic)).await
    }

    /// Reads the lanes of all partitions of the topics that are read. Empty: one of the topics does not exist.
    ///
    /// # Errors
    /// The cluster does not answer, or refuses.
    pub async fn lanes(&self, topics: &Topics) -> Result<Vec<i32>, CallError> {
        let mut lanes = Vec::new();
        for (place, topic) in topics.read() {
            let partitions = self.partitions(topic).await?;
            if partitions.is_empty() {
                return Ok(Vec::new());
            }
            lanes.extend(partitions.into_iter().filter_map(|partition| lane(place, partition)));
        }
        Ok(lanes)
    }

    /// Reads the state of these lanes, with the offsets of the client's group. Under [`Isolation::Committed`] the ends
    /// are those of committed records, and the call waits for offsets of an open transaction.
    ///
    /// # Errors
    /// The cluster does not answer, or refuses.
    pub async fn topic_state(&self, topics: &Topics, lanes: &[i32]) -> Result<TopicState, CallError> {
        let mut committed = self.committed(topics, lanes).await?;
        let mut state = self.ends(topics, lanes).await?;
        for partition in &mut state.partitions {
            partition.committed = committed.remove(&partition.partition);
        }
        Ok(state)
    }

    /// Reads the beginning and end of these lanes, without a group's offsets.
    ///
    /// # Errors
    /// The cluster does not answer, or refuses.
    pub async fn ends(&self, topics: &Topics, lanes: &[i32]) -> Result<TopicState, CallError> {
        let what = format!("asking for the ends of {}", topics.text());
        let (topics, lanes) = (topics.clone(), lanes.to_vec());
        self.call(&what, move |consumer| {
            let mut states = Vec::new();
            for lane in lanes {
                let (topic, partition) = (topics.name(lane), partition_of(lane));
                let (low, high) = consumer.fetch_watermarks(topic, partition, CALL_TIMEOUT)?;
                states.push(PartitionState {
                    partition: lane,
                    committed: None,
                    low: NextOffset(low),
                    high: NextOffset(high),
                });
            }
            Ok(TopicState { cluster: consumer.client().fetch_cluster_id(CALL_TIMEOUT), partitions: states })
        })
        .await
    }

    /// Reads the offsets that the client's group has committed in these lanes, with the metadata text.
    ///
    /// # Errors
    /// The cluster does not answer, or refuses.
    pub async fn committed(
        &self,
        topics: &Topics,
        lanes: &[i32],
    ) -> Result<BTreeMap<i32, (NextOffset, String)>, CallError> {
        let what = format!("asking for the offsets of group {} in {}", self.group, topics.text());
        let (topics, lanes) = (topics.clone(), lanes.to_vec());
        self.call(&what, move |consumer| {
            let mut asked = TopicPartitionList::new();
            for lane in &lanes {
                asked.add_partition(topics.name(*lane), partition_of(*lane));
            }
            let list = consumer.committed_offsets(asked, CALL_TIMEOUT)?;
            let mut found = BTreeMap::new();
            for element in list.elements() {
                element.error()?;
                if let Offset::Offset(next) = element.offset() {
                    let lane = topics.lane(element.topic(), element.partition());
                    found.extend(lane.map(|lane| (lane, (NextOffset(next), element.metadata().to_owned()))));
                }
            }
            Ok(found)
        })
        .await
    }

    /// Finds by lane the offset of the first record that is not older than this, or the end.
    ///
    /// # Errors
    /// The cluster does not answer, or refuses.
    pub async fn first_since(&self, topics: &Topics, lanes: &[i32], at: Timestamp) -> Result<Offsets, CallError> {
        // Kafka's timestamps are whole milliseconds, and negative ones have a meaning of their own.
        let millis = at.millis().saturating_add(i64::from(at.0.rem_euclid(1_000) > 0)).max(0);
        let (topics, lanes) = (topics.clone(), lanes.to_vec());
        self.call("asking for offsets by time", move |consumer| {
            let mut asked = TopicPartitionList::new();
            for lane in &lanes {
                asked.add_partition_offset(topics.name(*lane), partition_of(*lane), Offset::Offset(millis))?;
            }
            let found = consumer.offsets_for_times(asked, CALL_TIMEOUT)?;
            let mut offsets = Offsets::new();
            for lane in lanes {
                let (topic, partition) = (topics.name(lane), partition_of(lane));
                let element = found.find_partition(topic, partition);
                let next = match element.as_ref().map(|found| found.offset()) {
                    Some(Offset::Offset(next)) => next,
                    _ => consumer.fetch_watermarks(topic, partition, CALL_TIMEOUT)?.1,
                };
                offsets.insert(lane, NextOffset(next));
            }
            Ok(offsets)
        })
        .await
    }
}

/// A topic that each cluster has: it stores the groups and their committed offsets.
pub(super) const OFFSETS_TOPIC: &str = "__consumer_offsets";

/// Reads the partitions of a topic, in order. Empty: there is no such topic.
pub(super) fn partitions<C: ConsumerContext>(consumer: &BaseConsumer<C>, topic: &str) -> Result<Vec<i32>, KafkaError> {
    let metadata: Metadata = consumer.fetch_metadata(Some(topic), CALL_TIMEOUT)?;
    let Some(found) = metadata.topics().iter().find(|found| found.name() == topic) else { return Ok(Vec::new()) };
    match found.error().map(RDKafkaErrorCode::from) {
        Some(code @ (RDKafkaErrorCode::TopicAuthorizationFailed | RDKafkaErrorCode::InvalidTopic)) => {
            Err(KafkaError::MetadataFetch(code))
        }
        // Unknown, or without a leader for now.
        _ => {
            let mut numbers: Vec<i32> = found.partitions().iter().map(|partition| partition.id()).collect();
            numbers.sort_unstable();
            Ok(numbers)
        }
    }
}

impl Cluster {
    /// Reads a topic's setting. `None`: the broker does not report it.
    pub async fn topic_setting(&self, topic: &str, setting: &str) -> Option<String> {
        self.setting(&ResourceSpecifier::Topic(topic), setting).await
    }

    /// Reads how long the broker keeps the offsets of a group without members. `None`: the broker does not report it.
    pub async fn offsets_retention(&self) -> Option<Duration> {
        let client = self.client(&self.group, Isolation::Uncommitted).ok()?;
        let broker = client.call("asking for the brokers", |consumer| {
            let metadata = consumer.fetch_metadata(Some(OFFSETS_TOPIC), CALL_TIMEOUT)?;
            Ok(metadata.brokers().first().map(|broker| broker.id()))
        });
        let broker = broker.await.ok()??;
        let minutes = self.setting(&ResourceSpecifier::Broker(broker), "offsets.retention.minutes").await?;
        Some(Duration::from_secs(minutes.parse::<u64>().ok()?.checked_mul(60)?))
    }

    async fn setting(&self, of: &ResourceSpecifier<'_>, name: &str) -> Option<String> {
        let admin: AdminClient<Quiet> = self.base.create_with_context(Quiet).ok()?;
        let admin = Closing::new(admin);
        let options = AdminOptions::new().request_timeout(Some(CALL_TIMEOUT));
        let found = admin.describe_configs([of], &options).await.ok()?;
        found.first()?.as_ref().ok()?.get(name)?.value.clone()
    }

    /// Creates the topics that do not exist, with the broker's defaults for partitions and replication. Those of
    /// `compacted` are compacted.
    ///
    /// # Errors
    /// The broker refuses or does not answer. The text names the topic.
    pub async fn create_topics(&self, plain: &[&str], compacted: &[&str]) -> Result<(), CallError> {
        let what = format!("Kafka at {}", self.servers);
        // Topics that exist need no right to create any.
        let client = self.client(&self.group, Isolation::Uncommitted)?;
        let mut missing = Vec::new();
        for topic in plain.iter().chain(compacted) {
            if client.partitions(topic).await?.is_empty() {
                missing.push(*topic);
            }
        }
        if missing.is_empty() {
            return Ok(());
        }
        let admin: AdminClient<Quiet> =
            self.base.create_with_context(Quiet).map_err(|error| error::bad_property(&error, &self.base))?;
        let admin = Closing::new(admin);
        let new = |topic| {
            let new = NewTopic::new(topic, -1, TopicReplication::Fixed(-1));
            if compacted.contains(&topic) { new.set("cleanup.policy", "compact") } else { new }
        };
        let all: Vec<NewTopic<'_>> = missing.into_iter().map(new).collect();
        let options = AdminOptions::new().operation_timeout(Some(CALL_TIMEOUT));
        let created = admin.create_topics(&all, &options).await;
        let created = created.map_err(|error| self.failed("creating topics", error))?;
        for result in created {
            match result {
                Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
                Err((topic, code)) => {
                    return Err(CallError::new(
                        what,
                        format!(
                            "topic {topic} cannot be created: {code}; give this user CREATE on it, or make it before"
                        ),
                        Kind::Refused,
                    ));
                }
            }
        }
        Ok(())
    }
}
