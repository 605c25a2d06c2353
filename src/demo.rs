//! What `tripline demo` brings along: everything around the pipeline that otherwise is a stack of servers.
//!
//! ```text
//! shoppers ─ SQL ─ PostgreSQL ─ logical decoding ─ bridge ─ Kafka protocol ─ the real pipeline ─ board
//! (made up)        (real)       (real)             (ours)   (stand-in)
//! ```
//!
//! - [`place`]: the folder of one demo, and what dead ones have left
//! - [`binaries`], [`server`]: a private PostgreSQL
//! - [`pgoutput`], [`envelope`]: what its logical decoding says, as Debezium would write it
//! - [`broker`], [`bridge`]: the stand-in for Kafka, and how changes get there
//! - [`shoppers`]: who buys what
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

/// What was done so far, on the way to the pipeline.
#[derive(Debug, Default)]
pub struct Done {
    /// Rows that were inserted or updated.
    pub changed: AtomicU64,
    /// Records that the topic has taken.
    pub carried: AtomicU64,
    /// Nobody is to buy any more.
    pub closed: AtomicBool,
}

/// Why a demo cannot go on: what, where, and what to do.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct DemoError(String);

impl DemoError {
    /// With this text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// About a file or a folder.
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
