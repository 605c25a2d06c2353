//! The database: transactions whose commits become visible out of order, what each of them wrote, and answers that come
//! late, fail, or not at all.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use tripline::confirm::Confirm;
use tripline::contract::{Contract, Look, Publication};
use tripline::failure::{CallError, Kind, Server};
use tripline::fakes::table::{MemoryConfirm, MemoryTable, transactions};
use tripline::model::{DECIMAL_LIMIT, Key, Lsn, Timestamp, Value};
use tripline::rule::message::Template;
use tripline::rule::table_row::TableRow;
use tripline::rule::{Confirm as Confirmation, Rule, Time, compile, parse};
use tripline::snapshot::Snapshot;
use tripline::unit::{Answer, Asked, Compared, Question};

use super::process::Process;
use super::wire::Wire;

/// Added to the number of a user, so that no other number of a log line looks like one.
pub(crate) const USERS_FROM: i64 = 7_310_000;

/// A row of the table: user, amount in cents, instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) user: i64,
    pub(crate) cents: i128,
    pub(crate) at: Timestamp,
}

impl Row {
    /// As the table has it.
    pub(crate) fn values(self) -> Box<[Value]> {
        Box::new([Value::Int(self.user), Value::Decimal(self.cents), Value::Time(self.at)])
    }

    /// As memory gets it, from a record or from the table.
    pub(crate) fn held(self) -> Box<[Value]> {
        let mut values = self.values();
        values.iter_mut().for_each(hold);
        values
    }
}

/// Removes the digits of values that memory cannot add.
fn hold(value: &mut Value) {
    if matches!(value, Value::Decimal(cents) if cents.abs() >= DECIMAL_LIMIT) {
        *value = Value::Opaque;
    }
}

fn held(mut row: TableRow) -> TableRow {
    row.row.iter_mut().for_each(hold);
    row
}

/// The effect of a transaction on a row or, without one, on all rows.
#[derive(Clone, Debug)]
pub(crate) struct Write {
    pub(crate) lsn: u64,
    pub(crate) pk: Option<i64>,
    pub(crate) row: Option<Row>,
}

/// A rule of the simulation, as the checks evaluate it.
pub(crate) struct Checked {
    pub(crate) name: &'static str,
    /// The window in microseconds.
    pub(crate) window: i64,
    /// Cents of the sum, or rows, above which it fires.
    pub(crate) threshold: i64,
    pub(crate) counts: bool,
    /// Whether Postgres is asked.
    pub(crate) confirm: Confirmation,
}

pub(crate) const RULES: [Checked; 4] = [
    Checked {
        name: "weekly-spend",
        window: 604_800_000_000,
        threshold: 300_000,
        counts: false,
        confirm: Confirmation::Required,
    },
    Checked { name: "burst", window: 70_000_000, threshold: 4, counts: true, confirm: Confirmation::Required },
    Checked { name: "spike", window: 10_000_000, threshold: 2, counts: true, confirm: Confirmation::Required },
    Checked { name: "unasked", window: 20_000_000, threshold: 3, counts: true, confirm: Confirmation::Off },
];

impl Checked {
    fn sql(&self) -> String {
        let having = if self.counts {
            format!("COUNT(*) > {}", self.threshold)
        } else {
            format!("SUM(ABS(amount)) > {}", self.threshold / 100)
        };
        format!(
            "SELECT user_id, COUNT(*) AS transactions, SUM(ABS(amount)) AS total FROM public.transactions \
             WHERE created_at >= NOW() - INTERVAL '{} seconds' GROUP BY user_id HAVING {having}",
            self.window / 1_000_000
        )
    }

    /// Rows and cents of a user at an instant, and whether HAVING holds.
    pub(crate) fn evaluate<'r>(
        &self,
        rows: impl Iterator<Item = &'r Row>,
        user: i64,
        now: Timestamp,
    ) -> (u64, i128, bool) {
        let inside = rows.filter(|row| row.user == user && row.at.0 >= now.0 - self.window);
        let (count, cents) = inside.fold((0, 0), |(count, cents), row| (count + 1, cents + row.cents.abs()));
        let measured = if self.counts { i128::from(count) } else { cents };
        (count, cents, count > 0 && measured > i128::from(self.threshold))
    }
}

