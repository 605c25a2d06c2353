//! Every converter that `source.format` names, through the real connector: Avro by a real registry, with ids wherever its
//! converter puts them, and JSON beside it.

use std::collections::BTreeSet;

use serde_json::Value as Json;

use super::apicurio::{Apicurio, Ids, Version};
use super::{ADDED, MODE, unwrapped};
use crate::archive::types;
use crate::doctor::ask;
use crate::harness::orders::{Archive, Orders};
use crate::harness::readers::{duckdb, files};
use crate::harness::{Connector, Database, Ended, Job, RULE, Record, kafka};

/// Each column's name and type, and what SQL and DuckDB show of it alike.
const COLUMNS: &[(&str, &str, &str, &str)] = &[
    ("user_id", "bigint NOT NULL", "{}", "{}"),
    ("amount", "numeric(12,2) NOT NULL", "{}", "{}"),
    ("fee", "numeric(12,2)", "{}", "{}"),
    ("timestamp", "timestamptz NOT NULL", "(extract(epoch from {}) * 1000000)::bigint", "epoch_us({})"),
    ("at_3", "timestamptz(3)", "(extract(epoch from {}) * 1000000)::bigint", "epoch_us({})"),
    ("local", "timestamp", "(extract(epoch from {}) * 1000000)::bigint", "epoch_us({})"),
    ("local_3", "timestamp(3)", "(extract(epoch from {}) * 1000000)::bigint", "epoch_us({})"),
    ("day", "date", "{}", "{}"),
    ("clock", "time", "{}", "{}"),
    ("small", "smallint", "{}", "{}"),
    ("normal", "int", "{}", "{}"),
    ("narrow", "real", "{}", "{}"),
    ("wide", "double precision", "{}", "{}"),
    ("ok", "boolean", "{}::text", "{}"),
    // The connector takes zeros at the end away.
    ("any_number", "numeric", "trim_scale({})", "rtrim(rtrim({}, '0'), '.')"),
    ("finest", "numeric(38,18)", "{}", "{}"),
    ("note", "text", "{}", "{}"),
    ("mark", "uuid", "{}", "{}"),
    ("tags", "jsonb", "{}", "{}"),
    ("raw", "bytea", "upper(encode({}, 'hex'))", "hex({})"),
];

const ROWS: &str = "INSERT INTO streaming.transactions
    SELECT n, n % 30, (n * 9.01)::numeric(12,2), CASE WHEN n % 3 > 0 THEN n * 1.25 END,
           now() - n % 9 * interval '1 day', CASE WHEN n % 4 > 0 THEN now() - n % 9 * interval '1 day' END,
           CASE WHEN n % 5 > 0 THEN now() - n % 8 * interval '1 day' END,
           CASE WHEN n % 7 > 0 THEN now() - n % 11 * interval '1 day' END,
           CASE WHEN n % 6 > 0 THEN current_date - n % 13 END,
           CASE WHEN n % 2 > 0 THEN time '12:34:56.000001' + n * interval '1 second' END,
           CASE WHEN n % 5 > 1 THEN -n END, CASE WHEN n % 5 > 2 THEN n * 1000000 END,
           CASE WHEN n % 4 > 1 THEN n + 0.5 END, CASE WHEN n % 4 > 2 THEN -n - 0.25 END,
           CASE n % 3 WHEN 1 THEN true WHEN 2 THEN false END, CASE WHEN n % 3 > 1 THEN -n * 0.00001 - 1 END,
           CASE WHEN n % 3 > 0 THEN 1234567890.123456789012345678 * n END,
           CASE WHEN n % 2 > 0 THEN 'größe \"' || n || '\" 世界' END,
           CASE WHEN n % 2 > 0 THEN md5(n::text)::uuid END,
           CASE WHEN n % 2 > 0 THEN jsonb_build_object('n', n, 'no', null) END,
           CASE WHEN n % 3 > 0 THEN decode(md5(n::text), 'hex') END
    FROM generate_series({}, {}) AS n";

