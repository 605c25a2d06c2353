//! Finds the keys that a change of a table touches. A row of the table takes part in the answer for a key only if some
//! of its columns equal the key. Where this can be proved for every place at which a query reads the table, a change
//! determines the keys to ask about.
//!
//! The proof uses equalities: those of joins and WHERE, those of a subquery with the query around it, and GROUP BY and
//! PARTITION BY inside a derived table. A construct that is not recognized counts as not proved. The query then runs as
//! a whole, which is always right.

use std::collections::BTreeSet;

use sqlparser::ast::{
    Distinct, Expr, GroupByExpr, Ident, JoinConstraint, JoinOperator, NamedWindowExpr, Query, Select, SetExpr,
    TableAlias, TableFactor, Visit, WindowSpec, WindowType,
};

use super::calls::{Subquery, calls};
use super::names::{Column, Equals, Item, ItemKind, Scope, equalities, named, output, outputs, resolve};
use super::{Relation, Relations, ident, reads_any, relation_name};

/// The statement to prove about a query.
#[derive(Clone, Copy)]
enum Goal<'g> {
    /// A row of the table takes part only in outputs whose columns at these places equal columns of the row.
    Outputs(&'g [usize]),
    /// A row of the table takes part only where some of its columns equal these columns of the surrounding query.
    Around(&'g [Column]),
}

/// A query of WITH and its name. It can use the queries before it.
type Cte = (String, Query);

/// The facts that are known around a query.
#[derive(Clone, Copy)]
struct Around<'p> {
    goal: Goal<'p>,
    outer: Option<&'p Scope<'p>>,
    equals: &'p Equals,
    /// The column that equals the query's first output.
    value: Option<&'p Column>,
    ctes: &'p [Cte],
}

pub(super) struct Analysis<'a> {
    table: &'a Relation,
    relations: &'a Relations,
    items: usize,
    /// The columns that equal the key, for each place at which the query reads the table.
    pub(super) touches: Vec<Vec<String>>,
}

type Shown = Result<(), String>;

impl<'a> Analysis<'a> {
    pub(super) fn new(table: &'a Relation, relations: &'a Relations) -> Self {
        Self { table, relations, items: 0, touches: Vec::new() }
    }

    /// Analyses the query of a rule. `key` has the places of the outputs that are the key.
    pub(super) fn whole(&mut self, query: &Query, key: &[usize]) -> Shown {
        self.alone(query, key, &[])
    }

    /// Analyses a query to which the query around it adds no condition.
    fn alone(&mut self, query: &Query, outputs: &[usize], ctes: &[Cte]) -> Shown {
        let equals = &Equals::default();
        self.query(query, Around { goal: Goal::Outputs(outputs), outer: None, equals, value: None, ctes })
    }

    fn is_watched(&self, name: &str) -> bool {
        self.relations.get(name).is_some_and(|found| found.schema == self.table.schema && found.name == self.table.name)
    }

    /// Whether this part reads the table. A name of WITH that is also the table's name counts.
    fn reads(&self, part: &impl Visit, ctes: &[Cte]) -> bool {
        reads_any(part, &|name| {
            self.is_watched(name) || self.cte(name, ctes).is_some_and(|(query, before)| self.reads(query, before))
        })
    }

