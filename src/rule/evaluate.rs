//! What one row contributes to a rule, and whether HAVING holds: the in-memory twin of the query.
//!
//! Where memory cannot evaluate exactly it says so ([`Evaluation::Unknown`]) and Postgres is asked; it never guesses.

use std::sync::Arc;

use smallvec::SmallVec;

pub use super::reach::LeftEdge;
use super::reach::Reach;
use super::{Aggregate, Comparison, Output, OutputExpr, Query, Scalar, TimeBound};
use crate::change::{Hole, HoleCause};
use crate::model::{ColumnType, DECIMAL_LIMIT, Key, Timestamp, Value};

/// The arguments of a rule's aggregates for one row, in the order of [`Query::aggregates`] without COUNT(*).
pub type Args = SmallVec<[Value; 1]>;

/// Whether HAVING holds for a group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Evaluation {
    /// It does.
    Holds,
    /// It does not, or is NULL, or the group has no rows.
    #[default]
    Fails,
    /// Memory cannot tell: a NaN, an infinity, a number past its limits.
    Unknown,
}

/// What the windows hold of a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parts {
    /// The group that it belongs to.
    pub key: Key,
    /// The time that the bound looks at, as the column has it; `None` where no bound admits it.
    pub time: Option<Timestamp>,
    /// The arguments of the aggregates.
    pub args: Args,
}

/// What a query takes from the rows that a decoder yields.
#[derive(Clone, Debug)]
pub struct Program {
    key: Vec<usize>,
    time: Option<usize>,
    /// Microseconds that the stream's times may lack.
    time_slack: i128,
    args: Vec<SlotScalar>,
    aggregates: Vec<RunningKind>,
    outputs: Vec<Output>,
    reach: Option<Reach>,
    having: HavingProgram,
}

/// A [`Scalar`] over the slots of a decoded row.
#[derive(Clone, Debug)]
enum SlotScalar {
    Slot(usize),
    Abs(Box<SlotScalar>),
}

#[derive(Clone, Copy, Debug)]
enum RunningKind {
    CountRows,
    Sum { arg: usize, scale: u8 },
}

#[derive(Clone, Copy, Debug)]
struct HavingProgram {
    aggregate: usize,
    comparison: Comparison,
    /// Brings the aggregate to the scale of `threshold`.
    factor: i128,
    /// `None`: outside of what memory can compare.
    threshold: Option<i128>,
}

/// The running aggregates of one group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Running {
    rows: u64,
    sums: SmallVec<[Sum; 1]>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Sum {
    total: i128,
    /// Rows whose argument is not NULL: a sum over none is NULL.
    present: u64,
    /// Rows whose argument memory cannot add.
    opaque: u64,
}

impl Program {
    /// Compiles a query against the columns that the decoder yields: `wanted` are their indexes in the table.
    ///
    /// # Errors
    /// A column of the query that is not among `wanted`.
    pub fn new(query: &Query, wanted: &[usize]) -> Result<Self, String> {
        let slot = |column: usize| {
            wanted.iter().position(|w| *w == column).ok_or_else(|| format!("column {column} is not decoded"))
        };
        let mut args = Vec::new();
        let mut aggregates = Vec::new();
        for aggregate in &query.aggregates {
            aggregates.push(match aggregate {
                Aggregate::CountRows => RunningKind::CountRows,
                Aggregate::Sum(scalar) => {
                    args.push(slot_scalar(scalar, &slot)?);
                    RunningKind::Sum { arg: args.len() - 1, scale: scale_of(scalar, query)? }
                }
            });
        }
        let having = HavingProgram::new(query, &aggregates)?;
        Ok(Self {
            key: query.group_by.iter().map(|column| slot(*column)).collect::<Result<_, _>>()?,
            time: query.bound.as_ref().map(|bound| slot(bound.column)).transpose()?,
            time_slack: query.bound.as_ref().map_or(0, |bound| time_slack(query, bound)),
            args,
            aggregates,
            outputs: query.outputs.clone(),
            reach: query.bound.as_ref().map(|bound| Reach::new(bound, is_local(query, bound), Arc::clone(&query.zone))),
            having,
        })
    }

