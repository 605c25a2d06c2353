//! Checks of each rule, and of the cost of its confirmation. Pure.

use super::super::facts::{Plan, Relation, RuleFacts};
use super::super::finding::{Finding, ok, problem, warning};
use super::database::quoted;
use crate::failure::Exit;
use crate::rule::render::quote_ident;
use crate::rule::{Expression, Query};

/// The size up to which a whole table is read in a few milliseconds.
const SMALL_BYTES: i64 = 4 << 20;

/// Checks a rule against the database.
pub(in crate::app::doctor) fn rule(facts: &RuleFacts, relation: &Relation) -> Vec<Finding> {
    let RuleFacts { name, wrong, nulls, query, of_postgres, plan } = facts;
    if let Some((text, exit)) = wrong {
        let fix = match exit {
            Exit::Refused => "give the role the right that is named",
            _ => "correct the rule's sql, or the table",
        };
        return vec![problem("rule", format!("{name}: {text}"), fix).ends(*exit)];
    }
    let mut found = vec![match nulls {
        Some(text) => problem(
            "rule",
            format!("{name}: {text}"),
            "the connector's setting, and source.connector_keeps_nulls = true",
        )
        .ends(Exit::Misconfigured),
        None => match of_postgres {
            Some(how) => ok("rule", format!("{name}: {how}")),
            None => ok("rule", format!("{name}: Postgres reads it as memory does")),
        },
    }];
    match (query, plan) {
        (Some(_), Some(Err(text))) => {
            found.push(
                problem("index", format!("{name}: its confirmation fails: {text}"), "fix what Postgres says")
                    .ends(Exit::Failed),
            );
        }
        (Some(query), Some(Ok(plan))) => found.push(index(name, query, plan, relation)),
        _ => {}
    }
    found
}

fn index(name: &str, query: &Query, plan: &Plan, relation: &Relation) -> Finding {
    const CHECK: &str = "index";
    let key = query.key_columns().first().and_then(|index| query.table.columns.get(*index));
    let leads = key.is_some_and(|key| relation.index_leads.contains(&key.name));
    let small = relation.bytes <= SMALL_BYTES;
    let create = create_index(query, relation.partitioned);
    match (plan.sequential, leads, small) {
        (false, _, _) if !plan.indexes.is_empty() => {
            ok(CHECK, format!("{name}: a confirmation uses {}", plan.indexes.join(", ")))
        }
        (false, _, _) => ok(CHECK, format!("{name}: a confirmation does not read the whole table")),
        (true, true, true) => ok(CHECK, format!("{name}: the table is small, and has an index for when it has grown")),
        (true, false, true) => {
            warning(CHECK, format!("{name}: each confirmation reads the whole table, which is small yet"), create)
        }
        (true, true, false) => warning(
            CHECK,
            format!(
                "{name}: each confirmation reads the whole table, though there is an index that begins with its key"
            ),
            format!("ANALYZE {}; or {create}", quoted(&query.table.schema, &query.table.name)),
        ),
        (true, false, false) => problem(
            CHECK,
            format!("{name}: each confirmation reads the whole table, {} MiB", relation.bytes / 1_048_576),
            create,
        ),
    }
}

/// Returns the statement for an index that alone answers a confirmation. It has the columns compared for equality
/// first, then the time bound, then the summed columns.
fn create_index(query: &Query, partitioned: bool) -> String {
    let mut keys: Vec<usize> = query.key_columns();
    keys.extend(query.bound.iter().map(|bound| bound.column));
    let rest: Vec<usize> = query.expressions().flat_map(Expression::columns).collect();
    let distinct = |columns: Vec<usize>, but: &[usize]| {
        let mut distinct: Vec<usize> = Vec::new();
        for column in columns {
            if !distinct.contains(&column) && !but.contains(&column) {
                distinct.push(column);
            }
        }
        distinct
    };
    let keys = distinct(keys, &[]);
    let rest = distinct(rest, &keys);
    let names = |columns: &[usize]| {
        let name = |index: &usize| query.table.columns.get(*index).map(|column| quote_ident(&column.name));
        columns.iter().filter_map(name).collect::<Vec<_>>().join(", ")
    };
    let include = if rest.is_empty() { String::new() } else { format!(" INCLUDE ({})", names(&rest)) };
    // Postgres cannot create an index concurrently on a partitioned table.
    let concurrently = if partitioned { "" } else { " CONCURRENTLY" };
    format!(
        "CREATE INDEX{concurrently} ON {} ({}){include}",
        quoted(&query.table.schema, &query.table.name),
        names(&keys)
    )
}
