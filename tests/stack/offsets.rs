//! `tripline offsets`: both layers of progress as they are, and the group moved by hand.

use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, SystemTime};

use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::{Offset, TopicPartitionList};
use serde_json::{Value as Json, json};

use crate::harness::{Job, Record, Stack, Table, kafka, wait_for};

/// `tripline offsets` with more arguments.
fn offsets(job: &Job, arguments: &[&str]) -> Output {
    job.command(&[&["offsets"], arguments].concat()).output().unwrap()
}

fn told(done: &Output) -> String {
    let (out, err) = (String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    format!("{:?}\n{out}\n{err}", done.status.code())
}

/// The JSON object of a command that ends well.
fn object(job: &Job, arguments: &[&str]) -> Json {
    let done = offsets(job, &[arguments, &["--output", "json"]].concat());
    assert_eq!(done.status.code(), Some(0), "{arguments:?}: {}", told(&done));
    serde_json::from_slice(&done.stdout).unwrap_or_else(|error| panic!("{error}: {}", told(&done)))
}

fn view(job: &Job) -> Json {
    object(job, &[])
}

/// A command ends with this code, nothing on standard output, and these parts in its error.
fn fails(job: &Job, arguments: &[&str], code: i32, parts: &[&str]) {
    let done = offsets(job, arguments);
    assert_eq!(done.status.code(), Some(code), "{arguments:?}: {}", told(&done));
    assert!(done.stdout.is_empty(), "{arguments:?}: {}", told(&done));
    let error = String::from_utf8(done.stderr).unwrap();
    for part in parts {
        assert!(error.contains(part), "{arguments:?}: no {part:?} in {error}");
    }
}

/// A stopped member can be the group's for a while yet.
fn wait_until_free(job: &Job) {
    wait_for("the group has no member", || (view(job)["members"] == json!([])).then_some(()));
}

/// Moves the group, which must go well.
fn reset(job: &Job, arguments: &[&str]) -> Json {
    wait_until_free(job);
    object(job, &[&["reset", "--execute"], arguments].concat())
}

/// Runs one of Kafka's own tools. Returns its output.
fn tool(arguments: &[&str]) -> String {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/stack");
    let done = Command::new(script).arg("tool").args(arguments).output().unwrap();
    assert!(done.status.success(), "{arguments:?}: {}", told(&done));
    String::from_utf8(done.stdout).unwrap()
}

fn groups_tool(job: &Job, arguments: &[&str]) -> String {
    const TOOL: &str = "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand";
    tool(&[&[TOOL, "--bootstrap-server", &job.bootstrap, "--group", &job.group], arguments].concat())
}

#[test]
#[ignore = "needs the servers: scripts/test"]
fn the_view_shows_both_layers() {
    let t = Table::new("offsets_view");
    let mut job = t.job("v1");
    t.insert(&[(1, 101, "2000"), (2, 102, "100"), (3, 102, "100")]);
    t.wait_in_kafka(3);
    let new = view(&job);
    assert_eq!(new["relation"], "nothing-yet", "{new}");
    assert_eq!(
        (&new["next_start"], &new["state"], &new["checkpoint"]),
        (&json!("new-lineage"), &json!(null), &json!(null))
    );
    assert_eq!((&new["partitions"][0]["group"], &new["partitions"][0]["lag"]), (&json!(null), &json!(3)));

    job.run().read(3);
    wait_until_free(&job);
    // For people: nothing of the client's own stands between the lines.
    let shown = offsets(&job, &[]);
    assert!(shown.status.success() && shown.stderr.is_empty(), "{}", told(&shown));
    let read = view(&job);
    assert_eq!((&read["relation"], &read["next_start"]), (&json!("agree"), &json!("resume")), "{read}");
    assert_eq!((&read["group"], &read["topic"]), (&json!(job.group), &json!(job.topic)));
    let checkpoint = &read["checkpoint"];
    let named = format!("{}:{}", checkpoint["lineage"].as_str().unwrap(), checkpoint["epoch"]);
    assert!(read["metadata"].as_str().unwrap().starts_with(&named), "{read}");
    assert!(checkpoint["age_seconds"].as_i64().unwrap() >= 0, "{read}");
    let partition = |oldest, next, end, lag| {
        json!({"partition": 0, "oldest": oldest, "checkpoint": next, "group": next, "metadata": read["metadata"],
               "end": end, "next": next, "lag": lag, "lag_seconds": 0})
    };
    assert_eq!(read["partitions"], json!([partition(0, 3, 3, 0)]));

    // It takes no database; only Kafka and the folder are looked at.
    job.url = "postgres://nobody@127.0.0.1:1/nowhere".to_owned();
    t.insert(&[(4, 101, "10"), (5, 101, "10")]);
    t.wait_in_kafka(5);
    let behind = view(&job);
    let age = behind["partitions"][0]["lag_seconds"].as_i64().unwrap();
    assert!((0..60).contains(&age), "{behind}");
    let mut want = partition(0, 3, 5, 2);
    want["lag_seconds"] = age.into();
    assert_eq!(behind["partitions"], json!([want]));
    let done = offsets(&job, &[]);
    let text = told(&done);
    for part in
        ["next start  resumes: checkpoint and group agree", "LAG-SECONDS", &format!("epoch {}", checkpoint["epoch"])]
    {
        assert!(text.contains(part), "no {part:?} in {text}");
    }
    assert!(done.stderr.is_empty(), "{text}");

    // While a run is at work, it is named.
    job.url = t.job("v1").url;
    let mut run = job.start();
    run.wait_committed(5);
    let active = wait_for("the layers agree", || Some(view(&job)).filter(|view| view["relation"] == "agree"));
    assert_eq!(active["state"], "Stable", "{active}");
    assert_eq!(active["members"][0]["client"], "tripline", "{active}");
    assert_eq!(active["partitions"][0]["lag"], 0);
    assert_eq!(run.terminate().code, Some(0));
}

#[test]
#[ignore = "needs the servers: scripts/test"]
fn layers_that_differ_are_told_apart() {
    let t = Table::new("offsets_layers");
    let job = t.job("v1");
    t.insert(&[(1, 101, "2000"), (2, 102, "100"), (3, 102, "100")]);
    t.wait_in_kafka(3);
    job.run().read(3);
    wait_until_free(&job);
    let check = |layers: &str, start: &str, next: i64| {
        let view = view(&job);
        assert_eq!((&view["relation"], &view["next_start"]), (&json!(layers), &json!(start)), "{view}");
        assert_eq!(view["partitions"][0]["next"], next, "{view}");
    };
    check("agree", "resume", 3);
    let folder = job.checkpoints.join(&job.group);
    let away = job.checkpoints.join("away");
    std::fs::rename(&folder, &away).unwrap();
    check("checkpoint-missing", "rebuild", 3);
    std::fs::rename(&away, &folder).unwrap();
    groups_tool(&job, &["--reset-offsets", "--to-offset", "1", "--topic", &job.topic, "--execute"]);
    check("moved-by-hand", "new-lineage", 1);
    groups_tool(&job, &["--delete"]);
    check("group-missing", "new-lineage", 0);
}

#[test]
#[ignore = "needs the servers: scripts/test"]
fn every_target_is_planned_carried_out_and_read_from() {
    let t = Table::new("offsets_reset");
    let job = t.job("v1");
    t.insert(&[(1, 101, "3500"), (2, 102, "1"), (3, 102, "1")]);
    t.wait_in_kafka(3);
    let between = SystemTime::now() + Duration::from_millis(1);
    wait_for("the next millisecond", || (SystemTime::now() > between).then_some(()));
    t.insert(&[(4, 102, "1"), (5, 102, "1")]);
    t.wait_in_kafka(5);
    job.run().read(5).fired([101]);
    let micros = between.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_micros();
    let between = tripline::model::Timestamp(i64::try_from(micros).unwrap()).rfc3339();
    let csv = job.checkpoints.join("four.csv");
    std::fs::write(&csv, format!("{},0,4\n", job.topic)).unwrap();

    let cases: [(&[&str], i64, bool); 11] = [
        (&["--to-earliest"], 0, false),
        (&["--to-latest"], 5, false),
        (&["--to-offset", "2"], 2, false),
        (&["--to-offset", "99"], 5, true),
        (&["--to-datetime", &between], 3, false),
        (&["--to-datetime", "2999-01-01T00:00:00Z"], 5, false),
        (&["--by-duration", "24h"], 0, false),
        (&["--by-duration", "PT0S"], 5, false),
        (&["--shift-by", "-2"], 3, false),
        (&["--shift-by", "-7", "--partition", "0"], 0, true),
        (&["--from-file", csv.to_str().unwrap()], 4, false),
    ];
    let mut lineage = view(&job)["checkpoint"]["lineage"].clone();
    for (arguments, to, clamped) in cases {
        let plan = object(&job, &[&["reset"], arguments].concat());
        let partition = &plan["partitions"][0];
        assert_eq!((&plan["executed"], &plan["undo"]), (&json!(false), &json!(null)), "{arguments:?}: {plan}");
        assert_eq!((&partition["from"], &partition["to"]), (&json!(5), &json!(to)), "{arguments:?}: {plan}");
        assert_eq!((&partition["read_again"], &partition["skipped"]), (&json!(5 - to), &json!(0)), "{arguments:?}");
        assert_eq!(partition["note"].is_string(), clamped, "{arguments:?}: {plan}");
        assert_eq!(job.committed(), Some(5), "{arguments:?}: nothing is done without --execute");

        let done = reset(&job, arguments);
        assert_eq!((&done["executed"], &done["partitions"]), (&json!(true), &plan["partitions"]), "{arguments:?}");
        assert_eq!(job.committed(), Some(to), "{arguments:?}");
        assert_eq!(view(&job)["relation"], "moved-by-hand", "{arguments:?}");
        let kept = std::fs::read_to_string(done["saved_in"].as_str().unwrap()).unwrap();
        assert_eq!(kept, format!("{},0,5\n", job.topic), "{arguments:?}");

        // The next run reads just those, in a new lineage, and tells again what still holds.
        job.run().read(u64::try_from(5 - to).unwrap()).fired([101]);
        let now = view(&job);
        assert_eq!(now["relation"], "agree", "{arguments:?}: {now}");
        assert_ne!(now["checkpoint"]["lineage"], lineage, "{arguments:?}");
        lineage = now["checkpoint"]["lineage"].clone();
    }
    job.run().read(0).quiet();
}

#[test]
#[ignore = "needs the servers: scripts/test"]
fn refused_beside_a_run_or_on_its_folder() {
    let t = Table::new("offsets_refused");
    let job = t.job("v1");
    t.insert(&[(1, 101, "3500")]);
    t.wait_in_kafka(1);
    let mut run = job.start();
    run.wait_for_line("User 101 ($3,500.00)");
    run.wait_committed(1);
    let execute = &["reset", "--to-earliest", "--execute"];
    fails(&job, execute, 5, &["has an active member: tripline at 127.0.0.1", "stop it first", "10000 ms"]);
    // The plan may be looked at.
    let done = offsets(&job, &["reset", "--to-earliest"]);
    assert_eq!(done.status.code(), Some(0), "{}", told(&done));
    assert!(told(&done).contains("would be refused now"), "{}", told(&done));
    // The run has not noticed.
    t.insert(&[(2, 102, "3600")]);
    run.wait_for_line("User 102 ($3,600.00)");
    run.wait_committed(2);
    assert_eq!(run.terminate().code, Some(0));
    wait_until_free(&job);

    let folder = job.checkpoints.join(&job.group);
    let lock = std::fs::File::options().write(true).open(folder.join("lock")).unwrap();
    lock.try_lock().unwrap();
    fails(&job, execute, 5, &[folder.to_str().unwrap(), "in use by another process"]);
    assert_eq!(job.committed(), Some(2));
    drop(lock);
    reset(&job, &["--to-earliest"]);
    assert_eq!(job.committed(), Some(0));
    job.run().read(2).fired([101, 102]);
}

#[test]
#[ignore = "needs the servers: scripts/test"]
fn undone_by_the_command_that_is_printed() {
    let t = Table::new("offsets_undo");
    let job = t.job("v1");
    t.insert(&[(1, 101, "1"), (2, 101, "1"), (3, 101, "1")]);
    t.wait_in_kafka(3);
    job.run().read(3);
    wait_until_free(&job);
    let done = offsets(&job, &["reset", "--to-offset", "1", "--execute"]);
    assert_eq!(done.status.code(), Some(0), "{}", told(&done));
    assert_eq!(job.committed(), Some(1));
    let told = String::from_utf8(done.stderr).unwrap();
    let undo = told.lines().map(str::trim).find(|line| line.starts_with("tripline offsets")).unwrap();
    let undo = undo.replacen("tripline", env!("CARGO_BIN_EXE_tripline"), 1);
    let undone = Command::new("sh").arg("-c").arg(&undo).current_dir(&job.checkpoints).output().unwrap();
    assert!(undone.status.success(), "{undo}: {}", self::told(&undone));
    assert_eq!(job.committed(), Some(3));

    // Kept where one wants it, never over another file.
    let file = job.checkpoints.join("mine.csv");
    let name = file.to_str().unwrap();
    assert_eq!(reset(&job, &["--to-earliest", "--export", name])["saved_in"], name);
    assert_eq!(std::fs::read_to_string(&file).unwrap(), format!("{},0,3\n", job.topic));
    fails(&job, &["reset", "--to-latest", "--export", name, "--execute"], 2, &["mine.csv exists already"]);
    assert_eq!(job.committed(), Some(0));
}

#[test]
#[ignore = "needs the servers: scripts/test"]
fn kafkas_own_tool_reads_and_writes_the_same_csv() {
    let t = Table::new("offsets_csv");
    let job = t.job("v1");
    t.insert(&[(1, 101, "1"), (2, 101, "1"), (3, 101, "1")]);
    t.wait_in_kafka(3);
    job.run().read(3);
    wait_until_free(&job);
    let (ours, theirs) = (job.checkpoints.join("ours.csv"), job.checkpoints.join("theirs.csv"));
    let exported = offsets(&job, &["export"]);
    assert_eq!(String::from_utf8(exported.stdout).unwrap(), format!("{},0,3\n", job.topic));
    assert_eq!(offsets(&job, &["export", ours.to_str().unwrap()]).status.code(), Some(0));

    // Theirs for us: what it would set, as it prints it.
    let text =
        groups_tool(&job, &["--reset-offsets", "--to-offset", "2", "--topic", &job.topic, "--dry-run", "--export"]);
    std::fs::write(&theirs, &text).unwrap();
    let plan = reset(&job, &["--from-file", theirs.to_str().unwrap()]);
    assert_eq!(plan["partitions"][0]["to"], 2, "{text:?}: {plan}");
    assert_eq!(job.committed(), Some(2));
    // Ours for them.
    groups_tool(&job, &["--reset-offsets", "--from-file", ours.to_str().unwrap(), "--execute"]);
    assert_eq!(job.committed(), Some(3));
}

/// The state after a crash in the middle of a transactional commit: readers see the group's earlier offsets, the group
/// can be moved, and the end of the transaction does not move it back.
#[test]
#[ignore = "needs the servers: scripts/test"]
fn an_open_transaction_is_in_nobodys_way() {
    const CALL: Duration = Duration::from_secs(10);
    let folder = tempfile::tempdir().unwrap();
    let name = format!("t_offsets_transaction_{}", std::process::id());
    let job = Job::new(folder.path(), "postgres", &name, &format!("{name}.one"));
    let record = Record { value: Some(b"x".to_vec()), ..Record::default() };
    kafka::produce(&job.topic, &vec![record; 5]);
    reset(&job, &["--to-offset", "1"]);

    let client = |setting: &str, value: &str| {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &job.bootstrap).set(setting, value);
        config
    };
    let producer: BaseProducer = client("transactional.id", &name).create().unwrap();
    let outsider: BaseConsumer = client("group.id", &job.group).create().unwrap();
    producer.init_transactions(CALL).unwrap();
    producer.begin_transaction().unwrap();
    let mut moved = TopicPartitionList::new();
    moved.add_partition_offset(&job.topic, 0, Offset::Offset(4)).unwrap();
    producer.send_offsets_to_transaction(&moved, &outsider.group_metadata().unwrap(), CALL).unwrap();

    assert_eq!(view(&job)["partitions"][0]["group"], 1);
    let done = reset(&job, &["--shift-by", "1"]);
    assert_eq!((&done["partitions"][0]["from"], &done["partitions"][0]["to"]), (&json!(1), &json!(2)), "{done}");
    producer.commit_transaction(CALL).unwrap();
    assert_eq!(view(&job)["partitions"][0]["group"], 2);
}

