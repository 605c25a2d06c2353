//! All of it together, and what each step does.

use stateright::{Model, Property};

use crate::folder::{File, Folder};
use crate::kafka::{Alerts, Broker, Late, Part, Transaction};
use crate::process::{At, Memory, Parts, Process, Producer, Stage};
use crate::properties;
use crate::rules::{Rule, Rules};
use crate::start::{Start, decide};

/// How much may happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Bounds {
    /// Records of the topic, each with an alert.
    pub records: u8,
    /// Processes that are killed, lose their power, or never hear what a commit has done.
    pub crashes: u8,
    /// Sessions that expire while the process is paused.
    pub expiries: u8,
    /// Requests of which a copy arrives late.
    pub late: u8,
    /// Attempts to send that fail and are repeated.
    pub failures: u8,
    /// Folders that are lost while their process is down.
    pub folders_lost: u8,
}

/// The model.
#[derive(Clone, Copy, Debug)]
pub struct System {
    /// The rules that are kept.
    pub rules: Rules,
    /// What may happen.
    pub bounds: Bounds,
}

/// A state of the whole system.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct State {
    /// The broker.
    pub broker: Broker,
    /// The processes.
    pub processes: [Process; 2],
    /// Every file that was durable at any time, in order.
    pub durable: Vec<File>,
    /// What may still happen.
    pub left: Bounds,
}

/// How a request to the broker goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// It arrives once.
    Once,
    /// The connection is cut, the client repeats it, and the first copy arrives later.
    HeldBack,
    /// The broker refuses it: its partition was in the transaction that a late request has ended.
    Refused,
    /// It has its effect, and the process does not learn of it.
    Unheard,
    /// The process is killed when it has sent it, and it arrives later.
    Posthumous,
}

/// A step. The number is that of the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Starts, and opens its folder.
    Run(usize),
    /// Joins the group, and is given the partitions.
    Join(usize),
    /// Creates its producer: `init_transactions`.
    Fence(usize),
    /// Reads how far the group has come, and decides where to go on from.
    Start(usize),
    /// Has read up to this offset, and closes an epoch.
    Close(usize, u8),
    /// Creates another producer instead of the one it has.
    NewProducer(usize),
    /// Aborts what it could not prepare.
    Abort(usize, Way),
    /// Begins a transaction.
    Begin(usize),
    /// Sends a part of it.
    Send(usize, Part, Way),
    /// A part is not acknowledged: it will prepare the epoch again. Whether connections were disturbed.
    FailToSend(usize, bool),
    /// Links `offsets/N`.
    Link(usize),
    /// Syncs it.
    Sync(usize),
    /// Commits the transaction.
    Commit(usize, Way),
    /// Writes what is not in the transaction.
    Write(usize, Part),
    /// Writes `commits/N`.
    Finish(usize),
    /// Is killed.
    Kill(usize),
    /// Its machine loses its power.
    LosePower(usize),
    /// Its folder is lost.
    LoseFolder(usize),
    /// Is paused until its session has expired. Whether its connections were disturbed.
    Expire(usize, bool),
    /// The broker aborts the transaction of a process that is gone (`transaction.timeout.ms`).
    TimeOut,
    /// The late request of this place arrives.
    Deliver(usize),
}

impl Model for System {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let mut state = State {
            broker: Broker::new(),
            processes: [Process::new(), Process::new()],
            durable: Vec::new(),
            left: self.bounds,
        };
        // Both are the same, so the first one joins first.
        self.step(&mut state, Action::Join(0));
        vec![state]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        self.possible(state, actions);
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        self.step(&mut state, action);
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        properties::all()
    }
}

impl System {
    /// Does a step.
    fn step(&self, state: &mut State, action: Action) {
        match action {
            Action::Run(p) => {
                state.processes[p].at = At::StandBy;
                if self.rules.keep(Rule::SyncAtOpen) {
                    state.sync(p);
                }
            }
            Action::Join(p) => {
                state.broker.member = Some(p);
                state.processes[p].at = At::Joined;
            }
            Action::Fence(p) => {
                state.new_producer(p);
                state.processes[p].at = At::Fenced;
            }
            Action::Start(p) => self.start(state, p),
            Action::Close(p, next) => state.close(p, next),
            Action::NewProducer(p) => state.new_producer(p),
            Action::Abort(p, way) => self.abort(state, p, way),
            Action::Begin(p) => state.begin(p),
            Action::Send(p, part, way) => self.send(state, p, part, way),
            Action::FailToSend(p, disturbed) => state.fail_to_send(p, disturbed),
            Action::Link(p) => {
                if let At::Publishing(memory, epoch, _) = state.processes[p].at {
                    state.processes[p].folder.link(epoch.sent.file);
                    state.processes[p].at = At::Publishing(memory, epoch, Stage::Linked);
                }
            }
            Action::Sync(p) => {
                state.sync(p);
                state.goes_on(p, Stage::Logged);
            }
            Action::Commit(p, way) => self.commit(state, p, way),
            Action::Write(p, part) => self.write(state, p, part),
            Action::Finish(p) => {
                if let At::Publishing(memory, ..) = state.processes[p].at {
                    state.processes[p].folder.is_finished = true;
                    state.processes[p].at = At::Reading(memory);
                }
            }
            Action::Kill(p) => state.crash(p),
            Action::LosePower(p) => {
                state.processes[p].folder.lose_power();
                state.crash(p);
            }
            Action::LoseFolder(p) => {
                state.processes[p].folder = Folder::default();
                state.left.folders_lost -= 1;
            }
            Action::Expire(p, disturbed) => {
                state.broker.expel();
                state.processes[p].producer.is_disturbed |= disturbed;
                state.left.expiries -= 1;
            }
            Action::TimeOut => {
                state.broker.bump_epoch();
                state.processes.iter_mut().for_each(|process| process.producer.is_newest = false);
            }
            Action::Deliver(place) => self.deliver(state, place),
        }
    }

