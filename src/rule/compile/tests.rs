//! Names and types against a table like the one that rules are written for.

use super::*;
use crate::model::ColumnType;
use crate::rule::expression::{AggregateFunction, Function, Type};
use crate::rule::parse::parse;

fn table() -> Table {
    let column = |name: &str, ty, type_name: &str| Column {
        name: name.to_owned(),
        ty,
        type_name: type_name.to_owned(),
        nullable: name == "note" || name == "amount",
        has_default: name == "note" || name == "id",
    };
    Table {
        schema: "public".to_owned(),
        name: "t".to_owned(),
        columns: vec![
            column("id", ColumnType::Int8, "bigint"),
            column("user_id", ColumnType::Int8, "bigint"),
            column("amount", ColumnType::Numeric { scale: Some(2) }, "numeric(12,2)"),
            column("free", ColumnType::Numeric { scale: None }, "numeric"),
            column("ts", ColumnType::TimestampTz, "timestamp with time zone"),
            column("price", ColumnType::Other, "money"),
            column("rate", ColumnType::Float8, "double precision"),
            column("weight", ColumnType::Float4, "real"),
            column("code", ColumnType::Char, "character(5)"),
            column("state", ColumnType::Enum, "streaming.state"),
            column("addr", ColumnType::Inet, "inet"),
            column("UserId", ColumnType::Uuid, "uuid"),
            column("note", ColumnType::Int4, "integer"),
        ],
        primary_key: vec![0],
    }
}

fn query(sql: &str) -> Result<Query, RuleError> {
    compile(&parse(sql)?, &table())
}

fn full() -> Query {
    query(
        "SELECT user_id, COUNT(*) AS n, SUM(ABS(amount)) AS total FROM t WHERE ts >= NOW() - INTERVAL '7 days' \
         GROUP BY user_id HAVING SUM(ABS(amount)) > 3000",
    )
    .unwrap()
}

#[test]
fn names_become_columns_and_aggregates_are_distinct() {
    let query = full();
    assert_eq!(query.group_by, [1]);
    let abs = Expression::Call(Function::Abs, vec![Expression::Column(2)]);
    let total = Aggregate {
        function: AggregateFunction::Sum,
        argument: Some(abs),
        filter: None,
        over: Type::Numeric,
        ty: Type::Numeric,
    };
    assert_eq!(query.aggregates, [Aggregate::COUNT_ROWS, total]);
    let aggregates: Vec<Option<usize>> = query.outputs.iter().map(Output::aggregate).collect();
    assert_eq!(aggregates, [None, Some(0), Some(1)]);
    assert_eq!(query.outputs[0].expr, OutputExpr::Key(0));
    let threshold = query.threshold().unwrap();
    assert_eq!((threshold.aggregate, threshold.value), (1, 3000.into()));
    assert_eq!((query.filter, query.bound.unwrap().column), (Some(Expression::Bound), 4));
}

#[test]
fn keys_are_columns_or_calculated() {
    let check = |select: &str, group_by: &str, names: &[&str]| {
        let query = query(&format!("SELECT {select} FROM t GROUP BY {group_by} HAVING COUNT(*) > 1")).unwrap();
        let key = |index: &usize| query.table.columns[*index].name.as_str();
        assert_eq!(query.group_by.iter().map(key).collect::<Vec<_>>(), names, "{select} by {group_by}");
        assert!(matches!(query.outputs[0].expr, OutputExpr::Key(0)), "{select} by {group_by}");
    };
    check("user_id, date_trunc('hour', ts) AS h", "user_id, date_trunc('hour', ts)", &["user_id", "h"]);
    check("date_trunc('hour', ts) AS h, COUNT(*)", "h", &["h"]);
    check("ts::date AS d, COUNT(*)", "1", &["d"]);
    check("EXTRACT(hour FROM ts AT TIME ZONE 'Europe/Berlin'), COUNT(*)", "1", &["extract"]);
    check("date_trunc('day', ts)", "date_trunc('day', ts), date_trunc('hour', ts)", &["date_trunc", "date_trunc_2"]);
    check("COALESCE(note, 0)", "COALESCE(note, 0), 1", &["coalesce"]);
    let refused = |group_by: &str, want: &str| {
        let error = query(&format!("SELECT COUNT(*) FROM t GROUP BY {group_by} HAVING COUNT(*) > 1")).unwrap_err();
        assert!(error.problem.starts_with(want), "{group_by}: {error}");
    };
    refused("EXTRACT(year FROM ts)", "GROUP BY takes columns, DATE_TRUNC");
    refused("user_id + 1", "GROUP BY takes columns, DATE_TRUNC");
    refused("date_trunc('day', NOW())", "GROUP BY takes columns, DATE_TRUNC");
    refused("CASE WHEN amount > 1 THEN 1 END", "GROUP BY takes columns, DATE_TRUNC");
    refused("COALESCE(amount, 0)", "GROUP BY of a calculated numeric is not supported");
    refused("1", "GROUP BY takes columns, DATE_TRUNC");
}

