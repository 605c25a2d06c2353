//! A whole run: servers, machines with their processes, what befalls them, and quiet in the end.

use std::cell::{Cell, RefCell};
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::LocalSet;
use tripline::checkpoint::Folder;
use tripline::clock::{JumpingClock, TokioClock};
use tripline::fakes::disk::MemoryDisk;
use tripline::job::JobError;
use tripline::model::Timestamp;
use tripline::monitor::counts::Counts;
use tripline::monitor::{Monitor, Settings};
use tripline::progress::StartAt;
use tripline::rule::Rule;
use tripline::rule::watched::Watched;
use tripline::run_status::RunStatus;

use super::broker::Broker;
use super::checks::{self, Settled};
use super::database::{Database, SimConfirm, rules};
use super::log;
use super::plan::Plan;
use super::process::{Controlled, Fate, Process};
use super::random::Random;
use super::sinks::{Delivered, Disturbances, SimSinks};
use super::source::SimSource;
use super::wire::{Trace, Wire};
use super::workload::{Connector, Workload};

pub(crate) const GROUP: &str = "monitor-v3";
pub(crate) const DIR: &str = "/checkpoints";
/// When people stop to write, and faults to happen.
pub(crate) const ACTIVE_MS: u64 = 13_000;
/// How long it may take until everything is as it should be.
const QUIET_MS: u64 = 45_000;
/// After that, all rows have left the short windows.
const EXPIRY_MS: u64 = 28_000;
/// So many seconds of the wall clock's are believed at once.
const STEP_MAX: i64 = 10;
/// How long a process may take to end when it is asked to: the sessions of others may have to be over before.
const STOP_MS: u64 = 40_000;
/// 2026-11-22T10:00:00Z
const BORN: Timestamp = Timestamp(1_795_341_600_000_000);

/// A machine: its disk outlives its processes.
pub(crate) struct Machine {
    pub(crate) disk: RefCell<MemoryDisk>,
    /// Those that were lost: what was committed from them was durable.
    pub(crate) lost: RefCell<Vec<MemoryDisk>>,
    process: RefCell<Option<Rc<Process>>>,
    /// How far its clock is off, in microseconds.
    off: Rc<Cell<i64>>,
    /// The state of the disk after the process has ended.
    disk_fate: Cell<DiskFate>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum DiskFate {
    #[default]
    Kept,
    /// Power is lost.
    Crashed(u64),
    /// An empty disk replaces it.
    Lost,
}

/// Everything there is.
pub(crate) struct World {
    pub(crate) plan: Plan,
    pub(crate) wire: Rc<Wire>,
    pub(crate) broker: Rc<Broker>,
    pub(crate) database: Rc<Database>,
    pub(crate) delivered: Rc<Delivered>,
    disturbances: Rc<Disturbances>,
    pub(crate) connector: Rc<Connector>,
    pub(crate) machines: Vec<Machine>,
    rules: (Vec<Rule>, Vec<usize>),
    clock: TokioClock,
    stop: watch::Sender<bool>,
    processes: Cell<u32>,
    /// When the process has ended, the topic loses what the group has committed.
    retains: Cell<bool>,
    /// The violations.
    pub(crate) violations: RefCell<Vec<String>>,
    /// The status of each process.
    pub(crate) statuses: RefCell<Vec<Arc<RunStatus>>>,
}

/// The result of a run.
pub(crate) struct Outcome {
    pub(crate) hash: u64,
    pub(crate) violations: Vec<String>,
    pub(crate) alerts: Vec<checks::Delivered>,
    pub(crate) processes: u32,
    /// The topic has lost records, so that some changes are not known any more.
    pub(crate) is_cut: bool,
}

impl World {
    pub(crate) fn violation(&self, what: String) {
        self.wire.trace.add(self.wire.now(), &format!("VIOLATION {what}"));
        self.violations.borrow_mut().push(format!("at {} ms: {what}", self.wire.now()));
    }

    pub(crate) fn now(&self) -> Timestamp {
        Timestamp(BORN.0 + i64::try_from(self.wire.now()).unwrap() * 1_000)
    }

