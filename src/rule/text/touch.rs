//! Which keys a change of a table touches. A row of the table takes part in the answer for a key only if some of its columns equal the
//! key: where that can be shown for each time that a query reads the table, a change says which keys to ask about.
//!
//! It is shown by equalities: of joins and WHERE, of a subquery with what is around it, by GROUP BY and PARTITION BY inside of a
//! derived table. What is not recognized counts as not shown. Then the query runs as a whole, which is always right.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use sqlparser::ast::{
    Distinct, Expr, GroupByExpr, Ident, JoinConstraint, JoinOperator, NamedWindowExpr, Query, Select, SetExpr,
    TableAlias, TableFactor, Visit, WindowSpec, WindowType,
};

use super::calls::{Calls, subqueries};
use super::names::{Classes, Column, Item, ItemKind, Scope, equalities, named, output, outputs, resolve};
use super::{Relation, Relations, ident, reads_any, relation_name};

/// What is to be shown of a query.
enum Goal<'g> {
    /// Each row of the table takes part only in outputs whose columns at these places equal columns of it.
    Outputs(&'g [usize]),
    /// The same of columns around the query.
    Around(&'g [Column]),
}

/// The queries of WITH, by their names.
type Ctes = Vec<(String, Query)>;

pub(super) struct Analysis<'a> {
    table: &'a Relation,
    relations: &'a Relations,
    items: usize,
    /// For each time that the table is read, the columns that equal the key.
    pub(super) touches: Vec<Vec<String>>,
}

type Shown = Result<(), String>;

impl<'a> Analysis<'a> {
    pub(super) fn new(table: &'a Relation, relations: &'a Relations) -> Self {
        Self { table, relations, items: 0, touches: Vec::new() }
    }

    pub(super) fn whole(&mut self, query: &Query, key: &[usize]) -> Shown {
        self.query(query, &Goal::Outputs(key), None, &Classes::default(), None, &Vec::new())
    }

    fn is_watched(&self, name: &str) -> bool {
        self.relations.get(name).is_some_and(|found| found.schema == self.table.schema && found.name == self.table.name)
    }

    fn reads(&self, query: &Query, ctes: &Ctes) -> bool {
        let own = query.with.iter().flat_map(|with| &with.cte_tables);
        own.clone().any(|cte| self.reads(&cte.query, ctes))
            || reads_any(query, &|name| match ctes.iter().rev().find(|(cte, _)| cte == name) {
                Some((_, query)) => self.reads(query, &Vec::new()),
                None => self.is_watched(name),
            })
    }

    /// `equal`: what the first output of the query equals.
    fn query(
        &mut self,
        query: &Query,
        goal: &Goal<'_>,
        outer: Option<&Scope<'_>>,
        classes: &Classes,
        equal: Option<&Column>,
        ctes: &Ctes,
    ) -> Shown {
        if !self.reads(query, ctes) {
            return Ok(());
        }
        let mut ctes = ctes.clone();
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
        if matches!(goal, Goal::Outputs(_)) && (query.limit_clause.is_some() || query.fetch.is_some()) {
            return Err("LIMIT compares keys with each other".to_owned());
        }
        match &*query.body {
            SetExpr::Select(select) => self.select(select, query, goal, outer, classes, equal, &ctes),
            SetExpr::Query(inner) => self.query(inner, goal, outer, classes, equal, &ctes),
            SetExpr::SetOperation { op, .. } => Err(format!("{op} joins queries")),
            _ => Err("it is no plain SELECT".to_owned()),
        }
    }

    #[expect(clippy::too_many_arguments, reason = "what is known of the surroundings goes with the query")]
    fn select(
        &mut self,
        select: &Select,
        query: &Query,
        goal: &Goal<'_>,
        outer: Option<&Scope<'_>>,
        classes: &Classes,
        equal: Option<&Column>,
        ctes: &Ctes,
    ) -> Shown {
        let mut scope = Scope { items: Vec::new(), outer };
        let mut classes = classes.clone();
        self.from(select, &mut scope, &mut classes, ctes)?;
        if let Some(condition) = &select.selection {
            equalities(condition, &scope, &mut classes, None);
        }
        if let (Some(equal), Some(first)) = (equal, output(select, 0).and_then(|expr| resolve(expr, &scope))) {
            classes.join(equal.clone(), first);
        }
        let keys: Vec<Column> = match goal {
            Goal::Around(columns) => columns.to_vec(),
            Goal::Outputs(places) => {
                places.iter().map(|place| key_column(select, *place, &scope)).collect::<Result<_, _>>()?
            }
        };
        let keys: Vec<BTreeSet<Column>> = keys.iter().map(|key| classes.of(key)).collect();
        if matches!(goal, Goal::Outputs(_)) {
            grouped(select, &scope, &keys)?;
            windows(select, query, &scope, &keys)?;
        }
        for item in &scope.items {
            self.item(item, &keys, ctes)?;
        }
        let around: Vec<Column> = keys.iter().filter_map(|class| class.iter().next().cloned()).collect();
        for (value, subquery) in subqueries(select, query)? {
            let equal = value.and_then(|value| resolve(&value, &scope));
            self.query(&subquery, &Goal::Around(&around), Some(&scope), &classes, equal.as_ref(), ctes)?;
        }
        Ok(())
    }

