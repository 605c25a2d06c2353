//! The parts of every test: a table that Debezium watches, runs of the binary over its topic, and their results.
//!
//! - this file: the servers, a database and its connectors. Everything that a test makes is gone after it, also on
//!   panic
//! - `kafka`: writes and reads records, watermarks, a group's offsets
//! - `job`: the configuration of a run, the process, and its results
//! - `orders`: a table of orders and the configuration of its archive
//! - `dice`: reproducible random numbers
//! - `certificates`: authorities and certificates, good and bad
//! - `http`: a server of HTTP
//! - `readers`: DuckDB and pyarrow, which read an archive's files
//! - `role`: a role of the databases' server

pub mod certificates;
pub mod dice;
pub mod http;
pub mod job;
pub mod kafka;
pub mod orders;
pub mod readers;
mod role;

use std::process::Command;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value as Json, json};

pub use dice::Dice;
pub use job::{Ended, Job, RULE};
pub use kafka::Record;
pub use role::Role;

/// How long anything may take that is waited for.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often it is looked at.
const PAUSE: Duration = Duration::from_millis(50);

/// Where the servers are.
pub struct Stack {
    pub host: String,
    pub pg_port: String,
    pub bootstrap: String,
    pub connect: String,
    /// The topic of the stack's own table.
    pub transactions_topic: String,
}

impl Stack {
    pub fn get() -> &'static Self {
        static STACK: OnceLock<Stack> = OnceLock::new();
        STACK.get_or_init(|| Self {
            host: variable("STACK_HOST"),
            pg_port: variable("STACK_PG_PORT"),
            bootstrap: variable("STACK_BOOTSTRAP"),
            connect: variable("STACK_CONNECT_URL"),
            transactions_topic: variable("STACK_TRANSACTIONS_TOPIC"),
        })
    }

    /// The URL of a database, as superuser and without a password.
    pub fn url(&self, database: &str) -> String {
        self.url_as("postgres", database)
    }

    pub fn url_as(&self, user: &str, database: &str) -> String {
        format!("postgres://{user}@{}:{}/{database}", self.host, self.pg_port)
    }
}

/// One of those that `scripts/stack env` prints.
pub fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| {
        panic!(
            "{name} is not set: these tests need the servers; run scripts/test, or eval \"$(scripts/stack env)\" first"
        )
    })
}

/// Looks until there is something, for at most a minute.
pub fn wait_for<T>(what: &str, look: impl FnMut() -> Option<T>) -> T {
    poll(look).unwrap_or_else(|| panic!("waited {PATIENCE:?} in vain until {what}"))
}

/// The same, and `None` after that time.
pub fn poll<T>(mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match look() {
            None if Instant::now() < deadline => std::thread::sleep(PAUSE),
            found => return found,
        }
    }
}

/// Runs SQL by psql and returns the rows of its results, all as text, NULL as "".
pub fn try_psql(database: &str, sql: &str) -> Result<Vec<Vec<String>>, String> {
    let done = Command::new("psql")
        .args(["-X", "-q", "-w", "-At", "-F", "\t", "-v", "ON_ERROR_STOP=1"])
        .args(["-d", &Stack::get().url(database), "-c", sql])
        .env("PGCONNECT_TIMEOUT", "10")
        .env("PGOPTIONS", "-c timezone=UTC -c client_min_messages=warning")
        .output()
        .map_err(|error| format!("psql: {error}"))?;
    if !done.status.success() {
        return Err(format!("{sql}\n{}", String::from_utf8_lossy(&done.stderr)));
    }
    let text = String::from_utf8(done.stdout).map_err(|error| error.to_string())?;
    Ok(text.lines().map(|line| line.split('\t').map(str::to_owned).collect()).collect())
}

pub fn psql(database: &str, sql: &str) -> Vec<Vec<String>> {
    try_psql(database, sql).unwrap_or_else(|error| panic!("{error}"))
}

/// A database of the test's own, with `streaming.transactions` in it.
pub struct Database {
    pub name: String,
}

impl Database {
    pub fn new(test: &str) -> Self {
        Self::with_time(test, "timestamptz")
    }

    /// Without any table.
    pub fn empty(test: &str) -> Self {
        // Kafka's topics outlive their test, so a name must not come back.
        let name = format!("t_{test}_{}", std::process::id());
        psql("postgres", &format!("CREATE DATABASE {name}"));
        Self { name }
    }

