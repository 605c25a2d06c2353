//! The connector that writes the topic. Pure.

use serde_json::Value as Json;

use super::super::facts::Connector;
use super::super::finding::{Finding, ok, problem, warning};
use super::kept_back::{is_listed, kept_back};
use super::transforms::{self, version};
use crate::change::debezium::{DecimalHandling, TimePrecision, UNAVAILABLE};
use crate::config::Config;
use crate::failure::{Exit, Failure};
use crate::model::{ColumnType, Table};

/// The greatest length of a stack trace in a finding.
const TRACE_MAX: usize = 300;

/// Parses the answer to `GET /connectors?expand=info&expand=status`. Returns `None` if it is something else. `plugins`
/// is the answer to `GET /connector-plugins`.
pub(in crate::app::doctor) fn connectors(answer: &Json, plugins: &Json) -> Option<Vec<Connector>> {
    let text = |value: &Json| value.as_str().map(str::to_owned);
    let connector = |(name, found): (&String, &Json)| {
        let (info, status) = (found.get("info")?, found.get("status")?);
        let config = info.get("config")?.as_object()?;
        let tasks = status.get("tasks")?.as_array()?;
        let task =
            |task: &Json| (task.get("state").and_then(text).unwrap_or_default(), task.get("trace").and_then(text));
        let own = status.get("connector")?;
        let class = config.get("connector.class")?;
        let plugin = plugins.as_array().into_iter().flatten().find(|plugin| plugin.get("class") == Some(class));
        Some(Connector {
            version: plugin.and_then(|plugin| text(plugin.get("version")?)),
            name: name.clone(),
            config: config.iter().filter_map(|(name, value)| Some((name.clone(), text(value)?))).collect(),
            state: text(own.get("state")?)?,
            trace: own.get("trace").and_then(text),
            tasks: tasks.iter().map(task).collect(),
        })
    };
    answer.as_object()?.iter().map(connector).collect()
}

/// Finds the connector that writes this topic, by its settings.
pub(in crate::app::doctor) fn of_topic<'a>(
    connectors: &'a [Connector],
    topic: &str,
    table: Option<(&str, &str)>,
) -> Option<&'a Connector> {
    let by_prefix = |connector: &Connector| match table {
        Some(table) => written(connector, table).is_some_and(|written| written == topic),
        None => {
            let start = format!("{}{}", prefix(connector), connector.setting("topic.delimiter", "."));
            !prefix(connector).is_empty() && topic.starts_with(&sanitised(&start))
        }
    };
    // RegexRouter and ByLogicalTableRouter have the name of the topic that they write in a setting.
    let renamed = |connector: &Connector| {
        let names = |(name, value): (&String, &String)| {
            name.starts_with("transforms.") && name.ends_with("replacement") && value == topic
        };
        connector.config.iter().any(names)
    };
    let of_topic = connectors.iter().filter(|one| is_postgres(one)).filter(|one| renamed(one) || by_prefix(one));
    of_topic.max_by_key(|connector| prefix(connector).len()) // one prefix may begin with another
}

fn is_postgres(connector: &Connector) -> bool {
    connector.setting("connector.class", "").ends_with("PostgresConnector")
}

fn prefix(connector: &Connector) -> &str {
    connector.setting("topic.prefix", "")
}

/// Returns the topic to which a connector writes a table's changes, unless a transform renames it.
fn written(connector: &Connector, (schema, name): (&str, &str)) -> Option<String> {
    let delimiter = connector.setting("topic.delimiter", ".");
    let prefix = prefix(connector);
    (!prefix.is_empty()).then(|| sanitised(&format!("{prefix}{delimiter}{schema}{delimiter}{name}")))
}

/// Returns a topic's name as Debezium writes it. Characters that Kafka does not accept become underscores, one for each
/// UTF-16 unit. The name is cut to Kafka's limit.
fn sanitised(name: &str) -> String {
    const LENGTH_MAX: usize = 249;
    let is_taken = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let plain: String =
        name.chars().map(|c| if is_taken(c) { c.to_string() } else { "_".repeat(c.len_utf16()) }).collect();
    plain.chars().take(LENGTH_MAX).collect()
}

/// Returns the fix for a topic that no connector writes: the topics of the table's changes, if there are any.
fn other_topics(connectors: &[Connector], table: Option<(&str, &str)>) -> Option<String> {
    let (schema, name) = table?;
    let takes = |connector: &&Connector| {
        let list = connector.setting("table.include.list", "");
        is_postgres(connector) && (list.is_empty() || is_listed(list, &format!("{schema}.{name}")) != Some(false))
    };
    let topics = connectors.iter().filter(takes);
    let topics: Vec<String> = topics
        .filter_map(|connector| {
            Some(format!("\"{}\" (connector {})", written(connector, (schema, name))?, connector.name))
        })
        .collect();
    (!topics.is_empty()).then(|| format!("source.topic = {}", topics.join(", or ")))
}

