//! One run of the binary: its configuration, the process, and what it did.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use serde_json::Value as Json;

use super::kafka::{self, Record};
use super::{Stack, poll};

/// The example's rule.
pub const RULE: &str = "SELECT user_id, COUNT(*) AS transactions, SUM(ABS(amount)) AS total
FROM streaming.transactions
WHERE timestamp >= NOW() - INTERVAL '7 days'
GROUP BY user_id
HAVING SUM(ABS(amount)) > 3000
";

/// The configuration of a run. A test changes the settings that it is about.
#[derive(Clone)]
pub struct Job {
    pub group: String,
    pub topic: String,
    pub bootstrap: String,
    pub url: String,
    /// The rule's name.
    pub name: String,
    pub sql: String,
    pub message: String,
    pub alert_topic: String,
    pub dead_letter_topic: String,
    pub checkpoints: PathBuf,
    /// More lines of `[source]`.
    pub source: String,
    /// More lines of the rule.
    pub rule: String,
    /// More lines before the first section.
    pub top: String,
    /// More of the environment.
    pub environment: Vec<(&'static str, String)>,
}

impl Job {
    /// `folder` holds configuration and checkpoints. The topics that the run writes to are called after `name`.
    pub fn new(folder: &Path, name: &str, group: &str, topic: &str) -> Self {
        let stack = Stack::get();
        Self {
            group: group.to_owned(),
            topic: topic.to_owned(),
            bootstrap: stack.bootstrap.clone(),
            url: stack.url(name),
            name: "weekly-spend".to_owned(),
            sql: RULE.to_owned(),
            message: "User {user_id} (${total})".to_owned(),
            alert_topic: format!("{name}.alerts"),
            dead_letter_topic: format!("{name}.dead-letter"),
            checkpoints: folder.join("checkpoints"),
            source: String::new(),
            rule: String::new(),
            top: String::new(),
            environment: Vec::new(),
        }
    }

    fn toml(&self) -> String {
        let Self {
            group,
            topic,
            bootstrap,
            url,
            name,
            sql,
            message,
            alert_topic,
            dead_letter_topic,
            source,
            rule,
            top,
            ..
        } = self;
        let dir = self.checkpoints.display();
        // Without one there are [[sources]] at the top.
        let topic = if topic.is_empty() { String::new() } else { format!("topic = \"{topic}\"") };
        format!(
            r#"{top}
[kafka]
bootstrap_servers = "{bootstrap}"
group_id = "{group}"
[source]
{topic}
dead_letter_topic = "{dead_letter_topic}"
{source}
[postgres]
url = "{url}"
[checkpoint]
dir = "{dir}"
trigger_interval_ms = 200
[[rules]]
name = "{name}"
severity = "critical"
message = "{message}"
sql = """
{sql}"""
{rule}
[alerts.log]
[alerts.kafka]
topic = "{alert_topic}"
"#
        )
    }

    /// Runs until stopped.
    pub fn start(&self) -> Running {
        self.launch(&[])
    }

    /// Reads to the end of the topic.
    pub fn start_to_the_end(&self) -> Running {
        self.launch(&["--until-end"])
    }

    /// Reads to the end of the topic, which must go well.
    pub fn run(&self) -> Ended {
        let ended = self.try_run();
        assert_eq!(ended.code, Some(0), "{ended}");
        ended
    }

    /// Reads to the end of the topic.
    pub fn try_run(&self) -> Ended {
        self.launch(&["--until-end"]).ended()
    }

    /// A command of the binary with this configuration, its streams as pipes.
    pub fn command(&self, arguments: &[&str]) -> Command {
        std::fs::create_dir_all(&self.checkpoints).unwrap();
        let file = self.checkpoints.join(format!("{}.toml", self.group));
        std::fs::write(&file, self.toml()).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_tripline"));
        command.args(arguments).arg("--config").arg(&file).current_dir(&self.checkpoints);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("TRIPLINE__") || name == "RUST_LOG" {
                command.env_remove(name);
            }
        }
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn launch(&self, arguments: &[&str]) -> Running {
        let mut command = self.command(&["run"]);
        command.args(arguments);
        let alerts_from = if self.reachable() { kafka::end_of(&self.alert_topic) } else { 0 };
        let mut child = command.spawn().unwrap();
        let out = Lines::of(child.stdout.take().unwrap());
        let log = Lines::of(child.stderr.take().unwrap());
        Running { child, out, log, job: self.clone(), alerts_from }
    }

