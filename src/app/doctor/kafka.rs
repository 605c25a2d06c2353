//! Questions to the cluster: its topics, and the newest records. Nothing is joined, created or committed.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::facts::{Broker, HeldUp, Right, Topic, Unread};
use crate::app::servers;
use crate::change::avro::{JsonError, RecordPart, Schemas};
use crate::change::record::TopicRecord;
use crate::config::Config;
use crate::failure::{CallError, Exit, Failure, Kind};
use crate::kafka::{Client, Cluster, Isolation};
use crate::progress::Topics;
use crate::retry::Retry;
use crate::sink::kafka::transactional_id;

/// The number of records of each partition that are examined.
const NEWEST: i64 = 100;
/// A transaction that is still open after this time is reported.
const STANDS_STILL: Duration = Duration::from_secs(2);

/// Asks the cluster for all facts.
pub(super) async fn broker(config: &Config, patience: Duration) -> Result<Broker, Failure> {
    let cluster = servers::cluster(&config.kafka);
    let client = cluster.client(cluster.group(), Isolation::Committed)?;
    let asked = Retry::for_at_most(patience).run("waiting for Kafka", async || client.overview().await);
    let overview = asked.await?;
    let source = &config.source.topic;
    let mut refused = Refused::new();
    let partitions = seen(&client, source, &mut refused).await?;
    if !partitions.is_empty() && !cluster.may_use_group(source).await? {
        return Ok(Broker {
            brokers: overview.brokers,
            names: overview.topics,
            group_refused: true,
            ..Broker::default()
        });
    }
    if !partitions.is_empty() && !cluster.may_read(source).await? {
        refused.entry(source.clone()).or_default().insert(Right::Read);
    }
    let topic = if partitions.is_empty() || refused.contains_key(source) {
        None
    } else {
        Some(topic(&cluster, config, partitions.len()).await)
    };
    let mut broker = Broker {
        brokers: overview.brokers,
        topic,
        names: overview.topics,
        transactional_id: transactional_id(&config.kafka.group_id),
        group_unjoinable: !cluster.may_join_group().await?,
        ..Broker::default()
    };
    let alerts = config.alerts.kafka.as_ref().map(|kafka| &kafka.topic);
    let transactional = alerts.into_iter().chain([&config.checkpoint.episodes_topic]);
    let transactional: Vec<&String> = transactional.filter(|topic| broker.names.contains(topic)).collect();
    let episodes = &config.checkpoint.episodes_topic;
    for topic in [episodes, &config.source.dead_letter_topic].into_iter().chain(alerts) {
        if seen(&client, topic, &mut refused).await?.is_empty() {
            continue;
        }
        if !cluster.may_write(topic).await? {
            refused.entry(topic.clone()).or_default().insert(Right::Write);
        }
        if topic == episodes && !cluster.may_read(topic).await? {
            refused.entry(topic.clone()).or_default().insert(Right::Read);
        }
    }
    broker.refused = refused;
    broker.held_up = held_up(&cluster, &client, &transactional).await.ok();
    let written = [&config.checkpoint.episodes_topic, &config.source.dead_letter_topic].into_iter().chain(alerts);
    for topic in written.filter(|topic| broker.names.contains(topic)) {
        if let Some(policy) = cluster.topic_setting(topic, "cleanup.policy").await {
            broker.cleanup.insert(topic.clone(), policy);
        }
    }
    Ok(broker)
}

type Refused = BTreeMap<String, BTreeSet<Right>>;

/// Returns the partitions of a topic, or none if this user may not see it.
async fn seen(client: &Client, topic: &str, refused: &mut Refused) -> Result<Vec<i32>, CallError> {
    match client.partitions(topic).await {
        Err(error) if error.kind == Kind::Refused => {
            refused.entry(topic.to_owned()).or_default().insert(Right::Describe);
            Ok(Vec::new())
        }
        found => found,
    }
}

