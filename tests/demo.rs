//! `tripline demo` from start to end, on a private PostgreSQL. It is this machine's or, if there is none, one that the
//! first demo fetches. `slow_a_postgres_that_is_fetched` always fetches one.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]
#![allow(clippy::indexing_slicing, clippy::disallowed_methods, reason = "tests of a process, against the real clock")]

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value as Json;
use tripline::demo::binaries::{self, Binaries};
use tripline::demo::place::Place;
use tripline::demo::server::Server;

const DEMO: &str = env!("CARGO_BIN_EXE_tripline");

/// How long the first alert may take from the start of the program, whose build is not optimised here.
const FIRST_ALERT_MAX_MS: u64 = 40_000;
/// How long whatever a demo has started may go on after it was killed.
const GONE_WITHIN: Duration = Duration::from_secs(10);

fn demo(args: &[&str]) -> Command {
    let mut command = Command::new(DEMO);
    command.arg("demo").args(args).env("NO_COLOR", "1").env_remove("RUST_LOG").stdin(Stdio::null());
    command
}

/// The folder of the demo with this process, by what its server was started with.
fn folder_of(pid: u32) -> Option<PathBuf> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).ok()?.flatten();
    let children = tasks.filter_map(|task| fs::read_to_string(task.path().join("children")).ok());
    let pids: Vec<String> =
        children.flat_map(|text| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>()).collect();
    pids.iter().find_map(|child| {
        let command = fs::read(format!("/proc/{child}/cmdline")).ok()?;
        let words = command.split(|byte| *byte == 0).map(|word| String::from_utf8_lossy(word).into_owned());
        words
            .map(PathBuf::from)
            .find(|word| word.file_name().is_some_and(|name| name.to_string_lossy().starts_with("tripline-demo-")))
    })
}

/// Processes that were started with this folder.
fn processes_of(folder: &Path) -> Vec<String> {
    let name = folder.to_string_lossy().into_owned();
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let command = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let command = String::from_utf8_lossy(&command).replace('\0', " ");
        if command.contains(&name) {
            found.push(command);
        }
    }
    found
}

