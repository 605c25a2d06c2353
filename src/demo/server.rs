//! A PostgreSQL server for this demo alone: on loopback, with its own password, and removed with the demo.
//!
//! Its parent is a shell that holds the reading end of a pipe. When the demo ends in any way, the pipe is closed. The
//! shell then ends the server and removes the folder.

use std::fs;
use std::io::Write;
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{ConnectOptions, Connection};
use tokio::time::Instant;
use uuid::Uuid;

use super::DemoError;
use super::binaries::Binaries;
use super::place::Place;

/// How long the server may take to become ready.
const START_TIMEOUT: Duration = Duration::from_secs(30);
/// How long one connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// How often to check whether the server has ended, and the interval between two checks.
const STOP_LOOKS: u32 = 500;
const STOP_LOOK: Duration = Duration::from_millis(20);
/// How many ports are tried.
const PORTS_TRIED: u32 = 3;

/// The shell's script. `$1` is the folder to remove, unless a line arrives before the pipe's end. `$2` is the log. The
/// other arguments start the server. Only the demo reacts to signals to the terminal's processes, and then closes the
/// pipe. The server needs no clean shutdown, because its data is deleted.
const SHELL: &str = r#"
trap '' HUP INT TERM
folder=$1 log=$2
shift 2
cd /
"$@" </dev/null >"$log" 2>&1 &
server=$!
while read -r line; do folder=; done
kill -QUIT "$server" 2>/dev/null
wait "$server"
[ -z "$folder" ] || rm -rf -- "$folder"
"#;

/// The server's settings. Its data need not survive a power cut.
const SETTINGS: [&str; 12] = [
    "listen_addresses=127.0.0.1",
    "unix_socket_directories=",
    "wal_level=logical",
    "max_connections=50",
    "shared_buffers=64MB",
    "max_wal_size=1GB",
    "fsync=off",
    "full_page_writes=off",
    "timezone=UTC",
    "log_timezone=UTC",
    "lc_messages=C",
    "jit=off",
];

/// A running server.
pub struct Server {
    shell: Child,
    pipe: Option<ChildStdin>,
    port: u16,
    password: String,
}

impl Server {
    /// Creates the database and starts the server.
    ///
    /// # Errors
    /// The messages of the programs.
    pub async fn start(place: &Place, binaries: &Binaries) -> Result<Self, DemoError> {
        Self::start_at(place, binaries, free_port).await
    }

    /// Starts the server on a port that `port` chooses. If the port is taken, `port` is called again.
    ///
    /// # Errors
    /// The messages of the programs.
    pub async fn start_at(
        place: &Place,
        binaries: &Binaries,
        mut port: impl FnMut() -> Result<u16, DemoError>,
    ) -> Result<Self, DemoError> {
        let password = format!("{}{}", Uuid::now_v7().simple(), Uuid::now_v7().simple());
        initialise(place, binaries, &password).await?;
        let mut tried = 1;
        loop {
            let server = Self::launch(place, binaries, password.clone(), port()?)?;
            match server.ready(place).await {
                Ok(()) => return Ok(server),
                Err(error) => {
                    let taken = log_of(place).contains("could not bind");
                    if !taken || tried == PORTS_TRIED {
                        return Err(error);
                    }
                    tried += 1;
                    server.leave(place)?;
                }
            }
        }
    }

    fn launch(place: &Place, binaries: &Binaries, password: String, port: u16) -> Result<Self, DemoError> {
        let mut command = Command::new("sh");
        command.arg("-c").arg(SHELL).arg("tripline-demo").arg(place.path()).arg(log_path(place));
        command.arg(binaries.program("postgres")).arg("-D").arg(data(place)).arg("-p").arg(port.to_string());
        for setting in SETTINGS {
            command.args(["-c", setting]);
        }
        as_server_user(&mut command, place);
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
        let mut shell = command.spawn().map_err(|error| DemoError::new(format!("sh could not be started: {error}")))?;
        let pipe = shell.stdin.take();
        Ok(Self { shell, pipe, port, password })
    }

    /// Ends the server, and leaves the folder to the next attempt.
    fn leave(mut self, place: &Place) -> Result<(), DemoError> {
        if let Some(pipe) = &mut self.pipe {
            let _ = writeln!(pipe, "the folder stays");
        }
        drop(self); // waits for its end
        // The log must not be mistaken for that of the next attempt.
        let log = log_path(place);
        fs::remove_file(&log).map_err(|error| DemoError::file(&log, &error))
    }