    fn settings(&self) -> Settings {
        let plan = &self.plan;
        Settings {
            group: GROUP.into(),
            topics: "postgres.public.transactions".into(),
            start_at: StartAt::Earliest,
            resume_without_group: false,
            carry_episodes: true,
            trigger_interval: Duration::from_secs(1),
            state_interval: Duration::from_secs(plan.state_interval),
            keys_per_statement: plan.keys_per_statement,
            statements_max: plan.statements_max,
            sweep_interval: plan.sweep.then_some(Duration::from_secs(10)),
            audit_period: Duration::from_secs(plan.audit_period),
            max_database_share: 1_000_000,
            rows_max: None,
            rss_max_mb: None,
            stop_on_bad_record: false,
            until_end: false,
        }
    }

    /// `tripline run` on a machine.
    async fn process(self: Rc<Self>, machine: usize, process: Rc<Process>) -> Result<Counts, JobError> {
        let clock = JumpingClock::new(self.clock, Rc::clone(&self.machines[machine].off));
        let disk = self.machines[machine].disk.borrow().clone();
        let folder = Folder::open_on(Arc::new(disk), Path::new(DIR), GROUP)?;
        let mut source = SimSource::new(&self.broker, &self.wire, &process, &format!("machine{machine}"));
        source.join().await;
        let (rules, wanted) = self.rules.clone();
        let contract = self.database.table.contract();
        let mut monitor = Monitor {
            settings: self.settings(),
            confirm: SimConfirm::new(&self.database, &self.wire, &process, &rules, &wanted),
            tables: Watched::one(&rules, &wanted),
            rules,
            contracts: contract.into(),
            changes: Vec::new(),
            source,
            sinks: SimSinks::new(&self.wire, &self.broker, &self.delivered, &self.disturbances, &process),
            clock,
            folder,
            gauge: Arc::default(),
            status: Arc::default(),
            counts: Counts::default(),
        };
        let mut stopped = self.stop.subscribe();
        let stop = async move {
            let _ = stopped.wait_for(|stop| *stop).await;
        };
        self.statuses.borrow_mut().push(Arc::clone(&monitor.status));
        monitor.run(stop).await
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
            here.off.set(0);
            let run = Rc::clone(&self).process(machine, Rc::clone(&process));
            let ended = Controlled::new(&process, run).await;
            process.is_gone();
            let fate = here.disk_fate.take();
            let disk = here.disk.borrow().clone();
            let was_stopped = *self.stop.borrow();
            let (text, is_expected) = match &ended {
                None => ("killed".to_owned(), true),
                Some(Ok(_)) => ("done".to_owned(), was_stopped),
                Some(Err(error)) => (error.to_string(), fate != DiskFate::Kept),
            };
            self.wire.trace.add(self.wire.now(), &format!("process {} has ended: {text}", process.number));
            if !is_expected {
                self.violation(format!("process {} has ended: {text}", process.number));
            }
            match fate {
                DiskFate::Kept => disk.kill(),
                DiskFate::Crashed(seed) => disk.crash(seed),
                DiskFate::Lost => here.lost.borrow_mut().push(here.disk.take()),
            }
            // What the table does not show yet is in the topic: it is kept for days.
            if self.retains.take() && self.database.locked.borrow().is_empty() {
                self.broker.retain();
            }
            if was_stopped || !self.violations.borrow().is_empty() {
                return;
            }
            self.wire.pass(random.below(*random.pick(&[1, 500, 5_000]))).await;
        }
    }

