//! The same table in every encoding that is read: the alerts must not differ.

use serde_json::Value as Json;

use crate::harness::{Connector, Database, Job, Record, Table, kafka};

const SCHEMA: (&str, &str) = ("value.converter.schemas.enable", "true");
const KEY_SCHEMA: (&str, &str) = ("key.converter.schemas.enable", "true");
const PRECISE: (&str, &str) = ("decimal.handling.mode", "precise");

/// The content of an alert, without the parts that differ from run to run.
fn said(alert: &Record) -> (Json, Json, Json, Json, Json) {
    let alert = alert.json();
    let part = |name: &str| alert[name].clone();
    (part("key"), part("status"), part("message"), part("stream"), part("database"))
}

#[test]
#[ignore = "needs the servers: scripts/test"]
fn decimals_and_schemas() {
    let t = Table::new("encodings"); // plain, string
    let with_schema = Connector::start(&t.database, "_a", &[SCHEMA, KEY_SCHEMA, PRECISE]);
    let plain_precise = Connector::start(&t.database, "_b", &[PRECISE]);
    // 100 rows of 10 users: signs, cents, and both ends of numeric(12,2); users 8 and 9 stay under.
    t.sql(
        "INSERT INTO streaming.transactions (id, user_id, amount)
         SELECT n, n % 10, CASE n % 10 WHEN 8 THEN 299.99 WHEN 9 THEN -300 ELSE (n - 50) * 13.37 END
         FROM generate_series(1, 100) n;
         INSERT INTO streaming.transactions (id, user_id, amount)
         VALUES (101, 11, 9999999999.99), (102, 12, -9999999999.99), (103, 12, 0.01), (104, 13, 0), (105, 13, 3000.00)",
    );
    t.sql("UPDATE streaming.transactions SET amount = -amount - 0.01 WHERE user_id IN (1, 2)");
    t.sql("DELETE FROM streaming.transactions WHERE id = 7");
    let expected: Vec<i64> = t
        .sql("SELECT user_id FROM streaming.transactions GROUP BY 1 HAVING sum(abs(amount)) > 3000 ORDER BY 1")
        .iter()
        .map(|row| row[0].parse().unwrap())
        .collect();
    assert!(expected.contains(&12) && !expected.contains(&8) && !expected.contains(&13), "{expected:?}");
    let records = 105 + 20 + 2;
    let mut all = Vec::new();
    for (version, topic, sample) in [
        ("string", t.topic(), "\"amount\":\"-9999999999.99\""),
        ("schema", with_schema.topic.as_str(), "\"schema\""),
        ("precise", plain_precise.topic.as_str(), "\"amount\":\"/xcrWvAB\""),
    ] {
        kafka::wait_for_end(topic, records);
        let row = kafka::records(topic, 101).swap_remove(0);
        let text = String::from_utf8(row.value.unwrap()).unwrap();
        assert!(text.contains(sample), "{version} does not look so: {text}");
        let run = Job { topic: topic.to_owned(), ..t.job(version) }.run();
        run.read(127).fired(expected.clone()).resolved([]);
        run.total(12, 2, "10000000000.00").total(11, 1, "9999999999.99");
        for alert in &run.alerts {
            assert_eq!(alert.json()["stream"], alert.json()["database"], "{version}");
        }
        let mut said: Vec<_> = run.alerts.iter().map(said).collect();
        said.sort_by_key(|(key, ..)| key["user_id"].as_i64());
        all.push(said);
    }
    assert_eq!(all[0], all[1]);
    assert_eq!(all[0], all[2]);
}

/// Rows on both sides of the window's edge.
fn check_times(t: &Table) {
    t.sql(
        "INSERT INTO streaming.transactions (id, user_id, amount, \"timestamp\") VALUES
         (1, 101, 2000, now() AT TIME ZONE 'UTC' - interval '6 days 23 hours 59 minutes'),
         (2, 101, 1000.01, now() AT TIME ZONE 'UTC'),
         (3, 102, 2000, now() AT TIME ZONE 'UTC' - interval '7 days 1 minute'),
         (4, 102, 1000.01, now() AT TIME ZONE 'UTC'),
         (5, 103, 5000, now() AT TIME ZONE 'UTC' - interval '8 days')",
    );
    t.wait_in_kafka(5);
    t.run("v1").read(5).fired([101]).total(101, 2, "3000.01");
    // Into the window, and out of it.
    t.sql(
        "UPDATE streaming.transactions SET \"timestamp\" = now() AT TIME ZONE 'UTC' - interval '1 hour' WHERE id = 3;
         UPDATE streaming.transactions SET \"timestamp\" = now() AT TIME ZONE 'UTC' - interval '9 days' WHERE id = 1",
    );
    t.wait_in_kafka(7);
    t.run("v1").read(2).fired([102]).resolved([101]).total(102, 2, "3000.01").total(101, 1, "1000.01");
}

#[test]
#[ignore = "needs the servers: scripts/test"]
fn timestamp_with_time_zone() {
    check_times(&Table::new("timestamptz"));
}

#[test]
#[ignore = "needs the servers: scripts/test"]
fn timestamp_without_time_zone() {
    check_times(&Table::of(Database::with_time("timestamp", "timestamp"), &[]));
}

#[test]
#[ignore = "needs the servers: scripts/test"]
fn timestamp_of_milliseconds() {
    check_times(&Table::of(Database::with_time("timestamp3", "timestamp(3)"), &[]));
}

#[test]
#[ignore = "needs the servers: scripts/test"]
fn timestamp_of_milliseconds_with_schema() {
    check_times(&Table::of(Database::with_time("timestamp3_schema", "timestamp(3)"), &[SCHEMA, KEY_SCHEMA]));
}

/// Rows that were there before the connector come as its snapshot.
#[test]
#[ignore = "needs the servers: scripts/test"]
fn initial_snapshot() {
    let database = Database::new("snapshot");
    database.insert(&[(1, 101, "2000"), (2, 101, "1000.01"), (3, 102, "2999")]);
    let t = Table::of(database, &[]);
    t.wait_in_kafka(3);
    let run = t.run("v1");
    run.read(3).fired([101]).total(101, 2, "3000.01");
    assert_eq!(run.alert(101)["trigger"]["op"], "r");
    t.sql("UPDATE streaming.transactions SET amount = 1 WHERE id = 1; DELETE FROM streaming.transactions WHERE id = 3");
    t.insert(&[(4, 102, "3000")]);
    t.wait_in_kafka(7);
    t.run("v1").read(4).resolved([101]).fired([]);
}
