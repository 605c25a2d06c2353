//! A fake of Kafka with faults on demand: a topic and its groups in memory. The topic outlives the sources that read
//! it, as a broker outlives a process.
//!
//! Every call yields before and after its effect, so that a test can end a run at either place.

mod beside;

pub use beside::MemoryBeside;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::yield_now;

use crate::change::record::{Batch, Content, DeadLetter, SourceRecord};
use crate::change::{Change, Reject, RejectKind};
use crate::failure::{CallError, Kind};
use crate::model::{NextOffset, Position, Timestamp};
use crate::progress::{LastRecord, Offsets, TopicState};
use crate::source::{Event, Follow, Source, Standing};

/// The default for the greatest number of records in a batch.
const BATCH_RECORDS: usize = 64;

/// A topic with its consumer groups. Clones share it.
#[derive(Clone, Debug)]
pub struct MemoryTopic<T = Change> {
    state: Arc<Mutex<State<T>>>,
    changed: watch::Sender<u64>,
}

#[derive(Debug)]
struct State<T> {
    partitions: BTreeMap<i32, Partition<T>>,
    groups: BTreeMap<String, BTreeMap<i32, (NextOffset, String)>>,
    /// A counter for each group, increased with every assignment.
    generations: BTreeMap<String, u64>,
    /// Events for the only member.
    events: VecDeque<Event<T>>,
    batch_records: usize,
    cluster: String,
    /// The base of timestamps: a record's timestamp is this plus its offset.
    born_ms: i64,
    offsets_kept_for: Option<Duration>,
}

#[derive(Debug)]
struct Partition<T> {
    low: i64,
    high: i64,
    records: BTreeMap<i64, Content<T>>,
}

impl<T> Default for Partition<T> {
    fn default() -> Self {
        Self { low: 0, high: 0, records: BTreeMap::new() }
    }
}

