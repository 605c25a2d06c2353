//! Asking the cluster: its topics, and the newest records. Nothing is joined, created or committed.

use std::collections::BTreeMap;
use std::time::Duration;

use super::facts::{Broker, Topic};
use crate::config::Config;
use crate::failure::Failure;
use crate::kafka::{Cluster, Isolation};
use crate::retry::Retry;

/// Records of each partition that are examined.
const NEWEST: i64 = 100;

/// Asks for everything.
pub(super) async fn broker(config: &Config, patience: Duration) -> Result<Broker, Failure> {
    let cluster = crate::app::servers::cluster(&config.kafka);
    let client = cluster.client("tripline", Isolation::Committed)?;
    let asked = Retry::for_at_most(patience).run("waiting for Kafka", async || client.overview().await);
    let overview = asked.await?;
    let partitions = client.partitions(&config.source.topic).await?;
    let topic = if partitions.is_empty() { None } else { Some(topic(&cluster, config, partitions.len()).await) };
    let mut broker = Broker { brokers: overview.brokers, topic, names: overview.topics, cleanup: BTreeMap::new() };
    let alerts = config.alerts.kafka.as_ref().map(|kafka| &kafka.topic);
    let written = [&config.checkpoint.episodes_topic, &config.source.dead_letter_topic].into_iter().chain(alerts);
    for topic in written.filter(|topic| broker.names.contains(topic)) {
        if let Some(policy) = cluster.topic_setting(topic, "cleanup.policy").await {
            broker.cleanup.insert(topic.clone(), policy);
        }
    }
    Ok(broker)
}

async fn topic(cluster: &Cluster, config: &Config, partitions: usize) -> Topic {
    match cluster.newest_records(&config.source.topic, NEWEST).await {
        Ok(newest) => Topic { partitions, newest, unread: None },
        Err(error) => Topic { partitions, newest: Vec::new(), unread: Some(error.to_string()) },
    }
}
