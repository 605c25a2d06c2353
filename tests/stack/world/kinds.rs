//! More of what goes wrong without a word elsewhere: a slot that is lost, a topic of several partitions, columns that one rule alone
//! reads, keys of an enum, and partitions of the table whose topics are routed into one.

use std::collections::BTreeSet;

use crate::harness::{Connector, Database, Job, Table, kafka, try_psql, wait_for};
use crate::recovery::cluster::Cluster;

use super::watching;

/// The slot is lost, a row is deleted meanwhile, and a new snapshot goes to the same topic: no record says that the row is gone.
#[test]
#[ignore = "needs the servers: scripts/test"]
fn a_slot_that_is_lost() {
    let mut t = Table::new("world_slot");
    t.insert(&[(1, 101, "4000"), (2, 102, "4000")]);
    t.wait_in_kafka(2);
    let job = watching(t.job("v1"));
    job.run().fired([101, 102]);
    let (topic, name) = (t.topic().to_owned(), t.database.name.clone());
    // The connector leaves it a moment after its stop.
    t.connector.stop();
    let drop = format!("SELECT pg_drop_replication_slot('{name}')");
    wait_for("the slot is gone", || try_psql(&name, &drop).ok());
    t.sql("DELETE FROM streaming.transactions WHERE id = 1");
    let again = Connector::start(
        &t.database,
        "_again",
        &[("topic.prefix", &name), ("publication.name", &name), ("slot.name", &format!("{name}_again"))],
    );
    t.connector = again;
    t.connector.topic = topic;
    t.wait_in_kafka(3);
    let snapshot = kafka::records(t.topic(), 2).remove(0).json();
    assert_eq!((&snapshot["op"], &snapshot["after"]["id"]), (&"r".into(), &2.into()), "{snapshot}");
    let mut run = job.start();
    // So that the stream is known to be past it.
    let mut id = 3;
    run.wait_while("Resolved: User 101 ($0.00)", || {
        t.insert(&[(id, 103, "1")]);
        id += 1;
    });
    let ended = run.terminate();
    assert_eq!(ended.code, Some(0), "{ended}");
    ended.fired([]).resolved([101]);
}

/// Until so many records are in all partitions of the topic together.
fn wait_for_all(topic: &str, partitions: i32, records: i64) {
    let cluster = Cluster::shared();
    wait_for(&format!("{topic} holds {records} records"), || {
        let ends = (0..partitions).map(|partition| cluster.watermarks(topic, partition).1);
        (ends.sum::<i64>() == records).then_some(())
    });
}

/// Who is over the threshold.
fn users(t: &Table, job: &Job) -> BTreeSet<i64> {
    let users: BTreeSet<i64> = t.sql(&job.sql).iter().map(|row| row[0].parse().unwrap()).collect();
    assert!(!users.is_empty());
    users
}

/// A snapshot in one partition, then two more of them: changes of a row are in other partitions than its snapshot's read, and are
/// delivered in any order.
#[test]
#[ignore = "needs the servers: scripts/test"]
fn partitions_that_were_added_before_a_group_began() {
    let database = Database::new("world_parts");
    database.sql(
        "INSERT INTO streaming.transactions (id, user_id, amount)
         SELECT n, n % 40, CASE WHEN n % 2 = 0 THEN 2000 ELSE 200 END FROM generate_series(1, 120) AS n",
    );
    let mut t = Table::of(database, &[]);
    t.wait_in_kafka(120);
    Cluster::shared().add_partitions(t.topic(), 3);
    // It sees them once it has been restarted.
    t.connector.set(&[("poll.interval.ms", "60")]);
    t.sql(
        "UPDATE streaming.transactions SET amount = 2200 - amount WHERE id % 3 = 0;
         DELETE FROM streaming.transactions WHERE id % 5 = 0;
         UPDATE streaming.transactions SET user_id = (user_id + 1) % 40 WHERE id % 7 = 0;
         INSERT INTO streaming.transactions (id, user_id, amount) SELECT n * 5, n, 10 FROM generate_series(1, 10) AS n",
    );
    // 40 updates, 24 deletes with their tombstones, 14 moves, 10 inserts.
    wait_for_all(t.topic(), 3, 120 + 40 + 48 + 14 + 10);
    let ends: Vec<i64> = (0..3).map(|partition| Cluster::shared().watermarks(t.topic(), partition).1).collect();
    assert!(ends.iter().all(|end| *end > 0), "{ends:?}");
    for group in ["v1", "v2", "v3"] {
        let job = t.job(group);
        let job = Job { alert_topic: format!("{}.alerts", job.group), ..job };
        job.run().fired(users(&t, &job)).resolved([]);
    }
}

