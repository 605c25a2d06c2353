//! The archive simulated: machines whose processes write into one output, each with a checkpoint folder of its own.
//!
//! - this file: the plan of a run, processes, and what befalls them
//! - `checks`: what must hold at every commit, for every reader, and after quiet
//! - `dead_letters`: where invalid records go
//! - `workload`: what comes into the topic

mod checks;
mod dead_letters;
mod workload;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::LocalSet;
use tripline::archive::open_batch::Limits;
use tripline::archive::output::Output;
use tripline::archive::{Archive, Counts, Settings};
use tripline::change::full_row::FullRowChange;
use tripline::checkpoint::disk::Disk;
use tripline::checkpoint::{CheckpointError, Folder};
use tripline::clock::TokioClock;
use tripline::fakes::disk::MemoryDisk;
use tripline::job::JobError;
use tripline::model::{NextOffset, Timestamp};
use tripline::progress::StartAt;

use super::broker::Broker;
use super::log;
use super::process::{Controlled, Fate, Process};
use super::random::Random;
use super::sinks::Disturbances;
use super::source::SimSource;
use super::wire::{Trace, Wire};
use checks::Seen;
use dead_letters::DeadLetters;
use workload::Expected;

const GROUP: &str = "orders-archive";
const TOPIC: &str = "orders";
pub(super) const CHECKPOINT: &str = "/checkpoints/orders";
pub(super) const OUTPUT: &str = "/output/records";
/// When records stop to come, and faults to happen.
const ACTIVE_MS: u64 = 20_000;
/// How long it may take until everything is as it should be.
const QUIET_MS: u64 = 45_000;
/// The same after the last start.
const LAST_MS: u64 = 40_000;
/// 2026-11-22T10:00:00Z
const BORN: Timestamp = Timestamp(1_795_341_600_000_000);

/// How a run is disturbed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plan {
    seed: u64,
    machines: usize,
    partitions: i32,
    /// Milliseconds between two times that records come at most.
    pause: u64,
    /// Records of a hundred that cannot be read.
    bad: u64,
    cuts: u64,
    slow: u64,
    /// Milliseconds between two faults at most.
    faults: u64,
    kinds: u64,
    /// The losses beside those of processes and power.
    losses: Losses,
    /// Records of an epoch at most.
    records: u64,
    /// Starts of a hundred whose rows are dated by the column.
    by_column: u64,
}

/// The losses beside those of processes and power. Records that are gone are not read again, so no folder may be lost
/// then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Losses {
    None,
    /// Records that the group has committed.
    Records,
    /// Checkpoint folders, or the part that was written since a copy was made, and the group's offsets.
    Progress,
}

impl Plan {
    pub(super) fn of(seed: u64) -> Self {
        let random = Random::new(seed ^ 0xa2c4);
        Self {
            seed,
            machines: if random.percent(50) { 2 } else { 1 },
            partitions: i32::try_from(random.between(1, 3)).unwrap(),
            pause: random.between(200, 2_500),
            bad: if random.percent(40) { 10 } else { 0 },
            cuts: *random.pick(&[0, 0, 5, 20]),
            slow: *random.pick(&[1, 5, 5, 40]),
            faults: *random.pick(&[1_000, 3_000, 8_000]),
            kinds: random.below(8),
            losses: *random.pick(&[Losses::None, Losses::Records, Losses::Progress, Losses::Progress]),
            records: *random.pick(&[3, 10, 30, 1_000]),
            by_column: *random.pick(&[0, 50, 100]),
        }
    }
}

struct Machine {
    /// The disk of its checkpoint folder.
    disk: RefCell<MemoryDisk>,
    /// Those that were there before: what was committed from them was durable.
    before: RefCell<Vec<MemoryDisk>>,
    copy: RefCell<Option<MemoryDisk>>,
    process: RefCell<Option<Rc<Process>>>,
    fate: Cell<DiskFate>,
    stop: RefCell<Option<watch::Sender<bool>>>,
}

