//! Statements around the text of a rule that Postgres alone evaluates. Postgres has prepared the text alone, so it is
//! exactly one query. It stands in parentheses as a table of its outputs. NOW() in it is the time of the statement.

use super::Confirmation;
use super::fragments::{Fragments, key_name, parameter};
use crate::rule::text::Text;
use crate::rule::{OutputExpr, Query};

/// The text as a table `q`, whose columns are named by their places. A new line follows the text, because it may end
/// with a comment.
fn table(text: &Text) -> String {
    let columns: Vec<String> = (0..text.columns.len()).map(column).collect();
    format!("({}\n) AS q({})", text.sql, columns.join(", "))
}

fn column(place: usize) -> String {
    format!("c{}", place + 1)
}

/// The column at this place of the key.
fn key(text: &Text, place: usize) -> String {
    format!("q.{}", column(text.key.get(place).copied().unwrap_or(usize::MAX - 1)))
}

/// The outputs that are not in the key, as text columns, and their names.
fn outputs(query: &Query) -> (String, Vec<String>) {
    let (mut columns, mut names) = (String::new(), Vec::new());
    for (place, output) in query.outputs.iter().enumerate() {
        if let OutputExpr::Value(..) = output.expr {
            columns.push_str(&format!(", (answer.{})::text AS o{}", column(place), names.len()));
            names.push(output.name.clone());
        }
    }
    (columns, names)
}

const SEEN: &str = "pg_current_snapshot()::text AS snapshot, pg_is_in_recovery() AS in_recovery";

/// Like [`super::confirmation`]. If the query returns several rows for a key, so does this statement.
pub(super) fn keyed(query: &Query, text: &Text) -> Confirmation {
    let names = Fragments { query, prefix: "" };
    let (columns, outputs) = outputs(query);
    if text.key.is_empty() {
        let sql = format!(
            "SELECT 1::bigint AS ord, seen.snapshot AS snapshot, seen.in_recovery AS in_recovery, \
             COALESCE(answer.found, false) AS holds{columns} \
             FROM (SELECT ($1::text[]) AS nothing, ($2::text) AS t, {SEEN}) AS seen \
             LEFT JOIN (SELECT true AS found, q.* FROM {}) AS answer ON true",
            table(text)
        );
        return Confirmation { sql, outputs };
    }
    // One condition for each column: Postgres pushes these down into the query.
    let within =
        names.each_key(|place, ty| format!("({} = ANY ((${}::text[])::{ty}[]))", key(text, place), parameter(place)));
    let same = names.each_key(|place, ty| {
        format!("answer.{} = (asked.{})::{ty}", key(text, place).trim_start_matches("q."), key_name(place))
    });
    let sql = format!(
        "SELECT asked.ord AS ord, seen.snapshot AS snapshot, seen.in_recovery AS in_recovery, \
         COALESCE(answer.found, false) AS holds{columns} \
         FROM (SELECT ($2::text) AS t, {SEEN}) AS seen CROSS JOIN {} \
         LEFT JOIN (SELECT true AS found, q.* FROM {} WHERE {within}) AS answer ON {same} ORDER BY asked.ord",
        names.asked(false),
        table(text)
    );
    Confirmation { sql, outputs }
}

/// Like [`super::confirmation_null`].
pub(super) fn null(query: &Query, text: &Text, nulls: &[bool]) -> Confirmation {
    let names = Fragments { query, prefix: "" };
    let (columns, outputs) = outputs(query);
    let mut parameter = 1;
    let condition = names.each_key(|place, ty| {
        if nulls.get(place).copied().unwrap_or(true) {
            return format!("({} IS NULL)", key(text, place));
        }
        parameter += 1;
        format!("({} = (${parameter}::text)::{ty})", key(text, place))
    });
    let sql = format!(
        "SELECT 1::bigint AS ord, seen.snapshot AS snapshot, seen.in_recovery AS in_recovery, \
         COALESCE(answer.found, false) AS holds{columns} FROM (SELECT ($1::text) AS t, {SEEN}) AS seen \
         LEFT JOIN (SELECT true AS found, q.* FROM {} WHERE {condition}) AS answer ON true",
        table(text)
    );
    Confirmation { sql, outputs }
}

/// Like [`super::holding`].
pub(super) fn holding(query: &Query, text: &Text) -> String {
    let names = Fragments { query, prefix: "" };
    let shown = |place: usize| format!("{} AS {}", names.key_text(place, &key(text, place)), key_name(place));
    let shown: Vec<String> = (0..text.key.len()).map(shown).collect();
    let shown = if shown.is_empty() { "true AS found".to_owned() } else { shown.join(", ") };
    format!("SELECT DISTINCT {shown} FROM {} WHERE ($1::text) IS NOT NULL", table(text))
}