/// The rules, with the columns that they want.
pub(crate) fn rules() -> (Vec<Rule>, Vec<usize>) {
    let rule = |checked: &Checked| {
        let query = compile::compile(&parse::parse(&checked.sql()).unwrap(), &transactions()).unwrap();
        Rule {
            name: checked.name.into(),
            version: compile::version(&query, Time::Processing, checked.confirm),
            severity: "critical".into(),
            message: Template::parse("User {user_id} (${total})", &["user_id", "transactions", "total"]).unwrap(),
            time: Time::Processing,
            confirm: checked.confirm,
            query,
        }
    };
    let rules: Vec<Rule> = RULES.iter().map(rule).collect();
    let wanted = compile::wanted(&rules.iter().map(|rule| &rule.query).collect::<Vec<_>>());
    (rules, wanted)
}

/// The database, and all that was ever written to it.
pub(crate) struct Database {
    pub(crate) table: MemoryTable,
    /// By transaction.
    pub(crate) history: RefCell<BTreeMap<u32, Vec<Write>>>,
    /// Rows that a transaction which is not visible yet has written.
    pub(crate) locked: RefCell<BTreeSet<i64>>,
    /// A truncate waits or is not visible yet.
    pub(crate) locked_whole: Cell<bool>,
    pub(crate) next_tx: Cell<u32>,
    pub(crate) next_lsn: Cell<u64>,
    /// Nothing is answered before this millisecond.
    pub(crate) away_until: Cell<u64>,
    /// How many statements of a hundred fail.
    pub(crate) fails: Cell<u64>,
    /// Rows of which the connector gets nothing.
    pub(crate) unpublished: RefCell<BTreeSet<i64>>,
    /// How often all rows of keys were read, for memory to hold.
    pub(crate) heals: Cell<u64>,
    /// The rows that memory has from the table and not from the topic.
    pub(crate) given: RefCell<Given>,
}

/// The rows that the table has given to memory. They are at least as new as the topic's records until then.
#[derive(Default)]
pub(crate) struct Given {
    /// All rows of these users were read.
    pub(crate) users: BTreeSet<i64>,
    /// These rows were read by themselves.
    pub(crate) pks: BTreeSet<Key>,
    /// The rows.
    pub(crate) rows: Vec<TableRow>,
}

impl Given {
    fn rows_of<'a>(&mut self, asked: impl IntoIterator<Item = &'a Asked>, found: &[TableRow]) {
        self.users.extend(asked.into_iter().filter_map(|asked| asked.texts.first()?.as_ref()?.parse::<i64>().ok()));
        self.rows.extend_from_slice(found);
    }

    fn lookup(&mut self, pks: &[Key], found: &[TableRow]) {
        self.pks.extend(pks.iter().cloned());
        self.rows.extend_from_slice(found);
    }
}

impl Database {
    pub(crate) fn new() -> Self {
        let (table, first) = (MemoryTable::default(), 1_000);
        // Of the time before: without it, snapshots would include what has not begun.
        table.end(first - 1);
        Self {
            table,
            history: RefCell::default(),
            locked: RefCell::default(),
            locked_whole: Cell::new(false),
            next_tx: Cell::new(first),
            next_lsn: Cell::new(10_000),
            away_until: Cell::new(0),
            fails: Cell::new(0),
            unpublished: RefCell::default(),
            heals: Cell::new(0),
            given: RefCell::default(),
        }
    }

    /// From here on the publication leaves rows out, and says so.
    pub(crate) fn leave_out(&self) {
        let filtered = Publication { row_filters: vec!["(amount > 0)".to_owned()], ..Publication::default() };
        let publications = BTreeMap::from([("p".to_owned(), filtered)]);
        self.table.set_contract(Contract { publications, ..self.table.contract() });
    }

    /// A transaction begins: nobody sees what it does.
    pub(crate) fn begin(&self) -> u32 {
        let tx = self.next_tx.get();
        self.next_tx.set(tx + 1);
        self.table.hide(tx);
        tx
    }

    pub(crate) fn lsn(&self) -> u64 {
        self.next_lsn.set(self.next_lsn.get() + 8);
        self.next_lsn.get()
    }

