//! Which columns the records of an archive have.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::app::servers::rules_database;
use crate::change::debezium;
use crate::change::debezium::full_row::FullRowTable;
use crate::config::{ArchiveConfig, Postgres};
use crate::confirm::postgres::catalog::CatalogError;
use crate::confirm::postgres::catalog::full_row::whole_table;
use crate::failure::{CallError, Failure, HasKind, Kind};
use crate::job::ColumnsError;
use crate::kafka::Cluster;
use crate::retry::Outage;

/// The wait before the topic's first records are read again.
const FIRST_AGAIN: Duration = Duration::from_secs(1);

/// Which columns the records have.
#[derive(Default)]
pub(super) struct Columns {
    /// What the catalog says; `None` where no database is given, and records bring their schema.
    table: Option<FullRowTable>,
    /// The table's schema and name, once known.
    name: Option<(String, String)>,
    /// Columns that records still have and the table no longer has.
    dropped: BTreeSet<String>,
    /// The one that was not known.
    unknown: Option<String>,
    /// Whether a record without schema came before its table was known.
    came_early: bool,
}

impl Columns {
    /// What the catalog says; `None` where no database is given, and records bring their schema.
    pub(super) fn table(&self) -> Option<&FullRowTable> {
        self.table.as_ref()
    }

    /// Columns that records still have and the table no longer has.
    pub(super) fn dropped(&self) -> BTreeSet<String> {
        self.dropped.clone()
    }

    /// Finds out from the first record which table the topic is of, and asks the catalog. Where there is no record yet, a
    /// run waits for the first one, and one that reads to the end has nothing to read.
    pub(super) async fn find(
        &mut self,
        config: &ArchiveConfig,
        cluster: &Cluster,
        until_end: bool,
    ) -> Result<(), Failure> {
        let Some(database) = &config.postgres else { return Ok(()) };
        let mut logged = None;
        let mut outage = Outage::new("reading the topic's first records");
        while self.name.is_none() {
            let topic = &config.archive.topic;
            let first = cluster.first_records(topic, debezium::full_row::table_of).await;
            let mut seen = 0;
            match first {
                Ok(first) if first.is_given_up() => {
                    return Err(Failure::misconfigured(format!(
                        "archive.topic {topic}: none of its first {} records names its table, as Debezium's do in source.schema and source.table; is it the topic of a Debezium connector with the plain envelope and JSON?",
                        first.seen
                    )));
                }
                Ok(first) => {
                    outage.is_over();
                    (self.name, seen) = (first.found, first.seen);
                }
                Err(error) if error.is_retried() => outage.goes_on(&error),
                Err(error) => return Err(error.into()),
            }
            if self.name.is_none() {
                if until_end {
                    return Ok(());
                }
                if logged.replace(seen) != Some(seen) {
                    tracing::info!(
                        records = seen,
                        "the topic has no change yet; waiting for the first, which names its table"
                    );
                }
                tokio::time::sleep(FIRST_AGAIN).await;
            }
        }
        let Some((schema, table)) = &self.name else { return Ok(()) };
        let found = read_catalog(database, schema, table, config.startup_wait).await?;
        if let Some(unknown) = self.unknown.take()
            && !found.fields.iter().any(|column| column.field.name == unknown)
        {
            tracing::warn!(column = unknown, "records have a column that the table no longer has: it is kept as text");
            self.dropped.insert(unknown);
        }
        self.dropped.retain(|name| !found.fields.iter().any(|column| column.field.name == *name));
        self.table = Some(found);
        Ok(())
    }

    /// Whether the catalog may help after this error: it is read again then. A column that was not known was added or
    /// dropped meanwhile. A record without schema may have come before its table was known; once, as it may not name it.
    pub(super) fn may_be_read_again(&mut self, config: &ArchiveConfig, error: &ColumnsError) -> bool {
        match error {
            ColumnsError::Unknown { column, reason } => {
                tracing::info!(column, reason, "reading the catalog again");
                self.unknown = Some(column.clone());
                true
            }
            ColumnsError::Schemaless(_) => {
                config.postgres.is_some() && self.table.is_none() && !std::mem::replace(&mut self.came_early, true)
            }
            ColumnsError::PartitionBy(_) => false,
        }
    }
}

/// Reads the table's columns, waiting for the database at first.
async fn read_catalog(
    postgres: &Postgres,
    schema: &str,
    table: &str,
    patience: Duration,
) -> Result<FullRowTable, Failure> {
    let database = rules_database(postgres)?;
    let found = database.attempt(patience, async |connection| {
        whole_table(connection, schema, table).await.map_err(|error| match error {
            CatalogError::Connection(error) => database.failed(error),
            other => {
                let call = format!("archive.topic holds changes of {schema}.{table}");
                CallError::new(call, other.to_string(), Kind::Misconfigured)
            }
        })
    });
    Ok(found.await?)
}
