//! The effects of time on a query in memory: the edges, the values of a row that are compared with them, and the time
//! of the next change.

use std::borrow::Cow;
use std::sync::Arc;

use smallvec::SmallVec;

use super::aggregates::{Arg, in_slots};
use super::expression::{GroupValues, RowValues, digits_of, evaluate};
use super::running::Running;
use super::scalar::{Digits, Scalar};
use super::{Args, Program};
use crate::model::zone::Zone;
use crate::model::{Timestamp, Value};
use crate::rule::edges::{self, Crossing, Flips, Found, LeftEdge, Moment};
use crate::rule::expression::{Comparison, Expression};
use crate::rule::{OutputExpr, Query};

/// The edges of a query at some NOW(), in order. That of the time bound is the first.
pub type EdgeTimes = SmallVec<[Timestamp; 1]>;

/// The edges of a query at some NOW(), and how they move.
#[derive(Clone, Debug)]
pub struct Moments {
    now: Timestamp,
    all: SmallVec<[Moment; 1]>,
}

impl Moments {
    /// NOW()
    pub fn now(&self) -> Timestamp {
        self.now
    }

    /// Returns the edges.
    pub fn edges(&self) -> EdgeTimes {
        self.all.iter().map(|moment| moment.at).collect()
    }
}

/// The place of a row in time: the series, and the time in it. Every row has a place in series 0.
pub type Place = (u8, Timestamp);

/// The edges of a query, and the values that are compared with them.
#[derive(Clone, Debug)]
pub(super) struct Timing {
    edges: Vec<Expression>,
    bound: Option<Bound>,
    /// The edge by which rows are forgotten, and its slack: by how much a later edge may be before an earlier one. A
    /// row is forgotten once its place in series 0 is behind the edge by more than the slack.
    retained: Option<(usize, i64)>,
    /// The comparisons of a row's values with an edge, each by the series of the row's places.
    crossings: Vec<Crossing<u8>>,
    /// The comparisons of a group's values with an edge.
    having: Vec<Crossing<Expression>>,
    /// Set if the query uses NOW() outside of the time bound, HAVING and outputs.
    pub(super) kept: Option<Kept>,
    zone: Arc<Zone>,
}

#[derive(Clone, Copy, Debug)]
struct Bound {
    inclusive: bool,
    /// Whether the column has local times that are compared with an instant.
    is_widened: bool,
}

/// The held values of a row whose contribution changes with time. The contribution is calculated from them.
#[derive(Clone, Debug)]
pub(super) struct Kept {
    /// The slots of the decoded row, in the order of the held values.
    pub(super) slots: Vec<usize>,
    pub(super) digits: Vec<Digits>,
    /// The places of a row, except that of the time bound.
    series: Vec<Expression>,
    /// WHERE without the time bound.
    condition: Option<Expression>,
    pub(super) args: Vec<Arg>,
}

/// A query and the edges that were taken out of it.
pub(super) struct Taken {
    pub(super) query: Query,
    found: Found,
    having: Vec<Crossing<Expression>>,
    lower_bound: Option<(Expression, Expression)>,
}

impl Taken {
    /// # Errors
    /// The query uses NOW() in a place where no edge is possible.
    pub(super) fn new(query: &Query) -> Result<Self, String> {
        let lower_bound = query.lower_bound();
        let mut query = query.clone();
        let mut found = Found::default();
        if let Some(bound) = &query.bound {
            found.edge(bound.edge.clone());
        }
        let rows = query.aggregates.iter_mut().flat_map(|one| one.argument.iter_mut().chain(&mut one.filter));
        rows.chain(&mut query.filter).try_for_each(|expression| found.take(expression))?;
        let of_rows = std::mem::take(&mut found.crossings);
        found.take(&mut query.having)?;
        for output in &mut query.outputs {
            if let OutputExpr::Value(expression, _) = &mut output.expr {
                found.take_shown(expression)?;
            }
        }
        let having = std::mem::replace(&mut found.crossings, of_rows);
        Ok(Self { query, found, having, lower_bound })
    }

    /// Whether a row's contribution changes with time, apart from the time bound.
    fn is_timed(&self) -> bool {
        !self.found.crossings.is_empty()
    }
}

