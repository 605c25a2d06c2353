//! SQL text → [`Parsed`]: names, numbers and their places, nothing of the catalog yet. Pure.
//!
//! The parser accepts far more than a rule may say, and more than Postgres does. So its tree is taken apart
//! field by field, without `..`: a clause that a later version of it learns is a compile error here, and never a
//! clause that is ignored.

mod clauses;
mod expression;
mod interval;
mod number;
mod shape;
mod source;
#[cfg(test)]
mod tests;

use rust_decimal::Decimal;
use sqlparser::ast::{
    Expr, GroupByExpr, ObjectName, ObjectNamePart, Select, SelectItem, Statement, TableFactor, TableWithJoins,
};
use sqlparser::keywords::Keyword;

use crate::rule::{Comparison, Interval, RuleError};
use expression::{aggregate_or_refuse, column, strip};
use shape::Clauses;
use source::{Source, name};

const OUTPUTS: &str = "the select list may hold the GROUP BY column, COUNT(*), SUM(column) and SUM(ABS(column))";
const ONE_TABLE: &str = "a rule reads one table: FROM schema.table";
const ONE_SELECT: &str =
    "a rule is one SELECT … FROM table WHERE time bound GROUP BY column HAVING aggregate compared with a number";

/// A place in a rule's SQL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct At {
    /// Line, from 1.
    pub line: u64,
    /// Column in characters, from 1.
    pub column: u64,
}

impl At {
    /// An error at this place.
    pub fn error(self, problem: impl Into<String>) -> RuleError {
        RuleError { line: self.line, column: self.column, problem: problem.into() }
    }
}

/// A name as Postgres sees it: folded to lower case unless it was quoted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name {
    /// The folded or exact name.
    pub text: String,
    /// Where it starts.
    pub at: At,
}

/// A rule's SQL after parsing: the allowed shape, with names instead of columns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parsed {
    /// Schema of the table; `public` where none is written.
    pub schema: Name,
    /// The table.
    pub table: Name,
    /// The select list, in order; never empty.
    pub outputs: Vec<ParsedOutput>,
    /// WHERE.
    pub bound: Option<ParsedBound>,
    /// GROUP BY.
    pub group_by: Name,
    /// HAVING.
    pub having: ParsedHaving,
    /// Which of several spellings was used; no part of the meaning.
    pub spelling: Spelling,
}

/// One entry of the select list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParsedOutput {
    /// The alias, or Postgres's default: the column's name, `count` or `sum`.
    pub name: Name,
    /// What it is.
    pub expr: ParsedExpr,
}

/// What stands in the select list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ParsedExpr {
    /// A column; compiling checks that it is the GROUP BY column.
    Column(Name),
    /// An aggregate.
    Aggregate(ParsedAggregate),
}

/// An aggregate over names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ParsedAggregate {
    /// `COUNT(*)`
    CountRows,
    /// `SUM(column)`
    Sum(Name),
    /// `SUM(ABS(column))`
    SumAbs(Name),
}

/// `column >= NOW() - INTERVAL …`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParsedBound {
    /// The time column.
    pub column: Name,
    /// `>=` rather than `>`.
    pub inclusive: bool,
    /// How far back.
    pub back: Interval,
}

/// `aggregate > number`, the aggregate on the left whatever way round it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParsedHaving {
    /// The aggregate.
    pub aggregate: ParsedAggregate,
    /// The operator.
    pub comparison: Comparison,
    /// The number, exact.
    pub threshold: Decimal,
}

/// Which of several equal spellings the text uses. `EXPLAIN (VERBOSE)` shows them, so a rendering that is to be
/// compared with the text has to use them too; they have no other use. The default is the canonical spelling.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Spelling {
    /// `CURRENT_TIMESTAMP` rather than `NOW()`.
    pub current_timestamp: bool,
    /// `NOW() - INTERVAL … <= column`.
    pub bound_reversed: bool,
    /// `DAY` in `INTERVAL '7' DAY`.
    pub interval_field: Option<&'static str>,
    /// `number < aggregate`.
    pub having_reversed: bool,
    /// The number has a point or an exponent, which makes it `numeric` in Postgres even if it is whole.
    pub numeric_threshold: bool,
}

/// Parses a rule's SQL.
///
/// # Errors
/// What is no SQL, or SQL that a rule cannot be, with its place and what is supported instead.
pub fn parse(sql: &str) -> Result<Parsed, RuleError> {
    let (source, statements) = Source::read(sql)?;
    let mut statements = statements.iter();
    let Some(first) = statements.next() else {
        return Err(source.start().error(format!("there is no SQL here; {ONE_SELECT}")));
    };
    if statements.next().is_some() {
        return Err(source.second_statement().error("a second statement; a rule is exactly one SELECT"));
    }
    match first {
        Statement::Query(query) => shape::select_of(&source, query).and_then(|select| lower(&source, select)),
        _ => Err(source.start().error(format!("not a SELECT; {ONE_SELECT}"))),
    }
}

fn lower(source: &Source, select: &Select) -> Result<Parsed, RuleError> {
    let Clauses { projection, from, selection, group_by, having } = shape::clauses_of(source, select)?;
    let (schema, table) = table(source, from)?;
    let mut spelling = Spelling::default();
    let outputs = outputs(source, (&schema, &table), projection)?;
    let bound = match selection {
        Some(expr) => Some(clauses::bound(source, (&schema, &table), expr, &mut spelling)?),
        None => None,
    };
    let group_by = group_by_column(source, (&schema, &table), group_by)?;
    let Some(having) = having else {
        return Err(source.start().error(format!("a rule needs HAVING; {}", clauses::HAVING)));
    };
    let having = clauses::having(source, (&schema, &table), having, &mut spelling)?;
    Ok(Parsed { schema, table, outputs, bound, group_by, having, spelling })
}

