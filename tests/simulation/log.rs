//! The program's log, as it would be written. A line above DEBUG shows no key and no amount, and nothing in it acts on
//! a terminal. Each run has one thread, so violations are collected by thread.

use std::cell::{Cell, RefCell};
use std::io;
use std::sync::Once;

use tracing_subscriber::EnvFilter;
use tripline::telemetry::PlainFields;

use super::database::USERS_FROM;

/// The greatest length of a line. Fields are bounded at 2 KiB, and no line has three long ones.
const LINE_MAX: usize = 8_192;

thread_local! {
    static WRONG: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
    static PRINTS: Cell<bool> = const { Cell::new(false) };
}

/// A run begins on this thread.
pub(crate) fn begin(prints: bool) {
    static STARTED: Once = Once::new();
    // Once for all threads: whether a place in the code logs at all is decided when it is first reached.
    STARTED.call_once(|| {
        let filter = std::env::var("SIM_LOG").unwrap_or_else(|_| "tripline=info".to_owned());
        let log = tracing_subscriber::fmt().with_env_filter(EnvFilter::new(filter)).without_time().with_ansi(false);
        log.fmt_fields(PlainFields).with_writer(|| Lines).init();
    });
    PRINTS.set(prints);
    WRONG.take();
}

/// Returns the violations in the lines of this thread's run.
pub(crate) fn end() -> Vec<String> {
    WRONG.take()
}

/// Gets each line as a whole.
struct Lines;

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let line = String::from_utf8_lossy(bytes);
        if PRINTS.get() {
            print!("{line}");
        }
        let is_shown = ["ERROR", "WARN", "INFO"].iter().any(|level| line.trim_start().starts_with(level));
        if is_shown && let Some(wrong) = wrong(&line) {
            let start = line.floor_char_boundary(300);
            WRONG.with_borrow_mut(|all| all.push(format!("{wrong}: {:?}", line.get(..start).unwrap_or_default())));
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The violation in a line above DEBUG.
fn wrong(line: &str) -> Option<&'static str> {
    let text = line.strip_suffix('\n').unwrap_or(line);
    let is_user = |word: &str| word.parse().is_ok_and(|n: i64| (USERS_FROM..USERS_FROM + 1_000).contains(&n));
    let mut numbers = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '.');
    let is_amount =
        |word: &str| word.split_once('.').is_some_and(|(whole, cents)| is_digits(whole) && is_digits(cents));
    if text.split(|c: char| !c.is_ascii_alphanumeric()).any(is_user) {
        Some("a log line shows a key")
    } else if numbers.any(is_amount) {
        Some("a log line shows a figure")
    } else if text.contains(|c: char| c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'))
    {
        Some("a log line acts on a terminal")
    } else if text.len() > LINE_MAX {
        Some("a log line is not bounded")
    } else {
        None
    }
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

#[test]
fn what_a_line_must_not_show() {
    let cases = [
        (
            "INFO refuted rule=\"spike\" partition=0 offset=12 snapshot=\"1001:1004:1002\" again=\"2026-11-22T10:00:01.5Z\"\n",
            None,
        ),
        ("WARN refuted key=7310002\n", Some("a log line shows a key")),
        ("WARN drift {\"total\": String(\"3120.55\")}\n", Some("a log line shows a figure")),
        ("WARN failed error=a\nERROR b\n", Some("a log line acts on a terminal")),
        ("WARN failed error=a\u{202e}b\n", Some("a log line acts on a terminal")),
    ];
    for (line, want) in cases {
        assert_eq!(wrong(line), want, "{line:?}");
    }
    assert_eq!(wrong(&"x".repeat(LINE_MAX + 2)), Some("a log line is not bounded"));
}
