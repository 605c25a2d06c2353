//! The main story, on the stack's own table: `food_delivery_db`, `2025em1100102_food_orders_raw`, and the group of
//! config/archive.toml. 120 orders, then five more.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use super::books::{Place, Topic, at_the_end, check, newest_epoch, next_offsets};
use crate::harness::orders::Archive;
use crate::harness::readers::{arrow, duckdb, files};
use crate::harness::{Stack, kafka, psql};

const DATABASE: &str = "food_delivery_db";
const GROUP: &str = "food_orders_consumer_group";
const TOPIC: &str = "2025em1100102_food_orders_raw";

fn insert(count: u32, seed: u32) {
    let stack = Stack::get();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/insert-test-orders");
    let mut command = Command::new(script);
    command.args(["--host", &stack.host, "--port", &stack.pg_port, "--user", "postgres"]);
    let done = command.args(["--count", &count.to_string(), "--seed", &seed.to_string()]).output().unwrap();
    assert!(done.status.success(), "{command:?}\n{}", String::from_utf8_lossy(&done.stderr));
}

/// A run to the end writes so many rows, and both layers come to this next offset.
fn run(job: &Archive, written: u64, next: i64) {
    let done = job.run();
    assert_eq!((done.count("read"), done.count("written")), (written, written), "{done}");
    let topic = Topic::of(&job.topic);
    assert_eq!(topic.ends, [next]);
    check(job, &topic);
    at_the_end(job, &topic);

    let (_, epoch) = newest_epoch(job);
    assert_eq!(next_offsets(&epoch, &job.topic), [next], "after {} records", next);
    let head = epoch.iter().find(|line| line.get("batchWatermarkMs").is_some());
    let head = head.unwrap_or_else(|| panic!("no batchWatermarkMs in {epoch:?}"));
    assert!(head["batchWatermarkMs"].is_i64() && head["conf"].is_object(), "{head}");
    let age = chrono::DateTime::<chrono::Utc>::from(std::time::SystemTime::now()).timestamp_millis()
        - head["batchTimestampMs"].as_i64().unwrap();
    assert!((0..60_000).contains(&age), "{head}");
}

const COLUMNS: [(&str, &str, &str); 8] = [
    ("order_id", "BIGINT", "int64"),
    ("customer_name", "VARCHAR", "string"),
    ("restaurant", "VARCHAR", "string"),
    ("item", "VARCHAR", "string"),
    ("quantity", "INTEGER", "int32"),
    ("price", "DECIMAL(10,2)", "decimal128(10, 2)"),
    ("status", "VARCHAR", "string"),
    ("created_at", "TIMESTAMP WITH TIME ZONE", "timestamp[us, tz=UTC]"),
];

const ADDED: [(&str, &str, &str); 7] = [
    ("op", "VARCHAR", "string"),
    ("lsn", "BIGINT", "int64"),
    ("txId", "BIGINT", "int64"),
    ("topic", "VARCHAR", "string"),
    ("partition", "INTEGER", "int32"),
    ("offset", "BIGINT", "int64"),
    ("event_time", "TIMESTAMP WITH TIME ZONE", "timestamp[us, tz=UTC]"),
];

