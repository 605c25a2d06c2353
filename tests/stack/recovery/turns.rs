//! Who works when several instances could, each on a folder of its own.

use crate::harness::wait_for;
use crate::truth::server::Session;

use super::run::Run;
use super::world::{World, firing, resolved};

const STANDS_BY: &str = "standing by until it is gone";
const STARTS: &str = "tripline::monitor::recover: this start";

/// The active instance is killed in the middle of a stream of alerts, while another stands by. Then the other way
/// round.
#[test]
#[ignore = "needs the servers: scripts/test"]
fn the_active_one_is_killed_and_a_stand_by_takes_over() {
    let w = World::new("turns");
    w.spend(1..=20, "3500");
    let mut a = Run::start(&w.job("a"));
    a.wait_in_log(STARTS);
    let mut b = Run::start(&w.job("b"));
    b.wait_in_log(STANDS_BY);
    for first in [21, 41, 61, 81] {
        w.spend(first..=first + 19, "3500");
    }
    w.wait_for_alerts(30);
    a.kill();
    w.spend(101..=120, "3500");
    w.wait_for_alerts(120);
    let mut a = Run::start(&w.job("a"));
    a.wait_in_log(STANDS_BY);
    w.change(1, "1");
    w.wait_for_alerts(121);
    w.wait_committed(121);
    b.kill();
    w.change(2, "1");
    w.wait_for_alerts(122);
    w.wait_committed(122);
    a.terminate();
    w.one_each(&[&firing(1..=120), &resolved([1, 2])]);
}

/// Whether it has started since it last stood by.
fn works(run: &Run) -> bool {
    let log = run.log();
    let last = log.iter().rev().find(|line| line.contains(STARTS) || line.contains(STANDS_BY));
    last.is_some_and(|line| line.contains(STARTS))
}

/// Two instances that start at the same instant may both join. One of them remains.
#[test]
#[ignore = "needs the servers: scripts/test"]
fn started_in_the_same_instant() {
    let w = World::new("instant");
    w.spend(1..=3, "3500");
    let (a, b) = (w.job("a"), w.job("b"));
    let both = [Run::start(&a), Run::start(&b)];
    w.wait_for_alerts(3);
    w.wait_committed(3);
    wait_for("one works and the other stands by", || (works(&both[0]) != works(&both[1])).then_some(()));
    let [first, second] = both;
    let (first, second) = if works(&first) { (first, second) } else { (second, first) };
    w.spend(4..=4, "3500");
    w.wait_for_alerts(4);
    w.wait_committed(4);
    first.terminate();
    wait_for("the other one works", || works(&second).then_some(()));
    w.change(1, "1");
    w.wait_for_alerts(5);
    w.wait_committed(5);
    second.terminate();
    w.one_each(&[&firing(1..=4), &resolved([1])]);
}

/// A server that makes no progress for longer than `max.poll.interval.ms`. The member polls on and keeps its
/// partitions.
struct Slow {
    w: World,
    held: Vec<Session>,
}

impl Slow {
    fn new(test: &str) -> Self {
        let mut w = World::with_server(test);
        w.properties.push(("max.poll.interval.ms", "6500"));
        w.spend(1..=2, "3500");
        w.read("a");
        Self { w, held: Vec::new() }
    }

    fn hold(&mut self, table: &str) {
        let mut session = self.w.server().session().unwrap();
        let held = session.ask(&format!("BEGIN; LOCK TABLE {table}; SELECT 'held'"));
        assert_eq!(held.as_deref(), Some("held"));
        self.held.push(session);
    }

    /// Releases the session that was held first, after this many seconds.
    fn release(&mut self, seconds: u32) {
        let mut session = self.held.remove(0);
        let slept = session.ask(&format!("SELECT 'slept' FROM pg_sleep({seconds}); COMMIT"));
        assert_eq!(slept.as_deref(), Some("slept"));
    }

    fn end(self, run: Run, users: std::ops::RangeInclusive<i64>) {
        let done = run.terminate();
        for text in ["took the partitions away", "MAXPOLL", "SESSTMOUT"] {
            assert!(!done.log.iter().any(|line| line.contains(text)), "{done}");
        }
        assert_eq!(done.log.iter().filter(|line| line.contains(STARTS)).count(), 1, "{done}");
        self.w.one_each(&[&firing(users)]);
    }
}

#[test]
#[ignore = "needs the servers: scripts/test"]
fn the_database_takes_long_at_the_start() {
    let mut slow = Slow::new("slow_start");
    slow.w.spend(3..=3, "3500");
    slow.hold("tripline.generations");
    let run = Run::start(&slow.w.job("a"));
    slow.release(11);
    slow.w.wait_for_alerts(3);
    slow.w.wait_committed(3);
    slow.end(run, 1..=3);
}

/// First the answers to candidates do not come, and then the alerts cannot be written.
#[test]
#[ignore = "needs the servers: scripts/test"]
fn the_database_takes_long_in_the_middle() {
    let mut slow = Slow::new("slow_middle");
    let mut run = Run::start(&slow.w.job("a"));
    run.wait_in_log(STARTS);
    slow.w.insert(3..=4, "3500");
    let late = slow.w.records("c", "id > 2");
    slow.hold("streaming.transactions");
    slow.hold("tripline.alerts");
    slow.w.tell(&late);
    slow.release(8);
    slow.w.wait_for_alerts(3);
    slow.release(8);
    slow.w.spend(5..=5, "3500");
    slow.w.wait_for_alerts(5);
    slow.w.wait_committed(5);
    slow.end(run, 1..=5);
}
