//! Where alerts go. Everything here is at least once; an alert keeps its id on every retry.
//!
//! - [`kafka`]: the alert topic and the dead-letter topic
//! - [`postgres`]: the table `tripline.alerts`
//! - [`log`]: a line on standard output
//! - [`memory`]: a twin for tests

pub mod kafka;
pub mod log;
pub mod memory;
pub mod postgres;

use crate::alert::Alert;
use crate::source::DeadLetter;

/// Why something could not be delivered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{sink}: {problem}")]
pub struct SinkError {
    /// Which sink.
    pub sink: &'static str,
    /// What it said.
    pub problem: String,
    /// Whether trying again is of no use.
    pub fatal: bool,
}

/// Everything that leaves a run.
#[expect(async_fn_in_trait, reason = "used by generic code on one task only")]
pub trait Sinks {
    /// Delivers alerts to every sink, in order, and waits until each has taken them.
    ///
    /// # Errors
    /// A sink did not take them; delivering all of them again is safe.
    async fn deliver(&mut self, alerts: &[Alert]) -> Result<(), SinkError>;

    /// Copies records that were not understood to the dead-letter topic.
    ///
    /// # Errors
    /// The topic did not take them; copying all of them again is safe.
    async fn bury(&mut self, dead: &[DeadLetter]) -> Result<(), SinkError>;
}

/// The sinks of a configuration.
pub struct ConfiguredSinks {
    /// `[alerts.log]`
    pub log: Option<log::LogSink>,
    /// `[alerts.kafka]`, with the name of its topic.
    pub kafka: Option<String>,
    /// `[alerts.postgres]`
    pub table: Option<postgres::TableSink>,
    /// Topic for records that were not understood.
    pub dead_letter_topic: String,
    /// The producer of both topics.
    pub producer: kafka::Producer,
}

impl ConfiguredSinks {
    /// Closes what has connections of its own.
    pub async fn close(&self) {
        if let Some(table) = &self.table {
            table.close().await;
        }
    }
}

impl Sinks for ConfiguredSinks {
    async fn deliver(&mut self, alerts: &[Alert]) -> Result<(), SinkError> {
        if let Some(topic) = &self.kafka {
            self.producer.alerts(topic, alerts).await?;
        }
        if let Some(table) = &self.table {
            table.write(alerts).await?;
        }
        match &mut self.log {
            Some(log) => log.write(alerts),
            None => Ok(()),
        }
    }

    async fn bury(&mut self, dead: &[DeadLetter]) -> Result<(), SinkError> {
        self.producer.dead_letters(&self.dead_letter_topic, dead).await
    }
}
