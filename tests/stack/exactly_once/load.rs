//! Killed at random under load: a few hundred changes a second, no process lives longer than a few seconds, and some lose
//! their folder.
//!
//! `TRIPLINE_KILLS` (20) is how often, `TRIPLINE_SEED` repeats changes and moments as they were.

use std::time::{Duration, Instant, SystemTime};

use super::books::check;
use super::feed::Feed;
use super::number;
use super::run::Run;
use crate::harness::{Database, Dice};

const USERS: u64 = 30;
/// Rows there are at most.
const IDS: u64 = 120;
/// After this many milliseconds the present rows have left the short window.
const LEFT: i64 = 2_500;
/// Between two changes: a few hundred a second.
const PACE: Duration = Duration::from_millis(1);
/// A process lives between these, in milliseconds: some do not come to their first change.
const LIVES: (u64, u64) = (100, 3_000);

/// Every so many-th of the first kills also removes the checkpoint folder. Later ones would have to read more again
/// than a process lives.
const LOST_UNTIL: usize = 40;
const LOST_EVERY: usize = 5;

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap()
}

/// Says how to have it again.
pub struct Seed(pub u64);

impl Drop for Seed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("TRIPLINE_SEED={} has it again, as far as time allows", self.0);
        }
    }
}

/// The table changes at random. Its rows are known without asking.
struct Writer {
    dice: Dice,
    there: Vec<bool>,
    changes: u64,
}

impl Writer {
    fn new(seed: u64) -> Self {
        Self { dice: Dice(seed), there: vec![false; usize::try_from(IDS).unwrap()], changes: 0 }
    }

    /// One transaction, and the stream hears of it.
    fn change(&mut self, feed: &mut Feed) {
        let dice = &mut self.dice;
        let id = dice.below(IDS);
        let there = &mut self.there[usize::try_from(id).unwrap()];
        let user = dice.below(USERS);
        let amount = format!("{}.{:02}", signed(dice.below(1_300)) - 300, dice.below(100));
        // Most of them of now, so that they leave the short window; some before or outside of the weeks' windows.
        let seconds = match dice.below(10) {
            0 => 3_600 * 24 * dice.below(10),
            1..=3 => 60 + dice.below(1_000),
            _ => dice.below(2),
        };
        let at = format!("now() - interval '{seconds} seconds'");
        let condition = format!("id = {id}");
        match (*there, dice.below(5)) {
            (false, _) => {
                feed.insert(&[(signed(id), signed(user), &amount, &at)]);
                *there = true;
            }
            (true, 0) => feed.update(&format!("user_id = {user}"), &condition),
            (true, 1) => feed.update(&format!("amount = {amount}"), &condition),
            (true, 2) => feed.update(&format!("\"timestamp\" = {at}"), &condition),
            (true, _) => {
                feed.delete(&condition);
                *there = false;
            }
        }
        self.changes += 1;
        feed.tell();
    }
}

#[test]
#[ignore = "needs the servers: scripts/test"]
fn killed_at_random_under_load_it_tells_everything_once() {
    let kills = number("TRIPLINE_KILLS", 20);
    let now = SystemTime::UNIX_EPOCH.elapsed().unwrap().as_millis();
    let seed = Seed(u64::try_from(number("TRIPLINE_SEED", usize::try_from(now).unwrap())).unwrap());
    let started = Instant::now();
    let database = Database::new("load");
    let mut run = Run::new(&database.name, "load", &[]);
    let mut writer = Writer::new(seed.0);
    // The moments do not depend on how many changes there were by then.
    let mut moments = Dice(!seed.0);
    run.start();
    for kill in 1..=kills {
        let dies = Instant::now() + Duration::from_millis(LIVES.0 + moments.below(LIVES.1 - LIVES.0));
        while Instant::now() < dies {
            writer.change(&mut run.feed);
            std::thread::sleep(PACE);
        }
        run.look();
        if kill.is_multiple_of(LOST_EVERY) && kill <= LOST_UNTIL {
            run.lose_folder_next();
        }
        run.kill();
    }
    let at = run.feed.clock(LEFT);
    run.settle(&at);
    run.terminate();
    let told = check(&mut run, &at);
    let (alerts, changes) = (told.values().map(Vec::len).sum::<usize>(), writer.changes);
    let seconds = started.elapsed().as_secs();
    eprintln!("{kills} kills, {changes} changes, {alerts} alerts, {seconds} s, TRIPLINE_SEED={}", seed.0);
    assert!(alerts > kills, "only {alerts} alerts"); // many more, but for a machine that is busy with other things
}
