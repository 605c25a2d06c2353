//! Texts that are valid rules, texts that are not, and arbitrary text.

use proptest::prelude::*;

use super::node::AggregateNode;
use super::*;
use crate::rule::Interval;
use crate::rule::expression::{AggregateFunction, Arithmetic, Comparison, Function, NowWord};

const VALID: &str = "SELECT user_id, COUNT(*) AS transactions, SUM(ABS(amount)) AS total\n\
     FROM streaming.transactions\nWHERE timestamp >= NOW() - INTERVAL '7 days'\nGROUP BY user_id\n\
     HAVING SUM(ABS(amount)) > 3000";

fn with_where(bound: &str) -> String {
    format!("SELECT k FROM t WHERE {bound} GROUP BY k HAVING COUNT(*) > 1")
}

fn with_having(having: &str) -> String {
    format!("SELECT k FROM t GROUP BY k HAVING {having}")
}

#[test]
fn the_whole_form() {
    let parsed = parse(VALID).unwrap();
    let at = |line, column| At { line, column };
    let name = |text: &str, at| Name { text: text.to_owned(), at };
    let node = |at, kind| Node { at, kind };
    let output = |named, expr| ParsedOutput { name: named, expr };
    let column = |text: &str, at| node(at, Kind::Column(name(text, at)));
    let aggregate = |at, function, argument| {
        node(at, Kind::Aggregate(Box::new(AggregateNode { function, argument, filter: None })))
    };
    let total = |at, abs, of| {
        let amount = node(abs, Kind::Call(Function::Abs, vec![column("amount", of)]));
        aggregate(at, AggregateFunction::Sum, Some(amount))
    };
    let count = aggregate(at(1, 17), AggregateFunction::Count, None);
    let number = node(at(5, 27), Kind::Literal(Literal::Number(3000.into(), Type::Int4)));
    let sum = total(at(5, 8), at(5, 12), at(5, 16));
    let week = Literal::Interval(Interval { months: 0, days: 7, micros: 0 }, None);
    let ago = Kind::Arithmetic(
        Arithmetic::Subtract,
        Box::new(node(at(3, 20), Kind::Now(NowWord::Now))),
        Box::new(node(at(3, 37), Kind::Literal(week))),
    );
    let want = Parsed {
        schema: name("streaming", at(2, 6)),
        table: name("transactions", at(2, 16)),
        outputs: vec![
            output(name("user_id", at(1, 8)), column("user_id", at(1, 8))),
            output(name("transactions", at(1, 29)), count),
            output(name("total", at(1, 63)), total(at(1, 43), at(1, 47), at(1, 51))),
        ],
        filter: Some(node(at(3, 7), Kind::Bound)),
        bound: Some(ParsedBound { column: name("timestamp", at(3, 7)), inclusive: true, edge: node(at(3, 20), ago) }),
        group_by: vec![column("user_id", at(4, 10))],
        having: node(at(5, 8), Kind::Compare(Comparison::Greater, Box::new(sum), Box::new(number))),
        spelling: Spelling::default(),
    };
    assert_eq!(parsed, want);
}

#[test]
fn bounds() {
    let cases = [
        ("ts >= NOW() - INTERVAL '7 days'", true, (0, 7, 0)),
        ("ts > now() - interval '1 week'", false, (0, 7, 0)),
        ("(NOW() - INTERVAL '7d') <= (ts)", true, (0, 7, 0)),
        ("(((CURRENT_TIMESTAMP) - INTERVAL '7' DAY) < ts)", false, (0, 7, 0)),
        ("public.t.ts > now() - '1 year 2 mons'::interval", false, (14, 0, 0)),
        ("t.ts > now() - CAST('02:30' AS interval)", false, (0, 0, 9_000_000_000)),
        ("ts > now() - INTERVAL '1.5' SECOND", false, (0, 0, 1_500_000)),
    ];
    for (text, inclusive, (months, days, micros)) in cases {
        let bound = parse(&with_where(text)).unwrap().bound.unwrap();
        let Kind::Arithmetic(Arithmetic::Subtract, now, back) = bound.edge.kind else { panic!("{text}") };
        assert!(matches!(now.kind, Kind::Now(_)), "{text}");
        let Kind::Literal(Literal::Interval(back, _)) = back.kind else { panic!("{text}") };
        let got = (bound.column.text.as_str(), bound.inclusive, back);
        assert_eq!(got, ("ts", inclusive, Interval { months, days, micros }), "{text}");
    }
}

