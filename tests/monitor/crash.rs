//! A run that is killed at any place: what is told, in the end, is what an undisturbed run tells.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use super::support::{Epoch, World};
use super::timeline::statuses;
use tripline::alert::Alert;
use tripline::episode::Status;
use tripline::job::JobError;
use tripline::monitor::counts::Counts;
use tripline::progress::EpochRef;
use tripline::unit::stored::Decisions;

/// A run that ends for good when it is polled once too often.
struct Dies<F> {
    run: Pin<Box<F>>,
    polls: usize,
}

impl<F: Future> Future for Dies<F> {
    type Output = Option<F::Output>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if self.polls == 0 {
            return Poll::Ready(None);
        }
        self.polls -= 1;
        self.run.as_mut().poll(context).map(Some)
    }
}

/// Reads to the end, or dies after so many polls.
pub(super) async fn read_or_die(world: &World, polls: usize) -> Option<Result<Counts, JobError>> {
    let mut monitor = world.monitor();
    die_after(monitor.run(std::future::pending()), polls).await
}

/// Runs to the end, or dies after so many polls.
pub(super) async fn die_after<F: Future>(run: F, polls: usize) -> Option<F::Output> {
    let run = Box::pin(run);
    tokio::time::timeout(Duration::from_secs(36_000), Dies { run, polls }).await.expect("the run does not end")
}

