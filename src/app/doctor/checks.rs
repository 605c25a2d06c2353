//! The checks: from facts to findings. Pure.
//!
//! - this file: broker, topics, group, clocks
//! - [`records`]: the records in the topic
//! - [`connect`]: the connector that writes it
//! - [`kept_back`]: parts of rows that the connector leaves out
//! - [`schema_ids`]: the schema ids that the connector writes
//! - [`database`]: table, publication, slot, rights
//! - [`sent`]: the rows and columns that the publication sends and the role sees
//! - [`transforms`]: the version of the connector, and the transform that unwraps records
//! - [`rules`]: each rule, and what its confirmation costs

pub(super) mod connect;
pub(super) mod database;
mod kept_back;
pub(super) mod records;
pub(super) mod rules;
mod schema_ids;
mod sent;
mod transforms;

use super::facts::{AlertsTable, Broker, HeldUp, Right};
use super::finding::{Finding, ok, problem, warning};
use crate::app::progress::view::ProgressView;
use crate::change::record::TopicRecord;
use crate::config::{Config, redact_url};
use crate::contract::Contract;
use crate::failure::{Exit, Failure, RefusedLogin};
use crate::model::Timestamp;

/// Clocks that differ by more than this shift windows noticeably.
const SKEW_WARNING: i64 = 2_000_000;
/// Clocks that differ by more than this make confirmations use another window.
const SKEW_PROBLEM: i64 = 60_000_000;
/// An unread record older than this is a backlog.
const LAG_SECONDS: i64 = 60;

/// The cluster, and the topic of changes there.
pub(super) fn broker(config: &Config, broker: &Result<Broker, Failure>) -> Vec<Finding> {
    let servers = &config.kafka.bootstrap_servers;
    let topic = &config.source.topic;
    let broker = match broker {
        Ok(broker) => broker,
        Err(Failure { exit, message, refused_login }) => {
            let fix = match (exit, refused_login) {
                (_, Some(RefusedLogin::Certificate)) => {
                    "correct ssl.ca.location in [kafka.properties], or give the broker a certificate of that authority, of the host name in kafka.bootstrap_servers, that has not expired"
                }
                (_, Some(RefusedLogin::Token)) => {
                    "correct sasl.oauthbearer.token.endpoint.url, .client.id, .client.secret and .scope in [kafka.properties], and what the broker accepts"
                }
                (Exit::Refused, Some(RefusedLogin::Password) | None) => {
                    "correct the login in [kafka.properties] (sasl.username, TRIPLINE__KAFKA__PROPERTIES__SASL_PASSWORD)"
                }
                (Exit::Misconfigured, _) => "correct [kafka.properties]",
                _ => "start the broker, or correct kafka.bootstrap_servers and the broker's advertised.listeners",
            };
            return vec![problem("broker", message, fix).ends(*exit)];
        }
    };
    let mut found = vec![ok("broker", format!("{servers} answers, brokers: {}", broker.brokers))];
    if broker.group_refused {
        let group = &config.kafka.group_id;
        let text = format!("this user may not use group {group}: nothing else could be asked");
        let fix = grant(config, &["READ"], &format!("--group {group}"));
        found.push(problem("group", text, fix).ends(Exit::Refused));
        return found;
    }
    if broker.group_unjoinable {
        let group = &config.kafka.group_id;
        let text = format!("this user may ask about group {group}, and not join it");
        let fix = grant(config, &["READ"], &format!("--group {group}"));
        found.push(problem("group", text, fix).ends(Exit::Refused));
    }
    found.push(match &broker.topic {
        _ if broker.refused.contains_key(topic) => right_missing("topic", config, broker, topic, &[Right::Read]),
        Some(topic_found) => ok("topic", format!("{topic} is there, partitions: {}", topic_found.partitions)),
        None => {
            let close = broker.names.iter().filter(|name| similar(name, topic)).map(String::as_str).collect::<Vec<_>>();
            let hint = if close.is_empty() {
                "insert a row: Debezium makes the topic with the table's first event; or correct source.topic, which is topic.prefix, schema and table".to_owned()
            } else {
                format!("set source.topic to one of those that are there: {}; or insert a row, with which Debezium makes the topic", close.join(", "))
            };
            problem("topic", format!("{topic} does not exist at {servers}"), hint).ends(Exit::Misconfigured)
        }
    });
    found.extend(written(config, broker));
    found.extend(transactions(config, broker));
    found
}

