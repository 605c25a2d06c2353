//! Which rows are written again after folder, group or both are lost, and which must not be: dates by another column,
//! offsets that another client has committed, files that were merged, records that now read differently.

use std::path::Path;
use std::time::Duration;

use tripline::change::Op;
use tripline::change::RejectKind;
use tripline::checkpoint::disk::Disk;
use tripline::job::JobError;

use super::layers::{interrupted, orders, settled};
use super::world::{CHECKPOINT, OUTPUT, World, remove_all, restore_folder};

/// Each partition's last range was dated by another setting.
#[tokio::test(start_paused = true)]
async fn dated_by_different_columns() {
    let mut world = World::new();
    for day in 0..3 {
        world.push(1, Op::Create, day, day);
    }
    world.read().await;
    world.settings.limits.partition_by = Some("created_at".to_owned());
    for day in 0..3 {
        world.push(0, Op::Create, day, day);
    }
    world.read().await;
    for both in [false, true] {
        world.lose_folder();
        if both {
            world.topic.delete_group(&world.settings.group);
        } else {
            world.topic.move_group(&world.settings.group, 0, 0);
        }
        world.read().await;
        world.check_whole("after a loss");
    }
}

/// Wherever in an epoch it died, and whatever somebody has made of the group since.
#[tokio::test(start_paused = true)]
async fn the_group_says_what_somebody_else_has_committed() {
    for operation in 0..60 {
        for moved in [0, 3, 7, 10, 12] {
            let mut world = settled().await;
            orders(&mut world, 10);
            world.disk.die_at(operation);
            let died = world.try_read().await.is_err();
            world.disk.kill();
            world.topic.move_group(&world.settings.group, 0, moved);
            world.lose_folder();
            let seen = format!("operation {operation}, moved to {moved}");
            world.read().await;
            world.check_whole(&seen);
            if !died {
                break;
            }
        }
    }
}

/// The first run of a lineage that reads everything again, wherever it dies.
#[tokio::test(start_paused = true)]
async fn reading_everything_again_is_cut_short() {
    for operation in 0.. {
        let mut world = World::new();
        world.settings.reprocess_without_group = true;
        orders(&mut world, 0);
        world.disk.die_at(operation);
        let died = world.try_read().await.is_err();
        world.disk.crash(operation);
        world.read().await;
        world.check_whole(&format!("operation {operation}"));
        if !died {
            assert!(operation > 20, "{operation} operations");
            break;
        }
    }
    for operation in 0.. {
        let mut world = settled().await;
        world.settings.reprocess_without_group = true;
        world.topic.delete_group(&world.settings.group);
        remove_all(&world.disk, Path::new(OUTPUT));
        world.disk.sync_dir(Path::new(OUTPUT).parent().unwrap()).unwrap();
        world.disk.die_at(operation);
        let died = world.try_read().await.is_err();
        world.disk.crash(operation);
        world.read().await;
        world.check_whole(&format!("once more, operation {operation}"));
        if !died {
            break;
        }
    }
}

/// Somebody merges all files into one, which only readers know.
fn merge(world: &World) {
    let folders = world.disk.list(Path::new(OUTPUT)).unwrap();
    for folder in folders.iter().filter(|name| name.starts_with("date=")) {
        remove_all(&world.disk, &Path::new(OUTPUT).join(folder));
    }
    let folder = Path::new(OUTPUT).join("date=2026-11-20");
    world.disk.create_dir(&folder).unwrap();
    drop(world.disk.create(&folder.join("merged.parquet")).unwrap());
}

#[tokio::test(start_paused = true)]
async fn files_were_merged() {
    let mut world = settled().await;
    let old = world.disk.copy();
    orders(&mut world, 10);
    world.read().await;
    merge(&world);
    // The newest mark is lost with the power; the group knows that the epoch is whole.
    for name in world.disk.list(&Path::new(CHECKPOINT).join("commits")).unwrap() {
        world.disk.remove(&Path::new(CHECKPOINT).join("commits").join(name)).unwrap();
    }
    assert_eq!(world.read().await.read, 0);
    assert_eq!(world.rows(), [], "nothing is written beside what was merged");
    // An old copy of the folder knows of too little, and nobody says so.
    let settings = world.settings.clone();
    world.settings.reprocess_without_group = true;
    world.topic.delete_group(&world.settings.group);
    let why = world.error().await;
    assert!(why.contains("reprocess"), "{why}");
    world.settings = settings;
    restore_folder(&world.disk, &old);
    let why = world.error().await;
    assert!(why.contains("merged.parquet"), "{why}");
    world.lose_folder();
    let why = world.error().await;
    assert!(why.contains("merged.parquet"), "{why}");
    assert_eq!(world.rows(), []);
}

