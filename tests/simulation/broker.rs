//! The broker: the topic of changes, a group with members and generations, and one transactional producer at a time, with
//! requests that come late ending what they were not meant for.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use tripline::alert::Alert;
use tripline::change::Change;
use tripline::change::record::{Content, DeadLetter};
use tripline::failure::{CallError, Kind, Server};
use tripline::model::{NextOffset, Timestamp};
use tripline::planted;
use tripline::progress::{Offsets, Progress};
use tripline::unit::recovery::EpisodeRecord;

use super::process::Process;
use super::wire::Wire;

/// How long a member may be silent.
pub(crate) const SESSION_MS: u64 = 10_000;
/// How long a transaction may be open.
pub(crate) const TRANSACTION_MS: u64 = 10_000;

pub(crate) fn kafka(problem: &str, kind: Kind) -> CallError {
    CallError::new("Kafka", problem, kind).at(Server::Kafka)
}

/// A partition of the topic of changes: what stands at each offset, and its timestamp.
pub(crate) struct Partition<T = Change> {
    pub(crate) low: i64,
    pub(crate) high: i64,
    pub(crate) records: BTreeMap<i64, (i64, Content<T>)>,
}

/// A rebalance event that a member of the group gets with its next poll.
#[derive(Clone, Debug)]
pub(crate) enum Rebalance {
    Assigned(u64, Vec<i32>),
    Revoked,
}

pub(crate) struct Member {
    pub(crate) instance: String,
    pub(crate) process: Rc<Process>,
    pub(crate) events: VecDeque<Rebalance>,
    pub(crate) assigned: Vec<i32>,
}

/// The records and offsets of one open transaction.
#[derive(Clone, Default)]
pub(crate) struct Pending {
    pub(crate) alerts: Vec<Alert>,
    pub(crate) episodes: Vec<EpisodeRecord>,
    pub(crate) progress: Option<Progress>,
    pub(crate) offsets: Option<(Offsets, String)>,
}

/// The coordinator's view of the group's producer.
#[derive(Default)]
pub(crate) struct Producer {
    pub(crate) epoch: u32,
    pub(crate) machine: usize,
    /// The transaction that is open, and since when.
    pub(crate) open: Option<(u64, Pending)>,
    /// How the last one ended.
    ended: Option<bool>,
}

pub(crate) struct State<T = Change> {
    pub(crate) partitions: BTreeMap<i32, Partition<T>>,
    pub(crate) members: BTreeMap<String, Member>,
    pub(crate) generation: u64,
    pub(crate) committed: BTreeMap<i32, (NextOffset, String)>,
    pub(crate) producer: Producer,
    /// The records that a reader of committed records sees, in order.
    pub(crate) alerts: Vec<Alert>,
    pub(crate) episodes: BTreeMap<String, EpisodeRecord>,
    pub(crate) progress: Option<Progress>,
    pub(crate) dead: Vec<DeadLetter>,
    joined: u64,
}

/// Called when a transaction is committed, with the machine and the transaction.
type Watcher<T> = Box<dyn Fn(&State<T>, usize, &Pending)>;

/// Called when the group's offsets are committed without a transaction, with the machine and the offsets.
type CommitWatcher<T> = Box<dyn Fn(&State<T>, usize, &Offsets, &str)>;

pub(crate) struct Broker<T = Change> {
    state: RefCell<State<T>>,
    wire: Rc<Wire>,
    watcher: RefCell<Option<Watcher<T>>>,
    commit_watcher: RefCell<Option<CommitWatcher<T>>>,
    /// A record's timestamp is this and the time since the start.
    pub(crate) born: Timestamp,
}

