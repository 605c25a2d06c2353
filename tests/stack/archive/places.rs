//! The process is killed at every place that `src` names on the way of a row into its file, once and twice in a row,
//! with the checkpoint folder there and lost. Afterwards the files hold Kafka's records.
//!
//! `TRIPLINE_REPEATS` (2) is how often each chain of places is run, `TRIPLINE_PLACE` picks those that name it, and
//! `TRIPLINE_THREADS` (10) is how many run at the same time.

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use super::books::{Topic, check, committed};
use crate::exactly_once::{number, places_in_source};
use crate::harness::orders::{Archive, ORDERS, Orders};
use crate::harness::wait_for;

/// Instead of a place: before the next process starts, the checkpoint folder is emptied.
const LOSE: &str = "lose";

/// Records per epoch of the first process, and of those after it: an epoch that was interrupted ends where it had been planned to.
const LIMITS: [u32; 2] = [30, 11];

/// Where processes end, one after the other: a place, and which occurrence of it. N takes the numbers from 1 to the one
/// beside, from both ends, from one repeat to the next. The place is reached at least that often. After the last place
/// a process continues undisturbed.
const CHAINS: &[(&[&str], usize)] = &[
    (&["archive.lineage:1"], 1),
    (&["archive.lineage:1", "archive.owned:1"], 1),
    (&["archive.owned:1", "archive.recovered:1"], 1),
    (&["archive.begun:1", "archive.recovered:1"], 1),
    (&["epoch.written:N"], 4),
    (&["epoch.linked:N"], 4),
    (&["archive.logged:N"], 4),
    (&["archive.file.written:N"], 14),
    (&["archive.file.linked:N"], 14),
    (&["archive.published:N"], 4),
    (&["archive.finished:N"], 4),
    (&["archive.committed:N"], 4),
    // The start after a crash.
    (&["archive.logged:N", "archive.file.written:1"], 4),
    (&["archive.logged:N", "archive.file.linked:2"], 4),
    (&["archive.file.written:N", "archive.file.linked:1"], 13),
    (&["archive.file.linked:N", "archive.published:1"], 14),
    (&["archive.published:N", "archive.finished:1"], 4),
    (&["archive.finished:N", "archive.committed:1"], 4),
    (&["archive.published:N", "archive.committed:1", "epoch.linked:1"], 3),
    // A start without the folder.
    (&["archive.lineage:1", LOSE], 1),
    (&["archive.owned:1", LOSE], 1),
    (&["archive.begun:1", LOSE], 1),
    (&["archive.recovered:1", LOSE], 1),
    (&["archive.file.linked:N", LOSE, "archive.lineage:1"], 14),
    (&["archive.file.linked:N", LOSE, "archive.owned:1", "archive.logged:1"], 13),
    (&["epoch.linked:N", LOSE], 4),
    (&["archive.logged:N", LOSE], 4),
    (&["archive.file.written:N", LOSE], 14),
    (&["archive.file.linked:N", LOSE], 14),
    (&["archive.published:N", LOSE], 4),
    (&["archive.finished:N", LOSE], 4),
    (&["archive.committed:N", LOSE], 4),
    (&["archive.file.linked:N", LOSE, "archive.begun:1"], 14),
    (&["archive.file.linked:N", LOSE, "archive.logged:1"], 13),
    (&["archive.file.linked:N", LOSE, "archive.file.linked:1", LOSE], 12),
    (&["archive.published:N", LOSE, "archive.finished:1"], 3),
    (&["archive.finished:N", LOSE, "archive.published:1", LOSE], 3),
];

/// A chain as it is run for the nth time.
fn links(chain: &[&str], most: usize, repeat: usize) -> Vec<String> {
    let step = repeat % most;
    let nth = if step.is_multiple_of(2) { 1 + step / 2 } else { most - step / 2 };
    chain.iter().map(|link| link.replace(":N", &format!(":{nth}"))).collect()
}

