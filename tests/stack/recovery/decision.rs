//! One decision: `offsets`, `doctor`, `healthcheck` and the run say the same of the next start, and the run does it.

use serde_json::{Value as Json, json};

use super::run::{Done, Run};
use super::world::{World, firing, resolved};
use crate::harness::{Job, Record};

/// The commands' report about the next start: how checkpoint and group relate, what the start does, and both in a
/// sentence.
struct Said {
    relation: String,
    next_start: String,
    text: String,
}

/// Asks every command. They agree to the letter.
fn asked(job: &Job) -> Said {
    let view = output(job, &["offsets", "--output", "json"]);
    let view: Json = serde_json::from_str(&view.0).unwrap_or_else(|error| panic!("{error}: {view:?}"));
    let field = |name: &str| view[name].as_str().unwrap_or_else(|| panic!("no {name} in {view}")).to_owned();
    let said = Said { relation: field("relation"), next_start: field("next_start"), text: field("text") };

    let sentence = format!("the next start {}", said.text);
    let table = output(job, &["offsets"]);
    assert!(table.0.contains(&format!("next start  {}\n", said.text)), "{}: {table:?}", said.text);
    let doctor = output(job, &["doctor", "--output", "json"]);
    let findings: Json = serde_json::from_str(&doctor.0).unwrap_or_else(|error| panic!("{error}: {doctor:?}"));
    let offsets = findings["findings"].as_array().unwrap().iter().find(|found| found["check"] == "offsets");
    let offsets = offsets.unwrap_or_else(|| panic!("{findings}"));
    assert_eq!(offsets["text"], json!(sentence), "doctor");
    let grade = match (said.next_start.as_str(), said.relation.as_str()) {
        ("stop", _) => "problem",
        (_, "nothing-yet" | "agree" | "checkpoint-ahead" | "start-interrupted") => "ok",
        _ => "warning",
    };
    assert_eq!(offsets["grade"], grade, "doctor: {sentence}");
    let health = output(job, &["healthcheck"]);
    assert!(health.1.contains(&sentence), "healthcheck: {health:?}, not {sentence}");
    said
}

fn output(job: &Job, arguments: &[&str]) -> (String, String) {
    let done = job.command(arguments).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&done.stdout), text(&done.stderr))
}

/// Every command says this, and then the run does, in the same words.
#[track_caller]
fn all_say(job: &Job, relation: &str, next_start: &str, part: &str) -> Done {
    let said = asked(job);
    assert_eq!((said.relation.as_str(), said.next_start.as_str()), (relation, next_start), "{}", said.text);
    assert!(said.text.contains(part), "no {part:?} in {}", said.text);
    let run = Run::to_the_end(job).ended();
    run.said(&format!("this start {}", said.text))
}

/// Killed between the folder's first epoch and its commit, once with a new group and once with offsets set by hand: the
/// group has nothing of this lineage, and the start is completed all the same.
#[test]
#[ignore = "needs the servers: scripts/test"]
fn a_start_that_was_interrupted() {
    let w = World::new("decide_start");
    w.spend(1..=3, "3500");
    let job = w.job("a");
    Run::with_fault(&job, "logged").killed();
    assert_eq!(w.committed(), None);
    let run = all_say(&job, "start-interrupted", "resume", "completes a start that was interrupted").well();
    assert_eq!((run.count("read"), run.count("fired")), (3, 3), "{run}");
    let first = w.lineage("a");

    w.cluster.set_by_hand(&w.group, &w.topic, &[(0, 2)]);
    Run::with_fault(&job, "logged").killed();
    let lineage = w.lineage("a");
    assert_ne!(lineage, first);
    let run = all_say(&job, "start-interrupted", "resume", "completes a start that was interrupted").well();
    assert_eq!((run.count("read"), run.count("fired")), (1, 3), "{run}");
    assert_eq!(w.lineage("a"), lineage);
    w.one_each(&[&firing(1..=3), &firing(1..=3)]);
}

