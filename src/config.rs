//! The settings: built-in defaults, the user's file and the environment become one validated [`Config`].
//!
//! - `layers`: the sources of values, and their precedence
//! - `reader`: typed reading of one section, which collects every problem with its key and origin
//! - `settings`: the keys and their allowed values
//! - `sources`: the topics of changes
//! - `checks`: the form of names, addresses and URLs
//!
//! Only [`Config`] is used in the rest of the program. `reader` reads the values, not serde. The `config` crate's
//! deserializer stops at the first error, does not know in which file an unknown key is, prints the rejected value,
//! which may be a password, and accepts `true`, `"on"` and `1.6` as integers.

mod checks;
mod layers;
mod reader;
mod settings;
mod sources;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{fmt, io};

use crate::change::debezium::{self, BinaryHandling, DecimalHandling, TimePrecision};
use crate::progress::StartAt;
use crate::rule::text::Pace;
use crate::rule::{Confirm, Evaluate, Time};
use crate::telemetry::Format;

pub(crate) use checks::group_id as check_group_id;
pub use checks::{connect_url as check_connect_url, postgres_url as check_url, redact_url, without_login};
pub use reader::Problem;

/// The prefix of the names of environment variables: `TRIPLINE__SECTION__KEY`.
pub const ENVIRONMENT_PREFIX: &str = "TRIPLINE__";

/// All validated settings. The `Debug` output shows no password.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// How long to wait for unreachable servers at the start.
    pub startup_wait: Duration,
    /// The Kafka cluster and the consumer group.
    pub kafka: Kafka,
    /// The first topic of changes, and how to read its records.
    pub source: Source,
    /// All topics of changes with their tables, never empty. `[source]` alone is the only one.
    pub sources: Vec<Source>,
    /// The database that confirms.
    pub postgres: Postgres,
    /// Where and how often to store progress.
    pub checkpoint: Checkpoint,
    /// How often to compare memory with the table, and at what cost.
    pub audit: Audit,
    /// The limits on memory.
    pub limits: Limits,
    /// The rules as written, in the file's order. The list is never empty, and the names are unique.
    pub rules: Vec<RuleSettings>,
    /// The sinks of alerts.
    pub alerts: Alerts,
    /// The page, if it is on.
    pub web: Option<Web>,
    /// Kafka Connect, for `tripline doctor`.
    pub connect: Option<Connect>,
    /// The program's own log.
    pub log: Log,
}

/// All validated settings of the archive. The `Debug` output shows no password.
#[derive(Clone, Debug, PartialEq)]
pub struct ArchiveConfig {
    /// How long to wait for unreachable servers at the start.
    pub startup_wait: Duration,
    /// The Kafka cluster. The group is that of `[archive]`.
    pub kafka: Kafka,
    /// How to read the records. The topic is that of `[archive]`.
    pub source: Source,
    /// The database whose catalog has the columns, if one is given.
    pub postgres: Option<Postgres>,
    /// The topic to archive, and the target.
    pub archive: Archive,
    /// The program's own log.
    pub log: Log,
}

/// `[archive]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Archive {
    /// The topic of changes.
    pub topic: String,
    /// The consumer group.
    pub group_id: String,
    /// Where to start if there is no progress.
    pub starting_offsets: StartAt,
    /// The folder for progress.
    pub checkpoint_dir: PathBuf,
    /// The folder for the Parquet files.
    pub output_path: PathBuf,
    /// The greatest number of records in an epoch.
    pub max_offsets_per_trigger: usize,
    /// The longest time between two epochs.
    pub trigger_interval: Duration,
    /// The column whose date names the folder of a row. `None`: the commit time of the change.
    pub partition_by: Option<String>,
    /// The reaction to missing offsets of the group while the checkpoint exists.
    pub when_group_is_missing: WhenGroupIsMissing,
}

/// `[kafka]`
#[derive(Clone, PartialEq, Eq)]
pub struct Kafka {
    /// `host:port`, comma-separated.
    pub bootstrap_servers: String,
    /// The consumer group. It is also the name of its folder under [`Checkpoint::dir`].
    pub group_id: String,
    /// Where a group without any progress starts.
    pub auto_offset_reset: StartAt,
    /// The reaction to missing offsets of the group while the checkpoint exists.
    pub when_group_is_missing: WhenGroupIsMissing,
    /// How long a transaction of alerts may be open before the broker aborts it.
    pub transaction_timeout: Duration,
    /// Further librdkafka settings by their dotted names. Values may be secrets.
    pub properties: BTreeMap<String, String>,
}

