//! The folder of the Parquet files: its contents, and how a file is added so that a reader sees it complete or not at
//! all, and never twice.
//!
//! Readers list the folder, so a file's rows become visible with its name. The name is created by a link, which does
//! nothing if the name exists: a published file is final.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::names::{Date, FileName, Owner};
use crate::checkpoint::CheckpointError;
use crate::checkpoint::disk::{Disk, Lock};
use crate::checkpoint::file::{self, failed};
use crate::fault;
use crate::planted;

/// The folder that readers skip: the names of their partitions never begin with an underscore.
const OWN: &str = "_tripline";

/// The open output. It is locked until it is dropped.
#[derive(Debug)]
pub struct Output {
    disk: Arc<dyn Disk>,
    root: PathBuf,
    /// Dates whose folders are durable.
    dates: BTreeSet<Date>,
    _lock: Lock,
}

/// A file in the output.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Found {
    /// The file's name.
    pub name: FileName,
    /// The date of its folder.
    pub date: Date,
}

/// An entry of the output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    /// One of the archive's files.
    File(Found),
    /// The path of anything else.
    Stranger(String),
}

impl Output {
    /// Opens the folder, or creates it, and locks it. Removes unfinished files of a crash. `None`: another process
    /// holds the lock.
    ///
    /// # Errors
    /// The file system refuses.
    pub fn open(disk: Arc<dyn Disk>, root: PathBuf) -> Result<Option<Self>, CheckpointError> {
        let own = root.join(OWN);
        file::make_folders(&*disk, &own)?;
        let path = own.join("lock");
        let lock = disk.lock(&path).map_err(failed("lock", &path))?;
        let lock = lock.or_else(|| planted::bug("archive-output-not-locked").then(|| Box::new(()) as Lock));
        let Some(lock) = lock else { return Ok(None) };
        let unfinished = own.join("unfinished");
        file::make_folder(&*disk, &unfinished)?;
        file::clean(&*disk, &unfinished)?;
        file::clean(&*disk, &own)?;
        // For an owner.json that was renamed just before a kill.
        file::sync_folder(&*disk, &own)?;
        Ok(Some(Self { disk, root, dates: BTreeSet::new(), _lock: lock }))
    }

    /// The path of the folder.
    pub fn path(&self) -> &Path {
        &self.root
    }

    /// Reads the owner of the files. `None`: the folder is new.
    ///
    /// # Errors
    /// The owner's file is damaged.
    pub fn owner(&self) -> Result<Option<Owner>, CheckpointError> {
        owner(&*self.disk, &self.root)
    }

    /// Records the owner of the files.
    ///
    /// # Errors
    /// The file system refuses.
    pub fn own(&self, owner: &Owner) -> Result<(), CheckpointError> {
        let path = owner_path(&self.root);
        let json = serde_json::to_string(owner).map_err(|e| failed("write", &path)(e.into()))?;
        file::replace(&*self.disk, &path, &file::with_checksum(json + "\n"))
    }

    /// Passes every entry to `show`.
    ///
    /// # Errors
    /// The file system refuses.
    pub fn each(&self, show: impl FnMut(Entry)) -> Result<(), CheckpointError> {
        each(&*self.disk, &self.root, show)
    }

    /// Whether the file exists.
    ///
    /// # Errors
    /// The file system refuses.
    pub fn has(&self, file: &Found) -> Result<bool, CheckpointError> {
        let path = path(&self.root, file);
        self.disk.exists(&path).map_err(failed("look for", &path))
    }

    /// Reads all bytes of a file.
    ///
    /// # Errors
    /// The file does not exist, or the file system refuses.
    pub fn read(&self, file: &Found) -> Result<Vec<u8>, CheckpointError> {
        let path = path(&self.root, file);
        self.disk.read(&path).map_err(failed("read", &path))
    }

