//! The content of the checkpoint folder's files, and its conversion to bytes and back.
//!
//! | file | format 3 | format 2 | format 1 |
//! |---|---|---|---|
//! | `lineage.json` | a line of JSON, a line with its CRC-32 | the same | JSON only, without cluster and origin |
//! | `offsets/N` | `v3`, head, offsets, body, CRC-32: a line each | `v2` | `v1`, the head has neither number nor marks |
//! | `commits/N` | `v3`, `{}`, CRC-32 | `v2` | `v1` |
//! | `sources/0` | `v3`, offsets, CRC-32 | `v2` | not there |
//! | `state/N` | a line of JSON, the body, CRC-32 in four bytes | less in the body | not read, the head has no format |
//!
//! Earlier formats are read as far as the table says, and never written. `offsets/N` and `state/N` have format 4 if a
//! run reads several topics, or has read another one before in this lineage. In format 4, the head of `offsets/N` names
//! all topics in the order of their places, and those that are no longer read. The marks are by topic, and the offsets
//! are those of all topics. `state/N` has the contract of each table, and the rows to look up by table.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use super::{CheckpointError, file};
use crate::contract::{Contract, Contracts};
use crate::model::Timestamp;
use crate::model::text::without_value;
use crate::progress::start::FolderState;
use crate::progress::{Committed, Epoch, LastRecord, LastRecords, Offsets, Topics};

/// The format of the folder of a run with one topic.
pub const FORMAT: u32 = 3;
/// The format with several topics. A later version writes a greater number.
pub const FORMAT_MAX: u32 = 4;
/// The oldest format of states that can be read. Older states are skipped, and the windows are read again.
const FIRST_STATE_FORMAT: u32 = 2;

/// `lineage.json`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lineage {
    /// The format of the folder.
    pub format: u32,
    /// The id, a UUIDv7.
    pub id: String,
    /// The consumer group.
    pub group: String,
    /// The topic that is read.
    pub topic: String,
    /// The id of the Kafka cluster, if it was known.
    #[serde(default)]
    pub cluster: Option<String>,
    /// The group's commit when the lineage came into this folder.
    #[serde(default)]
    pub origin: Option<Committed>,
}

impl Lineage {
    /// Returns the state of a folder that has this lineage and this newest epoch. `is_starting`: the epoch is the
    /// folder's first and is not finished.
    pub fn state<B>(self, newest: Epoch<B>, is_starting: bool) -> FolderState {
        FolderState {
            lineage: self.id,
            topics: newest.topics,
            cluster: self.cluster,
            origin: self.origin,
            epoch: newest.number,
            offsets: newest.offsets,
            kept: newest.kept,
            last_records: newest.last_records,
            at: newest.at,
            is_starting,
        }
    }
}

/// The finished bytes of `offsets/N`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Encoded {
    /// The number of the epoch.
    pub number: u64,
    /// The content of the file.
    pub bytes: Vec<u8>,
    /// The CRC-32 of the lines before the last one, which holds it.
    pub crc: u32,
}

/// The head of `state/N`: a line of JSON before the compact body.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StateHead {
    /// The format of the body: [`FORMAT`] or [`FORMAT_MAX`].
    #[serde(default = "first_format")]
    pub format: u32,
    /// The id of the lineage.
    pub lineage: String,
    /// The epoch of the state.
    pub epoch: u64,
    /// The next offsets of that epoch.
    pub offsets: Offsets,
    /// The names and versions of the rules in the body, in order.
    pub rules: Vec<(String, String)>,
    /// The state of table and server for which the windows are valid. `None` where it had changed, or was not recorded
    /// yet (format 2).
    #[serde(default)]
    pub contract: Option<Contract>,
    /// The same for each table by its name, if changes of several are read.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub contracts: BTreeMap<String, Contract>,
}

impl StateHead {
    /// Returns the contracts of the windows, with the tables' names of `now`. `None` where the head has none.
    pub fn believed(&self, now: &Contracts) -> Option<Contracts> {
        if self.contracts.is_empty() {
            return self.contract.clone().map(|contract| now.named(contract));
        }
        Some(Contracts(self.contracts.clone()))
    }

