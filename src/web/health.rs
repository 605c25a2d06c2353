//! Whether the run is well.

use std::time::Duration;

use hyper::header::HeaderValue;
use hyper::{Response, StatusCode};
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::{Body, Site, plain};
use crate::confirm::postgres::trace::Tracer;
use crate::run_status::{Phase, StatusSnapshot};

/// How long an answer of Postgres is believed.
const BELIEVED_FOR: Duration = Duration::from_secs(2);

/// What Postgres last said.
#[derive(Debug, Default)]
pub(super) struct Health {
    postgres: Mutex<Option<(Instant, Result<(), String>)>>,
}

impl Health {
    /// Whether Postgres answers, asked anew only every so often.
    pub(super) async fn postgres(&self, tracer: &Tracer) -> Result<(), String> {
        let mut known = self.postgres.lock().await;
        if let Some((at, answer)) = &*known
            && at.elapsed() < BELIEVED_FOR
        {
            return answer.clone();
        }
        let answer = tracer.ping().await;
        *known = Some((Instant::now(), answer.clone()));
        answer
    }
}

/// The header of `/readyz` that says in one word what its text explains: `ready`, `not-ready` or `stalled`.
pub const READINESS_HEADER: &str = "x-tripline-readiness";

impl Site {
    /// `/readyz`: everything that is not as it should be, a line each.
    pub(super) async fn ready(&self) -> Response<Body> {
        let snapshot = self.status.snapshot();
        let mut problems = problems(&snapshot);
        if let Err(problem) = self.health.postgres(&self.tracer).await {
            problems.push(format!("Postgres does not answer: {problem}"));
        }
        let (state, mut response) = if problems.is_empty() {
            ("ready", plain(StatusCode::OK, "ready\n".to_owned()))
        } else {
            let state = if snapshot.stalled.is_some() { "stalled" } else { "not-ready" };
            (state, plain(StatusCode::SERVICE_UNAVAILABLE, format!("not ready\n{}\n", problems.join("\n"))))
        };
        response.headers_mut().insert(READINESS_HEADER, HeaderValue::from_static(state));
        response
    }
}

fn problems(snapshot: &StatusSnapshot) -> Vec<String> {
    let phase = match snapshot.phase {
        Phase::Joining => Some("it has not joined the group, or stands by until another instance is gone"),
        Phase::Recovering => Some("it is finding out where to go on from"),
        Phase::Rebuilding => Some("the windows are being rebuilt"),
        Phase::Ended => Some("the run has ended"),
        Phase::Working => None,
    };
    let mut problems: Vec<String> = phase.into_iter().map(str::to_owned).collect();
    if snapshot.cut_off {
        problems.push("no broker of Kafka answers".to_owned());
    }
    if let Some(why) = snapshot.paused {
        problems.push(format!("reading pauses: {}", why.as_str()));
    }
    if snapshot.audit.unhealed > 0 {
        let keys = snapshot.audit.unhealed;
        problems.push(format!("memory differs from the table for {keys} keys, which are being read from it"));
    }
    if let Some((why, since)) = snapshot.stalled {
        problems.push(format!("stalled for {} s: {why}", since.as_secs()));
    }
    problems
}