fn wait_for_folder(child: &mut Child) -> PathBuf {
    let deadline = Instant::now() + Duration::from_secs(120);
    loop {
        if let Some(folder) = folder_of(child.id()) {
            return folder;
        }
        assert!(Instant::now() < deadline && child.try_wait().unwrap().is_none(), "no server was started");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn is_gone(folder: &Path) -> bool {
    let deadline = Instant::now() + GONE_WITHIN;
    while folder.exists() || !processes_of(folder).is_empty() {
        if Instant::now() > deadline {
            eprintln!("{} exists: {}; processes: {:#?}", folder.display(), folder.exists(), processes_of(folder));
            return false;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    true
}

fn signal(child: &Child, signal: &str) {
    kill(signal, &[child.id().to_string()]);
}

fn kill(signal: &str, pids: &[String]) {
    let mut shell = Command::new("sh");
    assert!(shell.args(["-c", "kill \"$@\"", "sh", signal]).args(pids).status().unwrap().success());
}

/// Waits for a line that begins like this. Returns the lines before it.
fn wait_for_line(child: &mut Child, wanted: &str) -> Vec<String> {
    let lines = BufReader::new(child.stdout.as_mut().unwrap()).lines();
    up_to(&mut lines.map_while(Result::ok), |line| line.starts_with(wanted))
}

/// Reads up to a line. Returns the lines before it.
fn up_to(lines: &mut impl Iterator<Item = String>, wanted: impl Fn(&str) -> bool) -> Vec<String> {
    let mut before = Vec::new();
    for line in lines {
        if wanted(&line) {
            return before;
        }
        before.push(line);
    }
    panic!("it ended without the line, after {before:#?}");
}

fn as_json(child: Child) -> Json {
    told_as_json(child).0
}

/// The demo's standard output and standard error.
fn told_as_json(child: Child) -> (Json, String) {
    let ended = child.wait_with_output().unwrap();
    let told = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert!(ended.status.success(), "{:?}: {told}", ended.status);
    assert!(!told.contains("ERROR") && !told.contains("WARN"), "{told}");
    (serde_json::from_slice(&ended.stdout).unwrap_or_else(|error| panic!("{error}: {told}")), told)
}

#[test]
fn alerts_come_and_nothing_stays() {
    let mut child =
        demo(&["--for", "15", "--output", "json"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let folder = wait_for_folder(&mut child);
    let told = as_json(child);
    assert!(!folder.exists() && processes_of(&folder).is_empty(), "{} is left", folder.display());
    let number = |name: &str| told[name].as_u64().unwrap_or_else(|| panic!("{name} in {told:#}"));
    assert_eq!(told["agrees"], true, "{told:#}");
    assert_eq!(told["open"], told["open_in_sql"], "{told:#}");
    assert_eq!((number("changed"), number("rejected")), (number("read"), 0), "{told:#}");
    assert!(number("fired") >= 2 && number("confirmed") >= number("fired"), "{told:#}");
    assert!(number("first_alert_ms") < FIRST_ALERT_MAX_MS, "{told:#}");
}

#[test]
fn two_at_once_do_not_meet() {
    let start =
        || demo(&["--for", "4", "--output", "json"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let (mut one, mut other) = (start(), start());
    let folders = [wait_for_folder(&mut one), wait_for_folder(&mut other)];
    assert_ne!(folders[0], folders[1]);
    for child in [one, other] {
        assert_eq!(as_json(child)["agrees"], true);
    }
    assert!(folders.iter().all(|folder| is_gone(folder)));
}

#[test]
fn ctrl_c_ends_it_with_a_summary() {
    let mut child = demo(&["--for", "600"]).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let folder = wait_for_folder(&mut child);
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    let intro = up_to(&mut lines, |line| line.starts_with("The week before"));
    let said = |lines: &[String], wanted: &str| lines.iter().any(|line| line.starts_with(wanted));
    for wanted in [
        "  real      PostgreSQL",
        "  stand-in  the Kafka broker on 127.0.0.1:",
        "  stand-in  Debezium",
        "  page      http://127.0.0.1:",
    ] {
        assert!(said(&intro, wanted), "{wanted}: {intro:#?}");
    }
    up_to(&mut lines, |line| line.contains("  ALERT      "));
    signal(&child, "-INT");
    let rest: Vec<String> = lines.collect();
    assert_eq!(child.wait().unwrap().code(), Some(0), "{rest:#?}");
    let summary = &rest[rest.iter().position(|line| line == "What happened").expect("a summary")..];
    for wanted in ["  changes ", "  candidates ", "  alerts ", "  latency ", "  first alert ", "What is next"] {
        assert!(said(summary, wanted), "{wanted}: {summary:#?}");
    }
    assert!(summary.iter().any(|line| line.starts_with("  open ") && line.ends_with(" find the same")), "{summary:#?}");
    assert!(summary.iter().any(|line| line.trim().starts_with("scripts/stack up ")), "{summary:#?}");
    assert!(is_gone(&folder));
}

#[test]
fn nothing_stays_after_a_signal_or_a_kill() {
    for (how, wanted) in [("-TERM", Some(0)), ("-HUP", Some(0)), ("-KILL", None)] {
        let mut child = demo(&["--for", "600"]).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let folder = wait_for_folder(&mut child);
        let lines = wait_for_line(&mut child, "The week before");
        let page = lines.iter().find_map(|line| line.trim().strip_prefix("page")?.split_whitespace().next()).unwrap();
        assert_eq!(ureq::get(format!("{page}livez")).call().unwrap().status(), 200);
        assert!(folder.join("checkpoints").exists() && !processes_of(&folder).is_empty());
        signal(&child, how);
        // Nobody reads what it writes from here on.
        drop(child.stdout.take());
        let code = child.wait().unwrap().code();
        // Standard output is closed: a summary that cannot be written is a failure.
        assert!(code == wanted || (wanted.is_some() && code == Some(1)), "{how}: {code:?}");
        assert!(is_gone(&folder), "{how}");
    }
}

#[test]
fn the_next_one_removes_what_a_dead_one_has_left() {
    let mut child = demo(&["--for", "600"]).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let folder = wait_for_folder(&mut child);
    wait_for_line(&mut child, "tripline demo");
    let server = fs::read_to_string(folder.join("data/postmaster.pid")).unwrap();
    let server = server.lines().next().unwrap().to_owned();
    let status = fs::read_to_string(format!("/proc/{server}/status")).unwrap();
    let shell = status.lines().find_map(|line| line.strip_prefix("PPid:")).unwrap().trim().to_owned();
    // The shell that would clean up goes first.
    kill("-KILL", &[shell, child.id().to_string()]);
    child.wait().unwrap();
    assert!(folder.exists() && !processes_of(&folder).is_empty());
    let next = demo(&["--for", "1", "--output", "json"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    assert_eq!(as_json(next)["agrees"], true);
    assert!(is_gone(&folder));
}

async fn postgres(place: &Place) -> Binaries {
    match binaries::on_this_machine() {
        Some(found) => found,
        None => binaries::fetch(&place.cache().folder).await.unwrap().0,
    }
}

#[tokio::test]
async fn another_port_is_tried_where_one_is_taken() {
    let place = Place::make().unwrap();
    let folder = place.path().to_owned();
    let binaries = postgres(&place).await;
    let listen = || TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = |listener: &TcpListener| listener.local_addr().unwrap().port();
    let (taken, free) = (listen(), port(&listen()));
    let mut ports = [port(&taken), free].into_iter();
    let server = Server::start_at(&place, &binaries, || Ok(ports.next().unwrap())).await.unwrap();
    assert_eq!(server.port(), free);
    assert!(server.connect().await.is_ok());
    drop(server);
    assert!(is_gone(&folder));
}

#[tokio::test]
async fn where_all_ports_are_taken_it_says_so_and_nothing_stays() {
    let place = Place::make().unwrap();
    let folder = place.path().to_owned();
    let binaries = postgres(&place).await;
    let taken = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let (port, mut tried) = (taken.local_addr().unwrap().port(), 0);
    let started = Server::start_at(&place, &binaries, || {
        tried += 1;
        Ok(port)
    });
    let error = started.await.map(|_| ()).unwrap_err().to_string();
    assert!(error.contains("could not bind") && tried == 3, "{tried}: {error}");
    drop(place);
    assert!(is_gone(&folder));
}

/// A demo with a home of its own, as a user that is not root: root's cache is the machine's.
fn demo_at(home: &Path) -> Command {
    const NOBODY: u32 = 65_534;
    let mut command = if fs::metadata("/proc/self").unwrap().uid() == 0 {
        // What was built may be where only root gets.
        let program = home.join("program");
        if !program.exists() {
            fs::copy(DEMO, &program).unwrap();
        }
        chown(home, Some(NOBODY), Some(NOBODY)).unwrap();
        let mut command = Command::new("setpriv");
        command.args([format!("--reuid={NOBODY}"), format!("--regid={NOBODY}"), "--clear-groups".to_owned()]);
        command.arg(program);
        command
    } else {
        Command::new(DEMO)
    };
    command.args(["demo", "--fetch", "--for", "3", "--output", "json"]);
    command.env("HOME", home).env("XDG_CACHE_HOME", home).env("TMPDIR", home).env_remove("RUST_LOG");
    command.current_dir(home).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

#[test]
#[ignore = "needs the network: scripts/test --all"]
fn slow_a_postgres_that_is_fetched() {
    let home = tempfile::tempdir().unwrap();
    let (told, said) = told_as_json(demo_at(home.path()).spawn().unwrap());
    assert_eq!(told["agrees"], true, "{told:#}");
    assert!(said.contains("Fetched "), "{said}");
    assert!(home.path().join("tripline/postgresql-18.6.0/bin/postgres").is_file());
    // Nothing could be fetched now.
    let proxies = ["http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "all_proxy"];
    let again = demo_at(home.path()).envs(proxies.map(|name| (name, "http://127.0.0.1:1"))).spawn().unwrap();
    let (told, said) = told_as_json(again);
    assert_eq!(told["agrees"], true, "{told:#}");
    assert!(!said.contains("Fetch"), "{said}");
    let left: Vec<_> = fs::read_dir(home.path()).unwrap().flatten().map(|entry| entry.file_name()).collect();
    assert!(left.iter().all(|name| name == "tripline" || name == "program"), "{left:?}");
}

/// The text of `create table` for a table, without spaces and in small letters.
fn table_in(sql: &str) -> String {
    let sql = sql.to_lowercase().replace("if not exists ", "");
    let (_, rest) = sql.split_once("create table streaming.transactions").expect("the table");
    rest.split_once(");").expect("its end").0.split_whitespace().collect()
}

/// Two files make it, since the stack's may be repeated and uses psql: it has to be one table.
#[test]
fn the_table_is_that_of_the_stack() {
    let stack = table_in(include_str!("../scripts/stack.d/postgres.sql"));
    assert!(stack.contains("amountnumeric(12,2)notnull"), "{stack}");
    assert_eq!(table_in(include_str!("../src/demo/schema.sql")), stack);
}

/// The message of a demo that cannot start, which must end with this code.
fn refused(command: &mut Command, code: i32) -> String {
    let ended = command.output().unwrap();
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert_eq!(ended.status.code(), Some(code), "{said}");
    assert!(!said.contains("panicked"), "{said}");
    said
}

/// As in a slim container.
#[test]
fn without_certificates_it_says_so() {
    let none = [("SSL_CERT_FILE", "/nonexistent"), ("SSL_CERT_DIR", "/nonexistent")];
    let home = tempfile::tempdir().unwrap();
    let said = refused(demo_at(home.path()).envs(none), 3);
    assert!(said.contains("there are no CA certificates on this machine"), "{said}");
    assert!(said.contains("SSL_CERT_FILE") && said.contains("apt-get install postgresql"), "{said}");
    assert!(said.contains("Fetching PostgreSQL (about 15 MB, once)"), "{said}");
    // Nor is a home folder needed: what is fetched is then not kept.
    let homeless = [("HOME", "/proc"), ("XDG_CACHE_HOME", "/proc")];
    let said = refused(demo_at(home.path()).envs(none).envs(homeless), 3);
    assert!(said.contains("Fetching PostgreSQL (about 15 MB)") && said.contains("no CA certificates"), "{said}");
    let said = refused(demo_at(home.path()).env("TMPDIR", "/proc"), 1);
    assert!(said.contains("set TMPDIR to one that can be written"), "{said}");
}
