//! `tripline reprocess`: what is open in the next group and was not in the previous one, for good or as a dry run.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Output};
use std::time::Duration;

use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use serde_json::{Value as Json, json};

use crate::harness::{Job, RULE, Record, Stack, Table, kafka};

const CALL: Duration = Duration::from_secs(10);
const EPISODES: &str = "tripline.episodes";

/// Temporary files of the command, and nobody else's.
fn command(job: &Job, arguments: &[&str]) -> Command {
    let mut command = job.command(&[&["reprocess"], arguments].concat());
    let temporary = job.checkpoints.with_file_name("temporary");
    std::fs::create_dir_all(&temporary).unwrap();
    command.env("TMPDIR", &temporary);
    command
}

fn reprocess(job: &Job, arguments: &[&str]) -> Output {
    command(job, arguments).output().unwrap()
}

fn told(done: &Output) -> String {
    let (out, err) = (String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    format!("{:?}\n{out}\n{err}", done.status.code())
}

/// The JSON object of a command that ends well, and what it said beside it.
fn object(job: &Job, arguments: &[&str]) -> (Json, String) {
    let done = reprocess(job, &[arguments, &["--output", "json"]].concat());
    assert_eq!(done.status.code(), Some(0), "{arguments:?}: {}", told(&done));
    let object = serde_json::from_slice(&done.stdout).unwrap_or_else(|error| panic!("{error}: {}", told(&done)));
    (object, String::from_utf8(done.stderr).unwrap())
}

/// A command ends with this code, nothing on standard output, and these parts in its error.
fn fails(job: &Job, arguments: &[&str], code: i32, parts: &[&str]) {
    let done = reprocess(job, arguments);
    assert_eq!(done.status.code(), Some(code), "{arguments:?}: {}", told(&done));
    assert!(done.stdout.is_empty(), "{arguments:?}: {}", told(&done));
    let error = String::from_utf8(done.stderr).unwrap();
    for part in parts {
        assert!(error.contains(part), "{arguments:?}: no {part:?} in {error}");
    }
}

/// The users of new, gone and changed, and how many are the same.
fn open(object: &Json) -> (Vec<i64>, Vec<i64>, Vec<i64>, i64) {
    let users = |word: &str| -> Vec<i64> {
        let entries = object["open"][word].as_array().unwrap();
        entries.iter().map(|entry| entry["key"]["user_id"].as_i64().unwrap()).collect()
    };
    (users("new"), users("gone"), users("changed"), object["open"]["same"].as_i64().unwrap())
}

fn outsider() -> BaseConsumer {
    ClientConfig::new().set("bootstrap.servers", &Stack::get().bootstrap).create().unwrap()
}

/// Groups and topics with this in their names.
fn names(part: &str) -> (Vec<String>, Vec<String>) {
    let consumer = outsider();
    let groups = consumer.fetch_group_list(None, CALL).unwrap();
    let topics = consumer.fetch_metadata(None, CALL).unwrap();
    let sorted = |names: &mut dyn Iterator<Item = &str>| {
        let mut names: Vec<String> = names.filter(|name| name.contains(part)).map(str::to_owned).collect();
        names.sort();
        names
    };
    let groups = sorted(&mut groups.groups().iter().map(|group| group.name()));
    (groups, sorted(&mut topics.topics().iter().map(|topic| topic.name())))
}

/// Every file below a folder, with its content, except the configuration files of the commands.
fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.insert(path.display().to_string(), Vec::new());
            found.extend(files(&path));
        } else if path.extension().is_none_or(|extension| extension != "toml") {
            found.insert(path.display().to_string(), std::fs::read(&path).unwrap());
        }
    }
    found
}

/// Everything that a command could leave behind.
fn everything(t: &Table, job: &Job) -> impl PartialEq + std::fmt::Debug {
    let part = &t.database.name;
    let episodes: Vec<Record> =
        kafka::records(EPISODES, 0).into_iter().filter(|record| record.key_text().contains(part)).collect();
    (
        (kafka::end_of(&job.alert_topic), kafka::end_of(&job.dead_letter_topic), kafka::end_of(&job.topic)),
        (episodes, names(part), job.committed()),
        t.sql("SELECT a::text FROM tripline.alerts AS a ORDER BY 1"),
        t.sql("SELECT g::text FROM tripline.generations AS g ORDER BY 1"),
        files(&job.checkpoints.with_file_name("")),
    )
}