/// The state of the disks after the process has ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum DiskFate {
    #[default]
    Kept,
    /// Power is lost.
    Crashed(u64),
    /// Power is lost, and the checkpoint folder is gone.
    Lost(u64),
    /// The checkpoint folder is put back from a copy.
    Restored,
}

/// Everything there is.
pub(super) struct World {
    plan: Plan,
    wire: Rc<Wire>,
    broker: Rc<Broker<FullRowChange>>,
    disturbances: Rc<Disturbances>,
    machines: Vec<Machine>,
    output: MemoryDisk,
    /// The machine whose process has the output.
    holder: Cell<Option<usize>>,
    /// A disk is to fail, so that processes may end by it.
    disk_fails: Cell<bool>,
    retains: Cell<bool>,
    expected: RefCell<BTreeMap<(i32, i64), Expected>>,
    seen: RefCell<Seen>,
    stop: watch::Sender<bool>,
    processes: Cell<u32>,
    violations: RefCell<Vec<String>>,
}

/// The result of a run.
pub(super) struct Outcome {
    pub(super) hash: u64,
    pub(super) violations: Vec<String>,
    pub(super) rows: usize,
    pub(super) files: usize,
    pub(super) processes: u32,
}

/// How a process has ended.
enum Ended {
    /// The process was asked to stop.
    Stopped,
    /// Another process has its folders.
    Locked,
    Failed(String),
}

impl From<CheckpointError> for Ended {
    fn from(error: CheckpointError) -> Self {
        if matches!(error, CheckpointError::Locked(_)) { Self::Locked } else { Self::Failed(error.to_string()) }
    }
}

impl World {
    fn violation(&self, what: String) {
        self.wire.trace.add(self.wire.now(), &format!("VIOLATION {what}"));
        self.violations.borrow_mut().push(format!("at {} ms: {what}", self.wire.now()));
    }

    /// The settings of one start: what may be changed between two of them is.
    fn settings(&self) -> Settings {
        let by_column = self.wire.random.percent(self.plan.by_column);
        let records = usize::try_from(self.wire.random.between(self.plan.records / 2, self.plan.records)).unwrap();
        Settings {
            group: GROUP.to_owned(),
            topic: TOPIC.to_owned(),
            start_at: StartAt::Earliest,
            reprocess_without_group: false,
            limits: Limits {
                records,
                memory: usize::MAX,
                partition_by: by_column.then(|| workload::CREATED_AT.to_owned()),
            },
            trigger_interval: Duration::from_millis(self.wire.random.between(300, 3_000)),
            stop_on_bad_record: false,
            until_end: false,
        }
    }

    /// `tripline archive` on a machine.
    async fn process(self: Rc<Self>, machine: usize, process: Rc<Process>, stop: watch::Receiver<bool>) -> Ended {
        match self.archive(machine, process, stop).await {
            Ok(ended) | Err(ended) => ended,
        }
    }

    async fn archive(
        &self,
        machine: usize,
        process: Rc<Process>,
        mut stop: watch::Receiver<bool>,
    ) -> Result<Ended, Ended> {
        let disk: Arc<dyn Disk> = Arc::new(self.machines[machine].disk.borrow().clone());
        let folder = Folder::open_at(disk, CHECKPOINT.into())?;
        if self.disk_fails.get() && self.holder.get().is_some_and(|holder| holder != machine) {
            return Ok(Ended::Locked); // what is to fail is to be met by the process that it was planned for
        }
        let Some(output) = Output::open(Arc::new(self.output.clone()), OUTPUT.into())? else {
            return Ok(Ended::Locked);
        };
        self.holder.set(Some(machine));
        let mut source = SimSource::new(&self.broker, &self.wire, &process, &format!("machine{machine}"))
            .disturbed_by(&self.disturbances);
        let dead_letters = DeadLetters {
            wire: Rc::clone(&self.wire),
            broker: Rc::clone(&self.broker),
            process,
            channel: self.wire.channel(),
            disturbances: Rc::clone(&self.disturbances),
        };
        source.join().await;
        let mut archive = Archive {
            settings: self.settings(),
            source,
            dead_letters,
            clock: TokioClock::starting_at(BORN),
            folder,
            output,
            counts: Counts::default(),
            gauge: Arc::default(),
            believed: None,
        };
        let stopped = async move {
            let _ = stop.wait_for(|stop| *stop).await;
        };
        match archive.run(stopped).await {
            Ok(()) | Err(JobError::Cut) => Ok(Ended::Stopped),
            Err(error) => Ok(Ended::Failed(error.to_string())),
        }
    }

