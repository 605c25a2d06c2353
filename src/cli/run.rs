//! `tripline run`: reads the configuration, checks it against the servers, wires the job and runs it.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use rdkafka::client::ClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{ConnectOptions, Connection};
use tokio::time::Instant;

use super::database::{self, AttemptError, CONNECT_MAX, RETRY_FIRST, RETRY_MAX, answered};
use super::failure::Failure;
use super::{Exit, RunArgs};
use crate::board::Board;
use crate::change::debezium::{self, Decoder};
use crate::checkpoint::Folder;
use crate::clock::SystemClock;
use crate::config::{self, Config, OffsetReset, OnBadRecord, OnRuleChange, RuleSettings, WhenGroupIsMissing};
use crate::confirm::catalog::{self, CatalogError};
use crate::confirm::postgres::{self, PostgresConfirm};
use crate::host;
use crate::job::gauge::Gauge;
use crate::job::{JobError, StartAt};
use crate::model::Table;
use crate::monitor::{Monitor, Settings};
use crate::rule::message::Template;
use crate::rule::parse::{Parsed, parse};
use crate::rule::{OutputExpr, Query, Rule, compile};
use crate::sink::kafka::letters::DeadLetters;
use crate::sink::kafka::{KafkaSink, Topics, check_compacted, ensure_topics};
use crate::sink::log::LogSink;
use crate::sink::{ConfiguredSinks, Sinks};
use crate::source::kafka::{KafkaSource, Member, Membership, client_config, wait_until_free};
use crate::telemetry;
use crate::unit::Counts;
use crate::web::Web;

/// How long one request for metadata may take.
const METADATA_TIMEOUT: Duration = Duration::from_secs(5);

/// Runs the main job.
///
/// # Errors
/// A [`Failure`] that says how the process is to end.
pub async fn run(args: &RunArgs) -> Result<(), Failure> {
    let config = configured(&args.config)?;
    let job = Job::check(&config, args.until_end).await?;
    let _web = job.web().await?; // it ends with the run
    let counts = job.work(std::io::stdout()).await?;
    print_counts(counts.filter(|_| args.until_end))
}

/// What was done, as one line of JSON.
pub(super) fn print_counts(counts: Option<impl serde::Serialize>) -> Result<(), Failure> {
    let line = counts.map(|counts| serde_json::to_string(&counts).unwrap_or_default());
    super::offsets::print(line.as_slice())
}

fn wrong(message: String) -> Failure {
    Failure::new(Exit::Misconfigured, message)
}

/// Reads the configuration and starts the log.
pub(super) fn configured(file: &Path) -> Result<Config, Failure> {
    let config = config::load(file, config::process_environment()).map_err(|e| wrong(e.to_string()))?;
    telemetry::init(&config.log.level, config.log.format).map_err(wrong)?;
    Ok(config)
}

/// The main job, held against the servers: nothing has been made or joined yet.
pub(super) struct Job<'a> {
    config: &'a Config,
    until_end: bool,
    pub(super) client: ClientConfig,
    pub(super) decoder: Decoder,
    rules: Vec<Rule>,
    wanted: Vec<usize>,
    confirm: PostgresConfirm,
    /// Shows how far it is.
    pub(super) gauge: Arc<Gauge>,
    /// Shows everything else.
    pub(super) board: Arc<Board>,
}

impl<'a> Job<'a> {
    /// Checks rules, database and topic, waiting for servers that are not there yet.
    pub(super) async fn check(config: &'a Config, until_end: bool) -> Result<Self, Failure> {
        let parsed = parse_rules(&config.rules).map_err(wrong)?;
        let options = postgres::options(&config.postgres.url, config.postgres.statement_timeout)
            .map_err(|e| wrong(format!("postgres.url: {e}")))?;
        let (table, rules) = database::when_there(&config.postgres.url, config.startup_wait, async || {
            try_rules(config, &options, &parsed).await
        })
        .await?;
        let wanted = compile::wanted(&rules.iter().map(|rule| &rule.query).collect::<Vec<_>>());
        let decoding = debezium::Settings { decimals: config.source.decimals, times: config.source.times };
        let decoder = Decoder::new(&table, &wanted, decoding).map_err(wrong)?;
        let client = client_config(&config.kafka.bootstrap_servers, &config.kafka.properties);
        find_topic(&config.kafka, &config.source.topic, "source.topic", &client, config.startup_wait, until_end)
            .await?;
        let confirm = PostgresConfirm::new(
            options,
            config.postgres.max_connections,
            config.postgres.statement_timeout,
            &rules,
            &wanted,
        );
        Ok(Self {
            config,
            until_end,
            client,
            decoder,
            rules,
            wanted,
            confirm,
            gauge: Arc::default(),
            board: Arc::default(),
        })
    }

