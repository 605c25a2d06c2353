//! GROUP BY: columns, and expressions over a row.

use super::types::{Types, is_key};
use super::{find, unsupported};
use crate::model::{Column, ColumnType, Table};
use crate::rule::RuleError;
use crate::rule::calendar::Unit;
use crate::rule::expression::{Expression, Function, Type};
use crate::rule::parse::node::{Kind, Node};
use crate::rule::parse::{Name, ParsedOutput};

/// The columns that a rule groups by.
pub(super) struct Keys {
    /// The table, with the computed columns after its own.
    pub(super) table: Table,
    /// Indexes into the table's columns.
    pub(super) group_by: Vec<usize>,
    /// The expressions of the computed columns.
    pub(super) computed: Vec<Expression>,
}

pub(super) fn keys(table: &Table, nodes: &[Node], outputs: &[ParsedOutput]) -> Result<Keys, RuleError> {
    let mut keys = Keys { table: table.clone(), group_by: Vec::new(), computed: Vec::new() };
    for node in nodes {
        let index = match &aliased(table, node, outputs).kind {
            Kind::Column(name) => key_column(table, name)?,
            _ => keys.computed(table, aliased(table, node, outputs), outputs)?,
        };
        if !keys.group_by.contains(&index) {
            keys.group_by.push(index);
        }
    }
    Ok(keys)
}

/// A name that no column has may be the alias of an output.
fn aliased<'a>(table: &Table, node: &'a Node, outputs: &'a [ParsedOutput]) -> &'a Node {
    let Kind::Column(name) = &node.kind else { return node };
    if table.column(&name.text).is_some() {
        return node;
    }
    outputs.iter().find(|output| output.name.text == name.text).map_or(node, |output| &output.expr)
}

impl Keys {
    /// Adds a computed column.
    fn computed(&mut self, table: &Table, node: &Node, outputs: &[ParsedOutput]) -> Result<usize, RuleError> {
        let (expression, ty) = Types { table, aggregates: &mut Vec::new(), columns: true }.typed(node)?;
        if !is_supported(&expression) || expression.columns().is_empty() {
            return Err(node.at.error(
                "GROUP BY takes columns, DATE_TRUNC, EXTRACT but of YEAR and EPOCH, AT TIME ZONE, a time's date and COALESCE of columns \
                 and literals",
            ));
        }
        let column_type = match (&expression, ty) {
            (_, Type::Bool) => ColumnType::Bool,
            (_, Type::Int2) => ColumnType::Int2,
            (_, Type::Int4) => ColumnType::Int4,
            (_, Type::Int8) => ColumnType::Int8,
            (_, Type::Text) => ColumnType::Text,
            (_, Type::Char) => ColumnType::Char,
            (_, Type::Inet) => ColumnType::Inet,
            (_, Type::Uuid) => ColumnType::Uuid,
            (_, Type::Date) => ColumnType::Date,
            (_, Type::Timestamp) => ColumnType::Timestamp { precision: 6 },
            (_, Type::TimestampTz) => ColumnType::TimestampTz,
            (Expression::Extract(unit, _, of), _) => ColumnType::Numeric { scale: Some(unit.scale(*of == Type::Date)) },
            _ => return Err(node.at.error(format!("GROUP BY of a calculated {} is not supported", ty.name()))),
        };
        let own = table.columns.len();
        if let Some(known) = self.computed.iter().position(|known| *known == expression) {
            return Ok(own + known);
        }
        let named =
            outputs.iter().find(|output| output.expr.kind == node.kind || same(table, &output.expr, &expression));
        let name = named.map_or_else(|| node.default_name().to_owned(), |output| output.name.text.clone());
        let is_taken = |name: &str| self.table.columns.iter().any(|column| column.name == name);
        let mut unique = name.clone();
        for number in 2..=self.table.columns.len() + 2 {
            if !is_taken(&unique) {
                break;
            }
            unique = format!("{name}_{number}");
        }
        let type_name = ty.name().to_owned();
        self.table.columns.push(Column {
            name: unique,
            ty: column_type,
            type_name,
            nullable: true,
            has_default: false,
        });
        self.computed.push(expression);
        Ok(own + self.computed.len() - 1)
    }
}

/// Whether memory can compute the expression for every row: a key must not be unknown.
fn is_supported(expression: &Expression) -> bool {
    let here = match expression {
        Expression::Column(_)
        | Expression::Literal(_)
        | Expression::Truncate(..)
        | Expression::AtZone(..)
        | Expression::Widen(..)
        | Expression::Call(Function::Coalesce, _) => true,
        // Of an infinity they are infinite.
        Expression::Extract(unit, _, _) => !matches!(unit, Unit::Year | Unit::Epoch),
        Expression::Cast(_, from, to) => from.is_time() && to.is_time(),
        _ => false,
    };
    here && expression.parts().into_iter().all(is_supported)
}

/// Whether an output is this expression over a row.
fn same(table: &Table, node: &Node, expression: &Expression) -> bool {
    let typed = Types { table, aggregates: &mut Vec::new(), columns: true }.typed(node);
    typed.is_ok_and(|(typed, _)| typed == *expression)
}

/// The place in the key whose expression is the same as the output's.
pub(super) fn computed_at(table: &Table, group_by: &[usize], computed: &[Expression], node: &Node) -> Option<usize> {
    let own = table.columns.len() - computed.len();
    let known = computed.iter().position(|expression| same(table, node, expression))?;
    group_by.iter().position(|column| *column == own + known)
}

fn key_column(table: &Table, name: &Name) -> Result<usize, RuleError> {
    let (index, column) = find(table, name)?;
    if is_key(&column.ty) {
        return Ok(index);
    }
    Err(unsupported(
        name.at,
        column,
        "GROUP BY takes boolean, smallint, integer, bigint, text, varchar, char, uuid, inet, enums, and numeric with a declared scale",
    ))
}
