//! How a process reads: a member of the group, with everything between it and the broker.
//!
//! - this file: reading
//! - `follow`: committing the group's offsets, and reading beside the group

mod follow;

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use tripline::change::Change;
use tripline::change::record::{Batch, SourceRecord};
use tripline::failure::{CallError, Kind};
use tripline::model::{NextOffset, Position, Timestamp};
use tripline::progress::{LastRecord, Offsets, PartitionState, TopicState};
use tripline::source::{Beside, Event, Source, Standing};

use super::broker::{Broker, Rebalance, kafka};
use super::process::Process;
use super::sinks::Disturbances;
use super::wire::Wire;

/// How long a call waits for an answer.
const TIMEOUT_MS: u64 = 3_000;
/// A poll that has taken so much longer than it should have is one of a process that was stopped.
const STOPPED_MS: u64 = 1_000;
/// How long the client takes after that to hear of its group, at most.
const HEARS_MS: u64 = 1_000;
/// How often a stand-by looks whether the group is free.
const STANDBY_MS: u64 = 500;

pub(crate) struct SimSource<T = Change> {
    wire: Rc<Wire>,
    broker: Rc<Broker<T>>,
    process: Rc<Process>,
    channel: u64,
    instance: String,
    id: Option<String>,
    /// Of the newest assignment that this member has seen.
    generation: u64,
    reading: Option<Offsets>,
    ended: BTreeSet<i32>,
    batch_max: usize,
    polls: usize,
    /// Of a reader that is not in the group: its partitions, and whether they were announced to it.
    without_group: Option<(Vec<i32>, bool)>,
    disturbances: Rc<Disturbances>,
}

impl<T: Clone + 'static> SimSource<T> {
    pub(crate) fn new(broker: &Rc<Broker<T>>, wire: &Rc<Wire>, process: &Rc<Process>, instance: &str) -> Self {
        Self {
            wire: Rc::clone(wire),
            broker: Rc::clone(broker),
            process: Rc::clone(process),
            channel: wire.channel(),
            instance: instance.to_owned(),
            id: None,
            generation: 0,
            reading: None,
            ended: BTreeSet::new(),
            batch_max: 3 + usize::try_from(wire.random.below(40)).unwrap(),
            polls: 0,
            without_group: None,
            disturbances: Rc::default(),
        }
    }

    /// Stands by until the group is free of others, seen twice, and joins.
    pub(crate) async fn join(&mut self) {
        let mut free = 0;
        while free < 2 {
            if free == 0 {
                self.wire.pass(STANDBY_MS).await;
            } else {
                self.wire.pass(100).await;
            }
            if self.process.is_cut(self.wire.now()) {
                free = 0;
                continue;
            }
            let state = self.broker.state();
            let mine = state.members.values().all(|member| member.instance == self.instance);
            free = if mine { free + 1 } else { 0 };
        }
        let (broker, instance, process) = (Rc::clone(&self.broker), self.instance.clone(), Rc::clone(&self.process));
        let what = format!("process {} joins", process.number);
        self.id = self.wire.ask(self.channel, what, move || broker.join(&instance, &process)).await;
        (self.reading, self.generation) = (None, 0);
        self.ended.clear();
    }

    async fn call<A: 'static>(
        &self,
        serve: impl FnOnce(&Broker<T>) -> Result<A, CallError> + 'static,
    ) -> Result<A, CallError> {
        if self.process.is_cut(self.wire.now()) {
            self.wire.pass(TIMEOUT_MS).await;
            return Err(kafka("timed out", Kind::Unreachable));
        }
        let broker = Rc::clone(&self.broker);
        let answer = self.wire.ask(self.channel, "", move || serve(&broker)).await;
        answer.unwrap_or_else(|| Err(kafka("timed out", Kind::Unreachable)))
    }

    fn poll(&mut self) -> Option<Event<T>> {
        if let Some((given, announced)) = &mut self.without_group {
            if !std::mem::replace(announced, true) {
                return Some(Event::Assigned(given.clone()));
            }
        } else if let Some(event) = self.rebalanced() {
            return Some(event);
        } else if self.id.is_none() {
            return None;
        }
        self.fetch()
    }

    /// The event for this member after a rebalance.
    fn rebalanced(&mut self) -> Option<Event<T>> {
        let mut state = self.broker.state();
        let Some(id) = &self.id else { return None };
        let Some(member) = state.members.get_mut(id) else {
            // Its session was over, or another one has its instance id.
            (self.id, self.reading) = (None, None);
            return Some(Event::Revoked);
        };
        if let Some(event) = member.events.pop_front() {
            self.reading = None;
            self.ended.clear();
            return Some(match event {
                Rebalance::Revoked => Event::Revoked,
                Rebalance::Assigned(generation, partitions) => {
                    self.generation = generation;
                    Event::Assigned(partitions)
                }
            });
        }
        None
    }

    fn fetch(&mut self) -> Option<Event<T>> {
        let state = self.broker.state();
        let mut batch = Batch::default();
        // Each partition comes first in turn, as no fetch waits for the records of another.
        self.polls += 1;
        let partitions = self.reading.as_ref().map_or(1, |reading| reading.len().max(1));
        let (first, mut reading) = (self.polls % partitions, self.reading.iter_mut().flatten().collect::<Vec<_>>());
        reading.rotate_left(first.min(partitions - 1));
        for (partition, next) in reading {
            let log = &state.partitions[partition];
            assert!(next.0 >= log.low && next.0 <= log.high, "a position out of range: {partition} {next:?}");
            let left = self.batch_max.saturating_sub(batch.records.len());
            for (offset, (timestamp_ms, content)) in log.records.range(next.0..).take(left) {
                let (position, timestamp_ms) = (Position { partition: *partition, offset: *offset }, *timestamp_ms);
                batch.records.push(SourceRecord { position, table: 0, timestamp_ms, content: content.clone() });
                batch.last_records.insert(*partition, LastRecord { offset: *offset, timestamp_ms });
                *next = NextOffset::after(*offset);
                self.ended.remove(partition);
            }
            let is_at_end = log.records.range(next.0..).next().is_none();
            if is_at_end && (self.ended.insert(*partition) || next.0 != log.high) {
                next.0 = log.high;
                batch.ended.push(*partition);
                batch.delivered.get_or_insert_default().insert(*partition, *next);
            }
        }
        (!batch.is_empty()).then_some(Event::Batch(batch))
    }
}