/// A truncate is in one partition: what was written after it may be read before it from another one, and stays.
#[test]
#[ignore = "needs the servers: scripts/test"]
fn a_truncate_in_one_of_several_partitions() {
    let settings = [("topic.creation.default.partitions", "3"), ("topic.creation.default.replication.factor", "1")];
    let t = Table::of(Database::new("world_truncate"), &settings);
    let before: Vec<(i64, i64, &str)> = (1..=12).map(|id| (id, 100 + id, "4000")).collect();
    t.insert(&before);
    t.sql("TRUNCATE streaming.transactions");
    let after: Vec<(i64, i64, &str)> =
        (1..=12).map(|id| (20 + id, 107 + id / 2, if id % 2 == 0 { "2000" } else { "1500" })).collect();
    t.insert(&after);
    wait_for_all(t.topic(), 3, 25);
    for group in ["v1", "v2", "v3"] {
        let job = t.job(group);
        let job = Job { alert_topic: format!("{}.alerts", job.group), ..job };
        job.run().fired(users(&t, &job)).resolved([]);
    }
}

/// A record does not have a value that is stored apart: the rule that does not need it goes on, the other one asks for it.
#[test]
#[ignore = "needs the servers: scripts/test"]
fn a_column_that_one_rule_alone_reads() {
    let database = Database::new("world_columns_apart");
    database.sql(
        "ALTER TABLE streaming.transactions ALTER COLUMN merchant SET STORAGE EXTERNAL;
         INSERT INTO streaming.transactions (id, user_id, amount, merchant)
         VALUES (1, 7, 10, repeat('0123456789', 400)), (2, 7, 10, repeat('0123456789', 400)), (3, 8, 4000, 'short')",
    );
    let t = Table::of(database, &[("snapshot.mode", "no_data")]);
    t.sql("UPDATE streaming.transactions SET amount = 2000 WHERE id IN (1, 2)");
    t.wait_in_kafka(2);
    let job = t.job("v1");
    let by_merchant = job.sql.replace("user_id", "merchant");
    let rule =
        format!("[[rules]]\nname = \"by-merchant\"\nmessage = \"{{total}}\"\nsql = \"\"\"\n{by_merchant}\"\"\"\n");
    let both = Job { rule, ..job };
    let run = both.run();
    let mut fired: Vec<String> =
        run.alerts.iter().map(|alert| format!("{} {}", alert.json()["rule"], alert.json()["key"])).collect();
    fired.sort();
    let long = "0123456789".repeat(400);
    let want = [
        format!("\"by-merchant\" {{\"merchant\":\"{long}\"}}"),
        "\"by-merchant\" {\"merchant\":\"short\"}".to_owned(),
        "\"weekly-spend\" {\"user_id\":7}".to_owned(),
        "\"weekly-spend\" {\"user_id\":8}".to_owned(),
    ];
    assert_eq!(fired, want, "{run}");
    // While it runs: the next change does not bring it either.
    t.sql("UPDATE streaming.transactions SET amount = 1 WHERE id = 1");
    t.wait_in_kafka(3);
    let run = both.run();
    assert_eq!((run.count("fired"), run.count("resolved"), run.count("rejected")), (0, 2, 0), "{run}");
}

