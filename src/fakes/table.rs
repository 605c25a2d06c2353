//! A fake of Postgres: one table in memory. It evaluates a rule's query row by row, without any code of the windows.
//!
//! A question is answered from the table at the time when it is asked, even if the answer takes a while.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Days, Months};
use serde_json::{Map, Value as Json};
use tokio::task::yield_now;

use crate::confirm::Confirm;
use crate::contract::{Contract, Look};
use crate::failure::{CallError, Kind};
use crate::model::{Column, ColumnType, Key, Lsn, Table, Timestamp, Value, decimal_text};
use crate::rule::expression::{AggregateFunction, Function};
use crate::rule::table_row::TableRow;
use crate::rule::{Aggregate, Comparison, Expression, Interval, OutputExpr, Query, Rule, Time, TimeBound};
use crate::unit::audit::AUDIT_KEYS;
use crate::unit::{Answer, Asked, Compared, Question};

/// Greater than every transaction id in a test.
const XMAX: u64 = 2_000_000_000;

type Rows = BTreeMap<Key, Box<[Value]>>;

/// The catalog's description of `public.transactions`, with primary key `id`: the table of the tests' rules.
pub fn transactions() -> Table {
    let column = |name: &str, ty: ColumnType, type_name: &str| Column {
        name: name.into(),
        ty,
        type_name: type_name.into(),
        nullable: false,
        has_default: false,
    };
    Table {
        schema: "public".into(),
        name: "transactions".into(),
        columns: vec![
            column("id", ColumnType::Int8, "bigint"),
            column("user_id", ColumnType::Int8, "bigint"),
            column("amount", ColumnType::Numeric { scale: Some(2) }, "numeric(12,2)"),
            column("created_at", ColumnType::TimestampTz, "timestamp with time zone"),
        ],
        primary_key: vec![0],
    }
}

/// A table by primary key. Rows hold the wanted columns, like those of a change. Clones share the table.
#[derive(Clone, Debug, Default)]
pub struct MemoryTable {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    rows: Rows,
    /// Older rows from which questions are answered.
    frozen: Option<Rows>,
    away: Option<String>,
    /// Transactions that are not visible yet.
    hidden: BTreeSet<u32>,
    /// The greatest transaction that has ended, if the test controls that.
    ended: Option<u32>,
    takes: Duration,
    asked: Vec<Asked>,
    looked_up: Vec<Key>,
    contract: Contract,
    flushed: Option<Lsn>,
    position: Option<Lsn>,
}

impl MemoryTable {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Inserts or updates a row.
    pub fn put(&self, pk: Key, row: Box<[Value]>) {
        self.lock().rows.insert(pk, row);
    }

    /// Deletes a row.
    pub fn delete(&self, pk: &Key) {
        self.lock().rows.remove(pk);
    }

    /// Answers questions from the present rows from here on.
    pub fn freeze(&self) {
        let mut state = self.lock();
        state.frozen = Some(state.rows.clone());
    }

    /// Answers questions from the current rows again.
    pub fn thaw(&self) {
        self.lock().frozen = None;
    }

    /// Hides this transaction's commit from snapshots. The test itself determines the rows.
    pub fn hide(&self, tx_id: u32) {
        self.lock().hidden.insert(tx_id);
    }

    /// Ends a hidden transaction. From here on snapshots include it, and none that is greater than all ended ones.
    pub fn end(&self, tx_id: u32) {
        let mut state = self.lock();
        state.hidden.remove(&tx_id);
        state.ended = state.ended.max(Some(tx_id));
    }

    /// Deletes all rows.
    pub fn truncate(&self) {
        self.lock().rows.clear();
    }

    /// Returns a visible row.
    pub fn row(&self, pk: &Key) -> Option<Box<[Value]>> {
        self.lock().rows.get(pk).cloned()
    }

    /// Returns the visible rows.
    pub fn rows(&self) -> Vec<(Key, Box<[Value]>)> {
        self.lock().rows.iter().map(|(pk, row)| (pk.clone(), row.clone())).collect()
    }

    /// Makes every transaction visible again.
    pub fn show_all(&self) {
        self.lock().hidden.clear();
    }

    /// Makes every question fail with this text, or answers again for `None`.
    pub fn go_away(&self, problem: Option<&str>) {
        self.lock().away = problem.map(str::to_owned);
    }

    /// Sets the properties that a look at the table finds.
    pub fn set_contract(&self, contract: Contract) {
        self.lock().contract = contract;
    }

    /// Returns the properties that a look at the table finds.
    pub fn contract(&self) -> Contract {
        self.lock().contract.clone()
    }

    /// Sets the position of the WAL. Before, it is the greatest one.
    pub fn set_position(&self, position: Lsn) {
        self.lock().position = Some(position);
    }

