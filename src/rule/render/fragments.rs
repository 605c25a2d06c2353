//! The building blocks of statements: names, conditions, keys.

use super::{OutputExpr, Query, Spelling, Time, quote_ident};
use crate::model::ColumnType;
use crate::rule::{Expression, Interval, TimeBound, edges};

/// The name of the key's column at this place.
pub(super) fn key_name(place: usize) -> String {
    if place == 0 { "key".to_owned() } else { format!("key{}", place + 1) }
}

/// The number of the parameter that holds the key's column at this place. The second parameter is NOW().
pub(super) fn parameter(place: usize) -> usize {
    if place == 0 { 1 } else { place + 2 }
}

/// More days than a later edge can precede an earlier one: months are clipped by three days, and clocks were set back
/// by one day at most.
const MAY_COME_BACK_DAYS: u32 = 8;
/// More days than that for an edge with several conversions between NOW() and its result.
const MAY_COME_BACK_FAR_DAYS: u32 = 40;

/// The table's alias in confirmations. Columns are qualified with it, so that none of them, and no table named `asked`,
/// can be mistaken for one of the statement's own names.
pub(super) const ROW: &str = "r.";

/// How to write the times in an expression.
#[derive(Clone, Copy, Debug)]
pub struct Times<'a> {
    /// The time bound.
    pub bound: &'a str,
    /// The text for NOW(). `None`: as in the rule.
    pub now: Option<&'a str>,
}

impl<'a> Times<'a> {
    /// Times as in the rule. The time bound is written elsewhere.
    pub const AS_WRITTEN: Times<'static> = Times { bound: "true", now: None };

    /// Times with `now` for NOW(). The time bound is written elsewhere.
    pub fn at(now: &'a str) -> Self {
        Self { bound: "true", now: Some(now) }
    }
}

/// Writes the names and expressions of one query. `prefix` stands before each column.
#[derive(Clone, Copy, Debug)]
pub struct Fragments<'a> {
    pub(super) query: &'a Query,
    pub(super) prefix: &'static str,
}

impl<'a> Fragments<'a> {
    /// Fragments whose columns belong to a table named `r`.
    pub fn of_rows(query: &'a Query) -> Self {
        Self { query, prefix: ROW }
    }
}

impl Fragments<'_> {
    /// The table's qualified name.
    pub fn table(&self) -> String {
        format!("{}.{}", quote_ident(&self.query.table.schema), quote_ident(&self.query.table.name))
    }

    /// A column. An index without a column becomes a name that Postgres rejects, so that there is neither a panic nor
    /// another query.
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

    /// The type to which a key's text is cast, without length or scale. A cast with length or scale would truncate or
    /// round, and one key would be taken for another.
    pub(super) fn key_type(&self, place: usize) -> String {
        self.type_of(self.query.group_by.get(place).copied().unwrap_or(usize::MAX))
    }

    /// Reads a key's column as text. Times become microseconds since 1970.
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

    /// One condition for each column of the key. `condition` gets its place and type.
    pub(super) fn each_key(&self, mut condition: impl FnMut(usize, String) -> String) -> String {
        let places = 0..self.query.group_by.len();
        places.map(|place| condition(place, self.key_type(place))).collect::<Vec<_>>().join(" AND ")
    }

    /// The keys that the parameters pass as arrays, as a table.
    pub(super) fn unnested(&self) -> String {
        let arrays: Vec<String> =
            (0..self.query.group_by.len()).map(|place| format!("${}::text[]", parameter(place))).collect();
        format!("unnest({})", arrays.join(", "))
    }

    /// The asked keys in their order, as a table. Under event time each has its instant.
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

    /// The type to which a column's text is cast, without length or scale.
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

    /// The condition of WHERE. `now` is written for NOW().
    pub(super) fn filter(&self, now: Option<&str>, spelling: &Spelling) -> Option<String> {
        let bound = self.query.bound.as_ref().map(|bound| self.bound(bound, now, spelling)).unwrap_or_default();
        self.query.filter.as_ref().map(|filter| self.expression(filter, Times { bound: &bound, now }))
    }

    /// WHERE as a condition to append with AND.
    pub(super) fn bounded(&self, now: &str) -> String {
        self.filter(Some(now), &Spelling::default()).map(|filter| format!(" AND {filter}")).unwrap_or_default()
    }

    /// WHERE without the parts that depend on NOW(), as a condition to append with AND.
    pub(super) fn unbounded(&self) -> String {
        let filter = self.query.condition().and_then(Expression::timeless);
        filter.map(|filter| format!(" AND {}", self.expression(&filter, Times::AS_WRITTEN))).unwrap_or_default()
    }

    /// A condition to append with AND, for rows that WHERE admits now or may admit later.
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

    /// HAVING, with `now` for NOW().
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

    /// The same for keys with an instant each. It is a join, so that without an index on the key the table is read once
    /// for all of them.
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

    /// The sum of the rows' times in microseconds, as text.
    pub(super) fn times(&self) -> String {
        let Some(bound) = &self.query.bound else { return "'0'".to_owned() };
        let column = self.column(bound.column);
        format!(
            "COALESCE(sum((extract(epoch FROM {column}) * 1000000)::numeric) FILTER (WHERE isfinite({column})), 0)::numeric(1000, 0)::text"
        )
    }

    /// The columns that pass on the result of [`Self::answer`], and the names of the outputs.
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

    /// The outputs over aggregates: name, expression, and whether the output is a count and nothing more.
    pub(super) fn value_outputs(&self) -> impl Iterator<Item = (&str, &Expression, bool)> {
        self.query.outputs.iter().filter_map(|output| match &output.expr {
            OutputExpr::Key(_) => None,
            OutputExpr::Value(expression, _) => Some((output.name.as_str(), expression, self.query.is_count(output))),
        })
    }
}

/// Writes an interval as `1 mon 7 days 26:00:00.5`. Postgres reads it back as the same three numbers. Hours are not
/// carried into days. `HH:MM:SS` is used because releases before 15 accept only 32 bits of microseconds.
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
