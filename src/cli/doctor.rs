//! `tripline doctor`: looks at everything that a run needs, and says how to mend what is wrong. It changes nothing.
//!
//! - this file: the command
//! - `kafka`, `connect`, `database`: asking the servers
//! - `facts`: what they said; `judge`: what is to be made of it; `finding`: how that is shown; all of them pure

mod connect;
mod database;
mod facts;
mod finding;
mod judge;
mod kafka;

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use self::facts::{Broker, Connector, Database, RuleFacts, Unanswered};
use self::finding::{Finding, Report, ok, problem, warning};
use super::database::answered;
use super::failure::Failure;
use super::{Exit, Output, offsets};
use crate::clock::{Clock, SystemClock};
use crate::config::{self, Config, RuleSettings};
use crate::rule::compile;
use crate::rule::parse::{Parsed, parse};

pub(super) const EXAMPLES: &str = "\
Examples:
  tripline doctor --config tripline.toml
  tripline doctor --config tripline.toml --connect http://localhost:8083
  tripline doctor --config tripline.toml --output json

Exit code 0: no problem, though perhaps warnings. Else 3 where a server did not answer, 4 where one refused, 2 where the
settings do not fit what is there, 5 for anything else that a run would stop at or report wrongly. docs/doctor.md has all checks.";

/// How long a server is waited for that is not there.
const PATIENCE: Duration = Duration::from_secs(5);

/// Arguments of `tripline doctor`.
#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// The configuration file (TOML)
    #[arg(long, short, value_name = "FILE")]
    pub config: PathBuf,

    /// Kafka Connect's REST interface; by default connect.url
    #[arg(long, value_name = "URL", value_parser = connect_url)]
    pub connect: Option<String>,

    /// A line per finding for people, or one JSON object
    #[arg(long, short, default_value = "table")]
    pub output: Output,
}

fn connect_url(text: &str) -> Result<String, String> {
    config::check_connect_url(text).map(|()| text.to_owned())
}

/// Looks at everything and prints what was found.
///
/// # Errors
/// A [`Failure`] that says how the process is to end: there is a problem.
pub async fn doctor(args: &DoctorArgs) -> Result<(), Failure> {
    let config = super::run::configured(&args.config)?;
    let url = args.connect.as_ref().or(config.connect.as_ref().map(|connect| &connect.url));
    let report = examine(&config, url.map(String::as_str)).await;
    offsets::print(&match args.output {
        Output::Table => report.table(),
        Output::Json => vec![report.json().to_string()],
    })?;
    match report.exit() {
        Exit::Done => Ok(()),
        exit => Err(Failure::new(exit, report.summary())),
    }
}

async fn examine(config: &Config, connect_url: Option<&str>) -> Report {
    let clock = SystemClock::default();
    let mut found = vec![ok("config", format!("the configuration can be read, rules: {}", config.rules.len()))];
    let (parsed, wrong) = parsed(&config.rules);
    let table = parsed.first().map(|(_, parsed)| (parsed.schema.text.as_str(), parsed.table.text.as_str()));

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
                Some(table) => Some(answered(limit, database::database(config, &clock, table, &parsed)).await),
            }
        },
        async {
            match &config.alerts.postgres {
                None => None,
                Some(_) => Some(answered(limit, database::alerts_table(config)).await),
            }
        },
    );
    let progress = match &broker {
        Ok(Broker { topic: Some(_), .. }) => Some(
            offsets::standing(config).await.map_err(|failure| Unanswered { exit: failure.exit, text: failure.message }),
        ),
        _ => None,
    };
    let now = clock.now();

    let relation = match &database {
        Some(Ok((Database { relation: Some(relation), .. }, _))) => Some(relation),
        _ => None,
    };
    let rules: &[RuleFacts] =
        database.as_ref().and_then(|database| database.as_ref().ok()).map_or(&[], |(_, rules)| rules);
    let queries: Vec<_> = rules.iter().filter_map(|rule| rule.query.as_ref()).collect();
    let wanted = compile::wanted(&queries);
    let columns = relation.and_then(|relation| relation.table.as_ref()).map(|table| (table, wanted.as_slice()));

    found.extend(judge::broker(config, &broker));
    if let Ok(Broker { topic: Some(topic), .. }) = &broker {
        found.extend(judge::records::records(
            config,
            topic,
            columns,
            relation.map(|relation| relation.identity.as_str()),
        ));
        found.extend(judge::record_clock(&topic.newest, now));
    }
    if let Some(progress) = &progress {
        found.extend(judge::group(config, progress));
    }
    let connector = connector(connectors.as_ref(), config, table);
    match (connect_url, &connectors) {
        (Some(url), Some(connectors)) => {
            found.extend(judge::connect::connect(config, &config::without_login(url), connectors, table, columns));
        }
        _ => found.push(warning(
            "connect",
            "not looked at: its address is not known",
            "tripline doctor --config FILE --connect http://localhost:8083",
        )),
    }
    found.extend(wrong);
    if let (Some(database), Some(table)) = (database, table) {
        found.extend(of_database(config, database, table, connector));
    }
    if let Some(alerts) = &alerts {
        found.push(judge::alerts_table(config, alerts));
    }
    Report(found)
}

fn connector<'a>(
    connectors: Option<&'a Result<Vec<Connector>, Unanswered>>,
    config: &Config,
    table: Option<(&str, &str)>,
) -> Option<&'a Connector> {
    let connectors = connectors?.as_ref().ok()?;
    judge::connect::of_topic(connectors, &config.source.topic, table)
}

fn of_database(
    config: &Config,
    answered: Result<(Database, Vec<RuleFacts>), Unanswered>,
    table: (&str, &str),
    connector: Option<&Connector>,
) -> Vec<Finding> {
    let (database, rules) = match answered {
        Ok((database, rules)) => (Ok(database), rules),
        Err(unanswered) => (Err(unanswered), Vec::new()),
    };
    let mut found = judge::database::database(config, &database, table, connector);
    if let Ok(Database { relation, ahead, .. }) = &database {
        if let Some(relation) = relation {
            found.extend(rules.iter().flat_map(|rule| judge::rules::rule(rule, relation)));
        }
        found.push(judge::clock("Postgres", *ahead));
    }
    found
}

/// The rules that can be parsed and read the first one's table, and what is wrong with the others.
fn parsed(rules: &[RuleSettings]) -> (Vec<(&RuleSettings, Parsed)>, Vec<Finding>) {
    let mut good: Vec<(&RuleSettings, Parsed)> = Vec::new();
    let mut wrong = Vec::new();
    let mend = "correct the rule's sql; config/default.toml shows one";
    for rule in rules {
        match parse(&rule.sql) {
            Err(error) => {
                wrong.push(problem("rule", format!("{}: {error}", rule.name), mend).ends(Exit::Misconfigured))
            }
            Ok(parsed) => {
                let table = |parsed: &Parsed| (parsed.schema.text.clone(), parsed.table.text.clone());
                match good.first() {
                    Some((first, other)) if table(other) != table(&parsed) => {
                        let text = format!("{}: reads another table than rule {}", rule.name, first.name);
                        let mend =
                            "one run watches one table: give the rule a configuration with a group id of its own";
                        wrong.push(problem("rule", text, mend).ends(Exit::Misconfigured));
                    }
                    _ => good.push((rule, parsed)),
                }
            }
        }
    }
    (good, wrong)
}

#[cfg(test)]
mod tests;
