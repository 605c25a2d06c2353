//! What names in a query mean, as far as they mean columns, and which columns are equal.

use std::collections::BTreeSet;

use sqlparser::ast::{BinaryOperator, Expr, Ident, Query, Select, SelectItem, SetExpr, Value, ValueWithSpan};

use super::ident;

/// A column of an item of some FROM, by the item's number.
pub(super) type Column = (usize, String);

/// An item of a FROM.
pub(super) struct Item {
    pub(super) number: usize,
    pub(super) name: String,
    /// `None`: not known.
    pub(super) columns: Option<Vec<String>>,
    pub(super) kind: ItemKind,
    /// An outer join makes NULLs of it.
    pub(super) is_nullable: bool,
    /// Of a table.
    pub(super) primary_key: Vec<String>,
}

pub(super) enum ItemKind {
    /// The watched table.
    Watched,
    Query(Box<Query>),
    Other,
}

/// The items that names may mean, from the inside out.
pub(super) struct Scope<'s> {
    pub(super) items: Vec<Item>,
    pub(super) outer: Option<&'s Scope<'s>>,
}

/// Columns that are equal.
#[derive(Clone, Default)]
pub(super) struct Classes(Vec<BTreeSet<Column>>);

impl Classes {
    pub(super) fn join(&mut self, one: Column, other: Column) {
        let mut merged = BTreeSet::from([one, other]);
        self.0.retain(|class| {
            let is_met = !class.is_disjoint(&merged);
            if is_met {
                merged.extend(class.iter().cloned());
            }
            !is_met
        });
        self.0.push(merged);
    }

    /// The columns that equal one, itself among them.
    pub(super) fn of(&self, column: &Column) -> BTreeSet<Column> {
        let found = self.0.iter().find(|class| class.contains(column));
        found.cloned().unwrap_or_else(|| BTreeSet::from([column.clone()]))
    }
}

/// The expression of an output.
pub(super) fn output(select: &Select, place: usize) -> Option<&Expr> {
    match select.projection.get(place)? {
        SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } => Some(expr),
        _ => None,
    }
}

/// The names of a query's outputs.
pub(super) fn outputs(query: &Query) -> Option<Vec<String>> {
    let SetExpr::Select(select) = &*query.body else { return None };
    let name = |item: &SelectItem| match item {
        SelectItem::ExprWithAlias { alias, .. } => ident(alias),
        SelectItem::UnnamedExpr(Expr::Identifier(name)) => ident(name),
        SelectItem::UnnamedExpr(Expr::CompoundIdentifier(names)) => names.last().and_then(ident),
        // Not a name that a column has.
        SelectItem::UnnamedExpr(_) => Some(String::new()),
        _ => None,
    };
    select.projection.iter().map(name).collect()
}

/// What an entry of GROUP BY is: a number and an output's name stand for an output.
pub(super) fn named<'e>(select: &'e Select, expr: &'e Expr, scope: &Scope<'_>) -> &'e Expr {
    match expr {
        Expr::Value(ValueWithSpan { value: Value::Number(number, _), .. }) => {
            let place = number.parse::<usize>().ok().and_then(|number| number.checked_sub(1));
            place.and_then(|place| output(select, place)).unwrap_or(expr)
        }
        Expr::Identifier(name) if resolve(expr, scope).is_none() => {
            let named = |item: &&SelectItem| matches!(item, SelectItem::ExprWithAlias { alias, .. } if ident(alias) == ident(name));
            match select.projection.iter().find(named) {
                Some(SelectItem::ExprWithAlias { expr, .. }) => expr,
                _ => expr,
            }
        }
        _ => expr,
    }
}

/// The column that an expression is, if it is one alone.
pub(super) fn resolve(expr: &Expr, scope: &Scope<'_>) -> Option<Column> {
    match expr {
        Expr::Nested(inner) => resolve(inner, scope),
        Expr::Identifier(name) => unqualified(&ident(name)?, scope),
        Expr::CompoundIdentifier(names) => qualified(names, scope),
        _ => None,
    }
}

pub(super) fn unqualified(name: &str, scope: &Scope<'_>) -> Option<Column> {
    let has = |item: &&Item| item.columns.as_ref().is_some_and(|columns| columns.iter().any(|column| column == name));
    let mut found = scope.items.iter().filter(has);
    match (found.next(), found.next()) {
        (Some(item), None) => Some((item.number, name.to_owned())),
        (Some(_), Some(_)) => None,
        // It may be of an item whose columns are not known.
        (None, _) if scope.items.iter().any(|item| item.columns.is_none()) => None,
        (None, _) => unqualified(name, scope.outer?),
    }
}

pub(super) fn qualified(names: &[Ident], scope: &Scope<'_>) -> Option<Column> {
    let [.., table, column] = names else { return None };
    let (table, column) = (ident(table)?, ident(column)?);
    match scope.items.iter().find(|item| item.name == table) {
        Some(item) => Some((item.number, column)),
        None => qualified(names, scope.outer?),
    }
}

/// Takes the equalities of columns that a condition joins with AND. `joined`: of an outer join, whose condition says nothing of rows
/// that are on its other side alone.
pub(super) fn equalities(condition: &Expr, scope: &Scope<'_>, classes: &mut Classes, joined: Option<&[usize]>) {
    match condition {
        Expr::Nested(inner) => equalities(inner, scope, classes, joined),
        Expr::BinaryOp { left, op: BinaryOperator::And, right } => {
            equalities(left, scope, classes, joined);
            equalities(right, scope, classes, joined);
        }
        Expr::BinaryOp { left, op: BinaryOperator::Eq, right } => {
            if let (Some(left), Some(right)) = (resolve(left, scope), resolve(right, scope)) {
                let is_joined = |column: &Column| joined.is_none_or(|joined| joined.contains(&column.0));
                if is_joined(&left) || is_joined(&right) {
                    classes.join(left, right);
                }
            }
        }
        _ => {}
    }
}
