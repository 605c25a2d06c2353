//! Makes text from records safe for messages, logs and terminals: bounded, and without control characters. Pure.

use std::borrow::Cow;

/// Cuts text to about this many bytes, at a character boundary.
pub fn shortened(text: &str, max: usize) -> Cow<'_, str> {
    if text.len() <= max {
        return Cow::Borrowed(text);
    }
    let end = (0..=max).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    Cow::Owned(format!("{}…", text.get(..end).unwrap_or_default()))
}

/// Makes text safe for one line of a terminal. Escape sequences, and marks that change the direction of writing, become
/// `\u{1b}` and the like.
pub fn one_line(text: &str) -> Cow<'_, str> {
    if !text.contains(acts_on_terminal) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' | '\r' | '\t' => out.push(' '),
            c if acts_on_terminal(c) => out.extend(c.escape_unicode()),
            c => out.push(c),
        }
    }
    Cow::Owned(out)
}

/// Removes the value from serde's message about a wrong type, because the value may be the whole row:
/// `invalid type: string "…", expected …` becomes `invalid type: string, expected …`.
pub fn without_value(error: &str) -> String {
    let Some((before, after)) = error.rsplit_once(", expected ") else { return error.to_owned() };
    let kind = before.split(['"', '`']).next().unwrap_or_default().trim_end();
    format!("{kind}, expected {after}")
}

/// Whether a terminal acts on the character instead of showing it.
pub fn acts_on_terminal(c: char) -> bool {
    c.is_control() || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_cut_at_a_character() {
        let check = |text: &str, max: usize, want: &str| assert_eq!(shortened(text, max), want, "{text} {max}");
        check("abc", 3, "abc");
        check("abcd", 3, "abc…");
        check("aé", 2, "a…");
        check("é", 0, "…");
    }

    #[test]
    fn nothing_that_a_terminal_would_obey_is_left() {
        let check = |text: &str, want: &str| assert_eq!(one_line(text), want, "{text:?}");
        check("Zoë, 北京", "Zoë, 北京");
        check("a\nb\r\nc\td", "a b  c d");
        check("\u{1b}]0;title\u{7}", "\\u{1b}]0;title\\u{7}");
        check("\u{9b}31m", "\\u{9b}31m");
        check("a\u{202e}b", "a\\u{202e}b");
    }
}
