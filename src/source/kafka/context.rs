//! Callbacks of the client: rebalances, which are answered at once, statistics and log.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rdkafka::client::{ClientContext, OAuthToken};
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::types::RDKafkaRespErr;
use rdkafka::{Statistics, TopicPartitionList};

use super::delivered::Fetched;
use crate::failure::Server;
use crate::kafka::group::Member;
use crate::kafka::{error, log, token};
use crate::model::NextOffset;
use crate::progress::{Offsets, Topics};
use crate::retry::Outage;

pub(super) type GroupConsumer = BaseConsumer<Context>;

/// Keeps the rebalances for the thread that polls.
#[derive(Default)]
pub(super) struct Context {
    pub(super) group: String,
    topics: Option<Topics>,
    pub(super) rebalances: Mutex<Vec<Rebalance>>,
    /// The member of each assignment, in order.
    members: Mutex<VecDeque<Member>>,
    made: AtomicU64, // assignments that the group has made
    /// The number of the current assignment, from 1. 0: none.
    held: AtomicU64,
    /// The last known ends of the partitions.
    ends: Mutex<Offsets>,
    /// The offsets up to which the client has fetched.
    fetched: Mutex<Fetched>,
    /// The last logged error. An outage repeats it many times a second.
    told: Mutex<Option<RDKafkaErrorCode>>,
    /// Set while no broker answers.
    cut_off: Arc<AtomicBool>,
    connection: Mutex<Connection>,
}

/// Whether a broker is connected, for the log.
struct Connection {
    outage: Outage,
    /// The number of checks in a row that found no connection. A connection that is only opened again is not an outage.
    missed: u32,
}

impl Default for Connection {
    fn default() -> Self {
        Self { outage: Outage::new("reading the topic of changes"), missed: 0 }
    }
}

impl Connection {
    fn is(&mut self, connected: bool) {
        self.missed = if connected { 0 } else { self.missed.saturating_add(1) };
        if connected {
            self.outage.works_at(Server::Kafka);
        } else if self.missed > 1 {
            self.outage.fails_at(Server::Kafka, &"no broker is connected");
        }
    }
}

pub(super) enum Rebalance {
    Assign(Vec<i32>),
    Revoke,
}

impl Context {
    pub(super) fn new(group: &str, topics: &Topics, cut_off: &Arc<AtomicBool>) -> Self {
        let topics = Some(topics.clone());
        Self { group: group.to_owned(), topics, cut_off: Arc::clone(cut_off), ..Self::default() }
    }

    fn lane(&self, topic: &str, partition: i32) -> Option<i32> {
        self.topics.as_ref()?.lane(topic, partition)
    }

    /// Assigns these lanes without a group.
    pub(super) fn give(&self, partitions: &[i32]) {
        self.gave();
        self.members.lock().unwrap_or_else(PoisonError::into_inner).push_back(None);
        let given = Rebalance::Assign(partitions.to_vec());
        self.rebalances.lock().unwrap_or_else(PoisonError::into_inner).push(given);
    }

    /// Whether this assignment, counted from 1, is the current one.
    pub(super) fn holds(&self, assignment: u64) -> bool {
        assignment != 0 && self.held.load(Ordering::SeqCst) == assignment
    }

    /// Whether there is a current assignment.
    pub(super) fn holds_any(&self) -> bool {
        self.held.load(Ordering::SeqCst) != 0
    }

    fn gave(&self) {
        let before = self.made.fetch_add(1, Ordering::SeqCst);
        self.held.store(before.wrapping_add(1), Ordering::SeqCst);
    }

