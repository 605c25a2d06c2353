//! Random changes of the world under load. After each, the open episodes are SQL's answer within one cycle of the
//! audit. The grammar says for each kind whether the run may stop for it. The same command then has to continue.
//!
//! `WORLD_SEED` replays a seed. `WORLD_STEPS` sets how many changes it makes. `WORLD_LOG` sets how much of the run's
//! log a failure shows.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::{Duration, Instant};

use crate::harness::job::Running;
use crate::harness::{Database, Dice, Job, Table, kafka, try_psql};
use crate::recovery::cluster::Cluster;

/// A cycle of the audit.
const PERIOD: Duration = Duration::from_secs(10);

/// A change of the world, and the fix for a run that stops for it. `None`: it may not stop.
type Change = (&'static str, &'static str, Option<&'static str>);

const CHANGES: [Change; 17] = [
    ("another scale", "ALTER TABLE streaming.transactions ALTER amount TYPE numeric(16,4)", None),
    ("the scale of before", "ALTER TABLE streaming.transactions ALTER amount TYPE numeric(12,2)", None),
    ("values rewritten", "ALTER TABLE streaming.transactions ALTER amount TYPE numeric(12,2) USING amount * 1.5", None),
    ("narrower keys", "ALTER TABLE streaming.transactions ALTER user_id TYPE integer", None),
    ("wider keys", "ALTER TABLE streaming.transactions ALTER user_id TYPE bigint", None),
    ("a length", "ALTER TABLE streaming.transactions ALTER merchant TYPE varchar(90)", None),
    ("a column more", "ALTER TABLE streaming.transactions ADD COLUMN IF NOT EXISTS note text DEFAULT 'x'", None),
    ("a column less", "ALTER TABLE streaming.transactions DROP COLUMN IF EXISTS note", None),
    ("an index", "CREATE INDEX IF NOT EXISTS by_user ON streaming.transactions (user_id)", None),
    ("whole images", "ALTER TABLE streaming.transactions REPLICA IDENTITY FULL", None),
    ("images of keys", "ALTER TABLE streaming.transactions REPLICA IDENTITY DEFAULT", None),
    ("a truncate", "TRUNCATE streaming.transactions", None),
    (
        "changes that are not published",
        "ALTER PUBLICATION {name} SET (publish = 'insert, truncate');
         UPDATE streaming.transactions SET amount = amount / 3 WHERE user_id % 3 = 0;
         DELETE FROM streaming.transactions WHERE user_id % 3 = 1 AND id % 2 = 0;
         ALTER PUBLICATION {name} SET (publish = 'insert, update, delete, truncate')",
        None,
    ),
    (
        "a row filter for a while",
        "ALTER PUBLICATION {name} SET TABLE streaming.transactions WHERE (user_id IN (0, 1));
         INSERT INTO streaming.transactions (user_id, amount) VALUES (2, 2500), (3, 2500), (4, 3500);
         ALTER PUBLICATION {name} SET TABLE streaming.transactions",
        None,
    ),
    ("a table rewritten", "VACUUM FULL streaming.transactions", None),
    ("partitions of the topic", "", None),
    (
        "a column renamed",
        "ALTER TABLE streaming.transactions RENAME amount TO price",
        Some("ALTER TABLE streaming.transactions RENAME price TO amount"),
    ),
];

struct World {
    table: Table,
    job: Job,
    alerts_from: i64,
}

impl World {
    fn sql_says(&self) -> BTreeSet<i64> {
        let rule = self.job.sql.replace("COUNT(*) AS transactions, SUM(ABS(amount)) AS total", "1");
        let rows = try_psql(&self.table.database.name, &rule).unwrap_or_default();
        rows.iter().map(|row| row[0].parse().unwrap()).collect()
    }

    fn open(&self) -> BTreeSet<i64> {
        let mut open = BTreeSet::new();
        for record in kafka::records(&self.job.alert_topic, self.alerts_from) {
            let alert = record.json();
            let user = alert["key"]["user_id"].as_i64().unwrap();
            if alert["status"] == "firing" {
                assert!(open.insert(user), "{user} fires twice: {alert}");
            } else {
                assert!(open.remove(&user), "{user} is resolved and was not open: {alert}");
            }
        }
        open
    }

    /// Until both are the same, while only what changes no answer is written.
    fn agrees(&self, run: &mut Running, what: &str) {
        let deadline = Instant::now() + PERIOD * 3;
        loop {
            let (sql, open) = (self.sql_says(), self.open());
            if sql == open && !run.has_ended() {
                return;
            }
            assert!(
                Instant::now() < deadline && !run.has_ended(),
                "{what}: SQL says {sql:?}, open are {open:?}\n{}",
                run.log_now()
            );
            let tick = "INSERT INTO streaming.transactions (user_id, amount) VALUES (0, 0)";
            let _ = try_psql(&self.table.database.name, tick);
            std::thread::sleep(Duration::from_millis(200));
        }
    }
}

fn seed(default: u64) -> u64 {
    std::env::var("WORLD_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(default)
}

fn random(test: &str, seed: u64, steps: usize) {
    let steps = std::env::var("WORLD_STEPS").ok().and_then(|steps| steps.parse().ok()).unwrap_or(steps);
    let mut dice = Dice(seed);
    eprintln!("{test}: WORLD_SEED={seed} WORLD_STEPS={steps}");
    let database = Database::new(test);
    database.sql("ALTER TABLE streaming.transactions ALTER merchant TYPE varchar(40)");
    // The connector makes the topic with the first record.
    database.insert(&[(1_000_000, 0, "0")]);
    let table = Table::of(database, &[]);
    let name = table.database.name.clone();
    let audit = format!("[audit]\nperiod_ms = {}\nmax_database_share = 0.5\n", PERIOD.as_millis());
    let level = std::env::var("WORLD_LOG").unwrap_or_else(|_| "info".to_owned());
    let job = Job { source: audit, environment: vec![("TRIPLINE__LOG__LEVEL", level)], ..table.job("v1") };
    let world = World { alerts_from: kafka::end_of(&job.alert_topic), job, table };
    let cluster = Cluster::shared();
    let mut partitions = 1;
    let mut run = world.job.start();
    run.wait_in_log("this start");
    let seeds = Arc::new(AtomicI64::new(1));
    for step in 0..steps {
        let (what, sql, undo) = CHANGES[usize::try_from(dice.below(CHANGES.len() as u64)).unwrap()];
        // Load: rows of many users, some changed and some taken away again, while the world changes.
        let stop = Arc::new(AtomicBool::new(false));
        let load = std::thread::spawn({
            let (stop, seeds, name) = (Arc::clone(&stop), Arc::clone(&seeds), name.clone());
            move || {
                while !stop.load(Ordering::Relaxed) {
                    let n = seeds.fetch_add(1, Ordering::Relaxed);
                    let write = format!(
                        "INSERT INTO streaming.transactions (user_id, amount)
                             SELECT 1 + ({n} * 7 + m * 13) % 40, ({n} * 31 + m * 17) % 400 FROM generate_series(1, 20) AS m;
                         UPDATE streaming.transactions SET amount = amount + 1 WHERE id % 37 = {n} % 37;
                         DELETE FROM streaming.transactions WHERE id % 41 = {n} % 41"
                    );
                    // A column may have another name for a while.
                    let _ = try_psql(&name, &write);
                    std::thread::sleep(Duration::from_millis(50));
                }
            }
        });
        std::thread::sleep(Duration::from_millis(100 + dice.below(600)));
        if what == "partitions of the topic" {
            partitions += 1;
            cluster.add_partitions(world.table.topic(), partitions);
        } else {
            for statement in sql.replace("{name}", &name).split(";\n") {
                // Postgres ends one of two transactions that wait for each other; the load's goes on without it too.
                let mut done = try_psql(&name, statement);
                while done.as_ref().is_err_and(|error| error.contains("deadlock detected")) {
                    done = try_psql(&name, statement);
                }
                done.unwrap_or_else(|error| panic!("{what}: {error}"));
            }
        }
        std::thread::sleep(Duration::from_millis(100 + dice.below(600)));
        if let Some(undo) = undo {
            run.wait_for_end(PERIOD * 2);
            let ended = run.ended();
            assert_eq!(ended.code, Some(5), "{step} {what}: {ended}");
            try_psql(&name, undo).unwrap();
            run = world.job.start();
            run.wait_in_log("this start");
        }
        stop.store(true, Ordering::Relaxed);
        load.join().unwrap();
        world.agrees(&mut run, &format!("seed {seed}, step {step}: {what}"));
        eprintln!("{test}: step {step}: {what}");
    }
    let ended = run.terminate();
    assert_eq!(ended.code, Some(0), "{ended}");
}

#[test]
#[ignore = "needs the servers: scripts/test"]
fn random_changes_one() {
    random("world_random_one", seed(1), 10);
}

#[test]
#[ignore = "needs the servers: scripts/test"]
fn random_changes_two() {
    random("world_random_two", seed(2), 10);
}

#[test]
#[ignore = "needs the servers: scripts/test --all"]
fn slow_random_changes() {
    random("world_random_slow", seed(3), 200);
}
