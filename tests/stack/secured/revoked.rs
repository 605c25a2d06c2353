//! A right, a password or a certificate that is taken away while a run is at work: the run ends and says what it lacks, and the next
//! one goes on with nothing lost and nothing twice.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::broker::{Listener, PASSWORD};
use super::{EPISODES, RIGHTS, Secured, TOPIC, rights, sasl};
use crate::harness::orders::Archive;
use crate::harness::readers::{files, try_duckdb};
use crate::harness::{Job, Record, kafka, wait_for};

/// How long a run may take to notice: the client's time-out of a request, and then some.
const PATIENCE: Duration = Duration::from_secs(75);

/// The alert topic of this group: how often each user fired.
fn fired(cluster: &Secured, group: &str) -> BTreeMap<i64, usize> {
    let mut fired = BTreeMap::new();
    for record in cluster.broker.records("alerts") {
        let alert = record.json();
        if alert["group"] == group && alert["status"] == "firing" {
            *fired.entry(alert["key"]["user_id"].as_i64().unwrap()).or_default() += 1;
        }
    }
    fired
}

/// More changes of the table, and an invalid record behind them. Returns the user who is over with them.
fn feed(cluster: &mut Secured) -> i64 {
    let id = cluster.next_id;
    cluster.next_id += 1;
    let before = kafka::end_of(cluster.table.topic());
    cluster.table.insert(&[(id, id + 1_000, "5000")]);
    cluster.table.wait_in_kafka(before + 1);
    let mut records = kafka::records(cluster.table.topic(), before);
    records.push(Record { value: Some(b"{}".to_vec()), ..Record::default() });
    cluster.broker.produce(TOPIC, &records);
    id + 1_000
}

/// Revokes something while a run is at work, and restores it. `names` are the parts of the run's last message. Empty:
/// the run continues.
fn check(
    cluster: &mut Secured,
    what: &str,
    names: &[&str],
    take: impl FnOnce(&mut Secured),
    give: impl FnOnce(&mut Secured),
) {
    let ca = cluster.broker.file("ca.pem");
    let login = sasl("SCRAM-SHA-512", PASSWORD, &ca);
    let job: Job = cluster.job(Listener::Sasl, &login);
    let mut run = job.start();
    wait_for(&format!("{what}: the first alert"), || fired(cluster, &job.group).contains_key(&101).then_some(()));
    let began = Instant::now();
    take(cluster);
    let user = feed(cluster);
    let ended = if names.is_empty() {
        wait_for(&format!("{what}: the next alert"), || fired(cluster, &job.group).contains_key(&user).then_some(()));
        let ended = run.terminate();
        assert_eq!(ended.code, Some(0), "{what}: {ended}");
        ended
    } else {
        run.wait_for_end(PATIENCE);
        let ended = run.ended();
        assert_eq!(ended.code, Some(4), "{what}: {ended}");
        let error =
            ended.log.iter().find(|line| line.starts_with("error: ")).unwrap_or_else(|| panic!("{what}: {ended}"));
        assert!(names.iter().all(|name| error.contains(name)), "{what}: {names:?} in {error}");
        ended
    };
    assert!(!ended.everything().contains(PASSWORD), "{what}: {ended}");
    eprintln!("{what}: {:?}; {}", began.elapsed(), ended.log.last().map_or("", String::as_str));
    give(cluster);
    let next = job.try_run();
    assert_eq!(next.code, Some(0), "{what}: {next}");
    let all = fired(cluster, &job.group);
    assert!(all.contains_key(&user) && all.values().all(|times| *times == 1), "{what}: {all:?}\n{ended}\n{next}");
}

#[test]
#[ignore = "needs the servers: scripts/test --all"]
fn slow_a_right_is_taken_away_from_a_run() {
    let mut cluster = Secured::new("revoked");
    for (right, names) in RIGHTS.iter().zip([
        &[TOPIC] as &[&str],
        &["alerts"],
        &["letters"],
        // It is read at a start alone.
        &[],
        &[EPISODES],
        &["run-"],
        &["tripline-run-"],
    ]) {
        let take = |cluster: &mut Secured| cluster.broker.acl("--remove", right);
        let give = |cluster: &mut Secured| cluster.broker.acl("--add", right);
        check(&mut cluster, &right.join(" "), names, take, give);
    }
}

