//! The examples in `config/examples`, through Debezium: each step of changes raises the alerts that are written beside it.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::harness::{Connector, Database, Stack, kafka, poll};
use crate::recovery::run::Run;

/// Runs an example whose topics have these names behind the connector's prefix.
fn example(name: &str, topics: &[&str]) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/examples").join(name);
    let file = |name: &str| {
        let path: PathBuf = folder.join(name);
        std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    };
    let database = Database::empty(&format!("example_{}", name.replace('-', "_")));
    database.sql(&file("tables.sql"));
    let connector = Connector::start(&database, "", &[("table.include.list", &topics.join(","))]);
    let prefix = connector.topic.strip_suffix("streaming.transactions").unwrap();
    let alerts = format!("{}.alerts", database.name);
    let mut config = file("tripline.toml");
    for (from, to) in topics
        .iter()
        .map(|topic| (format!("\"postgres.{topic}\""), format!("\"{prefix}{topic}\"")))
        .chain([(format!("\"{name}.alerts\""), format!("\"{alerts}\""))])
    {
        assert!(config.contains(&from), "{name}: no {from}");
        config = config.replace(&from, &to);
    }
    let work = tempfile::tempdir().unwrap();
    std::fs::write(work.path().join("tripline.toml"), config).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_tripline"));
    command.args(["run", "--config", "tripline.toml"]).current_dir(work.path());
    command.envs([
        ("TRIPLINE__KAFKA__BOOTSTRAP_SERVERS", Stack::get().bootstrap.clone()),
        ("TRIPLINE__POSTGRES__URL", Stack::get().url(&database.name)),
        ("TRIPLINE__KAFKA__GROUP_ID", database.name.clone()),
        ("TRIPLINE__STARTUP_WAIT_MS", "60000".to_owned()),
    ]);
    let mut run = Some(Run::of(command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped())));
    let mut raised = 0;
    for step in 1.. {
        if !folder.join(format!("{step}.sql")).exists() {
            assert!(step > 1, "{name} has no step");
            break;
        }
        // One statement after the other, as in psql.
        let text = file(&format!("{step}.sql"));
        for statement in text.split_inclusive(";\n") {
            database.sql(statement);
        }
        let mut want: Vec<String> = file(&format!("{step}.alerts")).lines().map(str::to_owned).collect();
        want.sort_unstable();
        let found = || -> Vec<String> {
            let new = kafka::records(&alerts, 0).into_iter().skip(raised).map(|alert| alert.json());
            let line = |alert: serde_json::Value| {
                let text = |field: &str| alert[field].as_str().unwrap_or_default().to_owned();
                format!("{} {}: {}", text("status"), text("rule"), text("message"))
            };
            let mut lines: Vec<String> = new.map(line).collect();
            lines.sort_unstable();
            lines
        };
        if poll(|| (found() == want).then_some(())).is_none() {
            let done = run.take().unwrap().terminate();
            panic!("{name}, step {step}: {:?}, not {want:?}: {done}", found());
        }
        raised += want.len();
    }
    let done = run.take().unwrap().terminate();
    assert_eq!(done.code(), Some(0), "{name}: {done}");
    assert_eq!(kafka::records(&alerts, 0).len(), raised, "{name}: {done}");
}

#[test]
#[ignore = "needs the servers: scripts/test"]
fn example_card_testing() {
    example("card-testing", &["shop.payments"]);
}

#[test]
#[ignore = "needs the servers: scripts/test"]
fn example_transfer_limits() {
    example("transfer-limits", &["bank.transfers", "bank.accounts"]);
}
