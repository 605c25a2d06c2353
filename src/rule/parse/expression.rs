//! Columns, calls and aggregates, and words for everything that is none of these.

use sqlparser::ast::{
    BinaryOperator, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArgumentList, FunctionArguments, ObjectName,
    ObjectNamePart, UnaryOperator,
};

use super::source::{Source, name};
use super::{At, Name, ParsedAggregate};
use crate::rule::RuleError;

/// Without the parentheses around it.
pub(super) fn strip(mut expr: &Expr) -> &Expr {
    while let Expr::Nested(inner) = expr {
        expr = inner;
    }
    expr
}

/// The column that an expression is; `None` if it is something else.
pub(super) fn column(source: &Source, table: (&Name, &Name), expr: &Expr) -> Result<Option<Name>, RuleError> {
    let at = source.at(expr);
    match strip(expr) {
        Expr::Identifier(ident) => name(at, ident).map(Some),
        Expr::CompoundIdentifier(idents) => {
            let names = idents.iter().map(|ident| name(at, ident)).collect::<Result<Vec<_>, _>>()?;
            let (of, column) = match names.as_slice() {
                [of, column] => (of, column),
                [schema, of, column] if schema.text == table.0.text => (of, column),
                _ => return Err(not_of_the_table(at, table)),
            };
            if of.text != table.1.text {
                return Err(not_of_the_table(at, table));
            }
            Ok(Some(column.clone()))
        }
        _ => Ok(None),
    }
}

fn not_of_the_table(at: At, (schema, table): (&Name, &Name)) -> RuleError {
    let (schema, table) = (&schema.text, &table.text);
    at.error(format!("a column of something else than {schema}.{table}; write the column's name alone"))
}

/// A function call without any of the clauses that a call may have.
pub(super) struct Call<'a> {
    /// Folded name.
    pub(super) name: String,
    pub(super) args: Args<'a>,
}

/// What is between a call's parentheses.
pub(super) enum Args<'a> {
    /// There are no parentheses: `CURRENT_TIMESTAMP`.
    Absent,
    /// `()`
    Empty,
    /// `(*)`
    Star,
    /// `(expression)`
    One(&'a Expr),
    /// Anything else.
    Other,
}

/// Takes a call apart; refuses FILTER, OVER, DISTINCT and whatever else stands in or behind it.
pub(super) fn call<'a>(source: &Source, expr: &Expr, function: &'a Function) -> Result<Call<'a>, RuleError> {
    let at = source.at(expr);
    let Function { name: path, uses_odbc_syntax, parameters, args, within_group, filter, null_treatment, over } =
        function;
    let ObjectName(parts) = path;
    let [ObjectNamePart::Identifier(ident)] = parts.as_slice() else {
        return Err(at.error("a function of a schema is not supported; COUNT, SUM and ABS are written alone"));
    };
    let name = name(at, ident)?.text;
    let shown = name.to_uppercase();
    let refused = [
        (filter.is_some(), "FILTER"),
        (over.is_some(), "OVER"),
        (!within_group.is_empty(), "WITHIN GROUP"),
        (null_treatment.is_some(), "IGNORE or RESPECT NULLS"),
        (*uses_odbc_syntax, "{fn …}"),
        (!matches!(parameters, FunctionArguments::None), "a second list of arguments"),
    ];
    if let Some((_, what)) = refused.iter().find(|(there, _)| *there) {
        return Err(at.error(format!("{what} with {shown} is not supported; write the call alone")));
    }
    let args = match args {
        FunctionArguments::None => Args::Absent,
        FunctionArguments::Subquery(_) => Args::Other,
        FunctionArguments::List(FunctionArgumentList { duplicate_treatment, args, clauses }) => {
            if let Some(treatment) = duplicate_treatment {
                return Err(at.error(format!("{treatment} in {shown} is not supported; write the column alone")));
            }
            if !clauses.is_empty() {
                return Err(at.error(format!("a clause inside of {shown}(…) is not supported; write the column alone")));
            }
            match args.as_slice() {
                [] => Args::Empty,
                [FunctionArg::Unnamed(FunctionArgExpr::Wildcard)] => Args::Star,
                [FunctionArg::Unnamed(FunctionArgExpr::Expr(expr))] => Args::One(expr),
                _ => Args::Other,
            }
        }
    };
    Ok(Call { name, args })
}