#[test]
fn intervals() {
    let cases = [
        ("1 y 2 mon 3w 4 d 5 hrs 6 min 7.25 sec 8ms 9 us", Some((14, 25, 18_367_258_009))),
        ("26:00:00.000001", Some((0, 0, 93_600_000_001))),
        ("100 years", Some((1200, 0, 0))),
        ("36525 days", Some((0, 36_525, 0))),
        ("36525 days 1 us", None),
        ("101 years", None),
        ("99999999999999999999 days", None),
        ("9223372036854775807 weeks", None),
        ("0 days", None),
        ("-7 days", None),
        ("7 days ago", None),
        ("7", None),
        ("days", None),
        ("1.5 days", None),
        ("1.5ms", None),
        ("1.1234567 s", None),
        ("1. s", None),
        ("1.2.3 s", None),
        ("1 day 2 days", None),
        ("1:60", None),
        ("1:2:3:4", None),
        (":", None),
        ("P7D", None),
        ("1 fortnight", None),
        ("yesterday", None),
        ("٧ days", None),
        ("", None),
    ];
    for (text, want) in cases {
        let got = interval::parse(text, None).ok();
        let want = want.map(|(months, days, micros)| Interval { months, days, micros });
        assert_eq!(got, want, "{text}");
    }
}

#[test]
fn numbers_and_their_types() {
    let check = |text: &str, number: &str, ty: Type| {
        let having = parse(&with_having(&format!("COUNT(*) > {text}"))).unwrap().having;
        let Kind::Compare(_, _, right) = having.kind else { panic!("{text}: {having:?}") };
        let Kind::Literal(Literal::Number(value, got)) = right.kind else { panic!("{text}: {right:?}") };
        assert_eq!((value.to_string().as_str(), got), (number, ty), "{text}");
    };
    check("3", "3", Type::Int4);
    check("-2.50", "-2.50", Type::Numeric);
    check("-3e3", "-3000", Type::Numeric);
    check("(+.5)", "0.5", Type::Numeric);
    check("3000000000", "3000000000", Type::Int8);
    check("30000000000000000000", "30000000000000000000", Type::Numeric);
}

#[test]
fn outputs_without_a_name_have_the_one_that_postgres_gives_them() {
    let check = |text: &str, want: &str| {
        let parsed = parse(&format!("SELECT {text} FROM t GROUP BY k HAVING COUNT(*) > 1")).unwrap();
        assert_eq!(parsed.outputs[0].name.text, want, "{text}");
    };
    check("k", "k");
    check("count(*)", "count");
    check("count(distinct a)", "count");
    check("avg(a) filter (where b)", "avg");
    check("sum(a) / 2", "?column?");
    check("coalesce(sum(a), 0)", "coalesce");
    check("case when count(*) > 1 then 1 else 2 end", "case");
    check("case when count(*) > 1 then 1 else max(a) end", "max");
    check("sum(a)::bigint", "sum");
    check("(1 + sum(a))::bigint", "int8");
}

#[test]
fn names_are_folded_unless_quoted() {
    let parsed = parse("SELECT Kü, SUM(\"A b\"), count(*) N FROM T GROUP BY \"kü\" HAVING count(*) > 1;").unwrap();
    let outputs: Vec<&str> = parsed.outputs.iter().map(|output| output.name.text.as_str()).collect();
    assert_eq!(outputs, ["kü", "sum", "n"]);
    assert_eq!((parsed.schema.text.as_str(), parsed.table.text.as_str()), ("public", "t"));
}

