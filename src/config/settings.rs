//! The settings and their allowed values: from the merged tables to [`Config`].
//!
//! Every function reads its whole section before it returns, so that all problems are reported at once.

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::Duration;

use super::reader::{Report, Section, Table};
use super::{
    Alerts, Archive, ArchiveConfig, Audit, Checkpoint, Config, Connect, Kafka, KafkaAlerts, Limits, Log, Postgres,
    PostgresAlerts, RuleSettings, SchemaRegistry, Source, StartAt, Web, WhenGroupIsMissing, checks, sources,
};
use crate::rule::text::Pace;
use crate::rule::{Confirm, Evaluate, Time};
use crate::telemetry;

/// The defaults of optional sections, which are comments in config/default.toml.
const DEFAULT_SEVERITY: &str = "warning";
const DEFAULT_LISTEN: &str = "127.0.0.1:8787";
const DEFAULT_ALERT_TOPIC: &str = "tripline.alerts";

/// How long a touched key waits for more of its changes.
const DEFAULT_MAX_DELAY_MS: u32 = SECOND_MS;

const DEFAULT_MAX_OFFSETS: u32 = 1_000;
const DEFAULT_TRIGGER_MS: u32 = 5 * SECOND_MS;

const SECOND_MS: u32 = 1_000;
const MINUTE_MS: u32 = 60 * SECOND_MS;
const HOUR_MS: u32 = 60 * MINUTE_MS;

/// Reads the settings. `None` if any problem was reported.
pub(super) fn read(merged: Table, report: &Report) -> Option<Config> {
    let mut root = Section::new(merged, "", report);
    let startup_wait = root.millis("startup_wait_ms", 0..=HOUR_MS);
    let kafka = kafka(root.section("kafka"), None);
    let are_several = root.has("sources");
    let source = source(root.section("source"), are_several.then_some(Topic::OfSources));
    let sources = sources::read(&mut root, source.as_ref(), report);
    let postgres = postgres(root.section("postgres"));
    let checkpoint = checkpoint(root.section("checkpoint"));
    let audit = audit(root.section("audit"));
    let limits = limits(root.section("limits"));
    let rules = rules(&mut root, report);
    let alerts = alerts(root.section("alerts"), postgres.as_ref());
    let web = root.section_if("web").map(web);
    let connect = connect(root.section_if("connect"));
    let log = log(root.section("log"));
    let sources = match (&source, sources) {
        (Some(source), Some(sources)) if sources.is_empty() => Some(vec![source.clone()]),
        (_, sources) => sources,
    };
    if let (Some(sources), Some(alerts), Some(checkpoint)) = (&sources, &alerts, &checkpoint) {
        for source in sources {
            distinct_topics(&root, source, alerts, checkpoint);
        }
    }
    root.section_if("archive").map(archive); // of another job, and checked all the same
    root.finish();
    Some(Config {
        startup_wait: startup_wait?,
        kafka: kafka?,
        source: sources.as_ref()?.first()?.clone(),
        sources: sources?,
        postgres: postgres?,
        checkpoint: checkpoint?,
        audit: audit?,
        limits: limits?,
        rules: rules?,
        alerts: alerts?,
        web: web.map_or(Some(None), |web| web.map(Some))?,
        connect: connect?,
        log: log?,
    })
}

/// Reads the settings of the archive.
pub(super) fn read_archive(merged: Table, report: &Report) -> Option<ArchiveConfig> {
    let mut root = Section::new(merged, "", report);
    let startup_wait = root.millis("startup_wait_ms", 0..=HOUR_MS);
    let archive = archive(root.section("archive"));
    let kafka = kafka(root.section("kafka"), Some(archive.as_ref().map_or("", |archive| &archive.group_id)));
    let of_archive = Topic::OfArchive(archive.as_ref().map_or("", |archive| &archive.topic));
    let source = source(root.section("source"), Some(of_archive));
    let database = root.section("postgres");
    let postgres = if database.has("url") { postgres(database).map(Some) } else { Some(None) };
    let log = log(root.section("log"));
    if let Some(source) = source.as_ref().filter(|source| source.topic == source.dead_letter_topic) {
        let text = format!("must not be {} too, the topic of archive.topic; rename one", source.topic);
        root.problem(None, "source.dead_letter_topic", text);
    }
    // These belong to another job, and are checked all the same.
    root.section_if("web").map(web);
    checkpoint(root.section("checkpoint"));
    audit(root.section("audit"));
    limits(root.section("limits"));
    if root.has("rules") {
        rules(&mut root, report);
    }
    sources::read(&mut root, source.as_ref(), report);
    alerts(root.section("alerts"), postgres.as_ref().and_then(Option::as_ref));
    connect(root.section_if("connect"));
    root.finish();
    Some(ArchiveConfig {
        startup_wait: startup_wait?,
        kafka: kafka?,
        source: source?,
        postgres: postgres?,
        archive: archive?,
        log: log?,
    })
}

