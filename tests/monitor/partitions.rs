//! Partitions: several, new ones, taken away and given back, and what retention or a truncation leaves.

use std::time::Duration;

use super::support::{World, firing};
use super::timeline::Timeline;
use tripline::change::Op;
use tripline::fakes::topic::MemorySource;
use tripline::job::gauge::GaugeReading;
use tripline::model::NextOffset;
use tripline::progress::Offsets;
use tripline::rule::Confirm;
use tripline::source::Event;

fn offsets(of: &[(i32, i64)]) -> Offsets {
    of.iter().map(|(partition, next)| (*partition, NextOffset(*next))).collect()
}

#[tokio::test(start_paused = true)]
async fn two_partitions_are_judged_together() {
    let world = World::of(2);
    for id in 0..40 {
        world.create(id, 7, "100.00");
    }
    let counts = world.read().await;
    assert_eq!((counts.read, counts.fired), (40, 1));
    assert_eq!(world.epochs().last().unwrap().offsets, offsets(&[(0, 20), (1, 20)]));
    for id in 40..44 {
        world.create(id, 8, "1000.00");
    }
    assert_eq!(world.read().await.read, 4);
    world.want(&[firing(7), firing(8)]);
}

#[tokio::test(start_paused = true)]
async fn the_gauge_counts_from_where_it_begins_to_the_end() {
    let world = World::of(2);
    let gauge = async |rows: std::ops::Range<i64>| {
        for id in rows {
            world.create(id, id, "4000.00");
        }
        let mut monitor = world.monitor();
        assert_eq!(monitor.gauge.read(), GaugeReading::default());
        monitor.run(std::future::pending()).await.unwrap();
        monitor.gauge.read()
    };
    assert_eq!(gauge(0..40).await, GaugeReading { all: 40, read: 40, waiting: 0 });
    assert_eq!(gauge(40..43).await, GaugeReading { all: 3, read: 3, waiting: 0 });
    assert_eq!(gauge(43..43).await, GaugeReading::default());
}

#[tokio::test(start_paused = true)]
async fn rebuild_waits_for_all_partitions() {
    let world = World::of(2);
    for id in 0..40 {
        // Partition 0 alone would be over; partition 1 takes it back.
        let (amount, op) = if id < 20 { ("400.00", Op::Create) } else { ("1.00", Op::Update) };
        world.write(op, id % 20, 7, amount);
    }
    world.read().await;
    world.want(&[]);
    let asked = world.db.asked().len();
    world.lose_folder();
    world.topic.set_batch_records(3);
    let counts = world.read().await;
    assert_eq!((counts.replayed, counts.read, counts.candidates), (40, 0, 0));
    assert_eq!(world.db.asked().len(), asked, "nothing is evaluated halfway");
}

#[tokio::test(start_paused = true)]
async fn rebuild_ends_where_the_last_offsets_hold_no_record() {
    let world = World::new();
    world.create(1, 7, "4000.00");
    world.topic.skip(0);
    world.topic.skip(0);
    // The group stands behind the gap, as after a transaction's marker.
    world.topic.move_group("monitor-v3", 0, 3);
    let counts = world.read().await;
    assert_eq!((counts.read, counts.replayed, counts.fired), (0, 1, 1));
    assert!(world.committed() >= 3, "the group never goes back by itself: {}", world.committed());
}

#[tokio::test(start_paused = true)]
async fn until_end_ends_at_an_end_without_records() {
    let world = World::of(3); // partition 2 is empty
    world.create(0, 7, "4000.00");
    world.topic.skip(0);
    world.create(1, 7, "1.00");
    world.topic.skip(1);
    assert_eq!(world.read().await.fired, 1);
    assert_eq!(world.read().await.read, 0);
}

#[tokio::test(start_paused = true)]
async fn empty_topic() {
    let world = World::of(2);
    assert_eq!(world.read().await.read, 0);
    assert_eq!(world.topic.committed("monitor-v3").len(), 2, "the start is committed");
    world.create(1, 7, "4000.00");
    assert_eq!(world.read().await.fired, 1);
}

