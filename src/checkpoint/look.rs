//! A look at the folder from outside, while another process may be working on it: nothing is changed or locked.

use std::path::Path;
use std::time::Duration;

use serde::de::IgnoredAny;

use super::disk::{Disk, RealDisk};
use super::{CheckpointError, Epoch, Folder, Lineage, Offsets, file, read_epoch, read_lineage, read_numbers};
use crate::model::Timestamp;

/// How often is looked again, where what was listed is gone or does not fit together.
const LOOKS: u32 = 10;
/// The wait before: longer than moving a lineage aside takes.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// What a folder says about progress.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Look {
    /// The lineage.
    pub lineage: Lineage,
    /// Its newest epoch: number, next offsets, when it was closed, and the checksum of its file.
    pub epoch: Option<(u64, Offsets, Timestamp, u32)>,
}

impl Folder {
    /// Reads what `<dir>/<group>` says; `None` where there is no such folder, or no lineage in it.
    ///
    /// # Errors
    /// A damaged file, a later format, or the file system refuses.
    pub fn look(dir: &Path, group: &str) -> Result<Option<Look>, CheckpointError> {
        Self::look_on(&RealDisk, &dir.join(group))
    }

    /// Whether a process has the folder `<dir>/<group>` open.
    ///
    /// # Errors
    /// The file system refuses.
    pub fn is_locked(dir: &Path, group: &str) -> Result<bool, CheckpointError> {
        let path = dir.join(group).join("lock");
        RealDisk.is_locked(&path).map_err(file::failed("look at", &path))
    }

    /// Reads what the folder at this path says.
    ///
    /// # Errors
    /// As for [`Folder::look`].
    pub fn look_on(disk: &dyn Disk, root: &Path) -> Result<Option<Look>, CheckpointError> {
        if !disk.exists(root).map_err(file::failed("look for", root))? {
            return Ok(None);
        }
        for _ in 1..LOOKS {
            if let Some(seen) = look_once(disk, root)? {
                return Ok(Some(seen));
            }
            std::thread::sleep(LOOK_AGAIN);
        }
        look_once(disk, root)
    }
}

/// One look; `None` where there is no lineage, or the folder changed meanwhile.
fn look_once(disk: &dyn Disk, root: &Path) -> Result<Option<Look>, CheckpointError> {
    let Some(lineage) = read_lineage(disk, root)? else { return Ok(None) };
    let newest = match read_numbers(disk, &root.join("offsets")) {
        // Just being moved aside, or not made yet.
        Err(CheckpointError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => None,
        numbers => numbers?.last().copied(),
    };
    let Some(number) = newest else { return Ok(Some(Look { lineage, epoch: None })) };
    let Some((epoch, crc)) = read_epoch::<IgnoredAny>(disk, root, number)? else { return Ok(None) };
    let Epoch { lineage: of, offsets, at, .. } = epoch;
    Ok((of == lineage.id).then_some(Look { lineage, epoch: Some((number, offsets, at, crc)) }))
}