    /// Starts to serve the page, where it is on.
    pub(super) async fn web(&self) -> Result<Option<Web>, Failure> {
        let Some(web) = &self.config.web else { return Ok(None) };
        Web::start(web, Arc::clone(&self.board), &self.rules, &self.config.postgres).await.map(Some).map_err(wrong)
    }

    /// Joins the group and works for it, with the configuration's sinks; alert lines go to `lines`. `None`: it was told
    /// to stop before it had joined.
    pub(super) async fn work(self, lines: impl Write + 'static) -> Result<Option<Counts>, Failure> {
        let (config, client) = (self.config, &self.client);
        let topics = Topics {
            alerts: config.alerts.kafka.as_ref().map(|kafka| kafka.topic.clone()),
            episodes: config.checkpoint.episodes_topic.clone(),
        };
        let mut plain = vec![config.source.dead_letter_topic.as_str()];
        plain.extend(topics.alerts.as_deref());
        ensure_topics(client, &plain, &[&topics.episodes])
            .await
            .map_err(|e| Failure::new(Exit::Refused, format!("Kafka: {e}")))?;
        check_compacted(client, &topics.episodes).await.map_err(wrong)?;
        let folder = Folder::open(&config.checkpoint.dir, &config.kafka.group_id).map_err(JobError::from)?;

        let group = &config.kafka.group_id;
        let letters = DeadLetters::new(client, &config.source.dead_letter_topic)
            .map_err(|e| wrong(format!("kafka.properties: {e}")))?;
        let sinks = ConfiguredSinks {
            log: config.alerts.log.then(|| LogSink::new(lines)),
            table: super::table::sink(config).await?,
            kafka: KafkaSink::new(client, group, topics),
            letters,
        };
        let stop = stopped().shared();
        let limit = self.until_end.then_some(config.startup_wait);
        let mut membership = Membership { group: group.clone(), instance: host::instance(folder.path()) };
        let left = tokio::select! {
            left = wait_until_free(client, &membership, limit) => left.map_err(JobError::from)?,
            () = stop.clone() => return Ok(None),
        };
        if self.until_end && !left {
            membership.instance = None; // it leaves the group as soon as it ends
        }
        let source = KafkaSource::join(client, membership, &config.source.topic, self.decoder.clone(), limit)
            .map_err(|e| wrong(format!("kafka.properties: {e}")))?;
        let (ended, sinks) = self.drive(source, sinks, folder, stop).await;
        sinks.close().await;
        Ok(Some(ended?))
    }

    /// Puts the monitor together and lets it run to its end. The sinks come back.
    pub(super) async fn drive<K: Sinks<Member = Member>>(
        self,
        source: KafkaSource,
        sinks: K,
        folder: Folder,
        stop: impl Future<Output = ()>,
    ) -> (Result<Counts, JobError>, K) {
        let settings = settings(self.config, self.until_end);
        let Self { rules, wanted, confirm, gauge, board, .. } = self;
        let clock = SystemClock::default();
        let mut monitor = Monitor { settings, rules, wanted, source, confirm, sinks, clock, folder, gauge, board };
        let ended = monitor.run(stop).await;
        monitor.source.close().await;
        monitor.confirm.close().await;
        (ended, monitor.sinks)
    }
}

fn settings(config: &Config, until_end: bool) -> Settings {
    Settings {
        group: config.kafka.group_id.clone(),
        topic: config.source.topic.clone(),
        start_at: start_at(config.kafka.auto_offset_reset),
        resume_without_group: config.kafka.when_group_is_missing == WhenGroupIsMissing::Resume,
        carry_episodes: config.checkpoint.on_rule_change == OnRuleChange::Carry,
        trigger_interval: config.checkpoint.trigger_interval,
        state_interval: config.checkpoint.state_interval,
        keys_per_statement: config.postgres.keys_per_statement,
        statements_max: usize::try_from(config.postgres.max_connections).unwrap_or(1),
        sweep_interval: config.postgres.sweep_interval,
        rows_max: config.limits.max_rows,
        rss_max_mb: config.limits.max_rss_mb,
        stop_on_bad_record: config.source.on_bad_record == OnBadRecord::Stop,
        until_end,
    }
}

