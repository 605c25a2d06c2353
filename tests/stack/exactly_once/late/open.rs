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

/// A run that has been killed when its alerts were with the broker, and not committed.
fn killed(database: &Database, name: &str, readers: &Readers) -> Run {
    let kafka = format!("transaction_timeout_ms = {}\n", TIMEOUT.as_millis());
    let fault = "kafka.sent:2".to_owned();
    let mut run = Run::with(&database.name, name, &[fault], Setup { kafka, ..Setup::default() });
    run.feed.insert(&[(1, 1, "2000", BEFORE)]);
    run.feed.tell();
    run.start();
    let deadline = Instant::now() + Duration::from_secs(60);
    while run.is_at_work() {
        assert!(Instant::now() < deadline, "it goes on");
        std::thread::sleep(PAUSE);
    }
    assert!(readers.stand_still(&run.alert_topic), "no transaction was left open");
    run
}

#[test]
#[ignore = "needs the servers: scripts/test"]
fn killed_in_mid_transaction_it_holds_readers_up_for_a_moment() {
    let (database, readers) = (Database::new("open"), Readers::new());
    let run = killed(&database, "alone", &readers);
    let alone = readers.wait(&run.alert_topic, TIMEOUT + CLEANUP + Duration::from_secs(1));

    let mut run = killed(&database, "replaced", &readers);
    run.start();
    let replaced = readers.wait(&run.alert_topic, SUCCESSOR);
    eprintln!("readers stand still for {alone:?} without a successor, {replaced:?} from its start");
    let at = run.feed.clock(0);
    run.settle(&at);
    run.terminate();
}
