//! Every kind of change is a row, and the rows give the table back.

use super::books::{Topic, check_now, parquet};
use crate::harness::orders::{Archive, ORDERS, Orders};
use crate::harness::readers::{duckdb, files};

/// The current state, by the query that the documentation has for it.
pub(super) fn current_state(job: &Archive, columns: &str) -> Vec<Vec<String>> {
    let page = include_str!("../../../docs/archive.md");
    let query = page.split("-- the table as it is now\n").nth(1).and_then(|rest| rest.split(';').next()).unwrap();
    let query = query.replace("output/records", job.output.to_str().unwrap());
    duckdb(&format!("SELECT {columns} FROM ({query}) ORDER BY order_id"))
}

const COLUMNS: &str = "order_id, customer_name, restaurant, item, quantity, price, status, created_at";

#[track_caller]
fn same_state(t: &Orders, job: &Archive) {
    let table = t.sql(&format!("SELECT {COLUMNS} FROM public.orders ORDER BY order_id"));
    assert_eq!(current_state(job, COLUMNS), table);
}

fn ops(job: &Archive) -> Vec<String> {
    let sql = format!("SELECT op FROM {} ORDER BY partition, \"offset\"", files(&job.output));
    duckdb(&sql).into_iter().map(|mut row| row.swap_remove(0)).collect()
}

fn dates(job: &Archive, condition: &str) -> Vec<String> {
    let sql = format!("SELECT DISTINCT date FROM {} WHERE {condition} ORDER BY date", files(&job.output));
    duckdb(&sql).into_iter().map(|mut row| row.swap_remove(0)).collect()
}

#[test]
#[ignore = "needs the servers: scripts/test"]
fn every_operation_is_a_row() {
    let t = Orders::new("operations");
    let by_column = t.job("by_column");
    let by_commit = Archive { partition_by: None, ..t.job("by_commit") };
    let run = || {
        for job in [&by_column, &by_commit] {
            job.run();
            check_now(job);
            same_state(&t, job);
        }
    };
    t.insert(1..=9);
    t.sql("INSERT INTO public.orders (order_id, created_at) VALUES (10, NULL)");
    t.sql("UPDATE public.orders SET status = 'cancelled', price = NULL WHERE order_id = 2");
    t.sql("UPDATE public.orders SET price = 99999999.99, created_at = '2026-03-09 00:00:00Z' WHERE order_id = 3");
    t.sql("DELETE FROM public.orders WHERE order_id IN (4, 5)"); // each with a tombstone
    t.sql("UPDATE public.orders SET order_id = 100 WHERE order_id = 6"); // a delete, a tombstone, a create
    t.wait_in_kafka(10 + 2 + 4 + 3);
    run();
    let wanted = "cccccccccc uu dd dc".replace(' ', "");
    assert_eq!(ops(&by_column).concat(), wanted);

    // A delete knows no more than its key: it goes by its commit, and so does what has no time of its own.
    let today = t.sql("SELECT now()::date")[0][0].clone();
    assert_eq!(dates(&by_column, "op = 'd' OR order_id = 10"), std::slice::from_ref(&today));
    assert_eq!(
        dates(&by_column, "op <> 'd' AND order_id < 10"),
        ["2026-03-01", "2026-03-02", "2026-03-03", "2026-03-09"]
    );
    assert_eq!(dates(&by_commit, "true"), [today]);
    let deleted = format!(
        "SELECT COLUMNS(* EXCLUDE (order_id)) FROM {} WHERE op = 'd' AND order_id = 4",
        files(&by_column.output)
    );
    assert_eq!(duckdb(&deleted)[0][..7], [const { String::new() }; 7], "{:?}", duckdb(&deleted));

    t.sql("TRUNCATE public.orders");
    t.wait_in_kafka(19 + 1);
    run();
    t.insert(4..=8);
    t.wait_in_kafka(19 + 1 + 5);
    run();
    assert_eq!(ops(&by_column).concat(), wanted + "tccccc");
    assert!(parquet(&by_column.output).iter().all(|name| !name.contains("date=1970") && !name.contains("DEFAULT")));
}