impl<T: 'static> Broker<T> {
    pub(crate) fn new(wire: &Rc<Wire>, partitions: i32, born: Timestamp) -> Self {
        let empty = || Partition { low: 0, high: 0, records: BTreeMap::new() };
        let state = State {
            partitions: (0..partitions).map(|partition| (partition, empty())).collect(),
            members: BTreeMap::new(),
            generation: 0,
            committed: BTreeMap::new(),
            producer: Producer::default(),
            alerts: Vec::new(),
            episodes: BTreeMap::new(),
            progress: None,
            dead: Vec::new(),
            joined: 0,
        };
        let (wire, watcher, commit_watcher) = (Rc::clone(wire), RefCell::default(), RefCell::default());
        Self { state: RefCell::new(state), wire, watcher, commit_watcher, born }
    }

    pub(crate) fn watch(&self, watcher: impl Fn(&State<T>, usize, &Pending) + 'static) {
        *self.watcher.borrow_mut() = Some(Box::new(watcher));
    }

    pub(crate) fn watch_commits(&self, watcher: impl Fn(&State<T>, usize, &Offsets, &str) + 'static) {
        *self.commit_watcher.borrow_mut() = Some(Box::new(watcher));
    }

    pub(crate) fn state(&self) -> std::cell::RefMut<'_, State<T>> {
        self.state.borrow_mut()
    }

    /// `OffsetCommit`: of the members of this generation alone. A late one of such a member is taken, whatever came after it.
    pub(crate) fn commit_offsets(
        &self,
        (id, generation): &(String, u64),
        offsets: &Offsets,
        metadata: &str,
    ) -> Result<(), CallError> {
        let mut state = self.state();
        let Some(member) = state.members.get(id).filter(|_| state.generation == *generation) else {
            return Err(kafka("this member is no longer one of the group", Kind::Fenced));
        };
        let machine = member.process.machine;
        if let Some(watcher) = &*self.commit_watcher.borrow() {
            watcher(&state, machine, offsets, metadata);
        }
        let committed = offsets.iter().map(|(partition, next)| (*partition, (*next, metadata.to_owned())));
        state.committed.extend(committed);
        Ok(())
    }

    /// Appends to the topic of changes.
    pub(crate) fn append(&self, partition: i32, content: impl FnOnce(i64) -> Content<T>) -> i64 {
        let at = self.born.millis() + i64::try_from(self.wire.now()).unwrap();
        let mut state = self.state();
        let log = state.partitions.get_mut(&partition).unwrap();
        let offset = log.high;
        log.high += 1;
        log.records.insert(offset, (at, content(offset)));
        offset
    }

    /// Retention: what lies before the group's offsets can no longer be read.
    pub(crate) fn retain(&self) {
        let mut state = self.state();
        let State { partitions, committed, .. } = &mut *state;
        for (partition, (next, _)) in committed {
            if let Some(log) = partitions.get_mut(partition) {
                log.low = log.low.max(next.0 - 1).max(0);
                log.records = log.records.split_off(&log.low);
            }
        }
    }

    /// Sessions and transactions expire.
    pub(crate) async fn expire(self: Rc<Self>) {
        loop {
            self.wire.pass(500).await;
            let now = self.wire.now();
            let expired = |member: &Member| member.process.silent_for(now) >= SESSION_MS;
            let gone: Vec<String> =
                self.state().members.iter().filter(|(_, m)| expired(m)).map(|(id, _)| id.clone()).collect();
            for id in gone {
                self.wire.trace.add(now, &format!("the session of {id} is over"));
                self.leave(&id);
            }
            let mut state = self.state();
            if state.producer.open.as_ref().is_some_and(|(since, _)| now - since >= TRANSACTION_MS) {
                self.wire.trace.add(now, "a transaction is aborted by its time-out");
                let producer = &mut state.producer;
                (producer.open, producer.ended) = (None, None);
                producer.epoch += 1;
            }
        }
    }

    /// Joins the group and returns the member's id. A member with the same instance id is replaced.
    pub(crate) fn join(&self, instance: &str, process: &Rc<Process>) -> String {
        let mut state = self.state();
        state.members.retain(|_, member| member.instance != instance);
        state.joined += 1;
        let id = format!("{instance}-{}", state.joined);
        let (events, assigned) = (VecDeque::new(), Vec::new());
        let member = Member { instance: instance.to_owned(), process: Rc::clone(process), events, assigned };
        state.members.insert(id.clone(), member);
        rebalance(&mut state);
        id
    }

    pub(crate) fn leave(&self, id: &str) {
        let mut state = self.state();
        if state.members.remove(id).is_some() {
            rebalance(&mut state);
        }
    }

    /// `InitProducerId`: what was open is aborted, and earlier producers are refused.
    pub(crate) fn init(&self, machine: usize) -> u32 {
        let mut state = self.state();
        let producer = &mut state.producer;
        (producer.open, producer.ended, producer.machine) = (None, None, machine);
        if !planted::bug("producer-not-fenced") {
            producer.epoch += 1;
        }
        producer.epoch
    }

    /// Adds partitions and records to the transaction. The first ones begin it.
    pub(crate) fn produce(
        &self,
        epoch: u32,
        begins: bool,
        alerts: &[Alert],
        episodes: &[EpisodeRecord],
        progress: &Progress,
    ) -> Result<(), CallError> {
        let now = self.wire.now();
        let mut state = self.state();
        let open = admit(&mut state.producer, epoch, begins.then_some(now))?;
        open.alerts.extend_from_slice(alerts);
        open.episodes.extend_from_slice(episodes);
        open.progress = Some(progress.clone());
        Ok(())
    }

    /// `TxnOffsetCommit`. A late one of an earlier transaction is not distinguished from one of this.
    pub(crate) fn add_offsets(
        &self,
        epoch: u32,
        member: &(String, u64),
        offsets: &Offsets,
        name: &str,
        begins: bool,
    ) -> Result<(), CallError> {
        let now = self.wire.now();
        let mut state = self.state();
        let is_member = state.members.contains_key(&member.0) && state.generation == member.1;
        if !is_member {
            return Err(kafka("this member is no longer one of the group", Kind::Fenced));
        }
        let open = admit(&mut state.producer, epoch, begins.then_some(now))?;
        open.offsets = Some((offsets.clone(), name.to_owned()));
        Ok(())
    }

    /// `EndTxn` as of transactions version 0: it ends what is open, whatever it was meant for.
    pub(crate) fn end(&self, epoch: u32, commit: bool) -> Result<(), CallError> {
        let mut state = self.state();
        if state.producer.epoch != epoch {
            return Err(kafka("the producer has been fenced", Kind::Fenced));
        }
        let machine = state.producer.machine;
        let Some((_, pending)) = state.producer.open.take() else {
            return if state.producer.ended == Some(commit) {
                Ok(()) // said again
            } else {
                Err(kafka("there is no transaction", Kind::Fenced))
            };
        };
        state.producer.ended = Some(commit);
        if !commit {
            return Ok(());
        }
        if let Some(watcher) = &*self.watcher.borrow() {
            watcher(&state, machine, &pending);
        }
        for alert in &pending.alerts {
            let (key, status, id) = (&alert.record_key, alert.status.as_str(), alert.id);
            self.wire.trace.add(self.wire.now(), &format!("visible: {key} {status} {id}"));
        }
        let Pending { alerts, episodes, progress, offsets } = pending;
        state.alerts.extend(alerts);
        state.episodes.extend(episodes.into_iter().map(|episode| (episode.record_key(), episode)));
        if let Some(progress) = progress {
            state.progress = Some(progress);
        }
        let (offsets, name) = offsets.unwrap_or_default();
        state.committed.extend(offsets.into_iter().map(|(partition, next)| (partition, (next, name.clone()))));
        Ok(())
    }
}

/// The open transaction of this producer, which may begin now.
fn admit(producer: &mut Producer, epoch: u32, begins: Option<u64>) -> Result<&mut Pending, CallError> {
    if producer.epoch != epoch {
        return Err(kafka("the producer has been fenced", Kind::Fenced));
    }
    if let Some(now) = begins {
        producer.open.get_or_insert_with(|| (now, Pending::default()));
    }
    match &mut producer.open {
        Some((_, pending)) => Ok(pending),
        None => Err(kafka("the partition is not part of a transaction", Kind::Unreachable)),
    }
}

/// The partitions are shared out again.
fn rebalance<T>(state: &mut State<T>) {
    state.generation += 1;
    let generation = state.generation;
    let members = state.members.len().max(1);
    let partitions: Vec<i32> = state.partitions.keys().copied().collect();
    for (index, member) in state.members.values_mut().enumerate() {
        let mine = partitions.iter().enumerate().filter(|(at, _)| at % members == index).map(|(_, p)| *p);
        if !std::mem::replace(&mut member.assigned, mine.collect()).is_empty() || !member.events.is_empty() {
            member.events.push_back(Rebalance::Revoked);
        }
        member.events.push_back(Rebalance::Assigned(generation, member.assigned.clone()));
    }
}
