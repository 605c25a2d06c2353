//! Captured records in Avro, with a registry of the test's own.

use crate::harness::certificates::{authority, certificate};
use crate::harness::{Database, Job, Record, kafka};
use crate::truth::server::free_port;

use super::registry::{self, Registry};

/// The records of a capture in a topic, and the table that they come to in the end.
struct Captured {
    database: Database,
    topic: String,
    records: u64,
    schemas: String,
    folder: tempfile::TempDir,
}

impl Captured {
    fn new(test: &str) -> Self {
        let database = Database::new(test);
        let topic = format!("{}.avro", database.name);
        let fixture = |name: &str| {
            let path = format!("{}/tests/fixtures/{name}", env!("CARGO_MANIFEST_DIR"));
            std::fs::read_to_string(path).unwrap()
        };
        let lines = fixture("j_avro_precise.ndjson");
        let records: Vec<Record> = lines.lines().map(|line| registry::record(line, &database.name)).collect();
        database.sql(
            "INSERT INTO streaming.transactions (id, user_id, amount, \"timestamp\") VALUES (21, 402, 66.66, '2026-03-02 12:01Z')",
        );
        kafka::produce(&topic, &records);
        let folder = tempfile::tempdir().unwrap();
        Self { database, topic, records: records.len() as u64, schemas: fixture("j_avro.schemas.json"), folder }
    }

    fn job(&self, group: &str, url: &str, more: &str) -> Job {
        let sql =
            "SELECT user_id, SUM(amount) AS total FROM streaming.transactions GROUP BY user_id HAVING SUM(amount) > 50";
        Job {
            source: format!("[source.schema_registry]\nurl = \"{url}\"\n{more}"),
            sql: sql.to_owned(),
            ..Job::new(self.folder.path(), &self.database.name, group, &self.topic)
        }
    }
}

/// Avro as Confluent's converter writes it. The run waits for a registry that is down, and ends if one refuses.
#[test]
#[ignore = "needs the servers: scripts/test"]
fn formats_avro() {
    let t = Captured::new("avro");
    let port = free_port();
    let url = format!("http://127.0.0.1:{port}");
    let mut waits = t.job("waits", &url, "").start_to_the_end();
    waits.wait_in_log("fetching a schema");
    let registry = Registry::start(port, &t.schemas, Some("reader:a-secret-of-the-test"));
    // It asks for a login, which this run does not have.
    let ended = waits.ended();
    assert_eq!(ended.code, Some(4), "{ended}");
    assert!(ended.everything().contains("source.schema_registry.user"), "{ended}");

    let login = "user = \"reader\"\npassword = \"a-secret-of-the-test\"";
    let run = t.job("reads", &url, login).run();
    assert_eq!((run.count("read"), run.count("rejected")), (t.records, 0), "{run}");
    run.fired([402]).resolved([]);
    assert!(!run.everything().contains("a-secret-of-the-test"), "{run}");
    // A schema is asked for once.
    assert!(registry.asked() <= 4, "asked {} times", registry.asked());

    // Without a registry, each record says what is missing.
    let plain = Job { source: String::new(), ..t.job("without", &url, "") };
    let run = plain.run();
    assert_eq!(run.count("rejected"), t.records, "{run}");
    let letter = kafka::records(&plain.dead_letter_topic, 0).remove(0);
    assert!(letter.header("tripline_reason").contains("set source.schema_registry.url"), "{letter:?}");
}

/// Over TLS, a registry is only asked if its certificate is of an authority in `ca`, of its host, and of these days.
#[test]
#[ignore = "needs the servers: scripts/test"]
fn formats_registry_over_tls() {
    let t = Captured::new("avro_tls");
    let (ca, issuer) = authority("the test's own");
    let file = |name: &str, pem: &str| {
        let path = t.folder.path().join(name);
        std::fs::write(&path, pem).unwrap();
        format!("ca = \"{}\"\n", path.display())
    };
    let (own, other) = (file("ca.pem", &ca), file("other-ca.pem", &authority("another one").0));
    let login = "user = \"reader\"\npassword = \"a-secret-of-the-test\"\n";
    let registry = |host: &str, expired: bool| {
        let port = free_port();
        let held = certificate("registry", Some(host), expired, &issuer);
        let registry = Registry::start_tls(port, &held, &t.schemas, Some("reader:a-secret-of-the-test"));
        (registry, format!("https://127.0.0.1:{port}"))
    };
    let (good, url) = registry("127.0.0.1", false);
    let run = t.job("tls", &url, &format!("{own}{login}")).run();
    assert_eq!((run.count("read"), run.count("rejected")), (t.records, 0), "{run}");
    run.fired([402]).resolved([]);
    let asked = good.asked();
    assert!((1..=4).contains(&asked), "asked {asked} times");

    let (expired, expired_url) = registry("127.0.0.1", true);
    let (elsewhere, elsewhere_url) = registry("elsewhere.example", false);
    for (group, url, ca, why) in [
        ("tls-unknown", &url, "", "UnknownIssuer"),
        ("tls-other", &url, other.as_str(), "UnknownIssuer"),
        ("tls-expired", &expired_url, own.as_str(), "expired"),
        ("tls-elsewhere", &elsewhere_url, own.as_str(), "not valid for"),
    ] {
        let ended = t.job(group, url, &format!("{ca}{login}")).start_to_the_end().ended();
        assert_eq!(ended.code, Some(4), "{group}: {ended}");
        for part in ["source.schema_registry", url, why] {
            assert!(ended.everything().contains(part), "{group}: no {part:?}: {ended}");
        }
        assert!(!ended.everything().contains("a-secret-of-the-test"), "{ended}");
    }
    assert_eq!((good.asked(), expired.asked(), elsewhere.asked()), (asked, 0, 0));
}
