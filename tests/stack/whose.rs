//! The origin of a record: another table in the same topic, another database, or no table at all. Also a key or a value
//! that the connector makes up.

use serde_json::json;

use crate::harness::orders::Archive;
use crate::harness::readers::{duckdb, files};
use crate::harness::{Database, Job, Stack, Table, kafka, wait_for};

/// Until so many records of the topic satisfy this.
fn wait_for_records(topic: &str, count: usize, what: impl Fn(&kafka::Record) -> bool) {
    wait_for(&format!("{topic} has {count} of them"), || {
        (kafka::records(topic, 0).iter().filter(|record| what(record)).count() == count).then_some(())
    });
}

fn holds(record: &kafka::Record, text: &str) -> bool {
    record.value.as_ref().is_some_and(|value| String::from_utf8_lossy(value).contains(text))
}

/// `transactions`, `tag`, heartbeats and the boundaries of transactions in one topic.
#[test]
#[ignore = "needs the servers: scripts/test"]
fn a_topic_may_be_shared() {
    let database = Database::new("whose_shared");
    database.sql("CREATE TABLE streaming.tag (id bigint PRIMARY KEY, name text)");
    let topic = format!("{}.all", database.name);
    let settings = [
        ("table.include.list", "streaming.transactions,streaming.tag"),
        ("transforms", "all"),
        ("transforms.all.type", "org.apache.kafka.connect.transforms.RegexRouter"),
        ("transforms.all.regex", ".*"),
        ("transforms.all.replacement", topic.as_str()),
        ("heartbeat.interval.ms", "200"),
        ("provide.transaction.metadata", "true"),
    ];
    let mut t = Table::of(database, &settings);
    t.connector.topic.clone_from(&topic);
    t.insert(&[(1, 7, "500"), (2, 7, "500"), (3, 7, "500"), (4, 7, "500"), (5, 7, "500")]);
    t.sql("INSERT INTO streaming.tag SELECT n, 'tag ' || n FROM generate_series(1, 5) AS n");
    wait_for_records(&topic, 5, |record| holds(record, "\"name\":\"tag "));
    let job = t.job("v1");
    job.run().quiet();
    t.sql("DELETE FROM streaming.tag WHERE id <= 5");
    wait_for_records(&topic, 5, |record| record.value.is_none());
    t.insert(&[(6, 7, "600")]);
    wait_for_records(&topic, 1, |record| holds(record, "\"amount\":\"600.00\""));

    let run = job.run();
    run.fired([7]).total(7, 6, "3100.00");
    assert!(!run.everything().contains("ExtractNewRecordState"), "{run}");
    let letters = kafka::records(&job.dead_letter_topic, 0);
    assert_eq!(letters.len(), 10, "the changes of tag, and nothing else: {letters:?}");
    assert!(letters.iter().all(|letter| letter.header("tripline_kind") == "table"), "{letters:?}");

    // The archive has only ours, too.
    let folder = tempfile::tempdir().unwrap();
    let archive = Archive::new(folder.path(), &t.database.name, &format!("{topic}-archive"), &topic);
    let archive = Archive { partition_by: None, ..archive };
    archive.run();
    let sql = format!("SELECT count(*), sum(id), string_agg(DISTINCT op) FROM {}", files(&archive.output));
    assert_eq!(duckdb(&sql), [["6", "21", "c"]]);
    assert_eq!(kafka::end_of(&archive.dead_letter_topic), 10);
}

/// Rows without an envelope, of two tables alike in one topic: whose each is, `add.fields` brings. Without it, `doctor` asks for it.
#[test]
#[ignore = "needs the servers: scripts/test"]
fn unwrapped_rows_of_two_tables_in_one_topic() {
    const FIELDS: &str = "op,lsn,txId,source.ts_us,source.schema,source.table";
    const ADDED: &str = "transforms.unwrap.add.fields";
    let database = Database::new("whose_unwrapped");
    database.sql("CREATE TABLE streaming.refunds (LIKE streaming.transactions INCLUDING ALL)");
    let topic = format!("{}.all", database.name);
    let settings = |fields: &'static str| {
        [
            ("table.include.list", "streaming.transactions,streaming.refunds"),
            ("transforms", "all,unwrap"),
            ("transforms.all.type", "org.apache.kafka.connect.transforms.RegexRouter"),
            ("transforms.all.regex", ".*"),
            ("transforms.all.replacement", topic.as_str()),
            ("transforms.unwrap.type", "io.debezium.transforms.ExtractNewRecordState"),
            ("transforms.unwrap.delete.tombstone.handling.mode", "rewrite"),
            (ADDED, fields),
        ]
    };
    let mut t = Table::of(database, &settings(FIELDS));
    t.connector.topic.clone_from(&topic);
    t.insert(&[(1, 7, "2000"), (2, 8, "3500")]);
    // The same keys, and amounts that would count.
    t.sql("INSERT INTO streaming.refunds (id, user_id, amount) VALUES (1, 7, 9000), (2, 9, 9000), (3, 7, 9000)");
    t.sql("DELETE FROM streaming.refunds WHERE id = 2");
    wait_for_records(&topic, 1, |record| holds(record, "\"__deleted\":\"true\""));
    let job = t.job("v1");
    let run = job.run();
    run.fired([8]).total(8, 1, "3500.00");
    let letters = kafka::records(&job.dead_letter_topic, 0);
    assert_eq!((letters.len(), run.count("rejected")), (4, 4), "{letters:?}");
    assert!(letters.iter().all(|letter| letter.header("tripline_kind") == "table"), "{letters:?}");

    let folder = tempfile::tempdir().unwrap();
    let archive = Archive::new(folder.path(), &t.database.name, &format!("{topic}-archive"), &topic);
    let archive = Archive { partition_by: None, ..archive };
    archive.run();
    assert_eq!(duckdb(&format!("SELECT count(*), sum(amount) FROM {}", files(&archive.output))), [["2", "5500.00"]]);

    let doctor = |job: &Job| {
        let out = job.command(&["doctor", "--output", "json", "--connect", &Stack::get().connect]).output().unwrap();
        let report: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
        let findings = report["findings"].as_array().unwrap().iter();
        findings.filter(|found| found["check"] == "transforms").cloned().collect::<Vec<_>>()
    };
    assert!(doctor(&job).iter().all(|found| found["grade"] == "ok"), "{:?}", doctor(&job));
    t.connector.set(&[(ADDED, "op,lsn,txId,source.ts_us")]);
    let [found] = doctor(&job).try_into().unwrap();
    assert_eq!(found["grade"], "problem", "{found}");
    assert!(found["fix"].as_str().unwrap().contains(FIELDS), "{found}");
}

