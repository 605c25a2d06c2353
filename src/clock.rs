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