/// Returns findings for open transactions that hold up readers of committed records.
fn transactions(config: &Config, broker: &Broker) -> Vec<Finding> {
    const CHECK: &str = "transactions";
    let Some(held_up) = &broker.held_up else { return Vec::new() };
    if held_up.is_empty() {
        return vec![ok(CHECK, "no open transaction holds up the readers of alerts and episodes")];
    }
    let own = &broker.transactional_id;
    let servers = &config.kafka.bootstrap_servers;
    let each = held_up.iter().map(|HeldUp { topic, partition, stable, end }| {
        let text = format!(
            "{topic}, partition {partition}: readers of committed records stand still at offset {}, and the end is {}: a \
             transaction is open. Its transactional id is {own}, if it is this group's",
            stable.0, end.0
        );
        let fix = format!(
            "start the run, which ends a transaction of {own} (the broker does it {} s after its begin, and up to 10 s more); if it stays: \
             kafka-transactions.sh --bootstrap-server {servers} find-hanging --topic {topic} --partition {partition}, then \
             kafka-transactions.sh --bootstrap-server {servers} abort --topic {topic} --partition {partition} --start-offset {}",
            config.kafka.transaction_timeout.as_secs(),
            stable.0
        );
        warning(CHECK, text, fix)
    });
    each.collect()
}

/// Whether the names end with the same table.
fn similar(name: &str, wanted: &str) -> bool {
    let table = |name: &str| name.rsplit('.').next().map(str::to_owned);
    !name.starts_with('_') && table(name) == table(wanted)
}

/// Checks the topics that a run writes to. A run creates missing ones.
fn written(config: &Config, broker: &Broker) -> Vec<Finding> {
    let episodes = &config.checkpoint.episodes_topic;
    let alerts = config.alerts.kafka.as_ref().map(|kafka| ("topic.alerts", kafka.topic.as_str()));
    let plain = [("topic.dead-letter", config.source.dead_letter_topic.as_str())];
    let there = |topic: &str| broker.names.iter().any(|name| name == topic);
    let absent = |topic: &str| format!("{topic} is not there yet: a run makes it");
    let mut found = Vec::new();
    for (check, topic) in alerts.into_iter().chain(plain) {
        if broker.refused.contains_key(topic) {
            found.push(right_missing(check, config, broker, topic, &[Right::Write]));
            continue;
        }
        found.push(match broker.cleanup.get(topic) {
            _ if !there(topic) => ok(check, absent(topic)),
            Some(policy) if policy.contains("compact") => warning(
                check,
                format!("{topic} has cleanup.policy={policy}: older records of a key are removed"),
                set_policy(config, topic, "delete"),
            ),
            _ => ok(check, format!("{topic} is there")),
        });
    }
    found.push(match broker.cleanup.get(episodes) {
        _ if broker.refused.contains_key(episodes) => {
            right_missing("topic.episodes", config, broker, episodes, &[Right::Read, Right::Write])
        }
        _ if !there(episodes) => ok("topic.episodes", absent(episodes)),
        Some(policy) if policy != "compact" => problem(
            "topic.episodes",
            format!("{episodes} has cleanup.policy={policy}, and would lose open episodes"),
            set_policy(config, episodes, "compact"),
        )
        .ends(Exit::Misconfigured),
        Some(_) => ok("topic.episodes", format!("{episodes} is there, and compacted")),
        None => ok("topic.episodes", format!("{episodes} is there; the broker does not say whether it is compacted")),
    });
    found
}

/// Returns the finding for a topic that the user may not use as a run does. `needed` are the rights that a run needs.
/// All of them may be missing if the user cannot even see the topic.
fn right_missing(check: &'static str, config: &Config, broker: &Broker, topic: &str, needed: &[Right]) -> Finding {
    let missing = broker.refused.get(topic).filter(|missing| !missing.contains(&Right::Describe));
    let rights: Vec<Right> = missing.map_or_else(|| needed.to_vec(), |missing| missing.iter().copied().collect());
    let names: Vec<&str> = rights.iter().map(|right| right.as_str()).collect();
    let text = format!("this user may not use {topic}: it needs {} there", names.join(" and "));
    problem(check, text, grant(config, &names, &format!("--topic {topic}"))).ends(Exit::Refused)
}

fn grant(config: &Config, operations: &[&str], resource: &str) -> String {
    let user = config.kafka.properties.get("sasl.username").map_or("NAME", String::as_str);
    let operations: Vec<String> = operations.iter().map(|operation| format!("--operation {operation}")).collect();
    format!(
        "kafka-acls.sh --bootstrap-server {} --add --allow-principal User:{user} {} {resource}",
        config.kafka.bootstrap_servers,
        operations.join(" ")
    )
}

fn set_policy(config: &Config, topic: &str, policy: &str) -> String {
    format!(
        "kafka-configs.sh --bootstrap-server {} --alter --entity-type topics --entity-name {topic} --add-config cleanup.policy={policy}",
        config.kafka.bootstrap_servers
    )
}

