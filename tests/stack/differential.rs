//! Random tables under one connector, changed in every way, while its worker is killed and tables are read again: at rest,
//! what memory says of every key is SQL's answer, to the digit.
//!
//! `DIFFERENTIAL_SEED` replays a seed. `DIFFERENTIAL_TABLES`, `DIFFERENTIAL_STEPS` and `DIFFERENTIAL_ROUNDS` set how much is
//! tried of each format, `DIFFERENTIAL_LOG` what a failure shows of a run.
//!
//! - this file: what is compared
//! - `worker`: a Kafka Connect worker of the test's own, so that it can be killed
//! - `tables`, `changes`: what there is, and what is done to it

mod changes;
mod tables;
mod worker;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::Value as Json;

use self::changes::change;
use self::tables::{Shape, TYPES};
use self::worker::Worker;
use crate::harness::job::Running;
use crate::harness::{Database, Dice, Job, Record, kafka, wait_for};

/// A format of records: its name, the connector's settings for it, more of `[source]`, whether truncates are in it, and the
/// partitions of its topics.
struct Format {
    name: &'static str,
    connector: &'static [(&'static str, &'static str)],
    source: &'static str,
    truncates: bool,
    partitions: i32,
}

const FORMATS: [Format; 5] = [
    Format {
        name: "plain",
        connector: &[],
        source: "connector_keeps_nulls = true\ndecimals = \"string\"",
        truncates: true,
        partitions: 1,
    },
    Format {
        name: "wrapped",
        connector: &[
            ("value.converter.schemas.enable", "true"),
            ("key.converter.schemas.enable", "true"),
            ("decimal.handling.mode", "precise"),
            ("time.precision.mode", "connect"),
        ],
        source: "connector_keeps_nulls = true",
        truncates: true,
        partitions: 1,
    },
    Format {
        name: "precise",
        connector: &[("decimal.handling.mode", "precise"), ("time.precision.mode", "isostring")],
        source: "connector_keeps_nulls = true\ndecimals = \"precise\"\ntimes = \"isostring\"",
        truncates: true,
        partitions: 3,
    },
    Format {
        name: "unwrapped",
        connector: &[
            ("transforms", "unwrap"),
            ("transforms.unwrap.type", "io.debezium.transforms.ExtractNewRecordState"),
            ("transforms.unwrap.delete.tombstone.handling.mode", "rewrite"),
            ("transforms.unwrap.add.fields", "op,lsn,txId,source.ts_us"),
            ("transforms.unwrap.replace.null.with.default", "false"),
            ("time.precision.mode", "adaptive_time_microseconds"),
        ],
        source: "format = \"json-unwrapped\"\nconnector_keeps_nulls = true\ndecimals = \"string\"",
        truncates: false,
        partitions: 1,
    },
    Format {
        name: "bare",
        connector: &[
            ("transforms", "unwrap"),
            ("transforms.unwrap.type", "io.debezium.transforms.ExtractNewRecordState"),
            ("transforms.unwrap.replace.null.with.default", "false"),
            ("value.converter.schemas.enable", "true"),
            ("time.precision.mode", "microseconds"),
        ],
        source: "connector_keeps_nulls = true",
        truncates: false,
        partitions: 1,
    },
];

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(default)
}

/// A database with its tables, under one connector.
struct World {
    format: &'static Format,
    database: Database,
    shapes: Vec<Shape>,
    folder: tempfile::TempDir,
    dice: Dice,
}

/// A key of a rule, as text. NULL is `null`.
type Answer = BTreeMap<String, Vec<String>>;

/// A number without what its scale alone adds.
fn number(text: &str) -> String {
    match text.split_once('.') {
        Some((whole, fraction)) => {
            let fraction = fraction.trim_end_matches('0');
            if fraction.is_empty() { whole.to_owned() } else { format!("{whole}.{fraction}") }
        }
        None => text.to_owned(),
    }
}

fn text(value: &Json) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