/// The group is at an older epoch of the folder: the folder is ahead. Unless what it has committed is not that epoch:
/// another content, or other offsets.
#[test]
#[ignore = "needs the servers: scripts/test"]
fn an_older_epoch_that_is_another_one() {
    let w = World::new("decide_older");
    w.spend(1..=1, "3500");
    let job = w.job("a");
    w.read("a");
    let (_, older) = w.cluster.committed(&w.group, &w.topic)[&0].clone();
    w.spend(2..=2, "3500");
    w.read("a");
    let newest = w.cluster.committed(&w.group, &w.topic);

    // Neither the newest epoch nor any other that the folder has: its number is known, and its content is not.
    let (lineage_and_number, _) = older.rsplit_once(':').unwrap();
    w.cluster.set_with_text(&w.group, &w.topic, &[(0, 1)], &format!("{lineage_and_number}:00000001"));
    let run = all_say(&job, "checkpoint-diverged", "stop", "which group");
    assert_eq!(run.code(), Some(5), "{run}");

    // Its name, and other offsets: set by a program that copies the text.
    w.cluster.set_with_text(&w.group, &w.topic, &[(0, 2)], &older);
    let run = all_say(&job, "moved-by-hand", "new-lineage", "which were set by hand").well();
    assert_eq!((run.count("read"), run.count("fired")), (0, 2), "{run}");

    // And the epoch itself, in the lineage of now: what follows it is completed in Kafka.
    w.change(1, "1");
    let (next, text) = w.cluster.committed(&w.group, &w.topic)[&0].clone();
    Run::with_fault(&job, "logged").killed();
    assert_eq!(w.cluster.committed(&w.group, &w.topic)[&0], (next, text));
    let run = all_say(&job, "checkpoint-ahead", "resume", "is ahead of the group by 1 epoch").well();
    assert_eq!((run.count("read"), run.count("resolved")), (0, 0), "{run}");
    assert_ne!(w.cluster.committed(&w.group, &w.topic), newest);
    w.one_each(&[&firing(1..=2), &firing(1..=2), &resolved([1])]);
}

/// The group has no offsets: they were deleted on purpose, lost, or have expired by the broker's own retention.
#[test]
#[ignore = "needs the servers: scripts/test"]
fn a_group_without_offsets() {
    let w = World::new("decide_missing");
    w.spend(1..=3, "3500");
    w.read("a");
    let lineage = w.lineage("a");
    let mut resume = w.job("a");
    resume.environment.push(("TRIPLINE__KAFKA__WHEN_GROUP_IS_MISSING", "resume".to_owned()));

    // With the folder, and from the recovery topic alone.
    w.cluster.delete_group(&w.group);
    let said = asked(&w.job("a"));
    assert_eq!((said.relation.as_str(), said.next_start.as_str()), ("group-missing", "new-lineage"), "{}", said.text);
    w.change(1, "1");
    let run = all_say(&resume, "group-expired", "resume", "count as expired").well();
    assert_eq!((run.count("read"), run.count("resolved"), run.count("fired")), (1, 1, 0), "{run}");
    w.cluster.delete_group(&w.group);
    std::fs::remove_dir_all(w.checkpoint("a")).unwrap();
    w.change(2, "1");
    let run = all_say(&resume, "group-expired", "rebuild", "count as expired").well();
    assert_eq!((run.count("read"), run.count("resolved"), run.count("fired")), (1, 1, 0), "{run}");
    assert_eq!(w.lineage("a"), lineage);

    // The last commit is older than the broker keeps offsets: nobody deleted them.
    w.cluster.delete_group(&w.group);
    let topic = w.recovery_topic();
    let records = w.cluster.records(&topic);
    let mut progress = records.into_iter().rfind(|record| record.key.as_deref() == Some(w.group.as_bytes())).unwrap();
    let mut body = progress.json();
    body["at"] = json!(1_767_225_600_000_000_i64);
    progress.value = Some(body.to_string().into_bytes());
    w.cluster.produce(&topic, 0, &[Record { headers: Vec::new(), ..progress }]);
    w.change(3, "1");
    let run = all_say(&w.job("a"), "group-expired", "resume", "its last commit was at 2026-01-01T00:00:00").well();
    assert_eq!((run.count("read"), run.count("resolved"), run.count("fired")), (1, 1, 0), "{run}");
    w.one_each(&[&firing(1..=3), &resolved(1..=3)]);
}

/// The folder holds the progress of another topic: it is neither used nor moved aside.
#[test]
#[ignore = "needs the servers: scripts/test"]
fn a_folder_of_another_topic() {
    let w = World::new("decide_topic");
    w.spend(1..=2, "3500");
    w.read("a");
    let before = super::world::contents(&w.checkpoint("a"));
    let mut other = w.job("a");
    other.topic = format!("{}.other", w.topic);
    w.cluster.produce(&other.topic, 0, &w.records("c", "id = 1"));
    let run = all_say(&other, &asked(&other).relation, "stop", &format!("holds the progress of topic {}", w.topic));
    assert_eq!(run.code(), Some(5), "{run}");
    assert_eq!(super::world::contents(&w.checkpoint("a")), before);
    let run = w.read("a");
    assert_eq!((run.count("read"), run.count("fired")), (0, 0), "{run}");
    w.one_each(&[&firing(1..=2)]);
}
