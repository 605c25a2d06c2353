//! The dead-letter topic.

use std::sync::{Mutex, MutexGuard, PoisonError};

use futures_util::future::join_all;
use rdkafka::config::ClientConfig;
use rdkafka::error::KafkaError;
use rdkafka::util::Timeout;

use super::{Producer, RECORDS_IN_FLIGHT, delivered, producing, records};
use crate::change::record::DeadLetter;
use crate::failure::{CallError, Kind};
use crate::kafka::{Cluster, Quiet, error};
use crate::sink::DeadLetterSink;

/// Copies invalid records, with a plain producer.
pub struct DeadLetters {
    topic: String,
    config: ClientConfig,
    producer: Mutex<Producer>,
}

impl DeadLetters {
    /// Makes the producer; it connects by itself.
    ///
    /// # Errors
    /// A property that librdkafka does not accept.
    pub fn new(cluster: &Cluster, topic: &str) -> Result<Self, CallError> {
        let config = producing(cluster);
        let created: Result<Producer, KafkaError> = config.create_with_context(Quiet);
        let producer = Mutex::new(created.map_err(|error| error::bad_property(&error, &config))?);
        Ok(Self { topic: topic.to_owned(), config, producer })
    }

    fn producer(&self) -> MutexGuard<'_, Producer> {
        self.producer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A producer that has failed for good is re-created: no other instance can be the reason, as with a transactional
    /// one.
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
    /// With their own headers and the reason why they are invalid.
    async fn dead_letter(&self, dead: &[DeadLetter]) -> Result<(), CallError> {
        for part in dead.chunks(RECORDS_IN_FLIGHT) {
            let producer = self.producer().clone();
            let sent = part.iter().map(|letter| producer.send(records::letter(&self.topic, letter), Timeout::Never));
            let sent = join_all(sent).await;
            delivered("dead-letter topic", &producer, sent).map_err(|error| self.renewed(error))?;
        }
        Ok(())
    }
}
