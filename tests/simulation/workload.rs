//! The changes that people make to the table, and the connector that carries them to the topic.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

use tripline::change::record::{Content, DeadLetter};
use tripline::change::{Change, Op, Reject, RejectKind};
use tripline::model::{DECIMAL_LIMIT, Key, Lsn, Position, Timestamp};

use super::broker::Broker;
use super::database::{Database, Row, USERS_FROM, Write};
use super::random::Random;
use super::wire::Wire;

/// The kinds of acts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    /// Rows are only inserted, and amounts only positive.
    pub(crate) is_monotone: bool,
    pub(crate) users: u64,
    pub(crate) partitions: i32,
    /// Milliseconds between two transactions at most.
    pub(crate) pause: u64,
    /// When the last one begins.
    pub(crate) until: u64,
    /// Records of a hundred that cannot be read.
    pub(crate) bad: u64,
    /// Amounts of a hundred that memory cannot add.
    pub(crate) great: u64,
    /// New rows of a hundred of which the topic gets nothing, while [`LACKS_MS`] last.
    pub(crate) unpublished: u64,
    /// Writes of a hundred that truncate, where they may.
    pub(crate) truncates: u64,
}

/// So long rows are written of which the topic gets nothing.
const LACKS_MS: u64 = 9_000;

/// A record as the connector makes it: partition and content.
type Made = (i32, Rc<dyn Fn(Position) -> Content>);

/// Reads the log of the database, and writes to the topic.
pub(crate) struct Connector {
    /// Transactions that were committed and not written yet: with the position of their commit, and when that was.
    queue: RefCell<VecDeque<(u64, u64, Vec<Made>)>>,
    /// For how many milliseconds a committed transaction was not in the topic, at most.
    pub(crate) behind: Cell<u64>,
    sent: RefCell<Vec<Vec<Made>>>,
    /// How many of the last transactions the connector repeats when it is started again.
    pub(crate) repeats: Cell<usize>,
    pub(crate) down_until: Cell<u64>,
    wire: Rc<Wire>,
    broker: Rc<Broker>,
    database: Rc<Database>,
    random: Random,
}

impl Connector {
    pub(crate) fn new(wire: &Rc<Wire>, broker: &Rc<Broker>, database: &Rc<Database>, random: Random) -> Self {
        Self {
            queue: RefCell::default(),
            behind: Cell::new(0),
            sent: RefCell::default(),
            repeats: Cell::new(0),
            down_until: Cell::new(0),
            wire: Rc::clone(wire),
            broker: Rc::clone(broker),
            database: Rc::clone(database),
            random,
        }
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.queue.borrow().is_empty() && self.repeats.get() == 0
    }

    fn write(&self, records: &[Made]) {
        for (partition, content) in records {
            let _ = self.broker.append(*partition, |offset| content(Position { partition: *partition, offset }));
        }
    }

    pub(crate) async fn run(self: Rc<Self>) {
        loop {
            let slow = if self.random.percent(5) { 1_500 } else { 60 };
            self.wire.pass(1 + self.random.below(slow)).await;
            if self.down_until.get() > self.wire.now() {
                continue;
            }
            let repeats = self.repeats.take();
            if repeats > 0 {
                let sent = self.sent.borrow();
                let from = sent.len().saturating_sub(repeats);
                self.wire
                    .trace
                    .add(self.wire.now(), &format!("the connector repeats {} transactions", sent.len() - from));
                sent[from..].iter().for_each(|records| self.write(records));
            }
            let next = self.queue.borrow_mut().pop_front();
            let flushed = match next {
                Some((commit, at, records)) => {
                    self.behind.set(self.behind.get().max(self.wire.now() - at));
                    self.write(&records);
                    self.sent.borrow_mut().push(records);
                    commit
                }
                None => self.database.next_lsn.get(),
            };
            self.database.table.set_flushed(Some(Lsn(flushed)));
        }
    }
}

