//! Everything that a run needs, examined, with a fix for what is wrong. Nothing is changed.
//!
//! - this file: asking all servers
//! - `kafka`, `connect`, `database`: asking one of them
//! - `facts`: what they said; `checks`: what that means; [`finding`]: what is reported; all of them pure

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
use crate::app::rules::{ParsedRule, parse_rule, watched_table};
use crate::checkpoint::FolderView;
use crate::clock::{Clock, SystemClock};
use crate::config::{self, Config, RuleSettings};
use crate::failure::{Exit, Failure};
use crate::model::Table;
use crate::postgres::no_answer;
use crate::rule::compile;

/// How long a server is waited for that cannot be reached.
const PATIENCE: Duration = Duration::from_secs(5);

/// Examines everything. `connect_url`: Kafka Connect's REST interface, where it is known.
pub async fn examine(config: &Config, connect_url: Option<&str>) -> Report {
    let clock = SystemClock::default();
    let mut found = vec![ok("config", format!("the configuration can be read, rules: {}", config.rules.len()))];
    let (settings, parsed, mut wrong) = parsed(&config.rules);
    let named = watched_table(&config.source.topic, &parsed);
    let table = named.as_ref().map(|(schema, table)| (schema.as_str(), table.as_str()));
    if table.is_none() && !parsed.is_empty() {
        let text = format!("no rule reads a table that the topic {} is named after", config.source.topic);
        let fix = "set source.topic to the topic of a table that a rule reads";
        wrong.push(problem("rule", text, fix).ends(Exit::Misconfigured));
    }
    let rules: Vec<(&RuleSettings, &ParsedRule)> = settings.into_iter().zip(&parsed).collect();

    // The servers do not depend on each other.
    let patience = PATIENCE.min(config.startup_wait);
    let limit = patience + config.postgres.statement_timeout * 4;
    let (broker, connectors, database, alerts) = tokio::join!(
        kafka::broker(config, patience),
        async {
            match connect_url {
                None => None,
                Some(url) => Some(connect::ask(url).await),
            }
        },
        async {
            match table {
                None => None,
                Some(table) => Some(in_time(limit, database::database(config, &clock, table, &rules)).await),
            }
        },
        async {
            match &config.alerts.postgres {
                None => None,
                Some(_) => Some(in_time(limit, database::alerts_table(config)).await),
            }
        },
    );
    let progress = match &broker {
        // Progress may be in the recovery topic.
        Ok(Broker { topic: Some(_), refused, .. }) if !refused.contains_key(&config.checkpoint.episodes_topic) => {
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
    let wanted = compile::wanted(&queries);
    let columns = relation.and_then(|relation| relation.table.as_ref()).map(|table| (table, wanted.as_slice()));

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
    let connector = connector(connectors.as_ref(), config, table);
    match (connect_url, &connectors) {
        (Some(url), Some(connectors)) => {
            found.extend(checks::connect::connect(config, &config::without_login(url), connectors, table, columns));
        }
        _ => found.push(warning(
            "connect",
            "not looked at: its address is not known",
            "tripline doctor --config FILE --connect http://localhost:8083",
        )),
    }
    found.extend(wrong);
    if let (Some(database), Some(table)) = (&database, table) {
        found.extend(of_database(config, database, table, connector, columns));
    }
    let stored = FolderView::contract(&config.checkpoint.dir, &config.kafka.group_id);
    if let Some(Ok((DatabaseFacts { contract, .. }, _))) = &database {
        found.extend(checks::contract(stored.as_ref(), contract.as_ref()));
    }
    if let Some(alerts) = &alerts {
        found.push(checks::alerts_table(config, alerts));
    }
    Report(found)
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

/// Waits for an answer that a server may never give.
async fn in_time<T>(limit: Duration, answer: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let answered = tokio::time::timeout(limit, answer).await;
    answered.unwrap_or_else(|_| Err(Failure::new(Exit::Unreachable, no_answer(limit).to_string())))
}

/// The rules that can be parsed, and what is wrong with the others.
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