/// REPLICA IDENTITY USING INDEX on another column: a delete's key is zero, whatever row is gone.
#[test]
#[ignore = "needs the servers: scripts/test"]
fn a_key_that_is_made_up_is_not_believed() {
    let database = Database::new("whose_identity");
    database.sql(
        "ALTER TABLE streaming.transactions ADD COLUMN code text NOT NULL DEFAULT gen_random_uuid()::text;
         CREATE UNIQUE INDEX transactions_code ON streaming.transactions (code);
         ALTER TABLE streaming.transactions REPLICA IDENTITY USING INDEX transactions_code",
    );
    let t = Table::of(database, &[]);
    t.insert(&[(0, 8, "4000"), (1, 7, "1500"), (2, 7, "1500"), (3, 7, "1500")]);
    t.wait_in_kafka(4);
    let job = t.job("v1");
    job.run().fired([7, 8]);
    t.sql("DELETE FROM streaming.transactions WHERE id IN (1, 2)");
    t.wait_in_kafka(8);
    let run = job.run();
    run.resolved([7]).fired([]);
    assert_eq!(run.count("rejected"), 2, "{run}");
    let letters = kafka::records(&job.dead_letter_topic, 0);
    assert!(letters.iter().all(|letter| letter.header("tripline_reason").contains("REPLICA IDENTITY")), "{letters:?}");

    let folder = tempfile::tempdir().unwrap();
    let archive = Archive::new(folder.path(), &t.database.name, &format!("{}-archive", t.database.name), t.topic());
    let archive = Archive { partition_by: None, ..archive };
    archive.run();
    let sql = format!("SELECT op, count(*) FROM {} GROUP BY op", files(&archive.output));
    assert_eq!(duckdb(&sql), [["c", "4"]]);
    assert_eq!(kafka::end_of(&archive.dead_letter_topic), 2);
}

/// A connector's own placeholder, and records of a copy of the database.
#[test]
#[ignore = "needs the servers: scripts/test"]
fn another_placeholder_and_another_database() {
    let database = Database::new("whose_value");
    database.sql("ALTER TABLE streaming.transactions ALTER COLUMN merchant SET STORAGE EXTERNAL");
    let t = Table::of(database, &[("unavailable.value.placeholder", "__GONE__")]);
    t.sql(
        "INSERT INTO streaming.transactions (id, user_id, amount, merchant)
         VALUES (1, 7, 2000, repeat('0123456789', 400)), (2, 7, 100, 'short')",
    );
    t.sql("UPDATE streaming.transactions SET amount = 4000 WHERE id = 1");
    t.wait_in_kafka(3);
    let mut copied = kafka::records(t.topic(), 1).remove(0);
    let mut value = copied.json();
    (value["source"]["db"], value["after"]["amount"]) = (json!("copy"), json!("9000.00"));
    copied.value = Some(value.to_string().into_bytes());
    kafka::produce(t.topic(), &[copied]);

    let sql = "SELECT merchant, COUNT(*) AS transactions, SUM(ABS(amount)) AS total FROM streaming.transactions
        WHERE timestamp >= NOW() - INTERVAL '7 days' GROUP BY merchant HAVING SUM(ABS(amount)) > 3000\n";
    let job = Job {
        sql: sql.to_owned(),
        message: "{merchant}".to_owned(),
        source: "unavailable_value_placeholder = \"__GONE__\"".to_owned(),
        ..t.job("v1")
    };
    let run = job.run();
    assert_eq!((run.count("fired"), run.count("rejected")), (1, 1), "{run}");
    assert_eq!(run.alerts[0].json()["key"]["merchant"], "0123456789".repeat(400));
    let letter = &kafka::records(&job.dead_letter_topic, 0)[0];
    assert!(letter.header("tripline_reason").contains("database \"copy\""), "{letter:?}");
}