    /// The query of WITH that a name refers to, and the queries of WITH that it can use.
    fn cte<'c>(&self, name: &str, ctes: &'c [Cte]) -> Option<(&'c Query, &'c [Cte])> {
        let place = ctes.iter().rposition(|(cte, _)| cte == name)?;
        Some((&ctes.get(place)?.1, ctes.get(..place)?))
    }

    fn query(&mut self, query: &Query, around: Around<'_>) -> Shown {
        if !self.reads(query, around.ctes) {
            return Ok(());
        }
        let mut ctes = around.ctes.to_vec();
        if let Some(with) = &query.with {
            if with.recursive {
                return Err("WITH RECURSIVE reads it".to_owned());
            }
            for cte in &with.cte_tables {
                let name = ident(&cte.alias.name).ok_or("a name is odd")?;
                if !cte.alias.columns.is_empty() {
                    return Err("WITH names columns".to_owned());
                }
                ctes.push((name, (*cte.query).clone()));
            }
        }
        if matches!(around.goal, Goal::Outputs(_)) && (query.limit_clause.is_some() || query.fetch.is_some()) {
            return Err("LIMIT compares keys with each other".to_owned());
        }
        let around = Around { ctes: &ctes, ..around };
        match &*query.body {
            SetExpr::Select(select) => self.select(select, query, around),
            SetExpr::Query(inner) => self.query(inner, around),
            SetExpr::SetOperation { op, .. } => Err(format!("{op} joins queries")),
            _ => Err("it is no plain SELECT".to_owned()),
        }
    }

    fn select(&mut self, select: &Select, query: &Query, around: Around<'_>) -> Shown {
        let Around { goal, outer, equals, value, ctes } = around;
        let (mut scope, mut equals) = (Scope { items: Vec::new(), outer }, equals.clone());
        self.from(select, &mut scope, &mut equals, ctes)?;
        if let Some(condition) = &select.selection {
            equalities(condition, &scope, &mut equals, None);
        }
        if let (Some(value), Some(first)) = (value, output(select, 0).and_then(|expr| resolve(expr, &scope))) {
            equals.join(value.clone(), first);
        }
        let keys: Vec<Column> = match goal {
            Goal::Around(columns) => columns.to_vec(),
            Goal::Outputs(places) => {
                places.iter().map(|place| key_column(select, *place, &scope)).collect::<Result<_, _>>()?
            }
        };
        let (windows, subqueries) = calls(select, query)?;
        if matches!(goal, Goal::Outputs(_)) {
            let same: Vec<BTreeSet<Column>> = keys.iter().map(|key| equals.same(key)).collect();
            by_key(select, &scope, &same, &windows)?;
        }
        let reached: Vec<BTreeSet<Column>> = keys.iter().map(|key| equals.reach(key)).collect();
        for item in &scope.items {
            self.item(item, &reached, ctes)?;
        }
        for Subquery { query, value } in subqueries {
            let value = value.and_then(|value| resolve(&value, &scope));
            let (goal, outer, equals) = (Goal::Around(&keys), Some(&scope), &equals);
            self.query(&query, Around { goal, outer, equals, value: value.as_ref(), ctes })?;
        }
        Ok(())
    }

    /// Finds the columns of a FROM item that equal the key.
    fn item(&mut self, item: &Item, keys: &[BTreeSet<Column>], ctes: &[Cte]) -> Shown {
        let column = |equal: &BTreeSet<Column>| {
            let own = equal.iter().find(|column| column.0 == item.number);
            let missing = || format!("no column of {} is shown to equal the key", item.name);
            own.map(|column| column.1.clone()).ok_or_else(missing)
        };
        match &item.kind {
            ItemKind::Watched => {
                let columns = keys.iter().map(column).collect::<Result<_, _>>()?;
                if !self.touches.contains(&columns) {
                    self.touches.push(columns);
                }
                Ok(())
            }
            ItemKind::Query(query, visible) => {
                let ctes = ctes.get(..*visible).unwrap_or_default();
                if !self.reads(&**query, ctes) {
                    return Ok(());
                }
                let known = item.columns.as_deref().unwrap_or_default();
                let place = |column: String| known.iter().position(|name| *name == column).ok_or("a name is odd");
                let columns = keys.iter().map(column).collect::<Result<Vec<_>, _>>()?;
                let places = columns.into_iter().map(place).collect::<Result<Vec<_>, _>>()?;
                self.alone(query, &places, ctes)
            }
            ItemKind::Other => Ok(()),
        }
    }

    /// Adds the items of FROM to the scope, and the equalities of its joins.
    fn from(&mut self, select: &Select, scope: &mut Scope<'_>, equals: &mut Equals, ctes: &[Cte]) -> Shown {
        for from in &select.from {
            let first = scope.items.len();
            self.add(&from.relation, scope, ctes)?;
            for join in &from.joins {
                let (constraint, is_outer) = match &join.join_operator {
                    JoinOperator::Join(constraint)
                    | JoinOperator::Inner(constraint)
                    | JoinOperator::CrossJoin(constraint) => (constraint, false),
                    JoinOperator::Left(constraint) | JoinOperator::LeftOuter(constraint) => (constraint, true),
                    _ => return Err("it has a join other than JOIN and LEFT JOIN".to_owned()),
                };
                self.add(&join.relation, scope, ctes)?;
                let Some((joined, before)) = scope.items.split_last_mut() else { continue };
                joined.is_nullable = is_outer;
                let missing = is_outer.then_some(joined.number);
                match constraint {
                    JoinConstraint::On(condition) => equalities(condition, scope, equals, missing),
                    JoinConstraint::Using(names) => {
                        let before = before.get(first..).unwrap_or_default();
                        for name in names {
                            let name = relation_name(name).ok_or("a name is odd")?;
                            let mut having = before.iter().filter(|item| item.has(&name));
                            if let (Some(one), None, true) = (having.next(), having.next(), joined.has(&name)) {
                                equals.take((one.number, name.clone()), (joined.number, name.clone()), missing);
                            }
                        }
                    }
                    JoinConstraint::Natural => return Err("it has a NATURAL JOIN".to_owned()),
                    JoinConstraint::None => {}
                }
            }
        }
        Ok(())
    }

    /// Adds a FROM item to the scope.
    fn add(&mut self, factor: &TableFactor, scope: &mut Scope<'_>, ctes: &[Cte]) -> Shown {
        let mut primary_key = Vec::new();
        let (kind, columns, alias, own) = match factor {
            TableFactor::Table { name, alias, args: None, .. } => {
                let name = relation_name(name).ok_or("a name is odd")?;
                let own = name.rsplit('.').next().unwrap_or_default().to_owned();
                if let Some((query, before)) = self.cte(&name, ctes) {
                    (ItemKind::Query(Box::new(query.clone()), before.len()), outputs(query), alias, own)
                } else {
                    let found = self.relations.get(&name);
                    let kind = if self.is_watched(&name) { ItemKind::Watched } else { ItemKind::Other };
                    primary_key = found.map(|found| found.primary_key.clone()).unwrap_or_default();
                    (kind, found.map(|found| found.columns.clone()), alias, own)
                }
            }
            TableFactor::Derived { lateral, subquery, alias, .. } => {
                if *lateral && self.reads(&**subquery, ctes) {
                    return Err("LATERAL reads it".to_owned());
                }
                (ItemKind::Query(subquery.clone(), ctes.len()), outputs(subquery), alias, String::new())
            }
            TableFactor::NestedJoin { .. } => return Err("it has a join in parentheses".to_owned()),
            other if self.reads(other, ctes) => return Err("a function in FROM reads it".to_owned()),
            _ => (ItemKind::Other, None, &None, String::new()),
        };
        let (name, columns) = match alias {
            Some(TableAlias { name, columns: renamed, .. }) => {
                let renamed: Option<Vec<String>> = renamed.iter().map(|column| ident(&column.name)).collect();
                let renamed = renamed.unwrap_or_default();
                let columns = columns.map(|columns| {
                    let rest = columns.into_iter().skip(renamed.len());
                    renamed.iter().cloned().chain(rest).collect()
                });
                (ident(name).unwrap_or_default(), columns)
            }
            None => (own, columns),
        };
        self.items += 1;
        scope.items.push(Item { number: self.items, name, columns, kind, is_nullable: false, primary_key });
        Ok(())
    }

    /// See [`super::ParsedText::key`].
    pub(super) fn key(&mut self, query: &Query) -> Result<Option<Vec<usize>>, String> {
        let SetExpr::Select(select) = &*query.body else { return Ok(None) };
        let GroupByExpr::Expressions(grouped, _) = &select.group_by else { return Ok(None) };
        if grouped.is_empty() {
            return Ok(None);
        }
        let ctes: Vec<Cte> = query
            .with
            .iter()
            .flat_map(|with| &with.cte_tables)
            .filter_map(|cte| Some((ident(&cte.alias.name)?, (*cte.query).clone())))
            .collect();
        let (mut scope, mut equals) = (Scope { items: Vec::new(), outer: None }, Equals::default());
        if self.from(select, &mut scope, &mut equals, &ctes).is_ok()
            && let Some(condition) = &select.selection
        {
            equalities(condition, &scope, &mut equals, None);
        }
        let expressions: Vec<&Expr> = grouped.iter().map(|expr| named(select, expr, &scope)).collect();
        let columns: Vec<Option<Column>> = expressions.iter().map(|expr| resolve(expr, &scope)).collect();
        let is_fixed = |column: &Column| {
            let Some(item) = scope.items.iter().find(|item| item.number == column.0) else { return false };
            let others = || columns.iter().flatten().filter(|other| other.0 != column.0);
            let is_given = |name: &String| {
                let column = (item.number, name.clone());
                others().any(|other| equals.reach(other).contains(&column))
            };
            !item.primary_key.is_empty() && item.primary_key.iter().all(is_given)
        };
        let mut key = Vec::new();
        for (expr, column) in expressions.into_iter().zip(&columns) {
            if column.as_ref().is_some_and(is_fixed) {
                continue;
            }
            let is_it = |place: &usize| {
                let Some(shown) = output(select, *place) else { return false };
                shown == expr || column.is_some() && resolve(shown, &scope) == *column
            };
            match (0..select.projection.len()).find(is_it) {
                Some(place) => key.push(place),
                None => {
                    return Err(format!(
                        "GROUP BY has {expr}, which is not selected: select it, so that an alert can name its key, or set key"
                    ));
                }
            }
        }
        Ok(Some(key))
    }
}

