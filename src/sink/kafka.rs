//! Writes to Kafka. A transactional producer, which shuts out its predecessors, writes alerts, episodes and the group's
//! offsets in one transaction for each epoch. A plain producer writes dead letters.
//!
//! - this file: transactions
//! - [`fence`]: which producer a transaction may begin on
//! - [`recovery`]: reading the recovery topic
//! - [`dead_letters`]: the dead-letter topic
//! - [`records`]: the format of the records

pub mod dead_letters;
mod fence;
pub mod records;
pub mod recovery;

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::future::join_all;
use rdkafka::client::ClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::OwnedHeaders;
use rdkafka::producer::{FutureProducer, FutureRecord, Producer as _};
use rdkafka::util::Timeout;

use self::fence::{Fenced, Transactional};
use super::Transaction;
use crate::failure::{CallError, Kind};
use crate::fault;
use crate::kafka::group::{Member, offsets_list};
use crate::kafka::records::OpenTransaction;
use crate::kafka::{CALL_TIMEOUT, Cluster, Isolation, Quiet, error};
use crate::unit::recovery::{RecoveryState, Written};

type Producer = FutureProducer<Quiet>;

/// The wait before a rejected request is repeated. A transaction that directly follows another is rejected while the
/// broker still writes the markers of the previous one. The client's default of 100 ms would be most of an alert's
/// latency. The wait grows while a broker is down.
const RETRY_BACKOFF_MS: &str = "5";
/// How often to check whether the client has processed the broker's acknowledgement.
const SETTLE: Duration = Duration::from_millis(1);
/// The greatest number of records that are sent at once: a limit on memory, not on speed.
const RECORDS_IN_FLIGHT: usize = 1_000;

/// The topics to write to.
#[derive(Clone, Debug)]
pub struct Topics {
    /// The topic of `[alerts.kafka]`. `None`: it is off.
    pub alerts: Option<String>,
    /// The topic of episodes, which is compacted.
    pub episodes: String,
}

/// Writes to Kafka.
pub struct KafkaSink {
    cluster: Cluster,
    group: String,
    topics: Topics,
    /// `transaction.timeout.ms`
    transaction_timeout: Duration,
    /// The ids of the group's members at the time of [`KafkaSink::fence`], this instance included.
    members: Option<BTreeSet<String>>,
    /// The producer. `None` while none could be created.
    transactional: Option<Fenced>,
    /// Whether a transaction was begun and neither committed nor aborted.
    open: bool,
    /// The keys of episodes whose last record says that they are over. The next transaction removes them. By then no
    /// sink needs their alerts any more.
    over: Vec<String>,
    /// The same keys for the open transaction.
    over_next: Vec<String>,
}

impl KafkaSink {
    /// Creates the sink without connecting. The broker aborts a transaction that is open for longer than
    /// `transaction_timeout`.
    pub fn new(cluster: &Cluster, group: &str, topics: Topics, transaction_timeout: Duration) -> Self {
        Self {
            cluster: cluster.clone(),
            group: group.to_owned(),
            topics,
            transaction_timeout,
            members: None,
            transactional: None,
            open: false,
            over: Vec::new(),
            over_next: Vec::new(),
        }
    }

    /// Creates a producer under the group's transactional id. The broker aborts or completes the previous producer's
    /// transaction, and rejects that producer from here on.
    ///
    /// # Errors
    /// Those of [`Sinks::fence`](crate::sink::Sinks::fence).
    pub async fn fence(&mut self) -> Result<(), CallError> {
        (self.members, self.over, self.over_next) = (None, Vec::new(), Vec::new());
        let members = self.current_members().await?;
        self.renew().await?;
        self.members = Some(members);
        Ok(())
    }

    async fn renew(&mut self) -> Result<(), CallError> {
        self.transactional = None;
        let mut config = producing(&self.cluster);
        config.set("transactional.id", transactional_id(&self.group));
        config.set("transaction.timeout.ms", self.transaction_timeout.as_millis().to_string());
        if config.get("retry.backoff.ms").is_none() {
            config.set("retry.backoff.ms", RETRY_BACKOFF_MS);
        }
        match Fenced::make(&config).await {
            Ok(made) => {
                (self.transactional, self.open) = (Some(made), false);
                Ok(())
            }
            // Nothing is lost by another attempt, unless a right is missing or a property is wrong.
            Err(error) if error.kind == Kind::Refused => {
                let id = transactional_id(&self.group);
                let problem = format!("{}; this user needs WRITE and DESCRIBE on transactional id {id}", error.problem);
                Err(error.with_problem(problem))
            }
            Err(error) if error.kind == Kind::Misconfigured => Err(error),
            Err(error) => Err(error.with_kind(Kind::Unreachable)),
        }
    }