    /// Sets the position up to which the connector has confirmed the WAL.
    pub fn set_flushed(&self, flushed: Option<Lsn>) {
        self.lock().flushed = flushed;
    }

    /// Sets how long an answer takes.
    pub fn set_delay(&self, takes: Duration) {
        self.lock().takes = takes;
    }

    /// Returns the primary keys that were looked up.
    pub fn looked_up(&self) -> Vec<Key> {
        self.lock().looked_up.clone()
    }

    /// Returns every group that was asked about, in order, including failed questions.
    pub fn asked(&self) -> Vec<Asked> {
        self.lock().asked.clone()
    }
}

fn bad(problem: String) -> CallError {
    CallError::new("Postgres", problem, Kind::Internal)
}

impl State {
    fn check(&self) -> Result<(), CallError> {
        self.away.as_ref().map_or(Ok(()), |problem| Err(CallError::new("Postgres", problem, Kind::Unreachable)))
    }

    /// Formats the snapshot like `pg_current_snapshot()`.
    fn snapshot(&self) -> String {
        let xmax = self.ended.map_or(XMAX, |ended| u64::from(ended) + 1);
        let open = || self.hidden.iter().filter(|tx_id| u64::from(**tx_id) < xmax);
        let xmin = open().next().map_or(xmax, |tx_id| u64::from(*tx_id));
        let list: Vec<String> = open().map(u32::to_string).collect();
        format!("{xmin}:{xmax}:{}", list.join(","))
    }
}

/// Answers questions about rules from a [`MemoryTable`].
#[derive(Clone, Debug)]
pub struct MemoryConfirm {
    table: MemoryTable,
    rules: Vec<Rule>,
    wanted: Vec<usize>,
}

impl MemoryConfirm {
    /// Creates a fake for these rules, in order, over rows of the wanted columns.
    pub fn new(table: &MemoryTable, rules: &[Rule], wanted: &[usize]) -> Self {
        Self { table: table.clone(), rules: rules.to_vec(), wanted: wanted.to_vec() }
    }

    fn naive(&self, rule: usize) -> Result<Naive<'_>, CallError> {
        let rule = self.rules.get(rule).ok_or_else(|| bad("no such rule".to_owned()))?;
        Ok(Naive { query: &rule.query, time: rule.time, wanted: &self.wanted })
    }

    fn answers(&self, question: &Question) -> Vec<Result<Answer, CallError>> {
        let mut state = self.table.lock();
        state.asked.extend_from_slice(&question.asked);
        let answer = |asked: &Asked| {
            state.check()?;
            let table = self.naive(question.rule)?;
            let answer = table.answer(state.frozen.as_ref().unwrap_or(&state.rows), asked).map_err(bad)?;
            Ok(Answer { snapshot: state.snapshot(), ..answer })
        };
        question.asked.iter().map(answer).collect()
    }
}

impl Confirm for MemoryConfirm {
    async fn ask(&self, question: &Question) -> Vec<Result<Answer, CallError>> {
        yield_now().await;
        let answers = self.answers(question);
        let takes = self.table.lock().takes;
        if !takes.is_zero() {
            tokio::time::sleep(takes).await;
        }
        yield_now().await;
        answers
    }

    async fn look(&self) -> Result<Look, CallError> {
        yield_now().await;
        let state = self.table.lock();
        state.check()?;
        let position = state.position.unwrap_or(Lsn(u64::MAX));
        Ok(Look { contracts: state.contract.clone().into(), position, flushed: state.flushed })
    }

    async fn snapshot(&self) -> Result<String, CallError> {
        yield_now().await;
        let state = self.table.lock();
        state.check()?;
        Ok(state.snapshot())
    }

    async fn compare(&self, question: &Question) -> Vec<Result<Compared, CallError>> {
        yield_now().await;
        let state = self.table.lock();
        let compare = |asked: &Asked| {
            state.check()?;
            let table = self.naive(question.rule)?;
            let rows = state.frozen.as_ref().unwrap_or(&state.rows);
            let answer = Answer { snapshot: state.snapshot(), ..table.answer(rows, asked).map_err(bad)? };
            let mine = table.rows(rows, asked).map_err(bad)?;
            let time =
                |row: &TableRow| match table.query.bound.as_ref().map(|bound| table.value(&row.row, bound.column)) {
                    Some(Some(Value::Time(at))) => i128::from(at.0),
                    _ => 0,
                };
            let rows = u64::try_from(mine.len()).unwrap_or(u64::MAX);
            Ok(Compared { answer, rows, times: mine.iter().map(time).sum() })
        };
        question.asked.iter().map(compare).collect()
    }

