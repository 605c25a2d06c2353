//! The folder of one demo. The demo writes nowhere else, and the folder is removed at the end.
//!
//! If a demo is killed, the shell that watches its server cleans up ([`super::server`]). If the shell is killed too,
//! the next demo removes the folder. A lock on a file in the folder distinguishes a live demo from a dead one.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use uuid::Uuid;

use super::DemoError;

/// The prefix of such folders' names.
const PREFIX: &str = "tripline-demo-";
/// The prefix before they are locked.
const UNLOCKED: &str = "tripline-new-demo-";

/// The users that the server can run as if this program is root, in the order of preference.
const USERS: [&str; 2] = ["postgres", "nobody"];

/// A user of this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// The user's name.
    pub name: String,
    /// The user's number.
    pub uid: u32,
    /// The number of the user's first group.
    pub gid: u32,
}

/// A folder for this demo alone.
#[derive(Debug)]
pub struct Place {
    path: PathBuf,
    /// The user that the server has to run as, if it is another one, because the server refuses to run as root.
    pub server_user: Option<User>,
    /// Held as long as this demo runs.
    _lock: File,
}

impl Place {
    /// Creates the folder, and removes those of dead demos.
    ///
    /// # Errors
    /// The folder cannot be created, or this user is root and there is no other user.
    pub fn make() -> Result<Self, DemoError> {
        let id = Uuid::now_v7().simple().to_string();
        let (unnamed, named) = (base().join(format!("{UNLOCKED}{id}")), base().join(format!("{PREFIX}{id}")));
        let failed = |error: io::Error| match error.kind() {
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::NotFound => {
                let named = named.display();
                DemoError::new(format!(
                    "the demo needs a folder of its own: {named}: {error}; set TMPDIR to one that can be written"
                ))
            }
            _ => DemoError::file(&named, &error),
        };
        DirBuilder::new().mode(0o700).create(&unnamed).map_err(failed)?;
        // The folder is renamed after it is locked. Otherwise another demo that starts now would take it for a dead
        // one's.
        let lock = || {
            let file = File::create(unnamed.join("lock"))?;
            file.try_lock()?;
            fs::rename(&unnamed, &named)?;
            Ok(file)
        };
        let made = || -> Result<Self, DemoError> {
            let lock = lock().map_err(failed)?;
            let me = fs::metadata(&named).map_err(failed)?.uid();
            let server_user = if me == 0 { Some(other_user()?) } else { None };
            let place = Self { path: named.clone(), server_user, _lock: lock };
            place.give(&named)?;
            sweep(&place);
            Ok(place)
        };
        made().inspect_err(|_| {
            let _ = fs::remove_dir_all(&unnamed).or_else(|_| fs::remove_dir_all(&named));
        })
    }

    /// The path of the folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Gives a folder or a file to the server's user, if that is another one. The server's shell has to be able to
    /// remove the contents of a folder.
    ///
    /// # Errors
    /// The owner cannot be changed.
    pub fn give(&self, path: &Path) -> Result<(), DemoError> {
        let Some(user) = &self.server_user else { return Ok(()) };
        chown(path, Some(user.uid), Some(user.gid)).map_err(|error| DemoError::file(path, &error))?;
        if path.is_dir() && path != self.path {
            for entry in fs::read_dir(path).map_err(|error| DemoError::file(path, &error))?.flatten() {
                self.give(&entry.path())?;
            }
        }
        Ok(())
    }

    /// The folder for fetched binaries. The server's user has to be able to reach it. If a user has no home folder, as
    /// in a container, it is the demo's own folder, which is removed with the demo.
    pub fn cache(&self) -> Cache {
        let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let base = if self.server_user.is_some() {
            Some(PathBuf::from("/var/cache"))
        } else {
            set("XDG_CACHE_HOME").filter(|path| path.is_absolute()).or_else(|| Some(set("HOME")?.join(".cache")))
        };
        match base.map(|base| base.join("tripline")).filter(|folder| may_write(folder)) {
            Some(folder) => Cache { folder, is_kept: true },
            None => Cache { folder: self.path.join("fetched"), is_kept: false },
        }
    }
}