/// Does it.
pub(crate) struct Workload {
    pub(crate) shape: Shape,
    pub(crate) wire: Rc<Wire>,
    pub(crate) database: Rc<Database>,
    pub(crate) connector: Rc<Connector>,
    pub(crate) random: Random,
    /// The wall clock at the start.
    pub(crate) born: Timestamp,
    pub(crate) next_id: Cell<i64>,
}

impl Workload {
    fn at(&self, millis: u64) -> Timestamp {
        Timestamp(self.born.0 + i64::try_from(millis).unwrap() * 1_000)
    }

    pub(crate) async fn run(self) {
        let mut pause_until = 0;
        while self.wire.now() < self.shape.until {
            self.wire.pass(1 + self.random.below(self.shape.pause)).await;
            if self.wire.now() < pause_until || self.database.locked_whole.get() {
                continue;
            }
            if self.random.percent(2) {
                pause_until = self.wire.now() + self.random.below(4_000);
            }
            self.transaction();
        }
    }

    fn transaction(&self) {
        let tx = self.database.begin();
        let writes = self.writes();
        for pk in writes.iter().filter_map(|write| write.pk) {
            self.database.locked.borrow_mut().insert(pk);
        }
        let takes = if self.random.percent(8) { self.random.below(2_000) } else { self.random.below(10) };
        let committed = self.wire.now() + takes;
        // A commit that waits for a standby is in the log before anybody sees it.
        let hidden =
            if self.random.percent(12) { self.random.below(*self.random.pick(&[1_000, 4_000, 14_000])) } else { 0 };
        let (database, connector) = (Rc::clone(&self.database), Rc::clone(&self.connector));
        if writes.is_empty() || self.random.percent(3) {
            let pks: Vec<i64> = writes.iter().filter_map(|write| write.pk).collect();
            self.wire.at(committed, "", move || {
                pks.iter().for_each(|pk| {
                    database.locked.borrow_mut().remove(pk);
                });
                if database.history.borrow().get(&tx).is_none() && pks.is_empty() {
                    database.locked_whole.set(false);
                }
                database.table.end(tx);
            });
            return;
        }
        let at = self.at(committed);
        let records: Vec<Made> = writes.iter().flat_map(|write| self.records(tx, write, &writes, at)).collect();
        self.database.history.borrow_mut().insert(tx, writes.clone());
        let what = format!("transaction {tx} is committed: {}", words(&writes));
        self.wire.at(committed, what, move || {
            let commit = database.lsn();
            connector.queue.borrow_mut().push_back((commit, committed, records));
        });
        let database = Rc::clone(&self.database);
        let what = if hidden > 0 { format!("transaction {tx} is visible") } else { String::new() };
        self.wire.at(committed + hidden, what, move || database.show(tx));
    }

    /// The writes of a transaction.
    fn writes(&self) -> Vec<Write> {
        let mut writes = Vec::new();
        let mut mine = Vec::new();
        for _ in 0..self.random.between(1, 3) {
            let lsn = self.database.lsn();
            let what = if self.shape.is_monotone { 0 } else { self.random.below(100) };
            if what >= 100 - self.shape.truncates && writes.is_empty() && self.database.locked.borrow().is_empty() {
                self.database.locked_whole.set(true);
                return vec![Write { lsn, pk: None, row: None }];
            }
            let held: Vec<i64> = {
                let locked = self.database.locked.borrow();
                let all = self.database.table.rows();
                let pks = all.iter().map(|(pk, _)| if let Key::Int(pk) = pk { *pk } else { unreachable!() });
                let unpublished = self.database.unpublished.borrow();
                pks.filter(|pk| !locked.contains(pk) && !mine.contains(pk) && !unpublished.contains(pk)).collect()
            };
            if what < 55 || held.is_empty() {
                let pk = self.next_id.get();
                self.next_id.set(pk + 1);
                mine.push(pk);
                writes.push(Write { lsn, pk: Some(pk), row: Some(self.row()) });
                let is_early = self.shape.unpublished > 0 && self.wire.now() < LACKS_MS;
                if is_early && self.random.percent(self.shape.unpublished) {
                    self.database.unpublished.borrow_mut().insert(pk);
                }
                continue;
            }
            let pk = *self.random.pick(&held);
            mine.push(pk);
            let row = self.database.row(pk).unwrap();
            let user = self.user();
            let new = match what {
                55..=69 => Some(Row { cents: self.amount(), ..row }),
                70..=79 => Some(Row { user, ..row }),
                80..=95 => None,
                _ => {
                    // Another primary key: a delete and a create of one position in the log.
                    let moved = self.next_id.get();
                    self.next_id.set(moved + 1);
                    mine.push(moved);
                    writes.push(Write { lsn, pk: Some(pk), row: None });
                    writes.push(Write { lsn, pk: Some(moved), row: Some(Row { user, ..row }) });
                    continue;
                }
            };
            writes.push(Write { lsn, pk: Some(pk), row: new });
        }
        writes
    }

