//! Times that depend on NOW(): where they are, what they are compared with, and when the comparison changes. Pure.
//!
//! Such a time is an *edge*. NOW() may stand only in comparisons of an edge with a value of a row or of a group. This
//! makes it predictable when time changes a comparison: when its edge reaches the other side or passes it.
//!
//! An edge can also move backward: 29, 30 and 31 March minus a month are all 28 February, and when clocks are set back
//! the same hours repeat. So a row that has left the window may come back. Memory keeps it until no later edge can
//! admit it.

use chrono::{DateTime, Datelike};

use super::Interval;
use super::calendar::{self, DAY_MICROS};
use super::expression::{Arithmetic, Comparison, Expression, Literal, Type};
use crate::model::Timestamp;
use crate::model::zone::Zone;

/// How far an edge with months can move backward, in days: the longest month minus the shortest.
const CLIPPED_DAYS: i64 = 3;
/// How many conversions between instant and local time one part of an edge can cost: both directions, for months and
/// for days.
const CONVERSIONS: i64 = 4;
const SUPPORTED: &str = "NOW() is supported in a comparison of a time, created_at < NOW() - INTERVAL '1 day' or \
     NOW() - created_at < INTERVAL '1 day', with nothing of a row or a group on its own side";

/// The left edge of a window. Rows before it are outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeftEdge {
    pub(super) at: Timestamp,
    pub(super) inclusive: bool,
}

impl LeftEdge {
    /// The edge of a rule without a time bound. Every row is inside.
    pub const NONE: Self = Self { at: Timestamp::MIN, inclusive: true };

    /// Whether a row at this instant is inside.
    pub fn admits(self, at: Timestamp) -> bool {
        if self.inclusive { at >= self.at } else { at > self.at }
    }

    /// The instant of the edge.
    pub fn at(self) -> Timestamp {
        self.at
    }
}

/// The position of an edge at some NOW(), and how it moves from there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Moment {
    pub(super) at: Timestamp,
    /// Whether the edge moves with NOW(). Otherwise it stands still.
    pub(super) moves: bool,
    /// How long the edge moves like this, in microseconds.
    pub(super) steady: i64,
}

/// When an edge changes a comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Flips {
    /// The comparison changes when the edge becomes equal to the other side.
    pub(super) reached: bool,
    /// The comparison changes when the edge is one microsecond past the other side.
    pub(super) passed: bool,
}

impl Flips {
    /// Returns when the comparison `other side op edge` changes.
    pub(super) fn of(comparison: Comparison) -> Self {
        match comparison {
            Comparison::GreaterOrEqual | Comparison::Less => Self { reached: false, passed: true },
            Comparison::Greater | Comparison::LessOrEqual => Self { reached: true, passed: false },
            Comparison::Equal | Comparison::NotEqual => Self { reached: true, passed: true },
        }
    }
}

/// A value that is compared with an edge.
#[derive(Clone, Debug)]
pub(super) struct Crossing<S> {
    /// The value: the other side of the comparison.
    pub(super) side: S,
    /// The edge's number.
    pub(super) edge: usize,
    pub(super) flips: Flips,
}

/// The distinct edges of a query, and the values that are compared with them.
#[derive(Clone, Debug, Default)]
pub(super) struct Found {
    pub(super) edges: Vec<Expression>,
    pub(super) crossings: Vec<Crossing<Expression>>,
}

impl Found {
    pub(super) fn edge(&mut self, edge: Expression) -> usize {
        match self.edges.iter().position(|known| *known == edge) {
            Some(index) => index,
            None => {
                self.edges.push(edge);
                self.edges.len() - 1
            }
        }
    }

