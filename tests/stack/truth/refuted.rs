//! The stream says yes and the database no.

use crate::harness::{Ended, Job, RULE, Record, Table, kafka};

use super::feed::{Feed, wait_for_alerts};

/// Keys and amounts are in the log of a run at DEBUG.
fn with_keys(job: Job) -> Job {
    Job { environment: vec![("TRIPLINE__LOG__LEVEL", "info,tripline::unit=debug".to_owned())], ..job }
}

/// Some line of the log has all of these.
fn logged(run: &Ended, parts: &[&str]) {
    let found = run.log.iter().any(|line| parts.iter().all(|part| line.contains(part)));
    assert!(found, "no line with {parts:?}: {run}");
}

#[test]
#[ignore = "needs the servers: scripts/test"]
fn rows_deleted_behind_a_paused_connector_raise_nothing_and_a_rise_afterwards_fires() {
    let t = Table::new("behind");
    t.insert(&[(1, 101, "2000"), (2, 101, "2000"), (3, 102, "4000")]);
    t.wait_in_kafka(3);
    t.connector.pause();
    t.sql("DELETE FROM streaming.transactions WHERE id = 2");
    let mut run = with_keys(t.job("v1")).start();
    run.wait_for_line("User 102 ($4,000.00)");
    run.wait_in_log("refuted");
    t.connector.resume();
    t.wait_in_kafka(5);
    run.wait_committed(5);
    t.insert(&[(4, 101, "1000")]); // the threshold itself
    run.wait_committed(6);
    t.insert(&[(5, 101, "500")]);
    run.wait_for_line("User 101 ($3,500.00)");
    run.wait_committed(7);
    let ended = run.terminate();
    assert_eq!(ended.code, Some(0), "{ended}");
    ended.fired([101, 102]).resolved([]).total(101, 3, "3500.00");
    // Both totals, and against what.
    logged(&ended, &["refuted", "Int(101)", r#""total":"4000.00""#, r#""total":"2000.00""#]);
    logged(&ended, &["refuted: ", "snapshot="]);
    t.run("v1").read(0).quiet();
}

#[test]
#[ignore = "needs the servers: scripts/test"]
fn rows_that_the_table_never_had_raise_nothing() {
    let feed = Feed::new("never_had", "");
    feed.insert(1..=3, "4000");
    let records = feed.records("true");
    feed.server.sql("DELETE FROM streaming.transactions WHERE user_id < 3");
    feed.tell(&records);
    let job = with_keys(feed.job(""));
    let run = job.run();
    run.read(3).fired([3]).resolved([]);
    assert!(run.count("refuted") >= 2, "{run}");
    logged(&run, &["refuted", "Int(1)", r#"stream={"transactions":1,"total":"4000.00"}"#]);
    logged(&run, &["refuted", "Int(1)", r#"database={"transactions":0,"total":null}"#]);
    // In the next run they are over in truth.
    feed.insert(1..=1, "5000");
    feed.tell(&feed.updates("user_id = 1"));
    let run = job.run();
    run.read(1).fired([1]);
    // The candidate had been waiting, so it may be asked before the change is read.
    assert_eq!(run.alert(1)["database"]["total"], "5000.00", "{run}");
}

/// A table whose changes reach the run only when and as far as the test tells them.
struct Slow {
    t: Table,
    topic: String,
    told: usize,
}

impl Slow {
    fn new(test: &str) -> Self {
        let t = Table::new(test);
        let topic = format!("{}.slow", t.topic());
        Self { t, topic, told: 0 }
    }

    fn job(&self) -> Job {
        with_keys(Job { topic: self.topic.clone(), ..self.t.job("v1") })
    }

    /// Copies Debezium's next records unchanged. `all` is how many there are by then.
    fn tell(&mut self, records: usize, all: i64) {
        self.t.wait_in_kafka(all);
        let written: Vec<Record> = kafka::records(self.t.topic(), 0);
        kafka::produce(&self.topic, &written[self.told..self.told + records]);
        self.told += records;
    }
}

/// One transaction moves one row away and another one in. Between the halves the stream's total is below the
/// threshold, which the database never shows.
#[test]
#[ignore = "needs the servers: scripts/test"]
fn half_a_transaction_neither_resolves_nor_fires() {
    let mut slow = Slow::new("halves");
    slow.t.insert(&[(1, 101, "2000"), (2, 101, "1500"), (3, 102, "2000")]);
    slow.tell(3, 3);
    let mut run = slow.job().start();
    run.wait_for_line("User 101 ($3,500.00)");
    run.wait_committed(3);
    slow.t.sql(
        "BEGIN;
         UPDATE streaming.transactions SET user_id = 102 WHERE id = 1;
         UPDATE streaming.transactions SET user_id = 101 WHERE id = 3;
         COMMIT",
    );
    // 102 has 4000 now in memory and 101 has 1500.
    slow.tell(1, 5);
    run.wait_committed(4);
    run.wait_in_log("refuted");
    slow.tell(1, 5);
    run.wait_committed(5);
    // The same once more, and the run is stopped and started between the halves.
    slow.t.sql("UPDATE streaming.transactions SET user_id = 203 - user_id WHERE id IN (1, 3)");
    slow.tell(1, 7);
    run.wait_committed(6);
    let ended = run.terminate();
    assert_eq!(ended.code, Some(0), "{ended}");
    ended.fired([101]).resolved([]);
    logged(&ended, &["refuted", "Int(102)", r#""total":"4000.00""#, r#""total":"2000.00""#]);
    logged(&ended, &["refuted", "Int(101)", r#""total":"1500.00""#, r#""total":"3500.00""#]);
    let mut run = slow.job().start();
    run.wait_in_log("this start resumes");
    slow.tell(1, 7);
    run.wait_committed(7);
    // What truly resolves is told.
    slow.t.sql("UPDATE streaming.transactions SET user_id = 102 WHERE id = 2");
    slow.tell(1, 8);
    run.wait_for_line("Resolved: User 101 ($2,000.00)");
    run.wait_for_line("User 102 ($3,500.00)");
    let ended = run.terminate();
    assert_eq!(ended.code, Some(0), "{ended}");
    ended.resolved([101]).fired([102]);
}

/// The first of two rows of a transaction is over the threshold by itself.
#[test]
#[ignore = "needs the servers: scripts/test"]
fn half_a_transaction_that_is_over_alone_does_not_fire() {
    let mut slow = Slow::new("half_over");
    slow.t.insert(&[(1, 101, "4000"), (2, 101, "-2000"), (3, 102, "3001")]);
    slow.tell(1, 3);
    let mut job = slow.job();
    job.sql = RULE.replace("SUM(ABS(amount))", "SUM(amount)");
    let mut run = job.start();
    run.wait_in_log("refuted");
    slow.tell(2, 3);
    run.wait_for_line("User 102 ($3,001.00)");
    run.wait_committed(3);
    let ended = run.terminate();
    ended.fired([102]).resolved([]);
    logged(&ended, &["refuted", "Int(101)", r#""total":"4000.00""#, r#""total":"2000.00""#]);
}

/// A primary key changes as a delete, a tombstone and a create, and the run sees them one by one. An update takes the
/// old version out and puts the new one in. The user is over all the time.
#[test]
#[ignore = "needs the servers: scripts/test"]
fn taking_out_and_putting_in_is_no_news() {
    let mut slow = Slow::new("in_and_out");
    slow.t.insert(&[(1, 101, "3500"), (2, 102, "100")]);
    slow.tell(2, 2);
    let job = slow.job();
    let mut run = job.start();
    run.wait_for_line("User 101 ($3,500.00)");
    run.wait_committed(2);
    slow.t.sql("UPDATE streaming.transactions SET id = 11 WHERE id = 1");
    for (told, all) in [(1, 3), (1, 4), (1, 5)] {
        slow.tell(told, 5);
        run.wait_committed(all);
        if all == 3 {
            run.wait_in_log("refuted");
        }
    }
    for update in 0..10 {
        slow.t.sql(&format!("UPDATE streaming.transactions SET amount = {} WHERE id = 11", 3_501 + update));
        slow.tell(1, 6 + update);
    }
    run.wait_committed(15);
    // And under the threshold all the time.
    slow.t.sql("UPDATE streaming.transactions SET id = 12, user_id = 103 WHERE id = 2");
    slow.tell(3, 18);
    run.wait_committed(18);
    wait_for_alerts(&job, 1);
    let ended = run.terminate();
    assert_eq!(ended.code, Some(0), "{ended}");
    ended.fired([101]).resolved([]);
    slow.job().run().read(0).quiet();
}
