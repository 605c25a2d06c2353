//! Columns that come and go while the archive is written: all files are read together, each column of one type.
//!
//! Without a schema in the records the types come from the catalog. With one they come from the schema, and no database
//! is asked at all.

use super::books::{Topic, parquet, same_places};
use crate::harness::orders::{Archive, ORDERS, Orders};
use crate::harness::readers::{arrow, duckdb, files};

const SCHEMAS: [(&str, &str); 3] = [
    ("key.converter.schemas.enable", "true"),
    ("value.converter.schemas.enable", "true"),
    // As text, a decimal's precision is nowhere.
    ("decimal.handling.mode", "precise"),
];

fn types(job: &Archive) -> Vec<(String, String)> {
    let sql = format!("SELECT column_name, column_type FROM (DESCRIBE SELECT * FROM {})", files(&job.output));
    duckdb(&sql).into_iter().map(|row| (row[0].clone(), row[1].clone())).collect()
}

/// The new columns, and what they are for DuckDB and for pyarrow.
const ADDED: [(&str, &str, &str); 4] = [
    ("tip", "DECIMAL(6,3)", "decimal128(6, 3)"),
    ("paid_at", "TIMESTAMP", "timestamp[us]"),
    ("rush", "BOOLEAN", "bool"),
    ("visits", "BIGINT", "int64"),
];

/// Three generations of the table. `run` is called after each of them.
fn generations(t: &Orders, mut run: impl FnMut(i64)) {
    t.insert(1..=4);
    t.wait_in_kafka(4);
    run(4);
    t.sql(
        "ALTER TABLE public.orders ADD COLUMN tip numeric(6,3), ADD COLUMN paid_at timestamp, ADD COLUMN rush boolean,
                                   ADD COLUMN visits bigint",
    );
    t.sql(
        "INSERT INTO public.orders (order_id, item, quantity, price, created_at, tip, paid_at, rush, visits)
         VALUES (5, 'e', 5, 5.55, '2026-03-02Z', 123.456, '2026-03-02 10:20:30.123456', true, 9223372036854775807),
                (6, 'f', 6, 6.66, '2026-03-03Z', NULL, NULL, NULL, NULL);
         UPDATE public.orders SET tip = -0.001 WHERE order_id = 1",
    );
    t.wait_in_kafka(7);
    run(7);
    t.sql("ALTER TABLE public.orders DROP COLUMN status, DROP COLUMN quantity");
    t.sql(
        "INSERT INTO public.orders (order_id, item, price, created_at, tip) VALUES (7, 'g', 7.77, '2026-03-04Z', 7);
         UPDATE public.orders SET item = 'later' WHERE order_id = 2",
    );
    t.wait_in_kafka(9);
    run(9);
}

#[track_caller]
fn check(t: &Orders, job: &Archive) {
    same_places(job, Topic::of(&job.topic).changes("orders").keys());
    let (types, dataset) = (types(job), arrow(&job.output));
    let has = |name: &str, ty: &str| {
        let found: Vec<&str> = types.iter().filter(|(found, _)| found == name).map(|(_, ty)| ty.as_str()).collect();
        assert_eq!(found, [ty], "{name} in {types:?}");
    };
    for (name, of_duckdb, of_arrow) in ADDED {
        has(name, of_duckdb);
        assert_eq!(dataset.type_of(name), of_arrow, "{name}");
    }
    has("status", "VARCHAR");
    has("price", "DECIMAL(10,2)");
    has("order_id", "BIGINT");
    let from = files(&job.output);
    let sql = format!("SELECT \"offset\", tip, paid_at, rush, visits FROM {from} WHERE \"offset\" >= 4 ORDER BY 1");
    let greatest = i64::MAX.to_string();
    let wanted = [
        ["4", "123.456", "2026-03-02 10:20:30.123456", "true", &greatest],
        ["5", "", "", "", ""],
        ["6", "-0.001", "", "", ""],
        ["7", "7.000", "", "", ""],
        ["8", "", "", "", ""],
    ];
    assert_eq!(duckdb(&sql), wanted);
    let none =
        format!("SELECT count(tip) + count(paid_at) + count(rush) + count(visits) FROM {from} WHERE \"offset\" < 4");
    assert_eq!(duckdb(&none), [["0"]]);
    // What was there before the column went is there still, and nothing of it later.
    let status =
        format!("SELECT count(status) FILTER (\"offset\" < 4), count(status) FILTER (\"offset\" > 6) FROM {from}");
    assert_eq!(duckdb(&status), [["4", "0"]]);
    let state =
        super::changes::current_state(job, "order_id, item, price, created_at, tip, paid_at, rush, visits::BIGINT");
    let table = t.sql(
        "SELECT order_id, item, price, created_at, tip, paid_at, rush::text, visits FROM public.orders ORDER BY order_id",
    );
    assert_eq!(state, table);
}