/// Schema and table of FROM.
fn table(source: &Source, from: &[TableWithJoins]) -> Result<(Name, Name), RuleError> {
    let mut tables = from.iter();
    let Some(TableWithJoins { relation, joins }) = tables.next() else {
        return Err(source.start().error(format!("FROM is missing; {ONE_TABLE}")));
    };
    if let Some(second) = tables.next() {
        return Err(source.at(second).error(format!("a second table; {ONE_TABLE}")));
    }
    if !joins.is_empty() {
        return Err(source.keyword(Keyword::JOIN).error(format!("JOIN is not supported; {ONE_TABLE}")));
    }
    let at = source.at(relation);
    let TableFactor::Table {
        name: table,
        alias,
        args,
        with_hints,
        version,
        with_ordinality,
        partitions,
        json_path,
        sample,
        index_hints,
    } = relation
    else {
        return Err(source.at_or(relation, source.keyword(Keyword::FROM)).error(format!("not a table; {ONE_TABLE}")));
    };
    if let Some(alias) = alias {
        let problem = "a table alias is not supported; leave it out and write the columns without it";
        return Err(source::place(&alias.name).unwrap_or(at).error(problem));
    }
    let plain = args.is_none()
        && with_hints.is_empty()
        && version.is_none()
        && !with_ordinality
        && partitions.is_empty()
        && json_path.is_none()
        && sample.is_none()
        && index_hints.is_empty();
    if !plain {
        return Err(at.error(format!("more than a table's name; {ONE_TABLE}")));
    }
    table_name(at, table)
}

fn table_name(at: At, table: &ObjectName) -> Result<(Name, Name), RuleError> {
    let ObjectName(parts) = table;
    match parts.as_slice() {
        [ObjectNamePart::Identifier(table)] => Ok((Name { text: "public".to_owned(), at }, name(at, table)?)),
        [ObjectNamePart::Identifier(schema), ObjectNamePart::Identifier(table)] => {
            Ok((name(at, schema)?, name(at, table)?))
        }
        _ => Err(at.error(format!("a name of more than schema and table; {ONE_TABLE}"))),
    }
}

fn outputs(source: &Source, table: (&Name, &Name), projection: &[SelectItem]) -> Result<Vec<ParsedOutput>, RuleError> {
    if projection.is_empty() {
        return Err(source.start().error(format!("the select list is empty; {OUTPUTS}")));
    }
    projection.iter().map(|item| output(source, table, item)).collect()
}

fn output(source: &Source, table: (&Name, &Name), item: &SelectItem) -> Result<ParsedOutput, RuleError> {
    let (expr, alias) = match item {
        SelectItem::UnnamedExpr(expr) => (expr, None),
        SelectItem::ExprWithAlias { expr, alias } => (expr, Some(name(source.at(expr), alias)?)),
        SelectItem::ExprWithAliases { expr, aliases: _ } => {
            return Err(source.at(expr).error("several aliases for one output; give it one"));
        }
        SelectItem::QualifiedWildcard(_, _) | SelectItem::Wildcard(_) => {
            return Err(source.at(item).error(format!("* is not supported here; {OUTPUTS}")));
        }
    };
    let at = source.at(expr);
    let (default, expr) = match column(source, table, expr)? {
        Some(column) => (column.text.clone(), ParsedExpr::Column(column)),
        None => {
            let aggregate = aggregate_or_refuse(source, table, expr, OUTPUTS)?;
            let default = match aggregate {
                ParsedAggregate::CountRows => "count",
                ParsedAggregate::Sum(_) | ParsedAggregate::SumAbs(_) => "sum",
            };
            (default.to_owned(), ParsedExpr::Aggregate(aggregate))
        }
    };
    let name = alias.unwrap_or(Name { text: default, at });
    Ok(ParsedOutput { name, expr })
}

fn group_by_column(source: &Source, table: (&Name, &Name), group_by: &GroupByExpr) -> Result<Name, RuleError> {
    const ONE_COLUMN: &str = "this version groups by exactly one column: GROUP BY column";
    let at = source.keyword(Keyword::GROUP);
    let (exprs, modifiers) = match group_by {
        GroupByExpr::All(_) => return Err(at.error(format!("GROUP BY ALL is not supported; {ONE_COLUMN}"))),
        GroupByExpr::Expressions(exprs, modifiers) => (exprs, modifiers),
    };
    if !modifiers.is_empty() {
        return Err(at.error(format!("GROUP BY with a modifier is not supported; {ONE_COLUMN}")));
    }
    let mut exprs = exprs.iter();
    let Some(first) = exprs.next() else {
        return Err(source.start().error(format!("a rule needs GROUP BY; {ONE_COLUMN}")));
    };
    if let Some(second) = exprs.next() {
        return Err(source.at(second).error(format!("a second GROUP BY column is not supported yet; {ONE_COLUMN}")));
    }
    if let Expr::Rollup(_) | Expr::Cube(_) | Expr::GroupingSets(_) = strip(first) {
        return Err(at.error(format!("ROLLUP, CUBE and GROUPING SETS are not supported; {ONE_COLUMN}")));
    }
    match column(source, table, first)? {
        Some(column) => Ok(column),
        None => Err(source
            .at_or(first, at)
            .error(format!("GROUP BY of {} is not supported; {ONE_COLUMN}", expression::describe(first)))),
    }
}
