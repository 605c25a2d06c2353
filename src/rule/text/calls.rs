//! The window functions and subqueries of a SELECT, outside of FROM.

use std::ops::ControlFlow;

use sqlparser::ast::{BinaryOperator, Expr, Query, Select, TableFactor, Visit, Visitor, WindowType};

/// A subquery in an expression.
pub(super) struct Subquery {
    pub(super) query: Query,
    /// For `value IN (subquery)`: the value, where rows and groups without an equal output do not count.
    pub(super) value: Option<Expr>,
}

/// Returns the window functions and subqueries of a SELECT, without those inside derived tables.
///
/// # Errors
/// A subquery in a place that this analysis does not know.
pub(super) fn calls(select: &Select, query: &Query) -> Result<(Vec<WindowType>, Vec<Subquery>), String> {
    let mut found = Found::default();
    let _: ControlFlow<()> = select.visit(&mut found);
    let _: ControlFlow<()> = query.order_by.visit(&mut found);
    let _: ControlFlow<()> = query.limit_clause.visit(&mut found);
    let _: ControlFlow<()> = query.fetch.visit(&mut found);
    if found.subqueries.len() != found.queries {
        return Err("a subquery stands where it is not known".to_owned());
    }
    let mut true_ones = Vec::new();
    select.selection.iter().chain(&select.having).for_each(|condition| has_to_be_true(condition, &mut true_ones));
    let value = |expr: &Expr| {
        let Expr::InSubquery { expr: value, negated: false, .. } = expr else { return None };
        // If the subquery is written twice, one of them may be in another place.
        let written = found.subqueries.iter().filter(|(other, _)| other == expr).count();
        let is_true = true_ones.iter().filter(|one| **one == expr).count() == written;
        is_true.then(|| (**value).clone())
    };
    let subqueries = found.subqueries.iter().map(|(expr, query)| Subquery { query: query.clone(), value: value(expr) });
    Ok((found.windows, subqueries.collect()))
}

/// Collects the conditions that AND and OR join. NULL means the same as false for them. Under NOT it does not.
fn has_to_be_true<'e>(condition: &'e Expr, found: &mut Vec<&'e Expr>) {
    match condition {
        Expr::Nested(inner) => has_to_be_true(inner, found),
        Expr::BinaryOp { left, op: BinaryOperator::And | BinaryOperator::Or, right } => {
            has_to_be_true(left, found);
            has_to_be_true(right, found);
        }
        other => found.push(other),
    }
}

#[derive(Default)]
struct Found {
    /// The number of queries and FROM items around the current node.
    depth: usize,
    queries: usize,
    subqueries: Vec<(Expr, Query)>,
    windows: Vec<WindowType>,
}

impl Visitor for Found {
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

    fn pre_visit_table_factor(&mut self, _: &TableFactor) -> ControlFlow<()> {
        self.depth += 1;
        ControlFlow::Continue(())
    }

    fn post_visit_table_factor(&mut self, _: &TableFactor) -> ControlFlow<()> {
        self.depth -= 1;
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        if self.depth > 0 {
            return ControlFlow::Continue(());
        }
        match expr {
            Expr::Exists { subquery, .. } | Expr::Subquery(subquery) | Expr::InSubquery { subquery, .. } => {
                self.subqueries.push((expr.clone(), (**subquery).clone()));
            }
            Expr::Function(function) => self.windows.extend(function.over.clone()),
            _ => {}
        }
        ControlFlow::Continue(())
    }
}