    /// Returns the head with these contracts.
    #[must_use]
    pub fn with(self, contracts: Option<&Contracts>) -> Self {
        let all = contracts.map(|contracts| contracts.0.clone()).unwrap_or_default();
        if all.len() > 1 {
            return Self { contracts: all, ..self };
        }
        Self { contract: all.into_values().next(), ..self }
    }

    /// Whether the format can have a contract.
    pub fn has_contract(&self) -> bool {
        self.format >= 3
    }

    /// Whether this version can read the format of the body.
    pub(super) fn is_readable(&self) -> bool {
        (FIRST_STATE_FORMAT..=FORMAT_MAX).contains(&self.format)
    }
}

fn first_format() -> u32 {
    1
}

/// The second line of `offsets/N`, with the names of Spark's offset log.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct EpochHead {
    batch_watermark_ms: i64,
    batch_timestamp_ms: i64,
    at: Timestamp,
    lineage: String,
    epoch: u64,
    #[serde(rename = "marks")]
    last_records: LastRecords,
    conf: BTreeMap<String, String>,
}

/// The second line of `offsets/N` in format 4.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct EpochHeadOfSeveral {
    batch_watermark_ms: i64,
    batch_timestamp_ms: i64,
    at: Timestamp,
    lineage: String,
    epoch: u64,
    topics: Vec<String>,
    kept: Vec<String>,
    #[serde(rename = "marks")]
    last_records: BTreeMap<String, BTreeMap<i32, LastRecord>>,
    conf: BTreeMap<String, String>,
}

/// The second line of `offsets/N` in format 1.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct EpochHeadV1 {
    #[serde(rename = "batchWatermarkMs")]
    _batch_watermark_ms: i64,
    #[serde(rename = "batchTimestampMs")]
    _batch_timestamp_ms: i64,
    at: Timestamp,
    lineage: String,
    conf: BTreeMap<String, String>,
}

impl Encoded {
    /// Returns the bytes of an epoch's file.
    ///
    /// # Errors
    /// JSON cannot hold the body.
    pub fn of<B: Serialize>(epoch: &Epoch<B>) -> Result<Self, CheckpointError> {
        let several = epoch.topics.are_several();
        let (batch_watermark_ms, batch_timestamp_ms, at) = (0, epoch.at.millis(), epoch.at);
        let (lineage, number, conf) = (epoch.lineage.clone(), epoch.number, epoch.conf.clone());
        let (head, topics) = if several {
            let head = EpochHeadOfSeveral {
                batch_watermark_ms,
                batch_timestamp_ms,
                at,
                lineage,
                epoch: number,
                topics: epoch.topics.names().to_vec(),
                kept: epoch.topics.unread().map(str::to_owned).collect(),
                last_records: epoch.topics.by_topic(&epoch.last_records),
                conf,
            };
            let all = epoch.offsets.iter().chain(&epoch.kept).map(|(lane, next)| (*lane, *next)).collect();
            (serde_json::to_string(&head), epoch.topics.by_topic(&all))
        } else {
            let last_records = epoch.last_records.clone();
            let head =
                EpochHead { batch_watermark_ms, batch_timestamp_ms, at, lineage, epoch: number, last_records, conf };
            (serde_json::to_string(&head), BTreeMap::from([(epoch.topics.text(), epoch.offsets.clone())]))
        };
        let lines = [head, serde_json::to_string(&topics), serde_json::to_string(&epoch.body)];
        let mut text = format!("v{}\n", if several { FORMAT_MAX } else { FORMAT });
        for line in lines {
            let path = PathBuf::from("offsets").join(epoch.number.to_string());
            text.push_str(&line.map_err(|e| CheckpointError::Damaged { path, problem: e.to_string() })?);
            text.push('\n');
        }
        let crc = crc32fast::hash(text.as_bytes());
        Ok(Self { number: epoch.number, bytes: file::with_checksum(text), crc })
    }
}