/// Runs all checks of the connector. `base` is Connect's URL without secrets.
pub(in crate::app::doctor) fn connect(
    config: &Config,
    base: &str,
    answered: &Result<Vec<Connector>, Failure>,
    table: Option<(&str, &str)>,
    columns: Option<(&Table, &[usize])>,
) -> Vec<Finding> {
    let connectors = match answered {
        Ok(connectors) => connectors,
        Err(Failure { exit, message, .. }) => {
            let fix = "start Kafka Connect, or correct --connect or connect.url";
            return vec![problem("connect", format!("Connect at {base}: {message}"), fix).ends(*exit)];
        }
    };
    let topic = &config.source.topic;
    let mut found = vec![ok("connect", format!("{base} answers, connectors: {}", connectors.len()))];
    let Some(connector) = of_topic(connectors, topic, table) else {
        let names: Vec<&str> = connectors.iter().map(|connector| connector.name.as_str()).collect();
        let others =
            if names.is_empty() { "there is none".to_owned() } else { format!("there are {}", names.join(", ")) };
        let add = format!(
            "curl -X PUT -H 'Content-Type: application/json' --data-binary @connector.json {base}/connectors/NAME/config"
        );
        let fix = match other_topics(connectors, table) {
            Some(other) => format!("{other}; or add a connector: {add}"),
            None => add,
        };
        found.push(problem("connector", format!("no connector writes {topic}; {others}"), fix));
        return found;
    };
    let at = At { base, connector };
    found.extend(states(&at));
    found.extend(version(connector, table, columns));
    found.extend(settings(config, &at, columns));
    found.extend(kept_back(&at, columns));
    found
}

/// A connector and the URL of Connect.
pub(super) struct At<'a> {
    pub(super) base: &'a str,
    pub(super) connector: &'a Connector,
}

impl At<'_> {
    fn url(&self) -> String {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
        let encode = |byte: u8| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") };
        let name: String = self.connector.name.bytes().map(encode).collect();
        format!("{}/connectors/{name}", self.base)
    }

    fn restart(&self) -> String {
        format!("curl -X POST '{}/restart?includeTasks=true&onlyFailed=true', once its cause is mended", self.url())
    }

    /// Returns the command that changes the connector's settings by a jq filter.
    pub(super) fn change(&self, filter: &str) -> String {
        let config = format!("{}/config", self.url());
        format!(
            "curl -s {config} | jq '{filter}' | curl -X PUT -H 'Content-Type: application/json' --data-binary @- {config}"
        )
    }

    pub(super) fn set(&self, name: &str, value: &str) -> String {
        self.change(&format!(".\"{name}\"=\"{value}\""))
    }
}

/// Returns the first line of a stack trace, and its last cause.
fn cause(trace: Option<&str>) -> String {
    let trace = trace.unwrap_or("without a trace");
    let first = trace.lines().next().unwrap_or_default().trim();
    let last = trace.lines().filter_map(|line| line.trim().strip_prefix("Caused by: ")).next_back();
    let text = last.map_or_else(|| first.to_owned(), |last| format!("{first} … caused by {last}"));
    let mut shown: String = text.chars().take(TRACE_MAX).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    shown
}

fn states(at: &At<'_>) -> Vec<Finding> {
    let Connector { name, state, trace, tasks, .. } = at.connector;
    let resume = format!("curl -X PUT {}/resume", at.url());
    let mut found = vec![match state.as_str() {
        "RUNNING" => ok("connector", format!("{name} is RUNNING")),
        "PAUSED" | "STOPPED" => {
            problem("connector", format!("{name} is {state}: no change comes into the topic"), resume)
        }
        "FAILED" => problem("connector", format!("{name} is FAILED: {}", cause(trace.as_deref())), at.restart()),
        _ => warning("connector", format!("{name} is {state}"), format!("look again: curl -s {}/status", at.url())),
    }];
    if state != "RUNNING" {
        return found;
    }
    if tasks.is_empty() {
        found.push(problem("task", format!("{name} has no task: no change comes into the topic"), at.restart()));
    }
    for (number, (state, trace)) in tasks.iter().enumerate() {
        found.push(match state.as_str() {
            "RUNNING" => ok("task", format!("task {number} of {name} is RUNNING")),
            "FAILED" => {
                problem("task", format!("task {number} of {name} is FAILED: {}", cause(trace.as_deref())), at.restart())
            }
            _ => warning(
                "task",
                format!("task {number} of {name} is {state}"),
                format!("look again: curl -s {}/status", at.url()),
            ),
        });
    }
    found
}