/// One part of the script: written, then read to the end before the next.
pub(super) fn write(world: &World, part: usize) {
    let amounts: [&[(i64, i64, &'static str)]; 4] = [
        &[(1, 1, "2000.00"), (2, 2, "4000.00"), (3, 1, "1000.01"), (4, 3, "10.00"), (5, 4, "3500.00")],
        &[(6, 3, "3000.00"), (4, 3, "5.00"), (7, 5, "1.00")],
        &[(2, 2, "4.00"), (8, 5, "5000.00")],
        &[(9, 2, "4100.00"), (10, 6, "1.00")],
    ];
    for (id, user, amount) in amounts[part] {
        world.create(*id, *user, amount);
    }
    match part {
        1 => {
            world.topic.push_bad(0, "not JSON");
            world.delete(5);
        }
        2 => world.topic.repeat_from(0, i64::try_from(world.topic.len(0)).unwrap() - 3),
        // Never confirmed.
        3 => _ = world.stream(tripline::change::Op::Create, 11, 7, "9000.00", world.now()),
        _ => {}
    }
}

/// Checks the invariants while no process runs.
pub(super) fn check_invariants(world: &World, seen: &str) {
    let epochs: Vec<Epoch> = world.epochs();
    let newest = epochs.last();
    for (partition, (next, text)) in world.topic.committed(&world.settings.group) {
        let newest = newest.expect("committed before anything was durable");
        assert!(newest.offsets[&partition] >= next, "{seen}: committed past the newest durable epoch");
        let named = EpochRef::parse(&text).unwrap_or_else(|| panic!("{seen}: {text}"));
        let logged = world.folder().logged::<Decisions>(named.epoch).unwrap();
        let (epoch, crc) = logged.unwrap_or_else(|| panic!("{seen}: the commit names {text}, which is not there"));
        assert_eq!((epoch.lineage, crc), (named.lineage, named.crc), "{seen}");
        assert_eq!(epoch.offsets[&partition], next, "{seen}");
        assert!(named.epoch + 1 >= newest.number, "{seen}: more than one epoch is not committed");
    }
    let logged: BTreeMap<_, _> =
        epochs.iter().flat_map(|epoch| &epoch.body.alerts).map(|alert| (alert.id, alert.body.clone())).collect();
    assert_eq!(logged.len(), epochs.iter().map(|epoch| epoch.body.alerts.len()).sum::<usize>(), "{seen}: an id twice");
    let topic: BTreeMap<_, _> = world.sinks.alerts().into_iter().map(|alert| (alert.id, alert.body)).collect();
    assert_eq!(topic.len(), world.sinks.alerts().len(), "{seen}: told twice");
    for alert in world.sinks.table().into_iter().chain(world.sinks.log()) {
        assert_eq!(topic.get(&alert.id), Some(&alert.body), "{seen}: told, and not or otherwise on the topic");
    }
    for (id, body) in &topic {
        assert_eq!(logged.get(id), Some(body), "{seen}: told and not logged, or otherwise");
    }
    let buried: BTreeSet<i64> = world.sinks.dead().iter().map(|letter| letter.position.offset).collect();
    let committed = world.topic.committed(&world.settings.group).get(&0).map_or(0, |(next, _)| next.0);
    // The bad record of the script stands at this offset.
    assert!(committed <= BAD || buried.contains(&BAD), "{seen}: committed past a record that was not buried");
}

/// Everything has arrived everywhere.
pub(super) fn check_settled(world: &World, seen: &str) {
    let ids = |alerts: Vec<Alert>| alerts.into_iter().map(|alert| alert.id).collect::<BTreeSet<_>>();
    assert_eq!(ids(world.sinks.table()), ids(world.sinks.alerts()), "{seen}: table and topic");
    assert_eq!(ids(world.sinks.log()), ids(world.sinks.alerts()), "{seen}: log and topic");
}

pub(super) const PARTS: usize = 4;
const BAD: i64 = 8;

pub(super) fn world(state_interval: Duration) -> World {
    let mut world = World::new();
    world.settings.state_interval = state_interval;
    world.topic.set_batch_records(3);
    world
}

/// The alerts of each user: status, and the database's numbers.
pub(super) type History = BTreeMap<i64, Vec<(Status, String)>>;

pub(super) fn history(world: &World) -> History {
    let mut history = History::new();
    for alert in world.sinks.alerts() {
        let body: serde_json::Value = serde_json::from_str(&alert.body).unwrap();
        history.entry(super::support::told(&alert).0).or_default().push((alert.status, body["database"].to_string()));
    }
    history
}

pub(super) async fn undisturbed(state_interval: Duration) -> History {
    let world = world(state_interval);
    for part in 0..PARTS {
        write(&world, part);
        world.read().await;
        check_invariants(&world, "undisturbed");
    }
    assert_eq!(statuses(&world, 2), [Status::Firing, Status::Resolved, Status::Firing]);
    assert_eq!(statuses(&world, 7), []);
    history(&world)
}

/// Kills the run of one part after `polls`, and every restart after `then`, which grows.
async fn disturbed(state_interval: Duration, part_killed: usize, polls: usize, then: usize) -> (World, bool) {
    let world = world(state_interval);
    let mut killed = false;
    for part in 0..PARTS {
        write(&world, part);
        let mut left = if part == part_killed { polls } else { usize::MAX };
        loop {
            let seen = format!("part {part_killed}, polls {polls}, then {then}");
            let ended = read_or_die(&world, left).await;
            check_invariants(&world, &seen);
            if ended.is_some() {
                check_settled(&world, &seen);
            }
            match ended {
                Some(ended) => {
                    ended.expect(&seen);
                    break;
                }
                None => killed = true,
            }
            left = if then == usize::MAX || left > 1_000 { usize::MAX } else { left + then };
        }
    }
    (world, killed)
}

async fn every_kill(state_interval: Duration, then: usize) {
    let want = undisturbed(state_interval).await;
    for part in 0..PARTS {
        let mut kills = 0;
        for polls in 1.. {
            let (world, killed) = disturbed(state_interval, part, polls, then).await;
            assert_eq!(history(&world), want, "part {part}, polls {polls}, then {then}");
            if !killed {
                break;
            }
            kills += 1;
        }
        assert!(kills >= 10, "{kills} places to be killed at in part {part}");
    }
}

#[tokio::test(start_paused = true)]
async fn killed_once_anywhere() {
    every_kill(Duration::from_secs(30), usize::MAX).await;
}

#[tokio::test(start_paused = true)]
async fn killed_anywhere_with_the_state_stored_at_every_epoch() {
    every_kill(Duration::ZERO, usize::MAX).await;
}

#[tokio::test(start_paused = true)]
async fn killed_again_and_again() {
    every_kill(Duration::from_secs(30), 3).await;
}

/// The windows' state is never stored: episodes come from the log alone.
#[tokio::test(start_paused = true)]
async fn killed_anywhere_without_a_stored_state() {
    let want = undisturbed(Duration::from_secs(30)).await;
    for polls in (1..200).step_by(7) {
        let world = world(Duration::from_secs(30));
        for part in 0..PARTS {
            write(&world, part);
            while read_or_die(&world, polls + part).await.is_none() && polls > 60 {
                check_invariants(&world, "without state");
            }
            let state = world.folder_path().join("state");
            std::fs::remove_dir_all(&state).unwrap();
            world.read().await;
            std::fs::remove_dir_all(&state).unwrap();
        }
        assert_eq!(history(&world), want, "polls {polls}");
    }
}

/// Several kills a part, at places drawn from a seed, with faults of sink and database on top.
#[tokio::test(start_paused = true)]
async fn killed_at_random_with_faults() {
    let want = undisturbed(Duration::from_secs(30)).await;
    for seed in 1..300_u64 {
        let mut random = Random(seed);
        let world = world(Duration::from_secs(random.below(3)));
        let mut user_away = false;
        for part in 0..PARTS {
            write(&world, part);
            for _ in 0..random.below(6) {
                world.sinks.fail(u32::try_from(random.below(3)).unwrap());
                if random.below(4) == 0 {
                    world.sinks.lose_next_commit(random.below(2) == 0);
                }
                user_away = !user_away && random.below(2) == 0;
                world.db.go_away(user_away.then_some("connection refused"));
                let ended = read_or_die(&world, usize::try_from(1 + random.below(60)).unwrap()).await;
                check_invariants(&world, &format!("seed {seed}"));
                // A commit whose outcome is not known ends a run that is to end by itself.
                if let Some(Err(error)) = ended {
                    assert!(error.to_string().contains("not known"), "seed {seed}: {error}");
                }
                tokio::time::sleep(Duration::from_millis(random.below(2_000))).await;
            }
            world.sinks.fail(0);
            world.db.go_away(None);
            while world.try_read().await.is_err() {} // at most once: a commit may still be told to be lost
            check_invariants(&world, &format!("seed {seed}"));
            check_settled(&world, &format!("seed {seed}"));
        }
        assert_eq!(history(&world), want, "seed {seed}");
    }
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % end
    }
}