    /// Starts the process of a machine whenever there is none.
    async fn life(self: Rc<Self>, machine: usize, random: Random) {
        let here = &self.machines[machine];
        self.wire.pass(random.below(1_000)).await;
        loop {
            self.processes.set(self.processes.get() + 1);
            let process = Process::new(self.processes.get(), machine, &self.wire);
            self.wire.trace.add(self.wire.now(), &format!("process {} starts on machine {machine}", process.number));
            *here.process.borrow_mut() = Some(Rc::clone(&process));
            let (stop, stopped) = watch::channel(*self.stop.borrow());
            *here.stop.borrow_mut() = Some(stop);
            let run = Rc::clone(&self).process(machine, Rc::clone(&process), stopped);
            let ended = Controlled::new(&process, run).await;
            process.is_gone();
            let is_locked = matches!(ended, Some(Ended::Locked));
            let was_told = here.stop.take().is_some_and(|stop| *stop.borrow());
            self.ended(machine, &process, ended, was_told);
            self.powered(machine, &random);
            if self.retains.take() {
                self.broker.retain();
            }
            if *self.stop.borrow() || !self.violations.borrow().is_empty() {
                return;
            }
            // One that is refused comes back after a while.
            let least = if is_locked { 500 } else { 1 };
            self.wire.pass(least + random.below(*random.pick(&[1, 500, 5_000]))).await;
        }
    }

    /// Whether a process may have ended so.
    fn ended(&self, machine: usize, process: &Process, ended: Option<Ended>, was_told: bool) {
        let other = self.holder.get().is_some_and(|holder| holder != machine);
        let (text, is_expected) = match ended {
            None => ("killed".to_owned(), true),
            Some(Ended::Stopped) => ("done".to_owned(), was_told),
            Some(Ended::Locked) => ("another process has the output".to_owned(), other),
            Some(Ended::Failed(error)) => (error, self.disk_fails.get()),
        };
        self.wire.trace.add(self.wire.now(), &format!("process {} has ended: {text}", process.number));
        if !is_expected {
            self.violation(format!("process {} has ended: {text}", process.number));
        }
    }

    /// Decides the state of the disks after a process has ended.
    fn powered(&self, machine: usize, random: &Random) {
        let here = &self.machines[machine];
        let held = self.holder.get() == Some(machine);
        if held {
            self.holder.set(None);
        }
        if held || self.holder.get().is_none() {
            self.disk_fails.set(false);
            // What readers see in the middle of it.
            self.output.kill();
            checks::readers(self, "after a process");
        }
        let (fate, disk) = (here.fate.take(), here.disk.borrow().clone());
        match fate {
            DiskFate::Kept => disk.kill(),
            DiskFate::Crashed(seed) => disk.crash(seed),
            DiskFate::Lost(_) => here.before.borrow_mut().push(here.disk.take()),
            DiskFate::Restored => {
                disk.kill();
                if let Some(copy) = &*here.copy.borrow() {
                    here.before.borrow_mut().push(here.disk.replace(copy.copy()));
                    self.wire.trace.add(self.wire.now(), &format!("the folder of machine {machine} is an old copy"));
                }
            }
        }
        if let (DiskFate::Crashed(seed) | DiskFate::Lost(seed), true) = (fate, held) {
            self.output.crash(seed ^ 1);
            checks::kept(self);
        }
        // Another folder may go on than the one that planned what power took, now or before.
        if matches!(fate, DiskFate::Lost(_) | DiskFate::Restored) || self.machines.len() > 1 {
            checks::forget_what_is_gone(self);
        }
        if self.plan.losses == Losses::Progress && random.percent(20) {
            let copy = here.disk.borrow().copy();
            copy.crash(random.next());
            *here.copy.borrow_mut() = Some(copy);
        }
    }

