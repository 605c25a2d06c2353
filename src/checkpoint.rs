//! Progress in two layers: a folder per consumer group, and the offsets of the group in Kafka.
//!
//! ```text
//! <dir>/<group>/
//!   lock                held by the one process that works on the folder
//!   lineage.json        id and format version of this life of the group's progress
//!   offsets/N           epoch N: next offsets, candidates, finished alerts; readable, with a checksum
//!   commits/N           epoch N has been delivered and committed
//!   state/N             windows and open episodes as of epoch N
//!   lineages/<id>/      earlier lineages, moved aside whole
//! ```
//!
//! - this file: the folder and its files
//! - [`start`]: which of the two layers to believe, pure
//! - [`file`]: how one file is written so that it is there whole or not at all

pub mod file;
pub mod start;

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::alert::Alert;
use crate::episode::Candidate;
use crate::model::{Key, NextOffset, Timestamp};

/// The format of the folder. A greater number in `lineage.json` was written by a later version.
pub const FORMAT: u32 = 1;

/// Finished epochs that are kept for a reader.
const EPOCHS_KEPT: u64 = 100;

/// Copies of the state that are kept: a torn one falls back to the one before.
const STATES_KEPT: usize = 2;

/// The folders of a lineage.
const PARTS: [&str; 3] = ["offsets", "commits", "state"];

/// Next offsets by partition.
pub type Offsets = BTreeMap<i32, NextOffset>;

/// What can go wrong with the folder. Each text says what to do.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// The file system refused.
    #[error("checkpoint folder: cannot {action} {path}: {source}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which path.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// Another process works on it.
    #[error(
        "checkpoint folder {0} is in use by another process: stop that one, or give this one a group id or checkpoint.dir of its own"
    )]
    Locked(PathBuf),
    /// A linked file is damaged.
    #[error("checkpoint file {path}: {problem}; restore it from a copy, or move the folder away to rebuild from Kafka")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// Written by a version that this one does not know.
    #[error("checkpoint folder {path} has format {found}, this version reads up to {FORMAT}: use a newer tripline")]
    Format {
        /// The folder.
        path: PathBuf,
        /// The format found.
        found: u32,
    },
}

/// `lineage.json`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lineage {
    /// Format version of the folder.
    pub format: u32,
    /// UUIDv7.
    pub id: String,
    /// Consumer group.
    pub group: String,
    /// The topic read.
    pub topic: String,
}

/// One epoch: a range of offsets with the decisions taken in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Epoch {
    /// Counted from 0 in a lineage.
    pub number: u64,
    /// The lineage.
    pub lineage: String,
    /// The topic.
    pub topic: String,
    /// Next offsets after this epoch.
    pub offsets: Offsets,
    /// NOW() when it was closed.
    pub at: Timestamp,
    /// The rules it was decided by: name → version and keys.
    pub rules: BTreeMap<String, String>,
    /// Alerts decided in it, finished.
    pub alerts: Vec<Alert>,
    /// Candidates that were still waiting, by rule.
    pub waiting: Vec<(String, Key, Candidate)>,
}

/// The second line of `offsets/N`, named as in Spark's offset log.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct EpochHead {
    batch_watermark_ms: i64,
    batch_timestamp_ms: i64,
    at: Timestamp,
    lineage: String,
    conf: BTreeMap<String, String>,
}

/// The fourth line of `offsets/N`.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct EpochBody {
    alerts: Vec<Alert>,
    waiting: Vec<(String, Key, Candidate)>,
}

/// The head of `state/N`: a line of JSON before the compact body.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StateHead {
    /// Lineage.
    pub lineage: String,
    /// The epoch it was taken at.
    pub epoch: u64,
    /// Next offsets of that epoch.
    pub offsets: Offsets,
    /// Names and versions of the rules in the body, in order.
    pub rules: Vec<(String, String)>,
}

/// The open folder of one group. Locked until it is dropped.
#[derive(Debug)]
pub struct Folder {
    root: PathBuf,
    _lock: File,
}

