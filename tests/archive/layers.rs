//! Conflicts between folder, output and group: a group that was moved, paths of another archive, settings that change
//! between two runs, records that retention removed too early.

use std::path::Path;
use std::time::Duration;

use tripline::change::Op;
use tripline::checkpoint::disk::Disk;
use tripline::progress::StartAt;

use super::world::{CHECKPOINT, OUTPUT, World};

/// Ten orders in two partitions, of three days.
pub fn orders(world: &mut World, first: i64) {
    for order in first..first + 10 {
        world.push(i32::from(order % 2 == 1), Op::Create, order, order % 3);
    }
}

pub async fn settled() -> World {
    let mut world = World::new();
    orders(&mut world, 0);
    world.read().await;
    world.check_whole("at first");
    world
}

/// Dies in the middle of an epoch: it is logged, and some of its files are there.
pub async fn interrupted(world: &mut World) {
    let before = world.rows().len();
    for operation in 8.. {
        let copy = world.disk.copy();
        world.disk.die_at(operation);
        let ended = world.try_read().await.is_ok();
        world.disk.kill();
        assert!(!ended, "the epoch was never interrupted");
        let now = world.rows().len();
        if now > before && now < world.expected.len() {
            return;
        }
        world.disk = copy;
    }
}

#[tokio::test(start_paused = true)]
async fn the_second_run_reads_what_is_new() {
    let mut world = settled().await;
    assert_eq!(world.committed(), [(0, 5), (1, 5)].into());
    orders(&mut world, 10);
    let counts = world.read().await;
    assert_eq!((counts.read, counts.written, counts.rejected, counts.epochs), (10, 10, 0, 1));
    world.check_whole("after the second");
    assert_eq!(world.read().await.read, 0);
    assert_eq!(world.committed(), [(0, 10), (1, 10)].into());
}

