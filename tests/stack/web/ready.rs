//! The reasons for a run not to be ready, and its recovery.

use std::time::{Duration, Instant};

use crate::harness::job::Running;
use crate::harness::{Database, Job, Table, wait_for};
use crate::recovery::broker::Broker;
use crate::recovery::cluster::Cluster;
use crate::truth::feed::Feed;

use super::{Scrape, get, get_json, with_page};

/// Waits until `/readyz` has this status and text. Returns how long it took.
fn wait_until(url: &str, status: u16, said: &str) -> Duration {
    let began = Instant::now();
    let mut last = (0, String::new());
    wait_for(&format!("{url}/readyz is {status} and says {said:?}"), || {
        let got = get(&format!("{url}/readyz"));
        if got != last {
            eprintln!("{:?}: {got:?}", began.elapsed());
            last.clone_from(&got);
        }
        (got.0 == status && got.1.lines().any(|line| line == said || line.starts_with(&format!("{said}:"))))
            .then_some(())
    });
    began.elapsed()
}

/// A run whose log is shown where its test fails.
struct ShownOnFailure(Running);

impl Drop for ShownOnFailure {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.0.log_now());
        }
    }
}

/// The value of a metric without labels.
fn metric(url: &str, name: &str) -> f64 {
    Scrape::of(&get(&format!("{url}/metrics")).1).value(name, &[])
}

#[test]
#[ignore = "needs the servers of scripts/stack"]
fn web_is_not_ready_without_postgres() {
    let mut feed = Feed::new("web_postgres", "");
    feed.insert(1..=1, "10");
    feed.tell_users(1..=1);
    let (job, url) = with_page(feed.job(""));
    let run = job.start();
    wait_until(&url, 200, "ready");
    assert_eq!(metric(&url, "postgres_up"), 1.0);
    feed.server.stop();
    let took = wait_until(&url, 503, "Postgres does not answer");
    assert!(took < Duration::from_secs(20), "{took:?}");
    assert_eq!(get(&format!("{url}/livez")).0, 200, "it is no reason to be restarted");
    assert_eq!((metric(&url, "postgres_up"), metric(&url, "kafka_up")), (0.0, 1.0));
    let (status, said) = get(&format!("{url}/api/key?rule=weekly-spend&key=1"));
    assert_eq!(status, 503, "{said}");
    // The page says what `/readyz` says, although nothing has been asked for the run's own purposes.
    wait_for("the page shows it", || {
        let problems = get_json(&format!("{url}/api/state"))["problems"].clone();
        let first = problems[0].as_str()?;
        (first.starts_with("Postgres does not answer: ") && problems.as_array()?.len() == 1).then_some(())
    });
    feed.server.start();
    wait_until(&url, 200, "ready");
    assert_eq!(metric(&url, "postgres_up"), 1.0);
    assert_eq!(get_json(&format!("{url}/api/state"))["problems"], serde_json::json!([]));
    run.terminate();
}

/// Whoever looks at keys holds up neither a confirmation nor what says whether Postgres answers.
#[test]
#[ignore = "needs the servers of scripts/stack"]
fn web_is_ready_while_keys_are_waited_for() {
    let feed = Feed::new("web_looked", "");
    feed.insert(1..=1, "10");
    feed.tell_users(1..=1);
    let (job, url) = with_page(feed.job("statement_timeout_ms = 8000"));
    let run = job.start();
    wait_until(&url, 200, "ready");
    let mut lock = feed.server.session().unwrap();
    lock.send("BEGIN; LOCK TABLE streaming.transactions IN ACCESS EXCLUSIVE MODE");
    assert_eq!(lock.ask("SELECT 'locked'").as_deref(), Some("locked"));
    let looking: Vec<_> = (0..4)
        .map(|_| {
            let url = format!("{url}/api/key?rule=weekly-spend&key=1");
            std::thread::spawn(move || get(&url))
        })
        .collect();
    // What Postgres said is believed for two seconds, and a connection waited for three.
    let until = Instant::now() + Duration::from_secs(6);
    while Instant::now() < until {
        let said = get(&format!("{url}/readyz"));
        assert_eq!(said.0, 200, "{said:?}");
    }
    drop(lock);
    let answers: Vec<(u16, String)> = looking.into_iter().map(|looks| looks.join().unwrap()).collect();
    assert!(answers.iter().any(|(status, _)| *status == 200), "{answers:?}");
    run.terminate();
}