    async fn current_members(&self) -> Result<BTreeSet<String>, CallError> {
        let state = self.cluster.client(&self.group, Isolation::Uncommitted)?.group_state().await?;
        Ok(state.members.into_iter().map(|member| member.id).collect())
    }

    /// Returns a producer on which a transaction may begin: the existing one, or a new one if its connections were
    /// disturbed or its last transaction is still open.
    async fn undisturbed(&mut self) -> Result<Transactional, CallError> {
        let Some(members) = &self.members else { return Err(not_fenced()) };
        if let Some(fenced) = self.transactional.as_mut().filter(|_| !self.open)
            && fenced.is_undisturbed().await?
        {
            return Ok(fenced.producer());
        }
        // A new producer would shut out an instance that has replaced this one meanwhile.
        if self.current_members().await?.is_disjoint(members) {
            return Err(lost("this instance is no longer a member of its group"));
        }
        tracing::debug!(is_open = self.open, "the producer of transactions is re-created");
        self.renew().await?;
        self.producer()
    }

    /// Implements [`Sinks::prepare`](crate::sink::Sinks::prepare).
    ///
    /// # Errors
    /// Those of [`Sinks::prepare`](crate::sink::Sinks::prepare).
    pub async fn prepare(&mut self, member: &Member, transaction: &Transaction<'_>) -> Result<(), CallError> {
        let member = member.clone().ok_or_else(|| lost("this member has no partitions"))?;
        let producer = self.undisturbed().await?;
        producer.begin_transaction().map_err(|error| unless_retriable("beginning", error))?;
        self.open = true;
        fault::point("kafka.begun");
        let progress = transaction.progress;
        let offsets = offsets_list(&progress.topics, &progress.offsets, &progress.name);
        let records = self.records(transaction)?;
        let adding = producer.clone();
        let added = blocking(move || adding.send_offsets_to_transaction(&offsets, &member, CALL_TIMEOUT));
        // Both at once: each is some round trips.
        let (sent, added) = tokio::join!(send(&producer, &records), added);
        sent.map_err(|error| self.refusal(&producer).unwrap_or(error))?;
        fault::point("kafka.sent");
        if !transaction.alerts.is_empty() {
            fault::point("kafka.alerts_sent");
        }
        while producer.in_flight_count() > 0 {
            tokio::time::sleep(SETTLE).await; // committing earlier would wait in steps of 100 ms
        }
        added.map_err(|error| self.with_right("adding the group's offsets", error))
    }

    /// Finds out why the broker rejected the records, if it did: the records themselves only report that they were
    /// purged. Beginning a transaction inside another does nothing, and its error is the one with which the transaction
    /// has failed.
    fn refusal(&self, producer: &Transactional) -> Option<CallError> {
        let error = producer.begin_transaction().err().filter(|error| error::kind(error) == Kind::Refused)?;
        Some(self.with_right("writing alerts and episodes", error))
    }

    /// The error of a failed step. If a right is missing, it names the right that the user needs.
    fn with_right(&self, step: &str, error: KafkaError) -> CallError {
        use RDKafkaErrorCode as Code;
        let topics: Vec<&str> = self.topics.alerts.iter().chain([&self.topics.episodes]).map(String::as_str).collect();
        let right = match error.rdkafka_error_code() {
            Some(Code::TopicAuthorizationFailed) => format!("WRITE on {}", topics.join(" and ")),
            Some(Code::GroupAuthorizationFailed) => format!("READ on group {}", self.group),
            Some(Code::TransactionalIdAuthorizationFailed) => {
                format!("WRITE and DESCRIBE on transactional id {}", transactional_id(&self.group))
            }
            _ => return failed(step, error),
        };
        let refused = failed(step, error);
        let problem = format!("{}; this user needs {right}", refused.problem);
        refused.with_problem(problem)
    }