    /// One fault after the other, at random, until it is to be quiet.
    async fn faults(self: Rc<Self>, random: Random) {
        loop {
            let wait = 1 + random.below(self.plan.faults);
            self.wire.pass(wait.min(ACTIVE_MS.saturating_sub(self.wire.now()).max(1))).await;
            if self.wire.now() >= ACTIVE_MS {
                return;
            }
            let number = usize::try_from(random.below(self.machines.len() as u64)).unwrap();
            let process = self.machines[number].process.borrow().clone();
            let Some(process) = process.filter(|process| !process.is_gone.get()) else { continue };
            let kind = random.below(12);
            // Some runs have all kinds of faults, others only some.
            if self.plan.kinds < 4 && kind % 4 != self.plan.kinds {
                continue;
            }
            let what = self.fault(kind, number, &process, &random);
            self.wire.trace.add(self.wire.now(), &what);
        }
    }

    fn fault(&self, kind: u64, number: usize, process: &Process, random: &Random) -> String {
        let machine = &self.machines[number];
        let steps = random.below(*random.pick(&[4, 40, 400]));
        let progress = self.plan.losses == Losses::Progress;
        match kind {
            0 => process.plan(steps, Fate::Killed),
            1..=4 if self.holder.get() == Some(number) && !self.disk_fails.get() => {
                // At any operation of either disk: the process dies, with or without its machine, or only that one fails.
                let operations = random.below(30);
                let disk = if random.percent(60) { self.output.clone() } else { machine.disk.borrow().clone() };
                self.disk_fails.set(true);
                match kind {
                    1 => disk.fail_at(operations, std::io::ErrorKind::Other),
                    _ => disk.die_at(operations),
                }
                if kind >= 3 {
                    machine.fate.set(DiskFate::Crashed(random.next()));
                }
                return format!("a disk of machine {number} is to fail after {operations} operations ({kind})");
            }
            5 => {
                machine.fate.set(DiskFate::Crashed(random.next()));
                process.plan(steps, Fate::Killed);
            }
            6 => process.plan(steps, Fate::Paused(random.below(*random.pick(&[1_000, 14_000, 25_000])))),
            7 => process.cut(random.below(*random.pick(&[500, 15_000]))),
            8 if progress => {
                let seed = random.next();
                machine.fate.set(if random.percent(50) { DiskFate::Lost(seed) } else { DiskFate::Restored });
                process.plan(steps, Fate::Killed);
                return format!("machine {number}: {:?}", machine.fate.get());
            }
            9 if progress && self.seen.borrow().is_owned => {
                let mut state = self.broker.state();
                if random.percent(50) {
                    state.committed.clear();
                } else {
                    let ends: Vec<(i32, i64)> = state.partitions.iter().map(|(p, log)| (*p, log.high)).collect();
                    let (partition, end) = *random.pick(&ends);
                    let next = NextOffset(i64::try_from(random.below(u64::try_from(end + 1).unwrap())).unwrap());
                    state.committed.insert(partition, (next, String::new()));
                }
                return "the group's offsets are deleted, or moved".to_owned();
            }
            10 if self.plan.losses == Losses::Records => {
                self.retains.set(self.machines.len() == 1);
                process.plan(steps, Fate::Killed);
            }
            11 => {
                if let Some(stop) = &*machine.stop.borrow() {
                    stop.send_replace(true);
                }
            }
            _ => process.plan(steps, Fate::Killed),
        }
        format!("process {}: fault {kind} after {steps} steps", process.number)
    }

    /// Faults end, and what was stopped goes on.
    fn quiet(&self) {
        self.wire.trace.add(self.wire.now(), "quiet");
        self.wire.slow.set(self.wire.slow.get().min(5));
        self.disturbances.cuts.set(0);
        let mut spared = self.output.spare();
        for machine in &self.machines {
            spared &= machine.disk.borrow().spare();
            if let Some(process) = &*machine.process.borrow() {
                process.leave_alone();
            }
        }
        if spared {
            self.disk_fails.set(false);
            self.machines.iter().for_each(|machine| machine.fate.set(DiskFate::Kept));
        }
    }

