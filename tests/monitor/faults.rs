//! Records that are not understood, sinks that refuse, a broker that is away.

use std::time::Duration;
use tripline::failure::Kind;

use super::support::{World, firing};
use super::timeline::Timeline;
use tripline::failure::CallError;
use tripline::job::JobError;
use tripline::source::Event;

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
    // The epoch in which the first record was read waits for the broker, 0.1 + 0.2 + 0.4 + 0.8 + 1.6 s; the answers
    // are heard after it.
    line.want(4, firing(1));
    line.want(4, firing(2));
    line.want(4, firing(3));
    line.want(4, firing(4));
    line.play(&mut world, 30).await;
    assert_eq!(world.epochs().iter().map(|epoch| epoch.body.alerts.len()).sum::<usize>(), 4);
}

/// Refused when it is prepared: then nothing has happened, and the next run decides anew.
#[tokio::test(start_paused = true)]
async fn sink_refusing_for_good_ends_the_run() {
    let world = World::new();
    world.read().await;
    let before = world.epochs().len();
    world.create(1, 7, "4000.00");
    world.sinks.refuse(true);
    for _ in 0..2 {
        assert_eq!(world.error().await, "memory: asked to fail");
        assert_eq!(world.epochs().len(), before, "not logged");
        assert_eq!(world.committed(), 0, "not committed past what was delivered");
    }
    tokio::time::sleep(Duration::from_secs(86_400)).await;
    world.sinks.refuse(false);
    world.create(2, 8, "4000.00");
    world.read().await;
    world.want(&[firing(7), firing(8)]);
    assert_eq!(world.committed(), 2);
}

/// The topic has an epoch, and the table gets the same bytes when it is back.
#[tokio::test(start_paused = true)]
async fn table_away_gets_the_logged_bytes_later() {
    let mut world = World::new();
    world.settings.until_end = false;
    world.create(1, 7, "4000.00");
    world.sinks.table_is_down(true);
    let ended = world.monitor().run(tokio::time::sleep(Duration::from_secs(60))).await;
    assert!(matches!(ended, Err(JobError::Cut)), "{ended:?}");
    world.want(&[firing(7)]);
    assert_eq!((world.sinks.table(), world.committed()), (vec![], 1));
    world.sinks.table_is_down(false);
    world.settings.until_end = true;
    tokio::time::sleep(Duration::from_secs(86_400)).await;
    world.read().await;
    world.want(&[firing(7)]);
    assert_eq!(world.sinks.table(), world.sinks.alerts());
}

/// A run that was to read to the end and was stopped before must not look like one that did.
#[tokio::test(start_paused = true)]
async fn stopped_before_the_end() {
    let world = World::new();
    world.create(1, 7, "4000.00");
    world.db.go_away(Some("away"));
    let ended = world.monitor().run(tokio::time::sleep(Duration::from_secs(60))).await;
    assert!(matches!(ended, Err(JobError::BeforeTheEnd)), "{ended:?}");
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

/// Nobody knows whether it was done: the run begins anew from what is durable, and finds out.
#[tokio::test(start_paused = true)]
async fn commit_of_unknown_outcome() {
    for done in [true, false] {
        let mut world = World::new();
        let mut line = Timeline::default();
        line.at(1).create(1, 7, "4000.00");
        line.want(1, firing(7));
        line.at(5).does(move |world| world.sinks.lose_next_commit(done));
        line.at(6).create(2, 8, "4000.00");
        line.want(6, firing(8));
        line.at(10).create(3, 9, "4000.00");
        line.want(10, firing(9));
        line.play(&mut world, 30).await;
        assert_eq!(world.committed(), 3);
        assert_eq!(world.sinks.table().len(), 3);
    }
}

/// Another member has the partitions, and this one does not know yet: nothing of what it decides gets out or is written.
#[tokio::test(start_paused = true)]
async fn zombie_writes_nothing() {
    let world = World::new();
    world.create(1, 7, "1.00");
    world.read().await;
    let before = world.epochs();
    world.create(2, 7, "4000.00");
    let mut monitor = world.monitor();
    let calls = world.sinks.calls();
    let take_over = async {
        while world.sinks.calls() == calls {
            tokio::task::yield_now().await;
        }
        world.topic.take_over("monitor-v3");
    };
    let (ended, ()) = tokio::join!(monitor.run(std::future::pending()), take_over);
    let error = ended.unwrap_err().to_string();
    assert_eq!(error, "memory: this member is no longer the group's");
    drop(monitor);
    assert_eq!(world.epochs(), before);
    world.want(&[]);
    world.read().await;
    world.want(&[firing(7)]);
}

#[tokio::test(start_paused = true)]
async fn source_that_fails_ends_the_run() {
    let world = World::new();
    world.create(1, 7, "4000.00");
    let mut monitor = world.monitor();
    world.topic.tell(Event::Failed(CallError::new("Kafka", "offset out of range", Kind::Unsafe)));
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