impl Timing {
    /// Creates the timing. `wanted` are the columns of the decoder.
    pub(super) fn new(taken: &Taken, wanted: &[usize]) -> Result<Self, String> {
        let query = &taken.query;
        let zone = Arc::clone(&query.zone);
        let mut crossings = Vec::new();
        let mut bound_side = None;
        let bound = query.bound.as_ref().map(|bound| {
            let comparison = if bound.inclusive { Comparison::GreaterOrEqual } else { Comparison::Greater };
            crossings.push(Crossing { side: 0, edge: 0, flips: Flips::of(comparison) });
            let is_widened = bound.is_widened(&query.table);
            bound_side = Some((bound.column, is_widened));
            Bound { inclusive: bound.inclusive, is_widened }
        });
        let lower = query_lower_bound(taken);
        let retained = if bound.is_some() { Some(0) } else { lower.as_ref().map(|(_, edge)| *edge) };
        let slack = |edge: usize| taken.found.edges.get(edge).map_or(0, |edge| edges::slack(edge, &zone));
        let retained = retained.map(|edge| (edge, slack(edge)));
        // The place in series 0 decides when a row is forgotten.
        let first = lower.map(|(side, _)| side);
        let kept = || Kept::new(taken, wanted, bound_side, first, &mut crossings);
        let kept = taken.is_timed().then(kept).transpose()?;
        let (edges, having) = (taken.found.edges.clone(), taken.having.clone());
        Ok(Self { edges, bound, retained, crossings, having, kept, zone })
    }

    fn moment(&self, edge: usize, now: Timestamp) -> Moment {
        let unknown = Moment { at: Timestamp::MIN, moves: false, steady: i64::MAX };
        self.edges.get(edge).map_or(unknown, |edge| edges::moment(edge, now, &self.zone))
    }
}

impl Kept {
    fn new(
        taken: &Taken,
        wanted: &[usize],
        bound: Option<(usize, bool)>,
        first: Option<Expression>,
        crossings: &mut Vec<Crossing<u8>>,
    ) -> Result<Self, String> {
        let query = &taken.query;
        let mut columns: Vec<usize> = query.expressions().flat_map(Expression::columns).collect();
        columns.sort_unstable();
        columns.dedup();
        let place = |column: usize| {
            columns.iter().position(|kept| *kept == column).ok_or_else(|| format!("column {column} is not kept"))
        };
        let slot = |column: &usize| {
            wanted.iter().position(|w| w == column).ok_or_else(|| format!("column {column} is not decoded"))
        };
        let mut sides: Vec<Expression> = first.into_iter().collect();
        for crossing in &taken.found.crossings {
            let is_of_bound = match (&crossing.side, bound) {
                (Expression::Column(column), Some((of, false))) => *column == of,
                (Expression::Widen(inner, _, _), Some((of, true))) => **inner == Expression::Column(of),
                _ => false,
            };
            let side = match sides.iter().position(|side| *side == crossing.side) {
                _ if is_of_bound => 0,
                Some(known) => known + usize::from(bound.is_some()),
                None => {
                    sides.push(crossing.side.clone());
                    sides.len() - usize::from(bound.is_none())
                }
            };
            let side = u8::try_from(side).map_err(|_| "too many times that are compared with NOW()".to_owned())?;
            crossings.push(Crossing { side, edge: crossing.edge, flips: crossing.flips });
        }
        let mut args = Vec::new();
        for aggregate in &query.aggregates {
            args.extend(Arg::of(query, aggregate, &place)?);
        }
        Ok(Self {
            slots: columns.iter().map(slot).collect::<Result<_, _>>()?,
            digits: columns.iter().map(|column| digits_of(&Expression::Column(*column), query)).collect(),
            series: sides.into_iter().map(|side| in_slots(side, &place)).collect::<Result<_, _>>()?,
            condition: query.condition().cloned().map(|condition| in_slots(condition, &place)).transpose()?,
            args,
        })
    }

    pub(super) fn values<'a>(
        &'a self,
        kept: &'a [Value],
        edges: Option<&'a [Timestamp]>,
        zone: &'a Zone,
    ) -> RowValues<'a> {
        RowValues { row: kept, digits: &self.digits, holes: &[], edges, zone }
    }

    /// Evaluates WHERE without the time bound at the edges of `values`. Without edges NOW() is unknown, and the result
    /// is false only if WHERE never admits the row.
    pub(super) fn admitted<'a>(&'a self, values: &RowValues<'a>) -> Scalar<'a> {
        self.condition.as_ref().map_or(Scalar::Bool(true), |condition| evaluate(condition, values))
    }

    fn position(&self, index: usize, values: &RowValues<'_>) -> Option<Timestamp> {
        match self.series.get(index).map(|side| evaluate(side, values)) {
            Some(Scalar::Time(at)) => Some(at),
            _ => None,
        }
    }

    /// Returns the place in series 0 for a query without a time bound.
    pub(super) fn first_place(&self, values: &RowValues<'_>) -> Timestamp {
        self.position(0, values).unwrap_or(Timestamp::MIN)
    }
}

impl Program {
    /// Returns the edges at `now`, and how they move.
    pub fn moments(&self, now: Timestamp) -> Moments {
        Moments { now, all: (0..self.timing.edges.len()).map(|edge| self.timing.moment(edge, now)).collect() }
    }