    async fn page(&self, rule: usize, after: Option<&Key>, now: Timestamp) -> Result<Vec<Key>, CallError> {
        yield_now().await;
        let state = self.table.lock();
        state.check()?;
        let table = self.naive(rule)?;
        let rows = state.frozen.as_ref().unwrap_or(&state.rows);
        let all: BTreeSet<Key> = rows.values().map(|row| table.key(row)).collect();
        let mut keys = Vec::new();
        for key in all.into_iter().filter(|key| after.is_none_or(|after| key > after)) {
            let asked = Asked { key, texts: Vec::new(), now, stream: Map::new() };
            if !table.rows(rows, &asked).map_err(bad)?.is_empty() {
                keys.push(asked.key);
            }
        }
        Ok(keys.into_iter().take(AUDIT_KEYS).collect())
    }

    async fn rows_of(&self, question: &Question) -> Result<Vec<TableRow>, CallError> {
        yield_now().await;
        let state = self.table.lock();
        state.check()?;
        let table = self.naive(question.rule)?;
        let all = state.frozen.as_ref().unwrap_or(&state.rows);
        let mut rows = Vec::new();
        for asked in &question.asked {
            rows.extend(table.rows(all, asked).map_err(bad)?);
        }
        Ok(rows)
    }

    async fn rows(&self, rule: usize, asked: &Asked) -> Result<Vec<TableRow>, CallError> {
        yield_now().await;
        let state = self.table.lock();
        state.check()?;
        let table = self.naive(rule)?;
        let rows = state.frozen.as_ref().unwrap_or(&state.rows);
        table.rows(rows, asked).map_err(bad)
    }

    async fn lookup(&self, _table: usize, pks: &[Key]) -> Result<Vec<TableRow>, CallError> {
        yield_now().await;
        let mut state = self.table.lock();
        state.check()?;
        state.looked_up.extend(pks.iter().cloned());
        let rows = state.frozen.as_ref().unwrap_or(&state.rows);
        let row = |pk: &Key| Some(TableRow { pk: pk.clone(), row: rows.get(pk)?.clone() });
        Ok(pks.iter().filter_map(row).collect())
    }

    async fn load(&self, rule: usize, _now: Timestamp, take: &mut dyn FnMut(TableRow)) -> Result<Lsn, CallError> {
        yield_now().await;
        let state = self.table.lock();
        state.check()?;
        self.naive(rule)?;
        let rows = state.frozen.as_ref().unwrap_or(&state.rows);
        rows.iter().for_each(|(pk, row)| take(TableRow { pk: pk.clone(), row: row.clone() }));
        Ok(Lsn(0))
    }

    async fn sweep(&self, rule: usize, now: Timestamp) -> Result<Vec<Key>, CallError> {
        yield_now().await;
        let state = self.table.lock();
        state.check()?;
        let table = self.naive(rule)?;
        let rows = state.frozen.as_ref().unwrap_or(&state.rows);
        let mut held = Vec::new();
        for key in rows.values().map(|row| table.key(row)).collect::<BTreeSet<Key>>() {
            let asked = Asked { key, texts: Vec::new(), now, stream: Map::new() };
            if table.answer(rows, &asked).map_err(bad)?.holds {
                held.push(asked.key);
            }
        }
        Ok(held)
    }
}

/// A simple evaluation of a query over rows of the wanted columns. It supports rules without conditions on rows, over
/// counts and sums, with one comparison in HAVING.
struct Naive<'a> {
    query: &'a Query,
    time: Time,
    wanted: &'a [usize],
}