    /// Everybody sees it from here on.
    pub(crate) fn show(&self, tx: u32) {
        for write in self.history.borrow().get(&tx).into_iter().flatten() {
            match (write.pk, write.row) {
                (Some(pk), Some(row)) => self.table.put(Key::Int(pk), row.values()),
                (Some(pk), None) => self.table.delete(&Key::Int(pk)),
                (None, _) => {
                    self.table.truncate();
                    self.locked_whole.set(false);
                }
            }
            if let Some(pk) = write.pk {
                self.locked.borrow_mut().remove(&pk);
            }
        }
        self.table.end(tx);
    }

    /// A row as all who are not in a transaction see it.
    pub(crate) fn row(&self, pk: i64) -> Option<Row> {
        match *self.table.row(&Key::Int(pk))? {
            [Value::Int(user), Value::Decimal(cents), Value::Time(at)] => Some(Row { user, cents, at }),
            _ => panic!("no row of this table"),
        }
    }

    /// The table as a snapshot shows it, from all that was ever written: none of the program's own code has a part in it.
    pub(crate) fn at(&self, snapshot: &Snapshot) -> BTreeMap<i64, Row> {
        let history = self.history.borrow();
        let seen = history.iter().filter(|(tx, _)| snapshot.includes(**tx)).flat_map(|(_, writes)| writes);
        let mut writes: Vec<&Write> = seen.collect();
        writes.sort_by_key(|write| write.lsn); // stable: a delete stands before the create of a primary-key change
        let mut rows = BTreeMap::new();
        for write in writes {
            match (write.pk, write.row) {
                (Some(pk), Some(row)) => drop(rows.insert(pk, row)),
                (Some(pk), None) => drop(rows.remove(&pk)),
                (None, _) => rows.clear(),
            }
        }
        rows
    }

    /// The table as it is.
    pub(crate) fn rows(&self) -> Vec<Row> {
        self.table
            .rows()
            .iter()
            .filter_map(|(pk, _)| if let Key::Int(pk) = pk { self.row(*pk) } else { None })
            .collect()
    }
}

/// Cents of an amount with two digits after the point.
pub(crate) fn cents(text: &str) -> i128 {
    let (whole, fraction) = text.split_once('.').unwrap();
    assert_eq!(fraction.len(), 2, "{text}");
    format!("{whole}{fraction}").parse().unwrap()
}

/// How a process reaches the database.
pub(crate) struct SimConfirm {
    inner: MemoryConfirm,
    database: Rc<Database>,
    wire: Rc<Wire>,
    process: Rc<Process>,
}

/// How long a process waits for an answer that does not come.
const TIMEOUT_MS: u64 = 2_000;

impl SimConfirm {
    pub(crate) fn new(
        database: &Rc<Database>,
        wire: &Rc<Wire>,
        process: &Rc<Process>,
        rules: &[Rule],
        wanted: &[usize],
    ) -> Self {
        let inner = MemoryConfirm::new(&database.table, rules, wanted);
        Self { inner, database: Rc::clone(database), wire: Rc::clone(wire), process: Rc::clone(process) }
    }

    /// The way there. A statement may not come through, or fail there.
    async fn go(&self) -> Result<(), CallError> {
        self.wire.pass(self.wire.delay()).await;
        if self.database.away_until.get() > self.wire.now() || self.process.is_cut(self.wire.now()) {
            if self.wire.random.percent(50) {
                self.wire.pass(TIMEOUT_MS).await;
            }
            return Err(away("connection refused", Kind::Unreachable));
        }
        if self.wire.random.percent(self.database.fails.get()) {
            return Err(away("canceling statement due to statement timeout", Kind::Unreachable));
        }
        Ok(())
    }

    /// The way back: the answer is that of when the statement ran.
    async fn back(&self) -> Result<(), CallError> {
        let long = self.wire.random.percent(10);
        self.wire.pass(if long { self.wire.random.below(100 * self.wire.slow.get()) } else { self.wire.delay() }).await;
        if self.process.is_cut(self.wire.now()) {
            return Err(away("connection reset", Kind::Unreachable));
        }
        Ok(())
    }
}