/// Shows only the names of the properties, because the values may be passwords.
impl fmt::Debug for Kafka {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let properties: BTreeMap<&str, &str> = self.properties.keys().map(|name| (name.as_str(), "***")).collect();
        f.debug_struct("Kafka")
            .field("bootstrap_servers", &self.bootstrap_servers)
            .field("group_id", &self.group_id)
            .field("auto_offset_reset", &self.auto_offset_reset)
            .field("when_group_is_missing", &self.when_group_is_missing)
            .field("transaction_timeout", &self.transaction_timeout)
            .field("properties", &properties)
            .finish()
    }
}

/// The reaction to missing offsets of the group while the checkpoint exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WhenGroupIsMissing {
    /// Read everything again, because the offsets were deleted for that, unless they have expired.
    Reprocess,
    /// Resume from the checkpoint.
    Resume,
}

/// The reaction of open episodes to a change of their rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnRuleChange {
    /// The episodes stay open.
    Carry,
    /// The episodes are dropped, and keys that match the new rule alert again.
    Refire,
}

/// `[source]`
#[derive(Clone, Debug, PartialEq)]
pub struct Source {
    /// The topic of changes.
    pub topic: String,
    /// The table of the topic's changes, as `schema.name`. `None`: the table in the topic's name.
    pub table: Option<String>,
    /// The encoding of records, and their form around a row.
    pub format: SourceFormat,
    /// The registry of Avro schemas.
    pub schema_registry: Option<SchemaRegistry>,
    /// The connector's `decimal.handling.mode`.
    pub decimals: DecimalHandling,
    /// The connector's `time.precision.mode`.
    pub times: TimePrecision,
    /// The connector's `binary.handling.mode`.
    pub binary: BinaryHandling,
    /// The connector's `unavailable.value.placeholder`.
    pub unavailable_value_placeholder: String,
    /// Whether the converter keeps NULL in a column that has a default.
    pub connector_keeps_nulls: bool,
    /// The reaction to an invalid record.
    pub on_bad_record: OnBadRecord,
    /// The topic to which invalid records are copied.
    pub dead_letter_topic: String,
}

impl Source {
    /// Returns the settings that the records do not contain.
    pub fn encodings(&self) -> debezium::Settings {
        debezium::Settings {
            decimals: self.decimals,
            times: self.times,
            binary: self.binary,
            shape: self.format.shape(),
        }
    }
}

/// `source.format`
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SourceFormat {
    /// Each record shows its format.
    Auto,
    /// Debezium's envelope in JSON.
    Json,
    /// Rows in JSON, which ExtractNewRecordState has unwrapped.
    JsonUnwrapped,
    /// Debezium's envelope in Avro.
    Avro,
    /// Rows in Avro.
    AvroUnwrapped,
}

impl SourceFormat {
    /// Returns the form around a row.
    pub fn shape(self) -> debezium::Shape {
        match self {
            Self::Auto => debezium::Shape::Auto,
            Self::Json | Self::Avro => debezium::Shape::Envelope,
            Self::JsonUnwrapped | Self::AvroUnwrapped => debezium::Shape::Row,
        }
    }
}

/// `[source.schema_registry]`
#[derive(Clone, PartialEq, Eq)]
pub struct SchemaRegistry {
    /// `https://host:port/path`
    pub url: String,
    /// User and password.
    pub login: Option<(String, String)>,
    /// A file with certificates in PEM. Only these authorities are trusted.
    pub ca: Option<PathBuf>,
}

/// Shows everything except the password.
impl fmt::Debug for SchemaRegistry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let user = self.login.as_ref().map(|(user, _)| user);
        f.debug_struct("SchemaRegistry").field("url", &self.url).field("user", &user).field("ca", &self.ca).finish()
    }
}

/// The reaction to an invalid record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnBadRecord {
    /// Copy it to the dead-letter topic, and continue.
    DeadLetter,
    /// Stop the program at the record.
    Stop,
}