#[test]
#[ignore = "needs the servers: scripts/test"]
fn by_the_catalog() {
    let t = Orders::new("columns_catalog");
    let (step, at_once) = (t.job("step"), t.job("at_once"));
    let mut long = t.job("long").start();
    generations(&t, |end| {
        step.run();
        long.wait("the long run has it", |_| super::books::committed(&t.job("long")) == [(0, end)]);
    });
    check(&t, &step);
    let sql = format!("SELECT sum(quantity) FROM {}", files(&step.output));
    assert_eq!(duckdb(&sql), [["18"]]); // 1 + 2 + 3 + 0, 5, 6, and 1 once more
    long.terminate();
    check(&t, &t.job("long"));
    // All of it when the catalog knows the last generation only.
    at_once.run();
    check(&t, &at_once);
}

#[test]
#[ignore = "needs the servers: scripts/test"]
fn by_the_schema_of_the_records() {
    let t = Orders::of("columns_schema", ORDERS, 1, &SCHEMAS);
    let without = |name: &str| Archive { url: None, ..t.job(name) };
    let (step, at_once) = (without("step"), without("at_once"));
    generations(&t, |_| {
        step.run();
    });
    check(&t, &step);
    at_once.run();
    check(&t, &at_once);
    for job in [&step, &at_once] {
        let sql = format!("SELECT sum(quantity), any_value(typeof(quantity)) FROM {}", files(&job.output));
        assert_eq!(duckdb(&sql), [["18", "INTEGER"]]);
        // One epoch that holds several generations still has each row's date in its folder.
        assert!(parquet(&job.output).iter().all(|name| name.starts_with("date=2026-03-")));
    }
}

/// Columns named as those that the archive adds, or as the folders, whatever their case.
#[test]
#[ignore = "needs the servers: scripts/test"]
fn names_that_are_taken() {
    let create = "CREATE TABLE public.orders (order_id bigint PRIMARY KEY, \"Date\" date, op text, \"offset\" int,
                                              \"TXID\" text, \"_op\" text, created_at timestamptz)";
    let t = Orders::of("names", create, 1, &[]);
    t.sql("INSERT INTO public.orders VALUES (1, '2026-01-01', 'mine', 7, 'x', 'under', '2026-03-01Z')");
    t.wait_in_kafka(1);
    let job = t.job("a");
    let done = job.try_run();
    if done.code() == Some(0) {
        let sql = format!("SELECT op, \"offset\", date, \"_Date\", \"_offset\", \"_TXID\" FROM {}", files(&job.output));
        assert_eq!(duckdb(&sql), [["c", "0", "2026-03-01", "2026-01-01", "7", "x"]]);
        let names: Vec<String> = types(&job).into_iter().map(|(name, _)| name.to_lowercase()).collect();
        let mut unique = names.clone();
        unique.sort();
        unique.dedup();
        assert_eq!(names.len(), unique.len(), "{names:?}");
    } else {
        // "_op" is there already, so "op" has no other name to go by.
        done.refused(2, &["op"]);
    }
}
