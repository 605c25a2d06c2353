//! The one way of trying again, and of saying so: a line when an outage begins, one a minute, and one when it is over.

use std::fmt::Display;
use std::time::Duration;

use tokio::time::Instant;

use crate::failure::HasKind;

/// How often a lasting outage is logged.
const LOGGED_EVERY: Duration = Duration::from_secs(60);

/// How long to wait between attempts, and when to give up.
#[derive(Clone, Copy, Debug)]
pub struct Retry {
    /// The first wait; each further one is twice as long.
    first: Duration,
    /// The longest wait.
    max: Duration,
    /// How long attempts go on; `None`: until one succeeds.
    give_up_after: Option<Duration>,
}

impl Retry {
    /// While a job works: outages are waited for, however long they last.
    pub const WORKING: Self =
        Self { first: Duration::from_millis(100), max: Duration::from_secs(10), give_up_after: None };

    /// At a start, or for a command: servers that are not there yet are waited for, for so long.
    pub const fn for_at_most(patience: Duration) -> Self {
        Self { first: Duration::from_millis(200), max: Duration::from_secs(2), give_up_after: Some(patience) }
    }

    /// Once, without another attempt.
    pub const ONCE: Self = Self::for_at_most(Duration::ZERO);

    /// Repeats an attempt for as long as its error may pass. `what` names the attempt in the log.
    ///
    /// # Errors
    /// The last attempt's.
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

/// Something that does not work for a while: what the log says of it.
#[derive(Debug)]
pub struct Outage {
    what: String,
    since: Option<Instant>,
    logged: Option<Instant>,
}

impl Outage {
    /// None yet. `what` names it in the log, e.g. `reading the recovery topic`.
    pub fn new(what: &str) -> Self {
        Self { what: what.to_owned(), since: None, logged: None }
    }

    /// Another attempt has failed.
    pub fn goes_on(&mut self, error: &dyn Display) {
        let now = Instant::now();
        let since = *self.since.get_or_insert(now);
        if self.logged.is_none_or(|logged| now.duration_since(logged) >= LOGGED_EVERY) {
            self.logged = Some(now);
            let seconds = now.duration_since(since).as_secs();
            tracing::warn!(outage.seconds = seconds, %error, "{}: unreachable, retrying", self.what);
        } else {
            tracing::debug!(%error, "{}: still unreachable", self.what);
        }
    }

    /// It works.
    pub fn is_over(&mut self) {
        self.logged = None;
        if let Some(since) = self.since.take() {
            tracing::info!(outage.seconds = since.elapsed().as_secs(), "{}: reachable again", self.what);
        }
    }
}

/// Looks until there is something, waiting in between.
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
