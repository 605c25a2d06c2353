//! Prometheus itself: it scrapes a run, and takes the metrics and the alert rules.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value as Json;

use crate::harness::{Table, kafka, wait_for};

use super::{free_address, get, with_page};

fn rules_file() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/prometheus-rules.yml")
}

/// One of its programs, as `scripts/stack prometheus` has installed them.
fn program(name: &str) -> Command {
    let folder = std::env::var("STACK_PROMETHEUS").expect("STACK_PROMETHEUS: eval \"$(scripts/stack env)\" sets it");
    let program = Path::new(&folder).join(name);
    assert!(
        program.exists(),
        "{} is not there: run scripts/test --all, or scripts/stack prometheus",
        program.display()
    );
    Command::new(program)
}

/// Checks that promtool accepts its input. Returns its output.
fn accepted(arguments: &[&str], input: &str) -> String {
    let mut command = program("promtool");
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let done = child.wait_with_output().unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    assert!(done.status.success(), "promtool {arguments:?}: {said}");
    said
}

/// An alert rule as Prometheus knows it.
struct Rule {
    name: String,
    /// `ok`, or what is wrong with it.
    health: String,
    state: String,
    /// When it was last looked at.
    at: String,
}

/// A server of the test's own. It ends with the test.
struct Prometheus {
    process: Child,
    address: String,
    folder: tempfile::TempDir,
}

impl Prometheus {
    /// Looks at a run each second, under the alert rules.
    fn start(target: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let address = free_address();
        let config = folder.path().join("prometheus.yml");
        let rules = rules_file();
        let text = format!(
            "global: {{ scrape_interval: 1s, evaluation_interval: 1s }}\n\
             rule_files: [{:?}]\n\
             scrape_configs:\n  - job_name: tripline\n    static_configs:\n      - targets: [{target:?}]\n",
            rules.display().to_string(),
        );
        std::fs::write(&config, text).unwrap();
        let log = std::fs::File::create(folder.path().join("log")).unwrap();
        let mut command = program("prometheus");
        command.arg("--config.file").arg(&config).arg("--storage.tsdb.path").arg(folder.path().join("data"));
        command.arg("--web.listen-address").arg(&address).stdin(Stdio::null());
        let process = command.stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
        Self { process, address, folder }
    }

    /// The answer under `data`, after there is one.
    fn ask(&mut self, path: &str) -> Option<Json> {
        if let Some(status) = self.process.try_wait().unwrap() {
            panic!("Prometheus ended: {status}\n{}", self.log());
        }
        let (status, body) = get(&format!("http://{}/api/v1/{path}", self.address));
        let answer = (status == 200).then(|| serde_json::from_str::<Json>(&body).unwrap())?;
        Some(answer["data"].clone())
    }

    /// The value of a query with one result.
    fn value(&mut self, query: &str) -> Option<String> {
        let encoded: String = query.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let data = self.ask(&format!("query?query={encoded}"))?;
        let [found] = data["result"].as_array()?.as_slice() else { return None };
        Some(found["value"][1].as_str()?.to_owned())
    }

    fn wait_for(&mut self, query: &str, want: &str) {
        wait_for(&format!("{query} is {want}"), || (self.value(query).as_deref() == Some(want)).then_some(()));
    }

    /// The rules as they are now.
    fn rules(&mut self) -> Vec<Rule> {
        let data = self.ask("rules").unwrap_or_default();
        let groups = data["groups"].as_array().cloned().unwrap_or_default();
        let rules = groups.iter().flat_map(|group| group["rules"].as_array().cloned().unwrap_or_default());
        let text = |rule: &Json, field: &str| rule[field].as_str().unwrap_or_default().to_owned();
        let rule = |rule: Json| Rule {
            name: text(&rule, "name"),
            health: text(&rule, "health") + &text(&rule, "lastError"),
            state: text(&rule, "state"),
            at: text(&rule, "lastEvaluation"),
        };
        rules.map(rule).collect()
    }

    /// The rules, each judged by what is there now.
    fn judged(&mut self) -> Vec<Rule> {
        let before: BTreeSet<String> = self.rules().into_iter().map(|rule| rule.at).collect();
        wait_for("every rule has been looked at once more", || {
            let rules = self.rules();
            let later = !rules.is_empty() && rules.iter().all(|rule| !before.contains(&rule.at));
            later.then_some(rules)
        })
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- Prometheus's log\n{}", self.log());
        }
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
#[ignore = "needs the servers of scripts/stack"]
fn slow_prometheus_scrapes_and_promtool_accepts() {
    let written = std::fs::read_to_string(rules_file()).unwrap().matches("- alert: ").count();
    let said = accepted(&["check", "rules", &rules_file().display().to_string()], "");
    assert!(said.contains(&format!("SUCCESS: {written} rules found")), "{said}");

    let folder = tempfile::tempdir().unwrap();
    let over_time =
        include_str!("../../web/prometheus-rules.test.yml").replace("RULES", rules_file().to_str().unwrap());
    let file = folder.path().join("rules.yml");
    std::fs::write(&file, over_time).unwrap();
    let said = accepted(&["test", "rules", file.to_str().unwrap()], "");
    assert!(said.contains("SUCCESS"), "{said}");

    let table = Table::new("web_prometheus");
    let (job, url) = with_page(table.job("v1"));
    table.insert(&[(1, 7, "2000.00"), (2, 7, "1500.50"), (3, 8, "10.00")]);
    let mut run = job.start();
    run.wait_for_line("User 7 ($3,500.50)");
    run.wait_committed(3);
    let said = accepted(&["check", "metrics"], &get(&format!("{url}/metrics")).1);
    assert_eq!(said, "", "promtool would have it otherwise");

    let mut prometheus = Prometheus::start(url.strip_prefix("http://").unwrap());
    prometheus.wait_for("up{job=\"tripline\"}", "1");
    prometheus.wait_for("tripline_events_total", &kafka::end_of(table.topic()).to_string());
    prometheus.wait_for("tripline_alerts_total{status=\"firing\"}", "1");
    prometheus.wait_for("tripline_alert_delay_seconds_bucket{le=\"+Inf\"}", "1");
    let rules = prometheus.judged();
    assert_eq!(rules.len(), written);
    for Rule { name, health, state, .. } in rules {
        assert_eq!((health.as_str(), state.as_str()), ("ok", "inactive"), "{name}");
    }

    // The rules see what they are for.
    run.terminate();
    prometheus.wait_for("up{job=\"tripline\"}", "0");
    let down = |rule: &Rule| rule.state != "inactive";
    let down: Vec<String> = prometheus.judged().into_iter().filter(down).map(|rule| rule.name).collect();
    assert_eq!(down, ["TriplineDown"]);
}
