//! Resolves the names in a query to columns, and records which columns are equal.

use std::collections::BTreeSet;

use sqlparser::ast::{BinaryOperator, Expr, Ident, Query, Select, SelectItem, SetExpr, Value, ValueWithSpan};

use super::ident;

/// A column of a FROM item: the item's number and the column's name.
pub(super) type Column = (usize, String);

/// An item of a FROM.
pub(super) struct Item {
    pub(super) number: usize,
    pub(super) name: String,
    /// Column names. `None`: not known.
    pub(super) columns: Option<Vec<String>>,
    pub(super) kind: ItemKind,
    /// Whether an outer join can replace the item's columns with NULLs.
    pub(super) is_nullable: bool,
    /// The primary key's columns, if the item is a table.
    pub(super) primary_key: Vec<String>,
}

impl Item {
    /// Whether the item is known to have a column of this name.
    pub(super) fn has(&self, name: &str) -> bool {
        self.columns.as_ref().is_some_and(|columns| columns.iter().any(|column| column == name))
    }
}

pub(super) enum ItemKind {
    /// The watched table.
    Watched,
    /// A derived table or a query of WITH, and how many names of WITH it can use.
    Query(Box<Query>, usize),
    Other,
}

/// The FROM items that a name may refer to, and the scope around them.
pub(super) struct Scope<'s> {
    pub(super) items: Vec<Item>,
    pub(super) outer: Option<&'s Scope<'s>>,
}

/// The sets of columns that are known to be equal.
#[derive(Clone, Default)]
pub(super) struct Equals {
    classes: Vec<BTreeSet<Column>>,
    /// Pairs from outer joins. The second column belongs to the side that may be missing. It equals the first where its
    /// row exists.
    where_there: Vec<(Column, Column)>,
}

impl Equals {
    /// Records that two columns are equal.
    pub(super) fn join(&mut self, one: Column, other: Column) {
        let mut merged = BTreeSet::from([one, other]);
        self.classes.retain(|class| {
            let is_met = !class.is_disjoint(&merged);
            if is_met {
                merged.extend(class.iter().cloned());
            }
            !is_met
        });
        self.classes.push(merged);
    }

    /// Records an equality from a join's condition. `joined` is the item that an outer join may leave out.
    pub(super) fn take(&mut self, one: Column, other: Column, joined: Option<usize>) {
        let Some(joined) = joined else { return self.join(one, other) };
        if other.0 == joined {
            self.where_there.push((one.clone(), other.clone()));
        }
        if one.0 == joined {
            self.where_there.push((other, one));
        }
    }

    /// Returns the columns that equal this one, itself included.
    pub(super) fn same(&self, column: &Column) -> BTreeSet<Column> {
        let found = self.classes.iter().find(|class| class.contains(column));
        found.cloned().unwrap_or_else(|| BTreeSet::from([column.clone()]))
    }

    /// Returns the columns that equal this one where their rows exist. The reverse does not hold: two columns that
    /// equal one of a missing row need not equal each other.
    pub(super) fn reach(&self, column: &Column) -> BTreeSet<Column> {
        let mut reached = self.same(column);
        while let Some((_, next)) =
            self.where_there.iter().find(|(from, to)| reached.contains(from) && !reached.contains(to))
        {
            reached.extend(self.same(next));
        }
        reached
    }
}

/// The expression of the output at this place.
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

/// Resolves an entry of GROUP BY. A number or the name of an output stands for that output's expression.
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

/// The column that an expression consists of, if it is nothing more than a column.
pub(super) fn resolve(expr: &Expr, scope: &Scope<'_>) -> Option<Column> {
    match expr {
        Expr::Nested(inner) => resolve(inner, scope),
        Expr::Identifier(name) => unqualified(&ident(name)?, scope),
        Expr::CompoundIdentifier(names) => qualified(names, scope),
        _ => None,
    }
}

fn unqualified(name: &str, scope: &Scope<'_>) -> Option<Column> {
    let mut found = scope.items.iter().filter(|item| item.has(name));
    match (found.next(), found.next()) {
        (Some(item), None) => Some((item.number, name.to_owned())),
        (Some(_), Some(_)) => None,
        // The name may belong to an item whose columns are not known.
        (None, _) if scope.items.iter().any(|item| item.columns.is_none()) => None,
        (None, _) => unqualified(name, scope.outer?),
    }
}

fn qualified(names: &[Ident], scope: &Scope<'_>) -> Option<Column> {
    let [.., table, column] = names else { return None };
    let (table, column) = (ident(table)?, ident(column)?);
    match scope.items.iter().find(|item| item.name == table) {
        Some(item) => Some((item.number, column)),
        None => qualified(names, scope.outer?),
    }
}

/// Records the equalities that a condition joins with AND. `joined` is the item of an outer join. The join's condition
/// says nothing about rows that exist on its other side only.
pub(super) fn equalities(condition: &Expr, scope: &Scope<'_>, equals: &mut Equals, joined: Option<usize>) {
    match condition {
        Expr::Nested(inner) => equalities(inner, scope, equals, joined),
        Expr::BinaryOp { left, op: BinaryOperator::And, right } => {
            equalities(left, scope, equals, joined);
            equalities(right, scope, equals, joined);
        }
        Expr::BinaryOp { left, op: BinaryOperator::Eq, right } => {
            if let (Some(left), Some(right)) = (resolve(left, scope), resolve(right, scope)) {
                equals.take(left, right, joined);
            }
        }
        _ => {}
    }
}
