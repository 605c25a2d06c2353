//! Progress in two layers: a folder per consumer group, and the offsets of the group in Kafka.
//!
//! ```text
//! <dir>/<group>/
//!   lock                held by the one process that works on the folder
//!   lineage.json        this life of the group's progress: id, format, cluster, what it began from
//!   offsets/N           epoch N: next offsets, candidates, finished alerts; readable, with a checksum
//!   commits/N           epoch N has been delivered and committed
//!   state/N             windows and open episodes as of epoch N
//!   sources/0           for the archive: where the lineage began
//!   lineages/<id>/      earlier lineages, moved aside whole
//! ```
//!
//! - this file: the folder
//! - [`format`](mod@format): what its files hold
//! - [`file`](mod@file): how one file is written so that it is there whole or not at all
//! - [`view`]: reading it from outside
//! - [`disk`]: what is asked of the file system, and the real one
//!
//! What returns without an error is durable, but for [`Folder::finish`]. Which crash each sync is for is said where
//! it is made; `tests/checkpoint` leaves out one after the other and looks for what breaks.

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

/// Finished epochs that are kept for a reader.
const EPOCHS_KEPT: u64 = 100;

/// Copies of the state that are kept: a torn one falls back to the one before.
const STATES_KEPT: usize = 2;

/// The folders of a lineage. The epochs go first when it is moved aside: without them it has no progress.
const PARTS: [&str; 3] = ["offsets", "commits", "state"];

const LINEAGE: &str = "lineage.json";

/// Where a lineage began, for jobs that say so.
const SOURCES: &str = "sources";

