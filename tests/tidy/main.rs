//! The house rules that a compiler does not check.
//!
//! - this file: layers, and what every file is held to
//! - `imports`: which module names which
//! - `words`: house words that have a standard term

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod imports;
mod words;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use imports::{Module, Modules, file_of};
use syn::visit::Visit;

/// Where a module stands. A module is in the layer of the longest name here that it is, or is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Layer {
    /// Values and decisions: no clock, no I/O, no runtime.
    Core,
    /// The base of every layer above: time, files, logs, retries.
    Base,
    /// The traits that a job asks for what it needs.
    Port,
    /// The status of a run.
    Status,
    /// The loops.
    Job,
    /// The one way to a server, which its adapters share.
    Door,
    /// An implementation of a port. No adapter knows another.
    Adapter,
    /// Settings.
    Config,
    /// Loads, connects, checks, wires and runs: the only one that names jobs and adapters together.
    App,
    /// The interfaces for people and programs: arguments, printing, pages.
    Front,
    /// In-memory fakes, for tests.
    Fake,
}

use Layer::{Adapter, App, Base, Config, Core, Door, Fake, Front, Job, Port, Status};

const LAYERS: [(&str, Layer); 40] = [
    ("model", Core),
    ("failure", Core),
    ("contract", Core),
    ("progress", Core),
    ("change", Core),
    ("rule", Core),
    ("window", Core),
    ("episode", Core),
    ("snapshot", Core),
    ("alert", Core),
    ("unit", Core),
    ("planted", Core),
    ("retry", Base),
    ("clock", Base),
    ("fault", Base),
    ("host", Base),
    ("http", Base),
    ("telemetry", Base),
    ("checkpoint", Base),
    ("source", Port),
    ("confirm", Port),
    ("sink", Port),
    ("run_status", Status),
    ("job", Job),
    ("monitor", Job),
    ("archive", Job),
    ("kafka", Door),
    ("postgres", Door),
    ("source::kafka", Adapter),
    ("confirm::postgres", Adapter),
    ("sink::kafka", Adapter),
    ("sink::log", Adapter),
    ("sink::postgres", Adapter),
    ("demo", Adapter),
    ("config", Config),
    ("app", App),
    ("web", Front),
    ("cli", Front),
    ("main", Front),
    ("fakes", Fake),
];

/// The layers that a layer may name beside itself.
fn may_name(layer: Layer) -> &'static [Layer] {
    match layer {
        Core => &[],
        Base => &[Core],
        Port => &[Core],
        Status => &[Core, Base],
        Job => &[Core, Base, Port, Status],
        Door => &[Core, Base],
        Adapter => &[Core, Base, Port, Door],
        Config => &[Core, Base],
        App => &[Core, Base, Port, Status, Job, Door, Adapter, Config, Front],
        Front => &[Core, Base, Status, Job, Door, Adapter, Config, App],
        Fake => &[Core, Base, Port],
    }
}

/// Pure modules of other layers: all that they name is the core, each other, or settings.
const PURE: [&str; 24] = [
    "archive::names",
    "archive::open_batch",
    "archive::parquet",
    "archive::start",
    "app::demo::seen",
    "app::demo::summary",
    "app::doctor::checks",
    "app::doctor::facts",
    "app::doctor::finding",
    "app::offsets::csv",
    "app::offsets::plan",
    "app::progress::view",
    "app::reprocess::difference",
    "demo::envelope",
    "demo::pgoutput",
    "monitor::assignment",
    "monitor::counts",
    "monitor::database",
    "monitor::durable",
    "monitor::intake",
    "monitor::memory",
    "monitor::settings",
    "run_status::histogram",
    "run_status::snapshot",
];

/// The names that a pure module may not use: runtimes, sockets, files, clocks, and chance.
const IMPURE: [&str; 12] = [
    "tokio",
    "rdkafka",
    "sqlx",
    "futures_util",
    "std::fs",
    "std::net",
    "std::env",
    "std::process",
    "std::thread",
    "std::time::SystemTime",
    "std::time::Instant",
    "chrono::Utc",
];

/// Lines of a file at most: beyond that it wants rooms. Tables of test cases may be a little longer.
const LINES_MAX: [(&str, usize); 4] = [("src", 500), ("benches", 500), ("model", 500), ("tests", 550)];

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

/// The functions that a pure module may not call, by the end of the path, under any import.
const CALLS: [&str; 5] = ["::now", "::now_v7", "::new_v4", "::random", "::elapsed"];

fn is_in(module: &str, of: &str) -> bool {
    module == of || module.strip_prefix(of).is_some_and(|rest| rest.starts_with("::"))
}

fn place(module: &str) -> (&'static str, Layer) {
    let places = LAYERS.iter().filter(|(name, _)| is_in(module, name));
    *places.max_by_key(|(name, _)| name.len()).unwrap_or_else(|| panic!("src/{module} has no layer: give it one"))
}

/// The violations of the layers: a module names one of a layer that its own may not name, an adapter knows another
/// adapter, or another place than the wiring names jobs and adapters together.
fn crossings(modules: &Modules) -> Vec<String> {
    let mut found = Vec::new();
    for (module, Module { names, .. }) in &modules.0 {
        let (own, layer) = place(module);
        for name in names {
            let (other, of) = place(name);
            let is_inside = own == other || is_in(own, other) && layer == Adapter;
            if of != layer && !may_name(layer).contains(&of) || of == Adapter && layer == Adapter && !is_inside {
                found.push(format!("{}: {layer:?} names {name}: {of:?}", file_of(module).display()));
            }
        }
        let names_a = |wanted: Layer| names.iter().find(|name| place(name).1 == wanted);
        if let (Front, Some(job), Some(adapter)) = (layer, names_a(Job), names_a(Adapter)) {
            found.push(format!("{} names {job} and {adapter}: that is for src/app", file_of(module).display()));
        }
    }
    found
}

