//! The fence: no transaction begins on a producer whose connections were disturbed since it was created.
//!
//! librdkafka repeats a request, under the same producer epoch, when the connection is cut or no answer comes in time.
//! The first copy may still arrive. Brokers apply an EndTxn of the client's versions (0 and 1) to the transaction of
//! that epoch that is open when it arrives. So a late copy ends the *next* transaction half-way, and a late
//! TxnOffsetCommit sets the group's offsets back inside it. Neither the answers nor the errors of the client show that
//! a request was repeated.
//!
//! A request is only repeated after a disconnect or a request time-out. The client counts both for each broker before
//! it repeats anything. So the counters in its statistics are compared before each transaction, with statistics that
//! were taken after the last commit returned. If a counter has changed, or a broker is no longer listed, the producer
//! is re-created: `init_transactions` raises the epoch, and the broker rejects late requests of the old one. The new
//! producer also aborts a transaction that the old one left open. So `abort_transaction`, which could arrive late as
//! well, is never called.
//!
//! The cost is up to [`INTERVAL`] between a commit and the next transaction, which only matters for epochs in quick
//! succession, and 5 to 510 ms for each new producer. An idle connection that the broker closes
//! (`connections.max.idle.ms`, 10 minutes by default) counts as a disconnect too, because the client cannot distinguish
//! the two.

use std::collections::BTreeMap;
use std::time::Duration;

use rdkafka::client::{ClientContext, OAuthToken};
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::error::KafkaError;
use rdkafka::producer::{FutureProducer, Producer as _};
use serde::Deserialize;
use tokio::sync::watch;
use tokio::time::Instant;

use super::blocking;
use crate::failure::{CallError, Kind, Server};
use crate::fault;
use crate::kafka::{CALL_TIMEOUT, Closing, log, token};

/// How often the client takes statistics. At 50 alerts a second, intervals of 10, 20 and 50 ms raise the median latency
/// of an alert from 12 to 17 ms (without waiting for statistics) to 17, 65 and 195 ms, in a debug build.
const INTERVAL: Duration = Duration::from_millis(10);
/// The greatest number of producers to create if each is disturbed while it is created.
const ATTEMPTS: u32 = 3;

/// A producer for transactions.
pub(super) type Transactional = FutureProducer<Watched>;

/// The part of librdkafka's statistics that is used.
#[derive(Clone, Debug, Default, Deserialize)]
struct Statistics {
    /// Microseconds from the creation of the client to these statistics.
    age: u64,
    /// The brokers by name.
    brokers: BTreeMap<String, Broker>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
struct Broker {
    disconnects: u64,
    req_timeouts: u64,
}

impl Statistics {
    /// Whether a connection was disturbed between earlier statistics and these. A bootstrap server may disappear: it
    /// becomes one of the brokers, under another name, or is dropped after the brokers are known. No request of a
    /// transaction is sent to it.
    fn differ(&self, earlier: &Self) -> bool {
        let is_new = |(name, now): (&String, &Broker)| *now != earlier.brokers.get(name).copied().unwrap_or_default();
        let is_gone = |name: &String| !self.brokers.contains_key(name) && !name.ends_with("/bootstrap");
        self.brokers.iter().any(is_new) || earlier.brokers.keys().any(is_gone)
    }
}

/// Keeps the newest statistics of a client.
pub(super) struct Watched(watch::Sender<Statistics>);

impl ClientContext for Watched {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn generate_oauth_token(&self, config: Option<&str>) -> Result<OAuthToken, Box<dyn std::error::Error>> {
        token::fetch(config)
    }

    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, reason, "Kafka client");
    }

    fn stats_raw(&self, statistics: &[u8]) {
        match serde_json::from_slice(statistics) {
            Ok(statistics) => drop(self.0.send_replace(statistics)),
            // Then none are newer than the commit, and no transaction begins.
            Err(error) => tracing::debug!(%error, "the Kafka client's statistics cannot be read"),
        }
    }
}

/// A producer, and the statistics of its connections.
pub(super) struct Fenced {
    producer: Closing<Transactional>,
    /// An instant just before the producer was created.
    created: Instant,
    /// When the producer's last request was answered, as far as is known.
    settled: Instant,
    statistics: watch::Receiver<Statistics>,
    /// The statistics from before its first transaction.
    first: Statistics,
}

impl Fenced {
    /// Creates a producer, which shuts out all earlier producers of its transactional id. If its connections are
    /// disturbed meanwhile, another one is created, a few times. A late InitProducerId would end the work of this
    /// instance, although nothing would be lost or written twice.
    pub(super) async fn make(config: &ClientConfig) -> Result<Self, CallError> {
        let mut made = Self::make_once(config).await?;
        for _ in 1..ATTEMPTS {
            if !made.first.differ(&Statistics::default()) {
                break;
            }
            made = Self::make_once(config).await?;
        }
        Ok(made)
    }

