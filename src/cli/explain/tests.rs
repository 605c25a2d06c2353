//! Explaining, without a server.

use super::*;
use crate::app::explain::{RowsNow, RuleNow};
use crate::confirm::postgres::explain::{Present, PresentRow};

fn record(more: &str) -> AlertRecord {
    let text = format!(
        r#"{{"id":"1c0c0000-0000-5000-8000-000000000000","group":"g","lineage":"l","rule":"weekly-spend",
            "rule_version":"v1","status":"firing","severity":"critical","key":{{"user_id":7}},"message":"User 7",
            "stream":{{"transactions":2,"total":"3500.00"}},"database":{{"transactions":2,"total":"3500.00"}},
            "having":"SUM(ABS(amount)) > 3000","window":{{"from":"2026-11-15T10:00:00Z","to":"2026-11-22T10:00:00Z"}},
            "trigger":{{"topic":"t","partition":0,"offset":199,"op":"c","lsn":24023128,"tx_id":757,"pk":{{"id":2}},
            "event_time":"2026-11-22T09:59:59Z","committed_at":"2026-11-22T09:59:59.900Z"}},
            "confirmation":{{"required":true,"as_of":"2026-11-22T10:00:00Z","snapshot":"758:758:","attempts":1,"ms":2}},
            "emitted_at":"2026-11-22T10:00:00.050Z"{more}}}"#
    );
    AlertRecord::parse(&text).unwrap()
}

fn found(rows: &[(&str, u32)], totals: [&str; 2], differences: [&str; 2]) -> RowsNow {
    let row = |(id, xmin): &(&str, u32)| PresentRow { values: vec![Some((*id).to_owned()), None], xmin: *xmin };
    RowsNow {
        outputs: vec!["transactions".to_owned(), "total".to_owned()],
        known: vec![true, true],
        count: Some(0),
        columns: vec!["id".to_owned(), "amount".to_owned()],
        present: Present {
            snapshot: "800:800:".to_owned(),
            holds: true,
            rows_total: i64::try_from(rows.len()).unwrap(),
            totals: totals.map(|text| Some(text.to_owned())).to_vec(),
            differences: differences.map(str::to_owned).to_vec(),
            rows: rows.iter().map(row).collect(),
        },
    }
}

fn rule(found: RowsNow) -> RuleNow {
    RuleNow { version: Some("v1".to_owned()), found: Ok(found) }
}

/// Checks that the text has each of these parts, in this order.
fn check(text: &str, parts: &[&str]) {
    let mut rest = text;
    for part in parts {
        let Some(at) = rest.find(part) else { panic!("no {part:?} (in order) in\n{text}") };
        rest = &rest[at..];
    }
}

#[test]
fn nothing_has_changed() {
    let (record, rule) = (record(""), rule(found(&[("2", 757), ("1", 2)], ["2", "3500.00"], ["0", "0.00"])));
    let report = Report::new(&record, &rule);
    check(
        &report.text(),
        &[
            "weekly-spend fired for user_id 7 at 2026-11-22T10:00:00.050Z\n",
            "  window    2026-11-15T10:00:00Z to 2026-11-22T10:00:00Z\n",
            "Totals        transactions  total\n",
            "  stream      2             3500.00\n",
            "  database    2             3500.00\n",
            "  rows now    2             3500.00\n",
            "  difference  0             0.00\n",
            "Trigger: insert in t, partition 0, offset 199\n",
            "  row id 2, transaction 757, LSN 24023128\n",
            "Confirmation: as of 2026-11-22T10:00:00Z, snapshot 758:758:, attempts 1\n",
            "  the trigger's transaction was included in the snapshot\n",
            "Latencies: committed to emitted 150 ms, confirmation 2 ms\n",
            "Rows now that the alert's window admits: 2\n",
            "  id  amount  transaction  confirmation\n",
            "  2   NULL    757          seen by it\n",
            "  1   NULL    2            seen by it\n",
            "Since the alert\n  the totals are those of the alert\n  HAVING still holds over these rows\n",
        ],
    );
    let json = report.json();
    assert_eq!(json["rule"]["changed"], false);
    assert_eq!(json["trigger_included"], true);
    assert_eq!(json["latencies"]["committed_to_emitted_ms"], 150);
    assert_eq!((json["present"]["rows_newer"].as_u64(), json["present"]["rows_gone"].as_u64()), (Some(0), Some(0)));
    assert_eq!(json["present"]["rows"][0]["seen_by_confirmation"], true);
}

