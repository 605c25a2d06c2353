//! The main job: checking it against the servers, wiring it, running it.

use std::collections::BTreeMap;
use std::future::Future;
use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;

use super::alerts_table;
use super::progress::topics_of;
use super::rules::{CompiledRules, compile_rules};
use super::servers::{self, MissingTopic, membership, rules_database, wait_for_topic};
use super::sinks::ConfiguredSinks;
use crate::change::debezium::{DecimalHandling, Decoder, Shape};
use crate::checkpoint::Folder;
use crate::clock::SystemClock;
use crate::config::{Config, OnBadRecord, OnRuleChange, WhenGroupIsMissing};
use crate::confirm::postgres::PostgresConfirm;
use crate::contract::gaps::gaps;
use crate::failure::{Exit, Failure};
use crate::host;
use crate::job::JobError;
use crate::job::gauge::Gauge;
use crate::kafka::Cluster;
use crate::kafka::group::Member;
use crate::monitor::counts::Counts;
use crate::monitor::{Monitor, Settings};
use crate::progress::Topics;
use crate::run_status::RunStatus;
use crate::sink::Sinks;
use crate::sink::kafka::dead_letters::DeadLetters;
use crate::sink::kafka::{self, KafkaSink};
use crate::sink::log::LogSink;
use crate::source::kafka::KafkaSource;
use crate::source::kafka::topics::ReadTopics;
use crate::web::Web;

/// How long a working run waits for an unreachable database. It is practically without end, as for other servers.
const PATIENCE_WHILE_WORKING: Duration = Duration::from_secs(10 * 365 * 86_400);

/// The main job, checked against the servers. Nothing has been created or joined yet.
pub struct Prepared<'a> {
    config: &'a Config,
    until_end: bool,
    /// The cluster for reading and writing.
    pub cluster: Cluster,
    /// The topics to read, with their decoders.
    pub topics: ReadTopics<Decoder>,
    compiled: CompiledRules,
    confirm: PostgresConfirm,
    /// The gauge of the job's progress.
    pub gauge: Arc<Gauge>,
    /// The status of the run.
    pub status: Arc<RunStatus>,
}

/// Checks rules, database and topics. Waits for servers that cannot be reached yet.
///
/// # Errors
/// The rules are wrong, or a server cannot be reached, or refuses.
pub async fn prepare(config: &Config, until_end: bool) -> Result<Prepared<'_>, Failure> {
    prepare_for(config, until_end, config.startup_wait, Shown::default()).await
}

/// The gauge and the run status that a job updates.
type Shown = (Arc<Gauge>, Arc<RunStatus>);

/// Does the same as [`prepare`]. Waits up to `patience` for the database.
async fn prepare_for(
    config: &Config,
    until_end: bool,
    patience: Duration,
    (gauge, status): Shown,
) -> Result<Prepared<'_>, Failure> {
    let database = rules_database(&config.postgres)?;
    let mut compiled = compile_rules(config, &database, patience).await?;
    let cluster = servers::cluster(&config.kafka);
    let missing = if until_end { MissingTopic::Fail(config.startup_wait) } else { MissingTopic::Wait };
    for source in &config.sources {
        wait_for_topic(&cluster, &source.topic, setting_of(config), config.startup_wait, missing).await?;
    }
    // A connector that has just created the topic may also have created its publication.
    compiled = compiled.as_of_now(config, &database, patience).await?;
    for (table, contract) in &compiled.contracts.0 {
        for gap in gaps(contract) {
            tracing::warn!(
                table,
                "the stream does not bring every change of the table, and only the audit sees the others: {gap}"
            );
        }
    }
    if config.sources.iter().any(|source| source.decimals == DecimalHandling::Double) {
        tracing::warn!(
            "source.decimals = \"double\": amounts of more than 15 digits are rounded before they come, so memory may miss what is \
             just over a threshold until the audit finds it"
        );
    }
    let topics = read_topics(config, &compiled)?;
    let confirm = PostgresConfirm::new(
        database.options().clone(),
        config.postgres.max_connections,
        config.postgres.statement_timeout,
        &compiled.rules,
        &compiled.tables,
    );
    let confirm = confirm.with_zones(compiled.zones.clone());
    Ok(Prepared { config, until_end, cluster, topics, compiled, confirm, gauge, status })
}

