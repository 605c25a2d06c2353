//! The query as memory evaluates it: the contribution of a row to a rule, and HAVING. Pure.
//!
//! - this file: a compiled query
//! - [`expression`]: values of expressions
//! - [`aggregates`], [`running`]: the stored values of rows, and the aggregates of them
//! - [`timing`]: the effects of time
//! - [`touched`]: the keys that a row touches in a rule that Postgres alone evaluates
//! - [`scalar`], [`floats`], [`like`]: the values and operations of expressions
//!
//! If memory cannot evaluate exactly, the result is [`Evaluation::Unknown`]. Then Postgres is asked.

mod aggregates;
mod expression;
mod floats;
mod like;
mod running;
mod scalar;
mod times;
mod timing;
mod touched;

use std::sync::Arc;

use smallvec::SmallVec;

pub use super::edges::LeftEdge;
pub use running::Running;
pub use timing::{EdgeTimes, Moments, Place};

use super::expression::{AggregateFunction, Comparison, Expression, Type};
use super::{Output, OutputExpr, Query, TimeBound};
use crate::change::{Hole, HoleCause};
use crate::model::zone::Zone;
use crate::model::{ColumnType, Double, Key, Timestamp, Value};
use aggregates::{Arg, RunningKind, in_slots};
use expression::{GroupValues, RowValues, digits_of, evaluate};
use scalar::{Digits, Scalar};
use timing::{Taken, Timing};

/// The arguments of a rule's aggregates for one row, in the order of [`Query::aggregates`] without COUNT(*). An
/// argument is NULL if FILTER leaves the row out. If memory cannot evaluate WHERE for the row, one more value follows.
/// If a row's contribution changes with time, windows hold the values from which the arguments are calculated instead.
pub type Args = SmallVec<[Value; 1]>;

/// Whether HAVING holds for a group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Evaluation {
    /// HAVING holds.
    Holds,
    /// HAVING does not hold or is NULL, or the group has no rows.
    #[default]
    Fails,
    /// Memory cannot evaluate it: a NaN, an infinity, or a number past the limits.
    Unknown,
}

/// The values of a row that the windows hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parts {
    /// The key of the row's group.
    pub key: Key,
    /// The time in the column of the time bound, as stored. `None` where WHERE does not admit the row at any time.
    pub time: Option<Timestamp>,
    /// The arguments of the aggregates.
    pub args: Args,
}

/// The compiled query, which takes its values from the rows of a decoder.
#[derive(Clone, Debug)]
pub struct Program {
    key: Vec<KeyPart>,
    time: Option<usize>,
    /// By how many microseconds the stream's times may be less than the table's.
    time_slack: i128,
    /// The digits of the decimals in each slot.
    digits: Vec<Digits>,
    /// WHERE without the part that the window evaluates.
    condition: Option<Expression>,
    args: Vec<Arg>,
    aggregates: Vec<RunningKind>,
    outputs: Vec<Output>,
    timing: Timing,
    /// Whether the column of the time bound has local times.
    is_bound_local: bool,
    having: Having,
    /// The aggregate that HAVING compares with a number, and the comparison.
    threshold: Option<(usize, Comparison)>,
    zone: Arc<Zone>,
    /// How changes of each table touch keys, for a rule that Postgres alone evaluates. The query's table is first.
    touches: Option<Vec<touched::Touches>>,
}

/// A value of the key, taken from a slot or calculated from some.
#[derive(Clone, Debug)]
enum KeyPart {
    Slot(usize),
    Computed { expression: Expression, scale: u8 },
}

impl KeyPart {
    fn slots(&self) -> Vec<usize> {
        match self {
            Self::Slot(slot) => vec![*slot],
            Self::Computed { expression, scale: _ } => expression.columns(),
        }
    }
}

/// HAVING as a tree. A single comparison with a number has a form of its own.
#[derive(Clone, Debug)]
enum Having {
    Any(Expression),
    One {
        aggregate: usize,
        comparison: Comparison,
        /// The factor from the aggregate's scale to the scale of `threshold`.
        factor: i128,
        /// The number. `None`: memory cannot compare with it.
        threshold: Option<i128>,
    },
}

