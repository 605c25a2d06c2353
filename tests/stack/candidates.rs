//! Candidates that wait for Postgres outlive a run, with the instant at which they were raised.

use chrono::DateTime;
use serde_json::Value as Json;

use crate::harness::{Database, Job, RULE, Role, Table, psql, wait_for};

fn instant(value: &Json) -> i64 {
    DateTime::parse_from_rfc3339(value.as_str().unwrap()).unwrap().timestamp_micros()
}

/// The role may not log in, or may again.
fn may_log_in(role: &Role, may: bool) {
    let name = &role.0;
    psql("postgres", &format!("ALTER ROLE {name} {}", if may { "LOGIN" } else { "NOLOGIN" }));
    psql("postgres", &format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{name}'"));
}

/// The database is away when a user crosses, the run is stopped, and the rows have left the window before the next start:
/// the alert comes, as of then, and the end of its episode after it.
#[test]
#[ignore = "needs the servers: scripts/test"]
fn a_candidate_whose_rows_have_left_by_the_next_start() {
    let role = Role::new("overdue");
    let t = Table::of(Database::new("overdue"), &[]);
    t.sql(&format!("GRANT USAGE ON SCHEMA streaming TO {0}; GRANT SELECT ON streaming.transactions TO {0}", role.0));
    let sql = RULE.replace("7 days", "6 seconds");
    let job = Job { url: role.url(&t.database.name), sql, ..t.job("v1") };
    t.insert(&[(1, 1, "1.00")]);
    t.wait_in_kafka(1);
    let mut run = job.start();
    run.wait_committed(1);
    may_log_in(&role, false);
    t.insert(&[(2, 7, "2000.00"), (3, 7, "1500.00")]);
    run.wait_in_log("not confirmed yet");
    run.wait_committed(3);
    let stopped = run.terminate();
    assert_eq!(stopped.code, Some(0), "{stopped}");
    stopped.quiet();
    let gone = "SELECT 1 FROM streaming.transactions WHERE id = 3 AND \"timestamp\" < now() - interval '7 seconds'";
    wait_for("the window has passed", || (!t.sql(gone).is_empty()).then_some(()));
    may_log_in(&role, true);
    let ended = job.run();
    ended.fired([7]).resolved([7]);
    let alerts: Vec<Json> = ended.alerts.iter().map(crate::harness::Record::json).collect();
    assert_eq!((&alerts[0]["status"], &alerts[1]["status"]), (&Json::from("firing"), &Json::from("resolved")));
    assert_eq!(alerts[0]["database"]["total"], "3500.00");
    assert_eq!(alerts[0]["trigger"]["offset"], 2);
    let late = instant(&alerts[0]["emitted_at"]) - instant(&alerts[0]["confirmation"]["as_of"]);
    assert!(late > 6_000_000, "as of when it was raised, not {late} µs ago: {}", alerts[0]);
    assert_eq!((alerts[0].get("reason"), &alerts[1]["reason"]), (None, &Json::from("time")));
}

/// The alerts and log lines when rules change: each end has its reason, and each rule its line.
#[test]
#[ignore = "needs the servers: scripts/test"]
fn rules_renamed_changed_and_removed_between_runs() {
    let t = Table::new("rules");
    t.sql("INSERT INTO streaming.transactions (user_id, amount) SELECT n, 3001 + n * 100 FROM generate_series(1, 20) AS n");
    t.wait_in_kafka(20);
    let job = t.job("v1");
    job.run().fired(1..=20);
    let all = |reason: &str, users: std::ops::RangeInclusive<i64>, ended: &crate::harness::Ended| {
        for user in users {
            assert_eq!(ended.alert(user)["reason"], reason, "{ended}");
        }
    };
    let lines = |ended: &crate::harness::Ended, text: &str| ended.log.iter().filter(|line| line.contains(text)).count();

    // The threshold is raised: 10 no longer hold.
    let raised = Job { sql: RULE.replace("3000", "4050"), ..job.clone() };
    let ended = raised.run();
    ended.fired([]).resolved(1..=10);
    all("rule_changed", 1..=10, &ended);
    assert_eq!(lines(&ended, "rule weekly-spend has changed"), 1, "{ended}");
    assert_eq!(lines(&ended, "resolved=10"), 1, "{ended}");

    // Another name: nothing happens, and it is said.
    let renamed = Job { name: "weekly".to_owned(), ..raised.clone() };
    let ended = renamed.run();
    ended.quiet();
    assert_eq!(lines(&ended, "rule weekly-spend is called weekly now"), 1, "{ended}");
    t.sql("UPDATE streaming.transactions SET amount = 1 WHERE user_id = 20");
    t.wait_in_kafka(21);
    let ended = renamed.run();
    ended.fired([]).resolved([20]);
    all("condition", 20..=20, &ended);
    assert_eq!(ended.alert(20)["rule"], "weekly");

    // Another rule instead: the folder is lost on top of it. What the newest epoch has is repeated in the log then.
    t.insert(&[(100, 100, "1.00")]);
    t.wait_in_kafka(22);
    renamed.run().quiet();
    let other =
        Job { name: "count".to_owned(), sql: RULE.replace("SUM(ABS(amount)) > 3000", "COUNT(*) > 3000"), ..renamed };
    std::fs::remove_dir_all(job.checkpoints.join(&job.group)).unwrap();
    let ended = other.run();
    ended.fired([]).resolved(11..=19);
    all("rule_removed", 11..=19, &ended);
    assert_eq!(lines(&ended, "rule weekly is no longer configured"), 1, "{ended}");
    assert_eq!(ended.alert(11)["message"], "User 11 ($4,101.00)");
    other.run().quiet();
}