    /// Takes the edges out of a condition and puts their numbers in their places.
    ///
    /// # Errors
    /// NOW() stands where no edge is allowed.
    pub(super) fn take(&mut self, expression: &mut Expression) -> Result<(), String> {
        if !expression.has_now() {
            return Ok(());
        }
        let old = std::mem::replace(expression, Expression::Bound);
        *expression = match old {
            Expression::Compare(comparison, left, right) => self.comparison(comparison, *left, *right)?,
            Expression::Between(value, low, high, negated) => {
                let low = self.comparison(Comparison::GreaterOrEqual, (*value).clone(), *low)?;
                let high = self.comparison(Comparison::LessOrEqual, *value, *high)?;
                let both = Expression::And(Box::new(low), Box::new(high));
                if negated { Expression::Not(Box::new(both)) } else { both }
            }
            Expression::Now(_) | Expression::Arithmetic(..) | Expression::Distinct(..) | Expression::In(..) => {
                return Err(SUPPORTED.to_owned());
            }
            mut other => {
                let parts = other.parts_mut();
                if parts.is_empty() {
                    return Err(SUPPORTED.to_owned());
                }
                for part in parts {
                    self.take(part)?;
                }
                other
            }
        };
        Ok(())
    }

    fn comparison(&mut self, op: Comparison, left: Expression, right: Expression) -> Result<Expression, String> {
        // The side with NOW() to the right.
        let (op, left, right) = if left.has_now() { (op.turned(), right, left) } else { (op, left, right) };
        if left.has_now() {
            return Err(SUPPORTED.to_owned());
        }
        if !right.has_now() {
            return Ok(Expression::Compare(op, Box::new(left), Box::new(right)));
        }
        let (op, side, edge) = if goes_by_now(&right) && type_of(&right).is_time() {
            (op, left, right)
        } else {
            // INTERVAL op NOW() - side: side op NOW() - INTERVAL
            match (left, right) {
                (
                    Expression::Literal(Literal::Interval(interval, _)),
                    Expression::Arithmetic(Arithmetic::Subtract, now, side, Type::Interval),
                ) if goes_by_now(&now) && !side.has_now() => {
                    let micros = calendar::span(interval).ok_or_else(|| SUPPORTED.to_owned())?;
                    let back = Expression::Literal(Literal::Interval(Interval { months: 0, days: 0, micros }, None));
                    let ty = type_of(&now);
                    (op, *side, Expression::Arithmetic(Arithmetic::Subtract, now, Box::new(back), ty))
                }
                _ => return Err(SUPPORTED.to_owned()),
            }
        };
        let edge = self.edge(edge);
        self.crossings.push(Crossing { side: side.clone(), edge, flips: Flips::of(op) });
        Ok(Expression::Compare(op, Box::new(side), Box::new(Expression::Edge(edge))))
    }

    /// Takes the edges out of an output expression and puts their numbers in their places.
    ///
    /// # Errors
    /// NOW() stands where no edge is allowed.
    pub(super) fn take_shown(&mut self, expression: &mut Expression) -> Result<(), String> {
        if goes_by_now(expression) && type_of(expression).is_time() {
            let edge = std::mem::replace(expression, Expression::Bound);
            *expression = Expression::Edge(self.edge(edge));
            return Ok(());
        }
        if matches!(expression, Expression::Now(_)) {
            return Err(SUPPORTED.to_owned());
        }
        expression.parts_mut().into_iter().try_for_each(|part| self.take_shown(part))
    }
}

/// Checks that memory can predict when time alone changes this condition.
///
/// # Errors
/// Memory cannot predict it.
pub(super) fn check(condition: &Expression) -> Result<(), String> {
    Found::default().take(&mut condition.clone())
}

/// Checks that memory can compute this output.
///
/// # Errors
/// Memory cannot compute it.
pub(super) fn check_shown(expression: &Expression) -> Result<(), String> {
    Found::default().take_shown(&mut expression.clone())
}

/// Finds a lower bound in a condition: the value of a row that must be at an edge or after it, and the edge. Takes the
/// first such comparison among those that AND joins.
pub(super) fn lower_bound(condition: &Expression) -> Option<(Expression, Expression)> {
    match condition {
        Expression::And(left, right) => lower_bound(left).or_else(|| lower_bound(right)),
        Expression::Compare(comparison, left, right) => {
            let mut found = Found::default();
            let compared = found.comparison(*comparison, (**left).clone(), (**right).clone()).ok()?;
            let Expression::Compare(Comparison::Greater | Comparison::GreaterOrEqual | Comparison::Equal, side, _) =
                compared
            else {
                return None;
            };
            Some((*side, found.edges.pop()?))
        }
        _ => None,
    }
}