/// Updates, NULLs that come and go, deletes, moved keys.
const CHANGES: &[(&str, i64)] = &[
    ("UPDATE streaming.transactions SET amount = amount + 900 WHERE id BETWEEN 30 AND 39", 10),
    ("UPDATE streaming.transactions SET amount = -amount / 100 WHERE id BETWEEN 100 AND 109", 10),
    (
        "UPDATE streaming.transactions SET fee = NULL, local = NULL, ok = NULL, raw = NULL, any_number = NULL
         WHERE id BETWEEN 60 AND 69",
        10,
    ),
    (
        "UPDATE streaming.transactions SET fee = 50.5, local = now(), local_3 = now(), at_3 = now(), day = current_date,
                any_number = 12.50 WHERE id BETWEEN 10 AND 15",
        6,
    ),
    ("UPDATE streaming.transactions SET user_id = 77 WHERE id BETWEEN 110 AND 114", 5),
];
const DELETED: (&str, i64) = ("DELETE FROM streaming.transactions WHERE id BETWEEN 80 AND 84", 5);
const MOVED: (&str, i64) = ("UPDATE streaming.transactions SET id = id + 1000 WHERE id BETWEEN 85 AND 87", 3);

/// A rule's name, what it sums, and its time column: one of every common type.
const RULES: &[(&str, &str, &str, i64)] = &[
    ("at-3", "fee", "at_3", 300),
    ("local", "fee", "local", 380),
    ("local-3", "ABS(amount)", "local_3", 1_800),
    ("day", "fee", "day", 250),
];

fn sql_of(sum: &str, time: &str, over: i64) -> String {
    format!(
        "SELECT user_id, COUNT(*) AS transactions, SUM({sum}) AS total FROM streaming.transactions
         WHERE {time} >= NOW() - INTERVAL '7 days' GROUP BY user_id HAVING SUM({sum}) > {over}"
    )
}

/// A connector on the same table as others, whose records are of one format.
struct Format {
    name: &'static str,
    connector: Connector,
    /// Of `[source]`.
    source: String,
    is_row: bool,
    /// Of Avro.
    ids: Option<Ids>,
}

impl Format {
    /// The number of records after the changes, of which a row has no tombstones.
    fn records(&self, inserted: i64) -> i64 {
        let tombstones = if self.is_row { 0 } else { DELETED.1 + MOVED.1 };
        let updated: i64 = CHANGES.iter().map(|(_, rows)| rows).sum();
        inserted + updated + DELETED.1 + 2 * MOVED.1 + tombstones
    }
}

fn job(format: &Format, database: &Database, folder: &std::path::Path) -> Job {
    let mut rule = String::new();
    for (name, sum, time, over) in RULES {
        rule += &format!(
            "[[rules]]\nname = \"{name}\"\nmessage = \"{{user_id}}\"\nsql = \"\"\"\n{}\n\"\"\"\n",
            sql_of(sum, time, *over)
        );
    }
    let group = format!("{}-{}", database.name, format.name);
    let folder = folder.join(format.name);
    Job {
        rule,
        source: format.source.clone(),
        alert_topic: format!("{group}.alerts"),
        dead_letter_topic: format!("{group}.dead-letter"),
        ..Job::new(&folder, &database.name, &group, &format.connector.topic)
    }
}

/// Rule and user.
type Open = BTreeSet<(String, i64)>;

/// The results of the rules' own queries.
fn by_sql(database: &Database) -> Open {
    let rules = RULES.iter().map(|(name, sum, time, over)| (*name, sql_of(sum, time, *over)));
    let rules = std::iter::once(("weekly-spend", RULE.to_owned())).chain(rules);
    let users = |(name, sql): (&str, String)| {
        let rows = database.sql(&sql);
        rows.into_iter().map(|row| (name.to_owned(), row[0].parse().unwrap())).collect::<Vec<_>>()
    };
    rules.flat_map(users).collect()
}