    async fn make_once(config: &ClientConfig) -> Result<Self, CallError> {
        let mut config = config.clone();
        config.set("statistics.interval.ms", INTERVAL.as_millis().to_string());
        let (sender, statistics) = watch::channel(Statistics::default());
        let created = Instant::now();
        let producer = blocking(move || {
            let producer: Transactional = config.create_with_context(Watched(sender))?;
            producer.init_transactions(CALL_TIMEOUT)?;
            Ok(Closing::new(producer))
        });
        let producer = producer.await.map_err(|error| super::failed("fencing", error))?;
        let settled = Instant::now();
        let mut made = Self { producer, created, settled, statistics, first: Statistics::default() };
        made.first = made.settled_statistics().await?;
        Ok(made)
    }

    /// The producer itself.
    pub(super) fn producer(&self) -> Transactional {
        (*self.producer).clone()
    }

    /// Records that a transaction was committed. All its requests are answered.
    pub(super) fn committed(&mut self) {
        self.settled = Instant::now();
    }

    /// Whether a transaction may begin.
    pub(super) async fn is_undisturbed(&mut self) -> Result<bool, CallError> {
        if fault::is_off("fence") {
            return Ok(true);
        }
        Ok(!self.settled_statistics().await?.differ(&self.first))
    }

    /// Returns statistics that were taken after the last request was answered. The client was created after `created`,
    /// so statistics of age `a` were taken after `created + a`.
    async fn settled_statistics(&mut self) -> Result<Statistics, CallError> {
        let age = u64::try_from(self.settled.duration_since(self.created).as_micros()).unwrap_or(u64::MAX);
        let taken = self.statistics.wait_for(|statistics| statistics.age >= age);
        match tokio::time::timeout(CALL_TIMEOUT, taken).await {
            Ok(Ok(statistics)) => Ok(statistics.clone()),
            _ => {
                let problem = format!("the client took no statistics within {CALL_TIMEOUT:?}");
                Err(CallError::new("Kafka", problem, Kind::Unreachable).at(Server::Kafka))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn statistics(brokers: &[(&str, u64, u64)]) -> Statistics {
        let brokers = brokers.iter().map(|(name, disconnects, req_timeouts)| {
            ((*name).to_owned(), Broker { disconnects: *disconnects, req_timeouts: *req_timeouts })
        });
        Statistics { age: 1, brokers: brokers.collect() }
    }

    #[test]
    fn every_disturbance_counts() {
        let first = statistics(&[("a:1/1", 0, 0), ("TxnCoordinator", 1, 2), ("b:1/bootstrap", 0, 0)]);
        let same: [&[(&str, u64, u64)]; 4] = [
            &[("a:1/1", 0, 0), ("TxnCoordinator", 1, 2)],
            &[("a:1/1", 0, 0), ("TxnCoordinator", 1, 2), ("b:1/bootstrap", 0, 0)],
            &[("a:1/1", 0, 0), ("TxnCoordinator", 1, 2), ("b:1/2", 0, 0)],
            &[("a:1/1", 0, 0), ("TxnCoordinator", 1, 2), ("b:1/bootstrap", 0, 0), ("c:1/3", 0, 0)],
        ];
        for now in same {
            assert!(!statistics(now).differ(&first), "{now:?}");
        }
        let disturbed: [&[(&str, u64, u64)]; 6] = [
            &[("a:1/1", 1, 0), ("TxnCoordinator", 1, 2), ("b:1/bootstrap", 0, 0)],
            &[("a:1/1", 0, 1), ("TxnCoordinator", 1, 2), ("b:1/bootstrap", 0, 0)],
            &[("a:1/1", 0, 0), ("TxnCoordinator", 2, 2), ("b:1/bootstrap", 0, 0)],
            // The client has removed the broker, and its counters with it.
            &[("TxnCoordinator", 1, 2), ("b:1/bootstrap", 0, 0)],
            &[("a:1/2", 0, 0), ("TxnCoordinator", 1, 2), ("b:1/bootstrap", 0, 0)],
            &[("a:1/1", 0, 0), ("TxnCoordinator", 1, 2), ("b:1/2", 1, 0)],
        ];
        for now in disturbed {
            assert!(statistics(now).differ(&first), "{now:?}");
        }
    }

    #[tokio::test]
    async fn the_client_emits_what_is_read() {
        let (sender, mut statistics) = watch::channel(Statistics::default());
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", "127.0.0.1:1").set("statistics.interval.ms", "10");
        let created = Instant::now();
        let producer: Transactional = config.create_with_context(Watched(sender)).unwrap();
        let first = statistics.wait_for(|statistics| statistics.age > 0).await.unwrap().clone();
        assert!(created + Duration::from_micros(first.age) <= Instant::now());
        assert!(first.brokers.contains_key("127.0.0.1:1/bootstrap"), "{first:?}");
        drop(producer);
    }
}
