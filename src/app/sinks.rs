//! All sinks of a configuration as one.

use crate::alert::Alert;
use crate::change::record::DeadLetter;
use crate::failure::CallError;
use crate::fault;
use crate::kafka::group::Member;
use crate::sink::kafka::KafkaSink;
use crate::sink::kafka::dead_letters::DeadLetters;
use crate::sink::log::LogSink;
use crate::sink::postgres::TableSink;
use crate::sink::{DeadLetterSink as _, Sinks, Transaction};
use crate::unit::recovery::RecoveryState;

/// The sinks of a configuration.
pub struct ConfiguredSinks {
    /// `[alerts.log]`
    pub log: Option<LogSink>,
    /// `[alerts.postgres]`
    pub table: Option<TableSink>,
    /// Kafka: `[alerts.kafka]`, episodes, offsets.
    pub kafka: KafkaSink,
    /// The dead-letter topic.
    pub dead_letters: DeadLetters,
}

impl ConfiguredSinks {
    /// Closes the sinks that have connections of their own.
    pub async fn close(&self) {
        if let Some(table) = &self.table {
            table.close().await;
        }
    }
}

impl Sinks for ConfiguredSinks {
    type Member = Member;

    async fn fence(&mut self) -> Result<(), CallError> {
        self.kafka.fence().await?;
        fault::point("kafka.fenced");
        match &mut self.table {
            Some(table) => table.fence().await,
            None => Ok(()),
        }
    }

    async fn dead_letter(&mut self, dead: &[DeadLetter]) -> Result<(), CallError> {
        self.dead_letters.dead_letter(dead).await
    }

    async fn prepare(&mut self, member: &Self::Member, transaction: &Transaction<'_>) -> Result<(), CallError> {
        self.kafka.prepare(member, transaction).await
    }

    async fn commit(&mut self) -> Result<(), CallError> {
        self.kafka.commit().await
    }

    async fn deliver(&mut self, alerts: &[Alert]) -> Result<(), CallError> {
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

    async fn recovery(&mut self) -> Result<RecoveryState, CallError> {
        self.kafka.recovery().await
    }
}
