//! The process dies, or power is lost, at any place. After it the folder, the group, or both may be lost too. In the
//! end every row is there once, and at no time is one there twice.

use tripline::change::Op;
use tripline::fakes::disk::Sync;

use super::world::World;

const PARTS: i64 = 3;

fn world() -> World {
    let mut world = World::new();
    world.settings.limits.records = 6;
    world.settings.limits.partition_by = Some("created_at".to_owned());
    world
}

/// A part of the story: two partitions, three dates, two epochs.
fn write(world: &mut World, part: i64) {
    for step in 0..4 {
        let order = part * 10 + step;
        world.push(i32::from(step % 2 == 1), Op::Create, order, order % 3);
    }
    world.push(0, Op::Delete, part * 10, 0);
    world.topic.push_ignored(0);
    world.topic.skip(1);
    if part == 1 {
        world.topic.push_bad(1, "not JSON");
        world.widen();
    }
    world.push(1, Op::Update, part * 10 + 1, 1);
    world.push(1, Op::Update, part * 10 + 3, 2);
}

/// The loss in addition to the process.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Loss {
    Nothing,
    Folder,
    Group,
    Both,
}

const LOSSES: [Loss; 4] = [Loss::Nothing, Loss::Folder, Loss::Group, Loss::Both];

fn lose(world: &World, loss: Loss) {
    if matches!(loss, Loss::Folder | Loss::Both) {
        world.lose_folder();
    }
    if matches!(loss, Loss::Group | Loss::Both) {
        world.topic.delete_group(&world.settings.group);
    }
}

/// Power is lost when the disk has done so many operations in a part. Whether it came to that.
async fn lose_power(world: &mut World, part_hit: i64, operation: u64, seed: u64, loss: Loss) -> bool {
    let seen = format!("part {part_hit}, operation {operation}, seed {seed}, lost {loss:?}");
    let mut lost = false;
    for part in 0..PARTS {
        write(world, part);
        if part == part_hit {
            world.disk.die_at(operation);
            lost = world.try_read().await.is_err();
            // As a reader sees it, at each operation in turn.
            let seen_now = world.disk.copy();
            let disk = std::mem::replace(&mut world.disk, seen_now);
            world.disk.kill();
            world.check_no_duplicate(&seen);
            world.disk = disk;
            world.disk.crash(seed);
            world.check_no_duplicate(&seen);
            if lost {
                lose(world, loss);
            }
        }
        if let Err(error) = world.try_read().await {
            panic!("{seen}: {error}");
        }
        world.check_whole(&seen);
        world.disk.crash(seed + 1);
        world.check_whole(&format!("{seen}, power lost at the end"));
    }
    lost
}

#[tokio::test(start_paused = true)]
async fn power_is_lost_at_every_operation() {
    for loss in LOSSES {
        // The story repeats itself: the second part has all that can happen.
        for part in if loss == Loss::Nothing { 0..PARTS } else { 1..2 } {
            let mut hits = 0;
            for operation in 0.. {
                if !lose_power(&mut world(), part, operation, operation, loss).await {
                    break;
                }
                hits += 1;
            }
            assert!(hits >= 30, "{hits} operations in part {part}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_process_dies_at_every_await() {
    for loss in LOSSES {
        for polls in 1.. {
            let mut world = world();
            let seen = format!("polls {polls}, lost {loss:?}");
            let mut whole = true;
            for part in 0..PARTS {
                write(&mut world, part);
                let ended = world.read_or_die(polls).await;
                whole &= ended;
                world.disk.crash(u64::try_from(polls).unwrap());
                world.check_no_duplicate(&seen);
                if !ended {
                    lose(&world, loss);
                }
                world.read().await;
                world.check_whole(&seen);
            }
            if whole {
                assert!(polls > 10, "{polls} awaits");
                break;
            }
        }
    }
}

/// The folder is put back from a copy that was made some epochs before.
#[tokio::test(start_paused = true)]
async fn an_old_copy_of_the_folder() {
    for loss in [Loss::Nothing, Loss::Group] {
        for operation in 0..60 {
            let mut world = world();
            write(&mut world, 0);
            world.read().await;
            let copy = world.disk.copy();
            write(&mut world, 1);
            world.disk.die_at(operation);
            let died = world.try_read().await.is_err();
            world.disk.kill();
            super::world::restore_folder(&world.disk, &copy);
            lose(&world, loss);
            let seen = format!("operation {operation}, died {died}, lost {loss:?}");
            if let Err(error) = world.try_read().await {
                panic!("{seen}: {error}");
            }
            world.check_whole(&seen);
        }
    }
}

/// Whether some loss of power is survived badly when these syncs are left out.
fn goes_wrong(ignored: impl Fn(&Sync) -> bool + Clone + Send + std::marker::Sync + 'static) -> bool {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    (1..2).flat_map(|part| (0..60).flat_map(move |op| (0..2).map(move |seed| (part, op, seed)))).any(
        |(part, operation, seed)| {
            [Loss::Nothing, Loss::Both].into_iter().any(|loss| {
                let mut world = world();
                world.disk.ignore_syncs(ignored.clone());
                let run = std::panic::AssertUnwindSafe(|| {
                    runtime().block_on(lose_power(&mut world, part, operation, seed, loss));
                });
                std::panic::catch_unwind(run).is_err()
            })
        },
    )
}

fn is_in(sync: &Sync, folder: &str) -> bool {
    match sync {
        Sync::Content(path) => path.parent().is_some_and(|parent| parent.ends_with(folder)),
        Sync::Folder(path, _) => {
            path.to_string_lossy().ends_with(folder)
                || path.parent().is_some_and(|p| p.ends_with(folder) && folder == "records")
        }
    }
}

#[test]
fn without_a_sync_it_would_not_be_so() {
    assert!(!goes_wrong(|_| false), "with all syncs nothing goes wrong");
    assert!(goes_wrong(|sync| matches!(sync, Sync::Content(_)) && is_in(sync, "unfinished")), "a file's bytes");
    assert!(goes_wrong(|sync| matches!(sync, Sync::Folder(..)) && is_in(sync, "records")), "a file's name");
    assert!(goes_wrong(|sync| matches!(sync, Sync::Content(_)) && is_in(sync, "offsets")), "the plan");
}