    /// What a start of this process would do now.
    pub(crate) fn decide(&self, state: &State, p: usize) -> Start {
        let broker = &state.broker;
        let is_committed = self.rules.keep(Rule::RecoveryReadCommitted);
        let progress = if is_committed { broker.progress } else { broker.progress_uncommitted };
        decide(&state.processes[p].folder, broker.group, progress, self.rules)
    }

    fn start(&self, state: &mut State, p: usize) {
        let decision = self.decide(state, p);
        let broker = &state.broker;
        let (episodes, group, author) = (broker.episodes, broker.group, u8::from(p == 1));
        let process = &mut state.processes[p];
        match decision {
            Start::Stop => process.at = At::Stopped,
            Start::Again => process.at = At::BeganAgain,
            Start::First | Start::Rebuild { .. } => {
                process.folder.begin(group);
                let open = if self.rules.keep(Rule::EpisodesRecalled) { episodes } else { 0 };
                let first = File { lineage: author, epoch: 0, next: 0, alerts: 0, open: 0, author };
                let file = match decision {
                    Start::Rebuild { from } => File { epoch: from.epoch + 1, alerts: 0, open, author, ..from },
                    _ => first,
                };
                process.publishes(after(file), file, 0, false);
            }
            Start::Resume { committed } => {
                let Some(newest) = process.folder.newest() else { return };
                let is_in_kafka = committed.is_some_and(|committed| newest.epoch <= committed);
                if is_in_kafka {
                    process.folder.is_finished = true;
                    process.at = At::Reading(after(newest));
                } else {
                    // Where it was finished before, only progress is committed once more.
                    let alerts: Alerts = if process.folder.is_finished { 0 } else { newest.alerts };
                    process.publishes(after(newest), newest, alerts, true);
                }
            }
        }
    }

    fn abort(&self, state: &mut State, p: usize, way: Way) {
        if !state.processes[p].producer.is_newest {
            return state.drop_memory(p);
        }
        match state.broker.transaction {
            // INVALID_TXN_STATE
            Transaction::Committed => return state.drop_memory(p),
            Transaction::Open { .. } => state.broker.end(false),
            Transaction::Fresh | Transaction::Aborted => {}
        }
        state.processes[p].producer.is_open = false;
        if way == Way::HeldBack {
            state.hold_back(p, Late::End { commit: false });
        }
    }

    fn send(&self, state: &mut State, p: usize, part: Part, way: Way) {
        let At::Publishing(memory, epoch, Stage::Sending(parts)) = state.processes[p].at else { return };
        let is_member = state.broker.member == Some(p) || !self.rules.keep(Rule::MemberOfAssignment);
        let is_refused = way == Way::Refused || part == Part::Offsets && !is_member;
        if !state.processes[p].producer.is_newest || is_refused {
            return state.drop_memory(p);
        }
        state.broker.add(part, epoch.sent);
        if part == Part::Episodes && !self.rules.keep(Rule::RecoveryReadCommitted) {
            state.broker.progress_uncommitted = Some(epoch.sent.file);
        }
        state.processes[p].at = At::Publishing(memory, epoch, Stage::Sending(parts.with(part)));
        if way == Way::HeldBack {
            let is_member = state.broker.member == Some(p);
            state.hold_back(p, Late::Offsets { file: epoch.sent.file, is_member });
        }
    }

