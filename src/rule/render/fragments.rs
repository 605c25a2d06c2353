//! What statements are put together from: names, conditions, keys.

use super::{OutputExpr, Query, Spelling, Time, quote_ident};
use crate::model::ColumnType;
use crate::rule::{Expression, Interval, TimeBound, edges};

/// The name of a key's column in statements.
pub(super) fn key_name(place: usize) -> String {
    if place == 0 { "key".to_owned() } else { format!("key{}", place + 1) }
}

/// The number of the parameter that holds a key's column: the second one is NOW().
pub(super) fn parameter(place: usize) -> usize {
    if place == 0 { 1 } else { place + 2 }
}

/// By so much a later edge may be before an earlier one, and more: months are clipped by three days, and clocks were put
/// back by one day at most.
const MAY_COME_BACK_DAYS: u32 = 8;
/// The same of an edge that is converted more often on its way from NOW().
const MAY_COME_BACK_FAR_DAYS: u32 = 40;

/// The table's alias in confirmations. Columns carry it, so that none of them, and no table named `asked`, can be
/// taken for one of the statement's own names.
pub(super) const ROW: &str = "r.";

/// How times are written in an expression.
#[derive(Clone, Copy, Debug)]
pub struct Times<'a> {
    /// The time bound.
    pub bound: &'a str,
    /// NOW(); `None`: as the rule has it.
    pub now: Option<&'a str>,
}

impl<'a> Times<'a> {
    /// As the rule has them; the time bound stands elsewhere.
    pub const AS_WRITTEN: Times<'static> = Times { bound: "true", now: None };

    /// NOW() is this; the time bound stands elsewhere.
    pub fn at(now: &'a str) -> Self {
        Self { bound: "true", now: Some(now) }
    }
}

/// Names and expressions of one query, columns after `prefix`.
#[derive(Clone, Copy, Debug)]
pub struct Fragments<'a> {
    pub(super) query: &'a Query,
    pub(super) prefix: &'static str,
}

impl<'a> Fragments<'a> {
    /// With columns of a table that is named `r`.
    pub fn of_rows(query: &'a Query) -> Self {
        Self { query, prefix: ROW }
    }
}

