//! The program's own log: `tracing`, on standard error, as text or as lines of JSON.
//!
//! - this file: starts logging, and decides what is logged
//! - `plain`: makes text from elsewhere safe for a terminal, and bounds it

mod plain;

use std::io::{self, IsTerminal, Write};
use std::sync::{Arc, Mutex, PoisonError};

use tracing_subscriber::EnvFilter;

pub use plain::{PlainFields, printable, printable_json, printable_lines};

/// The beginning of every filter. It silences the libraries' own messages, which at `debug` would hide the program's.
/// An explicit `sqlx=debug` still enables them.
const QUIET: &str = "librdkafka=warn,rdkafka=warn,sqlx=warn";

const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

/// The format of log lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// One readable line per event, in colour on a terminal.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

/// Runs a write to standard error so that it does not disturb what is drawn there.
pub type LineGuard = Arc<dyn Fn(&mut dyn FnMut()) + Send + Sync>;

static LINE_GUARD: Mutex<Option<LineGuard>> = Mutex::new(None);

/// Sets the guard through which every line on standard error is written. `None`: nothing is drawn there.
pub fn set_line_guard(guard: Option<LineGuard>) {
    *LINE_GUARD.lock().unwrap_or_else(PoisonError::into_inner) = guard;
}

/// Writes to standard error through the guard.
pub fn guarded(write: &mut dyn FnMut()) {
    let guard = LINE_GUARD.lock().unwrap_or_else(PoisonError::into_inner).clone();
    match guard {
        Some(guard) => guard(write),
        None => write(),
    }
}

struct GuardedStderr(Format);

impl Write for GuardedStderr {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // A line comes as a whole.
        let bounded = if self.0 == Format::Json { plain::bounded_json(bytes) } else { None };
        let line = bounded.as_deref().unwrap_or(bytes);
        let mut written = Ok(());
        guarded(&mut || written = io::stderr().write_all(line));
        written.map(|()| bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

/// Starts logging to standard error, once for each process. `level` is one of `off`, `error`, `warn`, `info`, `debug`
/// and `trace`, or a filter such as `info,tripline::source=debug`. The environment variable `RUST_LOG` replaces it if
/// it is set and not empty. `NO_COLOR`, or a standard error that is no terminal, turns colours off.
///
/// # Errors
///
/// A text for the user: the filter is wrong, or logging has been started before.
pub fn init(level: &str, format: Format) -> Result<(), String> {
    let filter = filter(level, std::env::var("RUST_LOG").ok().as_deref())?;
    let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(move || GuardedStderr(format))
        .with_ansi(!no_color && std::io::stderr().is_terminal())
        // Else a closed error output would end the program: the crate reports it there, by a macro that panics.
        .log_internal_errors(false);
    match format {
        Format::Text => builder.fmt_fields(plain::PlainFields).try_init(),
        Format::Json => builder.json().flatten_event(true).with_current_span(false).try_init(),
    }
    .map_err(|error| format!("logging cannot be started: {error}"))
}

/// The filter of `level`, or of `rust_log` if that is given and not blank.
pub(crate) fn filter(level: &str, rust_log: Option<&str>) -> Result<EnvFilter, String> {
    let (text, source) = match rust_log.map(str::trim) {
        Some(rust_log) if !rust_log.is_empty() => (rust_log, "RUST_LOG "),
        _ => {
            refuse_misspelt_level(level)?;
            (level, "")
        }
    };
    EnvFilter::builder()
        .parse(format!("{QUIET},{text}"))
        .map_err(|error| format!("{source}{text:?} is no log filter: {error}; write for example info,tripline=debug"))
}

/// Rejects a misspelt level: `EnvFilter` takes a bare `inof` for the name of a module, and would log nothing else.
fn refuse_misspelt_level(filter: &str) -> Result<(), String> {
    let bare = |part: &&str| !part.contains(['=', '[']);
    let known = |part: &str| LEVELS.iter().any(|level| level.eq_ignore_ascii_case(part));
    match filter.split(',').map(str::trim).filter(bare).find(|part| !known(part)) {
        Some(part) => Err(format!("{part:?} is no level; known: {}", LEVELS.join(", "))),
        None => Ok(()),
    }
}

/// The resident memory of this process in MiB, from /proc. `None` where there is no /proc.
pub fn resident_mb() -> Option<usize> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kilobytes: usize = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes / 1_024)
}

#[cfg(test)]
mod tests {
    use super::filter;

    #[test]
    fn the_effective_filter() {
        let cases = [
            ("info", None, "librdkafka=warn,rdkafka=warn,sqlx=warn,info"),
            ("info", Some(" "), "librdkafka=warn,rdkafka=warn,sqlx=warn,info"),
            ("DEBUG,sqlx=info", None, "librdkafka=warn,rdkafka=warn,sqlx=info,debug"),
            ("info", Some("tripline=trace"), "librdkafka=warn,tripline=trace,rdkafka=warn,sqlx=warn"),
        ];
        for (level, rust_log, want) in cases {
            let got = filter(level, rust_log).map(|filter| filter.to_string());
            assert_eq!(got.as_deref(), Ok(want), "{level} {rust_log:?}");
        }
    }

    #[test]
    fn wrong_filters() {
        let cases = [
            ("inof", None, r#""inof" is no level; known: off, error, warn, info, debug, trace"#),
            ("", None, r#""" is no level; known: off, error, warn, info, debug, trace"#),
            (
                "info,tripline=loud",
                None,
                r#""info,tripline=loud" is no log filter: error parsing level filter: expected one of "off", "error", "warn", "info", "debug", "trace", or a number 0-5; write for example info,tripline=debug"#,
            ),
            (
                "info",
                Some("tripline=loud"),
                r#"RUST_LOG "tripline=loud" is no log filter: error parsing level filter: expected one of "off", "error", "warn", "info", "debug", "trace", or a number 0-5; write for example info,tripline=debug"#,
            ),
        ];
        for (level, rust_log, want) in cases {
            let got = filter(level, rust_log).map(|filter| filter.to_string());
            assert_eq!(got, Err(want.to_owned()), "{level} {rust_log:?}");
        }
    }
}
