//! Power is lost at any place, and of what was not synced the disk keeps what it likes. What is told, in the end, is what
//! an undisturbed run tells. And without a sync, or without a checksum, it would not be: the last tests look for that.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use super::crash::{History, PARTS, check_invariants, check_settled, history, read_or_die, undisturbed, world, write};
use super::support::World;
use tripline::fakes::disk::{MemoryDisk, Sync};

fn world_on(disk: &MemoryDisk, state_interval: Duration) -> World {
    let mut world = world(state_interval);
    world.disk = Arc::new(disk.clone());
    world
}

/// Runs the script. In one part, power is lost when the disk has done this many operations. Returns the delivered
/// alerts, and whether power was lost.
async fn lose_power(disk: &MemoryDisk, every: Duration, part_hit: usize, operation: u64, seed: u64) -> (History, bool) {
    let world = world_on(disk, every);
    let seen = format!("part {part_hit}, operation {operation}, seed {seed}");
    let mut lost = false;
    for part in 0..PARTS {
        write(&world, part);
        if part == part_hit {
            disk.die_at(operation);
            lost = world.try_read().await.is_err();
            disk.crash(seed);
            check_invariants(&world, &seen);
        }
        world.try_read().await.expect(&seen);
        check_invariants(&world, &seen);
        check_settled(&world, &seen);
    }
    (history(&world), lost)
}

/// At every operation of the disk.
#[tokio::test(start_paused = true)]
async fn lost_at_every_operation() {
    for every in [Duration::from_secs(30), Duration::ZERO] {
        let want = undisturbed(every).await;
        for part in 0..PARTS {
            let mut hits = 0;
            for operation in 0.. {
                let (told, lost) = lose_power(&MemoryDisk::default(), every, part, operation, operation).await;
                assert_eq!(told, want, "part {part}, operation {operation}");
                if !lost {
                    break;
                }
                hits += 1;
            }
            assert!(hits >= 10, "{hits} operations in part {part}");
        }
    }
}

/// Between any two steps of the loop, where everything in memory is lost as well.
#[tokio::test(start_paused = true)]
async fn lost_at_every_step() {
    let want = undisturbed(Duration::ZERO).await;
    for polls in 1..60 {
        for seed in 0..3 {
            let disk = MemoryDisk::default();
            let world = world_on(&disk, Duration::ZERO);
            let seen = format!("polls {polls}, seed {seed}");
            for part in 0..PARTS {
                write(&world, part);
                read_or_die(&world, polls).await;
                disk.crash(seed);
                check_invariants(&world, &seen);
                world.read().await;
                check_invariants(&world, &seen);
                check_settled(&world, &seen);
            }
            assert_eq!(history(&world), want, "{seen}");
        }
    }
}

/// Whether some loss of power is survived badly when these syncs are left out.
fn goes_wrong(ignored: impl Fn(&Sync) -> bool + Clone + Send + std::marker::Sync + 'static) -> bool {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    let every = Duration::ZERO;
    let want = runtime().block_on(undisturbed(every));
    let mut tries = (0..PARTS).flat_map(|part| (0..40).flat_map(move |op| (0..4).map(move |seed| (part, op, seed))));
    tries.any(|(part, operation, seed)| {
        let disk = MemoryDisk::default();
        disk.ignore_syncs(ignored.clone());
        let told =
            catch_unwind(AssertUnwindSafe(|| runtime().block_on(lose_power(&disk, every, part, operation, seed)).0));
        told.is_err() || told.is_ok_and(|told| told != want)
    })
}

fn is_in(sync: &Sync, folder: &str) -> bool {
    match sync {
        Sync::Content(path) => path.parent().is_some_and(|parent| parent.ends_with(folder)),
        Sync::Folder(path, _) => path.ends_with(folder),
    }
}

/// The point of commit: without either sync of `offsets/N` something is told and not known, or told twice.
#[test]
fn without_the_sync_of_an_epoch() {
    assert!(!goes_wrong(|_| false), "with all syncs nothing goes wrong");
    assert!(goes_wrong(|sync| matches!(sync, Sync::Content(_)) && is_in(sync, "offsets")), "its content");
    assert!(goes_wrong(|sync| matches!(sync, Sync::Folder(..)) && is_in(sync, "offsets")), "its name");
}