/// Returns the setting that names the topics.
pub(super) fn setting_of(config: &Config) -> &'static str {
    if config.sources.len() == 1 { "source.topic" } else { "topic of [[sources]]" }
}

/// Returns the topics of a configuration, with the decoders of their tables.
fn read_topics(config: &Config, compiled: &CompiledRules) -> Result<ReadTopics<Decoder>, Failure> {
    let topics = topics_of(config);
    let mut decodings = BTreeMap::new();
    for (place, topic) in topics.read() {
        let mut decoders = Vec::new();
        let of_topic = config.sources.iter().enumerate().filter(|(_, source)| source.topic == topic);
        let shared = of_topic.clone().count() > 1;
        for (number, source) in of_topic.clone() {
            let (Some(watched), Some(found)) = (compiled.tables.get(number), compiled.sources.get(number)) else {
                continue;
            };
            let mut encodings = source.encodings();
            if shared {
                encodings.shape = Shape::Envelope; // it names the table
            }
            let decoder = Decoder::new(&watched.table, &watched.wanted, encodings).map_err(Failure::misconfigured)?;
            let decoder = decoder.of_source(found).with_placeholder(&source.unavailable_value_placeholder);
            let touches =
                compiled.rules.iter().any(|rule| rule.query.text.is_some() && watched.place_in(&rule.query).is_some());
            let decoder = decoder.with_before(found.is_full && touches);
            decoders.push((number, decoder));
        }
        if let Some((_, source)) = of_topic.clone().next() {
            decodings.insert(place, servers::decoding(source, decoders)?);
        }
    }
    Ok(ReadTopics::new(topics, decodings))
}

impl Prepared<'_> {
    /// Starts to serve the page, if it is on.
    ///
    /// # Errors
    /// The address is in use.
    pub async fn web(&self) -> Result<Option<Web>, Failure> {
        let Some(web) = &self.config.web else { return Ok(None) };
        let started = Web::start(web, Arc::clone(&self.status), &self.compiled.rules, self.config, &self.cluster);
        started.await.map(Some).map_err(Failure::misconfigured)
    }

    /// Joins the group and works for it, with the configuration's sinks. Writes alert lines to `lines`. `None`: the run
    /// was asked to stop before it had joined.
    ///
    /// # Errors
    /// An error that the run cannot recover from.
    pub async fn work(self, lines: impl Write + 'static) -> Result<Option<Counts>, Failure> {
        let (config, cluster) = (self.config, &self.cluster);
        let topics = self.create_topics().await?;
        let group = &config.kafka.group_id;
        let folder = Folder::open(&config.checkpoint.dir, group).map_err(JobError::from)?;
        let sinks = ConfiguredSinks {
            log: config.alerts.log.then(|| LogSink::new(lines)),
            table: alerts_table::sink(config).await?,
            kafka: KafkaSink::new(cluster, group, topics, config.kafka.transaction_timeout),
            dead_letters: DeadLetters::new(cluster, &config.source.dead_letter_topic, &self.topics.topics)?,
        };
        let stop = host::stopped().shared();
        let limit = self.until_end.then_some(config.startup_wait);
        let cluster = cluster.clone();
        let (mut job, mut driven) = (self, Driven { ended: Ok(()), counts: Counts::default(), sinks, folder });
        let (mut has_begun, mut changes) = (false, Vec::new());
        loop {
            let membership = tokio::select! {
                membership = membership(&cluster, group, driven.folder.path(), limit) => membership?,
                () = stop.clone() => return driven.close(has_begun).await,
            };
            let source = KafkaSource::join(&cluster, membership, job.topics.clone(), limit)?;
            let (until_end, shown) = (job.until_end, (Arc::clone(&job.gauge), Arc::clone(&job.status)));
            let Driven { counts, sinks, folder, .. } = driven;
            driven = job.drive(source, sinks, folder, counts, changes, stop.clone()).await;
            has_begun = true;
            changes = match &driven.ended {
                Err(JobError::Changed(changes)) => changes.clone(),
                _ => return driven.close(true).await,
            };
            let text = changes.join(", ");
            tracing::warn!(
                changes = text,
                "the table or its server has changed: rules are compiled again, and windows come from the table"
            );
            job = tokio::select! {
                prepared = prepare_for(config, until_end, PATIENCE_WHILE_WORKING, shown) => prepared.map_err(|failure| {
                    cannot_go_on(&text, failure)
                })?,
                () = stop.clone() => return driven.close(true).await,
            };
        }
    }

    /// Creates the topics that the job writes to, if they do not exist.
    async fn create_topics(&self) -> Result<kafka::Topics, Failure> {
        let config = self.config;
        let topics = kafka::Topics {
            alerts: config.alerts.kafka.as_ref().map(|kafka| kafka.topic.clone()),
            episodes: config.checkpoint.episodes_topic.clone(),
        };
        let mut plain = vec![config.source.dead_letter_topic.as_str()];
        plain.extend(topics.alerts.as_deref());
        self.cluster.create_topics(&plain, &[&topics.episodes]).await?;
        match self.cluster.topic_setting(&topics.episodes, "cleanup.policy").await.as_deref() {
            Some("compact") | None => Ok(topics),
            Some(policy) => Err(Failure::misconfigured(format!(
                "topic {} (checkpoint.episodes_topic) has cleanup.policy={policy}, and would lose open episodes: set cleanup.policy=compact, or name another topic",
                topics.episodes
            ))),
        }
    }

    /// Creates the monitor and runs it to its end. Returns the sinks, too.
    pub async fn drive<K: Sinks<Member = Member>>(
        self,
        source: KafkaSource,
        sinks: K,
        folder: Folder,
        counts: Counts,
        changes: Vec<String>,
        stop: impl Future<Output = ()>,
    ) -> Driven<K> {
        let settings = settings(self.config, self.topics.topics.clone(), self.until_end);
        let Self { compiled, confirm, gauge, status, .. } = self;
        let CompiledRules { rules, tables, contracts, .. } = compiled;
        let clock = SystemClock::default();
        let mut monitor = Monitor {
            settings,
            rules,
            tables,
            contracts,
            changes,
            source,
            confirm,
            sinks,
            clock,
            folder,
            gauge,
            status,
            counts,
        };
        let ended = monitor.run(stop).await.map(drop);
        monitor.source.close().await;
        monitor.confirm.close().await;
        Driven { ended, counts: monitor.counts, sinks: monitor.sinks, folder: monitor.folder }
    }
}

