//! What is kept of a row for an aggregate, and how the aggregate is taken from that.

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
    /// Fraction digits that its decimals are kept with.
    pub(super) scale: u8,
    /// Whether all its values are decimals.
    pub(super) is_numeric: bool,
    /// Whether each of its values is counted.
    pub(super) is_counted: bool,
    /// Whether it is floating point of which a sum is taken.
    pub(super) is_summed: bool,
}

/// How an aggregate is taken from what is kept of its argument.
#[derive(Clone, Copy, Debug)]
pub(super) struct RunningKind {
    pub(super) function: AggregateFunction,
    /// `None`: of all rows.
    pub(super) argument: Option<usize>,
    /// Of its argument.
    pub(super) digits: Digits,
    /// Whether its result is an integer's.
    pub(super) is_integer: bool,
    pub(super) ty: Type,
    /// Whether its argument is floating point.
    pub(super) is_float: bool,
}

impl Arg {
    /// The argument of an aggregate, but of COUNT(*).
    pub(super) fn of(
        query: &Query,
        aggregate: &Aggregate,
        slot: &impl Fn(usize) -> Result<usize, String>,
    ) -> Result<Option<Self>, String> {
        let (argument, filter) = (&aggregate.argument, &aggregate.filter);
        if argument.is_none() && filter.is_none() {
            return Ok(None);
        }
        // COUNT(*) of some rows is the count of something that is never NULL.
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

    /// The slots that it reads.
    pub(super) fn slots(&self) -> Vec<usize> {
        let mut slots = self.expression.columns();
        slots.extend(self.filter.iter().flat_map(Expression::columns));
        slots.dedup();
        slots
    }
}

impl RunningKind {
    /// The aggregates of a query, each with the place of its argument.
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

    /// The least or the greatest of these values. Which of several texts it is depends on a collation, and which of labels on their enum.
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

/// The same expression over the slots of a decoded row.
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
