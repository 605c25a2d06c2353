//! A group's life: its table, its topics, its folder, and the processes that work for it one after the other, each until
//! it is killed.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs::{File, OpenOptions};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{Message, OwnedMessage};
use rdkafka::{Offset, TopicPartitionList};
use serde_json::Value as Json;

use super::feed::Feed;
use super::script::{Key, RULES, over, query};
use crate::harness::Stack;

const CALL: Duration = Duration::from_secs(20);
/// How long anything may take that is waited for: many runs share few cores.
const PATIENCE: Duration = Duration::from_secs(90);
/// How often it is looked at.
const PAUSE: Duration = Duration::from_millis(20);
/// How long a place is waited for that is passed again and again while nothing comes.
const COMES_BY_ITSELF: Duration = Duration::from_secs(5);

/// In a chain of faults: the checkpoint folder is emptied before the next start.
pub(super) const LOSE: &str = "the folder is lost";

/// As the first of a chain of faults: the process is killed when it has told everything and stored its state.
pub(super) const REST: &str = "killed at rest";

const SIGKILL: i32 = 9;

/// The differences from other runs.
#[derive(Clone, Default)]
pub(super) struct Setup {
    /// The broker's address for the processes. `None`: the stack's own broker.
    pub(super) bootstrap: Option<String>,
    /// More lines of `[kafka]`.
    pub(super) kafka: String,
    /// More of the environment.
    pub(super) environment: Vec<(&'static str, &'static str)>,
}

pub(super) struct Run {
    pub(super) feed: Feed,
    pub(super) group: String,
    pub(super) alert_topic: String,
    pub(super) dead_letter_topic: String,
    pub(super) folder: tempfile::TempDir,
    /// Where the processes to come end, each by itself.
    faults: VecDeque<String>,
    setup: Setup,
    process: Option<Process>,
    /// How many processes there have been.
    pub(super) starts: usize,
    alerts: BaseConsumer,
    /// The groups that are firing by the alerts seen so far.
    firing: BTreeSet<Key>,
    commits: BaseConsumer,
}

struct Process {
    child: Child,
    fault: Option<String>,
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(super) fn consumer(group: &str) -> BaseConsumer {
    ClientConfig::new()
        .set("bootstrap.servers", &Stack::get().bootstrap)
        .set("group.id", group)
        .set("enable.auto.commit", "false")
        .set("isolation.level", "read_committed")
        .set("fetch.wait.max.ms", "20")
        .set("enable.partition.eof", "true")
        .create()
        .unwrap()
}

/// Everything that is committed in a topic of one partition.
pub(super) fn records(topic: &str) -> Vec<OwnedMessage> {
    let consumer = consumer("tests");
    assign(&consumer, topic);
    let (mut records, deadline) = (Vec::new(), Instant::now() + PATIENCE);
    loop {
        assert!(Instant::now() < deadline, "{topic}: no end after {} records", records.len());
        match consumer.poll(CALL) {
            None => {}
            Some(Err(KafkaError::PartitionEOF(_))) => return records,
            Some(message) => records.push(message.unwrap().detach()),
        }
    }
}

pub(super) fn assign(consumer: &BaseConsumer, topic: &str) {
    let mut assigned = TopicPartitionList::new();
    assigned.add_partition_offset(topic, 0, Offset::Beginning).unwrap();
    consumer.assign(&assigned).unwrap();
}

impl Run {
    /// `name` is used by no other.
    pub(super) fn new(database: &str, name: &str, faults: &[String]) -> Self {
        Self::with(database, name, faults, Setup::default())
    }

    pub(super) fn with(database: &str, name: &str, faults: &[String], setup: Setup) -> Self {
        let topic = format!("{database}.{name}");
        let (alert_topic, dead_letter_topic) = (format!("{topic}.alerts"), format!("{topic}.dead-letter"));
        let feed = Feed::new(database, name, &topic, &[&alert_topic, &dead_letter_topic]);
        let folder = tempfile::tempdir().unwrap();
        let alerts = consumer("tests");
        assign(&alerts, &alert_topic);
        let run = Self {
            group: topic.clone(),
            alert_topic,
            dead_letter_topic,
            folder,
            faults: faults.iter().cloned().collect(),
            setup,
            process: None,
            starts: 0,
            alerts,
            firing: BTreeSet::new(),
            commits: consumer(&topic),
            feed,
        };
        let config = run.toml(database);
        std::fs::write(run.config(), config).unwrap();
        run
    }

