//! The commands' output: data to standard output, messages for people to standard error.

use std::io::{self, IsTerminal, Write};

use unicode_width::UnicodeWidthStr;

use crate::failure::{Exit, Failure};
pub(super) use crate::telemetry::{printable, printable_json};

/// Writes lines, JSON or text without colours, to standard output. Characters that act on a terminal are replaced or
/// escaped. A closed pipe is no failure.
///
/// # Errors
/// Standard output cannot be written.
pub(super) fn print(lines: &[String]) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    let shown = |line: &String| if line.starts_with('{') { printable_json(line) } else { printable(line) };
    finish(lines.iter().try_for_each(|line| writeln!(out, "{}", shown(line))).and_then(|()| out.flush()))
}

/// Converts the result of writing to standard output to the command's result. A closed pipe is no failure.
///
/// # Errors
/// Standard output cannot be written.
pub(super) fn finish(written: io::Result<()>) -> Result<(), Failure> {
    match written {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other.map_err(|error| Failure::new(Exit::Failed, format!("standard output: {error}"))),
    }
}

/// Writes a line to standard error. It does not depend on the log's level.
pub(super) fn note(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}

/// Whether a stream is coloured: it is a terminal, and `NO_COLOR` is not set (<https://no-color.org>).
pub(super) fn colours(stream: &impl IsTerminal) -> bool {
    let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    !no_color && stream.is_terminal()
}

/// How a column of a table is aligned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Align {
    /// Text, to the left.
    Left,
    /// A number, to the right.
    Right,
}

/// The width of a text on a terminal.
pub(super) fn width(text: &str) -> usize {
    text.width()
}

/// A cell padded to a width.
pub(super) fn padded(cell: &str, width: usize, align: Align) -> String {
    let padding = " ".repeat(width.saturating_sub(self::width(cell)));
    match align {
        Align::Left => format!("{cell}{padding}"),
        Align::Right => format!("{padding}{cell}"),
    }
}

/// Formats lines with columns as wide as their widest cell. The columns in `text` are aligned left. The others are
/// numbers and aligned right.
pub(super) fn aligned<const N: usize>(rows: &[[String; N]], text: &[usize]) -> Vec<String> {
    let mut widths = [0; N];
    for row in rows {
        for (widest, cell) in widths.iter_mut().zip(row) {
            *widest = (*widest).max(width(cell));
        }
    }
    let line = |row: &[String; N]| {
        let cells = row.iter().zip(widths).enumerate().map(|(index, (cell, width))| {
            let align = if text.contains(&index) { Align::Left } else { Align::Right };
            padded(cell, width, align)
        });
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_by_what_a_terminal_shows() {
        let rows = [["name", "n"], ["Zoë", "1"], ["北京", "23"]].map(|row| row.map(str::to_owned));
        assert_eq!(aligned(&rows, &[0]), ["name   n", "Zoë    1", "北京  23"]);
    }

    #[test]
    fn control_characters_do_not_reach_the_terminal() {
        assert_eq!(printable("a\u{1b}[31mb\n"), "a\u{fffd}[31mb\u{fffd}");
    }
}