fn archive(mut section: Section<'_>) -> Option<Archive> {
    let topic = section.text("topic", checks::topic);
    let group_id = section.text("group_id", checks::group_id);
    let starting_offsets = section.choice_or("starting_offsets", StartAt::Earliest);
    let checkpoint_dir = section.text("checkpoint_dir", checks::folder);
    let output_path = section.text("output_path", checks::folder);
    let max_offsets = section.number_or("max_offsets_per_trigger", DEFAULT_MAX_OFFSETS, 1..=100_000_000);
    let trigger_ms = section.number_or("trigger_interval_ms", DEFAULT_TRIGGER_MS, 10..=HOUR_MS);
    let partition_by = section.text_if("partition_by", checks::any);
    let when_group_is_missing = section.choice_or("when_group_is_missing", WhenGroupIsMissing::Resume);
    if let (Some(dir), Some(output)) = (&checkpoint_dir, &output_path)
        && let (Ok(dir), Ok(output)) = (std::path::absolute(dir), std::path::absolute(output))
        && (dir.starts_with(&output) || output.starts_with(&dir))
    {
        section.problem(None, "output_path", "and checkpoint_dir must not lie in one another; rename one");
    }
    section.finish();
    Some(Archive {
        topic: topic?,
        group_id: group_id?,
        starting_offsets: starting_offsets?,
        checkpoint_dir: PathBuf::from(checkpoint_dir?),
        output_path: PathBuf::from(output_path?),
        max_offsets_per_trigger: usize::try_from(max_offsets?).ok()?,
        trigger_interval: Duration::from_millis(u64::from(trigger_ms?)),
        partition_by,
        when_group_is_missing: when_group_is_missing?,
    })
}

/// Reads `[kafka]`. `group` is the job's own group, if that of the section belongs to another job.
fn kafka(mut section: Section<'_>, group: Option<&str>) -> Option<Kafka> {
    let bootstrap_servers = section.text("bootstrap_servers", checks::servers);
    let group_id = match group {
        None => section.text("group_id", checks::group_id),
        Some(group) => {
            section.text_if("group_id", checks::group_id);
            Some(group.to_owned())
        }
    };
    let auto_offset_reset = section.choice("auto_offset_reset");
    let when_group_is_missing = section.choice("when_group_is_missing");
    let transaction_timeout = section.millis("transaction_timeout_ms", SECOND_MS..=15 * MINUTE_MS);
    let properties = section.section("properties").properties(checks::property);
    for (name, value) in properties.iter().flatten() {
        if let Some(Err(problem)) = transaction_timeout.map(|limit| checks::within_transaction(name, value, limit)) {
            section.problem(None, &format!("properties.{name}"), problem);
        }
    }
    section.finish();
    Some(Kafka {
        bootstrap_servers: bootstrap_servers?,
        group_id: group_id?,
        auto_offset_reset: auto_offset_reset?,
        when_group_is_missing: when_group_is_missing?,
        transaction_timeout: transaction_timeout?,
        properties: properties?.into_iter().collect(),
    })
}

/// The place of the topic's name, if the section does not have the job's topic.
enum Topic<'a> {
    /// The archive's topic.
    OfArchive(&'a str),
    /// The topics in `[[sources]]`.
    OfSources,
}

fn source(mut section: Section<'_>, topic: Option<Topic<'_>>) -> Option<Source> {
    if let Some(Topic::OfSources) = topic {
        for key in ["topic", "table"].into_iter().filter(|key| section.has(key)) {
            let text =
                "is that of one source, and there are [[sources]]: name it in one of those, and leave it out here";
            section.problem(None, key, text);
        }
    }
    let topic = match topic {
        None => section.text("topic", checks::topic),
        Some(topic) => {
            section.text_if("topic", checks::topic);
            Some(if let Topic::OfArchive(topic) = topic { topic.to_owned() } else { String::new() })
        }
    };
    let table = section.text_if("table", checks::table);
    let format = section.choice("format");
    let registry = section.section_if("schema_registry").map(schema_registry);
    let decimals = section.choice("decimals");
    let times = section.choice("times");
    let binary = section.choice("binary");
    let placeholder = section.text("unavailable_value_placeholder", checks::any);
    section.renamed("nulls_kept", "connector_keeps_nulls");
    let connector_keeps_nulls = section.flag("connector_keeps_nulls");
    let on_bad_record = section.choice("on_bad_record");
    let dead_letter_topic = section.text("dead_letter_topic", checks::topic);
    section.finish();
    Some(Source {
        topic: topic?,
        table,
        format: format?,
        schema_registry: registry.map_or(Some(None), |registry| registry.map(Some))?,
        decimals: decimals?,
        times: times?,
        binary: binary?,
        unavailable_value_placeholder: placeholder?,
        connector_keeps_nulls: connector_keeps_nulls?,
        on_bad_record: on_bad_record?,
        dead_letter_topic: dead_letter_topic?,
    })
}