/// Reads the bytes of `offsets/N`. Returns the epoch and the checksum.
///
/// # Errors
/// The bytes are damaged, of another epoch, or of a later version.
pub fn decode<B: DeserializeOwned>(bytes: &[u8], number: u64, path: &Path) -> Result<(Epoch<B>, u32), CheckpointError> {
    let damaged = |problem: &str| CheckpointError::Damaged {
        path: path.to_owned(),
        problem: format!("{problem}, and its alerts may have been delivered already, so it is not passed over"),
    };
    let (lines, crc) = file::checked_lines(bytes).map_err(damaged)?;
    let version = lines.first().and_then(|line| line.strip_prefix('v')?.parse().ok());
    let version: u32 = version.ok_or_else(|| damaged("it does not begin with its format"))?;
    if version > FORMAT_MAX {
        return Err(CheckpointError::Format { path: path.to_owned(), found: version });
    }
    let [_, head, offsets, body] = lines.as_slice() else {
        return Err(damaged("it does not have the lines of an epoch"));
    };
    let bad = |e: serde_json::Error| damaged(&unreadable(&e));
    if version == FORMAT_MAX {
        let head: EpochHeadOfSeveral = serde_json::from_str(head).map_err(bad)?;
        let offsets = topics_of(offsets).map_err(|problem| damaged(&problem))?;
        let body = serde_json::from_str(body).map_err(bad)?;
        return epoch_of_several(head, offsets, body, number)
            .map(|epoch| (epoch, crc))
            .map_err(|problem| damaged(&problem));
    }
    let (lineage, last_records, at, conf) = if version == 1 {
        let head: EpochHeadV1 = serde_json::from_str(head).map_err(bad)?;
        (head.lineage, LastRecords::new(), head.at, head.conf)
    } else {
        let head: EpochHead = serde_json::from_str(head).map_err(bad)?;
        if head.epoch != number {
            return Err(damaged(&format!("it holds epoch {}", head.epoch)));
        }
        (head.lineage, head.last_records, head.at, head.conf)
    };
    let (topic, offsets) = topic_of(offsets).map_err(|problem| damaged(&problem))?;
    let body = serde_json::from_str(body).map_err(bad)?;
    let (topics, kept) = (Topics::from(topic.as_str()), Offsets::new());
    Ok((Epoch { number, lineage, topics, offsets, kept, last_records, at, conf, body }, crc))
}

/// Returns an epoch of format 4.
fn epoch_of_several<B>(
    head: EpochHeadOfSeveral,
    mut offsets: BTreeMap<String, Offsets>,
    body: B,
    number: u64,
) -> Result<Epoch<B>, String> {
    let EpochHeadOfSeveral { at, lineage, epoch, topics, kept, last_records, conf, .. } = head;
    if epoch != number {
        return Err(format!("it holds epoch {epoch}"));
    }
    if let Some(other) = offsets.keys().chain(last_records.keys()).chain(&kept).find(|name| !topics.contains(name)) {
        return Err(format!("its head does not name topic {other}"));
    }
    let read: Vec<String> = topics.iter().filter(|name| !kept.contains(name)).cloned().collect();
    let topics = Topics::new(topics).reading(&read);
    let kept = kept.iter().filter_map(|name| offsets.remove_entry(name)).collect();
    let (kept, offsets, last_records) = (topics.by_lane(kept), topics.by_lane(offsets), topics.by_lane(last_records));
    Ok(Epoch { number, lineage, topics, offsets, kept, last_records, at, conf, body })
}

impl Lineage {
    /// Returns the bytes of the lineage's file.
    pub(super) fn encode(&self) -> Result<Vec<u8>, serde_json::Error> {
        Ok(file::with_checksum(serde_json::to_string(self)? + "\n"))
    }

