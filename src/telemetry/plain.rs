//! Makes text from elsewhere (rows, records, servers) safe for a terminal or a log. Pure.

use std::fmt;

use serde_json::Value as Json;
use tracing::field::{Field, Visit};
use tracing_subscriber::field::RecordFields;
use tracing_subscriber::fmt::FormatFields;
use tracing_subscriber::fmt::format::Writer;

use crate::planted;

/// The greatest length of a field in a log line. A server may repeat a complete row in its error.
const FIELD_MAX: usize = 2_048;
/// The greatest length of a line of JSON before its texts are cut.
const JSON_LINE_MAX: usize = 16_384;

/// Replaces the characters on which a terminal would act with U+FFFD: control characters, and those that change the
/// direction of text.
pub fn printable(text: &str) -> String {
    if planted::bug("control-characters-kept") {
        return text.to_owned();
    }
    if planted::bug("direction-marks-kept") {
        return text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
    }
    text.chars().map(|c| if is_acted_on(c) { '\u{fffd}' } else { c }).collect()
}

/// Escapes such characters in a line of JSON. Only its texts can contain them.
pub fn printable_json(line: &str) -> String {
    let escaped = |c: char| if is_acted_on(c) { format!("\\u{:04x}", u32::from(c)) } else { c.to_string() };
    line.chars().map(escaped).collect()
}

/// The same for text of several lines.
pub fn printable_lines(text: &str) -> String {
    text.split('\n').map(printable).collect::<Vec<_>>().join("\n")
}

fn is_acted_on(c: char) -> bool {
    c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{2028}' | '\u{2029}')
}

/// Cuts a text to this many bytes, and adds how many there were.
fn cut(text: &str, max: usize) -> String {
    if text.len() <= max {
        return text.to_owned();
    }
    let end = text.floor_char_boundary(max);
    format!("{}… ({} bytes)", text.get(..end).unwrap_or_default(), text.len())
}

/// Cuts the texts in a long line of JSON to the length of a field in a text line.
pub(super) fn bounded_json(line: &[u8]) -> Option<Vec<u8>> {
    if line.len() <= JSON_LINE_MAX {
        return None;
    }
    let mut json: Json = serde_json::from_slice(line).ok()?;
    cut_texts(&mut json);
    let mut bounded = serde_json::to_vec(&json).ok()?;
    bounded.push(b'\n');
    Some(bounded)
}

fn cut_texts(json: &mut Json) {
    match json {
        Json::String(text) => *text = cut(text, FIELD_MAX),
        Json::Array(items) => items.iter_mut().for_each(cut_texts),
        Json::Object(pairs) => pairs.values_mut().for_each(cut_texts),
        Json::Null | Json::Bool(_) | Json::Number(_) => {}
    }
}

/// Writes the fields of a log line in the default format, each of them as one bounded, printable line.
#[derive(Clone, Copy, Debug)]
pub struct PlainFields;

impl<'w> FormatFields<'w> for PlainFields {
    fn format_fields<R: RecordFields>(&self, writer: Writer<'w>, fields: R) -> fmt::Result {
        let mut visitor = Visitor { writer, is_first: true, written: Ok(()) };
        fields.record(&mut visitor);
        visitor.written
    }
}

struct Visitor<'w> {
    writer: Writer<'w>,
    is_first: bool,
    written: fmt::Result,
}

impl Visitor<'_> {
    fn write(&mut self, name: &str, value: &dyn fmt::Debug) -> fmt::Result {
        if !std::mem::replace(&mut self.is_first, false) {
            self.writer.write_char(' ')?;
        }
        let max = if planted::bug("fields-not-cut") { usize::MAX } else { FIELD_MAX };
        let value = printable(&cut(&format!("{value:?}"), max));
        match name {
            "message" => self.writer.write_str(&value),
            _ if self.writer.has_ansi_escapes() => {
                write!(self.writer, "\u{1b}[3m{name}\u{1b}[0m\u{1b}[2m=\u{1b}[0m{value}")
            }
            _ => write!(self.writer, "{name}={value}"),
        }
    }
}

