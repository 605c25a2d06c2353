//! The start table, row by row: what the checkpoint folder has, what the group has, what the topic still has.

use super::run::Run;
use super::world::{World, copy, firing, resolved};

/// Users 1 to 5 have fired. Users 6 to 10 wait for the database, which is down. The folder is gone.
#[test]
#[ignore = "needs the servers: scripts/test"]
fn the_folder_is_deleted_while_candidates_wait_and_the_database_is_away() {
    let mut w = World::with_server("deleted");
    w.spend(1..=5, "3500");
    let job = w.job("a");
    let run = Run::start(&job);
    w.wait_for_alerts(5);
    w.wait_committed(5);
    w.insert(6..=10, "3500");
    let late = w.records("c", "id > 5");
    w.server().stop();
    w.tell(&late);
    w.wait_committed(10);
    run.kill();
    std::fs::remove_dir_all(w.checkpoint("a")).unwrap();

    // It starts while the database is away, and waits for it.
    let mut run = Run::start(&job);
    run.wait_in_log("asking Postgres at");
    w.server().start();
    run.wait_in_log("rebuilds: there is no checkpoint");
    w.wait_for_alerts(10);
    w.change(3, "1");
    w.wait_for_alerts(11);
    w.wait_committed(11);
    run.terminate();
    w.one_each(&[&firing(1..=10), &resolved([3])]);
    let again = w.read("a");
    assert_eq!((again.count("read"), again.count("fired")), (0, 0), "{again}");
}

/// Yesterday's copy: two epochs behind.
#[test]
#[ignore = "needs the servers: scripts/test"]
fn the_folder_is_restored_from_an_older_copy() {
    let w = World::new("restored");
    w.spend(1..=3, "3500");
    w.read("a");
    copy(&w.checkpoint("a"), &w.checkpoint("copy"));
    let lineage = w.lineage("a");
    w.spend(4..=4, "3500");
    w.read("a");
    w.change(1, "1");
    w.read("a");
    assert!(w.epochs("a").last() >= w.epochs("copy").last().map(|newest| newest + 2).as_ref());
    std::fs::remove_dir_all(w.checkpoint("a")).unwrap();
    copy(&w.checkpoint("copy"), &w.checkpoint("a"));

    w.change(2, "1");
    let run = w.read("a").said("which the checkpoint does not have");
    assert_eq!((run.count("read"), run.count("fired"), run.count("resolved")), (1, 0, 1), "{run}");
    assert_eq!((w.lineage("a"), w.aside("a")), (lineage.clone(), vec![lineage]));
    w.one_each(&[&firing(1..=4), &resolved([1, 2])]);
    // User 1 anew: another episode.
    w.change(1, "3600");
    w.change(4, "1");
    w.read("a");
    w.one_each(&[&firing([1, 1, 2, 3, 4]), &resolved([1, 2, 4])]);
}

#[test]
#[ignore = "needs the servers: scripts/test"]
fn the_group_is_deleted_so_everything_is_read_again() {
    let w = World::new("group_deleted");
    w.spend(1..=3, "3500");
    w.read("a");
    let before = w.lineage("a");
    w.cluster.delete_group(&w.group);
    let run = w.read("a").said("the group's offsets were deleted");
    assert_eq!((run.count("read"), run.count("fired")), (3, 3), "{run}");
    assert_ne!(w.lineage("a"), before);
    assert_eq!(w.aside("a"), [before]);
    w.one_each(&[&firing(1..=3), &firing(1..=3)]);
}

#[test]
#[ignore = "needs the servers: scripts/test"]
fn the_group_is_deleted_and_the_folder_is_to_be_believed() {
    let w = World::new("group_resumed");
    w.spend(1..=3, "3500");
    w.read("a");
    let before = w.lineage("a");
    let mut job = w.job("a");
    job.environment.push(("TRIPLINE__KAFKA__WHEN_GROUP_IS_MISSING", "resume".to_owned()));
    for turn in 0..2_i64 {
        w.cluster.delete_group(&w.group);
        if turn == 1 {
            // And from Kafka alone.
            std::fs::remove_dir_all(w.checkpoint("a")).unwrap();
        }
        w.change(1 + turn, "1");
        let run = Run::to_the_end(&job).ended().well();
        assert_eq!((run.count("read"), run.count("fired"), run.count("resolved")), (1, 0, 1), "{run}");
        assert_eq!(w.lineage("a"), before);
        assert_eq!(w.committed(), Some(4 + turn));
    }
    w.one_each(&[&firing(1..=3), &resolved([1, 2])]);
}

