//! Requests and answers between the archive and its broker that come late, get lost or are repeated, at seeded points: each
//! change is in the files once, and no run stops, wherever the group's offsets go meanwhile.
//!
//! `TRIPLINE_POINTS` (20) is how many points there are, and `TRIPLINE_SEED` has them again.

use std::cell::Cell;
use std::time::{Duration, Instant, SystemTime};

use super::books::{Topic, check, committed};
use crate::exactly_once::load::Seed;
use crate::exactly_once::number;
use crate::harness::orders::{Archive, Orders};
use crate::harness::{Dice, wait_for};
use crate::proxy::point::{Act, Point};
use crate::proxy::{Proxy, wire};
use crate::recovery::run::Run;

/// Short time-outs, so that a request that is not answered is repeated soon.
const KAFKA: &str = "\"socket.timeout.ms\" = \"1000\"\n\"reconnect.backoff.ms\" = \"20\"\n\
    \"reconnect.backoff.max.ms\" = \"200\"\n\"heartbeat.interval.ms\" = \"500\"\n";

/// A point by dice: commits most often, and most often late. What is late comes after a commit that followed it.
fn roll(dice: &mut Dice) -> Point {
    let key = match dice.below(100) {
        0..65 => wire::OFFSET_COMMIT,
        65..75 => wire::FETCH,
        75..85 => wire::HEARTBEAT,
        85..93 => wire::METADATA,
        _ => wire::JOIN_GROUP,
    };
    let act = match dice.below(20) {
        0..9 => Act::Late,
        9..11 => Act::LateByTimeout,
        11..14 => Act::Twice,
        14 => Act::LoseRequest,
        15..17 => Act::LoseAnswer,
        17 => Act::Delay(Duration::from_millis(dice.below(500))),
        // Some of them for longer than the client waits.
        _ => Act::DelayAnswer(Duration::from_millis(dice.below(1_500))),
    };
    let act = if key == wire::JOIN_GROUP && act == Act::LateByTimeout { Act::Late } else { act };
    let nth =
        if matches!(key, wire::OFFSET_COMMIT | wire::FETCH) { 1 + u32::try_from(dice.below(3)).unwrap() } else { 1 };
    let (until, ends) = (wire::OFFSET_COMMIT, wire::OFFSET_COMMIT);
    Point { key, nth, act, until, ends, wait: Duration::from_millis(dice.below(10)) }
}

/// Writes an order at each look, until all of a point has happened.
fn pass(t: &Orders, job: &Archive, proxy: &Proxy, run: Run, next: &Cell<i64>, point: Point) -> Run {
    let mut run = run;
    if point.key == wire::METADATA {
        proxy.cut();
    }
    proxy.arm(point);
    if point.key == wire::JOIN_GROUP {
        drop(run.kill());
        run = job.start();
    }
    run.wait(&format!("all of it has happened: {point:?}"), |_| {
        t.insert(next.get()..=next.get());
        next.set(next.get() + 1);
        proxy.outcome().is_some()
    });
    run
}

#[test]
#[ignore = "needs the servers: scripts/test"]
fn commits_that_come_late_or_twice_lose_and_repeat_nothing() {
    let now = SystemTime::UNIX_EPOCH.elapsed().unwrap().as_millis();
    let seed = Seed(u64::try_from(number("TRIPLINE_SEED", usize::try_from(now).unwrap())).unwrap());
    let (started, points, mut dice) = (Instant::now(), number("TRIPLINE_POINTS", 20), Dice(seed.0));
    let (t, proxy) = (Orders::new("late"), Proxy::start());
    let job = Archive { bootstrap: proxy.bootstrap(), kafka: KAFKA.to_owned(), ..t.job("a") };
    let mut run = job.start();
    let (next, mut late, mut taken, mut back) = (Cell::new(1), 0, 0, 0);
    for _ in 0..points {
        let point = roll(&mut dice);
        run = pass(&t, &job, &proxy, run, &next, point);
        let outcome = proxy.outcome().unwrap();
        late += usize::from(outcome.late.is_some());
        // The broker has taken offsets that others had replaced: the group has gone back.
        taken += usize::from(outcome.late == Some(0));
        back += usize::from(outcome.late == Some(0) && committed(&job)[0].1 < next.get() - 1);
        // The next process finds the group wherever it is.
        if dice.below(3) == 0 {
            drop(run.kill());
            run = job.start();
        }
    }
    // A last epoch, after whatever came late.
    t.insert(next.get()..=next.get() + 9);
    let mut topic = Topic::of(t.topic());
    wait_for("Kafka has all of it", || {
        topic.read();
        (topic.ends[0] == next.get() + 9).then_some(())
    });
    run.wait("all of it is archived", |_| committed(&job) == [(0, topic.ends[0])]);
    run.terminate();
    check(&job, &topic);
    let (records, seconds) = (topic.ends[0], started.elapsed().as_secs());
    eprintln!(
        "{points} points, {late} requests late, {taken} of them taken, {back} behind the topic then, {records} records, {seconds} s, \
         TRIPLINE_SEED={}",
        seed.0
    );
    assert!(taken * 8 > points, "only {taken} of {points} points had a late commit that the broker took");
}
