//! One file of the checkpoint folder: there whole, or not at all.
//!
//! A temporary file is written and synced, then linked (never replacing) or renamed (replacing), then the
//! folder is synced, as fsync(2) asks for a new name to be durable. Without the first sync, a loss of power could
//! leave the name on a file without its bytes; without the second, no name.

use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use super::CheckpointError;
use super::disk::Disk;
use crate::fault;
use crate::planted;

/// How the names of temporary files end.
const TEMPORARY: &str = ".tmp";

/// Turns an error of the file system into one that says what was tried.
pub fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> CheckpointError {
    move |source| CheckpointError::Io { action, path: path.to_owned(), source }
}

/// Reads a whole file; `None` when it is not there.
///
/// # Errors
/// The file system refuses.
pub fn read(disk: &dyn Disk, path: &Path) -> Result<Option<Vec<u8>>, CheckpointError> {
    match disk.read(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        read => read.map(Some).map_err(failed("read", path)),
    }
}

/// Makes a file that must not be there yet, durably. After an error it may be there or not, and is never
/// there in part.
///
/// # Errors
/// The file is there, or the file system refuses.
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

/// Makes or replaces a file, durably.
///
/// # Errors
/// The file system refuses.
pub fn replace(disk: &dyn Disk, path: &Path, bytes: &[u8]) -> Result<(), CheckpointError> {
    replace_with(disk, path, |out| out.write_all(bytes))
}

/// Makes or replaces a file, durably, from what is written into it.
///
/// # Errors
/// The file system refuses, or the writing does.
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

/// Makes or replaces a file without waiting for the disk: for what costs only work when it is lost. A loss of power
/// may leave it in part.
///
/// # Errors
/// The file system refuses.
pub fn replace_unsynced(disk: &dyn Disk, path: &Path, bytes: &[u8]) -> Result<(), CheckpointError> {
    let temporary = write_temporary(disk, path, false, |out| out.write_all(bytes))?;
    disk.rename(&temporary, path).map_err(failed("rename", &temporary))
}

/// Removes a file, where it is there.
///
/// # Errors
/// The file system refuses.
pub fn remove(disk: &dyn Disk, path: &Path) -> Result<(), CheckpointError> {
    match disk.remove(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed.map_err(failed("remove", path)),
    }
}

/// Removes the temporary files in a folder, which a crash left.
///
/// # Errors
/// The file system refuses.
pub fn clean(disk: &dyn Disk, folder: &Path) -> Result<(), CheckpointError> {
    let names = disk.list(folder).map_err(failed("list", folder))?;
    names.iter().filter(|name| name.ends_with(TEMPORARY)).try_for_each(|name| remove(disk, &folder.join(name)))
}

/// Makes a folder where it is missing, without waiting for the disk.
///
/// # Errors
/// The file system refuses.
pub fn make_folder(disk: &dyn Disk, path: &Path) -> Result<(), CheckpointError> {
    match disk.create_dir(path) {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        made => made.map_err(failed("create", path)),
    }
}

/// Makes a folder and those above it, durably.
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
    // The lowest that is there may have been made by a process that was killed before its sync.
    match disk.sync_dir(parent(there)) {
        // Its folder may be one that only others may read, which then made it.
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

/// The folder that holds the path: `.` for a bare name, `/` for itself.
fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        parent => parent.unwrap_or(path),
    }
}

/// Takes the CRC-32 (IEEE) of what is written through it.
pub struct Checksummed<'a> {
    out: &'a mut dyn Write,
    crc: crc32fast::Hasher,
    /// Why the writer refused: a serializer between does not say.
    refused: Option<io::Error>,
}

impl<'a> Checksummed<'a> {
    /// Writes through to `out`.
    pub fn new(out: &'a mut dyn Write) -> Self {
        Self { out, crc: crc32fast::Hasher::new(), refused: None }
    }

    /// The writer's own error, where there was one, rather than what a serializer made of it.
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

    /// Ends with the checksum in four bytes, the least significant first.
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

/// Text with a last line that holds its CRC-32 (IEEE) in hexadecimal.
pub fn with_checksum(text: String) -> Vec<u8> {
    let crc = crc32fast::hash(text.as_bytes());
    let mut bytes = text.into_bytes();
    bytes.extend_from_slice(format!("{{\"crc32\":\"{crc:08x}\"}}\n").as_bytes());
    bytes
}

/// The lines before the checksum, once it is found right, and it.
///
/// # Errors
/// What is wrong with the file.
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
    // What a crash left behind may be a second name of a linked file: removed, never written into.
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
