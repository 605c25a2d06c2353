//! Changes of a real registry and of the schemas in it while jobs are at work.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::apicurio::{Apicurio, Ids};
use super::{ADDED, MODE, unwrapped};
use crate::harness::orders::Archive;
use crate::harness::readers::{duckdb, files};
use crate::harness::{Database, Job, Table, kafka};
use crate::truth::feed::wait_for_alerts;

fn table(database: Database, registry: &Apicurio, ids: Ids, is_row: bool) -> Table {
    let settings = registry.converter(ids);
    let settings: Vec<_> = settings.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let row = if is_row { unwrapped(&[(MODE, "rewrite"), ADDED]) } else { Vec::new() };
    Table::of(database, &[settings, row, vec![("decimal.handling.mode", "precise")]].concat())
}

/// A group's job with an alert topic of its own.
fn job(t: &Table, registry: &Apicurio, ids: Ids, name: &str) -> Job {
    let job = t.job(name);
    let alert_topic = format!("{}.alerts", job.group);
    Job { source: registry.section(ids), alert_topic, ..job }
}

/// A registry that is unreachable keeps nobody from reading by schemas that are known. Others wait for it.
#[test]
#[ignore = "needs the servers: scripts/test --all"]
fn slow_formats_registry_unreachable() {
    let mut registry = Apicurio::start();
    let t = table(Database::new("registry_gone"), &registry, Ids::FourBytes, false);
    t.insert(&[(1, 101, "3500"), (2, 102, "2000")]);
    let is_up = Arc::new(AtomicBool::new(true));
    let url = format!("{}/apis/registry/v2", registry.behind(&is_up));
    let source = format!("[source.schema_registry]\nurl = \"{url}\"\n");
    let first = Job { source, ..job(&t, &registry, Ids::FourBytes, "first") };
    let mut run = first.start();
    wait_for_alerts(&first, 1);

    registry.stop();
    t.sql("UPDATE streaming.transactions SET amount = 4000 WHERE id = 2");
    wait_for_alerts(&first, 2);
    let second = job(&t, &registry, Ids::FourBytes, "second");
    let mut waits = second.start();
    waits.wait_in_log("fetching a schema");
    assert_eq!(kafka::end_of(&second.alert_topic), 0);
    registry.start_again();
    wait_for_alerts(&second, 2);

    // The connector brings a new schema, which the second one fetches. The first one waits for it as a member of its group.
    is_up.store(false, Ordering::SeqCst);
    t.sql("ALTER TABLE streaming.transactions ADD COLUMN extra int");
    t.insert(&[(3, 103, "3200")]);
    wait_for_alerts(&second, 3);
    run.wait_in_log("fetching a schema");
    wait_for_alerts(&first, 2);
    is_up.store(true, Ordering::SeqCst);
    for (job, run) in [(&first, run), (&second, waits)] {
        wait_for_alerts(job, 3);
        let ended = run.terminate();
        ended.fired([101, 102, 103]).resolved([]);
        assert_eq!(kafka::end_of(&job.dead_letter_topic), 0, "{ended}");
    }
}

/// Columns are added, dropped and made wider while both jobs are at work, and nothing is missing. The monitor holds amounts by
/// the column's scale, so it rejects the first one that has more digits, and reads its windows from the table. The archive
/// reads the record again by the new columns.
#[test]
#[ignore = "needs the servers: scripts/test --all"]
fn slow_formats_schemas_that_change() {
    let registry = Apicurio::start();
    registry.part_ids();
    for (name, ids, is_row) in
        [("front", Ids::EightBytes, false), ("headers", Ids::Headers, true), ("confluent", Ids::Confluent, false)]
    {
        let database = Database::new(&format!("schemas_{name}"));
        database
            .sql("ALTER TABLE streaming.transactions ADD COLUMN quantity smallint, ADD COLUMN gone text DEFAULT 'x'");
        let t = table(database, &registry, ids, is_row);
        t.insert(&[(1, 101, "3500.25"), (2, 102, "2000.5"), (3, 103, "10")]);
        let job = job(&t, &registry, ids, name);
        let run = job.start();
        wait_for_alerts(&job, 1);
        let group = format!("{}-archive", job.group);
        let archive = Archive {
            source: registry.section(ids),
            partition_by: Some("timestamp"),
            ..Archive::new(&job.checkpoints.join(&group), &t.database.name, &group, t.topic())
        };
        let mut archiving = archive.start();
        archiving.wait("three are archived", |_| kafka::committed(&group, t.topic()) == Some(3));

        t.sql(
            "ALTER TABLE streaming.transactions ADD COLUMN extra numeric(10,3) DEFAULT 1.5;
             INSERT INTO streaming.transactions (id, user_id, amount, extra, quantity) VALUES (4, 103, 2995, 7.125, 5)",
        );
        wait_for_alerts(&job, 2);
        t.sql(
            "ALTER TABLE streaming.transactions ALTER amount TYPE numeric(16,4), ALTER quantity TYPE bigint, DROP COLUMN gone;
             INSERT INTO streaming.transactions (id, user_id, amount, quantity) VALUES (5, 102, 999.5001, 5000000000)",
        );
        wait_for_alerts(&job, 3);
        t.sql("UPDATE streaming.transactions SET amount = 0.0001 WHERE id = 1");
        wait_for_alerts(&job, 4);
        let ended = run.terminate();
        ended.fired([101, 102, 103]).resolved([101]);
        let letters = kafka::records(&job.dead_letter_topic, 0);
        assert_eq!(letters.len(), 1, "{name}: {ended}");
        assert!(letters[0].header("tripline_reason").contains("more than the 2 fraction digits"), "{name}: {ended}");

        archiving.wait("all is archived", |_| kafka::committed(&group, t.topic()) == Some(6));
        let done = archiving.terminate();
        assert_eq!(done.code(), Some(0), "{name}: {done}");
        assert_eq!(kafka::end_of(&archive.dead_letter_topic), 0, "{name}: {done}");
        let newest = format!(
            "SELECT id, user_id, amount::DECIMAL(16,4), quantity, extra FROM
                 (SELECT *, row_number() OVER (PARTITION BY id ORDER BY \"offset\" DESC) AS nth FROM {})
             WHERE nth = 1 ORDER BY id",
            files(&archive.output)
        );
        // Rows from before the column was added have it in the table, and not in their records.
        let table = "SELECT id, user_id, amount, quantity, CASE WHEN id NOT IN (2, 3) THEN extra END
                     FROM streaming.transactions ORDER BY id";
        assert_eq!(duckdb(&newest), t.sql(table), "{name}");
    }
}
