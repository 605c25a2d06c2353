//! Epochs: how large, and what becomes of one that was interrupted when the settings are others afterwards. It is finished as
//! it was planned.

use std::collections::BTreeMap;

use super::books::{By, Topic, at_the_end, check_now, committed, newest_epoch, next_offsets, parquet, same_rows};
use crate::harness::orders::{Archive, Orders};
use crate::harness::readers::{duckdb, files};

/// The ranges that the files are named after, each with its rows.
fn epochs(job: &Archive) -> Vec<(i64, i64, u64)> {
    let sql = format!("SELECT parse_filename(filename), count(*) FROM {} GROUP BY filename", files(&job.output));
    let mut rows: BTreeMap<(i64, i64), u64> = BTreeMap::new();
    for row in duckdb(&sql) {
        let parts: Vec<&str> = row[0].split('-').collect();
        *rows.entry((parts[2].parse().unwrap(), parts[3].parse().unwrap())).or_default() +=
            row[1].parse::<u64>().unwrap();
    }
    rows.into_iter().map(|((first, last), rows)| (first, last, rows)).collect()
}

#[test]
#[ignore = "needs the servers: scripts/test"]
fn another_limit_between_runs_and_in_an_interrupted_epoch() {
    let t = Orders::new("limit");
    let many = t.job("a");
    let few = Archive { limit: 7, ..many.clone() };
    t.insert(1..=30);
    t.wait_in_kafka(30);
    many.run();
    check_now(&many);
    assert_eq!(epochs(&many), [(0, 29, 30)]);

    t.insert(31..=50);
    t.wait_in_kafka(50);
    few.run();
    check_now(&few);
    assert_eq!(epochs(&few)[1..], [(30, 36, 7), (37, 43, 7), (44, 49, 6)]);

    // Logged by many, finished under few.
    t.insert(51..=80);
    t.wait_in_kafka(80);
    many.with_fault("archive.logged").killed();
    let (number, logged) = newest_epoch(&many);
    assert_eq!(next_offsets(&logged, t.topic()), [80]);
    t.insert(81..=90);
    t.wait_in_kafka(90);
    few.run();
    check_now(&few);
    assert_eq!(epochs(&few)[4..], [(50, 79, 30), (80, 86, 7), (87, 89, 3)]);
    assert!(newest_epoch(&few).0 > number);

    // Logged by few, finished under many; and some of its files are there already.
    t.insert(91..=110);
    t.wait_in_kafka(110);
    few.with_fault("archive.file.linked:2").killed();
    many.run();
    check_now(&many);
    assert_eq!(epochs(&many)[7..], [(90, 96, 7), (97, 109, 13)]);
}

/// The rows of the interrupted epoch are where they would have been. Later ones are placed by the new setting.
#[test]
#[ignore = "needs the servers: scripts/test"]
fn another_column_for_the_folders_in_an_interrupted_epoch() {
    let t = Orders::new("partition_by");
    let by_column = t.job("a");
    let by_commit = Archive { partition_by: None, ..by_column.clone() };
    t.insert(1..=20);
    t.wait_in_kafka(20);
    // One of three files is there.
    by_column.with_fault("archive.file.linked").killed();
    by_commit.run();
    let topic = Topic::of(t.topic());
    same_rows(&by_commit, &topic.changes("orders"), By::CreatedAt);
    at_the_end(&by_commit, &topic);
    t.insert(21..=25);
    t.wait_in_kafka(25);
    by_commit.run();
    let topic = Topic::of(t.topic());
    super::books::same_places(&by_commit, topic.changes("orders").keys());
    let today = t.sql("SELECT now()::date")[0][0].clone();
    let sql = format!("SELECT DISTINCT date FROM {} WHERE \"offset\" >= 20", files(&by_commit.output));
    assert_eq!(duckdb(&sql), [[today]]);

    // The other way round, with a limit that cuts elsewhere.
    t.insert(26..=40);
    t.wait_in_kafka(40);
    by_commit.with_fault("archive.logged").killed();
    let back = Archive { limit: 4, ..by_column };
    back.run();
    t.insert(41..=44);
    t.wait_in_kafka(44);
    back.run();
    super::books::same_places(&back, Topic::of(t.topic()).changes("orders").keys());
    let sql = format!(
        "SELECT \"offset\" FROM {} WHERE date::text LIKE '2026-03-%' AND \"offset\" >= 20 ORDER BY 1",
        files(&back.output)
    );
    assert_eq!(duckdb(&sql), [["40"], ["41"], ["42"], ["43"]]);
}

