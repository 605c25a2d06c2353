//! `tripline archive`: reads the configuration, finds out which table the topic is of, wires the job and runs it.
//!
//! - this file: the job
//! - [`status`]: how far it is, and what it has written

pub mod status;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, Subcommand};
use futures_util::FutureExt;
use rdkafka::config::ClientConfig;
use sqlx::{ConnectOptions, Connection};

use super::bar::Bar;
use super::database::{AttemptError, CONNECT_MAX, answered, when_there};
use super::failure::Failure;
use super::run::{find_topic, print_counts, start_at, stopped};
use super::{Exit, Output as Shown};
use crate::archive::draft::{Limits, MEMORY_MAX};
use crate::archive::output::{self, Entry, Output};
use crate::archive::{Archive, Counts, Settings};
use crate::change::debezium;
use crate::change::debezium::whole::{SCHEMALESS, UNKNOWN_COLUMN, WholeDecoder, WholeTable, unknown_column};
use crate::checkpoint::disk::RealDisk;
use crate::checkpoint::{CheckpointError, Folder};
use crate::clock::SystemClock;
use crate::config::{self, ArchiveConfig, OnBadRecord, WhenGroupIsMissing};
use crate::confirm::catalog::CatalogError;
use crate::confirm::catalog::whole::whole_table;
use crate::confirm::postgres;
use crate::host;
use crate::job::JobError;
use crate::job::gauge::Gauge;
use crate::sink::kafka::ensure_topics;
use crate::sink::kafka::letters::DeadLetters;
use crate::source::kafka::{KafkaSource, Membership, client_config, peek, wait_until_free};
use crate::telemetry;

pub(crate) const EXAMPLES: &str = "\
Examples:
  tripline archive --config archive.toml
  tripline archive --config archive.toml --until-end
  tripline archive status --config archive.toml

The first run writes everything that the topic has, later ones what is new; no row is written twice. docs/archive.md
has the columns, the files and how to read them.";

/// Arguments of `tripline archive`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct ArchiveArgs {
    /// What to do; without it, the changes are archived.
    #[command(subcommand)]
    pub command: Option<ArchiveCommand>,

    /// How they are archived.
    #[command(flatten)]
    pub write: Option<WriteArgs>,
}

/// What else there is about an archive.
#[derive(Debug, Subcommand)]
pub enum ArchiveCommand {
    /// Show both layers of offsets, what is left to read, and the files and rows of each date
    Status(StatusArgs),
}

/// Arguments of `tripline archive` alone.
#[derive(Debug, Args)]
pub struct WriteArgs {
    /// The configuration file (TOML)
    #[arg(long, short, value_name = "FILE")]
    pub config: PathBuf,

    /// Stop where the topic ended at the start, and print what was done as one line of JSON
    #[arg(long)]
    pub until_end: bool,
}

/// Arguments of `tripline archive status`.
#[derive(Debug, Args)]
pub struct StatusArgs {
    /// The configuration file (TOML)
    #[arg(long, short, value_name = "FILE")]
    pub config: PathBuf,

    /// A table for people, or one JSON object
    #[arg(long, short, default_value = "table")]
    pub output: Shown,
}

/// Archives changes, or shows how far that is.
///
/// # Errors
/// A [`Failure`] that says how the process is to end.
pub async fn archive(args: &ArchiveArgs) -> Result<(), Failure> {
    match (&args.command, &args.write) {
        (Some(ArchiveCommand::Status(args)), _) => status::status(args).await,
        (None, Some(args)) => write(args).await,
        (None, None) => Err(wrong("--config FILE is needed".to_owned())),
    }
}

fn wrong(message: String) -> Failure {
    Failure::new(Exit::Misconfigured, message)
}

/// Reads the configuration and starts the log.
fn configured(file: &Path) -> Result<ArchiveConfig, Failure> {
    let config = config::load_archive(file, config::process_environment()).map_err(|e| wrong(e.to_string()))?;
    telemetry::init(&config.log.level, config.log.format).map_err(wrong)?;
    Ok(config)
}