    /// Publishes a file, unless it exists. It is not durable before [`Output::sync`].
    ///
    /// # Errors
    /// The file system refuses.
    pub fn publish(&self, file: &Found, bytes: &[u8]) -> Result<(), CheckpointError> {
        let disk = &*self.disk;
        let path = path(&self.root, file);
        let temporary = self.root.join(OWN).join("unfinished").join(format!("{}-{}.tmp", file.date, file.name));
        let write = |to: &Path| {
            let mut out = disk.create(to)?;
            if planted::bug("archive-file-linked-first") {
                disk.create_dir(&self.root.join(file.date.folder())).or_else(allow(io::ErrorKind::AlreadyExists))?;
                disk.link(&temporary, &path).or_else(allow(io::ErrorKind::AlreadyExists))?;
            }
            out.write_all(bytes)?;
            // Before the name: after a loss of power the name may be there, and then the bytes must be.
            if planted::bug("archive-file-not-synced") { Ok(()) } else { out.sync() }
        };
        if planted::bug("archive-file-in-place") {
            file::make_folder(disk, &self.root.join(file.date.folder()))?;
            return write(&path).map_err(failed("write", &path));
        }
        write(&temporary).map_err(failed("write", &temporary))?;
        fault::point("archive.file.written");
        if !self.dates.contains(&file.date) {
            file::make_folder(disk, &self.root.join(file.date.folder()))?;
        }
        let mut linked = disk.link(&temporary, &path);
        if linked.as_ref().is_err_and(|e| e.kind() == io::ErrorKind::NotFound) {
            // The date's folder was moved meanwhile.
            file::make_folder(disk, &self.root.join(file.date.folder()))?;
            file::sync_folder(disk, &self.root)?;
            linked = disk.link(&temporary, &path);
        }
        match linked {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            linked => linked.map_err(failed("link", &path))?,
        }
        fault::point("archive.file.linked");
        file::remove(disk, &temporary)
    }

    /// Waits until the names of the files on these dates are durable, whichever process created them.
    ///
    /// # Errors
    /// The file system refuses.
    pub fn sync(&mut self, dates: &BTreeSet<Date>) -> Result<(), CheckpointError> {
        for date in dates.iter().filter(|_| !planted::bug("archive-names-not-synced")) {
            file::sync_folder(&*self.disk, &self.root.join(date.folder()))?;
        }
        if !dates.is_subset(&self.dates) && !planted::bug("archive-dates-not-synced") {
            // The folders' own names, also of those that a killed process made.
            file::sync_folder(&*self.disk, &self.root)?;
            self.dates.extend(dates);
        }
        Ok(())
    }
}

/// Treats an error of this kind as success.
fn allow(kind: io::ErrorKind) -> impl FnOnce(io::Error) -> io::Result<()> {
    move |error| if error.kind() == kind { Ok(()) } else { Err(error) }
}

fn owner_path(root: &Path) -> PathBuf {
    root.join(OWN).join("owner.json")
}

fn path(root: &Path, file: &Found) -> PathBuf {
    root.join(file.date.folder()).join(file.name.to_string())
}

/// Reads the owner of an output's files without opening the output.
///
/// # Errors
/// The owner's file is damaged.
pub fn owner(disk: &dyn Disk, root: &Path) -> Result<Option<Owner>, CheckpointError> {
    let path = owner_path(root);
    let Some(bytes) = file::read(disk, &path)? else { return Ok(None) };
    let damaged = |problem: String| CheckpointError::Owner { path: path.clone(), problem };
    let (lines, _) = file::checked_lines(&bytes).map_err(|problem| damaged(problem.to_owned()))?;
    serde_json::from_str(&lines.concat()).map(Some).map_err(|e| damaged(e.to_string()))
}

/// Passes every entry of an output to `show` by date and name, without opening the output. Skips names that readers
/// treat as hidden.
///
/// # Errors
/// The file system refuses.
pub fn each(disk: &dyn Disk, root: &Path, mut show: impl FnMut(Entry)) -> Result<(), CheckpointError> {
    let list = |folder: &Path| {
        let mut names = disk.list(folder).map_err(failed("list", folder))?;
        names.retain(|name| !name.starts_with(['_', '.']));
        names.sort_unstable();
        Ok(names)
    };
    for folder in list(root)? {
        let Some(date) = Date::parse_folder(&folder) else {
            show(Entry::Stranger(folder));
            continue;
        };
        for name in list(&root.join(&folder))? {
            show(match FileName::parse(&name) {
                Some(name) => Entry::File(Found { name, date }),
                None => Entry::Stranger(format!("{folder}/{name}")),
            });
        }
    }
    Ok(())
}