    /// Returns the last known ends of the partitions.
    pub(super) fn ends(&self) -> Offsets {
        self.ends.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn fetched(&self) -> Fetched {
        self.fetched.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Returns the member of the next assignment.
    pub(super) fn next_member(&self) -> Member {
        self.members.lock().unwrap_or_else(PoisonError::into_inner).pop_front().flatten()
    }
}

/// Returns the end of a partition. If all of it was fetched, that is after its last record, because the last offsets
/// may have none.
fn end_of(partition: &rdkafka::statistics::Partition) -> Option<NextOffset> {
    let fetched = partition.eof_offset >= partition.hi_offset && partition.fetchq_cnt == 0;
    let end = if fetched { partition.app_offset } else { partition.hi_offset };
    (end >= 0).then_some(NextOffset(end))
}

impl ClientContext for Context {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn generate_oauth_token(&self, config: Option<&str>) -> Result<OAuthToken, Box<dyn std::error::Error>> {
        token::fetch(config)
    }

    fn stats(&self, statistics: Statistics) {
        let connected = |broker: &rdkafka::statistics::Broker| matches!(broker.state.as_str(), "UP" | "REAUTH");
        let is_connected = statistics.brokers.values().any(connected);
        self.cut_off.store(!is_connected, Ordering::Relaxed);
        self.connection.lock().unwrap_or_else(PoisonError::into_inner).is(is_connected);
        let of = |topic: &rdkafka::statistics::Topic, partition: &rdkafka::statistics::Partition| {
            self.lane(&topic.topic, partition.partition).filter(|_| partition.desired)
        };
        let mut read = Vec::new();
        for topic in statistics.topics.values() {
            read.extend(topic.partitions.values().filter_map(|partition| Some((of(topic, partition)?, partition))));
        }
        let ends = read.iter().filter_map(|(lane, partition)| Some((*lane, end_of(partition)?))).collect();
        *self.ends.lock().unwrap_or_else(PoisonError::into_inner) = ends;
        let next = read.iter().map(|(lane, partition)| (*lane, NextOffset(partition.next_offset)));
        let mut fetched = self.fetched.lock().unwrap_or_else(PoisonError::into_inner);
        *fetched = Fetched { count: fetched.count + 1, offsets: next.collect() };
    }

    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        if error.rdkafka_error_code() == Some(RDKafkaErrorCode::PartitionEOF) {
            return; // the end of a partition is an event, not an error
        }
        if error::is_cut_off(&error) {
            tracing::debug!(%error, reason, "Kafka client");
            return; // the statistics show it
        }
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if std::mem::replace(&mut *told, error.rdkafka_error_code()) == error.rdkafka_error_code() {
            tracing::debug!(%error, reason, "Kafka client, again");
        } else {
            tracing::warn!(%error, reason, "Kafka client");
        }
    }
}

impl ConsumerContext for Context {
    fn rebalance(&self, consumer: &BaseConsumer<Self>, err: RDKafkaRespErr, partitions: &mut TopicPartitionList) {
        let rebalance = if err == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS {
            if partitions.count() == 0 {
                // There is nothing to find out. Without this call, librdkafka would hold up every later rebalance.
                if let Err(error) = consumer.assign(partitions) {
                    tracing::warn!(%error, "taking no partitions");
                }
            }
            self.gave();
            let member = consumer.group_metadata().map(Arc::new);
            self.members.lock().unwrap_or_else(PoisonError::into_inner).push_back(member);
            let elements = partitions.elements();
            Rebalance::Assign(
                elements.iter().filter_map(|element| self.lane(element.topic(), element.partition())).collect(),
            )
        } else {
            self.held.store(0, Ordering::SeqCst);
            // Otherwise the client would join again by itself once the partitions are given back, beside an instance
            // that has taken over meanwhile.
            consumer.unsubscribe();
            if let Err(error) = consumer.unassign() {
                tracing::warn!(%error, "giving the partitions back");
            }
            Rebalance::Revoke
        };
        self.rebalances.lock().unwrap_or_else(PoisonError::into_inner).push(rebalance);
    }
}

#[cfg(test)]
mod tests {
    use rdkafka::statistics::Broker;

    use super::*;

    #[test]
    fn cut_off_while_no_broker_is_connected() {
        let cut_off = Arc::default();
        let context = Context::new("g", &Topics::from("t"), &cut_off);
        let table: [(&[&str], bool); 7] = [
            (&["INIT", "UP"], false),
            (&["INIT", "DOWN"], true),
            (&["TRY_CONNECT", "CONNECT"], true),
            (&["APIVERSION_QUERY", "AUTH_HANDSHAKE"], true),
            (&["DOWN", "REAUTH"], false),
            (&[], true),
            (&["DOWN", "UP", "DOWN"], false),
        ];
        for (states, want) in table {
            let broker = |(number, state): (usize, &&str)| {
                (number.to_string(), Broker { state: (*state).to_owned(), ..Broker::default() })
            };
            let brokers = states.iter().enumerate().map(broker).collect();
            context.stats(Statistics { brokers, ..Statistics::default() });
            assert_eq!(cut_off.load(Ordering::Relaxed), want, "{states:?}");
        }
    }
}
