//! Rules that Postgres alone evaluates, through the connector: joins, subqueries, window functions, shares, top lists. After random
//! histories of all their tables, what is open is what Postgres answers.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use serde_json::Value as Json;

use super::shapes::{TABLE, change, text};
use super::{insert, shapes};
use crate::harness::job::Running;
use crate::harness::{Connector, Database, Dice, Job, Record, kafka, wait_for};

const TABLES: &str = "
    CREATE TABLE streaming.limits (user_id bigint PRIMARY KEY, daily_limit numeric);
    CREATE TABLE streaming.lists (id bigserial PRIMARY KEY, name text, value text);
    CREATE TABLE streaming.fx (currency text PRIMARY KEY, rate numeric);
    CREATE TABLE streaming.users (id bigint PRIMARY KEY, kyc_level int);
    CREATE TABLE streaming.calendar (d date PRIMARY KEY, open bool);
    CREATE TABLE streaming.merchants (id bigint PRIMARY KEY, segment text, active bool);
    CREATE VIEW streaming.big AS SELECT user_id, amount FROM streaming.t WHERE amount > 1000;
    CREATE INDEX ON streaming.t (user_id, created_at);
    INSERT INTO streaming.limits SELECT n, 1000 * n FROM generate_series(0, 4) AS n;
    INSERT INTO streaming.users SELECT n, n % 2 FROM generate_series(0, 4) AS n;
    INSERT INTO streaming.merchants SELECT n, 's' || n % 2, true FROM generate_series(0, 6) AS n;
    INSERT INTO streaming.fx VALUES ('de', 1), ('fr', 1.5), ('us', 0.9);
    INSERT INTO streaming.lists (name, value) VALUES ('trusted', '1');
    INSERT INTO streaming.calendar SELECT current_date - n, n % 2 = 0 FROM generate_series(0, 30) AS n;";

