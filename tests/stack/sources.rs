//! Several tables in one run: a topic for each, one group, one epoch, one transaction.
//!
//! - this file: rules in memory on each table, and one that joins them; kills
//! - `places`: sources that come and go
//! - `commands`: what the commands and the page show
//! - `refused`: what is wrong with sources

mod commands;
mod places;
mod refused;

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value as Json;

use crate::harness::{Connector, Database, Job, Record, kafka, wait_for};

const TABLES: &str = "
    CREATE SCHEMA streaming;
    CREATE TABLE streaming.transactions (
        id bigserial PRIMARY KEY, user_id bigint NOT NULL, amount numeric(12,2) NOT NULL,
        created_at timestamptz NOT NULL DEFAULT now());
    CREATE INDEX ON streaming.transactions (user_id, created_at);
    CREATE TABLE streaming.limits (user_id bigint PRIMARY KEY, daily_limit numeric(12,2) NOT NULL);
    INSERT INTO streaming.limits VALUES (1, 1000), (2, 1000), (3, 1000);
    INSERT INTO streaming.transactions (user_id, amount) VALUES (1, 10);";

/// Nothing but changes finds anything in the time of a test.
const PACE: &str = "max_delay_ms = 50\nrecheck_interval_ms = 3600000\nsweep_interval_ms = 3600000\n";

const SPEND: (&str, &str) = (
    "spend",
    "SELECT user_id, SUM(amount) AS total FROM streaming.transactions WHERE created_at >= NOW() - INTERVAL '7 days' \
     GROUP BY user_id HAVING SUM(amount) > 5000",
);
const HIGH: (&str, &str) = (
    "high",
    "SELECT user_id, MAX(daily_limit) AS top FROM streaming.limits GROUP BY user_id HAVING MAX(daily_limit) > 9000",
);
const OVER: (&str, &str) = (
    "over",
    "SELECT t.user_id, SUM(t.amount) AS spent, l.daily_limit FROM streaming.transactions t JOIN streaming.limits l \
     ON l.user_id = t.user_id WHERE t.created_at >= NOW() - INTERVAL '1 day' GROUP BY t.user_id, l.daily_limit \
     HAVING SUM(t.amount) > l.daily_limit",
);

/// Two tables that Debezium watches, and a folder.
struct World {
    // The order in which they are removed.
    connector: Connector,
    database: Database,
    folder: tempfile::TempDir,
}

impl World {
    fn new(test: &str) -> Self {
        let world = Self::with(test, &[]);
        for table in ["transactions", "limits"] {
            wait_for("the topics are there", || (kafka::end_of(&world.topic(table)) > 0).then_some(()));
        }
        world
    }

    /// With more settings of the connector.
    fn with(test: &str, settings: &[(&str, &str)]) -> Self {
        let database = Database::empty(test);
        database.sql(TABLES);
        let tables = [("table.include.list", "streaming.transactions,streaming.limits")];
        let connector = Connector::start(&database, "", &[&tables, settings].concat());
        Self { connector, database, folder: tempfile::tempdir().unwrap() }
    }

    fn topic(&self, table: &str) -> String {
        self.connector.topic.replace("transactions", table)
    }

    fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A run over the topics of these tables with these rules.
    fn job(&self, tables: &[&str], rules: &[(&str, &str)]) -> Job {
        let name = &self.database.name;
        let mut job = Job::new(self.folder(), name, name, "");
        job.top = format!(
            "startup_wait_ms = 60000\n{}",
            sources(&tables.iter().map(|table| self.topic(table)).collect::<Vec<_>>())
        );
        job.message = "{user_id}".to_owned();
        let (first, others) = rules.split_first().unwrap();
        (job.name, job.sql) = (first.0.to_owned(), first.1.to_owned());
        job.rule = PACE.to_owned();
        for (name, sql) in others {
            job.rule.push_str(&format!(
                "[[rules]]\nname = \"{name}\"\nmessage = \"{{user_id}}\"\n{PACE}sql = \"\"\"{sql}\"\"\"\n"
            ));
        }
        job
    }

    fn both(&self) -> Job {
        self.job(&["transactions", "limits"], &[SPEND, HIGH, OVER])
    }
}

fn sources(topics: &[String]) -> String {
    topics.iter().map(|topic| format!("[[sources]]\ntopic = \"{topic}\"\n")).collect()
}

/// How often a rule has fired and resolved for a user.
fn counted(job: &Job, rule: &str, user: i64) -> (usize, usize) {
    let alerts = alerts(job);
    let mine = alerts.iter().filter(|alert| alert["rule"] == rule && alert["key"]["user_id"] == user);
    let count = |status: &str| mine.clone().filter(|alert| alert["status"] == status).count();
    (count("firing"), count("resolved"))
}