    /// Returns the edges before any row has left: those at the beginning of time.
    pub fn first_edges(&self) -> EdgeTimes {
        self.timing.edges.iter().map(|_| Timestamp::MIN).collect()
    }

    /// Returns the left edge at `now`, as Postgres calculates it in the time zone of the query.
    pub fn left_edge(&self, now: Timestamp) -> LeftEdge {
        let bound =
            self.timing.bound.map(|bound| LeftEdge { at: self.timing.moment(0, now).at, inclusive: bound.inclusive });
        bound.unwrap_or(LeftEdge::NONE)
    }

    /// Returns the instant of the left edge at `now`, if there is a time bound.
    pub fn left_instant(&self, now: Timestamp) -> Option<Timestamp> {
        let bound = self.timing.bound?;
        let at = self.left_edge(now).at();
        let is_local = !bound.is_widened && self.is_bound_local;
        Some(if is_local { self.zone.instant(at.0) } else { at })
    }

    /// Returns the place of a row's time among the others, and among the left edges.
    pub fn position(&self, time: Timestamp) -> Timestamp {
        if self.timing.bound.is_some_and(|bound| bound.is_widened) { self.zone.instant(time.0) } else { time }
    }

    /// Returns the time with which a row is held. With a time bound it is the column's. Otherwise it is calculated in
    /// the time zone of the query, and is calculated again for another zone.
    pub fn held_time(&self, time: Timestamp, args: &Args) -> Timestamp {
        match &self.timing.kept {
            Some(kept) if self.timing.bound.is_none() => kept.first_place(&kept.values(args, None, &self.zone)),
            _ => time,
        }
    }

    /// Returns the places of a row in time besides the one in series 0, which is its [`Self::position`].
    pub fn other_places(&self, args: &Args) -> SmallVec<[Place; 1]> {
        let mut places: SmallVec<[Place; 1]> = SmallVec::new();
        if let Some(kept) = &self.timing.kept {
            let values = kept.values(args, None, &self.zone);
            // Without a time bound, the first of them is the row's time.
            let skipped = usize::from(self.timing.bound.is_none());
            for (index, series) in (skipped..kept.series.len()).zip(1_u8..) {
                places.extend(kept.position(index, &values).map(|at| (series, at)));
            }
        }
        places
    }

    /// Whether the time bound admits a row at this place of series 0.
    pub fn is_inside(&self, position: Timestamp, edges: &[Timestamp]) -> bool {
        match (self.timing.bound, edges.first()) {
            (Some(bound), Some(at)) => LeftEdge { at: *at, inclusive: bound.inclusive }.admits(position),
            _ => true,
        }
    }

