//! Writes a [`Query`] as SQL for Postgres. Pure.
//!
//! The text is rendered from the typed query. The parser's `Display` is never used, because it is not safe to send (it
//! writes `- -x` as a comment). Every expression stands in parentheses and every name in quotes. Values are parameters.

mod expression;
mod fragments;
mod text;

use super::parse::Spelling;
use super::{OutputExpr, Query, Time};
pub use expression::having_text;
pub use fragments::{Fragments, Times};
use fragments::{ROW, key_name, parameter};

use crate::planted;

/// A statement that asks Postgres about keys, and its result.
///
/// The result has these columns, in order:
///
/// - `ord` (bigint): the place of the asked key, from 1
/// - `snapshot` (text): `pg_current_snapshot()`
/// - `in_recovery` (boolean)
/// - `holds` (boolean): HAVING. False where HAVING is NULL and where the key has no rows
/// - one text column for each name in [`Confirmation::outputs`]
///
/// It has one row for every asked key, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Confirmation {
    /// The statement.
    pub sql: String,
    /// The names of the outputs that are aggregates, in select-list order. For a key without rows `count` is `0` and
    /// `sum` is NULL.
    pub outputs: Vec<String>,
}

/// A name in double quotes, with the quotes inside doubled.
pub fn quote_ident(name: &str) -> String {
    if planted::bug("names-not-quoted") {
        return name.to_owned();
    }
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// The plain query with `now()`, in its canonical spelling.
pub fn original(query: &Query) -> String {
    if let Some(text) = &query.text {
        return text.sql.trim().to_owned();
    }
    as_written(&query.clone().canonical(), &Spelling::default())
}

/// The plain query in the spelling of the text that it came from: its `EXPLAIN (VERBOSE, COSTS OFF)` equals that of the
/// text. [`original`] has the same meaning, but EXPLAIN distinguishes `3000 < SUM(x)` from `SUM(x) > 3000`.
pub fn as_written(query: &Query, spelling: &Spelling) -> String {
    let names = Fragments { query, prefix: "" };
    let outputs: Vec<String> = query
        .outputs
        .iter()
        .map(|output| {
            let expr = match &output.expr {
                OutputExpr::Key(index) => names.key(*index),
                OutputExpr::Value(expression, _) => names.expression(expression, Times::AS_WRITTEN),
            };
            format!("{expr} AS {}", quote_ident(&output.name))
        })
        .collect();
    let filter = names.filter(None, spelling).map(|filter| format!(" WHERE {filter}"));
    format!(
        "SELECT {} FROM {}{} GROUP BY {} HAVING {}",
        outputs.join(", "),
        names.table(),
        filter.unwrap_or_default(),
        names.keys().join(", "),
        names.having(None),
    )
}

/// The statement that asks about many keys at once, none of them NULL.
///
/// Parameters:
///
/// - `$1 text[]`: the keys' first column as text
/// - under [`Time::Processing`], `$2 text`: the instant that NOW() stands for
/// - under [`Time::Event`], `$2 text[]`: each key's own instant, in the order of the keys. Later rows are left out
/// - `$3 text[]` and on: further columns of the keys
///
/// The instants need an offset (`…Z`) or a session in UTC.
pub fn confirmation(query: &Query, time: Time) -> Confirmation {
    keyed(query, time, false)
}

/// The statement of [`confirmation`] with two more columns for an audit:
///
/// - `rows` (bigint): the number of rows inside the window
/// - `times` (text): the sum of their times in microseconds since 1970, without infinities. 0 without a time bound
pub fn comparison(query: &Query, time: Time) -> Confirmation {
    keyed(query, time, true)
}

fn keyed(query: &Query, time: Time, with_rows: bool) -> Confirmation {
    if let Some(text) = &query.text {
        return text::keyed(query, text);
    }
    let names = Fragments { query, prefix: ROW };
    let (columns, outputs) = names.answered(with_rows);
    let (asked, instant, join, answer) = match time {
        Time::Processing => (
            names.asked(false),
            // Named even by a query without a time bound: a parameter that is nowhere cannot be bound.
            "($2::text)::timestamptz AS t, ",
            names.each_key(|place, ty| format!("answer.{0} = (asked.{0})::{ty}", key_name(place))),
            names.answer(
                time,
                "($2::text)::timestamptz",
                &names.each_key(|place, ty| {
                    format!("({} = ANY ((${}::text[])::{ty}[]))", names.key(place), parameter(place))
                }),
                with_rows,
            ),
        ),
        Time::Event => {
            let same =
                names.each_key(|place, ty| format!("({} = (asked.{})::{ty})", names.key(place), key_name(place)));
            let asked = names.asked(true);
            let answer = names.answer_each(&asked, "(asked.t)::timestamptz", &same, with_rows);
            (asked, "", "answer.ord = asked.ord".to_owned(), answer)
        }
    };
    let sql = format!(
        "SELECT asked.ord AS ord, seen.snapshot AS snapshot, seen.in_recovery AS in_recovery, \
         COALESCE(answer.holds, false) AS holds{columns} \
         FROM (SELECT {instant}pg_current_snapshot()::text AS snapshot, pg_is_in_recovery() AS in_recovery) AS seen \
         CROSS JOIN {asked} \
         LEFT JOIN ({answer}) AS answer ON {join} \
         ORDER BY asked.ord"
    );
    Confirmation { sql, outputs }
}

/// The statement that asks about a key that contains NULL. Such a key equals nothing, so it needs a statement of its
/// own. `nulls` says which of the key's columns are NULL.
///
/// Parameters: `$1 text` is the instant that NOW() stands for. `$2 text` and on are the columns that are not NULL. The
/// result has one row, whose `ord` is 1.
pub fn confirmation_null(query: &Query, time: Time, nulls: &[bool]) -> Confirmation {
    null(query, time, nulls, false)
}

/// The statement of [`confirmation_null`] with the additional columns of [`comparison`].
pub fn comparison_null(query: &Query, time: Time, nulls: &[bool]) -> Confirmation {
    null(query, time, nulls, true)
}

fn null(query: &Query, time: Time, nulls: &[bool], with_rows: bool) -> Confirmation {
    if let Some(text) = &query.text {
        return text::null(query, text, nulls);
    }
    let names = Fragments { query, prefix: ROW };
    let mut parameter = 1;
    let condition = names.each_key(|place, ty| {
        if nulls.get(place).copied().unwrap_or(true) {
            return format!("({} IS NULL)", names.key(place));
        }
        parameter += 1;
        format!("({} = (${parameter}::text)::{ty})", names.key(place))
    });
    let answer = names.answer(time, "($1::text)::timestamptz", &condition, with_rows);
    let (columns, outputs) = names.answered(with_rows);
    let sql = format!(
        "SELECT 1::bigint AS ord, seen.snapshot AS snapshot, seen.in_recovery AS in_recovery, \
         COALESCE(answer.holds, false) AS holds{columns} \
         FROM (SELECT ($1::text)::timestamptz AS t, pg_current_snapshot()::text AS snapshot, \
         pg_is_in_recovery() AS in_recovery) AS seen \
         LEFT JOIN ({answer}) AS answer ON true"
    );
    Confirmation { sql, outputs }
}

/// The statement that reads a group's rows inside the window, and those that may come back into it: the primary key's
/// columns as text, then the wanted ones. Times are microseconds since 1970 in UTC, or the infinities by name.
///
/// Parameters: `$1 text` is the key's first column, or NULL. `$2 text` is the instant that NOW() stands for. `$3 text`
/// and on are further columns of the key.
pub fn rows(query: &Query, wanted: &[usize]) -> String {
    let names = Fragments { query, prefix: ROW };
    let columns: Vec<String> = query.table.primary_key.iter().chain(wanted).map(|index| names.text(*index)).collect();
    format!(
        "SELECT {} FROM {} AS r CROSS JOIN (SELECT ($2::text)::timestamptz AS t) AS asked \
         WHERE {}{}",
        columns.join(", "),
        names.table(),
        names.each_key(|place, ty| {
            format!("({} IS NOT DISTINCT FROM (${}::text)::{ty})", names.key(place), parameter(place))
        }),
        names.held("asked.t"),
    )
}

/// The statement that reads the rows of many groups, like [`rows`] for one. Under event time each group has a window of
/// its own, so it reads all rows of these groups.
///
/// Parameters: `$1 text[]` is the keys' first column, without NULLs. `$2 text` is the instant that NOW() stands for.
/// `$3 text[]` and on are further columns of the keys.
pub fn rows_of(query: &Query, wanted: &[usize], time: Time) -> String {
    let names = Fragments { query, prefix: ROW };
    let all = all_rows_at(query, wanted, time, "$2");
    if let [_] = query.group_by.as_slice() {
        return format!("{all} AND ({} = ANY (($1::text[])::{}[]))", names.key(0), names.key_type(0));
    }
    let places = 0..query.group_by.len();
    let keys: Vec<String> = places.clone().map(|place| names.key(place)).collect();
    let typed: Vec<String> =
        places.map(|place| format!("(one.{})::{}", key_name(place), names.key_type(place))).collect();
    format!(
        "{all} AND (({}) IN (SELECT {} FROM {} AS one({})))",
        keys.join(", "),
        typed.join(", "),
        names.unnested(),
        names.key_names().join(", "),
    )
}

/// The statement that reads the keys of the groups inside the window as text, in order. Under event time it reads those
/// of all groups. Keys that contain NULL are left out.
///
/// Parameters: `$1 text` is the instant that NOW() stands for. `$2 bigint` is the greatest number of keys. With
/// `after`, `$3 text` and on are the columns of the key after which to begin.
pub fn keys(query: &Query, time: Time, after: bool) -> String {
    let names = Fragments { query, prefix: ROW };
    let bounded = match time {
        Time::Processing => names.bounded("asked.t"),
        Time::Event => names.unbounded(),
    };
    let keys = names.keys().join(", ");
    let named: Vec<String> =
        (0..query.group_by.len()).map(|place| format!("{} AS {}", names.key(place), key_name(place))).collect();
    let last: Vec<String> =
        (0..query.group_by.len()).map(|place| format!("(${}::text)::{}", place + 3, names.key_type(place))).collect();
    let after = match (after, last.as_slice()) {
        (false, _) => String::new(),
        (true, [last]) => format!(" AND ({keys} > {last})"),
        (true, last) => format!(" AND (({keys}) > ({}))", last.join(", ")),
    };
    let shown = names.key_names().into_iter().enumerate();
    let shown: Vec<String> =
        shown.map(|(place, name)| format!("{} AS {name}", names.key_text(place, &format!("page.{name}")))).collect();
    let order: Vec<String> = names.key_names().iter().map(|name| format!("page.{name}")).collect();
    format!(
        "SELECT {} FROM (SELECT DISTINCT {} FROM {} AS r \
         CROSS JOIN (SELECT ($1::text)::timestamptz AS t) AS asked \
         WHERE {}{bounded}{after} ORDER BY {keys} LIMIT $2::bigint) AS page ORDER BY {}",
        shown.join(", "),
        named.join(", "),
        names.table(),
        names.each_key(|place, _| format!("({} IS NOT NULL)", names.key(place))),
        order.join(", "),
    )
}

/// The statement that reads rows by their primary keys, without regard to their time. Its columns are those of
/// [`rows`].
///
/// Parameters: `$1 text[]`, `$2 text[]` … are the primary keys' columns as text, each in the order of the keys.
pub fn rows_by_key(query: &Query, wanted: &[usize]) -> String {
    let names = Fragments { query, prefix: ROW };
    let primary_key = &query.table.primary_key;
    let columns: Vec<String> = primary_key.iter().chain(wanted).map(|index| names.text(*index)).collect();
    let arrays: Vec<String> = (1..=primary_key.len()).map(|index| format!("${index}::text[]")).collect();
    let parts: Vec<String> = (1..=primary_key.len()).map(|index| format!("k{index}")).collect();
    let equal = primary_key
        .iter()
        .zip(&parts)
        .map(|(index, part)| format!("({} = (asked.{part})::{})", names.column(*index), names.type_of(*index)));
    format!(
        "SELECT {} FROM unnest({}) AS asked({}) JOIN {} AS r ON {}",
        columns.join(", "),
        arrays.join(", "),
        parts.join(", "),
        names.table(),
        equal.collect::<Vec<_>>().join(" AND "),
    )
}

/// The statement that reads the rows of all groups inside the window, like [`rows`] for one. Under event time each
/// group has a window of its own, so it reads all rows.
///
/// Parameter: `$1 text` is the instant that NOW() stands for.
pub fn all_rows(query: &Query, wanted: &[usize], time: Time) -> String {
    all_rows_at(query, wanted, time, "$1")
}

/// The statement of [`all_rows`] for the rows in some blocks of the table.
///
/// Parameters: `$1 text` is the instant. `$2 text` and `$3 text` are the physical places (`ctid`) of the first row and
/// of the first row after the last.
pub fn all_rows_in(query: &Query, wanted: &[usize], time: Time) -> String {
    format!("{} AND (r.ctid >= ($2::text)::tid) AND (r.ctid < ($3::text)::tid)", all_rows(query, wanted, time))
}

fn all_rows_at(query: &Query, wanted: &[usize], time: Time, instant: &str) -> String {
    let names = Fragments { query, prefix: ROW };
    let columns: Vec<String> = query.table.primary_key.iter().chain(wanted).map(|index| names.text(*index)).collect();
    let bounded = match time {
        Time::Processing => names.held("asked.t"),
        Time::Event => names.unbounded(),
    };
    format!(
        "SELECT {} FROM {} AS r CROSS JOIN (SELECT ({instant}::text)::timestamptz AS t) AS asked WHERE true{bounded}",
        columns.join(", "),
        names.table(),
    )
}

/// The statement that runs the whole rule. It returns the keys, as text, of the groups for which HAVING holds.
///
/// Parameter: `$1 text` is the instant that NOW() stands for.
pub fn holding(query: &Query) -> String {
    if let Some(text) = &query.text {
        return text::holding(query, text);
    }
    let names = Fragments { query, prefix: ROW };
    let shown = |place: usize| format!("{} AS {}", names.key_text(place, &names.key(place)), key_name(place));
    let shown: Vec<String> = (0..query.group_by.len()).map(shown).collect();
    format!(
        "SELECT {} FROM {} AS r CROSS JOIN (SELECT ($1::text)::timestamptz AS t) AS asked \
         WHERE true{} GROUP BY {} HAVING {}",
        shown.join(", "),
        names.table(),
        names.bounded("asked.t"),
        names.keys().join(", "),
        // Once for the statement: what HAVING names has to be grouped by, or be a parameter.
        names.having(Some("($1::text)::timestamptz")),
    )
}

#[cfg(test)]
mod tests;
