//! SQL text → [`Parsed`]: names, numbers and their positions. The catalog is not used yet. Pure.
//!
//! The parser accepts far more than a rule may contain, and more than Postgres accepts. So the tree is taken apart
//! field by field, without `..`. A clause that a later version of the parser adds is then a compile error here and is
//! never ignored.

mod calls;
mod clauses;
mod expression;
mod interval;
pub mod node;
mod number;
mod shape;
pub(in crate::rule) mod source;
#[cfg(test)]
mod tests;

use sqlparser::ast::{
    Expr, GroupByExpr, ObjectName, ObjectNamePart, Select, SelectItem, Statement, TableAlias, TableFactor,
    TableWithJoins,
};
use sqlparser::keywords::Keyword;

use crate::rule::RuleError;
use crate::rule::expression::{Literal, Type};
use clauses::Where;
use expression::{Scope, strip};
use node::{Kind, Node};
use shape::Clauses;
use source::{Source, name};

const OUTPUTS: &str = "the select list may hold the GROUP BY columns, and expressions over aggregates";
const ONE_TABLE: &str = "a rule reads one table: FROM schema.table";
const ONE_SELECT: &str =
    "a rule is one SELECT … FROM table WHERE conditions GROUP BY columns HAVING a condition on aggregates";

/// A position in a rule's SQL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct At {
    /// Line, from 1.
    pub line: u64,
    /// Column in characters, from 1.
    pub column: u64,
}

impl At {
    /// Makes an error at this position.
    pub fn error(self, problem: impl Into<String>) -> RuleError {
        RuleError { line: self.line, column: self.column, problem: problem.into() }
    }
}

/// A name as Postgres reads it: folded to lower case unless it was quoted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name {
    /// The folded or exact name.
    pub text: String,
    /// The position of the name.
    pub at: At,
}

/// A rule's SQL after parsing: the supported shape, with names instead of columns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parsed {
    /// The table's schema. `public` where the text has none.
    pub schema: Name,
    /// The table.
    pub table: Name,
    /// The select list, in order. Never empty.
    pub outputs: Vec<ParsedOutput>,
    /// WHERE, in which [`Kind::Bound`] stands for the time bound.
    pub filter: Option<Node>,
    /// The time bound of WHERE.
    pub bound: Option<ParsedBound>,
    /// The columns and expressions of GROUP BY. Never empty.
    pub group_by: Vec<Node>,
    /// HAVING.
    pub having: Node,
    /// Which of several spellings the text uses. It does not change the meaning.
    pub spelling: Spelling,
}

/// One entry of the select list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParsedOutput {
    /// The alias, or Postgres's default: the column's name, `count`, `sum` and so on.
    pub name: Name,
    /// The expression.
    pub expr: Node,
}

/// `column >= NOW() - INTERVAL …`, or a comparison with another time that depends on NOW().
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParsedBound {
    /// The time column.
    pub column: Name,
    /// `>=` rather than `>`.
    pub inclusive: bool,
    /// The time that the column is compared with.
    pub edge: Node,
}

/// Which of several equal spellings the text uses. `EXPLAIN (VERBOSE)` shows the spelling, so a rendering that is
/// compared with the text has to use the same one. This is the only use. The default is the canonical spelling.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Spelling {
    /// `NOW() - INTERVAL … <= column`.
    pub bound_reversed: bool,
}

/// Parses a rule's SQL.
///
/// # Errors
/// A text that is not SQL, or SQL that a rule does not support. The error has the position and what is supported
/// instead.
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

/// Parses the text of an interval.
///
/// # Errors
/// A text that is no positive interval of a supported form.
pub fn interval_of(text: &str) -> Result<super::Interval, String> {
    interval::parse(text, None)
}

fn lower(source: &Source, select: &Select) -> Result<Parsed, RuleError> {
    let Clauses { projection, from, selection, group_by, having } = shape::clauses_of(source, select)?;
    let (schema, table, alias) = table(source, from)?;
    let scope = Scope { source, table: (&schema, &table), alias: alias.as_ref(), aggregates: true, depth: 0 };
    let mut spelling = Spelling::default();
    let outputs = outputs(scope, projection)?;
    let mut conditions = Where { scope: scope.of_rows(), bound: None, spelling: &mut spelling };
    let filter = selection.map(|expr| conditions.node(expr)).transpose()?;
    let bound = conditions.bound;
    let group_by = group_by_columns(scope, group_by, &outputs)?;
    let Some(having) = having else {
        return Err(source.start().error("a rule needs HAVING: the condition that is watched, such as COUNT(*) > 5"));
    };
    let having = scope.node(having)?;
    Ok(Parsed { schema, table, outputs, filter, bound, group_by, having, spelling })
}

