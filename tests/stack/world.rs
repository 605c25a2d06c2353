//! The world around a run changes: types, keys, publications, rights, topics. The answer stays SQL's, or the run says why
//! it cannot go on.
//!
//! - `damage`: memory differs, whatever the reason
//! - `gaps`: what the stream does not bring
//! - `kinds`: more kinds of it
//! - `random`: changes by chance, under load
//! - `topics`: the topic is not the one that was read

mod damage;
mod gaps;
mod kinds;
mod random;
mod topics;

use crate::harness::{Database, Job, Table};

/// A run that looks at the world every second.
pub(super) fn watching(job: Job) -> Job {
    Job { source: format!("{}\n[audit]\nperiod_ms = 1000\nmax_database_share = 0.5\n", job.source), ..job }
}

fn five(t: &Table) {
    t.insert(&[(1, 101, "500"), (2, 101, "500"), (3, 101, "500"), (4, 101, "500"), (5, 101, "500")]);
    t.wait_in_kafka(5);
}

/// Windows that were stored with another type come from the table.
#[test]
#[ignore = "needs the servers: scripts/test"]
fn stored_windows_do_not_outlive_a_type() {
    let t = Table::new("world_type");
    five(&t);
    t.run("v1").quiet();
    t.sql("ALTER TABLE streaming.transactions ALTER amount TYPE numeric(16,4)");
    t.insert(&[(6, 101, "600")]);
    t.wait_in_kafka(6);
    t.run("v1").fired([101]).total(101, 6, "3100.0000");
    // The other way round.
    t.sql("ALTER TABLE streaming.transactions ALTER amount TYPE numeric(12,2)");
    t.insert(&[(7, 102, "40"), (8, 102, "2950")]);
    t.wait_in_kafka(8);
    t.run("v1").quiet();
    // The primary key's type, and the time's.
    t.sql("ALTER TABLE streaming.transactions ALTER id TYPE integer, ALTER \"timestamp\" TYPE timestamptz(3)");
    t.sql("UPDATE streaming.transactions SET amount = 3000.5 WHERE id = 8");
    t.wait_in_kafka(9);
    t.run("v1").fired([102]).total(102, 2, "3040.50");
}

/// The length of a text that keys are made of means nothing to them, nor does the width of an integer.
#[test]
#[ignore = "needs the servers: scripts/test"]
fn episodes_outlive_a_type_that_does_not_matter() {
    let database = Database::new("world_length");
    database.sql("ALTER TABLE streaming.transactions ALTER merchant TYPE varchar(50), ALTER user_id TYPE integer");
    let t = Table::of(database, &[]);
    t.sql("INSERT INTO streaming.transactions (user_id, merchant, amount) VALUES (1, 'a', 4000), (2, 'b', 5000), (3, 'c', 6000)");
    t.wait_in_kafka(3);
    let by = |column: &str, version: &str| {
        let job = t.job(version);
        Job { sql: job.sql.replace("user_id", column), ..job }
    };
    let text = by("merchant", "v1");
    let text =
        Job { message: "{merchant} (${total})".to_owned(), alert_topic: format!("{}.text", text.alert_topic), ..text };
    let number = by("user_id", "v2");
    assert_eq!(text.run().out.len(), 3);
    number.run().fired([1, 2, 3]);
    t.sql("ALTER TABLE streaming.transactions ALTER merchant TYPE varchar(100)");
    let ended = text.run();
    assert_eq!(ended.out, [""; 0], "{ended}");
    assert!(
        !ended.log.iter().any(|line| line.contains("from the table")),
        "a length is nothing to the windows: {ended}"
    );
    t.sql("ALTER TABLE streaming.transactions ALTER user_id TYPE bigint");
    number.run().quiet();
}

