//! LIKE and ILIKE as in Postgres (like_match.c): `%` matches any text, `_` any character, and a backslash makes the
//! next character literal.

use super::scalar::Scalar;

/// Whether a text matches. The result is unknown for an incomplete pattern, which is an error in Postgres. It is also
/// unknown if case is ignored and there are letters outside of ASCII, because their case depends on the locale.
pub(super) fn like(text: &str, pattern: &str, ignores_case: bool) -> Scalar<'static> {
    if !ignores_case {
        return matches(text, pattern).map_or(Scalar::Unknown, Scalar::Bool);
    }
    if !text.is_ascii() || !pattern.is_ascii() {
        return Scalar::Unknown;
    }
    // A Turkish locale has another small letter for I. If the result depends on that, it is unknown.
    let plain = matches(&text.to_ascii_lowercase(), &pattern.to_ascii_lowercase());
    let turkish = |text: &str| text.replace('I', "\u{131}").to_ascii_lowercase();
    match (plain, matches(&turkish(text), &turkish(pattern))) {
        (Some(plain), Some(turkish)) if plain == turkish => Scalar::Bool(plain),
        _ => Scalar::Unknown,
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Any,
    One,
    Char(char),
}

fn matches(text: &str, pattern: &str) -> Option<bool> {
    let mut parts = Vec::with_capacity(pattern.len());
    let mut chars = pattern.chars();
    while let Some(c) = chars.next() {
        parts.push(match c {
            '%' => Part::Any,
            '_' => Part::One,
            '\\' => Part::Char(chars.next()?),
            other => Part::Char(other),
        });
    }
    let text: Vec<char> = text.chars().collect();
    let (mut at, mut part) = (0, 0);
    // The place at which to continue if the part after the last % does not match.
    let mut again = None;
    while at < text.len() {
        match (parts.get(part), text.get(at)) {
            (Some(Part::Any), _) => {
                part += 1;
                again = Some((at, part));
            }
            (Some(Part::One), Some(_)) => (at, part) = (at + 1, part + 1),
            (Some(Part::Char(wanted)), Some(c)) if wanted == c => (at, part) = (at + 1, part + 1),
            _ => {
                let Some((from, behind)) = again else { return Some(false) };
                (at, part) = (from + 1, behind);
                again = Some((from + 1, behind));
            }
        }
    }
    Some(parts.iter().skip(part).all(|part| *part == Part::Any))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        let check = |text: &str, pattern: &str, want: Option<bool>| {
            assert_eq!(matches(text, pattern), want, "{text} {pattern}")
        };
        check("abc", "abc", Some(true));
        check("abc", "a%", Some(true));
        check("abc", "%c", Some(true));
        check("abc", "%b%", Some(true));
        check("abcabd", "%ab_", Some(true));
        check("abc", "_b_", Some(true));
        check("abc", "__", Some(false));
        check("", "", Some(true));
        check("", "%", Some(true));
        check("a%c", "a\\%c", Some(true));
        check("abc", "a\\%c", Some(false));
        check("aé", "a_", Some(true));
        check("abc", "abc\\", None);
        check("aaaaaaaaab", "%a%a%a%c", Some(false));
    }

    #[test]
    fn letters_of_either_case() {
        let check = |text: &str, pattern: &str, want| assert_eq!(like(text, pattern, true), want, "{text} {pattern}");
        check("Berlin", "b%", Scalar::Bool(true));
        check("BERLIN", "berl%", Scalar::Bool(true));
        check("BERLIN", "berlin", Scalar::Unknown);
        check("Zürich", "z%", Scalar::Unknown);
    }
}
