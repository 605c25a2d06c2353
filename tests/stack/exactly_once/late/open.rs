//! Killed in the middle of a transaction: how long readers of committed records stand still.

use std::time::{Duration, Instant};

use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};

use super::super::run::{Run, Setup};
use super::super::script::BEFORE;
use crate::harness::{Database, Stack};

/// `transaction_timeout_ms`
const TIMEOUT: Duration = Duration::from_secs(2);
/// `transaction.abort.timed.out.transaction.cleanup.interval.ms` of the broker, by default.
const CLEANUP: Duration = Duration::from_secs(10);
/// After a successor's start.
const SUCCESSOR: Duration = Duration::from_secs(3);
const CALL: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(20);

struct Readers([BaseConsumer; 2]);

impl Readers {
    fn new() -> Self {
        Self(["read_uncommitted", "read_committed"].map(|level| {
            let mut config = ClientConfig::new();
            config.set("bootstrap.servers", &Stack::get().bootstrap).set("group.id", "tests");
            config.set("isolation.level", level).create().unwrap()
        }))
    }

    /// Whether readers of committed records do not see the end.
    fn stand_still(&self, topic: &str) -> bool {
        let end = |reader: &BaseConsumer| reader.fetch_watermarks(topic, 0, CALL).unwrap().1;
        // In this order: what is written in between is for the second one to see.
        let [all, committed] = &self.0;
        let all = end(all);
        end(committed) < all
    }

    /// How long it takes until they do not.
    fn wait(&self, topic: &str, at_most: Duration) -> Duration {
        let begun = Instant::now();
        while self.stand_still(topic) {
            assert!(begun.elapsed() < at_most, "{topic}: after {at_most:?} readers still stand still");
            std::thread::sleep(PAUSE);
        }
        begun.elapsed()
    }
}

/// A run that has been killed when an alert was with the broker, and not committed. `timeout`: `transaction_timeout_ms`.
fn killed(database: &Database, name: &str, timeout: Duration, readers: &Readers) -> Run {
    let kafka = format!("transaction_timeout_ms = {}\n", timeout.as_millis());
    let mut run = Run::with(&database.name, name, &[], Setup { kafka, ..Setup::default() });
    run.feed.insert(&[(1, 1, "2000", BEFORE)]);
    run.feed.tell();
    run.end_next_at("kafka.alerts_sent:1");
    run.start();
    let deadline = Instant::now() + Duration::from_secs(60);
    while run.is_at_work() {
        assert!(Instant::now() < deadline, "it goes on");
        std::thread::sleep(PAUSE);
    }
    assert!(readers.stand_still(&run.alert_topic), "no transaction was left open on {}", run.alert_topic);
    run
}

/// A successor takes over, and readers see the end. How long that took.
fn replaced(mut run: Run, readers: &Readers, at_most: Duration) -> Duration {
    run.start();
    let took = readers.wait(&run.alert_topic, at_most);
    let at = run.feed.clock(0);
    run.settle(&at);
    run.terminate();
    took
}

#[test]
#[ignore = "needs the servers: scripts/test"]
fn killed_in_mid_transaction_it_holds_readers_up_for_a_moment() {
    let (database, readers) = (Database::new("open"), Readers::new());
    // The client's own timeout is a minute.
    let run = killed(&database, "alone", TIMEOUT, &readers);
    let alone = readers.wait(&run.alert_topic, Duration::from_secs(45));
    // The broker would not end it within the time that the test waits: it is the successor that does.
    let run = killed(&database, "replaced", Duration::from_secs(600), &readers);
    let replaced = replaced(run, &readers, Duration::from_secs(60));
    eprintln!("readers stand still for {alone:?} without a successor, {replaced:?} from its start");
}

/// By the clock, and so with nothing else beside it.
#[test]
#[ignore = "needs the servers: scripts/test --all"]
fn slow_readers_go_on_in_time() {
    let (database, readers) = (Database::new("open_slow"), Readers::new());
    let run = killed(&database, "alone", TIMEOUT, &readers);
    let alone = readers.wait(&run.alert_topic, TIMEOUT + CLEANUP + Duration::from_secs(1));
    let run = killed(&database, "replaced", TIMEOUT, &readers);
    let replaced = replaced(run, &readers, SUCCESSOR);
    eprintln!("readers stand still for {alone:?} without a successor, {replaced:?} from its start");
}