    fn user(&self) -> i64 {
        USERS_FROM + i64::try_from(1 + self.random.below(self.shape.users)).unwrap()
    }

    fn amount(&self) -> i128 {
        let cents = i128::from(self.random.between(1, 120_000));
        if self.shape.great > 0 && self.random.percent(self.shape.great) {
            return DECIMAL_LIMIT + cents;
        }
        if !self.shape.is_monotone && self.random.percent(10) { -cents } else { cents }
    }

    fn row(&self) -> Row {
        let now = self.wire.now();
        let before = if !self.shape.is_monotone && self.random.percent(20) { self.random.below(15_000) } else { 0 };
        let at = self.at(now).0 - i64::try_from(before).unwrap() * 1_000;
        let user = self.user();
        Row { user, cents: self.amount(), at: Timestamp(at) }
    }

    /// The records of a write, as under REPLICA IDENTITY DEFAULT.
    fn records(&self, tx: u32, write: &Write, all: &[Write], at: Timestamp) -> Vec<Made> {
        let change = |op: Op, row: Option<Row>| Change {
            op,
            pk: write.pk.map(Key::Int),
            row: row.map(Row::held),
            before: None,
            lsn: Some(Lsn(write.lsn)),
            tx_id: Some(tx),
            committed_at: Some(at),
            holes: Vec::new(),
        };
        let Some(pk) = write.pk else { return vec![made(0, change(Op::Truncate, None))] };
        if self.database.unpublished.borrow().contains(&pk) {
            return Vec::new();
        }
        let partition = i32::try_from(pk % i64::from(self.shape.partitions)).unwrap();
        if self.random.percent(self.shape.bad) {
            return vec![self.bad(partition, pk)];
        }
        match write.row {
            Some(row) => {
                let is_new =
                    self.database.row(pk).is_none() || all.iter().any(|w| w.lsn == write.lsn && w.pk != write.pk);
                vec![made(partition, change(if is_new { Op::Create } else { Op::Update }, Some(row)))]
            }
            None => {
                let tombstone = Change { lsn: None, tx_id: None, committed_at: None, ..change(Op::Tombstone, None) };
                vec![made(partition, change(Op::Delete, None)), made(partition, tombstone)]
            }
        }
    }

    /// The record of a change that cannot be read: its key tells which row it is about, or does not.
    fn bad(&self, partition: i32, pk: i64) -> Made {
        let row = self.random.percent(60).then_some(Key::Int(pk));
        let content = move |position: Position| {
            let reject = Reject { kind: RejectKind::Json, detail: "not JSON".to_owned() };
            let letter = DeadLetter::new(position, reject, Some(b"key"), Some(b"value"), []);
            Content::Rejected(Box::new(letter.about_row(row.clone())))
        };
        (partition, Rc::new(content))
    }
}

fn made(partition: i32, change: Change) -> Made {
    (partition, Rc::new(move |_| Content::Change(change.clone())))
}

fn words(writes: &[Write]) -> String {
    let word = |write: &Write| match (write.pk, write.row) {
        (Some(pk), Some(row)) => format!("{pk} = user {} {}", row.user, row.cents),
        (Some(pk), None) => format!("{pk} deleted"),
        (None, _) => "truncated".to_owned(),
    };
    writes.iter().map(word).collect::<Vec<_>>().join(", ")
}
