//! A table, the topic of its changes, instances that work on it, and what they have told.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value as Json;

use crate::harness::{Database, Job, Record, psql, try_psql, wait_for};
use crate::truth::feed::{as_they_are, parsed};
use crate::truth::server::Server;

use super::cluster::Cluster;
use super::run::{Done, Run};

/// A user, and how his alert stands.
pub(super) type Told = (i64, &'static str);

pub(super) fn firing(users: impl IntoIterator<Item = i64>) -> Vec<Told> {
    users.into_iter().map(|user| (user, "firing")).collect()
}

pub(super) fn resolved(users: impl IntoIterator<Item = i64>) -> Vec<Told> {
    users.into_iter().map(|user| (user, "resolved")).collect()
}

/// Where the table is.
pub(super) enum Truth {
    Shared(Database),
    Own(Server),
}

impl Truth {
    pub(super) fn sql(&self, sql: &str) -> Vec<Vec<String>> {
        match self {
            Self::Shared(database) => psql(&database.name, sql),
            Self::Own(server) => server.sql(sql),
        }
    }

    fn try_sql(&self, sql: &str) -> Result<Vec<Vec<String>>, String> {
        match self {
            Self::Shared(database) => try_psql(&database.name, sql),
            Self::Own(server) => server.try_sql(sql),
        }
    }
}

pub(super) struct World {
    pub(super) cluster: Cluster,
    pub(super) truth: Truth,
    pub(super) topic: String,
    pub(super) group: String,
    name: String,
    folder: tempfile::TempDir,
    /// `[kafka.properties]`
    pub(super) properties: Vec<(&'static str, &'static str)>,
    pub(super) sql: String,
    pub(super) trigger_interval_ms: u32,
}

impl World {
    /// On the servers that all tests use.
    pub(super) fn new(test: &str) -> Self {
        let database = Database::new(&format!("recovery_{test}"));
        Self::of(test, Cluster::shared(), Truth::Shared(database))
    }

    /// With a database of its own, which the test may stop.
    pub(super) fn with_server(test: &str) -> Self {
        Self::of(test, Cluster::shared(), Truth::Own(Server::new("")))
    }

    pub(super) fn of(test: &str, cluster: Cluster, truth: Truth) -> Self {
        let name = format!("recovery_{test}_{}", std::process::id());
        let folder = tempfile::tempdir().unwrap();
        let (topic, group) = (format!("{name}.changes"), format!("{name}.group"));
        let sql = crate::harness::RULE.to_owned();
        // The shortest that a broker takes.
        let properties = vec![("session.timeout.ms", "6000")];
        Self { cluster, truth, topic, group, name, folder, properties, sql, trigger_interval_ms: 200 }
    }

    pub(super) fn server(&mut self) -> &mut Server {
        match &mut self.truth {
            Truth::Own(server) => server,
            Truth::Shared(_) => panic!("the database is everybody's"),
        }
    }

    /// The configuration of an instance, with a checkpoint folder of its own.
    pub(super) fn job(&self, instance: &str) -> Job {
        let database = match &self.truth {
            Truth::Shared(database) => database.name.as_str(),
            Truth::Own(_) => "postgres",
        };
        let mut job = Job::new(self.folder.path(), database, &self.group, &self.topic);
        if let Truth::Own(server) = &self.truth {
            job.url = server.url();
        }
        job.bootstrap.clone_from(&self.cluster.bootstrap);
        job.sql.clone_from(&self.sql);
        job.alert_topic = format!("{}.alerts", self.name);
        job.dead_letter_topic = format!("{}.dead-letter", self.name);
        job.checkpoints = self.folder.path().join(instance);
        // What is left of a transaction in one test would hold up the others.
        job.environment = vec![
            ("TRIPLINE__CHECKPOINT__EPISODES_TOPIC", self.recovery_topic()),
            ("TRIPLINE__CHECKPOINT__TRIGGER_INTERVAL_MS", self.trigger_interval_ms.to_string()),
        ];
        let properties = self.properties.iter().map(|(name, value)| format!("\"{name}\" = \"{value}\"\n"));
        job.source = format!("[kafka.properties]\n{}[alerts.postgres]\n", properties.collect::<String>());
        job
    }

    /// Where an instance keeps its progress.
    pub(super) fn checkpoint(&self, instance: &str) -> PathBuf {
        self.folder.path().join(instance).join(&self.group)
    }

    /// Reads to the end of the topic, which goes well.
    pub(super) fn read(&self, instance: &str) -> Done {
        Run::to_the_end(&self.job(instance)).ended().well()
    }

    /// Carries out what the message of a refused run names.
    pub(super) fn reset_to_earliest(&self, instance: &str) {
        let job = self.job(instance);
        let reset = ["offsets", "reset", "--to-earliest", "--execute"];
        wait_for("the group is reset", || {
            let done = job.command(&reset).output().unwrap();
            let told = String::from_utf8_lossy(&done.stderr).into_owned();
            assert!(done.status.success() || told.contains("active member"), "{told}");
            done.status.success().then_some(())
        });
    }

    /// Rows of these ids, each of the user of the same number. The stream knows nothing yet.
    pub(super) fn insert(&self, users: std::ops::RangeInclusive<i64>, amount: &str) {
        let (first, last) = users.into_inner();
        self.truth.sql(&format!(
            "INSERT INTO streaming.transactions (id, user_id, amount)
             SELECT n, n, {amount} FROM generate_series({first}, {last}) AS n"
        ));
    }

    /// The rows that a condition names, as they are now: created, or updated (`op`).
    pub(super) fn records(&self, op: &str, condition: &str) -> Vec<Record> {
        parsed(self.truth.sql(&as_they_are(op, condition)))
    }

    pub(super) fn tell(&self, records: &[Record]) {
        self.cluster.produce(&self.topic, 0, records);
    }

    /// Rows of these ids, in the table and in the stream.
    pub(super) fn spend(&self, users: std::ops::RangeInclusive<i64>, amount: &str) {
        self.insert(users.clone(), amount);
        let (first, last) = users.into_inner();
        self.tell(&self.records("c", &format!("id BETWEEN {first} AND {last}")));
    }

    /// The row of this id is given another amount, in the table and in the stream.
    pub(super) fn change(&self, id: i64, amount: &str) {
        self.truth.sql(&format!("UPDATE streaming.transactions SET amount = {amount} WHERE id = {id}"));
        self.tell(&self.records("u", &format!("id = {id}")));
    }

    /// The records that a reader of committed records finds on the alert topic.
    pub(super) fn alerts(&self) -> Vec<Json> {
        self.cluster.records(&format!("{}.alerts", self.name)).iter().map(Record::json).collect()
    }

    /// The topic with a copy of the group's progress and of its open episodes.
    pub(super) fn recovery_topic(&self) -> String {
        format!("{}.episodes", self.name)
    }

    /// Until so many alerts are on the topic.
    pub(super) fn wait_for_alerts(&self, alerts: usize) {
        wait_for(&format!("{alerts} alerts are told"), || (self.alerts().len() >= alerts).then_some(()));
    }

    /// Until the group has come to this next offset of partition 0.
    pub(super) fn wait_committed(&self, next: i64) {
        wait_for(&format!("offset {next} is committed"), || (self.committed() == Some(next)).then_some(()));
    }

    /// The group's next offset in partition 0.
    pub(super) fn committed(&self) -> Option<i64> {
        Some(self.cluster.committed(&self.group, &self.topic).get(&0)?.0)
    }

    /// Exactly these alerts were told, each once: in the topic, as a reader of committed records sees it, and in the
    /// table, in the same words.
    #[track_caller]
    pub(super) fn one_each(&self, want: &[&[Told]]) {
        let alerts = self.alerts();
        let mut want: Vec<(i64, String)> =
            want.concat().into_iter().map(|(user, status)| (user, status.to_owned())).collect();
        let mut got: Vec<(i64, String)> = alerts.iter().map(who).collect();
        want.sort_unstable();
        got.sort_unstable();
        assert_eq!(got, want, "on the topic");
        let topic: BTreeMap<&str, &Json> = alerts.iter().map(|alert| (text(alert, "id"), alert)).collect();
        assert_eq!(topic.len(), alerts.len(), "an id twice");
        let rows = wait_for("the table can be read", || {
            self.truth.try_sql("SELECT to_jsonb(a) FROM tripline.alerts AS a").ok()
        });
        let rows: Vec<Json> = rows.iter().map(|row| serde_json::from_str(&row[0]).unwrap()).collect();
        let table: BTreeMap<&str, &Json> = rows.iter().map(|row| (text(row, "id"), row)).collect();
        assert_eq!(table.keys().collect::<Vec<_>>(), topic.keys().collect::<Vec<_>>(), "in the table");
        for (id, row) in table {
            for field in ["group", "lineage", "status", "key", "message", "episode", "stream", "database"] {
                assert_eq!(row[field], topic[id][field], "{field} of {id}");
            }
        }
        // Every episode ends once, if it does, after it began.
        let mut episodes: BTreeMap<(String, String, String), Vec<&str>> = BTreeMap::new();
        for alert in &alerts {
            let episode = (alert["lineage"].to_string(), alert["key"].to_string(), alert["episode"].to_string());
            episodes.entry(episode).or_default().push(text(alert, "status"));
        }
        for (episode, told) in episodes {
            assert!(matches!(told[..], ["firing"] | ["firing", "resolved"]), "{episode:?}: {told:?}");
        }
    }

    /// The lineage that an instance's folder holds.
    pub(super) fn lineage(&self, instance: &str) -> String {
        let text = std::fs::read_to_string(self.checkpoint(instance).join("lineage.json")).unwrap();
        let line: Json = serde_json::from_str(text.lines().next().unwrap()).unwrap();
        line["id"].as_str().unwrap().to_owned()
    }

    /// The lineages that were moved aside in it.
    pub(super) fn aside(&self, instance: &str) -> Vec<String> {
        names(&self.checkpoint(instance).join("lineages"))
    }

    /// Whether the newest epoch in it has gone everywhere.
    pub(super) fn finished(&self, instance: &str) -> bool {
        let newest = self.epochs(instance).pop().unwrap();
        self.checkpoint(instance).join("commits").join(newest.to_string()).exists()
    }

    /// The numbers of the epochs in it.
    pub(super) fn epochs(&self, instance: &str) -> Vec<u64> {
        let mut numbers: Vec<u64> =
            names(&self.checkpoint(instance).join("offsets")).iter().map(|name| name.parse().unwrap()).collect();
        numbers.sort_unstable();
        numbers
    }
}

fn text<'a>(value: &'a Json, field: &str) -> &'a str {
    value[field].as_str().unwrap_or_else(|| panic!("no {field} in {value}"))
}

fn who(alert: &Json) -> (i64, String) {
    (alert["key"]["user_id"].as_i64().unwrap(), text(alert, "status").to_owned())
}

fn names(folder: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort_unstable();
    names
}

/// A copy of a checkpoint folder.
pub(super) fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for name in names(from) {
        let (from, to) = (from.join(&name), to.join(&name));
        if from.is_dir() {
            copy(&from, &to);
        } else {
            std::fs::copy(from, to).unwrap();
        }
    }
}

/// The contents of every file in a checkpoint folder, by its path.
pub(super) fn contents(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut all = BTreeMap::new();
    for name in names(folder) {
        let path = folder.join(name);
        if path.is_dir() {
            all.extend(contents(&path));
        } else {
            all.insert(path.clone(), std::fs::read(&path).unwrap());
        }
    }
    all
}
