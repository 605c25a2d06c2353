//! Writing a file of the checkpoint folder so that it exists complete or not at all.
//!
//! A temporary file is written and synced. Then it is linked (never replacing) or renamed (replacing). Then the folder
//! is synced, because fsync(2) requires that for a new name to be durable. Without the first sync, a loss of power
//! could leave the name without the bytes. Without the second, it could remove the name.

use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use super::CheckpointError;
use super::disk::Disk;
use crate::fault;
use crate::planted;

/// The ending of the names of temporary files.
const TEMPORARY: &str = ".tmp";

/// Converts an error of the file system into one that names the operation.
pub fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> CheckpointError {
    move |source| CheckpointError::Io { action, path: path.to_owned(), source }
}

/// Reads a whole file. `None` if it does not exist.
///
/// # Errors
/// The file system refuses.
pub fn read(disk: &dyn Disk, path: &Path) -> Result<Option<Vec<u8>>, CheckpointError> {
    match disk.read(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        read => read.map(Some).map_err(failed("read", path)),
    }
}

/// Creates a file durably, which must not exist. After an error the file may exist or not, but never in part.
///
/// # Errors
/// The file exists, or the file system refuses.
pub fn create_new(disk: &dyn Disk, path: &Path, bytes: &[u8]) -> Result<(), CheckpointError> {
    let is_synced = !planted::bug("epoch-not-synced");
    let temporary = write_temporary(disk, path, is_synced, |out| out.write_all(bytes))?;
    fault::point("epoch.written");
    let linked = disk.link(&temporary, path);
    fault::point("epoch.linked");
    let removed = disk.remove(&temporary);
    linked.and(removed).map_err(failed("link", path))?;
    if planted::bug("epoch-name-not-synced") { Ok(()) } else { sync_parent(disk, path) }
}

/// Creates or replaces a file durably.
///
/// # Errors
/// The file system refuses.
pub fn replace(disk: &dyn Disk, path: &Path, bytes: &[u8]) -> Result<(), CheckpointError> {
    replace_with(disk, path, |out| out.write_all(bytes))
}

/// Creates or replaces a file durably, with the content that `write` writes.
///
/// # Errors
/// The file system or `write` fails.
pub fn replace_with(
    disk: &dyn Disk,
    path: &Path,
    write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> Result<(), CheckpointError> {
    let temporary = write_temporary(disk, path, true, write)?;
    fault::point("file.written");
    disk.rename(&temporary, path).map_err(failed("rename", &temporary))?;
    fault::point("file.renamed");
    sync_parent(disk, path)
}

/// Creates or replaces a file without waiting for the disk, for content that only costs work if it is lost. A loss of
/// power may leave the file in part.
///
/// # Errors
/// The file system refuses.
pub fn replace_unsynced(disk: &dyn Disk, path: &Path, bytes: &[u8]) -> Result<(), CheckpointError> {
    let temporary = write_temporary(disk, path, false, |out| out.write_all(bytes))?;
    disk.rename(&temporary, path).map_err(failed("rename", &temporary))
}

/// Removes a file, if it exists.
///
/// # Errors
/// The file system refuses.
pub fn remove(disk: &dyn Disk, path: &Path) -> Result<(), CheckpointError> {
    match disk.remove(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed.map_err(failed("remove", path)),
    }
}

/// Removes the temporary files that a crash left in a folder.
///
/// # Errors
/// The file system refuses.
pub fn clean(disk: &dyn Disk, folder: &Path) -> Result<(), CheckpointError> {
    let names = disk.list(folder).map_err(failed("list", folder))?;
    names.iter().filter(|name| name.ends_with(TEMPORARY)).try_for_each(|name| remove(disk, &folder.join(name)))
}

/// Creates a folder if it does not exist, without waiting for the disk.
///
/// # Errors
/// The file system refuses.
pub fn make_folder(disk: &dyn Disk, path: &Path) -> Result<(), CheckpointError> {
    match disk.create_dir(path) {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        made => made.map_err(failed("create", path)),
    }
}

/// Creates a folder and its parents durably.
///
/// # Errors
/// The file system refuses.
pub fn make_folders(disk: &dyn Disk, path: &Path) -> Result<(), CheckpointError> {
    let mut missing = Vec::new();
    let mut there = path;
    while !disk.exists(there).map_err(failed("look for", there))? {
        missing.push(there);
        there = parent(there);
    }
    // The lowest existing folder may come from a process that was killed before its sync.
    match disk.sync_dir(parent(there)) {
        // If this user may not read the parent folder, another user created the folder.
        Err(e) if e.kind() == io::ErrorKind::PermissionDenied => {}
        synced => synced.map_err(failed("sync", parent(there)))?,
    }
    for folder in missing.into_iter().rev() {
        make_folder(disk, folder)?;
        sync_parent(disk, folder)?;
    }
    Ok(())
}

/// Syncs a folder, so that the names in it are durable.
///
/// # Errors
/// The file system refuses.
pub fn sync_folder(disk: &dyn Disk, path: &Path) -> Result<(), CheckpointError> {
    disk.sync_dir(path).map_err(failed("sync", path))
}

fn sync_parent(disk: &dyn Disk, path: &Path) -> Result<(), CheckpointError> {
    sync_folder(disk, parent(path))
}

/// Returns the folder of a path: `.` for a bare name, and `/` for itself.
fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        parent => parent.unwrap_or(path),
    }
}