fn alerts(run: &Ended, status: &str) -> Open {
    let records: Vec<Json> = run.alerts.iter().map(Record::json).filter(|alert| alert["status"] == status).collect();
    let found = records
        .iter()
        .map(|alert| (alert["rule"].as_str().unwrap().to_owned(), alert["key"]["user_id"].as_i64().unwrap()));
    let open: Open = found.collect();
    assert_eq!(open.len(), records.len(), "one key twice: {run}");
    open
}

/// The table as SQL shows it, and its archive as DuckDB does: the newest row of each key.
fn same_as_the_table(format: &Format, database: &Database, archive: &Archive) {
    let shown = |of: fn(&(&'static str, &'static str, &'static str, &'static str)) -> &'static str| {
        let columns = COLUMNS.iter().map(|column| of(column).replace("{}", &format!("\"{}\"", column.0)));
        format!("id, {}", columns.collect::<Vec<_>>().join(", "))
    };
    let table = database.sql(&format!("SELECT {} FROM streaming.transactions ORDER BY id", shown(|column| column.2)));
    let newest = format!(
        "SELECT {} FROM (SELECT *, row_number() OVER (PARTITION BY id ORDER BY \"offset\" DESC) AS nth FROM {})
         WHERE nth = 1 AND op <> 'd' ORDER BY id",
        shown(|column| column.3),
        files(&archive.output)
    );
    let archived = duckdb(&newest);
    assert_eq!(archived.len(), table.len(), "{}", format.name);
    for (archived, row) in archived.iter().zip(&table) {
        assert_eq!(archived, row, "{}", format.name);
    }
}

/// The converter has put the ids where its settings say.
fn ids_are_in_place(format: &Format) {
    let Some(ids) = format.ids else { return };
    let record = kafka::records(&format.connector.topic, 0).remove(0);
    for (part, bytes) in [("key", record.key), ("value", record.value)] {
        let in_header = record.headers.iter().any(|(name, _)| name.starts_with(&format!("apicurio.{part}.")));
        let bytes = bytes.unwrap();
        let in_front = match ids {
            Ids::EightBytes => bytes[..5] == [0; 5],
            Ids::FourBytes | Ids::Confluent => bytes[..4] == [0; 4] && bytes[4] > 0,
            // The value itself may begin with anything.
            Ids::Headers => false,
        };
        let seen = (in_header, in_front);
        assert_eq!(seen, (ids == Ids::Headers, ids != Ids::Headers), "{}: {part} {:?}", format.name, record.headers);
    }
}

type Settings = (Vec<(String, String)>, String, bool, Option<Ids>);

fn avro(registry: &Apicurio, ids: Ids, row: bool) -> Settings {
    let mut settings = registry.converter(ids);
    settings.push(("decimal.handling.mode".to_owned(), "precise".to_owned()));
    (settings, registry.section(ids), row, Some(ids))
}

fn json(settings: &[(&str, &str)], row: bool) -> Settings {
    let settings = settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    (settings, String::new(), row, None)
}

/// Alerts are SQL's answer and the archive is the table, whatever the records are written in.
#[test]
#[ignore = "needs the servers: scripts/test --all"]
fn slow_formats_every_converter() {
    let registry = Apicurio::start();
    let avro = |ids: Ids, row: bool| avro(&registry, ids, row);
    // Settings of the converter's own, of keys and values.
    let with = |mut format: Settings, name: &str, value: &str| {
        format.0.extend(["key", "value"].map(|part| (format!("{part}.converter.{name}"), value.to_owned())));
        format
    };
    let schemas = [("value.converter.schemas.enable", "true"), ("key.converter.schemas.enable", "true")];
    let precise = [&schemas[..], &[("decimal.handling.mode", "precise")]].concat();
    let formats = [
        ("avro_enhanced", with(avro(Ids::EightBytes, false), "enhanced.avro.schema.support", "true")),
        ("avro_8", avro(Ids::EightBytes, false)),
        ("avro_4", avro(Ids::FourBytes, false)),
        ("avro_headers", avro(Ids::Headers, false)),
        ("avro_confluent", avro(Ids::Confluent, false)),
        ("row_avro_8", avro(Ids::EightBytes, true)),
        ("row_avro_4", avro(Ids::FourBytes, true)),
        ("row_avro_headers", avro(Ids::Headers, true)),
        ("row_avro_confluent", avro(Ids::Confluent, true)),
        ("json", json(&[], false)),
        ("json_schemas", json(&precise, false)),
        ("row_json", json(&[], true)),
        ("row_json_schemas", json(&precise, true)),
    ];
    alerts_and_archive_are_right("converters", &registry, formats.into());
}

