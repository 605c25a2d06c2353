//! The page's data, as JSON.

use std::collections::BTreeMap;
use std::sync::Arc;

use hyper::{Response, StatusCode};
use serde_json::{Value as Json, json};

use super::{Body, Site, json as answer};
use crate::rule::{Query, render};
use crate::run_status::EventKind;

/// The default number of alerts in an answer, and the greatest.
const ALERTS: usize = 200;
const ALERTS_MAX: usize = 1_000;

fn problem(status: StatusCode, text: impl Into<String>) -> Response<Body> {
    answer(status, json!({ "problem": text.into() }))
}

impl Site {
    /// `/api/state`: the numbers, and their last minutes.
    pub(super) fn state(self: &Arc<Self>) -> Json {
        let mut state = self.numbers();
        if let Json::Object(state) = &mut state {
            state.insert("history".to_owned(), json!(self.history.samples()));
        }
        state
    }

    /// Returns only the numbers.
    pub(super) fn numbers(self: &Arc<Self>) -> Json {
        let snapshot = self.status.snapshot();
        let problems = self.problems(&snapshot);
        let lag = snapshot.lag_records();
        let delays: Vec<_> = [50, 95, 99].map(|percent| snapshot.delays.quantile(percent)).into();
        let mut state = serde_json::to_value(snapshot).unwrap_or_default();
        if let Json::Object(state) = &mut state {
            state.insert("run".to_owned(), json!(self.run));
            state.insert("problems".to_owned(), json!(problems));
            state.insert("lag_records".to_owned(), json!(lag));
            state.insert("delay_quantiles".to_owned(), json!(delays));
            state.insert("version".to_owned(), json!(env!("CARGO_PKG_VERSION")));
        }
        state
    }

    /// `/api/alerts`: the alerts that are kept, newest first.
    pub(super) fn alerts(&self, query: &BTreeMap<String, String>) -> Response<Body> {
        const KNOWN: [&str; 5] = ["rule", "status", "key", "severity", "limit"];
        if let Some(name) = query.keys().find(|name| !KNOWN.contains(&name.as_str())) {
            return problem(StatusCode::BAD_REQUEST, format!("{name}: known are {}", KNOWN.join(", ")));
        }
        let wanted = |name: &str| query.get(name).filter(|value| !value.is_empty());
        let limit = match wanted("limit").map_or(Ok(ALERTS), |text| text.parse()) {
            Ok(limit) => limit.min(ALERTS_MAX),
            Err(_) => return problem(StatusCode::BAD_REQUEST, "limit: a number is expected"),
        };
        let mut found = Vec::new();
        for entry in self.status.alerts() {
            let EventKind::Alert(alert) = &entry.what else { continue };
            let is = |name: &str, value: &str| wanted(name).is_none_or(|wanted| wanted == value);
            if found.len() >= limit || !is("rule", &alert.rule) || !is("status", alert.status.as_str()) {
                continue;
            }
            let Ok(body) = serde_json::from_str::<Json>(&alert.body) else { continue };
            let severity = body.get("severity").and_then(Json::as_str).unwrap_or_default();
            let key = wanted("key").is_none_or(|wanted| has_key(&body, wanted));
            if key && is("severity", severity) {
                found.push(json!({ "seq": entry.seq, "alert": body }));
            }
        }
        answer(StatusCode::OK, json!({ "run": self.run, "alerts": found }))
    }