    /// Reads the bytes of `lineage.json`. The file of format 1 has no checksum, and says its format in a field.
    ///
    /// # Errors
    /// The bytes are damaged, or of a later version.
    pub(super) fn decode(bytes: &[u8], path: &Path) -> Result<Self, CheckpointError> {
        let damaged = |problem: String| CheckpointError::Damaged { path: path.to_owned(), problem };
        let (text, problem) = match file::checked_lines(bytes) {
            Ok((lines, _)) => (lines.concat().into_bytes(), None),
            // Without a checksum, all of the text counts.
            Err(problem) => (bytes.to_vec(), Some(problem)),
        };
        let json: serde_json::Result<Json> = serde_json::from_slice(&text);
        let json = json.map_err(|e| damaged(problem.map_or_else(|| unreadable(&e), str::to_owned)))?;
        let found = json.get("format").and_then(Json::as_u64).unwrap_or(0);
        if found > u64::from(FORMAT_MAX) {
            let found = u32::try_from(found).unwrap_or(u32::MAX);
            return Err(CheckpointError::Format { path: path.to_owned(), found });
        }
        match problem {
            Some(problem) if found != 1 => Err(damaged(problem.to_owned())),
            // The text is parsed again, so that a name which occurs twice is an error.
            _ => serde_json::from_slice(&text).map_err(|e| damaged(unreadable(&e))),
        }
    }
}

/// Returns the bytes of `commits/N`.
pub(super) fn finished() -> Vec<u8> {
    file::with_checksum(format!("v{FORMAT}\n{{}}\n"))
}

/// Returns the bytes of `sources/0`: the format, then topic → partition → next offset as Spark writes it, and a
/// checksum.
pub(super) fn source(topic: &str, from: &Offsets) -> serde_json::Result<Vec<u8>> {
    let json = serde_json::to_string(&BTreeMap::from([(topic, from)]))?;
    Ok(file::with_checksum(format!("v{FORMAT}\n{json}\n")))
}

/// Reads the bytes of `sources/0`.
pub(super) fn read_source(bytes: &[u8], path: &Path) -> Result<Offsets, CheckpointError> {
    let damaged = |problem: &str| CheckpointError::Damaged { path: path.to_owned(), problem: problem.to_owned() };
    let (lines, _) = file::checked_lines(bytes).map_err(damaged)?;
    let [version, json] = lines.as_slice() else { return Err(damaged("it does not have the lines of a source")) };
    let version = version.strip_prefix('v').and_then(|version| version.parse().ok());
    let found: u32 = version.ok_or_else(|| damaged("it does not begin with its format"))?;
    if found > FORMAT_MAX {
        return Err(CheckpointError::Format { path: path.to_owned(), found });
    }
    topic_of(json).map(|(_, from)| from).map_err(|problem| damaged(&problem))
}

/// Returns the only topic of a line of offsets.
fn topic_of(json: &str) -> Result<(String, Offsets), String> {
    let mut topics = topics_of(json)?;
    let (topic, offsets) = topics.pop_first().ok_or("it names no topic")?;
    if !topics.is_empty() {
        return Err("it names more topics than one".to_owned());
    }
    Ok((topic, offsets))
}

/// Returns the topics of a line of offsets.
fn topics_of(json: &str) -> Result<BTreeMap<String, Offsets>, String> {
    let topics: BTreeMap<String, Offsets> = serde_json::from_str(json).map_err(|e| unreadable(&e))?;
    if topics.values().flatten().any(|(partition, next)| *partition < 0 || next.0 < 0) {
        return Err("it has a partition or an offset below zero".to_owned());
    }
    Ok(topics)
}

/// Returns the problem with JSON, without any of its values.
fn unreadable(error: &serde_json::Error) -> String {
    format!("it cannot be read: {}", without_value(&error.to_string()))
}

/// Splits `state/N` into head and body. `None` where it is damaged.
pub(super) fn split_state(bytes: &[u8]) -> Option<(StateHead, Vec<u8>)> {
    let (content, crc) = bytes.split_last_chunk::<4>()?;
    if crc32fast::hash(content) != u32::from_le_bytes(*crc) {
        return None;
    }
    let end = content.iter().position(|byte| *byte == b'\n')?;
    let head = serde_json::from_slice(content.get(..end)?).ok()?;
    Some((head, content.get(end + 1..)?.to_vec()))
}
