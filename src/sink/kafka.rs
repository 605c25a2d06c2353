//! The alert topic and the dead-letter topic, by one idempotent producer.

use std::time::Duration;

use futures_util::future::join_all;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord};
use rdkafka::util::Timeout;

use super::SinkError;
use crate::alert::Alert;
use crate::episode::Status;
use crate::source::DeadLetter;

/// How long the broker may take to answer an administrative request.
const ADMIN_TIMEOUT: Duration = Duration::from_secs(10);

/// Records under way at once: a bound on memory, not on speed.
const RECORDS_IN_FLIGHT: usize = 1_000;

/// Bytes of a dead letter's key and value that are copied. With its headers a record at the broker's own limit of 1 MB
/// would no longer fit, and would be refused at every start; its place says where the whole of it is.
const LETTER_KEY_MAX: usize = 64 * 1024;
const LETTER_VALUE_MAX: usize = 768 * 1024;

fn cut(bytes: &[u8], max: usize) -> &[u8] {
    bytes.get(..max).unwrap_or(bytes)
}

/// Sends records and waits until the broker has all of them.
pub struct Producer {
    producer: FutureProducer,
    group: String,
}

impl Producer {
    /// Makes the producer; it connects by itself.
    ///
    /// # Errors
    /// A property that librdkafka does not take.
    pub fn new(base: &ClientConfig, group: &str) -> Result<Self, KafkaError> {
        let mut config = base.clone();
        config.set("enable.idempotence", "true").set("linger.ms", "0");
        Ok(Self { producer: config.create()?, group: group.to_owned() })
    }

    /// Sends alerts: CloudEvents 1.0 in Kafka's binary content mode.
    pub(super) async fn alerts(&self, topic: &str, alerts: &[Alert]) -> Result<(), SinkError> {
        for part in alerts.chunks(RECORDS_IN_FLIGHT) {
            let sent = part.iter().map(|alert| {
                let id = alert.id.to_string();
                let record = FutureRecord::to(topic).key(&alert.record_key).payload(&alert.body).headers(cloud_event(
                    alert,
                    &id,
                    &self.group,
                ));
                self.producer.send(record, Timeout::Never)
            });
            for result in join_all(sent).await {
                result.map_err(|(error, _)| refused("alert topic", &error))?;
            }
        }
        Ok(())
    }

    /// Copies records with their own headers and the reason why they were not understood.
    pub(super) async fn dead_letters(&self, topic: &str, dead: &[DeadLetter]) -> Result<(), SinkError> {
        for part in dead.chunks(RECORDS_IN_FLIGHT) {
            let sent = part.iter().map(|letter| {
                let mut record: FutureRecord<'_, [u8], [u8]> = FutureRecord::to(topic).headers(letter_headers(letter));
                if let Some(key) = &letter.key {
                    record = record.key(cut(key, LETTER_KEY_MAX));
                }
                if let Some(value) = &letter.value {
                    record = record.payload(cut(value, LETTER_VALUE_MAX));
                }
                self.producer.send(record, Timeout::Never)
            });
            for result in join_all(sent).await {
                result.map_err(|(error, _)| refused("dead-letter topic", &error))?;
            }
        }
        Ok(())
    }
}

fn refused(sink: &'static str, error: &KafkaError) -> SinkError {
    use RDKafkaErrorCode as Code;
    let fatal = matches!(
        error.rdkafka_error_code(),
        Some(Code::MessageSizeTooLarge | Code::TopicAuthorizationFailed | Code::ClusterAuthorizationFailed)
    );
    SinkError { sink, problem: error.to_string(), fatal }
}

/// The attributes of CloudEvents 1.0 as headers (Kafka protocol binding, binary content mode).
fn cloud_event(alert: &Alert, id: &str, group: &str) -> OwnedHeaders {
    let kind = match alert.status {
        Status::Firing => "tripline.alert.firing.v1",
        Status::Resolved => "tripline.alert.resolved.v1",
    };
    let (source, time) = (format!("tripline/{group}"), alert.emitted_at.rfc3339());
    let headers = [
        ("ce_specversion", "1.0"),
        ("ce_id", id),
        ("ce_source", source.as_str()),
        ("ce_type", kind),
        ("ce_subject", alert.record_key.as_str()),
        ("ce_time", time.as_str()),
        ("content-type", "application/json"),
    ];
    let insert = |all: OwnedHeaders, (key, value)| all.insert(Header { key, value: Some(value) });
    headers.into_iter().fold(OwnedHeaders::new(), insert)
}

fn letter_headers(letter: &DeadLetter) -> OwnedHeaders {
    let own = letter
        .headers
        .iter()
        .fold(OwnedHeaders::new(), |all, (key, value)| all.insert(Header { key, value: value.as_deref() }));
    let place = [
        ("tripline_partition", letter.position.partition.to_string()),
        ("tripline_offset", letter.position.offset.to_string()),
        ("tripline_reason", letter.reject.detail.clone()),
        ("tripline_kind", letter.reject.kind.to_owned()),
        ("tripline_value_bytes", letter.value.as_ref().map_or(0, Vec::len).to_string()),
    ];
    place.iter().fold(own, |all, (key, value)| all.insert(Header { key, value: Some(value.as_str()) }))
}

/// Makes topics that are not there yet, with the broker's own defaults for partitions and replication.
///
/// # Errors
/// The broker refuses or does not answer; the text names the topic.
pub async fn ensure_topics(base: &ClientConfig, topics: &[&str]) -> Result<(), String> {
    let admin: AdminClient<DefaultClientContext> = base.create().map_err(|e| e.to_string())?;
    let new: Vec<NewTopic<'_>> =
        topics.iter().map(|topic| NewTopic::new(topic, -1, TopicReplication::Fixed(-1))).collect();
    let options = AdminOptions::new().operation_timeout(Some(ADMIN_TIMEOUT));
    let results = admin.create_topics(&new, &options).await.map_err(|e| e.to_string())?;
    for result in results {
        match result {
            Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
            Err((topic, code)) => return Err(format!("topic {topic} cannot be made: {code}")),
        }
    }
    Ok(())
}
