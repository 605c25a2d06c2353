//! The log lines about an outage: its beginning, its duration, its end. Each appears once, however many clients of a
//! run, keys and viewers are concerned.

use std::time::{Duration, Instant};

use crate::harness::{Database, Job, kafka, wait_for};
use crate::truth::feed::Feed;

use super::broker::Broker;
use super::cluster::Cluster;
use super::run::Run;

/// So long that it is said once that the outage lasts.
const LASTS: Duration = Duration::from_secs(18);

/// Lines at INFO and above since the log had so many lines.
fn said(run: &Run, since: usize) -> Vec<String> {
    let quiet = |line: &String| [" DEBUG ", " TRACE "].iter().any(|level| line.contains(level));
    run.log().into_iter().skip(since).filter(|line| !quiet(line)).collect()
}

/// Waits until it is said that the server is back, and holds the lines against what they must be.
fn three_lines(run: &mut Run, server: &str, since: usize) {
    let back = format!("{server} is reachable again");
    run.wait_in_log(&back);
    std::thread::sleep(Duration::from_secs(3)); // whatever comes late
    let said = said(run, since);
    let parts = [format!("{server} is unreachable, retrying"), format!("{server} is still unreachable"), back];
    assert_eq!(said.len(), parts.len(), "{}", said.join("\n"));
    for (line, part) in said.iter().zip(&parts) {
        assert!(line.contains(part), "{part}: {}", said.join("\n"));
    }
    assert!(said[1].contains("outage.seconds=1") && said[1].contains("attempts="), "{}", said.join("\n"));
}

fn commits(run: &Run) -> usize {
    run.times_in_log("windows are rebuilt")
}

/// Properties of a consumer are no matter for the producers, which say so of each.
#[test]
#[ignore = "needs the servers: scripts/test"]
fn kafka_is_away_from_a_run_that_has_nothing_to_do() {
    let broker = Broker::new("");
    let database = Database::new("lines_kafka");
    let folder = tempfile::tempdir().unwrap();
    let mut job = Job::new(folder.path(), &database.name, &database.name, &database.name);
    job.bootstrap = broker.bootstrap();
    job.environment.push(("TRIPLINE__KAFKA__PROPERTIES__SESSION_TIMEOUT_MS", "120000".to_owned()));
    Cluster::at(broker.bootstrap()).create_topic(&job.topic, 1);
    let mut run = Run::start(&job);
    run.wait("it works", |run| commits(run) > 0 || run.times_in_log("this start") > 0);
    std::thread::sleep(Duration::from_secs(4));
    let since = run.log().len();
    assert!(!run.log().iter().any(|line| line.contains("CONFWARN")), "{}", run.log().join("\n"));
    let began = Instant::now();
    broker.stop();
    wait_for("it was away for long enough", || (began.elapsed() >= LASTS).then_some(()));
    broker.start();
    three_lines(&mut run, "Kafka", since);
    run.terminate();
}

/// Two hundred candidates wait meanwhile.
#[test]
#[ignore = "needs the servers: scripts/test"]
fn postgres_is_away_while_candidates_wait() {
    let mut feed = Feed::new("lines_postgres", "");
    feed.insert(1..=201, "3500");
    feed.tell_users(1..=1);
    let late = feed.records("user_id > 1");
    let job = feed.job("");
    let mut run = Run::start(&job);
    run.wait("the first alert is told", |_| kafka::end_of(&job.alert_topic) > 0);
    std::thread::sleep(Duration::from_secs(1));
    let since = run.log().len();
    let began = Instant::now();
    feed.server.stop();
    feed.tell(&late);
    wait_for("it was away for long enough", || (began.elapsed() >= LASTS).then_some(()));
    feed.server.start();
    three_lines(&mut run, "Postgres", since);
    wait_for("all alerts", || (run.out().len() == 201).then_some(()));
    run.terminate();
}