/// A primary key that cannot be read is refused: rows could not be distinguished, whatever the rule reads. One with an enum can be.
#[test]
#[ignore = "needs the servers: scripts/test"]
fn an_interval_in_the_primary_key() {
    let database = Database::new("world_enum");
    database.sql(
        "CREATE TYPE streaming.channel AS ENUM ('web', 'shop');
         ALTER TABLE streaming.transactions ADD COLUMN channel streaming.channel NOT NULL DEFAULT 'web',
             DROP CONSTRAINT transactions_pkey, ADD PRIMARY KEY (id, channel)",
    );
    let t = Table::of(database, &[]);
    t.insert(&[(1, 101, "4000")]);
    t.wait_in_kafka(1);
    t.job("v1").run().fired([101]);
    t.sql(
        "ALTER TABLE streaming.transactions ADD COLUMN span interval NOT NULL DEFAULT '1 day',
             DROP CONSTRAINT transactions_pkey, ADD PRIMARY KEY (id, span)",
    );
    let ended = t.job("v1").try_run();
    assert_eq!(ended.code, Some(2), "{ended}");
    let error = ended.log.last().unwrap();
    for part in ["\"span\" has the type interval", "it is of the primary key", "integers, numerics, text, uuid"] {
        assert!(error.contains(part), "{part}: {error}");
    }
}

/// Partitions of the table are published under their own names, and their topics are routed into one: what that means is said at
/// the start, and the table's rows count all the same.
#[test]
#[ignore = "needs the servers: scripts/test"]
fn partitions_of_the_table_routed_into_one_topic() {
    let database = Database::empty("world_leaves");
    database.sql(
        "CREATE SCHEMA streaming;
         CREATE TABLE streaming.transactions (
             id bigint, user_id bigint NOT NULL, amount numeric(12,2) NOT NULL,
             \"timestamp\" timestamptz NOT NULL DEFAULT now(), PRIMARY KEY (id)) PARTITION BY RANGE (id);
         CREATE TABLE streaming.low PARTITION OF streaming.transactions FOR VALUES FROM (0) TO (10);
         CREATE TABLE streaming.high PARTITION OF streaming.transactions FOR VALUES FROM (10) TO (1000)",
    );
    let topic = format!("{}.all", database.name);
    let settings = [
        ("table.include.list", "streaming.*"),
        ("transforms", "all"),
        ("transforms.all.type", "org.apache.kafka.connect.transforms.RegexRouter"),
        ("transforms.all.regex", ".*"),
        ("transforms.all.replacement", topic.as_str()),
    ];
    let mut t = Table::of(database, &settings);
    t.connector.topic.clone_from(&topic);
    t.insert(&[(1, 101, "2000"), (11, 101, "1500"), (12, 102, "10")]);
    t.wait_in_kafka(3);
    let job = t.job("v1");
    let run = job.run();
    run.fired([101]).total(101, 2, "3500.00");
    let said = run.log.iter().find(|line| line.contains("publishes partitions under their own names"));
    assert!(said.is_some_and(|line| line.contains("publish_via_partition_root = true")), "{run}");
    let letters = kafka::records(&job.dead_letter_topic, 0);
    assert!(
        letters.iter().all(|letter| letter.header("tripline_reason").contains("publish_via_partition_root")),
        "{letters:?}"
    );
    // As it says: its snapshot brings the rows under the table's own name.
    t.sql(&format!("ALTER PUBLICATION {} SET (publish_via_partition_root = true)", t.database.name));
    t.connector.set(&[("publish.via.partition.root", "true")]);
    t.insert(&[(13, 102, "3500")]);
    wait_for("it is in Kafka", || {
        let records = kafka::records(&topic, 0);
        let last = records.iter().rev().find(|record| record.value.is_some())?.json();
        (last["after"]["id"] == 13 && last["source"]["table"] == "transactions").then_some(())
    });
    job.run().fired([102]).resolved([]);
}
