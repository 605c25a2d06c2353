//! [`Parsed`] and the catalog → [`Query`]: names become columns, types are checked. Pure.

mod keys;
mod times;
mod types;

use std::sync::Arc;

use uuid::Uuid;

use super::expression::{Aggregate, Expression, Type};
use super::parse::node::Kind;
use super::parse::{At, Name, Parsed, ParsedOutput};
use super::{Confirm, Output, OutputExpr, Query, RuleError, Time, TimeBound, edges, render};
use crate::model::{Column, ColumnType, Table};
use types::Types;

/// The namespace of rule versions: a random UUID. It must never change, because alerts and checkpoints contain
/// versions.
const VERSION_NAMESPACE: Uuid = Uuid::from_u128(0x6f1d_3c0e_9b52_4a7e_8d44_51c2_e07b_a963);
/// The number of hex digits in a rule's version.
const VERSION_DIGITS: usize = 16;
/// The greatest number of columns that a message lists.
const LISTED: usize = 20;

/// Resolves a parsed rule against the table that it names.
///
/// # Errors
/// - A name that the table does not have.
/// - A type for which memory and Postgres could disagree.
/// - An output that is neither key nor aggregate.
/// - Two outputs of the same name.
///
/// Each error has its place in the SQL.
pub fn compile(parsed: &Parsed, table: &Table) -> Result<Query, RuleError> {
    let Parsed { schema, table: name, outputs: parsed_outputs, filter, bound, group_by, having, spelling: _ } = parsed;
    if schema.text != table.schema || name.text != table.name {
        let problem = format!("the rule reads {}.{}, but the table watched is {table}", schema.text, name.text);
        return Err(name.at.error(problem));
    }
    let keys::Keys { table: with_keys, group_by, computed } = keys::keys(table, group_by, parsed_outputs)?;
    let mut aggregates = Vec::new();
    let mut outputs: Vec<Output> = Vec::new();
    for parsed_output in parsed_outputs {
        let output = output(&with_keys, (&group_by, &computed), parsed_output, &mut aggregates)?;
        if outputs.iter().any(|other| other.name == output.name) {
            let problem = format!(
                "two outputs are named {:?}, and an alert has one field for each; name one with AS",
                output.name
            );
            return Err(parsed_output.name.at.error(problem));
        }
        outputs.push(output);
    }
    let mut rows = Types { table, aggregates: &mut Vec::new(), columns: true };
    let place = filter.as_ref().map(|filter| filter.at);
    let filter = filter.as_ref().map(|filter| rows.condition(filter, "WHERE")).transpose()?;
    let bound = match bound {
        Some(bound) => {
            let (column, ty) = time_column(table, &bound.column)?;
            let (edge, edge_type) = rows.typed(&bound.edge)?;
            if !edge_type.is_time() {
                return Err(bound
                    .edge
                    .at
                    .error(format!("a time is compared with a time, not with {}", edge_type.name())));
            }
            // An instant is compared with the instant of a local time.
            let edge = if ty == Type::TimestampTz { times::widened(edge, edge_type, ty) } else { edge };
            Some(TimeBound { column, inclusive: bound.inclusive, edge })
        }
        None => None,
    };
    let at = having.at;
    let having = Types { table, aggregates: &mut aggregates, columns: false }.condition(having, "HAVING")?;
    for (expression, at) in filter.iter().zip(place).chain([(&having, at)]) {
        edges::check(expression).map_err(|problem| at.error(problem))?;
    }
    for aggregate in &aggregates {
        for expression in aggregate.expressions() {
            edges::check(expression).map_err(|problem| at.error(problem))?;
        }
    }
    if !having.has_aggregate() {
        return Err(at.error("HAVING needs an aggregate, such as COUNT(*) > 5: without one it says nothing of a group"));
    }
    let zone = Arc::default();
    Ok(Query { table: with_keys, group_by, computed, outputs, aggregates, filter, bound, having, zone, text: None })
}

/// Whether a column of this type can be in the key of a rule that Postgres alone evaluates.
pub(in crate::rule) fn is_key_of_text(ty: &ColumnType) -> bool {
    !matches!(ty, ColumnType::Numeric { .. }) && (types::is_key(ty) || Type::of(ty).is_some_and(Type::is_time))
}

/// Returns the indexes of the table's columns that these queries need besides the primary key: GROUP BY, WHERE, and the
/// arguments and filters of aggregates. They are distinct and ascending.
pub fn wanted(queries: &[&Query]) -> Vec<usize> {
    let mut columns: Vec<usize> = Vec::new();
    for query in queries {
        columns.extend(query.key_columns());
        columns.extend(query.expressions().flat_map(Expression::columns));
        columns.extend(query.bound.iter().map(|bound| bound.column));
    }
    columns.sort_unstable();
    columns.dedup();
    columns
}

