//! The least rights of each command (docs/kafka-login.md has the table): with exactly these it works, and without any one of them it
//! ends with 4 and names what it lacks.

use std::process::Output;

use super::broker::{Listener, PASSWORD};
use super::{EPISODES, Secured, TOPIC, sasl};
use crate::harness::orders::Archive;
use crate::harness::{Job, Record, Role};

/// A right as Kafka's tool takes it, and what is named where it is missing.
type Right = (&'static [&'static str], &'static str);

const READ_TOPIC: Right = (&["--operation", "READ", "--topic", TOPIC], TOPIC);
const READ_GROUP: Right = (&["--operation", "READ", "--group", "run", "--resource-pattern-type", "prefixed"], "run-");
const DESCRIBE_GROUP: Right =
    (&["--operation", "DESCRIBE", "--group", "run", "--resource-pattern-type", "prefixed"], "run-");
const READ_EPISODES: Right = (&["--operation", "READ", "--topic", EPISODES], EPISODES);
const WRITE_EPISODES: Right = (&["--operation", "WRITE", "--topic", EPISODES], EPISODES);
const WRITE_ALERTS: Right = (&["--operation", "WRITE", "--topic", "alerts"], "alerts");
const WRITE_LETTERS: Right = (&["--operation", "WRITE", "--topic", "letters"], "letters");
const WRITE_ID: Right = (
    &["--operation", "WRITE", "--transactional-id", "tripline-run", "--resource-pattern-type", "prefixed"],
    "tripline-run-",
);

fn said(done: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr))
}

/// With these rights and no others a command works; without one of them it does not, and says which. `command` is given a new
/// group each time. Returns what is otherwise.
fn check(cluster: &mut Secured, what: &str, rights: &[Right], command: impl Fn(&mut Secured) -> Output) -> Vec<String> {
    let mut wrong = Vec::new();
    for (right, _) in rights {
        cluster.broker.acl("--add", right);
    }
    let done = command(cluster);
    if done.status.code() != Some(0) {
        eprintln!("{what}: {:?} {}", done.status, said(&done));
        wrong.push(format!("{what}: {:?} {}", done.status, said(&done)));
    }
    for (right, named) in rights {
        cluster.broker.acl("--remove", right);
        let done = command(cluster);
        let said = said(&done);
        if done.status.code() != Some(4) || !said.contains(named) || said.contains(PASSWORD) {
            eprintln!("{what} without {right:?}: {:?} {said}", done.status);
            wrong.push(format!("{what} without {right:?}: {:?} {said}", done.status));
        }
        cluster.broker.acl("--add", right);
    }
    for (right, _) in rights {
        cluster.broker.acl("--remove", right);
    }
    wrong
}

fn job(cluster: &mut Secured) -> Job {
    let ca = cluster.broker.file("ca.pem");
    cluster.job(Listener::Sasl, &sasl("SCRAM-SHA-512", PASSWORD, &ca))
}

/// A command of a new group.
fn of(arguments: &'static [&'static str]) -> impl Fn(&mut Secured) -> Output {
    move |cluster| job(cluster).command(arguments).output().unwrap()
}

fn reprocess(arguments: &'static [&'static str]) -> impl Fn(&mut Secured) -> Output {
    move |cluster| {
        let job = job(cluster);
        let to = format!("{}-again", job.group);
        job.command(&[&["reprocess", "--to", &to], arguments].concat()).output().unwrap()
    }
}

/// The archive of a new group.
pub(super) fn archive(cluster: &mut Secured) -> Archive {
    let Job { group, topic, bootstrap, dead_letter_topic, environment, .. } = job(cluster);
    let folder = cluster.broker.folder().join(&group);
    let archive = Archive::new(&folder, &cluster.table.database.name, &group, &topic);
    Archive { bootstrap, dead_letter_topic, environment, partition_by: None, ..archive }
}

/// Without a right, a command finds that within its time-outs: these tests are long, and side by side.
fn each(name: &str, rows: impl FnOnce(&mut Secured) -> Vec<String>) {
    let mut cluster = Secured::without_rights(name);
    // The dead-letter topic is needed with the first invalid record.
    cluster.broker.produce(TOPIC, &[Record { value: Some(b"{}".to_vec()), ..Record::default() }]);
    let wrong = rows(&mut cluster);
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

/// `run` and `doctor`: `slow_rights_that_are_missing` and `slow_doctor_names_what_is_wrong`.
#[test]
#[ignore = "needs the servers: scripts/test --all"]
fn slow_rights_of_the_archive() {
    let role = Role::new("least_archive");
    each("least_archive", |cluster| {
        let rights = [READ_TOPIC, READ_GROUP, WRITE_LETTERS];
        let mut wrong = check(cluster, "archive", &rights, |cluster| {
            // A role without any right in the database.
            let url = Some(role.url(&cluster.table.database.name));
            Archive { url, ..archive(cluster) }.command(&["--until-end"]).output().unwrap()
        });
        wrong.extend(check(cluster, "archive status", &[READ_TOPIC, DESCRIBE_GROUP], |cluster| {
            archive(cluster).command(&["status"]).output().unwrap()
        }));
        wrong
    });
}

#[test]
#[ignore = "needs the servers: scripts/test --all"]
fn slow_rights_of_offsets() {
    each("least_offsets", |cluster| {
        let view = [READ_TOPIC, DESCRIBE_GROUP, READ_EPISODES];
        let mut wrong = check(cluster, "offsets", &view, of(&["offsets"]));
        let reset = &["offsets", "reset", "--to-latest", "--execute"];
        wrong.extend(check(cluster, "offsets reset", &[READ_TOPIC, READ_GROUP], of(reset)));
        wrong.extend(check(cluster, "offsets export", &[READ_TOPIC, DESCRIBE_GROUP], of(&["offsets", "export"])));
        wrong
    });
}

#[test]
#[ignore = "needs the servers: scripts/test --all"]
fn slow_rights_of_reprocess() {
    each("least_reprocess", |cluster| {
        let dry = [READ_TOPIC, DESCRIBE_GROUP, READ_EPISODES];
        let mut wrong = check(cluster, "reprocess --dry-run", &dry, reprocess(&["--dry-run"]));
        let run = [READ_TOPIC, READ_GROUP, READ_EPISODES, WRITE_EPISODES, WRITE_ALERTS, WRITE_LETTERS, WRITE_ID];
        wrong.extend(check(cluster, "reprocess", &run, reprocess(&[])));
        wrong
    });
}