    /// One fault after the other, at random, until it is to be quiet.
    async fn faults(self: Rc<Self>, random: Random) {
        loop {
            let wait = 1 + random.below(self.plan.faults);
            self.wire.pass(wait.min(ACTIVE_MS.saturating_sub(self.wire.now()).max(1))).await;
            let now = self.wire.now();
            if now >= ACTIVE_MS {
                return;
            }
            let machine = &self.machines[usize::try_from(random.below(self.machines.len() as u64)).unwrap()];
            let process = machine.process.borrow().clone();
            let Some(process) = process.filter(|process| !process.is_gone.get()) else { continue };
            let steps = random.below(*random.pick(&[4, 40, 400]));
            let number = process.number;
            // Some runs have all kinds of faults, others only some.
            let kind = random.below(10);
            if self.plan.kinds < 4 && kind % 4 != self.plan.kinds {
                continue;
            }
            let what = match kind {
                0 => {
                    process.plan(steps, Fate::Killed);
                    format!("process {number} is to be killed")
                }
                1 => {
                    let operations = random.below(30);
                    machine.disk_fate.set(DiskFate::Crashed(random.next()));
                    machine.disk.borrow().die_at(operations);
                    format!("machine {} is to lose power after {operations} operations", process.machine)
                }
                2 => {
                    machine.disk_fate.set(DiskFate::Crashed(random.next()));
                    process.plan(steps, Fate::Killed);
                    format!("machine {} is to lose power", process.machine)
                }
                3 | 4 => {
                    let millis = random.below(*random.pick(&[1_000, 14_000, 25_000]));
                    process.plan(steps, Fate::Paused(millis));
                    format!("process {number} is to be stopped for {millis} ms")
                }
                5 => {
                    let millis = random.below(*random.pick(&[500, 15_000]));
                    process.cut(millis);
                    format!("process {number} is cut off for {millis} ms")
                }
                6 => {
                    let millis = random.below(8_000);
                    self.database.away_until.set(now + millis);
                    format!("the database is away for {millis} ms")
                }
                7 => {
                    let millis = random.below(6_000);
                    self.delivered.away_until.set(now + millis);
                    format!("the table of alerts is away for {millis} ms")
                }
                8 => {
                    let (down, repeats) = (random.below(3_000), usize::try_from(random.below(12)).unwrap());
                    self.connector.down_until.set(now + down);
                    self.connector.repeats.set(repeats);
                    format!("the connector is down for {down} ms")
                }
                _ if random.percent(30) => {
                    self.retains.set(self.machines.len() == 1);
                    process.plan(steps, Fate::Killed);
                    "the topic is to lose what the group has committed".to_owned()
                }
                _ if random.percent(40) => {
                    machine.disk_fate.set(DiskFate::Lost);
                    process.plan(steps, Fate::Killed);
                    format!("machine {} is to be lost", process.machine)
                }
                _ => {
                    let seconds = i64::try_from(random.below(20_000)).unwrap() - 10_000;
                    // A smaller step is no jump: a clock that is set right makes it.
                    let seconds = if seconds.abs() <= STEP_MAX { STEP_MAX + 1 } else { seconds };
                    machine.off.set(if machine.off.get() == 0 { seconds * 1_000_000 } else { 0 });
                    format!("the clock of machine {} is {} s off", process.machine, machine.off.get() / 1_000_000)
                }
            };
            self.wire.trace.add(now, &what);
        }
    }

    /// Faults end, and what was stopped goes on.
    fn quiet(&self) {
        self.wire.trace.add(self.wire.now(), "quiet");
        self.wire.slow.set(self.wire.slow.get().min(5));
        self.disturbances.cuts.set(0);
        self.disturbances.unknown.set(0);
        self.database.fails.set(0);
        self.database.away_until.set(0);
        self.delivered.away_until.set(0);
        self.connector.down_until.set(0);
        for machine in &self.machines {
            if machine.disk.borrow().spare() {
                machine.disk_fate.set(DiskFate::Kept);
            }
            machine.off.set(0);
            if let Some(process) = &*machine.process.borrow() {
                process.leave_alone();
            }
        }
    }

    async fn script(self: Rc<Self>, random: Random) {
        let workload = Workload {
            shape: self.plan.shape,
            wire: Rc::clone(&self.wire),
            database: Rc::clone(&self.database),
            connector: Rc::clone(&self.connector),
            random: random.fork(),
            born: BORN,
            next_id: Cell::new(1),
        };
        tokio::task::spawn_local(workload.run());
        let lives: Vec<_> = (0..self.machines.len())
            .map(|machine| tokio::task::spawn_local(Rc::clone(&self).life(machine, random.fork())))
            .collect();
        let (faults, late) = (random.fork(), random.fork());
        if self.plan.disturbed {
            Rc::clone(&self).faults(faults).await;
        }
        self.until(ACTIVE_MS).await;
        self.quiet();
        self.until(ACTIVE_MS + QUIET_MS / 2).await;
        let before = Settled::of(&self);
        // Once more, where nothing comes after it that could hide what a start has got wrong.
        if self.plan.disturbed && (late.percent(60) || self.plan.shape.unpublished > 0) {
            for machine in &self.machines {
                if let Some(process) = &*machine.process.borrow() {
                    process.plan(late.below(20), Fate::Killed);
                }
                if self.plan.shape.unpublished > 0 {
                    machine.disk_fate.set(DiskFate::Lost); // its windows come from the table
                }
            }
        }
        self.until(ACTIVE_MS + QUIET_MS).await;
        if !self.connector.is_idle() {
            self.violation("the connector has not come to its end".to_owned());
        }
        checks::after_quiet(&self, "after quiet");
        self.until(ACTIVE_MS + QUIET_MS + EXPIRY_MS).await;
        checks::after_quiet(&self, "after the windows' end");
        // Also where no process is at work that could hear of it: the next one does.
        self.stop.send_replace(true);
        for life in lives {
            match tokio::time::timeout(Duration::from_millis(STOP_MS), life).await {
                Ok(ended) => ended.unwrap(),
                Err(_) => self.violation("a process was asked to stop, and goes on".to_owned()),
            }
        }
        checks::at_the_end(&self, before);
    }