impl World {
    fn new(format: &'static Format, tables: usize, seed: u64) -> Self {
        let mut dice = Dice(seed);
        let database = Database::empty(&format!("diff_{}", format.name));
        database.sql(&format!(
            "CREATE SCHEMA streaming;
             {TYPES}
             CREATE TABLE streaming.signals (id varchar(64) PRIMARY KEY, type varchar(32) NOT NULL, data varchar(2048));
             CREATE TABLE streaming.markers (id bigserial PRIMARY KEY)",
        ));
        let shapes: Vec<Shape> = (0..tables).map(|number| Shape::random(&mut dice, number)).collect();
        for shape in &shapes {
            database.sql(&shape.ddl());
            // The connector makes a topic with its first record.
            database.sql(&format!("INSERT INTO streaming.{} VALUES ({})", shape.name, shape.row(&mut dice, 0)));
        }
        database.sql("INSERT INTO streaming.markers DEFAULT VALUES");
        Self { format, database, shapes, folder: tempfile::tempdir().unwrap(), dice }
    }

    fn settings(&self) -> Vec<(&str, &str)> {
        let partitions = if self.format.partitions == 3 { "3" } else { "1" };
        let mut settings = vec![
            ("table.include.list", "streaming.*"),
            ("signal.data.collection", "streaming.signals"),
            ("incremental.snapshot.chunk.size", "7"),
            ("topic.creation.default.partitions", partitions),
            ("topic.creation.default.replication.factor", "1"),
        ];
        settings.extend(self.format.connector);
        settings
    }

    fn topic(&self, table: &str) -> String {
        format!("{}.streaming.{table}", self.database.name)
    }

    /// Until the topics have all that was written.
    fn rest(&self) {
        let topic = self.topic("markers");
        let mark = self.database.sql("INSERT INTO streaming.markers DEFAULT VALUES RETURNING id").concat().concat();
        wait_for("the last change is in Kafka", || {
            let records = (0..self.format.partitions).flat_map(|partition| kafka::records_of(&topic, partition, 0));
            let wanted = format!("\"id\":{mark}}}");
            records.into_iter().any(|record| record.key_text().contains(&wanted)).then_some(())
        });
    }

    fn job(&self, shape: &Shape, version: &str, sql: String) -> Job {
        let name = format!("{}.{}.{version}", self.database.name, shape.name);
        let level = std::env::var("DIFFERENTIAL_LOG").unwrap_or_else(|_| "info".to_owned());
        Job {
            sql,
            message: "{k}".to_owned(),
            alert_topic: format!("{name}.alerts"),
            dead_letter_topic: format!("{name}.letters"),
            source: self.format.source.to_owned(),
            environment: vec![("TRIPLINE__LOG__LEVEL", level)],
            ..Job::new(self.folder.path(), &self.database.name, &name, &self.topic(&shape.name))
        }
    }

    /// Memory's evaluation of every key after it has read everything. No database is asked before an alert, and none
    /// corrects it.
    fn memory(&self, shape: &Shape, version: &str) {
        let mut job = self.job(shape, version, shape.everything());
        job.rule = "confirm = \"off\"".to_owned();
        job.environment.push(("TRIPLINE__KAFKA__AUTO_OFFSET_RESET", "latest".to_owned()));
        let ended = job.run();
        let said: Answer = ended
            .alerts
            .iter()
            .map(Record::json)
            .map(|alert| {
                let outputs = ["rows", "total", "volume"].map(|name| number(&text(&alert["stream"][name])));
                (text(&alert["key"]["k"]), outputs.to_vec())
            })
            .collect();
        let key = shape.key_text();
        let columns = format!("{key}, rows, coalesce(total::text, 'null'), coalesce(volume::text, 'null')");
        let sql = format!("SELECT json_build_array({columns}) FROM ({}) AS q", shape.everything());
        let wanted: Answer = self
            .database
            .sql(&sql)
            .concat()
            .iter()
            .map(|row| {
                let row: Vec<Json> = serde_json::from_str(row).unwrap();
                (text(&row[0]), row[1..].iter().map(|value| number(&text(value))).collect())
            })
            .collect();
        let what = shape.described();
        let first = said.iter().find(|(key, said)| wanted.get(*key) != Some(*said));
        let missing = wanted.iter().find(|(key, _)| !said.contains_key(*key));
        assert!(
            said == wanted,
            "{}: {what}\nmemory says {first:?}, does not say {missing:?}\nmemory {said:?}\nSQL    {wanted:?}\n{ended}",
            self.format.name
        );
        assert_eq!(ended.count("rejected"), 0, "{what}: {ended}");
        assert!(!ended.everything().contains("drift"), "{what}: {ended}");
    }