/// Typing is linear: an expression that was typed twice at each level would take exponential time.
#[test]
fn deep_expressions_are_typed_at_once() {
    let nested = |open: &str, close: &str| format!("{}amount{}", open.repeat(20), close.repeat(20));
    let sum = format!("amount{}", " + amount".repeat(90));
    let texts = [sum, nested("NULLIF(1 - ", ", 1)"), nested("COALESCE(1 - ", ", 1)"), nested("(1 + ", ")")];
    for text in texts {
        query(&format!("SELECT SUM({text}) FROM t GROUP BY user_id HAVING COUNT(*) > 1")).unwrap();
    }
    let times = format!("ts{}", " + INTERVAL '1 day'".repeat(60));
    query(&format!("SELECT MAX({times}) FROM t GROUP BY user_id HAVING COUNT(*) > 1")).unwrap();
}

#[test]
fn types_are_those_of_postgres() {
    let check = |expression: &str, want: Result<Type, &str>| {
        let got = query(&format!("SELECT {expression} AS x FROM t GROUP BY user_id HAVING COUNT(*) > 1"));
        match (got, want) {
            (Ok(query), Ok(want)) => {
                let OutputExpr::Value(_, ty) = &query.outputs[0].expr else { panic!("{expression}") };
                assert_eq!(*ty, want, "{expression}");
            }
            (Err(error), Err(want)) => assert!(error.problem.starts_with(want), "{expression}: {error}"),
            (got, want) => panic!("{expression}: {got:?}, not {want:?}"),
        }
    };
    check("COUNT(*)", Ok(Type::Int8));
    check("SUM(note)", Ok(Type::Int8));
    check("SUM(id)", Ok(Type::Numeric));
    check("SUM(amount)", Ok(Type::Numeric));
    check("AVG(note)", Ok(Type::Numeric));
    check("MAX(ts)", Ok(Type::TimestampTz));
    check("MIN(note) + 1", Ok(Type::Int4));
    check("MIN(note) / 2.0", Ok(Type::Numeric));
    check("COUNT(*) * 100 >= 50 * COUNT(*) FILTER (WHERE note = 1)", Ok(Type::Bool));
    check("BOOL_OR(amount > 5)", Ok(Type::Bool));
    check("COALESCE(MAX(amount), 0)", Ok(Type::Numeric));
    check("CASE WHEN COUNT(*) > 1 THEN 1 ELSE 2.5 END", Ok(Type::Numeric));
    check("SUM(amount)::bigint", Ok(Type::Int8));
    check("NULLIF(MAX(note), COUNT(*))", Ok(Type::Int4));
    check("NULLIF(MAX(note), 2.5)", Ok(Type::Numeric));
    check("NULLIF('3', MAX(note))", Ok(Type::Int4));
    check("COUNT(*) FILTER (WHERE note = '7')", Ok(Type::Int8));
    check("COUNT(*) FILTER (WHERE note = 'seven')", Err("'seven' is no integer"));
    check("COUNT(*) FILTER (WHERE note = amount)", Ok(Type::Int8));
    check("COUNT(*) FILTER (WHERE note = ts)", Err("integer and timestamp with time zone are not compared here"));
    check("COUNT(*) FILTER (WHERE ts > '2026-01-01')", Ok(Type::Int8));
    check("COUNT(*) FILTER (WHERE ts > '2026-01-01 12:00:00.5+02:00')", Ok(Type::Int8));
    check("COUNT(*) FILTER (WHERE ts::date = '2026-01-01')", Ok(Type::Int8));
    check("COUNT(*) FILTER (WHERE ts > 'yesterday')", Err("'yesterday' is no timestamp with time zone; write it as"));
    check("COUNT(*) FILTER (WHERE ts::date = '2026-02-30')", Err("'2026-02-30' is no date; write it as"));
    check("MAX(ts) - MIN(ts)", Ok(Type::Interval));
    check("MAX(ts)::date - MIN(ts)::date", Ok(Type::Int4));
    check("MAX(ts)::date - 7", Ok(Type::Date));
    check("MAX(ts) + INTERVAL '1 day'", Ok(Type::TimestampTz));
    check("MAX(ts)::date + INTERVAL '1 day'", Ok(Type::Timestamp));
    check("MAX(ts) - 7", Err("timestamp with time zone - integer is not supported"));
    check("MAX(ts) * 2", Err("timestamp with time zone * integer is not supported"));
    check("date_trunc('day', MAX(ts))", Ok(Type::TimestampTz));
    check("date_trunc('day', MAX(ts) AT TIME ZONE 'Europe/Berlin')", Ok(Type::Timestamp));
    check("date_trunc('day', MAX(amount))", Err("DATE_TRUNC takes a time, and this is numeric"));
    check("EXTRACT(hour FROM MAX(ts))", Ok(Type::Numeric));
    check("EXTRACT(epoch FROM MAX(ts) - MIN(ts))", Ok(Type::Numeric));
    check("EXTRACT(hour FROM MAX(ts)::date)", Err("EXTRACT(hour …) of date is not supported"));
    check("SUM(ts - ts)", Err("aggregates of intervals are not supported"));
    check("MAX(ts) = NOW()", Ok(Type::Bool));
    check("COUNT(*) FILTER (WHERE EXTRACT(hour FROM NOW()) < 6)", Err("NOW() is supported in a comparison of a time"));
    check("COUNT(*) FILTER (WHERE ts IN (NOW()))", Err("NOW() is supported in a comparison of a time"));
    check("SUM(EXTRACT(epoch FROM NOW() - ts))", Err("NOW() is supported in a comparison of a time"));
    check("COUNT(*) FILTER (WHERE note)", Err("FILTER has to be a condition, and this is integer"));
    check("COUNT(*) FILTER (WHERE \"UserId\" = '6F1D3C0E-9b52-4a7e-8d44-51c2e07ba963')", Ok(Type::Int8));
    check("SUM(ts)", Err("SUM takes numbers, and this is timestamp with time zone"));
    check("BOOL_AND(note)", Err("BOOL_AND takes conditions, and this is integer"));
    check("MAX(amount > 5)", Err("MAX takes numbers, times, text and enums, and this is boolean"));
    check("MAX(note) || 'x'", Err("an expression with || is not supported"));
    check("note", Err("\"note\" is not a GROUP BY column"));
    check("note + 1", Err("\"note\" differs from row to row of a group"));
    check("- COUNT(*)", Ok(Type::Int8));
    check("NOT COUNT(*)", Err("NOT has to be a condition, and this is bigint"));
    check("ABS(MAX(ts))", Err("ABS takes a number"));
    // By `select pg_typeof(…)`: an operator takes a real and another number as doubles. A choice between them is a
    // real.
    check("MAX(weight) + 1", Ok(Type::Float8));
    check("MAX(weight) + MAX(weight)", Ok(Type::Float4));
    check("COALESCE(MAX(weight), 1.5)", Ok(Type::Float4));
    check("GREATEST(MAX(weight), MAX(rate))", Ok(Type::Float8));
    check("SUM(weight)", Ok(Type::Float4));
    check("AVG(weight)", Ok(Type::Float8));
    check("SUM(rate) * 2", Ok(Type::Float8));
    check("MAX(amount)::real", Ok(Type::Float4));
    check("MAX(rate)::numeric", Ok(Type::Numeric));
    check("MAX(rate) % 2", Err("% takes whole numbers and numeric"));
    check("NULLIF(MAX(rate), 2)", Ok(Type::Float8));
    check("NULLIF(2, MAX(rate))", Err("NULLIF of floating point takes two of one type"));
    check("COUNT(*) FILTER (WHERE rate > '1e3')", Ok(Type::Int8));
    check("COUNT(*) FILTER (WHERE rate > 'inf')", Err("'inf' is no double precision"));
    check("MAX(code)", Ok(Type::Char));
    check("COUNT(*) FILTER (WHERE code LIKE 'a%')", Err("LIKE of char(n) looks at the blanks at its end too"));
    check("COUNT(*) FILTER (WHERE code::text LIKE 'a%')", Ok(Type::Int8));
    check("COUNT(DISTINCT addr)", Ok(Type::Int8));
    check("MAX(addr)", Err("MAX takes numbers, times, text and enums, and this is inet"));
    check("COUNT(*) FILTER (WHERE addr = '10.0.0.300')", Err("'10.0.0.300' is no inet"));
    check("COUNT(*) FILTER (WHERE state = 'open')", Ok(Type::Int8));
    check("COUNT(*) FILTER (WHERE state = code)", Err("an enum and bpchar are not compared here"));
    check("MAX(note)::text", Err("a cast of integer to text is not supported"));
}

