//! Records that are no plain envelope in JSON: rows that ExtractNewRecordState has unwrapped, and Avro with its registry.

pub(crate) mod apicurio;
mod captured;
mod converters;
mod names;
mod registry;
mod registry_changes;

use crate::harness::orders::{Archive, ORDERS, Orders};
use crate::harness::readers::{duckdb, files};
use crate::harness::{Database, Job, Table, kafka};
use crate::truth::feed::wait_for_alerts;

const UNWRAP: [(&str, &str); 2] =
    [("transforms", "unwrap"), ("transforms.unwrap.type", "io.debezium.transforms.ExtractNewRecordState")];
pub(crate) const MODE: &str = "transforms.unwrap.delete.tombstone.handling.mode";
pub(crate) const ADDED: (&str, &str) = ("transforms.unwrap.add.fields", "op,lsn,txId,source.ts_us");

pub(crate) fn unwrapped<'a>(more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    [&UNWRAP, more].concat()
}

/// Whatever the transform adds, and however it writes deletes: alerts are those of SQL.
#[test]
#[ignore = "needs the servers: scripts/test"]
fn formats_unwrapped_rows() {
    for (name, more, format) in [
        ("rewrite", vec![(MODE, "rewrite"), ADDED], "auto"),
        ("bare", vec![(MODE, "tombstone")], "auto"),
        ("both", vec![(MODE, "rewrite-with-tombstone"), ("value.converter.schemas.enable", "true")], "json-unwrapped"),
    ] {
        let t = Table::of(Database::new(&format!("unwrapped_{name}")), &unwrapped(&more));
        t.insert(&[(1, 101, "3500"), (2, 102, "2000"), (3, 103, "3100")]);
        let job = Job { source: format!("format = \"{format}\""), ..t.job("v1") };
        let run = job.start();
        wait_for_alerts(&job, 2);
        t.sql("UPDATE streaming.transactions SET amount = amount + 1500 WHERE id = 2");
        wait_for_alerts(&job, 3);
        t.sql("DELETE FROM streaming.transactions WHERE id = 1");
        t.sql("UPDATE streaming.transactions SET user_id = 104 WHERE id = 3");
        wait_for_alerts(&job, 6);
        let ended = run.terminate();
        ended.fired([101, 102, 103, 104]).resolved([101, 103]);
        assert_eq!(kafka::end_of(&job.dead_letter_topic), 0, "{name}: {ended}");
        let confirmation = &ended.alerts[2].json()["confirmation"];
        assert_eq!(confirmation["grace_ms"].is_null(), name == "rewrite", "{name}: {confirmation}");
    }
}

/// An archive has what happened: it refuses records that do not say it, and names what is to be added.
#[test]
#[ignore = "needs the servers: scripts/test"]
fn formats_archive_of_unwrapped_rows() {
    let t = Orders::of("unwrapped", ORDERS, 1, &unwrapped(&[(MODE, "rewrite"), ADDED]));
    let bare = t.second("_bare", &unwrapped(&[(MODE, "drop"), ADDED]));
    t.insert(1..=20);
    t.sql("UPDATE public.orders SET price = 7.5 WHERE order_id = 3; DELETE FROM public.orders WHERE order_id = 5");
    t.wait_in_kafka(22);
    let job = t.job("rewrite");
    let done = job.run();
    assert_eq!((done.count("written"), done.count("rejected")), (22, 0), "{done}");
    let sql = |what: &str| duckdb(&format!("SELECT {what} FROM {}", files(&job.output)));
    assert_eq!(sql("count(*), count(DISTINCT lsn), count(\"txId\")"), [["22", "22", "22"]]);
    let by_op = "op, order_id, price::decimal(10,2) AS price";
    let changed = format!("SELECT {by_op} FROM {} WHERE op <> 'c' ORDER BY op DESC", files(&job.output));
    assert_eq!(duckdb(&changed), [["u", "3", "7.50"], ["d", "5", ""]]);
    let names = duckdb(&format!("SELECT column_name FROM (DESCRIBE SELECT * FROM {})", files(&job.output))).concat();
    assert!(!names.iter().any(|name| name.starts_with("__")), "{names:?}");

    let bare = Archive { topic: bare.topic.clone(), ..t.job("bare") };
    bare.try_run().refused(2, &["delete.tombstone.handling.mode = rewrite"]);
}
