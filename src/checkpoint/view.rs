//! The folder as seen from outside, while another process may be working on it. Nothing is changed or locked.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::time::Duration;

use serde::de::IgnoredAny;

use super::disk::{Disk, RealDisk};
use super::format::StateHead;
use super::{CheckpointError, Folder, Lineage, file, read_epoch, read_lineage, read_numbers};
use crate::contract::Contracts;
use crate::progress::Offsets;
use crate::progress::start::FolderState;

/// How often the folder is read again if a listed file does not exist or does not fit the others.
const ATTEMPTS: u32 = 10;
/// The wait before that. It is longer than moving a lineage aside takes.
const ATTEMPT_WAIT: Duration = Duration::from_millis(20);

/// The progress in a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FolderView {
    /// The lineage.
    pub lineage: Lineage,
    /// The newest epoch. `None` in a new lineage.
    pub newest: Option<NewestEpoch>,
}

/// The greatest number of bytes of a state's head.
const HEAD_MAX: u64 = 16 * 1024 * 1024;

/// The newest epoch of a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewestEpoch {
    /// The state of the folder after it.
    pub state: FolderState,
    /// The checksum of its file.
    pub crc: u32,
}

impl FolderView {
    /// Reads the progress in `<dir>/<group>`. `None` where there is no such folder, or no lineage in it.
    ///
    /// # Errors
    /// A file is damaged or has a later format, or the file system refuses.
    pub fn of_group(dir: &Path, group: &str) -> Result<Option<Self>, CheckpointError> {
        Self::read(&RealDisk, &dir.join(group))
    }

    /// Reads the progress in the folder at this path.
    ///
    /// # Errors
    /// Those of [`FolderView::of_group`].
    pub fn read(disk: &dyn Disk, root: &Path) -> Result<Option<Self>, CheckpointError> {
        if !disk.exists(root).map_err(file::failed("look for", root))? {
            return Ok(None);
        }
        for _ in 1..ATTEMPTS {
            if let Some(view) = read_once(disk, root)? {
                return Ok(Some(view));
            }
            std::thread::sleep(ATTEMPT_WAIT);
        }
        read_once(disk, root)
    }

    /// Returns the contracts of the newest stored windows of `<dir>/<group>`. `None` where there are none. `now` has
    /// the names of the tables.
    pub fn contracts(dir: &Path, group: &str, now: &Contracts) -> Option<Contracts> {
        let states = dir.join(group).join("state");
        let number = |entry: std::fs::DirEntry| entry.file_name().to_str()?.parse::<u64>().ok();
        let newest = std::fs::read_dir(&states).ok()?.filter_map(|entry| number(entry.ok()?)).max()?;
        let mut head = Vec::new();
        let file = std::fs::File::open(states.join(newest.to_string())).ok()?;
        BufReader::new(file.take(HEAD_MAX)).read_until(b'\n', &mut head).ok()?;
        serde_json::from_slice::<StateHead>(&head).ok()?.believed(now)
    }

    /// Returns the checksum and next offsets of an epoch of `<dir>/<group>`. `None` where there is none with this
    /// number.
    ///
    /// # Errors
    /// The file is damaged, or the file system refuses.
    pub fn logged(dir: &Path, group: &str, number: u64) -> Result<Option<(u32, Offsets)>, CheckpointError> {
        let logged = read_epoch::<IgnoredAny>(&RealDisk, &dir.join(group), number)?;
        Ok(logged.map(|(epoch, crc)| (crc, epoch.offsets)))
    }
}

impl Folder {
    /// Whether a process holds the folder `<dir>/<group>` open.
    ///
    /// # Errors
    /// The file system refuses.
    pub fn is_locked(dir: &Path, group: &str) -> Result<bool, CheckpointError> {
        let path = dir.join(group).join("lock");
        RealDisk.is_locked(&path).map_err(file::failed("look at", &path))
    }
}

/// Makes one attempt. `None` where there is no lineage, or the folder changed meanwhile.
fn read_once(disk: &dyn Disk, root: &Path) -> Result<Option<FolderView>, CheckpointError> {
    let Some(lineage) = read_lineage(disk, root)? else { return Ok(None) };
    let numbers = match read_numbers(disk, &root.join("offsets")) {
        // The folder is being moved aside, or is not created yet.
        Err(CheckpointError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => Vec::new(),
        numbers => numbers?,
    };
    let Some(number) = numbers.last().copied() else { return Ok(Some(FolderView { lineage, newest: None })) };
    let Some((epoch, crc)) = read_epoch::<IgnoredAny>(disk, root, number)? else { return Ok(None) };
    if epoch.lineage != lineage.id {
        return Ok(None);
    }
    let finished = file::read(disk, &root.join("commits").join(number.to_string()))?;
    let is_finished = finished.is_some_and(|bytes| file::checked_lines(&bytes).is_ok());
    let state = lineage.clone().state(epoch, numbers.len() == 1 && !is_finished);
    let newest = NewestEpoch { state, crc };
    Ok(Some(FolderView { lineage, newest: Some(newest) }))
}
