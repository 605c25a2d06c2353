//! Finds out this user's rights on a topic and a group, without changing anything.

use std::time::Duration;

use rdkafka::consumer::{CommitMode, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{FutureProducer, FutureRecord};
use rdkafka::util::Timeout;
use rdkafka::{Offset, TopicPartitionList};

use super::{CALL_TIMEOUT, Closing, Cluster, Isolation, Lookup, Quiet, error};
use crate::failure::CallError;

/// How long one poll waits.
const POLL: Duration = Duration::from_millis(100);
/// The greatest number of polls: enough for the time that a call may take.
const POLLS: u32 = 100;
/// How long the answer about the group's offsets may take.
const GROUP_TIMEOUT: Duration = Duration::from_secs(3);
/// A topic that no cluster has.
const NO_TOPIC: &str = "tripline.no-such-topic.rights-are-asked-for";

impl Cluster {
    /// Whether this user may read a topic. Fetches its first partition from the end.
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

    /// Whether this user may use the group. Asks for the group's committed offsets in a topic. Without the right, the
    /// request only times out, and the refusal arrives as an event.
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
            if group_is_refused(consumer) {
                return Ok(false);
            }
            Err(KafkaError::MessageConsumption(RDKafkaErrorCode::OperationTimedOut))
        })
        .await
    }

    /// Whether this user may join the group, which takes more than asking for its offsets. A commit needs the same
    /// right, and the broker checks it first. Nothing is committed, because the topic does not exist.
    ///
    /// # Errors
    /// The cluster does not answer, or refuses something else.
    pub async fn may_join_group(&self) -> Result<bool, CallError> {
        let what = format!("asking whether group {} may be joined", self.group);
        self.reading(&what, &self.group, Isolation::Uncommitted, &[], move |consumer| {
            let mut list = TopicPartitionList::new();
            list.add_partition_offset(NO_TOPIC, 0, Offset::Offset(0))?;
            // This call waits until the group's coordinator is known. A commit does not.
            let _ = consumer.committed_offsets(list.clone(), GROUP_TIMEOUT);
            match consumer.commit(&list, CommitMode::Sync) {
                Err(error) if error.rdkafka_error_code() == Some(RDKafkaErrorCode::GroupAuthorizationFailed) => {
                    Ok(false)
                }
                // The topic does not exist or may not be read. Either shows that the group's right was granted.
                Err(error) if is_unknown(&error) || is_refused(&error) => Ok(true),
                // The coordinator is not named to a user without the right to ask about the group.
                Err(_) if group_is_refused(consumer) => Ok(false),
                Err(error) => Err(error),
                Ok(()) => Ok(true),
            }
        })
        .await
    }

    /// Whether this user may write to a topic. The broker checks the right first. It then rejects the request for any
    /// topic and appends nothing, because a request must not ask for two acknowledgements.
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

/// Whether an event says that this user may not use the group.
fn group_is_refused(consumer: &Lookup) -> bool {
    let refused = |error: &KafkaError| error.rdkafka_error_code() == Some(RDKafkaErrorCode::GroupAuthorizationFailed);
    (0..POLLS).any(|_| matches!(consumer.poll(POLL), Some(Err(error)) if refused(&error)))
}

fn is_unknown(error: &KafkaError) -> bool {
    error.rdkafka_error_code() == Some(RDKafkaErrorCode::UnknownTopicOrPartition)
}

fn is_refused(error: &KafkaError) -> bool {
    error.rdkafka_error_code() == Some(RDKafkaErrorCode::TopicAuthorizationFailed)
}