/// Returns the partitions whose last stable offset is before the end and does not advance for a while.
async fn held_up(cluster: &Cluster, committed: &Client, topics: &[&String]) -> Result<Vec<HeldUp>, CallError> {
    let all = cluster.client(cluster.group(), Isolation::Uncommitted)?;
    let earlier = open(&all, committed, topics).await?;
    if earlier.is_empty() {
        return Ok(earlier);
    }
    tokio::time::sleep(STANDS_STILL).await;
    let mut later = open(&all, committed, topics).await?;
    let is_same = |one: &HeldUp, other: &HeldUp| {
        (&one.topic, one.partition, one.stable) == (&other.topic, other.partition, other.stable)
    };
    later.retain(|now| earlier.iter().any(|before| is_same(before, now)));
    Ok(later)
}

/// Returns the partitions with an open transaction.
async fn open(all: &Client, committed: &Client, topics: &[&String]) -> Result<Vec<HeldUp>, CallError> {
    let mut found = Vec::new();
    for topic in topics {
        let partitions = all.partitions(topic).await?;
        // The order matters: a record written in between must not look like an open transaction.
        let of_topic = Topics::from(topic.as_str());
        let ends = all.ends(&of_topic, &partitions).await?.partitions;
        let stable = committed.ends(&of_topic, &partitions).await?.partitions;
        for (end, stable) in ends.iter().zip(&stable).filter(|(end, stable)| stable.high < end.high) {
            let (partition, stable, end) = (end.partition, stable.high, end.high);
            found.push(HeldUp { topic: (*topic).clone(), partition, stable, end });
        }
    }
    Ok(found)
}

/// Converts records in Avro to JSON, where a registry has their schemas.
async fn in_json(config: &Config, records: Vec<TopicRecord>) -> Result<Vec<TopicRecord>, Failure> {
    let Some(registry) = servers::registry(&config.source)? else { return Ok(records) };
    let converted = tokio::task::spawn_blocking(move || {
        let mut schemas = Schemas::default();
        let mut json =
            |bytes: Option<Vec<u8>>, part: RecordPart, headers: &[(String, Vec<u8>)]| -> Result<_, CallError> {
                let Some(bytes) = bytes else { return Ok(None) };
                loop {
                    let headers = headers.iter().map(|(name, value)| (name.as_str(), Some(value.as_slice())));
                    match schemas.json(&bytes, part, headers) {
                        Ok(json) => return Ok(Some(json.into_owned())),
                        Err(JsonError::Unknown(id)) => schemas.learn(id, registry.fetch(id)?),
                        Err(JsonError::Invalid(_)) => break, // it shows as what it is
                    }
                }
                Ok(Some(bytes))
            };
        let convert = |record: TopicRecord| {
            let key = json(record.key, RecordPart::Key, &record.schema_headers)?;
            let value = json(record.value, RecordPart::Value, &record.schema_headers)?;
            Ok(TopicRecord { key, value, ..record })
        };
        records.into_iter().map(convert).collect::<Result<Vec<_>, CallError>>()
    });
    let converted = converted.await.map_err(|error| Failure::new(Exit::Failed, error.to_string()))?;
    Ok(converted?)
}

async fn topic(cluster: &Cluster, config: &Config, partitions: usize) -> Topic {
    const REGISTRY: &str = "correct [source.schema_registry]: url, ca, user, and TRIPLINE__SOURCE__SCHEMA_REGISTRY__PASSWORD; or start the registry";
    let unread = |Failure { exit, message, .. }, fix| Topic {
        partitions,
        newest: Vec::new(),
        unread: Some(Unread { text: message, exit, fix }),
    };
    match cluster.newest_records(&config.source.topic, NEWEST).await {
        Ok(newest) => match in_json(config, newest).await {
            Ok(newest) => Topic { partitions, newest, unread: None },
            Err(failure) => unread(failure, REGISTRY),
        },
        Err(error) => unread(error.into(), "look at the broker's log"),
    }
}