/// The same by interface 3 of Apicurio's registry 3.
#[test]
#[ignore = "needs the servers: scripts/test --all"]
fn slow_formats_apicurio_three() {
    let registry = Apicurio::start_version(Version::Three);
    let avro = |ids: Ids, row: bool| avro(&registry, ids, row);
    let confluent = (registry.converter(Ids::Confluent), registry.section_of("/apis/ccompat/v7"), false, None);
    let formats = [
        ("three_8", avro(Ids::EightBytes, false)),
        ("three_4", avro(Ids::Confluent, false)),
        ("three_headers", avro(Ids::Headers, false)),
        ("row_three_8", avro(Ids::EightBytes, true)),
        ("row_three_4", avro(Ids::Confluent, true)),
        ("three_confluent", confluent),
    ];
    alerts_and_archive_are_right("apicurio_three", &registry, formats.into());
}

fn alerts_and_archive_are_right(test: &str, registry: &Apicurio, formats: Vec<(&'static str, Settings)>) {
    registry.part_ids();
    let columns = COLUMNS.iter().map(|(name, ty, ..)| format!("\"{name}\" {ty}")).collect::<Vec<_>>().join(", ");
    let database = Database::empty(test);
    database.sql(&format!(
        "CREATE SCHEMA streaming; CREATE TABLE streaming.transactions (id bigint PRIMARY KEY, {columns})"
    ));
    let formats: Vec<Format> = formats
        .into_iter()
        .map(|(name, (settings, source, is_row, ids))| {
            let settings: Vec<_> = settings.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
            let row = if is_row { unwrapped(&[(MODE, "rewrite"), ADDED]) } else { Vec::new() };
            let connector = Connector::start(&database, &format!("_{name}"), &[settings, row].concat());
            Format { name, connector, source, is_row, ids }
        })
        .collect();
    let folder = tempfile::tempdir().unwrap();
    let insert = |from: i64, to: i64| {
        database.sql(&ROWS.replacen("{}", &from.to_string(), 1).replacen("{}", &to.to_string(), 1))
    };

    insert(1, 150);
    let first = by_sql(&database);
    for format in &formats {
        kafka::wait_for_end(&format.connector.topic, 150);
        ids_are_in_place(format);
        let run = job(format, &database, folder.path()).run();
        assert_eq!((run.count("read"), run.count("rejected")), (150, 0), "{}: {run}", format.name);
        assert_eq!(alerts(&run, "firing"), first, "{}: {run}", format.name);
    }
    for (sql, _) in CHANGES.iter().chain([&DELETED, &MOVED]) {
        database.sql(sql);
    }
    insert(151, 170);
    let second = by_sql(&database);
    assert!(second.difference(&first).count() > 2 && first.difference(&second).count() > 2, "{first:?} {second:?}");
    for format in &formats {
        kafka::wait_for_end(&format.connector.topic, format.records(170));
        let job = job(format, &database, folder.path());
        let run = job.run();
        assert_eq!(run.count("rejected"), 0, "{}: {run}", format.name);
        assert_eq!(alerts(&run, "firing"), second.difference(&first).cloned().collect(), "{}: {run}", format.name);
        assert_eq!(alerts(&run, "resolved"), first.difference(&second).cloned().collect(), "{}: {run}", format.name);
        assert_eq!(kafka::end_of(&job.dead_letter_topic), 0, "{}", format.name);
        let doctor = ask(&job);
        assert!(doctor.of_grade("problem").is_empty(), "{}: {}", format.name, doctor.everything);
        // The other interface has other ids.
        let asks = |path: &str| ask(&Job { source: registry.section_of(path), ..job.clone() });
        let misfit = match format.ids {
            Some(Ids::Confluent) => asks("/apis/registry/v2").of_grade("problem").contains("schema.ids"),
            Some(_) => asks("/apis/ccompat/v7").of_grade("problem").contains("schema.ids"),
            None => true,
        };
        assert!(misfit, "{}", format.name);

        let group = format!("{}-archive", job.group);
        let archive = Archive {
            source: format.source.clone(),
            partition_by: Some("timestamp"),
            ..Archive::new(&folder.path().join(&group), &database.name, &group, &job.topic)
        };
        let mut run = archive.start();
        let end = Some(format.records(170));
        run.wait("all is archived", |_| kafka::committed(&archive.group, &archive.topic) == end);
        let done = run.terminate();
        assert_eq!(done.code(), Some(0), "{}: {done}", format.name);
        assert_eq!(kafka::end_of(&archive.dead_letter_topic), 0, "{}: {done}", format.name);
        same_as_the_table(format, &database, &archive);
    }
}

/// Every type of Postgres comes out of Avro as it does out of JSON with schemas, with the catalog and without.
#[test]
#[ignore = "needs the servers: scripts/test --all"]
fn slow_formats_every_type() {
    let registry = Apicurio::start();
    let t = Orders::of("avro_types", &types::table(), 1, &[]);
    let avro = registry.converter(Ids::FourBytes);
    let avro: Vec<_> = avro.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let json = [("value.converter.schemas.enable", "true"), ("key.converter.schemas.enable", "true")];
    let precise = [("decimal.handling.mode", "precise")];
    let row = unwrapped(&[(MODE, "rewrite"), ADDED]);
    let section = registry.section(Ids::FourBytes);
    let topics = [
        ("json", t.second("_json", &[&json[..], &precise].concat()), String::new()),
        ("avro", t.second("_avro", &[&avro[..], &precise].concat()), section.clone()),
        ("avro_row", t.second("_avro_row", &[&avro[..], &precise, &row].concat()), section),
    ];
    types::insert(&t);
    for has_catalog in [true, false] {
        let mut expected = None;
        for (name, connector, source) in &topics {
            kafka::wait_for_end(&connector.topic, i64::try_from(types::rows()).unwrap());
            let job = t.job(&format!("{name}_{has_catalog}"));
            let url = job.url.clone().filter(|_| has_catalog);
            let (topic, source) = (connector.topic.clone(), source.clone());
            let job = Archive { topic, url, source, partition_by: None, ..job };
            let done = job.run();
            assert_eq!(done.count("rejected"), 0, "{name}: {done}");
            let of_table = "COLUMNS(lambda c: c NOT IN ('offset', 'partition', 'lsn', 'txId', 'filename', 'topic'))";
            let sql = |what: &str| format!("SELECT {what} FROM {} ORDER BY \"offset\"", files(&job.output));
            let mut found = duckdb(&format!("DESCRIBE {}", sql(of_table)));
            found.extend(duckdb(&sql(of_table)));
            let expected = expected.get_or_insert_with(|| found.clone());
            assert_eq!(found.len(), expected.len(), "{name}, catalog: {has_catalog}");
            let cells = |rows: &[Vec<String>]| rows.concat();
            let mut pairs = cells(&found).into_iter().zip(cells(expected));
            assert_eq!(pairs.find(|(one, two)| one != two), None, "{name}, catalog: {has_catalog}");
        }
    }
}
