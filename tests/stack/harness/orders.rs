//! A table of orders that Debezium watches, and the job that archives its changes.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::recovery::cluster::Cluster;
use crate::recovery::run::{Done, Run};

use super::{Connector, Database, Stack, kafka};

/// The table of the stack's own `food_delivery_db`.
pub const ORDERS: &str = "CREATE TABLE public.orders (
    order_id bigserial PRIMARY KEY, customer_name text, restaurant text, item text, quantity int, price numeric(10,2),
    status text, created_at timestamptz DEFAULT now())";

/// `public.orders` in a database of the test's own, and its changes in Kafka.
pub struct Orders {
    // The order in which they are removed.
    pub connector: Connector,
    pub database: Database,
    pub cluster: Cluster,
    folder: tempfile::TempDir,
}

impl Orders {
    /// The table as everybody has it, its topic of one partition, plain JSON, decimals as strings.
    pub fn new(test: &str) -> Self {
        Self::of(test, ORDERS, 1, &[])
    }

    /// Creates the table with `sql`. `settings` replace those of the connector.
    pub fn of(test: &str, sql: &str, partitions: i32, settings: &[(&str, &str)]) -> Self {
        let database = Database::new(&format!("archive_{test}"));
        database.sql(sql);
        let cluster = Cluster::shared();
        cluster.create_topic(&topic_of(&database, ""), partitions);
        let connector = connector(&database, "", settings);
        Self { connector, database, cluster, folder: tempfile::tempdir().unwrap() }
    }

    pub fn topic(&self) -> &str {
        &self.connector.topic
    }

    pub fn sql(&self, sql: &str) -> Vec<Vec<String>> {
        self.database.sql(sql)
    }

    /// Orders of these numbers, on three days in turn, in one transaction.
    pub fn insert(&self, ids: std::ops::RangeInclusive<i64>) {
        let (first, last) = ids.into_inner();
        self.sql(&format!(
            "INSERT INTO public.orders
             SELECT n, 'Customer ' || n % 7, 'Restaurant ' || n % 3, CASE WHEN n % 5 > 0 THEN 'Item ' || n END, n % 4,
                    n * 1.37, CASE WHEN n % 11 > 0 THEN 'delivered' END,
                    timestamptz '2026-03-01 23:59:59.999999Z' + n % 3 * interval '1 day' - n / 3 * interval '1 minute'
             FROM generate_series({first}, {last}) AS n"
        ));
    }

    /// Until the topic, which has one partition, holds exactly so many records.
    pub fn wait_in_kafka(&self, records: i64) {
        kafka::wait_for_end(self.topic(), records);
    }

    /// A second connector on the same table, whose records look otherwise.
    pub fn second(&self, suffix: &str, settings: &[(&str, &str)]) -> Connector {
        connector(&self.database, suffix, settings)
    }

    /// A job with group, folders and all of its own.
    pub fn job(&self, name: &str) -> Archive {
        let group = format!("{}-{name}", self.database.name);
        Archive::new(&self.folder.path().join(name), &self.database.name, &group, self.topic())
    }
}

fn topic_of(database: &Database, suffix: &str) -> String {
    format!("{}{suffix}.public.orders", database.name)
}

fn connector(database: &Database, suffix: &str, settings: &[(&str, &str)]) -> Connector {
    let settings = [&[("table.include.list", "public.orders")], settings].concat();
    let mut connector = Connector::start(database, suffix, &settings);
    connector.topic = topic_of(database, suffix);
    connector
}