    /// The group that a row belongs to.
    pub fn key(&self, row: &[Value]) -> Key {
        if let [slot] = self.key.as_slice()
            && let Some(Value::Int(n)) = row.get(*slot)
        {
            return Key::Int(*n);
        }
        Key::new(self.key.iter().map(|slot| row.get(*slot).cloned().unwrap_or(Value::Null)).collect())
    }

    /// The time that the bound looks at: `None` when it is NULL, which no bound admits. Rules without a
    /// bound admit every row at one same time.
    pub fn time(&self, row: &[Value]) -> Option<Timestamp> {
        match self.time {
            None => Some(Timestamp(0)),
            Some(slot) => match row.get(slot) {
                Some(Value::Time(at)) => Some(*at),
                _ => None,
            },
        }
    }

    /// Whether there is a time bound.
    pub fn is_bounded(&self) -> bool {
        self.time.is_some()
    }

    /// Microseconds at most that the time of a row in the stream may be behind the table's.
    pub fn time_slack(&self) -> i128 {
        self.time_slack
    }

    /// The arguments of the aggregates.
    pub fn args(&self, row: &[Value]) -> Args {
        self.args.iter().map(|scalar| scalar.evaluate(row)).collect()
    }

    /// What the windows hold of a row.
    pub fn parts(&self, row: &[Value]) -> Parts {
        Parts { key: self.key(row), time: self.time(row), args: self.args(row) }
    }

    /// Whether the query reads this slot.
    pub fn reads(&self, slot: usize) -> bool {
        self.key.contains(&slot) || self.time == Some(slot) || self.args.iter().any(|arg| arg.slot() == slot)
    }

    /// What the windows hold of a row that does not say all of its columns, and whether it is all that they need. What was
    /// left as it was is taken from `held`, the row before. `None`: its key or its time is not known.
    pub fn parts_of(&self, row: &[Value], holes: &[Hole], held: Option<(&Key, &Parts)>) -> (Option<Parts>, bool) {
        let cause = |slot: usize| holes.iter().find(|hole| hole.slot == slot).map(|hole| hole.cause);
        let known = |slot: usize| match (cause(slot), held) {
            (None, _) => Some(None),
            (Some(HoleCause::Unchanged), Some(held)) => Some(Some(held)),
            (Some(_), _) => None,
        };
        let mut values = Vec::with_capacity(self.key.len());
        for (place, slot) in self.key.iter().enumerate() {
            match known(*slot) {
                Some(None) => values.push(row.get(*slot).cloned().unwrap_or(Value::Null)),
                Some(Some((key, _))) => values.push(key.values().into_iter().nth(place).unwrap_or(Value::Null)),
                None => return (None, false),
            }
        }
        let time = match self.time.map(known) {
            None | Some(Some(None)) => self.time(row),
            Some(Some(Some((_, parts)))) => parts.time,
            Some(None) => return (None, false),
        };
        let mut is_complete = true;
        let args = self.args.iter().enumerate().map(|(place, arg)| match known(arg.slot()) {
            Some(None) => arg.evaluate(row),
            Some(Some((_, parts))) => parts.args.get(place).cloned().unwrap_or(Value::Opaque),
            None => {
                is_complete = false;
                Value::Opaque
            }
        });
        let args = args.collect();
        (Some(Parts { key: Key::new(values), time, args }), is_complete)
    }

    /// The instant of a row's time: local time counts in the time zone of the query.
    pub fn instant(&self, time: Timestamp) -> Timestamp {
        self.reach.as_ref().map_or(time, |reach| reach.instant(time))
    }

    /// The left edge at `now`: NOW() − interval as Postgres calculates it in the time zone of the query.
    pub fn left_edge(&self, now: Timestamp) -> LeftEdge {
        self.reach.as_ref().map_or(LeftEdge::NONE, |reach| reach.left_edge(now))
    }

    /// Whether a row that stands at this instant is inside of this edge, or may be inside of a later one.
    pub fn holds(&self, edge: LeftEdge, at: Timestamp) -> bool {
        self.reach.as_ref().is_none_or(|reach| reach.holds(edge, at))
    }

    /// Whether the edge keeps its distance from NOW() for ever.
    pub fn is_steady(&self) -> bool {
        self.reach.as_ref().is_none_or(Reach::is_steady)
    }

