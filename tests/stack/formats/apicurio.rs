//! Apicurio's schema registries, as `scripts/stack registry` has copied them, and the settings of its Avro converter.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::harness::http::serve;
use crate::harness::wait_for;
use crate::truth::server::free_port;

/// A registry of the test's own. It ends with the test, and keeps its schemas when it is stopped and started again.
pub(crate) struct Apicurio {
    version: Version,
    port: u16,
    process: Option<Child>,
    folder: tempfile::TempDir,
}

impl Apicurio {
    /// Version 2.
    pub(crate) fn start() -> Self {
        Self::start_version(Version::Two)
    }

    pub(crate) fn start_version(version: Version) -> Self {
        let mut registry = Self { version, port: free_port(), process: None, folder: tempfile::tempdir().unwrap() };
        registry.start_again();
        registry
    }

    /// Until it answers.
    pub(crate) fn start_again(&mut self) {
        let log = std::fs::File::create(self.log_file()).unwrap();
        let java = std::env::var("JAVA_HOME").map_or_else(|_| "java".into(), |home| Path::new(&home).join("bin/java"));
        let mut command = Command::new(java);
        command.args(["-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto", "-Xms64m", "-Xmx384m"]);
        command.arg("-Dquarkus.http.host=127.0.0.1").arg(format!("-Dquarkus.http.port={}", self.port));
        let url = match self.version {
            Version::Two => "quarkus.datasource.jdbc.url",
            Version::Three => "apicurio.datasource.url",
        };
        command.arg(format!("-D{url}=jdbc:h2:file:{}", self.folder.path().join("schemas").display()));
        command.arg("-jar").arg(self.jar()).current_dir(self.folder.path()).stdin(Stdio::null());
        self.process = Some(command.stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap());
        wait_for("the registry answers", || {
            if let Some(status) = self.process.as_mut().unwrap().try_wait().unwrap() {
                panic!("the registry ended: {status}\n{}", std::fs::read_to_string(self.log_file()).unwrap());
            }
            let found = agent().get(self.url("/apis/ccompat/v7/subjects")).call();
            found.is_ok_and(|answer| answer.status() == 200).then_some(())
        });
    }

    /// Stops the registry. Its contents are kept.
    pub(crate) fn stop(&mut self) {
        let Some(mut process) = self.process.take() else { return };
        crate::truth::server::signal("TERM", process.id());
        process.wait().unwrap();
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    /// From here on the global and the content id of a schema differ: one content is registered under several names.
    pub(crate) fn part_ids(&self) {
        for name in ["one", "two", "three", "four"] {
            let request = agent().post(self.url("/apis/registry/v2/groups/default/artifacts"));
            let request = request.header("X-Registry-ArtifactId", name).header("X-Registry-ArtifactType", "AVRO");
            let answer = request.content_type("application/json").send("\"string\"").unwrap();
            assert_eq!(answer.status(), 200, "{answer:?}");
        }
    }

    /// The same registry at another address, while that is up. Otherwise requests get an error. The server ends with
    /// the test's process.
    pub(crate) fn behind(&self, is_up: &Arc<AtomicBool>) -> String {
        let (port, server, is_up) = (free_port(), self.url(""), Arc::clone(is_up));
        serve(port, move |head, _| {
            if !is_up.load(Ordering::SeqCst) {
                return ("503 Service Unavailable", String::new());
            }
            let path = head.split(' ').nth(1).unwrap_or_default();
            let mut answer = agent().get(format!("{server}{path}")).call().unwrap();
            assert_eq!(answer.status(), 200, "{path}");
            ("200 OK", answer.body_mut().read_to_string().unwrap())
        });
        format!("http://127.0.0.1:{port}")
    }

    fn log_file(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    /// Settings of a connector whose keys and values this converter writes.
    pub(crate) fn converter(&self, ids: Ids) -> Vec<(String, String)> {
        let mut settings = Vec::new();
        for of in ["key.converter", "value.converter"] {
            settings.push((of.to_owned(), "io.apicurio.registry.utils.converter.AvroConverter".to_owned()));
            let mut set =
                |name: &str, value: &str| settings.push((format!("{of}.apicurio.registry.{name}"), value.to_owned()));
            set("url", &self.url("/apis/registry/v2"));
            set("auto-register", "true");
            set("headers.enabled", if ids == Ids::Headers { "true" } else { "false" });
            match ids {
                Ids::EightBytes | Ids::Headers => {}
                Ids::FourBytes => set("as-confluent", "true"),
                Ids::Confluent => {
                    set("as-confluent", "true");
                    set("use-id", "contentId");
                }
            }
        }
        settings
    }

    /// `[source.schema_registry]` for records with such ids. Interface 3 finds short ids as content ids.
    pub(crate) fn section(&self, ids: Ids) -> String {
        self.section_of(match (self.version, ids) {
            (Version::Three, _) => "/apis/registry/v3",
            (Version::Two, Ids::Confluent) => "/apis/ccompat/v7",
            (Version::Two, _) => "/apis/registry/v2",
        })
    }

    fn jar(&self) -> PathBuf {
        let name = match self.version {
            Version::Two => "STACK_REGISTRY",
            Version::Three => "STACK_REGISTRY3",
        };
        let folder = std::env::var(name).unwrap_or_else(|_| panic!("{name}: eval \"$(scripts/stack env)\" sets it"));
        let entries = std::fs::read_dir(&folder).unwrap_or_else(|error| {
            panic!(
                "{folder}: {error}: run scripts/test --all, or scripts/stack registry and scripts/stack restart-connect"
            )
        });
        let found =
            entries.map(|entry| entry.unwrap().path()).find(|path| path.to_string_lossy().ends_with("-runner.jar"));
        found.unwrap_or_else(|| panic!("no registry in {folder}"))
    }

    pub(crate) fn section_of(&self, path: &str) -> String {
        format!("[source.schema_registry]\nurl = \"{}\"\n", self.url(path))
    }
}

impl Drop for Apicurio {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Which of the registries.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Version {
    Two,
    Three,
}

/// Where a record has the id of its schema.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ids {
    /// In front: the global id. Apicurio's own interface.
    EightBytes,
    /// The same in four.
    FourBytes,
    /// In a header.
    Headers,
    /// In front, in four bytes: the content id, by which Confluent's interface finds it.
    Confluent,
}

fn agent() -> ureq::Agent {
    let config = ureq::Agent::config_builder().http_status_as_error(false).proxy(None);
    config.timeout_global(Some(Duration::from_secs(10))).build().into()
}
