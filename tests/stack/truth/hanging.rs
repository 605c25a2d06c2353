//! A change in Kafka whose transaction is not visible yet: undecided, not refuted.

use serde_json::{Value as Json, json};

use crate::harness::{Job, RULE, Stack, kafka, one_at_a_time, wait_for};

use super::feed::{Feed, wait_for_alerts};
use super::server::Server;

/// Debezium on a server of the test's own. It must be dropped before the server.
struct Connector {
    name: String,
}

impl Connector {
    fn start(name: &str, server: &Server) -> Self {
        let connector = Self { name: name.to_owned() };
        let config = json!({
            "connector.class": "io.debezium.connector.postgresql.PostgresConnector",
            "tasks.max": "1",
            "database.hostname": "127.0.0.1",
            "database.port": server.port.to_string(),
            "database.user": "postgres",
            "database.password": "not needed on loopback",
            "database.dbname": "postgres",
            "table.include.list": "streaming.transactions",
            "topic.prefix": name,
            "plugin.name": "pgoutput",
            "slot.name": name,
            "publication.name": name,
            "publication.autocreate.mode": "filtered",
            "decimal.handling.mode": "string",
            "poll.interval.ms": "50",
            "key.converter": "org.apache.kafka.connect.json.JsonConverter",
            "key.converter.schemas.enable": "false",
            "value.converter": "org.apache.kafka.connect.json.JsonConverter",
            "value.converter.schemas.enable": "false",
        });
        let url = connector.url("/config");
        wait_for("the connector is made", || {
            let _one = one_at_a_time();
            let answer = agent().put(&url).send_json(&config).ok()?;
            matches!(answer.status().as_u16(), 200 | 201).then_some(())
        });
        let streams = "SELECT 1 FROM pg_stat_replication WHERE state = 'streaming'";
        wait_for("the connector streams", || {
            let status: Json = agent().get(connector.url("/status")).call().ok()?.body_mut().read_json().ok()?;
            let running = status["tasks"][0]["state"] == "RUNNING";
            (running && !server.sql(streams).is_empty()).then_some(())
        });
        connector
    }

    fn url(&self, part: &str) -> String {
        format!("{}/connectors/{}{part}", Stack::get().connect, self.name)
    }
}

impl Drop for Connector {
    fn drop(&mut self) {
        let _one = one_at_a_time();
        if let Err(error) = agent().delete(self.url("")).call() {
            eprintln!("connector {} not removed: {error}", self.name);
        }
    }
}

fn agent() -> ureq::Agent {
    ureq::Agent::config_builder().http_status_as_error(false).proxy(None).build().into()
}

/// Statements of confirmation so far.
fn asked(server: &Server) -> usize {
    server.log().lines().filter(|line| line.contains("execute") && line.contains("SELECT asked.ord")).count()
}

/// The commit waits for a synchronous standby that does not exist. Its change is decoded all the same.
#[test]
#[ignore = "needs the servers: scripts/test"]
fn a_commit_that_hangs_after_its_change_is_in_kafka() {
    let server = Server::new("log_statement = all");
    let name = format!("truth_hanging_{}", std::process::id());
    let connector = Connector::start(&name, &server);
    let topic = format!("{name}.streaming.transactions");
    let insert = |id: i64, user: i64, amount: &str| {
        format!("INSERT INTO streaming.transactions (id, user_id, amount) VALUES ({id}, {user}, {amount})")
    };
    server.sql(&insert(1, 102, "4000"));
    server.sql(&insert(2, 103, "4000"));
    kafka::wait_for_end(&topic, 2);
    let mut job = Job::new(server.folder(), &name, &format!("{name}-v1"), &topic);
    job.url = server.url();
    let mut run = job.start();
    wait_for_alerts(&job, 2);

    server.set("synchronous_standby_names", "nobody");
    let mut fires = server.session().unwrap();
    fires.send(&insert(3, 101, "3500"));
    let mut resolves = server.session().unwrap();
    resolves.send("UPDATE streaming.transactions SET amount = 1 WHERE id = 2");
    kafka::wait_for_end(&topic, 4);
    let hanging = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'";
    assert_eq!(server.value(hanging), "2", "both commits hang");
    run.wait_in_log("undecided");
    run.wait_committed(4);
    let before = asked(&server);
    // Asked again and again: after 250 ms, 500 ms, 1 s.
    wait_for("it is asked again", || (asked(&server) >= before + 6).then_some(()));
    assert_eq!(server.value(hanging), "2", "both commits still hang");
    wait_for_alerts(&job, 2);

    server.set("synchronous_standby_names", "");
    assert_eq!(fires.ask("SELECT 'visible'").as_deref(), Some("visible"));
    run.wait_for_line("User 101 ($3,500.00)");
    run.wait_for_line("Resolved: User 103 ($1.00)");
    wait_for_alerts(&job, 4);
    assert_eq!(kafka::end_of(&topic), 4, "no further change");
    let ended = run.terminate();
    assert_eq!(ended.code, Some(0), "{ended}");
    ended.fired([101, 102, 103]).resolved([103]).total(101, 1, "3500.00");
    assert!(!ended.log.iter().any(|line| line.contains("refuted")), "undecided is not refuted: {ended}");
    let undecided = ended.log.iter().filter(|line| line.contains("undecided")).count();
    eprintln!("hanging: {undecided} times undecided, attempts {}", ended.alert(101)["confirmation"]["attempts"]);
    drop(connector);
}