impl Program {
    /// Compiles a query against the columns of the decoder. `wanted` has their indexes in the table.
    ///
    /// # Errors
    /// A column of the query is not in `wanted`.
    pub fn new(query: &Query, wanted: &[usize]) -> Result<Self, String> {
        let slot = |column: usize| {
            wanted.iter().position(|w| *w == column).ok_or_else(|| format!("column {column} is not decoded"))
        };
        let taken = Taken::new(query)?;
        let query = &taken.query;
        let mut args = Vec::new();
        for aggregate in &query.aggregates {
            args.extend(Arg::of(query, aggregate, &slot)?);
        }
        let aggregates = RunningKind::all(query);
        let condition = query.condition().cloned().map(|condition| in_slots(condition, &slot)).transpose()?;
        let digits = |column: &usize| digits_of(&Expression::Column(*column), query);
        Ok(Self {
            key: query.group_by.iter().map(|column| key_part(query, *column, &slot)).collect::<Result<_, _>>()?,
            time: query.bound.as_ref().map(|bound| slot(bound.column)).transpose()?,
            time_slack: query.bound.as_ref().map_or(0, |bound| time_slack(query, bound)),
            digits: wanted.iter().map(digits).collect(),
            condition,
            args,
            having: Having::new(query, &aggregates),
            threshold: query.threshold().map(|threshold| (threshold.aggregate, threshold.comparison)),
            aggregates,
            outputs: query.outputs.clone(),
            timing: Timing::new(&taken, wanted)?,
            is_bound_local: query.bound.as_ref().is_some_and(|bound| is_local(query, bound)),
            zone: Arc::clone(&query.zone),
            touches: match &query.text {
                None => None,
                Some(text) => Some(vec![touched::Touches::new(&query.table, &text.touches, &slot)?]),
            },
        })
    }

    /// Returns the key of a row's group.
    pub fn key(&self, row: &[Value]) -> Key {
        if let [KeyPart::Slot(slot)] = self.key.as_slice()
            && let Some(Value::Int(n)) = row.get(*slot)
        {
            return Key::Int(*n);
        }
        Key::new(self.key.iter().map(|part| self.key_value(part, row)).collect())
    }

    fn key_value(&self, part: &KeyPart, row: &[Value]) -> Value {
        match part {
            KeyPart::Slot(slot) => row.get(*slot).cloned().unwrap_or(Value::Null),
            KeyPart::Computed { expression, scale } => {
                let values = RowValues { row, digits: &self.digits, holes: &[], edges: None, zone: &self.zone };
                evaluate(expression, &values).kept(*scale, false)
            }
        }
    }

    /// Returns the time for the time bound. `None` if it is NULL, which no bound admits. Without a time bound, every
    /// row has the same time.
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

    /// By how many microseconds at most a row's time in the stream may be less than in the table.
    pub fn time_slack(&self) -> i128 {
        self.time_slack
    }

    /// Returns the values of a row that the windows hold.
    pub fn parts(&self, row: &[Value]) -> Parts {
        self.parts_at(row, &[], self.key(row), self.time(row))
    }

    /// Returns the values of a row whose key and time are known. The values of holes are unknown.
    fn parts_at(&self, row: &[Value], holes: &[Hole], key: Key, time: Option<Timestamp>) -> Parts {
        if let Some(kept) = &self.timing.kept {
            let is_hole = |slot: usize| holes.iter().any(|hole| hole.slot == slot);
            let value = |slot: &usize| match row.get(*slot) {
                _ if is_hole(*slot) => Value::Opaque,
                value => value.cloned().unwrap_or(Value::Null),
            };
            let args = kept.slots.iter().map(value).collect();
            return self.kept_parts(key, time, args);
        }
        let values = RowValues { row, digits: &self.digits, holes, edges: None, zone: &self.zone };
        let is_admitted = self.condition.as_ref().map_or(Scalar::Bool(true), |condition| evaluate(condition, &values));
        let mut args: Args = SmallVec::new();
        let time = match is_admitted {
            Scalar::Bool(true) | Scalar::Unknown => time,
            _ => return Parts { key, time: None, args },
        };
        args.extend(self.args.iter().map(|arg| arg.value(&values)));
        if is_admitted == Scalar::Unknown {
            args.push(Value::Opaque);
        }
        Parts { key, time, args }
    }