    async fn script(self: Rc<Self>, random: Random) {
        tokio::task::spawn_local(workload::run(Rc::clone(&self), random.fork(), ACTIVE_MS));
        let lives: Vec<_> = (0..self.machines.len())
            .map(|machine| tokio::task::spawn_local(Rc::clone(&self).life(machine, random.fork())))
            .collect();
        let (faults, late) = (random.fork(), random.fork());
        Rc::clone(&self).faults(faults).await;
        self.quiet();
        self.until(ACTIVE_MS + QUIET_MS).await;
        checks::complete(&self, "after quiet");
        // Once more, where nothing comes after it that could hide what a start has got wrong.
        for machine in &self.machines {
            if let Some(process) = &*machine.process.borrow() {
                if self.plan.losses == Losses::Progress && late.percent(30) {
                    machine.fate.set(DiskFate::Lost(late.next()));
                }
                process.plan(late.below(20), Fate::Killed);
            }
        }
        self.until(ACTIVE_MS + QUIET_MS + LAST_MS).await;
        checks::complete(&self, "after the last start");
        checks::group(&self);
        self.stop.send_replace(true);
        for machine in &self.machines {
            if let Some(stop) = &*machine.stop.borrow() {
                stop.send_replace(true);
            }
        }
        for life in lives {
            life.await.unwrap();
        }
    }

    /// Waits for this millisecond, or for a violation.
    async fn until(&self, millis: u64) {
        while self.wire.now() < millis && self.violations.borrow().is_empty() {
            self.wire.pass((millis - self.wire.now()).min(3_000)).await;
            checks::readers(self, "meanwhile");
        }
    }
}

/// Runs a plan.
pub(super) fn run(plan: Plan, prints: bool) -> Outcome {
    log::begin(prints);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    tripline::fault::number_lineages(Some(u128::from(plan.seed) << 64));
    let outcome = LocalSet::new().block_on(&runtime, async move {
        let random = Random::new(plan.seed ^ 0x5eed);
        let (work, of_wire) = (random.fork(), random.fork());
        let wire = Rc::new(Wire::new(of_wire, Trace::new(prints)));
        wire.slow.set(plan.slow);
        let broker = Rc::new(Broker::new(&wire, plan.partitions, BORN));
        let disturbances = Disturbances::default();
        disturbances.cuts.set(plan.cuts);
        disturbances.late.set(60);
        let machine = |_| Machine {
            disk: RefCell::default(),
            before: RefCell::default(),
            copy: RefCell::default(),
            process: RefCell::default(),
            fate: Cell::default(),
            stop: RefCell::default(),
        };
        let world = Rc::new(World {
            plan,
            wire: Rc::clone(&wire),
            broker: Rc::clone(&broker),
            disturbances: Rc::new(disturbances),
            machines: (0..plan.machines).map(machine).collect(),
            output: MemoryDisk::default(),
            holder: Cell::new(None),
            disk_fails: Cell::new(false),
            retains: Cell::new(false),
            expected: RefCell::default(),
            seen: RefCell::default(),
            stop: watch::Sender::new(false),
            processes: Cell::new(0),
            violations: RefCell::default(),
        });
        let watched = Rc::downgrade(&world);
        broker.watch_commits(move |state, machine, offsets, metadata| {
            if let Some(world) = watched.upgrade() {
                checks::committed(&world, state, machine, offsets, metadata);
            }
        });
        let delivering = Rc::clone(&wire);
        tokio::task::spawn_local(async move { delivering.run().await });
        tokio::task::spawn_local(Rc::clone(&broker).expire());
        Rc::clone(&world).script(work).await;
        let (rows, files) = world.seen.borrow().totals();
        let violations = world.violations.borrow().clone();
        Outcome { hash: wire.trace.hash(), violations, rows, files, processes: world.processes.get() }
    });
    tripline::fault::number_lineages(None);
    outcome
}
