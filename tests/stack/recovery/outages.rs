//! Kafka goes down and comes back in the middle of a run with alerts due, and forgets a group after a long outage.

use std::time::Duration;

use crate::harness::{Database, wait_for};

use super::broker::Broker;
use super::cluster::Cluster;
use super::run::Run;
use super::world::{Truth, World, firing, resolved};

const STARTS: &str = "tripline::monitor::recover: this start";

fn on(broker: &Broker, test: &str) -> World {
    let database = Database::new(&format!("recovery_{test}"));
    World::of(test, Cluster::at(broker.bootstrap()), Truth::Shared(database))
}

/// Ways to go and to come back.
#[derive(Clone, Copy)]
enum Outage {
    Killed,
    Stopped,
    Hangs,
}

/// Rows that are over the threshold leave their window while Kafka is down.
fn outage(test: &str, how: Outage, lasts: Duration) {
    let broker = Broker::new("");
    let mut w = on(&broker, test);
    w.sql = w.sql.replace("7 days", "8 seconds");
    w.cluster.create_topic(&w.topic, 1);
    let mut run = Run::start(&w.job("a"));
    run.wait_in_log(STARTS);
    w.spend(1..=5, "3500");
    w.wait_for_alerts(5);
    match how {
        Outage::Killed => broker.signal("KILL"),
        Outage::Stopped => broker.stop(),
        Outage::Hangs => broker.signal("STOP"),
    }
    std::thread::sleep(lasts); // how long it lasts is what this is about
    match how {
        Outage::Hangs => broker.signal("CONT"),
        _ => broker.start(),
    }
    w.cluster = Cluster::at(broker.bootstrap()); // a client can take minutes to get over it
    w.wait_for_alerts(10);
    w.spend(6..=6, "3500");
    w.wait_for_alerts(12);
    let done = run.terminate();
    eprintln!("{test}: {} lines of log", done.log.len());
    let quiet = w.read("a");
    assert_eq!((quiet.count("read"), quiet.count("fired")), (0, 0), "{quiet}");
    w.one_each(&[&firing(1..=6), &resolved(1..=6)]);
}

#[test]
#[ignore = "needs the servers: scripts/test"]
fn kafka_is_killed_and_comes_back() {
    outage("killed", Outage::Killed, Duration::from_secs(1));
}

#[test]
#[ignore = "needs the servers: scripts/test"]
fn slow_kafka_is_away_for_twenty_seconds() {
    outage("away", Outage::Stopped, Duration::from_secs(20));
}

#[test]
#[ignore = "needs the servers: scripts/test"]
fn slow_kafka_hangs_for_twenty_seconds() {
    outage("hangs", Outage::Hangs, Duration::from_secs(20));
}

/// Longer than a transaction may take.
#[test]
#[ignore = "needs the servers: scripts/test"]
fn slow_kafka_is_away_for_more_than_a_minute() {
    outage("away_long", Outage::Stopped, Duration::from_secs(75));
}

#[test]
#[ignore = "needs the servers: scripts/test"]
fn slow_kafka_hangs_for_more_than_a_minute() {
    outage("hangs_long", Outage::Hangs, Duration::from_secs(75));
}

/// The broker has forgotten what the group had committed, as it was away for longer than that is kept. That is no order
/// to read everything again: neither with the folder, nor from Kafka alone.
#[test]
#[ignore = "needs the servers: scripts/test"]
fn slow_the_offsets_have_expired() {
    let broker = Broker::new("offsets.retention.minutes=1\noffsets.retention.check.interval.ms=1000");
    let w = on(&broker, "expired");
    w.spend(1..=3, "3500");
    w.read("a");
    let lineage = w.lineage("a");
    for turn in 0..2_i64 {
        if turn == 1 {
            std::fs::remove_dir_all(w.checkpoint("a")).unwrap();
        }
        std::thread::sleep(Duration::from_secs(61)); // the shortest that can be set
        wait_for("the offsets have expired", || w.committed().is_none().then_some(()));
        w.change(1 + turn, "1");
        let run = w.read("a").said("count as expired");
        assert_eq!((run.count("read"), run.count("fired"), run.count("resolved")), (1, 0, 1), "{run}");
        assert_eq!((w.lineage("a"), w.aside("a")), (lineage.clone(), vec![]));
        assert_eq!(w.committed(), Some(4 + turn));
    }
    w.one_each(&[&firing(1..=3), &resolved([1, 2])]);
}
