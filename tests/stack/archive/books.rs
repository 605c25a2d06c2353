//! The topic beside the files: the same records, each once, each value as it was, in the right folder.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use chrono::DateTime;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::Message;
use rdkafka::{Offset, TopicPartitionList};
use serde_json::Value as Json;

use crate::harness::Stack;
use crate::harness::orders::Archive;
use crate::harness::readers::{duckdb, files};

const PATIENCE: Duration = Duration::from_secs(60);
const CALL: Duration = Duration::from_secs(10);

/// A place in a topic.
pub(super) type Place = (i32, i64);

/// All records of a topic, read once and then kept up with.
pub(super) struct Topic {
    name: String,
    consumer: BaseConsumer,
    /// By partition: the offset after the last record.
    pub(super) ends: Vec<i64>,
    values: BTreeMap<Place, Option<Vec<u8>>>,
}

impl Topic {
    /// Everything that it has by now.
    pub(super) fn of(name: &str) -> Self {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &Stack::get().bootstrap).set("group.id", "tests");
        let consumer: BaseConsumer =
            config.set("enable.auto.commit", "false").set("fetch.wait.max.ms", "20").create().unwrap();
        let metadata = consumer.fetch_metadata(Some(name), CALL).unwrap();
        let partitions = metadata.topics()[0].partitions().len();
        let mut topic = Self { name: name.to_owned(), consumer, ends: vec![0; partitions], values: BTreeMap::new() };
        let mut list = TopicPartitionList::new();
        for (partition, (low, _)) in topic.watermarks().into_iter().enumerate() {
            topic.ends[partition] = low;
            list.add_partition_offset(name, i32::try_from(partition).unwrap(), Offset::Offset(low)).unwrap();
        }
        topic.consumer.assign(&list).unwrap();
        topic.read();
        topic
    }

    fn watermarks(&self) -> Vec<(i64, i64)> {
        let partitions = 0..i32::try_from(self.ends.len()).unwrap();
        partitions.map(|partition| self.consumer.fetch_watermarks(&self.name, partition, CALL).unwrap()).collect()
    }

    /// Reads the new records.
    pub(super) fn read(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        let high: Vec<i64> = self.watermarks().into_iter().map(|(_, high)| high).collect();
        // More may come meanwhile.
        while self.ends.iter().zip(&high).any(|(end, high)| end < high) {
            assert!(Instant::now() < deadline, "{}: {:?} of {high:?} read", self.name, self.ends);
            let Some(message) = self.consumer.poll(Duration::from_millis(100)) else { continue };
            let message = message.unwrap();
            self.values.insert((message.partition(), message.offset()), message.payload().map(<[u8]>::to_vec));
            let end = &mut self.ends[usize::try_from(message.partition()).unwrap()];
            *end = message.offset() + 1;
        }
    }

    /// The records that are a row each: changes of this table, and no tombstones, logical messages or garbage.
    pub(super) fn changes(&self, table: &str) -> BTreeMap<Place, Json> {
        let parse = |(place, value): (&Place, &Option<Vec<u8>>)| {
            let json: Json = serde_json::from_slice(value.as_deref()?).ok()?;
            let json = if json["schema"].is_object() { json["payload"].clone() } else { json };
            (json["source"]["table"] == table && json["op"] != "m").then_some((*place, json))
        };
        self.values.iter().filter_map(parse).collect()
    }
}

fn list(folder: &Path, found: &mut Vec<PathBuf>) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for entry in entries {
        let path = entry.unwrap().path();
        if path.is_dir() { list(&path, found) } else { found.push(path) }
    }
}

/// The Parquet files in it, by their names below it.
pub fn parquet(output: &Path) -> Vec<String> {
    let mut found = Vec::new();
    list(output, &mut found);
    let below = found.iter().map(|path| path.strip_prefix(output).unwrap().to_str().unwrap().to_owned());
    let mut names: Vec<String> =
        below.filter(|name| Path::new(name).extension().is_some_and(|e| e == "parquet")).collect();
    names.sort();
    names
}

/// How many of something there are, rows of a query that gives one number.
pub(super) fn count(sql: &str) -> u64 {
    duckdb(sql)[0][0].parse().unwrap()
}

/// How many rows the files have.
pub(super) fn rows(job: &Archive) -> u64 {
    if parquet(&job.output).is_empty() { 0 } else { count(&format!("SELECT count(*) FROM {}", files(&job.output))) }
}