    /// `time`: the type of the column "timestamp".
    pub fn with_time(test: &str, time: &str) -> Self {
        let database = Self::empty(test);
        database.sql(&format!(
            "CREATE SCHEMA streaming;
             CREATE TABLE streaming.transactions (
                 id bigserial PRIMARY KEY, user_id bigint NOT NULL, amount numeric(12,2) NOT NULL,
                 \"timestamp\" {time} NOT NULL DEFAULT now(), merchant text, status text DEFAULT 'pending')"
        ));
        database
    }

    pub fn sql(&self, sql: &str) -> Vec<Vec<String>> {
        psql(&self.name, sql)
    }

    /// Inserts (id, user, amount), all of now and in one transaction.
    pub fn insert(&self, rows: &[(i64, i64, &str)]) {
        let rows: Vec<String> = rows.iter().map(|(id, user, amount)| format!("({id}, {user}, {amount})")).collect();
        self.sql(&format!("INSERT INTO streaming.transactions (id, user_id, amount) VALUES {}", rows.join(", ")));
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        if let Err(error) = try_psql("postgres", &format!("DROP DATABASE {} WITH (FORCE)", self.name)) {
            eprintln!("not removed: {error}");
        }
    }
}

/// The settings of a connector of this name. `settings` replace those of the stack's own connector.
pub fn connector_config(name: &str, database: &str, settings: &[(&str, &str)]) -> Json {
    let stack = Stack::get();
    let mut config = json!({
        "connector.class": "io.debezium.connector.postgresql.PostgresConnector",
        "tasks.max": "1",
        "database.hostname": stack.host,
        "database.port": stack.pg_port,
        "database.user": "postgres",
        "database.password": "not needed on loopback",
        "database.dbname": database,
        "table.include.list": "streaming.transactions",
        "topic.prefix": name,
        "plugin.name": "pgoutput",
        "slot.name": name,
        "publication.name": name,
        "publication.autocreate.mode": "filtered",
        "skipped.operations": "none",
        "decimal.handling.mode": "string",
        "poll.interval.ms": "50",
        "key.converter": "org.apache.kafka.connect.json.JsonConverter",
        "key.converter.schemas.enable": "false",
        "value.converter": "org.apache.kafka.connect.json.JsonConverter",
        "value.converter.schemas.enable": "false",
        "value.converter.replace.null.with.default": "false",
    });
    for (key, value) in settings {
        config[*key] = json!(value);
    }
    config
}

/// A Debezium connector on a database.
pub struct Connector {
    name: String,
    config: Json,
    /// Where the changes of `streaming.transactions` go.
    pub topic: String,
}

impl Connector {
    /// Starts one and waits until it streams. `settings` replace those of the stack's own connector.
    pub fn start(database: &Database, suffix: &str, settings: &[(&str, &str)]) -> Self {
        let name = format!("{}{suffix}", database.name);
        let config = connector_config(&name, &database.name, settings);
        let connector = Self { topic: format!("{name}.streaming.transactions"), name, config };
        connector.configure();
        connector
    }

    /// Configures it again with these settings, and waits until it streams.
    pub fn set(&mut self, settings: &[(&str, &str)]) {
        for (key, value) in settings {
            self.config[*key] = json!(value);
        }
        let before = self.walsender();
        self.configure();
        wait_for("the connector has restarted", || (self.walsender() != before && self.streams()).then_some(()));
    }

    /// The process of Postgres that serves it.
    fn walsender(&self) -> Vec<Vec<String>> {
        psql("postgres", &format!("SELECT active_pid FROM pg_replication_slots WHERE slot_name = '{}'", self.name))
    }

    fn configure(&self) {
        // Refused with 409 while the worker is busy with another connector.
        let made = || matches!(self.put("config", Some(&self.config)), 200 | 201).then_some(());
        wait_for("the connector is made", made);
        wait_for("the connector streams", || self.streams().then_some(()));
    }

    fn streams(&self) -> bool {
        let states = self.states();
        assert!(!states.iter().any(|state| state == "FAILED"), "{}: {}", self.name, self.status());
        let sql = format!(
            "SELECT 1 FROM pg_replication_slots s JOIN pg_stat_replication r ON r.pid = s.active_pid
             WHERE s.slot_name = '{}' AND r.state = 'streaming'",
            self.name
        );
        states == ["RUNNING", "RUNNING"] && !psql("postgres", &sql).is_empty()
    }

