//! Retries, and their log lines: one when an outage begins, one after 10 seconds, then one a minute, and one at its
//! end.
//!
//! - this file: attempts
//! - `servers`: the servers that are down

mod servers;

use std::fmt::Display;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::failure::{HasKind, Server};
use servers::{Line, Servers};

/// How often a lasting failure that does not come from a server is logged.
const LOGGED_EVERY: Duration = Duration::from_secs(60);

/// The waits between attempts, and the limit for all of them.
#[derive(Clone, Copy, Debug)]
pub struct Retry {
    /// The first wait. Each further one is twice as long.
    first: Duration,
    /// The longest wait.
    max: Duration,
    /// How long to retry. `None`: until an attempt succeeds.
    give_up_after: Option<Duration>,
}

impl Retry {
    /// For a working job: retries as long as an outage lasts.
    pub const WORKING: Self =
        Self { first: Duration::from_millis(100), max: Duration::from_secs(10), give_up_after: None };

    /// For a start or a command: waits this long for servers that are not there yet.
    pub const fn for_at_most(patience: Duration) -> Self {
        Self { first: Duration::from_millis(200), max: Duration::from_secs(2), give_up_after: Some(patience) }
    }

    /// One attempt without a retry.
    pub const ONCE: Self = Self::for_at_most(Duration::ZERO);

    /// Repeats an attempt while its error may be temporary. `what` names the attempt in the log.
    ///
    /// # Errors
    /// The last attempt's error.
    pub async fn run<T, E: HasKind + Display>(
        self,
        what: &str,
        mut attempt: impl AsyncFnMut() -> Result<T, E>,
    ) -> Result<T, E> {
        let mut outage = Outage::new(what);
        let started = Instant::now();
        let mut wait = self.first;
        loop {
            match attempt().await {
                Ok(done) => {
                    outage.is_over();
                    return Ok(done);
                }
                Err(error) if !error.is_retried() => return Err(error),
                Err(error) if self.give_up_after.is_some_and(|limit| started.elapsed() + wait > limit) => {
                    return Err(error);
                }
                Err(error) => outage.goes_on(&error),
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(self.max);
        }
    }
}

/// The attempts of one caller, and their log lines while they fail. An outage of a server is one outage for the whole
/// process: its callers share the lines.
#[derive(Debug)]
pub struct Outage {
    what: String,
    caller: u64,
    /// The server at which the last attempt failed.
    failing: Option<Server>,
    /// For a failure that does not come from a server: when it began, and when it was last logged.
    since: Option<Instant>,
    logged: Option<Instant>,
}

static SERVERS: Mutex<Servers> = Mutex::new(Servers::new());
static CALLERS: AtomicU64 = AtomicU64::new(0);

fn servers() -> MutexGuard<'static, Servers> {
    SERVERS.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Outage {
    /// Creates an outage that has not begun. `what` names the attempts in the log, e.g. `reading the recovery topic`.
    pub fn new(what: &str) -> Self {
        let caller = CALLERS.fetch_add(1, Ordering::Relaxed);
        Self { what: what.to_owned(), caller, failing: None, since: None, logged: None }
    }

    /// Records that another attempt has failed.
    pub fn goes_on(&mut self, error: &(impl HasKind + Display)) {
        match error.server() {
            Some(server) => self.fails_at(server, error),
            None => self.fails(error),
        }
    }

    /// Records that this server does not answer.
    pub fn fails_at(&mut self, server: Server, error: &dyn Display) {
        self.failing = Some(server);
        let (name, what) = (server.name(), &self.what);
        match servers().failed(server, self.caller, Instant::now()) {
            Some(Line::Away) => tracing::warn!(%error, "{name} is unreachable, retrying: {what}"),
            Some(Line::StillAway(since, attempts)) => {
                tracing::warn!(outage.seconds = since.as_secs(), attempts, %error, "{name} is still unreachable");
            }
            Some(Line::Back(_)) | None => tracing::debug!(%error, "{what}: {name} is unreachable"),
        }
    }

    fn fails(&mut self, error: &dyn Display) {
        let now = Instant::now();
        let since = *self.since.get_or_insert(now);
        if self.logged.is_none_or(|logged| now.duration_since(logged) >= LOGGED_EVERY) {
            self.logged = Some(now);
            let seconds = now.duration_since(since).as_secs();
            tracing::warn!(outage.seconds = seconds, %error, "{}: failed, retrying", self.what);
        } else {
            tracing::debug!(%error, "{}: failed again", self.what);
        }
    }

    /// Records that an attempt has succeeded.
    pub fn is_over(&mut self) {
        if let Some(server) = self.failing.take() {
            self.works_at(server);
        }
        self.logged = None;
        if let Some(since) = self.since.take() {
            tracing::info!(outage.seconds = since.elapsed().as_secs(), "{}: works again", self.what);
        }
    }

    /// Records that this server answers. The end of an outage is logged after every other failing client has succeeded
    /// or has ended.
    pub fn works_at(&mut self, server: Server) {
        self.failing = None;
        if let Some(Line::Back(since)) = servers().succeeded(server, self.caller, Instant::now()) {
            tracing::info!(outage.seconds = since.as_secs(), "{} is reachable again", server.name());
        }
    }
}

impl Drop for Outage {
    fn drop(&mut self) {
        if self.failing.is_some() {
            servers().forget(self.caller);
        }
    }
}

/// Calls `look` at an interval until it returns a value.
pub async fn poll<T>(interval: Duration, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    loop {
        if let Some(found) = look().await {
            return found;
        }
        tokio::time::sleep(interval).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::{CallError, Kind};

    fn error(kind: Kind) -> CallError {
        CallError::new("the test", "no", kind)
    }

    #[tokio::test(start_paused = true)]
    async fn an_outage_is_waited_for() {
        let started = Instant::now();
        let mut attempts = 0;
        let done = Retry::WORKING.run("test", async || {
            attempts += 1;
            if attempts < 12 { Err(error(Kind::Unreachable)) } else { Ok(attempts) }
        });
        assert_eq!(done.await, Ok(12));
        // 0.1 + 0.2 + … + 6.4 s are seven waits, then 10 s each.
        assert_eq!(started.elapsed(), Duration::from_millis(12_700 + 4 * 10_000));
    }

    #[tokio::test(start_paused = true)]
    async fn what_cannot_pass_is_not_tried_again() {
        for kind in Kind::ALL.into_iter().filter(|kind| *kind != Kind::Unreachable) {
            let mut attempts = 0;
            let done: Result<(), _> = Retry::WORKING
                .run("test", async || {
                    attempts += 1;
                    Err(error(kind))
                })
                .await;
            assert_eq!((done, attempts), (Err(error(kind)), 1));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn patience_ends() {
        let started = Instant::now();
        let mut attempts = 0;
        let retry = Retry::for_at_most(Duration::from_secs(3));
        let done: Result<(), _> = retry
            .run("test", async || {
                attempts += 1;
                Err(error(Kind::Unreachable))
            })
            .await;
        assert_eq!(done, Err(error(Kind::Unreachable)));
        assert_eq!((attempts, started.elapsed()), (5, Duration::from_secs(3)));
        attempts = 0;
        let done: Result<(), _> = Retry::ONCE
            .run("test", async || {
                attempts += 1;
                Err(error(Kind::Unreachable))
            })
            .await;
        assert_eq!((done.is_err(), attempts), (true, 1));
    }
}