/// A topic of two partitions. The group has an offset in one of them.
#[test]
#[ignore = "needs the servers: scripts/test"]
fn partitions_that_are_not_named_stay() {
    let folder = tempfile::tempdir().unwrap();
    let name = format!("t_offsets_partitions_{}", std::process::id());
    let job = Job::new(folder.path(), "postgres", &name, &format!("{name}.two"));
    let servers = &Stack::get().bootstrap;
    let create = ["--create", "--topic", &job.topic, "--partitions", "2"];
    tool(&[&["org.apache.kafka.tools.TopicCommand", "--bootstrap-server", servers][..], &create].concat());
    let producer: BaseProducer = ClientConfig::new().set("bootstrap.servers", servers).create().unwrap();
    for partition in [0, 1, 1] {
        let record: BaseRecord<'_, (), str> = BaseRecord::to(&job.topic).partition(partition).payload("x");
        producer.send(record).map_err(|(error, _)| error).unwrap();
    }
    producer.flush(Duration::from_secs(10)).unwrap();

    fails(&job, &["reset", "--shift-by", "1"], 2, &["partition 0 has no offset"]);
    fails(&job, &["reset", "--to-earliest", "--partition", "2"], 2, &["no partition 2; the topic has 0, 1"]);
    let first = reset(&job, &["--to-latest", "--partition", "1"]);
    // Nothing was there to be kept.
    assert_eq!((&first["saved_in"], &first["undo"]), (&json!(null), &json!(null)), "{first}");
    let nexts = |view: &Json| [0, 1].map(|partition: usize| view["partitions"][partition]["group"].clone());
    assert_eq!(nexts(&view(&job)), [json!(null), json!(2)]);
    let exported = offsets(&job, &["export"]);
    let text = format!("{0},0,0\n{0},1,2\n", job.topic);
    assert_eq!(String::from_utf8_lossy(&exported.stdout), text, "{}", told(&exported));
    assert!(told(&exported).contains("the group has no offset in this partition"), "{}", told(&exported));

    let second = offsets(&job, &["reset", "--to-latest", "--partition", "0", "--execute"]);
    assert!(told(&second).contains("also in the partitions that keep their offsets"), "{}", told(&second));
    assert_eq!(nexts(&view(&job)), [json!(1), json!(2)]);
    reset(&job, &["--by-duration", "PT1H", "--partition", "1"]);
    assert_eq!(nexts(&view(&job)), [json!(1), json!(0)]);
    let both = view(&job);
    assert_eq!(both["partitions"][1]["lag"], 2, "{both}");
    assert_eq!((&both["partitions"][0]["lag"], &both["partitions"][0]["lag_seconds"]), (&json!(0), &json!(0)));
    assert!(both["partitions"][1]["lag_seconds"].is_i64(), "{both}");
}

