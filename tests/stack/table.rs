//! The table of alerts: the sink's rows, the rights, and the commands that read it.
//!
//! - `generations`: only one instance of a group writes, and an older table is upgraded

mod generations;

use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value as Json;
use sqlx::ConnectOptions;
use tripline::alert::Alert;
use tripline::episode::{EpisodeId, Status};
use tripline::failure::Kind;
use tripline::model::{Key, Timestamp};
use tripline::postgres::options;
use tripline::sink::postgres::rights::{Found, rights};
use tripline::sink::postgres::{TableSink, migrations, stored};

use crate::harness::{Job, Role, Stack, Table, wait_for};

/// A run's configuration with the table as a sink.
fn job(t: &Table, more: &str) -> Job {
    // A section of its own between two others.
    Job { source: format!("[alerts.postgres]\n{more}"), ..t.job("v1") }
}

/// The file of the last run.
fn file(job: &Job) -> PathBuf {
    job.checkpoints.join(format!("{}.toml", job.group))
}

fn command(job: &Job, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tripline"));
    command.args(arguments).arg("--config").arg(file(job)).current_dir(&job.checkpoints);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("TRIPLINE__") || name == "RUST_LOG" {
            command.env_remove(name);
        }
    }
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Standard output of a command that ends well.
fn out(job: &Job, arguments: &[&str]) -> String {
    let done = command(job, arguments).output().unwrap();
    assert!(done.status.success(), "{arguments:?}: {}", errors(&done));
    assert!(done.stderr.is_empty(), "{arguments:?}: {}", errors(&done));
    String::from_utf8(done.stdout).unwrap()
}

fn errors(done: &Output) -> String {
    format!("{:?} {}", done.status.code(), String::from_utf8_lossy(&done.stderr))
}

/// A command ends with this code and one error with these parts.
fn fails(done: &Output, code: i32, parts: &[&str]) {
    let errors = errors(done);
    assert_eq!(done.status.code(), Some(code), "{errors}");
    for part in parts {
        assert!(errors.contains(part), "no {part:?} in {errors}");
    }
    assert!(done.stdout.is_empty() && !errors.contains("panicked") && !errors.contains("hunter2"), "{errors}");
}

fn lines(text: &str) -> Vec<Json> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// `alerts --output json` with these arguments: the users, in order.
fn users(job: &Job, arguments: &[&str]) -> Vec<i64> {
    let listed = out(job, &[&["alerts", "--output", "json"], arguments].concat());
    lines(&listed).iter().map(|alert| alert["key"]["user_id"].as_i64().unwrap()).collect()
}

fn sorted(mut values: Vec<Json>) -> Vec<Json> {
    values.sort_by_key(|alert| alert["id"].to_string());
    values
}

#[test]
#[ignore = "needs the servers: scripts/test"]
fn the_table_holds_what_the_topic_holds() {
    let t = Table::new("table_equal");
    let job = job(&t, "");
    t.insert(&[(1, 101, "3500"), (2, 102, "2999.99"), (3, 103, "-4000.01")]);
    t.wait_in_kafka(3);
    let first = job.run();
    first.fired([101, 103]).resolved([]);
    t.sql("UPDATE streaming.transactions SET amount = 2500 WHERE id = 1");
    t.wait_in_kafka(4);
    let second = job.run();
    second.fired([]).resolved([101]);

    let topic: Vec<Json> = first.alerts.iter().chain(&second.alerts).map(|record| record.json()).collect();
    let listed = lines(&out(&job, &["alerts", "--output", "json"]));
    assert_eq!(sorted(listed), sorted(topic.clone()));
    // Column by column, as any other reader sees them.
    for alert in &topic {
        let id = alert["id"].as_str().unwrap();
        let row = t.sql(&format!("SELECT to_jsonb(a) FROM tripline.alerts AS a WHERE id = '{id}'"));
        let row: Json = serde_json::from_str(&row[0][0]).unwrap();
        let plain = [
            "id",
            "group",
            "lineage",
            "rule",
            "rule_version",
            "status",
            "severity",
            "key",
            "message",
            "having",
            "episode",
            "reason",
            "evaluated_by",
        ];
        let whole = ["stream", "database", "trigger", "confirmation"];
        for name in plain.iter().chain(&whole) {
            assert_eq!(row[*name], alert[*name], "{name}");
        }
        let instant = |value: &Json| chrono::DateTime::parse_from_rfc3339(value.as_str().unwrap()).unwrap();
        assert_eq!(instant(&row["window_from"]), instant(&alert["window"]["from"]));
        assert_eq!(instant(&row["window_to"]), instant(&alert["window"]["to"]));
        assert_eq!(row["database_as_of"], Json::Null, "{row}");
        assert_eq!(instant(&row["emitted_at"]), instant(&alert["emitted_at"]));
        assert_eq!(row.as_object().unwrap().len(), plain.len() + whole.len() + 4, "{row}");
    }

    // A crash between the delivery and its note: delivered again, and not doubled.
    let commits = job.checkpoints.join(&job.group).join("commits");
    let newest = std::fs::read_dir(&commits).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let newest = newest.filter_map(|name| name.parse::<u64>().ok()).max().unwrap();
    std::fs::remove_file(commits.join(newest.to_string())).unwrap();
    let again = job.run();
    assert_eq!(again.alerts, [], "the topic has them: {again}");
    assert_eq!(again.out, second.out);
    assert_eq!(t.sql("SELECT count(*) FROM tripline.alerts"), [["3"]]);
}

