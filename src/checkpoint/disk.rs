//! The operations of a file system for the checkpoint folder.

use std::fmt::Debug;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// How often a lock is tried before it counts as held. [`Disk::is_locked`] of another process holds it for an instant.
const LOCK_TRIES: u32 = 20;
/// The wait between two attempts.
const LOCK_WAIT: Duration = Duration::from_millis(10);

/// A lock. It is released when it is dropped, or when its process ends.
pub type Lock = Box<dyn Debug + Send + Sync>;

/// A file that is being written.
pub trait NewFile: Write {
    /// Waits until the content is on the disk. The file's name needs [`Disk::sync_dir`].
    ///
    /// # Errors
    /// The file system refuses.
    fn sync(&mut self) -> io::Result<()>;
}

/// A file system. Each method does what the function of the same name in `std::fs` does, and returns the same errors.
#[allow(clippy::missing_errors_doc, reason = "said once, above")]
pub trait Disk: Debug + Send + Sync {
    /// Reads all bytes of a file.
    fn read(&self, path: &Path) -> io::Result<Vec<u8>>;
    /// Returns the names in a folder, in no order.
    fn list(&self, folder: &Path) -> io::Result<Vec<String>>;
    /// Whether there is a file or folder with this name.
    fn exists(&self, path: &Path) -> io::Result<bool>;
    /// Creates one folder.
    fn create_dir(&self, path: &Path) -> io::Result<()>;
    /// Creates an empty file, which must not exist.
    fn create(&self, path: &Path) -> io::Result<Box<dyn NewFile>>;
    /// Gives a file a second name, which must not exist.
    fn link(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Renames a file or folder. A file with the new name is replaced.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file's name.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Removes an empty folder.
    fn remove_dir(&self, path: &Path) -> io::Result<()>;
    /// Waits until the names in a folder are on the disk: created, changed and removed ones.
    fn sync_dir(&self, folder: &Path) -> io::Result<()>;
    /// Locks a file, and creates it if it does not exist. `None`: another process holds the lock.
    fn lock(&self, path: &Path) -> io::Result<Option<Lock>>;
    /// Whether a file is locked. Creates nothing.
    fn is_locked(&self, path: &Path) -> io::Result<bool>;
}

/// The file system of this machine.
#[derive(Clone, Copy, Debug)]
pub struct RealDisk;

impl NewFile for File {
    fn sync(&mut self) -> io::Result<()> {
        self.sync_all()
    }
}

impl Disk for RealDisk {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        fs::read(path)
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(folder)? {
            names.extend(entry?.file_name().into_string()); // the folder itself makes no other names
        }
        Ok(names)
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        fs::exists(path)
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        fs::create_dir(path)
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn NewFile>> {
        Ok(Box::new(File::create_new(path)?))
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::hard_link(from, to)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        fs::remove_dir(path)
    }

    fn sync_dir(&self, folder: &Path) -> io::Result<()> {
        File::open(folder)?.sync_all()
    }

    fn lock(&self, path: &Path) -> io::Result<Option<Lock>> {
        let file = OpenOptions::new().create(true).truncate(false).write(true).open(path)?;
        for _ in 0..LOCK_TRIES {
            match file.try_lock() {
                Ok(()) => return Ok(Some(Box::new(file))),
                Err(TryLockError::WouldBlock) => std::thread::sleep(LOCK_WAIT),
                Err(TryLockError::Error(error)) => return Err(error),
            }
        }
        Ok(None)
    }

    fn is_locked(&self, path: &Path) -> io::Result<bool> {
        let file = match File::open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            opened => opened?,
        };
        match file.try_lock_shared() {
            Ok(()) => Ok(false),
            Err(TryLockError::WouldBlock) => Ok(true),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }
}

/// The file system of this machine, with one folder that only its owner can read, because it holds keys and amounts.
#[derive(Clone, Debug)]
pub struct PrivateDisk {
    folder: PathBuf,
}

impl PrivateDisk {
    /// Creates the disk. `folder` becomes private when it is locked. Everything outside of it follows the umask.
    pub fn at(folder: PathBuf) -> Arc<dyn Disk> {
        Arc::new(Self { folder })
    }
}

/// Makes a file, or a folder with its content, accessible to its owner only.
fn make_private(path: &Path) -> io::Result<()> {
    let found = fs::metadata(path)?;
    let mode = found.permissions().mode();
    if mode & 0o077 != 0 {
        fs::set_permissions(path, fs::Permissions::from_mode(mode & 0o700))?;
    }
    if found.is_dir() {
        for entry in fs::read_dir(path)? {
            let entry = entry?;
            // Links are not followed, because the target may belong to somebody else.
            if !entry.file_type()?.is_symlink() {
                make_private(&entry.path())?;
            }
        }
    }
    Ok(())
}

impl Disk for PrivateDisk {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        RealDisk.read(path)
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<String>> {
        RealDisk.list(folder)
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        RealDisk.exists(path)
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        if path.starts_with(&self.folder) {
            return fs::DirBuilder::new().mode(0o700).create(path);
        }
        RealDisk.create_dir(path)
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn NewFile>> {
        Ok(Box::new(OpenOptions::new().create_new(true).write(true).mode(0o600).open(path)?))
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        RealDisk.link(from, to)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        RealDisk.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        RealDisk.remove(path)
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        RealDisk.remove_dir(path)
    }

    fn sync_dir(&self, folder: &Path) -> io::Result<()> {
        RealDisk.sync_dir(folder)
    }

    fn lock(&self, path: &Path) -> io::Result<Option<Lock>> {
        let lock = RealDisk.lock(path)?;
        if lock.is_some()
            && let Err(error) = make_private(&self.folder)
        {
            let folder = self.folder.display();
            tracing::warn!(%folder, %error, "other users may be able to read the checkpoint folder: its permissions could not be changed");
        }
        Ok(lock)
    }

    fn is_locked(&self, path: &Path) -> io::Result<bool> {
        RealDisk.is_locked(path)
    }
}
