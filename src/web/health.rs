//! Whether the run is healthy.

use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;

use hyper::header::HeaderValue;
use hyper::{Response, StatusCode};
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::{Body, Site, plain};
use crate::confirm::postgres::trace::Tracer;
use crate::run_status::{Phase, StatusSnapshot};

/// How long an answer of Postgres counts.
const BELIEVED_FOR: Duration = Duration::from_secs(2);

/// The last answer of Postgres.
#[derive(Debug)]
pub(super) struct Health {
    postgres: Mutex<Option<(Instant, Result<(), String>)>>,
    last: std::sync::Mutex<Result<(), String>>,
}

impl Default for Health {
    /// Starts without an answer and without a known problem.
    fn default() -> Self {
        Self { postgres: Mutex::default(), last: std::sync::Mutex::new(Ok(())) }
    }
}

impl Health {
    /// Whether Postgres answers. It is asked again only after some time.
    pub(super) async fn postgres(&self, tracer: &Tracer) -> Result<(), String> {
        let mut known = self.postgres.lock().await;
        if let Some((at, answer)) = &*known
            && at.elapsed() < BELIEVED_FOR
        {
            return answer.clone();
        }
        let answer = tracer.ping().await;
        *known = Some((Instant::now(), answer.clone()));
        drop(known);
        *self.last() = answer.clone();
        answer
    }

    fn last(&self) -> MutexGuard<'_, Result<(), String>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The header of `/readyz` with its text in one word: `ready`, `not-ready` or `stalled`.
pub const READINESS_HEADER: &str = "x-tripline-readiness";

impl Site {
    /// Returns the problems of `/readyz` for a page that must not wait. It uses Postgres's last answer, and asks again
    /// in the background.
    pub(super) fn problems(self: &Arc<Self>, snapshot: &StatusSnapshot) -> Vec<String> {
        let site = Arc::clone(self);
        tokio::spawn(async move { site.health.postgres(&site.tracer).await });
        problems(snapshot, &self.health.last())
    }

    /// `/readyz`: all problems, one on each line.
    pub(super) async fn ready(&self) -> Response<Body> {
        let snapshot = self.status.snapshot();
        let problems = problems(&snapshot, &self.health.postgres(&self.tracer).await);
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

fn problems(snapshot: &StatusSnapshot, postgres: &Result<(), String>) -> Vec<String> {
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
    if let Err(problem) = postgres {
        problems.push(format!("Postgres does not answer: {problem}"));
    }
    problems
}