fn settings(config: &Config, at: &At<'_>, columns: Option<(&Table, &[usize])>) -> Vec<Finding> {
    let connector = at.connector;
    let mut found = Vec::new();
    found.extend(transforms::unwrapped(at));
    found.push(nulls(config, at, columns));
    found.push(decimals(config, at));
    found.extend(super::schema_ids::schema_ids(config, at));
    found.extend(special_numbers(at, columns));
    found.push(times(config, at, columns));
    found.push(placeholder(config, at));
    let skipped = connector.setting("skipped.operations", "t");
    let letters: Vec<&str> = skipped.split(',').map(str::trim).collect();
    let whole = at.set("skipped.operations", "none");
    found.push(if letters.iter().any(|letter| ["c", "u", "d"].contains(letter)) {
        problem("operations", format!("skipped.operations={skipped}: changes are left out"), whole)
    } else if letters.contains(&"t") {
        warning("operations", format!("skipped.operations={skipped}: a TRUNCATE would go unnoticed"), whole)
    } else {
        ok("operations", "no kind of change is left out")
    });
    found.push(match connector.setting("tombstones.on.delete", "true") {
        "true" => ok("tombstones", "a delete is followed by a tombstone"),
        _ => warning(
            "tombstones",
            "tombstones.on.delete=false: a compacted topic would keep the last record of every deleted row for ever",
            at.set("tombstones.on.delete", "true"),
        ),
    });
    found
}

/// Checks how the connector writes NULL in a column with a default.
fn nulls(config: &Config, at: &At<'_>, columns: Option<(&Table, &[usize])>) -> Finding {
    const CHECK: &str = "nulls";
    let connector = at.connector;
    let converter = connector.setting("value.converter", "");
    // Confluent's Avro converter has another name for this setting, with the opposite meaning.
    let (name, kept_by, default) = match converter.contains("confluent") {
        true => ("value.converter.ignore.default.for.nullables", "true", "false"),
        false => ("value.converter.replace.null.with.default", "false", "true"),
    };
    let own = connector.config.contains_key("value.converter");
    let kept = connector.setting(name, default) == kept_by;
    let at_risk = |(table, wanted): (&Table, &[usize])| {
        let column = wanted.iter().filter_map(|index| table.columns.get(*index));
        column.filter(|column| column.nullable && column.has_default).map(|column| column.name.clone()).next()
    };
    let at_risk = columns.and_then(at_risk);
    if converter.contains("apicurio") && converter.contains("Avro") {
        let text = "Apicurio's converter has no setting that keeps NULL in a column with a default";
        return match at_risk {
            Some(column) => {
                let text = format!("{text}, and a rule reads column {column}");
                problem(
                    CHECK,
                    text,
                    format!("ALTER TABLE … ALTER COLUMN {column} DROP DEFAULT, or a rule without that column"),
                )
            }
            None => ok(CHECK, format!("{text}; no rule reads such a column")),
        };
    }
    let fix = format!("{}; and source.connector_keeps_nulls = true", at.set(name, kept_by));
    match (kept, config.source.connector_keeps_nulls, at_risk) {
        (true, true, _) => ok(CHECK, "NULL comes as NULL"),
        (true, false, Some(column)) => warning(
            CHECK,
            format!("NULL comes as NULL, also in column {column}, and source.connector_keeps_nulls is false"),
            "source.connector_keeps_nulls = true",
        ),
        (true, false, None) => ok(CHECK, "NULL comes as NULL"),
        (false, true, _) if own => problem(
            CHECK,
            format!(
                "the converter writes a column's default instead of NULL ({name} is not {kept_by}), and source.connector_keeps_nulls is true: sums would differ from Postgres's"
            ),
            at.set(name, kept_by),
        ),
        (false, true, _) => warning(
            CHECK,
            format!(
                "source.connector_keeps_nulls is true, and {name} is not set in the connector: the worker's own setting cannot be seen from here"
            ),
            at.set(name, kept_by),
        ),
        (false, false, Some(column)) => problem(
            CHECK,
            format!("the converter writes column {column}'s default instead of NULL ({name} is not {kept_by})"),
            fix,
        ),
        (false, false, None) => warning(
            CHECK,
            format!(
                "the converter writes a column's default instead of NULL ({name} is not {kept_by}); no rule reads such a column yet"
            ),
            fix,
        ),
    }
}

/// Whether the records contain the schema of their values.
fn has_schemas(connector: &Connector) -> bool {
    connector.config.contains_key("value.converter")
        && connector.setting("value.converter.schemas.enable", "true") == "true"
}

