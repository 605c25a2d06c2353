//! The content of an epoch of the monitor, with every kind of field.

use serde::{Deserialize, Serialize};
use serde_json::json;
use tripline::alert::Alert;
use tripline::episode::{Candidate, Episodes, Reason};
use tripline::model::{Key, Lsn, Position, Timestamp, Value};
use tripline::progress::Epoch;
use tripline::rule::evaluate::Evaluation;
use tripline::window::{Transition, Trigger};

use crate::{AT, epoch};

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Body {
    alerts: Vec<Alert>,
    waiting: Vec<(String, Key, Candidate)>,
}

pub(crate) fn full(number: u64) -> Epoch<Body> {
    let text = Key::new(vec![Value::Text("o'b\"r\n".into())]);
    let keys = [
        Key::Int(-1),
        text.clone(),
        Key::new(vec![Value::Null]),
        Key::new(vec![Value::Decimal(i128::MAX), Value::Bool(true), Value::Time(Timestamp::MIN), Value::Opaque]),
    ];
    let trigger = Trigger {
        position: Position { partition: 11, offset: i64::MAX },
        op: "c".to_owned(),
        lsn: Some(Lsn(u64::MAX)),
        tx_id: Some(u32::MAX),
        pk: Some(text.clone()),
        event_time: Some(Timestamp::MAX),
        committed_at: None,
    };
    // Raised by a change or by time, and refuted once or not asked yet.
    let mut episodes = Episodes::default();
    for (index, key) in keys.into_iter().enumerate() {
        let trigger = (index > 0).then(|| Box::new(trigger.clone()));
        let reason = Reason::default();
        let outputs = serde_json::Map::new();
        let transition = Transition { key, evaluation: Evaluation::Holds, now: AT, trigger, reason, outputs };
        episodes.raise(&transition, AT);
        if index > 1 {
            continue;
        }
        for asked in episodes.due(AT, 1) {
            episodes.answer(&asked, false, true, true, AT);
        }
    }
    // As it is stored: a statement under way is not.
    let stored = |candidate: &Candidate| serde_json::from_value(serde_json::to_value(candidate).unwrap()).unwrap();
    let waiting = |(key, candidate): (&Key, &Candidate)| ("weekly-spend".to_owned(), key.clone(), stored(candidate));
    let alert = |status: &str| {
        let alert = json!({
            "id": uuid::Uuid::from_u128(7),
            "rule": "weekly-spend",
            "key": text,
            "status": status,
            "record_key": "weekly-spend|o'b\"r\n",
            "line": "User ü ($3,441.50)\nnext",
            "emitted_at": AT,
            "body": "{\"a\": 1.10,  \"b\":\"\\u0000\"}",
        });
        serde_json::from_value::<Alert>(alert).unwrap()
    };
    let waiting = episodes.candidates().map(waiting).collect();
    Epoch { body: Body { alerts: vec![alert("firing"), alert("resolved")], waiting }, ..epoch(number) }
}
