//! Carries changes from PostgreSQL's log to the topic, like Debezium: the output of logical decoding, one record for
//! each change, keyed by the primary key. It polls in SQL many times a second, which needs no replication protocol.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{DeliveryFuture, FutureProducer, FutureRecord};
use sqlx::Row;
use sqlx::postgres::{PgConnection, PgRow};

use super::envelope::{Origin, record};
use super::pgoutput::{Change, Decoder, Message};
use super::{DemoError, Done, TOPIC};
use crate::clock::{Clock, SystemClock};

/// The pause after each poll.
const PAUSE: Duration = Duration::from_millis(20);

/// How long to wait for space in the producer's queue.
const FULL: Duration = Duration::from_millis(10);

const MAKE_SLOT: &str = "select 1 from pg_create_logical_replication_slot('tripline_demo', 'pgoutput')";

/// Reads complete transactions until they have brought this many changes.
const CHANGES: &str = "
select (lsn - '0/0'::pg_lsn)::int8 as lsn, xid::text::int8 as xid, data
from pg_logical_slot_get_binary_changes('tripline_demo', null, 5000, 'proto_version', '1', 'publication_names', 'tripline_demo')";

/// Carries the changes.
pub struct Bridge {
    connection: PgConnection,
    producer: FutureProducer,
    decoder: Decoder,
    /// The position and time of the commit of the current transaction.
    commit: (u64, i64),
}

impl Bridge {
    /// Creates the replication slot. Everything that is committed from here on is carried.
    ///
    /// # Errors
    /// The server refuses.
    pub async fn new(mut connection: PgConnection, producer: FutureProducer) -> Result<Self, DemoError> {
        sqlx::query(MAKE_SLOT).execute(&mut connection).await?;
        Ok(Self { connection, producer, decoder: Decoder::default(), commit: (0, 0) })
    }

    /// Carries changes as long as it is polled.
    ///
    /// # Errors
    /// The server or the broker refuses.
    pub async fn run(mut self, done: Arc<Done>) -> Result<(), DemoError> {
        loop {
            let rows = sqlx::query(CHANGES).fetch_all(&mut self.connection).await?;
            let now = SystemClock::default().now().0;
            let mut sent = Vec::new();
            for row in &rows {
                self.carry(row, now, &mut sent).await?;
            }
            for delivered in sent {
                match delivered.await {
                    Ok(Ok(_)) => drop(done.carried.fetch_add(1, Ordering::Relaxed)),
                    Ok(Err((error, _))) => return Err(error.into()),
                    Err(_) => return Err(KafkaError::Canceled.into()),
                }
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn carry(&mut self, row: &PgRow, now: i64, sent: &mut Vec<DeliveryFuture>) -> Result<(), DemoError> {
        let data: &[u8] = row.try_get("data")?;
        let Some(message) = self.decoder.decode(data) else {
            return Err(DemoError::new("PostgreSQL's pgoutput said something that is not understood"));
        };
        match message {
            Message::Begin { committed_at, commit_lsn } => self.commit = (commit_lsn, committed_at),
            Message::Commit | Message::Other => {}
            Message::Change(relation, change) => {
                let (commit_lsn, committed_at) = self.commit;
                let (lsn, transaction) = (row.try_get("lsn")?, row.try_get("xid")?);
                let origin = Origin { lsn, transaction, commit_lsn, committed_at };
                let (key, value) = record(&relation, &change, origin, now);
                sent.push(self.send(&key, Some(&value)).await?);
                if matches!(change, Change::Delete(_)) {
                    sent.push(self.send(&key, None).await?); // as compaction wants it
                }
            }
        }
        Ok(())
    }

    async fn send(&self, key: &str, value: Option<&str>) -> Result<DeliveryFuture, DemoError> {
        let mut record: FutureRecord<'_, str, str> = FutureRecord::to(TOPIC).key(key);
        record.payload = value;
        loop {
            match self.producer.send_result(record) {
                Ok(delivery) => return Ok(delivery),
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), again)) => {
                    record = again;
                    tokio::time::sleep(FULL).await;
                }
                Err((error, _)) => return Err(error.into()),
            }
        }
    }
}
