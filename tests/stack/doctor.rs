//! Stacks that are broken in one way each, on real servers. `doctor` names the problem, nothing else, and the fix. If
//! the fix is SQL or a request, it is run unchanged, and the finding is gone.

mod kept_back;

use std::collections::BTreeSet;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use serde_json::Value as Json;

use crate::harness::{Connector, Database, Job, Record, Role, Stack, Table, kafka, one_at_a_time, try_psql, wait_for};
use crate::truth::server::Server;

/// The doctor's report.
pub(crate) struct Report {
    code: Option<i32>,
    json: Json,
    pub(crate) everything: String,
}

impl Report {
    fn findings(&self) -> impl Iterator<Item = &Json> {
        self.json["findings"].as_array().into_iter().flatten()
    }

    pub(crate) fn of_grade(&self, grade: &str) -> BTreeSet<&str> {
        self.findings().filter(|found| found["grade"] == grade).map(|found| found["check"].as_str().unwrap()).collect()
    }

    /// The fix of a problem or warning whose text has this in it.
    fn fix(&self, check: &str, text: &str) -> String {
        let found = self.findings().find(|found| {
            found["check"] == check && found["grade"] != "ok" && found["text"].as_str().unwrap().contains(text)
        });
        let found = found.unwrap_or_else(|| panic!("no {check} with {text:?} in\n{}", self.everything));
        found["fix"].as_str().unwrap().to_owned()
    }
}