impl Visit for Visitor<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        // Fields of the `log` crate's records, which the line shows elsewhere.
        if self.written.is_ok() && !field.name().starts_with("log.") {
            self.written = self.write(field.name().trim_start_matches("r#"), value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_a_terminal_acts_on_is_left() {
        let cases = [
            ("plain — Zoë 北京", "plain — Zoë 北京"),
            ("a\u{1b}[31mb\u{1b}]0;title\u{7}c", "a\u{fffd}[31mb\u{fffd}]0;title\u{fffd}c"),
            ("a\nb\r\u{9b}31m\u{7f}", "a\u{fffd}b\u{fffd}\u{fffd}31m\u{fffd}"),
            ("abc\u{202e}fdp.exe", "abc\u{fffd}fdp.exe"),
        ];
        for (text, want) in cases {
            assert_eq!(printable(text), want, "{text:?}");
        }
        assert_eq!(printable_json("{\"a\":\"\u{9b}\u{202e}ä\"}"), r#"{"a":"\u009b\u202eä"}"#);
        assert_eq!(printable_lines("a\u{1b}\nb"), "a\u{fffd}\nb");
    }

    #[test]
    fn long_text_is_cut_between_characters() {
        assert_eq!(cut("abc", 3), "abc");
        assert_eq!(cut("abcd", 3), "abc… (4 bytes)");
        assert_eq!(cut("äöü", 3), "ä… (6 bytes)");
    }

    #[test]
    fn a_long_line_of_json_is_json_still() {
        assert_eq!(bounded_json(b"{\"a\":1}\n"), None);
        let line = serde_json::json!({ "fields": { "n": 1, "row": ["x".repeat(600_000)] } }).to_string();
        let bounded = bounded_json(line.as_bytes()).unwrap();
        let json: Json = serde_json::from_slice(&bounded).unwrap();
        assert!(bounded.len() < 3_000 && bounded.ends_with(b"\n"), "{}", bounded.len());
        assert_eq!(json["fields"]["n"], 1);
        assert!(json["fields"]["row"][0].as_str().unwrap().ends_with("x… (600000 bytes)"));
    }

    #[test]
    fn a_field_cannot_end_its_line() {
        use std::sync::{Arc, Mutex};
        #[derive(Clone, Default)]
        struct Out(Arc<Mutex<Vec<u8>>>);
        impl std::io::Write for Out {
            fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
                self.0.lock().unwrap().extend_from_slice(bytes);
                Ok(bytes.len())
            }
            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }
        let written = |ansi: bool| {
            let out = Out::default();
            let made = out.clone();
            let logger = tracing_subscriber::fmt()
                .with_writer(move || made.clone())
                .with_ansi(ansi)
                .without_time()
                .fmt_fields(PlainFields)
                .finish();
            tracing::subscriber::with_default(logger, || {
                let error = format!("a\n2026-11-22 ERROR b\u{1b}]0;x\u{7}{}", "y".repeat(10_000));
                tracing::info!(rule = "r", %error, n = 5, "what {}", "has\nhappened");
            });
            let bytes = out.0.lock().unwrap().clone();
            String::from_utf8(bytes).unwrap()
        };
        let plain = written(false);
        assert_eq!(plain.lines().count(), 1, "{plain}");
        assert!(plain.contains(": what has\u{fffd}happened rule=\"r\" error=a\u{fffd}2026"), "{plain}");
        assert!(plain.ends_with(" n=5\n") && plain.len() < 2_300, "{plain}");
        assert!(!plain.contains('\u{1b}'), "{plain:?}");
        let coloured = written(true);
        assert_eq!((coloured.lines().count(), coloured.contains("\u{1b}]")), (1, false), "{coloured:?}");
    }
}