/// Whether the expression contains NOW() and no value of a row or group.
fn goes_by_now(expression: &Expression) -> bool {
    match expression {
        Expression::Now(_) => true,
        Expression::Cast(inner, _, _)
        | Expression::Widen(inner, _, _)
        | Expression::Truncate(_, inner, _, _)
        | Expression::AtZone(inner, _, _) => goes_by_now(inner),
        Expression::Arithmetic(_, left, right, _) => goes_by_now(left) && matches!(**right, Expression::Literal(_)),
        _ => false,
    }
}

/// The type of an edge. `Unknown` where it is no time.
pub(super) fn type_of(edge: &Expression) -> Type {
    match edge {
        Expression::Now(clock) => clock.ty(),
        Expression::Cast(_, _, to) | Expression::Widen(_, _, to) => *to,
        Expression::Truncate(_, _, _, ty) | Expression::Arithmetic(_, _, _, ty) => *ty,
        Expression::AtZone(_, _, Type::TimestampTz) => Type::Timestamp,
        Expression::AtZone(..) => Type::TimestampTz,
        Expression::Literal(Literal::Time(_, ty)) => *ty,
        _ => Type::Unknown,
    }
}

/// Returns the position of an edge at `now`, in a session of this time zone.
pub(super) fn moment(edge: &Expression, now: Timestamp, zone: &Zone) -> Moment {
    let mut at = Walk { at: now.0, moves: true, steady: i64::MAX };
    if now == Timestamp::MAX || now == Timestamp::MIN || at.go(edge, now, zone).is_none() {
        // An edge outside of the calendar remains outside.
        let at = if now == Timestamp::MAX { now } else { Timestamp::MIN };
        return Moment { at, moves: true, steady: i64::MAX };
    }
    Moment { at: Timestamp(at.at), moves: at.moves, steady: at.steady }
}

/// The greatest distance in microseconds by which the edge of a later NOW() can precede that of an earlier one.
pub(super) fn slack(edge: &Expression, zone: &Zone) -> i64 {
    let own = match edge {
        Expression::Arithmetic(_, _, right, ty) => match &**right {
            Expression::Literal(Literal::Interval(by, _)) => {
                let clipped = if by.months > 0 { CLIPPED_DAYS * DAY_MICROS } else { 0 };
                let step = if by.is_calendar() && *ty == Type::TimestampTz { zone.greatest_step() } else { 0 };
                clipped.saturating_add(CONVERSIONS.saturating_mul(step))
            }
            _ => 0,
        },
        Expression::Now(clock) if clock.ty() != Type::TimestampTz => zone.greatest_step(),
        Expression::Truncate(_, _, Some(zone), _) | Expression::AtZone(_, zone, _) => {
            zone.greatest_step().saturating_mul(CONVERSIONS)
        }
        Expression::Truncate(_, _, None, Type::TimestampTz) | Expression::Cast(..) | Expression::Widen(..) => {
            zone.greatest_step().saturating_mul(CONVERSIONS)
        }
        _ => 0,
    };
    edge.parts().into_iter().fold(own, |sum, part| sum.saturating_add(slack(part, zone)))
}

/// Whether rows behind this edge may come back in some time zone.
pub(super) fn may_come_back(edge: &Expression) -> bool {
    let is_calendar = |part: &Expression| match part {
        Expression::Now(clock) => clock.ty() != Type::TimestampTz,
        Expression::Literal(Literal::Interval(by, _)) => by.is_calendar(),
        Expression::Literal(_) | Expression::Arithmetic(..) => false,
        _ => true,
    };
    fn any(edge: &Expression, is: &impl Fn(&Expression) -> bool) -> bool {
        is(edge) || edge.parts().into_iter().any(|part| any(part, is))
    }
    any(edge, &is_calendar)
}

/// The computation of an edge, step by step from NOW().
struct Walk {
    at: i64,
    moves: bool,
    steady: i64,
}