/// `(text, line, column, what the message begins with)`
#[test]
fn what_is_no_rule_is_refused_with_its_place() {
    let cases = [
        ("", 1, 1, "there is no SQL here"),
        ("-- nothing", 1, 1, "there is no SQL here"),
        ("SELECT k FROM t GROUP BY k HAVING COUNT(*) > 1; SELECT 1", 1, 49, "a second statement"),
        ("DELETE FROM t", 1, 1, "not a SELECT"),
        ("SELECT k\nFROM t GROUP k", 2, 8, "not SQL: Expected: end of statement"),
        ("SELECT 'a", 1, 8, "not SQL: Unterminated string literal"),
        ("WITH a AS (SELECT 1) SELECT k FROM a", 1, 1, "WITH is not supported"),
        ("SELECT k FROM t UNION SELECT k FROM t", 1, 17, "UNION is not supported"),
        ("SELECT DISTINCT k FROM t", 1, 8, "DISTINCT is not supported"),
        ("SELECT k INTO x FROM t", 1, 10, "INTO is not supported"),
        ("SELECT k FROM t ORDER BY k", 1, 17, "ORDER BY is not supported"),
        ("SELECT k FROM t LIMIT 3", 1, 17, "LIMIT or OFFSET is not supported"),
        ("SELECT k FROM t FOR UPDATE", 1, 17, "FOR is not supported"),
        ("SELECT k FROM t, u", 1, 18, "a second table"),
        ("SELECT k FROM t JOIN u ON true", 1, 17, "JOIN is not supported"),
        ("SELECT k FROM t AS x (y)", 1, 20, "an alias that names columns is not supported"),
        ("SELECT t.k FROM t AS x", 1, 8, "public.t is named x here"),
        ("SELECT k FROM (SELECT 1) GROUP BY k", 1, 16, "not a table"),
        ("SELECT k FROM a.b.c", 1, 15, "a name of more than schema and table"),
        ("SELECT k FROM f(1)", 1, 15, "more than a table's name"),
        ("SELECT 1", 1, 1, "FROM is missing"),
        ("SELECT * FROM t", 1, 8, "* is not supported here"),
        ("SELECT STDDEV(a) FROM t", 1, 8, "STDDEV(…) is not supported; aggregates are COUNT, SUM"),
        ("SELECT random() FROM t", 1, 8, "RANDOM(…) is not supported; aggregates are"),
        ("SELECT SUM(MAX(a)) FROM t", 1, 12, "MAX may not stand here: WHERE and aggregates look at one row"),
        ("SELECT SUM(DISTINCT a) FROM t", 1, 8, "DISTINCT in SUM is not supported"),
        ("SELECT SUM(a, b) FROM t", 1, 8, "SUM with 2 arguments; it takes one"),
        ("SELECT SUM(*) FROM t", 1, 8, "SUM needs an expression between its parentheses"),
        ("SELECT ABS(k) FILTER (WHERE b) FROM t", 1, 8, "FILTER or DISTINCT with ABS, which is no aggregate"),
        ("SELECT SUM(a) OVER () FROM t", 1, 8, "OVER with SUM is not supported"),
        ("SELECT SUM(a || b) FROM t", 1, 12, "an expression with || is not supported"),
        ("SELECT SUM((SELECT 1)) FROM t", 1, 13, "a subquery is not supported"),
        ("SELECT pg_catalog.sum(a) FROM t", 1, 8, "a function of a schema is not supported"),
        ("SELECT u.k FROM t", 1, 8, "a column of something else than public.t"),
        ("SELECT k FROM t HAVING COUNT(*) > 1", 1, 1, "a rule needs GROUP BY"),
        ("SELECT k FROM t GROUP BY k", 1, 1, "a rule needs HAVING"),
        ("SELECT k FROM t GROUP BY ALL HAVING COUNT(*) > 1", 1, 17, "GROUP BY ALL is not supported"),
        ("SELECT k FROM t GROUP BY ROLLUP(k)", 1, 17, "ROLLUP, CUBE and GROUPING SETS are not supported"),
        ("SELECT k FROM t GROUP BY 2", 1, 26, "GROUP BY of a literal is not supported"),
    ];
    for (text, line, column, problem) in cases {
        let with_having = format!("{text} GROUP BY k HAVING COUNT(*) > 1");
        let whole = ["SELECT SUM", "SELECT STDDEV", "SELECT ABS", "SELECT random", "SELECT t.k"];
        let text = if whole.iter().any(|start| text.starts_with(start)) { &with_having } else { text };
        check_refused(text, line, column, problem);
    }
}