#[test]
fn a_rule_needs_a_condition_on_aggregates() {
    let check = |having: &str, want: &str| {
        let error = query(&format!("SELECT user_id FROM t GROUP BY user_id HAVING {having}")).unwrap_err();
        assert!(error.problem.starts_with(want), "{having}: {error}");
    };
    check("true", "HAVING needs an aggregate");
    check("COUNT(*)", "HAVING has to be a condition, and this is bigint");
    check("user_id > 5", "\"user_id\" differs from row to row");
    check("COUNT(*) > 'many'", "'many' is no bigint");
}

#[test]
fn what_the_catalog_contradicts_is_refused_with_its_place() {
    let cases = [
        ("SELECT k FROM u GROUP BY k HAVING COUNT(*) > 1", 15, "the rule reads public.u, but the table watched is"),
        (
            "SELECT k FROM t GROUP BY user_ID HAVING COUNT(*) > 1",
            8,
            "public.t has no column \"k\"; its columns are id,",
        ),
        (
            "SELECT SUM(amuont) FROM t GROUP BY id HAVING COUNT(*) > 1",
            12,
            "public.t has no column \"amuont\"; did you mean \"amount\"?",
        ),
        (
            "SELECT SUM(id) FROM t GROUP BY UserId HAVING COUNT(*) > 1",
            32,
            "public.t has no column \"userid\"; names are folded to lower case unless quoted: write \"UserId\"",
        ),
        ("SELECT id FROM t GROUP BY user_id HAVING COUNT(*) > 1", 8, "\"id\" is not a GROUP BY column"),
        (
            "SELECT SUM(price) FROM t GROUP BY id HAVING COUNT(*) > 1",
            12,
            "column \"price\" is of type money; expressions take boolean, smallint",
        ),
        (
            "SELECT id FROM t GROUP BY ts HAVING COUNT(*) > 1",
            27,
            "column \"ts\" is of type timestamp with time zone; GROUP",
        ),
        (
            "SELECT free FROM t GROUP BY free HAVING COUNT(*) > 1",
            29,
            "column \"free\" is of type numeric; GROUP BY takes",
        ),
        (
            "SELECT id FROM t WHERE amount > now() - interval '1 day' GROUP BY id HAVING COUNT(*) > 1",
            24,
            "column \"amount\" is of type numeric(12,2); a time bound takes",
        ),
        (
            "SELECT SUM(id), SUM(note) FROM t GROUP BY id HAVING COUNT(*) > 1",
            17,
            "two outputs are named \"sum\", and an alert has one field for each",
        ),
    ];
    for (sql, column, problem) in cases {
        let error = query(sql).unwrap_err();
        assert_eq!((error.line, error.column), (1, column), "{sql}: {error}");
        assert!(error.problem.starts_with(problem), "{sql}: {error}");
    }
}