/// Name, who evaluates it, the outputs that are its key, more settings, SQL.
const RULES: [(&str, &str, &str, &str, &str); 24] = [
    (
        "limit-of-a-table",
        "touched",
        "user_id",
        "",
        "SELECT t.user_id, SUM(t.amount), l.daily_limit FROM streaming.t JOIN streaming.limits l \
      ON l.user_id = t.user_id WHERE t.created_at >= NOW() - INTERVAL '1 day' GROUP BY t.user_id, l.daily_limit \
      HAVING SUM(t.amount) > l.daily_limit",
    ),
    (
        "not-trusted",
        "touched",
        "user_id",
        "",
        "SELECT user_id, SUM(amount) FROM streaming.t WHERE NOT EXISTS (SELECT FROM streaming.lists w \
      WHERE w.name = 'trusted' AND w.value = t.user_id::text) AND created_at >= NOW() - INTERVAL '1 day' GROUP BY user_id \
      HAVING SUM(amount) > 2000;",
    ),
    (
        "one-currency",
        "touched",
        "card_id",
        "",
        "SELECT t.card_id, SUM(t.amount * f.rate) AS total FROM streaming.t JOIN streaming.fx f \
      ON f.currency = t.country GROUP BY t.card_id HAVING SUM(t.amount * f.rate) > 3000 -- in one currency",
    ),
    (
        "unknown-customers",
        "touched",
        "user_id",
        "",
        "SELECT t.user_id, COUNT(*) FROM streaming.t JOIN streaming.users u ON u.id = t.user_id \
      WHERE u.kyc_level = 1 GROUP BY t.user_id HAVING COUNT(*) > 3",
    ),
    (
        "banking-days",
        "touched",
        "account_id",
        "",
        "SELECT account_id, SUM(amount) FROM streaming.t WHERE created_at >= (SELECT MIN(d) FROM \
      (SELECT d FROM streaming.calendar WHERE open AND d <= current_date ORDER BY d DESC LIMIT 5) x) GROUP BY account_id \
      HAVING SUM(amount) > 4000",
    ),
    (
        "no-row-at-all",
        "touched",
        "id",
        "",
        "SELECT m.id FROM streaming.merchants m LEFT JOIN streaming.t ON t.merchant_id = m.id \
      AND t.created_at >= NOW() - INTERVAL '1 day' WHERE m.active GROUP BY m.id HAVING COUNT(t.id) = 0",
    ),
    (
        "close-together",
        "touched",
        "user_id",
        "",
        "SELECT user_id FROM (SELECT user_id, created_at - LAG(created_at) OVER \
      (PARTITION BY user_id ORDER BY created_at) AS gap FROM streaming.t) x GROUP BY user_id \
      HAVING COUNT(*) FILTER (WHERE gap < INTERVAL '4 minutes') >= 2",
    ),
    (
        "far-apart",
        "touched",
        "card_id",
        "",
        "SELECT card_id FROM (SELECT card_id, lat - LAG(lat) OVER w AS gap FROM streaming.t \
      WINDOW w AS (PARTITION BY card_id ORDER BY created_at, id)) x GROUP BY card_id HAVING MAX(gap) > 12",
    ),
    (
        "outlier",
        "touched",
        "user_id",
        "",
        "SELECT user_id FROM streaming.t GROUP BY user_id \
      HAVING MAX(amount) > AVG(amount) + 1.5 * STDDEV(amount)",
    ),
    (
        "new-counterparties",
        "touched",
        "user_id",
        "",
        "SELECT user_id FROM (SELECT user_id, payee_id, MIN(created_at) AS first FROM streaming.t \
      GROUP BY user_id, payee_id) p GROUP BY user_id HAVING COUNT(*) FILTER (WHERE first >= NOW() - INTERVAL '4 days') >= 2",
    ),
    (
        "share-of-all",
        "whole",
        "merchant_id",
        "",
        "SELECT merchant_id FROM streaming.t GROUP BY merchant_id \
      HAVING SUM(amount) > 0.25 * (SELECT SUM(amount) FROM streaming.t)",
    ),
    (
        "top-3",
        "whole",
        "user_id",
        "",
        "SELECT user_id, SUM(amount) FROM streaming.t WHERE user_id IS NOT NULL GROUP BY user_id \
      HAVING SUM(amount) > 0 ORDER BY SUM(amount) DESC, user_id LIMIT 3",
    ),
    (
        "test-then-large",
        "touched",
        "card_id",
        "",
        "SELECT a.card_id FROM streaming.t a JOIN streaming.t b ON b.card_id = a.card_id \
      AND b.created_at > a.created_at WHERE a.amount < 200 AND b.amount > 1500 GROUP BY a.card_id HAVING COUNT(*) >= 1",
    ),
    (
        "ring",
        "touched",
        "device_id",
        "",
        "SELECT a.device_id FROM streaming.t a JOIN streaming.t b ON b.device_id = a.device_id \
      AND b.user_id <> a.user_id AND b.payee_id = a.payee_id GROUP BY a.device_id HAVING COUNT(DISTINCT a.user_id) >= 2",
    ),
    (
        "both-sides",
        "touched",
        "user_id",
        "",
        "SELECT a.user_id, COUNT(*) AS n FROM streaming.t a JOIN streaming.t b ON b.payee_id = a.user_id \
      GROUP BY a.user_id HAVING COUNT(*) > 20",
    ),
    (
        "median",
        "touched",
        "account_id; country",
        "",
        "SELECT country, account_id, percentile_cont(0.5) WITHIN GROUP (ORDER BY amount) AS mid \
      FROM streaming.t GROUP BY account_id, country HAVING percentile_cont(0.5) WITHIN GROUP (ORDER BY amount) > 900",
    ),
    (
        "either-way",
        "whole",
        "who",
        "key = [\"who\"]",
        "SELECT user_id AS who FROM streaming.t WHERE amount > 1900 UNION \
      SELECT payee_id FROM streaming.t WHERE amount < 20",
    ),
    (
        "with-a-name",
        "touched",
        "user_id",
        "",
        "WITH spent AS (SELECT user_id, SUM(amount) AS total FROM streaming.t GROUP BY user_id) \
      SELECT s.user_id, MAX(s.total) AS total FROM spent s JOIN streaming.limits USING (user_id) GROUP BY s.user_id \
      HAVING MAX(s.total) > 2500",
    ),
    (
        "newest-of-each",
        "whole",
        "user_id",
        "key = [\"user_id\"]",
        "SELECT DISTINCT ON (user_id) user_id, amount FROM streaming.t \
      WHERE amount > 1000 ORDER BY user_id, created_at DESC, id",
    ),
    (
        "of-a-view",
        "whole",
        "user_id",
        "",
        "SELECT user_id, COUNT(*) FROM streaming.big GROUP BY user_id HAVING COUNT(*) > 2",
    ),
    ("in-all", "whole", "", "", "SELECT COUNT(*) AS n, MAX(amount) AS most FROM streaming.t HAVING COUNT(*) > 30"),
    (
        "segments",
        "whole",
        "segment",
        "",
        "SELECT m.segment, SUM(t.amount) AS total FROM streaming.t JOIN streaming.merchants m \
      ON m.id = t.merchant_id GROUP BY m.segment HAVING SUM(t.amount) > 8000",
    ),
    (
        "asked-to-be-whole",
        "whole",
        "payee_id",
        "evaluate = \"whole\"",
        "SELECT payee_id, COUNT(*) FROM streaming.t GROUP BY payee_id \
      HAVING COUNT(*) > 8",
    ),
    (
        "above-their-mean",
        "touched",
        "merchant_id",
        "",
        "SELECT merchant_id FROM streaming.t a GROUP BY merchant_id HAVING MAX(amount) > 2 * \
      (SELECT AVG(amount) FROM streaming.t b WHERE b.merchant_id = a.merchant_id)",
    ),
];