/// What can go wrong with the folder. Each text says what to do.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// The file system refused.
    #[error("cannot {action} {path}: {source}{}", advice(action, source))]
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
        /// What is wrong with it.
        problem: String,
    },
    /// What says whose files an archive's are is damaged.
    #[error("{path} is damaged, {problem}: remove it, and it is written again, as long as checkpoint_dir is there")]
    Owner {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// Written by a version that this one does not know.
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

/// What to do about an error of the file system, where that is known.
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

/// The open folder of one group. Locked until it is dropped.
#[derive(Debug)]
pub struct Folder {
    disk: Arc<dyn Disk>,
    root: PathBuf,
    _lock: Lock,
}

impl Folder {
    /// Opens or makes `<dir>/<group>` and locks it.
    ///
    /// # Errors
    /// As for [`Folder::open_at`].
    pub fn open(dir: &Path, group: &str) -> Result<Self, CheckpointError> {
        Self::open_on(PrivateDisk::at(dir.join(group)), dir, group)
    }

    /// Opens or makes `<dir>/<group>` on this disk and locks it.
    ///
    /// # Errors
    /// As for [`Folder::open_at`].
    pub fn open_on(disk: Arc<dyn Disk>, dir: &Path, group: &str) -> Result<Self, CheckpointError> {
        Self::open_at(disk, dir.join(group))
    }

    /// Opens or makes the folder `root` and locks it. What a crash left half done is removed, and what a killed
    /// process made visible is made durable, since from here on it is relied on. A folder of format 1 becomes
    /// one of this format.
    ///
    /// # Errors
    /// The folder is locked by another process, of a later format, its lineage is damaged, or the file system
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
        // For the parts just made, without whose names nothing in them is durable; and for a new lineage.json: the
        // process that renamed it may have been killed before its sync.
        file::sync_folder(disk, &folder.root)?;
        // For an epoch that was linked just before a kill: it is about to be delivered, and may not vanish after.
        file::sync_folder(disk, &folder.root.join("offsets"))?;
        if let Some(old) = lineage.filter(|lineage| lineage.format < FORMAT) {
            folder.write_lineage(&Lineage { format: FORMAT, ..old })?;
        }
        Ok(folder)
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
        read_lineage(&*self.disk, &self.root)
    }

    /// Starts a new lineage: what is there is moved aside whole. After a crash part-way, the old one is there; or
    /// there are no epochs, nor states and marks of other lineages; or the new one is.
    ///
    /// # Errors
    /// The file system refuses.
    pub fn begin(&self, lineage: &Lineage) -> Result<(), CheckpointError> {
        // One that never had an epoch has had no effect: the new one takes its place, unless it is the name of what was
        // being moved aside.
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
            // That of one that has had no effect, before it passes for the new one's.
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

    /// Says where the lineage began.
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

    /// Where the lineage began; `None` where nobody has said.
    ///
    /// # Errors
    /// A damaged file.
    pub fn source(&self) -> Result<Option<Offsets>, CheckpointError> {
        let path = self.root.join(SOURCES).join("0");
        file::read(&*self.disk, &path)?.map(|bytes| format::read_source(&bytes, &path)).transpose()
    }

    /// Moves the lineage that is here aside, its epochs first and its name last: after a crash part-way it is still
    /// known by it, and the rest follows.
    fn set_aside(&self) -> Result<(), CheckpointError> {
        let disk = &*self.disk;
        let name = self.lineage()?.map_or_else(|| "unnamed".to_owned(), |lineage| lineage.id);
        let lineages = self.root.join("lineages");
        let mut aside = lineages.join(&name);
        // A lineage that goes on elsewhere can come here more than once.
        let mut times = 1;
        while self.is_taken(&aside)? {
            times += 1;
            aside = lineages.join(format!("{name}.{times}"));
        }
        // Durable, so that what is moved there can be found.
        file::make_folders(disk, &aside)?;
        // Before the epochs: a beginning without them would be gone back to.
        let (from, to) = (self.root.join(SOURCES), aside.join(SOURCES));
        if exists(disk, &from)? {
            disk.rename(&from, &to).map_err(failed("move aside", &from))?;
            file::sync_folder(disk, &self.root)?;
        }
        for part in PARTS {
            let (from, to) = (self.root.join(part), aside.join(part));
            // What was moved before the crash has been re-created since, and is empty.
            if exists(disk, &to)? {
                disk.remove_dir(&from).map_err(failed("remove", &from))?;
            } else {
                disk.rename(&from, &to).map_err(failed("move aside", &from))?;
            }
            if part == "offsets" {
                // Before the rest: epochs without their state and marks would pass for a lineage.
                file::sync_folder(disk, &aside)?;
            }
        }
        // Before the name: marks and states without it would be taken for those of the next lineage.
        file::sync_folder(disk, &aside)?;
        let (from, to) = (self.root.join(LINEAGE), aside.join(LINEAGE));
        if exists(disk, &from)? {
            disk.rename(&from, &to).map_err(failed("move aside", &from))?;
        }
        // The new name's sync is for these as well.
        PARTS.into_iter().try_for_each(|part| file::make_folder(disk, &self.root.join(part)))
    }

    /// Whether a lineage lies there already, in full or beside what is still here.
    fn is_taken(&self, aside: &Path) -> Result<bool, CheckpointError> {
        let mut taken = exists(&*self.disk, &aside.join(LINEAGE))?;
        for part in PARTS {
            taken |= exists(&*self.disk, &aside.join(part))? && !self.list(part)?.is_empty();
        }
        Ok(taken)
    }

    /// The newest epoch.
    ///
    /// # Errors
    /// A damaged file: its epoch may have been delivered, so it is not passed over.
    pub fn newest_epoch<B: DeserializeOwned>(&self) -> Result<Option<Epoch<B>>, CheckpointError> {
        match self.numbers("offsets")?.last() {
            Some(number) => self.epoch(*number).map(Some),
            None => Ok(None),
        }
    }

    /// The epochs after `number` (all of them for `None`), in order.
    ///
    /// # Errors
    /// A damaged file.
    pub fn epochs_after<B: DeserializeOwned>(&self, number: Option<u64>) -> Result<Vec<Epoch<B>>, CheckpointError> {
        self.numbers("offsets")?.into_iter().filter(|n| Some(*n) > number).map(|n| self.epoch(n)).collect()
    }

    /// The epochs that were logged and not marked as finished, in order.
    ///
    /// # Errors
    /// A damaged file.
    pub fn unfinished<B: DeserializeOwned>(&self) -> Result<Vec<Epoch<B>>, CheckpointError> {
        let mut epochs = Vec::new();
        for number in self.numbers("offsets")? {
            if !self.is_finished(number)? {
                epochs.push(self.epoch(number)?);
            }
        }
        Ok(epochs)
    }

    /// The epoch of this number, with the checksum of its file; `None` where there is none.
    ///
    /// # Errors
    /// A damaged file.
    pub fn logged<B: DeserializeOwned>(&self, number: u64) -> Result<Option<(Epoch<B>, u32)>, CheckpointError> {
        read_epoch(&*self.disk, &self.root, number)
    }

    fn epoch<B: DeserializeOwned>(&self, number: u64) -> Result<Epoch<B>, CheckpointError> {
        let gone = || CheckpointError::Damaged { path: self.file("offsets", number), problem: "it is gone".to_owned() };
        self.logged(number)?.map(|(epoch, _)| epoch).ok_or_else(gone)
    }

    /// Logs an epoch: the point of commit. No effect of the epoch may be seen before this has returned. After an
    /// error it may be there or not: the folder has to be opened again to know.
    ///
    /// # Errors
    /// The file system refuses, or the epoch is there already.
    pub fn log(&self, epoch: &Encoded) -> Result<(), CheckpointError> {
        file::create_new(&*self.disk, &self.file("offsets", epoch.number), &epoch.bytes)
    }

    /// Whether an epoch has been marked as finished. A mark that is damaged is none.
    ///
    /// # Errors
    /// The file system refuses.
    pub fn is_finished(&self, number: u64) -> Result<bool, CheckpointError> {
        let mark = file::read(&*self.disk, &self.file("commits", number))?;
        Ok(mark.is_some_and(|bytes| file::checked_lines(&bytes).is_ok()))
    }

    /// The number of the oldest epoch that is there.
    ///
    /// # Errors
    /// The file system refuses.
    pub fn oldest_epoch(&self) -> Result<Option<u64>, CheckpointError> {
        Ok(self.numbers("offsets")?.first().copied())
    }

    /// LastRecords an epoch as finished: it has gone to all sinks, and is committed to the group. Not synced: a loss of
    /// power may take the mark, and then the epoch is only finished again.
    ///
    /// # Errors
    /// The file system refuses.
    pub fn finish(&self, number: u64) -> Result<(), CheckpointError> {
        file::replace_unsynced(&*self.disk, &self.file("commits", number), &format::finished())
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
        // Durable before anything older is removed.
        file::replace_with(&*self.disk, &self.file("state", head.epoch), |out| {
            let mut out = file::Checksummed::new(out);
            out.write_all(&serde_json::to_vec(head)?)?;
            out.write_all(b"\n")?;
            body(&mut out).map_err(|error| out.reason(error))?;
            out.finish()
        })?;
        self.purge(head.epoch)
    }

    /// The newest state that is whole, with its body. Damaged ones and those of another format are passed over with
    /// a warning: the one before serves as well, only more is read again.
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

    /// Removes the states before the last two, and the finished epochs that nothing needs any more. One that is not
    /// marked as finished stays, whatever its age.
    fn purge(&self, state: u64) -> Result<(), CheckpointError> {
        let states = self.numbers("state")?;
        let oldest_kept = states.iter().rev().nth(STATES_KEPT - 1).copied().unwrap_or(0);
        for number in states.iter().filter(|n| **n < oldest_kept) {
            file::remove(&*self.disk, &self.file("state", *number))?;
        }
        self.forget(state.saturating_sub(EPOCHS_KEPT).min(oldest_kept))
    }

    /// Removes finished epochs of which nothing but their own effects is left to keep: all but the last hundred before
    /// this one. Looks only each hundred epochs.
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
            // Before their marks: an old epoch that comes back without its own would be delivered again.
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

/// The numbers of the files in a part of the folder, ascending. Other names are no numbers.
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
