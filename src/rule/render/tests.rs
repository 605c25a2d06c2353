//! The texts that go to Postgres, whole. That they run and agree is tested against a server elsewhere.

use super::*;
use crate::model::{Column, Table};
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
         LEFT JOIN (SELECT r.\"key\" AS key, (sum(r.\"a\"\"b\") > (3000)) AS holds, (count(*))::text AS o0, \
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
    let condition = "LEFT JOIN (SELECT asked.ord AS ord, (sum(r.\"a\"\"b\") > (3000)) AS holds, (count(*))::text AS o0, \
                     (sum(abs(r.\"a\"\"b\")))::text AS o1 \
                     FROM unnest($1::text[], $2::text[]) WITH ORDINALITY AS asked(key, t, ord) \
                     JOIN \"s\".\"asked\" AS r ON (r.\"ts\" >= ((asked.t)::timestamptz - INTERVAL '36:00:00')) \
                     AND (r.\"ts\" <= (asked.t)::timestamptz) AND (r.\"key\" = (asked.key)::numeric) \
                     GROUP BY asked.ord) AS answer ON answer.ord = asked.ord ORDER BY asked.ord";
    assert!(sql.ends_with(condition), "{sql}");
}

#[test]
fn the_null_key() {
    let (_, query) = compiled(RULE);
    let wall = confirmation_null(&query, Time::Processing);
    assert_eq!(wall.outputs, ["n", "To tal"]);
    let condition = "WHERE (r.\"ts\" >= (($1::text)::timestamptz - INTERVAL '36:00:00')) AND (r.\"key\" IS NULL) \
         GROUP BY r.\"key\") AS answer ON true";
    assert!(wall.sql.ends_with(condition), "{}", wall.sql);
    let event = confirmation_null(&query, Time::Event).sql;
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
    assert!(confirmation_null(&query, Time::Event).sql.contains("$1::text"));
}

#[test]
fn a_rendering_compiles_to_the_same_query() {
    let bounds = ["", "ts > now() - interval '1 year 2 mon 3 days 4:05:06.000007'", "ts >= now() - interval '3 us'"];
    let havings =
        ["count(*) >= 3", "-2.50 <> sum(\"a\"\"b\")", "sum(abs(key)) = .5", "sum(key) <= 1e-3", "0 >= count(*)"];
    for bound in bounds {
        for having in havings {
            let bound = if bound.is_empty() { String::new() } else { format!("WHERE {bound}") };
            let (parsed, query) = compiled(&format!(
                "SELECT code \"x\"\"y\", sum(key) FROM s.asked {bound} GROUP BY code HAVING {having}"
            ));
            for text in [original(&query), as_written(&query, &parsed.spelling)] {
                if !text.contains("::numeric") {
                    assert_eq!(compiled(&text).1, query, "{text}");
                }
            }
        }
    }
}