    /// Waits for this millisecond, or for a violation.
    async fn until(&self, millis: u64) {
        while self.wire.now() < millis && self.violations.borrow().is_empty() {
            self.wire.pass((millis - self.wire.now()).min(1_000)).await;
        }
    }
}

/// Runs a plan.
pub(crate) fn run(plan: Plan, prints: bool) -> Outcome {
    log::begin(prints);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    tripline::fault::number_lineages(Some(u128::from(plan.seed) << 64));
    let local = LocalSet::new();
    let outcome = runtime.block_on(local.run_until(async move {
        // Each draws from its own numbers, so that what people do does not depend on what befalls the rest.
        let random = Random::new(plan.seed ^ 0x5eed);
        let (work, of_connector, of_wire) = (random.fork(), random.fork(), random.fork());
        let wire = Rc::new(Wire::new(of_wire, Trace::new(prints)));
        wire.slow.set(plan.slow);
        let broker = Rc::new(Broker::new(&wire, plan.shape.partitions, BORN));
        let database = Rc::new(Database::new());
        database.fails.set(plan.fails);
        if plan.shape.unpublished > 0 {
            database.leave_out();
        }
        let disturbances = Disturbances::default();
        disturbances.cuts.set(plan.cuts);
        disturbances.late.set(60);
        disturbances.unknown.set(plan.unknown);
        let machine = |_| Machine {
            disk: RefCell::default(),
            lost: RefCell::default(),
            process: RefCell::default(),
            off: Rc::default(),
            disk_fate: Cell::default(),
        };
        let world = Rc::new(World {
            connector: Rc::new(Connector::new(&wire, &broker, &database, of_connector)),
            plan,
            broker: Rc::clone(&broker),
            database,
            delivered: Rc::default(),
            disturbances: Rc::new(disturbances),
            machines: (0..plan.machines).map(machine).collect(),
            rules: rules(),
            clock: TokioClock::starting_at(BORN),
            stop: watch::Sender::new(false),
            processes: Cell::new(0),
            retains: Cell::new(false),
            violations: RefCell::default(),
            statuses: RefCell::default(),
            wire: Rc::clone(&wire),
        });
        let watched = Rc::downgrade(&world);
        broker.watch(move |state, machine, pending| {
            if let Some(world) = watched.upgrade() {
                checks::committed(&world, state, machine, pending);
            }
        });
        let watched = Rc::downgrade(&world);
        world.delivered.watch(move |alerts| {
            if let Some(world) = watched.upgrade() {
                checks::delivered(&world, alerts);
            }
        });
        let delivering = Rc::clone(&wire);
        tokio::task::spawn_local(async move { delivering.run().await });
        tokio::task::spawn_local(Rc::clone(&broker).expire());
        tokio::task::spawn_local(Rc::clone(&world.connector).run());
        Rc::clone(&world).script(work).await;
        let alerts = checks::alerts(&world);
        log::end().into_iter().for_each(|wrong| world.violation(wrong));
        let violations = world.violations.borrow().clone();
        let is_cut = broker.state().partitions.values().any(|log| log.low > 0);
        Outcome { is_cut, hash: wire.trace.hash(), violations, alerts, processes: world.processes.get() }
    }));
    tripline::fault::number_lineages(None);
    outcome
}