impl Fragments<'_> {
    /// The table.
    pub fn table(&self) -> String {
        format!("{}.{}", quote_ident(&self.query.table.schema), quote_ident(&self.query.table.name))
    }

    /// A column; an index that no column has becomes a name that Postgres refuses, rather than a panic or another query.
    pub fn column(&self, index: usize) -> String {
        if let Some(expression) = self.query.computed(index) {
            return self.expression(expression, Times::AS_WRITTEN);
        }
        let name = match self.query.table.columns.get(index) {
            Some(column) => quote_ident(&column.name),
            None => format!("\"column {index} is missing\""),
        };
        format!("{}{name}", self.prefix)
    }

    pub(super) fn key(&self, index: usize) -> String {
        self.column(self.query.group_by.get(index).copied().unwrap_or(usize::MAX))
    }

    /// The type that a key's text is cast to. Without length or scale: with them a cast cuts off or rounds, and a
    /// key would be taken for another one.
    pub(super) fn key_type(&self, place: usize) -> String {
        self.type_of(self.query.group_by.get(place).copied().unwrap_or(usize::MAX))
    }

    /// What of a key is read as text: times as microseconds since 1970.
    pub(super) fn key_text(&self, place: usize, key: &str) -> String {
        let ty = self.query.group_by.get(place).and_then(|index| self.query.table.columns.get(*index));
        match ty.map(|column| &column.ty) {
            Some(ColumnType::TimestampTz | ColumnType::Timestamp { precision: _ } | ColumnType::Date) => format!(
                "CASE WHEN isfinite({key}) THEN (extract(epoch FROM {key}) * 1000000)::bigint::text ELSE ({key})::text END"
            ),
            _ => format!("({key})::text"),
        }
    }

    pub(super) fn keys(&self) -> Vec<String> {
        (0..self.query.group_by.len()).map(|place| self.key(place)).collect()
    }

    pub(super) fn key_names(&self) -> Vec<String> {
        (0..self.query.group_by.len()).map(key_name).collect()
    }

    /// A condition on each of the key's columns, by place and type.
    pub(super) fn each_key(&self, mut condition: impl FnMut(usize, String) -> String) -> String {
        let places = 0..self.query.group_by.len();
        places.map(|place| condition(place, self.key_type(place))).collect::<Vec<_>>().join(" AND ")
    }

    /// The keys that are given as arrays.
    pub(super) fn unnested(&self) -> String {
        let arrays: Vec<String> =
            (0..self.query.group_by.len()).map(|place| format!("${}::text[]", parameter(place))).collect();
        format!("unnest({})", arrays.join(", "))
    }

    /// The keys that are asked for, in their order; under event time each with its instant.
    pub(super) fn asked(&self, with_instants: bool) -> String {
        let mut arrays: Vec<String> =
            (0..self.query.group_by.len()).map(|place| format!("${}::text[]", parameter(place))).collect();
        let mut names = self.key_names();
        if with_instants {
            arrays.insert(1, "$2::text[]".to_owned());
            names.insert(1, "t".to_owned());
        }
        format!("unnest({}) WITH ORDINALITY AS asked({}, ord)", arrays.join(", "), names.join(", "))
    }

    /// The type that a column's text is cast to, without length or scale.
    pub fn type_of(&self, index: usize) -> String {
        match self.query.table.columns.get(index).map(|column| (&column.ty, &column.type_name)) {
            Some((ColumnType::Bool, _)) => "boolean".to_owned(),
            Some((ColumnType::Int2, _)) => "smallint".to_owned(),
            Some((ColumnType::Int4, _)) => "integer".to_owned(),
            Some((ColumnType::Int8, _)) => "bigint".to_owned(),
            Some((ColumnType::Numeric { scale: _ }, _)) => "numeric".to_owned(),
            Some((ColumnType::Float4, _)) => "real".to_owned(),
            Some((ColumnType::Float8, _)) => "double precision".to_owned(),
            Some((ColumnType::Char, _)) => "bpchar".to_owned(),
            Some((ColumnType::Inet, _)) => "inet".to_owned(),
            Some((ColumnType::Uuid, _)) => "uuid".to_owned(),
            Some((ColumnType::Text, _)) | None => "text".to_owned(),
            Some((
                ColumnType::TimestampTz
                | ColumnType::Timestamp { precision: _ }
                | ColumnType::Date
                | ColumnType::Enum
                | ColumnType::Other,
                type_name,
            )) => type_name.clone(),
        }
    }

    pub(super) fn bound(&self, bound: &TimeBound, now: Option<&str>, spelling: &Spelling) -> String {
        let column = self.column(bound.column);
        let edge = self.expression(&bound.edge, Times { bound: "true", now });
        match (spelling.bound_reversed, bound.inclusive) {
            (false, true) => format!("({column} >= {edge})"),
            (false, false) => format!("({column} > {edge})"),
            (true, true) => format!("({edge} <= {column})"),
            (true, false) => format!("({edge} < {column})"),
        }
    }

    /// WHERE.
    pub(super) fn filter(&self, now: Option<&str>, spelling: &Spelling) -> Option<String> {
        let bound = self.query.bound.as_ref().map(|bound| self.bound(bound, now, spelling)).unwrap_or_default();
        self.query.filter.as_ref().map(|filter| self.expression(filter, Times { bound: &bound, now }))
    }

    /// WHERE as a further condition.
    pub(super) fn bounded(&self, now: &str) -> String {
        self.filter(Some(now), &Spelling::default()).map(|filter| format!(" AND {filter}")).unwrap_or_default()
    }

    /// WHERE without what depends on NOW() as a further condition.
    pub(super) fn unbounded(&self) -> String {
        let filter = self.query.condition().and_then(Expression::timeless);
        filter.map(|filter| format!(" AND {}", self.expression(&filter, Times::AS_WRITTEN))).unwrap_or_default()
    }

    /// What of WHERE admits a row now, or may do so later, as a further condition.
    pub(super) fn held(&self, now: &str) -> String {
        let earlier = |edge: &Expression, days: u32| match edges::may_come_back(edge) {
            true => format!("({now} - INTERVAL '{days} days')"),
            false => now.to_owned(),
        };
        if let Some((side, edge)) = self.query.lower_bound() {
            let now = earlier(&edge, MAY_COME_BACK_FAR_DAYS);
            let (side, edge) = (self.expression(&side, Times::AS_WRITTEN), self.expression(&edge, Times::at(&now)));
            return format!("{} AND ({side} >= {edge})", self.unbounded());
        }
        let Some(bound) = &self.query.bound else { return self.unbounded() };
        let days = if bound.back().is_some() { MAY_COME_BACK_DAYS } else { MAY_COME_BACK_FAR_DAYS };
        let bound = self.bound(bound, Some(&earlier(&bound.edge, days)), &Spelling::default());
        let filter = self.query.filter.as_ref().and_then(Expression::timeless);
        let times = Times { bound: &bound, now: None };
        filter.map(|filter| format!(" AND {}", self.expression(&filter, times))).unwrap_or_default()
    }

    /// A column's value as text that reads back exactly.
    pub(super) fn text(&self, index: usize) -> String {
        let column = self.column(index);
        match self.query.table.columns.get(index).map(|column| &column.ty) {
            Some(ColumnType::TimestampTz | ColumnType::Timestamp { precision: _ } | ColumnType::Date) => format!(
                "CASE WHEN isfinite({column}) THEN (extract(epoch FROM {column}) * 1000000)::bigint::text \
                 ELSE ({column})::text END"
            ),
            _ => format!("({column})::text"),
        }
    }

    /// HAVING, where NOW() is this.
    pub fn having(&self, now: Option<&str>) -> String {
        self.expression(&self.query.having, Times { bound: "true", now })
    }

    /// The rule's own query for some keys, with `t` for NOW() and HAVING as a column.
    pub(super) fn answer(&self, time: Time, t: &str, condition: &str, with_rows: bool) -> String {
        let keys: Vec<String> =
            (0..self.query.group_by.len()).map(|place| format!("{} AS {}", self.key(place), key_name(place))).collect();
        format!(
            "SELECT {}, {} FROM {} AS r WHERE {} GROUP BY {}",
            keys.join(", "),
            self.holds_and_outputs(t, with_rows),
            self.table(),
            self.conditions(time, t, condition),
            self.keys().join(", "),
        )
    }

    /// The same for keys that each have an instant of their own. A join, so that without an index on the key the table is
    /// read once for all of them.
    pub(super) fn answer_each(&self, asked: &str, t: &str, condition: &str, with_rows: bool) -> String {
        format!(
            "SELECT asked.ord AS ord, {} FROM {asked} JOIN {} AS r ON {} GROUP BY asked.ord, asked.t",
            self.holds_and_outputs(t, with_rows),
            self.table(),
            self.conditions(Time::Event, t, condition),
        )
    }

    pub(super) fn holds_and_outputs(&self, t: &str, with_rows: bool) -> String {
        let outputs = self.value_outputs().enumerate();
        let columns: String = outputs
            .map(|(ordinal, output)| format!(", ({})::text AS o{ordinal}", self.expression(output.1, Times::at(t))))
            .collect();
        let proof = if with_rows { format!(", count(*) AS rows, {} AS times", self.times()) } else { String::new() };
        format!("{} AS holds{columns}{proof}", self.having(Some(t)))
    }

    pub(super) fn conditions(&self, time: Time, t: &str, condition: &str) -> String {
        let mut conditions: Vec<String> = self.filter(Some(t), &Spelling::default()).into_iter().collect();
        if let Some(bound) = self.query.bound.as_ref().filter(|_| time == Time::Event) {
            // A row dated past the key's event time is not there yet.
            conditions.push(format!("({} <= {t})", self.column(bound.column)));
        }
        conditions.push(condition.to_owned());
        conditions.join(" AND ")
    }

    /// The sum of the rows' times, as text.
    pub(super) fn times(&self) -> String {
        let Some(bound) = &self.query.bound else { return "'0'".to_owned() };
        let column = self.column(bound.column);
        format!(
            "COALESCE(sum((extract(epoch FROM {column}) * 1000000)::numeric) FILTER (WHERE isfinite({column})), 0)::numeric(1000, 0)::text"
        )
    }

    /// Columns that hand on what [`Self::answer`] gives, and the names of the outputs.
    pub(super) fn answered(&self, with_rows: bool) -> (String, Vec<String>) {
        let mut columns = String::new();
        let mut outputs = Vec::new();
        for (ordinal, (name, _, is_count)) in self.value_outputs().enumerate() {
            let column = if is_count {
                format!(", COALESCE(answer.o{ordinal}, '0') AS o{ordinal}")
            } else {
                format!(", answer.o{ordinal} AS o{ordinal}")
            };
            columns.push_str(&column);
            outputs.push(name.to_owned());
        }
        if with_rows {
            columns.push_str(", COALESCE(answer.rows, 0) AS rows, COALESCE(answer.times, '0') AS times");
        }
        (columns, outputs)
    }

    /// The outputs over aggregates: names, expressions, and whether it is a count alone.
    pub(super) fn value_outputs(&self) -> impl Iterator<Item = (&str, &Expression, bool)> {
        self.query.outputs.iter().filter_map(|output| match &output.expr {
            OutputExpr::Key(_) => None,
            OutputExpr::Value(expression, _) => Some((output.name.as_str(), expression, self.query.is_count(output))),
        })
    }
}

/// `1 mon 7 days 26:00:00.5`, which Postgres reads back as the same three numbers. Hours are not carried into days;
/// `HH:MM:SS` rather than microseconds, as releases before 15 take no more than 32 bits of those.
pub(super) fn interval_text(interval: Interval) -> String {
    let Interval { months, days, micros } = interval;
    let mut parts = Vec::new();
    if months > 0 {
        parts.push(format!("{months} mons"));
    }
    if days > 0 {
        parts.push(format!("{days} days"));
    }
    if micros != 0 || parts.is_empty() {
        let (seconds, fraction) = (micros.div_euclid(1_000_000), micros.rem_euclid(1_000_000));
        let (minutes, second) = (seconds.div_euclid(60), seconds.rem_euclid(60));
        let (hours, minute) = (minutes.div_euclid(60), minutes.rem_euclid(60));
        let fraction = if fraction > 0 { format!(".{fraction:06}") } else { String::new() };
        parts.push(format!("{hours:02}:{minute:02}:{second:02}{fraction}"));
    }
    parts.join(" ")
}