/// The column that an output consists of.
fn key_column(select: &Select, place: usize, scope: &Scope<'_>) -> Result<Column, String> {
    let expr = output(select, place).ok_or("the key is not written out in the select list")?;
    let column = resolve(expr, scope).ok_or_else(|| format!("{expr} in the key is no column"))?;
    let is_nullable = scope.items.iter().any(|item| item.number == column.0 && item.is_nullable);
    if is_nullable { Err(format!("{expr} is of the side of a LEFT JOIN that may be missing")) } else { Ok(column) }
}

/// Checks that rows of different keys never share a group or a window partition. `keys` are the columns that equal the
/// key.
fn by_key(select: &Select, scope: &Scope<'_>, keys: &[BTreeSet<Column>], windows: &[WindowType]) -> Shown {
    if matches!(select.distinct, Some(Distinct::On(_))) {
        return Err("DISTINCT ON compares keys with each other".to_owned());
    }
    let is_by_key = |by: &[&Expr]| {
        let columns: Vec<Column> = by.iter().filter_map(|expr| resolve(expr, scope)).collect();
        keys.iter().all(|equal| columns.iter().any(|column| equal.contains(column)))
    };
    let GroupByExpr::Expressions(grouped, modifiers) = &select.group_by else {
        return Err("GROUP BY ALL is not known".to_owned());
    };
    if !modifiers.is_empty() {
        return Err("it has ROLLUP or its like".to_owned());
    }
    // Without GROUP BY there is no aggregate, since Postgres has accepted the text and the key is a column.
    let by: Vec<&Expr> = grouped.iter().map(|expr| named(select, expr, scope)).collect();
    if !by.is_empty() && !is_by_key(&by) {
        return Err("GROUP BY is not by the key".to_owned());
    }
    for window in windows {
        let by = partition(window, select, 0);
        if !is_by_key(&by.iter().collect::<Vec<_>>()) {
            return Err("a window function looks at rows of other keys".to_owned());
        }
    }
    Ok(())
}

/// The PARTITION BY expressions of a window.
fn partition(window: &WindowType, select: &Select, depth: usize) -> Vec<Expr> {
    let of_name = |wanted: &Ident| {
        let found = select.named_window.iter().find(|named| ident(&named.0) == ident(wanted));
        match found.map(|named| &named.1) {
            _ if depth > select.named_window.len() => Vec::new(),
            Some(NamedWindowExpr::NamedWindow(other)) => {
                partition(&WindowType::NamedWindow(other.clone()), select, depth + 1)
            }
            Some(NamedWindowExpr::WindowSpec(spec)) => {
                partition(&WindowType::WindowSpec(spec.clone()), select, depth + 1)
            }
            None => Vec::new(),
        }
    };
    match window {
        WindowType::NamedWindow(name) => of_name(name),
        WindowType::WindowSpec(WindowSpec { window_name, partition_by, .. }) => {
            let mut all = window_name.as_ref().map(of_name).unwrap_or_default();
            all.extend(partition_by.iter().cloned());
            all
        }
    }
}