impl Naive<'_> {
    fn value<'r>(&self, row: &'r [Value], column: usize) -> Option<&'r Value> {
        row.get(self.wanted.iter().position(|wanted| *wanted == column)?)
    }

    fn key(&self, row: &[Value]) -> Key {
        let value = |column: &usize| self.value(row, *column).cloned().unwrap_or(Value::Null);
        Key::new(self.query.group_by.iter().map(value).collect())
    }

    fn rows(&self, rows: &Rows, asked: &Asked) -> Result<Vec<TableRow>, String> {
        if self.query.has_more_times() || !self.query.computed.is_empty() {
            return Err("this fake cannot evaluate NOW() but in a time bound".to_owned());
        }
        let back = |bound: &TimeBound| bound.back().ok_or_else(|| "this fake cannot evaluate this bound".to_owned());
        let edge = |bound: &TimeBound| earlier(asked.now, &back(bound)?);
        let edge = self.query.bound.as_ref().map(edge).transpose()?;
        let inside = |row: &&[Value]| match (&self.query.bound, edge) {
            (Some(bound), Some(edge)) => match self.value(row, bound.column) {
                Some(Value::Time(at)) => *at > edge || (bound.inclusive && *at == edge),
                _ => false, // NULL
            },
            _ => true,
        };
        let mine = rows.iter().filter(|(_, row)| self.key(row) == asked.key && inside(&&***row));
        Ok(mine.map(|(pk, row)| TableRow { pk: pk.clone(), row: row.clone() }).collect())
    }

    fn answer(&self, rows: &Rows, asked: &Asked) -> Result<Answer, String> {
        let rows = self.rows(rows, asked)?;
        // Under event time a row dated later is not there yet.
        let is_there = |row: &TableRow| match (self.time, &self.query.bound) {
            (Time::Event, Some(bound)) => {
                matches!(self.value(&row.row, bound.column), Some(Value::Time(at)) if *at <= asked.now)
            }
            _ => true,
        };
        let rows: Vec<TableRow> = rows.into_iter().filter(is_there).collect();
        let rows: Vec<&[Value]> = rows.iter().map(|row| &*row.row).collect();
        let aggregates: Vec<Option<(i128, u8)>> =
            self.query.aggregates.iter().map(|aggregate| self.aggregate(&rows, aggregate)).collect::<Result<_, _>>()?;
        let (Expression::Compare(..), Some(having), None) =
            (&self.query.having, self.query.threshold(), self.query.condition())
        else {
            return Err("this fake cannot evaluate WHERE and HAVING".to_owned());
        };
        // A group without rows is none, whatever HAVING says of zero.
        let holds = match aggregates.get(having.aggregate).copied().flatten() {
            Some(sum) if !rows.is_empty() => {
                let threshold = (having.value.mantissa(), having.value.scale());
                compares(order((sum.0, u32::from(sum.1)), threshold), having.comparison)
            }
            _ => false,
        };
        let mut outputs = Map::new();
        for output in &self.query.outputs {
            let OutputExpr::Value(..) = output.expr else { continue };
            let index = output.aggregate().ok_or("this fake cannot calculate outputs")?;
            let count = self.query.is_count(output);
            let value = match aggregates.get(index).copied().flatten() {
                Some(_) if count => Json::from(rows.len()),
                Some((unscaled, scale)) => Json::String(decimal_text(unscaled, scale)),
                None => Json::Null,
            };
            outputs.insert(output.name.clone(), value);
        }
        Ok(Answer { holds, outputs, snapshot: String::new(), millis: 0 })
    }

    /// The unscaled value with its scale. `None` for NULL.
    fn aggregate(&self, rows: &[&[Value]], aggregate: &Aggregate) -> Result<Option<(i128, u8)>, String> {
        let (column, absolute) = match (aggregate.function, &aggregate.argument, &aggregate.filter) {
            (AggregateFunction::Count, None, None) => {
                return Ok(i128::try_from(rows.len()).ok().map(|count| (count, 0)));
            }
            (AggregateFunction::Sum, Some(Expression::Column(column)), None) => (*column, false),
            (AggregateFunction::Sum, Some(Expression::Call(Function::Abs, arguments)), None) => {
                match arguments.as_slice() {
                    [Expression::Column(column)] => (*column, true),
                    _ => return Err("this fake cannot take ABS of more than a column".to_owned()),
                }
            }
            _ => return Err("this fake cannot calculate this aggregate".to_owned()),
        };
        let scale = self.query.table.columns.get(column).and_then(|column| column.ty.scale()).unwrap_or(0);
        let mut sum = None;
        for row in rows {
            let value = match self.value(row, column) {
                Some(Value::Int(n)) => i128::from(*n),
                Some(Value::Decimal(n)) => *n,
                Some(Value::Null) => continue,
                other => return Err(format!("this fake cannot add {other:?}")),
            };
            let value = if absolute { value.abs() } else { value };
            sum = Some(sum.unwrap_or(0_i128).saturating_add(value));
        }
        Ok(sum.map(|sum| (sum, scale)))
    }
}

/// Compares unscaled numbers with their scales. They may exceed a `Decimal`.
fn order(left: (i128, u32), right: (i128, u32)) -> Ordering {
    let in_scale =
        |(unscaled, scale): (i128, u32)| unscaled.saturating_mul(10_i128.saturating_pow(left.1.max(right.1) - scale));
    in_scale(left).cmp(&in_scale(right))
}

fn compares(order: Ordering, comparison: Comparison) -> bool {
    match comparison {
        Comparison::Greater => order.is_gt(),
        Comparison::GreaterOrEqual => order.is_ge(),
        Comparison::Less => order.is_lt(),
        Comparison::LessOrEqual => order.is_le(),
        Comparison::Equal => order.is_eq(),
        Comparison::NotEqual => order.is_ne(),
    }
}

/// `now - interval` in UTC: months first, then days, then the rest.
fn earlier(now: Timestamp, back: &Interval) -> Result<Timestamp, String> {
    let at = DateTime::from_timestamp_micros(now.0)
        .and_then(|at| at.checked_sub_months(Months::new(back.months)))
        .and_then(|at| at.checked_sub_days(Days::new(u64::from(back.days))))
        .ok_or("timestamp out of range")?;
    Ok(Timestamp(at.timestamp_micros().saturating_sub(back.micros)))
}
