//! Bugs that are planted, one at a time, and have to be found.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use tripline::planted::{BUGS, Bug};

use super::{Job, QUIET, check, clock};

/// The invariant that bugs break which make the core impure. They are found when two runs of one seed differ.
pub(crate) const PURITY: &str = "What always holds, 1";

/// The invariant that bugs of the renderer break. The simulated database answers without SQL, so
/// `tests/stack/rules/planted.rs` has to find these.
const RENDERER: &str = "What always holds, 8";

/// Each bug is found within so many seeds.
const FOUND_WITHIN: u64 = 500;

/// A seed that finds each bug, so that a run of the tests need not look for one. Where it no longer does, after a change of the
/// simulation, all seeds are tried.
#[rustfmt::skip]
const KNOWN: &[(&str, u64)] = &[
    ("clock-read", 0),
    ("counter-of-the-process", 0),
    ("order-of-a-hasher", 1),
    ("static-outlives-a-death", 0),
    ("commit-before-log", 0),
    ("epoch-not-synced", 0),
    ("epoch-name-not-synced", 0),
    ("delivery-before-log", 0),
    ("delivery-before-commit", 0),
    ("offsets-ahead", 0),
    ("first-alert-not-sent", 0),
    ("episodes-not-sent", 0),
    ("producer-kept-after-disturbance", 5),
    ("producer-not-fenced", 29),
    ("dead-letters-dropped", 3),
    ("dead-letters-cut", 3),
    ("bad-records-not-kept", 3),
    ("old-row-kept", 0),
    ("delete-ignored", 4),
    ("left-key-not-evaluated", 15),
    ("opaque-counts-as-nothing", 1),
    ("opaque-not-asked", 1),
    ("opaque-not-taken-out", 1),
    ("opaque-lost-in-the-state", 6),
    ("opaque-compared", 1),
    ("open-episodes-not-restored", 0),
    ("replay-not-muted", 6),
    ("rebuilt-too-early", 4),
    ("rebuilt-not-evaluated", 15),
    ("open-episodes-not-held", 15),
    ("key-of-a-failure-logged", 0),
    ("key-of-a-refutation-logged", 1),
    ("key-of-an-undecided-one-logged", 0),
    ("figures-of-a-drift-logged", 3),
    ("control-characters-kept", 0),
    ("direction-marks-kept", 0),
    ("fields-not-cut", 0),
    ("finished-before-commit", 5),
    ("finished-before-delivery", 5),
    ("logged-not-completed", 5),
    ("sent-again", 2),
    ("decisions-not-redone", 4),
    ("windows-not-caught-up", 27),
    ("episodes-not-recalled", 0),
    ("recalled-not-delivered", 0),
    ("truncate-floor-ignored", 145),
    ("table-watermark-ignored", 50),
    ("visibility-ignored", 43),
    ("emptied-group-forgotten", 155),
    ("refutation-ignored", 0),
    ("refuted-not-asked-again", 434),
    ("failed-not-asked-again", 31),
    ("figures-of-memory", 0),
    ("instant-of-the-answer", 5),
    ("expiry-not-scheduled", 1),
    ("expiry-not-restored", 0),
    ("jump-believed", 19),
    ("archive-old-folder-believed", 4),
    ("archive-names-not-compared", 4),
    ("archive-group-believed", 67),
    ("archive-output-not-locked", 6),
    ("archive-file-not-synced", 0),
    ("archive-file-linked-first", 1),
    ("archive-file-in-place", 1),
    ("archive-names-not-synced", 0),
    ("archive-dates-not-synced", 0),
    ("archive-group-first", 0),
    ("archive-epoch-ahead", 0),
    ("archive-not-finished", 1),
    ("archive-finished-first", 1),
    ("archive-part-taken-for-all", 1),
    ("archive-settings-of-now", 1),
    ("archive-last-range-not-read", 28),
    ("archive-dead-letters-dropped", 0),
    ("archive-dead-letters-cut", 0),
    ("archive-dead-letters-late", 123),
];

