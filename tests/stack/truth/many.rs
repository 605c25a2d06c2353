//! 20,000 users cross at once.

use std::time::Instant;

use crate::harness::{kafka, wait_for};

use super::feed::{Feed, wait_for_alerts};

const USERS: i64 = 20_000;

/// The most memory that the process of this configuration has taken, in MB.
fn peak_mb(config: &str) -> u64 {
    let processes = std::fs::read_dir("/proc").unwrap().filter_map(Result::ok).map(|entry| entry.path());
    let ours = |path: &std::path::PathBuf| {
        let command = std::fs::read(path.join("cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&command).contains(config)
    };
    let process = processes.into_iter().find(ours).expect("the run's process");
    let status = std::fs::read_to_string(process.join("status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1_024
}

#[test]
#[ignore = "needs the servers: scripts/test"]
fn slow_twenty_thousand_users_at_once() {
    let feed = Feed::new("many", "log_min_duration_statement = 0");
    feed.insert(1..=USERS, "2000");
    let first = feed.records("true");
    feed.server.sql(&format!(
        "INSERT INTO streaming.transactions (id, user_id, amount)
         SELECT {USERS} + n, n, 2000 FROM generate_series(1, {USERS}) AS n; ANALYZE"
    ));
    let second = feed.records(&format!("id > {USERS}"));
    feed.tell(&first);
    let job = feed.job("");
    let mut run = job.start();
    run.wait_committed(USERS);
    assert_eq!(kafka::end_of(&job.alert_topic), 0);
    let asked = |log: &str| {
        let lines = log.lines().filter(|line| line.contains("SELECT asked.ord") && line.contains("execute"));
        let millis = |line: &str| -> f64 {
            line.split_once("duration: ").unwrap().1.split_once(" ms").unwrap().0.parse().unwrap()
        };
        let mut all: Vec<f64> = lines.map(millis).collect();
        all.sort_by(f64::total_cmp);
        all
    };
    assert_eq!(asked(&feed.server.log()), [0.0; 0], "nobody is over yet");

    let began = Instant::now();
    feed.tell(&second);
    let told = began.elapsed();
    wait_for("the first alert", || (kafka::end_of(&job.alert_topic) > 0).then_some(()));
    let first_alert = began.elapsed();
    wait_for_alerts(&job, USERS);
    let last_alert = began.elapsed();
    run.wait_committed(2 * USERS);
    let peak = peak_mb(&format!("{}.toml", job.group));
    let ended = run.terminate();
    assert_eq!(ended.code, Some(0), "exit code");
    ended.fired(1..=USERS).resolved([]);
    let statements = asked(&feed.server.log());
    eprintln!(
        "many: {} statements for {USERS} users, {:.0} ms in the server, the longest {:.0} ms; all records in Kafka after \
         {told:?}, first alert {first_alert:?}, last {last_alert:?}; at most {peak} MB",
        statements.len(),
        statements.iter().sum::<f64>(),
        statements.last().unwrap(),
    );
    job.run().read(0).quiet();
}
