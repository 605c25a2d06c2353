//! The stored values of a row for an aggregate, and the aggregate's calculation from them.

use std::collections::BTreeMap;

use super::expression::{RowValues, digits_of, evaluate};
use super::scalar::{Digits, Scalar};
use crate::model::Value;
use crate::rule::Query;
use crate::rule::expression::{Aggregate, AggregateFunction, Expression, Literal, Type};

/// An argument of an aggregate, over the slots of a decoded row.
#[derive(Clone, Debug)]
pub(super) struct Arg {
    pub(super) expression: Expression,
    pub(super) filter: Option<Expression>,
    /// The number of fraction digits of the stored decimals.
    pub(super) scale: u8,
    /// Whether all values are decimals.
    pub(super) is_numeric: bool,
    /// Whether each value is counted.
    pub(super) is_counted: bool,
    /// Whether it is floating point in a sum.
    pub(super) is_summed: bool,
}

/// The calculation of an aggregate from the stored values of its argument.
#[derive(Clone, Copy, Debug)]
pub(super) struct RunningKind {
    pub(super) function: AggregateFunction,
    /// The index of the argument. `None`: all rows.
    pub(super) argument: Option<usize>,
    /// The digits of the argument.
    pub(super) digits: Digits,
    /// Whether the result is an integer.
    pub(super) is_integer: bool,
    pub(super) ty: Type,
    /// Whether the argument is floating point.
    pub(super) is_float: bool,
}

impl Arg {
    /// Returns the argument of an aggregate. `None` for COUNT(*).
    pub(super) fn of(
        query: &Query,
        aggregate: &Aggregate,
        slot: &impl Fn(usize) -> Result<usize, String>,
    ) -> Result<Option<Self>, String> {
        let (argument, filter) = (&aggregate.argument, &aggregate.filter);
        if argument.is_none() && filter.is_none() {
            return Ok(None);
        }
        // COUNT(*) with a FILTER counts a value that is never NULL.
        let always = Expression::Literal(Literal::Bool(true));
        let expression = argument.clone().unwrap_or(always);
        Self::new(query, aggregate, expression, filter.clone(), slot).map(Some)
    }

    fn new(
        query: &Query,
        aggregate: &Aggregate,
        expression: Expression,
        filter: Option<Expression>,
        slot: &impl Fn(usize) -> Result<usize, String>,
    ) -> Result<Self, String> {
        Ok(Self {
            scale: digits_of(&expression, query).scale,
            is_numeric: aggregate.over == Type::Numeric,
            expression: in_slots(expression, slot)?,
            filter: filter.map(|filter| in_slots(filter, slot)).transpose()?,
            is_summed: aggregate.over.is_float()
                && matches!(aggregate.function, AggregateFunction::Sum | AggregateFunction::Avg),
            is_counted: matches!(
                aggregate.function,
                AggregateFunction::CountDistinct | AggregateFunction::Min | AggregateFunction::Max
            ),
        })
    }

    #[inline]
    pub(super) fn value<'a>(&'a self, values: &RowValues<'a>) -> Value {
        match self.filter.as_ref().map(|filter| evaluate(filter, values)) {
            None | Some(Scalar::Bool(true)) => evaluate(&self.expression, values).kept(self.scale, self.is_numeric),
            Some(Scalar::Unknown) => Value::Opaque,
            Some(_) => Value::Null,
        }
    }

    pub(super) fn reads(&self, slot: usize) -> bool {
        self.slots().contains(&slot)
    }

    /// Returns the slots that it reads.
    pub(super) fn slots(&self) -> Vec<usize> {
        let mut slots = self.expression.columns();
        slots.extend(self.filter.iter().flat_map(Expression::columns));
        slots.dedup();
        slots
    }
}

impl RunningKind {
    /// Returns the aggregates of a query, each with the index of its argument.
    pub(super) fn all(query: &Query) -> Vec<Self> {
        let mut count = 0;
        let one = |aggregate: &Aggregate| {
            let argument = (aggregate.argument.is_some() || aggregate.filter.is_some()).then(|| {
                count += 1;
                count - 1
            });
            Self::new(query, aggregate, argument)
        };
        query.aggregates.iter().map(one).collect()
    }

    fn new(query: &Query, aggregate: &Aggregate, argument: Option<usize>) -> Self {
        let digits = aggregate.argument.as_ref().map_or(Digits::exactly(0), |argument| digits_of(argument, query));
        let Aggregate { function, ty, over, .. } = *aggregate;
        Self { function, argument, digits, is_integer: ty.is_integer(), ty, is_float: over.is_float() }
    }

    /// Returns the least or the greatest of these values. The order of texts depends on a collation, and the order of
    /// labels on their enum, so memory does not know it.
    pub(super) fn extreme<'a>(&self, values: Option<&'a BTreeMap<Value, u64>>, is_greatest: bool) -> Scalar<'a> {
        let Some(values) =
            values.filter(|values| !matches!(self.ty, Type::Text | Type::Char | Type::Enum) || values.len() == 1)
        else {
            return Scalar::Unknown;
        };
        let found = if is_greatest { values.last_key_value() } else { values.first_key_value() };
        found.map_or(Scalar::Unknown, |(value, _)| Scalar::of(value, self.digits))
    }
}

/// Returns the expression over the slots of a decoded row.
pub(super) fn in_slots(
    mut expression: Expression,
    slot: &impl Fn(usize) -> Result<usize, String>,
) -> Result<Expression, String> {
    expression.change_columns(&mut |column: &mut usize| {
        *column = slot(*column)?;
        Ok::<_, String>(())
    })?;
    Ok(expression)
}