/// A bug, the first seed that finds it, and how.
type Found = (&'static Bug, Option<(u64, String)>);

/// The simulation that has to find the bug.
fn job(bug: &Bug) -> Job {
    if bug.breaks.starts_with("The archive") { Job::Archive } else { Job::Monitor }
}

/// The first of these seeds that finds the bug.
fn first(bug: &'static Bug, mut seeds: impl Iterator<Item = u64>) -> Option<(u64, String)> {
    let violation = |seed| check(job(bug), seed, Some(bug.name)).1.into_iter().next();
    seeds.find_map(|seed| violation(seed).map(|violation| (seed, violation)))
}

/// Looks for all bugs on all cores.
fn look(bugs: &[&'static Bug], seeds: impl Fn(&Bug) -> Vec<u64> + Sync) -> Vec<Found> {
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if !QUIET.get() {
            hook(info);
        }
    }));
    let (next, found) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let workers = std::thread::available_parallelism().map_or(2, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                while let Some(bug) = bugs.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let by = first(bug, seeds(bug).into_iter());
                    match &by {
                        Some((seed, violation)) => println!("    (\"{}\", {seed}), // {violation}", bug.name),
                        None => println!("    {} is not found: {}", bug.name, bug.what),
                    }
                    found.lock().unwrap().push((*bug, by));
                }
            });
        }
    });
    let mut found = found.into_inner().unwrap();
    found.sort_by_key(|(bug, _)| BUGS.iter().position(|other| other == *bug));
    found
}

/// Bugs by name, all of them where none is asked for: `SIM_BUG=offsets-ahead,delete-ignored`.
fn wanted() -> Vec<&'static Bug> {
    let names = std::env::var("SIM_BUG").ok();
    let is_wanted = |bug: &&Bug| names.as_ref().is_none_or(|names| names.split(',').any(|name| name == bug.name));
    BUGS.iter().filter(|bug| bug.breaks != RENDERER).filter(is_wanted).collect()
}

#[test]
fn each_is_found() {
    let known = |bug: &Bug| KNOWN.iter().filter(|(name, _)| *name == bug.name).map(|(_, seed)| *seed).collect();
    let missing = look(&wanted(), known).into_iter().filter(|(_, found)| found.is_none()).map(|(bug, _)| bug);
    let missing: Vec<&'static Bug> = missing.collect();
    let missing = look(&missing, |_| (0..FOUND_WITHIN).collect());
    let holes: Vec<&str> = missing.iter().filter(|(_, found)| found.is_none()).map(|(bug, _)| bug.name).collect();
    assert!(holes.is_empty(), "not found by {FOUND_WITHIN} seeds: {holes:?}");
}

/// The first seed that finds each bug, with the median and the worst:
/// `cargo test --test simulation -- --ignored --nocapture every_first_seed`.
#[test]
#[ignore = "minutes"]
fn every_first_seed() {
    let started = clock();
    let seeds = super::seeds(0..FOUND_WITHIN);
    let found = look(&wanted(), |_| seeds.clone().collect());
    let mut firsts: Vec<u64> = found.iter().filter_map(|(_, by)| by.as_ref().map(|(seed, _)| seed + 1)).collect();
    firsts.sort_unstable();
    let (median, worst) = (firsts.get(firsts.len() / 2), firsts.last());
    println!(
        "{} of {} found; seeds needed: median {median:?}, worst {worst:?}; {:.0} s",
        firsts.len(),
        found.len(),
        started.elapsed().as_secs_f64()
    );
}

/// The list is of what is asked for, and nothing else.
#[test]
fn each_is_listed() {
    let mut asked = std::collections::BTreeSet::new();
    let mut folders = vec![std::path::PathBuf::from("src"), "tests/simulation".into()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if !path.ends_with("src/planted.rs") {
                let text = std::fs::read_to_string(&path).unwrap_or_default();
                let names = text.split("planted::bug(\"").skip(1).filter_map(|rest| rest.split('"').next());
                asked.extend(names.map(str::to_owned));
            }
        }
    }
    asked.remove(""); // this file
    let listed: std::collections::BTreeSet<String> = BUGS.iter().map(|bug| bug.name.to_owned()).collect();
    asked.retain(|name| name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-'));
    assert_eq!(asked, listed);
    assert_eq!(listed.len(), BUGS.len(), "a name twice");
}