fn alerts(job: &Job) -> Vec<Json> {
    kafka::records(&job.alert_topic, 0).iter().map(Record::json).collect()
}

/// Waits until a rule has fired and resolved so often for a user.
fn wait_counted(job: &Job, rule: &str, user: i64, want: (usize, usize)) {
    let mut got = (0, 0);
    let found = crate::harness::poll(|| {
        got = counted(job, rule, user);
        (got == want).then_some(())
    });
    assert!(found.is_some(), "{rule} of {user}: fired and resolved {got:?}, not {want:?}");
}

/// No alert is there twice: neither its id, nor the same status of a key twice in a row.
fn each_once(job: &Job) {
    let mut last: BTreeMap<String, String> = BTreeMap::new();
    let mut ids = std::collections::BTreeSet::new();
    for alert in alerts(job) {
        assert!(ids.insert(alert["id"].to_string()), "twice: {alert}");
        let key = format!("{} {}", alert["rule"], alert["key"]);
        let status = alert["status"].to_string();
        assert_ne!(last.insert(key, status.clone()), Some(status), "twice in a row: {alert}");
    }
}

#[test]
#[ignore = "needs the servers: scripts/test"]
fn changes_of_both_tables_alert_at_once() {
    let world = World::new("sources_both");
    let (sql, job) = (|text: &str| drop(world.database.sql(text)), world.both());
    let mut run = job.start();
    run.wait_in_log("this start");
    run.wait_in_log(
        "Postgres evaluates it for the keys that a change of streaming.transactions or streaming.limits touches",
    );
    // Memory, on each of them.
    sql("INSERT INTO streaming.transactions (id, user_id, amount) VALUES (100, 7, 6000)");
    wait_counted(&job, "spend", 7, (1, 0));
    sql("UPDATE streaming.transactions SET amount = 10 WHERE id = 100");
    wait_counted(&job, "spend", 7, (1, 1));
    sql(
        "UPDATE streaming.transactions SET amount = 7000 WHERE id = 100; INSERT INTO streaming.limits VALUES (7, 9500)",
    );
    wait_counted(&job, "spend", 7, (2, 1));
    wait_counted(&job, "high", 7, (1, 0));
    sql("DELETE FROM streaming.transactions WHERE id = 100; DELETE FROM streaming.limits WHERE user_id = 7");
    wait_counted(&job, "spend", 7, (2, 2));
    wait_counted(&job, "high", 7, (1, 1));
    // Both, by a change of either.
    sql("INSERT INTO streaming.transactions (id, user_id, amount) VALUES (200, 2, 1500)");
    wait_counted(&job, "over", 2, (1, 0));
    sql("UPDATE streaming.limits SET daily_limit = 2000 WHERE user_id = 2");
    wait_counted(&job, "over", 2, (1, 1));
    sql("UPDATE streaming.limits SET daily_limit = 1200 WHERE user_id = 2");
    wait_counted(&job, "over", 2, (2, 1));
    sql("DELETE FROM streaming.limits WHERE user_id = 2");
    wait_counted(&job, "over", 2, (2, 2));
    sql("INSERT INTO streaming.limits VALUES (2, 1400)");
    wait_counted(&job, "over", 2, (3, 2));
    sql("UPDATE streaming.transactions SET amount = 1300 WHERE id = 200");
    wait_counted(&job, "over", 2, (3, 3));
    each_once(&job);
    let triggers: Vec<(String, Json)> = alerts(&job)
        .iter()
        .filter(|alert| alert["rule"] == "over")
        .map(|alert| {
            (alert["trigger"]["topic"].as_str().unwrap_or_default().to_owned(), alert["trigger"]["pk"].clone())
        })
        .collect();
    let (limits, transactions) = (world.topic("limits"), world.topic("transactions"));
    let pk = |topic: &str| if topic == limits { r#"{"user_id":2}"# } else { r#"{"id":200}"# };
    let want = [&transactions, &limits, &limits, &limits, &limits, &transactions];
    let want: Vec<(String, Json)> =
        want.into_iter().map(|topic| (topic.clone(), serde_json::from_str(pk(topic)).unwrap())).collect();
    assert_eq!(triggers, want);
    let ended = run.terminate();
    assert_eq!((ended.code, kafka::end_of(&job.dead_letter_topic)), (Some(0), 0), "{ended}");
    // What is wrong with a record is said with its topic.
    kafka::produce(&limits, &[Record { value: Some(b"{".to_vec()), ..Record::default() }]);
    job.run();
    let dead = kafka::records(&job.dead_letter_topic, 0);
    assert_eq!(
        (dead.len(), dead[0].header("tripline_topic"), dead[0].header("tripline_partition")),
        (1, limits.as_str(), "0")
    );
}

#[test]
#[ignore = "needs the servers: scripts/test"]
fn killed_with_two_topics_each_alert_comes_once() {
    let world = World::new("sources_kill");
    let job = world.both();
    let mut run = job.start();
    for round in 0..6 {
        let user = 1000 + round;
        world.database.sql(&format!(
            "INSERT INTO streaming.limits VALUES ({user}, 100);
             INSERT INTO streaming.transactions (user_id, amount) VALUES ({user}, 5500), ({user}, {round})"
        ));
        if round % 2 == 0 {
            wait_counted(&job, "over", user, (1, 0));
        }
        run.kill();
        // Written while nothing runs.
        world.database.sql(&format!(
            "UPDATE streaming.limits SET daily_limit = 9001 + {round} WHERE user_id = {user};
             INSERT INTO streaming.transactions (user_id, amount) VALUES ({user} + 100, 6000)"
        ));
        run = job.start();
    }
    for user in (1000..1006).chain(1100..1106) {
        wait_counted(&job, "spend", user, (1, 0));
    }
    for user in 1000..1006 {
        wait_counted(&job, "high", user, (1, 0));
        let resolves = || (counted(&job, "over", user).0 == counted(&job, "over", user).1).then_some(());
        wait_for("what is over no longer is resolved", resolves);
    }
    assert_eq!(run.terminate().code, Some(0));
    each_once(&job);
    // In one lineage, and with both topics in one commit.
    let lineages: std::collections::BTreeSet<String> =
        alerts(&job).iter().map(|alert| alert["lineage"].to_string()).collect();
    assert_eq!(lineages.len(), 1);
    for table in ["transactions", "limits"] {
        let topic = world.topic(table);
        assert_eq!(kafka::committed(&job.group, &topic), Some(kafka::end_of(&topic)), "{topic}");
    }
    // Without its folder it goes on from what Kafka has.
    std::fs::remove_dir_all(job.checkpoints.join(&job.group)).unwrap();
    world.database.sql("INSERT INTO streaming.transactions (user_id, amount) VALUES (2000, 6000)");
    kafka::wait_for_end(
        &world.topic("transactions"),
        kafka::committed(&job.group, &world.topic("transactions")).unwrap() + 1,
    );
    let ended = job.run();
    assert!(ended.log.iter().any(|line| line.contains("rebuilds: there is no checkpoint")), "{ended}");
    wait_counted(&job, "spend", 2000, (1, 0));
    each_once(&job);
}

/// A record of such a topic goes to the table that its envelope names.
#[test]
#[ignore = "needs the servers: scripts/test"]
fn two_tables_in_one_topic() {
    let route = [
        ("transforms", "route"),
        ("transforms.route.type", "org.apache.kafka.connect.transforms.RegexRouter"),
        ("transforms.route.regex", r"([^.]+)\.streaming\..*"),
        ("transforms.route.replacement", "$1.all"),
    ];
    let world = World::with("sources_one", &route);
    let topic = world.connector.topic.replace("streaming.transactions", "all");
    kafka::wait_for_end(&topic, 4);
    let source = |table: &str| format!("[[sources]]\ntopic = \"{topic}\"\ntable = \"streaming.{table}\"\n");
    let top = format!("startup_wait_ms = 60000\n{}{}", source("transactions"), source("limits"));
    let job = Job { top, ..world.both() };
    let sql = |text: &str| drop(world.database.sql(text));
    let run = job.start();
    sql(
        "INSERT INTO streaming.transactions (id, user_id, amount) VALUES (100, 7, 6000); INSERT INTO streaming.limits VALUES (7, 9500)",
    );
    wait_counted(&job, "spend", 7, (1, 0));
    wait_counted(&job, "high", 7, (1, 0));
    sql("UPDATE streaming.limits SET daily_limit = 5000 WHERE user_id = 7");
    wait_counted(&job, "over", 7, (1, 0));
    wait_counted(&job, "high", 7, (1, 1));
    run.kill();
    // The keys of the two are alike.
    sql("INSERT INTO streaming.limits VALUES (100, 9600); DELETE FROM streaming.limits WHERE user_id = 7");
    let run = job.start();
    wait_counted(&job, "high", 100, (1, 0));
    wait_counted(&job, "over", 7, (1, 1));
    assert_eq!((counted(&job, "spend", 7), kafka::end_of(&job.dead_letter_topic)), ((1, 0), 0));
    sql("DELETE FROM streaming.transactions WHERE id = 100");
    wait_counted(&job, "spend", 7, (1, 1));
    assert_eq!(run.terminate().code, Some(0));
    each_once(&job);
}
