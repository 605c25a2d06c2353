//! Compares whole statements for Postgres with their expected texts. Other tests run them on a server.

use super::*;
use crate::model::{Column, ColumnType, Table};
use crate::rule::compile::compile;
use crate::rule::parse::{Parsed, parse};

fn table() -> Table {
    let column = |name: &str, ty, type_name: &str| Column {
        name: name.to_owned(),
        ty,
        type_name: type_name.to_owned(),
        nullable: true,
        has_default: false,
    };
    Table {
        schema: "s".to_owned(),
        name: "asked".to_owned(),
        columns: vec![
            column("key", ColumnType::Numeric { scale: Some(2) }, "numeric(12,2)"),
            column("a\"b", ColumnType::Int4, "integer"),
            column("ts", ColumnType::TimestampTz, "timestamp with time zone"),
            column("code", ColumnType::Text, "character varying(3)"),
        ],
        primary_key: vec![0],
    }
}

fn compiled(sql: &str) -> (Parsed, Query) {
    let parsed = parse(sql).unwrap();
    let query = compile(&parsed, &table()).unwrap();
    (parsed, query)
}

const RULE: &str = "SELECT key, count(*) AS n, sum(abs(\"a\"\"b\")) \"To tal\" FROM s.asked \
     WHERE CURRENT_TIMESTAMP - INTERVAL '36' HOUR <= ts GROUP BY key HAVING 3e3 < sum(\"a\"\"b\")";

#[test]
fn the_plain_query() {
    let (parsed, query) = compiled(RULE);
    assert_eq!(
        original(&query),
        "SELECT \"key\" AS \"key\", count(*) AS \"n\", sum(abs(\"a\"\"b\")) AS \"To tal\" FROM \"s\".\"asked\" \
         WHERE (\"ts\" >= (now() - INTERVAL '36:00:00')) GROUP BY \"key\" HAVING (sum(\"a\"\"b\") > (3000))"
    );
    assert_eq!(
        as_written(&query, &parsed.spelling),
        "SELECT \"key\" AS \"key\", count(*) AS \"n\", sum(abs(\"a\"\"b\")) AS \"To tal\" FROM \"s\".\"asked\" \
         WHERE ((CURRENT_TIMESTAMP - INTERVAL '36:00:00' HOUR) <= \"ts\") GROUP BY \"key\" \
         HAVING (((3000)::numeric) < sum(\"a\"\"b\"))"
    );
}

#[test]
fn many_keys_under_the_wall_clock() {
    let (_, query) = compiled(RULE);
    let Confirmation { sql, outputs } = confirmation(&query, Time::Processing);
    assert_eq!(outputs, ["n", "To tal"]);
    assert_eq!(
        sql,
        "SELECT asked.ord AS ord, seen.snapshot AS snapshot, seen.in_recovery AS in_recovery, \
         COALESCE(answer.holds, false) AS holds, COALESCE(answer.o0, '0') AS o0, answer.o1 AS o1 \
         FROM (SELECT ($2::text)::timestamptz AS t, pg_current_snapshot()::text AS snapshot, \
         pg_is_in_recovery() AS in_recovery) AS seen \
         CROSS JOIN unnest($1::text[]) WITH ORDINALITY AS asked(key, ord) \
         LEFT JOIN (SELECT r.\"key\" AS key, (((3000)::numeric) < sum(r.\"a\"\"b\")) AS holds, (count(*))::text AS o0, \
         (sum(abs(r.\"a\"\"b\")))::text AS o1 FROM \"s\".\"asked\" AS r \
         WHERE (r.\"ts\" >= (($2::text)::timestamptz - INTERVAL '36:00:00')) \
         AND (r.\"key\" = ANY (($1::text[])::numeric[])) GROUP BY r.\"key\") AS answer \
         ON answer.key = (asked.key)::numeric ORDER BY asked.ord"
    );
}

