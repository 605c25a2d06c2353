//! The main story, on the stack's own table: `postgres.streaming.transactions` and the groups of the README.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use chrono::{DateTime, TimeDelta};
use serde_json::{Value as Json, json};

use crate::harness::{Ended, Job, RULE, Record, Stack, kafka, psql};

/// Postgres's numbers for a user: count, total, and the line that is due.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Expected {
    transactions: u64,
    total: String,
    line: String,
}

/// Runs the rule's own SQL by psql.
fn expected() -> BTreeMap<i64, Expected> {
    // The number as people write it comes from Postgres too.
    let sql = format!("SELECT *, to_char(total, 'FM999,999,999,990.00') FROM ({RULE}) AS answer");
    let row = |row: Vec<String>| {
        let line = format!("User {} (${})", row[0], row[3]);
        (row[0].parse().unwrap(), Expected { transactions: row[1].parse().unwrap(), total: row[2].clone(), line })
    };
    psql("postgres", &sql).into_iter().map(row).collect()
}

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts").join(name)
}

fn must_succeed(command: &mut Command) {
    let done = command.output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    assert!(done.status.success(), "{command:?}\n{out}\n{err}");
}

fn insert(count: u32, seed: u32) {
    let stack = Stack::get();
    must_succeed(
        Command::new(script("insert-transactions"))
            .args(["--host", &stack.host, "--port", &stack.pg_port, "--database", "postgres", "--user", "postgres"])
            .args(["--count", &count.to_string(), "--seed", &seed.to_string()]),
    );
}

fn delete_group(group: &str) {
    must_succeed(Command::new(script("stack")).args([
        "tool",
        "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand",
        "--bootstrap-server",
        &Stack::get().bootstrap,
        "--delete",
        "--group",
        group,
    ]));
}

/// Exactly these users were told of, with the database's numbers to the cent.
fn check(run: &Ended, read: u64, want: &BTreeMap<i64, Expected>) {
    run.read(read).fired(want.keys().copied()).resolved([]);
    assert_eq!(run.count("rejected"), 0, "{run}");
    let mut lines = run.out.clone();
    lines.sort();
    let mut due: Vec<String> = want.values().map(|user| user.line.clone()).collect();
    due.sort();
    assert_eq!(lines, due);
    for (user, expected) in want {
        run.total(*user, expected.transactions, &expected.total);
    }
}

#[test]
#[ignore = "needs the servers: scripts/test"]
fn canonical() {
    let topic = &Stack::get().transactions_topic;
    assert_eq!(
        kafka::end_of(topic),
        0,
        "{topic} is not empty: this test needs a fresh stack, as scripts/test starts it (or scripts/stack down --wipe, then up)"
    );
    let folder = tempfile::tempdir().unwrap();
    let v3 = Job {
        url: Stack::get().url("postgres"),
        ..Job::new(folder.path(), "canonical", "flink-monitor-group-v3", topic)
    };
    let v4 = Job { group: "flink-monitor-group-v4".to_owned(), ..v3.clone() };

    insert(200, 1);
    kafka::wait_for_end(topic, 200);
    let first = expected();
    assert!(!first.is_empty());
    let run = v3.run();
    check(&run, 200, &first);
    for alert in &run.alerts {
        check_record(alert, &v3, &first);
    }

    // More, so that new users come over the threshold.
    insert(50, 2);
    kafka::wait_for_end(topic, 250);
    let all = expected();
    let new: BTreeMap<i64, Expected> =
        all.iter().filter(|(user, _)| !first.contains_key(user)).map(|(user, e)| (*user, e.clone())).collect();
    assert!(!new.is_empty() && all.len() == first.len() + new.len(), "{first:?} {all:?}");
    check(&v3.run(), 50, &new);
    check(&v3.run(), 0, &BTreeMap::new());

    // A new group id reads everything; so does the old one once Kafka has forgotten it.
    check(&v4.run(), 250, &all);
    delete_group(&v3.group);
    assert_eq!(v3.committed(), None);
    check(&v3.run(), 250, &all);
    check(&v3.run(), 0, &BTreeMap::new());
    check(&v4.run(), 0, &BTreeMap::new());
}

