//! Records of any size and content: none of them stops everybody.

use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

use crate::harness::{Job, Record, Stack, Table, kafka};
use crate::recovery::cluster::Cluster;

/// By a text, of which Postgres takes any length.
const BY_MERCHANT: &str = "SELECT merchant, COUNT(*) AS transactions, SUM(ABS(amount)) AS total
FROM streaming.transactions
WHERE timestamp >= NOW() - INTERVAL '7 days'
GROUP BY merchant
HAVING SUM(ABS(amount)) > 3000
";

fn job(t: &Table) -> Job {
    let job = t.job("v1");
    Job { sql: BY_MERCHANT.to_owned(), ..job }
}

/// A key of 600 KB fires, is remembered by Kafka alone, and is resolved. What a key holds does nothing to a terminal.
#[test]
#[ignore = "needs the servers: scripts/test"]
fn a_key_of_any_length_has_an_alert_and_an_episode() {
    let t = Table::new("large_key");
    t.sql(
        "INSERT INTO streaming.transactions (id, user_id, amount, merchant)
         VALUES (1, 1, 5000, repeat('lång \"', 86000)), (2, 1, 5000, E'\\x1b]0;owned\\x07'), (3, 1, 4000, 'plain')",
    );
    t.wait_in_kafka(3);
    let mut job = job(&t);
    job.message = "At {merchant} (${total})".to_owned();
    let run = job.run();
    assert_eq!((run.count("fired"), run.count("rejected")), (3, 0), "{run}");
    assert!(run.out.contains(&"At \\u{1b}]0;owned\\u{7} ($5,000.00)".to_owned()), "{run}");
    let long = run.alerts.iter().find(|alert| alert.value.as_ref().unwrap().len() > 10_000).unwrap();
    assert!(long.value.as_ref().unwrap().len() < 200_000 && long.key.as_ref().unwrap().len() < 2_000);
    let key = long.json()["key"]["merchant"].as_str().unwrap().to_owned();
    assert!(key.starts_with("lång \"lång") && key.len() < 20_000, "{key}");

    // The folder is gone: the episodes come from Kafka, the whole key too.
    std::fs::remove_dir_all(job.checkpoints.join(&job.group)).unwrap();
    t.sql("DELETE FROM streaming.transactions WHERE id = 1");
    t.wait_in_kafka(5);
    let run = job.run();
    assert_eq!((run.count("fired"), run.count("resolved")), (0, 1), "{run}");
    assert_eq!(run.alerts[0].json()["key"]["merchant"], key.as_str());
    // And over for good.
    std::fs::remove_dir_all(job.checkpoints.join(&job.group)).unwrap();
    let run = job.run();
    assert_eq!((run.count("fired"), run.count("resolved")), (0, 0), "{run}");
}

/// Invalid records as large as the topic takes them, in each of their parts.
#[test]
#[ignore = "needs the servers: scripts/test"]
fn dead_letters_of_any_size_are_copied_as_far_as_they_fit() {
    let t = Table::new("large_letter");
    t.insert(&[(1, 101, "2000")]);
    t.wait_in_kafka(1);
    let text = |bytes: usize| Some(vec![b'x'; bytes]);
    let header = |bytes: usize| vec![("h".to_owned(), "y".repeat(bytes)), ("small".to_owned(), "kept".to_owned())];
    let doubled = serde_json::to_vec(&serde_json::json!("z".repeat(900_000))).unwrap();
    let bad = [
        Record { key: text(5), value: text(700_000), headers: header(280_000) },
        Record { key: text(950_000), value: text(10), headers: Vec::new() },
        Record { key: text(950_000), value: None, headers: Vec::new() },
        Record { key: text(5), value: Some(doubled), headers: Vec::new() },
    ];
    kafka::produce(t.topic(), &bad);
    t.insert(&[(2, 101, "1500")]);
    t.wait_in_kafka(6);
    let job = t.job("v1");
    let run = job.run();
    run.read(6).fired([101]);
    assert_eq!(run.count("rejected"), 4, "{run}");
    let letters = kafka::records(&job.dead_letter_topic, 0);
    let cut = [
        "headers: 1 of 2 left out",
        "key: 65536 of 950000 bytes",
        "key: 65536 of 950000 bytes",
        "value: 786432 of 900002 bytes",
    ];
    assert_eq!(letters.iter().map(|letter| letter.header("tripline_cut")).collect::<Vec<_>>(), cut);
    assert_eq!(letters[0].header("small"), "kept");
    assert_eq!(letters[3].header("tripline_topic"), t.topic());
    for letter in &letters {
        let reason = letter.header("tripline_reason");
        assert!(!reason.contains("zzz") && !reason.contains("xxx") && reason.len() < 2_000, "{reason}");
    }
    assert!(run.log.iter().all(|line| line.len() < 4_000), "a log line repeats its record");
}

