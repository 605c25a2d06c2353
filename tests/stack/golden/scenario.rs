//! A scenario restored on the servers, and a step of it: source topic, group, dead letters, database and checkpoint
//! folder.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use rdkafka::config::ClientConfig;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value as Json;

use crate::harness::{Database, Role, Stack};
use crate::recovery::cluster::Cluster;
use crate::recovery::run::{Done, Run};

/// The cluster that the scenarios were made on.
const CLUSTER: &str = "tzA1Kq9BmgqAfLyUTYYwVw";
/// The database of the changes.
const DATABASE: &str = "\"db\":\"golden\"";
/// The role that `monitor-waiting` reads the table as.
const READER: &str = "golden_reader";
/// The records keep their timestamps: retention would remove them, and a broker whose clock is behind refuse them.
const KEPT: [(&str, &str); 2] = [("retention.ms", "-1"), ("message.timestamp.after.max.ms", "9223372036854775807")];

/// A record as the scenarios have it.
#[derive(Deserialize)]
pub(super) struct Saved {
    partition: i32,
    offset: i64,
    timestamp_ms: i64,
    key: Option<String>,
    value: Option<String>,
    #[serde(default)]
    headers: Vec<(String, String)>,
}

/// The committed offsets of a group.
#[derive(Deserialize)]
pub(super) struct Group {
    pub(super) group: String,
    topic: String,
    partitions: BTreeMap<i32, Committed>,
}

#[derive(Deserialize)]
struct Committed {
    offset: i64,
    /// `lineage:N:crc`
    metadata: String,
}

impl Committed {
    /// The name of the epoch, without the checksum of its file: that one contains the time of day.
    fn epoch(&self) -> &str {
        self.metadata.rsplit_once(':').unwrap().0
    }
}

/// One start of the program, and what it did.
#[derive(Deserialize)]
pub(super) struct Step<T> {
    /// The files with the records and statements before the step. The first step has none.
    records: Option<String>,
    statements: Option<String>,
    command: String,
    exit: i32,
    pub(super) counts: Json,
    newest_epoch: u64,
    group: Group,
    dead_letters: usize,
    #[serde(flatten)]
    pub(super) outcome: T,
}

pub(super) struct Scenario {
    pub(super) data: PathBuf,
    cluster: Cluster,
    pub(super) group: Group,
    /// An archive has its own, and the monitors one each in a common folder.
    pub(super) checkpoints: PathBuf,
    /// Settings that stand in `config.toml` otherwise.
    pub(super) environment: Vec<(&'static str, String)>,
    /// How many epochs the steps up to now took more than then.
    divided: Cell<u64>,
    // The order in which they are removed.
    pub(super) database: Database,
    _reader: Option<Role>,
    folder: tempfile::TempDir,
}

impl Scenario {
    pub(super) fn restore(name: &str, test: &str) -> Self {
        let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/37c39c8").join(name);
        let config = read(&data.join("config.toml"));
        let group: Group = serde_json::from_str(&read(&data.join("group.json"))).unwrap();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("config.toml"), &config).unwrap();

        let reader = config.contains(READER).then(|| Role::new(&format!("golden_{test}")));
        let database = Database::empty(&format!("golden_{test}"));
        let (stack, name) = (Stack::get(), &database.name);
        let environment = vec![
            ("TRIPLINE__KAFKA__BOOTSTRAP_SERVERS", stack.bootstrap.clone()),
            ("TRIPLINE__POSTGRES__URL", reader.as_ref().map_or_else(|| stack.url(name), |role| role.url(name))),
            ("TRIPLINE__SOURCE__DEAD_LETTER_TOPIC", format!("{name}.dead-letter")),
        ];
        let table = read(&data.join("table.sql"));
        database.sql(&reader.as_ref().map_or_else(|| table.clone(), |role| table.replace(READER, &role.0)));

        let checkpoints = folder.path().join("checkpoints");
        let checkpoints = if data.join("files").exists() { checkpoints } else { checkpoints.join(&group.group) };
        let cluster = Cluster::shared();
        let divided = Cell::new(0);
        let scenario =
            Self { data, cluster, group, checkpoints, environment, divided, database, _reader: reader, folder };
        scenario.restore_topic();
        scenario.restore_group();
        scenario.add_topic("dead-letter", &KEPT, &scenario.saved("dead-letters.ndjson"));
        scenario.put("folder", &scenario.checkpoints);
        scenario.name_cluster(&scenario.checkpoints.join("lineage.json"));
        scenario
    }

    /// The topic's name stands in the folder, so each run of the test makes the topic anew.
    fn restore_topic(&self) {
        let Group { topic, partitions, .. } = &self.group;
        if self.cluster.partitions(topic) > 0 {
            self.cluster.delete_topic(topic);
        }
        self.cluster.create_topic_with(topic, i32::try_from(partitions.len()).unwrap(), &KEPT);
        self.produce_source("records.ndjson");
    }