    fn reachable(&self) -> bool {
        self.bootstrap == Stack::get().bootstrap
    }

    /// The next offset that the run's group has committed.
    pub fn committed(&self) -> Option<i64> {
        kafka::committed(&self.group, &self.topic)
    }
}

/// The lines of a pipe, as they come.
struct Lines {
    lines: Arc<Mutex<Vec<String>>>,
    reader: Option<JoinHandle<()>>,
}

impl Lines {
    fn of(pipe: impl Read + Send + 'static) -> Self {
        let lines = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&lines);
        let reader = std::thread::spawn(move || {
            for line in BufReader::new(pipe).lines().map_while(Result::ok) {
                sink.lock().unwrap().push(line);
            }
        });
        Self { lines, reader: Some(reader) }
    }

    fn now(&self) -> Vec<String> {
        self.lines.lock().unwrap().clone()
    }

    fn all(&mut self) -> Vec<String> {
        if let Some(reader) = self.reader.take() {
            reader.join().unwrap();
        }
        self.now()
    }
}

/// A run under way. It is killed when the test drops it.
pub struct Running {
    child: Child,
    out: Lines,
    log: Lines,
    job: Job,
    alerts_from: i64,
}

impl Running {
    /// Until standard output has this line.
    pub fn wait_for_line(&mut self, line: &str) {
        self.wait(&format!("line {line:?}"), |run| run.out.now().iter().any(|found| found == line));
    }

    /// Until the log has this somewhere.
    pub fn wait_in_log(&mut self, text: &str) {
        self.wait(&format!("{text:?} in the log"), |run| run.log.now().iter().any(|line| line.contains(text)));
    }

    /// Until standard output has this line, doing something between the looks.
    pub fn wait_while(&mut self, line: &str, mut act: impl FnMut()) {
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
        while !self.out.now().iter().any(|found| found == line) {
            let ended = self.child.try_wait().unwrap().is_some();
            let log = || self.log.now().join("\n");
            assert!(!ended && std::time::Instant::now() < deadline, "line {line:?} did not come:\n{}", log());
            act();
            std::thread::sleep(super::PAUSE);
        }
    }

    /// Until the group has committed this next offset.
    pub fn wait_committed(&mut self, next: i64) {
        self.wait(&format!("offset {next} committed"), |run| run.job.committed() == Some(next));
    }

    fn wait(&mut self, what: &str, done: impl Fn(&Self) -> bool) {
        let found = poll(|| {
            let ended = self.child.try_wait().unwrap().is_some();
            if done(self) { Some(true) } else { ended.then_some(false) }
        });
        assert!(
            found == Some(true),
            "{what} did not come:\n{}\n{}",
            self.out.now().join("\n"),
            self.log.now().join("\n")
        );
    }

    /// The process's id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Whether the process is gone.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// The log so far.
    pub fn log_now(&self) -> String {
        self.log.now().join("\n")
    }

    /// Until it ends by itself, at most for so long.
    pub fn wait_for_end(&mut self, patience: std::time::Duration) {
        let deadline = std::time::Instant::now() + patience;
        while !self.has_ended() && std::time::Instant::now() < deadline {
            std::thread::sleep(super::PAUSE);
        }
        assert!(self.has_ended(), "it goes on:\n{}", self.log_now());
    }

    /// SIGTERM.
    pub fn terminate(self) -> Ended {
        self.signal("TERM");
        self.ended()
    }

    /// SIGKILL.
    pub fn kill(self) -> Ended {
        self.signal("KILL");
        self.ended()
    }

    /// Sends a signal by its name, such as `STOP`.
    pub fn signal(&self, name: &str) {
        let sent = Command::new("sh").arg("-c").arg(format!("kill -{name} {}", self.child.id())).status();
        assert!(sent.unwrap().success(), "kill -{name}");
    }

