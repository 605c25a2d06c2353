//! The output for given numbers and events.

use serde_json::json;
use uuid::Uuid;

use std::collections::BTreeSet;

use super::*;
use crate::episode::EpisodeId;
use crate::model::{Key, Timestamp};
use crate::run_status::RuleStatus;
use crate::unit::events::RuleCounts;

fn plain() -> Console {
    let mut console = Console::new(Output::Table);
    (console.drawn, console.colour) = (false, false);
    console
}

/// The text after the time, which begins a line.
fn told(line: &str) -> &str {
    let (time, told) = line.split_once(" s  ").unwrap();
    assert!(time.trim().parse::<f64>().is_ok() && time.len() == 5, "{line}");
    told
}

fn report(outcome: ConfirmationOutcome, database: Option<&str>) -> ConfirmationReport {
    let outputs = |total: &str| json!({ "transactions": 4, "total": total }).as_object().cloned().unwrap();
    ConfirmationReport {
        at: Timestamp(0),
        rule: "weekly-spend".to_owned(),
        key: json!({ "user_id": 27_956_157 }),
        label: "27956157".to_owned(),
        outcome,
        stream: outputs("3120.50"),
        database: database.map(outputs),
        millis: database.map(|_| 2),
    }
}

#[test]
fn a_candidate_with_each_outcome() {
    let check = |outcome, database: Option<&str>, want: &str| {
        let line = plain().candidate(&report(outcome, database));
        assert_eq!(told(&line), format!("candidate  weekly-spend 27956157: stream 3120.50, Postgres {want}\n"));
    };
    check(ConfirmationOutcome::Confirmed, Some("3120.50"), "3120.50 (2 ms): confirmed");
    check(ConfirmationOutcome::Refuted, Some("120.50"), "120.50 (2 ms): refuted, no alert");
    check(ConfirmationOutcome::Undecided, Some("120.50"), "120.50 (2 ms): not visible yet, asked again");
    check(ConfirmationOutcome::Failed, None, "- (0 ms): no answer, asked again");
    let coloured = Console { colour: true, ..plain() }.candidate(&report(ConfirmationOutcome::Refuted, Some("120.50")));
    assert!(coloured.ends_with("): \x1b[36mrefuted, no alert\x1b[0m\n"), "{coloured:?}");
}

fn alert(status: Status, line: &str) -> Alert {
    Alert {
        id: Uuid::nil(),
        rule: "weekly-spend".to_owned(),
        key: Key::Int(27_956_157),
        status,
        episode: EpisodeId::default(),
        record_key: "weekly-spend|27956157".to_owned(),
        line: line.to_owned(),
        emitted_at: Timestamp(0),
        body: json!({ "severity": "critical" }).to_string(),
    }
}

#[test]
fn an_alert_is_one_line_with_severity_and_rule() {
    let check = |alert: &Alert, want: &str| assert_eq!(told(&plain().alert(alert)), want);
    let firing = alert(Status::Firing, "User 27956157\n($3,120.50)");
    check(&firing, "ALERT      User 27956157 ($3,120.50)  [critical, weekly-spend]\n");
    let resolved = alert(Status::Resolved, "Resolved: User 27956157 ($120.50)");
    check(&resolved, "ALERT      Resolved: User 27956157 ($120.50)  [critical, weekly-spend]\n");
}

#[test]
fn what_is_open_follows_the_alerts() {
    let mut seen = Seen::default();
    seen.take(&alert(Status::Firing, ""), Duration::from_millis(7));
    assert_eq!(seen.open()["weekly-spend"], BTreeSet::from(["27956157".to_owned()]));
    seen.take(&alert(Status::Resolved, ""), Duration::from_millis(8));
    assert!(seen.open().is_empty() && (seen.fired, seen.resolved) == (1, 1));
    assert_eq!(seen.first_alert, Some(Duration::from_millis(7)));
}

/// Two rules, and more users than are shown.
fn snapshot() -> StatusSnapshot {
    let rule = |name: &str, severity: &str, having: &str| RuleStatus {
        name: name.to_owned(),
        severity: severity.to_owned(),
        having: having.to_owned(),
        open: 1,
        counts: RuleCounts { confirmed: 10, refuted: 2, ..RuleCounts::default() },
        ..RuleStatus::default()
    };
    let top = |rule: &str, user: u64, total: &str, threshold: &str| TopKey {
        rule: rule.to_owned(),
        key: Json::Null,
        label: user.to_string(),
        total: total.to_owned(),
        threshold: threshold.to_owned(),
        over: false,
        rows: 1,
    };
    let mut snapshot = StatusSnapshot {
        read: 1_234_567,
        rules: vec![
            rule("weekly-spend", "critical", "SUM(ABS(amount)) > 3000"),
            rule("card-testing", "warning", "COUNT(*) > 12"),
        ],
        ..StatusSnapshot::default()
    };
    snapshot.top.extend((0..9).map(|user| top("weekly-spend", 27_956_157 + user, "1500000.25", "3000")));
    snapshot.top.extend((0..9).map(|user| top("card-testing", 10_000_000 + user, "3", "12")));
    for _ in 0..90 {
        snapshot.delays.observe(20_000);
    }
    for _ in 0..10 {
        snapshot.delays.observe(4_000_000);
    }
    snapshot
}

