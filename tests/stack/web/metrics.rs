//! Every metric, and what it says.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::harness::{Record, Table, kafka, wait_for};

use super::{Scrape, get, with_page};

/// The allowed names of labels. A key's columns are not among them, and never will be: there are millions of keys.
const LABELS: [&str; 8] = ["phase", "partition", "rule", "status", "outcome", "reason", "le", "version"];

type Labels = &'static [(&'static str, &'static str)];

const RULE: (&str, &str) = ("rule", "weekly-spend");

/// Fires, and stays over.
const OVER: i64 = 27_956_157;
/// Fires, and resolves.
const RESOLVED: i64 = 84_210_367;
/// Is far below the threshold.
const QUIET: i64 = 61_938_274;
/// The stream has a row of it, and the table has none.
const REFUTED: i64 = 93_157_428;

/// A row that the table never had, as Debezium would have told of it.
fn never_in_the_table(real: &Record) -> Record {
    let mut value = real.json();
    value["after"]["id"] = 99.into();
    value["after"]["user_id"] = REFUTED.into();
    value["after"]["amount"] = "5000.00".into();
    let key = br#"{"id":99}"#.to_vec();
    Record { key: Some(key), value: Some(value.to_string().into_bytes()), headers: Vec::new() }
}

#[test]
#[ignore = "needs the servers of scripts/stack"]
fn web_metrics_say_what_happened() {
    let table = Table::new("web_metrics");
    let (job, url) = with_page(table.job("v1"));
    table.insert(&[(1, OVER, "2000.00"), (2, RESOLVED, "3500.00"), (3, QUIET, "10.00")]);
    table.wait_in_kafka(3);
    let mut run = job.start();
    run.wait_for_line(&format!("User {RESOLVED} ($3,500.00)"));
    table.insert(&[(4, OVER, "1500.50")]);
    table.sql("UPDATE streaming.transactions SET amount = 1 WHERE id = 2");
    run.wait_for_line(&format!("Resolved: User {RESOLVED} ($1.00)"));
    run.wait_for_line(&format!("User {OVER} ($3,500.50)"));
    let garbage = Record { key: None, value: Some(b"{nothing".to_vec()), headers: Vec::new() };
    let real = kafka::records(table.topic(), 0).remove(0);
    kafka::produce(table.topic(), &[garbage, never_in_the_table(&real)]);
    let end = kafka::end_of(table.topic());
    assert_eq!(end, 7);
    let rows: f64 = table.sql("SELECT count(*) FROM streaming.transactions")[0][0].parse().unwrap();

    // The refuted row goes once memory has taken the table's word.
    let scrape = wait_for("everything is counted, and committed", || {
        let scrape = Scrape::of(&get(&format!("{url}/metrics")).1);
        let done = scrape.value("committed_offset", &[("partition", "0")]) == 7.0
            && scrape.value("rows", &[]) == rows
            && scrape.value("candidates_waiting", &[]) == 0.0
            && scrape.value("lag_records", &[("partition", "0")]) == 0.0;
        done.then_some(scrape)
    });
    assert_eq!(job.committed(), Some(7));
    let exactly: &[(&str, Labels, f64)] = &[
        ("build_info", &[("version", env!("CARGO_PKG_VERSION"))], 1.0),
        ("phase", &[("phase", "working")], 1.0),
        ("phase", &[("phase", "joining")], 0.0),
        ("phase", &[("phase", "recovering")], 0.0),
        ("phase", &[("phase", "rebuilding")], 0.0),
        ("phase", &[("phase", "ended")], 0.0),
        ("events_total", &[], 7.0),
        ("replayed_events_total", &[], 0.0),
        ("candidates_total", &[RULE], 4.0),
        ("confirmations_total", &[RULE, ("outcome", "confirmed")], 3.0),
        ("confirmations_total", &[RULE, ("outcome", "undecided")], 0.0),
        ("confirmations_total", &[RULE, ("outcome", "failed")], 0.0),
        ("alerts_total", &[RULE, ("status", "firing")], 2.0),
        ("alerts_total", &[RULE, ("status", "resolved")], 1.0),
        ("episodes_open", &[RULE], 1.0),
        ("alert_delay_seconds_count", &[], 3.0),
        ("lag_seconds", &[], 0.0),
        ("next_offset", &[("partition", "0")], 7.0),
        ("rows", &[], 4.0),
        ("keys", &[], 3.0),
        ("stalled", &[], 0.0),
        ("reading_paused", &[("reason", "candidates")], 0.0),
        ("reading_paused", &[("reason", "max_rows")], 0.0),
        ("reading_paused", &[("reason", "max_rss_mb")], 0.0),
        ("postgres_up", &[], 1.0),
        ("kafka_up", &[], 1.0),
    ];
    for (name, labels, value) in exactly {
        assert_eq!(scrape.value(name, labels), *value, "{name} {labels:?} in\n{}", scrape.text);
    }
    // Memory insisted several times before it gave way.
    let between = [
        ("resident_memory_bytes", 5e6, 4e9),
        ("checkpoint_age_seconds", 0.0, 60.0),
        ("uptime_seconds", 1.0, 600.0),
        ("epoch", 1.0, 1_000.0),
    ];
    for (name, least, most) in between {
        let value = scrape.value(name, &[]);
        assert!(least <= value && value <= most, "{name} is {value}");
    }
    let refuted = scrape.value("confirmations_total", &[RULE, ("outcome", "refuted")]);
    assert!((1.0..100.0).contains(&refuted), "{refuted}");
    let rejects: Vec<_> = scrape.samples.iter().filter(|sample| sample.name == "tripline_rejects_total").collect();
    assert_eq!(rejects.len(), 1, "{rejects:?}");
    assert_eq!((rejects[0].labels["reason"].as_str(), rejects[0].value), ("json", 1.0));
    histogram(&scrape, "alert_delay_seconds", 3.0);
    histogram(&scrape, "statement_duration_seconds", 4.0);
    no_key_as_a_label(&scrape);
    run.terminate();
}