/// A delete empties its group in memory, and the database shows the row until the commit is through: undecided for as
/// long as it takes, never taken for drift, and resolved then. `killed`: another run goes on from the folder meanwhile.
fn a_delete_hangs(test: &str, killed: bool) {
    let feed = Feed::new(test, "log_statement = all");
    feed.insert(1..=3, "4000");
    feed.tell_users(1..=3);
    let job = feed.job("");
    let mut run = job.start();
    wait_for_alerts(&job, 3);
    run.wait_committed(3);
    let mut session = feed.server.session().unwrap();
    session.send("BEGIN; DELETE FROM streaming.transactions WHERE id = 1");
    let tx_id = session.ask("SELECT pg_current_xact_id()").unwrap();
    let mut gone = feed.deletion(1);
    let mut value = gone[0].json();
    value["source"]["txId"] = tx_id.parse::<u64>().unwrap().into();
    gone[0].value = Some(value.to_string().into_bytes());
    feed.tell(&gone);
    run.wait_committed(5);
    run.wait_in_log("undecided");
    if killed {
        run.kill().fired(1..=3);
        run = job.start();
        run.wait_in_log("undecided");
    }
    let (before, more) = (asked(&feed.server), if killed { 1 } else { 4 });
    wait_for("it is asked again and again", || (asked(&feed.server) >= before + more).then_some(()));
    session.send("COMMIT");
    run.wait_for_line("Resolved: User 1 ($0.00)");
    wait_for_alerts(&job, 4);
    let ended = run.terminate();
    assert_eq!(ended.code, Some(0), "{ended}");
    ended.resolved([1]);
    for word in ["refuted", "drift"] {
        assert!(!ended.log.iter().any(|line| line.contains(word)), "{word}: {ended}");
    }
    job.run().read(0).quiet();
}

#[test]
#[ignore = "needs the servers: scripts/test"]
fn a_delete_that_hangs_is_undecided_and_resolves() {
    a_delete_hangs("delete", false);
}

#[test]
#[ignore = "needs the servers: scripts/test"]
fn slow_a_delete_that_hangs_outlives_a_kill() {
    a_delete_hangs("delete_killed", true);
}

/// The same seen by a run that starts while the transaction is open, that ends while it is, and by the next one.
#[test]
#[ignore = "needs the servers: scripts/test"]
fn undecided_outlives_a_restart() {
    let feed = Feed::new("open", "");
    let mut session = feed.server.session().unwrap();
    session.send("BEGIN; INSERT INTO streaming.transactions (id, user_id, amount) VALUES (1, 101, 3500)");
    let tx_id = session.ask("SELECT xmin FROM streaming.transactions").unwrap();
    // What the row will be, told before it is.
    feed.server.sql("INSERT INTO streaming.transactions (id, user_id, amount) VALUES (2, 101, 3500)");
    let mut early = feed.records("id = 2");
    let mut value = early[0].json();
    value["after"]["id"] = 1.into();
    value["source"]["txId"] = tx_id.parse::<u64>().unwrap().into();
    early[0].value = Some(value.to_string().into_bytes());
    early[0].key = Some(br#"{"id":1}"#.to_vec());
    feed.server.sql("DELETE FROM streaming.transactions WHERE id = 2");
    feed.tell(&early);
    let job = Job { sql: RULE.replace("> 3000", "> 3400"), ..feed.job("") };
    let mut run = job.start();
    run.wait_in_log("undecided");
    run.wait_committed(1);
    let ended = run.terminate();
    assert_eq!(ended.code, Some(0), "{ended}");
    ended.quiet();
    let mut run = job.start();
    run.wait_in_log("undecided");
    session.send("COMMIT");
    run.wait_for_line("User 101 ($3,500.00)");
    let ended = run.terminate();
    assert_eq!(ended.code, Some(0), "{ended}");
    ended.fired([101]).resolved([]);
    assert_eq!(ended.alert(101)["trigger"]["offset"], 0, "{ended}");
    for part in ["undecided", &format!("[{tx_id}]")] {
        assert!(ended.log.iter().any(|line| line.contains(part)), "no {part}: {ended}");
    }
    job.run().read(0).quiet();
}
