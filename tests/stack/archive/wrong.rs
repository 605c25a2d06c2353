//! Invalid setups: one clear message, its exit code, and nothing written.

use super::books::parquet;
use crate::harness::orders::{Archive, ORDERS, Orders};
use crate::harness::{Record, kafka};

/// One message, which has these parts, nothing on standard output, no file.
#[track_caller]
fn check(what: &str, job: &Archive, code: i32, parts: &[&str]) {
    let done = job.try_run();
    assert!(done.out.is_empty(), "{what}: {done}");
    assert_eq!(done.log.iter().filter(|line| line.starts_with("error: ")).count(), 1, "{what}: {done}");
    assert!(!done.to_string().contains("RUST_BACKTRACE"), "{what}: {done}");
    eprintln!("{what}: {}", done.log.last().unwrap());
    done.refused(code, parts);
    assert!(parquet(&job.output).is_empty(), "{what}");
}

#[test]
#[ignore = "needs the servers: scripts/test"]
fn settings() {
    let t = Orders::new("wrong");
    t.insert(1..=3);
    t.wait_in_kafka(3);
    let job = t.job("a");
    let by = |column| Archive { partition_by: Some(column), ..job.clone() };
    let more = |text: &str| Archive { archive: text.to_owned(), ..job.clone() };
    check("no column", &by("created"), 2, &["archive.partition_by", "created"]);
    check("no time", &by("customer_name"), 2, &["archive.partition_by", "customer_name", "text"]);
    check("a number", &by("quantity"), 2, &["archive.partition_by", "quantity"]);
    check("unknown key", &more("max_offsets = 5"), 2, &["archive", "max_offsets"]);
    check("no limit", &Archive { limit: 0, ..job.clone() }, 2, &["max_offsets_per_trigger"]);
    check("unknown start", &more("starting_offsets = \"newest\""), 2, &["starting_offsets", "earliest", "latest"]);
    check(
        "unknown way",
        &more("when_group_is_missing = \"restart\""),
        2,
        &["when_group_is_missing", "resume", "reprocess"],
    );
    let inside = Archive { output: job.checkpoints.join("output"), ..job.clone() };
    check("one in the other", &inside, 2, &["archive.output_path", "checkpoint_dir"]);
    check(
        "no topic",
        &Archive { topic: "no.such.topic".to_owned(), ..job.clone() },
        2,
        &["no.such.topic", "archive.topic"],
    );
    check("no topic's name", &Archive { topic: "a b".to_owned(), ..job.clone() }, 2, &["archive.topic"]);
    check("no database", &Archive { url: None, ..job.clone() }, 2, &["postgres", "schema"]);
    let url = Some("postgres://bob:hunter2@127.0.0.1:1/shop".to_owned());
    check(
        "database away",
        &Archive { url, ..job.clone() },
        3,
        &["Postgres", "bob:***@127.0.0.1:1/shop", "postgres.url"],
    );
    // Once all is right it works.
    job.run();
}

#[test]
#[ignore = "needs the servers: scripts/test"]
fn folders() {
    let t = Orders::new("wrong_folders");
    t.insert(1..=3);
    t.wait_in_kafka(3);
    let job = t.job("a");
    std::fs::create_dir_all(&job.folder).unwrap();
    let file = job.folder.join("file");
    std::fs::write(&file, "a file").unwrap();
    let here = |output: &str| Archive { output: output.into(), ..job.clone() };
    check("a file", &Archive { output: file.clone(), ..job.clone() }, 2, &[file.to_str().unwrap()]);
    check("below a file", &Archive { output: file.join("x"), ..job.clone() }, 2, &[file.to_str().unwrap()]);
    check("not writable", &here("/proc/tripline"), 2, &["/proc/tripline"]);
    check(
        "checkpoints below a file",
        &Archive { checkpoints: file.join("x"), ..job.clone() },
        2,
        &[file.to_str().unwrap()],
    );

    // Somebody else's files.
    let foreign = job.folder.join("foreign");
    std::fs::create_dir_all(foreign.join("date=2026-03-01")).unwrap();
    std::fs::write(foreign.join("date=2026-03-01/part-00000-1.snappy.parquet.crc"), "x").unwrap();
    check(
        "foreign",
        &Archive { output: foreign.clone(), ..job.clone() },
        5,
        &[foreign.to_str().unwrap(), "output_path"],
    );
    assert_eq!(std::fs::read_dir(&foreign).unwrap().count(), 1, "nothing is left there");
    // An empty folder is as good as none.
    let empty = Archive { output: job.folder.join("empty"), ..job };
    std::fs::create_dir_all(&empty.output).unwrap();
    empty.run();
    super::books::check_now(&empty);
}

/// A topic of which no record says what table it is of: it is not waited for.
#[test]
#[ignore = "needs the servers: scripts/test"]
fn a_topic_of_another_kind() {
    let t = Orders::new("wrong_kind");
    let topic = format!("{}.kind", t.topic());
    t.cluster.create_topic(&topic, 1);
    let value = Some(br#"{"id":1}"#.to_vec());
    for _ in 0..4 {
        kafka::produce(&topic, &vec![Record { value: value.clone(), ..Record::default() }; 25_000]);
    }
    let job = Archive { topic: topic.clone(), ..t.job("a") };
    check("none of many", &job, 2, &[&topic, "none of its first 100000 records names its table"]);
}

/// With the schema in the records the column can be judged by nothing else.
#[test]
#[ignore = "needs the servers: scripts/test"]
fn the_column_by_the_schema_of_the_records() {
    let schemas = [("key.converter.schemas.enable", "true"), ("value.converter.schemas.enable", "true")];
    let t = Orders::of("wrong_schema", ORDERS, 1, &schemas);
    t.insert(1..=3);
    t.wait_in_kafka(3);
    let job = Archive { url: None, ..t.job("a") };
    for column in ["created", "item", "quantity"] {
        let by = Archive { partition_by: Some(column), ..job.clone() };
        check(column, &by, 2, &["archive.partition_by", column]);
    }
    job.run();
    super::books::check_now(&job);
}
