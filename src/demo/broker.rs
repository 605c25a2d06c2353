//! The substitute for Kafka: the mock cluster in librdkafka, which is part of the program anyway. It speaks Kafka's
//! protocol on loopback, with consumer groups and their offsets.
//!
//! Its limits: it keeps the last few MiB of a partition in memory and nothing on disk. It does not apply offsets that
//! are committed in a transaction. It does not list groups, and creates no topics for an admin client.

use rdkafka::config::ClientConfig;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;

use super::{DemoError, TOPIC};

/// The number of partitions of the topic.
const PARTITIONS: i32 = 6;

/// A broker in this process, with the topic of changes.
pub struct Broker {
    cluster: MockCluster<'static, DefaultProducerContext>,
}

impl Broker {
    /// Starts the broker.
    ///
    /// # Errors
    /// No port is free.
    pub fn start() -> Result<Self, DemoError> {
        let cluster = MockCluster::new(1)?;
        cluster.create_topic(TOPIC, PARTITIONS, 1)?;
        Ok(Self { cluster })
    }

    /// The address as host:port.
    pub fn address(&self) -> String {
        self.cluster.bootstrap_servers()
    }

    /// The settings of a producer that sends without waiting for more records.
    pub fn producer(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", self.address()).set("linger.ms", "1").set("client.id", "tripline-demo");
        config
    }
}
