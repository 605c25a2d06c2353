//! Killed at moments that look like something else. One is between `offsets/N` and the commit, where the group's
//! offsets are as an operator may have set them. The other is while a lineage begins.

use super::run::Run;
use super::world::{World, firing, resolved};

/// Killed when epoch N is logged and not committed: the group has the offsets of N - 1. That is no hand.
#[test]
#[ignore = "needs the servers: scripts/test"]
fn killed_between_the_log_and_the_commit() {
    let w = World::new("logged");
    w.spend(1..=3, "3500");
    w.read("a");
    let lineage = w.lineage("a");
    w.spend(4..=6, "3500");
    let run = Run::with_fault(&w.job("a"), "logged");
    run.killed();
    assert_eq!(w.committed(), Some(3));
    assert_eq!(w.alerts().len(), 3);
    let epochs = w.epochs("a");

    let run = w.read("a").said("completing what was logged before");
    assert_eq!((run.count("read"), run.count("fired")), (0, 0), "{run}");
    assert_eq!((w.lineage("a"), w.aside("a")), (lineage, vec![]));
    assert_eq!(w.epochs("a"), epochs, "each epoch has one record");
    assert_eq!(w.committed(), Some(6));
    w.one_each(&[&firing(1..=6)]);
}

/// The very same numbers, set by hand: an order, once, wherever the run that obeys is killed.
fn set_by_hand(test: &str, fault: Option<&str>) {
    let w = World::new(test);
    w.spend(1..=3, "3500");
    w.read("a");
    w.spend(4..=6, "3500");
    Run::with_fault(&w.job("a"), "logged").killed();
    let before = w.lineage("a");
    // Once the member that was killed is gone.
    w.cluster.set_by_hand(&w.group, &w.topic, &[(0, 3)]);
    assert_eq!(w.cluster.committed(&w.group, &w.topic)[&0], (3, String::new()));

    let mut logged = None;
    if let Some(fault) = fault {
        Run::with_fault(&w.job("a"), fault).killed().said("the group's offsets, which were set by hand");
        // Without an epoch it is no more than a name.
        logged = Some(w.lineage("a")).filter(|_| !w.epochs("a").is_empty());
    }
    let run = w.read("a");
    let after = w.lineage("a");
    assert_ne!(after, before);
    if let Some(logged) = logged {
        assert_eq!(after, logged, "{run}");
    }
    assert_eq!(w.aside("a"), [before], "{run}");
    // What was logged and not committed is left behind; what is over its threshold is told anew.
    w.one_each(&[&firing(1..=3), &firing(1..=6)]);
    let quiet = w.read("a");
    assert_eq!((quiet.count("read"), quiet.count("fired")), (0, 0), "{quiet}");
}

#[test]
#[ignore = "needs the servers: scripts/test"]
fn the_same_offsets_set_by_hand() {
    set_by_hand("by_hand", None);
}

#[test]
#[ignore = "needs the servers: scripts/test"]
fn set_by_hand_and_killed_when_the_folder_is_made() {
    set_by_hand("by_hand_begun", Some("begun"));
}

#[test]
#[ignore = "needs the servers: scripts/test"]
fn set_by_hand_and_killed_when_prepared() {
    set_by_hand("by_hand_prepared", Some("prepared"));
}

#[test]
#[ignore = "needs the servers: scripts/test"]
fn set_by_hand_and_killed_when_logged() {
    set_by_hand("by_hand_logged", Some("logged"));
}

#[test]
#[ignore = "needs the servers: scripts/test"]
fn set_by_hand_and_killed_when_committed() {
    set_by_hand("by_hand_committed", Some("committed"));
}

#[test]
#[ignore = "needs the servers: scripts/test"]
fn set_by_hand_and_killed_before_the_first_alert() {
    set_by_hand("by_hand_recovered", Some("recovered"));
}

/// Nothing is read: time alone takes the row out of the window. Killed in the epoch that says so.
fn resolved_by_time(test: &str, fault: &str) {
    let mut w = World::new(test);
    w.sql = w.sql.replace("7 days", "4 seconds");
    w.cluster.create_topic(&w.topic, 1);
    // Only alerts make an epoch: the first begins the lineage, the next fires, and then one resolves.
    w.trigger_interval_ms = 60_000;
    let job = w.job("a");
    let mut run = Run::with_fault(&job, &format!("{fault}:3"));
    run.wait_in_log("this start");
    w.spend(1..=1, "3500");
    w.wait_for_alerts(1);
    run.killed();
    let lineage = w.lineage("a");
    let mut run = Run::start(&job);
    w.wait_for_alerts(2);
    run.wait("it has gone on", |run| run.times_in_log("this start") > 0 && w.finished("a"));
    run.terminate();
    assert_eq!((w.lineage("a"), w.aside("a")), (lineage, vec![]));
    w.one_each(&[&firing([1]), &resolved([1])]);
    let quiet = w.read("a");
    assert_eq!((quiet.count("read"), quiet.count("resolved")), (0, 0), "{quiet}");
    w.one_each(&[&firing([1]), &resolved([1])]);
}

#[test]
#[ignore = "needs the servers: scripts/test"]
fn resolved_by_time_and_killed_when_prepared() {
    resolved_by_time("time_prepared", "prepared");
}

#[test]
#[ignore = "needs the servers: scripts/test"]
fn resolved_by_time_and_killed_when_logged() {
    resolved_by_time("time_logged", "logged");
}

#[test]
#[ignore = "needs the servers: scripts/test"]
fn resolved_by_time_and_killed_when_committed() {
    resolved_by_time("time_committed", "committed");
}