/// Every reader sees exactly these places, each once.
#[track_caller]
pub(super) fn same_places<'a>(job: &Archive, places: impl IntoIterator<Item = &'a Place>) {
    let mut wanted: BTreeMap<Place, u32> = places.into_iter().map(|place| (*place, 0)).collect();
    let mut wrong = Vec::new();
    if !parquet(&job.output).is_empty() {
        let sql = format!("SELECT partition, \"offset\", parse_filename(filename) FROM {}", files(&job.output));
        for row in duckdb(&sql) {
            let place = (row[0].parse().unwrap(), row[1].parse().unwrap());
            match wanted.get_mut(&place) {
                Some(seen) => *seen += 1,
                None => wrong.push(format!("{place:?} in {} is not in the topic", row[2])),
            }
        }
    }
    let (missing, twice): (Vec<_>, Vec<_>) =
        wanted.into_iter().filter(|(_, seen)| *seen != 1).partition(|(_, seen)| *seen == 0);
    assert!(
        wrong.is_empty() && missing.is_empty() && twice.is_empty(),
        "{} missing {:?}…, {} twice {:?}…, wrong {wrong:?}\n{:#?}",
        missing.len(),
        missing.first(),
        twice.len(),
        twice.first(),
        parquet(&job.output)
    );
}

/// The value that names the folder of a row.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum By {
    CreatedAt,
    Commit,
}

/// The expected text of a row of [`crate::harness::orders::ORDERS`].
fn expected((place, change): (&Place, &Json), topic: &str, by: By) -> Vec<String> {
    let source = &change["source"];
    let micros = source["ts_us"].as_i64().unwrap_or_else(|| source["ts_ms"].as_i64().unwrap() * 1000);
    let committed = DateTime::from_timestamp_micros(micros).unwrap().format("%Y-%m-%d").to_string();
    let op = change["op"].as_str().unwrap();
    let image = match op {
        // The rest of the image is made up.
        "d" => &serde_json::json!({ "order_id": change["before"]["order_id"] }),
        "t" => &Json::Null,
        _ => &change["after"],
    };
    let text = |value: &Json| match value {
        Json::Null => "null".to_owned(),
        Json::String(text) => text.clone(),
        other => other.to_string(),
    };
    let date = match image["created_at"].as_str() {
        Some(at) if by == By::CreatedAt => at[..10].to_owned(),
        _ => committed,
    };
    let columns = ["order_id", "customer_name", "restaurant", "item", "quantity", "price", "status", "created_at"]
        .map(|c| &image[c]);
    let mut row = vec![place.0.to_string(), place.1.to_string(), topic.to_owned(), op.to_owned()];
    row.extend([&source["lsn"], &source["txId"]].into_iter().chain(columns).map(text));
    row.extend([micros.to_string(), date]);
    row
}

/// The rows of the files equal the topic's changes, column by column.
#[track_caller]
pub(super) fn same_rows(job: &Archive, changes: &BTreeMap<Place, Json>, by: By) {
    same_places(job, changes.keys());
    if changes.is_empty() {
        return;
    }
    let text = |column: &str| format!("coalesce({column}::VARCHAR, 'null')");
    let columns =
        ["op", "lsn", "txId", "order_id", "customer_name", "restaurant", "item", "quantity", "price", "status"];
    let sql = format!(
        "SELECT partition, \"offset\", topic, {},
                coalesce(strftime(created_at AT TIME ZONE 'UTC', '%Y-%m-%dT%H:%M:%S.%fZ'), 'null'),
                epoch_us(event_time), date
         FROM {} ORDER BY partition, \"offset\"",
        columns.map(text).join(", "),
        files(&job.output)
    );
    let wanted = changes.iter().map(|change| expected(change, &job.topic, by));
    for (found, wanted) in duckdb(&sql).into_iter().zip(wanted) {
        assert_eq!(found, wanted);
    }
}

/// The newest epoch of the checkpoint folder: its number, and its lines of JSON.
pub(super) fn newest_epoch(job: &Archive) -> (u64, Vec<Json>) {
    let numbers = std::fs::read_dir(job.checkpoints.join("offsets")).unwrap();
    let numbers = numbers.filter_map(|entry| entry.unwrap().file_name().to_str().unwrap().parse().ok());
    let newest: u64 = numbers.max().unwrap_or_else(|| panic!("no epoch in {}", job.checkpoints.display()));
    let text = std::fs::read_to_string(job.checkpoints.join(format!("offsets/{newest}"))).unwrap();
    let lines = text.lines().filter_map(|line| serde_json::from_str(line).ok()).filter(Json::is_object);
    (newest, lines.collect())
}