/// Rejects a query that reads a nullable column with a DEFAULT, unless the connector is known to keep NULLs.
///
/// # Errors
/// The column, and the two settings that fix it. The message has no place in the SQL, because the rule itself is valid.
pub fn check_nulls(query: &Query, connector_keeps_nulls: bool) -> Result<(), String> {
    if connector_keeps_nulls {
        return Ok(());
    }
    let columns = wanted(&[query]);
    let at_risk = columns.iter().filter_map(|index| query.table.columns.get(*index));
    match at_risk.into_iter().find(|column| column.nullable && column.has_default) {
        None => Ok(()),
        Some(column) => Err(format!(
            "column {:?} of {} allows NULL and has a DEFAULT: Debezium's JSON converter replaces NULL with the default \
             unless the connector has value.converter.replace.null.with.default=false, so sums and counts here would \
             differ from Postgres's. Set that in the connector, and source.connector_keeps_nulls = true here",
            column.name, query.table
        )),
    }
}

/// Computes the rule's version: 16 hex digits of a UUIDv5 (SHA-1) over the canonical SQL, the meaning of NOW(), and
/// whether Postgres confirms.
///
/// The version does not depend on white space, the case of keywords, the order of a comparison's sides, `1 week` or
/// `7 days`, `3000.0` or `3000`. It does depend on the names of outputs, because alerts contain them.
pub fn version(query: &Query, time: Time, confirm: Confirm) -> String {
    let canonical = query.clone().canonical();
    // The words that versions have been made of since the first one.
    let clock = match time {
        Time::Processing => "wall",
        Time::Event => "event",
    };
    let confirm = match confirm {
        Confirm::Required => "required",
        Confirm::Off => "off",
    };
    let text = format!("{}\nclock {clock}\nconfirm {confirm}", render::original(&canonical));
    let hash = Uuid::new_v5(&VERSION_NAMESPACE, text.as_bytes());
    hash.simple().to_string().chars().take(VERSION_DIGITS).collect()
}

fn output(
    table: &Table,
    (group_by, computed): (&[usize], &[Expression]),
    parsed: &ParsedOutput,
    aggregates: &mut Vec<Aggregate>,
) -> Result<Output, RuleError> {
    let expr = match &parsed.expr.kind {
        _ if let Some(place) = keys::computed_at(table, group_by, computed, &parsed.expr) => OutputExpr::Key(place),
        Kind::Column(name) => {
            let (index, _) = find(table, name)?;
            match group_by.iter().position(|key| *key == index) {
                Some(place) => OutputExpr::Key(place),
                None => {
                    let problem = format!(
                        "{:?} is not a GROUP BY column; the select list may hold those and expressions over aggregates",
                        name.text
                    );
                    return Err(name.at.error(problem));
                }
            }
        }
        _ => {
            let (expression, ty) = Types { table, aggregates, columns: false }.typed(&parsed.expr)?;
            edges::check_shown(&expression).map_err(|problem| parsed.expr.at.error(problem))?;
            OutputExpr::Value(expression, ty)
        }
    };
    Ok(Output { name: parsed.name.text.clone(), expr })
}

fn time_column(table: &Table, name: &Name) -> Result<(usize, Type), RuleError> {
    let (index, column) = find(table, name)?;
    match Type::of(&column.ty) {
        Some(ty) if ty.is_time() => Ok((index, ty)),
        _ => Err(unsupported(name.at, column, "a time bound takes timestamp with or without time zone, and date")),
    }
}

fn unsupported(at: At, column: &Column, supported: &str) -> RuleError {
    at.error(format!("column {:?} is of type {}; {supported}", column.name, column.type_name))
}

fn find<'a>(table: &'a Table, name: &Name) -> Result<(usize, &'a Column), RuleError> {
    table.column(&name.text).ok_or_else(|| name.at.error(unknown_column(table, &name.text)))
}

fn unknown_column(table: &Table, name: &str) -> String {
    let names = || table.columns.iter().map(|column| column.name.as_str());
    let limit = if name.chars().count() < 5 { 1 } else { 2 };
    let close = names()
        .map(|candidate| (strsim::levenshtein(&name.to_lowercase(), &candidate.to_lowercase()), candidate))
        .filter(|(distance, _)| *distance <= limit)
        .min();
    let hint = match close {
        // Only quotes are missing: "UserId" was folded to userid.
        Some((0, close)) => {
            format!("names are folded to lower case unless quoted: write {}", render::quote_ident(close))
        }
        Some((_, close)) => format!("did you mean {close:?}?"),
        None => String::new(),
    };
    let listed: Vec<&str> = names().take(LISTED).collect();
    let more = if table.columns.len() > LISTED { ", …" } else { "" };
    let columns = format!("its columns are {}{more}", listed.join(", "));
    let hint = if hint.is_empty() { columns } else { format!("{hint} ({columns})") };
    format!("{table} has no column {name:?}; {hint}")
}

#[cfg(test)]
mod tests;
