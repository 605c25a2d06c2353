//! The database is there and a statement fails: for its time, or for what one key holds.

use std::time::Instant;

use crate::harness::{Job, Record, wait_for};

use super::feed::{Feed, wait_for_alerts};

#[test]
#[ignore = "needs the servers: scripts/test"]
fn statements_run_into_their_timeout() {
    let feed = Feed::new("timeout", "");
    feed.insert(1..=200, "3500");
    let late = feed.records("user_id > 20");
    feed.tell_users(1..=20);
    let job = feed.job("statement_timeout_ms = 50");
    let mut run = job.start();
    wait_for_alerts(&job, 20);
    run.wait_committed(20);
    let mut lock = feed.server.session().unwrap();
    lock.send("BEGIN; LOCK TABLE streaming.transactions IN ACCESS EXCLUSIVE MODE");
    assert_eq!(lock.ask("SELECT 'locked'").as_deref(), Some("locked"));
    feed.tell(&late);
    run.wait_committed(200);
    run.wait_in_log("statement timeout");
    // A few rounds of it.
    wait_for("statements were cancelled", || {
        (feed.server.log().matches("due to statement timeout").count() >= 4).then_some(())
    });
    wait_for_alerts(&job, 20);
    drop(lock);
    let back = Instant::now();
    wait_for_alerts(&job, 200);
    eprintln!("timeout: the last of 180 alerts {:?} after the lock was gone", back.elapsed());
    let ended = run.terminate();
    assert_eq!(ended.code, Some(0), "{ended}");
    ended.fired(1..=200).resolved([]);
}

/// ABS of the least integer has no integer: Postgres refuses every statement with that key in it, and memory, which
/// counts in 128 bits, has it over the threshold.
#[test]
#[ignore = "needs the servers: scripts/test"]
fn a_key_that_makes_its_statement_fail_holds_nobody_up() {
    let feed = Feed::new("bad_key", "");
    feed.server.sql(
        "DROP TABLE streaming.transactions;
         CREATE TABLE streaming.transactions (id bigint PRIMARY KEY, user_id bigint, amount int,
                                              \"timestamp\" timestamptz NOT NULL DEFAULT now());
         INSERT INTO streaming.transactions SELECT n, n, 3500 FROM generate_series(1, 120) AS n;
         UPDATE streaming.transactions SET amount = -2147483648 WHERE id = 33",
    );
    let later = feed.records("id > 100");
    // As the connector writes an integer.
    let plain = |records: Vec<Record>| -> Vec<Record> {
        let number = |mut record: Record| {
            let mut value = record.json();
            let amount: i64 = value["after"]["amount"].as_str().unwrap().parse().unwrap();
            value["after"]["amount"] = amount.into();
            record.value = Some(value.to_string().into_bytes());
            record
        };
        records.into_iter().map(number).collect()
    };
    feed.tell(&plain(feed.records("id <= 100")));
    let mut job: Job = feed.job("");
    job.environment.push(("RUST_LOG", "info,tripline::unit=debug".to_owned()));
    let mut run = job.start();
    wait_for_alerts(&job, 99);
    run.wait_in_log("integer out of range");
    run.wait_committed(100);
    // It goes on waiting, and others go on firing.
    feed.tell(&plain(later));
    let told = Instant::now();
    wait_for_alerts(&job, 119);
    eprintln!("bad_key: 20 more alerts {:?} after they were told", told.elapsed());
    // Mended, it fires; and the change that mends it is not even needed.
    feed.server.sql("UPDATE streaming.transactions SET amount = 4000 WHERE id = 33");
    let mended = Instant::now();
    wait_for_alerts(&job, 120);
    eprintln!("bad_key: fired {:?} after the row was mended, without a change in the stream", mended.elapsed());
    feed.tell(&plain(feed.updates("id = 33")));
    run.wait_committed(121);
    let ended = run.terminate();
    assert_eq!(ended.code, Some(0), "{ended}");
    ended.fired(1..=120).resolved([]);
    for line in ended.log.iter().filter(|line| line.contains("not confirmed yet")) {
        // Its key is at DEBUG alone.
        assert_eq!(line.contains("Int(33)"), line.contains(" DEBUG "), "{line}");
        assert!(line.contains("Int(33)") || !line.contains("key="), "another key failed: {line}");
    }
    job.run().read(0).quiet();
}
