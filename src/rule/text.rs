//! Rules that Postgres alone evaluates: any query with a key. Memory knows which keys a change touches. Pure.
//!
//! - this file: the text taken apart as far as it has to be known: which tables, functions and keys are in it
//! - [`touch`]: which keys a change of a table touches
//! - [`names`], [`calls`]: what is in a query

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

/// A rule's text, where Postgres alone evaluates it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Text {
    /// The query without a semicolon at its end.
    pub sql: String,
    /// Names of its outputs, in order.
    pub columns: Vec<String>,
    /// Of these, the ones that are the key.
    pub key: Vec<usize>,
    /// Which columns of the watched table are a key that a change of a row touches, each list in the order of the key. Empty: no
    /// change says which keys it touches, and the query runs as a whole.
    pub touches: Vec<Vec<usize>>,
    /// Other tables that it reads and whose changes are read.
    pub others: Vec<Touched>,
    /// When Postgres is asked.
    pub pace: Pace,
}

/// A table whose changes touch keys of a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Touched {
    /// The table.
    pub table: Table,
    /// Which of its columns are a key, as in [`Text::touches`].
    pub touches: Vec<Vec<usize>>,
}

/// When Postgres is asked about a rule that it alone evaluates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// How long a touched key waits for more of its changes.
    pub max_delay: Duration,
    /// How often open episodes are asked again.
    pub recheck: Duration,
    /// How often the whole query is run.
    pub sweep: Duration,
}

impl Text {
    /// Whether any change says which keys it touches.
    pub fn touches_any(&self) -> bool {
        !self.touches.is_empty() || self.others.iter().any(|other| !other.touches.is_empty())
    }

    /// The query of a rule with this text, over the watched table. `columns`: the outputs, by the types that Postgres gives them.
    ///
    /// # Errors
    /// A column of the key whose values memory cannot hold.
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
    /// Its schema, as stored.
    pub schema: String,
    /// Its name, as stored.
    pub name: String,
    /// Its columns, in their order.
    pub columns: Vec<String>,
    /// Of these, the primary key.
    pub primary_key: Vec<String>,
}

/// What a query reads, by its names in the text: as stored, with a dot between schema and table.
pub type Relations = BTreeMap<String, Relation>;

/// A rule's text, taken apart.
#[derive(Clone, Debug)]
pub struct ParsedText {
    /// The query without a semicolon at its end.
    pub sql: String,
    /// Names of what it reads, in the order of the text, each once; those of WITH are among them.
    pub relations: Vec<String>,
    /// Names of the functions that it calls, without their schemas.
    pub functions: Vec<String>,
    query: Query,
}

/// Takes a text apart.
///
/// # Errors
/// It is no query, more than one, or one that does more than read.
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

/// What stands anywhere in a text.
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

/// A name as stored.
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

/// A relation's name as stored, with a dot between schema and table.
pub(super) fn relation_name(object: &ObjectName) -> Option<String> {
    Some(parts_of(object)?.join("."))
}

impl ParsedText {
    /// Which columns of `table` are a key that a change of a row touches, for each time that the query reads it; each list in
    /// the order of `key`, which are places in the select list.
    ///
    /// # Errors
    /// Why changes do not say which keys they touch, in a few words.
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

    /// The key, where none is configured: the columns of GROUP BY, but for those that another table's primary key in it fixes.
    /// `None`: there is no GROUP BY, or one of expressions.
    ///
    /// # Errors
    /// A column of GROUP BY that is not selected.
    pub fn key(&self, relations: &Relations) -> Result<Option<Vec<usize>>, String> {
        Analysis::new(&Relation::default(), relations).key(&self.query)
    }

    /// Whether the name is that of something that the text reads.
    pub fn reads(&self, schema: &str, table: &str) -> bool {
        self.relations.iter().any(|name| *name == format!("{schema}.{table}") || name == table)
    }
}

/// Whether one of these names stands in it.
pub(super) fn reads_any(part: &impl Visit, is_one: &impl Fn(&str) -> bool) -> bool {
    visit_relations(part, |relation| match relation_name(relation) {
        Some(name) if is_one(&name) => ControlFlow::Break(()),
        _ => ControlFlow::Continue(()),
    })
    .is_break()
}

#[cfg(test)]
mod tests;
