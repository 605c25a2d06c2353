//! Updates, deletes and truncates: rows are retracted by what memory knows of them, since `before` cannot be trusted.

use crate::harness::{Database, Table};

#[test]
#[ignore = "needs the servers: scripts/test"]
fn breach_through_an_update() {
    let t = Table::new("update_breach");
    t.insert(&[(1, 101, "1000"), (2, 101, "1500.50"), (3, 102, "2999.99")]);
    t.wait_in_kafka(3);
    t.run("v1").read(3).quiet();
    t.sql("UPDATE streaming.transactions SET amount = 1500 WHERE id = 1");
    t.wait_in_kafka(4);
    let run = t.run("v1");
    run.read(1).fired([101]).resolved([]).total(101, 2, "3000.50");
    assert_eq!(run.out, ["User 101 ($3,000.50)"]);
    assert_eq!(run.alert(101)["trigger"]["op"], "u");
    assert_eq!(run.alert(101)["trigger"]["offset"], 3);
    t.run("v1").read(0).quiet();
    t.run("v2").read(4).fired([101]).total(101, 2, "3000.50");
}

#[test]
#[ignore = "needs the servers: scripts/test"]
fn the_threshold_itself_is_no_breach() {
    let t = Table::new("threshold");
    t.insert(&[(1, 101, "2999.99"), (2, 101, "-0.01"), (3, 102, "-3000.01")]);
    t.wait_in_kafka(3);
    t.run("v1").read(3).fired([102]).total(102, 1, "3000.01");
}

#[test]
#[ignore = "needs the servers: scripts/test"]
fn delete_before_the_run() {
    let t = Table::new("delete_before");
    t.insert(&[(1, 101, "2000"), (2, 101, "2000")]);
    t.sql("DELETE FROM streaming.transactions WHERE id = 2");
    t.wait_in_kafka(4); // the delete is followed by a tombstone
    t.run("v1").read(4).quiet();
    // What was deleted no longer counts.
    t.insert(&[(3, 101, "1000")]);
    t.wait_in_kafka(5);
    t.run("v1").read(1).quiet();
    t.insert(&[(4, 101, "0.01")]);
    t.wait_in_kafka(6);
    t.run("v1").read(1).fired([101]).total(101, 3, "3000.01");
}

#[test]
#[ignore = "needs the servers: scripts/test"]
fn delete_while_the_candidate_waits() {
    let t = Table::new("delete_during");
    t.insert(&[(1, 101, "2000"), (2, 101, "2000"), (3, 102, "4000")]);
    t.wait_in_kafka(3);
    // Postgres has deleted it, and the stream does not know yet.
    t.connector.pause();
    t.sql("DELETE FROM streaming.transactions WHERE id = 2");
    let mut run = t.job("v1").start();
    run.wait_for_line("User 102 ($4,000.00)");
    run.wait_in_log("refuted");
    run.wait_committed(3);
    t.connector.resume();
    t.wait_in_kafka(5);
    run.wait_committed(5);
    let ended = run.terminate();
    assert_eq!(ended.code, Some(0), "{ended}");
    ended.fired([102]).resolved([]);
    t.run("v1").read(0).quiet();
}

#[test]
#[ignore = "needs the servers: scripts/test"]
fn a_candidate_that_postgres_refutes_does_not_keep_a_run_from_its_end() {
    let t = Table::new("refuted");
    t.insert(&[(1, 101, "4000")]);
    t.wait_in_kafka(1);
    t.connector.pause();
    t.sql("UPDATE streaming.transactions SET amount = 1");
    let run = t.run("v1");
    run.read(1).quiet();
    assert!(run.count("refuted") >= 1, "{run}");
    t.connector.resume();
    t.wait_in_kafka(2);
    t.run("v1").read(1).quiet();
}

#[test]
#[ignore = "needs the servers: scripts/test"]
fn resolve_by_an_update() {
    let t = Table::new("resolve");
    t.insert(&[(1, 101, "3500"), (2, 102, "4000")]);
    t.wait_in_kafka(2);
    let first = t.run("v1");
    first.fired([101, 102]);
    t.sql("UPDATE streaming.transactions SET amount = 2500 WHERE id = 1");
    t.wait_in_kafka(3);
    let second = t.run("v1");
    second.read(1).fired([]).resolved([101]).total(101, 1, "2500.00");
    assert_eq!(second.out, ["Resolved: User 101 ($2,500.00)"]);
    assert_eq!(second.alerts[0].header("ce_type"), "tripline.alert.resolved.v1");
    t.run("v1").read(0).quiet();
    // The next breach is an episode of its own.
    t.sql("UPDATE streaming.transactions SET amount = 3000.01 WHERE id = 1");
    t.wait_in_kafka(4);
    let third = t.run("v1");
    third.read(1).fired([101]).resolved([]).total(101, 1, "3000.01");
    assert_ne!(third.alert(101)["id"], first.alert(101)["id"]);
}

