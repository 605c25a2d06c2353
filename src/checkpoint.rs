//! Progress in two places: a folder for each consumer group, and the offsets of the group in Kafka.
//!
//! ```text
//! <dir>/<group>/
//!   lock                held by the one process that works on the folder
//!   lineage.json        this life of the group's progress: id, format, cluster, what it began from
//!   offsets/N           epoch N: next offsets, candidates, finished alerts, as text with a checksum
//!   commits/N           epoch N has been delivered and committed
//!   state/N             windows and open episodes as of epoch N
//!   sources/0           for the archive: where the lineage began
//!   lineages/<id>/      earlier lineages, moved aside whole
//! ```
//!
//! - this file: the folder
//! - [`format`](mod@format): the content of its files
//! - [`file`](mod@file): writing a file so that it exists complete or not at all
//! - [`view`]: reading it from outside
//! - [`disk`]: the operations of a file system, and the real one
//!
//! A change is durable when its method returns without an error, except for [`Folder::finish`]. A comment at each sync
//! says for which crash it is. `tests/checkpoint` leaves out one sync after the other and checks what breaks.

pub mod disk;
pub mod file;
pub mod format;
pub mod view;

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::de::DeserializeOwned;

pub use format::{Encoded, FORMAT, FORMAT_MAX, Lineage, StateHead};
pub use view::FolderView;

use crate::failure::{HasKind, Kind};
use crate::progress::{Epoch, Offsets};
use disk::{Disk, Lock, PrivateDisk};
use file::failed;

/// The number of finished epochs that are kept for readers.
const EPOCHS_KEPT: u64 = 100;

/// The number of states that are kept. If one is torn, the previous one is used.
const STATES_KEPT: usize = 2;

/// The folders of a lineage. When it is moved aside, the epochs go first, because without them it has no progress.
const PARTS: [&str; 3] = ["offsets", "commits", "state"];

const LINEAGE: &str = "lineage.json";

/// The place where a lineage began, for jobs that record it.
const SOURCES: &str = "sources";

/// An error of the folder. Each text says what to do.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// The file system refused.
    #[error("cannot {action} {path}: {source}{}", advice(action, source))]
    Io {
        /// The operation that failed.
        action: &'static str,
        /// The path of the operation.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// Another process holds the folder.
    #[error(
        "checkpoint folder {0} is in use by another process: stop that one, or give this one a group id or a checkpoint folder of its own"
    )]
    Locked(PathBuf),
    /// A linked file is damaged.
    #[error(
        "checkpoint file {path}: {problem}; restore it from a copy, or move the whole folder away: the next start then rebuilds it from what Kafka has"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The problem with the file.
        problem: String,
    },
    /// The file that names the owner of an archive's files is damaged.
    #[error("{path} is damaged, {problem}: remove it, and it is written again, as long as checkpoint_dir is there")]
    Owner {
        /// The file.
        path: PathBuf,
        /// The problem with the file.
        problem: String,
    },
    /// A later version wrote the file.
    #[error("checkpoint file {path} has format {found}, this version reads up to {FORMAT_MAX}: use a newer tripline")]
    Format {
        /// The file.
        path: PathBuf,
        /// The format found.
        found: u32,
    },
}

impl HasKind for CheckpointError {
    fn kind(&self) -> Kind {
        match self {
            Self::Io { .. } => Kind::Internal,
            Self::Locked(_) | Self::Damaged { .. } | Self::Owner { .. } | Self::Format { .. } => Kind::Unsafe,
        }
    }
}

/// Returns what to do about an error of the file system, if that is known.
fn advice(action: &str, source: &io::Error) -> &'static str {
    use io::ErrorKind::{
        CrossesDevices, PermissionDenied, QuotaExceeded, ReadOnlyFilesystem, StorageFull, Unsupported,
    };
    match source.kind() {
        CrossesDevices | PermissionDenied | Unsupported if action == "link" => {
            "; nothing is lost: the folder and those in it have to be on one file system, which has hard links"
        }
        StorageFull | QuotaExceeded => "; nothing is lost: free space and start again",
        PermissionDenied | ReadOnlyFilesystem => "; nothing is lost: make it writable for this user and start again",
        _ => "",
    }
}

