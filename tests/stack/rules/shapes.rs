//! Rules as analysts write them, through the connector: after random histories what is open is what Postgres answers.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use serde_json::Value as Json;

use super::{insert, update};
use crate::harness::job::Running;
use crate::harness::{Connector, Database, Dice, Job, Record, kafka, wait_for};

pub(super) const TABLE: &str = "CREATE SCHEMA IF NOT EXISTS streaming;
    CREATE TYPE streaming.state AS ENUM ('new', 'open', 'closed');
    CREATE DOMAIN streaming.fee AS numeric(8,2);
    CREATE TABLE streaming.t (id bigint PRIMARY KEY, user_id bigint, account_id bigint, card_id bigint, merchant_id bigint,
      payee_id bigint, amount numeric(12,2), currency text, country text, direction text, type text, status text,
      device_id text, created_at timestamptz, ip inet, lat float8, lon real, grade char(2), state streaming.state,
      fee streaming.fee)";

/// Name, SELECT and WHERE, GROUP BY, HAVING.
const RULES: [(&str, &str, &str, &str); 43] = [
    (
        "spend",
        "SUM(ABS(amount)) FROM streaming.t WHERE created_at >= NOW() - INTERVAL '7 days'",
        "user_id",
        "SUM(ABS(amount)) > 9000",
    ),
    ("velocity", "COUNT(*) FROM streaming.t WHERE created_at >= NOW() - INTERVAL '1 hour'", "card_id", "COUNT(*) > 5"),
    ("lifetime", "SUM(amount) FROM streaming.t", "card_id", "SUM(amount) > 20000"),
    (
        "declined",
        "COUNT(*) FROM streaming.t WHERE status = 'declined' AND created_at >= NOW() - INTERVAL '1 day'",
        "card_id",
        "COUNT(*) >= 4",
    ),
    (
        "top-up",
        "SUM(amount) FROM streaming.t WHERE direction = 'in' AND type = 'credit_card' AND payee_id <> 3 AND created_at >= NOW() - INTERVAL '7 days'",
        "user_id",
        "SUM(amount) > 1000",
    ),
    (
        "by-country",
        "SUM(amount) FROM streaming.t WHERE created_at >= NOW() - INTERVAL '24 hours'",
        "user_id; country",
        "SUM(amount) > 4000",
    ),
    (
        "pairs",
        "COUNT(*) FROM streaming.t t WHERE t.direction = 'in' AND t.created_at >= NOW() - INTERVAL '7 days'",
        "user_id; payee_id",
        "COUNT(*) > 2",
    ),
    (
        "merchants",
        "COUNT(DISTINCT merchant_id) FROM streaming.t WHERE created_at >= NOW() - INTERVAL '1 hour'",
        "card_id",
        "COUNT(DISTINCT merchant_id) >= 4",
    ),
    (
        "mule",
        "COUNT(DISTINCT user_id), SUM(amount) FROM streaming.t WHERE created_at >= NOW() - INTERVAL '1 day'",
        "payee_id",
        "COUNT(DISTINCT user_id) >= 4 AND SUM(amount) > 5000",
    ),
    (
        "fan-out",
        "COUNT(DISTINCT payee_id) FROM streaming.t WHERE type = 'transfer' AND created_at >= NOW() - INTERVAL '5 days'",
        "user_id",
        "COUNT(DISTINCT payee_id) >= 3",
    ),
    (
        "declined-share",
        "COUNT(*) AS n FROM streaming.t WHERE created_at >= NOW() - INTERVAL '1 day'",
        "user_id",
        "COUNT(*) >= 6 AND COUNT(*) FILTER (WHERE status = 'declined') * 100 >= 50 * COUNT(*)",
    ),
    (
        "refunds",
        "COUNT(*) AS n FROM streaming.t WHERE created_at >= NOW() - INTERVAL '7 days'",
        "merchant_id",
        "SUM(amount) FILTER (WHERE type = 'refund') > 0.3 * SUM(amount) FILTER (WHERE type = 'purchase')",
    ),
    (
        "below-a-limit",
        "COUNT(*), SUM(amount) FROM streaming.t WHERE amount BETWEEN 900 AND 999.99 AND created_at >= NOW() - INTERVAL '24 hours'",
        "account_id",
        "COUNT(*) >= 2",
    ),
    (
        "large",
        "MAX(amount) FROM streaming.t WHERE type = 'credit_card' AND created_at >= NOW() - INTERVAL '1 day'",
        "user_id",
        "MAX(amount) > 1800",
    ),
    (
        "round",
        "COUNT(*) FROM streaming.t WHERE amount % 100 = 0 AND amount > 0 AND created_at >= NOW() - INTERVAL '30 days'",
        "account_id",
        "COUNT(*) >= 3",
    ),
    (
        "alike",
        "MIN(amount), MAX(amount) FROM streaming.t WHERE type = 'transfer' AND created_at >= NOW() - INTERVAL '14 days'",
        "account_id",
        "COUNT(*) >= 2 AND MAX(amount) - MIN(amount) <= 0.5 * MAX(amount)",
    ),
    (
        "countries",
        "COUNT(*) AS n FROM streaming.t WHERE created_at >= NOW() - INTERVAL '1 hour'",
        "card_id",
        "COUNT(DISTINCT country) >= 3",
    ),
    (
        "devices",
        "COUNT(DISTINCT user_id) FROM streaming.t WHERE type = 'bonus' AND device_id IS NOT NULL",
        "device_id",
        "COUNT(DISTINCT user_id) > 1",
    ),
    ("first-payroll", "COUNT(*) FROM streaming.t WHERE type = 'payroll'", "account_id", "COUNT(*) = 1"),
    (
        "exposure",
        "SUM(CASE direction WHEN 'in' THEN amount ELSE -amount END) FROM streaming.t",
        "account_id",
        "SUM(CASE direction WHEN 'in' THEN amount ELSE -amount END) < 0",
    ),
    (
        "average",
        "AVG(amount), COUNT(amount) FROM streaming.t WHERE created_at >= NOW() - '7 days'::interval",
        "merchant_id",
        "AVG(amount) > 900 OR COUNT(amount) < 2",
    ),
    (
        "anything-foreign",
        "BOOL_OR(country <> 'de') AS foreign_seen, MIN(country), MAX(created_at) AS last FROM streaming.t",
        "card_id; type",
        "BOOL_OR(country <> 'de') AND BOOL_AND(COALESCE(amount, 0) > 50)",
    ),
    (
        "patterns",
        "COUNT(*) FROM streaming.t WHERE device_id LIKE 'd%' AND NOT (status IN ('ok', 'pending') OR country IS NULL)",
        "user_id",
        "COUNT(*) BETWEEN 2 AND 6",
    ),
    (
        "ratio",
        "SUM(amount) / COUNT(*) AS mean FROM streaming.t WHERE created_at > CURRENT_TIMESTAMP - INTERVAL '7' DAY",
        "payee_id; country",
        "SUM(amount) / NULLIF(COUNT(*), 0) >= 700.5",
    ),
    (
        "month-to-date",
        "SUM(amount) FROM streaming.t WHERE created_at >= date_trunc('month', NOW() AT TIME ZONE 'Europe/Berlin') AT TIME ZONE 'Europe/Berlin'",
        "card_id",
        "SUM(amount) > 5000",
    ),
    (
        "today-against-the-mean",
        "COUNT(*) AS n FROM streaming.t WHERE created_at >= NOW() - INTERVAL '31 days'",
        "user_id",
        "SUM(amount) FILTER (WHERE created_at >= NOW() - INTERVAL '1 day') > 3 * SUM(amount) FILTER (WHERE created_at < NOW() - INTERVAL '1 day') / 30",
    ),
    (
        "three-days-against-half-a-year",
        "COUNT(*) AS n FROM streaming.t WHERE created_at >= NOW() - INTERVAL '180 days'",
        "user_id",
        "COUNT(*) FILTER (WHERE created_at >= NOW() - INTERVAL '3 days') >= 3 AND COUNT(*) FILTER (WHERE created_at >= NOW() - INTERVAL '3 days') / 3.0 > 2 * COUNT(*) / 180.0",
    ),
    (
        "quarter-against-a-year",
        "COUNT(*) AS n FROM streaming.t WHERE created_at >= NOW() - INTERVAL '15 months'",
        "account_id",
        "ABS(SUM(amount) FILTER (WHERE created_at >= NOW() - INTERVAL '3 days') - SUM(amount) FILTER (WHERE created_at < NOW() - INTERVAL '12 days')) > 0.65 * SUM(amount) FILTER (WHERE created_at < NOW() - INTERVAL '12 days')",
    ),
    (
        "dormant",
        "COUNT(*) AS n FROM streaming.t",
        "account_id",
        "SUM(amount) FILTER (WHERE created_at >= NOW() - INTERVAL '1 day') > 500 AND MAX(created_at) FILTER (WHERE created_at < NOW() - INTERVAL '1 day') < NOW() - INTERVAL '6 days'",
    ),
    (
        "silent",
        "MAX(created_at) AS last FROM streaming.t",
        "merchant_id",
        "MAX(created_at) < NOW() - INTERVAL '15 minutes'",
    ),
    (
        "young",
        "SUM(amount) FROM streaming.t",
        "account_id",
        "MIN(created_at) >= NOW() - INTERVAL '30 days' AND SUM(amount) > 1000",
    ),
    (
        "hours-of-the-day",
        "COUNT(*) FROM streaming.t WHERE EXTRACT(hour FROM created_at AT TIME ZONE 'Europe/Berlin') BETWEEN 1 AND 16 AND created_at >= NOW() - INTERVAL '6 hours'",
        "card_id",
        "COUNT(*) >= 3",
    ),
    (
        "pending-too-long",
        "COUNT(*) FROM streaming.t WHERE status = 'pending' AND created_at < NOW() - INTERVAL '30 minutes'",
        "merchant_id",
        "COUNT(*) >= 1",
    ),
    (
        "since-yesterday",
        "COUNT(*), MAX(created_at) - MIN(created_at) > INTERVAL '2 hours' AS spread FROM streaming.t WHERE created_at::date >= CURRENT_DATE - 1",
        "payee_id",
        "COUNT(*) > 3",
    ),
    (
        "busy-hours",
        "COUNT(*) FROM streaming.t WHERE created_at >= NOW() - INTERVAL '2 days'",
        "user_id; date_trunc('day', created_at)",
        "COUNT(*) > 4",
    ),
    (
        "by-hour-of-the-day",
        "COUNT(*), SUM(amount) FROM streaming.t",
        "EXTRACT(hour FROM created_at AT TIME ZONE 'Europe/Berlin')",
        "COUNT(*) > 6",
    ),
    (
        "within-the-hour",
        "COUNT(*) FROM streaming.t WHERE NOW() - created_at < INTERVAL '1 hour' AND amount > 100",
        "user_id",
        "COUNT(*) >= 2",
    ),
    (
        "addresses",
        "COUNT(DISTINCT ip) FROM streaming.t WHERE ip <> '10.0.0.9/32' AND created_at >= NOW() - INTERVAL '1 day'",
        "user_id",
        "COUNT(DISTINCT ip) >= 3",
    ),
    ("by-address", "COUNT(*) FROM streaming.t WHERE created_at >= NOW() - INTERVAL '1 day'", "ip", "COUNT(*) > 4"),
    (
        "north",
        "MAX(lat), MIN(lon), AVG(lat) FROM streaming.t WHERE lat > 50.5 AND lon BETWEEN -10 AND 20.1",
        "card_id",
        "MAX(lat) - MIN(lat) > 3.5 OR SUM(lat) > 300.25",
    ),
    (
        "distances",
        "SUM(lon * 111.2::float8) FROM streaming.t WHERE created_at >= NOW() - INTERVAL '7 days'",
        "account_id",
        "SUM(ABS(lon)) > 40 AND AVG(lon) < 12",
    ),
    (
        "grades",
        "COUNT(*) FROM streaming.t WHERE grade IN ('a', 'b ') AND state <> 'closed' AND state::text LIKE '%e%'",
        "grade; state",
        "COUNT(*) BETWEEN 2 AND 9",
    ),
    ("fees", "SUM(fee), MAX(state) FROM streaming.t", "merchant_id", "SUM(fee) >= 30 AND COUNT(DISTINCT state) > 1"),
];

