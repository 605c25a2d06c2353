//! The dead-letter topic.

use std::sync::{Mutex, MutexGuard, PoisonError};

use futures_util::future::join_all;
use rdkafka::config::ClientConfig;
use rdkafka::error::KafkaError;
use rdkafka::producer::FutureProducer;
use rdkafka::util::Timeout;

use super::{RECORDS_IN_FLIGHT, delivered, producing, records};
use crate::sink::{Bury, SinkError, SinkErrorKind};
use crate::source::DeadLetter;

/// Copies records that were not understood, by a plain producer.
pub struct DeadLetters {
    topic: String,
    config: ClientConfig,
    producer: Mutex<FutureProducer>,
}

impl DeadLetters {
    /// Makes the producer; it connects by itself.
    ///
    /// # Errors
    /// A property that librdkafka does not take.
    pub fn new(base: &ClientConfig, topic: &str) -> Result<Self, KafkaError> {
        let config = producing(base);
        let producer = Mutex::new(config.create()?);
        Ok(Self { topic: topic.to_owned(), config, producer })
    }

    fn producer(&self) -> MutexGuard<'_, FutureProducer> {
        self.producer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A producer that has failed for good is made anew: no other instance can be the reason, as with a transactional one.
    fn renewed(&self, error: SinkError) -> SinkError {
        if error.kind != SinkErrorKind::Fenced {
            return error;
        }
        if let Ok(producer) = self.config.create() {
            *self.producer() = producer;
        }
        SinkError { kind: SinkErrorKind::Away, ..error }
    }
}

impl Bury for DeadLetters {
    /// With their own headers and the reason why they were not understood.
    async fn bury(&self, dead: &[DeadLetter]) -> Result<(), SinkError> {
        for part in dead.chunks(RECORDS_IN_FLIGHT) {
            let producer = self.producer().clone();
            let sent = part.iter().map(|letter| producer.send(records::letter(&self.topic, letter), Timeout::Never));
            let sent = join_all(sent).await;
            delivered("dead-letter topic", &producer, sent).map_err(|error| self.renewed(error))?;
        }
        Ok(())
    }
}
