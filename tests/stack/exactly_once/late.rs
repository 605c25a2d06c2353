//! Requests to Kafka that come late, get lost or are repeated, and connections that are cut, at seeded points: nothing is
//! delivered twice or lost, nothing is visible without its progress, and no run stops.
//!
//! - this file: the points, and the worlds in which they happen
//! - `cuts`: connections cut at random under load
//! - `latency`: what the fence costs
//! - `open`: killed in the middle of a transaction, which then holds up readers
//!
//! `TRIPLINE_POINTS` (30, in the slow test 500) is how many points there are, `TRIPLINE_SEED` has them again, and
//! `TRIPLINE_THREADS` (3) is how many worlds there are at the same time.

mod cuts;
mod latency;
mod open;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use super::books::{check, visible_with_progress};
use super::load::Seed;
use super::number;
use super::run::{Run, Setup};
use super::script::BEFORE;
use crate::harness::{Database, Dice};
use crate::proxy::point::{Act, Outcome, Point};
use crate::proxy::{Proxy, wire};

/// Each has one row, which goes over the threshold and back.
const USERS: i64 = 60;
/// Between two changes. Each makes an alert, and so a transaction, unless several come at once.
const PACE: Duration = Duration::from_millis(25);
/// How long a point may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// Points that one world goes through.
const POINTS_OF_A_WORLD: usize = 10;

/// Short time-outs, so that a request that is not answered is repeated soon.
const KAFKA: &str = "transaction_timeout_ms = 10000\n\
    properties.socket.timeout.ms = 1000\nproperties.reconnect.backoff.ms = 20\nproperties.reconnect.backoff.max.ms = 200\n\
    properties.session.timeout.ms = 6000\nproperties.heartbeat.interval.ms = 500\n";

/// A point by dice: the requests of transactions most often, and most often late.
fn roll(dice: &mut Dice) -> Point {
    let key = match dice.below(100) {
        0..40 => wire::END_TXN,
        40..60 => wire::TXN_OFFSET_COMMIT,
        60..67 => wire::ADD_PARTITIONS_TO_TXN,
        67..74 => wire::ADD_OFFSETS_TO_TXN,
        74..82 => wire::PRODUCE,
        82..88 => wire::INIT_PRODUCER_ID,
        88..91 => wire::HEARTBEAT,
        91..94 => wire::FETCH,
        94..97 => wire::METADATA,
        _ => wire::JOIN_GROUP,
    };
    let act = match dice.below(20) {
        0..12 => Act::Late,
        12..14 => Act::LateByTimeout,
        14..16 => Act::Twice,
        16..17 => Act::LoseRequest,
        17..19 => Act::LoseAnswer,
        // Some answers for longer than the client waits.
        _ if dice.below(2) == 0 => Act::DelayAnswer(Duration::from_millis(dice.below(1_500))),
        _ => Act::Delay(Duration::from_millis(dice.below(500))),
    };
    // To join may take as long as `max.poll.interval.ms`: nobody waits for that here.
    let act = if key == wire::JOIN_GROUP && act == Act::LateByTimeout { Act::Late } else { act };
    let until = [wire::ADD_PARTITIONS_TO_TXN, wire::ADD_OFFSETS_TO_TXN, wire::PRODUCE, wire::TXN_OFFSET_COMMIT];
    let until = until[usize::try_from(dice.below(4)).unwrap()];
    // Offsets replace those that are there.
    let until = if key == wire::TXN_OFFSET_COMMIT { wire::TXN_OFFSET_COMMIT } else { until };
    let is_frequent = matches!(key, wire::END_TXN | wire::TXN_OFFSET_COMMIT | wire::PRODUCE | wire::FETCH);
    let nth = if is_frequent { 1 + u32::try_from(dice.below(3)).unwrap() } else { 1 };
    Point { key, nth, act, until, ends: wire::END_TXN, wait: Duration::from_millis(dice.below(10)) }
}

/// A run at rest that watches a table with a row for each of so many users, all of them below the threshold.
fn started(database: &Database, name: &str, users: i64, setup: Setup) -> Run {
    let mut run = Run::with(&database.name, name, &[], setup);
    let rows: Vec<(i64, i64, &str, &str)> = (1..=users).map(|user| (user, user, "1", BEFORE)).collect();
    run.feed.insert(&rows);
    run.feed.tell();
    run.start();
    let at = run.feed.clock(0);
    run.settle(&at);
    run
}