    async fn ready(&self, place: &Place) -> Result<(), DemoError> {
        let deadline = Instant::now() + START_TIMEOUT;
        let options = self.options();
        loop {
            let error = match tokio::time::timeout(CONNECT_TIMEOUT, options.connect()).await {
                Ok(Ok(connection)) => return connection.close().await.map_err(DemoError::from),
                Ok(Err(error)) => error.to_string(),
                Err(_) => format!("no answer within {CONNECT_TIMEOUT:?}"), // it may be another's port
            };
            let log = log_of(place);
            let ended = log.contains("database system is shut down") || log.contains("could not bind");
            if ended || Instant::now() > deadline {
                let last: Vec<&str> = log.lines().rev().take(5).collect();
                let last: Vec<&str> = last.into_iter().rev().collect();
                return Err(DemoError::new(format!("PostgreSQL did not start: {error}\n{}", last.join("\n"))));
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
    }

    /// Returns the options for connecting as superuser.
    pub fn options(&self) -> PgConnectOptions {
        PgConnectOptions::new_without_pgpass()
            .host("127.0.0.1")
            .port(self.port)
            .username("postgres")
            .password(&self.password)
            .database("postgres")
            .application_name("tripline demo")
    }

    /// Connects as superuser.
    ///
    /// # Errors
    /// The server does not answer.
    pub async fn connect(&self) -> Result<PgConnection, DemoError> {
        self.options().connect().await.map_err(DemoError::from)
    }

    /// The server's URL for another role. All roles have the same password.
    pub fn url(&self, role: &str) -> String {
        format!("postgres://{role}:{}@127.0.0.1:{}/postgres", self.password, self.port)
    }

    /// The password of all roles.
    pub fn password(&self) -> &str {
        &self.password
    }

    /// The port of the server.
    pub fn port(&self) -> u16 {
        self.port
    }
}

impl Drop for Server {
    /// Ends the server, and waits until it has ended and the folder is gone.
    fn drop(&mut self) {
        drop(self.pipe.take());
        for _ in 0..STOP_LOOKS {
            if !matches!(self.shell.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(STOP_LOOK);
        }
        tracing::warn!("PostgreSQL did not end in time; the next demo removes what it leaves");
    }
}

async fn initialise(place: &Place, binaries: &Binaries, password: &str) -> Result<(), DemoError> {
    let secret = place.path().join("secret");
    let written = fs::write(&secret, password);
    written.map_err(|error| DemoError::file(&secret, &error))?;
    place.give(&secret)?;
    let mut command = Command::new(binaries.program("initdb"));
    command.args(["--username=postgres", "--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--no-sync"]);
    command.arg("--pwfile").arg(&secret).arg("-D").arg(data(place));
    command.stdin(Stdio::null()).current_dir("/").process_group(0);
    as_server_user(&mut command, place);
    let made = tokio::task::spawn_blocking(move || command.output()).await;
    let _ = fs::remove_file(&secret);
    match made {
        Ok(Ok(made)) if made.status.success() => Ok(()),
        Ok(Ok(made)) => Err(DemoError::new(format!(
            "initdb could not make a database:\n{}",
            String::from_utf8_lossy(&made.stderr).trim()
        ))),
        Ok(Err(error)) => Err(DemoError::new(format!(
            "{} could not be run: {error}; --fetch uses another PostgreSQL",
            binaries.folder.display()
        ))),
        Err(error) => Err(DemoError::new(format!("initdb: {error}"))),
    }
}

fn as_server_user(command: &mut Command, place: &Place) {
    // The program searches the server's messages, so they must be in English. Settings of the user's own clients do not
    // apply to this server.
    command.env("LC_ALL", "C").env_remove("PGOPTIONS").env_remove("PGDATA").env_remove("PGPORT");
    if let Some(user) = &place.server_user {
        command.uid(user.uid).gid(user.gid);
    }
}

fn data(place: &Place) -> PathBuf {
    place.path().join("data")
}

fn log_path(place: &Place) -> PathBuf {
    place.path().join("postgres.log")
}

fn log_of(place: &Place) -> String {
    read_lossy(&log_path(place))
}

fn read_lossy(path: &Path) -> String {
    fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
}

/// A port on which no process listens now.
fn free_port() -> Result<u16, DemoError> {
    let bound = TcpListener::bind(("127.0.0.1", 0)).and_then(|listener| listener.local_addr());
    bound
        .map(|address| address.port())
        .map_err(|error| DemoError::new(format!("no port on 127.0.0.1 is free: {error}")))
}