fn schema_registry(mut section: Section<'_>) -> Option<SchemaRegistry> {
    let url = section.text("url", checks::registry_url);
    let (has_user, has_password) = (section.has("user"), section.has("password"));
    let user = section.text_if("user", checks::any);
    let password = section.text_if("password", checks::any);
    let ca = section.text_if("ca", checks::any);
    if has_user != has_password {
        section.problem(None, if has_user { "password" } else { "user" }, "is missing: a login has both");
    }
    section.finish();
    Some(SchemaRegistry { url: url?, login: user.zip(password), ca: ca.map(PathBuf::from) })
}

fn postgres(mut section: Section<'_>) -> Option<Postgres> {
    let url = section.text("url", checks::postgres_url);
    // The value must not be 0, which Postgres reads as no limit.
    let statement_timeout = section.millis("statement_timeout_ms", 10..=10 * MINUTE_MS);
    let max_connections = section.number("max_connections", 1..=100);
    let keys_per_statement = section.number("keys_per_statement", 1..=10_000);
    let sweep_interval = section.millis("sweep_interval_ms", 0..=24 * HOUR_MS);
    let time_zone = section.text_if("time_zone", checks::time_zone);
    section.finish();
    Some(Postgres {
        url: url?,
        statement_timeout: statement_timeout?,
        max_connections: max_connections?,
        keys_per_statement: usize::try_from(keys_per_statement?).ok()?,
        sweep_interval: Some(sweep_interval?).filter(|interval| !interval.is_zero()),
        time_zone,
    })
}

fn audit(mut section: Section<'_>) -> Option<Audit> {
    let period = section.millis("period_ms", SECOND_MS..=24 * HOUR_MS);
    let share = section.share("max_database_share");
    section.finish();
    Some(Audit { period: period?, max_database_share: share? })
}

fn limits(mut section: Section<'_>) -> Option<Limits> {
    let max_rows = section.number("max_rows", 0..=u32::MAX);
    let max_rss_mb = section.number("max_rss_mb", 0..=u32::MAX);
    section.finish();
    let some = |limit: u32| usize::try_from(limit).ok().filter(|limit| *limit > 0);
    Some(Limits { max_rows: some(max_rows?), max_rss_mb: some(max_rss_mb?) })
}

fn checkpoint(mut section: Section<'_>) -> Option<Checkpoint> {
    let dir = section.text("dir", checks::any);
    let trigger_interval = section.millis("trigger_interval_ms", 10..=10 * MINUTE_MS);
    let state_interval = section.millis("state_interval_ms", SECOND_MS..=24 * HOUR_MS);
    let on_rule_change = section.choice("on_rule_change");
    let episodes_topic = section.text("episodes_topic", checks::topic);
    section.finish();
    Some(Checkpoint {
        dir: PathBuf::from(dir?),
        trigger_interval: trigger_interval?,
        state_interval: state_interval?,
        on_rule_change: on_rule_change?,
        episodes_topic: episodes_topic?,
    })
}

fn rules(root: &mut Section<'_>, report: &Report) -> Option<Vec<RuleSettings>> {
    let tables = root.tables("rules")?;
    if tables.is_empty() {
        root.problem(None, "rules", "at least one rule is needed; write one as a [[rules]] table");
    }
    let count = tables.len();
    let mut first_of: HashMap<String, usize> = HashMap::new();
    let mut rules = Vec::with_capacity(count);
    for (index, table) in tables.into_iter().enumerate() {
        let number = index + 1;
        let Some(rule) = rule(Section::new(table, format!("rule {number}: "), report)) else {
            continue;
        };
        match first_of.get(&rule.name) {
            Some(first) => {
                let text = format!("{} is the name of rule {first} too; rename one", checks::shown(&rule.name));
                report.add(None, &format!("rule {number}: name"), text);
            }
            None => {
                first_of.insert(rule.name.clone(), number);
            }
        }
        rules.push(rule);
    }
    (count > 0 && rules.len() == count).then_some(rules)
}