impl<T: Clone> MemoryTopic<T> {
    /// Creates a topic of this many empty partitions.
    pub fn new(partitions: i32) -> Self {
        let partitions = (0..partitions).map(|partition| (partition, Partition::default())).collect();
        let state = State {
            partitions,
            groups: BTreeMap::new(),
            generations: BTreeMap::new(),
            events: VecDeque::new(),
            batch_records: BATCH_RECORDS,
            cluster: "cluster".to_owned(),
            born_ms: 1_795_000_000_000,
            offsets_kept_for: None,
        };
        Self { state: Arc::new(Mutex::new(state)), changed: watch::Sender::new(0) }
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change<R>(&self, change: impl FnOnce(&mut State<T>) -> R) -> R {
        let changed = change(&mut self.lock());
        self.changed.send_modify(|count| *count = count.wrapping_add(1));
        changed
    }

    fn append(&self, partition: i32, content: impl FnOnce(Position) -> Content<T>) -> i64 {
        self.change(|state| {
            let log = state.partitions.entry(partition).or_default();
            let offset = log.high;
            log.high += 1;
            log.records.insert(offset, content(Position { partition, offset }));
            offset
        })
    }

    /// Appends a change. Returns its offset.
    pub fn push(&self, partition: i32, change: T) -> i64 {
        self.append(partition, |_| Content::Change(change))
    }

    /// Appends a record that the reader ignores, e.g. a heartbeat.
    pub fn push_ignored(&self, partition: i32) -> i64 {
        self.append(partition, |_| Content::Ignored("heartbeat"))
    }

    /// Appends an invalid record.
    pub fn push_bad(&self, partition: i32, reason: &str) -> i64 {
        self.push_reject(partition, RejectKind::Json, reason)
    }

    /// Appends an invalid record with this kind of reason.
    pub fn push_reject(&self, partition: i32, kind: RejectKind, reason: &str) -> i64 {
        let reject = Reject { kind, detail: reason.to_owned() };
        self.append(partition, |position| {
            let (key, value) = (Some(b"key".as_slice()), Some(reason.as_bytes()));
            Content::Rejected(Box::new(DeadLetter::new(position, reject, key, value, [])))
        })
    }

    /// Appends an offset without a record, like a transaction's marker.
    pub fn skip(&self, partition: i32) {
        self.change(|state| state.partitions.entry(partition).or_default().high += 1);
    }

    /// Removes the record at an offset, like compaction. The offset remains.
    pub fn compact(&self, partition: i32, offset: i64) {
        self.change(|state| state.partitions.entry(partition).or_default().records.remove(&offset));
    }

    /// Adds an empty partition. A running reader learns of it only by a rebalance.
    pub fn add_partition(&self, partition: i32) {
        self.change(|state| {
            state.partitions.entry(partition).or_default();
        });
    }

    /// Makes the record at an offset invalid from now on, as for a decoder that knows other columns.
    pub fn replace(&self, partition: i32, offset: i64, kind: RejectKind, reason: &str) {
        let position = Position { partition, offset };
        let reject = Reject { kind, detail: reason.to_owned() };
        let letter = DeadLetter::new(position, reject, None, None, []);
        self.change(|state| {
            let log = state.partitions.entry(partition).or_default();
            log.records.insert(offset, Content::Rejected(Box::new(letter)));
        });
    }

    /// Removes the records before `low`, like retention.
    pub fn retain_from(&self, partition: i32, low: i64) {
        self.change(|state| {
            if let Some(log) = state.partitions.get_mut(&partition) {
                log.low = low;
                log.records.retain(|offset, _| *offset >= low);
            }
        });
    }

    /// Removes the records from `high` on, as if the topic had been re-created.
    pub fn truncate_to(&self, partition: i32, high: i64) {
        self.change(|state| {
            if let Some(log) = state.partitions.get_mut(&partition) {
                log.high = high;
                log.records.retain(|offset, _| *offset < high);
            }
        });
    }

    /// The number of records in a partition.
    pub fn len(&self, partition: i32) -> usize {
        self.lock().partitions.get(&partition).map_or(0, |log| log.records.len())
    }

    /// Whether no partition holds a record.
    pub fn is_empty(&self) -> bool {
        self.lock().partitions.values().all(|log| log.records.is_empty())
    }

    /// Appends the records of a partition from an offset on again, as Debezium does after a crash.
    pub fn repeat_from(&self, partition: i32, from: i64) {
        self.change(|state| {
            let Some(log) = state.partitions.get_mut(&partition) else { return };
            let again: Vec<Content<T>> = log.records.range(from..).map(|(_, content)| content.clone()).collect();
            for content in again {
                log.records.insert(log.high, content);
                log.high += 1;
            }
        });
    }

    /// A group's committed offsets and metadata by partition.
    pub fn committed(&self, group: &str) -> BTreeMap<i32, (NextOffset, String)> {
        self.lock().groups.get(group).cloned().unwrap_or_default()
    }

    /// Moves a group like Kafka's tools, without metadata.
    pub fn move_group(&self, group: &str, partition: i32, next: i64) {
        self.change(|state| {
            let held = state.groups.entry(group.to_owned()).or_default();
            held.insert(partition, (NextOffset(next), String::new()));
        });
    }

    /// Deletes a group's offsets.
    pub fn delete_group(&self, group: &str) {
        self.change(|state| state.groups.remove(group));
    }

    /// Stores a group's committed offsets with this metadata.
    pub(crate) fn commit_group(&self, group: &str, offsets: &Offsets, metadata: &str) {
        self.change(|state| {
            let held = state.groups.entry(group.to_owned()).or_default();
            held.extend(offsets.iter().map(|(partition, next)| (*partition, (*next, metadata.to_owned()))));
        });
    }

    /// The generation of a group.
    pub(crate) fn generation(&self, group: &str) -> u64 {
        self.lock().generations.get(group).copied().unwrap_or(0)
    }

    /// Gives the partitions to another member: commits of the present one are rejected.
    pub fn take_over(&self, group: &str) {
        self.change(|state| *state.generations.entry(group.to_owned()).or_default() += 1);
    }

    /// Deletes and re-creates the topic, with as many partitions and no record.
    pub fn make_anew(&self) {
        self.change(|state| {
            for log in state.partitions.values_mut() {
                *log = Partition::default();
            }
            state.born_ms += 1_000_000;
        });
    }

    /// Makes the servers those of another cluster.
    pub fn set_cluster(&self, id: &str) {
        self.change(|state| id.clone_into(&mut state.cluster));
    }

    /// The timestamp of the record at an offset.
    pub fn timestamp(&self, offset: i64) -> Timestamp {
        Timestamp((self.lock().born_ms + offset) * 1_000)
    }

    /// Sets how long the offsets of a group without members are kept.
    pub fn keep_offsets_for(&self, duration: Option<Duration>) {
        self.change(|state| state.offsets_kept_for = duration);
    }

    /// Sends the reader an additional event: a rebalance, or a failure.
    pub fn tell(&self, event: Event<T>) {
        self.change(|state| state.events.push_back(event));
    }

    /// Revokes the partitions and assigns all existing ones.
    pub fn rebalance(&self) {
        let all = self.lock().partitions.keys().copied().collect();
        self.tell(Event::Revoked);
        self.tell(Event::Assigned(all));
    }

    /// Sets the size of a poll from here on.
    pub fn set_batch_records(&self, max: usize) {
        self.change(|state| state.batch_records = max);
    }
}

/// A member of a group that reads a [`MemoryTopic`], or a reader outside of the group.
#[derive(Debug)]
pub struct MemorySource<T = Change> {
    topic: MemoryTopic<T>,
    group: String,
    /// The group's generation at the newest assignment.
    generation: u64,
    changed: watch::Receiver<u64>,
    /// The next offsets. `None` until started.
    reading: Option<Offsets>,
    /// Partitions whose end was reported and has not moved since.
    ended: BTreeSet<i32>,
    /// For a reader outside of the group: its partitions, and whether it was informed of them.
    without_group: Option<(Vec<i32>, bool)>,
}

impl<T: Clone> MemorySource<T> {
    /// Joins a group as its only member, which is assigned all partitions.
    pub fn join(topic: &MemoryTopic<T>, group: &str) -> Self {
        let all = topic.lock().partitions.keys().copied().collect();
        Self::join_with(topic, group, all)
    }