    /// Waits for the end.
    pub fn ended(mut self) -> Ended {
        let status = poll(|| self.child.try_wait().unwrap());
        let Some(status) = status else {
            panic!("the run does not end:\n{}\n{}", self.out.now().join("\n"), self.log.now().join("\n"));
        };
        let mut out = self.out.all();
        let counts = out.pop_if(|line| line.starts_with('{')).map(|line| serde_json::from_str(&line).unwrap());
        let reachable = self.job.reachable();
        let alerts = if reachable { kafka::records(&self.job.alert_topic, self.alerts_from) } else { Vec::new() };
        Ended { code: status.code(), out, counts, log: self.log.all(), alerts }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The result of a run.
#[derive(Debug)]
pub struct Ended {
    /// `None`: by a signal.
    pub code: Option<i32>,
    /// The alert lines.
    pub out: Vec<String>,
    /// The closing line of `--until-end`.
    pub counts: Option<Json>,
    pub log: Vec<String>,
    /// The records that the run added to the alert topic.
    pub alerts: Vec<Record>,
}

impl std::fmt::Display for Ended {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "exit code {:?}, counts {:?}", self.code, self.counts.as_ref().map(Json::to_string))?;
        writeln!(f, "--- output\n{}\n--- log\n{}", self.out.join("\n"), self.log.join("\n"))
    }
}

impl Ended {
    /// One number of the closing line.
    pub fn count(&self, name: &str) -> u64 {
        let counts = self.counts.as_ref().unwrap_or_else(|| panic!("no closing line: {self}"));
        counts[name].as_u64().unwrap_or_else(|| panic!("no {name} in {counts}"))
    }

    /// How many records were read for the first time.
    pub fn read(&self, records: u64) -> &Self {
        assert_eq!(self.count("read"), records, "read: {self}");
        self
    }

    /// Exactly these users fired, each once: on the lines, in the alert topic and in the closing line.
    pub fn fired(&self, users: impl IntoIterator<Item = i64>) -> &Self {
        self.told("firing", "fired", users)
    }

    /// Exactly these users resolved, each once.
    pub fn resolved(&self, users: impl IntoIterator<Item = i64>) -> &Self {
        self.told("resolved", "resolved", users)
    }

    /// No alert of any kind.
    pub fn quiet(&self) -> &Self {
        self.fired([]).resolved([])
    }

    fn told(&self, status: &str, count: &str, users: impl IntoIterator<Item = i64>) -> &Self {
        let mut want: Vec<i64> = users.into_iter().collect();
        want.sort_unstable();
        let records: Vec<Json> = self.alerts.iter().map(Record::json).collect();
        let mut got: Vec<i64> = records.iter().filter(|alert| alert["status"] == status).map(user).collect();
        got.sort_unstable();
        assert_eq!(got, want, "{status} on the alert topic: {self}");
        // Both sinks tell the same in the same order.
        let lines: Vec<String> = records.iter().map(line).collect();
        assert_eq!(self.out, lines, "lines and alert records: {self}");
        if self.counts.is_some() {
            assert_eq!(self.count(count), want.len() as u64, "{count}: {self}");
        }
        self
    }

    /// The alert of this user. The last one, if there are several.
    pub fn alert(&self, user_id: i64) -> Json {
        let found = self.alerts.iter().rev().map(Record::json).find(|alert| user(alert) == user_id);
        found.unwrap_or_else(|| panic!("no alert of {user_id}: {self}"))
    }

    /// The totals of a user's alert agree in memory and in the database, and are these.
    pub fn total(&self, user_id: i64, transactions: u64, total: &str) -> &Self {
        let alert = self.alert(user_id);
        for side in ["stream", "database"] {
            assert_eq!(alert[side]["transactions"], transactions, "{side}: {alert}");
            assert_eq!(alert[side]["total"], total, "{side}: {alert}");
        }
        self
    }

    /// Everything the process wrote, for a search.
    pub fn everything(&self) -> String {
        let mut all = String::new();
        let _ = write!(all, "{self}");
        all
    }
}

fn user(alert: &Json) -> i64 {
    alert["key"]["user_id"].as_i64().unwrap_or_else(|| panic!("no user in {alert}"))
}

fn line(alert: &Json) -> String {
    let message = alert["message"].as_str().unwrap();
    if alert["status"] == "resolved" { format!("Resolved: {message}") } else { message.to_owned() }
}