/// The open folder of a group. It is locked until it is dropped.
#[derive(Debug)]
pub struct Folder {
    disk: Arc<dyn Disk>,
    root: PathBuf,
    _lock: Lock,
}

impl Folder {
    /// Opens or creates `<dir>/<group>` and locks it.
    ///
    /// # Errors
    /// Those of [`Folder::open_at`].
    pub fn open(dir: &Path, group: &str) -> Result<Self, CheckpointError> {
        Self::open_on(PrivateDisk::at(dir.join(group)), dir, group)
    }

    /// Opens or creates `<dir>/<group>` on this disk and locks it.
    ///
    /// # Errors
    /// Those of [`Folder::open_at`].
    pub fn open_on(disk: Arc<dyn Disk>, dir: &Path, group: &str) -> Result<Self, CheckpointError> {
        Self::open_at(disk, dir.join(group))
    }

    /// Opens or creates the folder `root` and locks it. Removes unfinished files of a crash. Makes durable what a
    /// killed process made visible, since it is relied on from here on. Converts a folder of format 1.
    ///
    /// # Errors
    /// Another process holds the lock, the folder has a later format, the lineage is damaged, or the file system
    /// refuses.
    pub fn open_at(disk: Arc<dyn Disk>, root: PathBuf) -> Result<Self, CheckpointError> {
        file::make_folders(&*disk, &root)?;
        let path = root.join("lock");
        let lock = disk.lock(&path).map_err(failed("lock", &path))?;
        let Some(lock) = lock else { return Err(CheckpointError::Locked(root)) };
        let folder = Self { disk, root, _lock: lock };
        let lineage = folder.lineage()?; // before anything of a later version's is touched
        let disk = &*folder.disk;
        file::clean(disk, &folder.root)?;
        for part in PARTS {
            file::make_folder(disk, &folder.root.join(part))?;
            file::clean(disk, &folder.root.join(part))?;
        }
        // This is for the parts just created, since nothing in them is durable without their names. It is also for a
        // new lineage.json, because the process that renamed it may have been killed before its sync.
        file::sync_folder(disk, &folder.root)?;
        // For an epoch that was linked just before a kill. It is about to be delivered and must not vanish then.
        file::sync_folder(disk, &folder.root.join("offsets"))?;
        if let Some(old) = lineage.filter(|lineage| lineage.format < FORMAT) {
            folder.write_lineage(&Lineage { format: FORMAT, ..old })?;
        }
        Ok(folder)
    }

    /// Returns the path of the folder.
    pub fn path(&self) -> &Path {
        &self.root
    }

    /// Returns the current lineage. `None` in a new folder.
    ///
    /// # Errors
    /// The file is damaged, or its format is unknown.
    pub fn lineage(&self) -> Result<Option<Lineage>, CheckpointError> {
        read_lineage(&*self.disk, &self.root)
    }

    /// Begins a new lineage, and moves the existing one aside as a whole. A crash in between leaves one of three
    /// states: the old lineage, neither epochs nor states and marks of other lineages, or the new lineage.
    ///
    /// # Errors
    /// The file system refuses.
    pub fn begin(&self, lineage: &Lineage) -> Result<(), CheckpointError> {
        // A lineage without an epoch has had no effect, so the new one replaces it, unless the name belongs to one that
        // was being moved aside.
        let mut empty = match self.lineage()? {
            Some(begun) => !exists(&*self.disk, &self.root.join("lineages").join(&begun.id))?,
            None => true,
        };
        for part in PARTS {
            empty &= self.list(part)?.is_empty();
        }
        if !empty {
            self.set_aside()?;
        }
        let sources = self.root.join(SOURCES);
        if exists(&*self.disk, &sources)? {
            // This file is from a lineage without effect. It must not count as the new one's.
            file::remove(&*self.disk, &sources.join("0"))?;
            file::sync_folder(&*self.disk, &sources)?;
        }
        self.write_lineage(lineage)
    }