    /// Joins a group, and is assigned only these partitions.
    pub fn join_with(topic: &MemoryTopic<T>, group: &str, given: Vec<i32>) -> Self {
        topic.change(|state| state.events = VecDeque::from([Event::Assigned(given)]));
        Self {
            topic: topic.clone(),
            group: group.to_owned(),
            generation: 0,
            changed: topic.changed.subscribe(),
            reading: None,
            ended: BTreeSet::new(),
            without_group: None,
        }
    }

    fn poll(&mut self) -> Option<Event<T>> {
        let mut state = self.topic.lock();
        if let Some((given, told)) = &mut self.without_group {
            if !std::mem::replace(told, true) {
                self.reading = None;
                self.ended.clear();
                return Some(Event::Assigned(given.clone()));
            }
        } else if let Some(event) = state.events.pop_front() {
            if matches!(event, Event::Assigned(_) | Event::Revoked) {
                self.reading = None;
                self.ended.clear();
                let generation = state.generations.entry(self.group.clone()).or_default();
                *generation += 1;
                self.generation = *generation;
            }
            return Some(event);
        }
        let mut batch = Batch::default();
        let born_ms = state.born_ms;
        for (partition, next) in self.reading.iter_mut().flatten() {
            let Some(log) = state.partitions.get(partition) else { continue };
            if next.0 < log.low || next.0 > log.high {
                let problem = format!("partition {partition} offset {}: out of range", next.0);
                return Some(Event::Failed(CallError::new("Kafka", problem, Kind::Unsafe)));
            }
            let left = state.batch_records.saturating_sub(batch.records.len());
            for (offset, content) in log.records.range(next.0..).take(left) {
                let position = Position { partition: *partition, offset: *offset };
                let (timestamp_ms, content) = (born_ms + offset, content.clone());
                batch.records.push(SourceRecord { position, table: 0, timestamp_ms, content });
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

impl<T: Clone> Source for MemorySource<T> {
    type Member = u64;
    type Change = T;
    type Beside = MemoryBeside<T>;

    fn beside(&self) -> MemoryBeside<T> {
        MemoryBeside::of(&self.topic)
    }

    fn member(&self) -> u64 {
        self.generation
    }

    fn cut_off(&self) -> Arc<AtomicBool> {
        Arc::default() // there is nothing to be cut off from
    }

    fn ends(&self) -> Offsets {
        let state = self.topic.lock();
        state.partitions.iter().map(|(partition, log)| (*partition, NextOffset(log.high))).collect()
    }

    async fn next(&mut self) -> Event<T> {
        yield_now().await;
        loop {
            self.changed.mark_unchanged();
            if let Some(event) = self.poll() {
                return event;
            }
            // Cannot fail: this source holds the sender.
            let _ = self.changed.changed().await;
        }
    }

    async fn topic_state(&self, partitions: &[i32]) -> Result<TopicState, CallError> {
        yield_now().await;
        Ok(self.topic.state_for(&self.group, partitions))
    }

    async fn partitions(&self) -> Result<Vec<i32>, CallError> {
        yield_now().await;
        Ok(self.topic.lock().partitions.keys().copied().collect())
    }

    fn start(&mut self, from: &Offsets) {
        self.reading = Some(from.clone());
    }

    async fn timestamps(&self, offsets: &BTreeMap<i32, i64>) -> Result<BTreeMap<i32, i64>, CallError> {
        yield_now().await;
        Ok(self.topic.timestamps_at(offsets))
    }

    async fn first_since(&self, partitions: &[i32], at: Timestamp) -> Result<Offsets, CallError> {
        yield_now().await;
        let state = self.topic.lock();
        let first = |partition: &i32| {
            let (low, high) = state.partitions.get(partition).map_or((0, 0), |log| (log.low, log.high));
            (*partition, NextOffset((at.millis() - state.born_ms).clamp(low, high)))
        };
        Ok(partitions.iter().map(first).collect())
    }

    async fn offsets_kept_for(&self) -> Option<Duration> {
        self.topic.lock().offsets_kept_for
    }

    async fn standing(&self) -> Result<Standing, CallError> {
        Ok(Standing::First)
    }

    async fn rejoin(&mut self) -> Result<(), CallError> {
        yield_now().await;
        self.reading = None;
        if let Some((_, told)) = &mut self.without_group {
            *told = false;
            return Ok(());
        }
        self.topic.change(|state| {
            let all = state.partitions.keys().copied().collect();
            state.events = VecDeque::from([Event::Assigned(all)]);
        });
        Ok(())
    }
}

impl<T: Clone> Follow for MemorySource<T> {
    async fn commit(&self, offsets: &Offsets, metadata: &str) -> Result<(), CallError> {
        yield_now().await;
        if self.without_group.is_some() || self.generation != self.topic.generation(&self.group) {
            return Err(CallError::new("Kafka: committing", "this member has lost its place", Kind::Fenced));
        }
        self.topic.commit_group(&self.group, offsets, metadata);
        yield_now().await;
        Ok(())
    }

    fn open_without_group(&self, partitions: Vec<i32>) -> Result<Self, CallError> {
        Ok(Self {
            topic: self.topic.clone(),
            group: self.group.clone(),
            generation: 0,
            changed: self.topic.changed.subscribe(),
            reading: None,
            ended: BTreeSet::new(),
            without_group: Some((partitions, false)),
        })
    }

    async fn close(self) {
        yield_now().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_the_newest_member_commits_and_others_may_read() {
        let topic: MemoryTopic<u32> = MemoryTopic::new(1);
        topic.push(0, 7);
        let mut member = MemorySource::join(&topic, "g");
        assert!(matches!(member.next().await, Event::Assigned(_)));
        let next = Offsets::from([(0, NextOffset(1))]);
        member.commit(&next, "text").await.unwrap();
        assert_eq!(topic.committed("g"), BTreeMap::from([(0, (NextOffset(1), "text".to_owned()))]));

        let mut beside = member.open_without_group(vec![0]).unwrap();
        assert!(matches!(beside.next().await, Event::Assigned(given) if given == [0]));
        beside.start(&Offsets::from([(0, NextOffset(0))]));
        let Event::Batch(batch) = beside.next().await else { panic!("no batch") };
        assert!(matches!(batch.records.as_slice(), [SourceRecord { content: Content::Change(7), .. }]));
        assert!(matches!(beside.commit(&next, "").await, Err(error) if error.kind == Kind::Fenced));
        beside.close().await;
        member.commit(&next, "again").await.unwrap();

        topic.take_over("g");
        assert!(matches!(member.commit(&next, "").await, Err(error) if error.kind == Kind::Fenced));
        assert_eq!(topic.committed("g").get(&0).map(|(_, text)| text.as_str()), Some("again"));
    }
}