/// The next offsets that an epoch names, by partition.
pub(super) fn next_offsets(epoch: &[Json], topic: &str) -> Vec<i64> {
    let found = epoch.iter().find_map(|line| line.get(topic)?.as_object());
    let found = found.unwrap_or_else(|| panic!("no {topic} in {epoch:?}"));
    (0..found.len()).map(|partition| found[&partition.to_string()].as_i64().unwrap()).collect()
}

/// Each file is named after the range that its epoch has in its partition, all by one lineage, and nothing else is there.
#[track_caller]
fn sound_files(job: &Archive) {
    let ranges = format!(
        "SELECT parse_path(filename)[-2] || '/' || parse_filename(filename), partition, min(\"offset\"), max(\"offset\"), date
         FROM {} GROUP BY ALL",
        files(&job.output)
    );
    let mut names = parquet(&job.output);
    let mut lineages: Vec<String> = Vec::new();
    let rows = if names.is_empty() { Vec::new() } else { duckdb(&ranges) };
    for row in rows {
        let [name, partition, first, last, date] = row.try_into().unwrap();
        names.retain(|known| *known != name);
        let (folder, file) = name.split_once('/').unwrap();
        assert_eq!(folder, format!("date={date}"), "{name}");
        let parts: Vec<&str> = file.strip_suffix(".parquet").unwrap().splitn(5, '-').collect();
        let number = |part: &str, digits: usize| {
            assert_eq!(part.len(), digits, "{name}");
            part.parse::<i64>().unwrap_or_else(|_| panic!("{name}"))
        };
        assert_eq!((parts[0], number(parts[1], 5).to_string()), ("part", partition), "{name}");
        let range = number(parts[2], 20)..=number(parts[3], 20);
        assert!([first, last].iter().all(|offset| range.contains(&offset.parse().unwrap())), "{name} has {range:?}");
        lineages.push(parts[4].to_owned());
    }
    lineages.sort();
    lineages.dedup();
    assert!(lineages.len() <= 1, "lineages {lineages:?}");
    assert!(names.is_empty(), "files without rows, or out of a reader's sight: {names:?}");
    let mut unfinished = Vec::new();
    list(&job.output.join("_tripline/unfinished"), &mut unfinished);
    assert!(unfinished.is_empty(), "{unfinished:?}");
}

/// Both layers of progress have come to the topic's end.
#[track_caller]
pub(super) fn at_the_end(job: &Archive, topic: &Topic) {
    let committed = committed(job);
    let wanted: Vec<(i32, i64)> = (0..).zip(topic.ends.iter().copied()).collect();
    assert_eq!(committed, wanted, "the group's offsets");
    if std::fs::read_dir(job.checkpoints.join("offsets")).unwrap().next().is_none() {
        // Rebuilt, and nothing came after that.
        let source = std::fs::read_to_string(job.checkpoints.join("sources/0")).unwrap();
        let source: Vec<Json> = source.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        assert_eq!(next_offsets(&source, &job.topic), topic.ends, "{source:?}");
        return;
    }
    let (number, epoch) = newest_epoch(job);
    assert_eq!(next_offsets(&epoch, &job.topic), topic.ends, "{epoch:?}");
    assert!(job.checkpoints.join(format!("commits/{number}")).exists(), "commits/{number}");
}

/// The group's next offset of each partition that has one.
pub(super) fn committed(job: &Archive) -> Vec<(i32, i64)> {
    let committed = crate::recovery::cluster::Cluster::shared().committed(&job.group, &job.topic);
    committed.into_iter().map(|(partition, (next, _))| (partition, next)).collect()
}

/// Everything: rows, files, progress. Of orders, in folders by what the job says.
#[track_caller]
pub(super) fn check(job: &Archive, topic: &Topic) {
    let by = if job.partition_by.is_some() { By::CreatedAt } else { By::Commit };
    same_rows(job, &topic.changes("orders"), by);
    sound_files(job);
    at_the_end(job, topic);
}

/// The same, of everything that the job's topic has by now.
#[track_caller]
pub(super) fn check_now(job: &Archive) {
    check(job, &Topic::of(&job.topic));
}