/// Buckets count all that is below them, the last one counts everything, and the sum fits.
#[expect(clippy::float_arithmetic, reason = "bounds of a sum, for comparing alone")]
fn histogram(scrape: &Scrape, name: &str, at_least: f64) {
    let buckets = scrape.samples.iter().filter(|sample| sample.name == format!("tripline_{name}_bucket"));
    let bound = |text: &str| if text == "+Inf" { f64::INFINITY } else { text.parse().unwrap() };
    let buckets: Vec<(f64, f64)> = buckets.map(|sample| (bound(&sample.labels["le"]), sample.value)).collect();
    let count = scrape.value(&format!("{name}_count"), &[]);
    let sum = scrape.value(&format!("{name}_sum"), &[]);
    assert!(buckets.len() > 10, "{buckets:?}");
    assert!(buckets.is_sorted_by(|(low, few), (high, many)| low < high && few <= many), "{name}: {buckets:?}");
    assert_eq!(*buckets.last().unwrap(), (f64::INFINITY, count), "{name}");
    assert!(count >= at_least, "{name}: {count}");
    // Everything is in a bucket, and the sum lies between what these buckets can hold.
    let (mut least, mut most, mut below, mut from) = (0.0, 0.0, 0.0, 0.0);
    for (to, up_to) in &buckets {
        (least, most) = (least + (up_to - below) * from, most + (up_to - below) * to.min(3_600.0));
        (below, from) = (*up_to, *to);
    }
    assert!(least <= sum && sum <= most && sum > 0.0, "{name}: {least} <= {sum} <= {most}");
}

fn no_key_as_a_label(scrape: &Scrape) {
    for user in [OVER, RESOLVED, QUIET, REFUTED] {
        assert!(!scrape.text.contains(&user.to_string()), "{user} in\n{}", scrape.text);
    }
    let used: BTreeSet<&str> =
        scrape.samples.iter().flat_map(|sample| sample.labels.keys().map(String::as_str)).collect();
    assert_eq!(used, BTreeSet::from(LABELS));
}

#[test]
#[ignore = "needs the servers of scripts/stack"]
fn web_metrics_count_what_is_still_to_be_read() {
    let table = Table::new("web_lag");
    let (mut job, url) = with_page(table.job("v1"));
    job.top = "[limits]\nmax_rows = 2".to_owned();
    table.insert(&[(1, OVER, "1.00"), (2, OVER, "1.00")]);
    table.wait_in_kafka(2);
    let run = job.start();
    wait_for("reading pauses", || {
        let (status, text) = get(&format!("{url}/metrics"));
        (status == 200 && Scrape::of(&text).value("reading_paused", &[("reason", "max_rows")]) == 1.0).then_some(())
    });
    table.insert(&[(3, QUIET, "1.00"), (4, QUIET, "1.00"), (5, QUIET, "1.00")]);
    table.wait_in_kafka(5);
    let scrape = wait_for("three records are to be read, and time passes", || {
        let scrape = Scrape::of(&get(&format!("{url}/metrics")).1);
        let behind = scrape.value("lag_records", &[("partition", "0")]) == 3.0;
        (behind && scrape.value("lag_seconds", &[]) >= 2.0).then_some(scrape)
    });
    assert!(scrape.value("lag_seconds", &[]) < Duration::from_secs(90).as_secs_f64());
    assert_eq!(scrape.value("next_offset", &[("partition", "0")]), 2.0);
    assert_eq!(scrape.value("reading_paused", &[("reason", "max_rss_mb")]), 0.0);
    run.kill();
}