/// An instance with a folder of its own has begun anew meanwhile: its lineage is the group's.
#[test]
#[ignore = "needs the servers: scripts/test"]
fn another_instance_began_another_lineage() {
    let w = World::new("another");
    w.spend(1..=3, "3500");
    w.read("a");
    let before = w.lineage("a");
    w.cluster.delete_group(&w.group);
    w.change(1, "1");
    let run = w.read("b").said("begins a new lineage at auto_offset_reset");
    assert_eq!((run.count("read"), run.count("fired")), (4, 2), "{run}");
    w.change(2, "1");
    let run = w.read("a").said("of another lineage");
    assert_eq!((run.count("read"), run.count("resolved")), (1, 1), "{run}");
    assert_eq!((w.lineage("a"), w.aside("a")), (w.lineage("b"), vec![before]));
    w.one_each(&[&firing([1, 2, 3, 2, 3]), &resolved([2])]);
}

/// Kafka 4 drops the group's offsets with the topic, so that the group looks deleted.
fn made_anew(test: &str, records: i64) {
    let w = World::new(test);
    w.spend(1..=5, "3500");
    w.read("a");
    w.cluster.delete_topic(&w.topic);
    w.cluster.create_topic(&w.topic, 1);
    w.spend(11..=10 + records, "3600");
    let job = w.job("a");
    let refused = Run::to_the_end(&job).ended();
    let what = format!("{} partition 0 is not the one that was read", w.topic);
    refused.refused(
        5,
        &[&what, "deleted and created again", "tripline offsets reset --to-earliest --execute", "a new group id"],
    );
    // Neither folder nor group has changed: it says so again.
    Run::to_the_end(&job).ended().refused(5, &[&what]);
    w.one_each(&[&firing(1..=5)]);

    w.reset_to_earliest("a");
    let run = w.read("a");
    assert_eq!(run.count("read"), u64::try_from(records).unwrap(), "{run}");
    // The table still has the rows that the topic lacks: a new lineage tells what is over its threshold.
    w.one_each(&[&firing(1..=5), &firing(1..=5), &firing(11..=10 + records)]);
    w.change(12, "1");
    assert_eq!(w.read("a").count("read"), 1);
    w.one_each(&[&firing(1..=5), &firing(1..=5), &firing(11..=10 + records), &resolved([12])]);
}

#[test]
#[ignore = "needs the servers: scripts/test"]
fn the_topic_is_made_anew_with_fewer_records() {
    made_anew("anew_fewer", 2);
}

#[test]
#[ignore = "needs the servers: scripts/test"]
fn the_topic_is_made_anew_with_more_records() {
    made_anew("anew_more", 9);
}

#[test]
#[ignore = "needs the servers: scripts/test"]
fn records_are_removed_before_they_were_read() {
    let w = World::new("truncated");
    w.spend(1..=3, "3500");
    w.read("a");
    w.spend(4..=9, "3500");
    w.cluster.truncate(&w.topic, 0, 7);
    let refused = Run::to_the_end(&w.job("a")).ended();
    let what = format!("{} partition 0: offsets 3 to 6 were removed by retention before they were read", w.topic);
    refused.refused(5, &[&what, "tripline offsets reset --to-earliest --execute", "a new group id"]);
    w.one_each(&[&firing(1..=3)]);
    // The same for an instance without a folder.
    Run::to_the_end(&w.job("b")).ended().refused(5, &[&what]);

    w.reset_to_earliest("a");
    // The table has the rows of what was removed: a new lineage tells what is over its threshold.
    let run = w.read("a").said("windows are filled from the table");
    assert_eq!((run.count("read"), run.count("fired")), (2, 9), "{run}");
    w.one_each(&[&firing(1..=3), &firing(1..=9)]);
    assert_eq!(w.read("a").count("read"), 0);
}

/// Removed, but read before: nothing is lost.
#[test]
#[ignore = "needs the servers: scripts/test"]
fn records_are_removed_that_had_been_read() {
    let w = World::new("truncated_read");
    w.spend(1..=5, "3500");
    w.read("a");
    w.cluster.truncate(&w.topic, 0, 5);
    w.change(1, "1");
    let run = w.read("a");
    assert_eq!((run.count("read"), run.count("resolved")), (1, 1), "{run}");
    // Without a folder, the rows come from the table.
    w.cluster.truncate(&w.topic, 0, 6);
    std::fs::remove_dir_all(w.checkpoint("a")).unwrap();
    w.change(2, "1");
    let run = w.read("a").said("windows are filled from the table");
    assert_eq!((run.count("read"), run.count("resolved")), (1, 1), "{run}");
    w.one_each(&[&firing(1..=5), &resolved([1, 2])]);
}