#[test]
fn one_row_is_newer_and_one_is_gone() {
    let (record, rule) = (record(""), rule(found(&[("2", 757), ("3", 790)], ["2", "3000.00"], ["0", "-500.00"])));
    let report = Report::new(&record, &rule);
    check(
        &report.text(),
        &[
            "  difference  0             -500.00\n",
            "  3   NULL    790          newer\n",
            "the totals differ: total -500.00\n",
            "(inserted or updated): 1\n",
            "(deleted, updated, or moved): 1\n",
        ],
    );
    assert_eq!(report.json()["present"]["rows_gone"], 1);
}

#[test]
fn another_version_of_the_rule_and_another_database() {
    let (record, mut rule) = (record(""), rule(found(&[("2", 757)], ["1", "9.00"], ["-1", "-3491.00"])));
    rule.version = Some("v2".to_owned());
    if let Ok(found) = &mut rule.found {
        found.present.snapshot = "700:700:".to_owned();
        found.known[1] = false;
    }
    let report = Report::new(&record, &rule);
    check(
        &report.text(),
        &[
            "the rule has changed: the alert is of version v1, the configuration has v2",
            "  difference  -1\n",
            "757          unknown\n",
            "the totals differ: transactions -1\n",
            "it was restored or is another one",
        ],
    );
    assert_eq!(report.json()["present"]["differences"]["total"], Json::Null);
}

#[test]
fn neither_trigger_nor_confirmation_nor_rule() {
    let mut record = record("");
    record.trigger = Json::Null;
    record.confirmation = serde_json::json!({ "required": false });
    record.database = None;
    let rule = RuleNow { version: None, found: Err("the configuration has no rule weekly-spend".to_owned()) };
    let report = Report::new(&record, &rule);
    check(
        &report.text(),
        &[
            "  database (not asked)\n",
            "Trigger: time alone; no change brought it\n",
            "Confirmation: none was made",
            "Latencies: committed to emitted unknown, confirmation unknown\n",
            "Rows now: not asked for: the configuration has no rule weekly-spend\n",
        ],
    );
    assert_eq!(report.json()["present"], Json::Null);
}

#[test]
fn records_are_picked_from_a_file() {
    let one = serde_json::to_string(&record("")).unwrap();
    let two = one.replacen("1c0c0000", "2c0c0000", 1);
    let both = format!("{one}\n{two}\n{one}\n");
    let id = |text: &str| Uuid::parse_str(&one[7..43].replacen("1c0c0000", text, 1)).unwrap();
    let pick = |text: &str, id: Option<Uuid>| pick(text, id).map(|record| record.id);
    assert_eq!(pick(&both, Some(id("2c0c0000"))), Ok(id("2c0c0000")));
    assert_eq!(pick(&format!("{one}{one}"), None), Ok(id("1c0c0000")));
    assert_eq!(pick(&both, None), Err("there are several alerts in it; give the id of one".to_owned()));
    assert!(pick(&both, Some(Uuid::nil())).is_err_and(|problem| problem.starts_with("there is no alert 0000")));
    assert_eq!(pick("", None), Err("there is no alert in it".to_owned()));
    assert!(pick("{}", None).is_err_and(|problem| problem.starts_with("not an alert record: missing field")));
    assert!(pick("x", None).is_err_and(|problem| problem.starts_with("not JSON")));
}
