//! Invalid setups: one clear message, its exit code, and no secret shown.

use crate::harness::{Database, Ended, Job, RULE, Role, Stack, Table};

/// The last lines of the log are one error with these parts in it, and nothing secret is anywhere.
fn check(what: &str, run: &Ended, code: i32, parts: &[&str]) {
    assert_eq!(run.code, Some(code), "{what}: {run}");
    let starts: Vec<usize> = (0..run.log.len()).filter(|line| run.log[*line].starts_with("error: ")).collect();
    assert_eq!(starts.len(), 1, "{what}: {run}");
    let error = run.log[starts[0]..].join("\n");
    for part in parts {
        assert!(error.contains(part), "{what}: no {part:?} in {error:?}");
    }
    assert!(run.out.is_empty() && run.counts.is_none(), "{what}: {run}");
    let everything = run.everything();
    for never in ["panicked", "hunter2", "RUST_BACKTRACE"] {
        assert!(!everything.contains(never), "{what}: {never} in {run}");
    }
}

fn job(database: &Database, folder: &tempfile::TempDir) -> Job {
    let mut job = Job::new(folder.path(), &database.name, &database.name, "no.such.topic");
    job.top = "startup_wait_ms = 1000".to_owned();
    job
}

#[test]
#[ignore = "needs the servers: scripts/test"]
fn configuration() {
    let (database, folder) = (Database::new("configuration"), tempfile::tempdir().unwrap());
    let job = job(&database, &folder);
    let top = |text: &str| Job { top: text.to_owned(), ..job.clone() };
    let source = |text: &str| Job { source: text.to_owned(), ..job.clone() };
    let url = "postgres://bob:hunter2@127.0.0.1:1/x?pasword=hunter2";
    let cases = [
        ("unknown key", top("startup_wait = 5"), vec!["startup_wait"]),
        ("unknown key in a section", source("decimal = \"precise\""), vec!["source", "decimal"]),
        ("unknown value", source("on_bad_record = \"ignore\""), vec!["on_bad_record", "dead-letter", "stop"]),
        ("wrong type", top("startup_wait_ms = \"soon\""), vec!["startup_wait_ms"]),
        ("no TOML", top("startup_wait_ms = = 5"), vec![".toml", "line 1"]),
        ("no URL", Job { url: url.to_owned(), ..job.clone() }, vec!["postgres", "url"]),
        ("no topic's name", Job { topic: "a b".to_owned(), ..job.clone() }, vec!["topic"]),
    ];
    for (what, job, parts) in cases {
        check(what, &job.try_run(), 2, &parts);
    }
    let twice = Job { source: "topic = \"twice\"".to_owned(), ..job };
    check("key twice", &twice.try_run(), 2, &[".toml", "line 8", "duplicate key"]);
}

#[test]
#[ignore = "needs the servers: scripts/test"]
fn rules() {
    let (database, folder) = (Database::new("rules"), tempfile::tempdir().unwrap());
    database.sql(
        "CREATE TABLE streaming.keyless (user_id bigint NOT NULL, amount numeric(12,2) NOT NULL,
                                         \"timestamp\" timestamptz NOT NULL);
         CREATE VIEW streaming.seen AS SELECT t.* FROM streaming.transactions AS t JOIN streaming.keyless USING (user_id);
         CREATE MATERIALIZED VIEW streaming.stored AS SELECT * FROM streaming.transactions",
    );
    let job = job(&database, &folder);
    let rule = |from: &str, to: &str| Job { sql: RULE.replacen(from, to, 1), ..job.clone() };
    let cases = [
        ("bad SQL", rule("GROUP BY", "GRUOP BY"), vec!["rule weekly-spend", "line 4"]),
        ("not supported", rule("SUM(ABS(amount)) >", "STDDEV(amount) >"), vec!["line 5"]),
        (
            "missing table",
            rule("streaming.transactions", "streaming.transaction"),
            vec!["rule weekly-spend", "streaming.transaction ", "does not exist"],
        ),
        (
            "view",
            rule("streaming.transactions", "streaming.seen"),
            vec!["streaming.seen is a view", "it reads: streaming.keyless, streaming.transactions"],
        ),
        (
            "materialized view",
            rule("streaming.transactions", "streaming.stored"),
            vec!["streaming.stored is a materialized view", "it reads: streaming.transactions"],
        ),
        (
            "sequence",
            rule("streaming.transactions", "streaming.transactions_id_seq"),
            vec!["streaming.transactions_id_seq is a sequence", "correct FROM"],
        ),
        ("missing schema", rule("streaming.transactions", "nowhere.transactions"), vec!["nowhere.transactions"]),
        (
            "missing column",
            rule("WHERE timestamp", "WHERE happened_at"),
            vec!["rule weekly-spend", "line 3", "happened_at"],
        ),
        ("missing aggregated column", rule("ABS(amount)", "ABS(amonut)"), vec!["line 1", "amonut"]),
        (
            "no primary key",
            rule("streaming.transactions", "streaming.keyless"),
            vec!["streaming.keyless", "primary key"],
        ),
    ];
    for (what, job, parts) in cases {
        check(what, &job.try_run(), 2, &parts);
    }
}

