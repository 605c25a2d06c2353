//! `tripline explain`: why an alert came, and what has changed since.
//!
//! - `report`: the answer, as text and as JSON

mod report;

use std::io::{Read, Write};
use std::path::Path;
use std::time::Duration;

use serde_json::Value as Json;
use sqlx::Connection;
use uuid::Uuid;

use super::failure::Failure;
use super::table::Place;
use super::{Exit, ExplainArgs, Explanation};
use crate::config::{self, Config, RuleSettings};
use crate::confirm::catalog::{self, CatalogError};
use crate::confirm::explain::{Present, Subject, columns, outputs, present};
use crate::rule::parse::parse;
use crate::rule::{Query, compile};
use crate::sink::postgres::stored::{self, Record};
use crate::telemetry;
use report::Report;

/// Records are small; a mistaken file should not be read into memory.
const FILE_MAX_BYTES: u64 = 256 * 1024 * 1024;

/// Explains an alert.
///
/// # Errors
/// A [`Failure`] that says how the process is to end.
pub async fn explain(args: &ExplainArgs) -> Result<(), Failure> {
    let wrong = |message: String| Failure::new(Exit::Misconfigured, message);
    let config = config::load(&args.config, config::process_environment()).map_err(|e| wrong(e.to_string()))?;
    telemetry::init(&config.log.level, config.log.format).map_err(wrong)?;
    let record = match &args.from {
        Some(path) => from_file(path, args.id).map_err(wrong)?,
        None => from_table(&config, args.id.unwrap_or_default()).await?,
    };
    let place = Place::of_rules(&config)?;
    let rule = match config.rules.iter().find(|rule| rule.name == record.rule) {
        None => RuleNow { version: None, found: Err(format!("the configuration has no rule {}", record.rule)) },
        Some(rule) => ask(&place, rule, &record).await?,
    };
    let report = Report::new(&record, &rule);
    let text = match args.output {
        Explanation::Text => report.text(),
        Explanation::Json => format!("{}\n", report.json()),
    };
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Failure::new(Exit::Failed, format!("standard output: {error}")))
        }
        _ => Ok(()),
    }
}

/// The alert's rule as it is configured now.
struct RuleNow {
    /// Its version; `None` when there is no such rule, or it does not fit its table.
    version: Option<String>,
    /// What Postgres says, or why it was not asked.
    found: Result<Found, String>,
}

/// What Postgres says now, with the names that go with it.
struct Found {
    /// Of the aggregates.
    outputs: Vec<String>,
    /// Whether the alert has a number for each.
    known: Vec<bool>,
    /// Which of them is COUNT(*).
    count: Option<usize>,
    /// Of the rows' columns.
    columns: Vec<String>,
    present: Present,
}

async fn from_table(config: &Config, id: Uuid) -> Result<Record, Failure> {
    let place = Place::of_table(config)?;
    let mut connection = place.connect(Duration::ZERO).await?;
    let found = stored::find(&mut connection, id).await.map_err(|error| place.failed(&error))?;
    let _ = connection.close().await;
    found.ok_or_else(|| {
        let problem = format!(
            "tripline.alerts at {} has no alert {id}; --from takes it from a file of the alert topic's records",
            place.shown()
        );
        Failure::new(Exit::Misconfigured, problem)
    })
}

fn from_file(path: &Path, id: Option<Uuid>) -> Result<Record, String> {
    let mut text = String::new();
    let read = if path.as_os_str() == "-" {
        std::io::stdin().take(FILE_MAX_BYTES).read_to_string(&mut text)
    } else {
        std::fs::File::open(path).and_then(|file| file.take(FILE_MAX_BYTES).read_to_string(&mut text))
    };
    let name = path.display();
    read.map_err(|error| format!("{name} cannot be read: {error}"))?;
    pick(&text, id).map_err(|problem| format!("{name}: {problem}"))
}