/// The impurities of the modules that have to be pure, direct or indirect.
fn impurities(modules: &Modules) -> Vec<String> {
    let is_pure = |module: &str| place(module).1 == Core || PURE.iter().any(|pure| is_in(module, pure));
    let mut found = Vec::new();
    for module in modules.0.keys().filter(|module| is_pure(module)) {
        let is_setting = |name: &str| place(module).1 != Core && place(name).1 == Config;
        for (name, way) in modules.closure(module, is_pure).into_iter().filter(|(name, _)| !is_setting(name)) {
            let Module { external, is_async, .. } = &modules.0[&name];
            let is_impure = |path: &&String| {
                IMPURE.iter().any(|impure| is_in(path, impure)) || CALLS.iter().any(|call| path.ends_with(call))
            };
            let outside = external.iter().find(is_impure);
            if !is_pure(&name) {
                found.push(format!("{module} is pure, yet it names {name}: {way}"));
            } else if let Some(outside) = outside {
                found.push(format!("{module} is pure, yet there is {outside}: {way}"));
            } else if *is_async {
                found.push(format!("{module} is pure, yet there is an async fn: {way}"));
            }
        }
    }
    found
}

fn none(found: &[String]) {
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn the_core_is_pure() {
    let modules = Modules::of_crate();
    none(&impurities(&modules));
    for name in PURE.iter().chain(LAYERS.iter().map(|(name, _)| name)) {
        assert!(modules.0.keys().any(|module| is_in(module, name)), "there is no {name}: has the layout changed?");
    }
}

#[test]
fn layers_are_kept() {
    none(&crossings(&Modules::of_crate()));
}

/// The rules bite: each planted violation is found, and nothing else.
#[test]
fn a_planted_violation_is_found() {
    let plant = |module: &str, text: &str| {
        let clean =
            ["model", "unit", "job", "monitor", "sink", "sink::kafka", "sink::log", "kafka", "app", "cli", "retry"];
        let mut texts: BTreeMap<String, String> = clean.map(|name| (name.to_owned(), "//! Empty.".to_owned())).into();
        texts.insert("unit".to_owned(), "use crate::model::{self, Key};".to_owned());
        texts.insert(module.to_owned(), text.to_owned());
        let modules = Modules::read(texts);
        [crossings(&modules), impurities(&modules)].concat().join("; ")
    };
    assert_eq!(plant("model", "use std::collections::BTreeMap;"), "");
    assert_eq!(plant("cli", "use crate::{app, monitor};"), "");
    for (module, text, expected) in [
        (
            "model",
            "use tokio::time::sleep;",
            "model is pure, yet there is tokio::time::sleep: model; unit is pure, yet there is tokio::time::sleep: unit → model",
        ),
        ("model", "fn f() { std::fs::read(\"\"); }", "model is pure, yet there is std::fs::read"),
        ("model", "use uuid::Uuid; fn f() { Uuid::now_v7(); }", "model is pure, yet there is Uuid::now_v7"),
        ("model", "pub async fn f() {}", "yet there is an async fn: unit → model"),
        ("unit", "use super::retry::Retry;", "src/unit.rs: Core names retry: Base; unit is pure, yet it names retry"),
        ("unit", "mod x { fn f(_: crate::sink::Sinks) {} }", "src/unit.rs: Core names sink: Port"),
        ("monitor", "fn f() { crate::sink::kafka::new() }", "src/monitor.rs: Job names sink::kafka: Adapter"),
        ("monitor", "use crate::app::run;", "src/monitor.rs: Job names app: App"),
        ("sink::kafka", "use super::log::LogSink;", "src/sink/kafka.rs: Adapter names sink::log: Adapter"),
        ("kafka", "use crate::sink::Sinks as _;", "src/kafka.rs: Door names sink: Port"),
        ("cli", "use crate::{monitor::Monitor, sink::log::{self}};", "src/cli.rs names monitor and sink::log"),
    ] {
        let found = plant(module, text);
        assert!(found.contains(expected), "{module}: {text}: {found:?}, expected {expected:?}");
    }
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

/// The key of a row, its values and what they add up to are logged at DEBUG alone.
#[test]
fn no_value_is_logged_above_debug() {
    const VALUES: [&str; 9] = ["key", "pk", "row", "value", "body", "payload", "stream", "database", "outputs"];
    struct Events(Vec<String>);
    impl<'ast> Visit<'ast> for Events {
        fn visit_macro(&mut self, found: &'ast syn::Macro) {
            let path: Vec<String> = found.path.segments.iter().map(|segment| segment.ident.to_string()).collect();
            let is_shown = path.last().is_some_and(|name| matches!(name.as_str(), "info" | "warn" | "error"));
            if is_shown && path.first().is_some_and(|name| name == "tracing") {
                let words: Vec<String> = found.tokens.clone().into_iter().map(|token| token.to_string()).collect();
                let named = words.iter().find(|word| VALUES.contains(&word.as_str()));
                self.0.extend(named.map(|named| format!("{named} in {}", found.tokens)));
            }
        }
    }
    let mut found = Vec::new();
    for (file, text) in sources() {
        let mut events = Events(Vec::new());
        events.visit_file(&syn::parse_file(&text).unwrap());
        found.extend(events.0.into_iter().map(|event| format!("{file}: {event}")));
    }
    none(&found);
}