    /// An item of FROM: which of its columns equal the key.
    fn item(&mut self, item: &Item, keys: &[BTreeSet<Column>], ctes: &Ctes) -> Shown {
        let columns = || -> Result<Vec<String>, String> {
            let column = |class: &BTreeSet<Column>| {
                class.iter().find(|column| column.0 == item.number).map(|column| column.1.clone())
            };
            let missing = || format!("no column of {} is shown to equal the key", item.name);
            keys.iter().map(|class| column(class).ok_or_else(missing)).collect()
        };
        match &item.kind {
            ItemKind::Other => Ok(()),
            ItemKind::Watched => {
                let columns = columns()?;
                if !self.touches.contains(&columns) {
                    self.touches.push(columns);
                }
                Ok(())
            }
            ItemKind::Query(query) if !self.reads(query, ctes) => Ok(()),
            ItemKind::Query(query) => {
                let known = item.columns.as_deref().unwrap_or_default();
                let place = |column: String| known.iter().position(|name| *name == column).ok_or("a name is odd");
                let places = columns()?.into_iter().map(place).collect::<Result<Vec<_>, _>>()?;
                self.query(query, &Goal::Outputs(&places), None, &Classes::default(), None, ctes)
            }
        }
    }

    /// The items of FROM, and what its joins make equal.
    fn from(&mut self, select: &Select, scope: &mut Scope<'_>, classes: &mut Classes, ctes: &Ctes) -> Shown {
        for from in &select.from {
            self.add(&from.relation, scope, ctes)?;
            for join in &from.joins {
                let before = scope.items.len();
                self.add(&join.relation, scope, ctes)?;
                let (constraint, outer) = match &join.join_operator {
                    JoinOperator::Join(constraint) | JoinOperator::Inner(constraint) => (constraint, false),
                    JoinOperator::CrossJoin(constraint) => (constraint, false),
                    JoinOperator::Left(constraint) | JoinOperator::LeftOuter(constraint) => {
                        scope.items.iter_mut().skip(before).for_each(|item| item.is_nullable = true);
                        (constraint, true)
                    }
                    _ => return Err("it has a join other than JOIN and LEFT JOIN".to_owned()),
                };
                let joined: Vec<usize> = scope.items.iter().skip(before).map(|item| item.number).collect();
                match constraint {
                    JoinConstraint::On(condition) => {
                        equalities(condition, scope, classes, outer.then_some(joined.as_slice()));
                    }
                    JoinConstraint::Using(names) => {
                        for name in names {
                            let name = relation_name(name).ok_or("a name is odd")?;
                            let has =
                                |item: &&Item| item.columns.as_ref().is_some_and(|columns| columns.contains(&name));
                            let mut both = scope.items.iter().filter(has);
                            if let (Some(one), Some(other)) = (both.next(), both.next()) {
                                classes.join((one.number, name.clone()), (other.number, name.clone()));
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

    fn add(&mut self, factor: &TableFactor, scope: &mut Scope<'_>, ctes: &Ctes) -> Shown {
        let (kind, columns, primary_key, alias, own) = match factor {
            TableFactor::Table { name, alias, args: None, .. } => {
                let name = relation_name(name).ok_or("a name is odd")?;
                let own = name.rsplit('.').next().unwrap_or_default().to_owned();
                if let Some((_, query)) = ctes.iter().rev().find(|(cte, _)| *cte == name) {
                    (ItemKind::Query(Box::new(query.clone())), outputs(query), Vec::new(), alias, own)
                } else {
                    let found = self.relations.get(&name);
                    let kind = if self.is_watched(&name) { ItemKind::Watched } else { ItemKind::Other };
                    let columns = found.map(|found| found.columns.clone());
                    let primary_key = found.map(|found| found.primary_key.clone()).unwrap_or_default();
                    (kind, columns, primary_key, alias, own)
                }
            }
            TableFactor::Derived { lateral, subquery, alias, .. } => {
                if *lateral && self.reads(subquery, ctes) {
                    return Err("LATERAL reads it".to_owned());
                }
                (ItemKind::Query(subquery.clone()), outputs(subquery), Vec::new(), alias, String::new())
            }
            TableFactor::NestedJoin { .. } => return Err("it has a join in parentheses".to_owned()),
            _ => (ItemKind::Other, None, Vec::new(), &None, String::new()),
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
        let ctes: Ctes = query
            .with
            .iter()
            .flat_map(|with| &with.cte_tables)
            .filter_map(|cte| Some((ident(&cte.alias.name)?, (*cte.query).clone())))
            .collect();
        let (mut scope, mut classes) = (Scope { items: Vec::new(), outer: None }, Classes::default());
        if self.from(select, &mut scope, &mut classes, &ctes).is_ok()
            && let Some(condition) = &select.selection
        {
            equalities(condition, &scope, &mut classes, None);
        }
        let expressions: Vec<&Expr> = grouped.iter().map(|expr| named(select, expr, &scope)).collect();
        let columns: Vec<Option<Column>> = expressions.iter().map(|expr| resolve(expr, &scope)).collect();
        let is_fixed = |column: &Column| {
            let Some(item) = scope.items.iter().find(|item| item.number == column.0) else { return false };
            let others = || columns.iter().flatten().filter(|other| other.0 != column.0);
            let is_given = |name: &String| {
                let class = classes.of(&(item.number, name.clone()));
                others().any(|other| class.contains(other))
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

/// The column that an output is.
fn key_column(select: &Select, place: usize, scope: &Scope<'_>) -> Result<Column, String> {
    let expr = output(select, place).ok_or("the key is not written out in the select list")?;
    let column = resolve(expr, scope).ok_or_else(|| format!("{expr} in the key is no column"))?;
    let is_nullable = scope.items.iter().any(|item| item.number == column.0 && item.is_nullable);
    if is_nullable { Err(format!("{expr} is of the side of a LEFT JOIN that may be missing")) } else { Ok(column) }
}

/// Rows of other keys do not come into the same group.
fn grouped(select: &Select, scope: &Scope<'_>, keys: &[BTreeSet<Column>]) -> Shown {
    if matches!(select.distinct, Some(Distinct::On(_))) {
        return Err("DISTINCT ON compares keys with each other".to_owned());
    }
    let GroupByExpr::Expressions(grouped, modifiers) = &select.group_by else {
        return Err("GROUP BY ALL is not known".to_owned());
    };
    if !modifiers.is_empty() {
        return Err("it has ROLLUP or its like".to_owned());
    }
    if grouped.is_empty() {
        let mut found = Calls::default();
        let _: ControlFlow<()> = select.projection.visit(&mut found);
        return if found.aggregates || select.having.is_some() {
            Err("an aggregate is over all keys".to_owned())
        } else {
            Ok(())
        };
    }
    let columns: Vec<Column> = grouped.iter().filter_map(|expr| resolve(named(select, expr, scope), scope)).collect();
    match keys.iter().all(|class| columns.iter().any(|column| class.contains(column))) {
        true => Ok(()),
        false => Err("GROUP BY is not by the key".to_owned()),
    }
}

/// Window functions look at rows of one key alone.
fn windows(select: &Select, query: &Query, scope: &Scope<'_>, keys: &[BTreeSet<Column>]) -> Shown {
    let mut found = Calls::default();
    let _: ControlFlow<()> = select.projection.visit(&mut found);
    let _: ControlFlow<()> = select.qualify.visit(&mut found);
    let _: ControlFlow<()> = query.order_by.visit(&mut found);
    for window in found.windows {
        let by = partition(&window, select, 0);
        let columns: Vec<Column> = by.iter().filter_map(|expr| resolve(expr, scope)).collect();
        if !keys.iter().all(|class| columns.iter().any(|column| class.contains(column))) {
            return Err("a window function looks at rows of other keys".to_owned());
        }
    }
    Ok(())
}

/// The PARTITION BY of a window.
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
