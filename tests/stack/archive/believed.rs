//! Assumptions about a table and its records that are checked again: columns altered while the archive is at work,
//! columns that never arrive, bytes in another encoding, numbers that no server writes.

use serde_json::json;

use super::books::committed;
use crate::harness::kafka;
use crate::harness::orders::{Archive, ORDERS, Orders};
use crate::harness::readers::{arrow, duckdb, files};
use crate::recovery::run::Run;

const ALTERED: &str =
    "ALTER TABLE public.orders ALTER COLUMN quantity TYPE bigint, ALTER COLUMN price TYPE numeric(16,4)";

/// Good records of a table that was altered, and renamed for a while, are rows, whether they have their schema or not.
#[test]
#[ignore = "needs the servers: scripts/test"]
fn columns_altered_while_at_work() {
    let t = Orders::of("altered", ORDERS, 1, &[]);
    let schemas = [
        ("key.converter.schemas.enable", "true"),
        ("value.converter.schemas.enable", "true"),
        ("decimal.handling.mode", "precise"),
    ];
    let described = t.second("_s", &schemas);
    let plain = t.job("plain");
    let with_schema = Archive { topic: described.topic.clone(), ..t.job("schema") };
    let mut runs = [(&plain, plain.start()), (&with_schema, with_schema.start())];
    let mut end = 0;
    let mut step = |sql: &str, more: i64| {
        t.sql(sql);
        end += more;
        for (job, run) in &mut runs {
            run.wait(&format!("{end} are written"), |_| committed(job) == [(0, end)]);
        }
    };
    let insert = |column: &str, values: &str| {
        format!("INSERT INTO public.orders (order_id, {column}, quantity, price, created_at) VALUES {values}")
    };
    step(&insert("item", "(1, 'a', 1, 1.50, '2026-03-01Z'), (2, 'b', 2, 2.50, '2026-03-01Z')"), 2);
    step(ALTERED, 0);
    step(&insert("item", "(3, 'c', 5000000000, 1500.1234, '2026-03-01Z')"), 1);
    step("ALTER TABLE public.orders RENAME COLUMN item TO thing", 0);
    step(&insert("thing", "(4, 'd', 4, 4.5, '2026-03-01Z')"), 1);
    step("ALTER TABLE public.orders RENAME COLUMN thing TO item", 0);
    step(&insert("item", "(5, 'e', 5, 5.5, '2026-03-01Z')"), 1);
    for (job, run) in runs {
        run.terminate();
        assert_eq!(kafka::end_of(&job.dead_letter_topic), 0, "{}", job.topic);
        let sql = format!(
            "SELECT order_id, coalesce(item, thing), quantity, price::decimal(16,4) FROM {} ORDER BY 1",
            files(&job.output)
        );
        let rows = [
            ["1", "a", "1", "1.5000"],
            ["2", "b", "2", "2.5000"],
            ["3", "c", "5000000000", "1500.1234"],
            ["4", "d", "4", "4.5000"],
            ["5", "e", "5", "5.5000"],
        ];
        assert_eq!(duckdb(&sql), rows, "{}", job.topic);
        // As docs/archive.md reads it with pyarrow.
        let dataset = arrow(&job.output);
        assert_eq!((dataset.type_of("quantity"), dataset.type_of("price")), ("int64", "decimal128(16, 4)"));
    }
}

