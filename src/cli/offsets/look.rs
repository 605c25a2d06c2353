//! The newest epoch of a checkpoint folder, without its lock: a run may be at work on it.

use std::path::Path;

use super::layers::Checkpoint;
use crate::checkpoint::{CheckpointError, Folder};

/// The newest epoch; `None` without a folder, or in a new one.
///
/// # Errors
/// The file system refuses, or the file is damaged.
pub(super) fn look(dir: &Path, group: &str) -> Result<Option<Checkpoint>, CheckpointError> {
    let Some(look) = Folder::look(dir, group)? else { return Ok(None) };
    let lineage = look.lineage.id;
    Ok(look.epoch.map(|(epoch, offsets, at, crc)| Checkpoint { lineage, epoch, offsets, at, crc }))
}
