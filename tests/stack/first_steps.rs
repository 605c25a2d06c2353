//! The first steps of a new user, in the order of the README. The connector makes the topic with the first row, and the
//! job is started right after it, or right before.

use std::thread::sleep;
use std::time::Duration;

use crate::harness::orders::{Archive, ORDERS};
use crate::harness::{Connector, Database, Job};

/// Long enough for a run to have found that there is no topic.
const BEFORE: Duration = Duration::from_secs(2);

#[test]
#[ignore = "needs the servers: scripts/test"]
fn a_run_to_the_end_waits_for_the_topic() {
    let database = Database::new("first_run");
    let folder = tempfile::tempdir().unwrap();
    let connector = Connector::start(&database, "", &[]);
    let mut job = Job::new(folder.path(), &database.name, &database.name, &connector.topic);
    let mut run = job.start_to_the_end();
    run.wait_in_log("the topic does not exist yet");
    sleep(BEFORE);
    let rows: Vec<(i64, i64, String)> = (1..=200).map(|id| (id, id % 10, "200".to_owned())).collect();
    let rows: Vec<(i64, i64, &str)> = rows.iter().map(|(id, user, amount)| (*id, *user, amount.as_str())).collect();
    database.insert(&rows);
    let ended = run.ended();
    assert_eq!(ended.code, Some(0), "{ended}");
    ended.read(200).fired(0..10);

    // A misspelt name is said after the time that is waited for servers.
    job.top = "startup_wait_ms = 1000".to_owned();
    job.topic.push('x');
    let ended = job.try_run();
    assert_eq!(ended.code, Some(2), "{ended}");
    let error = ended.log.last().unwrap();
    for part in ["does not exist", "waited 1 s", "startup_wait_ms", "source.topic", "first event"] {
        assert!(error.contains(part), "{part}: {error}");
    }
}

#[test]
#[ignore = "needs the servers: scripts/test"]
fn an_archive_to_the_end_waits_for_the_topic() {
    let database = Database::new("first_archive");
    database.sql(ORDERS);
    let folder = tempfile::tempdir().unwrap();
    let connector = Connector::start(&database, "", &[("table.include.list", "public.orders")]);
    let topic = connector.topic.replace("streaming.transactions", "public.orders");
    let archive = Archive::new(folder.path(), &database.name, &database.name, &topic);
    let mut run = archive.start_to_the_end();
    run.wait_in_log("the topic does not exist yet");
    sleep(BEFORE);
    database.sql("INSERT INTO public.orders (customer_name) SELECT 'c' FROM generate_series(1, 120)");
    let done = run.ended();
    assert_eq!(done.code(), Some(0), "{done}");
    assert!(done.out.last().unwrap().starts_with("{\"read\":120,\"written\":120,"), "{done}");
}