fn others(dice: &mut Dice, database: &Database) {
    let (n, m) = (dice.below(5), dice.below(7));
    let statement = match dice.below(9) {
        0 => format!("UPDATE streaming.limits SET daily_limit = {} WHERE user_id = {n}", dice.below(5_000)),
        1 => format!("DELETE FROM streaming.lists WHERE value = '{n}'"),
        2 => format!("INSERT INTO streaming.lists (name, value) VALUES ('trusted', '{n}')"),
        3 => format!("UPDATE streaming.fx SET rate = rate * {} WHERE currency = 'fr'", dice.below(3)),
        4 => format!("UPDATE streaming.users SET kyc_level = 1 - kyc_level WHERE id = {n}"),
        5 => format!("UPDATE streaming.calendar SET open = NOT open WHERE d = current_date - {}", dice.below(12)),
        6 => format!("UPDATE streaming.merchants SET active = NOT active WHERE id = {m}"),
        7 => format!("UPDATE streaming.merchants SET segment = 's{}' WHERE id = {m}", dice.below(3)),
        _ => {
            format!("DELETE FROM streaming.limits WHERE user_id = {n}; INSERT INTO streaming.limits VALUES ({n}, 900)")
        }
    };
    database.sql(&statement);
}

fn open(job: &Job) -> BTreeSet<String> {
    let mut open = BTreeSet::new();
    for alert in kafka::records(&job.alert_topic, 0).iter().map(Record::json) {
        let (_, evaluated_by, key, ..) = RULES.iter().find(|rule| alert["rule"] == rule.0).unwrap();
        // More sources touch more rules.
        assert!(alert["evaluated_by"] == *evaluated_by || job.topic.is_empty(), "{alert}");
        assert_eq!((&alert["stream"], &alert["having"]), (&Json::Null, &Json::Null), "{alert}");
        assert!(alert["database"].is_object() && alert["confirmation"].is_object(), "{alert}");
        let value = |name: &str| text(&alert["key"][name]);
        let key: Vec<String> = key.split("; ").filter(|name| !name.is_empty()).map(value).collect();
        let what = format!("{}: {}", text(&alert["rule"]), key.join(", "));
        let changed = if alert["status"] == "firing" { open.insert(what) } else { open.remove(&what) };
        assert!(changed, "firing and resolved alternate: {alert}");
    }
    open
}

fn wanted(database: &Database) -> BTreeSet<String> {
    let one = |(name, _, key, _, sql): &(&str, &str, &str, &str, &str)| {
        let keys = key.split("; ").filter(|name| !name.is_empty());
        let keys: Vec<String> = keys.map(|key| format!("coalesce(q.{key}::text, 'null')")).collect();
        let keys = if keys.is_empty() { "''".to_owned() } else { keys.join(" || ', ' || ") };
        format!("SELECT '{name}: ' || {keys} FROM ({}\n) AS q", sql.trim_end_matches(';'))
    };
    let all: Vec<String> = RULES.iter().map(one).collect();
    database.sql(&all.join(" UNION ALL ")).concat().into_iter().collect()
}

