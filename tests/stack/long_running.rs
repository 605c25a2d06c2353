//! A run without an end: what it tells while it lives, and what a restart tells again.

use std::time::{Duration, Instant};

use crate::harness::{Table, kafka, wait_for};

#[test]
#[ignore = "needs the servers: scripts/test"]
fn stop_and_start_again() {
    let t = Table::new("restart");
    t.insert(&[(1, 101, "2000")]);
    t.wait_in_kafka(1);
    let job = t.job("v1");

    let mut run = job.start();
    run.wait_committed(1);
    t.insert(&[(2, 101, "1500"), (3, 102, "100")]);
    run.wait_for_line("User 101 ($3,500.00)");
    wait_for("the record is on the alert topic", || (kafka::records(&job.alert_topic, 0).len() == 1).then_some(()));
    run.wait_committed(3);
    let asked = Instant::now();
    let ended = run.terminate();
    assert!(asked.elapsed() < Duration::from_secs(5), "took {:?}: {ended}", asked.elapsed());
    assert_eq!(ended.code, Some(0), "{ended}");
    ended.fired([101]).resolved([]).total(101, 2, "3500.00");

    let mut run = job.start();
    run.wait_committed(3);
    // More of an open episode is nothing new.
    t.insert(&[(4, 101, "10"), (5, 102, "3000")]);
    run.wait_for_line("User 102 ($3,100.00)");
    run.wait_committed(5);
    let ended = run.terminate();
    assert_eq!(ended.code, Some(0), "{ended}");
    ended.fired([102]).resolved([]);
    t.run("v1").read(0).quiet();
}

#[test]
#[ignore = "needs the servers: scripts/test"]
fn killed_while_idle() {
    let t = Table::new("killed");
    t.insert(&[(1, 101, "3500"), (2, 102, "2000"), (3, 103, "4000")]);
    t.wait_in_kafka(3);
    let job = t.job("v1");

    let mut run = job.start();
    run.wait_for_line("User 101 ($3,500.00)");
    run.wait_for_line("User 103 ($4,000.00)");
    run.wait_committed(3);
    let killed = run.kill();
    assert_eq!(killed.code, None, "{killed}");
    killed.fired([101, 103]);

    t.insert(&[(4, 102, "1500"), (5, 101, "1")]);
    t.sql("UPDATE streaming.transactions SET amount = 1 WHERE id = 3");
    t.wait_in_kafka(6);
    let mut run = job.start();
    run.wait_for_line("User 102 ($3,500.00)");
    run.wait_for_line("Resolved: User 103 ($1.00)");
    run.wait_committed(6);
    let ended = run.terminate();
    assert_eq!(ended.code, Some(0), "{ended}");
    ended.fired([102]).resolved([103]);
    t.run("v1").read(0).quiet();
}

/// The topic is created with the table's first change. Until then the run waits.
#[test]
#[ignore = "needs the servers: scripts/test"]
fn started_before_the_topic_exists() {
    let t = Table::new("early");
    let mut run = t.job("v1").start();
    run.wait_in_log("does not exist yet");
    t.insert(&[(1, 101, "3500")]);
    run.wait_for_line("User 101 ($3,500.00)");
    let ended = run.terminate();
    assert_eq!(ended.code, Some(0), "{ended}");
    ended.fired([101]);
}

/// A second instance does not join beside the first: it waits, and takes over when the first is gone.
#[test]
#[ignore = "needs the servers: scripts/test"]
fn stand_by() {
    let t = Table::new("stand_by");
    t.insert(&[(1, 101, "3500")]);
    t.wait_in_kafka(1);
    let job = t.job("v1");
    let mut first = job.start();
    first.wait_for_line("User 101 ($3,500.00)");
    first.wait_committed(1);

    let mut other = job.clone();
    other.checkpoints = job.checkpoints.with_file_name("other-checkpoints");
    let mut second = other.start();
    second.wait_in_log("standing by until it is gone");
    // The first is not disturbed.
    t.insert(&[(2, 102, "3600")]);
    first.wait_for_line("User 102 ($3,600.00)");
    first.wait_committed(2);
    assert_eq!(first.terminate().code, Some(0));

    t.insert(&[(3, 103, "3700")]);
    second.wait_for_line("User 103 ($3,700.00)");
    second.wait_committed(3);
    // With a folder of its own, it knows from Kafka what was told: nothing again, and the end of it.
    t.sql("UPDATE streaming.transactions SET amount = 1 WHERE id = 1");
    second.wait_for_line("Resolved: User 101 ($1.00)");
    let ended = second.terminate();
    assert_eq!(ended.code, Some(0), "{ended}");
    assert_eq!(ended.out.len(), 3, "{ended}");
    let told: Vec<String> =
        kafka::records(&job.alert_topic, 0).iter().map(|record| record.header("ce_id").to_owned()).collect();
    let ids: std::collections::BTreeSet<&String> = told.iter().collect();
    assert_eq!((told.len(), ids.len()), (4, 4), "{told:?}");
}

/// Beside an active member a run that is to end says so instead of waiting for ever.
#[test]
#[ignore = "needs the servers: scripts/test"]
fn until_end_beside_an_active_member() {
    let t = Table::new("beside");
    t.insert(&[(1, 101, "3500")]);
    t.wait_in_kafka(1);
    let job = t.job("v1");
    let mut first = job.start();
    first.wait_committed(1);
    let mut other = job.clone();
    other.checkpoints = job.checkpoints.with_file_name("other-checkpoints");
    other.top = "startup_wait_ms = 1000".to_owned();
    let ended = other.try_run();
    assert_eq!(ended.code, Some(5), "{ended}");
    assert!(ended.everything().contains("has an active member"), "{ended}");
    assert_eq!(first.terminate().code, Some(0));
}
