//! The folder of the Parquet files: what is in it, and how a file comes into it so that a reader sees it whole or not at
//! all, and never twice.
//!
//! Readers list what they find, so that a file's name is what makes its rows seen. It gets it by a link, which does
//! nothing where the name is there already: what has been published is final.

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

/// What readers pass over: their names of partitions never begin with an underscore.
const OWN: &str = "_tripline";

/// The open output. Locked until it is dropped.
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
    /// Its name.
    pub name: FileName,
    /// The date of its folder.
    pub date: Date,
}

/// What is in the output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    /// One of the archive's files.
    File(Found),
    /// A path that is none of them.
    Stranger(String),
}

impl Output {
    /// Opens or makes the folder and locks it; what a crash left half written is removed. `None`: another process has it.
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

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.root
    }

    /// Whose files these are; `None` in a new folder.
    ///
    /// # Errors
    /// A damaged file.
    pub fn owner(&self) -> Result<Option<Owner>, CheckpointError> {
        owner(&*self.disk, &self.root)
    }

    /// Says whose files these are, from now on.
    ///
    /// # Errors
    /// The file system refuses.
    pub fn own(&self, owner: &Owner) -> Result<(), CheckpointError> {
        let path = owner_path(&self.root);
        let json = serde_json::to_string(owner).map_err(|e| failed("write", &path)(e.into()))?;
        file::replace(&*self.disk, &path, &file::with_checksum(json + "\n"))
    }

    /// Shows everything that is in it.
    ///
    /// # Errors
    /// The file system refuses.
    pub fn each(&self, show: impl FnMut(Entry)) -> Result<(), CheckpointError> {
        each(&*self.disk, &self.root, show)
    }

    /// Whether a file is there.
    ///
    /// # Errors
    /// The file system refuses.
    pub fn has(&self, file: &Found) -> Result<bool, CheckpointError> {
        let path = path(&self.root, file);
        self.disk.exists(&path).map_err(failed("look for", &path))
    }

    /// All bytes of a file.
    ///
    /// # Errors
    /// It is not there, or the file system refuses.
    pub fn read(&self, file: &Found) -> Result<Vec<u8>, CheckpointError> {
        let path = path(&self.root, file);
        self.disk.read(&path).map_err(failed("read", &path))
    }

    /// Publishes a file, unless it is there. Not durable before [`Output::sync`].
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

    /// Waits until the names of the files on these dates are durable, no matter which process made them.
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

/// An error of this kind is none.
fn allow(kind: io::ErrorKind) -> impl FnOnce(io::Error) -> io::Result<()> {
    move |error| if error.kind() == kind { Ok(()) } else { Err(error) }
}

fn owner_path(root: &Path) -> PathBuf {
    root.join(OWN).join("owner.json")
}

fn path(root: &Path, file: &Found) -> PathBuf {
    root.join(file.date.folder()).join(file.name.to_string())
}

/// Whose files are in an output, from outside.
///
/// # Errors
/// A damaged file.
pub fn owner(disk: &dyn Disk, root: &Path) -> Result<Option<Owner>, CheckpointError> {
    let path = owner_path(root);
    let Some(bytes) = file::read(disk, &path)? else { return Ok(None) };
    let damaged = |problem: String| CheckpointError::Owner { path: path.clone(), problem };
    let (lines, _) = file::checked_lines(&bytes).map_err(|problem| damaged(problem.to_owned()))?;
    serde_json::from_str(&lines.concat()).map(Some).map_err(|e| damaged(e.to_string()))
}

/// Shows everything that is in an output, from outside, by date and name. Hidden names, as readers know them, do not
/// count.
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
