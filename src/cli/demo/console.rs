//! The output of a demo while it runs: permanent lines and, on a terminal, a picture below them that is redrawn.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::io::{IsTerminal, Write, stderr, stdout};
use std::process::{Command, Stdio};
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::{Map, Value as Json};
use tokio::time::Instant;

use super::text;
use crate::alert::Alert;
use crate::app::demo::Show;
use crate::app::demo::seen::Seen;
use crate::app::demo::summary::Summary;
use crate::cli::Output;
use crate::cli::progress_bar::grouped;
use crate::cli::terminal::{colours, finish};
use crate::demo::binaries::Binaries;
use crate::demo::broker::Broker;
use crate::demo::place::Place;
use crate::demo::server::Server;
use crate::demo::{Done, GROUP};
use crate::episode::Status;
use crate::failure::Failure;
use crate::run_status::{EventKind, RunStatus, StatusSnapshot, TopKey};
use crate::unit::events::{ConfirmationOutcome, ConfirmationReport};

/// How often a summary line is written without a terminal.
const TOLD_EVERY: Duration = Duration::from_secs(5);
/// The period over which throughput is measured.
const RATE_OVER: Duration = Duration::from_secs(2);
/// The number of users in the picture.
const BARS: usize = 7;
/// The characters of a bar up to the threshold, and in total.
const TO_THRESHOLD: u64 = 24;
const BAR_WIDTH: u64 = 36;

/// Opens the page, if there is a desktop.
fn open(address: &str) {
    let has = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    if has("DISPLAY") || has("WAYLAND_DISPLAY") {
        let mut opener = Command::new("xdg-open");
        opener.arg(address).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        // Without a browser the address is still on the console.
        let _ = opener.spawn();
    }
}

/// Draws and writes.
pub(super) struct Console {
    /// With `Table`, lines go to standard output for people. Otherwise they go to standard error.
    output: Output,
    drawn: bool,
    colour: bool,
    /// The height of the picture on the screen, in lines.
    height: usize,
    /// The number of the last event that was shown.
    seq: u64,
    told: Instant,
    /// When people began to buy, and for how long they do.
    buying: Option<(Instant, Duration)>,
    /// Records read, at instants of the last seconds.
    rates: VecDeque<(Instant, u64)>,
    seen: Seen,
    began: Instant,
    /// The address of the page.
    page: Option<String>,
}

impl Show for Console {
    fn seen(&self) -> &Seen {
        &self.seen
    }

    /// People buy from now on, for this long.
    fn buying(&mut self, started: Instant, seconds: Duration) {
        self.buying = Some((started, seconds));
    }

    fn intro(&mut self, binaries: &Binaries, place: &Place, server: &Server, broker: &Broker) {
        let user = place.server_user.as_ref().map_or_else(String::new, |user| format!(", as user {}", user.name));
        let (version, port, address) = (binaries.number(), server.port(), broker.address());
        let lines = [
            self.bold("tripline demo"),
            format!(
                "  real      PostgreSQL {version} on 127.0.0.1:{port}{user}: rows by SQL, changes by logical decoding"
            ),
            format!("  real      the pipeline of `tripline run`, in group {GROUP}, confirming with that PostgreSQL"),
            format!("  stand-in  the Kafka broker on {address}, inside this process: in memory, without transactions,"),
            "            so offsets are committed plainly. Exactly-once, fencing and fail-over need a real Kafka"
                .to_owned(),
            "  stand-in  Debezium: its envelopes are written here, from what logical decoding says".to_owned(),
        ];
        lines.iter().for_each(|line| self.line(line));
    }

    /// Shows the address of the page.
    fn page(&mut self, address: &str) {
        self.page = Some(address.to_owned());
        self.line(&format!("  page      {address} while the demo runs"));
        self.line("");
        if self.drawn {
            open(address);
        }
    }

    /// Writes a permanent line.
    fn line(&mut self, line: &str) {
        self.put(&format!("{line}\n"), "");
    }

    /// Writes the new events, and redraws the picture.
    fn draw(&mut self, status: &RunStatus, done: &Done, program_began: Instant) {
        let mut lines = String::new();
        let mut news = status.since(self.seq);
        self.seq = news.last().map_or(self.seq, |newest| newest.seq);
        // An alert comes after the answer that it was decided by.
        news.sort_by_key(|entry| match &entry.what {
            EventKind::Candidate(report) => (report.at, false),
            EventKind::Alert(alert) => (alert.emitted_at, true),
        });
        for entry in news {
            match &entry.what {
                EventKind::Candidate(report) => lines.push_str(&self.candidate(report)),
                EventKind::Alert(alert) => {
                    self.seen.take(alert, program_began.elapsed());
                    lines.push_str(&self.alert(alert));
                }
            }
        }
        let snapshot = status.snapshot();
        let rate = self.rate(snapshot.read);
        if self.drawn {
            let picture = self.picture(&snapshot, done, rate);
            self.put(&lines, &picture);
        } else {
            if self.told.elapsed() >= TOLD_EVERY {
                self.told = Instant::now();
                let _ = writeln!(lines, "{}", self.whole(&snapshot, done, rate).join("; "));
            }
            self.put(&lines, "");
        }
    }