#[test]
#[ignore = "needs the servers: scripts/test"]
fn what_is_wrong_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let name = format!("t_offsets_wrong_{}", std::process::id());
    let job = Job::new(folder.path(), "postgres", &name, "no.such.topic");
    fails(&job, &[], 2, &["topic no.such.topic does not exist", "source.topic"]);
    let nowhere = Job { bootstrap: "127.0.0.1:1".to_owned(), top: "startup_wait_ms = 1000".to_owned(), ..job.clone() };
    fails(&nowhere, &[], 3, &["127.0.0.1:1 (kafka.bootstrap_servers)", "could not be reached"]);
    fails(&nowhere, &["reset", "--to-latest", "--execute"], 3, &["could not be reached"]);
    fails(&nowhere, &["export"], 3, &["could not be reached"]);
    let topic = format!("{name}.one");
    kafka::produce(&topic, &[Record { value: Some(b"x".to_vec()), ..Record::default() }]);
    let job = Job { topic: topic.clone(), ..job };
    let csv = job.checkpoints.join("wrong.csv");
    let cases = [("elsewhere,0,5\n", "topic is"), (&format!("{topic},5\n"), "line 1"), ("", "names no partition")];
    for (text, part) in cases {
        std::fs::write(&csv, text).unwrap();
        fails(&job, &["reset", "--from-file", csv.to_str().unwrap()], 2, &[part, "wrong.csv"]);
    }
    fails(&job, &["reset", "--from-file", "none.csv"], 2, &["none.csv"]);
    fails(&job, &["reset"], 2, &["--to-earliest"]);
    fails(&job, &["reset", "--to-earliest", "--to-latest"], 2, &["cannot be used with"]);
}
