//! The whole program simulated: the invariants hold under every failure of servers, machines and processes. One seed is
//! one run. `SIM_SEEDS=0..5000` runs other seeds than the usual ones. `SIM_SEED=7 SIM_TRACE=1` runs one and prints what
//! happens.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]
#![allow(clippy::print_stdout, reason = "traces and figures are for the person who runs a seed")]
#![allow(missing_docs, unreachable_pub, reason = "tests")]

mod archive;
mod broker;
mod bugs;
mod checks;
mod database;
mod log;
mod plan;
mod process;
mod random;
mod sinks;
mod source;
mod unconfirmed;
mod wire;
mod workload;
mod world;

use std::cell::Cell;
use std::collections::BTreeMap;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

use plan::Plan;
use tripline::planted;
use world::Outcome;

/// Runs of `cargo test --test simulation`.
const SEEDS: Range<u64> = 0..1_000;
/// The same for the archive.
const ARCHIVE_SEEDS: Range<u64> = 0..500;

/// The machine's clock, for figures.
#[expect(clippy::disallowed_methods, reason = "how long the tests take, not what they do")]
fn clock() -> std::time::Instant {
    std::time::Instant::now()
}

thread_local! {
    /// Whether panics are expected, so that nothing is printed.
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

/// Which of the jobs is simulated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Job {
    Monitor,
    Archive,
}

/// The result of a seed: figures with their names, and the violations.
type Found = (Vec<(&'static str, u64)>, Vec<String>);

impl Job {
    fn run(self, seed: u64, prints: bool) -> Found {
        match self {
            Self::Monitor => monitor(Plan::of(seed), prints),
            Self::Archive => {
                let outcome = archive::run(archive::Plan::of(seed), prints);
                let (rows, files) = (outcome.rows as u64, outcome.files as u64);
                let figures = vec![("rows", rows), ("files", files), ("processes", outcome.processes.into())];
                (figures, outcome.violations)
            }
        }
    }

    /// The hash of all that happens in a run of this seed.
    fn hash(self, seed: u64) -> u64 {
        match self {
            Self::Monitor => world::run(Plan::of(seed), false).hash,
            Self::Archive => archive::run(archive::Plan::of(seed), false).hash,
        }
    }
}

fn monitor(plan: Plan, prints: bool) -> Found {
    let outcome = world::run(plan, prints);
    let mut violations = outcome.violations.clone();
    if plan.shape.is_monotone && violations.is_empty() {
        // Of a key that memory cannot evaluate, the change is named that Postgres was asked about, and that depends on when it answers.
        let by_the_same = plan.shape.partitions == 1 && !outcome.is_cut && plan.shape.great == 0;
        violations.extend(differs(&outcome, &world::run(plan.undisturbed(), false), by_the_same));
    }
    (vec![("alerts", outcome.alerts.len() as u64), ("processes", outcome.processes.into())], violations)
}

/// The machine's clock in microseconds, for a core that should not have it.
fn machine_clock() -> u64 {
    static STARTED: OnceLock<std::time::Instant> = OnceLock::new();
    u64::try_from(STARTED.get_or_init(clock).elapsed().as_micros()).unwrap_or(0)
}

/// Runs a seed with or without a bug. With one that makes the core impure, two runs of the seed are compared.
fn check(job: Job, seed: u64, bug: Option<&'static str>) -> Found {
    let prints = std::env::var_os("SIM_TRACE").is_some();
    planted::plant(bug);
    planted::use_clock(machine_clock);
    QUIET.set(bug.is_some());
    let is_impure = planted::BUGS.iter().any(|of| Some(of.name) == bug && of.breaks == bugs::PURITY);
    let found = catch_unwind(AssertUnwindSafe(|| {
        let mut found = job.run(seed, prints);
        if is_impure && found.1.is_empty() && job.hash(seed) != job.hash(seed) {
            found.1.push("two runs of the seed differ".to_owned());
        }
        found
    }));
    planted::plant(None);
    QUIET.set(false);
    found.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        (Vec::new(), vec![format!("panic: {}", text.unwrap_or_default())])
    })
}

/// Compares the alerts with those of an undisturbed run, if no value ever falls below a threshold again. With one
/// partition that has all records, the causing change must be the same too.
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

/// Sums of figures, by name.
type Figures = BTreeMap<&'static str, u64>;

/// Violations by seed.
type Wrong = Vec<(u64, Vec<String>)>;

/// Runs seeds on all cores, each run on one thread: the sums of their figures, and what is wrong by seed.
fn all(job: Job, seeds: Range<u64>) -> (Figures, Wrong) {
    let next = AtomicU64::new(seeds.start);
    let found = Mutex::new((Figures::new(), Wrong::new()));
    let workers = std::thread::available_parallelism().map_or(2, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end {
                        break;
                    }
                    let (figures, violations) = check(job, seed, None);
                    let mut found = found.lock().unwrap_or_else(PoisonError::into_inner);
                    for (name, figure) in figures {
                        *found.0.entry(name).or_default() += figure;
                    }
                    if !violations.is_empty() {
                        found.1.push((seed, violations));
                    }
                }
            });
        }
    });
    let (figures, mut wrong) = found.into_inner().unwrap_or_else(PoisonError::into_inner);
    wrong.sort();
    (figures, wrong)
}

fn nothing_is_wrong(job: Job, seeds: Range<u64>, test: &str) {
    let started = clock();
    let count = seeds.end - seeds.start;
    let (figures, wrong) = all(job, seeds);
    let (seconds, violated) = (started.elapsed().as_secs_f64(), wrong.len());
    println!("{job:?}: {count} seeds in {seconds:.1} s: {figures:?}, {violated} seeds with violations");
    for (seed, violations) in wrong.iter().take(20) {
        println!("seed {seed}: {}", violations.first().unwrap());
        println!("  SIM_SEED={seed} SIM_TRACE=1 cargo test --test simulation {test} -- --nocapture");
    }
    assert!(wrong.is_empty(), "{violated} of {count} seeds");
}

#[test]
fn nothing_goes_wrong() {
    nothing_is_wrong(Job::Monitor, seeds(SEEDS), "nothing_goes_wrong");
}

#[test]
fn no_record_is_lost_or_archived_twice() {
    nothing_is_wrong(Job::Archive, seeds(ARCHIVE_SEEDS), "no_record_is_lost_or_archived_twice");
}

#[test]
fn a_seed_is_one_run() {
    for (job, seed) in (0..20).flat_map(|seed| [(Job::Monitor, seed), (Job::Archive, seed)]) {
        assert_eq!(job.hash(seed), job.hash(seed), "{job:?}, seed {seed}");
    }
}
