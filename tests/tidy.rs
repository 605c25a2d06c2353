//! The house rules that a compiler does not check.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::fs;
use std::path::{Path, PathBuf};

/// The pure part: modules of `src` from `model` to `unit`, and the pure rooms of others.
const PURE: [&str; 26] = [
    "model",
    "change",
    "rule",
    "window",
    "episode",
    "snapshot",
    "alert",
    "unit",
    "archive/draft",
    "archive/names",
    "archive/parquet",
    "archive/start",
    "checkpoint/start",
    "confirm/rows",
    "monitor/session",
    "cli/demo/summary",
    "cli/doctor/facts",
    "cli/doctor/finding",
    "cli/doctor/judge",
    "cli/offsets/csv",
    "cli/offsets/layers",
    "cli/offsets/plan",
    "cli/offsets/report",
    "cli/reprocess/difference",
    "demo/envelope",
    "demo/pgoutput",
];

/// What a pure module may not name: runtimes, sockets, files, clocks.
const IMPURE: [&str; 11] = [
    "tokio",
    "rdkafka",
    "sqlx",
    "async fn",
    ".await",
    "SystemTime",
    "Instant::now",
    "Utc::now",
    "std::fs",
    "std::net",
    "now_v7",
];

/// Lines of a file at most: beyond that it wants rooms. Tables of test cases may be a little longer.
const LINES_MAX: [(&str, usize); 3] = [("src", 500), ("examples", 500), ("tests", 550)];

fn files(folder: &str, ending: &str) -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let mut found = Vec::new();
    let mut folders = vec![root];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.to_string_lossy().ends_with(ending) {
                found.push(path);
            }
        }
    }
    found.sort();
    assert!(!found.is_empty(), "no {ending} files in {folder}");
    found
}

fn sources() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let read = |path: PathBuf| {
        let name = path.strip_prefix(&root).unwrap().to_string_lossy().into_owned();
        let text = fs::read_to_string(&path).unwrap();
        (name, text)
    };
    files("src", ".rs").into_iter().map(read).collect()
}

fn is_pure(file: &str) -> bool {
    PURE.iter().any(|module| file == format!("{module}.rs") || file.starts_with(&format!("{module}/")))
}

#[test]
fn the_core_is_pure() {
    let mut checked = 0;
    for (file, text) in sources().iter().filter(|(file, _)| is_pure(file)) {
        checked += 1;
        let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
        for line in code {
            for word in IMPURE {
                assert!(!line.contains(word), "src/{file} is pure, yet it says {word}: {line}");
            }
        }
    }
    assert!(checked > 15, "only {checked} pure files were found: has the layout changed?");
}

#[test]
fn files_are_short_enough_to_read() {
    for (folder, lines_max) in LINES_MAX {
        for path in files(folder, ".rs") {
            let lines = fs::read_to_string(&path).unwrap().lines().count();
            assert!(lines <= lines_max, "{} has {lines} lines: give it rooms", path.display());
        }
    }
}

#[test]
fn every_module_says_what_it_is_for() {
    for (file, text) in sources().iter().filter(|(file, _)| !file.ends_with("tests.rs")) {
        assert!(text.starts_with("//! "), "src/{file} does not start with its purpose");
    }
}

#[test]
fn sql_is_lower_case_in_its_own_files() {
    for path in files("src", ".sql") {
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(text, text.to_lowercase(), "{}", path.display());
    }
}

#[test]
fn the_clock_is_read_in_one_place() {
    for (file, text) in sources().iter().filter(|(file, _)| file != "clock.rs") {
        assert!(!text.contains("SystemTime::now"), "src/{file} reads the clock: take it as an argument");
    }
}
