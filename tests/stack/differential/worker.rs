//! A worker of Kafka Connect beside the stack's own.

use std::process::Command;

use serde_json::Value as Json;

use crate::harness::{Database, Stack, connector_config, psql, try_psql, wait_for};
use crate::truth::server::free_port;

/// Ends with its connectors' slots when it is dropped.
pub(super) struct Worker {
    folder: tempfile::TempDir,
    port: u16,
    connectors: Vec<(String, Json)>,
}

impl Worker {
    pub(super) fn start() -> Self {
        let worker = Self { folder: tempfile::tempdir().unwrap(), port: free_port(), connectors: Vec::new() };
        worker.stack("start-connect");
        worker
    }

    fn stack(&self, command: &str) {
        let script = format!("{}/scripts/stack", env!("CARGO_MANIFEST_DIR"));
        let done = Command::new(script)
            .arg(command)
            .env("STACK_DIR", self.folder.path())
            .env("STACK_CONNECT_PORT", self.port.to_string())
            .env("STACK_CONNECTORS", "")
            .output()
            .unwrap();
        assert!(done.status.success(), "{command}: {}", String::from_utf8_lossy(&done.stderr));
    }

    /// A connector on a database, with these settings.
    pub(super) fn watch(&mut self, database: &Database, settings: &[(&str, &str)]) {
        let config = connector_config(&database.name, &database.name, settings);
        self.connectors.push((database.name.clone(), config));
        self.put(self.connectors.len() - 1);
    }

    fn put(&self, at: usize) {
        let (name, config) = &self.connectors[at];
        let url = format!("http://{}:{}/connectors/{name}/config", Stack::get().host, self.port);
        let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).proxy(None).build().into();
        wait_for("the connector is made", || {
            let status = agent.put(&url).send_json(config).ok()?.status().as_u16();
            matches!(status, 200 | 201).then_some(())
        });
        let sql = format!(
            "SELECT 1 FROM pg_replication_slots s JOIN pg_stat_replication r ON r.pid = s.active_pid
             WHERE s.slot_name = '{name}' AND r.state = 'streaming'"
        );
        wait_for("the connector streams", || (!psql("postgres", &sql).is_empty()).then_some(()));
    }

    /// Kills the process, as a machine does that is out of memory. A standalone worker forgets its connectors, and keeps how
    /// far they had come.
    pub(super) fn kill_and_start(&self) {
        let pid = std::fs::read_to_string(self.folder.path().join("run/connect.pid")).unwrap();
        let pid = pid.split_whitespace().next().unwrap();
        assert!(Command::new("kill").args(["-KILL", pid]).status().unwrap().success());
        self.stack("stop-connect");
        self.stack("start-connect");
        for at in 0..self.connectors.len() {
            self.put(at);
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.stack("stop-connect");
        for (name, _) in &self.connectors {
            let sql = format!(
                "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = '{name}'"
            );
            wait_for("the slot is gone", || try_psql("postgres", &sql).ok());
        }
    }
}
