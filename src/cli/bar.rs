//! How far a run is, on standard error: one line drawn again and again on a terminal, a line of the log every few seconds
//! elsewhere.

use std::io::{IsTerminal, LineWriter, Write, stderr};
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::job::gauge::{Gauge, Reading};

/// How often the line is drawn.
const DRAWN_EVERY: Duration = Duration::from_millis(100);
/// How often the log tells.
const LOGGED_EVERY: Duration = Duration::from_secs(5);
/// Characters between the brackets.
const WIDTH: u64 = 20;
/// Bytes of a line of the log sink that are written at once: more than an alert's message may have.
const LINE_MAX: usize = 32 * 1_024;

/// Back to the line's beginning, and nothing is on it.
const CLEAR: &[u8] = b"\r\x1b[K";

/// Shows a gauge until it is ended.
pub(super) struct Bar {
    showing: JoinHandle<()>,
}

impl Bar {
    /// `doing`: what the log calls it. `until_read`: it ends by itself once everything that there was has been read.
    pub(super) fn start(gauge: Arc<Gauge>, doing: &'static str, until_read: bool) -> Self {
        let colour = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        let showing = if is_drawn() {
            tokio::spawn(every(DRAWN_EVERY, gauge, until_read, move |seen, passed| {
                // Cut rather than wrapped at the terminal's edge; the cursor goes back, so that a line of the log that
                // comes in between stands in place of this one.
                draw(format!("\x1b[?7l\r{}\x1b[K\r\x1b[?7h", line(seen, passed, colour)).as_bytes());
            }))
        } else {
            tokio::spawn(every(LOGGED_EVERY, gauge, until_read, move |seen, passed| {
                let Reading { all, read, waiting } = seen;
                let (percent, per_second, left) = (percent(seen), per_second(read, passed), left(seen, passed));
                let seconds_left = left.map(|left| left.as_secs());
                tracing::info!(read, all, percent, per_second, seconds_left, waiting, "{doing}");
            }))
        };
        Self { showing }
    }

    /// The line is gone after this.
    pub(super) async fn end(self) {
        self.showing.abort();
        let _ = self.showing.await;
        if is_drawn() {
            draw(CLEAR);
        }
    }
}

/// Lines on standard error that do not run into a bar that is drawn there.
pub(super) fn lines() -> impl Write {
    LineWriter::with_capacity(LINE_MAX, Cleared)
}

struct Cleared;

impl Write for Cleared {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let mut out = stderr().lock();
        if is_drawn() {
            out.write_all(CLEAR)?;
        }
        out.write_all(bytes)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        stderr().flush()
    }
}

fn is_drawn() -> bool {
    stderr().is_terminal() && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

/// What cannot be shown is no reason to stop.
fn draw(bytes: &[u8]) {
    let mut out = stderr().lock();
    let _ = out.write_all(bytes).and_then(|()| out.flush());
}

/// Shows the gauge again and again, with the time since the first record was read.
async fn every(interval: Duration, gauge: Arc<Gauge>, until_read: bool, show: impl Fn(Reading, Duration)) {
    let (mut began, mut passed) = (None, Duration::ZERO);
    let mut last = Reading::default();
    loop {
        tokio::time::sleep(interval).await;
        if until_read && gauge.is_read() {
            if is_drawn() {
                draw(CLEAR);
            }
            return;
        }
        let seen = gauge.look();
        if seen.all > 0 && (seen.read < seen.all || seen.read > last.read) {
            passed = began.get_or_insert_with(Instant::now).elapsed(); // what comes after reading does not slow it down
        }
        last = seen;
        show(seen, passed);
    }
}

/// `[#########-----------]  45 %  450,000 of 1,000,000 records  150,000/s  0:04 left  12 candidates waiting`
fn line(seen: Reading, passed: Duration, colour: bool) -> String {
    let Reading { all, read, waiting } = seen;
    if all == 0 {
        return "starting".to_owned();
    }
    let full = usize::try_from(read.saturating_mul(WIDTH) / all).unwrap_or(0);
    let rest = usize::try_from(WIDTH).unwrap_or(0).saturating_sub(full);
    let (on, off) = if colour { ("\x1b[32m", "\x1b[0m") } else { ("", "") };
    let bar = format!("[{on}{}{off}{}]", "#".repeat(full), "-".repeat(rest));
    let mut parts = vec![
        bar,
        format!("{:>3} %", percent(seen)),
        format!("{} of {} records", grouped(read), grouped(all)),
        format!("{}/s", grouped(per_second(read, passed))),
    ];
    parts.extend(left(seen, passed).map(|left| format!("{} left", clock(left))));
    if waiting > 0 {
        parts.push(format!("{} candidates waiting", grouped(waiting)));
    }
    parts.join("  ")
}

fn percent(seen: Reading) -> u64 {
    seen.read.saturating_mul(100).checked_div(seen.all).unwrap_or(0)
}

fn per_second(read: u64, passed: Duration) -> u64 {
    let millis = u64::try_from(passed.as_millis()).unwrap_or(u64::MAX);
    read.saturating_mul(1_000).checked_div(millis).unwrap_or(0)
}

/// How long the rest takes if it goes on like this; `None` while that cannot be said, and at the end.
fn left(seen: Reading, passed: Duration) -> Option<Duration> {
    let rest = u128::from(seen.all.checked_sub(seen.read).filter(|rest| *rest > 0)?);
    let millis = rest.saturating_mul(passed.as_millis()).checked_div(u128::from(seen.read))?;
    Some(Duration::from_millis(u64::try_from(millis).ok()?))
}

/// `1,234,567`
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// `0:04`, `12:30`, `1:00:00`
fn clock(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let (hours, minutes, seconds) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
    if hours > 0 { format!("{hours}:{minutes:02}:{seconds:02}") } else { format!("{minutes}:{seconds:02}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line() {
        let check = |all, read, waiting, seconds, want: &str| {
            let got = line(Reading { all, read, waiting }, Duration::from_secs(seconds), false);
            assert_eq!(got, want);
        };
        check(0, 0, 0, 0, "starting");
        check(5, 0, 0, 0, "[--------------------]    0 %  0 of 5 records  0/s");
        check(
            1_000_000,
            450_000,
            12,
            3,
            "[#########-----------]   45 %  450,000 of 1,000,000 records  150,000/s  0:03 left  12 candidates waiting",
        );
        check(200, 200, 0, 1, "[####################]  100 %  200 of 200 records  200/s");
        check(1_000, 1, 0, 10, "[--------------------]    0 %  1 of 1,000 records  0/s  2:46:30 left");
        check(u64::MAX, 1, 0, u64::MAX, "[--------------------]    0 %  1 of 18,446,744,073,709,551,615 records  0/s");
    }

    #[test]
    fn colour_is_around_what_is_done() {
        let got = line(Reading { all: 2, read: 1, waiting: 0 }, Duration::from_secs(1), true);
        assert!(got.starts_with("[\x1b[32m##########\x1b[0m----------]"), "{got}");
    }

    #[test]
    fn durations_and_numbers() {
        let check = |seconds, want: &str| assert_eq!(clock(Duration::from_secs(seconds)), want);
        check(0, "0:00");
        check(59, "0:59");
        check(750, "12:30");
        check(3_600, "1:00:00");
        check(360_000, "100:00:00");
        assert_eq!([0, 999, 1_000, 100_000].map(grouped), ["0", "999", "1,000", "100,000"]);
    }
}