/// A run whose Kafka is the test's own.
fn on_a_broker_of_its_own(test: &str) -> (Broker, Database, tempfile::TempDir, Job, String) {
    let broker = Broker::new("");
    let database = Database::new(test);
    let folder = tempfile::tempdir().unwrap();
    let mut job = Job::new(folder.path(), &database.name, &database.name, &database.name);
    job.bootstrap = broker.bootstrap();
    Cluster::at(broker.bootstrap()).create_topic(&job.topic, 1);
    let (job, url) = with_page(job);
    (broker, database, folder, job, url)
}

#[test]
#[ignore = "needs the servers of scripts/stack"]
fn web_is_not_ready_without_kafka() {
    let (broker, _database, _folder, job, url) = on_a_broker_of_its_own("web_kafka");
    let run = ShownOnFailure(job.start());
    wait_until(&url, 200, "ready");
    assert_eq!(metric(&url, "kafka_up"), 1.0);
    // Until the transaction of the beginning is whole. What a broker keeps that is killed before, docs/guarantees.md says.
    wait_for("the group's offsets are committed", || {
        (Cluster::at(broker.bootstrap()).committed(&job.group, &job.topic).len() == 1).then_some(())
    });
    broker.signal("KILL");
    let took = wait_until(&url, 503, "no broker of Kafka answers");
    // Long before a stall would show it.
    assert!(took < Duration::from_secs(10), "{took:?}");
    assert_eq!((metric(&url, "kafka_up"), metric(&url, "postgres_up")), (0.0, 1.0));
    assert_eq!(get_json(&format!("{url}/api/state"))["cut_off"], true);
    assert_eq!(get(&format!("{url}/livez")).0, 200);
    broker.start();
    wait_until(&url, 200, "ready");
    assert_eq!(metric(&url, "kafka_up"), 1.0);
    drop(run);
}

#[test]
#[ignore = "needs the servers of scripts/stack"]
fn web_is_not_ready_while_reading_pauses() {
    let table = Table::new("web_paused");
    let (mut job, url) = with_page(table.job("v1"));
    job.top = "[limits]\nmax_rows = 2".to_owned();
    table.insert(&[(1, 1, "1.00")]);
    table.wait_in_kafka(1);
    let run = job.start();
    wait_until(&url, 200, "ready");
    table.insert(&[(2, 1, "1.00"), (3, 2, "1.00")]);
    wait_until(&url, 503, "reading pauses");
    assert_eq!(get(&format!("{url}/readyz")).1, "not ready\nreading pauses: limits.max_rows is reached\n");
    assert_eq!(get_json(&format!("{url}/api/state"))["paused"], "limits.max_rows is reached");
    run.kill();
}

/// The connections stay open, and nothing comes through them.
#[test]
#[ignore = "needs the servers of scripts/stack"]
fn slow_web_is_not_ready_while_kafka_hangs() {
    let (broker, _database, _folder, job, url) = on_a_broker_of_its_own("web_hangs");
    let _run = job.start();
    wait_until(&url, 200, "ready");
    broker.signal("STOP");
    // The session expires, and it is one that stands by from then on.
    let took = wait_until(&url, 503, "it has not joined the group, or stands by until another instance is gone");
    assert!(took < Duration::from_secs(25), "{took:?}");
    let took = wait_until(&url, 503, "no broker of Kafka answers");
    assert!(took < Duration::from_secs(25), "{took:?}");
    assert_eq!(metric(&url, "kafka_up"), 0.0);
    broker.signal("CONT");
    wait_until(&url, 200, "ready");
    assert_eq!(metric(&url, "kafka_up"), 1.0);
}