#[test]
#[ignore = "needs the servers: scripts/test"]
fn resolve_by_a_delete() {
    let t = Table::new("resolve_delete");
    t.insert(&[(1, 101, "3500"), (2, 101, "1")]);
    t.wait_in_kafka(2);
    t.run("v1").fired([101]).total(101, 2, "3501.00");
    t.sql("DELETE FROM streaming.transactions WHERE id = 1");
    t.wait_in_kafka(4);
    t.run("v1").read(2).fired([]).resolved([101]).total(101, 1, "1.00");
}

#[test]
#[ignore = "needs the servers: scripts/test"]
fn a_row_moves_to_another_user() {
    let t = Table::new("key_change");
    t.insert(&[(1, 101, "2000"), (2, 101, "1500"), (3, 102, "1500")]);
    t.wait_in_kafka(3);
    t.run("v1").fired([101]).total(101, 2, "3500.00");
    t.sql("UPDATE streaming.transactions SET user_id = 102 WHERE id = 1");
    t.wait_in_kafka(4);
    let run = t.run("v1");
    run.read(1).resolved([101]).fired([102]);
    run.total(101, 1, "1500.00").total(102, 2, "3500.00");
}

#[test]
#[ignore = "needs the servers: scripts/test"]
fn a_primary_key_changes() {
    let t = Table::new("pk_update");
    t.insert(&[(1, 101, "2000"), (2, 101, "900"), (3, 102, "3100")]);
    t.wait_in_kafka(3);
    t.run("v1").fired([102]);
    t.sql("UPDATE streaming.transactions SET id = id + 100 WHERE id IN (1, 3)");
    t.wait_in_kafka(9); // each is a delete, a tombstone and a create
    t.run("v1").read(6).quiet();
    t.insert(&[(4, 101, "100.01")]);
    t.wait_in_kafka(10);
    t.run("v1").read(1).fired([101]).total(101, 3, "3000.01");
    t.run("v2").read(10).fired([101, 102]);
}

#[test]
#[ignore = "needs the servers: scripts/test"]
fn a_truncate_resolves() {
    let t = Table::new("truncate");
    t.insert(&[(1, 101, "3500"), (2, 102, "100")]);
    t.wait_in_kafka(2);
    t.run("v1").fired([101]);
    t.sql("TRUNCATE streaming.transactions");
    t.wait_in_kafka(3);
    let run = t.run("v1");
    run.read(1).fired([]).resolved([101]);
    assert_eq!(run.alert(101)["database"]["transactions"], 0);
    // Rows from before are gone, later ones count.
    t.insert(&[(3, 101, "2999"), (4, 102, "2950")]);
    t.wait_in_kafka(5);
    t.run("v1").read(2).quiet();
    t.insert(&[(5, 102, "50.01")]);
    t.wait_in_kafka(6);
    t.run("v1").read(1).fired([102]).total(102, 2, "3000.01");
    t.run("v2").read(6).fired([102]).resolved([]);
}

#[test]
#[ignore = "needs the servers: scripts/test"]
fn replica_identity_full() {
    let database = Database::new("full");
    database.sql("ALTER TABLE streaming.transactions REPLICA IDENTITY FULL");
    let t = Table::of(database, &[]);
    t.insert(&[(1, 101, "2000"), (2, 101, "1500"), (3, 102, "1500"), (4, 103, "5000"), (5, 104, "2500")]);
    t.wait_in_kafka(5);
    t.run("v1").fired([101, 103]);
    t.sql("UPDATE streaming.transactions SET user_id = 102 WHERE id = 1"); // 101 down, 102 up
    t.sql("DELETE FROM streaming.transactions WHERE id = 4"); // 103 down
    t.sql("UPDATE streaming.transactions SET amount = -3000.01 WHERE id = 5"); // 104 up
    t.wait_in_kafka(9);
    let run = t.run("v1");
    run.read(4).fired([102, 104]).resolved([101, 103]);
    run.total(101, 1, "1500.00").total(102, 2, "3500.00").total(104, 1, "3000.01");
    t.sql("TRUNCATE streaming.transactions");
    t.wait_in_kafka(10);
    t.run("v1").read(1).fired([]).resolved([102, 104]);
}