/// The schema, table and alias of FROM.
fn table(source: &Source, from: &[TableWithJoins]) -> Result<(Name, Name, Option<Name>), RuleError> {
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
    let alias = match alias {
        None => None,
        Some(TableAlias { explicit: _, name: alias, columns, at: None }) if columns.is_empty() => {
            Some(name(at, alias)?)
        }
        Some(alias) => {
            let problem = "an alias that names columns is not supported; write the columns by their own names";
            return Err(source::place(&alias.name).unwrap_or(at).error(problem));
        }
    };
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
    let (schema, table) = table_name(at, table)?;
    Ok((schema, table, alias))
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

fn outputs(scope: Scope<'_>, projection: &[SelectItem]) -> Result<Vec<ParsedOutput>, RuleError> {
    if projection.is_empty() {
        return Err(scope.source.start().error(format!("the select list is empty; {OUTPUTS}")));
    }
    projection.iter().map(|item| output(scope, item)).collect()
}

fn output(scope: Scope<'_>, item: &SelectItem) -> Result<ParsedOutput, RuleError> {
    let (expr, alias) = match item {
        SelectItem::UnnamedExpr(expr) => (expr, None),
        SelectItem::ExprWithAlias { expr, alias } => (expr, Some(name(scope.at(expr), alias)?)),
        SelectItem::ExprWithAliases { expr, aliases: _ } => {
            return Err(scope.at(expr).error("several aliases for one output; give it one"));
        }
        SelectItem::QualifiedWildcard(_, _) | SelectItem::Wildcard(_) => {
            return Err(scope.source.at(item).error(format!("* is not supported here; {OUTPUTS}")));
        }
    };
    let expr = scope.node(expr)?;
    let name = alias.unwrap_or(Name { text: expr.default_name().to_owned(), at: expr.at });
    Ok(ParsedOutput { name, expr })
}

fn group_by_columns(
    scope: Scope<'_>,
    group_by: &GroupByExpr,
    outputs: &[ParsedOutput],
) -> Result<Vec<Node>, RuleError> {
    const COLUMNS: &str = "a rule groups by columns: GROUP BY column, column";
    let at = scope.source.keyword(Keyword::GROUP);
    let (exprs, modifiers) = match group_by {
        GroupByExpr::All(_) => return Err(at.error(format!("GROUP BY ALL is not supported; {COLUMNS}"))),
        GroupByExpr::Expressions(exprs, modifiers) => (exprs, modifiers),
    };
    if !modifiers.is_empty() {
        return Err(at.error(format!("GROUP BY with a modifier is not supported; {COLUMNS}")));
    }
    let mut keys: Vec<Node> = Vec::new();
    for expr in exprs {
        if let Expr::Rollup(_) | Expr::Cube(_) | Expr::GroupingSets(_) = strip(expr) {
            return Err(at.error(format!("ROLLUP, CUBE and GROUPING SETS are not supported; {COLUMNS}")));
        }
        let node = scope.of_rows().node(expr)?;
        let key = match &node.kind {
            Kind::Column(_) => node,
            Kind::Literal(_) => numbered(&node, outputs).ok_or_else(|| {
                let place = scope.source.at_or(expr, at);
                place.error(format!("GROUP BY of {} is not supported; {COLUMNS}", expression::describe(expr)))
            })?,
            _ => node,
        };
        if keys.iter().all(|other| other.kind != key.kind && !same_column(other, &key)) {
            keys.push(key);
        }
    }
    if keys.is_empty() {
        return Err(scope.source.start().error(format!("a rule needs GROUP BY; {COLUMNS}")));
    }
    Ok(keys)
}

fn same_column(left: &Node, right: &Node) -> bool {
    matches!((&left.kind, &right.kind), (Kind::Column(left), Kind::Column(right)) if left.text == right.text)
}

/// Resolves a number in GROUP BY, as in `GROUP BY 1`, to the output's expression.
fn numbered(node: &Node, outputs: &[ParsedOutput]) -> Option<Node> {
    let Kind::Literal(Literal::Number(number, Type::Int4)) = &node.kind else { return None };
    let place = usize::try_from(number.mantissa()).ok()?.checked_sub(1)?;
    outputs.get(place).map(|output| output.expr.clone())
}
