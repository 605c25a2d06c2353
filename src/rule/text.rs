//! Rules that Postgres alone evaluates: any query with a key. Memory finds the keys that a change touches. Pure.
//!
//! - this file: takes the text apart and finds its tables, functions and keys
//! - [`touch`]: finds the keys that a change of a table touches
//! - [`names`], [`calls`]: names, subqueries and window functions in a query

mod calls;
mod names;
pub mod touch;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use sqlparser::ast::{
    Expr, ObjectName, ObjectNamePart, Query, SetExpr, Statement, TableFactor, Visit, Visitor, visit_relations,
};

use super::parse::source::{Source, name};
use super::{Expression, Literal, Output, OutputExpr, RuleError, Type, compile};
use crate::model::{Column, Table};
use touch::Analysis;

/// The text of a rule that Postgres alone evaluates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Text {
    /// The query, without a semicolon at its end.
    pub sql: String,
    /// The names of the query's outputs, in order.
    pub columns: Vec<String>,
    /// The indexes of those outputs that are the key.
    pub key: Vec<usize>,
    /// Lists of columns of the watched table. The values of each list, in a changed row, are a touched key in the key's
    /// column order. Empty: a change does not determine the touched keys, and the query runs as a whole.
    pub touches: Vec<Vec<usize>>,
    /// The other tables that the query reads and whose changes are read.
    pub others: Vec<Touched>,
    /// The times at which Postgres evaluates.
    pub pace: Pace,
}

/// A table whose changes touch keys of a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Touched {
    /// The table.
    pub table: Table,
    /// Lists of columns that are a key, as in [`Text::touches`].
    pub touches: Vec<Vec<usize>>,
}

/// The times at which Postgres evaluates a rule of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// How long a touched key waits for more of its changes.
    pub max_delay: Duration,
    /// How often Postgres is asked about open episodes again.
    pub recheck: Duration,
    /// How often to run the whole query.
    pub sweep: Duration,
}

impl Text {
    /// Whether the changes of any table determine the touched keys.
    pub fn touches_any(&self) -> bool {
        !self.touches.is_empty() || self.others.iter().any(|other| !other.touches.is_empty())
    }

    /// Returns the query of a rule with this text, over the watched table. `columns` are the outputs with Postgres's
    /// types.
    ///
    /// # Errors
    /// A column of the key has a type whose values memory cannot hold.
    pub fn query(self, table: &Table, columns: Vec<Column>) -> Result<super::Query, String> {
        let mut table = table.clone();
        let own = table.columns.len();
        let touched = self.touches.first();
        let mut computed = Vec::new();
        for (place, output) in self.key.iter().enumerate() {
            let column = columns.get(*output).ok_or("the key is not among the outputs")?;
            if !compile::is_key_of_text(&column.ty) {
                return Err(format!(
                    "the key {:?} is of type {}; a key is boolean, smallint, integer, bigint, text, varchar, char, uuid, inet, an enum, \
                     date, timestamp or timestamptz: cast it to one of them",
                    column.name, column.type_name
                ));
            }
            table.columns.push(Column { nullable: true, has_default: false, ..column.clone() });
            let of = touched.and_then(|touched| touched.get(place));
            computed.push(of.map_or(Expression::Literal(Literal::Null), |column| Expression::Column(*column)));
        }
        let outputs = columns.into_iter().enumerate().map(|(index, column)| {
            let ty = Type::of(&column.ty).unwrap_or(Type::Text);
            let value = || OutputExpr::Value(Expression::Literal(Literal::Null), ty);
            let expr = self.key.iter().position(|output| *output == index).map_or_else(value, OutputExpr::Key);
            Output { name: column.name, expr }
        });
        Ok(super::Query {
            group_by: (own..table.columns.len()).collect(),
            table,
            computed,
            outputs: outputs.collect(),
            aggregates: Vec::new(),
            filter: None,
            bound: None,
            having: Expression::Literal(Literal::Bool(true)),
            zone: Arc::default(),
            text: Some(Arc::new(self)),
        })
    }
}

/// A table or something else that a query reads.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Relation {
    /// The schema, as stored in the catalog.
    pub schema: String,
    /// The name, as stored in the catalog.
    pub name: String,
    /// The names of the columns, in order.
    pub columns: Vec<String>,
    /// The names of the primary key's columns.
    pub primary_key: Vec<String>,
}

/// The relations that a query reads, by their names in the text. A name is as stored in the catalog, with a dot between
/// schema and table.
pub type Relations = BTreeMap<String, Relation>;

/// A rule's text after parsing.
#[derive(Clone, Debug)]
pub struct ParsedText {
    /// The query, without a semicolon at its end.
    pub sql: String,
    /// The distinct names of the relations that the text reads, in order of appearance. Names of WITH are included.
    pub relations: Vec<String>,
    /// The names of the functions that the text calls, without their schemas.
    pub functions: Vec<String>,
    query: Query,
}