#[test]
#[ignore = "needs the servers: scripts/test"]
fn servers_that_are_not_there() {
    let (database, folder) = (Database::new("unreachable"), tempfile::tempdir().unwrap());
    let job = job(&database, &folder);
    let broker = Job { bootstrap: "127.0.0.1:1".to_owned(), ..job.clone() };
    check("broker", &broker.try_run(), 3, &["Kafka", "127.0.0.1:1", "kafka.bootstrap_servers"]);
    let url = "postgres://bob:hunter2@127.0.0.1:1/shop".to_owned();
    let postgres = Job { url, ..job.clone() };
    check("database", &postgres.try_run(), 3, &["Postgres", "bob:***@127.0.0.1:1/shop", "postgres.url"]);
    // It accepts, and never says anything.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("postgres://bob:hunter2@{}/shop", silent.local_addr().unwrap());
    let stuck = Job { url, ..job.clone() };
    check(
        "stuck database",
        &stuck.try_run(),
        3,
        &["Postgres", "bob:***@127.0.0.1", "no answer within", "postgres.url"],
    );
    check("topic", &job.try_run(), 2, &["no.such.topic", "does not exist", "source.topic"]);
    let url = Stack::get().url("no_such_database");
    check("database's name", &Job { url, ..job }.try_run(), 2, &["no_such_database"]);
}

#[test]
#[ignore = "needs the servers: scripts/test"]
fn rights() {
    let role = Role::new("rights");
    let (database, folder) = (Database::new("rights"), tempfile::tempdir().unwrap());
    let job = job(&database, &folder);
    let as_role = |password: &str| Job { url: role.url_with(password, &database.name), ..job.clone() };

    let shown = format!("{}:***@", role.0);
    check("wrong password", &as_role("not-hunter2").try_run(), 4, &[&shown, "password authentication failed"]);
    let name = Stack::get().url_as(&role.0, &database.name);
    check("no password", &Job { url: name, ..job.clone() }.try_run(), 4, &["Postgres"]);
    check("no right on the schema", &as_role("hunter2").try_run(), 4, &[&shown, "permission denied", "streaming"]);
    database.sql(&format!("GRANT USAGE ON SCHEMA streaming TO {}", role.0));
    check("no right on the table", &as_role("hunter2").try_run(), 4, &[&shown, "permission denied", "transactions"]);
    database.sql(&format!("GRANT SELECT ON streaming.transactions TO {}", role.0));
    // With no more than that it comes as far as the topic.
    check("enough rights", &as_role("hunter2").try_run(), 2, &["no.such.topic"]);
}

#[test]
#[ignore = "needs the servers: scripts/test"]
fn a_role_that_may_only_read_is_enough() {
    let role = Role::new("reader");
    let t = Table::new("reader");
    t.sql(&format!("GRANT USAGE ON SCHEMA streaming TO {0}; GRANT SELECT ON streaming.transactions TO {0}", role.0));
    t.insert(&[(1, 101, "3500")]);
    t.wait_in_kafka(1);
    let run = Job { url: role.url(&t.database.name), ..t.job("v1") }.run();
    run.read(1).fired([101]).total(101, 1, "3500.00");
    assert!(!run.everything().contains("hunter2"), "{run}");
}

#[test]
#[ignore = "needs the servers: scripts/test"]
fn a_second_run_on_the_same_folder() {
    let t = Table::new("locked");
    t.insert(&[(1, 101, "3500")]);
    t.wait_in_kafka(1);
    let job = t.job("v1");
    let mut first = job.start();
    first.wait_for_line("User 101 ($3,500.00)");
    first.wait_committed(1);
    let folder = job.checkpoints.join(&job.group);
    check("locked", &job.try_run(), 5, &[folder.to_str().unwrap(), "in use"]);
    // The first one has not noticed.
    t.insert(&[(2, 102, "3600")]);
    first.wait_for_line("User 102 ($3,600.00)");
    let ended = first.terminate();
    assert_eq!(ended.code, Some(0), "{ended}");
    ended.fired([101, 102]);
}