/// Checks the group's members, the next start, and the lag.
pub(super) fn group(config: &Config, progress: &Result<ProgressView, Failure>) -> Vec<Finding> {
    let group = &config.kafka.group_id;
    let look = "tripline offsets --config FILE";
    let view = match progress {
        Ok(view) => view,
        Err(Failure { exit: exit @ Exit::Refused, message, .. }) => {
            let fix = grant(config, &["READ"], &format!("--group {}", config.kafka.group_id));
            return vec![problem("group", message, fix).ends(*exit)];
        }
        Err(Failure { exit, message, .. }) => return vec![problem("group", message, look).ends(*exit)],
    };
    let members: Vec<String> = view.group.members.iter().map(ToString::to_string).collect();
    let mut found = vec![match members.as_slice() {
        [] => ok("group", format!("{group} has no active member: nothing runs")),
        [one] => ok("group", format!("{group} has one active member: {one}")),
        several => warning(
            "group",
            format!("{group} has {} active members: {}; one works, the others wait", several.len(), several.join(", ")),
            "stop the others, unless they are standbys; a second job needs a kafka.group_id of its own",
        ),
    }];
    let text = format!("the next start {}", view.text());
    found.push(if view.decision.stop.is_some() {
        problem("offsets", text, look)
    } else if view.decision.is_expected() {
        ok("offsets", text)
    } else {
        warning("offsets", text, look)
    });
    let (lag, seconds) = (view.lag(), view.oldest_age());
    let age = seconds.map(|seconds| format!(", the oldest of them {seconds} s old")).unwrap_or_default();
    let text = format!("{lag} unread{age}");
    found.push(match seconds {
        Some(seconds) if seconds > LAG_SECONDS && members.is_empty() => {
            warning("lag", format!("{text}, and nothing runs"), "tripline run --config FILE")
        }
        Some(seconds) if seconds > LAG_SECONDS => {
            warning("lag", text, "look at the run's log: it says what it waits for")
        }
        _ => ok("lag", text),
    });
    found
}

/// Checks whether the table and the server are still those for which windows were stored.
pub(super) fn contract(stored: Option<&Contract>, now: Option<&Contract>) -> Option<Finding> {
    const CHECK: &str = "contract";
    let (stored, now) = stored.zip(now)?;
    let changes = stored.changes(&now.clone().of_columns(stored.columns.keys().map(String::as_str)));
    Some(if changes.is_empty() {
        ok(CHECK, "table, publication and server are what the stored windows are of")
    } else {
        let text = format!("since windows were stored, {}", changes.join(", "));
        warning(CHECK, text, "nothing, if that was meant: a run makes its windows of the table")
    })
}

/// The table of alerts.
pub(super) fn alerts_table(config: &Config, found: &Result<AlertsTable, Failure>) -> Finding {
    const CHECK: &str = "alerts.postgres";
    let (url, setting) = config.table_url();
    let url = redact_url(url);
    let migrates = config.alerts.postgres.as_ref().is_some_and(|table| table.migrate);
    let migrate = "tripline migrate --config FILE, as a role that may make schemas and tables";
    let found = match found {
        Ok(found) => found,
        Err(Failure { exit, message, .. }) => {
            let fix = format!("start it, or correct {setting}");
            return problem(CHECK, format!("Postgres at {url}: {message}"), fix).ends(*exit);
        }
    };
    match found {
        AlertsTable::Missing { may_create: true } if migrates => {
            ok(CHECK, format!("tripline.alerts is not there yet at {url}: a run makes it"))
        }
        AlertsTable::Missing { .. } => {
            problem(CHECK, format!("there is no table tripline.alerts at {url}"), migrate).ends(Exit::Misconfigured)
        }
        AlertsTable::Older if migrates => {
            ok(CHECK, format!("tripline.alerts at {url} is of an older version: a run brings it up to date"))
        }
        AlertsTable::Older => problem(CHECK, format!("tripline.alerts at {url} is of an older version"), migrate)
            .ends(Exit::Misconfigured),
        AlertsTable::There { missing: Some(grants) } => {
            problem(CHECK, format!("rights on tripline.alerts at {url} are missing"), grants).ends(Exit::Refused)
        }
        AlertsTable::There { missing: None } => ok(CHECK, format!("tripline.alerts at {url} can be written")),
    }
}

/// Checks how far the clock of `whose` is ahead of this machine's, in microseconds, with the accuracy of that value.
pub(super) fn clock(whose: &str, (ahead, within): (i64, i64)) -> Finding {
    const CHECK: &str = "clock";
    let off = ahead.saturating_abs();
    let sure = off.saturating_sub(within).max(0);
    let side = if ahead < 0 { "behind" } else { "ahead of" };
    let text = format!("the clock of {whose} is {} ms {side} this machine's", off / 1_000);
    let fix = "have both machines follow the same time: `timedatectl set-ntp true`, then `timedatectl timesync-status`";
    if sure > SKEW_PROBLEM {
        problem(CHECK, format!("{text}: windows would not be those of the rows' times"), fix)
    } else if sure > SKEW_WARNING {
        warning(CHECK, format!("{text}: the edges of windows are off by as much"), fix)
    } else {
        ok(CHECK, text)
    }
}

/// Checks the timestamp of the newest record, which must not be in the future.
pub(super) fn record_clock(newest: &[TopicRecord], now: Timestamp) -> Option<Finding> {
    let newest = newest.iter().filter_map(|record| record.at).max()?;
    let ahead = newest.0.saturating_sub(now.0);
    (ahead > SKEW_WARNING).then(|| clock("Kafka's newest record", (ahead, 0)))
}

#[cfg(test)]
mod tests;