/// Calculates the CRC-32 (IEEE) of the written bytes.
pub struct Checksummed<'a> {
    out: &'a mut dyn Write,
    crc: crc32fast::Hasher,
    /// The writer's error, which a serializer in between does not pass on.
    refused: Option<io::Error>,
}

impl<'a> Checksummed<'a> {
    /// Writes through to `out`.
    pub fn new(out: &'a mut dyn Write) -> Self {
        Self { out, crc: crc32fast::Hasher::new(), refused: None }
    }

    /// Returns the writer's own error, if there was one, instead of the serializer's.
    pub fn reason(&mut self, made: io::Error) -> io::Error {
        self.refused.take().unwrap_or(made)
    }

    fn kept<T>(&mut self, done: io::Result<T>) -> io::Result<T> {
        done.map_err(|error| {
            let kind = error.kind();
            self.refused = Some(error);
            kind.into()
        })
    }

    /// Writes the checksum in four bytes, the least significant first.
    ///
    /// # Errors
    /// The writer refuses.
    pub fn finish(self) -> io::Result<()> {
        self.out.write_all(&self.crc.finalize().to_le_bytes())
    }
}

impl Write for Checksummed<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.out.write(bytes);
        let written = self.kept(written)?;
        self.crc.update(bytes.get(..written).unwrap_or_default());
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        let flushed = self.out.flush();
        self.kept(flushed)
    }
}

/// Appends a line with the text's CRC-32 (IEEE) in hexadecimal.
pub fn with_checksum(text: String) -> Vec<u8> {
    let crc = crc32fast::hash(text.as_bytes());
    let mut bytes = text.into_bytes();
    bytes.extend_from_slice(format!("{{\"crc32\":\"{crc:08x}\"}}\n").as_bytes());
    bytes
}

/// Checks the checksum, and returns the lines before it and the checksum.
///
/// # Errors
/// The problem with the file.
pub fn checked_lines(bytes: &[u8]) -> Result<(Vec<&str>, u32), &'static str> {
    let text = std::str::from_utf8(bytes).map_err(|_| "it is not UTF-8")?;
    let lines: Vec<&str> = text.strip_suffix('\n').ok_or("its last line is torn")?.split('\n').collect();
    let (last, rest) = lines.split_last().ok_or("it is empty")?;
    let content = text.get(..text.len() - last.len() - 1).ok_or("it is torn")?;
    let crc = crc32fast::hash(content.as_bytes());
    if *last != format!("{{\"crc32\":\"{crc:08x}\"}}") {
        return Err("its checksum is wrong");
    }
    Ok((rest.to_vec(), crc))
}

fn write_temporary(
    disk: &dyn Disk,
    path: &Path,
    sync: bool,
    write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> Result<PathBuf, CheckpointError> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(TEMPORARY);
    let temporary = path.with_file_name(name);
    // A file left by a crash may be a second name of a linked file. It is removed and never written into.
    remove(disk, &temporary)?;
    let written = || -> io::Result<()> {
        let mut file = BufWriter::new(disk.create(&temporary)?);
        write(&mut file)?;
        let mut file = file.into_inner().map_err(io::IntoInnerError::into_error)?;
        if sync { file.sync() } else { Ok(()) }
    };
    match written() {
        Ok(()) => Ok(temporary),
        Err(source) => {
            let _ = disk.remove(&temporary); // gives its space back; otherwise the next open does
            Err(failed("write", path)(source))
        }
    }
}