impl Folder {
    /// Opens or makes `<dir>/<group>` and locks it.
    ///
    /// # Errors
    /// The folder is locked by another process, or the file system refuses.
    pub fn open(dir: &Path, group: &str) -> Result<Self, CheckpointError> {
        let root = dir.join(group);
        for part in PARTS {
            create(&root.join(part))?;
        }
        let path = root.join("lock");
        let lock = OpenOptions::new().create(true).truncate(false).write(true).open(&path);
        let lock = lock.map_err(|source| CheckpointError::Io { action: "open", path, source })?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { root, _lock: lock }),
            Err(TryLockError::WouldBlock) => Err(CheckpointError::Locked(root)),
            Err(TryLockError::Error(source)) => Err(CheckpointError::Io { action: "lock", path: root, source }),
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.root
    }

    /// The current lineage; `None` in a new folder.
    ///
    /// # Errors
    /// A damaged file or an unknown format.
    pub fn lineage(&self) -> Result<Option<Lineage>, CheckpointError> {
        let path = self.root.join("lineage.json");
        let Some(text) = file::read(&path)? else { return Ok(None) };
        let damaged = |problem: String| CheckpointError::Damaged { path: path.clone(), problem };
        let json: serde_json::Value = serde_json::from_slice(&text).map_err(|e| damaged(e.to_string()))?;
        let found = json.get("format").and_then(serde_json::Value::as_u64).unwrap_or(0);
        if found > u64::from(FORMAT) {
            let found = u32::try_from(found).unwrap_or(u32::MAX);
            return Err(CheckpointError::Format { path: self.root.clone(), found });
        }
        serde_json::from_value(json).map(Some).map_err(|e| damaged(e.to_string()))
    }

    /// Starts a new lineage: what is there is moved aside whole.
    ///
    /// # Errors
    /// The file system refuses.
    pub fn begin(&self, lineage: &Lineage) -> Result<(), CheckpointError> {
        if self.lineage()?.is_some() || !self.numbers("offsets")?.is_empty() {
            self.set_aside()?;
        }
        let text = serde_json::to_vec_pretty(lineage).unwrap_or_default();
        file::replace(&self.root.join("lineage.json"), &text)
    }

    /// Moves the lineage that is here aside, its name last: after a crash part-way it is still known by it, and
    /// the rest follows.
    fn set_aside(&self) -> Result<(), CheckpointError> {
        const NAME: &str = "lineage.json";
        let name = self.lineage()?.map_or_else(|| "unnamed".to_owned(), |lineage| lineage.id);
        let lineages = self.root.join("lineages");
        let mut aside = lineages.join(&name);
        // A lineage that goes on elsewhere can come here more than once.
        let mut times = 1;
        while aside.join(NAME).exists() {
            times += 1;
            aside = lineages.join(format!("{name}.{times}"));
        }
        create(&aside)?;
        for part in PARTS.into_iter().chain([NAME]) {
            let (from, to) = (self.root.join(part), aside.join(part));
            // What was moved before the crash has been made anew since, and is empty.
            let moved = if to.is_dir() { fs::remove_dir(&from) } else { fs::rename(&from, &to) };
            match moved {
                Err(source) if source.kind() != io::ErrorKind::NotFound => {
                    return Err(CheckpointError::Io { action: "move aside", path: from, source });
                }
                _ => {}
            }
        }
        for part in PARTS {
            create(&self.root.join(part))?;
        }
        file::sync_folder(&self.root)
    }

    /// The newest epoch.
    ///
    /// # Errors
    /// A damaged file: its epoch may have been delivered, so it is not passed over.
    pub fn newest_epoch(&self) -> Result<Option<Epoch>, CheckpointError> {
        match self.numbers("offsets")?.last() {
            Some(number) => self.epoch(*number).map(Some),
            None => Ok(None),
        }
    }

    /// The epochs after `number` (all of them for `None`), in order.
    ///
    /// # Errors
    /// A damaged file.
    pub fn epochs_after(&self, number: Option<u64>) -> Result<Vec<Epoch>, CheckpointError> {
        self.numbers("offsets")?.into_iter().filter(|n| Some(*n) > number).map(|n| self.epoch(n)).collect()
    }

    /// The epochs that were logged and not marked as delivered, in order.
    ///
    /// # Errors
    /// A damaged file.
    pub fn undelivered(&self) -> Result<Vec<Epoch>, CheckpointError> {
        let delivered = self.numbers("commits")?;
        let logged = self.numbers("offsets")?.into_iter();
        logged.filter(|n| delivered.binary_search(n).is_err()).map(|n| self.epoch(n)).collect()
    }

    fn epoch(&self, number: u64) -> Result<Epoch, CheckpointError> {
        let path = self.root.join("offsets").join(number.to_string());
        let damaged = |problem: &str| CheckpointError::Damaged { path: path.clone(), problem: problem.to_owned() };
        let bytes = file::read(&path)?.ok_or_else(|| damaged("it is gone"))?;
        let lines = file::checked_lines(&bytes).map_err(damaged)?;
        let [version, head, offsets, body] = lines.as_slice() else {
            return Err(damaged("it does not have the lines of an epoch"));
        };
        if *version != "v1" {
            return Err(damaged(&format!("it has version {version}, this one reads v1")));
        }
        let bad = |e: serde_json::Error| damaged(&e.to_string());
        let head: EpochHead = serde_json::from_str(head).map_err(bad)?;
        let topics: BTreeMap<String, Offsets> = serde_json::from_str(offsets).map_err(bad)?;
        let body: EpochBody = serde_json::from_str(body).map_err(bad)?;
        let (topic, offsets) = topics.into_iter().next().ok_or_else(|| damaged("it names no topic"))?;
        let EpochHead { at, lineage, conf: rules, .. } = head;
        Ok(Epoch { number, lineage, topic, offsets, at, rules, alerts: body.alerts, waiting: body.waiting })
    }

    /// Logs an epoch: the point of commit. No effect of the epoch may leave before this has returned.
    ///
    /// # Errors
    /// The file system refuses, or the epoch is there already.
    pub fn log(&self, epoch: &Epoch) -> Result<(), CheckpointError> {
        let path = self.root.join("offsets").join(epoch.number.to_string());
        let head = EpochHead {
            batch_watermark_ms: 0,
            batch_timestamp_ms: epoch.at.millis(),
            at: epoch.at,
            lineage: epoch.lineage.clone(),
            conf: epoch.rules.clone(),
        };
        let topics = BTreeMap::from([(&epoch.topic, &epoch.offsets)]);
        let body = EpochBody { alerts: epoch.alerts.clone(), waiting: epoch.waiting.clone() };
        let lines = [serde_json::to_string(&head), serde_json::to_string(&topics), serde_json::to_string(&body)];
        let mut text = "v1\n".to_owned();
        for line in lines {
            let line = line.map_err(|e| CheckpointError::Damaged { path: path.clone(), problem: e.to_string() })?;
            text.push_str(&line);
            text.push('\n');
        }
        file::create_new(&path, &file::with_checksum(text))
    }

    /// Marks an epoch as delivered to all sinks and committed to the group.
    ///
    /// # Errors
    /// The file system refuses.
    pub fn finish(&self, number: u64) -> Result<(), CheckpointError> {
        let path = self.root.join("commits").join(number.to_string());
        file::replace_unsynced(&path, &file::with_checksum("v1\n{}\n".to_owned()))
    }

    /// Stores the windows and episodes as of an epoch, then removes what is older and finished.
    ///
    /// # Errors
    /// The file system refuses.
    pub fn store_state(
        &self,
        head: &StateHead,
        body: impl FnOnce(&mut dyn io::Write) -> io::Result<()>,
    ) -> Result<(), CheckpointError> {
        let path = self.root.join("state").join(head.epoch.to_string());
        file::replace_with(&path, |out| {
            let mut out = file::Checksummed::new(out);
            out.write_all(&serde_json::to_vec(head)?)?;
            out.write_all(b"\n")?;
            body(&mut out)?;
            out.finish()
        })?;
        self.purge(head.epoch)
    }

    /// The newest state that is whole, with its body. Damaged ones are passed over with a warning: the one
    /// before serves as well, only more is read again.
    ///
    /// # Errors
    /// The file system refuses.
    pub fn newest_state(&self) -> Result<Option<(StateHead, Vec<u8>)>, CheckpointError> {
        for number in self.numbers("state")?.into_iter().rev() {
            let path = self.root.join("state").join(number.to_string());
            match file::read(&path)?.as_deref().and_then(split_state) {
                Some(state) => return Ok(Some(state)),
                None => tracing::warn!(path = %path.display(), "damaged state passed over; an older one serves"),
            }
        }
        Ok(None)
    }

    fn purge(&self, state: u64) -> Result<(), CheckpointError> {
        let states = self.numbers("state")?;
        let oldest_kept = states.iter().rev().nth(STATES_KEPT - 1).copied().unwrap_or(0);
        for number in states.iter().filter(|n| **n < oldest_kept) {
            remove(&self.root.join("state").join(number.to_string()))?;
        }
        let bound = state.saturating_sub(EPOCHS_KEPT).min(oldest_kept);
        let finished = self.numbers("commits")?;
        for number in finished.iter().filter(|n| **n < bound) {
            remove(&self.root.join("offsets").join(number.to_string()))?;
            remove(&self.root.join("commits").join(number.to_string()))?;
        }
        Ok(())
    }

    /// The numbers of the files in a part of the folder, ascending. Temporary files are no numbers.
    fn numbers(&self, part: &str) -> Result<Vec<u64>, CheckpointError> {
        let path = self.root.join(part);
        let list = || -> io::Result<Vec<u64>> {
            let mut numbers = Vec::new();
            for entry in fs::read_dir(&path)? {
                numbers.extend(entry?.file_name().to_str().and_then(|name| name.parse::<u64>().ok()));
            }
            numbers.sort_unstable();
            Ok(numbers)
        };
        list().map_err(|source| CheckpointError::Io { action: "list", path: path.clone(), source })
    }
}

fn split_state(bytes: &[u8]) -> Option<(StateHead, Vec<u8>)> {
    let (content, crc) = bytes.split_last_chunk::<4>()?;
    if crc32fast::hash(content) != u32::from_le_bytes(*crc) {
        return None;
    }
    let end = content.iter().position(|byte| *byte == b'\n')?;
    let head = serde_json::from_slice(content.get(..end)?).ok()?;
    Some((head, content.get(end + 1..)?.to_vec()))
}

fn create(path: &Path) -> Result<(), CheckpointError> {
    fs::create_dir_all(path).map_err(|source| CheckpointError::Io { action: "create", path: path.to_owned(), source })
}

fn remove(path: &Path) -> Result<(), CheckpointError> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => {
            Err(CheckpointError::Io { action: "remove", path: path.to_owned(), source: e })
        }
        _ => Ok(()),
    }
}
