//! Rejects every clause that a rule does not support. None is ignored.

use sqlparser::ast::{Expr, GroupByExpr, Query, Select, SelectFlavor, SelectItem, SetExpr, TableWithJoins};
use sqlparser::keywords::Keyword;

use super::source::{self, Source};
use super::{ONE_SELECT, ONE_TABLE, OUTPUTS};
use crate::rule::RuleError;

/// Returns the plain SELECT of a query, if the query has no other clauses.
pub(super) fn select_of<'a>(source: &Source, query: &'a Query) -> Result<&'a Select, RuleError> {
    let Query { with, body, order_by, limit_clause, fetch, locks, for_clause, settings, format_clause, pipe_operators } =
        query;
    source.refuse_clauses(&[
        (with.is_some(), Keyword::WITH, "WITH", ONE_SELECT),
        (order_by.is_some(), Keyword::ORDER, "ORDER BY", "each key is judged by itself, so leave it out"),
        (limit_clause.is_some(), Keyword::LIMIT, "LIMIT or OFFSET", "each key is judged by itself, so leave it out"),
        (fetch.is_some(), Keyword::FETCH, "FETCH", "each key is judged by itself, so leave it out"),
        (!locks.is_empty() || for_clause.is_some(), Keyword::FOR, "FOR", "a rule only reads"),
        (settings.is_some(), Keyword::SETTINGS, "SETTINGS", ONE_SELECT),
        (format_clause.is_some(), Keyword::FORMAT, "FORMAT", ONE_SELECT),
        (!pipe_operators.is_empty(), Keyword::NoKeyword, "|>", ONE_SELECT),
    ])?;
    match body.as_ref() {
        SetExpr::Select(select) => Ok(select),
        SetExpr::SetOperation { left: _, op, set_quantifier: _, right: _ } => {
            let keyword = source::set_operator(*op);
            Err(source.keyword(keyword).error(format!("{op} is not supported; {ONE_SELECT}")))
        }
        SetExpr::Query(inner) => Err(source.at(inner.as_ref()).error(format!("a query in parentheses; {ONE_SELECT}"))),
        _ => Err(source.start().error(format!("not a SELECT; {ONE_SELECT}"))),
    }
}

/// The clauses of a rule.
pub(super) struct Clauses<'a> {
    pub(super) projection: &'a [SelectItem],
    pub(super) from: &'a [TableWithJoins],
    pub(super) selection: Option<&'a Expr>,
    pub(super) group_by: &'a GroupByExpr,
    pub(super) having: Option<&'a Expr>,
}

/// Returns the clauses of a rule after all others were found absent. The function is long because both lists have to
/// name every clause.
pub(super) fn clauses_of<'a>(source: &Source, select: &'a Select) -> Result<Clauses<'a>, RuleError> {
    let Select {
        select_token: _,
        optimizer_hints,
        distinct,
        select_modifiers,
        top,
        top_before_distinct,
        projection,
        exclude,
        into,
        from,
        lateral_views,
        prewhere,
        selection,
        connect_by,
        group_by,
        cluster_by,
        distribute_by,
        sort_by,
        having,
        named_window,
        qualify,
        window_before_qualify,
        value_table_mode,
        flavor,
    } = select;
    source.refuse_clauses(&[
        (!optimizer_hints.is_empty(), Keyword::SELECT, "an optimizer hint", ONE_SELECT),
        (distinct.is_some(), Keyword::DISTINCT, "DISTINCT", "GROUP BY gives one row per key already"),
        (select_modifiers.is_some(), Keyword::SELECT, "a modifier after SELECT", OUTPUTS),
        (top.is_some() || *top_before_distinct, Keyword::TOP, "TOP", "each key is judged by itself, so leave it out"),
        (exclude.is_some(), Keyword::EXCLUDE, "EXCLUDE", OUTPUTS),
        (into.is_some(), Keyword::INTO, "INTO", "a rule only reads"),
        (!lateral_views.is_empty(), Keyword::LATERAL, "LATERAL VIEW", ONE_TABLE),
        (prewhere.is_some(), Keyword::PREWHERE, "PREWHERE", ONE_SELECT),
        (!connect_by.is_empty(), Keyword::CONNECT, "CONNECT BY", ONE_SELECT),
        (!cluster_by.is_empty(), Keyword::CLUSTER, "CLUSTER BY", ONE_SELECT),
        (!distribute_by.is_empty(), Keyword::DISTRIBUTE, "DISTRIBUTE BY", ONE_SELECT),
        (!sort_by.is_empty(), Keyword::SORT, "SORT BY", ONE_SELECT),
        (!named_window.is_empty(), Keyword::WINDOW, "WINDOW", ONE_SELECT),
        (qualify.is_some() || *window_before_qualify, Keyword::QUALIFY, "QUALIFY", ONE_SELECT),
        (value_table_mode.is_some(), Keyword::AS, "a value table", ONE_SELECT),
        (!matches!(flavor, SelectFlavor::Standard), Keyword::FROM, "FROM before SELECT", ONE_SELECT),
    ])?;
    Ok(Clauses { projection, from, selection: selection.as_ref(), group_by, having: having.as_ref() })
}
