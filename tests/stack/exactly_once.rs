//! Exactly once, by trial: the process is killed at every place that `src` names for it, and at random under load. The
//! delivered alerts are those of an undisturbed run, and those of SQL.
//!
//! - this file: the places, and the runs that reach them
//! - `script`: the rules, and a table's history whose alerts do not depend on when they are delivered
//! - `feed`: a table and its changes in Kafka
//! - `run`: the processes of a group, one after the other
//! - `books`: deliveries and memory, compared with SQL
//! - `load`: killed at random, while many changes come
//! - `late`: requests to Kafka that are late, lost or repeated, and connections that are cut
//!
//! `TRIPLINE_REPEATS` (3) is how often each chain of places is run, `TRIPLINE_PLACE` picks those that name it, and
//! `TRIPLINE_THREADS` (10) is how many run at the same time.

mod books;
mod feed;
mod late;
pub mod load;
mod run;
mod script;

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use self::books::{Told, check};
use self::run::{LOSE, REST, Run};
use self::script::{ALERTS, MIDDLE, PARTS, last_word};
use crate::harness::Database;

/// Where the first process ends.
const FIRST: &[&[&str]] = &[&["kafka.fenced:1"], &["fenced:1"], &["begun:1"], &["recovered:1"]];

/// Where processes end, one after the other: a place, and which occurrence of it. N takes the numbers from 1 to the one
/// beside, from one repeat to the next. The script reaches the place at least that often. Every second repeat begins in
/// the middle of the script, with a process that continues from a stored state. After the last place a process
/// continues undisturbed.
///
/// A new place in `src` needs a line of its own. If it is passed both at a start and later, one of its lines has to
/// follow "logged:N".
const CHAINS: &[(&[&str], usize)] = &[
    // An epoch, step by step.
    (&["buried:N"], 2),
    (&["epoch.closed:N"], 6),
    (&["kafka.begun:N"], 6),
    (&["kafka.sent:N"], 6),
    (&["kafka.alerts_sent:N"], 5),
    (&["prepared:N"], 6),
    (&["epoch.written:N"], 6),
    (&["epoch.linked:N"], 6),
    (&["logged:N"], 6),
    (&["committed:N"], 6),
    (&["table.inserted:N"], 5),
    (&["table.written:N"], 5),
    (&["log.written:N"], 5),
    (&["told:N"], 5),
    (&["finished:N"], 6),
    (&["state.stored:N"], 2),
    // The name of the lineage first, then states.
    (&["file.written:N"], 3),
    (&["file.renamed:N"], 3),
    // A start after a crash.
    (&["logged:N", "kafka.fenced:1"], 6),
    (&["logged:N", "fenced:1"], 6),
    (&["logged:N", "again.prepared:1"], 6),
    (&["logged:N", "again.committed:1"], 6),
    (&["logged:N", "recovered:1"], 6),
    (&["logged:N", "again.committed:1", "finished:1"], 6),
    (&["committed:N", "finished:1"], 6),
    (&["table.inserted:N", "table.inserted:1"], 5),
    (&["table.inserted:N", "table.written:1"], 5),
    (&["table.written:N", "log.written:1"], 5),
    (&["log.written:N", "told:1"], 5),
    (&["kafka.sent:N", "kafka.sent:1"], 5),
    // A start without the folder.
    (&["logged:N", LOSE, "fenced:1"], 6),
    (&["committed:N", LOSE, "recalled:1"], 6),
    (&["committed:N", LOSE, "file.renamed:1"], 6),
    (&["committed:N", LOSE, "begun:1"], 6),
    (&["finished:N", LOSE, "epoch.linked:1"], 6),
    (&["table.inserted:N", LOSE, "table.inserted:1"], 5),
    (&["told:N", LOSE, "recalled:1", LOSE, "recalled:1"], 5),
    (&["finished:N", LOSE, "kafka.sent:1"], 6),
    (&["finished:N", LOSE, "logged:1"], 6),
    (&["finished:N", LOSE, "logged:1", "again.prepared:1"], 6),
    (&["finished:N", LOSE, "committed:1"], 6),
    (&["finished:N", LOSE, "recovered:1"], 6),
];

/// From the middle of the script on, places are reached at least this part as often, but for the first time.
const FROM_REST: usize = 3;

/// A chain as it is run for the nth time.
fn links(chain: &[&str], most: usize, repeat: usize) -> Vec<String> {
    let at_rest = !repeat.is_multiple_of(2);
    // From both ends: 1, the last, 2, the last but one, and so on.
    let (step, most) = if at_rest { (repeat / 2, (most / FROM_REST).max(1)) } else { (repeat / 2, most) };
    let step = step % most;
    let nth = if step.is_multiple_of(2) { 1 + step / 2 } else { most - step / 2 };
    let named = chain.iter().map(|link| link.replace(":N", &format!(":{nth}")));
    at_rest.then(|| REST.to_owned()).into_iter().chain(named).collect()
}