fn ask_at(job: &Job, connect: &str) -> Report {
    let done = job.command(&["doctor", "--output", "json", "--connect", connect]).output().unwrap();
    let (out, log) = (String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    let everything = format!("exit code {:?}\n{}\n{log}", done.status.code(), out.replace("},{", "},\n{"));
    for never in ["hunter2", "panicked", "RUST_BACKTRACE"] {
        assert!(!everything.contains(never), "{never} in {everything}");
    }
    let json = serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {everything}"));
    Report { code: done.status.code(), json, everything }
}

pub(crate) fn ask(job: &Job) -> Report {
    ask_at(job, &Stack::get().connect)
}

/// Until exactly these checks are problems: servers take a moment to notice what has been done to them.
fn problems(job: &Job, code: i32, checks: &[&str]) -> Report {
    let want: BTreeSet<&str> = checks.iter().copied().collect();
    let mut last = String::new();
    let deadline = Instant::now() + Duration::from_secs(40);
    loop {
        let said = ask(job);
        if said.of_grade("problem") == want {
            assert_eq!(said.code, Some(code), "{}", said.everything);
            return said;
        }
        last.clone_from(&said.everything);
        assert!(Instant::now() < deadline, "not the problems {want:?}, but\n{last}");
        std::thread::sleep(Duration::from_millis(300));
    }
}

/// Does a fix that is a request.
fn shell(command: &str) {
    let _one = one_at_a_time();
    let done = Command::new("sh").arg("-c").arg(command).output().unwrap();
    assert!(done.status.success(), "{command}: {}", String::from_utf8_lossy(&done.stderr));
}

/// A table with its index, one row of which is in the topic.
fn table(test: &str, settings: &[(&str, &str)]) -> Table {
    let database = Database::new(&format!("dr_{test}"));
    index(&database);
    with_a_row(Table::of(database, settings))
}

fn index(database: &Database) {
    database.sql("CREATE INDEX ON streaming.transactions (user_id, \"timestamp\") INCLUDE (amount)");
}

fn with_a_row(table: Table) -> Table {
    table.insert(&[(1, 101, "3500.25")]);
    wait_for("the row is in the topic", || (kafka::end_of(table.topic()) > 0).then_some(()));
    table
}

/// Topics of the test's own, so that none that others made is looked at.
fn job(table: &Table) -> Job {
    let mut job = table.job("v1");
    job.top = "startup_wait_ms = 2000".to_owned();
    job.environment.push(("TRIPLINE__CHECKPOINT__EPISODES_TOPIC", format!("{}.episodes", table.database.name)));
    job
}

#[test]
#[ignore = "needs the servers: scripts/test"]
fn a_healthy_stack() {
    let t = table("healthy", &[]);
    let mut job = job(&t);
    job.environment.push(("TRIPLINE__ALERTS__POSTGRES__MIGRATE", "true".to_owned()));
    let before = problems(&job, 0, &[]);
    assert!(before.of_grade("warning").is_empty(), "{}", before.everything);
    // Nothing was made by looking.
    assert_eq!(t.sql("SELECT count(*) FROM pg_namespace WHERE nspname = 'tripline'"), [["0"]]);
    assert_eq!((kafka::end_of(&job.alert_topic), job.committed()), (0, None));

    let mut run = job.start();
    run.wait_for_line("User 101 ($3,500.25)");
    run.wait_committed(1);
    let healthy =
        |arguments: &[&str]| job.command(&[&["healthcheck"], arguments].concat()).output().unwrap().status.code();
    assert_eq!(healthy(&[]), Some(0));
    let during = problems(&job, 0, &[]);
    assert!(during.of_grade("warning").is_empty(), "{}", during.everything);
    assert!(during.everything.contains("one active member"), "{}", during.everything);
    assert_eq!(run.terminate().code, Some(0));
    assert_eq!(healthy(&[]), Some(1));

    // For people.
    let done = job.command(&["doctor", "--connect", &Stack::get().connect]).output().unwrap();
    let text = String::from_utf8_lossy(&done.stdout).into_owned();
    assert!(text.lines().last().unwrap().starts_with("0 problems, 0 warnings, "), "{text}");
    assert!(text.contains("\nok       alerts.postgres     "), "{text}");
}

#[test]
#[ignore = "needs the servers: scripts/test"]
fn the_health_of_a_run_that_shows_a_page() {
    let t = table("page", &[]);
    let mut job = job(&t);
    let port = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port();
    job.environment.push(("TRIPLINE__WEB__LISTEN", format!("127.0.0.1:{port}")));
    let healthy = || job.command(&["healthcheck"]).output().unwrap();
    let before = healthy();
    assert_eq!(before.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&before.stderr).contains("no run answers"), "{before:?}");
    let mut run = job.start();
    run.wait_for_line("User 101 ($3,500.25)");
    let during = healthy();
    assert_eq!((during.status.code(), &during.stdout[..]), (Some(0), &b"alive: ready\n"[..]), "{during:?}");
    assert_eq!(run.terminate().code, Some(0));
    assert_eq!(healthy().status.code(), Some(1));
}

#[test]
#[ignore = "needs the servers: scripts/test"]
fn the_group_is_anothers_too() {
    let t = table("group", &[]);
    let job = job(&t);
    let member = || -> BaseConsumer {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &job.bootstrap).set("group.id", &job.group).set("client.id", "another-job");
        let member: BaseConsumer = config.create().unwrap();
        member.subscribe(&[t.topic()]).unwrap();
        member
    };
    let members = [member(), member()];
    let said = wait_for("both are seen", || {
        members.iter().for_each(|member| drop(member.poll(Duration::from_millis(100))));
        let said = ask(&job);
        said.of_grade("warning").contains("group").then_some(said)
    });
    assert!(said.fix("group", "has 2 active members: another-job at ").contains("kafka.group_id"));
    assert_eq!(said.code, Some(0), "{}", said.everything);
}

