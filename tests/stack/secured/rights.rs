//! The least rights of each command (docs/kafka-login.md has the table): with exactly these it works, and without any one of them it
//! ends with 4 and names what it lacks.

use std::process::Output;

use super::broker::{Listener, PASSWORD};
use super::{EPISODES, Secured, TOPIC, doctor, one_problem, refused, sasl};
use crate::harness::orders::Archive;
use crate::harness::{Job, Record, Role, wait_for};
use crate::truth::server::free_port;

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

/// Checks that a command works with exactly these rights, and that without one of them it fails and names it. `command`
/// is given a new group each time. Returns the deviations.
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

/// `run`: `slow_rights_that_are_missing`.
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

/// `doctor` works with less than a run needs, and names each right that a run would lack (`slow_doctor_names_what_is_wrong`
/// has the others).
#[test]
#[ignore = "needs the servers: scripts/test --all"]
fn slow_rights_of_doctor() {
    let mut cluster = Secured::without_rights("least_doctor");
    let job = job(&mut cluster);
    let written = [READ_EPISODES, WRITE_EPISODES, WRITE_ALERTS, WRITE_LETTERS];
    for (right, _) in [READ_TOPIC, READ_GROUP].iter().chain(&written) {
        cluster.broker.acl("--add", right);
    }
    assert_eq!(doctor(&job), (Vec::new(), Some(0)));
    // The group may be seen, and not joined.
    cluster.broker.acl("--remove", READ_GROUP.0);
    cluster.broker.acl("--add", DESCRIBE_GROUP.0);
    one_problem(&job, "group", &["not join it", "--operation READ --group run-"]);
    let run = job.try_run();
    refused(&run, &["run-"]);
    cluster.broker.acl("--add", READ_GROUP.0);
    // Topics may be seen, and not written to or read: it names all of them at once, and looks at everything else.
    for (right, _) in [READ_TOPIC].iter().chain(&written) {
        cluster.broker.acl("--remove", right);
    }
    for topic in [TOPIC, EPISODES, "alerts", "letters"] {
        cluster.broker.acl("--add", &["--operation", "DESCRIBE", "--topic", topic]);
    }
    let (found, code) = doctor(&job);
    let named: Vec<_> = found
        .iter()
        .map(|(check, text)| {
            let fix = text.split_once("--operation ").map_or(text.as_str(), |(_, fix)| fix);
            (check.as_str(), fix)
        })
        .collect();
    assert_eq!(code, Some(4), "{found:?}");
    let wanted = [
        ("topic", format!("READ --topic {TOPIC}")),
        ("topic.alerts", "WRITE --topic alerts".to_owned()),
        ("topic.dead-letter", "WRITE --topic letters".to_owned()),
        ("topic.episodes", format!("READ --operation WRITE --topic {EPISODES}")),
    ];
    for (check, fix) in &wanted {
        assert!(named.iter().any(|(name, said)| name == check && said.contains(fix)), "{check}: {fix} in {named:?}");
    }
    assert_eq!(found.len(), wanted.len(), "{found:?}");
    assert!(cluster.broker.records("alerts").is_empty() && cluster.broker.records("letters").is_empty());
}

/// The environment of a job without its login.
fn without_login(job: &Job) -> Vec<(&'static str, String)> {
    job.environment.iter().filter(|(name, _)| !name.contains("KAFKA__PROPERTIES")).cloned().collect()
}

/// Checks that the command reports `unknown`, and names what it may not read.
fn unknown(done: &Output, named: &str) {
    let said = said(done);
    eprintln!("{named}: {:?} {said}", done.status);
    assert_eq!(done.status.code(), Some(1), "{named}: {said}");
    assert!(said.contains(named) && !said.contains(PASSWORD), "{named}: {said}");
}

/// The requests of `healthcheck` to the cluster, for a run without a page. Another user runs it.
#[test]
#[ignore = "needs the servers: scripts/test --all"]
fn slow_rights_of_healthcheck() {
    let mut cluster = Secured::without_rights("least_health");
    let asks = job(&mut cluster);
    let run = Job { bootstrap: cluster.broker.bootstrap(), environment: without_login(&asks), ..asks.clone() };
    let mut running = run.start();
    running.wait_in_log("this start");
    wait_for("its first epoch is closed", || (cluster.broker.committed(&run.group, TOPIC) == Some(2)).then_some(()));
    let health = || asks.command(&["healthcheck"]).output().unwrap();
    let rights = [READ_TOPIC, DESCRIBE_GROUP];
    for (right, _) in &rights {
        cluster.broker.acl("--add", right);
    }
    let done = health();
    assert_eq!(done.status.code(), Some(0), "{}", said(&done));
    for (right, named) in &rights {
        cluster.broker.acl("--remove", right);
        unknown(&health(), named);
        cluster.broker.acl("--add", right);
    }
    // Whether the last record is still there, only a reader knows.
    cluster.broker.acl("--remove", READ_TOPIC.0);
    cluster.broker.acl("--add", &["--operation", "DESCRIBE", "--topic", TOPIC]);
    unknown(&health(), TOPIC);
    cluster.broker.acl("--remove", &["--operation", "DESCRIBE", "--topic", TOPIC]);
    cluster.broker.acl("--add", READ_TOPIC.0);
    // A standby has no progress of its own: it would go on from the recovery topic.
    let other = |job: &Job| Job { checkpoints: job.checkpoints.with_file_name("other"), ..job.clone() };
    let mut standby = other(&run).start();
    standby.wait_in_log("standing by until it is gone");
    let health = || other(&asks).command(&["healthcheck"]).output().unwrap();
    unknown(&health(), EPISODES);
    cluster.broker.acl("--add", READ_EPISODES.0);
    let done = health();
    assert!(done.status.success() && said(&done).contains("it is a standby"), "{}", said(&done));
    drop(standby.terminate());
    for right in [READ_EPISODES, READ_TOPIC, DESCRIBE_GROUP] {
        cluster.broker.acl("--remove", right.0);
    }
    // With a page it asks the run, and the cluster nothing.
    drop(running.terminate());
    let port = format!("127.0.0.1:{}", free_port());
    let with_page = |job: &Job| {
        let mut job = job.clone();
        job.environment.push(("TRIPLINE__WEB__LISTEN", port.clone()));
        job
    };
    let mut running = with_page(&run).start();
    running.wait_in_log("this start");
    let asks = with_page(&asks);
    wait_for("it is alive", || {
        let done = asks.command(&["healthcheck"]).output().unwrap();
        (done.status.code() == Some(0)).then_some(())
    });
    drop(running.terminate());
}
