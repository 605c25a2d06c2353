//! Calls: aggregates, functions of values, and NOW().

use sqlparser::ast::{
    DuplicateTreatment, Expr, Function as FunctionExpr, FunctionArg, FunctionArgExpr, FunctionArgumentList,
    FunctionArguments, ObjectName, ObjectNamePart,
};

use super::At;
use super::expression::{SUPPORTED, Scope, shortened, zone_name};
use super::node::{AggregateNode, Kind};
use super::source::name;
use crate::rule::RuleError;
use crate::rule::calendar::Unit;
use crate::rule::expression::{AggregateFunction, Function, NowWord};

const AGGREGATES: &str = "aggregates are COUNT, SUM, AVG, MIN, MAX, BOOL_AND and BOOL_OR";

/// A call, after the clauses that a rule does not support were rejected.
struct Call<'a> {
    /// The function's name, folded to lower case.
    name: String,
    args: Args<'a>,
    distinct: bool,
    filter: Option<&'a Expr>,
}

/// The arguments of a call.
enum Args<'a> {
    /// No parentheses: `CURRENT_TIMESTAMP`.
    Absent,
    /// `(*)`
    Star,
    /// A list of expressions, possibly empty.
    List(Vec<&'a Expr>),
}

/// Converts a call to an expression.
pub(super) fn call(scope: Scope<'_>, expr: &Expr, function: &FunctionExpr) -> Result<Kind, RuleError> {
    let at = scope.at(expr);
    let call = taken_apart(at, function)?;
    if let Some(clock) = clock(&call) {
        return Ok(Kind::Now(clock));
    }
    if let Some(function) = aggregate_function(&call.name) {
        return aggregate(scope, at, function, &call);
    }
    if call.filter.is_some() || call.distinct {
        let problem = format!("FILTER or DISTINCT with {}, which is no aggregate; {AGGREGATES}", shown(&call.name));
        return Err(at.error(problem));
    }
    let Args::List(list) = &call.args else { return Err(unknown(at, &call.name)) };
    if call.name == "date_trunc" {
        return truncate(scope, at, list);
    }
    let (function, fits) = match call.name.as_str() {
        "abs" => (Function::Abs, list.len() == 1),
        "coalesce" => (Function::Coalesce, !list.is_empty()),
        "nullif" => (Function::Nullif, list.len() == 2),
        "greatest" => (Function::Greatest, !list.is_empty()),
        "least" => (Function::Least, !list.is_empty()),
        _ => return Err(unknown(at, &call.name)),
    };
    if !fits {
        return Err(at.error(format!("{} with {} arguments", shown(&call.name), list.len())));
    }
    Ok(Kind::Call(function, list.iter().map(|argument| scope.node(argument)).collect::<Result<_, _>>()?))
}

/// Recognizes NOW() and its synonyms.
fn clock(call: &Call<'_>) -> Option<NowWord> {
    Some(match (call.name.as_str(), &call.args) {
        ("now", Args::List(list)) if list.is_empty() => NowWord::Now,
        ("transaction_timestamp", Args::List(list)) if list.is_empty() => NowWord::Transaction,
        ("statement_timestamp", Args::List(list)) if list.is_empty() => NowWord::Statement,
        ("current_timestamp", Args::Absent) => NowWord::Current,
        ("current_date", Args::Absent) => NowWord::Date,
        ("localtimestamp", Args::Absent) => NowWord::Local,
        _ => return None,
    })
}

/// `date_trunc('day', x)`, `date_trunc('day', x, 'Europe/Berlin')`
fn truncate(scope: Scope<'_>, at: At, list: &[&Expr]) -> Result<Kind, RuleError> {
    let (unit, of, zone) = match list {
        [unit, of] => (unit, of, None),
        [unit, of, zone] => (unit, of, Some(zone_name(scope, zone)?)),
        _ => return Err(at.error(format!("DATE_TRUNC with {} arguments; it takes two or three", list.len()))),
    };
    let unit = super::expression::text_of(unit).and_then(Unit::named).filter(|unit| unit.is_cut_to());
    let unit = unit.ok_or_else(|| {
        at.error("DATE_TRUNC takes 'second', 'minute', 'hour', 'day', 'week', 'month', 'quarter' and 'year'")
    })?;
    Ok(Kind::Truncate(unit, scope.boxed(of)?, zone))
}

