//! A Kafka of the test's own, as `scripts/stack` starts one: what is done to it, no other test feels.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU16, Ordering};

use crate::harness::Stack;
use crate::truth::server::signal;

pub struct Broker {
    folder: tempfile::TempDir,
    port: u16,
}

impl Broker {
    /// With these settings besides those of the stack's own.
    pub fn new(settings: &str) -> Self {
        let folder = tempfile::Builder::new().prefix("tripline-kafka.").tempdir_in("/tmp").unwrap();
        let broker = Self { folder, port: free_ports() };
        // The script takes its templates from beside itself.
        let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts");
        run(Command::new("cp").arg("-R").arg(scripts).arg(broker.path("scripts")));
        let file = broker.path("scripts/stack.d/kafka.properties");
        let template = std::fs::read_to_string(&file).unwrap();
        std::fs::write(&file, format!("{template}\n{settings}\n")).unwrap();
        broker.start();
        broker
    }

    pub fn bootstrap(&self) -> String {
        format!("{}:{}", Stack::get().host, self.port)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A command of the script, for this broker.
    pub fn stack(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(self.path("scripts/stack"));
        command
            .args(arguments)
            .env("STACK_DIR", self.path("stack"))
            .env("STACK_KAFKA_PORT", self.port.to_string())
            .env("STACK_KAFKA_CONTROLLER_PORT", (self.port + 1).to_string())
            .env("STACK_KAFKA_HEAP", "-Xms64m -Xmx256m");
        command
    }

    /// Until it answers.
    pub fn start(&self) {
        run(&mut self.stack(&["start-kafka"]));
    }

    /// Politely.
    pub fn stop(&self) {
        run(&mut self.stack(&["stop-kafka"]));
    }

    /// `KILL`, `STOP`, `CONT`
    pub fn signal(&self, name: &str) {
        let pid = std::fs::read_to_string(self.path("stack/run/kafka.pid")).unwrap();
        signal(name, pid.trim().parse().unwrap());
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = std::fs::read_to_string(self.path("stack/logs/kafka.log")).unwrap_or_default();
            let tail: Vec<&str> = log.lines().rev().filter(|line| line.len() < 500).take(30).collect();
            eprintln!("--- end of Kafka's log, newest first\n{}", tail.join("\n"));
        }
        let done = self.stack(&["down", "--wipe"]).output();
        if !done.as_ref().is_ok_and(|done| done.status.success()) {
            eprintln!("not stopped: {done:?}");
        }
    }
}

fn run(command: &mut Command) {
    let done = command.output().unwrap();
    assert!(done.status.success(), "{command:?}: {}", String::from_utf8_lossy(&done.stderr));
}

/// Two in a row, below those that the system hands out by itself.
fn free_ports() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = u16::try_from(std::process::id() % 800).unwrap();
    loop {
        let port = 31_100 + (first + NEXT.fetch_add(1, Ordering::Relaxed)) % 800 * 2;
        if [port, port + 1].iter().all(|port| std::net::TcpListener::bind(("127.0.0.1", *port)).is_ok()) {
            return port;
        }
    }
}
