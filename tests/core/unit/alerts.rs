//! Ids and records of alerts.

use serde_json::json;
use tripline::alert::{Alert, Decision};
use tripline::change::Op;
use tripline::episode::{EpisodeId, Reason, Status};
use tripline::model::{Key, Lsn, Value};
use tripline::rule::{Confirm, Time};
use tripline::window::Trigger;

use super::bench::{Bench, GROUP, TOPIC, answer, body, cents, named, outputs, weekly};
use crate::support::{DAY, SECOND, WEEKLY, position, row, rule_on, t};

#[test]
fn the_record_has_every_field() {
    let mut bench = Bench::confirmed();
    bench.offset = 199;
    bench.take(Op::Create, 200, Some(row(Value::Int(27_956_157), cents(-344_150), Value::Time(t(-SECOND)))));
    let question = bench.ask().unwrap();
    bench.now = 5;
    bench.answer(&question, answer(true, 7, "3441.50"));
    let alert = bench.close().body.alerts.remove(0);
    let want = json!({
        "id": alert.id, "group": "flink-monitor-group-v3", "lineage": "01J", "rule": "weekly-spend",
        "rule_version": weekly(Confirm::Required).version, "episode": "0.0", "status": "firing", "severity": "critical",
        "key": {"user_id": 27_956_157}, "message": "User 27956157 ($3,441.50)",
        "stream": {"transactions": 1, "total": "3441.50"}, "database": {"transactions": 7, "total": "3441.50"},
        "having": "SUM(ABS(amount)) > 3000",
        "window": {"from": "2026-11-15T10:00:00Z", "to": "2026-11-22T10:00:00Z"},
        "trigger": {
            "topic": "postgres.streaming.transactions", "partition": 0, "offset": 199, "op": "c", "lsn": 1_199,
            "tx_id": 757, "pk": {"id": 200}, "event_time": "2026-11-22T09:59:59Z", "committed_at": null,
        },
        "confirmation": {
            "required": true, "as_of": "2026-11-22T10:00:00Z", "snapshot": "758:758:", "attempts": 1, "ms": 2,
        },
        "emitted_at": "2026-11-22T10:00:05Z",
        "evaluated_by": "memory",
    });
    assert_eq!(body(&alert), want);
    let names = |json: &serde_json::Value| json.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&body(&alert)), names(&want), "in this order");
    assert_eq!(alert.line, "User 27956157 ($3,441.50)");
    assert_eq!((alert.record_key.as_str(), alert.rule.as_str()), ("weekly-spend|27956157", "weekly-spend"));
    assert_eq!((alert.status, alert.emitted_at, &alert.key), (Status::Firing, t(5 * SECOND), &Key::Int(27_956_157)));
}

/// The values on which an id may depend.
#[derive(Clone)]
struct EpochRef {
    group: &'static str,
    topic: &'static str,
    rule: &'static str,
    version: &'static str,
    key: Value,
    status: Status,
    lineage: &'static str,
    episode: (u64, u32),
    place: Option<(i32, i64)>,
    to: i64,
    emitted: i64,
}

fn alert(named_: &EpochRef) -> Alert {
    let mut rule = rule_on(&named(), WEEKLY, Time::Processing, Confirm::Required);
    named_.rule.clone_into(&mut rule.name);
    named_.version.clone_into(&mut rule.version);
    let trigger = named_.place.map(|(partition, offset)| Trigger {
        position: tripline::model::Position { partition, ..position(offset) },
        op: "c".to_owned(),
        lsn: Some(Lsn(1)),
        tx_id: None,
        pk: Some(Key::Int(1)),
        event_time: None,
        committed_at: None,
    });
    Alert::new(&Decision {
        database_as_of: None,
        group: named_.group,
        lineage: named_.lineage,
        topic: named_.topic,
        trigger_table: Some(&rule.query.table),
        rule: &rule,
        key: &Key::new(vec![named_.key.clone()]),
        status: named_.status,
        reason: Reason::default(),
        episode: EpisodeId { epoch: named_.episode.0, ordinal: named_.episode.1 },
        trigger: trigger.as_ref(),
        stream: &outputs(1, "1.00"),
        database: None,
        window: (None, t(named_.to)),
        confirmation: None,
        emitted_at: t(named_.emitted),
    })
}

fn usual() -> EpochRef {
    EpochRef {
        group: GROUP,
        topic: TOPIC,
        rule: "r",
        version: "1",
        key: Value::Text("a".into()),
        status: Status::Firing,
        lineage: "01J",
        episode: (3, 0),
        place: Some((0, 7)),
        to: 0,
        emitted: 0,
    }
}