fn sql((_, select, keys, having): &(&str, &str, &str, &str)) -> String {
    let keys = keys.replace("; ", ", ");
    format!("SELECT {keys}, {select} GROUP BY {keys} HAVING {having}")
}

pub(super) fn row(dice: &mut Dice) -> Vec<(&'static str, String)> {
    let number = |dice: &mut Dice, below: u64| {
        if dice.one_in(12) { "NULL".to_owned() } else { dice.below(below).to_string() }
    };
    let one = |dice: &mut Dice, of: &[&str]| {
        if dice.one_in(12) {
            "NULL".to_owned()
        } else {
            format!("'{}'", of[usize::try_from(dice.below(of.len() as u64)).unwrap()])
        }
    };
    let amount = match dice.below(4) {
        0 => (dice.below(20) * 100).to_string(),
        1 => format!("9{}.{:02}", 10 + dice.below(89), dice.below(100)),
        _ => format!("{}.{:02}", dice.below(2_000), dice.below(100)),
    };
    // Well inside or outside of every window.
    let minutes = [5, 20, 40, 90, 600, 1_300, 1_600, 6_000, 9_000, 15_000, 50_000];
    let minutes = minutes[usize::try_from(dice.below(11)).unwrap()] + dice.below(9);
    let mut values = Vec::new();
    for (column, below) in [("user_id", 5), ("account_id", 5), ("card_id", 4), ("merchant_id", 5), ("payee_id", 4)] {
        values.push((column, number(dice, below)));
    }
    values.push(("amount", if dice.one_in(15) { "NULL".to_owned() } else { amount }));
    let texts: [(&'static str, &[&str]); 8] = [
        ("country", &["de", "fr", "it", "us"]),
        ("direction", &["in", "out"]),
        ("type", &["credit_card", "transfer", "refund", "purchase", "bonus", "payroll"]),
        ("status", &["ok", "declined", "pending"]),
        ("device_id", &["d1", "d2", "e'"]),
        ("ip", &["10.0.0.1", "10.0.0.9", "10.0.0.2/24", "2001:db8::7"]),
        ("grade", &["a", "b", "cc"]),
        ("state", &["new", "open", "closed"]),
    ];
    for (column, of) in texts {
        values.push((column, one(dice, of).replace("e''", "e'''")));
    }
    values.push(("lat", format!("{}.{}", 40 + dice.below(20), dice.below(1_000))));
    values.push(("lon", format!("{}.{}", dice.between(-15, 30), dice.below(100))));
    values.push(("fee", format!("{}.{:02}", dice.below(12), dice.below(100))));
    values.push(("created_at", format!("now() - interval '{minutes} minutes'")));
    values
}

pub(super) fn change(dice: &mut Dice, database: &Database) {
    let mut statements = String::from("BEGIN;");
    for _ in 0..=dice.below(8) {
        let id = dice.below(120);
        let values = row(dice);
        statements.push_str(&match dice.below(12) {
            0 => format!("DELETE FROM streaming.t WHERE id = {id};"),
            1 => format!("UPDATE streaming.t SET id = {} WHERE id = {id};", 1_000 + dice.below(1_000_000)),
            2..=4 => update(dice, id, values),
            _ => insert(id, values),
        });
    }
    if dice.one_in(25) {
        statements.push_str("TRUNCATE streaming.t;");
    }
    statements.push_str(if dice.one_in(8) { "ROLLBACK" } else { "COMMIT" });
    database.sql(&statements);
}

pub(super) fn text(value: &Json) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// The open episodes, as `rule: key, key`.
fn open(job: &Job) -> BTreeSet<String> {
    let mut open = BTreeSet::new();
    for alert in kafka::records(&job.alert_topic, 0).iter().map(Record::json) {
        let key: Vec<String> = alert["key"].as_object().unwrap().values().map(text).collect();
        let what = format!("{}: {}", text(&alert["rule"]), key.join(", "));
        let changed = if alert["status"] == "firing" { open.insert(what) } else { open.remove(&what) };
        assert!(changed, "firing and resolved alternate: {alert}");
    }
    open
}

fn wanted(database: &Database) -> BTreeSet<String> {
    let one = |rule: &(&str, &str, &str, &str)| {
        let text = |key: &str| match key {
            key if key.starts_with("date_trunc") => {
                "to_char(q.date_trunc AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"')".to_owned()
            }
            key if key.starts_with("EXTRACT") => "q.extract::text".to_owned(),
            "ip" => "CASE WHEN q.ip IS NOT NULL THEN format('%s', q.ip) END".to_owned(),
            key => format!("q.{key}::text"),
        };
        let keys: Vec<String> = rule.2.split("; ").map(|key| format!("coalesce({}, 'null')", text(key))).collect();
        format!("SELECT '{}: ' || {} FROM ({}) AS q", rule.0, keys.join(" || ', ' || "), sql(rule))
    };
    let all: Vec<String> = RULES.iter().map(one).collect();
    database.sql(&all.join(" UNION ALL ")).concat().into_iter().collect()
}

fn agrees(database: &Database, job: &Job, run: &mut Running, seed: u64) {
    let wanted = wanted(database);
    let deadline = Instant::now() + Duration::from_secs(60);
    let mut got = BTreeSet::new();
    while got != wanted && Instant::now() < deadline && !run.has_ended() {
        got = open(job);
        std::thread::sleep(Duration::from_millis(50));
    }
    let (missing, extra) = (wanted.difference(&got).collect::<Vec<_>>(), got.difference(&wanted).collect::<Vec<_>>());
    assert!(got == wanted, "seed {seed}: not open {missing:?}, and open without reason {extra:?}\n{}", run.log_now());
}

fn histories(test: &str, seed: u64, rounds: u64, steps: u64) {
    let database = Database::empty(test);
    database.sql(TABLE);
    let connector = Connector::start(&database, "", &[("table.include.list", "streaming.t")]);
    let folder = tempfile::tempdir().unwrap();
    let topic = connector.topic.replace("transactions", "t");
    let mut job = Job::new(folder.path(), &database.name, &database.name, &topic);
    job.top = "startup_wait_ms = 60000".to_owned();
    job.source = "connector_keeps_nulls = true\n[audit]\nperiod_ms = 2000\nmax_database_share = 0.2\n".to_owned();
    (job.name, job.sql) = (RULES[0].0.to_owned(), sql(&RULES[0]));
    job.message = "{user_id}".to_owned();
    for rule in &RULES[1..] {
        job.rule.push_str(&format!("[[rules]]\nname = \"{}\"\nsql = \"\"\"\n{}\"\"\"\n", rule.0, sql(rule)));
    }
    let mut dice = Dice(seed);
    // The connector makes the topic with the first row.
    database.sql(&insert(0, row(&mut dice)));
    wait_for("the topic is there", || (kafka::end_of(&topic) > 0).then_some(()));
    let mut run = job.start();
    for round in 0..rounds {
        // It goes on from what was stored.
        if round % 2 == 1 {
            assert_eq!(run.terminate().code, Some(0));
            run = job.start();
        }
        for _ in 0..steps {
            change(&mut dice, &database);
        }
        agrees(&database, &job, &mut run, seed);
    }
    let log = run.log_now();
    assert!(!log.contains("drift:"), "seed {seed}: {log}");
    let ended = run.terminate();
    assert_eq!((ended.code, kafka::end_of(&job.dead_letter_topic)), (Some(0), 0), "{ended}");
    eprintln!("{} alerts", kafka::records(&job.alert_topic, 0).len());
}

#[test]
#[ignore = "needs the servers: scripts/test"]
fn rules_through_the_connector() {
    histories("rules_shapes", 1, 3, 40);
}

#[test]
#[ignore = "needs the servers: scripts/test --all"]
fn slow_rules_through_the_connector() {
    for seed in 100..110 {
        histories(&format!("rules_shapes_{seed}"), seed, 10, 100);
    }
}