#[tokio::test(start_paused = true)]
async fn new_partition_is_read_from_its_beginning() {
    let world = World::of(1);
    world.create(1, 7, "2000.00");
    world.read().await;
    world.topic.add_partition(1);
    world.put(2, 7, "2000.00", world.now());
    let row = world.change(Op::Create, 2, None);
    let row = tripline::change::Change {
        row: Some(Box::new([
            tripline::model::Value::Int(7),
            tripline::model::Value::Decimal(200_000),
            tripline::model::Value::Time(world.now()),
        ])),
        ..row
    };
    world.topic.push(1, row);
    let counts = world.read().await;
    assert_eq!((counts.read, counts.fired), (1, 1));
    assert_eq!(world.epochs().last().unwrap().offsets, offsets(&[(0, 1), (1, 1)]));
    world.want(&[firing(7)]);
}

#[tokio::test(start_paused = true)]
async fn taken_away_and_given_back() {
    let mut world = World::of(2);
    let mut line = Timeline::default();
    line.at(1).create(1, 7, "4000.00");
    line.want(1, firing(7));
    line.at(3).does(|world| world.topic.rebalance());
    line.at(4).create(2, 8, "4000.00");
    line.want(4, firing(8));
    line.at(5).does(|world| world.topic.tell(Event::Revoked));
    line.at(6).create(3, 9, "4000.00"); // it has joined anew
    line.want(6, firing(9));
    line.play(&mut world, 20).await;
}

#[tokio::test(start_paused = true)]
async fn counts_of_what_a_rebalance_undid() {
    let mut world = World::new();
    world.settings.until_end = false;
    world.settings.trigger_interval = Duration::from_secs(3_600); // nothing is logged before the rebalance
    for id in 0..10 {
        world.create(id, 7, "1.00");
    }
    let rebalance = async {
        tokio::time::sleep(Duration::from_secs(5)).await;
        world.topic.rebalance();
    };
    let mut monitor = world.monitor();
    let run = monitor.run(tokio::time::sleep(Duration::from_secs(10)));
    let (counts, ()) = tokio::join!(run, rebalance);
    assert_eq!(counts.unwrap().read, 10, "each record is read for the first time once");
}

#[tokio::test(start_paused = true)]
async fn rebalance_while_a_decision_is_undelivered() {
    let world = World::new();
    world.db.set_delay(Duration::from_millis(500));
    world.create(1, 7, "4000.00");
    let rebalance = async {
        tokio::time::sleep(Duration::from_millis(250)).await;
        world.topic.rebalance();
    };
    let (counts, ()) = tokio::join!(world.read(), rebalance);
    assert_eq!(counts.fired, 1);
    world.want(&[firing(7)]);
}