pub(super) fn start_at(reset: OffsetReset) -> StartAt {
    match reset {
        OffsetReset::Earliest => StartAt::Earliest,
        OffsetReset::Latest => StartAt::Latest,
        OffsetReset::Time(at) => StartAt::Time(at),
    }
}

/// Parses every rule, reporting all that is wrong with any of them.
fn parse_rules(rules: &[RuleSettings]) -> Result<Vec<Parsed>, String> {
    let mut parsed: Vec<Parsed> = Vec::new();
    let mut problems = Vec::new();
    for rule in rules {
        match parse(&rule.sql) {
            Ok(query) => parsed.push(query),
            Err(error) => problems.push(format!("rule {}: sql, {error}", rule.name)),
        }
    }
    if !problems.is_empty() {
        return Err(problems.join("\n"));
    }
    let table = |parsed: &Parsed| format!("{}.{}", parsed.schema.text, parsed.table.text);
    for (rule, query) in rules.iter().zip(&parsed) {
        if let Some(first) = parsed.first()
            && table(first) != table(query)
        {
            return Err(format!(
                "rule {} reads {}, but the first rule reads {}: one run watches one table; give the other rules a configuration with its own group id",
                rule.name,
                table(query),
                table(first)
            ));
        }
    }
    Ok(parsed)
}

/// Holds the rules against the catalog.
async fn try_rules(
    config: &Config,
    options: &PgConnectOptions,
    parsed: &[Parsed],
) -> Result<(Table, Vec<Rule>), AttemptError> {
    let mut connection = answered(CONNECT_MAX, options.connect()).await?;
    let place = |rule: &RuleSettings, error: CatalogError| match error {
        CatalogError::Connection(error) => AttemptError::Connection(error),
        CatalogError::Rule(error) => AttemptError::Wrong(format!("rule {}: sql, {error}", rule.name)),
        CatalogError::Unfit(problem) => AttemptError::Wrong(format!("rule {}: {problem}", rule.name)),
    };
    let mut rules = Vec::new();
    let mut found = None;
    for (rule, parsed) in config.rules.iter().zip(parsed) {
        let place = |error| place(rule, error);
        let (schema, name) = (&parsed.schema.text, &parsed.table.text);
        let table = catalog::table(&mut connection, schema, name).await.map_err(place)?;
        let query = compile::compile(parsed, &table).map_err(|error| place(error.into()))?;
        catalog::prepare(&mut connection, &rule.sql).await.map_err(place)?;
        catalog::compare(&mut connection, &rule.sql, &query, &parsed.spelling).await.map_err(place)?;
        compile::check_nulls(&query, config.source.nulls_kept)
            .map_err(|problem| AttemptError::Wrong(format!("rule {}: {problem}", rule.name)))?;
        rules.push(finish(rule, query).map_err(AttemptError::Wrong)?);
        found = Some(table);
    }
    refuse_standby(&mut connection).await?;
    let _ = connection.close().await;
    let table = found.ok_or_else(|| AttemptError::Wrong("there are no rules".to_owned()))?;
    Ok((table, rules))
}

async fn refuse_standby(connection: &mut PgConnection) -> Result<(), AttemptError> {
    let standby: bool = sqlx::query_scalar("select pg_is_in_recovery()")
        .fetch_one(connection)
        .await
        .map_err(AttemptError::Connection)?;
    if standby {
        let problem = "postgres.url points at a standby, whose snapshots cannot confirm: point it at the primary";
        return Err(AttemptError::Wrong(problem.to_owned()));
    }
    Ok(())
}

fn finish(rule: &RuleSettings, query: Query) -> Result<Rule, String> {
    let names: Vec<&str> = query.outputs.iter().map(|output| output.name.as_str()).collect();
    let text = rule.message.clone().unwrap_or_else(|| default_message(&rule.name, &query));
    let message = Template::parse(&text, &names).map_err(|e| format!("rule {}: message: {e}", rule.name))?;
    Ok(Rule {
        name: rule.name.clone(),
        version: compile::version(&query, rule.clock, rule.confirm),
        severity: rule.severity.clone(),
        message,
        clock: rule.clock,
        confirm: rule.confirm,
        query,
    })
}

/// `weekly-spend: user_id {user_id}, total {total}`: the rule's name and every output.
fn default_message(name: &str, query: &Query) -> String {
    let escape = |text: &str| text.replace('{', "{{").replace('}', "}}");
    let keys = query.outputs.iter().filter(|output| matches!(output.expr, OutputExpr::Key(_)));
    let rest = query.outputs.iter().filter(|output| matches!(output.expr, OutputExpr::Aggregate(_)));
    let shown: Vec<String> = keys.chain(rest).map(|o| format!("{} {{{}}}", escape(&o.name), o.name)).collect();
    format!("{}: {}", escape(name), shown.join(", "))
}

