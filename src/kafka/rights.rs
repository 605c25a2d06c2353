//! What this user may do with a topic, found out without doing it.

use std::time::Duration;

use rdkafka::consumer::Consumer;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{FutureProducer, FutureRecord};
use rdkafka::util::Timeout;
use rdkafka::{Offset, TopicPartitionList};

use super::{CALL_TIMEOUT, Closing, Cluster, Isolation, Quiet, error};
use crate::failure::CallError;

/// How long one poll waits.
const POLL: Duration = Duration::from_millis(100);
/// How often it is polled: for the time that a call may take.
const POLLS: u32 = 100;
/// How long the group's offsets may take.
const GROUP_TIMEOUT: Duration = Duration::from_secs(3);

impl Cluster {
    /// Whether this user may read a topic: its first partition is fetched from its end.
    ///
    /// # Errors
    /// The cluster does not answer, or refuses something else.
    pub async fn may_read(&self, topic: &str) -> Result<bool, CallError> {
        let what = format!("reading {topic}");
        let topic = topic.to_owned();
        self.reading(&what, &self.group, Isolation::Committed, &[("auto.offset.reset", "latest")], move |consumer| {
            let mut list = TopicPartitionList::new();
            list.add_partition_offset(&topic, 0, Offset::End)?;
            consumer.assign(&list)?;
            for _ in 0..POLLS {
                match consumer.poll(POLL) {
                    Some(Ok(_) | Err(KafkaError::PartitionEOF(_))) => return Ok(true),
                    Some(Err(error)) if is_refused(&error) => return Ok(false),
                    Some(Err(_)) | None => {}
                }
            }
            Err(KafkaError::MessageConsumption(RDKafkaErrorCode::OperationTimedOut))
        })
        .await
    }

    /// Whether this user may use the group: what it has committed in a topic is asked for. Without the right that only times out,
    /// and the refusal comes as an event.
    ///
    /// # Errors
    /// The cluster does not answer, or refuses something else.
    pub async fn may_use_group(&self, topic: &str) -> Result<bool, CallError> {
        let what = format!("asking for the offsets of group {}", self.group);
        let topic = topic.to_owned();
        self.reading(&what, &self.group, Isolation::Uncommitted, &[], move |consumer| {
            let mut list = TopicPartitionList::new();
            list.add_partition(&topic, 0);
            let refused = RDKafkaErrorCode::GroupAuthorizationFailed;
            match consumer.committed_offsets(list, GROUP_TIMEOUT) {
                Ok(_) => return Ok(true),
                Err(error) if error.rdkafka_error_code() == Some(refused) => return Ok(false),
                Err(_) => {}
            }
            for _ in 0..POLLS {
                match consumer.poll(POLL) {
                    Some(Err(error)) if error.rdkafka_error_code() == Some(refused) => return Ok(false),
                    _ => {}
                }
            }
            Err(KafkaError::MessageConsumption(RDKafkaErrorCode::OperationTimedOut))
        })
        .await
    }

    /// Whether this user may write to a topic. The broker looks at rights first. Then it refuses the request whatever the topic is, and
    /// appends nothing, since no request may ask for two acknowledgements.
    ///
    /// # Errors
    /// The cluster does not answer, or refuses something else.
    pub async fn may_write(&self, topic: &str) -> Result<bool, CallError> {
        let mut settings = self.base.clone();
        settings.set("enable.idempotence", "false").set("acks", "2").set("linger.ms", "0");
        settings.set("message.timeout.ms", CALL_TIMEOUT.as_millis().to_string());
        let producer: Result<FutureProducer<Quiet>, KafkaError> = settings.create_with_context(Quiet);
        let producer = Closing::new(producer.map_err(|error| error::bad_property(&error, &settings))?);
        let record = FutureRecord::<(), ()>::to(topic).partition(0);
        match producer.send(record, Timeout::After(CALL_TIMEOUT)).await {
            Ok(_) => Ok(true),
            Err((error, _)) if error.rdkafka_error_code() == Some(RDKafkaErrorCode::InvalidRequiredAcks) => Ok(true),
            Err((error, _)) if is_refused(&error) => Ok(false),
            Err((error, _)) => Err(self.failed(&format!("asking whether {topic} may be written to"), error)),
        }
    }
}

fn is_refused(error: &KafkaError) -> bool {
    error.rdkafka_error_code() == Some(RDKafkaErrorCode::TopicAuthorizationFailed)
}
