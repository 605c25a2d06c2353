//! Where alerts go.
//!
//! - [`kafka`]: alerts, episodes and the group's offsets in one transaction; the dead-letter topic
//! - [`postgres`]: the table `tripline.alerts`
//! - [`log`]: a line on standard output
//! - [`memory`]: a twin for tests

pub mod kafka;
pub mod log;
pub mod memory;
pub mod postgres;

use crate::alert::Alert;
use crate::fault;
use crate::source::DeadLetter;
use crate::unit::backup::{Backup, EpisodeRecord, Progress};

/// Why something could not be delivered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{sink}: {problem}")]
pub struct SinkError {
    /// Which sink.
    pub sink: &'static str,
    /// What it said.
    pub problem: String,
    /// What is to be done about it.
    pub kind: SinkErrorKind,
}

/// What a failure asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SinkErrorKind {
    /// Try again.
    Away,
    /// Trying again is of no use.
    Refused,
    /// Another instance may work for this group by now, or it is not known what has been done: begin anew from what is
    /// durable.
    Fenced,
}

/// What an epoch does to Kafka, all of it or nothing.
#[derive(Clone, Copy, Debug)]
pub struct Transaction<'a> {
    /// Alerts, in order.
    pub alerts: &'a [Alert],
    /// How the episodes stand that they open or close.
    pub episodes: &'a [EpisodeRecord],
    /// How far the group has come: its next offsets and the text that is committed with them, and a copy of both.
    pub progress: &'a Progress,
}

/// Everything that leaves a run.
#[expect(async_fn_in_trait, reason = "used by generic code on one task only")]
pub trait Sinks {
    /// What proves to the broker that this member works on the partitions.
    type Member;

    /// Shuts out whoever worked for this group before: nothing of theirs takes effect after this has returned.
    ///
    /// # Errors
    /// A server is away.
    async fn fence(&mut self) -> Result<(), SinkError>;

    /// Copies records that were not understood to the dead-letter topic, at least once.
    ///
    /// # Errors
    /// The topic did not take them; copying all of them again is safe.
    async fn bury(&mut self, dead: &[DeadLetter]) -> Result<(), SinkError>;

    /// Begins a transaction and brings everything to the broker. Nobody sees it yet, and nothing of it remains unless
    /// [`Sinks::commit`] follows.
    ///
    /// # Errors
    /// After [`SinkErrorKind::Away`], preparing again is safe.
    async fn prepare(&mut self, member: &Self::Member, transaction: &Transaction<'_>) -> Result<(), SinkError>;

    /// Commits what was prepared last.
    ///
    /// # Errors
    /// After [`SinkErrorKind::Away`], committing again is safe.
    async fn commit(&mut self) -> Result<(), SinkError>;

    /// Delivers alerts to the table, each id once, and then to the log, at least once.
    ///
    /// # Errors
    /// After [`SinkErrorKind::Away`], delivering all of them again is safe.
    async fn tell(&mut self, alerts: &[Alert]) -> Result<(), SinkError>;

    /// What Kafka knows of this group, to the last transaction.
    ///
    /// # Errors
    /// The broker does not answer.
    async fn backup(&mut self) -> Result<Backup, SinkError>;
}

/// Where records go that were not understood.
#[expect(async_fn_in_trait, reason = "used by generic code on one task only")]
pub trait Bury {
    /// Copies them, at least once.
    ///
    /// # Errors
    /// They were not all taken; copying all of them again is safe.
    async fn bury(&self, dead: &[DeadLetter]) -> Result<(), SinkError>;
}

/// The sinks of a configuration.
pub struct ConfiguredSinks {
    /// `[alerts.log]`
    pub log: Option<log::LogSink>,
    /// `[alerts.postgres]`
    pub table: Option<postgres::TableSink>,
    /// Kafka: `[alerts.kafka]`, episodes, offsets.
    pub kafka: kafka::KafkaSink,
    /// The dead-letter topic.
    pub letters: kafka::letters::DeadLetters,
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
    type Member = crate::source::kafka::Member;

    async fn fence(&mut self) -> Result<(), SinkError> {
        self.kafka.fence().await?;
        fault::point("kafka.fenced");
        match &mut self.table {
            Some(table) => table.fence().await,
            None => Ok(()),
        }
    }

    async fn bury(&mut self, dead: &[DeadLetter]) -> Result<(), SinkError> {
        self.letters.bury(dead).await
    }

    async fn prepare(&mut self, member: &Self::Member, transaction: &Transaction<'_>) -> Result<(), SinkError> {
        self.kafka.prepare(member, transaction).await
    }

    async fn commit(&mut self) -> Result<(), SinkError> {
        self.kafka.commit().await
    }

    async fn tell(&mut self, alerts: &[Alert]) -> Result<(), SinkError> {
        if let Some(table) = &mut self.table {
            table.write(alerts).await?;
            fault::point("table.written");
        }
        if let Some(log) = &mut self.log {
            log.write(alerts)?;
            fault::point("log.written");
        }
        Ok(())
    }

    async fn backup(&mut self) -> Result<Backup, SinkError> {
        self.kafka.backup().await
    }
}
