//! Asking the cluster: its topics, and the newest records. Nothing is joined, made or committed.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions, ResourceSpecifier};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::Message;
use rdkafka::{Offset, TopicPartitionList};
use tokio::time::Instant;

use super::facts::{Broker, Record, Topic, Unanswered};
use crate::cli::failure::Failure;
use crate::cli::{Exit, run};
use crate::config::Config;
use crate::model::Timestamp;
use crate::source::kafka::{Quiet, client_config};

/// How long a call may take.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a poll without records lasts.
const POLL_WAIT: Duration = Duration::from_millis(100);
/// How long the newest records are waited for.
const READ_TIMEOUT: Duration = Duration::from_secs(10);
/// Records of each partition that are looked at.
const NEWEST: i64 = 100;

/// Asks for everything.
pub(super) async fn broker(config: &Config, patience: Duration) -> Result<Broker, Unanswered> {
    let client = client_config(&config.kafka.bootstrap_servers, &config.kafka.properties);
    let topic = &config.source.topic;
    // It tells a refused login from a broker that is away, which a plain request does not.
    match run::find_topic(&config.kafka, topic, "source.topic", &client, patience, true).await {
        Ok(()) => {}
        Err(Failure { exit: Exit::Misconfigured, message }) if !message.starts_with("kafka.properties") => {}
        Err(Failure { exit, message }) => return Err(Unanswered { exit, text: message }),
    }
    let (asked, name) = (client.clone(), topic.clone());
    let mut broker = tokio::task::spawn_blocking(move || look(&asked, &name))
        .await
        .map_err(|error| Unanswered { exit: Exit::Failed, text: error.to_string() })?
        .map_err(|error| Unanswered {
            exit: Exit::Unreachable,
            text: format!("Kafka at {}: {error}", config.kafka.bootstrap_servers),
        })?;
    let alerts = config.alerts.kafka.as_ref().map(|kafka| &kafka.topic);
    let written = [&config.checkpoint.episodes_topic, &config.source.dead_letter_topic].into_iter().chain(alerts);
    for topic in written.filter(|topic| broker.names.contains(topic)) {
        if let Some(policy) = cleanup_policy(&client, topic).await {
            broker.cleanup.insert(topic.clone(), policy);
        }
    }
    Ok(broker)
}

/// Where the broker does not tell, there is none.
async fn cleanup_policy(client: &ClientConfig, topic: &str) -> Option<String> {
    let admin: AdminClient<DefaultClientContext> = client.create().ok()?;
    let options = AdminOptions::new().request_timeout(Some(CALL_TIMEOUT));
    let found = admin.describe_configs(&[ResourceSpecifier::Topic(topic)], &options).await.ok()?;
    found.first()?.as_ref().ok()?.get("cleanup.policy")?.value.clone()
}

fn look(client: &ClientConfig, topic: &str) -> Result<Broker, KafkaError> {
    let mut config = client.clone();
    config.set("group.id", "tripline").remove("group.instance.id"); // never joined
    config.set("enable.auto.commit", "false").set("enable.partition.eof", "true").set("auto.offset.reset", "earliest");
    config.set("isolation.level", "read_committed");
    let consumer: BaseConsumer<Quiet> = config.create_with_context(Quiet)?;
    let metadata = consumer.fetch_metadata(None, CALL_TIMEOUT)?;
    let names: Vec<String> = metadata.topics().iter().map(|found| found.name().to_owned()).collect();
    let partitions = metadata.topics().iter().find(|found| found.name() == topic).map(|found| found.partitions());
    let numbers: Option<Vec<i32>> = partitions.map(|found| found.iter().map(|partition| partition.id()).collect());
    let topic = numbers.filter(|numbers| !numbers.is_empty()).map(|numbers| {
        let (newest, unread) = match newest(&consumer, topic, &numbers) {
            Ok(newest) => (newest, None),
            Err(error) => (Vec::new(), Some(format!("the newest records cannot be read: {error}"))),
        };
        Topic { partitions: numbers.len(), newest, unread }
    });
    Ok(Broker { brokers: metadata.brokers().len(), topic, names, cleanup: BTreeMap::new() })
}

/// The newest records of each partition, or of those that could be read in time.
fn newest(consumer: &BaseConsumer<Quiet>, topic: &str, partitions: &[i32]) -> Result<Vec<Record>, KafkaError> {
    let mut assignment = TopicPartitionList::new();
    let mut left = BTreeSet::new();
    let mut ends = BTreeMap::new();
    for partition in partitions {
        let (low, high) = consumer.fetch_watermarks(topic, *partition, CALL_TIMEOUT)?;
        if low < high {
            let from = high.saturating_sub(NEWEST).max(low);
            assignment.add_partition_offset(topic, *partition, Offset::Offset(from))?;
            left.insert(*partition);
            ends.insert(*partition, high);
        }
    }
    consumer.assign(&assignment)?;
    let deadline = Instant::now() + READ_TIMEOUT;
    let mut records = Vec::new();
    while !left.is_empty() {
        match consumer.poll(POLL_WAIT) {
            None if Instant::now() > deadline && records.is_empty() => return Err(KafkaError::NoMessageReceived),
            None if Instant::now() > deadline => break,
            None => {}
            Some(Err(KafkaError::PartitionEOF(partition))) => drop(left.remove(&partition)),
            Some(Err(error)) => tracing::debug!(%error, "reading the newest records"),
            Some(Ok(message)) => {
                let end = ends.get(&message.partition()).copied().unwrap_or_default();
                if message.offset() >= end {
                    left.remove(&message.partition());
                    continue;
                }
                records.push(Record {
                    partition: message.partition(),
                    offset: message.offset(),
                    key: message.key().map(<[u8]>::to_vec),
                    value: message.payload().map(<[u8]>::to_vec),
                    at: message.timestamp().to_millis().map(Timestamp::from_millis),
                });
            }
        }
    }
    Ok(records)
}
