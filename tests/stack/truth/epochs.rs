//! Transaction ids past 2^32: Debezium writes 32 bits of them, a snapshot names all 64.

use std::collections::BTreeMap;

use tripline::snapshot::Snapshot;

use super::feed::{Feed, wait_for_alerts};
use super::server::{Server, Session};

/// How far before the wrap of 32 bits the server starts again.
const BEFORE: u64 = 40;
const WRAP: u64 = 1 << 32;

/// Puts a server into epoch 3, a little before its ids wrap.
fn push(server: &mut Server) {
    // What was written so far must not look as if it were of the future.
    for database in ["postgres", "template1"] {
        server.sql(&format!("ALTER DATABASE {database} SET vacuum_freeze_min_age = 0"));
    }
    server.sql("VACUUM (FREEZE)");
    server.stop();
    let next = WRAP - BEFORE;
    // The status page that the next id is on.
    let segment = server.data().join("pg_xact").join(format!("{:04X}", next >> 20));
    std::fs::write(&segment, vec![0; 256 * 1_024]).unwrap();
    let like = server.data().join("pg_xact").join("0000");
    assert!(std::process::Command::new("chown").arg("--reference").args([&like, &segment]).status().unwrap().success());
    let (next, oldest) = (next.to_string(), (next - 1_000).to_string());
    server.tool("pg_resetwal", &["-f", "--epoch=3", "-x", &next, "-u", &oldest]);
    server.start();
}

fn snapshot(session: &mut Session) -> (String, Snapshot) {
    let text = session.ask("SELECT pg_current_snapshot()").unwrap();
    let parsed = Snapshot::parse(&text).unwrap();
    (text, parsed)
}

#[test]
#[ignore = "needs the servers: scripts/test"]
fn ids_are_widened_right_in_another_epoch_and_across_the_wrap() {
    let mut server = Server::new("autovacuum = off");
    push(&mut server);
    let (mut writer, mut reader) = (server.session().unwrap(), server.session().unwrap());
    writer.send("CREATE TEMP TABLE kept AS SELECT 1");
    server.sql("SELECT pg_create_logical_replication_slot('decoded', 'test_decoding')");
    // 32 bits of each transaction, as its row bears them, and all 64.
    let mut done: BTreeMap<u32, u64> = BTreeMap::new();
    for id in 1..=2 * i64::try_from(BEFORE).unwrap() {
        writer.send("BEGIN");
        writer.send(&format!("INSERT INTO streaming.transactions (id, user_id, amount) VALUES ({id}, {id}, 1)"));
        let row = format!("SELECT xmin || ' ' || pg_current_xact_id() FROM streaming.transactions WHERE id = {id}");
        let ids = writer.ask(&row).unwrap();
        let (narrow, wide) = ids.split_once(' ').unwrap();
        let (narrow, wide): (u32, u64) = (narrow.parse().unwrap(), wide.parse().unwrap());
        assert_eq!(u64::from(narrow), wide % WRAP);
        let (text, before) = snapshot(&mut reader);
        assert!(!before.includes(narrow), "{wide} is open, and {text} includes {narrow}");
        writer.send("COMMIT");
        assert_eq!(writer.ask("SELECT 'committed'").as_deref(), Some("committed"));
        let (text, after) = snapshot(&mut reader);
        assert!(after.includes(narrow), "{wide} is committed, and {text} does not include {narrow}");
        assert!(after.is_newer_than(&before));
        done.insert(narrow, wide);
        for (narrow, wide) in &done {
            assert!(after.includes(*narrow), "{wide} was committed before, and {text} does not include {narrow}");
        }
        // A snapshot from before knows nothing of it still.
        assert!(!before.includes(narrow));
    }
    let (least, most) = (done.values().min().unwrap(), done.values().max().unwrap());
    assert!(*least < 4 * WRAP && *most > 4 * WRAP, "{least} to {most} does not cross the wrap");
    // Those ids are what logical decoding gives.
    let decoded = server.sql("SELECT DISTINCT xid::text FROM pg_logical_slot_get_changes('decoded', NULL, NULL)");
    let decoded: Vec<u32> = decoded.iter().map(|row| row[0].parse().unwrap()).collect();
    assert!(done.keys().all(|id| decoded.contains(id)), "{done:?} {decoded:?}");
    eprintln!("epochs: {} transactions from {least} to {most}, 4 · 2^32 being {}", done.len(), 4 * WRAP);
}

/// With transactions in progress around the wrap, each id is judged as the server itself judges it.
#[test]
#[ignore = "needs the servers: scripts/test"]
fn snapshots_with_gaps_across_the_wrap_agree_with_the_server() {
    let mut server = Server::new("autovacuum = off");
    push(&mut server);
    let mut open: Vec<(u64, Session)> = Vec::new();
    let mut ids: Vec<u64> = Vec::new();
    while ids.last().is_none_or(|last| *last < 4 * WRAP + 20) {
        let mut session = server.session().unwrap();
        session.send("BEGIN");
        let id: u64 = session.ask("SELECT pg_current_xact_id()").unwrap().parse().unwrap();
        ids.push(id);
        if id.is_multiple_of(5) {
            open.push((id, session));
        } else {
            session.send(if id.is_multiple_of(3) { "ROLLBACK" } else { "COMMIT" });
            assert_eq!(session.ask("SELECT 'done'").as_deref(), Some("done"));
        }
    }
    while !open.is_empty() {
        let list: Vec<String> = ids.iter().map(u64::to_string).collect();
        let text = server.value("SELECT pg_current_snapshot()");
        let snapshot = Snapshot::parse(&text).unwrap();
        let sql = format!(
            "SELECT pg_visible_in_snapshot(id::xid8, '{text}') FROM unnest('{{{}}}'::text[]) AS id",
            list.join(",")
        );
        for (id, row) in ids.iter().zip(server.sql(&sql)) {
            let narrow = u32::try_from(id % WRAP).unwrap();
            assert_eq!(snapshot.includes(narrow), row[0] == "t", "{id} in {text}");
        }
        let (_, mut session) = open.remove(open.len() / 2);
        session.send("COMMIT");
        assert_eq!(session.ask("SELECT 'done'").as_deref(), Some("done"));
    }
}

/// The whole way: a run past the wrap confirms at once, and holds a transaction that is open for undecided.
#[test]
#[ignore = "needs the servers: scripts/test"]
fn a_run_across_the_wrap() {
    let mut feed = Feed::new("epoch", "autovacuum = off");
    push(&mut feed.server);
    let job = feed.job("");
    for user in 1..=30 {
        feed.insert(user..=user, "3500");
    }
    feed.tell_users(1..=30);
    let mut run = job.start();
    wait_for_alerts(&job, 30);
    for user in 31..=60 {
        feed.insert(user..=user, "3500");
        feed.tell_users(user..=user);
    }
    wait_for_alerts(&job, 60);
    run.wait_committed(60);
    let ended = run.terminate();
    ended.fired(1..=60).resolved([]);
    let ids: Vec<u64> = (1..=60).map(|user| ended.alert(user)["trigger"]["tx_id"].as_u64().unwrap()).collect();
    assert!(ids.iter().any(|id| *id > WRAP - BEFORE) && ids.iter().any(|id| *id < 1_000), "{ids:?}");
    for word in ["undecided", "refuted"] {
        assert!(!ended.log.iter().any(|line| line.contains(word)), "{word}: {ended}");
    }
}
