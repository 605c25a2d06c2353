//! Memory that is damaged behind the program's back is made whole by the audit, within a cycle and its share.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::harness::{Database, Job, Table};

/// A cycle of the audit, and the share of the database that it may take.
const PERIOD: Duration = Duration::from_secs(10);
const SHARE: f64 = 0.2;

/// The metrics without labels.
fn metrics(port: u16) -> BTreeMap<String, f64> {
    let text = ureq::get(format!("http://127.0.0.1:{port}/metrics")).call().ok();
    let text = text.and_then(|mut answer| answer.body_mut().read_to_string().ok()).unwrap_or_default();
    let line = |line: &str| {
        let (name, value) = line.strip_prefix("tripline_")?.split_once(' ')?;
        Some((name.to_owned(), value.parse().ok()?))
    };
    text.lines().filter_map(line).collect()
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

#[expect(clippy::float_arithmetic, reason = "figures of a test")]
fn heals(test: &str, keys: i64, damaged: u32) {
    let port = free_port();
    let database = Database::new(test);
    database.sql("CREATE INDEX ON streaming.transactions (user_id)");
    database.sql(&format!(
        "INSERT INTO streaming.transactions (id, user_id, amount)
         SELECT n, n, CASE WHEN n % 100 = 0 THEN 4000 ELSE n % 2900 END FROM generate_series(1, {keys}) AS n"
    ));
    let t = Table::of(database, &[]);
    t.wait_in_kafka(keys);
    let job = t.job("v1");
    let first = job.run();
    assert_eq!(first.count("fired"), u64::try_from(keys / 100).unwrap(), "{first}");

    let audit = format!(
        "[audit]\nperiod_ms = {}\nmax_database_share = {SHARE}\n[web]\nlisten = \"127.0.0.1:{port}\"\n",
        PERIOD.as_millis()
    );
    let environment = vec![("TRIPLINE_DAMAGE", damaged.to_string())];
    let mut run = Job { source: audit, environment, ..job.clone() }.start();
    run.wait_in_log("memory is damaged");
    let began = Instant::now();
    // The stream goes on, by which it is known to be past what the audit saw.
    let mut id = keys;
    let mut tick = || {
        id += 1;
        t.sql(&format!("INSERT INTO streaming.transactions (id, user_id, amount) VALUES ({id}, 0, 0)"));
        std::thread::sleep(Duration::from_millis(200));
    };
    // A row in another group is two keys that differ.
    let wanted = f64::from(damaged);
    while metrics(port).get("drifts_total").is_none_or(|drifts| *drifts < wanted) {
        assert!(began.elapsed() < PERIOD * 24, "{:?}\n", metrics(port));
        tick();
    }
    let took = began.elapsed();
    // A whole cycle later there is nothing else.
    let cycle = Instant::now();
    let mut last = 0.0;
    while cycle.elapsed() < PERIOD * 2 {
        if cycle.elapsed() < PERIOD {
            last = metrics(port)["drifts_total"];
        }
        tick();
    }
    let found = metrics(port);
    assert!((found["drifts_total"] - last).abs() < 0.5, "drift that was not found at once: {last}, then {found:?}");
    assert!(found["drifts_unhealed"].abs() < 0.5, "{found:?}");
    let share = found["audit_statement_seconds_total"] / found["uptime_seconds"].max(1.0);
    assert!(share <= SHARE * 1.1, "the audit took {share} of the time, and may take {SHARE}");
    eprintln!("{damaged} of {keys} keys: healed in {took:?}, drifts {last}, share {share:.4}");
    let ended = run.terminate();
    assert_eq!(ended.code, Some(0), "{ended}");
    // What was wrong in memory alone is nothing to anybody else.
    ended.quiet();
    job.run().quiet();
}

#[test]
#[ignore = "needs the servers: scripts/test"]
fn a_damaged_memory_is_healed() {
    heals("world_damage", 5_000, 100);
}

/// At the size that the figures are of.
#[test]
#[ignore = "needs the servers: scripts/test --all"]
fn slow_a_damaged_memory_of_many_keys_is_healed() {
    heals("world_damage_slow", 100_000, 1_000);
}