fn agrees(database: &Database, job: &Job, run: &mut Running, seed: u64) {
    let deadline = Instant::now() + Duration::from_secs(60);
    let (mut wanted_now, mut got) = (wanted(database), open(job));
    while got != wanted_now && Instant::now() < deadline && !run.has_ended() {
        std::thread::sleep(Duration::from_millis(100));
        (wanted_now, got) = (wanted(database), open(job));
    }
    let missing: Vec<_> = wanted_now.difference(&got).collect();
    let extra: Vec<_> = got.difference(&wanted_now).collect();
    assert!(
        got == wanted_now,
        "seed {seed}: not open {missing:?}, and open without reason {extra:?}\n{}",
        run.log_now()
    );
}

/// `others_with_source`: tables that have a source beside the first one.
fn histories(test: &str, seed: u64, rounds: u64, steps: u64, others_with_source: &[&str]) {
    let database = Database::empty(test);
    database.sql(TABLE);
    database.sql(TABLES);
    let with_source = || std::iter::once("t").chain(others_with_source.iter().copied());
    let tables: Vec<String> = with_source().map(|table| format!("streaming.{table}")).collect();
    let connector = Connector::start(&database, "", &[("table.include.list", &tables.join(","))]);
    let folder = tempfile::tempdir().unwrap();
    let of = |table: &str| connector.topic.replace("transactions", table);
    let topic = of("t");
    let mut job = Job::new(folder.path(), &database.name, &database.name, &topic);
    job.top = "startup_wait_ms = 60000".to_owned();
    if !others_with_source.is_empty() {
        job.topic = String::new();
        job.top.extend(with_source().map(|table| format!("\n[[sources]]\ntopic = \"{}\"\n", of(table))));
    }
    job.source = "connector_keeps_nulls = true\n[audit]\nperiod_ms = 2000\nmax_database_share = 0.5\n".to_owned();
    let pace = "max_delay_ms = 200\nrecheck_interval_ms = 1000\nsweep_interval_ms = 1000\n";
    (job.name, job.sql) = (RULES[0].0.to_owned(), RULES[0].4.to_owned());
    job.message = "{user_id}".to_owned();
    job.rule = pace.to_owned();
    for (name, _, _, settings, sql) in &RULES[1..] {
        job.rule.push_str(&format!("[[rules]]\nname = \"{name}\"\n{settings}\n{pace}sql = \"\"\"\n{sql}\"\"\"\n"));
    }
    let mut dice = Dice(seed);
    database.sql(&insert(0, shapes::row(&mut dice)));
    wait_for("the topic is there", || (kafka::end_of(&topic) > 0).then_some(()));
    let mut run = job.start();
    for round in 0..rounds {
        // It goes on after a kill, and after an end.
        match round % 4 {
            1 => {
                run.kill();
                run = job.start();
            }
            3 => {
                assert_eq!(run.terminate().code, Some(0));
                run = job.start();
            }
            _ => {}
        }
        for _ in 0..steps {
            change(&mut dice, &database);
            others(&mut dice, &database);
        }
        agrees(&database, &job, &mut run, seed);
    }
    let ended = run.terminate();
    assert_eq!((ended.code, kafka::end_of(&job.dead_letter_topic)), (Some(0), 0), "{ended}");
    eprintln!("{} alerts", kafka::records(&job.alert_topic, 0).len());
}

#[test]
#[ignore = "needs the servers: scripts/test"]
fn any_sql_through_the_connector() {
    histories("any_sql", 1, 3, 30, &[]);
}

#[test]
#[ignore = "needs the servers: scripts/test"]
fn any_sql_over_several_topics() {
    histories("any_sql_topics", 2, 3, 30, &["limits", "users", "fx", "merchants", "calendar"]);
}

#[test]
#[ignore = "needs the servers: scripts/test --all"]
fn slow_any_sql_through_the_connector() {
    for seed in 100..106 {
        histories(&format!("any_sql_{seed}"), seed, 8, 60, &[]);
    }
}