fn rule(mut section: Section<'_>) -> Option<RuleSettings> {
    let name = section.text("name", checks::rule_name);
    if let Some(name) = &name {
        section.rename(|prefix| format!("{} ({name}): ", prefix.trim_end_matches(": ")));
    }
    let severity = section.text_or("severity", DEFAULT_SEVERITY, checks::severity);
    let message = section.text_if("message", checks::any);
    let sql = section.text("sql", checks::any);
    section.renamed("clock", "time = \"processing\" for \"wall\", or time = \"event\"");
    let time = section.choice_or("time", Time::default());
    let confirm = section.choice_or("confirm", Confirm::default());
    let time_zone = section.text_if("time_zone", checks::time_zone);
    let evaluate = section.choice_or("evaluate", Evaluate::default());
    let key = section.texts_or_none("key");
    let max_delay = section.millis_or("max_delay_ms", DEFAULT_MAX_DELAY_MS, 0..=MINUTE_MS);
    let recheck = section.millis_or("recheck_interval_ms", MINUTE_MS, SECOND_MS..=24 * HOUR_MS);
    let sweep = section.millis_or("sweep_interval_ms", 5 * MINUTE_MS, SECOND_MS..=24 * HOUR_MS);
    section.finish();
    Some(RuleSettings {
        evaluate: evaluate?,
        key: key?,
        pace: Pace { max_delay: max_delay?, recheck: recheck?, sweep: sweep? },
        name: name?,
        severity: severity?,
        message,
        sql: sql?,
        time: time?,
        confirm: confirm?,
        time_zone,
    })
}

fn alerts(mut section: Section<'_>, database: Option<&Postgres>) -> Option<Alerts> {
    let log = section.section_if("log");
    let kafka = section.section_if("kafka");
    let postgres = section.section_if("postgres");
    section.finish();
    let none = log.is_none() && kafka.is_none() && postgres.is_none();
    let log_on = log.is_some() || none;
    if let Some(log) = log {
        log.finish();
    }
    let kafka = match kafka {
        None => Some(None),
        Some(mut kafka) => {
            let topic = kafka.text_or("topic", DEFAULT_ALERT_TOPIC, checks::topic);
            kafka.finish();
            topic.map(|topic| Some(KafkaAlerts { topic }))
        }
    };
    let postgres = match postgres {
        None => Some(None),
        Some(section) => postgres_alerts(section, database).map(Some),
    };
    Some(Alerts { log: log_on, kafka: kafka?, postgres: postgres? })
}

fn postgres_alerts(mut section: Section<'_>, database: Option<&Postgres>) -> Option<PostgresAlerts> {
    let url = if section.has("url") {
        section.text("url", checks::postgres_url)
    } else {
        // If there is no database either, that was reported before.
        section.text_or("url", database.map(|database| database.url.as_str()).unwrap_or_default(), checks::any)
    };
    let migrate = section.flag_or("migrate", true);
    section.finish();
    Some(PostgresAlerts { url: url?, migrate: migrate? })
}

fn web(mut section: Section<'_>) -> Option<Web> {
    let allow_remote = section.flag_or("allow_remote", false);
    let listen = section.text_or("listen", DEFAULT_LISTEN, |text| checks::listen(text, allow_remote == Some(true)));
    let hosts = section.text_if("hosts", checks::any).unwrap_or_default();
    section.finish();
    let hosts = hosts.split(',').map(|host| host.trim().to_owned()).filter(|host| !host.is_empty()).collect();
    Some(Web { listen: listen?.parse().ok()?, hosts })
}

fn connect(section: Option<Section<'_>>) -> Option<Option<Connect>> {
    let Some(mut section) = section else { return Some(None) };
    let url = section.text("url", checks::connect_url);
    section.finish();
    Some(Some(Connect { url: url? }))
}

fn log(mut section: Section<'_>) -> Option<Log> {
    let level = section.text("level", |level| telemetry::filter(level, None).map(drop));
    let format = section.choice("format");
    section.finish();
    Some(Log { level: level?, format: format? })
}

/// Checks that the topics differ. Records that Tripline writes must not come back as changes, and the kinds of records
/// must not be mixed.
fn distinct_topics(root: &Section<'_>, source: &Source, alerts: &Alerts, checkpoint: &Checkpoint) {
    let topics = [
        ("source.topic", Some(source.topic.as_str())),
        ("source.dead_letter_topic", Some(source.dead_letter_topic.as_str())),
        ("alerts.kafka.topic", alerts.kafka.as_ref().map(|kafka| kafka.topic.as_str())),
        ("checkpoint.episodes_topic", Some(checkpoint.episodes_topic.as_str())),
    ];
    for (index, (key, topic)) in topics.iter().enumerate() {
        for (other, other_topic) in topics.iter().take(index) {
            if topic.is_some() && topic == other_topic {
                root.problem(None, key, format!("must not be the topic of {other} too; rename one"));
            }
        }
    }
}