#[test]
#[ignore = "needs the servers: scripts/test"]
fn a_dry_run_leaves_nothing_and_a_run_for_good_is_gone_on_with() {
    let t = Table::new("reprocess");
    let job = |version: &str| Job { source: "[alerts.postgres]".to_owned(), ..t.job(version) };
    let v3 = job("v3");
    t.insert(&[(1, 101, "3500"), (2, 102, "3500"), (3, 103, "3500"), (4, 104, "2500")]);
    t.wait_in_kafka(4);
    kafka::produce(t.topic(), &[Record { value: Some(b"{".to_vec()), ..Record::default() }]);
    let first = v3.run();
    first.read(5).fired([101, 102, 103]);
    t.sql("UPDATE streaming.transactions SET amount = 3600 WHERE id = 1");
    t.sql("UPDATE streaming.transactions SET amount = 100 WHERE id = 2");
    t.insert(&[(5, 105, "4000")]);
    t.wait_in_kafka(8);
    std::fs::create_dir_all(v3.checkpoints.with_file_name("temporary")).unwrap();

    let before = everything(&t, &v3);
    let (dry, said) = object(&v3, &["--dry-run"]);
    assert_eq!(open(&dry), (vec![105], vec![102], vec![101], 1), "{dry}");
    assert_eq!(
        (&dry["old_group"], &dry["new_group"], &dry["dry_run"]),
        (&json!(v3.group), &json!(t.job("v4").group), &json!(true))
    );
    assert!(dry["old_as_of"].is_string(), "{dry}");
    let counts = &dry["counts"];
    assert_eq!((&counts["read"], &counts["rejected"], &counts["fired"]), (&json!(8), &json!(1), &json!(3)), "{dry}");
    let changed = &dry["open"]["changed"][0];
    assert_eq!((&changed["rule"], &changed["message"]), (&json!("weekly-spend"), &json!("User 101 ($3,600.00)")));
    assert_eq!(changed["old"]["database"], json!({"transactions": 1, "total": "3500.00"}));
    assert_eq!(changed["new"]["database"], json!({"transactions": 1, "total": "3600.00"}));
    assert_eq!((&changed["old"]["alert"], &changed["new"]["alert"]), (&first.alert(101)["id"], &Json::Null));
    assert!(said.contains("nothing was sent") && !said.contains("User 105"), "{said}");
    assert_eq!(everything(&t, &v3), before);

    // Another threshold, which is another version of the rule; to people.
    let lower = Job { sql: RULE.replace("3000", "2000"), ..v3.clone() };
    let (dry, _) = object(&lower, &["--dry-run"]);
    assert_eq!(open(&dry), (vec![104, 105], vec![102], vec![101, 103], 0), "{dry}");
    let done = reprocess(&lower, &["--dry-run", "--to", &format!("{}-other", v3.group)]);
    let shown = told(&done);
    for part in [
        "open       2 new, 1 gone, 2 changed, 0 the same",
        "new      weekly-spend  104  User 104 ($2,500.00)  -",
        "gone     weekly-spend  102  User 102 ($3,500.00)  transactions 1, total 3500.00",
    ] {
        assert!(shown.contains(part), "no {part:?} in {shown}");
    }
    assert_eq!(everything(&t, &v3), before);

    // For good.
    let told_before = kafka::end_of(&v3.alert_topic);
    let (real, said) = object(&v3, &[]);
    let v4 = job("v4");
    assert_eq!(open(&real), (vec![105], vec![102], vec![101], 1), "{real}");
    let alerts: Vec<Json> = kafka::records(&v3.alert_topic, told_before).iter().map(Record::json).collect();
    let id = |user: i64| {
        let found: Vec<&Json> = alerts.iter().filter(|alert| alert["key"]["user_id"] == user).collect();
        assert_eq!((found.len(), &found[0]["group"], &found[0]["status"]), (1, &json!(v4.group), &json!("firing")));
        &found[0]["id"]
    };
    assert_eq!(alerts.len(), 3, "{alerts:?}");
    assert_eq!(
        (&real["open"]["new"][0]["new"]["alert"], &real["open"]["changed"][0]["new"]["alert"]),
        (id(105), id(101))
    );
    assert_ne!(id(103), &first.alert(103)["id"]);
    let rows =
        t.sql(&format!("SELECT key ->> 'user_id' FROM tripline.alerts WHERE \"group\" = '{}' ORDER BY 1", v4.group));
    assert_eq!(rows, [["101"], ["103"], ["105"]]);
    assert!(said.contains("User 105 ($4,000.00)\n"), "alert lines go to standard error: {said}");
    assert!(said.contains(&format!("set kafka.group_id = \"{}\"", v4.group)), "{said}");
    assert_eq!((v4.committed(), v3.committed()), (Some(8), Some(5)));

    // Once.
    let has = ["a checkpoint folder", "committed offsets", EPISODES, "--to GROUP"];
    fails(&v3, &[], 5, &has);
    fails(&v3, &["--dry-run"], 5, &has);
    std::fs::rename(v4.checkpoints.join(&v4.group), v4.checkpoints.join("away")).unwrap();
    fails(&v3, &[], 5, &has[1..]);
    std::fs::rename(v4.checkpoints.join("away"), v4.checkpoints.join(&v4.group)).unwrap();

    t.insert(&[(6, 106, "3500")]);
    t.wait_in_kafka(9);
    v4.run().read(1).fired([106]).resolved([]);
}

