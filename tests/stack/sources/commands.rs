//! What commands and page show of several topics.

use std::process::Command;

use serde_json::Value as Json;

use super::places::view;
use super::{World, counted, each_once};
use crate::harness::{Job, Stack, kafka, wait_for};

fn output(command: &mut Command) -> (String, String, bool) {
    let done = command.output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&done.stdout), text(&done.stderr), done.status.success())
}

#[test]
#[ignore = "needs the servers: scripts/test"]
fn commands_know_both_topics() {
    let world = World::new("sources_commands");
    let job = world.both();
    let (transactions, limits) = (world.topic("transactions"), world.topic("limits"));
    world.database.sql(
        "INSERT INTO streaming.transactions (user_id, amount) VALUES (1, 6000);
         UPDATE streaming.limits SET daily_limit = 9100 WHERE user_id = 2",
    );
    kafka::wait_for_end(&transactions, 2);
    kafka::wait_for_end(&limits, 4);
    job.run();
    assert_eq!(
        (counted(&job, "spend", 1), counted(&job, "high", 2), counted(&job, "over", 1)),
        ((1, 0), (1, 0), (1, 0))
    );

    // Offsets.
    let seen = view(&job);
    let partitions: Vec<(&Json, &Json, &Json)> =
        seen["partitions"].as_array().unwrap().iter().map(|p| (&p["topic"], &p["partition"], &p["group"])).collect();
    let of = |topic: &str, next: i64| (Json::from(topic), Json::from(0), Json::from(next));
    let want = [of(&transactions, 2), of(&limits, 4)];
    assert_eq!(partitions, want.iter().map(|(t, p, n)| (t, p, n)).collect::<Vec<_>>(), "{seen}");
    let (table, ..) = output(&mut job.command(&["offsets"]));
    assert!(table.lines().any(|line| line.starts_with(&limits)) && table.contains("resumes"), "{table}");
    let (csv, ..) = output(&mut job.command(&["offsets", "export"]));
    assert_eq!(csv, format!("{transactions},0,2\n{limits},0,4\n"));
    let reset = |args: &[&str]| output(job.command(&["offsets", "reset", "--output", "json"]).args(args));
    let (moved, log, done) = reset(&["--to-earliest", "--topic", &limits]);
    assert!(done, "{log}");
    let moved: Json = serde_json::from_str(&moved).unwrap();
    let to: Vec<&Json> = moved["partitions"].as_array().unwrap().iter().map(|p| &p["to"]).collect();
    assert_eq!(to, [&Json::from(2), &Json::from(0)], "{moved}");
    let (_, log, done) = reset(&["--to-earliest", "--partition", "0"]);
    assert!(!done && log.contains("say which with --topic"), "{log}");

    // Everything once more, and nothing else is open.
    let (_, log, done) =
        output(job.command(&["reprocess", "--dry-run"]).args(["--to", &format!("{}-again", job.group)]));
    assert!(done, "{log}");

    // Doctor.
    let connect = &Stack::get().connect;
    let (found, log, _) = output(job.command(&["doctor", "--output", "json"]).args(["--connect", connect]));
    let found: Json = serde_json::from_str(&found).unwrap_or_else(|error| panic!("{error}: {found}\n{log}"));
    let text = found.to_string();
    for topic in [&transactions, &limits] {
        assert!(text.contains(&format!("{topic} is there")), "{found:#}");
    }
    assert!(!text.contains("\"problem\""), "{found:#}");

    // Explain.
    let alert = super::alerts(&job).into_iter().find(|alert| alert["rule"] == "high").unwrap();
    let file = world.folder().join("alert.json");
    std::fs::write(&file, alert.to_string()).unwrap();
    let (text, log, done) = output(job.command(&["explain"]).arg("--from").arg(&file));
    assert!(done && text.contains("9100"), "{text}\n{log}");

    // The page.
    let paged = Job { source: "[web]\nlisten = \"127.0.0.1:0\"\n".to_owned(), ..job.clone() };
    let mut run = paged.start();
    run.wait_in_log("http://");
    let log = run.log_now();
    let address = log.split("http://").nth(1).unwrap().split(['/', ' ', '"']).next().unwrap().to_owned();
    let get = |path: &str| -> String {
        let answer = ureq::get(format!("http://{address}{path}")).call();
        answer.ok().and_then(|mut answer| answer.body_mut().read_to_string().ok()).unwrap_or_default()
    };
    let state = wait_for("the page knows the partitions", || {
        let state: Json = serde_json::from_str(&get("/api/state")).ok()?;
        (state["partitions"].as_object()?.len() == 2).then_some(state)
    });
    assert_eq!(state["partitions"][format!("{limits}/0")]["committed"], 4, "{state}");
    let metrics = get("/metrics");
    assert!(
        metrics.contains(&format!("tripline_next_offset{{topic=\"{transactions}\",partition=\"0\"}} 2")),
        "{metrics}"
    );
    assert_eq!(run.terminate().code, Some(0));
    each_once(&job);
}