fn instant(json: &Json) -> DateTime<chrono::FixedOffset> {
    let text = json.as_str().unwrap_or_else(|| panic!("{json} is no time"));
    assert!(text.ends_with('Z'), "{text}");
    DateTime::parse_from_rfc3339(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

/// The alert record as the design has it: key, headers, and every field.
fn check_record(record: &Record, job: &Job, want: &BTreeMap<i64, Expected>) {
    let alert = record.json();
    let user = alert["key"]["user_id"].as_i64().unwrap();
    let expected = &want[&user];
    let text = |name: &str| alert[name].as_str().unwrap_or_else(|| panic!("{name} in {alert}")).to_owned();

    assert_eq!(record.key_text(), format!("weekly-spend|{user}"));
    let id: uuid::Uuid = text("id").parse().unwrap();
    assert_eq!(id.get_version_num(), 5);
    let headers = [
        ("ce_specversion", "1.0".to_owned()),
        ("ce_id", id.to_string()),
        ("ce_source", format!("tripline/{}", job.group)),
        ("ce_type", "tripline.alert.firing.v1".to_owned()),
        ("ce_subject", record.key_text().to_owned()),
        ("ce_time", text("emitted_at")),
        ("content-type", "application/json".to_owned()),
    ];
    for (name, value) in headers {
        assert_eq!(record.header(name), value, "{name}");
    }

    let fields: Vec<&str> = alert.as_object().unwrap().keys().map(String::as_str).collect();
    let named = "id group lineage rule rule_version episode status severity key message stream database having window trigger \
                 confirmation emitted_at evaluated_by";
    assert_eq!(fields, named.split_ascii_whitespace().collect::<Vec<_>>());
    assert_eq!(text("group"), job.group);
    assert_eq!(text("rule"), "weekly-spend");
    assert!(!text("rule_version").is_empty());
    text("lineage").parse::<uuid::Uuid>().unwrap();
    assert_eq!((text("status").as_str(), text("severity").as_str()), ("firing", "critical"));
    assert_eq!(alert["key"], json!({ "user_id": user }));
    assert_eq!(text("message"), expected.line);
    assert_eq!(text("having"), "SUM(ABS(amount)) > 3000");
    let numbers = json!({ "transactions": expected.transactions, "total": expected.total });
    assert_eq!((&alert["stream"], &alert["database"]), (&numbers, &numbers));

    let (from, to) = (instant(&alert["window"]["from"]), instant(&alert["window"]["to"]));
    assert_eq!(to - from, TimeDelta::days(7));
    assert!(instant(&alert["emitted_at"]) >= to);

    let trigger = &alert["trigger"];
    assert_eq!(trigger["topic"], job.topic);
    assert_eq!((&trigger["partition"], &trigger["op"]), (&json!(0), &json!("c")));
    let offset = trigger["offset"].as_i64().unwrap();
    let source = kafka::records(&job.topic, offset).swap_remove(0).json();
    assert_eq!((&trigger["lsn"], &trigger["tx_id"]), (&source["source"]["lsn"], &source["source"]["txId"]));
    assert_eq!((&trigger["pk"]["id"], &source["after"]["user_id"]), (&source["after"]["id"], &json!(user)));
    assert_eq!(instant(&trigger["event_time"]), instant(&source["after"]["timestamp"]));

    let confirmation = &alert["confirmation"];
    assert_eq!(confirmation["required"], true);
    assert_eq!(instant(&confirmation["as_of"]), to);
    assert_eq!(confirmation["snapshot"].as_str().unwrap().split(':').count(), 3);
    assert!(confirmation["attempts"].as_u64() >= Some(1) && confirmation["ms"].is_u64(), "{confirmation}");
}
