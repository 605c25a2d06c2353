//! The dead-letter topic.

use futures_util::future::join_all;
use rdkafka::config::ClientConfig;
use rdkafka::error::KafkaError;
use rdkafka::producer::FutureProducer;
use rdkafka::util::Timeout;

use super::{RECORDS_IN_FLIGHT, delivered, producing, records};
use crate::sink::{Bury, SinkError};
use crate::source::DeadLetter;

/// Copies records that were not understood, by a plain producer.
pub struct DeadLetters {
    topic: String,
    producer: FutureProducer,
}

impl DeadLetters {
    /// Makes the producer; it connects by itself.
    ///
    /// # Errors
    /// A property that librdkafka does not take.
    pub fn new(base: &ClientConfig, topic: &str) -> Result<Self, KafkaError> {
        Ok(Self { topic: topic.to_owned(), producer: producing(base).create()? })
    }
}

impl Bury for DeadLetters {
    /// With their own headers and the reason why they were not understood.
    async fn bury(&self, dead: &[DeadLetter]) -> Result<(), SinkError> {
        for part in dead.chunks(RECORDS_IN_FLIGHT) {
            let sent =
                part.iter().map(|letter| self.producer.send(records::letter(&self.topic, letter), Timeout::Never));
            delivered("dead-letter topic", &self.producer, join_all(sent).await)?;
        }
        Ok(())
    }
}
