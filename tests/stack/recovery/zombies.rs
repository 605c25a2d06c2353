//! An instance that is stopped for longer than its session lasts, replaced by a stand-by on another folder, and
//! continued: it writes nothing more, says so, stands by, and takes over when it is its turn.
//!
//! Three fences keep it out, and each is seen here by what goes wrong without it:
//!
//! - the transactional id: without it, the transaction of an instance that was stopped in step 3 is in the stand-by's way,
//!   and commits what has been told anew meanwhile (`stopped_when_logged`)
//! - the generation in the table: without it, one that was stopped in step 4 goes on there, in the log and in its folder
//!   (`stopped_when_committed`, `stopped_in_the_table`)
//! - the member of the group: without it, one that nobody has replaced overwrites what an operator has set meanwhile
//!   (`the_group_was_moved_while_it_was_stopped`)

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::run::Run;
use super::world::{World, contents, firing, resolved};

const STANDS_BY: &str = "standing by until it is gone";
const STARTS: &str = "tripline::monitor::recover: this start";

/// The names of the files that were added to a folder, or changed in it.
fn news(before: &BTreeMap<PathBuf, Vec<u8>>, after: &BTreeMap<PathBuf, Vec<u8>>) -> Vec<String> {
    let is_new = |(path, bytes): (&PathBuf, &Vec<u8>)| (before.get(path) != Some(bytes)).then(|| name(path));
    let gone = before.keys().filter(|path| !after.contains_key(*path)).map(|path| format!("no {}", name(path)));
    after.iter().filter_map(is_new).chain(gone).collect()
}

fn name(path: &std::path::Path) -> String {
    let folder = path.parent().unwrap().file_name().unwrap();
    format!("{}/{}", folder.display(), path.file_name().unwrap().display())
}

/// Who has taken over keeps the group: the one that comes back does not join beside it.
fn undisturbed(run: &Run) {
    for text in ["took the partitions away", "has another member"] {
        assert_eq!(run.times_in_log(text), 0, "{}", run.log().join("\n"));
    }
}

/// Stopped at this point of an epoch, or (`None`) while there is nothing to do. `writes`: what is seen in its folder
/// when it has noticed.
fn stopped(test: &str, fault: Option<&str>, writes: &[&str]) {
    let mut w = World::new(test);
    w.spend(1..=3, "3500");
    w.read("a");
    let fault = fault.map(|fault| format!("{fault}:1:stop"));
    // Only alerts make an epoch.
    w.trigger_interval_ms = 60_000;
    let mut a = Run::with_fault(&w.job("a"), fault.as_deref().unwrap_or("none"));
    a.wait_in_log(STARTS);
    let mut b = Run::start(&w.job("b"));
    b.wait_in_log(STANDS_BY);

    w.spend(4..=4, "3500");
    if fault.is_none() {
        w.wait_for_alerts(4);
        w.wait_committed(4);
        a.wait("the epoch is finished", |_| w.finished("a"));
        a.signal("STOP");
    }
    a.wait_stopped();
    let (folder, out) = (contents(&w.checkpoint("a")), a.out());
    b.wait_in_log(STARTS);
    w.spend(5..=6, "3500");
    w.wait_for_alerts(6);
    w.wait_committed(6);

    a.signal("CONT");
    a.wait_in_log(STANDS_BY);
    assert_eq!(news(&folder, &contents(&w.checkpoint("a"))), writes, "{}", a.log().join("\n"));
    assert_eq!(a.out(), out, "{}", a.log().join("\n"));
    let noticed = ["can no longer be sure that it works for the group", "took the partitions away"];
    assert!(noticed.iter().any(|text| a.times_in_log(text) > 0), "{}", a.log().join("\n"));
    w.one_each(&[&firing(1..=6)]);
    w.change(1, "1");
    w.wait_for_alerts(7);
    w.wait_committed(7);
    undisturbed(&b);
    b.terminate();

    w.change(4, "1");
    w.spend(7..=7, "3500");
    w.wait_for_alerts(9);
    w.wait_committed(9);
    a.wait("it has taken over", |run| run.times_in_log(STARTS) == 2);
    a.terminate();
    w.one_each(&[&firing(1..=7), &resolved([1, 4])]);
}

#[test]
#[ignore = "needs the servers: scripts/test"]
fn stopped_while_idle() {
    stopped("idle", None, &[]);
}

/// That it is prepared was the last that it had to know: the epoch is in its own folder then, and nowhere else, and is
/// moved aside when it takes over.
#[test]
#[ignore = "needs the servers: scripts/test"]
fn stopped_when_prepared() {
    stopped("prepared", Some("prepared"), &["offsets/2"]);
}

#[test]
#[ignore = "needs the servers: scripts/test"]
fn stopped_when_logged() {
    stopped("zombie_logged", Some("logged"), &[]);
}

#[test]
#[ignore = "needs the servers: scripts/test"]
fn stopped_when_committed() {
    stopped("zombie_committed", Some("committed"), &[]);
}

#[test]
#[ignore = "needs the servers: scripts/test"]
fn stopped_in_the_table() {
    stopped("inserted", Some("table.inserted"), &[]);
}

