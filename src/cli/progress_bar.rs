//! Shows a run's progress on standard error: a bar on a terminal, otherwise a line of the log every few seconds.

use std::io::{self, IsTerminal, LineWriter, Write, stderr};
use std::sync::Arc;
use std::time::Duration;

use indicatif::{ProgressDrawTarget, ProgressStyle};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::terminal::colours;
use crate::job::gauge::{Gauge, GaugeReading};
use crate::telemetry;

/// How often the bar is drawn.
const DRAWN_EVERY: Duration = Duration::from_millis(100);
/// How often the log reports.
const LOGGED_EVERY: Duration = Duration::from_secs(5);
/// The buffer for a line of the log sink, in bytes: more than an alert's message can have.
const LINE_MAX: usize = 32 * 1_024;

/// Shows a gauge until it is ended.
pub(super) struct ProgressBar {
    showing: JoinHandle<()>,
    drawn: Option<indicatif::ProgressBar>,
}

impl ProgressBar {
    /// Starts to show a gauge. `doing` is the log's name for the work. `until_read`: it ends after everything that
    /// existed at the start has been read.
    pub(super) fn start(gauge: Arc<Gauge>, doing: &'static str, until_read: bool) -> Self {
        if !is_drawn() {
            let showing = tokio::spawn(every(LOGGED_EVERY, gauge, until_read, move |reading, passed| {
                let GaugeReading { all, read, waiting } = reading;
                let percent = read.saturating_mul(100).checked_div(all).unwrap_or(0);
                let per_second = per_second(read, passed);
                let seconds_left = all.saturating_sub(read).checked_div(per_second);
                tracing::info!(read, all, percent, per_second, seconds_left, waiting, "{doing}");
            }));
            return Self { showing, drawn: None };
        }
        let bar = indicatif::ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        bar.set_style(style(colours(&stderr())));
        let (shown, hidden) = (bar.clone(), bar.clone());
        telemetry::set_line_guard(Some(Arc::new(move |write| shown.suspend(write))));
        let drawn = bar.clone();
        let showing = tokio::spawn(async move {
            let draw = |reading: GaugeReading, _| {
                bar.set_length(reading.all);
                bar.set_position(reading.read);
                bar.set_message(waiting(reading.waiting));
            };
            every(DRAWN_EVERY, gauge, until_read, draw).await;
            hidden.finish_and_clear();
        });
        Self { showing, drawn: Some(drawn) }
    }

    /// Removes the bar.
    pub(super) async fn end(self) {
        self.showing.abort();
        let _ = self.showing.await;
        if let Some(bar) = self.drawn {
            bar.finish_and_clear();
            telemetry::set_line_guard(None);
        }
    }
}

/// `[#########-----------]  45 %  450,000 of 1,000,000 records  150,000/s  4s left  12 candidates waiting`
fn style(colour: bool) -> ProgressStyle {
    let bar = if colour { "{bar:20.green}" } else { "{bar:20}" };
    let template =
        format!("[{bar}]  {{percent:>3}} %  {{human_pos}} of {{human_len}} records  {{per_sec}}  {{eta}} left{{msg}}");
    // The template is constant and valid. If it were not, the default style would be shown.
    let style = ProgressStyle::with_template(&template).unwrap_or_else(|_| ProgressStyle::default_bar());
    style.progress_chars("#--")
}

fn waiting(candidates: u64) -> String {
    if candidates == 0 { String::new() } else { format!("  {} candidates waiting", grouped(candidates)) }
}

/// A writer for lines on standard error that does not disturb a bar there.
pub(super) fn lines() -> impl Write {
    LineWriter::with_capacity(LINE_MAX, GuardedStderr)
}

struct GuardedStderr;

impl Write for GuardedStderr {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut written = Ok(());
        telemetry::guarded(&mut || written = stderr().write_all(bytes));
        written.map(|()| bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        stderr().flush()
    }
}

fn is_drawn() -> bool {
    stderr().is_terminal() && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

/// Shows the gauge at an interval, with the time since the first record was read.
async fn every(interval: Duration, gauge: Arc<Gauge>, until_read: bool, show: impl Fn(GaugeReading, Duration)) {
    let (mut began, mut passed) = (None, Duration::ZERO);
    let mut last = GaugeReading::default();
    loop {
        tokio::time::sleep(interval).await;
        if until_read && gauge.is_read() {
            return;
        }
        let reading = gauge.read();
        if reading.all > 0 && (reading.read < reading.all || reading.read > last.read) {
            passed = began.get_or_insert_with(Instant::now).elapsed(); // what comes after reading does not slow it down
        }
        last = reading;
        show(reading, passed);
    }
}

fn per_second(read: u64, passed: Duration) -> u64 {
    let millis = u64::try_from(passed.as_millis()).unwrap_or(u64::MAX);
    read.saturating_mul(1_000).checked_div(millis).unwrap_or(0)
}

/// `1,234,567`
pub(super) fn grouped(number: u64) -> String {
    indicatif::HumanCount(number).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers() {
        assert_eq!([0, 999, 1_000, 100_000].map(grouped), ["0", "999", "1,000", "100,000"]);
        assert_eq!(per_second(450_000, Duration::from_secs(3)), 150_000);
    }
}
