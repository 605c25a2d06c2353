//! A schema registry with the schemas of a capture, as Confluent's answers.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value as Json, json};

use crate::harness::Record;
use crate::harness::http::serve;

pub(super) struct Registry {
    asked: Arc<AtomicUsize>,
}

impl Registry {
    /// `schemas`: by id. `login`: `user:password`, which is asked for.
    pub(super) fn start(port: u16, schemas: &str, login: Option<&str>) -> Self {
        let schemas: Json = serde_json::from_str(schemas).unwrap();
        let login = login.map(|login| format!("authorization: Basic {}", STANDARD.encode(login)));
        let asked = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&asked);
        serve(port, move |head, _| {
            if login.as_ref().is_some_and(|login| !head.lines().any(|line| line.eq_ignore_ascii_case(login))) {
                return ("401 Unauthorized", json!({"error_code": 401}).to_string());
            }
            count.fetch_add(1, Ordering::SeqCst);
            let path = head.split(' ').nth(1).unwrap_or_default();
            match path.strip_prefix("/schemas/ids/").and_then(|id| schemas.get(id)) {
                None => ("404 Not Found", json!({"error_code": 40_403}).to_string()),
                Some(schema) => ("200 OK", json!({"schema": schema.to_string()}).to_string()),
            }
        });
        Self { asked }
    }

    /// How often a schema was asked for by whoever may.
    pub(super) fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

/// A record of a capture, as one of this database.
pub(super) fn record(line: &str, database: &str) -> Record {
    let record: Json = serde_json::from_str(line).unwrap();
    let part = |name: &str| record[name]["b64"].as_str().map(|text| STANDARD.decode(text).unwrap());
    // A text of Avro has its length before it, doubled.
    let text = |text: &str| [&[u8::try_from(2 * text.len()).unwrap()], text.as_bytes()].concat();
    let (captured, own) = (text("postgres"), text(database));
    let value = part("value").map(|value| {
        let at = value.windows(captured.len()).position(|window| window == captured).unwrap();
        [&value[..at], &own, &value[at + captured.len()..]].concat()
    });
    Record { key: part("key"), value, headers: Vec::new() }
}