#[test]
fn an_id_is_that_of_its_inputs() {
    let text = |text: &str| Value::Text(text.into());
    let same = [
        ("itself", usual()),
        ("decided later, after a retry", EpochRef { emitted: 9, ..usual() }),
        ("asked later, by the same change", EpochRef { to: DAY, ..usual() }),
        ("by another change", EpochRef { place: Some((1, 8)), ..usual() }),
        ("by time alone", EpochRef { place: None, ..usual() }),
    ];
    let id = alert(&usual()).id;
    assert_eq!(id.get_version_num(), 5);
    for (name, named) in same {
        assert_eq!(alert(&named).id, id, "{name}");
    }
    let others = [
        ("group", EpochRef { group: "other", ..usual() }),
        ("lineage", EpochRef { lineage: "01K", ..usual() }),
        ("rule", EpochRef { rule: "other", ..usual() }),
        ("version", EpochRef { version: "2", ..usual() }),
        ("key", EpochRef { key: text("b"), ..usual() }),
        ("key with a quote", EpochRef { key: text("a\",\""), ..usual() }),
        ("status", EpochRef { status: Status::Resolved, ..usual() }),
        ("epoch", EpochRef { episode: (4, 0), ..usual() }),
        ("ordinal", EpochRef { episode: (3, 1), ..usual() }),
    ];
    let mut ids = vec![id];
    for (name, named) in others {
        let id = alert(&named).id;
        assert!(!ids.contains(&id), "{name}");
        ids.push(id);
    }
}

// Once a bug: NULL is written as the text NULL in ids and record keys, so the group of NULL and
// the group of the text 'NULL' share both: a truncate that resolves the two loses one to the duplicate check.
#[test]
fn the_group_of_null_is_not_that_of_its_name() {
    let null = alert(&EpochRef { key: Value::Null, ..usual() });
    let name = alert(&EpochRef { key: Value::Text("NULL".into()), ..usual() });
    assert_ne!(null.id, name.id);
    assert_ne!(null.record_key, name.record_key);
}

#[test]
fn resolved_says_so() {
    let alert = alert(&EpochRef { status: Status::Resolved, place: None, ..usual() });
    assert_eq!(alert.line, "Resolved: User a ($1.00)");
    let body = body(&alert);
    assert_eq!((body["status"].as_str(), body["message"].as_str()), (Some("resolved"), Some("User a ($1.00)")));
    assert!(body["trigger"].is_null() && body["window"]["from"].is_null(), "{body}");
}

/// An alert that the broker refuses would be refused at every start: what a key can blow up is bounded.
#[test]
fn a_huge_key_makes_a_record_that_still_fits() {
    let huge =
        |last: &str| alert(&EpochRef { key: Value::Text(format!("{}{last}", "é".repeat(150_000)).into()), ..usual() });
    let (one, other) = (huge("1"), huge("2"));
    assert!(one.record_key.len() < 1_200, "{} bytes", one.record_key.len());
    assert_ne!(one.record_key, other.record_key, "still one record key per group");
    assert!(one.line.len() < 17_000, "{} bytes", one.line.len());
    assert!(one.body.len() < 400_000, "{} bytes: the key itself stands in it once", one.body.len());
}

/// Whatever a key holds, the alert, its episode and the parts of its key are records that a broker takes.
#[test]
fn a_key_of_megabytes_fits_into_records() {
    use std::collections::BTreeMap;
    use tripline::unit::recovery::{EpisodeRecord, KeyPart};

    let check = |text: String, parts: usize| {
        let key = Value::Text(text.clone().into());
        let alert = alert(&EpochRef { key: key.clone(), ..usual() });
        assert!(alert.body.len() < 450_000, "{}", alert.body.len());
        assert!(alert.record_key.len() < 1_200);
        let shown = body(&alert)["key"].as_object().unwrap().values().next().unwrap().clone();
        let cut = tripline::alert::is_cut(shown.as_str().unwrap());
        assert_eq!((cut, shown == *text), (text.len() > 16 * 1024, text.len() <= 16 * 1024));
        let record = EpisodeRecord {
            group: GROUP.to_owned(),
            lineage: "01J".to_owned(),
            epoch: 3,
            rule: "r".to_owned(),
            version: "1".to_owned(),
            key: Key::new(vec![key]),
            alerts: vec![alert],
            moved_from: None,
        };
        let written = record.written().unwrap();
        assert_eq!(written.len(), parts + 1);
        assert!(written.iter().all(|one| one.body.len() < 900_000 && one.key.len() < 1_500));
        let (episode, of_key) = written.split_last().unwrap();
        let read: EpisodeRecord = serde_json::from_str(&episode.body).unwrap();
        let parse = |one: &tripline::unit::recovery::Written| {
            let part: KeyPart = serde_json::from_str(&one.body).unwrap();
            ((part.key_of.clone(), part.part), part)
        };
        let mut found: BTreeMap<(String, usize), KeyPart> = of_key.iter().map(parse).collect();
        assert_eq!(read.clone().completed(&found), Some(record));
        if parts > 0 {
            found.pop_first();
            assert_eq!(read.completed(&found), None, "rather than another key");
        }
    };
    check("a".to_owned(), 0);
    check("é".repeat(8 * 1024), 0);
    check("é".repeat(300_000), 3);
    check("\u{1}".repeat(600_000), 14);
    check("\"".repeat(600_000), 5);
}