/// While it was stopped, its window has passed, and its row has left it: what it would tell has been told.
#[test]
#[ignore = "needs the servers: scripts/test"]
fn what_it_would_resolve_is_resolved() {
    let mut w = World::new("zombie_window");
    w.sql = w.sql.replace("7 days", "9 seconds");
    w.cluster.create_topic(&w.topic, 1);
    let mut a = Run::start(&w.job("a"));
    a.wait_in_log(STARTS);
    w.spend(1..=1, "3500");
    w.wait_for_alerts(1);
    w.wait_committed(1);
    a.signal("STOP");
    let b = Run::start(&w.job("b"));
    w.wait_for_alerts(2);
    let folder = contents(&w.checkpoint("a"));
    a.signal("CONT");
    a.wait_in_log(STANDS_BY);
    assert_eq!(news(&folder, &contents(&w.checkpoint("a"))), [""; 0]);
    w.one_each(&[&firing([1]), &resolved([1])]);
    undisturbed(&b);
    b.terminate();
    a.wait("it has taken over", |run| run.times_in_log(STARTS) == 2);
    w.spend(2..=2, "3500");
    w.wait_for_alerts(4);
    a.terminate();
    w.one_each(&[&firing([1, 2]), &resolved([1, 2])]);
}

/// Nobody has taken over: the group is empty, and an operator has moved it. The order holds.
#[test]
#[ignore = "needs the servers: scripts/test"]
fn the_group_was_moved_while_it_was_stopped() {
    let w = World::new("zombie_moved");
    w.spend(1..=3, "3500");
    w.read("a");
    let mut a = Run::with_fault(&w.job("a"), "epoch.closed:1:stop");
    a.wait_in_log(STARTS);
    w.spend(4..=4, "3500");
    a.wait_stopped();
    let before = w.lineage("a");
    w.cluster.set_by_hand(&w.group, &w.topic, &[(0, 1)]);
    a.signal("CONT");
    a.wait_in_log("the group's offsets, which were set by hand");
    w.wait_for_alerts(7);
    w.wait_committed(4);
    a.terminate();
    assert_eq!(w.aside("a"), [before]);
    w.one_each(&[&firing(1..=3), &firing(1..=4)]);
}

/// Where an instance is stopped besides: before it reads anything, or in an epoch.
#[derive(Clone, Copy, PartialEq, Eq)]
enum When {
    /// The process continues from its folder.
    Starts,
    /// The process has lost its folder, and makes another.
    Rebuilds,
    /// The process delivers an alert about user 10.
    Works,
}

/// Whoever is stopped wherever, for how long, and replaced: all goes on, and nothing is told twice.
fn replaced(test: &str, point: &str, when: When) {
    let w = World::new(test);
    w.spend(1..=3, "3500");
    w.read("a");
    if when == When::Rebuilds {
        std::fs::remove_dir_all(w.checkpoint("a")).unwrap();
    }
    let mut a = Run::with_fault(&w.job("a"), &format!("{point}:1:stop"));
    let mut users = vec![1, 2, 3, 4, 5, 6];
    if when == When::Works {
        a.wait_in_log(STARTS);
        w.spend(10..=10, "3500");
        users.push(10);
    }
    a.wait_stopped();
    let mut b = Run::start(&w.job("b"));
    b.wait_in_log(STARTS);
    w.spend(4..=4, "3500");
    w.wait_for_alerts(users.len() - 2);
    a.signal("CONT");
    a.wait_in_log(STANDS_BY);
    w.spend(5..=6, "3500");
    w.wait_for_alerts(users.len());
    w.change(1, "1");
    w.wait_for_alerts(users.len() + 1);
    w.wait_committed(i64::try_from(users.len() + 1).unwrap());
    b.terminate();
    w.change(2, "1");
    w.wait_for_alerts(users.len() + 2);
    w.wait_committed(i64::try_from(users.len() + 2).unwrap());
    a.terminate();
    w.one_each(&[&firing(users), &resolved([1, 2])]);
}

/// When it is continued, it raises the generation in the table, which shuts out the active instance. Both start again,
/// and one of them continues.
#[test]
#[ignore = "needs the servers: scripts/test"]
fn stopped_between_the_fences() {
    replaced("zombie_fences", "kafka.fenced", When::Starts);
}

#[test]
#[ignore = "needs the servers: scripts/test"]
fn stopped_when_a_lineage_is_logged_in_another_folder() {
    replaced("zombie_begins", "logged", When::Rebuilds);
}

#[test]
#[ignore = "needs the servers: scripts/test"]
fn slow_stopped_while_it_starts() {
    for point in ["fenced", "recovered"] {
        replaced(&format!("zombie_starts_{point}"), point, When::Starts);
    }
}

#[test]
#[ignore = "needs the servers: scripts/test"]
fn slow_stopped_while_it_rebuilds() {
    for point in ["recalled", "begun", "prepared", "committed", "recovered"] {
        replaced(&format!("zombie_rebuilds_{point}"), point, When::Rebuilds);
    }
}

#[test]
#[ignore = "needs the servers: scripts/test"]
fn slow_stopped_while_it_works() {
    for point in ["epoch.closed", "kafka.begun", "kafka.sent", "table.written", "told", "finished"] {
        replaced(&format!("zombie_works_{}", point.replace('.', "_")), point, When::Works);
    }
}