/// Hexadecimal text that could be base64, columns that never come, and an LSN that no server writes.
#[test]
#[ignore = "needs the servers: scripts/test"]
fn what_a_record_does_not_say_is_not_made_up() {
    let create = "CREATE TYPE public.pair AS (a int, b int);
        CREATE TABLE public.orders (order_id bigint PRIMARY KEY, secret text, p public.pair, raw bytea, item text,
                                    twice bigint GENERATED ALWAYS AS (order_id * 2) STORED, created_at timestamptz)";
    let settings = [("column.exclude.list", "public.orders.secret"), ("binary.handling.mode", "hex")];
    let t = Orders::of("unsaid", create, 1, &settings);
    t.sql(
        "INSERT INTO public.orders (order_id, secret, p, raw, item, created_at)
         VALUES (1, 's', (1, 2), '\\xdeadbeef', 'a', '2026-03-01Z'), (2, 's', (1, 2), '\\xdeadbe', 'b', '2026-03-01Z');
         DELETE FROM public.orders WHERE order_id = 2",
    );
    t.wait_in_kafka(4);
    let mut strange = kafka::records(t.topic(), 1).remove(0);
    let mut value = strange.json();
    value["source"]["lsn"] = json!(9_223_372_036_854_775_808_u64);
    strange.value = Some(value.to_string().into_bytes());
    kafka::produce(t.topic(), &[strange]);

    let guess = t.job("guess");
    let done = guess.run();
    assert_eq!((done.count("written"), done.count("rejected")), (2, 2), "{done}");
    let letters = kafka::records(&guess.dead_letter_topic, 0);
    let reasons: Vec<&str> = letters.iter().map(|letter| letter.header("tripline_reason")).collect();
    assert!(reasons[0].contains("source.binary") && reasons[1].contains("source.lsn"), "{reasons:?}");

    let told = Archive { source: "binary = \"hex\"".to_owned(), ..t.job("told") };
    let done = told.run().said("secret, p, twice");
    assert_eq!((done.count("written"), done.count("rejected")), (3, 1), "{done}");
    let from = files(&told.output);
    let names = duckdb(&format!("SELECT column_name FROM (DESCRIBE SELECT * FROM {from})")).concat();
    for absent in ["secret", "p", "twice"] {
        assert!(!names.iter().any(|name| name == absent), "{names:?}");
    }
    let sql = format!("SELECT op, order_id, hex(raw), item FROM {from} ORDER BY \"offset\"");
    assert_eq!(duckdb(&sql), [["c", "1", "DEADBEEF", "a"], ["c", "2", "DEADBE", "b"], ["d", "2", "", ""]]);
}

/// The bytes of a number do not show its scale. Records between two reads of the catalog that agree are decoded by what
/// both found. Between two that differ the archive stops, and then continues as the flag says.
#[test]
#[ignore = "needs the servers: scripts/test"]
fn a_scale_that_is_changed() {
    let t = Orders::of("rescaled", ORDERS, 1, &[("decimal.handling.mode", "precise")]);
    let insert = |id: i64, price: &str| {
        t.sql(&format!(
            "INSERT INTO public.orders (order_id, price, created_at) VALUES ({id}, {price}, '2026-03-01Z')"
        ));
    };
    let prices = |job: &Archive| {
        let prices = format!("SELECT order_id, price::decimal(18,6) FROM {} ORDER BY 1", files(&job.output));
        duckdb(&prices).into_iter().map(|row| row[1].clone()).collect::<Vec<_>>()
    };
    for id in 1..=3 {
        insert(id, "1.50");
    }
    t.wait_in_kafka(3);
    let job = Archive { limit: 1, ..t.job("scale") };
    job.with_fault("archive.finished").killed();
    t.sql("ALTER TABLE public.orders ALTER COLUMN price TYPE numeric(16,4)");
    let mut run = job.start();
    run.wait("what was there before is written", |_| committed(&job) == [(0, 3)]);
    insert(4, "2.5");
    run.wait("what came after is written", |_| committed(&job) == [(0, 4)]);
    assert_eq!(prices(&job), ["1.500000", "1.500000", "1.500000", "2.500000"]);

    t.sql("ALTER TABLE public.orders ALTER COLUMN price TYPE numeric(18,6)");
    insert(5, "3.5");
    let stopped = run.ended();
    stopped.refused(5, &["offset 4", "\"price\"", "--changed-columns"]);
    assert_eq!(committed(&job), [(0, 4)]);
    job.try_run().refused(5, &["--changed-columns"]);
    let run = Run::of(&mut job.command(&["--until-end", "--changed-columns", "after"])).ended();
    assert_eq!(run.well().count("written"), 1);
    assert_eq!(prices(&job)[4], "3.500000");
    insert(6, "4.5");
    t.wait_in_kafka(6);
    assert_eq!(job.run().count("written"), 1);
    assert_eq!(prices(&job)[5], "4.500000");
}