    /// Returns the held values of a row whose contribution changes with time.
    fn kept_parts(&self, key: Key, time: Option<Timestamp>, args: Args) -> Parts {
        let Some(kept) = &self.timing.kept else { return Parts { key, time, args } };
        let values = kept.values(&args, None, &self.zone);
        let time = match kept.admitted(&values) {
            Scalar::Bool(true) | Scalar::Unknown if self.is_bounded() => time,
            Scalar::Bool(true) | Scalar::Unknown => Some(kept.first_place(&values)),
            _ => None,
        };
        Parts { key, time, args }
    }

    /// Whether the query reads this slot.
    pub fn reads(&self, slot: usize) -> bool {
        self.key.iter().any(|part| part.slots().contains(&slot))
            || self.time == Some(slot)
            || self.condition.iter().any(|condition| condition.columns().contains(&slot))
            || self.args.iter().any(|arg| arg.reads(slot))
    }

    /// Returns the held values of a row with missing columns, and whether they are complete. Unchanged columns are
    /// taken from `held`, the previous row. `None`: the key or the time is not known.
    pub fn parts_of(&self, row: &[Value], holes: &[Hole], held: Option<(&Key, &Parts)>) -> (Option<Parts>, bool) {
        let cause = |slot: usize| holes.iter().find(|hole| hole.slot == slot).map(|hole| hole.cause);
        let known = |slot: usize| match (cause(slot), held) {
            (None, _) => Some(None),
            (Some(HoleCause::Unchanged), Some(held)) => Some(Some(held)),
            (Some(_), _) => None,
        };
        let mut values = Vec::with_capacity(self.key.len());
        for (place, part) in self.key.iter().enumerate() {
            let slots = part.slots();
            let is_whole = slots.iter().all(|slot| cause(*slot).is_none());
            match (is_whole, slots.as_slice()) {
                (true, _) => values.push(self.key_value(part, row)),
                (false, [slot]) if let Some(Some((key, _))) = known(*slot) => {
                    values.push(key.values().into_iter().nth(place).unwrap_or(Value::Null));
                }
                _ => return (None, false),
            }
        }
        let time = match self.time.map(known) {
            None | Some(Some(None)) => self.time(row),
            Some(Some(Some((_, parts)))) => parts.time,
            Some(None) => return (None, false),
        };
        if let Some(kept) = &self.timing.kept {
            let mut args: Args = SmallVec::with_capacity(kept.slots.len());
            for (place, slot) in kept.slots.iter().enumerate() {
                args.push(match known(*slot) {
                    Some(None) => row.get(*slot).cloned().unwrap_or(Value::Null),
                    Some(Some((_, before))) => before.args.get(place).cloned().unwrap_or(Value::Opaque),
                    None => Value::Opaque,
                });
            }
            let is_complete = kept.slots.iter().all(|slot| known(*slot).is_some());
            return (Some(self.kept_parts(Key::new(values), time, args)), is_complete);
        }
        let mut parts = self.parts_at(row, holes, Key::new(values), time);
        if parts.time.is_none() {
            return (Some(parts), true);
        }
        let mut is_complete = parts.args.len() == self.args.len();
        for (place, (arg, value)) in self.args.iter().zip(&mut parts.args).enumerate() {
            // An argument of only this column keeps its value. One of several columns cannot be calculated here.
            match (arg.slots().as_slice(), arg.slots().iter().find_map(|slot| cause(*slot))) {
                (_, None) => {}
                ([slot], Some(_)) if let Some(Some((_, before))) = known(*slot) => {
                    *value = before.args.get(place).cloned().unwrap_or(Value::Opaque);
                }
                _ => {
                    *value = Value::Opaque;
                    is_complete = false;
                }
            }
        }
        (Some(parts), is_complete)
    }

    /// Returns the instant of a row's time. A local time is in the time zone of the query.
    pub fn instant(&self, time: Timestamp) -> Timestamp {
        if self.is_bound_local { self.zone.instant(time.0) } else { time }
    }

