//! Checks of everything that a run needs, each with a fix. Nothing is changed.
//!
//! - this file: asking all servers
//! - `kafka`, `connect`, `database`: asking one of them
//! - `facts`: the answers, `checks`: their evaluation, [`finding`]: the report. All three are pure.

mod checks;
mod connect;
mod database;
mod facts;
pub mod finding;
mod kafka;

use std::time::Duration;

use self::facts::{Broker, Connector, DatabaseFacts, RuleFacts};
use self::finding::{Finding, Report, ok, problem, warning};
use super::progress;
use crate::app::rules::tables::of_sources;
use crate::app::rules::{ParsedRule, parse_rule};
use crate::checkpoint::FolderView;
use crate::clock::{Clock, SystemClock};
use crate::config::{self, Config, RuleSettings};
use crate::contract::Contracts;
use crate::failure::{Exit, Failure};
use crate::model::Table;
use crate::postgres::no_answer;
use crate::rule::watched::Watched;

/// How long to wait for a server that cannot be reached.
const PATIENCE: Duration = Duration::from_secs(5);

/// Runs all checks. `connect_url` is the address of Kafka Connect's REST interface, if known.
pub async fn examine(config: &Config, connect_url: Option<&str>) -> Report {
    let mut found = vec![ok("config", format!("the configuration can be read, rules: {}", config.rules.len()))];
    let (settings, parsed, mut wrong) = parsed(&config.rules);
    let tables = match of_sources(&config.sources, &parsed) {
        Ok(tables) => tables,
        Err(problem) => {
            if !parsed.is_empty() {
                wrong.push(no_table(config, problem));
            }
            Vec::new()
        }
    };
    let rules: Vec<(&RuleSettings, &ParsedRule)> = settings.into_iter().zip(&parsed).collect();
    let connectors = match connect_url {
        None => None,
        Some(url) => Some((url, connect::ask(url).await)),
    };
    let mut asked = Asked { connectors, rules: &rules, tables: &tables, is_first: true };
    found.extend(examine_source(config, &asked, wrong).await);
    // The findings of the other sources are added where they differ.
    asked.is_first = false;
    for (number, source) in config.sources.iter().enumerate().skip(1) {
        let of_source = Config { source: source.clone(), ..config.clone() };
        let tables: Vec<_> = tables.iter().skip(number).chain(tables.iter().take(number)).cloned().collect();
        let asked = Asked { tables: &tables, connectors: asked.connectors.clone(), ..asked };
        let others = examine_source(&of_source, &asked, Vec::new()).await;
        let is_new = |one: &Finding| !found.iter().any(|known| known.check == one.check && known.text == one.text);
        let others: Vec<Finding> = others.into_iter().filter(is_new).collect();
        let named = |one: Finding| {
            let text =
                if one.text.contains(&source.topic) { one.text } else { format!("{}: {}", source.topic, one.text) };
            Finding { text, ..one }
        };
        found.extend(others.into_iter().map(named));
    }
    Report(found)
}

/// Returns the finding for a missing table. Without a table it is not known what the topic should have.
fn no_table(config: &Config, problem: String) -> Finding {
    let (text, fix) = match config.sources.as_slice() {
        [source] if source.table.is_none() => (
            format!("no rule reads a table that the topic {} is named after", source.topic),
            "set source.topic to the topic of a table that a rule reads",
        ),
        _ => (problem, "correct the topics and tables of [source] or [[sources]]"),
    };
    finding::problem("rule", text, fix).ends(Exit::Misconfigured)
}

/// The facts that are known before the servers are asked about a source.
struct Asked<'a> {
    connectors: Option<(&'a str, Result<Vec<Connector>, Failure>)>,
    rules: &'a [(&'a RuleSettings, &'a ParsedRule)],
    /// The tables of all sources, with this source's table first.
    tables: &'a [(String, String)],
    is_first: bool,
}

