//! What a SELECT calls: aggregates, window functions, subqueries.

use std::ops::ControlFlow;

use sqlparser::ast::{Expr, ObjectName, Query, Select, Visit, Visitor, WindowType};

use super::relation_name;

/// Aggregates of Postgres: they make one row of all.
const AGGREGATES: &[&str] = &[
    "any_value",
    "array_agg",
    "avg",
    "bit_and",
    "bit_or",
    "bit_xor",
    "bool_and",
    "bool_or",
    "corr",
    "count",
    "covar_pop",
    "covar_samp",
    "every",
    "json_agg",
    "json_object_agg",
    "jsonb_agg",
    "jsonb_object_agg",
    "max",
    "min",
    "mode",
    "percentile_cont",
    "percentile_disc",
    "range_agg",
    "regr_avgx",
    "regr_avgy",
    "regr_count",
    "regr_intercept",
    "regr_r2",
    "regr_slope",
    "regr_sxx",
    "regr_sxy",
    "regr_syy",
    "stddev",
    "stddev_pop",
    "stddev_samp",
    "string_agg",
    "sum",
    "var_pop",
    "var_samp",
    "variance",
    "xmlagg",
];

/// Calls outside of subqueries.
#[derive(Default)]
pub(super) struct Calls {
    pub(super) depth: usize,
    pub(super) aggregates: bool,
    pub(super) windows: Vec<WindowType>,
}

impl Visitor for Calls {
    type Break = ();

    fn pre_visit_query(&mut self, _: &Query) -> ControlFlow<()> {
        self.depth += 1;
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _: &Query) -> ControlFlow<()> {
        self.depth -= 1;
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        if let Expr::Function(function) = expr
            && self.depth == 0
        {
            match &function.over {
                Some(window) => self.windows.push(window.clone()),
                None => self.aggregates |= is_aggregate(&function.name),
            }
        }
        ControlFlow::Continue(())
    }
}

pub(super) fn is_aggregate(name: &ObjectName) -> bool {
    relation_name(name).is_some_and(|name| AGGREGATES.contains(&name.as_str()))
}

/// The subqueries in a SELECT's expressions, each with what its output equals where it is that of an IN.
pub(super) fn subqueries(select: &Select, query: &Query) -> Result<Vec<(Option<Expr>, Query)>, String> {
    let mut found = Subqueries::default();
    let _: ControlFlow<()> = select.projection.visit(&mut found);
    let _: ControlFlow<()> = select.selection.visit(&mut found);
    let _: ControlFlow<()> = select.having.visit(&mut found);
    let _: ControlFlow<()> = select.group_by.visit(&mut found);
    let _: ControlFlow<()> = query.order_by.visit(&mut found);
    for join in select.from.iter().flat_map(|from| &from.joins) {
        let _: ControlFlow<()> = join.join_operator.visit(&mut found);
    }
    if found.found.len() == found.queries {
        Ok(found.found)
    } else {
        Err("a subquery stands where it is not known".to_owned())
    }
}

#[derive(Default)]
pub(super) struct Subqueries {
    pub(super) depth: usize,
    pub(super) queries: usize,
    pub(super) found: Vec<(Option<Expr>, Query)>,
}

impl Visitor for Subqueries {
    type Break = ();

    fn pre_visit_query(&mut self, _: &Query) -> ControlFlow<()> {
        self.queries += usize::from(self.depth == 0);
        self.depth += 1;
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _: &Query) -> ControlFlow<()> {
        self.depth -= 1;
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        if self.depth > 0 {
            return ControlFlow::Continue(());
        }
        match expr {
            Expr::Exists { subquery, .. } | Expr::Subquery(subquery) => self.found.push((None, (**subquery).clone())),
            // A NULL among the rows of NOT IN is about every key.
            Expr::InSubquery { expr, subquery, negated } => {
                self.found.push(((!negated).then(|| (**expr).clone()), (**subquery).clone()));
            }
            _ => {}
        }
        ControlFlow::Continue(())
    }
}