#[test]
#[ignore = "needs the servers: scripts/test"]
fn more_alerts_at_once_than_one_statement_takes() {
    let t = Table::new("table_many");
    t.sql(
        "INSERT INTO streaming.transactions (id, user_id, amount)
         SELECT n, n, 3500 FROM generate_series(1, 2500) AS n",
    );
    t.wait_in_kafka(2500);
    let job = job(&t, "");
    let run = job.run();
    run.fired(1..=2500);
    let mut topic: Vec<String> = run.alerts.iter().map(|record| record.header("ce_id").to_owned()).collect();
    let table = t.sql("SELECT id FROM tripline.alerts ORDER BY id::text COLLATE \"C\"");
    topic.sort();
    assert_eq!(table.concat(), topic);
    assert_eq!(out(&job, &["alerts", "--limit", "3000"]).lines().count(), 2501);
}

/// An alert that a run would make only without confirmation, and from a forged record.
fn odd(id: u128, more: &str) -> Alert {
    let id = uuid::Uuid::from_u128(id);
    let body = format!(
        r#"{{"id":"{id}","group":"g","lineage":"l","rule":"r","rule_version":"v","status":"firing","severity":"info",
            "key":{{"name":"a\u0000\\u0000\"é\n"}},"message":"'; drop table x; --","stream":{{"total":null}},"database":null,
            "having":"COUNT(*) > 1","window":{{"from":null,"to":"2026-11-22T10:00:00.5Z"}},"trigger":null,
            "confirmation":{{"required":false}},"emitted_at":"2026-11-22T10:00:00Z"{more}}}"#
    );
    let (rule, record_key, line) = ("r".to_owned(), String::new(), String::new());
    let episode = EpisodeId { epoch: 1, ordinal: 0 };
    Alert {
        id,
        rule,
        key: Key::Int(1),
        status: Status::Firing,
        episode,
        record_key,
        line,
        emitted_at: Timestamp(0),
        body,
    }
}