#[test]
#[ignore = "needs the servers: scripts/test --all"]
fn slow_a_password_or_certificate_is_replaced_under_a_run() {
    let mut cluster = Secured::new("replaced");
    let password = |cluster: &mut Secured| {
        cluster.broker.set_password("another-one-of-the-test");
        cluster.broker.restart();
    };
    check(&mut cluster, "another password", &["uthentication fail"], password, |cluster| {
        cluster.broker.set_password(PASSWORD);
    });
    let (good, expired, kept) =
        (cluster.broker.file("good.pem"), cluster.broker.file("expired.pem"), cluster.broker.file("kept.pem"));
    std::fs::copy(&good, &kept).unwrap();
    let replace = |with: &str| {
        let (with, good) = (with.to_owned(), good.clone());
        move |cluster: &mut Secured| {
            std::fs::copy(&with, &good).unwrap();
            cluster.broker.restart();
        }
    };
    check(&mut cluster, "an expired certificate", &["certificate"], replace(&expired), replace(&kept));
}

/// The offsets of an archive's rows, in order.
fn archived(archive: &Archive) -> Vec<usize> {
    let sql = format!("SELECT \"offset\" FROM {} ORDER BY 1", files(&archive.output));
    let rows = try_duckdb(&sql).unwrap_or_default(); // there are no files yet
    rows.iter().map(|row| row[0].parse().unwrap()).collect()
}

/// The offsets of what an archive has to have.
fn valid(cluster: &Secured) -> Vec<usize> {
    let records = cluster.broker.records(TOPIC);
    let valid = records.iter().enumerate().filter(|(_, record)| record.value.as_deref() != Some(b"{}"));
    valid.map(|(offset, _)| offset).collect()
}

/// As [`check`], of an archive.
fn check_archive(
    cluster: &mut Secured,
    what: &str,
    names: &[&str],
    take: impl FnOnce(&mut Secured),
    give: impl FnOnce(&mut Secured),
) {
    let archive = rights::archive(cluster);
    let before = valid(cluster);
    let mut run = archive.start();
    run.wait(&format!("{what}: what is there is archived"), |_| archived(&archive) == before);
    let began = Instant::now();
    take(cluster);
    feed(cluster);
    let ended = run.ended().refused(4, names);
    assert!(began.elapsed() < PATIENCE, "{what}: {:?} {ended}", began.elapsed());
    assert!(!format!("{ended}").contains(PASSWORD), "{what}: {ended}");
    eprintln!("{what}: {:?}; {}", began.elapsed(), ended.log.last().map_or("", String::as_str));
    give(cluster);
    archive.run();
    assert_eq!(archived(&archive), valid(cluster), "{what}: {ended}");
}

#[test]
#[ignore = "needs the servers: scripts/test --all"]
fn slow_a_right_password_or_certificate_is_taken_away_from_an_archive() {
    let mut cluster = Secured::new("archive_revoked");
    for (right, name) in [(RIGHTS[0], TOPIC), (RIGHTS[2], "letters"), (RIGHTS[5], "run-")] {
        let take = |cluster: &mut Secured| cluster.broker.acl("--remove", right);
        let give = |cluster: &mut Secured| cluster.broker.acl("--add", right);
        check_archive(&mut cluster, &right.join(" "), &[name], take, give);
    }
    let password = |cluster: &mut Secured| {
        cluster.broker.set_password("another-one-of-the-test");
        cluster.broker.restart();
    };
    check_archive(&mut cluster, "another password", &["uthentication fail"], password, |cluster| {
        cluster.broker.set_password(PASSWORD);
    });
    let (expired, kept) = (cluster.broker.file("expired.pem"), cluster.broker.file("kept.pem"));
    std::fs::copy(cluster.broker.file("good.pem"), &kept).unwrap();
    let replace = |with: String| {
        move |cluster: &mut Secured| {
            std::fs::copy(&with, cluster.broker.file("good.pem")).unwrap();
            cluster.broker.restart();
        }
    };
    check_archive(&mut cluster, "an expired certificate", &["certificate"], replace(expired), replace(kept));
}