/// A column was dropped in the middle of an epoch: the catalog has to be asked again, and nothing is buried.
#[tokio::test(start_paused = true)]
async fn columns_are_not_known_any_more() {
    for lost in [false, true] {
        let mut world = settled().await;
        orders(&mut world, 10);
        interrupted(&mut world).await;
        for (partition, offset) in [(0, 6), (1, 6)] {
            world.topic.replace(
                partition,
                offset,
                RejectKind::UnknownColumn("old".to_owned()),
                "column \"old\" of after is not in the table",
            );
        }
        if lost {
            world.lose_folder();
        }
        let why = world.error().await;
        assert!(why.contains("\"old\""), "{why}");
        assert_eq!(world.dead_letters.taken(), []);
    }
}

/// Records read otherwise than when the epoch was begun: neither is written twice nor left out in silence.
#[tokio::test(start_paused = true)]
async fn records_read_otherwise() {
    for lost in [false, true] {
        let mut world = settled().await;
        orders(&mut world, 10);
        interrupted(&mut world).await;
        let rows = world.rows();
        for (partition, offset) in (0..2).flat_map(|p| (5..10).map(move |o| (p, o))) {
            world.topic.replace(partition, offset, RejectKind::Value, "another decoder");
        }
        if lost {
            world.lose_folder();
        }
        let why = world.error().await;
        assert!(why.contains("and make 0 now"), "{why}");
        assert_eq!(world.rows(), rows);
    }
}

/// The topic was truncated within what may have been written in part.
#[tokio::test(start_paused = true)]
async fn the_end_came_back() {
    for lost in [false, true] {
        let mut world = settled().await;
        orders(&mut world, 10);
        interrupted(&mut world).await;
        let rows = world.rows();
        world.topic.truncate_to(0, 7);
        world.topic.truncate_to(1, 7);
        if lost {
            world.lose_folder();
        }
        let why = world.error().await;
        assert!(why.contains("offset 9 was read, and the partition ends at offset 7"), "{why}");
        assert_eq!(world.rows(), rows);
    }
}

/// A run that is told to stop while it still finds out where to go on: it waits for what a range may end with.
#[tokio::test(start_paused = true)]
async fn stopped_while_it_reads_again() {
    let mut world = World::new();
    orders(&mut world, 0);
    let last = world.topic.push_ignored(1);
    world.read().await;
    world.topic.compact(1, last);
    world.lose_folder();
    world.topic.delete_group(&world.settings.group);
    let mut archive = world.archive().unwrap();
    let begun = tokio::time::Instant::now();
    let ended = archive.run(tokio::time::sleep(Duration::from_secs(1))).await;
    assert!(matches!(ended, Err(JobError::BeforeTheEnd)), "{ended:?}");
    assert!(begun.elapsed() < Duration::from_millis(1_500), "{:?}", begun.elapsed());
    drop(archive);
    world.read().await;
    world.check_whole("after it was stopped");
}

/// The same with an epoch under way: readers see a part of it, so that this is no good end.
#[tokio::test(start_paused = true)]
async fn stopped_while_it_finishes_an_epoch() {
    let mut world = settled().await;
    orders(&mut world, 10);
    let last = [0, 1].map(|partition| (partition, world.topic.push_ignored(partition)));
    interrupted(&mut world).await;
    last.iter().for_each(|(partition, offset)| world.topic.compact(*partition, *offset));
    let mut archive = world.archive().unwrap();
    let ended = archive.run(tokio::time::sleep(Duration::from_secs(1))).await;
    assert!(matches!(ended, Err(JobError::Cut)), "{ended:?}");
    drop(archive);
    world.read().await;
    world.check_whole("after it was stopped");
}

/// Offsets without a record at a range's end, and an output whose owner.json was written anew after them.
#[tokio::test(start_paused = true)]
async fn what_leaves_no_file() {
    let mut world = settled().await;
    for _ in 0..3 {
        world.topic.push_ignored(0);
        world.topic.skip(1);
    }
    world.read().await;
    remove_all(&world.disk, &Path::new(OUTPUT).join("_tripline"));
    world.read().await;
    world.check_whole("with owner.json written anew");
    world.lose_folder();
    world.topic.delete_group(&world.settings.group);
    world.read().await;
    world.check_whole("both lost after that");
    orders(&mut world, 10);
    world.read().await;
    world.check_whole("gone on");
}

/// An output that the folder does not know, in the middle of an epoch.
#[tokio::test(start_paused = true)]
async fn another_output_in_the_middle_of_an_epoch() {
    let mut world = settled().await;
    orders(&mut world, 10);
    interrupted(&mut world).await;
    remove_all(&world.disk, Path::new(OUTPUT));
    let why = world.error().await;
    assert!(why.contains("is its disk mounted"), "{why}");
    world.lose_folder();
    world.read().await;
    let rows: Vec<_> = world.expected.clone().into_iter().filter(|((_, offset), _)| *offset >= 5).collect();
    assert_eq!(world.rows(), rows, "from before that epoch");
}
