//! Columns whose names are not legal in Avro, and what the connector makes of them.

use super::apicurio::{Apicurio, Ids};
use super::{ADDED, MODE, unwrapped};
use crate::doctor::ask;
use crate::harness::orders::Archive;
use crate::harness::readers::{duckdb, files};
use crate::harness::{Connector, Database, Job, kafka};

const RULE: &str = "SELECT user_id, COUNT(*) AS transactions, SUM(\"my-col\") AS total, SUM(\"größe\") AS sizes
FROM streaming.transactions WHERE \"1st\" >= NOW() - INTERVAL '7 days' GROUP BY user_id HAVING SUM(\"my-col\") > 3000
";

/// They are found by the names that the records have, and the archive has the catalog's.
#[test]
#[ignore = "needs the servers: scripts/test --all"]
fn slow_formats_adjusted_names() {
    let registry = Apicurio::start();
    let database = Database::empty("names");
    database.sql(
        "CREATE SCHEMA streaming;
         CREATE TABLE streaming.transactions (\"the-id\" bigint PRIMARY KEY, user_id bigint NOT NULL,
             \"my-col\" numeric(12,2), \"1st\" timestamptz NOT NULL DEFAULT now(), \"größe\" int);
         INSERT INTO streaming.transactions (\"the-id\", user_id, \"my-col\", \"größe\")
             VALUES (1, 101, 3500.25, 2), (2, 102, 4000, 1), (3, 103, 2000, 5)",
    );
    let folder = tempfile::tempdir().unwrap();
    let json = vec![("value.converter.schemas.enable".to_owned(), "true".to_owned())];
    let mut formats = Vec::new();
    for (name, settings, source) in [
        ("json", Vec::new(), String::new()),
        ("schemas", json, String::new()),
        ("avro", registry.converter(Ids::FourBytes), registry.section(Ids::FourBytes)),
    ] {
        for mode in ["avro", "avro_unicode"] {
            for is_row in [false, true] {
                let name = format!("{name}_{mode}{}", if is_row { "_row" } else { "" });
                let prefix = format!("{}-{name}", database.name);
                let mut all = vec![
                    ("field.name.adjustment.mode", mode),
                    ("schema.name.adjustment.mode", mode),
                    ("topic.prefix", prefix.as_str()),
                ];
                all.extend(settings.iter().map(|(name, value)| (name.as_str(), value.as_str())));
                if is_row {
                    all.extend(unwrapped(&[(MODE, "rewrite"), ADDED]));
                }
                let mut connector = Connector::start(&database, &format!("_{name}"), &all);
                connector.topic = format!("{prefix}.streaming.transactions");
                formats.push((name, connector, source.clone(), is_row));
            }
        }
    }
    let changes = "UPDATE streaming.transactions SET \"my-col\" = 3100 WHERE \"the-id\" = 3;
                   DELETE FROM streaming.transactions WHERE \"the-id\" = 1";
    for (_, connector, ..) in &formats {
        kafka::wait_for_end(&connector.topic, 3);
    }
    database.sql(changes);
    for (name, connector, source, is_row) in &formats {
        kafka::wait_for_end(&connector.topic, if *is_row { 5 } else { 6 });
        let job = job(name, connector, &database, source, folder.path());
        let run = job.run();
        assert_eq!(run.count("rejected"), 0, "{name}: {run}");
        run.fired([102, 103]).resolved([]);
        assert_eq!(run.alert(103)["stream"], run.alert(103)["database"], "{name}");
        let doctor = ask(&job);
        assert!(doctor.of_grade("problem").is_empty(), "{name}: {}", doctor.everything);
        let group = format!("{}-archive", job.group);
        let archive = Archive {
            source: source.clone(),
            partition_by: Some("1st"),
            ..Archive::new(&folder.path().join(&group), &database.name, &group, &job.topic)
        };
        let done = archive.run();
        assert_eq!((done.count("written"), done.count("rejected")), (5, 0), "{name}: {done}");
        let rows = format!("SELECT op, \"the-id\", user_id, \"my-col\", \"größe\" FROM {}", files(&archive.output));
        let want = [
            ["r", "1", "101", "3500.25", "2"],
            ["r", "2", "102", "4000.00", "1"],
            ["r", "3", "103", "2000.00", "5"],
            ["u", "3", "103", "3100.00", "5"],
            ["d", "1", "", "", ""],
        ];
        assert_eq!(duckdb(&format!("{rows} ORDER BY \"offset\"")), want, "{name}");
    }
}

fn job(name: &str, connector: &Connector, database: &Database, source: &str, folder: &std::path::Path) -> Job {
    let group = format!("{}-{name}", database.name);
    Job {
        sql: RULE.to_owned(),
        source: source.to_owned(),
        alert_topic: format!("{group}.alerts"),
        dead_letter_topic: format!("{group}.dead-letter"),
        ..Job::new(&folder.join(name), &database.name, &group, &connector.topic)
    }
}