/// A table, a run that watches it through a proxy, and where its changes stand.
struct World {
    run: Run,
    proxy: Proxy,
    /// Producers are re-created.
    is_fenced: bool,
    changes: i64,
}

impl World {
    fn start(database: &Database, name: &str, environment: &[(&'static str, &'static str)]) -> Self {
        Self::with(database, name, KAFKA, environment)
    }

    fn with(database: &Database, name: &str, kafka: &str, environment: &[(&'static str, &'static str)]) -> Self {
        let proxy = Proxy::start();
        let bootstrap = Some(proxy.bootstrap());
        let (is_fenced, mut environment) = (environment.is_empty(), environment.to_vec());
        // What one world leaves open would hold up the others.
        let episodes: &'static str = Box::leak(format!("{}.{name}.episodes", database.name).into_boxed_str());
        environment.push(("TRIPLINE__CHECKPOINT__EPISODES_TOPIC", episodes));
        let run = started(database, name, USERS, Setup { bootstrap, kafka: kafka.to_owned(), environment });
        Self { run, proxy, is_fenced, changes: 0 }
    }

    /// One user's total goes over the threshold, or back.
    fn change(&mut self) {
        let (user, round) = (self.changes % USERS + 1, self.changes / USERS);
        let amount = if round % 2 == 0 { 2_000 } else { 1 };
        self.run.feed.update(&format!("amount = {amount}"), &format!("id = {user}"));
        self.run.feed.tell();
        self.changes += 1;
    }

    /// Changes the table until all of a point has happened. `None`: the run has stopped.
    fn pass(&mut self, point: Point) -> Option<Outcome> {
        let starts = point.key == wire::JOIN_GROUP || point.key == wire::INIT_PRODUCER_ID && !self.is_fenced;
        if starts {
            self.proxy.arm(point);
            self.run.kill();
        } else if matches!(point.key, wire::INIT_PRODUCER_ID | wire::METADATA) {
            self.proxy.cut();
            self.proxy.arm(point);
        } else {
            self.proxy.arm(point);
        }
        let deadline = Instant::now() + PATIENCE;
        loop {
            self.change();
            thread::sleep(PACE);
            if !self.run.is_at_work() {
                return None;
            }
            if let Some(outcome) = self.proxy.outcome() {
                return Some(outcome);
            }
            assert!(Instant::now() < deadline, "{}", self.proxy.state());
        }
    }

    /// Everything has been delivered once and in turn, and is what SQL says.
    fn check(mut self) -> usize {
        let at = self.run.feed.clock(0);
        self.run.settle(&at);
        self.run.terminate();
        let alerts = check(&mut self.run, &at);
        self.run.clean_up();
        alerts.values().map(Vec::len).sum()
    }
}

fn seed() -> Seed {
    let now = SystemTime::UNIX_EPOCH.elapsed().unwrap().as_millis();
    Seed(u64::try_from(number("TRIPLINE_SEED", usize::try_from(now).unwrap())).unwrap())
}

/// Goes through points in worlds of their own, several at the same time. Returns how many requests came late.
fn pass_all(test: &str, points: usize) {
    let (started, seed) = (Instant::now(), seed());
    let mut dice = Dice(seed.0);
    let points: Vec<Point> = (0..points).map(|_| roll(&mut dice)).collect();
    let worlds: Vec<&[Point]> = points.chunks(POINTS_OF_A_WORLD).collect();
    let database = Database::new(test);
    let (next, late, alerts) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicUsize::new(0));
    let failures: Mutex<Vec<String>> = Mutex::default();
    thread::scope(|scope| {
        for _ in 0..number("TRIPLINE_THREADS", 3) {
            scope.spawn(|| {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    let Some(points) = worlds.get(index) else { return };
                    let mut world = World::start(&database, &format!("late_{index}"), &[]);
                    let passed = catch_unwind(AssertUnwindSafe(|| {
                        for point in *points {
                            let outcome = world.pass(*point).unwrap_or_else(|| panic!("stopped at {point:?}"));
                            assert!(!outcome.is_torn, "{outcome:?} at {point:?}");
                            visible_with_progress(&world.run);
                            late.fetch_add(usize::from(outcome.late.is_some()), Ordering::Relaxed);
                        }
                        world.check()
                    }));
                    match passed {
                        Ok(more) => drop(alerts.fetch_add(more, Ordering::Relaxed)),
                        Err(panic) => {
                            let text = panic.downcast_ref::<String>().cloned().unwrap_or_default();
                            eprintln!("FAILED world {index}: {text}");
                            failures.lock().unwrap().push(text);
                        }
                    }
                }
            });
        }
    });
    let (late, alerts, seconds) = (late.into_inner(), alerts.into_inner(), started.elapsed().as_secs());
    let failures = failures.into_inner().unwrap();
    let count = points.len();
    eprintln!("{count} points, {late} requests late, {alerts} alerts, {seconds} s, TRIPLINE_SEED={}", seed.0);
    assert!(failures.is_empty(), "{failures:#?}");
    assert!(late * 3 > count, "only {late} of {count} points had a request that came late");
}

