//! The columns of an archive's records.

use std::collections::BTreeSet;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use sqlx::postgres::PgConnection;

use crate::app::servers::{self, rules_database};
use crate::archive::believed::Believed;
use crate::change::avro::{JsonError, RecordPart, Schemas, framing};
use crate::change::debezium;
use crate::change::debezium::TableSource;
use crate::change::debezium::full_row::versions::{Between, TableLook, TableVersions};
use crate::change::debezium::full_row::{FullRowDecoder, FullRowTable};
use crate::change::record::TopicRecord;
use crate::config::{ArchiveConfig, Postgres};
use crate::confirm::postgres::catalog::full_row::whole_table;
use crate::confirm::postgres::catalog::{CatalogError, position, server, source};
use crate::failure::{CallError, Failure, HasKind, Kind};
use crate::job::ColumnsError;
use crate::kafka::Cluster;
use crate::kafka::registry::Registry;
use crate::retry::Outage;

/// The wait before the topic's first records are read again.
const FIRST_AGAIN: Duration = Duration::from_secs(1);

/// The known columns of the records.
#[derive(Default)]
pub(super) struct Columns {
    /// The table's columns by the catalog. `None` where no database is configured and the records bring their schema.
    table: Option<FullRowTable>,
    /// The catalog's facts about the table's changes.
    source: Option<TableSource>,
    /// The table's columns by position in the WAL.
    versions: TableVersions,
    /// How to read a change that lies between two versions of the table.
    between: Option<Between>,
    /// The table's schema and name, once known.
    name: Option<(String, String)>,
    /// Columns that records still have and the table no longer has.
    dropped: BTreeSet<String>,
    /// The unknown column that made the job read the catalog again.
    unknown: Option<String>,
    /// Whether a record without schema came before its table was known.
    came_early: bool,
}

impl Columns {
    /// Starts with what an earlier run has found out.
    pub(super) fn new(versions: TableVersions, between: Option<Between>) -> Self {
        Self { versions, between, ..Self::default() }
    }

    /// Returns what the job checks again while it runs. `None` where there is nothing to check.
    pub(super) fn believed(&self, config: &ArchiveConfig) -> Option<Believed> {
        let database = Arc::new(rules_database(config.postgres.as_ref()?).ok()?);
        let (schema, name) = self.name.clone()?;
        let look = Box::new(move || -> Pin<Box<dyn Future<Output = Result<Option<TableLook>, CallError>>>> {
            let (database, schema, name) = (Arc::clone(&database), schema.clone(), name.clone());
            Box::pin(async move {
                let found =
                    database.attempt(Duration::ZERO, async |connection| match look(connection, &schema, &name).await {
                        Ok(found) => Ok(Some(found)),
                        Err(CatalogError::Connection(error)) => Err(database.failed(error)),
                        Err(_) => Ok(None),
                    });
                found.await
            })
        });
        let (table, source, versions) = (self.table.clone()?, self.source.clone()?, self.versions.clone());
        Some(Believed { table, source, versions, look })
    }

    /// Keeps what the job has found out.
    pub(super) fn keep(&mut self, believed: Option<Believed>) {
        if let Some(believed) = believed {
            self.versions = believed.versions;
        }
    }

    /// Returns a decoder for records with these columns.
    pub(super) fn decoder(&self, config: &ArchiveConfig) -> FullRowDecoder {
        let source = &config.source;
        let decoder = FullRowDecoder::new(self.table.as_ref(), source.encodings())
            .with_dropped(self.dropped.iter().cloned())
            .with_placeholder(&source.unavailable_value_placeholder);
        let decoder = decoder.with_versions(&self.versions, source.encodings(), self.between);
        match &self.source {
            Some(source) => decoder.of_source(source),
            None => decoder,
        }
    }

