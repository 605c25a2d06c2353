//! What leaves for Kafka: alerts, episodes and the group's offsets in one transaction per epoch, by a producer that shuts
//! out its predecessors; and dead letters, by a plain one.
//!
//! - this file: transactions
//! - [`backup`]: reading the topic of episodes
//! - [`letters`]: the dead-letter topic
//! - [`records`]: what the records look like

pub mod backup;
pub mod letters;
pub mod records;

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::future::join_all;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::OwnedHeaders;
use rdkafka::producer::{FutureProducer, FutureRecord, Producer};
use rdkafka::util::Timeout;

use super::{SinkError, SinkErrorKind, Transaction};
use crate::fault;
use crate::source::kafka::{Member, offsets_list};
use crate::unit::backup::Backup;

/// How long the broker may take to answer an administrative request.
const ADMIN_TIMEOUT: Duration = Duration::from_secs(10);
/// How long one request of a transaction may take before it counts as unanswered.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// A transaction that follows another at once is told to come back, while the broker still writes the markers of the one
/// before: the client's default of 100 ms would be most of an alert's latency. It grows by itself while a broker is away.
const RETRY_BACKOFF_MS: &str = "5";
/// How often it is looked whether the client has finished with what the broker acknowledged.
const SETTLE: Duration = Duration::from_millis(1);
/// Records under way at once: a bound on memory, not on speed.
const RECORDS_IN_FLIGHT: usize = 1_000;

/// The topics that are written to.
#[derive(Clone, Debug)]
pub struct Topics {
    /// `[alerts.kafka]`; off where there is none.
    pub alerts: Option<String>,
    /// Episodes, compacted.
    pub episodes: String,
}

/// Writes to Kafka.
pub struct KafkaSink {
    base: ClientConfig,
    group: String,
    topics: Topics,
    /// Since [`KafkaSink::fence`].
    transactional: Option<FutureProducer>,
    /// A transaction was begun, and neither committed nor aborted.
    open: bool,
    /// Keys of episodes whose last record says that they are over: removed by the next transaction, when no sink can need
    /// their alerts any more.
    over: Vec<String>,
    /// The same, of the transaction that is open.
    over_next: Vec<String>,
}

impl KafkaSink {
    /// Nothing is asked yet.
    pub fn new(base: &ClientConfig, group: &str, topics: Topics) -> Self {
        Self {
            base: base.clone(),
            group: group.to_owned(),
            topics,
            transactional: None,
            open: false,
            over: Vec::new(),
            over_next: Vec::new(),
        }
    }

    /// Makes a producer anew under the group's transactional id: the broker aborts or completes what the one before
    /// had under way, and refuses it from here on.
    pub(super) async fn fence(&mut self) -> Result<(), SinkError> {
        let before = self.transactional.take();
        (self.open, self.over, self.over_next) = (false, Vec::new(), Vec::new());
        let mut config = producing(&self.base);
        config.set("transactional.id", transactional_id(&self.group));
        if config.get("retry.backoff.ms").is_none() {
            config.set("retry.backoff.ms", RETRY_BACKOFF_MS);
        }
        let fenced = blocking(move || {
            drop(before);
            let producer: FutureProducer = config.create()?;
            producer.init_transactions(CALL_TIMEOUT)?;
            Ok(producer)
        })
        .await;
        match fenced {
            Ok(producer) => {
                self.transactional = Some(producer);
                Ok(())
            }
            // Nothing is lost by asking once more, whatever it was, unless the right is missing.
            Err(error) => Err(failed("fencing", &error, |kind| match kind {
                SinkErrorKind::Refused => SinkErrorKind::Refused,
                _ => SinkErrorKind::Away,
            })),
        }
    }

    pub(super) async fn prepare(&mut self, member: &Member, transaction: &Transaction<'_>) -> Result<(), SinkError> {
        let producer = self.producer()?;
        let member = member.clone().ok_or_else(|| lost("this member has no partitions"))?;
        if self.open {
            let aborting = producer.clone();
            let aborted = blocking(move || aborting.abort_transaction(CALL_TIMEOUT)).await;
            aborted.map_err(|error| failed("aborting", &error, unless_retriable(&error)))?;
            self.open = false;
        }
        producer.begin_transaction().map_err(|error| failed("beginning", &error, unless_retriable(&error)))?;
        self.open = true;
        fault::point("kafka.begun");
        let progress = transaction.progress;
        let offsets = offsets_list(&progress.topic, &progress.offsets, &progress.name);
        let records = self.records(transaction)?;
        let adding = producer.clone();
        let added = blocking(move || adding.send_offsets_to_transaction(&offsets, &member, CALL_TIMEOUT));
        // Both at once: each is some round trips.
        let (sent, added) = tokio::join!(send(&producer, &records), added);
        sent?;
        fault::point("kafka.sent");
        while producer.in_flight_count() > 0 {
            tokio::time::sleep(SETTLE).await; // committing earlier would wait in steps of 100 ms
        }
        added.map_err(|error| failed("adding the group's offsets", &error, |kind| kind))
    }

