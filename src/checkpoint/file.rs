//! One file of the checkpoint folder: there whole, or not at all.
//!
//! A temporary file is written and synced, then linked (never replacing) or renamed (replacing), then the
//! folder is synced, as fsync(2) asks for a new name to be durable.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use super::CheckpointError;

/// Reads a whole file; `None` when it is not there.
///
/// # Errors
/// The file system refuses.
pub fn read(path: &Path) -> Result<Option<Vec<u8>>, CheckpointError> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(CheckpointError::Io { action: "read", path: path.to_owned(), source }),
    }
}

/// Makes a file that must not be there yet, durably.
///
/// # Errors
/// The file is there, or the file system refuses.
pub fn create_new(path: &Path, bytes: &[u8]) -> Result<(), CheckpointError> {
    let temporary = write_temporary(path, true, |out| out.write_all(bytes))?;
    let linked = fs::hard_link(&temporary, path);
    let removed = fs::remove_file(&temporary);
    linked.and(removed).map_err(|source| CheckpointError::Io { action: "link", path: path.to_owned(), source })?;
    sync_parent(path)
}

/// Makes or replaces a file, durably.
///
/// # Errors
/// The file system refuses.
pub fn replace(path: &Path, bytes: &[u8]) -> Result<(), CheckpointError> {
    replace_with(path, |out| out.write_all(bytes))
}

/// Makes or replaces a file, durably, from what is written into it.
///
/// # Errors
/// The file system refuses, or the writing does.
pub fn replace_with(path: &Path, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<(), CheckpointError> {
    let temporary = write_temporary(path, true, write)?;
    rename(&temporary, path)?;
    sync_parent(path)
}

/// Makes or replaces a file whole, without waiting for the disk: for what costs only work when it is lost.
///
/// # Errors
/// The file system refuses.
pub fn replace_unsynced(path: &Path, bytes: &[u8]) -> Result<(), CheckpointError> {
    let temporary = write_temporary(path, false, |out| out.write_all(bytes))?;
    rename(&temporary, path)
}

/// Syncs a folder, so that the names in it are durable.
///
/// # Errors
/// The file system refuses.
pub fn sync_folder(path: &Path) -> Result<(), CheckpointError> {
    let synced = File::open(path).and_then(|folder| folder.sync_all());
    synced.map_err(|source| CheckpointError::Io { action: "sync", path: path.to_owned(), source })
}

/// Takes the CRC-32 (IEEE) of what is written through it.
pub struct Checksummed<'a> {
    out: &'a mut dyn Write,
    crc: crc32fast::Hasher,
}

impl<'a> Checksummed<'a> {
    /// Writes through to `out`.
    pub fn new(out: &'a mut dyn Write) -> Self {
        Self { out, crc: crc32fast::Hasher::new() }
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
        let written = self.out.write(bytes)?;
        self.crc.update(bytes.get(..written).unwrap_or_default());
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// Text with a last line that holds its CRC-32 (IEEE) in hexadecimal.
pub fn with_checksum(text: String) -> Vec<u8> {
    let crc = crc32fast::hash(text.as_bytes());
    let mut bytes = text.into_bytes();
    bytes.extend_from_slice(format!("{{\"crc32\":\"{crc:08x}\"}}\n").as_bytes());
    bytes
}

/// The lines before the checksum, once it is found right.
///
/// # Errors
/// What is wrong with the file.
pub fn checked_lines(bytes: &[u8]) -> Result<Vec<&str>, &'static str> {
    let text = std::str::from_utf8(bytes).map_err(|_| "it is not UTF-8")?;
    let lines: Vec<&str> = text.strip_suffix('\n').ok_or("its last line is torn")?.split('\n').collect();
    let (last, rest) = lines.split_last().ok_or("it is empty")?;
    let content = text.get(..text.len() - last.len() - 1).ok_or("it is torn")?;
    if *last != format!("{{\"crc32\":\"{:08x}\"}}", crc32fast::hash(content.as_bytes())) {
        return Err("its checksum is wrong");
    }
    Ok(rest.to_vec())
}

fn write_temporary(
    path: &Path,
    sync: bool,
    write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> Result<PathBuf, CheckpointError> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".tmp");
    let temporary = path.with_file_name(name);
    let written = || -> io::Result<()> {
        // What a crash left behind may be a second name of a linked file: removed, never written into.
        match fs::remove_file(&temporary) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        let mut file = BufWriter::new(OpenOptions::new().create_new(true).write(true).open(&temporary)?);
        write(&mut file)?;
        let file = file.into_inner().map_err(io::IntoInnerError::into_error)?;
        if sync { file.sync_all() } else { Ok(()) }
    };
    match written() {
        Ok(()) => Ok(temporary),
        Err(source) => Err(CheckpointError::Io { action: "write", path: temporary, source }),
    }
}

fn rename(from: &Path, to: &Path) -> Result<(), CheckpointError> {
    fs::rename(from, to).map_err(|source| CheckpointError::Io { action: "rename", path: from.to_owned(), source })
}

fn sync_parent(path: &Path) -> Result<(), CheckpointError> {
    path.parent().map_or(Ok(()), sync_folder)
}