#[tokio::test(start_paused = true)]
async fn an_epoch_is_as_long_as_its_limit() {
    let mut world = World::new();
    world.settings.limits.records = 3;
    orders(&mut world, 0);
    assert_eq!(world.read().await.epochs, 4);
    world.check_whole("three by three");
    let text = String::from_utf8(world.disk.read(&Path::new(CHECKPOINT).join("offsets/2")).unwrap()).unwrap();
    assert!(text.contains(r#"{"orders":{"0":5,"1":1}}"#), "{text}");
    for word in ["batchWatermarkMs", "batchTimestampMs", r#""conf":{"max_offsets_per_trigger":"3"}"#] {
        assert!(text.contains(word), "{word} in {text}");
    }
    let text = String::from_utf8(world.disk.read(&Path::new(CHECKPOINT).join("sources/0")).unwrap()).unwrap();
    assert!(text.starts_with("v3\n{\"orders\":{\"0\":0,\"1\":0}}\n"), "{text}");
}

#[tokio::test(start_paused = true)]
async fn settings_change_in_the_middle_of_an_epoch() {
    let mut world = World::new();
    world.settings.limits.partition_by = Some("created_at".to_owned());
    orders(&mut world, 0);
    interrupted(&mut world).await;
    world.settings.limits.records = 2;
    world.settings.limits.partition_by = None;
    world.settings.start_at = StartAt::Latest;
    world.read().await;
    world.check_whole("finished as it was planned");
    orders(&mut world, 10);
    assert_eq!(world.read().await.epochs, 5);
    world.check_whole("by commit time, and two by two");
}

#[tokio::test(start_paused = true)]
async fn the_group_is_moved_by_hand() {
    for next in [0, 3, 1_000] {
        let mut world = settled().await;
        world.topic.move_group(&world.settings.group, 0, next);
        assert_eq!(world.read().await.read, 0, "{next}");
        world.check_whole("moved");
        assert_eq!(world.committed(), [(0, 5), (1, 5)].into(), "{next}");
        // With the folder lost: nothing again, and nothing twice.
        if next <= 5 {
            world.topic.move_group(&world.settings.group, 0, next);
            world.lose_folder();
            world.read().await;
            world.check_whole("moved and lost");
            orders(&mut world, 10);
            world.read().await;
            world.check_whole("moved, lost, and gone on");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_path_is_anothers() {
    let mut world = settled().await;
    world.settings.group = "another".to_owned();
    let why = world.error().await;
    assert!(why.contains("checkpoint_dir") && why.contains("food_orders_consumer_group"), "{why}");
    world.lose_folder();
    let why = world.error().await;
    assert!(why.contains("output_path") && why.contains("food_orders_consumer_group"), "{why}");
    world.settings.group = super::world::GROUP.to_owned();
    world.read().await;
    world.check_whole("the first again");
}

#[tokio::test(start_paused = true)]
async fn everything_again_goes_into_an_empty_path_only() {
    let mut world = settled().await;
    world.settings.reprocess_without_group = true;
    world.topic.delete_group(&world.settings.group);
    let why = world.error().await;
    assert!(why.contains("when_group_is_missing"), "{why}");
    world.check_whole("refused");
    super::world::remove_all(&world.disk, Path::new(OUTPUT));
    world.read().await;
    world.check_whole("everything again");
}

#[tokio::test(start_paused = true)]
async fn retention_was_faster() {
    let mut world = settled().await;
    orders(&mut world, 10);
    interrupted(&mut world).await;
    world.topic.retain_from(0, 8);
    world.topic.retain_from(1, 8);
    let why = world.error().await;
    assert!(why.contains("retention") || why.contains("may have been written in part"), "{why}");
    world.lose_folder();
    let why = world.error().await;
    assert!(why.contains("may have been written in part") || why.contains("retention"), "{why}");
    // What has been written is final, and needs nothing of the topic.
    let mut world = settled().await;
    world.topic.retain_from(0, 5);
    world.topic.retain_from(1, 5);
    orders(&mut world, 10);
    world.lose_folder();
    world.read().await;
    world.check_whole("the first records are gone");
    world.topic.retain_from(1, 10);
    orders(&mut world, 20);
    world.topic.retain_from(1, 12);
    let why = world.error().await;
    assert!(why.contains("partition 1: offsets 10 to 11 were removed by retention"), "{why}");
}

#[tokio::test(start_paused = true)]
async fn the_topic_is_made_anew() {
    let mut world = settled().await;
    world.topic.make_anew();
    for order in 0..12 {
        world.push(0, Op::Create, order, 0);
        world.push(1, Op::Create, order, 0);
    }
    let why = world.error().await;
    assert!(why.contains("is not the one that was read"), "{why}");
    world.topic.set_cluster("another");
    let why = world.error().await;
    assert!(why.contains("cluster another"), "{why}");
}

/// The new topic has more records than were read from the previous one, so only the files show the difference. The test
/// is repeated with a run in between that has read nothing.
#[tokio::test(start_paused = true)]
async fn the_topic_is_made_anew_and_the_folder_is_lost() {
    for rebuilt in [false, true] {
        let mut world = settled().await;
        let rows = world.rows();
        world.lose_folder();
        if rebuilt {
            world.read().await;
        }
        world.topic.make_anew();
        for order in 0..40 {
            world.push(0, Op::Create, order, 0);
            world.push(1, Op::Create, order, 0);
        }
        let why = world.error().await;
        assert!(why.contains("offset 4 was read, and another record is there"), "{why}");
        assert_eq!(world.rows(), rows);
    }
}

#[tokio::test(start_paused = true)]
async fn a_partition_is_added() {
    let mut world = settled().await;
    world.topic.add_partition(2);
    world.push(2, Op::Create, 100, 0);
    world.read().await;
    world.check_whole("with the new one");
    world.lose_folder();
    world.topic.delete_group(&world.settings.group);
    world.push(2, Op::Create, 101, 0);
    world.read().await;
    world.check_whole("with the new one, both lost");
}

/// They are held until their epoch is closed, and count for its size.
#[tokio::test(start_paused = true)]
async fn large_records_that_are_not_understood() {
    let mut world = World::new();
    world.settings.limits.memory = 100_000;
    for _ in 0..50 {
        world.topic.push_bad(0, &"x".repeat(5_000)); // its text twice: as reason and as value
    }
    let counts = world.read().await;
    assert_eq!((counts.rejected, counts.epochs), (50, 5));
    assert_eq!(world.dead_letters.taken().len(), 50);
}

#[tokio::test(start_paused = true)]
async fn records_that_are_not_understood() {
    let mut world = World::new();
    orders(&mut world, 0);
    world.topic.push_bad(0, "not JSON");
    orders(&mut world, 10);
    assert_eq!(world.read().await.rejected, 1);
    assert_eq!(world.dead_letters.taken().len(), 1);
    world.check_whole("around it");
    world.settings.stop_on_bad_record = true;
    orders(&mut world, 20);
    world.topic.push_bad(1, "not JSON either");
    let bad = world.topic.push_bad(1, "nor this");
    let why = world.error().await;
    assert!(why.contains(&format!("offset {}", bad - 1)) && why.contains("not JSON either"), "{why}");
    assert_eq!(world.committed()[&1], bad - 1, "what came before it is written");
}

#[tokio::test(start_paused = true)]
async fn a_column_to_go_by_that_is_not_there() {
    let mut world = World::new();
    orders(&mut world, 0);
    for (column, want) in [
        ("made_at", "has no column \"made_at\"; it has order_id, created_at"),
        ("order_id", "is bigint, not a date or timestamp"),
    ] {
        world.settings.limits.partition_by = Some(column.to_owned());
        let why = world.error().await;
        assert!(why.contains(want), "{why}");
    }
    assert_eq!(world.rows(), []);
}

#[tokio::test(start_paused = true)]
async fn a_long_run_closes_an_epoch_each_trigger_interval() {
    let mut world = World::new();
    world.settings.until_end = false;
    orders(&mut world, 0);
    let mut archive = world.archive().unwrap();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let run = archive.run(async move { drop(stopped.await) });
    let script = async {
        tokio::time::sleep(Duration::from_millis(4_900)).await;
        assert_eq!(world.rows(), [], "not before the interval");
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert_eq!(world.rows().len(), 10);
        orders(&mut world, 10);
        tokio::time::sleep(Duration::from_secs(1)).await;
        drop(stop);
    };
    let (ended, ()) = tokio::join!(run, script);
    ended.unwrap();
    world.check_whole("what had come is written at the end");
    assert_eq!(archive.counts.epochs, 2);
}

#[tokio::test(start_paused = true)]
async fn a_member_that_lost_its_place_begins_anew() {
    let mut world = World::new();
    world.settings.until_end = false;
    orders(&mut world, 0);
    let mut archive = world.archive().unwrap();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let run = archive.run(async move { drop(stopped.await) });
    let script = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        world.topic.take_over(&world.settings.group);
        tokio::time::sleep(Duration::from_secs(10)).await;
        orders(&mut world, 10);
        tokio::time::sleep(Duration::from_secs(10)).await;
        drop(stop);
    };
    let (ended, ()) = tokio::join!(run, script);
    ended.unwrap();
    world.check_whole("after it joined again");
    assert_eq!(world.committed(), [(0, 10), (1, 10)].into());
}

#[tokio::test(start_paused = true)]
async fn deletes_go_by_commit_time() {
    let mut world = World::new();
    world.settings.limits.partition_by = Some("created_at".to_owned());
    world.push(0, Op::Create, 1, 0);
    world.push(0, Op::Delete, 1, 0);
    world.push(0, Op::Truncate, 0, 5);
    world.expected.insert((0, 2), "2026-11-26".to_owned());
    world.read().await;
    world.check_whole("dates");
    assert!(world.disk.list(Path::new(OUTPUT)).unwrap().iter().all(|name| !name.contains("1970")));
}

/// The very moment of the stop: what was read is archived, and the group cannot be told.
#[tokio::test(start_paused = true)]
async fn stopped_when_another_has_just_taken_over() {
    let mut world = World::new();
    world.settings.until_end = false;
    world.settings.trigger_interval = Duration::from_secs(60);
    orders(&mut world, 0);
    let mut archive = world.archive().unwrap();
    let (topic, group) = (world.topic.clone(), world.settings.group.clone());
    archive
        .run(async move {
            tokio::time::sleep(Duration::from_secs(1)).await;
            topic.take_over(&group);
        })
        .await
        .unwrap();
    drop(archive);
    world.check_whole("what was read is there");
}