/// `[postgres]`
#[derive(Clone, PartialEq, Eq)]
pub struct Postgres {
    /// `postgres://user:password@host:port/database?…`. It is a secret, so print it only with [`redact_url`].
    pub url: String,
    /// The longest duration of a confirming statement.
    pub statement_timeout: Duration,
    /// The greatest number of connections.
    pub max_connections: u32,
    /// The greatest number of keys in one statement.
    pub keys_per_statement: usize,
    /// How often to run the whole rule, to find keys that the stream missed. `None`: never.
    pub sweep_interval: Option<Duration>,
    /// The time zone of rules that name none. `None`: that of a plain session of the role in the database.
    pub time_zone: Option<String>,
}

/// Shows the URL without its password.
impl fmt::Debug for Postgres {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Postgres")
            .field("url", &redact_url(&self.url))
            .field("statement_timeout", &self.statement_timeout)
            .field("max_connections", &self.max_connections)
            .field("keys_per_statement", &self.keys_per_statement)
            .field("sweep_interval", &self.sweep_interval)
            .field("time_zone", &self.time_zone)
            .finish()
    }
}

/// `[checkpoint]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// The folder with one folder for each group. It is relative to the working directory.
    pub dir: PathBuf,
    /// The longest time between two epochs.
    pub trigger_interval: Duration,
    /// The time between two stored states.
    pub state_interval: Duration,
    /// The reaction of open episodes to a change of their rule.
    pub on_rule_change: OnRuleChange,
    /// The recovery topic, with a copy of every open episode.
    pub episodes_topic: String,
}

/// `[audit]`: comparing memory with the table, key by key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Audit {
    /// The length of a cycle over all keys, unless the limit on its cost makes it longer.
    pub period: Duration,
    /// The greatest number of statement seconds per second, in millionths, for audit, sweep and repairs together.
    pub max_database_share: u32,
}

/// `[limits]`: reading pauses at a limit. Nothing is dropped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// The greatest number of rows held by all rules. `None`: no limit.
    pub max_rows: Option<usize>,
    /// The greatest resident memory of the process in MiB. `None`: no limit.
    pub max_rss_mb: Option<usize>,
}

/// One `[[rules]]` entry. The SQL is not parsed yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleSettings {
    /// The unique name, 1 to 64 of `A-Z a-z 0-9 . _ -`.
    pub name: String,
    /// Free text of at most 64 characters, usually `info`, `warning` or `critical`.
    pub severity: String,
    /// The template of an alert's message, if one is given.
    pub message: Option<String>,
    /// The query.
    pub sql: String,
    /// The meaning of NOW() in the query.
    pub time: Time,
    /// Whether Postgres confirms an alert.
    pub confirm: Confirm,
    /// The time zone of the rule's session. `None`: that of `[postgres]`.
    pub time_zone: Option<String>,
    /// Whether memory or Postgres evaluates the rule.
    pub evaluate: Evaluate,
    /// The outputs that are the key of a rule which Postgres evaluates. Empty: the columns of GROUP BY.
    pub key: Vec<String>,
    /// The times at which Postgres evaluates the rule, if it does.
    pub pace: Pace,
}

/// `[alerts.…]`: each sink is on if its section is present. Without any section, only the log is on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alerts {
    /// Alert lines on standard output.
    pub log: bool,
    /// Alert records in Kafka.
    pub kafka: Option<KafkaAlerts>,
    /// Alerts as rows of the table `tripline.alerts`.
    pub postgres: Option<PostgresAlerts>,
}

/// `[alerts.kafka]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KafkaAlerts {
    /// The topic of alerts.
    pub topic: String,
}

/// `[alerts.postgres]`
#[derive(Clone, PartialEq, Eq)]
pub struct PostgresAlerts {
    /// The table's database, by default [`Postgres::url`]. It is a secret, so print it only with [`redact_url`].
    pub url: String,
    /// Whether to run the table's migrations at the start.
    pub migrate: bool,
}

/// Shows the URL without its password.
impl fmt::Debug for PostgresAlerts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresAlerts").field("url", &redact_url(&self.url)).field("migrate", &self.migrate).finish()
    }
}