/// The aggregate that an expression is, or why it is none; `supported` says what may stand there.
pub(super) fn aggregate_or_refuse(
    source: &Source,
    table: (&Name, &Name),
    expr: &Expr,
    supported: &str,
) -> Result<ParsedAggregate, RuleError> {
    let refuse = || source.at(expr).error(format!("{} is not supported; {supported}", describe(expr)));
    let Expr::Function(function) = strip(expr) else {
        return Err(refuse());
    };
    let Call { name, args } = call(source, expr, function)?;
    match (name.as_str(), args) {
        ("count", Args::Star) => Ok(ParsedAggregate::CountRows),
        ("count", _) => Err(source.at(expr).error(format!("COUNT of anything but * is not supported; {supported}"))),
        ("sum", Args::One(inner)) => sum(source, table, inner, supported),
        _ => Err(refuse()),
    }
}

fn sum(source: &Source, table: (&Name, &Name), inner: &Expr, supported: &str) -> Result<ParsedAggregate, RuleError> {
    if let Some(column) = column(source, table, inner)? {
        return Ok(ParsedAggregate::Sum(column));
    }
    let refuse =
        |expr: &Expr| source.at(expr).error(format!("SUM of {} is not supported; {supported}", describe(expr)));
    let Expr::Function(function) = strip(inner) else {
        return Err(refuse(inner));
    };
    let Call { name, args } = call(source, inner, function)?;
    let ("abs", Args::One(argument)) = (name.as_str(), args) else {
        return Err(refuse(inner));
    };
    match column(source, table, argument)? {
        Some(column) => Ok(ParsedAggregate::SumAbs(column)),
        None => {
            let problem = format!("ABS of {} is not supported; {supported}", describe(argument));
            Err(source.at(argument).error(problem))
        }
    }
}

/// What an expression is, in a few words for a refusal. Not the parser's `Display`, which may be long and wrong.
pub(super) fn describe(expr: &Expr) -> String {
    let words = match strip(expr) {
        Expr::Identifier(ident) => return format!("the name {}", shortened(&ident.value)),
        Expr::CompoundIdentifier(_) => "a column",
        Expr::Value(_) | Expr::TypedString(_) => "a literal",
        Expr::Function(Function { name: ObjectName(parts), .. }) => match parts.last() {
            Some(ObjectNamePart::Identifier(ident)) => {
                return format!("{}(…)", shortened(&ident.value.to_uppercase()));
            }
            _ => "a function",
        },
        Expr::BinaryOp { left: _, op: BinaryOperator::And, right: _ } => "AND",
        Expr::BinaryOp { left: _, op: BinaryOperator::Or, right: _ } => "OR",
        Expr::BinaryOp { left: _, op, right: _ } => return format!("an expression with {op}"),
        Expr::UnaryOp { op: UnaryOperator::Not, expr: _ } => "NOT",
        Expr::UnaryOp { op, expr: _ } => return format!("an expression with {op}"),
        Expr::Between { .. } => "BETWEEN",
        Expr::InList { .. } | Expr::InSubquery { .. } | Expr::InUnnest { .. } => "IN",
        Expr::Like { .. } | Expr::ILike { .. } | Expr::SimilarTo { .. } | Expr::RLike { .. } => "LIKE",
        Expr::IsNull(_) | Expr::IsNotNull(_) => "IS NULL",
        Expr::Case { .. } => "CASE",
        Expr::Cast { .. } | Expr::Convert { .. } => "a cast",
        Expr::Subquery(_) | Expr::Exists { .. } => "a subquery",
        Expr::AtTimeZone { .. } => "AT TIME ZONE",
        Expr::Interval(_) => "an interval",
        Expr::Rollup(_) | Expr::Cube(_) | Expr::GroupingSets(_) => "ROLLUP, CUBE or GROUPING SETS",
        Expr::Tuple(_) => "a row of several values",
        _ => "this expression",
    };
    words.to_owned()
}

fn shortened(text: &str) -> String {
    const MAX_CHARS: usize = 63;
    text.chars().take(MAX_CHARS).collect()
}