/// Keeps what the client says of a login, since requests themselves only time out.
#[derive(Default)]
struct LoginWatch(std::sync::Mutex<Option<String>>);

impl ClientContext for LoginWatch {
    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, reason, "Kafka client");
        if matches!(error.rdkafka_error_code(), Some(RDKafkaErrorCode::Authentication | RDKafkaErrorCode::SSL)) {
            *self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(reason.to_owned());
        }
    }
}

impl ConsumerContext for LoginWatch {}

/// Waits for the broker, and then for the topic, which Debezium makes with its first event. `setting` names it.
pub(super) async fn find_topic(
    kafka: &config::Kafka,
    topic: &str,
    setting: &str,
    client: &ClientConfig,
    patience: Duration,
    must_exist: bool,
) -> Result<(), Failure> {
    let deadline = Instant::now() + patience;
    let servers = &kafka.bootstrap_servers;
    let consumer: BaseConsumer<LoginWatch> = client
        .create_with_context(LoginWatch::default())
        .map_err(|e| Failure::new(Exit::Misconfigured, format!("kafka.properties: {e}{}", hint(&e.to_string()))))?;
    let consumer = std::sync::Arc::new(consumer);
    let mut wait = RETRY_FIRST;
    let mut told = false;
    loop {
        let (asked, name) = (std::sync::Arc::clone(&consumer), topic.to_owned());
        let found = tokio::task::spawn_blocking(move || partitions_of(&asked, &name)).await;
        match found.map_err(|e| Failure::new(Exit::Failed, e.to_string()))? {
            Ok(partitions) if partitions > 0 => return Ok(()),
            Ok(_) if must_exist => {
                return Err(Failure::new(
                    Exit::Misconfigured,
                    format!(
                        "topic {topic} does not exist at {servers}: is {setting} right? Debezium makes it with the table's first event"
                    ),
                ));
            }
            Ok(_) => {
                if !std::mem::replace(&mut told, true) {
                    tracing::warn!(topic, "the topic does not exist yet; waiting for Debezium to make it");
                }
            }
            Err(error) => {
                let login = consumer.context().0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
                if let Some(reason) = login {
                    return Err(Failure::new(Exit::Refused, format!("Kafka at {servers} refused: {reason}")));
                }
                if Instant::now() + wait > deadline {
                    let waited = patience;
                    return Err(Failure::new(
                        Exit::Unreachable,
                        format!(
                            "Kafka at {servers} could not be reached within {waited:?}: {error}; is it running, and is kafka.bootstrap_servers right?"
                        ),
                    ));
                }
                tracing::warn!(servers, %error, "waiting for Kafka");
            }
        }
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(RETRY_MAX);
    }
}

/// Where a build without TLS is the reason.
fn hint(error: &str) -> &'static str {
    let missing = ["OpenSSL not available", "No provider for SASL"].iter().any(|text| error.contains(text));
    if missing && !cfg!(feature = "kafka-tls") { "; build tripline with --features kafka-tls" } else { "" }
}

fn partitions_of(consumer: &BaseConsumer<LoginWatch>, topic: &str) -> Result<usize, KafkaError> {
    // Serves the client's callbacks, which tell of a refused login.
    drop(consumer.poll(Duration::ZERO));
    let metadata = consumer.fetch_metadata(Some(topic), METADATA_TIMEOUT);
    drop(consumer.poll(Duration::ZERO));
    let metadata = metadata?;
    Ok(metadata.topics().iter().find(|found| found.name() == topic).map_or(0, |found| found.partitions().len()))
}

/// Ready when the process is told to stop.
pub(super) async fn stopped() {
    let interrupt = tokio::signal::ctrl_c();
    let Ok(mut terminate) = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) else {
        let _ = interrupt.await;
        return;
    };
    tokio::select! {
        _ = interrupt => {}
        _ = terminate.recv() => {}
    }
    tracing::info!("stopping; a second signal ends it at once, which is as safe as a crash");
    tokio::spawn(async move {
        tokio::select! {
            _ = tokio::signal::ctrl_c() => {}
            _ = terminate.recv() => {}
        }
        std::process::exit(i32::from(Exit::Failed.code()));
    });
}