    fn write_lineage(&self, lineage: &Lineage) -> Result<(), CheckpointError> {
        let path = self.root.join(LINEAGE);
        let bytes = lineage.encode().map_err(|e| failed("write", &path)(e.into()))?;
        file::replace(&*self.disk, &path, &bytes)
    }

    /// Records where the lineage began.
    ///
    /// # Errors
    /// The file system refuses.
    pub fn set_source(&self, topic: &str, from: &Offsets) -> Result<(), CheckpointError> {
        let sources = self.root.join(SOURCES);
        file::make_folder(&*self.disk, &sources)?;
        file::sync_folder(&*self.disk, &self.root)?;
        let path = sources.join("0");
        let bytes = format::source(topic, from).map_err(|e| failed("write", &path)(e.into()))?;
        file::replace(&*self.disk, &path, &bytes)
    }

    /// Returns where the lineage began. `None` where that was not recorded.
    ///
    /// # Errors
    /// The file is damaged.
    pub fn source(&self) -> Result<Option<Offsets>, CheckpointError> {
        let path = self.root.join(SOURCES).join("0");
        file::read(&*self.disk, &path)?.map(|bytes| format::read_source(&bytes, &path)).transpose()
    }

    /// Moves the lineage aside, its epochs first and its name last. After a crash in between, the name is still here,
    /// so the rest follows.
    fn set_aside(&self) -> Result<(), CheckpointError> {
        let disk = &*self.disk;
        let name = self.lineage()?.map_or_else(|| "unnamed".to_owned(), |lineage| lineage.id);
        let lineages = self.root.join("lineages");
        let mut aside = lineages.join(&name);
        // A lineage that continues elsewhere can come here more than once.
        let mut times = 1;
        while self.is_taken(&aside)? {
            times += 1;
            aside = lineages.join(format!("{name}.{times}"));
        }
        // This is durable, so that the moved parts can be found.
        file::make_folders(disk, &aside)?;
        // This comes before the epochs, because the next start would go back to a beginning without them.
        let (from, to) = (self.root.join(SOURCES), aside.join(SOURCES));
        if exists(disk, &from)? {
            disk.rename(&from, &to).map_err(failed("move aside", &from))?;
            file::sync_folder(disk, &self.root)?;
        }
        for part in PARTS {
            let (from, to) = (self.root.join(part), aside.join(part));
            // A part that was moved before the crash has been created again since, and is empty.
            if exists(disk, &to)? {
                disk.remove_dir(&from).map_err(failed("remove", &from))?;
            } else {
                disk.rename(&from, &to).map_err(failed("move aside", &from))?;
            }
            if part == "offsets" {
                // This comes before the rest, because epochs without their state and marks would count as a lineage.
                file::sync_folder(disk, &aside)?;
            }
        }
        // This comes before the name, because marks and states without it would count as those of the next lineage.
        file::sync_folder(disk, &aside)?;
        let (from, to) = (self.root.join(LINEAGE), aside.join(LINEAGE));
        if exists(disk, &from)? {
            disk.rename(&from, &to).map_err(failed("move aside", &from))?;
        }
        // The sync of the new name covers these as well.
        PARTS.into_iter().try_for_each(|part| file::make_folder(disk, &self.root.join(part)))
    }

    /// Whether the path is taken, by a complete lineage or by a part that is also here and not empty.
    fn is_taken(&self, aside: &Path) -> Result<bool, CheckpointError> {
        let mut taken = exists(&*self.disk, &aside.join(LINEAGE))?;
        for part in PARTS {
            taken |= exists(&*self.disk, &aside.join(part))? && !self.list(part)?.is_empty();
        }
        Ok(taken)
    }

    /// Reads the newest epoch.
    ///
    /// # Errors
    /// The file is damaged. It is not skipped, because the epoch may have been delivered.
    pub fn newest_epoch<B: DeserializeOwned>(&self) -> Result<Option<Epoch<B>>, CheckpointError> {
        match self.numbers("offsets")?.last() {
            Some(number) => self.epoch(*number).map(Some),
            None => Ok(None),
        }
    }