#[test]
fn wanted_columns_are_those_that_rules_read() {
    let other = query("SELECT SUM(note) FROM t GROUP BY \"UserId\" HAVING COUNT(*) > 1").unwrap();
    assert_eq!(wanted(&[&full(), &other, &full()]), [1, 2, 4, 11, 12]);
    assert!(wanted(&[]).is_empty());
}

#[test]
fn a_nullable_column_with_a_default_needs_a_connector_that_keeps_nulls() {
    let risky = query("SELECT SUM(note) FROM t GROUP BY id HAVING COUNT(*) > 1").unwrap();
    assert!(check_nulls(&risky, false).unwrap_err().contains("source.connector_keeps_nulls = true"));
    assert_eq!(check_nulls(&risky, true), Ok(()));
    assert_eq!(check_nulls(&full(), false), Ok(()));
}

#[test]
fn a_version_changes_with_the_meaning_only() {
    let base =
        "SELECT user_id, SUM(amount) FROM t WHERE ts > NOW() - INTERVAL '7 days' GROUP BY user_id HAVING COUNT(*) > 3";
    let of = |sql: &str| version(&query(sql).unwrap(), Time::Processing, Confirm::Required);
    let same = [
        "select  User_id,\n sum((\"amount\")) from PUBLIC.t -- c\n where (t.ts > now() - interval '1 week') \
         group by user_id having count(*) > 3",
        "SELECT user_id, SUM(amount) AS sum FROM t WHERE CURRENT_TIMESTAMP - INTERVAL '7' DAY < ts GROUP BY user_id \
         HAVING 3.00 < COUNT(*);",
    ];
    for sql in same {
        assert_eq!(of(sql), of(base), "{sql}");
    }
    let others = [
        base.replace("'7 days'", "'168 hours'"),
        base.replace("ts >", "ts >="),
        base.replace("> 3", "> 4"),
        base.replace("> 3", ">= 3"),
        base.replace("SUM(amount)", "SUM(amount) AS total"),
        base.replace("SUM(amount)", "SUM(ABS(amount)) AS sum"),
    ];
    for sql in others {
        assert_ne!(of(&sql), of(base), "{sql}");
    }
    let query = query(base).unwrap();
    assert_ne!(version(&query, Time::Event, Confirm::Required), of(base));
    assert_ne!(version(&query, Time::Processing, Confirm::Off), of(base));
    // Pinned: a version that moved with a release would end every episode.
    assert_eq!(of(base), "317dce81ade55169");
}
