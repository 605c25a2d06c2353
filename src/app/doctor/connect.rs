//! Asking Kafka Connect's REST interface, on a blocking thread.

use std::time::Duration;

use serde_json::Value as Json;

use super::checks::connect::connectors;
use super::facts::Connector;
use crate::app::health::http_client;
use crate::config::without_login;
use crate::failure::{Exit, Failure};

/// How long the answer may take: a worker is slow while it is busy with another connector.
const TIMEOUT: Duration = Duration::from_secs(15);

/// All connectors with their settings and states. `url` may hold a login.
pub(super) async fn ask(url: &str) -> Result<Vec<Connector>, Failure> {
    let whole = format!("{}/connectors?expand=info&expand=status", url.trim_end_matches('/'));
    let asked = tokio::task::spawn_blocking(move || get(&whole)).await;
    let answer = asked.unwrap_or_else(|error| Err(Failure { exit: Exit::Failed, message: error.to_string() }))?;
    connectors(&answer).ok_or_else(|| Failure {
        exit: Exit::Misconfigured,
        message: "what answers is not Kafka Connect's REST interface".to_owned(),
    })
}

fn get(url: &str) -> Result<Json, Failure> {
    // An error may name the address with its login.
    let (secret, plain) = (url, without_login(url));
    let unanswered = |exit: Exit, text: String| Failure { exit, message: text.replace(secret, &plain) };
    let mut answer =
        http_client(TIMEOUT).get(url).call().map_err(|error| unanswered(Exit::Unreachable, error.to_string()))?;
    match answer.status().as_u16() {
        200 => answer.body_mut().read_json().map_err(|error| unanswered(Exit::Misconfigured, error.to_string())),
        status @ (401 | 403) => Err(unanswered(Exit::Refused, format!("it refuses (HTTP status {status})"))),
        status @ (409 | 500..) => {
            Err(unanswered(Exit::Unreachable, format!("it is busy or broken (HTTP status {status})")))
        }
        status => Err(unanswered(Exit::Misconfigured, format!("HTTP status {status}: is it Kafka Connect?"))),
    }
}
