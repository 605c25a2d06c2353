//! Asking the database at start, when it may not be there yet.

use std::future::Future;
use std::time::Duration;

use tokio::time::Instant;

use super::Exit;
use super::failure::{Failure, refusal};
use crate::config;

/// The first wait before a server that is not there is tried again.
pub(super) const RETRY_FIRST: Duration = Duration::from_millis(200);
/// The longest wait before a server that is not there is tried again.
pub(super) const RETRY_MAX: Duration = Duration::from_secs(2);

/// How long connecting may take.
pub(super) const CONNECT_MAX: Duration = Duration::from_secs(5);
/// How long an attempt may take in all, unless the patience is longer: statements have limits of their own in the server,
/// which a server that is stuck does not keep.
const ATTEMPT_MAX: Duration = Duration::from_secs(120);

/// Waits for an answer that a server may owe for ever: it has accepted the connection, and is stopped or stuck.
///
/// # Errors
/// The server's, or that there was none within `limit`.
pub(super) async fn answered<T, E: From<sqlx::Error>>(
    limit: Duration,
    answer: impl Future<Output = Result<T, E>>,
) -> Result<T, E> {
    tokio::time::timeout(limit, answer).await.unwrap_or_else(|_| {
        let silent = std::io::Error::new(std::io::ErrorKind::TimedOut, format!("no answer within {limit:?}"));
        Err(sqlx::Error::Io(silent).into())
    })
}

/// Why an attempt failed.
pub(super) enum AttemptError {
    /// The database answered, and the settings do not fit what it said.
    Wrong(String),
    /// It did not answer, or refused.
    Connection(sqlx::Error),
}

impl From<sqlx::Error> for AttemptError {
    fn from(error: sqlx::Error) -> Self {
        Self::Connection(error)
    }
}

/// Repeats an attempt until the database of this URL is there.
pub(super) async fn when_there<T>(
    url: &str,
    patience: Duration,
    mut attempt: impl AsyncFnMut() -> Result<T, AttemptError>,
) -> Result<T, Failure> {
    let deadline = Instant::now() + patience;
    let mut wait = RETRY_FIRST;
    loop {
        let failed = match answered(patience.max(ATTEMPT_MAX), attempt()).await {
            Ok(done) => return Ok(done),
            Err(AttemptError::Wrong(message)) => return Err(Failure::new(Exit::Misconfigured, message)),
            Err(AttemptError::Connection(error)) => error,
        };
        let url = config::redact_url(url);
        if let Some(exit) = refusal(&failed) {
            return Err(Failure::new(exit, format!("Postgres at {url} refused: {failed}")));
        }
        if Instant::now() + wait > deadline {
            return Err(Failure::new(
                Exit::Unreachable,
                format!(
                    "Postgres at {url} could not be reached within {patience:?}: {failed}; is it running, and is postgres.url right?"
                ),
            ));
        }
        tracing::warn!(url, error = %failed, "waiting for Postgres");
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(RETRY_MAX);
    }
}