    /// Alerts, how their episodes stand, the end of episodes that were over before; and how far the group has come, the
    /// last record on its partition: whoever finds it has found all.
    fn records<'a>(&mut self, transaction: &Transaction<'a>) -> Result<Vec<Outgoing<'a>>, SinkError> {
        let mut records = Vec::new();
        if let Some(topic) = &self.topics.alerts {
            records.extend(transaction.alerts.iter().map(|alert| Outgoing {
                topic: topic.clone(),
                partition: None,
                key: Cow::Borrowed(&alert.record_key),
                body: Some(Cow::Borrowed(&alert.body)),
                headers: Some(records::cloud_event(alert, &self.group)),
            }));
        }
        let mut over_next = Vec::new();
        let mut told = BTreeSet::new();
        for episode in transaction.episodes {
            let key = episode.record_key();
            if episode.is_resolved() {
                over_next.push(key.clone());
            }
            records.push(self.backup_record(key.clone(), Some(json(episode)?)));
            told.insert(key);
        }
        let gone = self.over.iter().filter(|key| !told.contains(*key));
        records.extend(gone.map(|key| self.backup_record(key.clone(), None)));
        records.push(self.backup_record(self.group.clone(), Some(json(transaction.progress)?)));
        self.over_next = over_next;
        Ok(records)
    }

    /// On one partition, whatever their number: what is read from it up to a record is everything up to there.
    fn backup_record(&self, key: String, body: Option<String>) -> Outgoing<'static> {
        let topic = self.topics.episodes.clone();
        Outgoing { topic, partition: Some(0), key: Cow::Owned(key), body: body.map(Cow::Owned), headers: None }
    }

    pub(super) async fn commit(&mut self) -> Result<(), SinkError> {
        let producer = self.producer()?;
        let done = blocking(move || producer.commit_transaction(CALL_TIMEOUT)).await;
        done.map_err(|error| failed("committing", &error, unless_retriable(&error)))?;
        self.open = false;
        self.over = std::mem::take(&mut self.over_next);
        Ok(())
    }

    fn producer(&self) -> Result<FutureProducer, SinkError> {
        self.transactional.clone().ok_or_else(|| lost("no producer has been fenced in"))
    }

    pub(super) async fn backup(&self) -> Result<Backup, SinkError> {
        let (config, topic, group) = (self.base.clone(), self.topics.episodes.clone(), self.group.clone());
        let read = tokio::task::spawn_blocking(move || backup::read(&config, &topic, &group)).await;
        let problem = match read {
            Ok(Ok(backup)) => return Ok(backup),
            Ok(Err(problem)) => problem,
            Err(error) => error.to_string(),
        };
        Err(SinkError { sink: "topic of episodes", problem, kind: SinkErrorKind::Away })
    }
}

fn producing(base: &ClientConfig) -> ClientConfig {
    let mut config = base.clone();
    config.set("enable.idempotence", "true").set("linger.ms", "0");
    config
}

/// The id under which the instances of a group shut each other out.
fn transactional_id(group: &str) -> String {
    // 0 is the unit: so far one holds all partitions.
    format!("tripline-{group}-0")
}

/// A record of a transaction.
struct Outgoing<'a> {
    topic: String,
    /// By the key's hash where none is given.
    partition: Option<i32>,
    key: Cow<'a, str>,
    body: Option<Cow<'a, str>>,
    headers: Option<OwnedHeaders>,
}

/// Sends records, in order, and waits until the broker has them.
async fn send(producer: &FutureProducer, records: &[Outgoing<'_>]) -> Result<(), SinkError> {
    for part in records.chunks(RECORDS_IN_FLIGHT) {
        let sent = part.iter().map(|outgoing| {
            let mut record = FutureRecord::<str, str>::to(&outgoing.topic).key(&outgoing.key);
            record.partition = outgoing.partition;
            record.payload = outgoing.body.as_deref();
            record.headers.clone_from(&outgoing.headers);
            producer.send(record, Timeout::Never)
        });
        delivered("Kafka", producer, join_all(sent).await)?;
    }
    Ok(())
}

fn json(value: &impl serde::Serialize) -> Result<String, SinkError> {
    serde_json::to_string(value).map_err(|error| SinkError {
        sink: "Kafka",
        problem: error.to_string(),
        kind: SinkErrorKind::Refused,
    })
}

async fn blocking<T: Send + 'static>(
    call: impl FnOnce() -> Result<T, KafkaError> + Send + 'static,
) -> Result<T, KafkaError> {
    tokio::task::spawn_blocking(call).await.unwrap_or(Err(KafkaError::Canceled))
}