#[test]
fn many_keys_under_event_time() {
    let (_, query) = compiled(RULE);
    let sql = confirmation(&query, Time::Event).sql;
    assert!(sql.contains("CROSS JOIN unnest($1::text[], $2::text[]) WITH ORDINALITY AS asked(key, t, ord) "), "{sql}");
    let condition = "LEFT JOIN (SELECT asked.ord AS ord, (((3000)::numeric) < sum(r.\"a\"\"b\")) AS holds, (count(*))::text AS o0, \
                     (sum(abs(r.\"a\"\"b\")))::text AS o1 \
                     FROM unnest($1::text[], $2::text[]) WITH ORDINALITY AS asked(key, t, ord) \
                     JOIN \"s\".\"asked\" AS r ON (r.\"ts\" >= ((asked.t)::timestamptz - INTERVAL '36:00:00')) \
                     AND (r.\"ts\" <= (asked.t)::timestamptz) AND (r.\"key\" = (asked.key)::numeric) \
                     GROUP BY asked.ord, asked.t) AS answer ON answer.ord = asked.ord ORDER BY asked.ord";
    assert!(sql.ends_with(condition), "{sql}");
}

#[test]
fn the_null_key() {
    let (_, query) = compiled(RULE);
    let wall = confirmation_null(&query, Time::Processing, &[true]);
    assert_eq!(wall.outputs, ["n", "To tal"]);
    let condition = "WHERE (r.\"ts\" >= (($1::text)::timestamptz - INTERVAL '36:00:00')) AND (r.\"key\" IS NULL) \
         GROUP BY r.\"key\") AS answer ON true";
    assert!(wall.sql.ends_with(condition), "{}", wall.sql);
    let event = confirmation_null(&query, Time::Event, &[true]).sql;
    assert!(event.contains(" AND (r.\"ts\" <= ($1::text)::timestamptz) AND (r.\"key\" IS NULL)"), "{event}");
}

#[test]
fn without_a_bound_every_parameter_is_still_named() {
    let (_, query) = compiled("SELECT code FROM s.asked GROUP BY code HAVING count(*) > 1");
    for (clock, parameter) in [(Time::Processing, "$2::text)"), (Time::Event, "$2::text[]")] {
        let Confirmation { sql, outputs } = confirmation(&query, clock);
        assert!(sql.contains(parameter) && !sql.contains("\"ts\"") && outputs.is_empty(), "{sql}");
        // Not character varying(3), which would cut a longer key off.
        assert!(!sql.contains("varying"), "{sql}");
    }
    assert!(confirmation_null(&query, Time::Event, &[true]).sql.contains("$1::text"));
}

#[test]
fn a_rendering_compiles_to_the_same_query() {
    let bounds = ["", "ts > now() - interval '1 year 2 mon 3 days 4:05:06.000007'", "ts >= now() - interval '3 us'"];
    let havings =
        ["count(*) >= 3", "sum(\"a\"\"b\") <> -2.50", "sum(abs(key)) = .5", "sum(key) <= 1e-3", "0 >= count(*)"];
    for bound in bounds {
        for having in havings {
            let bound = if bound.is_empty() { String::new() } else { format!("WHERE {bound}") };
            let (parsed, query) = compiled(&format!(
                "SELECT code \"x\"\"y\", sum(key) FROM s.asked {bound} GROUP BY code HAVING {having}"
            ));
            for text in [original(&query), as_written(&query, &parsed.spelling)] {
                assert_eq!(compiled(&text).1.canonical(), query.clone().canonical(), "{text}");
            }
        }
    }
}

