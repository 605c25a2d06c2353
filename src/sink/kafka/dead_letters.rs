//! The dead-letter topic.

use std::sync::{Mutex, MutexGuard, PoisonError};

use futures_util::future::join_all;
use rdkafka::config::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::util::Timeout;

use super::records::{self, COPIED};
use super::{Producer, RECORDS_IN_FLIGHT, delivered, producing};
use crate::change::record::DeadLetter;
use crate::failure::{CallError, Kind};
use crate::kafka::{Cluster, Quiet, error};
use crate::progress::Topics;
use crate::sink::DeadLetterSink;

/// Copies invalid records with a producer without transactions.
pub struct DeadLetters {
    topic: String,
    /// The topics that the records are of.
    sources: Topics,
    config: ClientConfig,
    producer: Mutex<Producer>,
}

impl DeadLetters {
    /// Makes the producer, which connects by itself. The records are of the topics `sources`.
    ///
    /// # Errors
    /// A property that librdkafka does not accept.
    pub fn new(cluster: &Cluster, topic: &str, sources: &Topics) -> Result<Self, CallError> {
        let config = producing(cluster);
        let created: Result<Producer, KafkaError> = config.create_with_context(Quiet);
        let producer = Mutex::new(created.map_err(|error| error::bad_property(&error, &config))?);
        Ok(Self { topic: topic.to_owned(), sources: sources.clone(), config, producer })
    }

    fn producer(&self) -> MutexGuard<'_, Producer> {
        self.producer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Re-creates a producer that has failed for good. Unlike with a transactional producer, another instance cannot be
    /// the reason.
    fn renewed(&self, error: CallError) -> CallError {
        if error.kind != Kind::Fenced {
            return error;
        }
        if let Ok(producer) = self.config.create_with_context(Quiet) {
            *self.producer() = producer;
        }
        error.with_kind(Kind::Unreachable)
    }
}

impl DeadLetterSink for DeadLetters {
    /// Copies the records with their own headers and the reason why they are invalid. A copy that is too large for the
    /// topic is sent again with less of its record.
    async fn dead_letter(&self, dead: &[DeadLetter]) -> Result<(), CallError> {
        for part in dead.chunks(RECORDS_IN_FLIGHT) {
            let mut left: Vec<&DeadLetter> = part.iter().collect();
            for copied in COPIED {
                let producer = self.producer().clone();
                let sent = left.iter().map(|letter| {
                    producer.send(records::letter(&self.topic, &self.sources, letter, copied), Timeout::Never)
                });
                let sent = join_all(sent).await;
                let is_last = copied.is_least();
                let (mut too_large, mut others) = (Vec::new(), Vec::new());
                for (letter, result) in left.into_iter().zip(sent) {
                    match result {
                        Err((error, _)) if !is_last && is_too_large(&error) => too_large.push(letter),
                        result => others.push(result),
                    }
                }
                delivered(&format!("Kafka: writing to the dead-letter topic {}", self.topic), &producer, others)
                    .map_err(|error| self.renewed(error))?;
                left = too_large;
                if left.is_empty() {
                    break;
                }
            }
        }
        Ok(())
    }
}

fn is_too_large(error: &KafkaError) -> bool {
    matches!(
        error.rdkafka_error_code(),
        Some(RDKafkaErrorCode::MessageSizeTooLarge | RDKafkaErrorCode::InvalidMessageSize)
    )
}