/// The configuration of an archive job. A test changes the settings that it is about.
#[derive(Clone)]
pub struct Archive {
    pub group: String,
    pub topic: String,
    pub bootstrap: String,
    /// `[postgres]`, if there is one.
    pub url: Option<String>,
    pub dead_letter_topic: String,
    pub checkpoints: PathBuf,
    pub output: PathBuf,
    pub limit: u32,
    pub trigger_ms: u32,
    pub partition_by: Option<&'static str>,
    /// More lines of `[archive]`.
    pub archive: String,
    /// More lines of `[source]`.
    pub source: String,
    /// More lines of `[kafka.properties]`.
    pub kafka: String,
    /// Of the configuration.
    pub folder: PathBuf,
    /// More of the environment.
    pub environment: Vec<(&'static str, String)>,
}

impl Archive {
    /// By `created_at`, in epochs of a thousand. `folder` holds configuration, checkpoints and output.
    pub fn new(folder: &Path, database: &str, group: &str, topic: &str) -> Self {
        Self {
            group: group.to_owned(),
            topic: topic.to_owned(),
            bootstrap: Stack::get().bootstrap.clone(),
            url: Some(Stack::get().url(database)),
            dead_letter_topic: format!("{group}.dead-letter"),
            checkpoints: folder.join("checkpoints"),
            output: folder.join("output"),
            limit: 1000,
            trigger_ms: 200,
            partition_by: Some("created_at"),
            archive: String::new(),
            source: String::new(),
            kafka: String::new(),
            folder: folder.to_owned(),
            environment: Vec::new(),
        }
    }

    fn toml(&self) -> String {
        let Self { group, topic, bootstrap, dead_letter_topic, limit, trigger_ms, archive, source, kafka, .. } = self;
        let (checkpoints, output) = (self.checkpoints.display(), self.output.display());
        let postgres = self.url.as_ref().map_or(String::new(), |url| format!("[postgres]\nurl = \"{url}\"\n"));
        let by = self.partition_by.map_or(String::new(), |column| format!("partition_by = \"{column}\"\n"));
        // The shortest session that a broker takes: a killed member is soon forgotten.
        format!(
            "[kafka]\nbootstrap_servers = \"{bootstrap}\"\n[kafka.properties]\n\"session.timeout.ms\" = \"6000\"\n{kafka}\
             [source]\ndead_letter_topic = \"{dead_letter_topic}\"\n{source}\n{postgres}\
             [archive]\ntopic = \"{topic}\"\ngroup_id = \"{group}\"\ncheckpoint_dir = \"{checkpoints}\"\n\
             output_path = \"{output}\"\nmax_offsets_per_trigger = {limit}\ntrigger_interval_ms = {trigger_ms}\n\
             {by}{archive}\n"
        )
    }

    /// `tripline archive` with this configuration and more arguments, its streams as pipes.
    pub fn command(&self, arguments: &[&str]) -> Command {
        static COMMANDS: AtomicUsize = AtomicUsize::new(0);
        std::fs::create_dir_all(&self.folder).unwrap();
        // Another one each time: a process that has just been started may not have read its own yet.
        let file = self.folder.join(format!("archive-{}.toml", COMMANDS.fetch_add(1, Ordering::Relaxed)));
        std::fs::write(&file, self.toml()).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_tripline"));
        command.arg("archive").args(arguments).arg("--config").arg(&file).current_dir(&self.folder);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("TRIPLINE_") || name == "RUST_LOG" {
                command.env_remove(name);
            }
        }
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Until it is stopped.
    pub fn start(&self) -> Run {
        Run::of(&mut self.command(&[]))
    }

    /// Until it is stopped, or a fault ends it.
    pub fn with_fault(&self, fault: &str) -> Run {
        Run::of(self.command(&[]).env("TRIPLINE_FAULT", fault))
    }

    /// To the end of the topic.
    pub fn start_to_the_end(&self) -> Run {
        Run::of(&mut self.command(&["--until-end"]))
    }

    /// To the end of the topic, however that goes.
    pub fn try_run(&self) -> Done {
        self.start_to_the_end().ended()
    }

    /// To the end of the topic, which goes well.
    pub fn run(&self) -> Done {
        self.try_run().well()
    }

    /// The checkpoint folder's content goes. The folder itself stays, so that the next process is known to the group as the
    /// same member.
    pub fn lose_checkpoints(&self) {
        for entry in std::fs::read_dir(&self.checkpoints).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { std::fs::remove_dir_all(path).unwrap() } else { std::fs::remove_file(path).unwrap() }
        }
    }
}