    fn config(&self) -> PathBuf {
        self.folder.path().join("config.toml")
    }

    /// The checkpoint folder.
    pub(super) fn checkpoints(&self) -> PathBuf {
        self.folder.path().join("checkpoints")
    }

    fn toml(&self, database: &str) -> String {
        let Self { group, alert_topic, dead_letter_topic, .. } = self;
        let (topic, schema) = (&self.feed.topic, &self.feed.schema);
        let Setup { bootstrap, kafka, .. } = &self.setup;
        let bootstrap = bootstrap.as_ref().unwrap_or(&Stack::get().bootstrap);
        let url = Stack::get().url(database);
        let dir = self.checkpoints();
        let rule = |(rule, (name, ..)): (usize, &(&str, &str, &str))| {
            let sql = query(schema, rule, "NOW()");
            format!(
                "[[rules]]\nname = \"{name}\"\nmessage = \"{name} {{user_id}} {{n}} {{total}}\"\nsql = \"\"\"\n{sql}\"\"\"\n"
            )
        };
        let rules: String = RULES.iter().enumerate().map(rule).collect();
        format!(
            "[kafka]\nbootstrap_servers = \"{bootstrap}\"\ngroup_id = \"{group}\"\n{kafka}\n\
             [source]\ntopic = \"{topic}\"\ndead_letter_topic = \"{dead_letter_topic}\"\n\
             [postgres]\nurl = \"{url}\"\nmax_connections = 2\n\
             [checkpoint]\ndir = \"{}\"\ntrigger_interval_ms = 300\nstate_interval_ms = 1000\n\
             episodes_topic = \"{database}.episodes\"\n\
             [alerts.log]\n[alerts.postgres]\n[alerts.kafka]\ntopic = \"{alert_topic}\"\n{rules}",
            dir.display()
        )
    }

    fn file(&self, name: &str) -> File {
        OpenOptions::new().create(true).append(true).open(self.folder.path().join(name)).unwrap()
    }

    /// The output of all processes: lines of alerts, and the log.
    pub(super) fn written(&self, name: &str) -> String {
        let bytes = std::fs::read(self.folder.path().join(name)).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// The next process, which ends where the next fault says.
    pub(super) fn start(&mut self) {
        while self.faults.front().is_some_and(|next| next == LOSE) {
            self.faults.pop_front();
            self.lose_folder();
        }
        let fault = self.faults.pop_front();
        let mut command = Command::new(env!("CARGO_BIN_EXE_tripline"));
        command.arg("run").arg("--config").arg(self.config()).current_dir(self.folder.path());
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("TRIPLINE_") {
                command.env_remove(name);
            }
        }
        command.env("RUST_LOG", "info").envs(self.setup.environment.iter().copied()).stdin(Stdio::null());
        command.stdout(self.file("out")).stderr(self.file("log"));
        if let Some(fault) = fault.as_ref().filter(|fault| *fault != REST) {
            command.env("TRIPLINE_FAULT", fault);
        }
        self.process = Some(Process { child: command.spawn().unwrap(), fault });
        self.starts += 1;
    }

    /// Deletes the contents of the folder. The folder itself remains, so that the next process is the same member for
    /// the group.
    fn lose_folder(&self) {
        let folder = self.checkpoints().join(&self.group);
        // A process that was killed early has not made it.
        let entries = match std::fs::read_dir(folder) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return,
            entries => entries.unwrap(),
        };
        for entry in entries {
            let path = entry.unwrap().path();
            if path.is_dir() { std::fs::remove_dir_all(path).unwrap() } else { std::fs::remove_file(path).unwrap() }
        }
    }

    /// Starts the next process where the one before has come to its fault.
    pub(super) fn look(&mut self) {
        let process = self.process.as_mut().unwrap();
        let Some(status) = process.child.try_wait().unwrap() else { return };
        let killed = process.fault.is_some() && status.signal() == Some(SIGKILL);
        let fault = process.fault.clone();
        assert!(killed, "it ended by itself, fault {fault:?}: {status}\n{}", self.written("log"));
        self.start();
    }

    fn wait(&mut self, what: &str, mut done: impl FnMut(&mut Self) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !done(self) {
            assert!(Instant::now() < deadline, "waited {PATIENCE:?} in vain until {what}; firing: {:?}", self.firing);
            std::thread::sleep(PAUSE);
        }
    }

