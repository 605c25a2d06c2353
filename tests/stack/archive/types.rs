//! Every type of Postgres that people use, with its extremes: what DuckDB reads is what psql shows, or where a type has no
//! counterpart, what Debezium wrote.

use super::books::{Topic, same_places};
use crate::harness::Connector;
use crate::harness::orders::{Archive, Orders};
use crate::harness::readers::{arrow, duckdb, files};

/// How DuckDB's value is held against the other one.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Like {
    /// The text that psql shows.
    Psql,
    /// The number that psql shows.
    Number,
    /// The text of what it is as a numeric.
    Numeric,
    /// The bytes, in hex.
    Hex,
    /// The value in the record: a text as it is, all else as JSON.
    Record,
}

/// Name, type in Postgres, type in DuckDB, how it is compared, values.
type Column = (&'static str, &'static str, &'static str, Like, &'static [&'static str]);

const COLUMNS: &[Column] = &[
    ("a_bool", "boolean", "BOOLEAN", Like::Psql, &["true", "false"]),
    ("a_small", "smallint", "SMALLINT", Like::Psql, &["-32768", "32767", "0"]),
    ("an_int", "integer", "INTEGER", Like::Psql, &["-2147483648", "2147483647"]),
    ("a_big", "bigint", "BIGINT", Like::Psql, &["-9223372036854775808", "9223372036854775807"]),
    ("a_real", "real", "FLOAT", Like::Number, &["1.17549435e-38", "3.4028235e38", "-0.1", "'NaN'", "'-Infinity'"]),
    (
        "a_double",
        "double precision",
        "DOUBLE",
        Like::Number,
        &["5e-324", "1.7976931348623157e308", "-0.1", "'NaN'", "'Infinity'"],
    ),
    ("money_like", "numeric(12,2)", "DECIMAL(12,2)", Like::Psql, &["9999999999.99", "-9999999999.99", "0.01", "0"]),
    ("widest", "numeric(38,0)", "DECIMAL(38,0)", Like::Psql, &["99999999999999999999999999999999999999", "-1"]),
    ("finest", "numeric(38,37)", "DECIMAL(38,37)", Like::Psql, &["9.9999999999999999999999999999999999999", "-1e-37"]),
    ("short", "numeric(4,4)", "DECIMAL(4,4)", Like::Number, &["0.9999", "-0.0001"]),
    // No decimal of a file has so many digits.
    ("too_wide", "numeric(50,10)", "VARCHAR", Like::Psql, &["1234567890123456789012345678901234567890.0123456789"]),
    ("unbounded", "numeric", "VARCHAR", Like::Psql, &["123456789.000000000000000000000000000001", "-5"]),
    (
        "a_date",
        "date",
        "DATE",
        Like::Psql,
        &["'0001-01-01'", "'9999-12-31'", "'1970-01-01'", "'1969-12-31'", "'2024-02-29'"],
    ),
    ("a_time", "time", "TIME", Like::Psql, &["'00:00'", "'23:59:59.999999'", "'12:34:56.7'"]),
    ("a_time3", "time(3)", "TIME", Like::Psql, &["'23:59:59.999'"]),
    (
        "a_timestamp",
        "timestamp",
        "TIMESTAMP",
        Like::Psql,
        &[
            "'0001-01-01 00:00:00'",
            "'9999-12-31 23:59:59.999999'",
            "'1969-12-31 23:59:59.999999'",
            "'2026-03-29 02:30:00.5'",
        ],
    ),
    (
        "a_timestamp3",
        "timestamp(3)",
        "TIMESTAMP",
        Like::Psql,
        &["'2026-03-29 02:30:00.123'", "'1969-12-31 23:59:59.999'"],
    ),
    (
        "a_timestamptz",
        "timestamptz",
        "TIMESTAMP WITH TIME ZONE",
        Like::Psql,
        &["'0001-01-01 00:00:00Z'", "'9999-12-31 23:59:59.999999Z'", "'2026-03-29 02:30:00.000001+05:30'"],
    ),
    ("a_timestamptz3", "timestamptz(3)", "TIMESTAMP WITH TIME ZONE", Like::Psql, &["'2026-03-29 02:30:00.123Z'"]),
    (
        "a_text",
        "text",
        "VARCHAR",
        Like::Psql,
        &["'Grüße, 世界 \u{1f600}'", "'null'", "'\"quoted\" \\ ''single'''", "repeat('x', 3000)"],
    ),
    ("a_varchar", "varchar(9)", "VARCHAR", Like::Psql, &["'varchar'"]),
    ("a_char", "char(5)", "VARCHAR", Like::Psql, &["'ab'"]),
    ("some_bytes", "bytea", "BLOB", Like::Hex, &["'\\x00ff10'", "'\\x'", "decode(repeat('ab', 3000), 'hex')"]),
    ("an_id", "uuid", "", Like::Psql, &["'6f1c0c2f-0000-4000-8000-00000000ffff'"]),
    ("a_json", "json", "VARCHAR", Like::Psql, &["'{\"b\": [1, 2.50],  \"a\": null}'"]),
    ("a_jsonb", "jsonb", "VARCHAR", Like::Psql, &["'{\"b\": [1, 2.50],  \"a\": null}'", "'null'"]),
    ("an_address", "inet", "VARCHAR", Like::Psql, &["'192.168.1.7/24'", "'::1'"]),
    ("a_network", "cidr", "VARCHAR", Like::Psql, &["'10.0.0.0/8'"]),
    ("a_card", "macaddr", "VARCHAR", Like::Psql, &["'08:00:2b:01:02:03'"]),
    ("a_status", "order_status", "VARCHAR", Like::Psql, &["'placed'", "'out for delivery'"]),
    ("a_zoned_time", "timetz", "VARCHAR", Like::Record, &["'12:34:56.5+02'"]),
    ("a_span", "interval", "", Like::Record, &["'1 month 2 days 3.5 seconds'"]),
    ("some_money", "money", "", Like::Numeric, &["'1234.5'"]),
    ("some_ints", "int[]", "VARCHAR", Like::Record, &["'{1,NULL,3}'", "'{}'"]),
    ("some_texts", "text[]", "VARCHAR", Like::Record, &["'{a,\"b c\",NULL}'"]),
    ("a_range", "int4range", "VARCHAR", Like::Psql, &["'[1,5)'"]),
    ("a_point", "point", "VARCHAR", Like::Record, &["'(1.5,-2)'"]),
    ("a_bit", "bit(1)", "", Like::Record, &["B'1'"]),
    ("some_bits", "bit(12)", "", Like::Record, &["B'101100000001'"]),
    ("other_id", "oid", "BIGINT", Like::Psql, &["4294967295"]),
];

/// The number of rows that hold every value of every column. The last row is all NULL.
pub(crate) fn rows() -> usize {
    COLUMNS.iter().map(|column| column.4.len()).max().unwrap() + 1
}

pub(crate) fn table() -> String {
    let columns: Vec<String> = COLUMNS.iter().map(|(name, ty, ..)| format!("{name} {ty}")).collect();
    format!(
        "CREATE TYPE order_status AS ENUM ('placed', 'out for delivery');
         CREATE TABLE public.orders (order_id bigint PRIMARY KEY, {})",
        columns.join(", ")
    )
}

pub(crate) fn insert(t: &Orders) {
    for row in 0..rows() {
        let values: Vec<&str> = COLUMNS
            .iter()
            .map(|(.., values)| if row + 1 == rows() { "NULL" } else { values[row % values.len()] })
            .collect();
        t.sql(&format!("INSERT INTO public.orders VALUES ({}, {})", row, values.join(", ")));
    }
}

/// One column of the table, by psql.
fn psql(t: &Orders, (name, _, _, like, _): &Column) -> Vec<String> {
    let shown = match like {
        Like::Hex => format!("encode({name}, 'hex')"),
        Like::Numeric => format!("{name}::numeric::text"),
        _ if *name == "a_bool" => format!("{name}::text"),
        // Unlike a cast to text this leaves blanks and masks as they are.
        _ => format!("format('%s', {name})"),
    };
    let sql =
        format!("SELECT CASE WHEN {name} IS NULL THEN 'NULL' ELSE {shown} END FROM public.orders ORDER BY order_id");
    let rows = t.sql(&sql);
    // In an empty line there are no columns.
    rows.into_iter().map(|mut row| row.pop().unwrap_or_default()).collect()
}

/// The same column as the records have it.
fn records(topic: &Topic, name: &str) -> Vec<String> {
    let shown = |change: &serde_json::Value| match &change["after"][name] {
        serde_json::Value::Null => "NULL".to_owned(),
        serde_json::Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    topic.changes("orders").values().map(shown).collect()
}

fn number(text: &str) -> String {
    text.parse::<f64>().map_or_else(|_| text.to_owned(), |number| number.to_string())
}

/// Everything that is wrong with the columns of a job's files, one line each.
fn wrong(t: &Orders, job: &Archive) -> Vec<String> {
    let topic = Topic::of(&job.topic);
    same_places(job, topic.changes("orders").keys());
    let from = files(&job.output);
    let types = duckdb(&format!("SELECT column_name, column_type FROM (DESCRIBE SELECT * FROM {from})"));
    let mut wrong = Vec::new();
    for column in COLUMNS {
        let (name, in_postgres, in_duckdb, like, _) = column;
        let Some(ty) = types.iter().find(|row| row[0] == *name).map(|row| row[1].as_str()) else {
            wrong.push(format!("{name}: not there"));
            continue;
        };
        if !in_duckdb.is_empty() && ty != *in_duckdb {
            wrong.push(format!("{name} {in_postgres}: {ty}, not {in_duckdb}"));
        }
        let shown = match (like, ty) {
            (Like::Hex, _) => format!("lower(hex({name}))"),
            (Like::Record, "BLOB") => format!("to_base64({name})"),
            _ => format!("{name}::VARCHAR"),
        };
        let sql = format!("SELECT coalesce({shown}, 'NULL') FROM {from} ORDER BY \"offset\"");
        let mut found: Vec<String> = duckdb(&sql).into_iter().map(|mut row| row.swap_remove(0)).collect();
        let mut wanted = if *like == Like::Record { records(&topic, name) } else { psql(t, column) };
        if *like == Like::Number {
            (found, wanted) = (found.iter().map(|f| number(f)).collect(), wanted.iter().map(|w| number(w)).collect());
        }
        if found != wanted {
            let different = found.iter().zip(&wanted).find(|(found, wanted)| found != wanted);
            let line = format!("{name} {in_postgres}, {ty}: {different:?}");
            wrong.push(line.chars().take(300).collect());
        }
    }
    wrong
}

#[test]
#[ignore = "needs the servers: scripts/test"]
fn every_type_is_as_psql_shows_it() {
    let t = Orders::of("types", &table(), 1, &[]);
    // As text, a decimal's precision is nowhere.
    let schemas = [
        ("key.converter.schemas.enable", "true"),
        ("value.converter.schemas.enable", "true"),
        ("decimal.handling.mode", "precise"),
    ];
    let with_schema: Connector = t.second("_schema", &schemas);
    let precise: Connector = t.second("_precise", &[("decimal.handling.mode", "precise")]);
    insert(&t);
    let jobs = [
        ("plain", t.topic(), true, "decimals = \"string\""),
        ("schema", with_schema.topic.as_str(), false, ""),
        ("precise", precise.topic.as_str(), true, "decimals = \"precise\""),
    ];
    let mut all = Vec::new();
    for (name, topic, catalog, source) in jobs {
        crate::harness::kafka::wait_for_end(topic, i64::try_from(rows()).unwrap());
        let job = t.job(name);
        let url = job.url.clone().filter(|_| catalog);
        let job = Archive { topic: topic.to_owned(), url, source: source.to_owned(), partition_by: None, ..job };
        let done = job.run();
        assert_eq!(done.count("rejected"), 0, "{done}");
        all.extend(wrong(&t, &job).into_iter().map(|line| format!("{name}: {line}")));
        // What DuckDB can read, pyarrow can.
        assert_eq!(arrow(&job.output).rows.len(), rows());
    }
    assert!(all.is_empty(), "{}", all.join("\n"));
}

/// A value that no file can hold is not written as something else. Its record is dead-lettered.
#[test]
#[ignore = "needs the servers: scripts/test"]
fn values_beyond_every_file() {
    use crate::harness::kafka;
    let create =
        "CREATE TABLE public.orders (order_id bigint PRIMARY KEY, price numeric(10,2), day date, at timestamptz,
                                              plain timestamp)";
    let t = Orders::of("beyond", create, 1, &[]);
    let rows = [
        "(1, 'NaN', NULL, NULL, NULL)",
        "(2, NULL, 'infinity', NULL, NULL)",
        "(3, NULL, NULL, 'infinity', NULL)",
        "(4, NULL, NULL, NULL, '-infinity')",
        "(5, NULL, '4713-01-01 BC', '4713-01-01 00:00:00Z BC', '4713-01-01 00:00:00 BC')",
        "(6, NULL, '5874897-12-31', '290000-12-31 23:59:59.999999Z', '290000-12-31 23:59:59.999999')",
        "(7, 1.5, '2026-01-01', '2026-01-01Z', '2026-01-01')",
        "(8, NULL, '-infinity', '-infinity', 'infinity')",
    ];
    for row in rows {
        t.sql(&format!("INSERT INTO public.orders VALUES {row}"));
    }
    t.wait_in_kafka(8);
    // What streaming writes, and what a snapshot does: Debezium 2 differs.
    let snapshot = t.second("_snapshot", &[]);
    kafka::wait_for_end(&snapshot.topic, 8);
    // A snapshot of Debezium's has dates before the year 1 without their era, or other ones.
    for (name, topic, wrong) in [("a", t.topic(), None), ("snapshot", snapshot.topic.as_str(), Some("4"))] {
        kept_or_dead(&t, &Archive { topic: topic.to_owned(), partition_by: Some("at"), ..t.job(name) }, wrong);
    }
}

/// Each row of the table is in a file as psql shows it, or a dead letter. The connector writes one of them wrong.
fn kept_or_dead(t: &Orders, job: &Archive, wrong: Option<&str>) {
    use crate::harness::kafka;
    let done = job.run();
    let letters = kafka::records(&job.dead_letter_topic, 0);
    assert_eq!(done.count("rejected"), letters.len() as u64, "{done}");
    let mut seen: Vec<i64> = letters.iter().map(|letter| letter.header("tripline_offset").parse().unwrap()).collect();
    let from = files(&job.output);
    let columns = "order_id - 1, price, day, \"at\", plain";
    let kept = duckdb(&format!("SELECT {columns} FROM {from} ORDER BY 1"));
    seen.extend(kept.iter().map(|row| row[0].parse::<i64>().unwrap()));
    seen.sort_unstable();
    assert_eq!(seen, [0, 1, 2, 3, 4, 5, 6, 7], "each is in a file or a dead letter: {kept:?}");
    // What is kept is what psql shows.
    for row in kept.into_iter().filter(|row| Some(row[0].as_str()) != wrong) {
        let mut told =
            t.sql(&format!("SELECT {columns} FROM public.orders WHERE order_id = {} + 1", row[0])).swap_remove(0);
        // Where the era stands is a matter of taste.
        let era = |value: &String| match value.replace(" (BC)", "").replace(" BC", "") {
            bare if bare != *value => format!("{bare} BC"),
            bare => bare,
        };
        told = told.iter().map(era).collect();
        assert_eq!(row.iter().map(era).collect::<Vec<_>>(), told);
    }
    let folders = duckdb(&format!(
        "SELECT DISTINCT date FROM {from} WHERE \"at\" IS NULL OR year(\"at\") NOT BETWEEN 1 AND 9999"
    ));
    let today = t.sql("SELECT now()::date")[0][0].clone();
    assert!(folders.iter().all(|row| row[0] == today), "{folders:?}");
}