/// The most memory that a process has held so far, in MB.
fn peak_mb(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or("0 kB");
    line.trim().trim_end_matches(" kB").trim().parse::<u64>().unwrap() / 1024
}

/// Records of 50 MB, one after the other: memory is that of a few of them, and reading goes on.
#[test]
#[ignore = "needs the servers: scripts/test"]
fn records_of_megabytes_are_read_within_bounds() {
    const RECORDS: i64 = 6;
    let t = Table::new("large_records");
    let topic = format!("{}.large", t.database.name);
    Cluster::shared().create_topic_with(&topic, 1, &[("max.message.bytes", "62914560")]);
    let row = |id: i64, note: usize| {
        let note = "n".repeat(note);
        format!(
            r#"{{"before":null,"after":{{"id":{id},"user_id":7,"amount":"500.00","timestamp":"{}","merchant":"{note}","status":null}},"source":{{"schema":"streaming","table":"transactions","lsn":{id}}},"op":"c"}}"#,
            "2000-01-01T00:00:00Z"
        )
    };
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", &Stack::get().bootstrap)
        .set("message.max.bytes", "62914560")
        .create()
        .unwrap();
    for id in 1..=RECORDS {
        let value = row(id, 50 << 20);
        producer.send(BaseRecord::<str, str>::to(&topic).key(&format!("{{\"id\":{id}}}")).payload(&value)).unwrap();
        producer.flush(Duration::from_secs(60)).unwrap();
    }
    assert_eq!(kafka::end_of(&topic), RECORDS);
    let job = Job {
        topic,
        sql: BY_MERCHANT.to_owned(),
        message: "{total}".to_owned(),
        top: "[limits]\nmax_rss_mb = 200\n".to_owned(),
        ..t.job("v1")
    };
    let began = Instant::now();
    let mut child = job.command(&["run", "--until-end"]).spawn().unwrap();
    let mut peak = 0;
    let code = loop {
        peak = peak.max(peak_mb(child.id()));
        if let Some(status) = child.try_wait().unwrap() {
            break status.code();
        }
        if began.elapsed() > Duration::from_secs(120) {
            child.kill().unwrap();
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    let (took, committed) = (began.elapsed(), job.committed());
    // It takes much of a disk, and nobody else wants it.
    Cluster::shared().delete_topic(&job.topic);
    assert_eq!((code, committed), (Some(0), Some(RECORDS)), "{peak} MB");
    assert!(peak < 420, "{peak} MB");
    assert!(took < Duration::from_secs(60), "{took:?}");
}

/// Records of up to 50 MB among small ones, every second large one invalid: nothing is lost, dead letters are cut, and memory
/// is that of the bound and the margin that docs/sizing.md names.
#[test]
#[ignore = "needs the servers: scripts/test --all"]
fn slow_records_of_all_sizes_stay_within_the_memory_limit() {
    const LIMIT_MB: u64 = 150;
    // As docs/sizing.md says: two of the largest records, and a little for what is counted otherwise.
    const MARGIN_MB: u64 = 128 + 2 * 50 + 10;
    const MB: usize = 1 << 20;
    for codec in ["none", "zstd"] {
        let t = Table::new(&format!("large_mixed_{codec}"));
        t.insert(&[(1, 101, "2000"), (2, 101, "1500")]);
        let topic = format!("{}.mixed", t.database.name);
        Cluster::shared().create_topic_with(&topic, 3, &[("max.message.bytes", "62914560")]);
        let producer: BaseProducer = ClientConfig::new()
            .set("bootstrap.servers", &Stack::get().bootstrap)
            .set("message.max.bytes", "62914560")
            .set("compression.codec", codec)
            .create()
            .unwrap();
        let (mut sent, mut invalid) = (0_i64, 0_u64);
        let mut send = |value: &str| {
            let partition = i32::try_from(sent % 3).unwrap();
            sent += 1;
            let record = BaseRecord::<str, str>::to(&topic).key(r#"{"id":9}"#).payload(value).partition(partition);
            producer.send(record).map_err(|(error, _)| error).unwrap();
            producer.flush(Duration::from_secs(60)).unwrap();
        };
        let since_1970 = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        let now = tripline::model::Timestamp(i64::try_from(since_1970.as_micros()).unwrap()).rfc3339();
        let row = |id: i64, user: i64, amount: &str, at: &str, note: &str| {
            format!(
                r#"{{"before":null,"after":{{"id":{id},"user_id":{user},"amount":"{amount}","timestamp":"{at}","merchant":"{note}","status":null}},"source":{{"schema":"streaming","table":"transactions","lsn":{id}}},"op":"c"}}"#
            )
        };
        send(&row(1, 101, "2000.00", &now, ""));
        let mut id = 100;
        for (size, count) in [(50 * MB, 3), (20 * MB, 6), (5 * MB, 8), (MB, 30), (200 * 1024, 60)] {
            let note = noise(size);
            for _ in 0..count {
                for text in [note.as_str(), "small"] {
                    id += 1;
                    send(&row(id, 7, "1.00", "2000-01-01T00:00:00Z", text));
                }
                send(&format!("no record, and {note}"));
                invalid += 1;
            }
        }
        send(&row(2, 101, "1500.00", &now, ""));
        let job = Job { topic, top: format!("[limits]\nmax_rss_mb = {LIMIT_MB}\n"), ..t.job("v1") };
        let mut run = job.start_to_the_end();
        let (began, mut peak) = (Instant::now(), 0);
        while !run.has_ended() && began.elapsed() < Duration::from_secs(180) {
            peak = peak.max(peak_mb(run.id()));
            std::thread::sleep(Duration::from_millis(20));
        }
        let took = began.elapsed();
        let ended = if run.has_ended() { run.ended() } else { run.kill() };
        println!("{codec}: {peak} MB at most, {took:?}");
        assert_eq!(ended.code, Some(0), "{codec}: {peak} MB, {took:?}: {ended}");
        ended.read(u64::try_from(sent).unwrap()).fired([101]);
        assert_eq!(ended.count("rejected"), invalid, "{ended}");
        let letters = kafka::records(&job.dead_letter_topic, 0);
        assert_eq!(letters.len() as u64, invalid);
        assert!(letters.iter().all(|letter| letter.value.as_ref().unwrap().len() <= 768 * 1024));
        Cluster::shared().delete_topic(&job.topic);
        assert!(peak < LIMIT_MB + MARGIN_MB, "{codec}: {peak} MB");
    }
}

/// Text without quotes that compresses about as JSON does.
fn noise(bytes: usize) -> String {
    let mut state = 7_u64;
    let words = (0..).flat_map(|_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let word = (state >> 40) % 5_000;
        format!("merchant {word:05} paid in full, ").into_bytes()
    });
    String::from_utf8(words.take(bytes).collect()).unwrap()
}