#[test]
#[ignore = "needs the servers: scripts/test"]
fn a_group_that_nothing_is_known_of() {
    let t = Table::new("reprocess_unknown");
    let mut job = t.job("v3");
    t.insert(&[(1, 101, "3500"), (2, 102, "100")]);
    t.wait_in_kafka(2);
    let before = names(&t.database.name);
    let (dry, said) = object(&job, &["--dry-run"]);
    assert_eq!(open(&dry), (vec![101], vec![], vec![], 0), "{dry}");
    assert_eq!(dry["old_as_of"], Json::Null);
    assert!(said.contains("has no record of group"), "{said}");
    assert_eq!(names(&t.database.name), before, "a dry run makes no topic and no group");

    fails(&job, &["--to", &job.group.clone()], 2, &["is the group of the configuration"]);
    fails(&job, &["--to", "../x"], 2, &["usable as the name of a folder"]);
    job.group = t.database.name.clone();
    fails(&job, &[], 2, &["does not end in -v and a number", "--to GROUP"]);
}

/// A command that is killed when the test drops it.
struct Running(Child, Box<dyn BufRead>);

impl Running {
    fn start(job: &Job, arguments: &[&str]) -> Self {
        let mut child = command(job, arguments).spawn().unwrap();
        let log = Box::new(BufReader::new(child.stderr.take().unwrap()));
        Self(child, log)
    }

    /// Until a line of the log has all of these.
    fn wait_in_log(&mut self, parts: &[&str]) {
        let mut seen = String::new();
        while self.1.read_line(&mut seen).unwrap() > 0 {
            let line = seen.lines().last().unwrap_or_default();
            if parts.iter().all(|part| line.contains(part)) {
                return;
            }
        }
        panic!("{parts:?} did not come:\n{seen}");
    }

    /// SIGTERM. The exit code, and the rest of the log.
    fn terminate(mut self) -> (Option<i32>, String) {
        let sent = Command::new("sh").arg("-c").arg(format!("kill -TERM {}", self.0.id())).status();
        assert!(sent.unwrap().success());
        let mut log = String::new();
        self.1.read_to_string(&mut log).unwrap();
        (self.0.wait().unwrap().code(), log)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
#[ignore = "needs the servers: scripts/test"]
fn stopped_in_between() {
    const ROWS: i64 = 5_000;
    let t = Table::new("reprocess_stopped");
    let v3 = t.job("v3");
    t.sql(&format!(
        "INSERT INTO streaming.transactions (id, user_id, amount) SELECT n, n, 3500 FROM generate_series(1, {ROWS}) AS n"
    ));
    t.wait_in_kafka(ROWS);
    // A bound that it stops at for ever.
    let bounded = Job { top: "[limits]\nmax_rows = 10".to_owned(), ..v3.clone() };
    let all = format!("all={ROWS}");
    let bar = ["reprocessing", "read=", &all, "percent="];

    let mut dry = Running::start(&bounded, &["--dry-run"]);
    dry.wait_in_log(&["reading pauses"]);
    dry.wait_in_log(&bar);
    let temporary = v3.checkpoints.with_file_name("temporary");
    assert_eq!(std::fs::read_dir(&temporary).unwrap().count(), 1);
    let (code, log) = dry.terminate();
    assert_eq!(code, Some(1), "{log}");
    assert!(log.contains("keeps nothing to go on from"), "{log}");
    assert_eq!(std::fs::read_dir(&temporary).unwrap().count(), 0);
    assert!(files(&v3.checkpoints).is_empty());

    let v4 = t.job("v4");
    let mut real = Running::start(&bounded, &[]);
    real.wait_in_log(&["reading pauses"]);
    real.wait_in_log(&bar);
    let (code, log) = real.terminate();
    assert_eq!(code, Some(1), "{log}");
    assert!(log.contains(&format!("group {} has begun: `tripline run`", v4.group)), "{log}");
    let next = v4.committed().unwrap();
    assert!((1..ROWS).contains(&next), "{next}");
    fails(&v3, &[], 5, &["has been used before"]);
    // What waited for its epoch was told before the end, or is told now.
    let told = i64::try_from(kafka::records(&v3.alert_topic, 0).len()).unwrap();
    let rest = v4.run();
    rest.read(u64::try_from(ROWS - next).unwrap());
    assert_eq!(i64::try_from(rest.alerts.len()).unwrap(), ROWS - told);
}