/// Parses a rule's text.
///
/// # Errors
/// The text is not a query, has more than one statement, or does more than read.
pub fn parse(sql: &str) -> Result<ParsedText, RuleError> {
    let (source, statements) = Source::read(sql)?;
    let [statement] = statements.as_slice() else {
        return Err(match statements.len() {
            0 => source.start().error("there is no SQL here; a rule is one query"),
            _ => source.second_statement().error("a second statement; a rule is one query"),
        });
    };
    let Statement::Query(query) = statement else {
        return Err(source.start().error("not a SELECT; a rule is one query that only reads"));
    };
    let mut found = Found::default();
    let _: ControlFlow<()> = statement.visit(&mut found);
    if found.locks {
        return Err(source.start().error("FOR UPDATE and its like are not supported; a rule only reads"));
    }
    if found.parameters {
        return Err(source.start().error("parameters are not supported; a rule is one query without them"));
    }
    if found.samples {
        return Err(source.start().error("TABLESAMPLE is not supported: its answer is another one each time"));
    }
    Ok(ParsedText {
        sql: source.without_semicolon(sql),
        relations: found.relations,
        functions: found.functions.into_iter().collect(),
        query: (**query).clone(),
    })
}

/// The parts of a text, at any depth.
#[derive(Default)]
struct Found {
    relations: Vec<String>,
    functions: BTreeSet<String>,
    samples: bool,
    locks: bool,
    parameters: bool,
}

impl Visitor for Found {
    type Break = ();

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
        self.locks |= !query.locks.is_empty();
        if let SetExpr::Select(select) = &*query.body {
            self.locks |= select.into.is_some();
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_relation(&mut self, relation: &ObjectName) -> ControlFlow<()> {
        if let Some(name) = relation_name(relation)
            && !self.relations.contains(&name)
        {
            self.relations.push(name);
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<()> {
        self.samples |=
            matches!(factor, TableFactor::Table { sample: Some(_), .. } | TableFactor::Derived { sample: Some(_), .. });
        // A function that is called as a table.
        if let TableFactor::Table { name, args: Some(_), .. } | TableFactor::Function { name, .. } = factor {
            self.functions.extend(parts_of(name).and_then(|mut parts| parts.pop()));
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        match expr {
            Expr::Function(function) => {
                self.functions.extend(parts_of(&function.name).and_then(|mut parts| parts.pop()));
            }
            Expr::Value(value) => {
                self.parameters |= matches!(value.value, sqlparser::ast::Value::Placeholder(_));
            }
            _ => {}
        }
        ControlFlow::Continue(())
    }
}

/// The name as stored in the catalog.
pub(super) fn ident(ident: &sqlparser::ast::Ident) -> Option<String> {
    name(super::parse::At { line: 1, column: 1 }, ident).ok().map(|name| name.text)
}

fn parts_of(object: &ObjectName) -> Option<Vec<String>> {
    let part = |part: &ObjectNamePart| match part {
        ObjectNamePart::Identifier(name) => ident(name),
        ObjectNamePart::Function(_) => None,
    };
    object.0.iter().map(part).collect()
}

/// A relation's name as stored in the catalog, with a dot between schema and table.
pub(super) fn relation_name(object: &ObjectName) -> Option<String> {
    Some(parts_of(object)?.join("."))
}

impl ParsedText {
    /// Finds the columns of `table` whose values in a changed row are the touched key, for each place at which the
    /// query reads the table. Each list has the order of `key`, which holds places in the select list.
    ///
    /// # Errors
    /// Why a change does not determine the touched keys, in a few words.
    pub fn touches(&self, table: &Relation, relations: &Relations, key: &[usize]) -> Result<Vec<Vec<String>>, String> {
        if key.is_empty() {
            return Err("it has one key for all rows".to_owned());
        }
        let mut analysis = Analysis::new(table, relations);
        analysis.whole(&self.query, key)?;
        match analysis.touches.as_slice() {
            [] => Err(format!("it does not read {}.{}", table.schema, table.name)),
            touches => Ok(touches.to_vec()),
        }
    }

    /// Finds the key where none is configured: the columns of GROUP BY, without those that are determined by another
    /// table's primary key in it. `None`: there is no GROUP BY, or it contains expressions.
    ///
    /// # Errors
    /// A column of GROUP BY is not selected.
    pub fn key(&self, relations: &Relations) -> Result<Option<Vec<usize>>, String> {
        Analysis::new(&Relation::default(), relations).key(&self.query)
    }

    /// Whether the text reads this table.
    pub fn reads(&self, schema: &str, table: &str) -> bool {
        self.relations.iter().any(|name| *name == format!("{schema}.{table}") || name == table)
    }
}

/// Whether this part contains a name that `is_one` accepts.
pub(super) fn reads_any(part: &impl Visit, is_one: &impl Fn(&str) -> bool) -> bool {
    visit_relations(part, |relation| match relation_name(relation) {
        Some(name) if is_one(&name) => ControlFlow::Break(()),
        _ => ControlFlow::Continue(()),
    })
    .is_break()
}

#[cfg(test)]
mod tests;