    /// After the topic: Kafka deletes a topic's offsets with it.
    fn restore_group(&self) {
        let Group { group, topic, partitions } = &self.group;
        for (partition, Committed { offset, metadata }) in partitions {
            self.cluster.set_with_text(group, topic, &[(*partition, *offset)], metadata);
        }
        let want: BTreeMap<i32, (i64, String)> =
            partitions.iter().map(|(partition, held)| (*partition, (held.offset, held.metadata.clone()))).collect();
        assert_eq!(self.cluster.committed(group, topic), want);
    }

    /// The name of a topic of the test's own.
    pub(super) fn topic(&self, part: &str) -> String {
        format!("{}.{part}", self.database.name)
    }

    /// Makes a topic of the test's own.
    fn add_topic(&self, part: &str, settings: &[(&str, &str)], records: &[Saved]) {
        let topic = self.topic(part);
        self.cluster.create_topic_with(&topic, 1, settings);
        produce(&topic, records);
    }

    /// The alert topic.
    pub(super) fn add_alert_topic(&self) {
        self.add_topic("alerts", &KEPT, &self.saved("alerts.ndjson"));
    }

    /// The recovery topic, whose progress names the cluster.
    pub(super) fn add_recovery_topic(&self) {
        let (mut records, id) = (self.saved("episodes.ndjson"), self.cluster.id());
        for value in records.iter_mut().filter_map(|record| record.value.as_mut()) {
            *value = value.replace(CLUSTER, &id);
        }
        self.add_topic("episodes", &[("cleanup.policy", "compact"), KEPT[1]], &records);
    }

    /// Appends the records of a file to the source topic, each at its own offset.
    fn produce_source(&self, file: &str) {
        let (topic, mut records) = (&self.group.topic, self.saved(file));
        // Changes of another database would be refused.
        let database = format!("\"db\":\"{}\"", self.database.name);
        for value in records.iter_mut().filter_map(|record| record.value.as_mut()) {
            *value = value.replace(DATABASE, &database);
        }
        produce(topic, &records);
        let ends: BTreeMap<i32, i64> = records.iter().map(|record| (record.partition, record.offset + 1)).collect();
        for (partition, end) in ends {
            assert_eq!(self.cluster.watermarks(topic, partition), (0, end), "{file}: partition {partition}");
        }
    }

    /// The records of a file. Empty if there is no such file.
    fn saved(&self, file: &str) -> Vec<Saved> {
        let path = self.data.join(file);
        let text = if path.exists() { read(&path) } else { String::new() };
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Copies a folder of the scenario: a start writes at once.
    pub(super) fn put(&self, from: &str, to: &Path) {
        std::fs::create_dir_all(to.parent().unwrap()).unwrap();
        let done = Command::new("cp").arg("-R").arg(self.data.join(from)).arg(to).status().unwrap();
        assert!(done.success(), "{from} is not copied to {}", to.display());
    }

    /// Writes the id of the test's own cluster into a file, and the checksum that goes with it.
    pub(super) fn name_cluster(&self, file: &Path) {
        let text = read(file);
        let content = format!("{}\n", text.lines().next().unwrap());
        assert!(content.contains(CLUSTER), "{content}");
        assert_eq!(text, with_checksum(&content));
        std::fs::write(file, with_checksum(&content.replace(CLUSTER, &self.cluster.id()))).unwrap();
    }

    /// A path below the working directory.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(super) fn steps<T: DeserializeOwned>(&self) -> Vec<Step<T>> {
        #[derive(Deserialize)]
        struct Expected<T> {
            steps: Vec<Step<T>>,
        }
        let expected: Expected<T> = serde_json::from_str(&read(&self.data.join("expected.json"))).unwrap();
        assert!(expected.steps.len() > 1);
        expected.steps
    }

