//! Connections cut at random under load: 2,000 changes a second, confirmed by the database.
//!
//! `TRIPLINE_SECONDS` (600) is for how long.

use std::thread;
use std::time::{Duration, Instant};

use super::super::books::check;
use super::super::number;
use super::super::script::BEFORE;
use super::{World, seed};
use crate::harness::{Database, Dice};

const USERS: i64 = 600;
/// Two for each user.
const ROWS: i64 = 2 * USERS;
/// Rows that one statement changes, and how often one is sent: 2,000 changes a second.
const ROWS_AT_ONCE: u64 = 100;
const PACE: Duration = Duration::from_millis(50);

/// Connections are cut for up to this many milliseconds, this many apart.
const LASTS: u64 = 2_000;
const APART: (u64, u64) = (1_000, 5_000);

#[test]
#[ignore = "needs the servers: scripts/test"]
fn slow_cut_at_random_under_load_it_tells_everything_once() {
    let (started, seed) = (Instant::now(), seed());
    let lasts = Duration::from_secs(u64::try_from(number("TRIPLINE_SECONDS", 600)).unwrap());
    let database = Database::new("cuts");
    let mut world = World::with(&database, "cuts", "", &[]);
    let feed = &mut world.run.feed;
    let mut dice = Dice(seed.0);
    feed.delete("true"); // those of the world's own users
    let rows: Vec<(i64, i64, &str, &str)> = (0..ROWS).map(|id| (id, id / 2, "1", BEFORE)).collect();
    feed.insert(&rows);
    feed.tell();
    let (proxy, mut moments) = (&world.proxy, Dice(!seed.0));
    let (mut changes, mut is_late) = (0, Duration::ZERO);
    let begun = Instant::now();
    let cuts = thread::scope(|scope| {
        let cutting = scope.spawn(|| {
            let mut cuts = 0;
            while begun.elapsed() < lasts {
                thread::sleep(Duration::from_millis(APART.0 + moments.below(APART.1 - APART.0)));
                proxy.cut_for(Duration::from_millis(moments.below(LASTS)));
                cuts += 1;
            }
            cuts
        });
        let mut next = begun;
        while begun.elapsed() < lasts {
            let first = dice.below(u64::try_from(ROWS).unwrap() - ROWS_AT_ONCE);
            // Two of a user are over the threshold of 1,000 about once in a hundred times.
            let condition = format!("id >= {first} AND id < {}", first + ROWS_AT_ONCE);
            feed.update("amount = (random() * 540)::numeric(12, 2)", &condition);
            feed.tell();
            changes += ROWS_AT_ONCE;
            next += PACE;
            is_late = is_late.max(Instant::now().saturating_duration_since(next));
            thread::sleep(next.saturating_duration_since(Instant::now()));
        }
        cutting.join().unwrap()
    });
    let seconds = begun.elapsed().as_secs();
    let at = world.run.feed.clock(0);
    world.run.settle(&at);
    let caught_up = begun.elapsed() - lasts;
    world.run.terminate();
    let alerts = check(&mut world.run, &at);
    let alerts = alerts.values().map(Vec::len).sum::<usize>();
    let ended = world.run.written("log").lines().filter(|line| line.contains("no longer be sure")).count();
    eprintln!(
        "{cuts} cuts, {changes} changes in {seconds} s (at most {is_late:?} behind), {alerts} alerts, {ended} assignments \
         ended, caught up after {caught_up:?}, {} s in all, TRIPLINE_SEED={}",
        started.elapsed().as_secs(),
        seed.0
    );
    assert!(alerts > 100, "only {alerts} alerts");
}