/// An error that repeats parts of a row: text that acts on a terminal, and much of it.
fn away(problem: &str, kind: Kind) -> CallError {
    let problem = format!("{problem}\n\u{1b}]0;x\u{7}\u{202e}{}", "y".repeat(10_000));
    CallError::new("Postgres", problem, kind).at(Server::Postgres)
}

impl Confirm for SimConfirm {
    async fn ask(&self, question: &Question) -> Vec<Result<Answer, CallError>> {
        let all = |error: CallError| question.asked.iter().map(|_| Err(error.clone())).collect();
        if let Err(error) = self.go().await {
            return all(error);
        }
        let mut answers = self.inner.ask(question).await;
        // One key's data may not be what the statement can read.
        for answer in &mut answers {
            if self.wire.random.percent(self.database.fails.get() / 4) {
                *answer = Err(away("numeric field overflow", Kind::Internal));
            }
        }
        match self.back().await {
            Ok(()) => answers,
            Err(error) => all(error),
        }
    }

    async fn look(&self) -> Result<Look, CallError> {
        self.go().await?;
        let mut look = self.inner.look().await?;
        look.position = Lsn(self.database.next_lsn.get());
        self.back().await.map(|()| look)
    }

    async fn snapshot(&self) -> Result<String, CallError> {
        self.go().await?;
        let answer = self.inner.snapshot().await;
        self.back().await?;
        answer
    }

    async fn compare(&self, question: &Question) -> Vec<Result<Compared, CallError>> {
        let all = |error: CallError| question.asked.iter().map(|_| Err(error.clone())).collect();
        if let Err(error) = self.go().await {
            return all(error);
        }
        let answers = self.inner.compare(question).await;
        match self.back().await {
            Ok(()) => answers,
            Err(error) => all(error),
        }
    }

    async fn page(&self, rule: usize, after: Option<&Key>, now: Timestamp) -> Result<Vec<Key>, CallError> {
        self.go().await?;
        let answer = self.inner.page(rule, after, now).await;
        self.back().await?;
        answer
    }

    async fn rows_of(&self, question: &Question) -> Result<Vec<TableRow>, CallError> {
        self.go().await?;
        let answer = self.inner.rows_of(question).await;
        self.database.heals.set(self.database.heals.get() + 1);
        self.database.given.borrow_mut().rows_of(&question.asked, answer.as_deref().unwrap_or_default());
        self.back().await?;
        answer.map(|rows| rows.into_iter().map(held).collect())
    }

    async fn rows(&self, rule: usize, asked: &Asked) -> Result<Vec<TableRow>, CallError> {
        self.go().await?;
        let answer = self.inner.rows(rule, asked).await;
        self.database.given.borrow_mut().rows_of([asked], answer.as_deref().unwrap_or_default());
        self.back().await?;
        answer.map(|rows| rows.into_iter().map(held).collect())
    }

    async fn lookup(&self, table: usize, pks: &[Key]) -> Result<Vec<TableRow>, CallError> {
        self.go().await?;
        let answer = self.inner.lookup(table, pks).await;
        self.database.given.borrow_mut().lookup(pks, answer.as_deref().unwrap_or_default());
        self.back().await?;
        answer.map(|rows| rows.into_iter().map(held).collect())
    }

    async fn load(&self, rule: usize, now: Timestamp, take: &mut dyn FnMut(TableRow)) -> Result<Lsn, CallError> {
        self.go().await?;
        // A truncate locks readers out until it can be seen.
        let given_up = self.wire.now() + TIMEOUT_MS;
        while self.database.locked_whole.get() {
            if self.wire.now() > given_up {
                return Err(away("canceling statement due to statement timeout", Kind::Unreachable));
            }
            self.wire.pass(50).await;
        }
        let position = Lsn(self.database.next_lsn.get());
        let answer = self.inner.load(rule, now, &mut |row| take(held(row))).await;
        self.back().await?;
        answer.map(|_| position)
    }

    async fn sweep(&self, rule: usize, now: Timestamp) -> Result<Vec<Key>, CallError> {
        self.go().await?;
        let answer = self.inner.sweep(rule, now).await;
        self.back().await?;
        answer
    }
}
