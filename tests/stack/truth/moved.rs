//! The database is moved to another server, whose positions in the WAL are lower. Its changes continue in the same
//! topic.

use serde_json::json;

use crate::harness::Record;

use super::feed::{Feed, wait_for_alerts};
use super::server::Server;

/// The table as a snapshot of the new server has it.
fn snapshot(feed: &Feed) -> Vec<Record> {
    let mut records = feed.records("true");
    for record in &mut records {
        let mut value = record.json();
        (value["op"], value["source"]["snapshot"]) = (json!("r"), json!("true"));
        record.value = Some(value.to_string().into_bytes());
    }
    records
}

fn lsn(records: &[Record]) -> u64 {
    records[0].json()["source"]["lsn"].as_u64().unwrap()
}

/// User 1 is above the threshold on the old server, and below it on the new one. User 2 is the other way round. User 3
/// is on the old server only.
#[test]
#[ignore = "needs the servers: scripts/test"]
fn a_database_moves_to_another_server() {
    let mut old = Feed::new("moved", "");
    for _ in 0..4 {
        old.server.sql("CREATE TABLE IF NOT EXISTS public.filler (n int); INSERT INTO public.filler VALUES (1)");
        old.server.value("SELECT pg_switch_wal()");
    }
    old.insert(1..=1, "3500");
    old.insert(2..=2, "2000");
    old.insert(3..=3, "2900");
    let before = old.records("true");
    old.tell(&before);
    let job = old.job("");
    let mut run = job.start();
    wait_for_alerts(&job, 1);
    run.wait_committed(3);
    run.terminate().fired([1]).resolved([]);
    old.server.stop();

    let new = Feed { server: Server::new(""), topic: old.topic.clone() };
    new.insert(1..=1, "3500");
    new.insert(2..=2, "2000");
    let moved = snapshot(&new);
    assert!(lsn(&moved) < lsn(&before), "the new server has to be behind the old one");
    new.tell(&moved);
    new.server.sql("UPDATE streaming.transactions SET amount = amount - 1500 WHERE id = 1");
    new.tell(&new.updates("id = 1"));
    new.server.sql("UPDATE streaming.transactions SET amount = amount + 1500 WHERE id = 2");
    new.tell(&new.updates("id = 2"));
    new.server.sql("INSERT INTO streaming.transactions (id, user_id, amount) VALUES (4, 3, 200)");
    new.tell(&new.records("id = 4"));

    let mut there = new.job("");
    (there.group, there.checkpoints) = (job.group.clone(), job.checkpoints.clone());
    let run = there.run();
    run.fired([2]).resolved([1]);
    assert!(run.everything().contains("the server (system identifier and timeline) was"), "{run}");
    // A new group that reads the whole topic has the new server's answer, too.
    there.group = format!("{}-again", job.group);
    there.run().fired([2]).resolved([]);
}