    /// Nothing more comes into the topic until it is resumed.
    pub fn pause(&self) {
        self.put("pause", None);
        wait_for("the connector pauses", || (self.states() == ["PAUSED", "PAUSED"]).then_some(()));
    }

    /// Stops the connector. It leaves its slot a moment later.
    pub fn stop(&self) {
        self.put("stop", None);
    }

    pub fn resume(&self) {
        self.put("resume", None);
    }

    fn url(&self, part: &str) -> String {
        format!("{}/connectors/{}{part}", Stack::get().connect, self.name)
    }

    fn put(&self, part: &str, body: Option<&Json>) -> u16 {
        let _one = one_at_a_time();
        let request = agent().put(self.url(&format!("/{part}")));
        let answer = match body {
            Some(body) => request.send_json(body),
            None => request.send_empty(),
        };
        answer.map_or(0, |answer| answer.status().as_u16())
    }

    fn status(&self) -> Json {
        let answer = agent().get(self.url("/status")).call().ok();
        answer.and_then(|mut answer| answer.body_mut().read_json().ok()).unwrap_or_default()
    }

    /// The states of the connector and of its task.
    fn states(&self) -> Vec<String> {
        let status = self.status();
        let tasks = status["tasks"].as_array().into_iter().flatten();
        let states = std::iter::once(&status["connector"]).chain(tasks);
        states.filter_map(|part| part["state"].as_str().map(str::to_owned)).collect()
    }
}

impl Drop for Connector {
    fn drop(&mut self) {
        let removed = {
            let _one = one_at_a_time();
            agent().delete(self.url("")).call().map(|answer| answer.status().as_u16())
        };
        if !matches!(removed, Ok(204 | 404)) {
            eprintln!("connector {} not removed: {removed:?}", self.name);
        }
        // The slot is free a moment after the connector's end.
        let deadline = Instant::now() + Duration::from_secs(10);
        let sql = format!(
            "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = '{}'",
            self.name
        );
        while let Err(error) = try_psql("postgres", &sql) {
            if Instant::now() > deadline {
                eprintln!("slot not removed: {error}");
                return;
            }
            std::thread::sleep(PAUSE);
        }
    }
}

/// Connect's standalone worker can lock itself up for good when a connector is paused or resumed while another one is made
/// or removed: it takes two locks in either order.
pub fn one_at_a_time() -> MutexGuard<'static, ()> {
    static CONNECT: Mutex<()> = Mutex::new(());
    CONNECT.lock().unwrap_or_else(PoisonError::into_inner)
}

fn agent() -> ureq::Agent {
    ureq::Agent::config_builder()
        .http_status_as_error(false)
        .timeout_global(Some(Duration::from_secs(30)))
        .proxy(None)
        .build()
        .into()
}

/// A table that Debezium watches.
pub struct Table {
    // The order in which they are removed.
    pub connector: Connector,
    pub database: Database,
    folder: tempfile::TempDir,
}

impl Table {
    /// `streaming.transactions` with REPLICA IDENTITY DEFAULT, its changes as plain JSON, decimals as strings.
    pub fn new(test: &str) -> Self {
        Self::of(Database::new(test), &[])
    }

    pub fn of(database: Database, settings: &[(&str, &str)]) -> Self {
        let connector = Connector::start(&database, "", settings);
        Self { connector, database, folder: tempfile::tempdir().unwrap() }
    }

    pub fn topic(&self) -> &str {
        &self.connector.topic
    }

    pub fn sql(&self, sql: &str) -> Vec<Vec<String>> {
        self.database.sql(sql)
    }

    pub fn insert(&self, rows: &[(i64, i64, &str)]) {
        self.database.insert(rows);
    }

    /// Until the topic holds exactly so many records.
    pub fn wait_in_kafka(&self, records: i64) {
        kafka::wait_for_end(self.topic(), records);
    }

    /// A run's configuration. Each version has a group of its own, and so reads everything.
    pub fn job(&self, version: &str) -> Job {
        Job::new(self.folder.path(), &self.database.name, &format!("{}-{version}", self.database.name), self.topic())
    }

    /// Reads to the end of the topic.
    pub fn run(&self, version: &str) -> Ended {
        self.job(version).run()
    }
}