async fn write(args: &WriteArgs) -> Result<(), Failure> {
    let config = configured(&args.config)?;
    let gauge = Arc::new(Gauge::default());
    let bar = Bar::start(Arc::clone(&gauge), "archiving", !args.until_end);
    let ended = run(&config, args.until_end, gauge).await;
    bar.end().await;
    print_counts(ended?.filter(|_| args.until_end))
}

/// `None`: it was told to stop before it had joined.
async fn run(config: &ArchiveConfig, until_end: bool, gauge: Arc<Gauge>) -> Result<Option<Counts>, Failure> {
    let stop = stopped().shared();
    let client = client_config(&config.kafka.bootstrap_servers, &config.kafka.properties);
    let topic = &config.archive.topic;
    tokio::select! {
        found = find_topic(&config.kafka, topic, "archive.topic", &client, config.startup_wait, until_end) => found?,
        () = stop.clone() => return Ok(None),
    }
    let letters = &config.source.dead_letter_topic;
    ensure_topics(&client, &[letters], &[]).await.map_err(|e| Failure::new(Exit::Refused, format!("Kafka: {e}")))?;
    let disk = Arc::new(RealDisk);
    let path = std::path::absolute(&config.archive.output_path)
        .map_err(|e| wrong(format!("archive.output_path {}: {e}", config.archive.output_path.display())))?;
    refuse_strangers(&path)?;
    let mut folder = Folder::open_at(disk.clone(), config.archive.checkpoint_dir.clone())
        .map_err(|error| unusable("archive.checkpoint_dir", error))?;
    let output = Output::open(disk, path).map_err(|error| unusable("archive.output_path", error))?;
    let mut output = output.ok_or_else(|| {
        Failure::new(
            Exit::Protected,
            format!(
                "output_path {} is in use by another process: stop that one, or give this archive one of its own",
                config.archive.output_path.display()
            ),
        )
    })?;
    let limit = until_end.then_some(config.startup_wait);
    let mut columns = Columns::default();
    let mut counts = Counts::default();
    loop {
        tokio::select! {
            found = columns.find(config, &client, until_end) => found?,
            () = stop.clone() => return Ok(None),
        }
        let decoding = debezium::Settings { decimals: config.source.decimals, times: config.source.times };
        let decoder = WholeDecoder::new(columns.table.as_ref(), decoding).with_dropped(columns.dropped.clone());
        let group = config.archive.group_id.clone();
        let mut membership = Membership { group, instance: host::instance(folder.path()) };
        let left = tokio::select! {
            left = wait_until_free(&client, &membership, limit) => left.map_err(JobError::from)?,
            () = stop.clone() => return Ok(None),
        };
        if until_end && !left {
            membership.instance = None; // it leaves the group as soon as it ends
        }
        let source = KafkaSource::join(&client, membership, topic, decoder, limit)
            .map_err(|e| wrong(format!("kafka.properties: {e}")))?;
        let letters = DeadLetters::new(&client, letters).map_err(|e| wrong(format!("kafka.properties: {e}")))?;
        let settings = settings(config, until_end);
        let (clock, gauge) = (SystemClock::default(), Arc::clone(&gauge));
        let mut archive = Archive { settings, source, letters, clock, folder, output, counts, gauge };
        let ended = archive.run(stop.clone()).await;
        archive.source.close().await;
        (folder, output, counts) = (archive.folder, archive.output, archive.counts);
        match ended {
            Ok(()) => return Ok(Some(counts)),
            Err(JobError::Columns { kind: UNKNOWN_COLUMN, reason }) => columns.look_again(&reason),
            // The first change has come since the topic was looked at.
            Err(JobError::Columns { kind: SCHEMALESS, .. }) if columns.may_name_it_now(config) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// A folder of the configuration that cannot be opened.
fn unusable(setting: &str, error: CheckpointError) -> Failure {
    match error {
        CheckpointError::Io { .. } => wrong(format!("{setting}: {error}")),
        other => JobError::from(other).into(),
    }
}

/// A folder with files of others is left as it was.
fn refuse_strangers(output_path: &Path) -> Result<(), Failure> {
    if !output_path.is_dir() || output::owner(&RealDisk, output_path).map_err(JobError::from)?.is_some() {
        return Ok(());
    }
    let mut stranger = None;
    let look = |entry| {
        if let Entry::Stranger(path) = entry {
            stranger.get_or_insert(path);
        }
    };
    output::each(&RealDisk, output_path, look).map_err(JobError::from)?;
    let Some(stranger) = stranger else { return Ok(()) };
    Err(Failure::new(
        Exit::Protected,
        format!(
            "output_path {} holds {stranger}, which is none of this archive's files: use an empty folder",
            output_path.display()
        ),
    ))
}

fn settings(config: &ArchiveConfig, until_end: bool) -> Settings {
    Settings {
        group: config.archive.group_id.clone(),
        topic: config.archive.topic.clone(),
        start_at: start_at(config.archive.starting_offsets),
        reprocess_without_group: config.archive.when_group_is_missing == WhenGroupIsMissing::Reprocess,
        limits: Limits {
            records: config.archive.max_offsets_per_trigger,
            memory: MEMORY_MAX,
            partition_by: config.archive.partition_by.clone(),
        },
        trigger_interval: config.archive.trigger_interval,
        stop_on_bad_record: config.source.on_bad_record == OnBadRecord::Stop,
        until_end,
    }
}

/// Which columns the records have.
#[derive(Default)]
struct Columns {
    /// What the catalog says; `None` where no database is given, and records bring their schema.
    table: Option<WholeTable>,
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
    /// Finds out from the first record which table the topic is of, and asks the catalog. Where there is no record yet, a
    /// run waits for the first one, and one that reads to the end has nothing to read.
    async fn find(&mut self, config: &ArchiveConfig, client: &ClientConfig, until_end: bool) -> Result<(), Failure> {
        let Some(database) = &config.postgres else { return Ok(()) };
        let mut told = None;
        while self.name.is_none() {
            let (base, topic) = (client.clone(), config.archive.topic.clone());
            let look = move || peek::first(&base, &topic, debezium::whole::table_of);
            let found = tokio::task::spawn_blocking(look).await;
            let mut seen = 0;
            match found.map_err(|e| Failure::new(Exit::Failed, e.to_string()))? {
                Ok(peeked) if peeked.is_all_in_vain() => {
                    return Err(wrong(format!(
                        "archive.topic {}: none of its first {} records names its table, as Debezium's do in source.schema and source.table; is it the topic of a Debezium connector with the plain envelope and JSON?",
                        config.archive.topic, peeked.seen
                    )));
                }
                Ok(peeked) => (self.name, seen) = (peeked.found, peeked.seen),
                Err(error) => tracing::warn!(%error, "looking at the topic's first records"),
            }
            if self.name.is_none() {
                if until_end {
                    return Ok(());
                }
                if told.replace(seen) != Some(seen) {
                    tracing::info!(
                        records = seen,
                        "the topic has no change yet; waiting for the first, which names its table"
                    );
                }
                tokio::time::sleep(PEEK_AGAIN).await;
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

    /// A record needs the catalog, and its table was not known when the topic was looked at. Once: it may not name it.
    fn may_name_it_now(&mut self, config: &ArchiveConfig) -> bool {
        config.postgres.is_some() && self.table.is_none() && !std::mem::replace(&mut self.came_early, true)
    }

    /// A record has a column that was not known: it was added or dropped meanwhile.
    fn look_again(&mut self, reason: &str) {
        tracing::info!(reason, "the catalog is read anew");
        self.unknown = unknown_column(reason).map(str::to_owned);
    }
}

/// The wait before the topic's first records are looked for again.
const PEEK_AGAIN: Duration = Duration::from_secs(1);

/// Reads the table's columns, waiting for the database at first.
async fn read_catalog(
    database: &config::Postgres,
    schema: &str,
    table: &str,
    patience: Duration,
) -> Result<WholeTable, Failure> {
    let options = postgres::options(&database.url, database.statement_timeout)
        .map_err(|e| wrong(format!("postgres.url: {e}")))?;
    when_there(&database.url, patience, async || {
        let mut connection = answered(CONNECT_MAX, options.connect()).await?;
        let found = whole_table(&mut connection, schema, table).await;
        let _ = connection.close().await;
        found.map_err(|error| match error {
            CatalogError::Connection(error) => AttemptError::Connection(error),
            other => AttemptError::Wrong(format!("archive.topic holds changes of {schema}.{table}: {other}")),
        })
    })
    .await
}