#[tokio::test(start_paused = true)]
async fn part_of_the_partitions_is_an_error() {
    let world = World::of(2);
    let mut monitor = world.monitor_of(MemorySource::join_with(&world.topic, "monitor-v3", vec![0]));
    let error = monitor.run(std::future::pending()).await.unwrap_err().to_string();
    assert!(error.contains("has another active member: this one was given 1 of 2 partitions"), "{error}");
    assert!(error.contains("use a group id of its own"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn no_partition_is_a_stand_by() {
    let mut world = World::of(2);
    world.settings.until_end = false;
    world.create(1, 7, "4000.00");
    let mut monitor = world.monitor_of(MemorySource::join_with(&world.topic, "monitor-v3", vec![]));
    let takes_over = async {
        tokio::time::sleep(Duration::from_secs(5)).await;
        world.want(&[]);
        world.topic.rebalance();
    };
    let run = monitor.run(tokio::time::sleep(Duration::from_secs(10)));
    let (counts, ()) = tokio::join!(run, takes_over);
    assert_eq!(counts.unwrap().fired, 1);
    world.want(&[firing(7)]);
}

#[tokio::test(start_paused = true)]
async fn retention_removed_what_was_not_read() {
    let world = World::new();
    for id in 0..10 {
        world.create(id, 7, "1.00");
    }
    world.read().await;
    for id in 10..30 {
        world.create(id, 7, "200.00");
    }
    world.topic.retain_from(0, 20);
    let error = world.error().await;
    assert!(error.contains("offsets 10 to 19 were removed by retention before they were read"), "{error}");
    assert!(error.contains("tripline offsets reset --to-earliest --execute"), "{error}");
    // And what it says helps.
    world.topic.move_group("monitor-v3", 0, 20);
    assert_eq!(world.read().await.read, 10);
}

#[tokio::test(start_paused = true)]
async fn retention_of_what_was_read_takes_nothing_from_the_windows() {
    let world = World::new();
    for id in 0..10 {
        world.create(id, 7, "200.00");
    }
    world.read().await;
    world.topic.retain_from(0, 10);
    world.create(10, 7, "1000.01");
    assert_eq!(world.read().await.fired, 1);
    world.topic.retain_from(0, 11);
    assert_eq!(world.read().await.read, 0);
    world.want(&[firing(7)]);
}

/// Rows that were deleted between the stored windows and what is left of the topic: neither the topic nor the table names them.
#[tokio::test(start_paused = true)]
async fn windows_that_were_stored_before_the_topic_begins_count_for_nothing() {
    let mut world = World::new();
    // Nobody is asked, so that it is memory that decides.
    world.rules[0].confirm = Confirm::Off;
    world.create(1, 7, "2000.00");
    world.create(2, 7, "500.00");
    world.read().await;
    let state = |world: &World| {
        let entry = std::fs::read_dir(world.folder_path().join("state")).unwrap().next().unwrap().unwrap();
        entry.path()
    };
    let older = state(&world);
    world.delete(1);
    world.create(3, 8, "1.00");
    world.read().await;
    // The newest one is damaged: the one before is as good, where the topic goes back as far.
    for entry in std::fs::read_dir(older.parent().unwrap()).unwrap() {
        let path = entry.unwrap().path();
        if path != older {
            std::fs::write(path, b"damaged").unwrap();
        }
    }
    world.topic.retain_from(0, 4);
    world.create(4, 7, "1500.00");
    world.read().await;
    world.want(&[]);
}

#[tokio::test(start_paused = true)]
async fn topic_made_anew() {
    let world = World::new();
    for id in 0..10 {
        world.create(id, 7, "1.00");
    }
    world.read().await;
    world.topic.truncate_to(0, 4);
    let error = world.error().await;
    assert!(error.contains("offset 9 was read, and the partition ends at offset 4; the topic was truncated, or deleted and created again"), "{error}");
    assert!(error.contains("tripline offsets reset --to-earliest --execute, or a new group id"), "{error}");
    // Made anew, and already longer than before; Kafka drops a group's offsets with the topic.
    let world = World::new();
    for id in 0..10 {
        world.create(id, 7, "1.00");
    }
    world.read().await;
    for with_offsets in [true, false] {
        world.topic.make_anew();
        for id in 100..120 {
            world.create(id, 8, "200.00");
        }
        if !with_offsets {
            world.topic.delete_group("monitor-v3");
        }
        let error = world.error().await;
        assert!(error.contains("offset 9 was read, and another record is there"), "{error}");
    }
    // And what it says helps.
    world.topic.move_group("monitor-v3", 0, 0);
    assert_eq!(world.read().await.read, 20);
    world.want(&[firing(8)]);
}

#[tokio::test(start_paused = true)]
async fn another_cluster() {
    let world = World::new();
    world.create(1, 7, "1.00");
    world.read().await;
    world.topic.set_cluster("other");
    let error = world.error().await;
    assert!(error.contains("holds progress in Kafka cluster cluster, and this is cluster other"), "{error}");
}
