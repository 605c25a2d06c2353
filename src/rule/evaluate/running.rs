//! The running aggregates of one group. Adding or removing a row never looks at other rows.

use std::collections::BTreeMap;

use smallvec::SmallVec;

use super::Args;
use super::aggregates::RunningKind;
use super::floats::{self, Summed};
use super::scalar::{Digits, Scalar, quotient};
use crate::model::{DECIMAL_LIMIT, Value};
use crate::planted;
use crate::rule::expression::{AggregateFunction, Type};

/// The running aggregates of one group. There are as many as keys, so the parts that most rules do not need are
/// separate.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Running {
    rows: u64,
    apart: Option<Box<Apart>>,
    tallies: SmallVec<[Tally; 1]>,
}

/// The parts that most rules do not need.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Apart {
    /// The number of rows for which memory cannot evaluate WHERE.
    doubtful: u64,
    /// The number of rows with each value, for arguments that need it.
    values: Vec<Option<BTreeMap<Value, u64>>>,
    /// Further facts that bound a sum of floating point. Empty where there is none.
    floats: Vec<Size>,
}

/// Facts about the numbers in a sum of floating point.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Size {
    /// The sum of their absolute values.
    size: i128,
    /// The number of values that are not multiples of 1/1024.
    fine: u64,
}

/// The stored values of an argument.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Tally {
    /// The sum. For conditions: the number of true ones.
    total: i128,
    /// The number of rows whose argument is not NULL. Without any, most aggregates are NULL.
    present: u64,
    /// The number of rows with an argument that memory cannot calculate with.
    opaque: u64,
}

impl Running {
    /// Creates empty aggregates for these arguments: whether each value is counted, and whether the argument is summed
    /// floating point.
    pub(super) fn new(arguments: impl Iterator<Item = (bool, bool)>) -> Self {
        let mut running = Self::default();
        let (mut values, mut has_floats) = (Vec::new(), false);
        for (is_counted, is_summed) in arguments {
            running.tallies.push(Tally::default());
            values.push(is_counted.then(BTreeMap::new));
            has_floats |= is_summed;
        }
        let floats = if has_floats { vec![Size::default(); values.len()] } else { Vec::new() };
        let is_needed = has_floats || values.iter().any(Option::is_some);
        running.apart = is_needed.then(|| Box::new(Apart { doubtful: 0, values, floats }));
        running
    }

    /// Adds a row.
    pub fn add(&mut self, args: &Args) {
        self.rows += 1;
        for (tally, arg) in self.tallies.iter_mut().zip(args) {
            tally.add(arg);
        }
        if args.len() > self.tallies.len() {
            self.apart.get_or_insert_default().doubtful += 1;
        }
        for (values, arg) in self.counted(args) {
            *values.entry(arg.clone()).or_default() += 1;
        }
        for (size, (n, is_coarse)) in self.floats(args) {
            (size.size, size.fine) = (size.size.wrapping_add(n.abs()), size.fine + u64::from(!is_coarse));
        }
    }

    /// Removes a row that was added before.
    pub fn remove(&mut self, args: &Args) {
        self.rows = self.rows.saturating_sub(1);
        for (tally, arg) in self.tallies.iter_mut().zip(args) {
            tally.remove(arg);
        }
        for (values, arg) in self.counted(args) {
            if let Some(count) = values.get_mut(arg) {
                *count -= 1;
                if *count == 0 {
                    values.remove(arg);
                }
            }
        }
        for (size, (n, is_coarse)) in self.floats(args) {
            (size.size, size.fine) = (size.size.wrapping_sub(n.abs()), size.fine.saturating_sub(u64::from(!is_coarse)));
        }
        if args.len() > self.tallies.len()
            && let Some(apart) = &mut self.apart
        {
            apart.doubtful = apart.doubtful.saturating_sub(1);
            if apart.doubtful == 0 && apart.values.is_empty() && apart.floats.is_empty() {
                self.apart = None;
            }
        }
    }

    /// Returns the arguments whose values are counted, without NULLs.
    fn counted<'r, 'a>(
        &'r mut self,
        args: &'a Args,
    ) -> impl Iterator<Item = (&'r mut BTreeMap<Value, u64>, &'a Value)> {
        let values = self.apart.iter_mut().flat_map(|apart| &mut apart.values).zip(args);
        values.filter_map(|(values, arg)| Some((values.as_mut()?, arg))).filter(|(_, arg)| **arg != Value::Null)
    }

