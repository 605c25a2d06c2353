//! The status of a run.

use std::sync::Arc;

use tripline::run_status::{EventKind, Pause, Phase, RunStatus, StatusSnapshot};
use tripline::unit::events::ConfirmationOutcome;

use super::support::World;

/// The status of a run to the end.
async fn shown(world: &World) -> Arc<RunStatus> {
    let mut monitor = world.monitor();
    let status = Arc::clone(&monitor.status);
    monitor.run(std::future::pending()).await.unwrap();
    status
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
    let status = shown(&world).await;
    let snapshot = status.snapshot();
    assert_eq!(snapshot.phase, Phase::Ended);
    assert_eq!((snapshot.read, snapshot.rows), (5, 4));
    assert_eq!((snapshot.keys, snapshot.waiting), (3, 1), "the refuted one waits to be asked again");
    assert_eq!(snapshot.rejected.get("json"), Some(&1));
    let rule = &snapshot.rules[0];
    assert_eq!((rule.counts.candidates, rule.counts.confirmed, rule.fired, rule.open), (2, 1, 1, 1));
    assert!(rule.counts.refuted >= 1, "{rule:?}");
    let partition = &snapshot.partitions[&0];
    assert_eq!((partition.next, partition.end), (5, Some(5)));
    assert_eq!((partition.logged, partition.committed), (Some(5), Some(5)));
    assert_eq!((snapshot.lag_records(), snapshot.lag_millis), (0, None));
    assert_eq!(snapshot.delays.count, 1);
    assert!(snapshot.statements.count >= 1);
    let name = snapshot.epoch.map(|epoch| epoch.name).unwrap_or_default();
    assert!(name.starts_with(&world.lineage()), "{name}");

    let alerts = status.alerts();
    let [entry] = alerts.as_slice() else { panic!("{alerts:?}") };
    let EventKind::Alert(alert) = &entry.what else { panic!("{entry:?}") };
    assert_eq!(alert.body, world.sinks.alerts()[0].body, "the very bytes that were delivered");
    let outcomes: Vec<(ConfirmationOutcome, String)> = status
        .since(0)
        .iter()
        .filter_map(|entry| match &entry.what {
            EventKind::Candidate(report) => Some((report.outcome, report.label.clone())),
            EventKind::Alert(_) => None,
        })
        .collect();
    assert!(outcomes.contains(&(ConfirmationOutcome::Confirmed, "7".to_owned())), "{outcomes:?}");
    assert!(outcomes.contains(&(ConfirmationOutcome::Refuted, "9".to_owned())), "{outcomes:?}");
    assert!(status.since(entry.seq).iter().all(|later| later.seq > entry.seq));
    assert_eq!(*status.newest().borrow(), status.since(0).last().map_or(0, |last| last.seq));
}

#[tokio::test(start_paused = true)]
async fn the_keys_nearest_to_the_threshold_while_somebody_looks() {
    let mut world = World::new();
    world.settings.until_end = false;
    world.create(1, 7, "3500.50");
    world.create(2, 8, "10.00");
    world.create(3, 9, "2999.99");
    let mut monitor = world.monitor();
    let status = Arc::clone(&monitor.status);
    let run = monitor.run(std::future::pending());
    let look = async {
        let pause = std::time::Duration::from_secs(3);
        tokio::time::sleep(pause).await;
        assert_eq!(status.snapshot().top, []);
        let _viewer = status.viewer();
        tokio::time::sleep(pause).await;
        status.snapshot().top
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
    let status = Arc::clone(&monitor.status);
    drop(monitor);
    let mut again = world.monitor();
    again.status = Arc::clone(&status);
    again.run(std::future::pending()).await.unwrap();
    let snapshot = status.snapshot();
    assert_eq!(snapshot.read, 2);
    assert_eq!(status.alerts().len(), 2);
    assert_eq!(snapshot.partitions[&0].next, 2);
}

/// The status of a run a minute after the second of two records has come.
async fn a_minute_later(mut world: World, prepare: impl FnOnce(&World)) -> StatusSnapshot {
    world.settings.until_end = false;
    world.create(1, 7, "10.00");
    let mut monitor = world.monitor();
    let status = Arc::clone(&monitor.status);
    let run = monitor.run(std::future::pending());
    let look = async {
        tokio::time::sleep(std::time::Duration::from_secs(60)).await;
        assert_eq!(status.snapshot().stalled, None, "it has read all there was");
        prepare(&world);
        world.create(2, 7, "10.00");
        tokio::time::sleep(std::time::Duration::from_secs(60)).await;
        status.snapshot()
    };
    tokio::select! { ended = run => panic!("{ended:?}"), snapshot = look => snapshot }
}

#[tokio::test(start_paused = true)]
async fn a_loop_that_stands_still_shows() {
    let snapshot = a_minute_later(World::new(), |world| world.topic.set_batch_records(0)).await;
    assert_eq!(snapshot.stalled.map(|(why, _)| why), Some("there are records to read, and none comes"));
}

/// The run waits because of its settings, so a restart would not help.
#[tokio::test(start_paused = true)]
async fn a_pause_is_no_stall() {
    let mut world = World::new();
    world.settings.rows_max = Some(1);
    let snapshot = a_minute_later(world, |_| ()).await;
    assert_eq!((snapshot.paused, snapshot.stalled), (Some(Pause::Rows), None));
    assert_eq!(snapshot.lag_records(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_is_open_is_listed_after_a_restart_too() {
    let mut world = World::new();
    world.create(1, 7, "3500.00");
    world.create(2, 8, "4000.00");
    let mut monitor = world.monitor();
    monitor.run(std::future::pending()).await.unwrap();
    drop(monitor);

    world.settings.until_end = false;
    let mut again = world.monitor();
    let status = Arc::clone(&again.status);
    status.list_open();
    let run = again.run(std::future::pending());
    let look = async {
        let second = std::time::Duration::from_secs(1);
        while status.snapshot().phase != Phase::Working || status.open().is_empty() {
            tokio::time::sleep(second).await;
        }
        let after_the_start = status.open();
        world.create(3, 9, "5000.00");
        world.delete(1);
        while status.open().first().is_none_or(|one| one.label != "9") || status.open().len() != 2 {
            tokio::time::sleep(second).await;
        }
        (after_the_start, status.open())
    };
    let (after_the_start, then) = tokio::select! { ended = run => panic!("{ended:?}"), shown = look => shown };
    let listed: Vec<_> = after_the_start.iter().map(|one| (&*one.rule, &*one.label, one.message.as_deref())).collect();
    assert_eq!(listed.len(), 2, "{listed:?}");
    assert!(
        listed.contains(&("weekly-spend", "7", None)) && listed.contains(&("weekly-spend", "8", None)),
        "{listed:?}"
    );
    let alerts = world.sinks.alerts();
    for one in after_the_start.iter() {
        let alert = alerts.iter().find(|alert| alert.id == one.alert).unwrap();
        assert_eq!(one.since, alert.emitted_at);
    }
    let then: Vec<_> = then.iter().map(|one| (&*one.label, one.message.as_deref())).collect();
    assert_eq!(then, [("9", Some("User 9 ($5,000.00)")), ("8", None)], "newest first; what resolved is gone");
}