    /// Reads the epochs after `number` in order. `None`: all of them.
    ///
    /// # Errors
    /// A file is damaged.
    pub fn epochs_after<B: DeserializeOwned>(&self, number: Option<u64>) -> Result<Vec<Epoch<B>>, CheckpointError> {
        self.numbers("offsets")?.into_iter().filter(|n| Some(*n) > number).map(|n| self.epoch(n)).collect()
    }

    /// Reads the epochs that were logged and not marked as finished, in order.
    ///
    /// # Errors
    /// A file is damaged.
    pub fn unfinished<B: DeserializeOwned>(&self) -> Result<Vec<Epoch<B>>, CheckpointError> {
        let mut epochs = Vec::new();
        for number in self.numbers("offsets")? {
            if !self.is_finished(number)? {
                epochs.push(self.epoch(number)?);
            }
        }
        Ok(epochs)
    }

    /// Reads the epoch with this number, and the checksum of its file. `None` where there is none.
    ///
    /// # Errors
    /// The file is damaged.
    pub fn logged<B: DeserializeOwned>(&self, number: u64) -> Result<Option<(Epoch<B>, u32)>, CheckpointError> {
        read_epoch(&*self.disk, &self.root, number)
    }

    fn epoch<B: DeserializeOwned>(&self, number: u64) -> Result<Epoch<B>, CheckpointError> {
        let gone = || CheckpointError::Damaged { path: self.file("offsets", number), problem: "it is gone".to_owned() };
        self.logged(number)?.map(|(epoch, _)| epoch).ok_or_else(gone)
    }

    /// Logs an epoch. This is the point of commit: no effect of the epoch may be visible before this has returned.
    /// After an error the epoch may exist or not. Opening the folder again shows which.
    ///
    /// # Errors
    /// The file system refuses, or the epoch exists already.
    pub fn log(&self, epoch: &Encoded) -> Result<(), CheckpointError> {
        file::create_new(&*self.disk, &self.file("offsets", epoch.number), &epoch.bytes)
    }

    /// Whether an epoch was marked as finished. A damaged mark does not count.
    ///
    /// # Errors
    /// The file system refuses.
    pub fn is_finished(&self, number: u64) -> Result<bool, CheckpointError> {
        let mark = file::read(&*self.disk, &self.file("commits", number))?;
        Ok(mark.is_some_and(|bytes| file::checked_lines(&bytes).is_ok()))
    }

    /// Returns the number of the oldest epoch that exists.
    ///
    /// # Errors
    /// The file system refuses.
    pub fn oldest_epoch(&self) -> Result<Option<u64>, CheckpointError> {
        Ok(self.numbers("offsets")?.first().copied())
    }

    /// Marks an epoch as finished: it has gone to all sinks, and is committed to the group. The mark is not synced. If
    /// a loss of power removes it, the epoch is only finished again.
    ///
    /// # Errors
    /// The file system refuses.
    pub fn finish(&self, number: u64) -> Result<(), CheckpointError> {
        file::replace_unsynced(&*self.disk, &self.file("commits", number), &format::finished())
    }

    /// Stores the windows and episodes of an epoch, and then removes older, finished files.
    ///
    /// # Errors
    /// The file system refuses.
    pub fn store_state(
        &self,
        head: &StateHead,
        body: impl FnOnce(&mut dyn io::Write) -> io::Result<()>,
    ) -> Result<(), CheckpointError> {
        // The state is durable before anything older is removed.
        file::replace_with(&*self.disk, &self.file("state", head.epoch), |out| {
            let mut out = file::Checksummed::new(out);
            out.write_all(&serde_json::to_vec(head)?)?;
            out.write_all(b"\n")?;
            body(&mut out).map_err(|error| out.reason(error))?;
            out.finish()
        })?;
        self.purge(head.epoch)
    }

