//! Time alone fires and resolves, with no change of the table.

use chrono::DateTime;
use serde_json::Value as Json;

use crate::harness::job::Running;
use crate::harness::{Job, RULE, Table};

/// The rule with another window. `signed`: without ABS.
fn rule(window: &str, signed: bool) -> String {
    let sql = RULE.replace("7 days", window);
    if signed { sql.replace("SUM(ABS(amount))", "SUM(amount)") } else { sql }
}

fn job(t: &Table, window: &str, signed: bool) -> Job {
    Job { sql: rule(window, signed), ..t.job("v1") }
}

fn instant(value: &Json) -> i64 {
    DateTime::parse_from_rfc3339(value.as_str().unwrap()).unwrap().timestamp_micros()
}

/// A row's own time, plus so many seconds, in microseconds.
fn leaves(t: &Table, id: i64, seconds: i64) -> i64 {
    let sql = format!(
        "SELECT (extract(epoch FROM \"timestamp\") * 1000000)::bigint FROM streaming.transactions WHERE id = {id}"
    );
    t.sql(&sql)[0][0].parse::<i64>().unwrap() + seconds * 1_000_000
}

/// Time alone brought it, and at once: at the edge or within half a second.
fn by_time(alert: &Json, edge: i64) {
    assert!(alert["trigger"].is_null(), "{alert}");
    let late = instant(&alert["emitted_at"]) - edge;
    eprintln!("told {late} µs after the edge");
    assert!((0..500_000).contains(&late), "{late} µs after the edge: {alert}");
    // The instant is one and the same in memory and in the statement, so that both see the row gone.
    assert!(instant(&alert["confirmation"]["as_of"]) > edge, "{alert}");
    assert_eq!(alert["stream"], alert["database"], "{alert}");
}

/// A run that reads before the rows are there, lest they leave the window before it has begun on a busy machine. The
/// topic comes with its first record.
fn begun(t: &Table, job: &Job) -> Running {
    t.insert(&[(99, 999, "1.00")]);
    t.wait_in_kafka(1);
    let mut run = job.start();
    run.wait_in_log("begins a new lineage at auto_offset_reset");
    run
}

#[test]
#[ignore = "needs the servers: scripts/test"]
fn a_refund_leaves_and_what_remains_fires() {
    let t = Table::new("refund");
    let mut run = begun(&t, &job(&t, "9 seconds", true));
    t.sql(
        "INSERT INTO streaming.transactions (id, user_id, amount, \"timestamp\")
         VALUES (1, 101, -500, now() - interval '1 second'), (2, 101, 3400, now()), (3, 102, 3001, now())",
    );
    run.wait_for_line("User 102 ($3,001.00)");
    run.wait_committed(4);
    run.wait_for_line("User 101 ($3,400.00)");
    run.wait_for_line("Resolved: User 101 ($0.00)");
    run.wait_for_line("Resolved: User 102 ($0.00)");
    let ended = run.terminate();
    assert_eq!(ended.code, Some(0), "{ended}");
    ended.fired([101, 102]).resolved([101, 102]);
    let of = |user: i64, status: &str| -> Json {
        let mut alerts = ended.alerts.iter().map(crate::harness::Record::json);
        alerts.find(|alert| alert["key"]["user_id"] == user && alert["status"] == status).unwrap()
    };
    by_time(&of(101, "firing"), leaves(&t, 1, 9));
    by_time(&of(101, "resolved"), leaves(&t, 2, 9));
    by_time(&of(102, "resolved"), leaves(&t, 3, 9));
    assert_eq!(of(101, "firing")["database"]["transactions"], 1);
    assert_eq!(of(101, "resolved")["database"]["transactions"], 0);
}

/// Fires, resolves and expires. After another run it fires again: two episodes, two ids.
#[test]
#[ignore = "needs the servers: scripts/test"]
fn two_episodes_have_two_ids() {
    let t = Table::new("episodes");
    let job = job(&t, "7 seconds", false);
    let mut run = begun(&t, &job);
    t.insert(&[(1, 101, "3500")]);
    run.wait_for_line("User 101 ($3,500.00)");
    run.wait_for_line("Resolved: User 101 ($0.00)");
    let first = run.terminate();
    first.fired([101]).resolved([101]);
    by_time(&first.alert(101), leaves(&t, 1, 7));

    let mut run = job.start();
    run.wait_in_log("this start resumes");
    t.insert(&[(2, 101, "3500")]);
    run.wait_for_line("User 101 ($3,500.00)");
    run.wait_for_line("Resolved: User 101 ($0.00)");
    let second = run.terminate();
    second.fired([101]).resolved([101]);
    let ids: std::collections::BTreeSet<String> =
        first.alerts.iter().chain(&second.alerts).map(|alert| alert.json()["id"].to_string()).collect();
    assert_eq!(ids.len(), 4, "{first}\n{second}");
}

/// The window passes while nothing runs: the next run resolves what the one before had fired.
#[test]
#[ignore = "needs the servers: scripts/test"]
fn what_expires_between_two_runs_is_resolved_by_the_next() {
    let t = Table::new("between");
    let job = job(&t, "7 seconds", false);
    let mut run = begun(&t, &job);
    t.insert(&[(1, 101, "3500")]);
    run.wait_for_line("User 101 ($3,500.00)");
    let first = run.kill();
    first.fired([101]).resolved([]);
    let gone = "SELECT 1 FROM streaming.transactions WHERE \"timestamp\" < now() - interval '7 seconds'";
    crate::harness::wait_for("the window has passed", || (!t.sql(gone).is_empty()).then_some(()));
    let mut run = job.start();
    run.wait_for_line("Resolved: User 101 ($0.00)");
    t.insert(&[(2, 101, "3600")]);
    run.wait_for_line("User 101 ($3,600.00)");
    let second = run.terminate();
    second.fired([101]).resolved([101]);
    let fired = |run: &crate::harness::Ended| run.alerts.iter().map(|a| a.json()).find(|a| a["status"] == "firing");
    assert_ne!(fired(&first).unwrap()["id"], fired(&second).unwrap()["id"]);
}