fn topic_state<T: 'static>(broker: &Broker<T>, partitions: Option<&[i32]>) -> TopicState {
    let state = broker.state();
    let of = |(partition, log): (&i32, &super::broker::Partition<T>)| PartitionState {
        partition: *partition,
        committed: partitions.and_then(|_| state.committed.get(partition).cloned()),
        low: NextOffset(log.low),
        high: NextOffset(log.high),
    };
    TopicState { cluster: Some("cluster".to_owned()), partitions: state.partitions.iter().map(of).collect() }
}

fn timestamps<T: 'static>(broker: &Broker<T>, offsets: &BTreeMap<i32, i64>) -> BTreeMap<i32, i64> {
    let state = broker.state();
    let at =
        |(partition, offset): (&i32, &i64)| Some((*partition, state.partitions.get(partition)?.records.get(offset)?.0));
    offsets.iter().filter_map(at).collect()
}

impl<T: Clone + 'static> Source for SimSource<T> {
    type Member = (String, u64);
    type Change = T;
    type Beside = SimBeside<T>;

    fn beside(&self) -> SimBeside<T> {
        SimBeside { wire: Rc::clone(&self.wire), broker: Rc::clone(&self.broker), process: Rc::clone(&self.process) }
    }

    fn member(&self) -> (String, u64) {
        (self.id.clone().unwrap_or_default(), self.generation)
    }

    fn cut_off(&self) -> Arc<AtomicBool> {
        Arc::default()
    }

    fn ends(&self) -> Offsets {
        topic_state(&self.broker, None).ends()
    }

    async fn next(&mut self) -> Event<T> {
        loop {
            let (before, delay) = (self.wire.now(), self.wire.delay().min(100));
            self.wire.pass(delay).await;
            if self.wire.now() > before + delay + STOPPED_MS {
                // What has become of its membership meanwhile, it learns by asking; the process goes on before that.
                self.wire.pass(1 + self.wire.random.below(HEARS_MS)).await;
            }
            if !self.process.is_cut(self.wire.now())
                && let Some(event) = self.poll()
            {
                return event;
            }
            self.wire.pass(1 + self.wire.random.below(200)).await;
        }
    }

    /// A stable read: it waits for what a transaction may still commit.
    async fn topic_state(&self, partitions: &[i32]) -> Result<TopicState, CallError> {
        let given_up = self.wire.now() + TIMEOUT_MS;
        loop {
            let partitions = partitions.to_vec();
            let read = self.call(move |broker| {
                let open = broker.state().producer.open.as_ref().is_some_and(|(_, pending)| pending.offsets.is_some());
                Ok((!open).then(|| topic_state(broker, Some(&partitions))))
            });
            match read.await? {
                Some(state) => return Ok(state),
                None if self.wire.now() > given_up => return Err(kafka("timed out", Kind::Unreachable)),
                None => self.wire.pass(50).await,
            }
        }
    }

    async fn partitions(&self) -> Result<Vec<i32>, CallError> {
        self.call(|broker| Ok(broker.state().partitions.keys().copied().collect())).await
    }

    async fn timestamps(&self, offsets: &BTreeMap<i32, i64>) -> Result<BTreeMap<i32, i64>, CallError> {
        let offsets = offsets.clone();
        self.call(move |broker| Ok(timestamps(broker, &offsets))).await
    }

    async fn first_since(&self, partitions: &[i32], at: Timestamp) -> Result<Offsets, CallError> {
        let partitions = partitions.to_vec();
        self.call(move |broker| {
            let state = broker.state();
            let first = |partition: &i32| {
                let log = &state.partitions[partition];
                let found = log.records.iter().find(|(_, (timestamp, _))| *timestamp >= at.millis());
                (*partition, NextOffset(found.map_or(log.high, |(offset, _)| *offset)))
            };
            Ok(partitions.iter().map(first).collect())
        })
        .await
    }

    async fn offsets_kept_for(&self) -> Option<Duration> {
        None
    }

    fn start(&mut self, from: &Offsets) {
        self.reading = Some(from.clone());
        self.ended.clear();
    }

    async fn standing(&self) -> Result<Standing, CallError> {
        let instance = self.instance.clone();
        self.call(move |broker| {
            let state = broker.state();
            let is_first = state.members.values().next().is_some_and(|first| first.instance == instance);
            Ok(if is_first { Standing::First } else { Standing::Behind })
        })
        .await
    }

    async fn rejoin(&mut self) -> Result<(), CallError> {
        if let Some(id) = self.id.take() {
            let broker = Rc::clone(&self.broker);
            self.wire.send(self.channel, self.wire.delay(), format!("{id} leaves"), move || broker.leave(&id));
        }
        self.join().await;
        Ok(())
    }
}

pub(crate) struct SimBeside<T = Change> {
    wire: Rc<Wire>,
    broker: Rc<Broker<T>>,
    process: Rc<Process>,
}

impl<T> Clone for SimBeside<T> {
    fn clone(&self) -> Self {
        let (wire, broker) = (Rc::clone(&self.wire), Rc::clone(&self.broker));
        Self { wire, broker, process: Rc::clone(&self.process) }
    }
}

impl<T> SimBeside<T> {
    async fn go(&self) -> Result<(), CallError> {
        self.wire.pass(self.wire.delay()).await;
        if self.process.is_cut(self.wire.now()) { Err(kafka("timed out", Kind::Unreachable)) } else { Ok(()) }
    }
}

impl<T: 'static> Beside for SimBeside<T> {
    async fn state(&self) -> Result<TopicState, CallError> {
        self.go().await?;
        Ok(topic_state(&self.broker, None))
    }

    async fn timestamps(&self, offsets: &BTreeMap<i32, i64>) -> Result<BTreeMap<i32, i64>, CallError> {
        self.go().await?;
        Ok(timestamps(&self.broker, offsets))
    }
}