fn decimals(config: &Config, at: &At<'_>) -> Finding {
    const CHECK: &str = "decimals";
    const NAME: &str = "decimal.handling.mode";
    let mode = at.connector.setting(NAME, "precise");
    let ours = match config.source.decimals {
        DecimalHandling::Auto => "auto",
        DecimalHandling::String => "string",
        DecimalHandling::Precise => "precise",
        DecimalHandling::Double => "double",
    };
    match mode {
        "double" if ours == "double" => warning(
            CHECK,
            format!(
                "{NAME}=double, and source.decimals = \"double\": amounts of more than 15 digits are rounded, and sums near a threshold may differ from Postgres's"
            ),
            at.set(NAME, "string"),
        ),
        "double" => problem(
            CHECK,
            format!("{NAME}=double: amounts are rounded before they are written"),
            format!("{}; then read a topic without the rounded records", at.set(NAME, "string")),
        ),
        "string" | "precise" if ours == mode || ours == "auto" || has_schemas(at.connector) => {
            ok(CHECK, format!("{NAME}={mode}, source.decimals = \"{ours}\""))
        }
        _ => problem(
            CHECK,
            format!("{NAME}={mode}, and source.decimals = \"{ours}\": amounts would not be read, or wrong"),
            format!("source.decimals = \"{}\"", if mode == "precise" { "precise" } else { "string" }),
        )
        .ends(Exit::Misconfigured),
    }
}

/// Warns of NaN and infinities, which Kafka Connect's Decimal does not have.
fn special_numbers(at: &At<'_>, columns: Option<(&Table, &[usize])>) -> Option<Finding> {
    const NAME: &str = "decimal.handling.mode";
    let (table, wanted) = columns.filter(|_| at.connector.setting(NAME, "precise") == "precise")?;
    let mut read = wanted.iter().filter_map(|index| table.columns.get(*index));
    let column = read.find(|column| matches!(column.ty, ColumnType::Numeric { .. }))?;
    Some(warning(
        "nan",
        format!(
            "{NAME}=precise: NaN in column {} arrives as NULL (or the column's default), and is not seen",
            column.name
        ),
        format!("{}; or a CHECK in the table that allows no NaN", at.set(NAME, "string")),
    ))
}

/// Checks the placeholder for a large value that a change did not touch.
fn placeholder(config: &Config, at: &At<'_>) -> Finding {
    const CHECK: &str = "placeholder";
    const NAME: &str = "unavailable.value.placeholder";
    let theirs = at.connector.setting(NAME, UNAVAILABLE);
    let ours = config.source.unavailable_value_placeholder.as_str();
    if theirs == ours {
        return ok(CHECK, format!("{NAME}={theirs}"));
    }
    problem(
        CHECK,
        format!(
            "{NAME}={theirs}, and source.unavailable_value_placeholder = {ours:?}: a large value that a change did not \
             touch would be taken for that text"
        ),
        format!("source.unavailable_value_placeholder = {theirs:?}"),
    )
    .ends(Exit::Misconfigured)
}

fn times(config: &Config, at: &At<'_>, columns: Option<(&Table, &[usize])>) -> Finding {
    const CHECK: &str = "times";
    const NAME: &str = "time.precision.mode";
    let mode = at.connector.setting(NAME, "adaptive");
    let ours = match config.source.times {
        TimePrecision::Adaptive => "adaptive",
        TimePrecision::AdaptiveTimeMicroseconds => "adaptive_time_microseconds",
        TimePrecision::Microseconds => "microseconds",
        TimePrecision::Nanoseconds => "nanoseconds",
        TimePrecision::Connect => "connect",
        TimePrecision::Isostring => "isostring",
    };
    let plain = |mode: &str| mode.replace("adaptive_time_microseconds", "adaptive");
    if plain(mode) == plain(ours) || has_schemas(at.connector) {
        return ok(CHECK, format!("{NAME}={mode}, source.times = \"{ours}\""));
    }
    let depends = |(table, wanted): (&Table, &[usize])| {
        let of = |index: &usize| table.columns.get(*index).map(|column| &column.ty);
        wanted.iter().filter_map(of).any(|ty| matches!(ty, ColumnType::Timestamp { .. } | ColumnType::Date))
    };
    let text = format!("{NAME}={mode}, and source.times = \"{ours}\"");
    let fix = format!("source.times = \"{mode}\"");
    if columns.is_some_and(depends) {
        problem(CHECK, format!("{text}: times of columns without a zone would be wrong"), fix).ends(Exit::Misconfigured)
    } else {
        warning(CHECK, format!("{text}: no column that a rule reads depends on it yet"), fix)
    }
}