fn aggregate(scope: Scope<'_>, at: At, function: AggregateFunction, call: &Call<'_>) -> Result<Kind, RuleError> {
    let shown = shown(&call.name);
    if !scope.aggregates {
        return Err(at.error(format!("{shown} may not stand here: WHERE and aggregates look at one row")));
    }
    let rows = scope.of_rows();
    let argument = match (&call.args, function) {
        (Args::Star, AggregateFunction::Count) if !call.distinct => None,
        (Args::List(list), _) => match list.as_slice() {
            [argument] => Some(rows.node(argument)?),
            _ => return Err(at.error(format!("{shown} with {} arguments; it takes one", list.len()))),
        },
        _ => return Err(at.error(format!("{shown} needs an expression between its parentheses"))),
    };
    let function = match (function, call.distinct) {
        (AggregateFunction::Count, true) => AggregateFunction::CountDistinct,
        // The same with and without.
        (AggregateFunction::Min | AggregateFunction::Max, true)
        | (AggregateFunction::BoolAnd | AggregateFunction::BoolOr, true)
        | (AggregateFunction::Sum | AggregateFunction::Avg, true) => {
            return Err(at.error(format!("DISTINCT in {shown} is not supported; COUNT(DISTINCT …) is")));
        }
        (function, false) => function,
        (AggregateFunction::CountDistinct, true) => AggregateFunction::CountDistinct,
    };
    let filter = call.filter.map(|filter| rows.node(filter)).transpose()?;
    Ok(Kind::Aggregate(Box::new(AggregateNode { function, argument, filter })))
}

fn aggregate_function(name: &str) -> Option<AggregateFunction> {
    Some(match name {
        "count" => AggregateFunction::Count,
        "sum" => AggregateFunction::Sum,
        "avg" => AggregateFunction::Avg,
        "min" => AggregateFunction::Min,
        "max" => AggregateFunction::Max,
        "bool_and" | "every" => AggregateFunction::BoolAnd,
        "bool_or" => AggregateFunction::BoolOr,
        _ => return None,
    })
}

/// Takes a call apart. Rejects OVER and every other clause of a call.
fn taken_apart(at: At, function: &FunctionExpr) -> Result<Call<'_>, RuleError> {
    let FunctionExpr { name: path, uses_odbc_syntax, parameters, args, within_group, filter, null_treatment, over } =
        function;
    let ObjectName(parts) = path;
    let [ObjectNamePart::Identifier(ident)] = parts.as_slice() else {
        return Err(at.error("a function of a schema is not supported; functions are written alone"));
    };
    let name = name(at, ident)?.text;
    let shown = shown(&name);
    let refused = [
        (over.is_some(), "OVER"),
        (!within_group.is_empty(), "WITHIN GROUP"),
        (null_treatment.is_some(), "IGNORE or RESPECT NULLS"),
        (*uses_odbc_syntax, "{fn …}"),
        (!matches!(parameters, FunctionArguments::None), "a second list of arguments"),
    ];
    if let Some((_, what)) = refused.iter().find(|(there, _)| *there) {
        return Err(at.error(format!("{what} with {shown} is not supported; write the call alone")));
    }
    let (args, distinct) = match args {
        FunctionArguments::None => (Args::Absent, false),
        FunctionArguments::Subquery(_) => return Err(at.error(format!("a subquery in {shown} is not supported"))),
        FunctionArguments::List(FunctionArgumentList { duplicate_treatment, args, clauses }) => {
            if !clauses.is_empty() {
                return Err(at.error(format!("a clause inside of {shown}(…) is not supported; write the column alone")));
            }
            let distinct = matches!(duplicate_treatment, Some(DuplicateTreatment::Distinct));
            match args.as_slice() {
                [FunctionArg::Unnamed(FunctionArgExpr::Wildcard)] => (Args::Star, distinct),
                list => {
                    let plain = |argument: &'_ FunctionArg| match argument {
                        FunctionArg::Unnamed(FunctionArgExpr::Expr(_)) => Ok(()),
                        _ => Err(at.error(format!("an argument of {shown} has a name or is *; write a plain one"))),
                    };
                    list.iter().try_for_each(plain)?;
                    let expr = |argument| match argument {
                        &FunctionArg::Unnamed(FunctionArgExpr::Expr(ref expr)) => Some(expr),
                        _ => None,
                    };
                    (Args::List(list.iter().filter_map(expr).collect()), distinct)
                }
            }
        }
    };
    Ok(Call { name, args, distinct, filter: filter.as_deref() })
}

fn shown(name: &str) -> String {
    shortened(&name.to_uppercase())
}

fn unknown(at: At, name: &str) -> RuleError {
    at.error(format!("{}(…) is not supported; {AGGREGATES}; {SUPPORTED}", shown(name)))
}