    /// The records of a transaction: alerts, the states of their episodes, tombstones of episodes that ended before,
    /// and the group's progress. The progress is the last record on its partition, so a reader that finds it has read
    /// all of them.
    fn records<'a>(&mut self, transaction: &Transaction<'a>) -> Result<Vec<Outgoing<'a>>, CallError> {
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
        let mut written = BTreeSet::new();
        for episode in transaction.episodes {
            for Written { key, body } in episode.written().map_err(not_json)? {
                if episode.is_resolved() {
                    over_next.push(key.clone());
                }
                written.insert(key.clone());
                records.push(self.recovery_record(key, Some(body)));
            }
        }
        let gone = self.over.iter().filter(|key| !written.contains(*key));
        records.extend(gone.map(|key| self.recovery_record(key.clone(), None)));
        records.push(self.recovery_record(self.group.clone(), Some(json(transaction.progress)?)));
        self.over_next = over_next;
        Ok(records)
    }

    /// A record of the recovery topic. All are on one partition, so a reader that has read up to a record has read
    /// everything before it.
    fn recovery_record(&self, key: String, body: Option<String>) -> Outgoing<'static> {
        let topic = self.topics.episodes.clone();
        Outgoing { topic, partition: Some(0), key: Cow::Owned(key), body: body.map(Cow::Owned), headers: None }
    }

    /// Implements [`Sinks::commit`](crate::sink::Sinks::commit).
    ///
    /// # Errors
    /// Those of [`Sinks::commit`](crate::sink::Sinks::commit).
    pub async fn commit(&mut self) -> Result<(), CallError> {
        let producer = self.producer()?;
        let done = blocking(move || producer.commit_transaction(CALL_TIMEOUT)).await;
        done.map_err(|error| unless_retriable("committing", error))?;
        if let Some(fenced) = &mut self.transactional {
            fenced.committed();
        }
        self.open = false;
        self.over = std::mem::take(&mut self.over_next);
        Ok(())
    }

    fn producer(&self) -> Result<Transactional, CallError> {
        self.transactional.as_ref().map(Fenced::producer).ok_or_else(not_fenced)
    }

    /// Implements [`Sinks::recovery`](crate::sink::Sinks::recovery).
    ///
    /// # Errors
    /// Those of [`Sinks::recovery`](crate::sink::Sinks::recovery).
    pub async fn recovery(&self) -> Result<RecoveryState, CallError> {
        recovery::read(&self.cluster, &self.topics.episodes, &self.group, OpenTransaction::Wait).await
    }
}

fn producing(cluster: &Cluster) -> ClientConfig {
    let mut config = cluster.settings();
    config.set("enable.idempotence", "true").set("linger.ms", "0");
    config
}

/// The transactional id under which the instances of a group shut each other out.
pub fn transactional_id(group: &str) -> String {
    // 0 is the unit: so far one holds all partitions.
    format!("tripline-{group}-0")
}

/// A record of a transaction.
struct Outgoing<'a> {
    topic: String,
    /// The partition. `None`: the key's hash decides.
    partition: Option<i32>,
    key: Cow<'a, str>,
    body: Option<Cow<'a, str>>,
    headers: Option<OwnedHeaders>,
}

/// Sends records in order, and waits until the broker has them.
async fn send(producer: &Transactional, records: &[Outgoing<'_>]) -> Result<(), CallError> {
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

fn json(value: &impl serde::Serialize) -> Result<String, CallError> {
    serde_json::to_string(value).map_err(not_json)
}

fn not_json(error: serde_json::Error) -> CallError {
    CallError::from_source("Kafka", error, Kind::Internal)
}

async fn blocking<T: Send + 'static>(
    call: impl FnOnce() -> Result<T, KafkaError> + Send + 'static,
) -> Result<T, KafkaError> {
    tokio::task::spawn_blocking(call).await.unwrap_or(Err(KafkaError::Canceled))
}

fn lost(problem: &str) -> CallError {
    CallError::new("Kafka", problem, Kind::Fenced)
}

fn not_fenced() -> CallError {
    lost("no producer has been fenced in")
}

/// Whether all records have arrived.
fn delivered<C: ClientContext + 'static>(
    sink: &str,
    producer: &FutureProducer<C>,
    results: Vec<rdkafka::producer::future_producer::OwnedDeliveryResult>,
) -> Result<(), CallError> {
    let Some((failed, _)) = results.into_iter().find_map(Result::err) else { return Ok(()) };
    if let Some((_, reason)) = producer.client().fatal_error() {
        return Err(CallError::new(sink, format!("{failed}: {reason}"), Kind::Fenced));
    }
    let failed = error::failed(sink, failed);
    // The producer itself is not fenced, so sending again may help.
    Err(if failed.kind == Kind::Fenced { failed.with_kind(Kind::Unreachable) } else { failed })
}

fn failed(step: &str, error: KafkaError) -> CallError {
    error::failed(&format!("Kafka: {step}"), error)
}

/// The error of a failed step. The step can be repeated only if the client says so. Otherwise it is not known whether
/// it took effect.
fn unless_retriable(step: &str, error: KafkaError) -> CallError {
    let again = matches!(&error, KafkaError::Transaction(error)
        if error.is_retriable() && !error.is_fatal() && !error.txn_requires_abort());
    let failed = failed(step, error);
    if failed.kind == Kind::Unreachable && !again { failed.with_kind(Kind::Fenced) } else { failed }
}