    /// When a group is to be looked at again, if no row comes or goes: see `reach`. `inside` is the first of its rows inside
    /// of the window at `now`, `outside` the first of those that are held outside.
    pub fn next_look(
        &self,
        now: Timestamp,
        inside: Option<Timestamp>,
        outside: Option<Timestamp>,
    ) -> Option<Timestamp> {
        self.reach.as_ref().and_then(|reach| reach.next_look(now, inside, outside))
    }

    /// Empty aggregates.
    pub fn start(&self) -> Running {
        Running { rows: 0, sums: self.args.iter().map(|_| Sum::default()).collect() }
    }

    /// Whether HAVING holds.
    pub fn evaluate(&self, running: &Running) -> Evaluation {
        if running.rows == 0 {
            return Evaluation::Fails;
        }
        let value = match self.aggregates.get(self.having.aggregate) {
            Some(RunningKind::CountRows) => i128::from(running.rows),
            Some(RunningKind::Sum { arg, .. }) => match running.sums.get(*arg) {
                Some(sum) if sum.opaque > 0 => return Evaluation::Unknown,
                Some(sum) if sum.present > 0 => sum.total,
                _ => return Evaluation::Fails,
            },
            None => return Evaluation::Unknown,
        };
        match (value.checked_mul(self.having.factor), self.having.threshold) {
            (Some(value), Some(threshold)) if self.having.comparison.holds(value, threshold) => Evaluation::Holds,
            (Some(_), Some(_)) => Evaluation::Fails,
            _ => Evaluation::Unknown,
        }
    }

    /// The aggregate that HAVING compares, unscaled, with its scale; `None`: no rows, or memory cannot tell.
    fn compared(&self, running: &Running) -> Option<(i128, u8)> {
        if running.rows == 0 {
            return None;
        }
        match self.aggregates.get(self.having.aggregate)? {
            RunningKind::CountRows => Some((i128::from(running.rows), 0)),
            RunningKind::Sum { arg, scale } => {
                let sum = running.sums.get(*arg).filter(|sum| sum.opaque == 0 && sum.present > 0)?;
                Some((sum.total, *scale))
            }
        }
    }

    /// The aggregate that HAVING compares, as text.
    pub fn measure(&self, running: &Running) -> Option<String> {
        self.compared(running).map(|(value, scale)| crate::model::decimal_text(value, scale))
    }

    /// Orders groups by how far HAVING is from failing (greater: further), for show.
    pub fn rank(&self, running: &Running) -> Option<i128> {
        let (value, _) = self.compared(running)?;
        match self.having.comparison {
            Comparison::Less | Comparison::LessOrEqual => value.checked_neg(),
            _ => Some(value),
        }
    }

    /// The outputs that are aggregates, as the alert shows them: COUNT as a number, sums as exact text in
    /// the column's scale, NULL and what memory cannot tell as null.
    pub fn outputs(&self, running: &Running) -> serde_json::Map<String, serde_json::Value> {
        let mut shown = serde_json::Map::new();
        for output in &self.outputs {
            let OutputExpr::Aggregate(index) = output.expr else { continue };
            let value = match self.aggregates.get(index) {
                Some(RunningKind::CountRows) => serde_json::Value::from(running.rows),
                Some(RunningKind::Sum { arg, scale }) => match running.sums.get(*arg) {
                    Some(sum) if sum.opaque == 0 && sum.present > 0 => {
                        crate::model::decimal_text(sum.total, *scale).into()
                    }
                    _ => serde_json::Value::Null,
                },
                None => serde_json::Value::Null,
            };
            shown.insert(output.name.clone(), value);
        }
        shown
    }
}

impl HavingProgram {
    fn new(query: &Query, aggregates: &[RunningKind]) -> Result<Self, String> {
        let having = &query.having;
        let scale = match aggregates.get(having.aggregate) {
            Some(RunningKind::CountRows) => 0,
            Some(RunningKind::Sum { scale, .. }) => u32::from(*scale),
            None => return Err(format!("HAVING names aggregate {}", having.aggregate)),
        };
        let common = scale.max(having.threshold.scale());
        let power = |from: u32| 10_i128.checked_pow(common - from);
        Ok(Self {
            aggregate: having.aggregate,
            comparison: having.comparison,
            factor: power(scale).ok_or_else(|| format!("a scale of {common} digits"))?,
            threshold: power(having.threshold.scale()).and_then(|p| having.threshold.mantissa().checked_mul(p)),
        })
    }
}