/// A type that is changed while the run is at work: what comes after it is read.
#[test]
#[ignore = "needs the servers: scripts/test"]
fn a_type_changes_at_work() {
    let t = Table::new("world_at_work");
    five(&t);
    let mut run = watching(t.job("v1")).start();
    run.wait_committed(5);
    t.sql("ALTER TABLE streaming.transactions ALTER amount TYPE numeric(16,4)");
    t.insert(&[(6, 101, "600.1234"), (7, 102, "1500.1234"), (8, 102, "1500.1234")]);
    run.wait_for_line("User 101 ($3,100.1234)");
    run.wait_for_line("User 102 ($3,000.2468)");
    let ended = run.terminate();
    assert_eq!(ended.code, Some(0), "{ended}");
    ended.fired([101, 102]).resolved([]);
    // A column renamed and renamed back loses nothing of what came between.
    let mut run = watching(t.job("v1")).start();
    run.wait_in_log("this start");
    t.sql("ALTER TABLE streaming.transactions RENAME amount TO price");
    t.sql("INSERT INTO streaming.transactions (id, user_id, price) VALUES (9, 103, 4000)");
    let ended = run.ended();
    assert_eq!(ended.code, Some(5), "{ended}");
    assert!(ended.log.iter().any(|line| line.contains("start again with the same command")), "{ended}");
    t.sql("ALTER TABLE streaming.transactions RENAME price TO amount");
    t.insert(&[(10, 104, "5000")]);
    t.wait_in_kafka(10);
    t.run("v1").fired([103, 104]).resolved([]);
}

/// A column that was added with a default is in rows without any record of it. A rewrite of the table causes no event.
#[test]
#[ignore = "needs the servers: scripts/test"]
fn values_that_no_record_has() {
    let t = Table::new("world_default");
    for id in 1..=10 {
        t.insert(&[(id, 101, "10")]);
    }
    t.wait_in_kafka(10);
    t.run("v1").quiet();
    t.sql("ALTER TABLE streaming.transactions ADD COLUMN fee numeric(12,2) NOT NULL DEFAULT 350");
    t.insert(&[(11, 102, "1")]);
    t.wait_in_kafka(11);
    let job = t.job("v1");
    let job = Job { sql: job.sql.replace("ABS(amount)", "fee"), ..job };
    job.run().fired([101]).total(101, 10, "3500.00");
    t.sql("ALTER TABLE streaming.transactions ALTER fee TYPE numeric(12,2) USING fee * 10");
    t.insert(&[(12, 103, "1")]);
    t.wait_in_kafka(12);
    job.run().fired([102]).resolved([]);
}

/// Changes without an event: a table that is created again, a partition truncated below its root.
#[test]
#[ignore = "needs the servers: scripts/test"]
fn what_goes_without_an_event() {
    let t = Table::new("world_anew");
    t.insert(&[(1, 101, "4000"), (2, 102, "4000")]);
    t.wait_in_kafka(2);
    t.run("v1").fired([101, 102]);
    t.sql(
        "ALTER TABLE streaming.transactions RENAME TO before;
         CREATE TABLE streaming.transactions (LIKE streaming.before INCLUDING ALL);
         INSERT INTO streaming.transactions SELECT * FROM streaming.before WHERE id = 2",
    );
    t.run("v1").fired([]).resolved([101]);

    let database = Database::empty("world_part");
    database.sql(
        "CREATE SCHEMA streaming;
         CREATE TABLE streaming.transactions (
             id bigint, user_id bigint NOT NULL, amount numeric(12,2) NOT NULL,
             \"timestamp\" timestamptz NOT NULL DEFAULT now(), PRIMARY KEY (id)) PARTITION BY RANGE (id);
         CREATE TABLE streaming.low PARTITION OF streaming.transactions FOR VALUES FROM (0) TO (10);
         CREATE TABLE streaming.high PARTITION OF streaming.transactions FOR VALUES FROM (10) TO (20)",
    );
    let t = Table::of(database, &[("publish.via.partition.root", "true")]);
    t.insert(&[(1, 101, "4000"), (11, 102, "4000")]);
    t.wait_in_kafka(2);
    t.run("v1").fired([101, 102]);
    t.sql("TRUNCATE streaming.low");
    t.run("v1").fired([]).resolved([101]);
}