/// Killed when the test is over.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The active instance is stopped, so that a record stays unread: it makes no progress, and who stands by is alive.
#[test]
#[ignore = "needs the servers: scripts/test"]
fn the_health_of_an_instance_that_stands_by() {
    let t = table("standby", &[]);
    let mut job = job(&t);
    // The one that is stopped stays a member.
    job.environment.push(("TRIPLINE__KAFKA__PROPERTIES__SESSION_TIMEOUT_MS", "120000".to_owned()));
    let other = Job { checkpoints: job.checkpoints.with_file_name("other"), ..job.clone() };
    let health = |job: &Job| {
        let done = job.command(&["healthcheck", "--stalled-after", "1"]).output().unwrap();
        (done.status.code(), String::from_utf8_lossy(&[done.stdout, done.stderr].concat()).into_owned())
    };
    let mut active = job.command(&["run"]);
    let active = Process(active.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
    wait_for("an epoch is closed", || (job.committed() == Some(1)).then_some(()));
    let (code, said) = health(&job);
    assert!(code == Some(0) && said.contains("0 records unread"), "{said}");

    let mut run = other.start();
    run.wait_in_log("standing by until it is gone");
    shell(&format!("kill -STOP {}", active.0.id()));
    t.insert(&[(2, 102, "1")]);
    kafka::wait_for_end(t.topic(), 2);
    let said = wait_for("the stopped one makes no progress", || {
        let (code, said) = health(&job);
        (code == Some(1)).then_some(said)
    });
    assert!(said.contains("no progress: 1 records unread"), "{said}");
    let (code, said) = health(&other);
    assert!(code == Some(0) && said.contains("it is a standby"), "{code:?}: {said}");
    assert_eq!(run.terminate().code, Some(0));
    assert_eq!(health(&other).0, Some(1));
}

#[test]
#[ignore = "needs the servers: scripts/test"]
fn the_topic_is_missing() {
    let database = Database::new("dr_topic");
    index(&database);
    let t = Table::of(database, &[]);
    let said = problems(&job(&t), 2, &["topic"]);
    assert!(said.fix("topic", "does not exist").contains("insert a row"));
}

#[test]
#[ignore = "needs the servers: scripts/test"]
fn a_server_is_away() {
    let t = table("away", &[]);
    let job = job(&t);
    let broker = Job { bootstrap: "127.0.0.1:1".to_owned(), ..job.clone() };
    let said = problems(&broker, 3, &["broker"]);
    assert!(said.fix("broker", "127.0.0.1:1").contains("kafka.bootstrap_servers"));
    let postgres = Job { url: "postgres://bob:hunter2@127.0.0.1:1/shop".to_owned(), ..job.clone() };
    let said = problems(&postgres, 3, &["postgres"]);
    assert!(said.fix("postgres", "bob:***@127.0.0.1:1/shop").contains("postgres.url"));
    let said = ask_at(&job, "http://bob:hunter2@127.0.0.1:1");
    assert_eq!((said.code, said.of_grade("problem")), (Some(3), BTreeSet::from(["connect"])), "{}", said.everything);
    assert!(said.fix("connect", "http://127.0.0.1:1").contains("connect.url"));
    // A server of another kind.
    let said = ask_at(&job, &format!("http://{}:{}", Stack::get().host, Stack::get().pg_port));
    assert_eq!(said.of_grade("problem"), BTreeSet::from(["connect"]), "{}", said.everything);
}

#[test]
#[ignore = "needs the servers: scripts/test"]
fn the_connector_is_paused_or_stopped_and_its_slot_is_gone() {
    let t = table("paused", &[]);
    let job = job(&t);
    t.connector.pause();
    shell(&problems(&job, 5, &["connector"]).fix("connector", "is PAUSED"));
    problems(&job, 0, &[]);
    shell(&format!("curl -sf -X PUT {}/connectors/{}/stop", Stack::get().connect, t.database.name));
    let said = problems(&job, 5, &["connector", "slot"]);
    said.fix("connector", "is STOPPED");
    said.fix("slot", "nobody reads");
    let drop = format!("SELECT pg_drop_replication_slot('{}')", t.database.name);
    wait_for("the slot is free", || try_psql(&t.database.name, &drop).ok());
    let said = problems(&job, 5, &["connector", "slot"]);
    assert!(said.fix("slot", "there is no replication slot").contains("DELETE /connectors/NAME/offsets"));
}

#[test]
#[ignore = "needs the servers: scripts/test"]
fn the_task_has_failed() {
    let settings = [
        ("transforms", "boom"),
        ("transforms.boom.type", "org.apache.kafka.connect.transforms.Cast$Value"),
        ("transforms.boom.spec", "op:int32"),
    ];
    let database = Database::new("dr_task");
    index(&database);
    let t = Table::of(database, &settings);
    t.insert(&[(1, 101, "5")]);
    let said = problems(&job(&t), 2, &["topic", "task", "slot"]);
    assert!(said.fix("task", "is FAILED: org.apache.kafka.connect.errors.").contains("/restart?includeTasks=true"));
}

#[test]
#[ignore = "needs the servers: scripts/test"]
fn the_connector_is_missing() {
    let database = Database::new("dr_gone");
    index(&database);
    let folder = tempfile::tempdir().unwrap();
    let connector = Connector::start(&database, "", &[]);
    let topic = connector.topic.clone();
    database.insert(&[(1, 101, "3500")]);
    kafka::wait_for_end(&topic, 1);
    drop(connector);
    let job = Job::new(folder.path(), &database.name, &database.name, &topic);
    let said = problems(&job, 5, &["connector", "slot"]);
    assert!(said.fix("connector", "no connector writes").contains("curl -X PUT"));
}

#[test]
#[ignore = "needs the servers: scripts/test"]
fn the_table_does_not_fit() {
    let t = table("table", &[]);
    let job = job(&t);
    let rule = |from: &str, to: &str| Job { sql: job.sql.replacen(from, to, 1), ..job.clone() };
    let said = problems(&rule("streaming.transactions", "streaming.transaction"), 2, &["table", "connector"]);
    assert!(said.fix("table", "streaming.transaction does not exist").contains("FROM"));
    let said = problems(&rule("ABS(amount)", "ABS(amonut)"), 2, &["rule"]);
    said.fix("rule", "did you mean \"amount\"?");
    let said = problems(&rule("GROUP BY", "GRUOP BY"), 2, &["rule"]);
    said.fix("rule", "weekly-spend: line 4");

    t.sql("ALTER TABLE streaming.transactions REPLICA IDENTITY NOTHING");
    let said = problems(&job, 5, &["table.identity"]);
    t.sql(&said.fix("table.identity", "NOTHING"));
    problems(&job, 0, &[]);

    t.sql("ALTER TABLE streaming.transactions DROP CONSTRAINT transactions_pkey");
    let said = problems(&job, 2, &["table.key"]);
    let fix = said.fix("table.key", "no primary key");
    t.sql(fix.split("; or").next().unwrap());
    let said = ask(&job);
    assert!(!said.of_grade("problem").contains("table.key"), "{}", said.everything);
}

#[test]
#[ignore = "needs the servers: scripts/test"]
fn the_publication_is_without_the_table() {
    let t = table("publication", &[]);
    t.sql(&format!("ALTER PUBLICATION {} DROP TABLE streaming.transactions", t.database.name));
    let said = problems(&job(&t), 5, &["publication"]);
    t.sql(&said.fix("publication", "does not have streaming.transactions"));
    t.sql(&format!("ALTER PUBLICATION {} SET (publish = 'insert, delete')", t.database.name));
    let said = problems(&job(&t), 5, &["publication"]);
    t.sql(&said.fix("publication", "leaves out: update"));
    problems(&job(&t), 0, &[]);
}

#[test]
#[ignore = "needs the servers: scripts/test"]
fn the_role_may_not() {
    let role = Role::new("doctor");
    let t = table("role", &[]);
    let job = job(&t);
    let as_role = |password: &str| Job { url: role.url_with(password, &t.database.name), ..job.clone() };
    let said = problems(&as_role("not-hunter2"), 4, &["postgres"]);
    assert!(said.fix("postgres", "password authentication failed").contains("TRIPLINE__POSTGRES__URL"));
    let reader = as_role("hunter2");
    let said = problems(&reader, 4, &["table.rights"]);
    t.sql(&said.fix("table.rights", "may not read streaming.transactions"));
    problems(&reader, 0, &[]);
    let mut writer = reader;
    writer.environment.push(("TRIPLINE__ALERTS__POSTGRES__MIGRATE", "true".to_owned()));
    let said = problems(&writer, 2, &["alerts.postgres"]);
    assert!(said.fix("alerts.postgres", "there is no table").contains("tripline migrate"));
}

#[test]
#[ignore = "needs the servers: scripts/test"]
fn a_large_table_has_no_index() {
    let database = Database::new("dr_index");
    database.sql(
        "INSERT INTO streaming.transactions (user_id, amount, \"timestamp\")
         SELECT n % 5000, 10, now() - n * interval '10 seconds' FROM generate_series(1, 200000) AS n;
         ANALYZE streaming.transactions",
    );
    let t = Table::of(database, &[("snapshot.mode", "no_data")]);
    t.insert(&[(1_000_000, 101, "5")]);
    wait_for("the row is in the topic", || (kafka::end_of(t.topic()) > 0).then_some(()));
    let said = problems(&job(&t), 5, &["index"]);
    let fix = said.fix("index", "reads the whole table");
    assert_eq!(
        fix,
        "CREATE INDEX CONCURRENTLY ON \"streaming\".\"transactions\" (\"user_id\", \"timestamp\") INCLUDE (\"amount\")"
    );
    t.sql(&fix);
    let said = problems(&job(&t), 0, &[]);
    assert!(
        said.everything.contains("a confirmation uses transactions_user_id_timestamp_amount_idx"),
        "{}",
        said.everything
    );
}

#[test]
#[ignore = "needs the servers: scripts/test"]
fn nulls_become_defaults() {
    let t = table("nulls", &[("value.converter.replace.null.with.default", "true")]);
    let said = ask(&job(&t));
    assert_eq!((said.code, said.of_grade("warning")), (Some(0), BTreeSet::from(["nulls"])), "{}", said.everything);
    let kept = Job { source: "connector_keeps_nulls = true".to_owned(), ..job(&t) };
    problems(&kept, 5, &["nulls"]);
    t.sql("ALTER TABLE streaming.transactions ALTER amount DROP NOT NULL, ALTER amount SET DEFAULT 0");
    let said = problems(&job(&t), 2, &["nulls", "rule"]);
    said.fix("rule", "replaces NULL with the default");
    let fix = said.fix("nulls", "writes column amount's default");
    assert!(
        fix.contains("replace.null.with.default\"=\"false\"") && fix.contains("source.connector_keeps_nulls = true"),
        "{fix}"
    );
}

#[test]
#[ignore = "needs the servers: scripts/test"]
fn decimals_do_not_fit() {
    let t = table("double", &[("decimal.handling.mode", "double")]);
    let said = problems(&job(&t), 5, &["decimals", "records"]);
    assert!(said.fix("decimals", "amounts are rounded").contains(".\"decimal.handling.mode\"=\"string\""));
    drop(t);
    let t = table("precise", &[("decimal.handling.mode", "precise")]);
    let other = Job { source: "decimals = \"string\"".to_owned(), ..job(&t) };
    let said = problems(&other, 2, &["decimals", "records"]);
    let source = said.fix("decimals", "source.decimals = \"string\"").replacen("source.", "", 1);
    problems(&Job { source, ..job(&t) }, 0, &[]);
}

#[test]
#[ignore = "needs the servers: scripts/test"]
fn records_are_keyed_otherwise() {
    let t = table("keys", &[("message.key.columns", "streaming.transactions:user_id")]);
    let said = problems(&job(&t), 5, &["keys"]);
    let fix = said.fix("keys", "keyed by user_id, and the primary key is id");
    t.sql(fix.rsplit_once("; or ").unwrap().1);
    let said = problems(&job(&t), 0, &[]);
    assert_eq!(said.of_grade("warning"), BTreeSet::from(["keys"]), "{}", said.everything);
}

#[test]
#[ignore = "needs the servers: scripts/test"]
fn records_are_unwrapped() {
    let settings =
        [("transforms", "unwrap"), ("transforms.unwrap.type", "io.debezium.transforms.ExtractNewRecordState")];
    let t = table("unwrapped", &settings);
    let said = problems(&job(&t), 0, &[]);
    assert!(said.fix("transforms", "unwraps records without op, lsn, txId").contains("op,lsn,txId,source.ts_us"));
    let enveloped = Job { source: "format = \"json\"".to_owned(), ..job(&t) };
    let said = problems(&enveloped, 2, &["records"]);
    assert_eq!(said.fix("records", "ExtractNewRecordState has unwrapped"), "source.format = \"auto\"");
}

#[test]
#[ignore = "needs the servers: scripts/test"]
fn topics_are_not_what_they_should_be() {
    let t = table("compacted", &[]);
    let job = job(&t);
    let episodes = format!("{}.episodes", t.database.name);
    kafka::produce(&episodes, &[Record { value: Some(b"{}".to_vec()), ..Record::default() }]);
    let said = problems(&job, 2, &["topic.episodes"]);
    let fix = said.fix("topic.episodes", "cleanup.policy=delete");
    assert!(fix.contains(&format!("--entity-name {episodes} --add-config cleanup.policy=compact")), "{fix}");

    // Something else stands in the topic of changes.
    let foreign = format!("{}.foreign", t.database.name);
    kafka::produce(&foreign, &[Record { value: Some(b"hello".to_vec()), ..Record::default() }]);
    let other = Job { topic: foreign, environment: Vec::new(), ..job };
    let said = ask(&other);
    assert!(said.fix("records", "are not Debezium's").contains("source.topic"));
    assert!(said.fix("keys", "have no key").contains("message.key.columns"));
}

#[test]
#[ignore = "needs the servers: scripts/test"]
fn a_standby_and_a_server_without_logical_decoding() {
    let t = table("server", &[]);
    let mut server = Server::new("wal_level = replica");
    let job = Job { url: server.url(), ..job(&t) };
    let said = ask(&job);
    assert!(said.fix("postgres.wal_level", "wal_level is replica").contains("ALTER SYSTEM SET wal_level = 'logical'"));
    server.stop();
    std::fs::write(server.data().join("standby.signal"), "").unwrap();
    server.start();
    let said = ask(&job);
    assert_eq!(said.fix("postgres.primary", "it is a standby"), "point postgres.url at the primary");
    assert_eq!(said.code, Some(2), "{}", said.everything);
}

#[test]
#[ignore = "needs the servers: scripts/test"]
fn a_transaction_is_left_open() {
    let t = table("open", &[]);
    let mut job = job(&t);
    job.environment.push(("TRIPLINE__KAFKA__TRANSACTION_TIMEOUT_MS", "60000".to_owned()));
    let mut dies = job.clone();
    dies.environment.push(("TRIPLINE_FAULT", "kafka.alerts_sent:1".to_owned()));
    dies.start().wait_for_end(Duration::from_secs(60));
    let fix = ask(&job).fix("transactions", &format!("{}, partition 0: readers of committed", job.alert_topic));
    let own = format!("start the run, which ends a transaction of tripline-{}-0", job.group);
    assert!(fix.starts_with(&own) && fix.contains("abort --topic"), "{fix}");
    let mut run = job.start();
    run.wait_for_line("User 101 ($3,500.25)");
    let said = ask(&job);
    assert!(!said.of_grade("warning").contains("transactions"), "{}", said.everything);
    assert_eq!(run.terminate().code, Some(0));
}
