//! A PostgreSQL server of the test's own: what one test does to it, no other one feels.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};

use crate::harness::{variable, wait_for};

pub(crate) struct Server {
    pub(crate) port: u16,
    process: Option<Child>,
    bin: PathBuf,
    folder: tempfile::TempDir,
}

impl Server {
    /// With `streaming.transactions` in it, and `settings` in its configuration.
    pub(crate) fn new(settings: &str) -> Self {
        let folder = tempfile::Builder::new().prefix("tripline-truth.").tempdir_in("/tmp").unwrap();
        let mut server = Self { port: free_port(), process: None, bin: bin(), folder };
        // Everybody may go in, and the server's user own what is in there.
        run(Command::new("chmod").arg("755").arg(server.folder.path()));
        std::fs::create_dir(server.data()).unwrap();
        if owner().is_some() {
            run(Command::new("chown").arg("postgres:").arg(server.data()));
        }
        server.tool("initdb", &["-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync"]);
        let port = server.port;
        let more = format!(
            "listen_addresses = '127.0.0.1'\nport = {port}\nunix_socket_directories = ''\nwal_level = logical\n\
             fsync = off\nshared_buffers = 32MB\ntimezone = 'UTC'\nlog_timezone = 'UTC'\n{settings}\n"
        );
        let file = server.data().join("postgresql.conf");
        let text = std::fs::read_to_string(&file).unwrap();
        std::fs::write(&file, format!("{text}\n{more}")).unwrap();
        server.start();
        server.sql(
            "CREATE SCHEMA streaming;
             CREATE TABLE streaming.transactions (
                 id bigserial PRIMARY KEY, user_id bigint NOT NULL, amount numeric(12,2) NOT NULL,
                 \"timestamp\" timestamptz NOT NULL DEFAULT now(), merchant text, status text DEFAULT 'pending');
             CREATE INDEX ON streaming.transactions (user_id, \"timestamp\") INCLUDE (amount)",
        );
        server
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// A folder for configuration and checkpoints.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn url(&self) -> String {
        self.url_as("postgres")
    }

    pub(crate) fn url_as(&self, user: &str) -> String {
        format!("postgres://{user}@127.0.0.1:{}/postgres", self.port)
    }

    /// One of the programs that come with the server, on its data and as its user.
    pub(crate) fn tool(&self, name: &str, arguments: &[&str]) {
        run(self.command(name).args(arguments));
    }

    fn command(&self, name: &str) -> Command {
        let mut command = Command::new(self.bin.join(name));
        command.arg("-D").arg(self.data()).current_dir("/").stdin(Stdio::null());
        if let Some((user, group)) = owner() {
            command.uid(user).gid(group);
        }
        command
    }

    /// Until it answers.
    pub(crate) fn start(&mut self) {
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.log_file()).unwrap();
        let mut command = self.command("postgres");
        command.stdout(log.try_clone().unwrap()).stderr(log);
        self.process = Some(command.spawn().unwrap());
        wait_for("the test's own PostgreSQL answers", || {
            if let Some(code) = self.process.as_mut().unwrap().try_wait().unwrap() {
                panic!("the test's own PostgreSQL ended with {code}:\n{}", self.log());
            }
            self.try_sql("SELECT 1").ok()
        });
    }

    /// Sessions are cut off and what was committed is kept.
    pub(crate) fn stop(&mut self) {
        let Some(mut process) = self.process.take() else { return };
        signal("INT", process.id());
        process.wait().unwrap();
    }

    fn log_file(&self) -> PathBuf {
        self.folder.path().join("postgres.log")
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.log_file()).unwrap_or_default()
    }

    fn psql(&self) -> Command {
        let mut command = Command::new("psql");
        command
            .args(["-X", "-q", "-w", "-At", "-F", "\t", "-v", "ON_ERROR_STOP=1", "-d", &self.url()])
            .env("PGCONNECT_TIMEOUT", "10")
            .env("PGOPTIONS", "-c timezone=UTC -c client_min_messages=warning");
        command
    }