/// The record of this id among several, one JSON value after the other; the only one where no id is given.
fn pick(text: &str, id: Option<Uuid>) -> Result<Record, String> {
    let mut found: Option<Record> = None;
    for value in serde_json::Deserializer::from_str(text).into_iter::<Json>() {
        let value = value.map_err(|error| format!("not JSON: {error}"))?;
        let text = value.get("id").and_then(Json::as_str).and_then(|text| Uuid::parse_str(text).ok());
        if id.is_some() && text != id {
            continue;
        }
        let record = Record::parse(&value.to_string()).map_err(|error| format!("not an alert record: {error}"))?;
        // A retry repeats a record byte for byte.
        if found.as_ref().is_some_and(|found| found.id != record.id) {
            return Err("there are several alerts in it; give the id of one".to_owned());
        }
        found = Some(record);
    }
    found.ok_or_else(|| match id {
        Some(id) => format!("there is no alert {id} in it"),
        None => "there is no alert in it".to_owned(),
    })
}

/// Asks Postgres with the rule's own query. What is wrong with the rule is told; a server that does not answer ends
/// the command.
async fn ask(place: &Place, rule: &RuleSettings, record: &Record) -> Result<RuleNow, Failure> {
    let none = |problem: String| RuleNow { version: None, found: Err(problem) };
    let parsed = match parse(&rule.sql) {
        Ok(parsed) => parsed,
        Err(error) => return Ok(none(format!("rule {}: sql, {error}", rule.name))),
    };
    let mut connection = place.connect(Duration::ZERO).await?;
    let table = match catalog::table(&mut connection, &parsed.schema.text, &parsed.table.text).await {
        Ok(table) => table,
        Err(CatalogError::Connection(error)) => return Err(place.failed(&error)),
        Err(error) => return Ok(none(format!("rule {}: {error}", rule.name))),
    };
    let query = match compile::compile(&parsed, &table) {
        Ok(query) => query,
        Err(error) => return Ok(none(format!("rule {}: sql, {error}", rule.name))),
    };
    let version = Some(compile::version(&query, rule.clock, rule.confirm));
    let Some(key) = key_texts(&query, record) else {
        let problem = "the rule is now grouped by another column, so the alert's key cannot be asked for".to_owned();
        return Ok(RuleNow { version, found: Err(problem) });
    };
    let numbers = numbers(&query, record);
    let texts: Vec<Option<String>> = numbers.iter().map(|number| number.and_then(text)).collect();
    let subject = Subject {
        query: &query,
        clock: rule.clock,
        key: &key,
        from: record.window.from.as_deref(),
        as_of: record.confirmation("as_of").as_str().unwrap_or(&record.window.to),
        numbers: &texts,
    };
    let present = present(&mut connection, &subject).await.map_err(|error| place.failed(&error))?;
    let _ = connection.close().await;
    let known = numbers.iter().map(Option::is_some).collect();
    Ok(RuleNow { version, found: Ok(Found::new(&query, known, present)) })
}

impl Found {
    fn new(query: &Query, known: Vec<bool>, present: Present) -> Self {
        let named = outputs(query);
        let is_count = |index: &usize| query.aggregates.get(*index) == Some(&crate::rule::Aggregate::CountRows);
        let name =
            |index: &usize| query.table.columns.get(*index).map(|column| column.name.clone()).unwrap_or_default();
        Self {
            outputs: named.iter().map(|(name, _)| (*name).to_owned()).collect(),
            known,
            count: named.iter().position(|(_, index)| is_count(index)),
            columns: columns(query).iter().map(name).collect(),
            present,
        }
    }
}

/// The alert's key as parameters; `None` where the rule has other key columns.
fn key_texts(query: &Query, record: &Record) -> Option<Vec<Option<String>>> {
    if query.group_by.len() != record.key.len() {
        return None;
    }
    let names = query.group_by.iter().map(|index| query.table.columns.get(*index).map(|column| &column.name));
    names.map(|name| record.key.get(name?).map(text)).collect()
}

/// The alert's own number for each output: what the database said, or the stream where it was not asked.
fn numbers<'a>(query: &Query, record: &'a Record) -> Vec<Option<&'a Json>> {
    let numbers = record.database.as_ref().unwrap_or(&record.stream);
    outputs(query).iter().map(|(name, _)| numbers.get(*name)).collect()
}

/// A value as Postgres reads it; `None` for NULL.
fn text(value: &Json) -> Option<String> {
    match value {
        Json::Null => None,
        Json::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    }
}

#[cfg(test)]
mod tests;