    /// Reads the newest complete state. Skips damaged states and those of another format with a warning. The previous
    /// state can be used as well, but then more records are read again.
    ///
    /// # Errors
    /// The file system refuses.
    pub fn newest_state(&self) -> Result<Option<(StateHead, Vec<u8>)>, CheckpointError> {
        for number in self.numbers("state")?.into_iter().rev() {
            let path = self.file("state", number);
            match file::read(&*self.disk, &path)?.as_deref().and_then(format::split_state) {
                Some((head, body)) if head.is_readable() && head.epoch == number => return Ok(Some((head, body))),
                Some((head, _)) => tracing::warn!(
                    path = %path.display(),
                    format = head.format,
                    epoch = head.epoch,
                    "state of another format or epoch passed over; the windows are read again"
                ),
                None => tracing::warn!(path = %path.display(), "damaged state passed over; an older one serves"),
            }
        }
        Ok(None)
    }

    /// Removes the states before the last two, and the finished epochs that nothing needs any more. An unfinished epoch
    /// is kept, whatever its age.
    fn purge(&self, state: u64) -> Result<(), CheckpointError> {
        let states = self.numbers("state")?;
        let oldest_kept = states.iter().rev().nth(STATES_KEPT - 1).copied().unwrap_or(0);
        for number in states.iter().filter(|n| **n < oldest_kept) {
            file::remove(&*self.disk, &self.file("state", *number))?;
        }
        self.forget(state.saturating_sub(EPOCHS_KEPT).min(oldest_kept))
    }

    /// Removes finished epochs without further use: all but the last hundred before this one. Does so only every
    /// hundred epochs.
    ///
    /// # Errors
    /// The file system refuses.
    pub fn forget_before(&self, epoch: u64) -> Result<(), CheckpointError> {
        if epoch.is_multiple_of(EPOCHS_KEPT) { self.forget(epoch.saturating_sub(EPOCHS_KEPT)) } else { Ok(()) }
    }

    fn forget(&self, bound: u64) -> Result<(), CheckpointError> {
        let mut removed = false;
        for number in self.numbers("offsets")?.into_iter().filter(|n| *n < bound) {
            if self.is_finished(number)? {
                file::remove(&*self.disk, &self.file("offsets", number))?;
                removed = true;
            }
        }
        if removed {
            // This comes before the marks, because an old epoch that reappears without its mark would be delivered
            // again.
            file::sync_folder(&*self.disk, &self.root.join("offsets"))?;
        }
        let mut marks = self.numbers("commits")?.into_iter().filter(|n| *n < bound);
        marks.try_for_each(|number| file::remove(&*self.disk, &self.file("commits", number)))
    }

    fn file(&self, part: &str, number: u64) -> PathBuf {
        self.root.join(part).join(number.to_string())
    }

    fn list(&self, part: &str) -> Result<Vec<String>, CheckpointError> {
        let path = self.root.join(part);
        self.disk.list(&path).map_err(failed("list", &path))
    }

    fn numbers(&self, part: &str) -> Result<Vec<u64>, CheckpointError> {
        read_numbers(&*self.disk, &self.root.join(part))
    }
}

fn exists(disk: &dyn Disk, path: &Path) -> Result<bool, CheckpointError> {
    disk.exists(path).map_err(failed("look for", path))
}

/// Returns the numbers of the files in a part of the folder, ascending. Other names are skipped.
fn read_numbers(disk: &dyn Disk, part: &Path) -> Result<Vec<u64>, CheckpointError> {
    let names = disk.list(part).map_err(failed("list", part))?;
    let mut numbers: Vec<u64> = names.iter().filter_map(|name| name.parse().ok()).collect();
    numbers.sort_unstable();
    Ok(numbers)
}

fn read_lineage(disk: &dyn Disk, root: &Path) -> Result<Option<Lineage>, CheckpointError> {
    let path = root.join(LINEAGE);
    file::read(disk, &path)?.map(|bytes| Lineage::decode(&bytes, &path)).transpose()
}

fn read_epoch<B: DeserializeOwned>(
    disk: &dyn Disk,
    root: &Path,
    number: u64,
) -> Result<Option<(Epoch<B>, u32)>, CheckpointError> {
    let path = root.join("offsets").join(number.to_string());
    file::read(disk, &path)?.map(|bytes| format::decode(&bytes, number, &path)).transpose()
}