    /// Returns empty aggregates.
    pub fn start(&self) -> Running {
        Running::new(self.args.iter().map(|arg| (arg.is_counted, arg.is_summed)))
    }

    /// Whether HAVING holds of the aggregates at these edges.
    pub fn evaluate(&self, running: &Running, edges: &[Timestamp]) -> Evaluation {
        if self.touches.is_some() {
            return Evaluation::Unknown;
        }
        if running.is_doubtful() {
            return Evaluation::Unknown;
        }
        if running.rows() == 0 {
            return Evaluation::Fails;
        }
        let holds = match &self.having {
            Having::Any(having) => evaluate(having, &self.group_values(running, edges)),
            Having::One { aggregate, comparison, factor, threshold } => {
                let value = self.aggregates.get(*aggregate).map_or(Scalar::Unknown, |kind| running.value(kind));
                match value.decimal() {
                    Some((value, _)) => match (value.checked_mul(*factor), threshold) {
                        (Some(value), Some(threshold)) => Scalar::Bool(comparison.holds(value.cmp(threshold))),
                        _ => Scalar::Unknown,
                    },
                    None => value,
                }
            }
        };
        match holds {
            Scalar::Bool(true) => Evaluation::Holds,
            Scalar::Bool(false) | Scalar::Null => Evaluation::Fails,
            _ => Evaluation::Unknown,
        }
    }

    /// Returns the aggregate that HAVING compares with a number. `None`: there is none, there are no rows, or memory
    /// cannot evaluate it.
    fn compared(&self, running: &Running) -> Option<(i128, Digits)> {
        if running.rows() == 0 || running.is_doubtful() {
            return None;
        }
        let (aggregate, _) = self.threshold?;
        running.value(self.aggregates.get(aggregate)?).decimal()
    }

    /// Returns the aggregate that HAVING compares, as text.
    pub fn measure(&self, running: &Running) -> Option<String> {
        self.compared(running).map(|(value, digits)| crate::model::decimal_text(value, digits.scale))
    }

    /// Returns a number that orders groups by how far HAVING is from failing (greater: further), for display.
    pub fn rank(&self, running: &Running) -> Option<i128> {
        let (value, _) = self.compared(running)?;
        match self.threshold?.1 {
            Comparison::Less | Comparison::LessOrEqual => value.checked_neg(),
            _ => Some(value),
        }
    }

    fn group_values<'a>(&'a self, running: &'a Running, edges: &'a [Timestamp]) -> GroupValues<'a> {
        GroupValues { aggregates: &self.aggregates, running, edges, zone: &self.zone }
    }

    /// Returns the outputs over aggregates at these edges, as an alert shows them. COUNT is a number, and everything
    /// else is Postgres's text of it. NULL and values that memory cannot calculate are null.
    pub fn outputs(&self, running: &Running, edges: &[Timestamp]) -> serde_json::Map<String, serde_json::Value> {
        let shown = self.values(running, edges).map(|(name, value)| (name.to_owned(), value.unwrap_or_default()));
        shown.collect()
    }

    /// Whether memory cannot calculate some of the outputs.
    pub fn has_unknown(&self, running: &Running, edges: &[Timestamp]) -> bool {
        self.values(running, edges).any(|(_, value)| value.is_none())
    }

    /// Returns the outputs over aggregates. `None` for values that memory cannot calculate.
    fn values<'a>(
        &'a self,
        running: &'a Running,
        edges: &'a [Timestamp],
    ) -> impl Iterator<Item = (&'a str, Option<serde_json::Value>)> {
        let values = self.group_values(running, edges);
        self.outputs.iter().filter_map(move |output| {
            let OutputExpr::Value(expression, ty) = &output.expr else { return None };
            let kind = output.aggregate().and_then(|index| self.aggregates.get(index));
            let is_count = kind.is_some_and(|kind| kind.function.is_count());
            let value = match evaluate(expression, &values) {
                _ if running.is_doubtful() => None,
                Scalar::Int(value) if is_count => Some(value.into()),
                Scalar::Int(value) => Some(value.to_string().into()),
                Scalar::Decimal(value, digits) => Some(crate::model::decimal_text(value, digits.scale).into()),
                Scalar::Bool(value) => Some(value.to_string().into()),
                Scalar::Time(at) => self.time_text(at, *ty).map(Into::into),
                Scalar::Text(text) => Some(text.into()),
                Scalar::Null => Some(serde_json::Value::Null),
                Scalar::Double(value) => Double::new(value).map(|value| value.text(*ty == Type::Float4).into()),
                Scalar::Between(..) | Scalar::Span(_) | Scalar::Unknown => None,
            };
            Some((output.name.as_str(), value))
        })
    }

    /// Returns a time as a session in the query's time zone shows it. `None` outside of the years 1 to 9999.
    fn time_text(&self, at: Timestamp, ty: Type) -> Option<String> {
        match at {
            Timestamp::MAX => return Some("infinity".to_owned()),
            Timestamp::MIN => return Some("-infinity".to_owned()),
            _ => {}
        }
        let local = if ty == Type::TimestampTz { Timestamp(self.zone.local(at)) } else { at };
        local.date()?;
        let shown = chrono::DateTime::from_timestamp_micros(local.0)?;
        if ty == Type::Date {
            return Some(shown.format("%Y-%m-%d").to_string());
        }
        let mut text = shown.format("%Y-%m-%d %H:%M:%S%.6f").to_string();
        let end = text.trim_end_matches('0').trim_end_matches('.').len();
        text.truncate(end);
        if ty == Type::TimestampTz {
            text.push_str(&offset_text((local.0 - at.0) / 1_000_000));
        }
        Some(text)
    }
}