#[test]
#[ignore = "needs the servers: scripts/test"]
fn late_requests_change_nothing() {
    pass_all("late", number("TRIPLINE_POINTS", 30));
}

#[test]
#[ignore = "needs the servers: scripts/test"]
fn slow_late_requests_change_nothing() {
    pass_all("late_slow", number("TRIPLINE_POINTS", 500));
}

/// Without the fence, how many points tear a transaction: the run goes on in another world after each.
fn torn(database: &Database, test: &str, points: &[Point]) -> usize {
    let (mut torn, mut world, mut worlds) = (0, None, 0);
    for point in points {
        let mut at = world.take().unwrap_or_else(|| {
            worlds += 1;
            World::start(database, &format!("{test}_{worlds}"), &[("TRIPLINE_OFF", "fence")])
        });
        match catch_unwind(AssertUnwindSafe(|| at.pass(*point))) {
            Ok(Some(outcome)) if !outcome.is_torn => world = Some(at),
            Ok(outcome) => {
                eprintln!("torn: {outcome:?} at {point:?}");
                torn += 1;
            }
            Err(_) => eprintln!("not to its end: {point:?}"),
        }
    }
    torn
}

/// Those that tear a transaction without the fence, and nothing with it.
#[test]
#[ignore = "needs the servers: scripts/test"]
fn late_requests_tear_transactions_without_the_fence() {
    let (wait, ends) = (Duration::ZERO, wire::END_TXN);
    let points = [
        Point { key: wire::END_TXN, nth: 1, act: Act::Late, until: wire::TXN_OFFSET_COMMIT, ends, wait },
        Point { key: wire::END_TXN, nth: 2, act: Act::Twice, until: wire::PRODUCE, ends, wait },
        Point { key: wire::TXN_OFFSET_COMMIT, nth: 1, act: Act::Late, until: wire::TXN_OFFSET_COMMIT, ends, wait },
    ];
    let database = Database::new("late_bites");
    assert_eq!(torn(&database, "without", &points), points.len());
    let mut world = World::start(&database, "fenced", &[]);
    for point in points {
        let outcome = world.pass(point);
        assert!(outcome.is_some_and(|outcome| outcome.late.is_some() && !outcome.is_torn), "{outcome:?} at {point:?}");
    }
    world.check();
}

/// The proxy bites: of 100 points by dice, at least 10 tear a transaction.
#[test]
#[ignore = "needs the servers: scripts/test"]
fn slow_late_requests_tear_transactions_without_the_fence() {
    let seed = seed();
    let mut dice = Dice(seed.0);
    let points: Vec<Point> = (0..number("TRIPLINE_POINTS", 100)).map(|_| roll(&mut dice)).collect();
    let database = Database::new("late_bites_slow");
    let found = AtomicUsize::new(0);
    thread::scope(|scope| {
        for (index, points) in points.chunks(points.len().div_ceil(number("TRIPLINE_THREADS", 3))).enumerate() {
            let (database, found) = (&database, &found);
            scope.spawn(move || {
                found.fetch_add(torn(database, &format!("without_{index}"), points), Ordering::Relaxed);
            });
        }
    });
    let (torn, points) = (found.into_inner(), points.len());
    eprintln!("{torn} of {points} points torn without the fence, TRIPLINE_SEED={}", seed.0);
    assert!(torn * 10 >= points, "only {torn} of {points}: the proxy does not bite");
}