#[test]
#[ignore = "needs the servers: scripts/test"]
fn records_of_odd_shape() {
    let t = Table::new("table_odd");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let options = options(&Stack::get().url(&t.database.name)).unwrap();
        let mut connection = options.connect().await.unwrap();
        let mut sink = TableSink::new(options, "g");
        let missing = sink.fence().await.unwrap_err();
        assert_eq!(missing.kind, Kind::Refused, "{missing:?}");
        assert!(missing.problem.contains("tripline migrate"), "{missing:?}");
        assert_eq!(rights(&mut connection).await.unwrap(), Found::Nothing);
        migrations::run(&mut connection).await.unwrap();
        sink.fence().await.unwrap();
        sink.write(&[odd(1, ""), odd(1, "")]).await.unwrap();
        // All of them or none.
        let refused = sink.write(&[odd(2, ""), odd(3, r#","emitted_at":"never""#)]).await.unwrap_err();
        assert_eq!(refused.kind, Kind::Refused, "{refused:?}");
        sink.write(&[]).await.unwrap();
        sink.close().await;
        let found = stored::newest(&mut connection, &stored::Filter::default(), 9).await.unwrap();
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(found[0].key["name"], "a\u{fffd}\\u0000\"é\n");
        assert_eq!((&found[0].database, &found[0].trigger, &found[0].window.from), (&None, &Json::Null, &None));
        assert_eq!(found[0].window.to, "2026-11-22T10:00:00.500Z");
    });
    assert_eq!(t.sql("SELECT database IS NULL AND trigger IS NULL FROM tripline.alerts"), [["t"]]);
}

#[test]
#[ignore = "needs the servers: scripts/test"]
fn another_role_migrates() {
    let (writer, reader) = (Role::new("table_writer"), Role::new("table_reader"));
    let t = Table::new("table_roles");
    t.insert(&[(1, 101, "3500")]);
    t.wait_in_kafka(1);
    let write = |migrate: bool| job(&t, &format!("url = \"{}\"\nmigrate = {migrate}\n", writer.url(&t.database.name)));
    let run = |job: &Job| {
        let run = job.try_run();
        (run.code, run.log.iter().filter(|line| line.starts_with("error: ")).cloned().collect::<Vec<_>>().join("\n"))
    };
    let (code, error) = run(&write(true));
    assert_eq!(code, Some(4), "{error}");
    for part in ["permission denied", "tripline migrate", "alerts.postgres.migrate = false"] {
        assert!(error.contains(part), "{error}");
    }
    let (code, error) = run(&write(false));
    assert_eq!(code, Some(2), "{error}");
    assert!(error.contains("there is no such table") && error.contains("tripline migrate"), "{error}");
    let listed = command(&write(false), &["alerts"]).output().unwrap();
    fails(&listed, 2, &["there is no such table", "[alerts.postgres]", "tripline migrate"]);
    let migrated = command(&write(false), &["migrate"]).output().unwrap();
    fails(&migrated, 4, &["permission denied"]);

    let owner = Stack::get().url(&t.database.name);
    let migrate = ["migrate", "--url", owner.as_str()];
    let applied = out(&write(false), &migrate);
    assert!(applied.starts_with("applied migration 1 alerts at postgres://"), "{applied}");
    assert!(applied.contains("\napplied migration 2 generations at postgres://"), "{applied}");
    assert!(out(&write(false), &migrate).contains("is up to date: migrations applied: 4"));
    let books = t.sql("SELECT table_schema, table_name FROM information_schema.tables WHERE table_name ~ 'migrations'");
    assert_eq!(books, [["tripline", "_sqlx_migrations"]]);

    let (code, error) = run(&write(false));
    assert_eq!(code, Some(4), "{error}");
    // The message holds the statements that mend it.
    let grants = error.rsplit_once("have its owner run: ").unwrap().1.to_owned();
    assert_eq!(
        grants,
        format!(
            "GRANT USAGE ON SCHEMA tripline TO \"{0}\"; GRANT INSERT, SELECT ON tripline.alerts TO \"{0}\"; \
             GRANT INSERT, SELECT, UPDATE ON tripline.generations TO \"{0}\"",
            writer.0
        )
    );
    t.sql(&grants);
    write(false).run().fired([101]);
    assert_eq!(t.sql("SELECT count(*) FROM tripline.alerts"), [["1"]]);

    // A reader needs less.
    let read = [("TRIPLINE__ALERTS__POSTGRES__URL", reader.url(&t.database.name))];
    let refused = command(&write(false), &["alerts"]).envs(read.clone()).output().unwrap();
    fails(&refused, 4, &["permission denied"]);
    t.sql(&format!("GRANT USAGE ON SCHEMA tripline TO {0}; GRANT SELECT ON tripline.alerts TO {0}", reader.0));
    let listed = command(&write(false), &["alerts"]).envs(read).output().unwrap();
    assert!(String::from_utf8_lossy(&listed.stdout).contains("User 101"), "{}", errors(&listed));
}

#[test]
#[ignore = "needs the servers: scripts/test"]
fn a_right_that_is_taken_away_ends_the_run() {
    let writer = Role::new("table_revoked");
    let t = Table::new("table_revoked");
    t.insert(&[(1, 101, "3500")]);
    t.wait_in_kafka(1);
    job(&t, "").run().fired([101]);
    let grant = format!(
        "GRANT USAGE ON SCHEMA tripline TO {0}; GRANT INSERT, SELECT ON tripline.alerts TO {0};
         GRANT INSERT, SELECT, UPDATE ON tripline.generations TO {0}",
        writer.0
    );
    t.sql(&grant);
    let mut run = job(&t, &format!("url = \"{}\"\nmigrate = false\n", writer.url(&t.database.name))).start();
    run.wait_in_log("this start");
    t.sql(&format!("REVOKE INSERT ON tripline.alerts FROM {}", writer.0));
    t.insert(&[(2, 102, "3500")]);
    let ended = run.ended();
    assert_eq!(ended.code, Some(4), "{ended}");
    assert!(ended.everything().contains("table tripline.alerts"), "{ended}");
    // Nothing is lost: the alert is in the folder, and comes with the next run.
    t.sql(&grant);
    job(&t, "").run();
    let users = t.sql("SELECT key ->> 'user_id' FROM tripline.alerts ORDER BY 1");
    assert_eq!(users, [["101"], ["102"]]);
}

#[test]
#[ignore = "needs the servers: scripts/test"]
fn the_table_is_away_for_a_while() {
    let t = Table::new("table_away");
    t.insert(&[(1, 101, "3500")]);
    t.wait_in_kafka(1);
    let job = job(&t, "");
    let mut run = job.start();
    run.wait_for_line("User 101 ($3,500.00)");
    // Idle connections of the sink and of the confirmation are cut.
    t.sql(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
         WHERE application_name = 'tripline' AND datname = current_database()",
    );
    t.insert(&[(2, 102, "3500")]);
    run.wait_for_line("User 102 ($3,500.00)");
    run.wait_committed(2);
    assert_eq!(run.terminate().code, Some(0));
    assert_eq!(t.sql("SELECT count(*) FROM tripline.alerts"), [["2"]]);
}

/// A command that goes on, and is killed when the test drops it.
struct Following {
    child: Child,
    lines: std::sync::mpsc::Receiver<String>,
}

impl Following {
    fn start(job: &Job, arguments: &[&str]) -> Self {
        let mut child = command(job, arguments).spawn().unwrap();
        let (sender, lines) = std::sync::mpsc::sync_channel(1_000);
        let out = BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || out.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        Self { child, lines }
    }

    fn user(&self) -> i64 {
        let line = wait_for("a line comes", || self.lines.try_recv().ok());
        serde_json::from_str::<Json>(&line).unwrap()["key"]["user_id"].as_i64().unwrap()
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
#[ignore = "needs the servers: scripts/test"]
fn alerts_are_listed_filtered_and_followed() {
    let t = Table::new("table_list");
    let job = job(&t, "");
    t.insert(&[(1, 101, "3500")]);
    t.wait_in_kafka(1);
    job.run().fired([101]);
    t.insert(&[(2, 102, "3500.50")]);
    t.wait_in_kafka(2);
    job.run().fired([102]);
    t.sql("DELETE FROM streaming.transactions WHERE id = 1");
    t.wait_in_kafka(4);
    job.run().resolved([101]);

    assert_eq!(users(&job, &[]), [101, 102, 101]);
    assert_eq!(users(&job, &["--limit", "2"]), [101, 102]);
    assert_eq!(users(&job, &["--status", "firing"]), [102, 101]);
    assert_eq!(users(&job, &["--status", "resolved"]), [101]);
    assert_eq!(users(&job, &["--key", "102"]), [102]);
    assert_eq!(users(&job, &["--key", "' or true --"]), [0_i64; 0]);
    assert_eq!(users(&job, &["--rule", "weekly-spend", "--severity", "critical"]), [101, 102, 101]);
    let unknown = command(&job, &["alerts", "--rule", "other"]).output().unwrap();
    fails(&unknown, 2, &["--rule other: there is no such rule; known: weekly-spend"]);
    assert_eq!(users(&job, &["--severity", "info"]), [0_i64; 0]);
    assert_eq!(users(&job, &["--since", "1h", "--limit", "1"]), [101]);
    assert_eq!(users(&job, &["--since", "2999-01-01T00:00:00Z"]), [0_i64; 0]);

    let table = out(&job, &["alerts"]);
    let table: Vec<&str> = table.lines().collect();
    assert!(table[0].starts_with("TIME "), "{table:#?}");
    let place = |word: &str| table[0].find(word).unwrap();
    assert_eq!((table.len(), &table[1][place("STATUS")..place("RULE")]), (4, "resolved  "), "{table:#?}");
    assert_eq!(table[2][place("TOTALS")..place("ID")].trim(), "total 3500.50, transactions 1", "{table:#?}");
    // The id is what `explain` takes.
    let explained = out(&job, &["explain", &table[2][place("ID")..]]);
    assert!(explained.contains("102"), "{explained}");

    // Another group writes to the same table, by a rule of another name.
    t.sql(
        "INSERT INTO tripline.alerts SELECT (jsonb_populate_record(a, jsonb_build_object(
             'id', '1c0c0000-0000-5000-8000-000000000000', 'group', 'other', 'rule', 'gone'))).*
         FROM tripline.alerts AS a LIMIT 1",
    );
    assert_eq!(users(&job, &[]).len(), 3);
    assert_eq!(users(&job, &["--all-groups"]).len(), 4);
    assert_eq!(users(&job, &["--all-groups", "--rule", "gone"]).len(), 1);
    fails(&command(&job, &["alerts", "--rule", "gone"]).output().unwrap(), 2, &["known: weekly-spend"]);
    let all = out(&job, &["alerts", "--all-groups"]);
    assert!(all.lines().any(|line| line.contains(" other ") && line.contains(" gone ")), "{all}");
    assert!(table.iter().all(|line| !line.contains('\u{1b}')), "{table:#?}");
    fails(&command(&job, &["alerts", "--since", "soon"]).output().unwrap(), 2, &["--since", "90s"]);

    let mut following = Following::start(&job, &["alerts", "--follow", "--output", "json", "--limit", "2"]);
    assert_eq!([following.user(), following.user()], [102, 101]);
    t.insert(&[(3, 103, "9000"), (4, 104, "9000")]);
    t.wait_in_kafka(6);
    job.run().fired([103, 104]);
    let mut new = [following.user(), following.user()];
    new.sort_unstable();
    assert_eq!(new, [103, 104]);
    // The server ends the connection: the command looks again.
    t.sql(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
         WHERE application_name = 'tripline' AND datname = current_database()",
    );
    t.insert(&[(5, 105, "9000")]);
    t.wait_in_kafka(7);
    job.run().fired([105]);
    assert_eq!(following.user(), 105);
    let sent = Command::new("sh").arg("-c").arg(format!("kill -INT {}", following.child.id())).status().unwrap();
    assert!(sent.success());
    assert_eq!(following.child.wait().unwrap().code(), Some(0));
    assert!(following.lines.try_recv().is_err());
}