/// Checks what one source needs. For the first source, it also checks what all sources need.
async fn examine_source(config: &Config, asked: &Asked<'_>, wrong: Vec<Finding>) -> Vec<Finding> {
    let clock = SystemClock::default();
    let mut found = Vec::new();
    let table = asked.tables.first().map(|(schema, table)| (schema.as_str(), table.as_str()));
    // The servers do not depend on each other, so they are asked at the same time.
    let patience = PATIENCE.min(config.startup_wait);
    let limit = patience + config.postgres.statement_timeout * 4;
    let (broker, database, alerts) = tokio::join!(
        kafka::broker(config, patience),
        async {
            match table {
                None => None,
                Some(table) => {
                    let asking = database::database(config, &clock, table, asked.tables, asked.rules);
                    Some(in_time(limit, asking).await)
                }
            }
        },
        async {
            match &config.alerts.postgres {
                Some(_) if asked.is_first => Some(in_time(limit, database::alerts_table(config)).await),
                _ => None,
            }
        },
    );
    let progress = match &broker {
        // Progress may be in the recovery topic.
        Ok(Broker { topic: Some(_), refused, .. })
            if asked.is_first && !refused.contains_key(&config.checkpoint.episodes_topic) =>
        {
            Some(progress::view(config).await)
        }
        _ => None,
    };
    let now = clock.now();

    let relation = match &database {
        Some(Ok((DatabaseFacts { relation: Some(relation), .. }, _))) => Some(relation),
        _ => None,
    };
    let rules: &[RuleFacts] =
        database.as_ref().and_then(|database| database.as_ref().ok()).map_or(&[], |(_, rules)| rules);
    let queries: Vec<_> = rules.iter().filter_map(|rule| rule.query.as_ref()).collect();
    let of_table = relation.and_then(|relation| relation.table.as_ref());
    let watched = of_table.map(|table| Watched::of(table, &config.source.topic, &queries));
    let columns = watched.as_ref().map(|watched| (&watched.table, watched.wanted.as_slice()));

    found.extend(checks::broker(config, &broker));
    if let Ok(Broker { topic: Some(topic), .. }) = &broker {
        found.extend(checks::records::records(
            config,
            topic,
            columns,
            relation.map(|relation| relation.identity.as_str()),
        ));
        found.extend(checks::record_clock(&topic.newest, now));
    }
    if let Some(progress) = &progress {
        found.extend(checks::group(config, progress));
    }
    let connectors = asked.connectors.as_ref().map(|(_, connectors)| connectors);
    let connector = connector(connectors, config, table);
    match &asked.connectors {
        Some((url, connectors)) => {
            found.extend(checks::connect::connect(config, &config::without_login(url), connectors, table, columns));
        }
        None => found.push(warning(
            "connect",
            "not looked at: its address is not known",
            "tripline doctor --config FILE --connect http://localhost:8083",
        )),
    }
    found.extend(wrong);
    if let (Some(database), Some(table)) = (&database, table) {
        found.extend(of_database(config, database, table, connector, columns));
    }
    if let (Some(Ok((DatabaseFacts { contract: Some(now), .. }, _))), Some((schema, table))) = (&database, table) {
        let name = format!("{schema}.{table}");
        let now = Contracts([(name.clone(), now.clone())].into());
        let stored = FolderView::contracts(&config.checkpoint.dir, &config.kafka.group_id, &now);
        let stored = stored.as_ref().and_then(|stored| stored.0.get(&name));
        found.extend(checks::contract(stored, now.0.get(&name)));
    }
    if let Some(alerts) = &alerts {
        found.push(checks::alerts_table(config, alerts));
    }
    found
}

fn connector<'a>(
    connectors: Option<&'a Result<Vec<Connector>, Failure>>,
    config: &Config,
    table: Option<(&str, &str)>,
) -> Option<&'a Connector> {
    let connectors = connectors?.as_ref().ok()?;
    checks::connect::of_topic(connectors, &config.source.topic, table)
}

fn of_database(
    config: &Config,
    answered: &Result<(DatabaseFacts, Vec<RuleFacts>), Failure>,
    table: (&str, &str),
    connector: Option<&Connector>,
    columns: Option<(&Table, &[usize])>,
) -> Vec<Finding> {
    let (database, rules) = match answered {
        Ok((database, rules)) => (Ok(database), rules.as_slice()),
        Err(unanswered) => (Err(unanswered), [].as_slice()),
    };
    let mut found = checks::database::database(config, database, table, connector, columns);
    if let Ok(DatabaseFacts { relation, ahead, .. }) = database {
        if let Some(relation) = relation {
            found.extend(rules.iter().flat_map(|rule| checks::rules::rule(rule, relation)));
        }
        found.push(checks::clock("Postgres", *ahead));
    }
    found
}

/// Waits up to `limit` for an answer.
async fn in_time<T>(limit: Duration, answer: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let answered = tokio::time::timeout(limit, answer).await;
    answered.unwrap_or_else(|_| Err(Failure::new(Exit::Unreachable, no_answer(limit).to_string())))
}

/// Returns the rules that can be parsed, and findings for the others.
fn parsed(rules: &[RuleSettings]) -> (Vec<&RuleSettings>, Vec<ParsedRule>, Vec<Finding>) {
    let (mut settings, mut good, mut wrong) = (Vec::new(), Vec::new(), Vec::new());
    let fix = "correct the rule's sql; config/default.toml shows one";
    for rule in rules {
        match parse_rule(rule) {
            Ok(parsed) => {
                settings.push(rule);
                good.push(parsed);
            }
            Err(error) => wrong.push(problem("rule", format!("{}: {error}", rule.name), fix).ends(Exit::Misconfigured)),
        }
    }
    (settings, good, wrong)
}

#[cfg(test)]
mod tests;
