//! A schema registry with the schemas of a capture, as Confluent's answers.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value as Json, json};

use crate::harness::Record;
use crate::harness::http::{serve, serve_tls};

pub(super) struct Registry {
    asked: Arc<AtomicUsize>,
}

impl Registry {
    /// `schemas`: by id. `login`: `user:password`, which is asked for.
    pub(super) fn start(port: u16, schemas: &str, login: Option<&str>) -> Self {
        let asked = Arc::default();
        serve(port, answers(schemas, login, &asked));
        Self { asked }
    }

    /// The same over TLS, with this certificate and its key in PEM.
    pub(super) fn start_tls(port: u16, certificate: &(String, String), schemas: &str, login: Option<&str>) -> Self {
        let asked = Arc::default();
        serve_tls(port, certificate, answers(schemas, login, &asked));
        Self { asked }
    }

    /// How often a schema was asked for by whoever may.
    pub(super) fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

fn answers(
    schemas: &str,
    login: Option<&str>,
    asked: &Arc<AtomicUsize>,
) -> impl Fn(&str, &str) -> (&'static str, String) + Send + use<> {
    let schemas: Json = serde_json::from_str(schemas).unwrap();
    let login = login.map(|login| format!("authorization: Basic {}", STANDARD.encode(login)));
    let count = Arc::clone(asked);
    move |head, _| {
        if login.as_ref().is_some_and(|login| !head.lines().any(|line| line.eq_ignore_ascii_case(login))) {
            return ("401 Unauthorized", json!({"error_code": 401}).to_string());
        }
        count.fetch_add(1, Ordering::SeqCst);
        let path = head.split(' ').nth(1).unwrap_or_default();
        match path.strip_prefix("/schemas/ids/").and_then(|id| schemas.get(id)) {
            None => ("404 Not Found", json!({"error_code": 40_403}).to_string()),
            Some(schema) => ("200 OK", json!({"schema": schema.to_string()}).to_string()),
        }
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