    /// Finds the topic's table from the first record, and reads the catalog. While there is no record, a run waits for
    /// the first one. A run to the end then has nothing to read.
    pub(super) async fn find(
        &mut self,
        config: &ArchiveConfig,
        cluster: &Cluster,
        until_end: bool,
    ) -> Result<(), Failure> {
        let Some(database) = &config.postgres else { return Ok(()) };
        let mut logged = None;
        let registry = servers::registry(&config.source)?;
        let mut outage = Outage::new("reading the topic's first records");
        while self.name.is_none() {
            let topic = &config.archive.topic;
            let first = cluster.first_records(topic, table_of(topic, registry.clone())).await;
            let mut seen = 0;
            match first {
                Ok(first) if first.is_given_up() => {
                    return Err(Failure::misconfigured(format!(
                        "archive.topic {topic}: none of its first {} records names its table, as Debezium's do in source.schema and source.table; is it the topic of a Debezium connector with the plain envelope and JSON?",
                        first.seen
                    )));
                }
                Ok(first) => match first.found.transpose() {
                    Ok(name) => {
                        outage.is_over();
                        (self.name, seen) = (name, first.seen);
                    }
                    Err(error) if error.is_retried() => outage.goes_on(&error),
                    Err(error) => return Err(error.into()),
                },
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
        let look = read_catalog(database, schema, table, config.startup_wait).await?;
        for change in self.versions.note(&look) {
            tracing::warn!(
                change,
                "the table has changed: records without schema are read by what it was at their position"
            );
        }
        let TableLook { table: found, source, .. } = look;
        if let Some(unknown) = self.unknown.take()
            && !found.fields.iter().any(|column| column.field.name == unknown)
        {
            tracing::warn!(column = unknown, "records have a column that the table no longer has: it is kept as text");
            self.dropped.insert(unknown);
        }
        self.dropped.retain(|name| !found.fields.iter().any(|column| column.field.name == *name));
        (self.table, self.source) = (Some(found), Some(source));
        Ok(())
    }

    /// Whether to read the catalog again after this error. An unknown column was added or dropped meanwhile. A record
    /// without schema may have come before its table was known. That is tried only once, as the record may not name the
    /// table.
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
            ColumnsError::Changed(reason) | ColumnsError::Retyped(reason) => {
                tracing::info!(reason, "the table's columns have changed; reading the catalog again");
                true
            }
            ColumnsError::PartitionBy(_) | ColumnsError::Unwrapped(_) => false,
        }
    }
}

/// Returns a function that finds the table of a record. A record with an envelope names it. For a row without an
/// envelope it is that of the topic's name, `prefix.schema.table`. The function returns the registry's error if the
/// registry does not have the schema of a record.
fn table_of(
    topic: &str,
    registry: Option<Arc<Registry>>,
) -> impl FnMut(&TopicRecord) -> Option<Result<(String, String), CallError>> + Send + 'static {
    let mut parts = topic.rsplit('.').map(str::to_owned);
    let (table, schema) = (parts.next(), parts.next());
    let of_topic = schema.zip(table);
    let mut schemas = Schemas::default();
    move |record| {
        let value = record.value.as_deref()?;
        let headers = record.schema_headers.iter().map(|(name, id)| (name.as_str(), Some(id.as_slice())));
        let (Some(registry), Some((id, body))) = (&registry, framing(value, RecordPart::Value, headers)) else {
            return debezium::full_row::table_of(value, of_topic.as_ref()).map(Ok);
        };
        let mut json = schemas.json_of(id, body, RecordPart::Value);
        if matches!(json, Err(JsonError::Unknown(_))) {
            match registry.fetch(id) {
                Ok(text) => schemas.learn(id, text),
                Err(error) => return Some(Err(error)),
            }
            json = schemas.json_of(id, body, RecordPart::Value);
        }
        debezium::full_row::table_of(json.ok()?.as_bytes(), of_topic.as_ref()).map(Ok)
    }
}

/// Reads the table's columns. Waits up to `patience` for the database.
async fn read_catalog(
    postgres: &Postgres,
    schema: &str,
    table: &str,
    patience: Duration,
) -> Result<TableLook, Failure> {
    let database = rules_database(postgres)?;
    let found = database.attempt(patience, async |connection| {
        look(connection, schema, table).await.map_err(|error| match error {
            CatalogError::Connection(error) => database.failed(error),
            other => {
                let call = format!("archive.topic holds changes of {schema}.{table}");
                CallError::new(call, other.to_string(), Kind::Misconfigured)
            }
        })
    });
    Ok(found.await?)
}

/// Reads the table, and the WAL position before and after that.
async fn look(connection: &mut PgConnection, schema: &str, name: &str) -> Result<TableLook, CatalogError> {
    let server = server(connection).await?;
    let before = position(connection).await?;
    let table = whole_table(connection, schema, name).await?;
    let source = source(connection, schema, name).await?;
    Ok(TableLook { server, before, after: position(connection).await?, table, source })
}