    /// Returns a row's contribution at these edges. `None`: the row is not in the window.
    #[inline]
    pub fn contribution<'a>(&self, position: Timestamp, args: &'a Args, edges: &[Timestamp]) -> Option<Cow<'a, Args>> {
        if !self.is_inside(position, edges) {
            return None;
        }
        let Some(kept) = &self.timing.kept else { return Some(Cow::Borrowed(args)) };
        let values = kept.values(args, Some(edges), &self.zone);
        let is_admitted = kept.admitted(&values);
        if !matches!(is_admitted, Scalar::Bool(true) | Scalar::Unknown) {
            return None;
        }
        let mut contributed: Args = kept.args.iter().map(|arg| arg.value(&values)).collect();
        if is_admitted == Scalar::Unknown {
            contributed.push(Value::Opaque);
        }
        Some(Cow::Owned(contributed))
    }

    /// Returns the ranges of time, by series, whose rows may contribute another value at `after` than at `before`.
    pub fn crossed<'a>(
        &'a self,
        before: &'a [Timestamp],
        after: &'a [Timestamp],
    ) -> impl Iterator<Item = (u8, Timestamp, Timestamp)> + 'a {
        self.timing.crossings.iter().filter_map(|crossing| {
            let (before, after) = (*before.get(crossing.edge)?, *after.get(crossing.edge)?);
            (before != after).then(|| (crossing.side, before.min(after), before.max(after)))
        })
    }

    /// The number of values that windows hold of a row.
    pub fn held_values(&self) -> usize {
        self.timing.kept.as_ref().map_or(self.args.len(), |kept| kept.slots.len())
    }

    /// Whether a row's contribution stays the same while it is inside of the time bound.
    pub fn is_simple(&self) -> bool {
        self.timing.kept.is_none()
    }

    /// Whether time alone can change a group.
    pub fn is_timed(&self) -> bool {
        !self.timing.edges.is_empty()
    }

    /// Whether a row at this place of series 0 is inside of the left edge, or may be inside of a later one.
    pub fn holds(&self, edges: &[Timestamp], position: Timestamp) -> bool {
        let Some((edge, slack)) = self.timing.retained else { return true };
        let is_near = |at: &Timestamp| position.0 >= at.0.saturating_sub(slack);
        match self.timing.bound {
            Some(_) => self.is_inside(position, edges) || (slack > 0 && edges.get(edge).is_some_and(is_near)),
            None => edges.get(edge).is_none_or(is_near),
        }
    }

    /// Whether all effects of time come from one edge that always keeps its distance from NOW().
    pub fn is_steady(&self) -> bool {
        let is_steady = |edge: &Expression| {
            let moment = edges::moment(edge, Timestamp(0), &self.timing.zone);
            moment.moves && moment.steady == i64::MAX && edges::slack(edge, &self.timing.zone) == 0
        };
        self.is_simple() && self.timing.having.is_empty() && self.timing.edges.iter().all(is_steady)
    }

    /// Returns the time of a group's next evaluation if no row comes or goes. The aggregates are those at `edges`.
    /// `first` returns the first place of its rows in a series from a time on.
    pub fn next_look(
        &self,
        moments: &Moments,
        edges: &[Timestamp],
        running: &Running,
        first: impl Fn(u8, Timestamp) -> Option<Timestamp>,
    ) -> Option<Timestamp> {
        let mut next = Next { now: moments.now, at: None };
        let oldest = first(0, Timestamp::MIN)?;
        for Crossing { side, edge, flips } in &self.timing.crossings {
            let Some(moment) = moments.all.get(*edge).copied() else { continue };
            let from = edges.get(*edge).copied().unwrap_or(Timestamp::MIN);
            if flips.passed {
                next.passed(moment, first(*side, from));
            }
            if flips.reached {
                next.reached(moment, first(*side, Timestamp(from.0.saturating_add(1))));
            }
            next.no_later_than(moment.steady);
        }
        if let Some((edge, slack)) = self.timing.retained
            && let Some(moment) = moments.all.get(edge)
        {
            // The first row that is held outside is forgotten once no later edge can admit it.
            let at = edges.get(edge).copied().unwrap_or(Timestamp::MIN);
            let is_outside = |place: &Timestamp| match self.timing.bound {
                Some(_) => !self.is_inside(*place, edges),
                None => *place <= at,
            };
            let outside = Some(oldest).filter(is_outside);
            next.due(*moment, outside, slack.saturating_add(1));
        }
        let values = GroupValues { aggregates: &self.aggregates, running, edges, zone: &self.zone };
        for Crossing { side, edge, flips } in &self.timing.having {
            let Some(moment) = moments.all.get(*edge).copied() else { continue };
            if let Scalar::Time(at) = evaluate(side, &values) {
                let at = Some(at).filter(|at| *at >= moment.at);
                if flips.passed {
                    next.passed(moment, at);
                }
                if flips.reached {
                    next.reached(moment, at.filter(|at| *at > moment.at));
                }
                next.no_later_than(moment.steady);
            }
        }
        next.at
    }
}

/// Returns the side and the edge by which a query without a time bound forgets rows.
fn query_lower_bound(taken: &Taken) -> Option<(Expression, usize)> {
    let (side, edge) = taken.lower_bound.as_ref()?;
    let edge = taken.found.edges.iter().position(|known| known == edge)?;
    let is_known = |crossing: &&Crossing<Expression>| crossing.side == *side && crossing.edge == edge;
    taken.found.crossings.iter().find(is_known).map(|crossing| (crossing.side.clone(), crossing.edge))
}

/// The earliest of the coming changes.
struct Next {
    now: Timestamp,
    at: Option<Timestamp>,
}

impl Next {
    /// Notes the time at which a moving edge reaches `at`.
    fn reached(&mut self, edge: Moment, at: Option<Timestamp>) {
        self.due(edge, at, 0);
    }

    /// Notes the time at which a moving edge passes `at`.
    fn passed(&mut self, edge: Moment, at: Option<Timestamp>) {
        self.due(edge, at, 1);
    }

    /// Notes the time at which a moving edge is `more` microseconds past `at`.
    fn due(&mut self, edge: Moment, at: Option<Timestamp>, more: i64) {
        let Some(at) = at.filter(|at| edge.moves && *at != Timestamp::MAX) else { return };
        let distance = at.0.saturating_sub(edge.at.0);
        self.take(self.now.0.saturating_add(distance).saturating_add(more));
    }

    fn no_later_than(&mut self, steady: i64) {
        if steady < i64::MAX {
            self.take(self.now.0.saturating_add(steady));
        }
    }

    fn take(&mut self, at: i64) {
        let at = Timestamp(at);
        self.at = Some(self.at.map_or(at, |earlier| earlier.min(at)));
    }
}