/// Each of these is in the text, in this order.
fn check(text: &str, parts: &[&str]) {
    let mut rest = text;
    for part in parts {
        let Some(at) = rest.find(part) else { panic!("no {part:?} (in order) in\n{text}") };
        rest = &rest[at..];
    }
}

#[test]
#[ignore = "needs the servers: scripts/test"]
fn an_alert_is_explained() {
    let t = Table::new("table_explain");
    let job = job(&t, "");
    t.insert(&[(1, 101, "2000"), (2, 101, "-500"), (7, 102, "9")]);
    t.insert(&[(3, 101, "1000.50")]);
    t.wait_in_kafka(4);
    let run = job.run();
    let fired = run.alert(101);
    let id = fired["id"].as_str().unwrap();
    let text = || out(&job, &["explain", id]);
    let json = || serde_json::from_str::<Json>(&out(&job, &["explain", id, "--output", "json"])).unwrap();

    // Right after it.
    check(
        &text(),
        &[
            "weekly-spend fired for user_id 101 at ",
            "  having    SUM(ABS(amount)) > 3000\n",
            "Totals        transactions  total\n",
            "  stream      3             3500.50\n",
            "  database    3             3500.50\n",
            "  rows now    3             3500.50\n",
            "  difference  0             0.00\n",
            "Trigger: insert in ",
            "  row id 3, transaction ",
            "  the trigger's transaction was included in the snapshot\n",
            "Latencies: committed to emitted ",
            "Rows now that the alert's window admits: 3\n",
            "  the totals are those of the alert\n  HAVING still holds over these rows\n",
        ],
    );
    let first = json();
    assert_eq!(first["alert"], fired);
    assert_eq!(first["rule"]["changed"], false);
    assert!(first["latencies"]["committed_to_emitted_ms"].is_i64(), "{first}");
    let seen = |explained: &Json| -> Vec<(String, bool)> {
        let row = |row: &Json| {
            let id = row["columns"]["id"].as_str().unwrap().to_owned();
            (id, row["seen_by_confirmation"].as_bool().unwrap())
        };
        explained["present"]["rows"].as_array().unwrap().iter().map(row).collect()
    };
    let of = |rows: &[(&str, bool)]| rows.iter().map(|(id, seen)| ((*id).to_owned(), *seen)).collect::<Vec<_>>();
    assert_eq!(seen(&first), of(&[("3", true), ("2", true), ("1", true)]));

    // One of its rows is updated.
    t.sql("UPDATE streaming.transactions SET amount = 1500 WHERE id = 1");
    let updated = json();
    assert_eq!(updated["present"]["differences"], serde_json::json!({ "transactions": "0", "total": "-500.00" }));
    assert_eq!(seen(&updated), of(&[("3", true), ("2", true), ("1", false)]));
    assert_eq!((&updated["present"]["rows_newer"], &updated["present"]["rows_gone"]), (&1.into(), &1.into()));
    check(
        &text(),
        &["  rows now    3             3000.50\n", "newer", "differ: total -500.00\n", "(inserted or updated): 1\n"],
    );

    // Another is deleted, and one comes.
    t.sql("DELETE FROM streaming.transactions WHERE id = 3");
    t.insert(&[(4, 101, "1")]);
    t.insert(&[(5, 102, "1")]);
    let deleted = json();
    assert_eq!(seen(&deleted), of(&[("4", false), ("2", true), ("1", false)]));
    assert_eq!(deleted["present"]["totals"], serde_json::json!({ "transactions": "3", "total": "2001.00" }));
    assert_eq!((&deleted["present"]["rows_gone"], &deleted["present"]["holds"]), (&2.into(), &false.into()));
    check(&text(), &["(deleted, updated, or moved): 2\n", "HAVING does not hold over these rows\n"]);

    // The one that resolves it.
    t.wait_in_kafka(9);
    let run = job.run();
    let resolved = run.resolved([101]).alert(101);
    let text = out(&job, &["explain", resolved["id"].as_str().unwrap()]);
    check(
        &text,
        &["weekly-spend resolved for user_id 101", "  difference  0             0.00\n", "those of the alert\n"],
    );

    // From the topic alone, of a rule that has another version by now.
    t.sql("DROP TABLE tripline.alerts");
    fails(&command(&job, &["explain", id]).output().unwrap(), 2, &["there is no such table"]);
    let config = std::fs::read_to_string(file(&job)).unwrap();
    std::fs::write(file(&job), config.replace("'7 days'", "'6 days'")).unwrap();
    let mut child = command(&job, &["explain", id, "--from", "-"]).stdin(Stdio::piped()).spawn().unwrap();
    let mut pipe = child.stdin.take().unwrap();
    pipe.write_all(format!("{resolved}\n{fired}\n").as_bytes()).unwrap();
    drop(pipe);
    let done = child.wait_with_output().unwrap();
    assert!(done.status.success(), "{}", errors(&done));
    check(
        &String::from_utf8_lossy(&done.stdout),
        &["fired for user_id 101", "the rule has changed: ", "  2 ", "seen by it"],
    );
}
