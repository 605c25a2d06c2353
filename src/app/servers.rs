//! The servers of a configuration, and the waits for servers, topics and group at a start.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::change::Decode;
use crate::config::{self, SourceFormat};
use crate::failure::Failure;
use crate::host;
use crate::kafka::group::Membership;
use crate::kafka::registry::{Registry, RegistryAddress};
use crate::kafka::{Cluster, Isolation};
use crate::postgres::{Database, Session};
use crate::retry::Retry;
use crate::source::kafka::decoding::{Decoding, Encoding};

/// How often to check for a topic that does not exist yet.
const TOPIC_INTERVAL: Duration = Duration::from_secs(1);

/// Returns the cluster of a configuration.
pub fn cluster(kafka: &config::Kafka) -> Cluster {
    Cluster::new(&kafka.bootstrap_servers, &kafka.properties, &kafka.group_id)
}

/// Returns how the records of a source are decoded.
///
/// # Errors
/// The file with the schema registry's certificate authorities cannot be read.
pub fn decoding<D: Decode>(source: &config::Source, decoders: Vec<(usize, D)>) -> Result<Decoding<D>, Failure> {
    let encoding = match source.format {
        SourceFormat::Auto => Encoding::Auto,
        SourceFormat::Json | SourceFormat::JsonUnwrapped => Encoding::Json,
        SourceFormat::Avro | SourceFormat::AvroUnwrapped => Encoding::Avro,
    };
    Ok(Decoding::new(decoders, encoding, registry(source)?))
}

/// Returns the schema registry of a source, if it has one.
///
/// # Errors
/// The file with its certificate authorities cannot be read.
pub fn registry(source: &config::Source) -> Result<Option<Arc<Registry>>, Failure> {
    let Some(settings) = &source.schema_registry else { return Ok(None) };
    let authorities = match &settings.ca {
        None => None,
        Some(path) => Some(std::fs::read(path).map_err(|error| {
            Failure::misconfigured(format!("source.schema_registry.ca: {}: {error}", path.display()))
        })?),
    };
    let address = RegistryAddress { url: settings.url.clone(), login: settings.login.clone(), authorities };
    Ok(Some(Arc::new(Registry::new(&address)?)))
}

/// Returns the database that confirms, for read-only sessions.
///
/// # Errors
/// The setting is not a Postgres URL.
pub fn rules_database(postgres: &config::Postgres) -> Result<Database, Failure> {
    let shown = config::redact_url(&postgres.url);
    Ok(Database::new(&postgres.url, shown, "postgres.url", Session::Reading(postgres.statement_timeout))?)
}

/// The reaction to a missing topic of changes. Debezium creates it with the table's first event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MissingTopic {
    /// Wait without end.
    Wait,
    /// Wait for this long, then fail.
    Fail(Duration),
}

/// Waits up to `patience` for the cluster, and then for a topic. `setting` is the setting that names the topic.
///
/// # Errors
/// The cluster cannot be reached or refuses, or there is no such topic.
pub async fn wait_for_topic(
    cluster: &Cluster,
    topic: &str,
    setting: &str,
    patience: Duration,
    missing: MissingTopic,
) -> Result<(), Failure> {
    let client = cluster.client(cluster.group(), Isolation::Uncommitted)?;
    let retry = Retry::for_at_most(patience);
    let mut first: Option<Instant> = None;
    loop {
        let partitions = retry.run("waiting for Kafka", async || client.partitions(topic).await).await?;
        if !partitions.is_empty() {
            return Ok(());
        }
        let since = *first.get_or_insert_with(|| {
            let seconds = if let MissingTopic::Fail(limit) = missing { Some(limit.as_secs()) } else { None };
            tracing::warn!(
                topic,
                at_most_seconds = seconds,
                "the topic does not exist yet: waiting for Debezium to create it"
            );
            Instant::now()
        });
        if let MissingTopic::Fail(limit) = missing
            && since.elapsed() >= limit
        {
            return Err(Failure::misconfigured(format!(
                "topic {topic} does not exist at {}, and was not created while this run waited {} s for it (startup_wait_ms): is {setting} right? Debezium creates the topic with the table's first event",
                cluster.servers(),
                limit.as_secs()
            )));
        }
        tokio::time::sleep(TOPIC_INTERVAL).await;
    }
}

/// Waits until the group has no active member except a leftover of this instance, and returns how to join the group.
/// The instance works on `folder`. `limit` is the longest wait of a run to the end.
///
/// # Errors
/// The cluster cannot be reached or refuses, or the group is not free in time.
pub async fn membership(
    cluster: &Cluster,
    group: &str,
    folder: &Path,
    limit: Option<Duration>,
) -> Result<Membership, Failure> {
    let mut membership = Membership { group: group.to_owned(), instance: host::instance(folder) };
    let client = cluster.client(group, Isolation::Uncommitted)?;
    let is_left_behind = client.wait_until_free(&membership, limit, |_| {}).await?;
    if limit.is_some() && !is_left_behind {
        membership.instance = None; // it leaves the group as soon as it ends
    }
    Ok(membership)
}