    /// Removes the picture.
    fn clear(&mut self) {
        self.put("", "");
    }
}

impl Console {
    pub(super) fn new(output: Output) -> Self {
        let people = output == Output::Table;
        let is_terminal = if people { stdout().is_terminal() } else { stderr().is_terminal() };
        let drawn = people && is_terminal && std::env::var_os("TERM").is_none_or(|term| term != "dumb");
        let colour = if people { colours(&stdout()) } else { colours(&stderr()) };
        let now = Instant::now();
        Self {
            output,
            drawn,
            colour,
            height: 0,
            seq: 0,
            told: now,
            buying: None,
            rates: VecDeque::new(),
            seen: Seen::default(),
            began: now,
            page: None,
        }
    }

    pub(super) fn is_drawn(&self) -> bool {
        self.drawn
    }

    pub(super) fn summary(&self, summary: &Summary) -> Result<(), Failure> {
        let text = match self.output {
            Output::Json => summary.json(),
            Output::Table => text::summary(summary, self.colour),
        };
        finish(writeln!(stdout(), "{text}").and_then(|()| stdout().flush()))
    }

    /// Writes a frame. An error does not stop the demo.
    fn put(&mut self, lines: &str, picture: &str) {
        if lines.is_empty() && picture.is_empty() && self.height == 0 {
            return;
        }
        let text = self.frame(lines, picture);
        let _ = match self.output {
            Output::Table => stdout().write_all(text.as_bytes()).and_then(|()| stdout().flush()),
            Output::Json => stderr().write_all(text.as_bytes()),
        };
    }

    /// Returns lines in place of the old picture, and a new picture below them, as one text. A terminal wraps long
    /// lines. The picture is cut at the edge instead, because its height has to be known.
    fn frame(&mut self, lines: &str, picture: &str) -> String {
        let before = std::mem::replace(&mut self.height, picture.lines().count());
        if !self.drawn {
            return format!("{lines}{picture}");
        }
        let up = if before > 0 { format!("\x1b[{before}A") } else { String::new() };
        format!("\x1b[?2026h\r{up}\x1b[J{lines}\x1b[?7l{picture}\x1b[?7h\x1b[?2026l")
    }

    /// Records a second.
    fn rate(&mut self, read: u64) -> u64 {
        let now = Instant::now();
        self.rates.push_back((now, read));
        while self.rates.len() > 2 && self.rates.front().is_some_and(|(at, _)| now.duration_since(*at) > RATE_OVER) {
            self.rates.pop_front();
        }
        let Some((at, before)) = self.rates.front().copied() else { return 0 };
        let millis = u64::try_from(now.duration_since(at).as_millis()).unwrap_or(u64::MAX);
        read.saturating_sub(before).saturating_mul(1_000).checked_div(millis).unwrap_or(0)
    }

    fn at(&self) -> String {
        let passed = self.began.elapsed();
        self.dim(&format!("{:>3}.{} s", passed.as_secs(), passed.subsec_millis() / 100))
    }

    /// `candidate  weekly-spend 27956157: stream 3120.50, Postgres 120.50 (2 ms): refuted, no alert`
    fn candidate(&self, report: &ConfirmationReport) -> String {
        let (outcome, colour) = match report.outcome {
            ConfirmationOutcome::Confirmed => ("confirmed", "33"),
            ConfirmationOutcome::Refuted => ("refuted, no alert", "36"),
            ConfirmationOutcome::Undecided => ("not visible yet, asked again", "2"),
            ConfirmationOutcome::Failed => ("no answer, asked again", "31"),
        };
        let (rule, label) = (&report.rule, &report.label);
        let stream = measure(rule, &report.stream);
        let database = report.database.as_ref().map_or_else(|| "-".to_owned(), |database| measure(rule, database));
        let (millis, outcome) = (report.millis.unwrap_or(0), self.paint(colour, outcome));
        format!(
            "{}  candidate  {rule} {label}: stream {stream}, Postgres {database} ({millis} ms): {outcome}\n",
            self.at()
        )
    }

