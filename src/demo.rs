//! The parts of `tripline demo` around the pipeline, in place of a stack of servers.
//!
//! ```text
//! shoppers ─ SQL ─ PostgreSQL ─ logical decoding ─ bridge ─ Kafka protocol ─ the real pipeline ─ run status
//! (simulated)      (real)       (real)             (ours)   (substitute)
//! ```
//!
//! - [`place`]: the folder of one demo, and removal of dead ones
//! - [`binaries`], [`server`]: a private PostgreSQL
//! - [`pgoutput`], [`envelope`]: the output of its logical decoding, in Debezium's format
//! - [`broker`], [`bridge`]: the substitute for Kafka, and how changes get there
//! - [`shoppers`]: the simulated purchases
//! - [`sinks`]: progress, without transactions

pub mod binaries;
pub mod bridge;
pub mod broker;
pub mod envelope;
pub mod pgoutput;
pub mod place;
pub mod server;
pub mod shoppers;
pub mod sinks;

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64};

/// The topic of the table's changes.
pub const TOPIC: &str = "postgres.streaming.transactions";

/// The consumer group.
pub const GROUP: &str = "flink-monitor-group-v1";

/// Counts of the work before the pipeline.
#[derive(Debug, Default)]
pub struct Done {
    /// Rows that were inserted or updated.
    pub changed: AtomicU64,
    /// Records that the topic has accepted.
    pub carried: AtomicU64,
    /// Whether people have to stop buying.
    pub closed: AtomicBool,
}

/// Why a demo cannot continue: the problem, its place, and what to do.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct DemoError(String);

impl DemoError {
    /// Creates an error with this text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// Creates an error about a file or a folder.
    pub fn file(path: &Path, error: &std::io::Error) -> Self {
        Self(format!("{}: {error}", path.display()))
    }
}

impl From<sqlx::Error> for DemoError {
    fn from(error: sqlx::Error) -> Self {
        Self(format!("the demo's PostgreSQL: {error}"))
    }
}

impl From<rdkafka::error::KafkaError> for DemoError {
    fn from(error: rdkafka::error::KafkaError) -> Self {
        Self(format!("the demo's broker: {error}"))
    }
}