impl Walk {
    /// Applies an expression. `None`: the result is outside of the calendar.
    fn go(&mut self, edge: &Expression, now: Timestamp, zone: &Zone) -> Option<()> {
        match edge {
            Expression::Now(clock) => {
                self.at = now.0;
                match clock.ty() {
                    Type::TimestampTz => {}
                    ty => {
                        self.go_local(zone);
                        if ty == Type::Date {
                            self.cut(calendar::Unit::Day)?;
                        }
                    }
                }
            }
            Expression::Arithmetic(op, inner, right, ty) => {
                self.go(inner, now, zone)?;
                let is_back = *op == Arithmetic::Subtract;
                match &**right {
                    Expression::Literal(Literal::Interval(by, _)) => self.shift(*by, is_back, *ty, zone)?,
                    Expression::Literal(Literal::Number(days, _)) => {
                        let days = i64::try_from(days.mantissa()).ok()?.checked_mul(DAY_MICROS)?;
                        self.at = if is_back { self.at.checked_sub(days)? } else { self.at.checked_add(days)? };
                    }
                    _ => return None,
                }
            }
            Expression::Cast(inner, from, to) | Expression::Widen(inner, from, to) => {
                self.go(inner, now, zone)?;
                match (*from, *to) {
                    (Type::TimestampTz, Type::Timestamp | Type::Date) => self.go_local(zone),
                    (Type::Timestamp | Type::Date, Type::TimestampTz) => self.go_instant(zone),
                    _ => {}
                }
                if *to == Type::Date && *from != Type::Date {
                    self.cut(calendar::Unit::Day)?;
                }
            }
            Expression::Truncate(unit, inner, named, ty) => {
                self.go(inner, now, zone)?;
                if *ty == Type::TimestampTz {
                    let zone = named.as_deref().unwrap_or(zone);
                    let instant = self.at;
                    self.go_local(zone);
                    let offset = self.at.checked_sub(instant)?;
                    self.cut(*unit)?;
                    if unit.keeps_offset() {
                        self.at = self.at.checked_sub(offset)?;
                    } else {
                        self.go_instant(zone);
                    }
                } else {
                    self.cut(*unit)?;
                }
            }
            Expression::AtZone(inner, named, from) => {
                self.go(inner, now, zone)?;
                if *from == Type::TimestampTz { self.go_local(named) } else { self.go_instant(named) }
            }
            _ => return None,
        }
        Some(())
    }

    fn for_at_most(&mut self, micros: Option<i64>) {
        if self.moves {
            self.steady = self.steady.min(micros.unwrap_or(i64::MAX));
        }
    }

    fn go_local(&mut self, zone: &Zone) {
        self.for_at_most(zone.until_change(self.at));
        self.at = zone.local(Timestamp(self.at));
    }

    fn go_instant(&mut self, zone: &Zone) {
        if !zone.is_utc() {
            self.for_at_most(zone.until_other_offset(self.at));
        }
        self.at = zone.instant(self.at).0;
    }

    /// Truncates the edge to a unit. It then stands still until the next unit begins.
    fn cut(&mut self, unit: calendar::Unit) -> Option<()> {
        let next = calendar::next_cut(self.at, unit)?;
        self.for_at_most(next.checked_sub(self.at));
        self.at = calendar::truncated(self.at, unit)?;
        self.moves = false;
        Some(())
    }

    fn shift(&mut self, by: Interval, is_back: bool, ty: Type, zone: &Zone) -> Option<()> {
        let Interval { months, days, micros } = by;
        let has_zone = ty == Type::TimestampTz;
        if months > 0 {
            if has_zone {
                self.go_local(zone);
            }
            self.for_at_most(Some(until_clip(self.at)));
            self.at = calendar::months_away(self.at, months, is_back)?;
            if has_zone {
                self.go_instant(zone);
            }
        }
        if days > 0 {
            if has_zone {
                self.go_local(zone);
            }
            self.at = calendar::shifted_local(self.at, Interval { months: 0, days, micros: 0 }, is_back)?;
            if has_zone {
                self.go_instant(zone);
            }
        }
        self.at = if is_back { self.at.saturating_sub(micros) } else { self.at.saturating_add(micros) };
        Some(())
    }
}

/// The time in microseconds to the next midnight at which clipping can begin or end: that of the 29th, 30th, 31st or
/// 1st.
fn until_clip(local: i64) -> i64 {
    let day = DateTime::from_timestamp_micros(local).map_or(28, |at| at.day());
    let midnights = i64::from(28_u32.saturating_sub(day)) + 1;
    midnights * DAY_MICROS - local.rem_euclid(DAY_MICROS)
}