    /// `/api/key`: a key's rows in its window with Postgres's totals, and the kept alerts about the key.
    pub(super) async fn key(&self, query: &BTreeMap<String, String>) -> Response<Body> {
        let (Some(name), Some(key)) = (query.get("rule"), query.get("key")) else {
            return problem(StatusCode::BAD_REQUEST, "rule and key are needed");
        };
        let Some(rule) = self.tracer.rule(name) else {
            return problem(StatusCode::NOT_FOUND, format!("there is no rule {name}"));
        };
        if rule.query.text.is_some() {
            let text = format!("Postgres alone evaluates rule {name}, so no rows are known to be behind a key");
            return problem(StatusCode::NOT_FOUND, text);
        }
        let Some(values) = key_values(&rule.query, key) else {
            let columns = column_names(&rule.query).collect::<Vec<_>>().join(", ");
            return problem(StatusCode::BAD_REQUEST, format!("key: an object with {columns} is expected"));
        };
        let trace = match self.tracer.trace(name, &values).await {
            Ok(Some(trace)) => trace,
            Ok(None) => return problem(StatusCode::NOT_FOUND, format!("there is no rule {name}")),
            Err(error) if is_of_the_key(&error) => {
                return problem(StatusCode::BAD_REQUEST, format!("key: {error}"));
            }
            Err(error) => return problem(StatusCode::SERVICE_UNAVAILABLE, format!("Postgres: {error}")),
        };
        let measure = measure_of(&rule.query);
        let columns: serde_json::Map<String, Json> = column_names(&rule.query)
            .map(str::to_owned)
            .zip(values.iter().map(|value| value.clone().map_or(Json::Null, Json::String)))
            .collect();
        let alerts = self.status.alerts();
        let confirmed = alerts.iter().rev().filter_map(|entry| {
            let EventKind::Alert(alert) = &entry.what else { return None };
            let body = serde_json::from_str::<Json>(&alert.body).ok().filter(|_| alert.rule == *name)?;
            let same = column_names(&rule.query).all(|column| {
                body.get("key").and_then(|key| key.get(column)).map(as_text) == columns.get(column).map(as_text)
            });
            let numbers = body.get("database").filter(|numbers| !numbers.is_null()).or(body.get("stream"))?;
            same.then(|| {
                json!({
                    "id": body.get("id"),
                    "status": alert.status.as_str(),
                    "message": body.get("message"),
                    "at": body.get("window").and_then(|window| window.get("to")),
                    "total": measure.and_then(|measure| numbers.get(measure)).map(as_text),
                })
            })
        });
        let confirmed: Vec<Json> = confirmed.collect();
        let threshold = rule.query.threshold();
        answer(
            StatusCode::OK,
            json!({
                "rule": name,
                "key": columns,
                "having": render::having_text(&rule.query),
                "threshold": threshold.map(|threshold| threshold.value.to_string()),
                "comparison": threshold.map(|threshold| threshold.comparison.as_str()),
                "measure": measure,
                "trace": trace,
                "confirmed": confirmed,
            }),
        )
    }
}

fn column_names(query: &Query) -> impl Iterator<Item = &str> {
    query.group_by.iter().filter_map(|index| query.table.columns.get(*index)).map(|column| column.name.as_str())
}

/// Returns the name of the output that HAVING compares, if the select list has it.
fn measure_of(query: &Query) -> Option<&str> {
    let compared = query.threshold()?.aggregate;
    query.outputs.iter().find(|output| output.aggregate() == Some(compared)).map(|output| output.name.as_str())
}

/// Returns the values of a key. The text is an object of its columns, or plain text for one column. `None`: it does not
/// fit.
fn key_values(query: &Query, text: &str) -> Option<Vec<Option<String>>> {
    match serde_json::from_str::<Json>(text) {
        Ok(Json::Object(key)) => column_names(query)
            .map(|name| match key.get(name)? {
                Json::Null => Some(None),
                value => Some(Some(as_text(value))),
            })
            .collect(),
        _ if query.group_by.len() == 1 => Some(vec![Some(text.to_owned())]),
        _ => None,
    }
}

fn as_text(value: &Json) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// Whether an alert has this key. The text is one of its values, or the whole key as JSON, with numbers as such or as
/// text.
fn has_key(body: &Json, wanted: &str) -> bool {
    let Some(Json::Object(key)) = body.get("key") else { return false };
    let texts = |key: &serde_json::Map<String, Json>| -> BTreeMap<String, Option<String>> {
        key.iter().map(|(name, value)| (name.clone(), (!value.is_null()).then(|| as_text(value)))).collect()
    };
    let is_whole = |wanted: Json| wanted.as_object().is_some_and(|wanted| texts(wanted) == texts(key));
    key.values().any(|value| as_text(value) == wanted) || serde_json::from_str(wanted).is_ok_and(is_whole)
}

/// Whether the text does not fit the column's type: SQLSTATE class 22.
fn is_of_the_key(error: &sqlx::Error) -> bool {
    error.as_database_error().and_then(|error| error.code()).is_some_and(|code| code.starts_with("22"))
}