/// The folder for fetched programs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cache {
    /// The path. The folder need not exist.
    pub folder: PathBuf,
    /// Whether the folder remains after the demo.
    pub is_kept: bool,
}

/// Whether a folder can be created, if it is missing, and a file in it.
fn may_write(folder: &Path) -> bool {
    let file = folder.join(format!("new-{}", Uuid::now_v7().simple()));
    let written = fs::create_dir_all(folder).and_then(|()| File::create_new(&file));
    let _ = fs::remove_file(&file);
    written.is_ok()
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path); // the server's shell may have done it already
    }
}

/// A folder that every user can reach, because the server may run as another user.
fn base() -> PathBuf {
    let is_root = fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0);
    if is_root { PathBuf::from("/tmp") } else { std::env::temp_dir() }
}

fn other_user() -> Result<User, DemoError> {
    let text = fs::read_to_string("/etc/passwd").map_err(|error| DemoError::file(Path::new("/etc/passwd"), &error))?;
    USERS.iter().find_map(|name| user_named(&text, name)).ok_or_else(|| {
        DemoError::new(format!(
            "PostgreSQL does not run as root, and this machine has none of the users {}: run the demo as another user",
            USERS.join(", ")
        ))
    })
}

fn user_named(passwd: &str, name: &str) -> Option<User> {
    let fields = |line: &str| line.split(':').map(str::to_owned).collect::<Vec<_>>();
    let found = passwd.lines().map(fields).find(|fields| fields.first().is_some_and(|first| first == name))?;
    let number = |index: usize| found.get(index)?.parse::<u32>().ok().filter(|number| *number != 0);
    Some(User { name: name.to_owned(), uid: number(2)?, gid: number(3)? })
}

/// Removes the folders of dead demos. Failures are left to the next demo.
fn sweep(mine: &Place) {
    let Some(base) = mine.path.parent() else { return };
    for entry in fs::read_dir(base).into_iter().flatten().flatten() {
        let path = entry.path();
        let named = entry.file_name().to_string_lossy().starts_with(PREFIX);
        // Other users who may write here must not lead us anywhere.
        let owned = fs::symlink_metadata(&path).is_ok_and(|found| {
            let owners =
                [mine.server_user.as_ref().map(|user| user.uid), fs::metadata(&mine.path).ok().map(|m| m.uid())];
            found.is_dir() && owners.contains(&Some(found.uid())) && found.permissions().mode() & 0o022 == 0
        });
        if !named || !owned || path == mine.path {
            continue;
        }
        let Ok(lock) = File::open(path.join("lock")) else { continue };
        if lock.try_lock().is_ok() {
            end_server(&path);
            let _ = fs::remove_dir_all(&path);
        }
    }
}

/// Ends the server of a dead demo, if there is one. Its pid may belong to another process by now.
fn end_server(place: &Path) {
    let data = place.join("data");
    let pid = fs::read_to_string(data.join("postmaster.pid")).ok();
    let Some(pid) = pid.as_deref().and_then(|text| text.lines().next()?.trim().parse::<u32>().ok()) else { return };
    let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let is_it = command.split(|byte| *byte == 0).any(|word| word == data.as_os_str().as_encoded_bytes());
    if is_it {
        // The shell has `kill` built in. A program of that name may be missing.
        let kill =
            Command::new("sh").args(["-c", "kill -QUIT \"$1\"", "sh", &pid.to_string()]).stdin(Stdio::null()).status();
        let _ = kill.inspect(|_| std::thread::sleep(std::time::Duration::from_millis(300)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cache_is_where_it_can_be_written() {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join(".cache/tripline");
        assert!(may_write(&folder));
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 0);
        assert!(!may_write(Path::new("/proc/tripline")));
    }

    #[test]
    fn users_are_found_by_name_and_never_root() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65533:n:/:/bin/false\npostgres:x:0:5::/:/bin/sh\n";
        let nobody = User { name: "nobody".to_owned(), uid: 65_534, gid: 65_533 };
        assert_eq!(user_named(passwd, "nobody"), Some(nobody));
        assert_eq!(user_named(passwd, "postgres"), None);
        assert_eq!(user_named(passwd, "root"), None);
        assert_eq!(user_named("nobody", "nobody"), None);
    }
}
