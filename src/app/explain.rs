//! Why an alert fired, and what has changed since then.

use serde_json::Value as Json;
use sqlx::Connection;
use uuid::Uuid;

use super::alerts_table::AlertsTable;
use super::rules::wanted_zone;
use super::servers::rules_database;
use crate::alert::is_cut;
use crate::alert::record::AlertRecord;
use crate::config::{Config, RuleSettings};
use crate::confirm::postgres::catalog::{self, CatalogError};
use crate::confirm::postgres::explain::{Present, Subject, columns, outputs, present};
use crate::failure::Failure;
use crate::postgres::zones::{Zones, set_zone};
use crate::postgres::{Database, Sees};
use crate::retry::Retry;
use crate::rule::parse::parse;
use crate::rule::{Aggregate, Output, OutputExpr, Query, compile};
use crate::sink::postgres::stored;

/// The alert's rule as it is configured now.
pub struct RuleNow {
    /// The rule's version. `None` if there is no such rule, or it does not fit its table.
    pub version: Option<String>,
    /// Postgres's answer, or why it was not asked.
    pub found: Result<RowsNow, String>,
}

/// Postgres's current answer, with names.
pub struct RowsNow {
    /// The names of the aggregates.
    pub outputs: Vec<String>,
    /// Whether the alert has a number for each aggregate.
    pub known: Vec<bool>,
    /// The index of COUNT(*) among the aggregates.
    pub count: Option<usize>,
    /// The names of the rows' columns.
    pub columns: Vec<String>,
    /// The rows and their totals.
    pub present: Present,
}

/// Reads the alert with this id from the table.
///
/// # Errors
/// There is no such alert, or the server cannot be reached, or refuses.
pub async fn find(config: &Config, id: Uuid) -> Result<AlertRecord, Failure> {
    let table = AlertsTable::of(config)?;
    let mut connection = table.connect(Retry::ONCE).await?;
    let found = stored::find(&mut connection, id).await.map_err(|error| table.failed(error))?;
    let _ = connection.close().await;
    found.ok_or_else(|| {
        Failure::misconfigured(format!(
            "tripline.alerts at {} has no alert {id}; --from takes it from a file with records of the alert topic",
            table.shown()
        ))
    })
}

/// Asks Postgres about an alert's key.
///
/// # Errors
/// The server cannot be reached, or refuses. A problem with the rule is part of the answer.
pub async fn explain(config: &Config, record: &AlertRecord) -> Result<RuleNow, Failure> {
    let database = rules_database(&config.postgres)?;
    match config.rules.iter().find(|rule| rule.name == record.rule) {
        None => Ok(RuleNow { version: None, found: Err(format!("the configuration has no rule {}", record.rule)) }),
        Some(_) if record.having.is_none() => Ok(RuleNow {
            version: None,
            found: Err(format!(
                "Postgres alone evaluates rule {}, so no rows are known to be behind the alert; run its query with the key in a \
                 condition to see what it returns now",
                record.rule
            )),
        }),
        Some(rule) => ask(config, &database, rule, record).await,
    }
}

/// Asks Postgres with the rule's own query.
async fn ask(
    config: &Config,
    database: &Database,
    rule: &RuleSettings,
    record: &AlertRecord,
) -> Result<RuleNow, Failure> {
    let none = |problem: String| RuleNow { version: None, found: Err(problem) };
    let parsed = match parse(&rule.sql) {
        Ok(parsed) => parsed,
        Err(error) => return Ok(none(format!("rule {}: sql, {error}", rule.name))),
    };
    let mut connection = database.connect(Retry::ONCE).await?;
    let failed = |error| database.failed(error);
    let mut transaction = database.begin(&mut connection, Sees::Same, "UTC").await.map_err(failed)?;
    let table = match catalog::table(&mut transaction, &parsed.schema.text, &parsed.table.text).await {
        Ok(table) => table,
        Err(CatalogError::Connection(error)) => return Err(database.failed(error).into()),
        Err(error) => return Ok(none(format!("rule {}: {error}", rule.name))),
    };
    let query = match compile::compile(&parsed, &table) {
        Ok(query) => query,
        Err(error) => return Ok(none(format!("rule {}: sql, {error}", rule.name))),
    };
    let version = Some(compile::version(&query, rule.time, rule.confirm));
    let Some(key) = key_texts(&query, record) else {
        let problem = "the rule is now grouped by another column, so the alert's key cannot be asked for".to_owned();
        return Ok(RuleNow { version, found: Err(problem) });
    };
    if key.iter().flatten().any(|text| is_cut(text)) {
        let problem = "the alert has only the beginning of its key, which is too long for a record, so the key cannot be \
                       asked for";
        return Ok(RuleNow { version, found: Err(problem.to_owned()) });
    }
    let numbers = numbers(&query, record);
    let texts: Vec<Option<String>> = numbers.iter().map(|number| number.and_then(text)).collect();
    let subject = Subject {
        query: &query,
        time: rule.time,
        key: &key,
        from: record.window.from.as_deref(),
        as_of: record.confirmation("as_of").as_str().unwrap_or(&record.window.to),
        numbers: &texts,
    };
    let zones = Zones::new(database.clone(), vec![wanted_zone(rule, &config.postgres, &query)]).names().await?;
    let zone = zones.first().map_or("UTC", String::as_str);
    set_zone(&mut transaction, zone).await.map_err(failed)?;
    let present = present(&mut transaction, &subject).await.map_err(failed)?;
    transaction.rollback().await.map_err(failed)?;
    let _ = connection.close().await;
    let is_number = |output: &&Output| matches!(output.expr, OutputExpr::Value(_, ty) if ty.is_number());
    let known =
        outputs(&query).iter().zip(&numbers).map(|(output, number)| number.is_some() && is_number(output)).collect();
    Ok(RuleNow { version, found: Ok(RowsNow::new(&query, known, present)) })
}

impl RowsNow {
    fn new(query: &Query, known: Vec<bool>, present: Present) -> Self {
        let named = outputs(query);
        let name =
            |index: &usize| query.table.columns.get(*index).map(|column| column.name.clone()).unwrap_or_default();
        Self {
            outputs: named.iter().map(|output| output.name.clone()).collect(),
            known,
            count: named.iter().position(|output| {
                output.aggregate().and_then(|index| query.aggregates.get(index)) == Some(&Aggregate::COUNT_ROWS)
            }),
            columns: columns(query).iter().map(name).collect(),
            present,
        }
    }
}

/// Returns the alert's key as parameters. `None` where the rule has other key columns.
fn key_texts(query: &Query, record: &AlertRecord) -> Option<Vec<Option<String>>> {
    if query.group_by.len() != record.key.len() {
        return None;
    }
    let names = query.group_by.iter().map(|index| query.table.columns.get(*index).map(|column| &column.name));
    names.map(|name| record.key.get(name?).map(text)).collect()
}

/// Returns the alert's own number for each output. It is Postgres's number, or the stream's if Postgres was not asked.
fn numbers<'a>(query: &Query, record: &'a AlertRecord) -> Vec<Option<&'a Json>> {
    let numbers = record.numbers();
    outputs(query).iter().map(|output| numbers.and_then(|numbers| numbers.get(&output.name))).collect()
}

/// Returns a value as text for Postgres. `None` for NULL.
fn text(value: &Json) -> Option<String> {
    match value {
        Json::Null => None,
        Json::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    }
}