    /// Runs the statements, produces the records, and starts the program, which ends as it did then.
    pub(super) fn take<T>(&self, step: &Step<T>) -> Done {
        if let Some(file) = &step.statements {
            self.database.sql(&read(&self.data.join(file)));
        }
        if let Some(file) = &step.records {
            self.produce_source(file);
        }
        let mut command = Command::new(env!("CARGO_BIN_EXE_tripline"));
        command.args(step.command.split(' ').skip(1)).current_dir(self.folder.path());
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("TRIPLINE_") || name == "RUST_LOG" {
                command.env_remove(name);
            }
        }
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let done = Run::of(&mut command).ended();
        assert_eq!(done.code(), Some(step.exit), "{done}");
        done
    }

    /// How many epochs this step and those before it took more than then. The records of two partitions can come one
    /// after the other, and what the first ones raise closes an epoch.
    pub(super) fn divided<T>(&self, step: &Step<T>) -> u64 {
        let records = step.records.as_ref().map(|file| self.saved(file)).unwrap_or_default();
        let partitions: BTreeSet<i32> = records.iter().map(|record| record.partition).collect();
        let before = self.divided.get();
        let more = partitions.len().saturating_sub(1) as u64;
        let newest = epochs(&self.checkpoints).pop().unwrap();
        let may_be = step.newest_epoch + before..=step.newest_epoch + before + more;
        assert!(may_be.contains(&newest), "the newest epoch is {newest}, not of {may_be:?}");
        newest - step.newest_epoch
    }

    /// The folder, the group and the dead letters are where they were then, and the folder's files say the same in their fields.
    pub(super) fn check_progress<T>(&self, step: &Step<T>) {
        let newest = epochs(&self.checkpoints).pop().unwrap();
        self.divided.set(self.divided(step));
        let checksum = self.check_epoch(newest);
        let commit = |folder: &Path, epoch: u64| body(&read(&folder.join("commits").join(epoch.to_string())));
        assert_eq!(commit(&self.checkpoints, newest), commit(&self.data.join("folder"), 0), "commits/{newest}");

        let Group { group, topic, partitions } = &step.group;
        let named = |held: &Committed| (held.offset, format!("{}:{checksum}", held.epoch()));
        let want: BTreeMap<i32, (i64, String)> =
            partitions.iter().map(|(partition, held)| (*partition, named(held))).collect();
        assert_eq!(self.cluster.committed(group, topic), want, "what the group has committed");
        assert_eq!(self.cluster.records(&self.topic("dead-letter")).len(), step.dead_letters, "dead letters");
    }

    /// The text that the group has committed with its offsets: `lineage:N:crc`.
    pub(super) fn committed_name(&self) -> String {
        let committed = self.cluster.committed(&self.group.group, &self.group.topic);
        committed.into_values().next().unwrap().1
    }

    /// Each line of `offsets/N` has the form of one in the scenario, and its checksum is right. Returns that.
    fn check_epoch(&self, epoch: u64) -> String {
        let saved = self.data.join("folder");
        let known: BTreeSet<(usize, String)> =
            epochs(&saved).into_iter().flat_map(|epoch| forms(&read(&offsets(&saved, epoch)))).collect();
        let text = read(&offsets(&self.checkpoints, epoch));
        for (line, form) in forms(&text) {
            // A candidate that waits has said why since then, and an archive what it read records by.
            let newer = [",\"evaluation\":null,\"reason\":null", ",\"table_versions\":null"];
            let form = (line, newer.iter().fold(form, |form, part| form.replace(part, "")));
            assert!(known.contains(&form), "offsets/{epoch}: {form:?} is not one of {known:?}");
        }
        let (content, _) = text.trim_end().rsplit_once('\n').unwrap();
        let content = format!("{content}\n");
        assert_eq!(text, with_checksum(&content), "offsets/{epoch}");
        format!("{:08x}", crc32fast::hash(content.as_bytes()))
    }
}

fn offsets(checkpoints: &Path, epoch: u64) -> PathBuf {
    checkpoints.join("offsets").join(epoch.to_string())
}

/// The numbers of the epochs in a checkpoint folder.
fn epochs(checkpoints: &Path) -> Vec<u64> {
    let entries = std::fs::read_dir(checkpoints.join("offsets")).unwrap();
    let name = |entry: std::io::Result<std::fs::DirEntry>| entry.unwrap().file_name().into_string().unwrap();
    let mut numbers: Vec<u64> = entries.map(|entry| name(entry).parse().unwrap()).collect();
    numbers.sort_unstable();
    numbers
}

/// The form of each line of `offsets/N` but the first, which is the format.
fn forms(text: &str) -> Vec<(usize, String)> {
    text.lines().skip(1).map(form).enumerate().collect()
}

/// A file's lines between its format and its checksum.
fn body(text: &str) -> Vec<String> {
    let lines: Vec<String> = text.lines().map(str::to_owned).collect();
    lines[1..lines.len() - 1].to_vec()
}

/// The form of JSON without its values: the fields in their order. The JSON is compact.
pub(super) fn form(text: &str) -> String {
    let value: Json = serde_json::from_str(text).unwrap();
    assert_eq!(text, value.to_string(), "not as compact JSON is written");
    without_values(&value).to_string()
}

fn without_values(value: &Json) -> Json {
    match value {
        Json::Object(fields) => fields.iter().map(|(name, value)| (name.clone(), without_values(value))).collect(),
        Json::Array(values) => {
            let mut forms: Vec<Json> = values.iter().map(without_values).collect();
            forms.dedup_by_key(|form| form.to_string());
            Json::Array(forms)
        }
        _ => Json::Null,
    }
}

pub(super) fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn with_checksum(content: &str) -> String {
    format!("{content}{{\"crc32\":\"{:08x}\"}}\n", crc32fast::hash(content.as_bytes()))
}

/// Appends records with their partitions, timestamps and headers, and no transaction: its markers would take offsets.
fn produce(topic: &str, records: &[Saved]) {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", &Stack::get().bootstrap).set("enable.idempotence", "true");
    let producer: BaseProducer = config.create().unwrap();
    for Saved { partition, timestamp_ms, key, value, headers, .. } in records {
        let headers = headers
            .iter()
            .fold(OwnedHeaders::new(), |all, (key, value)| all.insert(Header { key, value: Some(value) }));
        let mut record: BaseRecord<'_, str, str> =
            BaseRecord::to(topic).partition(*partition).timestamp(*timestamp_ms).headers(headers);
        record.key = key.as_deref();
        record.payload = value.as_deref();
        producer.send(record).map_err(|(error, _)| error).unwrap();
    }
    producer.flush(Duration::from_secs(10)).unwrap();
}
