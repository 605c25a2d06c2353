//! Which settings there are and what they may hold: the merged tables → [`Config`].
//!
//! Every function reads its whole section before it gives up, so that all problems are reported at once.

use std::collections::HashMap;
use std::path::PathBuf;

use super::reader::{Report, Section, Table};
use super::{
    Alerts, Checkpoint, Config, Kafka, KafkaAlerts, Limits, Log, Postgres, PostgresAlerts, RuleSettings, Source, checks,
};
use crate::telemetry;

/// Defaults of what is optional as a whole, and so is commented out in config/default.toml.
const DEFAULT_SEVERITY: &str = "warning";
const DEFAULT_ALERT_TOPIC: &str = "tripline.alerts";

const SECOND_MS: u32 = 1_000;
const MINUTE_MS: u32 = 60 * SECOND_MS;
const HOUR_MS: u32 = 60 * MINUTE_MS;

/// `None` if anything was reported.
pub(super) fn read(merged: Table, report: &Report) -> Option<Config> {
    let mut root = Section::new(merged, "", report);
    let startup_wait = root.millis("startup_wait_ms", 0..=HOUR_MS);
    let kafka = kafka(root.section("kafka"));
    let source = source(root.section("source"));
    let postgres = postgres(root.section("postgres"));
    let checkpoint = checkpoint(root.section("checkpoint"));
    let limits = limits(root.section("limits"));
    let rules = rules(&mut root, report);
    let alerts = alerts(root.section("alerts"), postgres.as_ref());
    let log = log(root.section("log"));
    if let (Some(source), Some(alerts), Some(checkpoint)) = (&source, &alerts, &checkpoint) {
        distinct_topics(&root, source, alerts, checkpoint);
    }
    root.finish();
    Some(Config {
        startup_wait: startup_wait?,
        kafka: kafka?,
        source: source?,
        postgres: postgres?,
        checkpoint: checkpoint?,
        limits: limits?,
        rules: rules?,
        alerts: alerts?,
        log: log?,
    })
}

fn kafka(mut section: Section<'_>) -> Option<Kafka> {
    let bootstrap_servers = section.text("bootstrap_servers", checks::servers);
    let group_id = section.text("group_id", checks::group_id);
    let auto_offset_reset = section.choice("auto_offset_reset");
    let when_group_is_missing = section.choice("when_group_is_missing");
    let properties = section.section("properties").properties(checks::property);
    section.finish();
    Some(Kafka {
        bootstrap_servers: bootstrap_servers?,
        group_id: group_id?,
        auto_offset_reset: auto_offset_reset?,
        when_group_is_missing: when_group_is_missing?,
        properties: properties?.into_iter().collect(),
    })
}

fn source(mut section: Section<'_>) -> Option<Source> {
    let topic = section.text("topic", checks::topic);
    let decimals = section.choice("decimals");
    let times = section.choice("times");
    let nulls_kept = section.flag("nulls_kept");
    let on_bad_record = section.choice("on_bad_record");
    let dead_letter_topic = section.text("dead_letter_topic", checks::topic);
    section.finish();
    Some(Source {
        topic: topic?,
        decimals: decimals?,
        times: times?,
        nulls_kept: nulls_kept?,
        on_bad_record: on_bad_record?,
        dead_letter_topic: dead_letter_topic?,
    })
}

fn postgres(mut section: Section<'_>) -> Option<Postgres> {
    let url = section.text("url", checks::postgres_url);
    // Not 0, which Postgres takes for no limit.
    let statement_timeout = section.millis("statement_timeout_ms", 10..=10 * MINUTE_MS);
    let max_connections = section.number("max_connections", 1..=100);
    let keys_per_statement = section.number("keys_per_statement", 1..=10_000);
    let sweep_interval = section.millis("sweep_interval_ms", 0..=24 * HOUR_MS);
    section.finish();
    Some(Postgres {
        url: url?,
        statement_timeout: statement_timeout?,
        max_connections: max_connections?,
        keys_per_statement: usize::try_from(keys_per_statement?).ok()?,
        sweep_interval: Some(sweep_interval?).filter(|interval| !interval.is_zero()),
    })
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
    let clock = section.choice_or_default("clock");
    let confirm = section.choice_or_default("confirm");
    section.finish();
    Some(RuleSettings { name: name?, severity: severity?, message, sql: sql?, clock: clock?, confirm: confirm? })
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
        // Where there is no database either, that has been reported.
        section.text_or("url", database.map(|database| database.url.as_str()).unwrap_or_default(), checks::any)
    };
    let migrate = section.flag_or("migrate", true);
    section.finish();
    Some(PostgresAlerts { url: url?, migrate: migrate? })
}

fn log(mut section: Section<'_>) -> Option<Log> {
    let level = section.text("level", |level| telemetry::filter(level, None).map(drop));
    let format = section.choice("format");
    section.finish();
    Some(Log { level: level?, format: format? })
}

/// What Tripline writes must not come back as changes, nor one kind of record as another.
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