fn lost(problem: &str) -> SinkError {
    SinkError { sink: "Kafka", problem: problem.to_owned(), kind: SinkErrorKind::Fenced }
}

/// Whether all records have arrived.
fn delivered(
    sink: &'static str,
    producer: &FutureProducer,
    results: Vec<rdkafka::producer::future_producer::OwnedDeliveryResult>,
) -> Result<(), SinkError> {
    let Some((error, _)) = results.into_iter().find_map(Result::err) else { return Ok(()) };
    let (problem, mut kind) = (error.to_string(), kind_of(&error));
    if let Some((_, reason)) = producer.client().fatal_error() {
        let problem = format!("{problem}: {reason}");
        return Err(SinkError { sink, problem, kind: SinkErrorKind::Fenced });
    }
    if kind == SinkErrorKind::Fenced {
        kind = SinkErrorKind::Away;
    }
    Err(SinkError { sink, problem, kind })
}

fn failed(step: &str, error: &KafkaError, adjust: impl FnOnce(SinkErrorKind) -> SinkErrorKind) -> SinkError {
    SinkError { sink: "Kafka", problem: format!("{step}: {error}"), kind: adjust(kind_of(error)) }
}

/// A step that can only be repeated if the client says so: otherwise it is not known what has been done.
fn unless_retriable(error: &KafkaError) -> impl FnOnce(SinkErrorKind) -> SinkErrorKind + use<> {
    let again = matches!(error, KafkaError::Transaction(error)
        if error.is_retriable() && !error.is_fatal() && !error.txn_requires_abort());
    move |kind| match kind {
        SinkErrorKind::Away if !again => SinkErrorKind::Fenced,
        kind => kind,
    }
}

fn kind_of(error: &KafkaError) -> SinkErrorKind {
    use RDKafkaErrorCode as Code;
    let fatal = matches!(error, KafkaError::Transaction(error) if error.is_fatal());
    match error.rdkafka_error_code() {
        Some(
            Code::MessageSizeTooLarge
            | Code::TopicAuthorizationFailed
            | Code::ClusterAuthorizationFailed
            | Code::GroupAuthorizationFailed
            | Code::TransactionalIdAuthorizationFailed,
        ) => SinkErrorKind::Refused,
        Some(
            Code::UnknownMemberId
            | Code::IllegalGeneration
            | Code::FencedInstanceId
            | Code::Fenced
            | Code::ProducerFenced
            | Code::InvalidProducerEpoch
            | Code::InvalidProducerIdMapping,
        ) => SinkErrorKind::Fenced,
        _ if fatal => SinkErrorKind::Fenced,
        _ => SinkErrorKind::Away,
    }
}

/// Looks whether a topic keeps the newest record of every key, as the topic of episodes has to.
///
/// # Errors
/// It does not; the text says what to do. Where the broker does not tell, there is no error.
pub async fn check_compacted(base: &ClientConfig, topic: &str) -> Result<(), String> {
    const SETTING: &str = "cleanup.policy";
    let admin: AdminClient<DefaultClientContext> = base.create().map_err(|e| e.to_string())?;
    let options = AdminOptions::new().request_timeout(Some(ADMIN_TIMEOUT));
    let Ok(found) = admin.describe_configs(&[ResourceSpecifier::Topic(topic)], &options).await else { return Ok(()) };
    let config = found.first().and_then(|found| found.as_ref().ok());
    match config.and_then(|config| config.get(SETTING)).and_then(|entry| entry.value.as_deref()) {
        Some("compact") | None => Ok(()),
        Some(policy) => Err(format!(
            "topic {topic} (checkpoint.episodes_topic) has {SETTING}={policy}, and would lose open episodes: set {SETTING}=compact, or name another topic"
        )),
    }
}

/// Makes topics that are not there yet, with the broker's own defaults for partitions and replication; the second are
/// compacted.
///
/// # Errors
/// The broker refuses or does not answer; the text names the topic.
pub async fn ensure_topics(base: &ClientConfig, topics: &[&str], compacted: &[&str]) -> Result<(), String> {
    let admin: AdminClient<DefaultClientContext> = base.create().map_err(|e| e.to_string())?;
    let new = |topic| NewTopic::new(topic, -1, TopicReplication::Fixed(-1));
    let plain = topics.iter().map(|topic| new(topic));
    let compacted = compacted.iter().map(|topic| new(topic).set("cleanup.policy", "compact"));
    let all: Vec<NewTopic<'_>> = plain.chain(compacted).collect();
    let options = AdminOptions::new().operation_timeout(Some(ADMIN_TIMEOUT));
    let results = admin.create_topics(&all, &options).await.map_err(|e| e.to_string())?;
    for result in results {
        match result {
            Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
            Err((topic, code)) => return Err(format!("topic {topic} cannot be made: {code}")),
        }
    }
    Ok(())
}