fn done() -> Done {
    let done = Done::default();
    done.changed.store(1_234_572, Ordering::Relaxed);
    done
}

#[test]
fn the_whole_in_numbers() {
    let mut console = plain();
    (console.seen.fired, console.seen.resolved) = (6, 4);
    let delays = "from commit to decision 25 ms, p99 5000 ms";
    assert_eq!(
        console.whole(&snapshot(), &done(), 12_345),
        ["1,234,567 changes read, 12,345/s, 5 behind", "20 confirmed, 4 refuted; 6 alerts, 4 resolved", delays]
    );
    assert_eq!(console.whole(&StatusSnapshot::default(), &done(), 0)[2], "nothing decided yet");
}

/// A narrow and a wide terminal get the same frame.
#[test]
fn a_frame_fits_the_terminal() {
    let mut console = plain();
    console.buying(Instant::now(), Duration::from_secs(900));
    console.page = Some("http://127.0.0.1:65535/".to_owned());
    console.seen.take(&alert(Status::Firing, ""), Duration::ZERO);
    let picture = console.picture(&snapshot(), &done(), 12_345);
    let lines: Vec<&str> = picture.lines().collect();
    for width in [80, 120] {
        let long: Vec<&&str> = lines.iter().filter(|line| line.chars().count() > width).collect();
        assert!(long.is_empty(), "wider than {width}: {long:#?}");
    }
    let full = "████████████████████████|████████████";
    assert_eq!(
        lines[..5],
        [
            "",
            "0 of 900 s   1,234,567 changes read, 12,345/s, 5 behind",
            "20 confirmed, 4 refuted; 1 alerts, 0 resolved",
            "from commit to decision 25 ms, p99 5000 ms",
            "weekly-spend  SUM(ABS(amount)) > 3000  1 open",
        ]
    );
    assert_eq!(lines[5], format!("  27956157   {full} 1500000.25  ALERT"));
    assert_eq!(lines[6], format!("  27956158   {full} 1500000.25"));
    assert_eq!(lines[12], "card-testing  COUNT(*) > 12  1 open");
    assert_eq!(lines[13], "  10000000   ██████··················|············          3");
    assert_eq!(lines[16..], ["Ctrl-C ends it   page: http://127.0.0.1:65535/"]);
}

/// An outcome stands at the end of its line, which may be wider than the terminal.
#[test]
fn lines_are_wrapped_and_the_picture_is_cut() {
    let mut console = Console { drawn: true, ..plain() };
    let first = console.frame("a candidate\n", "one\ntwo\n");
    assert_eq!(first, "\x1b[?2026h\r\x1b[Ja candidate\n\x1b[?7lone\ntwo\n\x1b[?7h\x1b[?2026l");
    // The next one begins where the picture began.
    assert!(console.frame("", "one\n").starts_with("\x1b[?2026h\r\x1b[2A\x1b[J"));
    assert!(console.frame("", "").starts_with("\x1b[?2026h\r\x1b[1A\x1b[J"));
    assert_eq!(plain().frame("a\n", ""), "a\n");
}

#[test]
fn bars_show_the_threshold() {
    let check = |total: &str, want: &str| {
        let top = TopKey {
            rule: "r".to_owned(),
            key: Json::Null,
            label: "7".to_owned(),
            total: total.to_owned(),
            threshold: "3000".to_owned(),
            over: false,
            rows: 1,
        };
        assert_eq!(plain().user(&top), want);
    };
    check("0.00", "  7          ························|············       0.00");
    check("1500.00", "  7          ████████████············|············    1500.00");
    check("3000.01", "  7          ████████████████████████|············    3000.01");
    check("99999.00", "  7          ████████████████████████|████████████   99999.00");
    check("-5.00", "  7          ························|············      -5.00");
}

#[test]
fn what_is_compared_is_told() {
    let outputs = json!({ "transactions": 4, "total": "12.50" });
    let told = |rule, outputs: &Json| outputs.as_object().map(|outputs| measure(rule, outputs));
    assert_eq!(told("weekly-spend", &outputs).as_deref(), Some("12.50"));
    assert_eq!(told("card-testing", &outputs).as_deref(), Some("4"));
    assert_eq!(told("weekly-spend", &json!({})).as_deref(), Some("null"));
}

#[test]
fn whole_parts() {
    assert_eq!(["12.99", "7", "-3.2", "NULL", ""].map(whole_of), [12, 7, 0, 0, 0]);
}
