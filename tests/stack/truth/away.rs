//! The database away while candidates arrive: they wait, nothing is told unconfirmed, and once it is back every alert
//! comes, none twice.

use std::time::{Duration, Instant};

use crate::harness::{Ended, Record, wait_for};

use super::feed::{Feed, wait_for_alerts};
use super::server::Session;

/// Every alert of the run was confirmed, by the totals that the stream had as well.
fn confirmed(run: &Ended) {
    for alert in run.alerts.iter().map(Record::json) {
        assert_eq!(alert["confirmation"]["required"], true, "{alert}");
        assert_eq!(alert["database"], alert["stream"], "{alert}");
        assert!(alert["confirmation"]["snapshot"].is_string(), "{alert}");
    }
}

fn log_lines(run: &Ended, text: &str) -> usize {
    run.log.iter().filter(|line| line.contains(text)).count()
}

/// Users 1 to 100 fire before the outage. During it, 101 to 300 cross, and 301 crosses and comes back. 302 crosses in
/// the stream only, because the database lost its row before. 1 resolves.
fn outage(test: &str, lasts: Duration) {
    let mut feed = Feed::new(test, "");
    feed.insert(1..=302, "3500");
    feed.tell_users(1..=100);
    let late = feed.records("user_id > 100");
    feed.server.sql("DELETE FROM streaming.transactions WHERE id IN (301, 302)");
    let (gone_301, gone_302) = (feed.deletion(301), feed.deletion(302));
    let job = feed.job("");
    let mut run = job.start();
    wait_for_alerts(&job, 100);
    run.wait_committed(100);
    feed.server.sql("UPDATE streaming.transactions SET amount = 1 WHERE id = 1");
    let resolved = feed.updates("id = 1");

    feed.server.stop();
    let began = Instant::now();
    feed.tell(&late);
    feed.tell(&resolved);
    feed.tell(&gone_301);
    run.wait_committed(305);
    run.wait_in_log("Postgres is unreachable");
    wait_for("the outage is over", || (began.elapsed() >= lasts).then_some(()));
    wait_for_alerts(&job, 100);
    feed.server.start();
    let back = Instant::now();
    wait_for_alerts(&job, 301);
    eprintln!("{test}: away for {lasts:?}; the last of 201 alerts {:?} after it was back", back.elapsed());
    feed.tell(&gone_302);
    run.wait_committed(307);
    let ended = run.terminate();
    assert_eq!(ended.code, Some(0), "{ended}");
    ended.fired(1..=300).resolved([1]);
    confirmed(&ended);
    // Whatever the number of keys that wait.
    assert!(log_lines(&ended, "Postgres is unreachable") == 1, "{ended}");
    assert!(log_lines(&ended, "Postgres is reachable again") == 1, "{ended}");
    job.run().read(0).quiet();
}

#[test]
#[ignore = "needs the servers: scripts/test"]
fn the_database_is_stopped_while_candidates_arrive() {
    outage("stopped", Duration::from_secs(8));
}

#[test]
#[ignore = "needs the servers: scripts/test"]
fn slow_the_database_is_stopped_for_twenty_seconds() {
    outage("stopped_long", Duration::from_secs(20));
}

/// The run ends while the database is away, and another one goes on from what was written down.
#[test]
#[ignore = "needs the servers: scripts/test"]
fn candidates_outlive_a_run_that_is_killed_while_the_database_is_away() {
    let mut feed = Feed::new("outlive", "");
    feed.insert(1..=60, "3500");
    feed.tell_users(1..=10);
    let late = feed.records("user_id > 10");
    let job = feed.job("");
    let mut run = job.start();
    wait_for_alerts(&job, 10);
    run.wait_committed(10);
    feed.server.stop();
    feed.tell(&late);
    run.wait_committed(60);
    run.wait_in_log("Postgres is unreachable");
    run.kill().fired(1..=10);
    feed.server.start();
    let mut run = job.start();
    wait_for_alerts(&job, 60);
    run.wait_committed(60);
    let ended = run.terminate();
    assert_eq!(ended.code, Some(0), "{ended}");
    ended.fired(11..=60).resolved([]);
    confirmed(&ended);
    // Each still names the change that made it a candidate.
    for user in 11..=60 {
        assert_eq!(ended.alert(user)["trigger"]["offset"], user - 1, "{ended}");
    }
}

#[test]
#[ignore = "needs the servers: scripts/test"]
fn sessions_are_terminated_in_a_loop() {
    let feed = Feed::new("terminated", "");
    feed.insert(1..=600, "3500");
    feed.tell_users(1..=100);
    let job = feed.job("");
    let mut run = job.start();
    wait_for_alerts(&job, 100);
    // Runs by itself beside what follows.
    let mut killer = feed.server.session().unwrap();
    killer.send(
        "DO $$ DECLARE killed int := 0; one int; BEGIN
             FOR i IN 1..500 LOOP
                 SELECT count(pg_terminate_backend(pid)) INTO one FROM pg_stat_activity WHERE application_name = 'tripline';
                 killed := killed + one;
                 PERFORM pg_stat_clear_snapshot(), pg_sleep(0.01);
             END LOOP;
             CREATE TABLE public.killed AS SELECT killed AS n;
         END $$",
    );
    for first in (101..=600).step_by(50) {
        feed.tell_users(first..=first + 49);
    }
    assert_eq!(killer.ask("SELECT 'done'").as_deref(), Some("done"));
    let done = Instant::now();
    wait_for_alerts(&job, 600);
    eprintln!(
        "terminated: {} sessions in 5 s; the last of 500 alerts {:?} after the last of them",
        feed.server.value("SELECT n FROM public.killed"),
        done.elapsed()
    );
    run.wait_committed(600);
    let ended = run.terminate();
    assert_eq!(ended.code, Some(0), "{ended}");
    ended.fired(1..=600).resolved([]);
    confirmed(&ended);
    job.run().read(0).quiet();
}

#[test]
#[ignore = "needs the servers: scripts/test"]
fn no_connection_is_left() {
    let feed = Feed::new("crowded", "max_connections = 12\nsuperuser_reserved_connections = 0\nmax_wal_senders = 2");
    feed.insert(1..=80, "3500");
    let late = feed.records("user_id > 10");
    feed.tell_users(1..=10);
    let job = feed.job("");
    let mut run = job.start();
    wait_for_alerts(&job, 10);
    run.wait_committed(10);
    // All are taken: first those that are free, then those that the run had.
    let mut crowd: Vec<Session> = vec![feed.server.session().unwrap()];
    while crowd.len() < 12 {
        let killed = crowd[0]
            .ask("SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = 'tripline'");
        assert!(killed.is_some());
        crowd.extend(std::iter::from_fn(|| feed.server.session()));
    }
    feed.tell(&late);
    run.wait_committed(80);
    run.wait_in_log("Postgres is unreachable");
    wait_for_alerts(&job, 10);
    drop(crowd);
    let back = Instant::now();
    wait_for_alerts(&job, 80);
    eprintln!("crowded: the last of 70 alerts {:?} after there was room", back.elapsed());
    let ended = run.terminate();
    assert_eq!(ended.code, Some(0), "{ended}");
    ended.fired(1..=80).resolved([]);
    confirmed(&ended);
}