#[test]
fn keys_of_several_columns() {
    let (_, query) = compiled("SELECT code, key, count(*) FROM s.asked GROUP BY code, key HAVING count(*) > 1");
    let sql = confirmation(&query, Time::Processing).sql;
    let parts = [
        "CROSS JOIN unnest($1::text[], $3::text[]) WITH ORDINALITY AS asked(key, key2, ord) ",
        "LEFT JOIN (SELECT r.\"code\" AS key, r.\"key\" AS key2, ",
        "(r.\"code\" = ANY (($1::text[])::text[])) AND (r.\"key\" = ANY (($3::text[])::numeric[])) GROUP BY r.\"code\", r.\"key\")",
        "ON answer.key = (asked.key)::text AND answer.key2 = (asked.key2)::numeric ORDER BY",
    ];
    parts.iter().for_each(|part| assert!(sql.contains(part), "{part} in {sql}"));
    let sql = confirmation(&query, Time::Event).sql;
    assert!(
        sql.contains("unnest($1::text[], $2::text[], $3::text[]) WITH ORDINALITY AS asked(key, t, key2, ord)"),
        "{sql}"
    );
    let sql = confirmation_null(&query, Time::Processing, &[true, false]).sql;
    assert!(sql.contains("(r.\"code\" IS NULL) AND (r.\"key\" = ($2::text)::numeric) GROUP BY"), "{sql}");
    let sql = keys(&query, Time::Processing, true);
    assert!(sql.contains(" AND ((r.\"code\", r.\"key\") > (($3::text)::text, ($4::text)::numeric)) ORDER BY"), "{sql}");
    let sql = rows_of(&query, &[3], Time::Processing);
    let part = "AND ((r.\"code\", r.\"key\") IN (SELECT (one.key)::text, (one.key2)::numeric FROM unnest($1::text[], $3::text[]) \
                AS one(key, key2)))";
    assert!(sql.ends_with(part), "{sql}");
}

/// Writes every form of expression and reads it again.
#[test]
fn expressions() {
    let check = |condition: &str, want: &str| {
        let (_, query) = compiled(&format!(
            "SELECT code FROM s.asked AS x WHERE {condition} AND ts > now() - interval '1 day' GROUP BY 1 HAVING count(*) > 1"
        ));
        let text = original(&query);
        let part = format!(" WHERE ({want} AND (\"ts\" > (now() - INTERVAL '1 days'))) GROUP BY");
        assert!(text.contains(&part), "{text}");
        assert_eq!(compiled(&text).1.canonical(), query.canonical(), "{text}");
    };
    check("code = 'a''b'", "(\"code\" = 'a''b')");
    check("x.code <> 'a\\'", "(\"code\" <> E'a\\\\')");
    check("key BETWEEN 9000 AND 9999.99", "(\"key\" BETWEEN (9000) AND (9999.99))");
    check("key % 1000 = 0", "((\"key\" % (1000)) = (0))");
    check("- key > -5", "((- \"key\") > (-5))");
    check("code NOT IN ('a', 'b')", "(\"code\" NOT IN ('a', 'b'))");
    check("code ILIKE 'a%'", "(\"code\" ILIKE 'a%')");
    check("NOT (code IS NULL OR key IS NOT NULL)", "(NOT ((\"code\" IS NULL) OR (\"key\" IS NOT NULL)))");
    check("(key > 1) IS NOT TRUE", "((\"key\" > (1)) IS NOT TRUE)");
    check("key IS NOT DISTINCT FROM 1", "(\"key\" IS NOT DISTINCT FROM (1))");
    check("COALESCE(key, 0) > NULLIF(key, 3)", "(coalesce(\"key\", (0)) > nullif(\"key\", (3)))");
    check("CASE code WHEN 'a' THEN 1 ELSE 2.50 END > 1", "((CASE \"code\" WHEN 'a' THEN (1) ELSE (2.50) END) > (1))");
    check("key::bigint = 3", "(((\"key\")::bigint) = (3))");
    check("'7'::numeric + key > 0", "((((7)::numeric) + \"key\") > (0))");
    check("code::text = 'x'::text", "(((\"code\")::text) = 'x')");
    check("GREATEST(key, 1) = LEAST(key, 2)", "(greatest(\"key\", (1)) = least(\"key\", (2)))");
}

#[test]
fn having_as_people_read_it() {
    let check = |having: &str, want: &str| {
        let (_, query) = compiled(&format!("SELECT code FROM s.asked GROUP BY code HAVING {having}"));
        assert_eq!(having_text(&query), want);
    };
    check("sum(abs(key)) > 3000", "SUM(ABS(key)) > 3000");
    check("count(*) >= 10 AND count(distinct code) > 2", "COUNT(*) >= 10 AND COUNT(DISTINCT code) > 2");
    check(
        "count(*) filter (where code = 'x') * 100 >= 50 * count(*)",
        "(COUNT(*) FILTER (WHERE code = 'x') * 100) >= (50 * COUNT(*))",
    );
}
