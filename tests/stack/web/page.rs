//! The page in a browser.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value as Json, json};

use crate::harness::{Job, Table, kafka, wait_for};

use super::with_page;

/// Whether the alert topic has an alert on this user.
fn told(job: &Job, user: i64) -> Option<()> {
    let alerts = kafka::records(&job.alert_topic, 0);
    alerts.iter().any(|alert| alert.json()["key"]["user_id"] == user).then_some(())
}

/// The offsets of group and folder, each read without the program: the group by another client, the folder as a file.
fn offsets(job: &Job) -> Json {
    let folder = job.checkpoints.join(&job.group);
    let numbers = std::fs::read_dir(folder.join("offsets")).unwrap();
    let numbers = numbers.filter_map(|entry| entry.unwrap().file_name().to_str()?.parse::<u64>().ok());
    let epoch = numbers.max().unwrap();
    // The version, a head, the offsets by topic and partition, and more.
    let file = std::fs::read_to_string(folder.join("offsets").join(epoch.to_string())).unwrap();
    let offsets: Json = serde_json::from_str(file.lines().nth(2).unwrap()).unwrap();
    let lineage = std::fs::read_to_string(folder.join("lineage.json")).unwrap();
    let lineage: Json = serde_json::from_str(lineage.lines().next().unwrap()).unwrap();
    json!({
        "end": kafka::end_of(&job.topic),
        "folder": offsets[&job.topic]["0"],
        "group": job.committed(),
        "epoch": epoch,
        "name": format!("{}:{epoch}", lineage["id"].as_str().unwrap()),
    })
}

#[test]
#[ignore = "needs the servers of scripts/stack"]
fn web_page_in_a_browser() {
    let modules = std::env::var("STACK_BROWSER").unwrap();
    assert!(Path::new(&modules).exists(), "{modules} is not there: run scripts/test, or scripts/stack browser");
    let table = Table::new("web_page");
    let (mut job, url) = with_page(table.job("v1"));
    job.environment.push(("TRIPLINE__ALERTS__POSTGRES__URL", job.url.clone()));
    table.sql("INSERT INTO streaming.transactions (user_id, amount) VALUES (1, 0.01)");
    // Another group, whose windows are full at once.
    let (mut paused, paused_url) = with_page(table.job("v2"));
    paused.top = "[limits]\nmax_rows = 1".to_owned();
    let mut paused_run = None;
    let mut run = Some(job.start());
    run.as_mut().unwrap().wait_in_log("the page is at");

    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/web/page.mjs");
    let mut command = Command::new("node");
    command.arg(script).arg(&url).arg(&modules).args(std::env::var_os("TRIPLINE_SCREENSHOTS"));
    let mut browser = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut answers = browser.stdin.take().unwrap();
    let mut passed = false;
    for line in BufReader::new(browser.stdout.take().unwrap()).lines().map_while(Result::ok) {
        let answer = match line.split_once(' ').unwrap_or((&line, "")) {
            ("sql", text) => json!(table.sql(text)),
            ("offsets", _) => offsets(&job),
            ("told", user) => {
                wait_for(&format!("an alert on {user}"), || told(&job, user.parse().unwrap()));
                json!(null)
            }
            ("paused", _) => {
                let mut started = paused.start();
                started.wait_in_log("the page is at");
                paused_run = Some(started);
                json!(paused_url)
            }
            ("stop", _) => {
                run.take().unwrap().terminate();
                json!(null)
            }
            ("start", _) => {
                run = Some(job.start());
                json!(null)
            }
            _ => {
                passed |= line == "passed";
                continue;
            }
        };
        writeln!(answers, "{answer}").unwrap();
    }
    assert!(browser.wait().unwrap().success() && passed, "see above what the page did");
    run.unwrap().terminate();
    paused_run.unwrap().kill();
}