    pub(crate) fn try_sql(&self, sql: &str) -> Result<Vec<Vec<String>>, String> {
        let done = self.psql().arg("-c").arg(sql).output().map_err(|error| format!("psql: {error}"))?;
        if !done.status.success() {
            return Err(format!("{sql}\n{}", String::from_utf8_lossy(&done.stderr)));
        }
        let text = String::from_utf8(done.stdout).map_err(|error| error.to_string())?;
        Ok(text.lines().map(|line| line.split('\t').map(str::to_owned).collect()).collect())
    }

    pub(crate) fn sql(&self, sql: &str) -> Vec<Vec<String>> {
        self.try_sql(sql).unwrap_or_else(|error| panic!("{error}"))
    }

    /// The only value of a result.
    pub(crate) fn value(&self, sql: &str) -> String {
        self.sql(sql).remove(0).remove(0)
    }

    /// Changes a setting of the running server.
    pub(crate) fn set(&self, name: &str, value: &str) {
        self.sql(&format!("ALTER SYSTEM SET {name} = '{value}'"));
        self.sql("SELECT pg_reload_conf()");
        wait_for("the setting is taken", || (self.value(&format!("SHOW {name}")) == value).then_some(()));
    }

    /// A session that stays open. `None`: the server refuses it.
    pub(crate) fn session(&self) -> Option<Session> {
        let mut command = self.psql();
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        let mut session = Session { child, out };
        (session.ask("SELECT 'open'")? == "open").then_some(session)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(mut process) = self.process.take() {
            if std::thread::panicking() {
                let log = self.log();
                let tail: Vec<&str> = log.lines().rev().filter(|line| line.len() < 500).take(15).collect();
                eprintln!("--- end of PostgreSQL's log, newest first\n{}", tail.join("\n"));
            }
            signal("QUIT", process.id());
            let _ = process.wait();
        }
    }
}

/// A session of psql.
pub(crate) struct Session {
    child: Child,
    out: BufReader<ChildStdout>,
}

impl Session {
    /// Sends statements without waiting for what becomes of them.
    pub(crate) fn send(&mut self, sql: &str) {
        let input = self.child.stdin.as_mut().unwrap();
        let _ = writeln!(input, "{sql};");
    }

    /// Sends a statement and waits for the first line of its result.
    pub(crate) fn ask(&mut self, sql: &str) -> Option<String> {
        self.send(sql);
        let mut line = String::new();
        let read = self.out.read_line(&mut line).ok()?;
        (read > 0).then(|| line.trim_end().to_owned())
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn signal(name: &str, pid: u32) {
    run(Command::new("sh").arg("-c").arg(format!("kill -{name} {pid}")));
}

fn run(command: &mut Command) {
    let done = command.output().unwrap();
    assert!(done.status.success(), "{command:?}: {}", String::from_utf8_lossy(&done.stderr));
}

/// The programs that the stack's own server is of.
fn bin() -> PathBuf {
    PathBuf::from(variable("STACK_PG_BIN"))
}

/// User and group of the server, which refuses to run as root.
fn owner() -> Option<(u32, u32)> {
    let id = |arguments: &[&str]| -> u32 {
        let done = Command::new("id").args(arguments).output().unwrap();
        String::from_utf8(done.stdout).unwrap().trim().parse().unwrap()
    };
    (id(&["-u"]) == 0).then(|| (id(&["-u", "postgres"]), id(&["-g", "postgres"])))
}

/// Below the ports that the system hands out by itself, so that it is still free after a stop.
pub(crate) fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = u16::try_from(std::process::id() % 9_000).unwrap();
    loop {
        let port = 22_000 + (first + NEXT.fetch_add(1, Ordering::Relaxed) * 7) % 9_000;
        if std::net::TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}