    /// Returns the floating-point arguments.
    fn floats(&mut self, args: &Args) -> impl Iterator<Item = (&mut Size, (i128, bool))> {
        let sizes = self.apart.iter_mut().flat_map(|apart| &mut apart.floats).zip(args);
        sizes.filter_map(|(size, arg)| match arg {
            Value::Double(value) => Some((size, floats::parts(*value)?)),
            _ => None,
        })
    }

    /// The number of rows.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Whether there are rows for which memory cannot evaluate WHERE.
    pub fn is_doubtful(&self) -> bool {
        self.apart.as_ref().is_some_and(|apart| apart.doubtful > 0)
    }

    /// Returns an aggregate's value.
    pub(super) fn value(&self, kind: &RunningKind) -> Scalar<'_> {
        let count = |n: u64| i64::try_from(n).map_or(Scalar::Unknown, Scalar::Int);
        let Some(argument) = kind.argument else { return count(self.rows) };
        let Some(tally) = self.tallies.get(argument) else { return Scalar::Unknown };
        if tally.opaque > 0 {
            return Scalar::Unknown;
        }
        if tally.present == 0 && !kind.function.is_count() {
            return Scalar::Null;
        }
        let whole = |total: i128| i64::try_from(total).map_or(Scalar::Unknown, Scalar::Int);
        let values = self.apart.as_ref().and_then(|apart| apart.values.get(argument)?.as_ref());
        let summed = || {
            let size = self.apart.as_ref().and_then(|apart| apart.floats.get(argument))?;
            Some(Summed { total: tally.total, size: size.size, fine: size.fine, rows: tally.present })
        };
        match kind.function {
            AggregateFunction::Sum if kind.is_float => {
                summed().map_or(Scalar::Unknown, |summed| summed.sum(kind.ty == Type::Float4))
            }
            AggregateFunction::Avg if kind.is_float => summed().map_or(Scalar::Unknown, Summed::average),
            AggregateFunction::Count => count(tally.present),
            AggregateFunction::CountDistinct => {
                values.map_or(Scalar::Unknown, |values| count(u64::try_from(values.len()).unwrap_or(u64::MAX)))
            }
            AggregateFunction::Sum if kind.is_integer => whole(tally.total),
            AggregateFunction::Sum => Scalar::Decimal(tally.total, kind.digits),
            AggregateFunction::Avg => {
                let quotient = quotient((tally.total, kind.digits), (i128::from(tally.present), Digits::exactly(0)));
                quotient.map_or(Scalar::Unknown, |(value, digits)| Scalar::Decimal(value, digits))
            }
            AggregateFunction::Min => kind.extreme(values, false),
            AggregateFunction::Max => kind.extreme(values, true),
            AggregateFunction::BoolAnd => Scalar::Bool(tally.total == i128::from(tally.present)),
            AggregateFunction::BoolOr => Scalar::Bool(tally.total > 0),
        }
    }
}

impl Tally {
    fn add(&mut self, arg: &Value) {
        match number(arg) {
            Some(n) => (self.total, self.present) = (self.total.wrapping_add(n), self.present + 1),
            None if matches!(arg, Value::Null) || planted::bug("opaque-counts-as-nothing") => {}
            None => (self.opaque, self.present) = (self.opaque + 1, self.present + 1),
        }
    }

    fn remove(&mut self, arg: &Value) {
        match number(arg) {
            Some(n) => (self.total, self.present) = (self.total.wrapping_sub(n), self.present.saturating_sub(1)),
            None if matches!(arg, Value::Null) || planted::bug("opaque-not-taken-out") => {}
            None => (self.opaque, self.present) = (self.opaque.saturating_sub(1), self.present.saturating_sub(1)),
        }
    }
}

/// Returns a value's contribution to the sum. `None`: memory cannot calculate with it.
fn number(arg: &Value) -> Option<i128> {
    match arg {
        Value::Int(n) => Some(i128::from(*n)),
        Value::Decimal(n) if n.abs() < DECIMAL_LIMIT => Some(*n),
        Value::Bool(value) => Some(i128::from(*value)),
        // These types are counted, and have a minimum and maximum, but are not summed.
        Value::Time(_) | Value::Text(_) => Some(0),
        Value::Double(value) => floats::parts(*value).map(|(parts, _)| parts),
        Value::Null | Value::Decimal(_) | Value::Opaque => None,
    }
}
