//! Memory against the table, all the time: what differs is found and healed, and what is only on its way is left alone.

use std::time::Duration;

use tripline::change::{Change, Op};
use tripline::contract::{ColumnContract, Contract};
use tripline::job::JobError;
use tripline::model::{Key, Lsn};

use super::support::{World, firing, resolved};

/// Runs for so long.
async fn work(world: &World, seconds: u64) {
    world.monitor().run(tokio::time::sleep(Duration::from_secs(seconds))).await.unwrap();
}

fn world() -> World {
    let mut world = World::new();
    world.settings.until_end = false;
    world.settings.audit_period = Duration::from_secs(10);
    world
}

/// The stream never says so: rows that only the table has, rows that only memory has, and another amount.
#[tokio::test(start_paused = true)]
async fn what_went_without_an_event_is_healed() {
    let world = world();
    world.create(1, 7, "2000.00");
    world.create(2, 8, "4000.00");
    world.create(3, 9, "100.00");
    work(&world, 5).await;
    world.want(&[firing(8)]);
    world.put(4, 7, "1500.00", world.now());
    world.db.delete(&Key::Int(2));
    world.put(3, 9, "3500.00", world.now());
    world.put(5, 10, "5000.00", world.now());
    world.db.set_flushed(Some(Lsn(u64::MAX)));
    work(&world, 20).await;
    let mut told = world.told();
    told.sort_unstable();
    assert_eq!(told, [firing(7), firing(8), resolved(8), firing(9), firing(10)]);
    // Memory holds it from here on.
    world.create(6, 7, "1.00");
    work(&world, 5).await;
    assert!(world.sinks.alerts().len() == 5, "{:?}", world.told());
}

/// One cycle follows another: what differs later is found later.
#[tokio::test(start_paused = true)]
async fn cycle_after_cycle() {
    let world = world();
    world.create(1, 7, "2000.00");
    world.db.set_flushed(Some(Lsn(u64::MAX)));
    let later = async {
        tokio::time::sleep(Duration::from_secs(45)).await;
        world.put(2, 7, "1500.00", world.now());
        tokio::time::sleep(Duration::from_secs(15)).await;
    };
    let mut monitor = world.monitor();
    let status = monitor.status.clone();
    monitor.run(later).await.unwrap();
    world.want(&[firing(7)]);
    assert!(status.snapshot().audit.cycle_micros.is_some(), "a cycle has an end");
}

/// Where the connector does not say how far it has read, a difference has to last.
#[tokio::test(start_paused = true)]
async fn without_a_slot_a_difference_has_to_last() {
    let world = world();
    world.create(1, 7, "2000.00");
    work(&world, 5).await;
    world.put(2, 7, "1500.00", world.now());
    work(&world, 25).await;
    world.want(&[]);
    work(&world, 60).await;
    world.want(&[firing(7)]);
}

/// The table is ahead of the stream for a while: that is no drift.
#[tokio::test(start_paused = true)]
async fn what_is_on_its_way_is_no_drift() {
    let world = world();
    world.create(1, 7, "2000.00");
    world.put(2, 7, "900.00", world.now());
    let late = async {
        tokio::time::sleep(Duration::from_secs(20)).await;
        world.create(2, 7, "900.00");
        tokio::time::sleep(Duration::from_secs(40)).await;
    };
    let mut monitor = world.monitor();
    let status = monitor.status.clone();
    let run = monitor.run(late);
    run.await.unwrap();
    assert_eq!(status.snapshot().audit.drifts, 0);
    assert!(status.snapshot().audit.keys > 0, "keys are compared");
}

/// A worker that is killed may have written the newer changes of one partition and none of another's: that is no drift.
#[tokio::test(start_paused = true)]
async fn one_partition_says_nothing_of_another() {
    let mut world = World::of(2);
    world.settings.until_end = false;
    world.settings.audit_period = Duration::from_secs(4);
    world.create(1, 7, "2000.00");
    world.create(2, 8, "2000.00");
    let late = async {
        tokio::time::sleep(Duration::from_secs(5)).await;
        world.put(1, 7, "2900.00", world.now());
        world.db.set_position(world.change(Op::Update, 1, None).lsn.unwrap());
        // Changes of the other partition go on.
        for _ in 0..10 {
            tokio::time::sleep(Duration::from_secs(2)).await;
            world.create(2, 8, "2000.00");
        }
        world.update(1, 7, "2900.00");
        tokio::time::sleep(Duration::from_secs(10)).await;
    };
    let mut monitor = world.monitor();
    let status = monitor.status.clone();
    monitor.run(late).await.unwrap();
    assert_eq!(status.snapshot().audit.drifts, 0);
}

/// Another server goes on with the topic, whose positions in the WAL are lower: what was known of versions is void.
#[tokio::test(start_paused = true)]
async fn another_server_in_the_same_topic() {
    let world = world();
    world.create(1, 7, "4000.00");
    world.create(2, 8, "4000.00");
    work(&world, 5).await;
    world.want(&[firing(7), firing(8)]);
    let restored = |op, id, user, amount: &str, lsn| {
        world.put(id, user, amount, world.now());
        let row = World::row(user, amount, world.now());
        world.topic.push(0, Change { lsn: Some(Lsn(lsn)), ..world.change(op, id, Some(row)) });
    };
    restored(Op::Read, 1, 7, "4000.00", 100);
    restored(Op::Read, 2, 8, "4000.00", 100);
    restored(Op::Update, 1, 7, "10.00", 120);
    let mut monitor = world.monitor();
    let ended = monitor.run(tokio::time::sleep(Duration::from_secs(5))).await;
    // It is one run to a user: what has changed is told to the next monitor.
    let Err(JobError::Changed(changes)) = ended else { panic!("{ended:?}") };
    assert!(changes[0].contains("another server"), "{changes:?}");
    drop(monitor);
    let mut monitor = world.monitor();
    monitor.changes = changes;
    monitor.run(tokio::time::sleep(Duration::from_secs(5))).await.unwrap();
    world.want(&[firing(7), firing(8), resolved(7)]);
    // A new group over the whole topic.
    let mut again = world;
    again.settings.group = "monitor-v4".to_owned();
    let mut monitor = again.monitor();
    let Err(JobError::Changed(changes)) = monitor.run(std::future::pending()).await else { panic!("no change") };
    drop(monitor);
    let mut monitor = again.monitor();
    monitor.changes = changes;
    monitor.run(tokio::time::sleep(Duration::from_secs(5))).await.unwrap();
    assert_eq!(monitor.status.snapshot().rules[0].open, 1, "user 8");
}

/// The table's properties are read again. Another type of a column ends the work, and the windows come from the table.
#[tokio::test(start_paused = true)]
async fn another_world_is_another_start() {
    let world = world();
    let contract = |ty: &str| {
        let column = ColumnContract { ty: ty.to_owned(), ..ColumnContract::default() };
        Contract { columns: [("amount".to_owned(), column)].into(), ..Contract::default() }
    };
    world.db.set_contract(contract("numeric(,2)"));
    world.create(1, 7, "2000.00");
    work(&world, 5).await;
    let mut monitor = world.monitor();
    let change = async {
        tokio::time::sleep(Duration::from_secs(5)).await;
        world.db.set_contract(contract("numeric(,4)"));
        // Nobody tells of it.
        world.put(2, 7, "1500.00", world.now());
        std::future::pending::<()>().await;
    };
    let ended = monitor.run(change).await;
    assert!(matches!(ended, Err(JobError::Changed(_))), "{ended:?}");
    drop(monitor);
    world.want(&[]);
    work(&world, 5).await;
    world.want(&[firing(7)]);
}
