//! Reads the time of day. No other module does.

use crate::model::Timestamp;
use crate::planted;

/// The source of NOW().
pub trait Clock {
    /// The present instant, in UTC.
    fn now(&self) -> Timestamp;

    /// Sets a lower bound from an earlier run: from here on the clock returns nothing before it.
    fn not_before(&self, _past: Timestamp) {}
}

/// How far the wall clock may deviate from the monotonic one between two readings, in microseconds.
const JUMP_MICROS: i64 = 10_000_000;

/// How long a jump must last until it is accepted, in microseconds: the machine slept, or its clock was corrected.
const BELIEVED_AFTER_MICROS: i64 = 600_000_000;

/// A past instant that is further ahead than this, in microseconds, is ignored: it came from a wrong clock.
const AHEAD_MAX_MICROS: i64 = 3_600_000_000;

/// Follows the wall clock, except for its jumps. Until a jump is accepted, time passes by the monotonic clock, so that
/// no row leaves a window because the time was set. It never goes back. Pure.
#[derive(Debug, Default)]
struct Steady {
    /// The last accepted reading, wall and monotonic.
    base: Option<(i64, i64)>,
    /// When the wall clock was first seen to have jumped.
    jumped_at: Option<i64>,
    last: i64,
}

/// The result of a reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    Steady,
    /// The wall clock has jumped by this many microseconds, as of this reading.
    Jumped(i64),
    Believed(i64),
}

impl Steady {
    fn tell(&mut self, wall: i64, monotonic: i64) -> (i64, Told) {
        let (base_wall, base_monotonic) = *self.base.get_or_insert((wall, monotonic));
        let expected = base_wall.saturating_add(monotonic.saturating_sub(base_monotonic));
        let off = wall.saturating_sub(expected);
        let (now, told) = if off.saturating_abs() <= JUMP_MICROS || planted::bug("jump-believed") {
            self.jumped_at = None;
            (wall, Told::Steady)
        } else {
            let first = self.jumped_at.is_none();
            let since = *self.jumped_at.get_or_insert(monotonic);
            if monotonic.saturating_sub(since) >= BELIEVED_AFTER_MICROS {
                self.jumped_at = None;
                (wall, Told::Believed(off))
            } else {
                (expected, if first { Told::Jumped(off) } else { Told::Steady })
            }
        };
        if self.jumped_at.is_none() {
            self.base = Some((wall, monotonic));
        }
        self.last = self.last.max(now);
        (self.last, told)
    }
}

/// The machine's clock.
#[derive(Debug)]
pub struct SystemClock {
    steady: std::cell::RefCell<Steady>,
    started: std::time::Instant,
}

impl Default for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the one clock")]
    fn default() -> Self {
        Self { steady: std::cell::RefCell::default(), started: std::time::Instant::now() }
    }
}

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the one clock")]
    fn now(&self) -> Timestamp {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        let wall = i64::try_from(since.as_micros()).unwrap_or(i64::MAX);
        let monotonic = i64::try_from(self.started.elapsed().as_micros()).unwrap_or(i64::MAX);
        let (now, told) = self.steady.borrow_mut().tell(wall, monotonic);
        match told {
            Told::Steady => {}
            Told::Jumped(off) => tracing::error!(
                seconds = off / 1_000_000,
                "the wall clock jumped against the monotonic one; windows go on by the latter until it is steady again, or for ten minutes"
            ),
            Told::Believed(off) => tracing::warn!(seconds = off / 1_000_000, "the wall clock's jump is believed now"),
        }
        Timestamp(now)
    }

    fn not_before(&self, past: Timestamp) {
        let now = self.now();
        if past.0.saturating_sub(now.0) > AHEAD_MAX_MICROS {
            tracing::error!(%past, %now, "the last run's clock was ahead by more than an hour; this one's is believed");
            return;
        }
        let mut steady = self.steady.borrow_mut();
        steady.last = steady.last.max(past.0);
    }
}

/// A clock for tests: it begins at an instant and follows tokio's time, which can be paused.
#[derive(Clone, Copy, Debug)]
pub struct TokioClock {
    first: Timestamp,
    started: tokio::time::Instant,
}

impl TokioClock {
    /// Creates a clock whose time is `first` now.
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

/// A clock for tests whose wall time can jump: [`SystemClock`]'s method, on tokio's time.
#[cfg(feature = "fakes")]
#[derive(Debug)]
pub struct JumpingClock {
    steady: std::cell::RefCell<Steady>,
    monotonic: TokioClock,
    /// The deviation of the wall clock, in microseconds.
    off: std::rc::Rc<std::cell::Cell<i64>>,
}

#[cfg(feature = "fakes")]
impl JumpingClock {
    /// Creates a clock that follows `monotonic` with this deviation.
    pub fn new(monotonic: TokioClock, off: std::rc::Rc<std::cell::Cell<i64>>) -> Self {
        let clock = Self { steady: std::cell::RefCell::default(), monotonic, off };
        clock.now(); // what it shows at first is believed
        clock
    }
}

#[cfg(feature = "fakes")]
impl Clock for JumpingClock {
    fn now(&self) -> Timestamp {
        let monotonic = self.monotonic.now().0;
        Timestamp(self.steady.borrow_mut().tell(monotonic.saturating_add(self.off.get()), monotonic).0)
    }

    fn not_before(&self, past: Timestamp) {
        let now = self.now();
        if past.0.saturating_sub(now.0) <= AHEAD_MAX_MICROS {
            let mut steady = self.steady.borrow_mut();
            steady.last = steady.last.max(past.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000;

    /// Checks readings of (wall, monotonic) in seconds, and the result of each.
    fn check(readings: &[(i64, i64, i64, Told)]) {
        let mut steady = Steady::default();
        for (wall, monotonic, want, told) in readings {
            let got = steady.tell(wall * SECOND, monotonic * SECOND);
            assert_eq!(got, (want * SECOND, *told), "at {monotonic} s of {readings:?}");
        }
    }

    #[test]
    fn a_steady_clock_is_followed() {
        check(&[(1_000, 0, 1_000, Told::Steady), (1_005, 5, 1_005, Told::Steady), (1_012, 10, 1_012, Told::Steady)]);
    }

    #[test]
    fn it_never_goes_back() {
        check(&[(1_000, 0, 1_000, Told::Steady), (995, 1, 1_000, Told::Steady), (1_006, 6, 1_006, Told::Steady)]);
    }

    #[test]
    fn a_jump_is_waited_out() {
        check(&[
            (1_000, 0, 1_000, Told::Steady),
            (9_001, 1, 1_001, Told::Jumped(8_000 * SECOND)),
            (9_002, 2, 1_002, Told::Steady),
            (1_003, 3, 1_003, Told::Steady),
            (5, 4, 1_004, Told::Jumped(-999 * SECOND)),
            (1_005, 5, 1_005, Told::Steady),
        ]);
    }

    #[test]
    fn a_jump_that_stays_is_believed() {
        check(&[
            (1_000, 0, 1_000, Told::Steady),
            (9_001, 1, 1_001, Told::Jumped(8_000 * SECOND)),
            (9_600, 600, 1_600, Told::Steady),
            (9_601, 601, 9_601, Told::Believed(8_000 * SECOND)),
            (9_602, 602, 9_602, Told::Steady),
        ]);
    }
}