/// How late alerts of touched keys are under 5,000 changes a second. It prints figures, and holds only that nothing is missed.
#[test]
#[ignore = "needs the servers: scripts/test --all"]
fn slow_lateness_of_touched_keys() {
    const SECONDS: u64 = 30;
    let database = Database::empty("any_sql_late");
    database.sql(TABLE);
    database.sql(TABLES);
    database.sql(
        "INSERT INTO streaming.limits SELECT n, 400 FROM generate_series(5, 1999) AS n;
         INSERT INTO streaming.t (id, user_id, amount, created_at) SELECT n, n % 2000, n % 7, now() - n * interval '1 second'
             FROM generate_series(1, 200000) AS n;
         ANALYZE",
    );
    let connector =
        Connector::start(&database, "", &[("table.include.list", "streaming.t"), ("snapshot.mode", "no_data")]);
    let folder = tempfile::tempdir().unwrap();
    let topic = connector.topic.replace("transactions", "t");
    let mut job = Job::new(folder.path(), &database.name, &database.name, &topic);
    job.top = "startup_wait_ms = 60000".to_owned();
    job.source = "connector_keeps_nulls = true\n".to_owned();
    (job.name, job.sql) = (RULES[0].0.to_owned(), RULES[0].4.to_owned());
    job.message = "{user_id}".to_owned();
    job.rule = format!("[[rules]]\nname = \"{}\"\nsql = \"\"\"\n{}\"\"\"\n", RULES[1].0, RULES[1].4);
    database.sql("INSERT INTO streaming.t (id, user_id, amount, created_at) VALUES (0, 0, 1, now())");
    wait_for("the topic is there", || (kafka::end_of(&topic) > 0).then_some(()));
    let run = job.start();
    let begun = Instant::now();
    for tick in 0..SECONDS * 10 {
        database.sql(&format!(
            "INSERT INTO streaming.t (id, user_id, amount, created_at)
                 SELECT 1000000 + {tick} * 500 + n, (n * 7919 + {tick} * 104729) % 2000, (n * 31 + {tick} * 17) % 23, now()
                 FROM generate_series(1, 500) AS n"
        ));
        std::thread::sleep(
            (Duration::from_millis(100) * u32::try_from(tick + 1).unwrap()).saturating_sub(begun.elapsed()),
        );
    }
    let took = begun.elapsed();
    let rules = || &RULES[..2];
    let wanted = || -> BTreeSet<String> {
        let one = |(name, _, _, _, sql): &(&str, &str, &str, &str, &str)| {
            format!("SELECT '{name}: ' || q.user_id FROM ({}) AS q", sql.trim_end_matches(';'))
        };
        let all: Vec<String> = rules().iter().map(one).collect();
        database.sql(&all.join(" UNION ALL ")).concat().into_iter().collect()
    };
    wait_for("what is open is what Postgres answers", || (open(&job) == wanted()).then_some(()));
    let late = |alert: Json| {
        let at = |text: &Json| Some(chrono::DateTime::parse_from_rfc3339(text.as_str()?).unwrap());
        Some((at(&alert["emitted_at"])? - at(&alert["trigger"]["committed_at"])?).num_milliseconds())
    };
    let alerts = kafka::records(&job.alert_topic, 0);
    let millis: Vec<u64> = alerts.iter().filter_map(|alert| alert.json()["confirmation"]["ms"].as_u64()).collect();
    let mut lateness: Vec<i64> = alerts.iter().filter_map(|alert| late(alert.json())).collect();
    lateness.sort_unstable();
    let at = |share: usize| lateness.get(lateness.len() * share / 100).copied().unwrap_or_default();
    eprintln!(
        "{} changes in {took:?}; {} alerts, of which a change triggered {}: {} ms late at the median, {} at the 99th, {} at most; a statement took {} ms on average",
        SECONDS * 5_000,
        alerts.len(),
        lateness.len(),
        at(50),
        at(99),
        lateness.last().copied().unwrap_or_default(),
        millis.iter().sum::<u64>() / u64::try_from(millis.len().max(1)).unwrap(),
    );
    assert_eq!(run.terminate().code, Some(0));
}
