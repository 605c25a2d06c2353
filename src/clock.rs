//! The only place that reads the time of day.

use crate::model::Timestamp;

/// Where NOW() comes from.
pub trait Clock {
    /// The present instant, in UTC.
    fn now(&self) -> Timestamp;
}

/// The machine's clock. Never goes back within a process: a step back repeats the last instant.
#[derive(Debug, Default)]
pub struct SystemClock {
    last: std::cell::Cell<i64>,
}

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the one clock")]
    fn now(&self) -> Timestamp {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        let now = i64::try_from(since.as_micros()).unwrap_or(i64::MAX).max(self.last.get());
        self.last.set(now);
        Timestamp(now)
    }
}

/// A clock for tests: a first instant, and then as time passes for tokio, whose time can be paused.
#[derive(Clone, Copy, Debug)]
pub struct TokioClock {
    first: Timestamp,
    started: tokio::time::Instant,
}

impl TokioClock {
    /// It is `first` now.
    pub fn starting_at(first: Timestamp) -> Self {
        Self { first, started: tokio::time::Instant::now() }
    }
}

impl Clock for TokioClock {
    fn now(&self) -> Timestamp {
        let passed = i64::try_from(self.started.elapsed().as_micros()).unwrap_or(i64::MAX);
        Timestamp(self.first.0.saturating_add(passed))
    }
}