/// `[web]`: the page, health and metrics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Web {
    /// The listening address. It is a loopback address, unless others are allowed.
    pub listen: SocketAddr,
    /// Further host names of the page.
    pub hosts: Vec<String>,
}

/// `[connect]`
#[derive(Clone, PartialEq, Eq)]
pub struct Connect {
    /// `http://user:password@host:port`. It is a secret, so print it only with [`without_login`].
    pub url: String,
}

/// Shows the URL without its login.
impl fmt::Debug for Connect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connect").field("url", &without_login(&self.url)).finish()
    }
}

/// `[log]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// A level, or a filter such as `info,tripline::source=debug`. It has been parsed before.
    pub level: String,
    /// The format of the lines.
    pub format: Format,
}

impl Config {
    /// Returns the URL of the table of alerts, and the name of the setting: `alerts.postgres.url`, else `postgres.url`.
    /// The table need not exist.
    pub fn table_url(&self) -> (&str, &'static str) {
        match &self.alerts.postgres {
            Some(table) if table.url != self.postgres.url => (&table.url, "alerts.postgres.url"),
            _ => (&self.postgres.url, "postgres.url"),
        }
    }
}

/// Why there is no configuration. The text says what is wrong, where, and what to do. It shows no secret.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file does not exist, or cannot be read.
    #[error("cannot read the configuration file {}: {source}; give the path of a readable file with --config", path.display())]
    Read {
        /// The path as given.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The file is not TOML.
    #[error("{}: {detail}", path.display())]
    Syntax {
        /// The path as given.
        path: PathBuf,
        /// The problem, with line and column from 1 if they are known.
        detail: String,
    },
    /// Keys or values are wrong. The text has all problems, one per line.
    #[error("{}", lines(.0))]
    Invalid(Vec<Problem>),
    /// The layers could not be merged.
    #[error("the configuration cannot be put together: {0}")]
    Merge(#[from] ::config::ConfigError),
}

fn lines(problems: &[Problem]) -> String {
    problems.iter().map(Problem::to_string).collect::<Vec<_>>().join("\n")
}

/// Reads the settings of `tripline archive` like [`load`]. `[archive]` is required. `kafka.group_id`, `source.topic`,
/// `postgres.url` and rules are not. Settings of other jobs are checked as well.
///
/// # Errors
///
/// Those of [`load`].
pub fn load_archive(
    path: &Path,
    env: impl IntoIterator<Item = (String, String)>,
) -> Result<ArchiveConfig, ConfigError> {
    read(path, env, settings::read_archive)
}

/// Reads the built-in defaults, then the file at `path`, then the variables in `env` whose names start with
/// [`ENVIRONMENT_PREFIX`]. Later values take precedence. Other variables are ignored. [`process_environment`] returns
/// the process's own.
///
/// # Errors
///
/// [`ConfigError`]: the file cannot be read or is not TOML, or keys are unknown, missing, of the wrong type or out of
/// range. All of them are reported together.
pub fn load(path: &Path, env: impl IntoIterator<Item = (String, String)>) -> Result<Config, ConfigError> {
    read(path, env, settings::read)
}

fn read<T>(
    path: &Path,
    env: impl IntoIterator<Item = (String, String)>,
    settings: impl Fn(reader::Table, &reader::Report) -> Option<T>,
) -> Result<T, ConfigError> {
    let report = reader::Report::new(path.display().to_string());
    let layers = [layers::defaults()?, layers::file(path)?, layers::environment(env, &report)];
    let merged = layers::merge(layers, &report)?;
    let config = settings(merged, &report);
    match (config, report.into_problems()) {
        (Some(config), problems) if problems.is_empty() => Ok(config),
        (_, problems) => Err(ConfigError::Invalid(problems)),
    }
}

/// Returns the process's variables that start with [`ENVIRONMENT_PREFIX`]. Unlike [`std::env::vars`] it does not panic
/// at a variable that is not Unicode, but replaces invalid parts by U+FFFD.
pub fn process_environment() -> Vec<(String, String)> {
    std::env::vars_os()
        .map(|(name, value)| (name.to_string_lossy().into_owned(), value.to_string_lossy().into_owned()))
        .filter(|(name, _)| name.starts_with(ENVIRONMENT_PREFIX))
        .collect()
}
