//! Records that cannot be understood: counted, told, kept, and never in the way of the good ones.

use serde_json::json;

use crate::harness::{Job, Record, Table, kafka, wait_for};

/// Invalid records, made of a real one: garbage, half a record, another table's event, and an amount as a float.
fn bad_ones(real: &Record) -> Vec<Record> {
    let value = real.value.clone().unwrap();
    let mut other_table = real.json();
    other_table["source"]["table"] = json!("refunds");
    let mut float = real.json();
    float["after"]["amount"] = json!(2500.1);
    let made = |value: Vec<u8>, name: &str| Record {
        key: Some(format!("key of {name}").into_bytes()),
        value: Some(value),
        headers: vec![("origin".to_owned(), name.to_owned())],
    };
    vec![
        made(vec![0xff, 0x00, 0xfe, b'{'], "garbage"),
        made(value[..value.len() / 2].to_vec(), "truncated"),
        made(other_table.to_string().into_bytes(), "another table"),
        made(float.to_string().into_bytes(), "float"),
    ]
}

#[test]
#[ignore = "needs the servers: scripts/test"]
fn go_to_the_dead_letter_topic() {
    let t = Table::new("dead_letters");
    t.insert(&[(1, 101, "2000"), (2, 102, "10")]);
    t.wait_in_kafka(2);
    let bad = bad_ones(&kafka::records(t.topic(), 1)[0]);
    kafka::produce(t.topic(), &bad);
    t.insert(&[(3, 101, "1500"), (4, 102, "20")]);
    t.wait_in_kafka(8);

    let job = t.job("v1");
    let run = job.run();
    run.read(8).fired([101]).resolved([]).total(101, 2, "3500.00");
    assert_eq!(run.count("rejected"), 4, "{run}");
    let letters = kafka::records(&job.dead_letter_topic, 0);
    assert_eq!(letters.len(), 4, "{letters:?}");
    for (index, (letter, bad)) in letters.iter().zip(&bad).enumerate() {
        let offset = (index + 2).to_string();
        assert_eq!((&letter.key, &letter.value), (&bad.key, &bad.value));
        assert_eq!(letter.header("origin"), bad.header("origin"));
        assert_eq!(letter.header("tripline_partition"), "0");
        assert_eq!(letter.header("tripline_offset"), offset);
        assert!(!letter.header("tripline_kind").is_empty());
        // The log says the same, and where, of the first of each kind.
        let reason = letter.header("tripline_reason");
        assert!(!reason.is_empty());
        let told = |line: &&String| line.contains(t.topic()) && line.contains(&format!("offset={offset}"));
        let lines: Vec<_> = run.log.iter().filter(told).collect();
        let is_first = letters[..index].iter().all(|l| l.header("tripline_kind") != letter.header("tripline_kind"));
        assert_eq!(lines.len(), usize::from(is_first), "{offset}: {run}");
        if !is_first {
            continue;
        }
        let first_words: String = reason.chars().take_while(|c| c.is_alphanumeric() || *c == ' ').collect();
        assert!(lines[0].contains(&first_words), "{reason} in {lines:?}");
    }
    assert!(letters[2].header("tripline_reason").contains("refunds"), "{letters:?}");
    assert!(letters[3].header("tripline_reason").contains("amount"), "{letters:?}");

    // Once counted, not again.
    let again = t.run("v1");
    again.read(0).quiet();
    assert_eq!(again.count("rejected"), 0);
    assert_eq!(kafka::end_of(&job.dead_letter_topic), 4);
}

#[test]
#[ignore = "needs the servers: scripts/test"]
fn stop_the_run_where_told_so() {
    let t = Table::new("stop");
    t.insert(&[(1, 101, "2000"), (2, 102, "3100")]);
    t.wait_in_kafka(2);
    kafka::produce(t.topic(), &bad_ones(&kafka::records(t.topic(), 1)[0])[..1]);
    t.insert(&[(3, 101, "1500")]);
    t.wait_in_kafka(4);

    let stop = Job { source: "on_bad_record = \"stop\"".to_owned(), ..t.job("v1") };
    for _ in 0..2 {
        let run = stop.try_run();
        assert_eq!(run.code, Some(5), "{run}");
        let message = run.log.last().unwrap();
        assert!(message.starts_with(&format!("error: {} partition 0 offset 2: ", t.topic())), "{message}");
        assert_eq!(kafka::end_of(&stop.dead_letter_topic), 0);
    }
    // Passed over by the other setting, the stream goes on.
    let run = t.run("v1");
    assert_eq!(run.count("rejected"), 1, "{run}");
    assert_eq!(kafka::end_of(&stop.dead_letter_topic), 1);
}

/// The connector writes doubles for a while, which cannot be read exactly: the table is asked for those rows, and what
/// comes after counts on top of them.
#[test]
#[ignore = "needs the servers: scripts/test"]
fn what_was_written_as_doubles_is_asked_for() {
    let mut t = Table::new("doubles");
    let job = t.job("v1");
    t.insert(&[(1, 7, "1500")]);
    t.wait_in_kafka(1);
    let mut run = job.start();
    run.wait_committed(1);
    t.connector.set(&[("decimal.handling.mode", "double")]);
    t.insert(&[(2, 7, "1000.25")]);
    t.wait_in_kafka(2);
    assert!(kafka::records(t.topic(), 1)[0].json()["after"]["amount"].is_f64());
    run.wait_committed(2);
    t.connector.set(&[("decimal.handling.mode", "string")]);
    t.insert(&[(3, 7, "500.50")]);
    t.wait_in_kafka(3);
    wait_for("the alert", || (!kafka::records(&job.alert_topic, 0).is_empty()).then_some(()));
    let ended = run.terminate();
    assert_eq!(ended.code, Some(0), "{ended}");
    ended.fired([7]).resolved([]).total(7, 3, "3000.75");
    assert_eq!(kafka::records(&job.dead_letter_topic, 0).len(), 1);
}
