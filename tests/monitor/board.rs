//! What a run shows of itself on its board.

use std::sync::Arc;

use tripline::board::{Board, Pause, Phase, Reading, What};
use tripline::unit::news::Said;

use super::support::World;

/// What a run to the end has shown.
async fn shown(world: &World) -> Arc<Board> {
    let mut monitor = world.monitor();
    let board = Arc::clone(&monitor.board);
    monitor.run(std::future::pending()).await.unwrap();
    board
}

#[tokio::test(start_paused = true)]
async fn what_a_run_shows() {
    let world = World::new();
    world.create(1, 7, "2000.00");
    world.create(2, 7, "1500.50");
    world.create(3, 8, "10.00");
    // Of the stream alone: Postgres refutes it.
    world.stream(tripline::change::Op::Create, 4, 9, "5000.00", world.now());
    world.topic.push_bad(0, "nonsense");
    let board = shown(&world).await;
    let reading = board.look();
    assert_eq!(reading.phase, Phase::Ended);
    assert_eq!((reading.read, reading.rows), (5, 4));
    assert_eq!((reading.keys, reading.waiting), (3, 1), "the refuted one waits to be asked again");
    assert_eq!(reading.rejected.get("json"), Some(&1));
    let rule = &reading.rules[0];
    assert_eq!((rule.tally.candidates, rule.tally.confirmed, rule.fired, rule.open), (2, 1, 1, 1));
    assert!(rule.tally.refuted >= 1, "{rule:?}");
    let partition = reading.partitions[&0];
    assert_eq!((partition.next, partition.end), (5, Some(5)));
    assert_eq!((partition.logged, partition.committed), (Some(5), Some(5)));
    assert_eq!((reading.lag_records(), reading.lag_millis), (0, None));
    assert_eq!(reading.delays.count, 1);
    assert!(reading.statements.count >= 1);
    let name = reading.epoch.map(|epoch| epoch.name).unwrap_or_default();
    assert!(name.starts_with(&world.lineage()), "{name}");

    let alerts = board.alerts();
    let [entry] = alerts.as_slice() else { panic!("{alerts:?}") };
    let What::Alert(alert) = &entry.what else { panic!("{entry:?}") };
    assert_eq!(alert.body, world.sinks.alerts()[0].body, "the very bytes that were delivered");
    let said: Vec<(Said, String)> = board
        .since(0)
        .iter()
        .filter_map(|entry| match &entry.what {
            What::Candidate(heard) => Some((heard.said, heard.label.clone())),
            What::Alert(_) => None,
        })
        .collect();
    assert!(said.contains(&(Said::Confirmed, "7".to_owned())), "{said:?}");
    assert!(said.contains(&(Said::Refuted, "9".to_owned())), "{said:?}");
    assert!(board.since(entry.seq).iter().all(|later| later.seq > entry.seq));
    assert_eq!(*board.newest().borrow(), board.since(0).last().map_or(0, |last| last.seq));
}

#[tokio::test(start_paused = true)]
async fn the_keys_nearest_to_the_threshold_while_somebody_looks() {
    let mut world = World::new();
    world.settings.until_end = false;
    world.create(1, 7, "3500.50");
    world.create(2, 8, "10.00");
    world.create(3, 9, "2999.99");
    let mut monitor = world.monitor();
    let board = Arc::clone(&monitor.board);
    let run = monitor.run(std::future::pending());
    let look = async {
        let pause = std::time::Duration::from_secs(3);
        tokio::time::sleep(pause).await;
        assert_eq!(board.look().top, []);
        let _looker = board.looker();
        tokio::time::sleep(pause).await;
        board.look().top
    };
    let top = tokio::select! { ended = run => panic!("{ended:?}"), top = look => top };
    let top: Vec<(&str, &str, bool)> = top.iter().map(|top| (&*top.label, &*top.total, top.over)).collect();
    assert_eq!(top, [("7", "3500.50", true), ("9", "2999.99", false), ("8", "10.00", false)]);
}

#[tokio::test(start_paused = true)]
async fn counts_go_on_over_assignments() {
    let world = World::new();
    world.create(1, 7, "3500.00");
    let mut monitor = world.monitor();
    monitor.run(std::future::pending()).await.unwrap();
    world.create(2, 8, "3500.00");
    let board = Arc::clone(&monitor.board);
    drop(monitor);
    let mut again = world.monitor();
    again.board = Arc::clone(&board);
    again.run(std::future::pending()).await.unwrap();
    let reading = board.look();
    assert_eq!(reading.read, 2);
    assert_eq!(board.alerts().len(), 2);
    assert_eq!(reading.partitions[&0].next, 2);
}

/// What a run shows a minute after the second of two records has come.
async fn a_minute_later(mut world: World, prepare: impl FnOnce(&World)) -> Reading {
    world.settings.until_end = false;
    world.create(1, 7, "10.00");
    let mut monitor = world.monitor();
    let board = Arc::clone(&monitor.board);
    let run = monitor.run(std::future::pending());
    let look = async {
        tokio::time::sleep(std::time::Duration::from_secs(60)).await;
        assert_eq!(board.look().stalled, None, "it has read all there was");
        prepare(&world);
        world.create(2, 7, "10.00");
        tokio::time::sleep(std::time::Duration::from_secs(60)).await;
        board.look()
    };
    tokio::select! { ended = run => panic!("{ended:?}"), reading = look => reading }
}

#[tokio::test(start_paused = true)]
async fn a_loop_that_stands_still_shows() {
    let reading = a_minute_later(World::new(), |world| world.topic.set_batch_records(0)).await;
    assert_eq!(reading.stalled.map(|(why, _)| why), Some("there are records to read, and none comes"));
}

/// It waits, as it is told to: to start it anew would not help.
#[tokio::test(start_paused = true)]
async fn a_pause_is_no_stall() {
    let mut world = World::new();
    world.settings.rows_max = Some(1);
    let reading = a_minute_later(world, |_| ()).await;
    assert_eq!((reading.paused, reading.stalled), (Some(Pause::Rows), None));
    assert_eq!(reading.lag_records(), 1);
}
