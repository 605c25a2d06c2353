//! The whole program simulated: what may never happen does not, whatever befalls servers, machines and processes. One seed is
//! one run. `SIM_SEEDS=0..5000` runs others than the usual ones; `SIM_SEED=7 SIM_TRACE=1` runs one and prints what happens.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]
#![allow(clippy::print_stdout, reason = "traces and figures are for the person who runs a seed")]
#![allow(missing_docs, unreachable_pub, reason = "tests")]

mod broker;
mod bugs;
mod checks;
mod database;
mod process;
mod random;
mod sinks;
mod source;
mod wire;
mod workload;
mod world;

use std::cell::Cell;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use tripline::planted;
use world::{Outcome, Plan};

/// Runs of `cargo test --test simulation`.
const SEEDS: Range<u64> = 0..1_000;

/// The machine's clock, for figures.
#[expect(clippy::disallowed_methods, reason = "how long the tests take, not what they do")]
fn clock() -> std::time::Instant {
    std::time::Instant::now()
}

thread_local! {
    /// What panics is expected to: nothing is printed.
    static QUIET: Cell<bool> = const { Cell::new(false) };
}

/// The seeds to be run.
fn seeds(usual: Range<u64>) -> Range<u64> {
    let parse = |text: String| {
        let (first, last) = text.split_once("..")?;
        Some(first.trim().parse().ok()?..last.trim().parse().ok()?)
    };
    if let Ok(seed) = std::env::var("SIM_SEED") {
        let seed = seed.parse().expect("SIM_SEED is a number");
        return seed..seed + 1;
    }
    std::env::var("SIM_SEEDS").ok().map_or(usual, |text| parse(text).expect("SIM_SEEDS is like 0..1000"))
}

/// Runs a seed with or without a bug: what came of it, and what is wrong.
fn check(seed: u64, bug: Option<&'static str>) -> (Option<Outcome>, Vec<String>) {
    let prints = std::env::var_os("SIM_TRACE").is_some();
    planted::plant(bug);
    QUIET.set(bug.is_some());
    let plan = Plan::of(seed);
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        let outcome = world::run(plan, prints);
        let mut violations = outcome.violations.clone();
        if plan.shape.is_monotone && violations.is_empty() {
            violations.extend(differs(
                &outcome,
                &world::run(plan.undisturbed(), false),
                plan.shape.partitions == 1 && !outcome.is_cut,
            ));
        }
        (outcome, violations)
    }));
    planted::plant(None);
    QUIET.set(false);
    match outcome {
        Ok((outcome, violations)) => (Some(outcome), violations),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
            (None, vec![format!("panic: {}", text.unwrap_or_default())])
        }
    }
}

/// Where nothing ever comes back below a threshold, the alerts are those of an undisturbed run; with one partition, of
/// which all is there, by the same change.
fn differs(got: &Outcome, want: &Outcome, by_the_same: bool) -> Option<String> {
    let of = |outcome: &Outcome| {
        let mut alerts: Vec<checks::Delivered> =
            outcome.alerts.iter().filter(|alert| alert.0 == "weekly-spend").cloned().collect();
        alerts.iter_mut().filter(|_| !by_the_same).for_each(|alert| alert.3 = None);
        alerts.sort();
        alerts
    };
    let (mut got, mut want) = (of(got), of(want));
    // What the audit has read from the table before the stream had brought it names no change.
    for (got, want) in got.iter_mut().zip(&mut want).filter(|(got, want)| got.3.is_none() || want.3.is_none()) {
        (got.3, want.3) = (None, None);
    }
    (got != want).then(|| format!("alerts {got:?}, an undisturbed run {want:?}"))
}

/// Runs seeds on all cores, each run on one thread; what is wrong, by seed.
fn all(seeds: Range<u64>) -> (Vec<(u64, Vec<String>)>, u64, u64) {
    let next = AtomicU64::new(seeds.start);
    let wrong = Mutex::new(Vec::new());
    let (alerts, processes) = (AtomicU64::new(0), AtomicU64::new(0));
    let workers = std::thread::available_parallelism().map_or(2, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end {
                        break;
                    }
                    let (outcome, violations) = check(seed, None);
                    if let Some(outcome) = outcome {
                        alerts.fetch_add(outcome.alerts.len() as u64, Ordering::Relaxed);
                        processes.fetch_add(u64::from(outcome.processes), Ordering::Relaxed);
                    }
                    if !violations.is_empty() {
                        wrong.lock().unwrap_or_else(PoisonError::into_inner).push((seed, violations));
                    }
                }
            });
        }
    });
    let mut wrong = wrong.into_inner().unwrap_or_else(PoisonError::into_inner);
    wrong.sort();
    (wrong, alerts.into_inner(), processes.into_inner())
}

#[test]
fn nothing_goes_wrong() {
    let seeds = seeds(SEEDS);
    let started = clock();
    let count = seeds.end - seeds.start;
    let (wrong, alerts, processes) = all(seeds);
    println!(
        "{count} seeds in {:.1} s: {alerts} alerts, {processes} processes, {} seeds with violations",
        started.elapsed().as_secs_f64(),
        wrong.len()
    );
    for (seed, violations) in wrong.iter().take(20) {
        println!("seed {seed}: {}", violations.first().unwrap());
        println!("  SIM_SEED={seed} SIM_TRACE=1 cargo test --test simulation nothing_goes_wrong -- --nocapture");
    }
    assert!(wrong.is_empty(), "{} of {count} seeds", wrong.len());
}

#[test]
fn a_seed_is_one_run() {
    for seed in 0..20 {
        let (one, other) = (world::run(Plan::of(seed), false), world::run(Plan::of(seed), false));
        assert_eq!(one.hash, other.hash, "seed {seed}");
    }
}
