//! Changes that the stream does not bring: they are reported, and the result is right all the same.

use crate::harness::{Database, Job, Role, Table};

use super::watching;

/// Rows from before the connector: nothing in the topic tells of them.
#[test]
#[ignore = "needs the servers: scripts/test"]
fn a_topic_that_begins_without_the_table() {
    let database = Database::new("world_no_data");
    for id in 1..=5 {
        database.insert(&[(id, 101, "500")]);
    }
    let t = Table::of(database, &[("snapshot.mode", "no_data")]);
    t.insert(&[(6, 101, "600"), (7, 102, "1")]);
    t.wait_in_kafka(2);
    let ended = t.run("v1");
    ended.fired([101]);
    assert_eq!(ended.alert(101)["database"]["total"], "3100.00", "{ended}");
}

/// Row-level security hides rows from the role that confirms.
#[test]
#[ignore = "needs the servers: scripts/test"]
fn row_level_security_is_refused() {
    let role = Role::new("world_rls");
    let t = Table::new("world_rls");
    t.sql(&format!("GRANT USAGE ON SCHEMA streaming TO {0}; GRANT SELECT ON streaming.transactions TO {0}", role.0));
    t.insert(&[(1, 101, "4000")]);
    t.wait_in_kafka(1);
    let job = watching(Job { url: role.url(&t.database.name), ..t.job("v1") });
    let mut run = job.start();
    run.wait_for_line("User 101 ($4,000.00)");
    t.sql("ALTER TABLE streaming.transactions ENABLE ROW LEVEL SECURITY");
    let ended = run.ended();
    assert_eq!(ended.code, Some(5), "{ended}");
    let again = job.try_run();
    assert_eq!(again.code, Some(2), "{again}");
    assert!(again.log.iter().any(|line| line.contains("row-level security")), "{again}");
    again.quiet();
    t.sql(&format!("CREATE POLICY everything ON streaming.transactions FOR SELECT TO {} USING (true)", role.0));
    let bypass = job.try_run();
    assert_eq!(bypass.code, Some(2), "a policy may hide rows tomorrow: {bypass}");
    t.sql(&format!("ALTER ROLE {} BYPASSRLS", role.0));
    job.run().quiet();
}

/// Columns that never come: generated, or left out of the publication.
#[test]
#[ignore = "needs the servers: scripts/test"]
fn columns_that_are_not_streamed_are_refused() {
    let database = Database::new("world_columns");
    database.sql(
        "ALTER TABLE streaming.transactions ADD COLUMN twice numeric(12,2) GENERATED ALWAYS AS (amount * 2) STORED",
    );
    let t = Table::of(database, &[]);
    t.insert(&[(1, 101, "4000")]);
    t.wait_in_kafka(1);
    let job = t.job("v1");
    let generated = Job { sql: job.sql.replace("amount", "twice"), ..job.clone() };
    let ended = generated.try_run();
    assert_eq!(ended.code, Some(2), "{ended}");
    assert!(ended.log.iter().any(|line| line.contains("twice is generated")), "{ended}");
    job.run().fired([101]);
    t.sql(&format!(
        "ALTER PUBLICATION {} SET TABLE streaming.transactions (id, user_id, \"timestamp\")",
        t.database.name
    ));
    let ended = job.try_run();
    assert_eq!(ended.code, Some(2), "{ended}");
    assert!(ended.log.iter().any(|line| line.contains("leaves out column amount")), "{ended}");
}

/// A row filter keeps changes back: said, and the audit heals what it hides.
#[test]
#[ignore = "needs the servers: scripts/test"]
fn a_row_filter_is_left_to_the_audit() {
    let t = Table::new("world_filter");
    t.sql(&format!("ALTER PUBLICATION {} SET TABLE streaming.transactions WHERE (id < 100000)", t.database.name));
    t.insert(&[(1, 101, "2000"), (2, 102, "10")]);
    t.wait_in_kafka(2);
    let mut run = watching(t.job("v1")).start();
    run.wait_in_log("has a row filter");
    run.wait_committed(2);
    t.insert(&[(100_001, 101, "1500")]);
    // So that the stream is known to be past it.
    let mut id = 3;
    run.wait_while("User 101 ($3,500.00)", || {
        t.insert(&[(id, 103, "1")]);
        id += 1;
    });
    let ended = run.terminate();
    assert_eq!(ended.code, Some(0), "{ended}");
    ended.fired([101]);
}

/// Children by INHERITS have topics of their own: the table's rows count all the same.
#[test]
#[ignore = "needs the servers: scripts/test"]
fn children_by_inheritance_are_left_to_the_audit() {
    let database = Database::new("world_inherits");
    database.sql("CREATE TABLE streaming.child () INHERITS (streaming.transactions)");
    let t = Table::of(database, &[]);
    t.insert(&[(1, 101, "2000")]);
    t.sql("INSERT INTO streaming.child (id, user_id, amount) VALUES (2, 101, 1500)");
    t.wait_in_kafka(1);
    let ended = t.run("v1");
    ended.fired([101]).total(101, 2, "3500.00");
    assert!(ended.log.iter().any(|line| line.contains("children by INHERITS")), "{ended}");
}