    fn commit(&self, state: &mut State, p: usize, way: Way) {
        let At::Publishing(memory, mut epoch, _) = state.processes[p].at else { return };
        if !state.processes[p].producer.is_newest {
            return state.drop_memory(p);
        }
        if way == Way::Posthumous {
            state.hold_back(p, Late::End { commit: true });
            return state.crash(p);
        }
        match state.broker.transaction {
            Transaction::Open { .. } => state.broker.end(true),
            // It is what a late request has done already.
            Transaction::Committed => {}
            // INVALID_TXN_STATE
            Transaction::Fresh | Transaction::Aborted => return state.drop_memory(p),
        }
        state.processes[p].producer.is_open = false;
        let sends_again = !self.rules.keep(Rule::DoubtDropsMemory);
        match way {
            Way::Unheard if sends_again => {
                state.left.crashes -= 1;
                epoch.is_logged = !state.processes[p].folder.files.is_empty();
                state.processes[p].at = At::Publishing(memory, epoch, Stage::Closed);
            }
            Way::Unheard => {
                state.left.crashes -= 1;
                state.drop_memory(p);
            }
            Way::HeldBack => {
                state.hold_back(p, Late::End { commit: true });
                state.goes_on(p, Stage::Committed(Parts::default()));
            }
            Way::Once | Way::Refused | Way::Posthumous => state.goes_on(p, Stage::Committed(Parts::default())),
        }
    }

    fn write(&self, state: &mut State, p: usize, part: Part) {
        let At::Publishing(memory, epoch, Stage::Committed(parts)) = state.processes[p].at else { return };
        let is_member = state.broker.member == Some(p) || !self.rules.keep(Rule::MemberOfAssignment);
        if part == Part::Offsets && !is_member {
            return state.drop_memory(p);
        }
        state.broker.write(part, epoch.sent);
        state.processes[p].at = At::Publishing(memory, epoch, Stage::Committed(parts.with(part)));
    }

    /// A late request has the newest producer epoch, so the broker takes it for one of the transaction that is open.
    fn deliver(&self, state: &mut State, place: usize) {
        match state.broker.late.remove(place) {
            Late::End { commit } => {
                let owner = state.processes.iter_mut().find(|process| process.producer.is_newest);
                let begun = |process: &Process| matches!(process.at, At::Publishing(_, _, Stage::Sending(_)));
                let tears = owner.filter(|owner| begun(owner)).map(|owner| owner.producer.is_torn = true).is_some();
                if state.broker.is_open() || tears {
                    state.broker.end(commit);
                }
            }
            Late::Offsets { file, is_member } => {
                let is_taken = is_member || !self.rules.keep(Rule::MemberOfAssignment);
                if let Transaction::Open { offsets: Some(offsets), .. } = &mut state.broker.transaction
                    && is_taken
                {
                    *offsets = file;
                }
            }
        }
    }
}

/// What is in memory after an epoch.
fn after(file: File) -> Memory {
    Memory { lineage: file.lineage, epoch: file.epoch + 1, next: file.next, open: file.open }
}

impl State {
    /// All that a process has in memory is dropped. It leaves the group, and stands by.
    fn drop_memory(&mut self, p: usize) {
        self.leave(p, At::StandBy);
    }

    /// It is gone, and its session with it: until that has expired nothing but time passes.
    fn crash(&mut self, p: usize) {
        self.left.crashes -= 1;
        self.leave(p, At::Down);
    }

    fn leave(&mut self, p: usize, at: At) {
        if self.broker.member == Some(p) {
            self.broker.expel();
        }
        // The broker still takes what this producer has sent, until another one is there.
        let is_newest = self.processes[p].producer.is_newest;
        self.processes[p].producer = Producer { is_newest, ..Producer::default() };
        self.processes[p].at = at;
    }

    /// The files of its folder are durable.
    fn sync(&mut self, p: usize) {
        let folder = &mut self.processes[p].folder;
        folder.durable = folder.files.len();
        self.durable.extend(&folder.files);
        self.durable.sort_unstable();
        self.durable.dedup();
    }

    fn new_producer(&mut self, p: usize) {
        self.broker.bump_epoch();
        for (other, process) in self.processes.iter_mut().enumerate() {
            process.producer.is_newest = other == p;
        }
        self.processes[p].producer = Producer { is_ready: true, is_newest: true, ..Producer::default() };
    }

    fn close(&mut self, p: usize, next: u8) {
        let At::Reading(memory) = self.processes[p].at else { return };
        let alerts = memory.due(next);
        let open = memory.open | alerts;
        let Memory { lineage, epoch, .. } = memory;
        let file = File { lineage, epoch, next, alerts, open, author: u8::from(p == 1) };
        self.processes[p].publishes(after(file), file, alerts, false);
    }

    fn begin(&mut self, p: usize) {
        let producer = &mut self.processes[p].producer;
        (producer.is_open, producer.is_torn) = (true, false);
        self.goes_on(p, Stage::Sending(Parts::default()));
    }

    fn fail_to_send(&mut self, p: usize, disturbed: bool) {
        self.left.failures -= 1;
        self.processes[p].producer.is_disturbed |= disturbed;
        self.goes_on(p, Stage::Closed);
    }

    fn goes_on(&mut self, p: usize, stage: Stage) {
        if let At::Publishing(memory, epoch, _) = self.processes[p].at {
            self.processes[p].at = At::Publishing(memory, epoch, stage);
        }
    }

    fn hold_back(&mut self, p: usize, late: Late) {
        self.left.late -= 1;
        self.broker.hold_back(late);
        self.processes[p].producer.is_disturbed = true;
    }
}