/// The names of the places in a chain.
fn places(chain: &'static [&'static str]) -> impl Iterator<Item = &'static str> {
    chain.iter().filter(|link| **link != LOSE).map(|link| link.split(':').next().unwrap())
}

/// The places that `src` names.
pub fn places_in_source() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let text = std::fs::read_to_string(&path).unwrap();
            for call in text.split("fault::point(").skip(1) {
                let name = call.strip_prefix('"').and_then(|rest| rest.split('"').next());
                found.insert(name.unwrap_or_else(|| panic!("{}: a place without a name", path.display())).to_owned());
            }
        }
    }
    found
}

#[test]
fn every_place_in_the_source_is_tried() {
    // Those of the other job are for its own tests.
    let found: BTreeSet<String> =
        places_in_source().into_iter().filter(|place| !place.starts_with("archive.")).collect();
    let chains = FIRST.iter().copied().chain(CHAINS.iter().map(|(chain, _)| *chain));
    let tried: BTreeSet<String> = chains.flat_map(places).map(str::to_owned).collect();
    assert_eq!(found, tried, "places in src, and those tried");
}

pub fn number(name: &str, default: usize) -> usize {
    std::env::var(name).map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name} is {text:?}")))
}

/// Runs the script to its end, processes ending where `faults` say.
fn play(database: &str, name: &str, faults: &[String]) -> Result<(Told, usize), String> {
    let mut run = Run::new(database, name, faults);
    let done = catch_unwind(AssertUnwindSafe(|| {
        for (index, (write, takes)) in PARTS.iter().enumerate() {
            if index == MIDDLE {
                run.rest();
            }
            write(&mut run.feed);
            let at = run.feed.clock(*takes);
            run.feed.tell();
            if index == 0 {
                run.start();
            }
            run.settle(&at);
        }
        run.exhaust();
        last_word(&mut run.feed);
        let at = run.feed.clock(0);
        run.feed.tell();
        run.settle(&at);
        run.terminate();
        let at = run.feed.clock(0);
        (check(&mut run, &at), run.starts)
    }));
    match done {
        Ok(done) => {
            run.clean_up();
            Ok(done)
        }
        Err(panic) => {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
            Err(format!(
                "{}\n--- lines\n{}\n--- log\n{}",
                text.unwrap_or_default(),
                run.written("out"),
                run.written("log")
            ))
        }
    }
}

#[test]
#[ignore = "needs the servers: scripts/test"]
fn ended_at_any_place_it_tells_what_an_undisturbed_run_tells() {
    let started = Instant::now();
    let database = Database::new("places");
    let (undisturbed, _) = play(&database.name, "undisturbed", &[]).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(undisturbed.values().map(Vec::len).sum::<usize>(), ALERTS, "{undisturbed:?}");

    let picked = std::env::var("TRIPLINE_PLACE").ok();
    let is_picked =
        |chain: &'static [&'static str]| picked.as_deref().is_none_or(|name| places(chain).any(|place| place == name));
    let mut runs: Vec<Vec<String>> = Vec::new();
    for repeat in 0..number("TRIPLINE_REPEATS", 3) {
        let first = FIRST.iter().filter(|chain| is_picked(chain));
        runs.extend(first.map(|chain| chain.iter().map(|link| (*link).to_owned()).collect()));
        let later = CHAINS.iter().filter(|(chain, _)| is_picked(chain));
        runs.extend(later.map(|(chain, most)| links(chain, *most, repeat)));
    }
    let (next, starts, failures) = (AtomicUsize::new(0), AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..number("TRIPLINE_THREADS", 10) {
            scope.spawn(|| {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    let Some(faults) = runs.get(index) else { return };
                    let failure = match play(&database.name, &format!("run_{index}"), faults) {
                        Err(failure) => Some(failure),
                        Ok((told, _)) if told != undisturbed => {
                            Some(format!("told {told:#?}\nundisturbed {undisturbed:#?}"))
                        }
                        Ok((_, more)) => {
                            starts.fetch_add(more, Ordering::Relaxed);
                            None
                        }
                    };
                    if let Some(failure) = failure {
                        eprintln!("FAILED: {faults:?}\n{failure}");
                        failures.lock().unwrap().push(faults);
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().unwrap();
    let seconds = started.elapsed().as_secs();
    eprintln!("{} runs, {} processes, {seconds} s, {} failures", runs.len(), starts.into_inner(), failures.len());
    assert!(failures.is_empty(), "{failures:#?}");
}