    fn alert(&self, alert: &Alert) -> String {
        let (word, colour) = match alert.status {
            Status::Firing => ("ALERT", "1;31"),
            Status::Resolved => ("ALERT", "1;32"),
        };
        let body: Json = serde_json::from_str(&alert.body).unwrap_or_default();
        let severity = body.get("severity").and_then(Json::as_str).unwrap_or_default();
        let line = alert.line.replace(['\n', '\r'], " ");
        format!("{}  {}\n", self.at(), self.paint(colour, &format!("{word}      {line}  [{severity}, {}]", alert.rule)))
    }

    /// Formats the throughput and the results.
    fn whole(&self, snapshot: &StatusSnapshot, done: &Done, rate: u64) -> [String; 3] {
        let lag = done.changed.load(Ordering::Relaxed).saturating_sub(snapshot.read);
        let counts = || snapshot.rules.iter().map(|rule| &rule.counts);
        let confirmed: u64 = counts().map(|rule| rule.confirmed).sum();
        let refuted: u64 = counts().map(|rule| rule.refuted).sum();
        let (fired, resolved) = (self.seen.fired, self.seen.resolved);
        [
            format!("{} changes read, {}/s, {} behind", grouped(snapshot.read), grouped(rate), grouped(lag)),
            format!("{confirmed} confirmed, {refuted} refuted; {fired} alerts, {resolved} resolved"),
            delays(snapshot),
        ]
    }

    fn picture(&self, snapshot: &StatusSnapshot, done: &Done, rate: u64) -> String {
        let clock = self.buying.map_or_else(String::new, |(started, limit)| {
            let passed = started.elapsed().min(limit);
            format!("{} of {} s   ", passed.as_secs(), limit.as_secs())
        });
        let [going, came, delays] = self.whole(snapshot, done, rate);
        let mut text = format!("\n{}{going}\n{came}\n{delays}\n", self.bold(&clock));
        for rule in &snapshot.rules {
            let mine = snapshot.top.iter().filter(|top| top.rule == rule.name);
            let (name, having) = (self.bold(&rule.name), &rule.having);
            let _ = writeln!(text, "{name}  {having}  {}", self.dim(&format!("{} open", rule.open)));
            let shown = if rule.severity == "critical" { BARS } else { 3 };
            for top in mine.take(shown) {
                let _ = writeln!(text, "{}", self.user(top));
            }
        }
        let page = self.page.as_ref().map_or_else(String::new, |page| format!("   page: {page}"));
        let _ = writeln!(text, "{}", self.dim(&format!("Ctrl-C ends it{page}")));
        text
    }

    /// `  27956157  ████████████████████████|██████        4,231.80  open`
    fn user(&self, top: &TopKey) -> String {
        let (total, threshold) = (whole_of(&top.total), whole_of(&top.threshold).max(1));
        let full = total.saturating_mul(TO_THRESHOLD).checked_div(threshold).unwrap_or(0).min(BAR_WIDTH);
        let part =
            |from: u64, to: u64| -> String { (from..to).map(|at| if at < full { '█' } else { '·' }).collect() };
        let open = self.seen.open().get(&top.rule).is_some_and(|keys| keys.contains(&top.label));
        let colour = if open { "31" } else { "32" };
        format!(
            "  {:<10} {}{}{} {:>10}{}",
            top.label,
            self.paint(colour, &part(0, TO_THRESHOLD)),
            self.bold("|"),
            self.paint(colour, &part(TO_THRESHOLD, BAR_WIDTH)),
            top.total,
            if open { self.paint("1;31", "  ALERT") } else { String::new() },
        )
    }

    fn paint(&self, code: &str, text: &str) -> String {
        if self.colour && !text.is_empty() { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    fn bold(&self, text: &str) -> String {
        self.paint("1", text)
    }

    fn dim(&self, text: &str) -> String {
        self.paint("2", text)
    }
}

/// `from commit to decision 25 ms, p99 50 ms`
fn delays(snapshot: &StatusSnapshot) -> String {
    let at = |percent| snapshot.delays.quantile(percent).map(millis);
    match (at(50), at(99)) {
        (Some(half), Some(most)) => format!("from commit to decision {half}, p99 {most}"),
        _ => "nothing decided yet".to_owned(),
    }
}

/// `41 ms`
pub(super) fn millis(micros: u64) -> String {
    format!("{} ms", micros.div_ceil(1_000))
}

/// The output that the HAVING of a demo's rule compares.
fn measure(rule: &str, outputs: &Map<String, Json>) -> String {
    let name = if rule == "card-testing" { "transactions" } else { "total" };
    let value = outputs.get(name).unwrap_or(&Json::Null);
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// The integer part of a number that is not negative.
fn whole_of(number: &str) -> u64 {
    number.split('.').next().and_then(|whole| whole.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests;