fn places(chain: &'static [&'static str]) -> impl Iterator<Item = &'static str> {
    chain.iter().filter(|link| **link != LOSE).map(|link| link.split(':').next().unwrap())
}

#[test]
fn every_place_of_the_archive_is_tried() {
    let tried: BTreeSet<&str> = CHAINS.iter().flat_map(|(chain, _)| places(chain)).collect();
    let missing: Vec<String> = places_in_source()
        .into_iter()
        .filter(|name| name.starts_with("archive.") && !tried.contains(name.as_str()))
        .collect();
    assert!(missing.is_empty(), "places in src that no chain tries: {missing:?}");
}

/// A hundred records and some in two partitions, of three dates, with updates, deletes and a changed key.
fn history(t: &Orders) -> Topic {
    for first in [1, 21, 41] {
        t.insert(first..=first + 19);
        t.sql(&format!(
            "UPDATE public.orders SET price = price + 0.01 WHERE order_id BETWEEN {first} AND {first} + 5;
             UPDATE public.orders SET created_at = created_at + interval '1 day' WHERE order_id = {first} + 7;
             DELETE FROM public.orders WHERE order_id BETWEEN {first} + 10 AND {first} + 12;
             UPDATE public.orders SET order_id = order_id + 1000 WHERE order_id = {first} + 15"
        ));
    }
    let records = 3 * (20 + 6 + 1 + 3 * 2 + 3);
    let mut topic = Topic::of(t.topic());
    wait_for(&format!("{records} records are in Kafka"), || {
        topic.read();
        (topic.ends.iter().sum::<i64>() == records).then_some(())
    });
    assert!(topic.ends.iter().all(|end| *end > 20), "{:?}", topic.ends);
    topic
}

/// Runs processes that end where `faults` say, and one that continues to the end. Returns how many there were.
fn play(job: &Archive, topic: &Topic, faults: &[String]) -> Result<usize, String> {
    let ends: Vec<(i32, i64)> = (0..).zip(topic.ends.iter().copied()).collect();
    let done = catch_unwind(AssertUnwindSafe(|| {
        let mut job = Archive { limit: LIMITS[0], ..job.clone() };
        let mut starts = 1;
        for fault in faults {
            if fault == LOSE {
                job.lose_checkpoints();
                continue;
            }
            job.with_fault(fault).killed();
            job.limit = LIMITS[1];
            starts += 1;
        }
        let mut last = job.start();
        last.wait("all of it is committed", |_| committed(&job) == ends);
        last.terminate();
        check(&job, topic);
        starts
    }));
    done.map_err(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default()
    })
}

#[test]
#[ignore = "needs the servers: scripts/test"]
fn ended_at_any_place_every_record_is_there_once() {
    let started = Instant::now();
    let t = Orders::of("places", ORDERS, 2, &[]);
    let topic = history(&t);
    let picked = std::env::var("TRIPLINE_PLACE").ok();
    let is_picked =
        |chain: &'static [&'static str]| picked.as_deref().is_none_or(|name| places(chain).any(|place| place == name));
    let mut runs: Vec<(Archive, Vec<String>)> = Vec::new();
    for repeat in 0..number("TRIPLINE_REPEATS", 2) {
        for (chain, most) in CHAINS.iter().filter(|(chain, _)| is_picked(chain)) {
            let job = Archive { trigger_ms: 20, ..t.job(&format!("run_{}", runs.len())) };
            runs.push((job, links(chain, *most, repeat)));
        }
    }
    let (next, starts, failures) = (AtomicUsize::new(0), AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..number("TRIPLINE_THREADS", 10) {
            scope.spawn(|| {
                while let Some((job, faults)) = runs.get(next.fetch_add(1, Ordering::Relaxed)) {
                    match play(job, &topic, faults) {
                        Ok(more) => drop(starts.fetch_add(more, Ordering::Relaxed)),
                        Err(failure) => {
                            eprintln!("FAILED: {faults:?}\n{failure}");
                            failures.lock().unwrap().push(faults);
                        }
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
