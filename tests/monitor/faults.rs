//! Records that are not understood, sinks that refuse, a broker that is away.

use std::time::Duration;

use super::support::{World, firing};
use super::timeline::Timeline;
use tripline::monitor::MonitorError;
use tripline::source::{Event, SourceError};

#[tokio::test(start_paused = true)]
async fn rejected_records_are_buried_before_the_commit() {
    let world = World::new();
    world.create(1, 7, "2000.00");
    world.topic.push_bad(0, "not JSON");
    world.create(2, 7, "2000.00");
    world.sinks.fail(3);
    let watching = async {
        while world.sinks.dead().is_empty() {
            assert!(world.topic.committed("monitor-v3").get(&0).is_none_or(|(next, _)| next.0 <= 1));
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let (counts, ()) = tokio::join!(world.read(), watching);
    assert_eq!((counts.read, counts.rejected, counts.fired), (3, 1, 1));
    assert_eq!(world.sinks.dead().len(), 1);
    assert_eq!(world.sinks.dead()[0].reject.detail, "not JSON");
    assert_eq!(world.committed(), 3);
    assert_eq!(world.read().await.rejected, 0);
    assert_eq!(world.sinks.dead().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn rejected_records_are_not_buried_again_by_a_rebuild() {
    let world = World::new();
    world.topic.push_bad(0, "not JSON");
    world.create(1, 7, "4000.00");
    world.read().await;
    world.lose_folder();
    assert_eq!(world.read().await.rejected, 0);
    assert_eq!(world.sinks.dead().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn many_rejected_records_do_not_wait_for_the_end() {
    let mut world = World::new();
    world.settings.trigger_interval = Duration::from_secs(3_600);
    for _ in 0..2_500 {
        world.topic.push_bad(0, "not JSON");
    }
    assert_eq!(world.read().await.rejected, 2_500);
    assert_eq!(world.sinks.dead().len(), 2_500);
    assert!(world.sinks.calls() >= 3);
}

#[tokio::test(start_paused = true)]
async fn stops_before_a_bad_record() {
    let mut world = World::new();
    world.settings.stop_on_bad_record = true;
    world.create(1, 7, "4000.00");
    world.create(2, 8, "1.00");
    world.topic.push_bad(0, "not JSON");
    world.create(3, 9, "4000.00");
    for _ in 0..2 {
        let error = world.error().await;
        assert!(error.contains("partition 0 offset 2: not JSON"), "{error}");
        assert!(error.contains("stops before this record"), "{error}");
        assert!(world.sinks.dead().is_empty());
    }
    assert_eq!(world.committed(), 2, "everything before it is done with");
    world.want(&[firing(7)]);
}

#[tokio::test(start_paused = true)]
async fn bad_record_is_passed_once_the_setting_is_changed() {
    let mut world = World::new();
    world.settings.stop_on_bad_record = true;
    world.create(1, 7, "4000.00");
    world.topic.push_bad(0, "not JSON");
    world.create(2, 8, "4000.00");
    world.error().await;
    world.settings.stop_on_bad_record = false;
    assert_eq!(world.read().await.rejected, 1);
    world.want(&[firing(7), firing(8)]);
}

#[tokio::test(start_paused = true)]
async fn sink_failing_for_a_while_gets_everything_in_order() {
    let mut world = World::new();
    let mut line = Timeline::default();
    line.at(1).does(|world| world.sinks.fail(5));
    line.at(1).create(1, 1, "4000.00");
    line.at(2).create(2, 2, "4000.00");
    line.at(2).create(3, 3, "4000.00");
    line.at(3).create(4, 4, "4000.00");
    line.at(10).does(|world| {
        world.want(&[firing(1), firing(2), firing(3), firing(4)]);
        assert_eq!(world.committed(), 4);
    });
    world.settings.until_end = false;
    // Decided when they are answered; told when the sink takes them: 0.1 + 0.2 + 0.4 + 0.8 + 1.6 s later.
    line.want(1, firing(1));
    line.want(4, firing(2));
    line.want(4, firing(3));
    line.want(4, firing(4));
    line.play(&mut world, 30).await;
    assert_eq!(world.epochs().iter().map(|epoch| epoch.alerts.len()).sum::<usize>(), 4);
}

#[tokio::test(start_paused = true)]
async fn sink_refusing_for_good_ends_the_run_and_gets_the_logged_bytes_later() {
    let world = World::new();
    world.create(1, 7, "4000.00");
    world.sinks.refuse(true);
    let error = world.error().await;
    assert_eq!(error, "memory: told to fail");
    let logged: Vec<_> = world.epochs().into_iter().flat_map(|epoch| epoch.alerts).collect();
    assert_eq!(logged.len(), 1);
    assert_eq!(world.committed(), 0, "not committed past what was delivered");
    world.error().await;
    tokio::time::sleep(Duration::from_secs(86_400)).await;
    world.sinks.refuse(false);
    world.create(2, 8, "4000.00");
    world.read().await;
    world.want(&[firing(7), firing(8)]);
    assert_eq!(world.sinks.alerts()[0], logged[0]);
    assert_eq!(world.committed(), 2);
}

/// A run that was to read to the end and was stopped before must not look like one that did.
#[tokio::test(start_paused = true)]
async fn stopped_before_the_end() {
    let world = World::new();
    world.create(1, 7, "4000.00");
    world.db.go_away(Some("away"));
    let ended = world.monitor().run(tokio::time::sleep(Duration::from_secs(60))).await;
    assert!(matches!(ended, Err(MonitorError::BeforeTheEnd)), "{ended:?}");
    world.db.go_away(None);
    assert_eq!(world.read().await.fired, 1, "the next run goes on from there");
}

#[tokio::test(start_paused = true)]
async fn stop_while_a_sink_is_away() {
    let mut world = World::new();
    world.settings.until_end = false;
    world.create(1, 7, "4000.00");
    world.sinks.fail(u32::MAX);
    let mut monitor = world.monitor();
    let run = monitor.run(tokio::time::sleep(Duration::from_secs(60)));
    let ended = tokio::time::timeout(Duration::from_secs(600), run).await;
    assert!(ended.is_ok(), "what is logged is delivered by the next run: there is no reason not to stop");
}

#[tokio::test(start_paused = true)]
async fn failing_commits_do_not_stop_the_run() {
    let mut world = World::new();
    let mut line = Timeline::default();
    line.at(1).does(|world| world.topic.fail_commits(Some(SourceError::Call("broker away".into()))));
    line.at(2).create(1, 7, "4000.00");
    line.want(2, firing(7));
    line.at(10).create(2, 8, "4000.00");
    line.want(10, firing(8));
    line.at(15).does(|world| {
        assert_eq!(world.committed(), 0);
        world.topic.fail_commits(None);
    });
    line.at(20).create(3, 9, "1.00");
    line.at(25).does(|world| assert_eq!(world.committed(), 3));
    line.play(&mut world, 30).await;
}

#[tokio::test(start_paused = true)]
async fn commit_that_failed_last_is_made_up_for_at_the_next_start() {
    let world = World::new();
    world.create(1, 7, "1.00");
    world.read().await;
    world.topic.fail_commits(Some(SourceError::Call("broker away".into())));
    world.create(2, 7, "4000.00");
    world.read().await;
    assert_eq!(world.committed(), 1);
    world.topic.fail_commits(None);
    assert_eq!(world.read().await.read, 0);
    assert_eq!(world.committed(), 2);
    world.want(&[firing(7)]);
}

#[tokio::test(start_paused = true)]
async fn fenced_commit_ends_the_run() {
    let world = World::new();
    world.create(1, 7, "1.00");
    world.read().await;
    world.topic.fail_commits(Some(SourceError::Fenced("illegal generation".into())));
    world.create(2, 7, "1.00");
    assert_eq!(world.error().await, "Kafka: illegal generation");
}

#[tokio::test(start_paused = true)]
async fn source_that_fails_ends_the_run() {
    let world = World::new();
    world.create(1, 7, "4000.00");
    let mut monitor = world.monitor();
    world.topic.tell(Event::Failed(SourceError::Lost("offset out of range".into())));
    let error = monitor.run(std::future::pending()).await.unwrap_err().to_string();
    assert_eq!(error, "Kafka: offset out of range");
    drop(monitor);
    world.read().await;
    world.want(&[firing(7)]);
}

#[tokio::test(start_paused = true)]
async fn two_processes_on_one_folder() {
    let world = World::new();
    let _held = world.folder();
    let error = tripline::checkpoint::Folder::open(world.dir.path(), "monitor-v3").unwrap_err().to_string();
    assert!(error.contains("in use by another process"), "{error}");
}