/// Records that were removed before they were archived are not passed over in silence.
#[test]
#[ignore = "needs the servers: scripts/test"]
fn retention_was_faster() {
    let t = Orders::new("retention");
    let job = t.job("a");
    t.insert(1..=10);
    t.wait_in_kafka(10);
    job.run();
    t.insert(11..=30);
    t.wait_in_kafka(30);
    job.with_fault("archive.logged").killed();
    t.cluster.truncate(t.topic(), 0, 20);
    let before = parquet(&job.output);
    for _ in 0..2 {
        let done = job.try_run().refused(5, &[t.topic(), "10", "20"]);
        assert!(!done.log.is_empty());
        assert_eq!(parquet(&job.output), before, "no thin file");
    }
    // The same without an epoch under way.
    let late = t.job("late");
    t.cluster.set_by_hand(&late.group, t.topic(), &[(0, 5)]);
    late.try_run().refused(5, &[t.topic(), "5", "20"]);
    assert!(parquet(&late.output).is_empty());
    // A new one takes what there is.
    let new = t.job("new");
    new.run();
    check_now(&new);
}

/// The start offsets: once by the setting, and by the group's offsets if another job used it before.
#[test]
#[ignore = "needs the servers: scripts/test"]
fn starting_offsets() {
    let t = Orders::new("starting");
    t.insert(1..=10);
    t.wait_in_kafka(10);
    let latest = Archive { archive: "starting_offsets = \"latest\"".to_owned(), ..t.job("latest") };
    let taken = Archive { archive: "starting_offsets = \"latest\"".to_owned(), ..t.job("taken") };
    t.cluster.set_by_hand(&taken.group, t.topic(), &[(0, 4)]);
    let lag = |job: &Archive| {
        let shown = job.command(&["status", "--output", "json"]).output().unwrap();
        serde_json::from_slice::<serde_json::Value>(&shown.stdout).unwrap()["lag"].clone()
    };
    assert_eq!([lag(&latest), lag(&taken), lag(&t.job("earliest"))], [0, 6, 10]);
    assert_eq!(latest.run().count("written"), 0);
    assert_eq!(taken.run().count("written"), 6);
    t.insert(11..=15);
    t.wait_in_kafka(15);
    assert_eq!(Archive { archive: String::new(), ..latest.clone() }.run().count("written"), 5);
    assert_eq!(taken.run().count("written"), 5);
    let mut changes = Topic::of(t.topic()).changes("orders");
    for (job, from) in [(&taken, 4), (&latest, 10)] {
        changes.retain(|(_, offset), _| *offset >= from);
        same_rows(job, &changes, By::CreatedAt);
        assert_eq!(committed(job), [(0, 15)]);
    }
}

/// How far it is, while it catches up: a bar on a terminal, lines of the log elsewhere.
#[test]
#[ignore = "needs the servers: scripts/test"]
fn the_progress_is_shown() {
    let t = Orders::new("progress");
    t.sql(
        "INSERT INTO public.orders (order_id, created_at) SELECT n, '2026-03-01Z' FROM generate_series(1, 2000) AS n",
    );
    t.wait_in_kafka(2_000);
    let job = Archive { limit: 2, ..t.job("a") };
    let command = job.command(&["--until-end"]);
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let words: Vec<String> = words.map(|word| format!("'{}'", word.to_str().unwrap())).collect();
    // A terminal of its own.
    let drawn = std::process::Command::new("script")
        .args(["--quiet", "--return", "--command", &words.join(" "), "/dev/null"])
        .env("NO_COLOR", "1")
        .env("TERM", "xterm")
        .stdin(std::process::Stdio::null())
        .output()
        .unwrap();
    let drawn = String::from_utf8(drawn.stdout).unwrap();
    let bars: Vec<&str> = drawn.split('\r').filter(|part| part.contains(" of 2,000 records")).collect();
    assert!(bars.len() > 3 && bars.iter().any(|bar| bar.contains("##")) && bars[0].contains(" %"), "{drawn}");
    assert!(drawn.contains("\"written\":2000"), "{drawn}");
    check_now(&job);

    // A line each five seconds. However fast it is, it stands still for so long.
    let slow = Archive { limit: 1, ..t.job("b") };
    let mut run = slow.start();
    run.wait("it starts", |run| run.log().iter().any(|line| line.contains("starting")));
    run.signal("STOP");
    std::thread::sleep(std::time::Duration::from_secs(6));
    run.signal("CONT");
    run.wait("the log tells how far it is", |run| {
        run.log().iter().any(|line| line.contains("archiving") && line.contains("all=2000"))
    });
    run.terminate();
}