impl Comparison {
    fn holds(self, left: i128, right: i128) -> bool {
        match self {
            Self::Greater => left > right,
            Self::GreaterOrEqual => left >= right,
            Self::Less => left < right,
            Self::LessOrEqual => left <= right,
            Self::Equal => left == right,
            Self::NotEqual => left != right,
        }
    }
}

impl Running {
    /// Puts a row in.
    pub fn add(&mut self, args: &Args) {
        self.rows += 1;
        for (sum, arg) in self.sums.iter_mut().zip(args) {
            match number(arg) {
                Some(n) => (sum.total, sum.present) = (sum.total.wrapping_add(n), sum.present + 1),
                None if matches!(arg, Value::Null) => {}
                None => (sum.opaque, sum.present) = (sum.opaque + 1, sum.present + 1),
            }
        }
    }

    /// Takes a row out that was put in before.
    pub fn remove(&mut self, args: &Args) {
        self.rows = self.rows.saturating_sub(1);
        for (sum, arg) in self.sums.iter_mut().zip(args) {
            match number(arg) {
                Some(n) => {
                    (sum.total, sum.present) = (sum.total.wrapping_sub(n), sum.present.saturating_sub(1));
                }
                None if matches!(arg, Value::Null) => {}
                None => {
                    (sum.opaque, sum.present) = (sum.opaque.saturating_sub(1), sum.present.saturating_sub(1));
                }
            }
        }
    }

    /// Rows in it.
    pub fn rows(&self) -> u64 {
        self.rows
    }
}

/// The number of an aggregate's argument, where memory can add it.
fn number(arg: &Value) -> Option<i128> {
    match arg {
        Value::Int(n) => Some(i128::from(*n)),
        Value::Decimal(n) if n.abs() < DECIMAL_LIMIT => Some(*n),
        _ => None,
    }
}

impl SlotScalar {
    /// The slot that it reads.
    fn slot(&self) -> usize {
        match self {
            Self::Slot(slot) => *slot,
            Self::Abs(inner) => inner.slot(),
        }
    }

    fn evaluate(&self, row: &[Value]) -> Value {
        match self {
            Self::Slot(slot) => row.get(*slot).cloned().unwrap_or(Value::Null),
            Self::Abs(inner) => match inner.evaluate(row) {
                // Postgres raises an error for the least integer; it is asked then.
                Value::Int(n) => n.checked_abs().map_or(Value::Opaque, Value::Int),
                Value::Decimal(n) => n.checked_abs().map_or(Value::Opaque, Value::Decimal),
                other => other,
            },
        }
    }
}

fn slot_scalar(scalar: &Scalar, slot: &impl Fn(usize) -> Result<usize, String>) -> Result<SlotScalar, String> {
    Ok(match scalar {
        Scalar::Column(column) => SlotScalar::Slot(slot(*column)?),
        Scalar::Abs(inner) => SlotScalar::Abs(Box::new(slot_scalar(inner, slot)?)),
    })
}

/// Whether the bound's column holds local times.
fn is_local(query: &Query, bound: &TimeBound) -> bool {
    query.table.columns.get(bound.column).is_some_and(|column| column.ty.is_local())
}

/// A connector with `time.precision.mode=connect` writes a timestamp without time zone in whole milliseconds, rounded down.
fn time_slack(query: &Query, bound: &TimeBound) -> i128 {
    match query.table.columns.get(bound.column).map(|column| &column.ty) {
        Some(ColumnType::Timestamp { precision: 4.. }) => 999,
        _ => 0,
    }
}

fn scale_of(scalar: &Scalar, query: &Query) -> Result<u8, String> {
    match scalar {
        Scalar::Column(column) => query
            .table
            .columns
            .get(*column)
            .and_then(|column| column.ty.scale())
            .ok_or_else(|| format!("column {column} is not a number")),
        Scalar::Abs(inner) => scale_of(inner, query),
    }
}