#[test]
fn clauses_are_refused_with_their_place() {
    let wheres = [
        ("COUNT(*) > 1", 23, "COUNT may not stand here"),
        ("a ~ 'x'", 23, "an expression with ~ is not supported; an expression may hold"),
        ("a IN (SELECT 1)", 23, "IN with a subquery or an array is not supported"),
        ("a = ANY (ARRAY[1])", 23, "ANY or ALL is not supported"),
        ("a LIKE 'x' ESCAPE '#'", 23, "LIKE with ESCAPE or ANY is not supported"),
        ("a::json = 1", 23, "this cast is not supported"),
        ("ts >= clock_timestamp() - interval '1 day'", 29, "CLOCK_TIMESTAMP(…) is not supported; aggregates are"),
        ("ts >= now() - interval '1.5 days'", 46, "1.5: fractions are supported for seconds only"),
        ("ts >= now() - interval '-1 day'", 46, "an interval has to be positive"),
        ("ts >= now() - interval '1 12' DAY TO HOUR", 46, "an interval of a range or precision"),
        ("ts >= now() - interval '7 hours' DAY", 46, "\"7 hours\" is no whole number; before DAY stands one"),
        ("ts >= now() - interval '7' DECADE", 46, "after INTERVAL '7' Postgres takes YEAR"),
        ("ts >= now() - interval (SELECT 1)", 47, "an interval of a subquery is not supported"),
        ("EXTRACT(century FROM ts) = 1", 44, "EXTRACT takes SECOND, MINUTE"),
        ("ts >= date_trunc('fortnight', now())", 29, "DATE_TRUNC takes 'second'"),
        ("ts >= date_trunc('dow', now())", 29, "DATE_TRUNC takes 'second'"),
        ("ts >= date_trunc('day', now(), 'CET')", 54, "a time zone is written by its name"),
        ("ts AT TIME ZONE 'EST' = '2026-01-01'", 39, "a time zone is written by its name"),
    ];
    for (text, column, problem) in wheres {
        check_refused(&with_where(text), 1, column, problem);
    }
    let havings = [
        ("SUM(a) > $1", 44, "a literal is a number"),
        ("SUM(a) > 1e99", 44, "1e99 cannot be kept exactly"),
        ("SUM(a) > 0.12345678901234567890123456789", 44, "0.12345678901234567890123456789 cannot be kept exactly"),
        ("SUM(a) > - 'x'", 46, "a minus before something that is no number"),
        (
            "percentile_cont(0.5) WITHIN GROUP (ORDER BY a) > 1",
            35,
            "WITHIN GROUP with PERCENTILE_CONT is not supported",
        ),
    ];
    for (text, column, problem) in havings {
        check_refused(&with_having(text), 1, column, problem);
    }
}

fn check_refused(text: &str, line: u64, column: u64, problem: &str) {
    let error = parse(text).unwrap_err();
    assert_eq!((error.line, error.column), (line, column), "{text}: {error}");
    assert!(error.problem.starts_with(problem), "{text}: {error}");
}

#[test]
fn long_chains_are_taken() {
    parse(&with_where(&format!("{}a > 1", "a > 1 AND ".repeat(90)))).unwrap();
}

#[test]
fn long_and_deep_texts_are_refused() {
    for text in [
        format!("SELECT {} FROM t", "(".repeat(10_000)),
        format!("SELECT {} FROM t", "(".repeat(400)),
        with_having(&format!("SUM({}a) > 1", "a + ".repeat(10_000))),
        with_having(&format!("{} 1", "- ".repeat(400))),
        with_having(&format!("{}SUM(a) > 1{}", "(".repeat(200), ")".repeat(200))),
        with_having(&format!("SUM({}a) > 1", "a + ".repeat(120))),
        with_where(&format!("{}a > 1", "a > 1 AND ".repeat(110))),
        " ".repeat(100_000),
        format!("SELECT {} FROM t", "x".repeat(64)),
    ] {
        parse(&text).unwrap_err();
    }
}

proptest! {
    #[test]
    fn no_text_panics(text in "\\PC*") {
        drop(parse(&text));
    }

    #[test]
    fn no_mutation_of_a_rule_panics(
        edits in prop::collection::vec((0_usize..220, 0_usize..12, prop::sample::select(vec![
            "", "(", ")", "'", "\"", "-", "*", ",", ";", ".", "::", "e9", "\0", "ü", " AND ", " FILTER (WHERE a)",
            " OVER ()", " interval ", "NOW()", "SELECT ", " 1 ", "[", "$1", "CASE ", "/*", "--", " ROLLUP(", "E'",
        ])), 1..5),
    ) {
        let mut text: Vec<char> = VALID.chars().collect();
        for (from, length, insert) in edits {
            let from = from.min(text.len());
            let to = (from + length).min(text.len());
            text.splice(from..to, insert.chars());
        }
        let text: String = text.into_iter().collect();
        if let Err(error) = parse(&text) {
            prop_assert!(error.line >= 1 && error.column >= 1);
        }
    }
}