    /// Until everything has been read and exactly what SQL says of this instant is firing.
    pub(super) fn settle(&mut self, at: &str) {
        let over = over(&mut self.feed, at);
        self.wait(&format!("{over:?} fires"), |run| {
            run.look();
            run.read_alerts();
            run.firing == over && run.committed() == run.feed.ends
        });
    }

    /// Until every fault has come, and the last process has been started.
    pub(super) fn exhaust(&mut self) {
        let deadline = Instant::now() + COMES_BY_ITSELF;
        while let Some(fault) = self.process.as_ref().unwrap().fault.clone() {
            assert!(Instant::now() < deadline, "{fault} was never reached");
            self.look();
            std::thread::sleep(PAUSE);
        }
    }

    fn read_alerts(&mut self) {
        while let Some(message) = self.alerts.poll(Duration::ZERO) {
            let message = match message {
                Ok(message) => message,
                Err(KafkaError::PartitionEOF(_)) => continue,
                Err(error) => panic!("{error}"),
            };
            let alert: Json = serde_json::from_slice(message.payload().unwrap()).unwrap();
            let key = key_of(&alert);
            let _ = if alert["status"] == "firing" { self.firing.insert(key) } else { self.firing.remove(&key) };
        }
    }

    /// The group's next offsets.
    pub(super) fn committed(&self) -> [i64; 2] {
        let asked: BTreeMap<(String, i32), Offset> =
            (0..2).map(|partition| ((self.feed.topic.clone(), partition), Offset::Invalid)).collect();
        let asked = TopicPartitionList::from_topic_map(&asked.into_iter().collect()).unwrap();
        let Ok(found) = self.commits.committed_offsets(asked, CALL) else { return [-1; 2] };
        [0, 1].map(|partition| match found.find_partition(&self.feed.topic, partition).map(|found| found.offset()) {
            Some(Offset::Offset(next)) => next,
            _ => 0,
        })
    }

    /// Where the chain begins so, the next process takes over from here.
    pub(super) fn rest(&mut self) {
        if self.process.as_ref().unwrap().fault.as_deref() != Some(REST) {
            return;
        }
        let states = self.checkpoints().join(&self.group).join("state");
        let is_state =
            |entry: std::io::Result<std::fs::DirEntry>| !entry.unwrap().file_name().to_string_lossy().ends_with(".tmp");
        self.wait("a state is stored", |_| std::fs::read_dir(&states).unwrap().any(is_state));
        self.kill();
    }

    /// The next process ends at this place.
    pub(super) fn end_next_at(&mut self, fault: &str) {
        self.faults.push_front(fault.to_owned());
    }

    /// The next process finds an empty folder.
    pub(super) fn lose_folder_next(&mut self) {
        self.faults.push_front(LOSE.to_owned());
    }

    /// Kills the process, wherever it is, and starts the next one.
    pub(super) fn kill(&mut self) {
        drop(self.process.take());
        self.start();
    }

    /// Whether the process is at work.
    pub(super) fn is_at_work(&mut self) -> bool {
        self.process.as_mut().is_some_and(|process| process.child.try_wait().unwrap().is_none())
    }

    /// Removes what the servers hold of it, so that a thousand runs leave no more behind than one.
    pub(super) fn clean_up(&mut self) {
        let (group, schema) = (&self.group, &self.feed.schema);
        let sql = format!("DELETE FROM tripline.alerts WHERE \"group\" = '{group}'; DROP SCHEMA {schema} CASCADE");
        self.feed.sql(&sql);
        self.feed.remove_topics(&[&self.alert_topic, &self.dead_letter_topic]);
    }

    /// SIGTERM, which ends well.
    pub(super) fn terminate(&mut self) {
        let mut process = self.process.take().unwrap();
        let sent = Command::new("sh").arg("-c").arg(format!("kill -TERM {}", process.child.id())).status();
        assert!(sent.unwrap().success());
        let mut ended = None;
        self.wait("the process ends", |_| {
            ended = process.child.try_wait().unwrap();
            ended.is_some()
        });
        assert_eq!(ended.and_then(|status| status.code()), Some(0), "after SIGTERM");
    }
}

/// The rule and the user of an alert.
pub(super) fn key_of(alert: &Json) -> Key {
    (alert["rule"].as_str().unwrap().to_owned(), alert["key"]["user_id"].as_i64().unwrap())
}