/// The end of a monitor's run, and the parts that the next run uses again.
pub struct Driven<K> {
    /// The error that the run could not recover from.
    pub ended: Result<(), JobError>,
    /// The counts so far.
    pub counts: Counts,
    /// The sinks of alerts.
    pub sinks: K,
    folder: Folder,
}

impl Driven<ConfiguredSinks> {
    /// Ends for good. `None`: no run has begun.
    async fn close(self, has_begun: bool) -> Result<Option<Counts>, Failure> {
        self.sinks.close().await;
        match self.ended {
            Err(JobError::Changed(_)) | Ok(()) => Ok(has_begun.then_some(self.counts)),
            Err(error) => Err(error.into()),
        }
    }
}

/// Returns the failure for rules that do not fit the changed table.
fn cannot_go_on(changes: &str, failure: Failure) -> Failure {
    if failure.exit != Exit::Misconfigured {
        return failure;
    }
    let Failure { message, .. } = failure;
    Failure::new(
        Exit::Protected,
        format!(
            "the table has changed while the run was at work ({changes}), and the rules do not fit it any more: {message}\nAll that was decided is delivered. Change the rules or the table, then start again with the same command: windows come from the table"
        ),
    )
}

impl From<JobError> for Failure {
    fn from(error: JobError) -> Self {
        Self::of(&error)
    }
}

fn settings(config: &Config, topics: Topics, until_end: bool) -> Settings {
    Settings {
        group: config.kafka.group_id.clone(),
        topics,
        start_at: config.kafka.auto_offset_reset,
        resume_without_group: config.kafka.when_group_is_missing == WhenGroupIsMissing::Resume,
        carry_episodes: config.checkpoint.on_rule_change == OnRuleChange::Carry,
        trigger_interval: config.checkpoint.trigger_interval,
        state_interval: config.checkpoint.state_interval,
        keys_per_statement: config.postgres.keys_per_statement,
        statements_max: usize::try_from(config.postgres.max_connections).unwrap_or(1),
        sweep_interval: config.postgres.sweep_interval,
        audit_period: config.audit.period,
        max_database_share: config.audit.max_database_share,
        rows_max: config.limits.max_rows,
        rss_max_mb: config.limits.max_rss_mb,
        stop_on_bad_record: config.source.on_bad_record == OnBadRecord::Stop,
        until_end,
    }
}