#[test]
#[ignore = "needs the servers: scripts/test"]
fn canonical_orders() {
    assert_eq!(
        kafka::end_of(TOPIC),
        0,
        "{TOPIC} is not empty: this test needs a fresh stack, as scripts/test starts it (or scripts/stack down --wipe, then up)"
    );
    let folder = tempfile::tempdir().unwrap();
    let job = Archive {
        checkpoints: folder.path().join("checkpoints/orders_consumer"),
        output: folder.path().join("output/records"),
        ..Archive::new(folder.path(), DATABASE, GROUP, TOPIC)
    };

    insert(120, 1);
    kafka::wait_for_end(TOPIC, 120);
    run(&job, 120, 120);
    insert(5, 2);
    kafka::wait_for_end(TOPIC, 125);
    run(&job, 5, 125);
    run(&job, 0, 125);

    // As DuckDB reads it.
    let from = files(&job.output);
    let sql = format!(
        "SELECT count(*), max(order_id), count(DISTINCT order_id), count(DISTINCT (partition, \"offset\")), count(DISTINCT date)
         FROM {from}"
    );
    let [rows, greatest, ids, places, dates]: [String; 5] = duckdb(&sql).swap_remove(0).try_into().unwrap();
    assert_eq!([rows, greatest, ids, places], ["125"; 4].map(str::to_owned));
    assert!(dates.parse::<u32>().unwrap() >= 3, "{dates} dates");
    // By the words of docs/archive.md.
    let pattern = "read_parquet('output/records/**/*.parquet')";
    let words = format!("SELECT count(*), max(order_id) FROM {pattern}");
    assert!(include_str!("../../../docs/archive.md").contains(&words), "docs/archive.md reads it otherwise");
    let words = words.replace("output/records", job.output.to_str().unwrap());
    assert_eq!(duckdb(&words), [["125", "125"]]);
    let types = duckdb(&format!(
        "SELECT column_name, column_type FROM (DESCRIBE SELECT * EXCLUDE (filename, date) FROM {from})"
    ));
    let wanted: Vec<Vec<String>> =
        COLUMNS.iter().chain(&ADDED).map(|(name, ty, _)| vec![(*name).to_owned(), (*ty).to_owned()]).collect();
    assert_eq!(types, wanted);

    // Each value as psql shows it.
    let select = "SELECT order_id, customer_name, restaurant, item, quantity, price, status, created_at";
    let inserted = duckdb(&format!("{select}, date FROM {from} WHERE op = 'c' ORDER BY order_id"));
    let told = psql(DATABASE, &format!("{select}, created_at::date FROM public.orders ORDER BY order_id"));
    assert_eq!(inserted, told);
    let total = |rows: Vec<Vec<String>>| rows[0][0].clone();
    assert_eq!(
        total(duckdb(&format!("SELECT sum(price) FROM {from}"))),
        total(psql(DATABASE, "SELECT sum(price) FROM public.orders"))
    );

    // As its own command shows it.
    insert(1, 3);
    kafka::wait_for_end(TOPIC, 126);
    let shown = job.command(&["status", "--output", "json"]).output().unwrap();
    let status: serde_json::Value = serde_json::from_slice(&shown.stdout).unwrap();
    let behind = serde_json::json!([{ "partition": 0, "checkpoint": 125, "group": 125, "end": 126, "lag": 1 }]);
    assert_eq!((&status["partitions"], status["lag"].as_i64()), (&behind, Some(1)), "{status}");
    assert_eq!((status["rows"].as_i64(), status["running"].as_bool()), (Some(125), Some(false)), "{status}");
    let of_dates = duckdb(&format!("SELECT date, count(*) FROM {from} GROUP BY date ORDER BY date"));
    let shown = status["dates"].as_array().unwrap().iter();
    let shown: Vec<Vec<String>> =
        shown.map(|date| vec![date["date"].as_str().unwrap().to_owned(), date["rows"].to_string()]).collect();
    assert_eq!(shown, of_dates);
    let on_disk = |date: &str| std::fs::read_dir(job.output.join(format!("date={date}"))).unwrap().count();
    for date in status["dates"].as_array().unwrap() {
        assert_eq!(date["files"], on_disk(date["date"].as_str().unwrap()), "{date}");
    }
    let table = String::from_utf8(job.command(&["status"]).output().unwrap().stdout).unwrap();
    assert!(table.contains("PARTITION") && table.contains(GROUP) && table.contains("total"), "{table}");

    // As pyarrow reads it.
    let dataset = arrow(&job.output);
    for (name, _, ty) in COLUMNS.iter().chain(&ADDED) {
        assert_eq!(dataset.type_of(name), *ty, "{name}");
    }
    assert_eq!(dataset.rows.len(), 125);
    let ids: BTreeSet<i64> = dataset.of(["order_id"]).into_iter().map(|[id]| id.parse().unwrap()).collect();
    assert_eq!((ids.len(), ids.last()), (125, Some(&125)));
    let places: BTreeSet<Place> = dataset
        .of(["partition", "offset"])
        .into_iter()
        .map(|[partition, offset]| (partition.parse().unwrap(), offset.parse().unwrap()))
        .collect();
    assert_eq!(places, (0..125).map(|offset| (0, offset)).collect());
    let mut prices: Vec<[String; 3]> = dataset.of(["order_id", "price", "customer_name"]).into_iter().collect();
    prices.sort_by_key(|[id, ..]| id.parse::<i64>().unwrap());
    assert_eq!(
        prices.iter().map(|row| row.to_vec()).collect::<Vec<_>>(),
        psql(
            DATABASE,
            "SELECT order_id, price, customer_name FROM public.orders WHERE order_id <= 125 ORDER BY order_id"
        )
    );
}
