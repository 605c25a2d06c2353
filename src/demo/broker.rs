//! The stand-in for Kafka: the mock cluster inside of librdkafka, which the program has in it anyway. It speaks Kafka's
//! protocol on loopback, with consumer groups and their offsets.
//!
//! What it is not: it keeps the last few MiB of a partition in memory and nothing on disk, does not apply offsets that are
//! committed in a transaction, does not list groups, and makes no topics for an admin client.

use rdkafka::config::ClientConfig;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;

use super::{DemoError, TOPIC};

/// Partitions of the topic.
const PARTITIONS: i32 = 6;

/// A broker in this process, with the topic of changes.
pub struct Broker {
    cluster: MockCluster<'static, DefaultProducerContext>,
}

impl Broker {
    /// Starts it.
    ///
    /// # Errors
    /// No port is free.
    pub fn start() -> Result<Self, DemoError> {
        let cluster = MockCluster::new(1)?;
        cluster.create_topic(TOPIC, PARTITIONS, 1)?;
        Ok(Self { cluster })
    }

    /// Where it listens, as host:port.
    pub fn address(&self) -> String {
        self.cluster.bootstrap_servers()
    }

    /// Settings of a producer that does not wait for company.
    pub fn producer(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", self.address()).set("linger.ms", "1").set("client.id", "tripline-demo");
        config
    }
}