    /// The keys that are open in the end, by the alerts.
    fn open(job: &Job) -> Vec<String> {
        let mut open: BTreeMap<String, bool> = BTreeMap::new();
        for alert in kafka::records(&job.alert_topic, 0).iter().map(Record::json) {
            let is_firing = alert["status"] == "firing";
            let was = open.insert(text(&alert["key"]["k"]), is_firing).unwrap_or(false);
            assert_ne!(was, is_firing, "firing and resolved alternate: {alert}");
        }
        open.into_iter().filter(|(_, is_open)| *is_open).map(|(key, _)| key).collect()
    }

    /// A run that was there all the time has open what SQL returns. `away`: for so long no connector was there.
    fn agrees(&self, shape: &Shape, job: &Job, run: &mut Running, away: Duration) {
        let sql = format!("SELECT json_build_array({}) FROM ({}) AS q", shape.key_text(), shape.some());
        let rows = self.database.sql(&sql).concat();
        let key = |row: &String| text(&serde_json::from_str::<Vec<Json>>(row).unwrap()[0]);
        let mut wanted: Vec<String> = rows.iter().map(key).collect();
        wanted.sort();
        let mut open = Vec::new();
        let deadline = Instant::now() + Duration::from_secs(40);
        while open != wanted && Instant::now() < deadline && !run.has_ended() {
            open = Self::open(job);
            std::thread::sleep(Duration::from_millis(50));
        }
        let (name, what) = (self.format.name, shape.described());
        assert_eq!(open, wanted, "{name}: {what}\n{}", run.log_now());
        let log = run.log_now();
        // Where it is not known how far the stream is, a difference of 30 s counts as drift.
        assert!(away > Duration::from_secs(20) || !log.contains("drift:"), "{name}: {what}\n{log}");
    }
}

/// Tries some formats beside one another.
fn differential(formats: &'static [Format], seed: u64, tables: u64, steps: u64, rounds: u64) {
    let seed = setting("DIFFERENTIAL_SEED", seed);
    let (tables, steps) = (setting("DIFFERENTIAL_TABLES", tables), setting("DIFFERENTIAL_STEPS", steps));
    let rounds = setting("DIFFERENTIAL_ROUNDS", rounds);
    eprintln!(
        "DIFFERENTIAL_SEED={seed} DIFFERENTIAL_TABLES={tables} DIFFERENTIAL_STEPS={steps} DIFFERENTIAL_ROUNDS={rounds}"
    );
    let tables = usize::try_from(tables).unwrap();
    let mut worlds: Vec<World> =
        formats.iter().zip(seed..).map(|(format, seed)| World::new(format, tables, seed)).collect();
    // Made after the databases, and so gone before them.
    let mut worker = Worker::start();
    for world in &worlds {
        worker.watch(&world.database, &world.settings());
    }
    // Two tables of each are watched all the time.
    let mut runs: Vec<(usize, usize, Job, Running)> = Vec::new();
    for (at, world) in worlds.iter().enumerate() {
        world.rest();
        for table in 0..tables.min(2) {
            let shape = &world.shapes[table];
            let mut job = world.job(shape, "live", shape.some());
            job.source += "\n[audit]\nperiod_ms = 2000\nmax_database_share = 0.2\n";
            let run = job.start();
            runs.push((at, table, job, run));
        }
    }
    for round in 0..rounds {
        let away = std::thread::scope(|scope| {
            for world in &mut worlds {
                scope.spawn(|| {
                    for _ in 0..steps {
                        change(&mut world.dice, &world.database.name, &world.shapes, world.format.truncates);
                    }
                });
            }
            let began = Instant::now();
            worker.kill_and_start();
            began.elapsed()
        });
        for world in &worlds {
            world.rest();
        }
        for (at, table, job, run) in &mut runs {
            let world = &worlds[*at];
            world.agrees(&world.shapes[*table], job, run, away);
        }
        for world in &worlds {
            for shape in &world.shapes {
                world.memory(shape, &format!("r{round}"));
            }
        }
        eprintln!("round {round}: {} tables are right", worlds.len() * tables);
    }
    for (_, _, _, run) in runs {
        let ended = run.terminate();
        assert_eq!(ended.code, Some(0), "{ended}");
    }
}

#[test]
#[ignore = "needs the servers: scripts/test"]
fn differential_formats() {
    differential(&FORMATS, 1, 5, 12, 1);
}

#[test]
#[ignore = "needs the servers: scripts/test --all"]
fn slow_differential_formats() {
    differential(&FORMATS, 1_000, 50, 200, 10);
}