/// Returns an offset in seconds in Postgres's form: `+02`, `-03:30`, `+00:53:28`.
fn offset_text(seconds: i64) -> String {
    let sign = if seconds < 0 { '-' } else { '+' };
    let seconds = seconds.abs();
    let (hours, minutes, rest) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
    match (minutes, rest) {
        (0, 0) => format!("{sign}{hours:02}"),
        (_, 0) => format!("{sign}{hours:02}:{minutes:02}"),
        _ => format!("{sign}{hours:02}:{minutes:02}:{rest:02}"),
    }
}

impl Having {
    fn new(query: &Query, aggregates: &[RunningKind]) -> Self {
        let any = || Self::Any(query.having.clone());
        let (Expression::Compare(..), Some(threshold)) = (&query.having, query.threshold()) else { return any() };
        let Some(kind) = aggregates.get(threshold.aggregate) else { return any() };
        let scale = match kind.function {
            AggregateFunction::Sum => u32::from(kind.digits.scale),
            function if function.is_count() => 0,
            _ => return any(),
        };
        let common = scale.max(threshold.value.scale());
        let power = |from: u32| 10_i128.checked_pow(common - from);
        let Some(factor) = power(scale) else { return any() };
        Self::One {
            aggregate: threshold.aggregate,
            comparison: threshold.comparison,
            factor,
            threshold: power(threshold.value.scale()).and_then(|p| threshold.value.mantissa().checked_mul(p)),
        }
    }
}

fn key_part(query: &Query, column: usize, slot: &impl Fn(usize) -> Result<usize, String>) -> Result<KeyPart, String> {
    match query.computed(column) {
        None => slot(column).map(KeyPart::Slot),
        Some(expression) => {
            let scale = digits_of(expression, query).scale;
            Ok(KeyPart::Computed { expression: in_slots(expression.clone(), slot)?, scale })
        }
    }
}

/// Whether the column of the bound has local times.
fn is_local(query: &Query, bound: &TimeBound) -> bool {
    query.table.columns.get(bound.column).is_some_and(|column| column.ty.is_local())
}

/// Returns the slack of a time bound. With `time.precision.mode=connect`, a connector writes a timestamp without time
/// zone in whole milliseconds, rounded down.
fn time_slack(query: &Query, bound: &TimeBound) -> i128 {
    match query.table.columns.get(bound.column).map(|column| &column.ty) {
        Some(ColumnType::Timestamp { precision: 4.. }) => 999,
        _ => 0,
    }
}