#[test]
#[ignore = "needs the servers: scripts/test"]
fn rows_from_before_the_connector_are_read_rows() {
    let create = format!(
        "{ORDERS}; INSERT INTO public.orders (order_id, item, price, created_at)
         SELECT n, 'Item ' || n, n, '2026-03-01Z' FROM generate_series(1, 5) AS n"
    );
    let t = Orders::of("snapshot", &create, 1, &[]);
    t.wait_in_kafka(5);
    let job = t.job("a");
    job.run();
    check_now(&job);
    same_state(&t, &job);
    t.sql(
        "UPDATE public.orders SET price = price * 1.5 WHERE order_id < 3; DELETE FROM public.orders WHERE order_id = 5",
    );
    t.wait_in_kafka(9);
    job.run();
    check_now(&job);
    same_state(&t, &job);
    assert_eq!(ops(&job).concat(), "rrrrruud");
}

/// A value that Debezium does not bring is what it writes for it, and not NULL, which it may not be.
#[test]
#[ignore = "needs the servers: scripts/test"]
fn values_that_are_stored_apart() {
    let create = format!(
        "{ORDERS}; ALTER TABLE public.orders ALTER COLUMN item SET STORAGE EXTERNAL, ALTER COLUMN status SET STORAGE EXTERNAL"
    );
    let t = Orders::of("toast", &create, 1, &[]);
    let big = "repeat('0123456789', 500)";
    t.sql(&format!("INSERT INTO public.orders (order_id, item, quantity) VALUES (1, {big}, 1), (2, {big}, 1)"));
    t.sql("UPDATE public.orders SET quantity = 2 WHERE order_id = 1");
    t.wait_in_kafka(3);
    let job = t.job("a");
    job.run();
    let topic = Topic::of(&job.topic);
    let update = &topic.changes("orders")[&(0, 2)];
    assert_eq!(update["after"]["item"], "__debezium_unavailable_value", "{update}");
    let sql = format!("SELECT order_id, length(item), quantity FROM {} ORDER BY \"offset\"", files(&job.output));
    assert_eq!(duckdb(&sql), [["1", "5000", "1"], ["2", "5000", "1"], ["1", "28", "2"]]);

    // With the whole row in the log it is there.
    t.sql("ALTER TABLE public.orders REPLICA IDENTITY FULL");
    t.sql("UPDATE public.orders SET quantity = 2 WHERE order_id = 2; DELETE FROM public.orders WHERE order_id = 1");
    t.wait_in_kafka(6);
    job.run();
    let later = duckdb(&sql).split_off(3);
    assert_eq!(later, [["2", "5000", "2"], ["1", "", ""]], "a delete has its key, whatever the log has");
    same_state(&t, &job);
}

/// Both layers hold beside what nobody can understand.
#[test]
#[ignore = "needs the servers: scripts/test"]
fn bad_records_go_to_the_dead_letter_topic() {
    use crate::harness::{Record, kafka};
    let t = Orders::new("bad");
    t.insert(1..=3);
    t.wait_in_kafka(3);
    let real = kafka::records(t.topic(), 2).swap_remove(0);
    let half = real.value.as_ref().map(|value| value[..value.len() / 2].to_vec());
    let bad = [b"\xff{".to_vec(), half.unwrap()].map(|value| Record { value: Some(value), ..Record::default() });
    kafka::produce(t.topic(), &bad);
    t.insert(4..=6);
    t.wait_in_kafka(8);
    let job = Archive { limit: 4, ..t.job("a") };
    let done = job.run();
    assert_eq!((done.count("read"), done.count("written"), done.count("rejected")), (8, 6, 2), "{done}");
    check_now(&job);
    let letters = kafka::records(&job.dead_letter_topic, 0);
    let places: Vec<(&str, &str)> =
        letters.iter().map(|letter| (letter.header("tripline_partition"), letter.header("tripline_offset"))).collect();
    assert_eq!(places, [("0", "3"), ("0", "4")]);
    assert_eq!(
        letters.iter().map(|letter| &letter.value).collect::<Vec<_>>(),
        bad.iter().map(|b| &b.value).collect::<Vec<_>>()
    );

    let stop = Archive { source: "on_bad_record = \"stop\"".to_owned(), ..t.job("stop") };
    for _ in 0..2 {
        stop.try_run().refused(5, &[t.topic(), "partition 0", "offset 3"]);
        assert_eq!(kafka::end_of(&stop.dead_letter_topic), 0);
    }
}
