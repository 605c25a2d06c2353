//! The query of a URL.

use std::collections::BTreeMap;

/// Names and values, percent-decoded; of several with one name the last.
pub(super) fn parse(query: &str) -> BTreeMap<String, String> {
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decode(name), decode(value))
        })
        .collect()
}

/// What is no escape stays as it is; what is not UTF-8 becomes U+FFFD.
fn decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        let escaped = after.get(..2).filter(|_| *first == b'%').and_then(|hex| std::str::from_utf8(hex).ok());
        match escaped.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = after.get(2..).unwrap_or_default();
            }
            None => bytes.push(if *first == b'+' { b' ' } else { *first }),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn queries() {
        let parsed = parse("a=1&b=%7B%22x%22%3A+1%7D&c&a=2&d=%zz%4&e=%ff");
        let want = [("a", "2"), ("b", "{\"x\": 1}"), ("c", ""), ("d", "%zz%4"), ("e", "\u{fffd}")];
        assert_eq!(parsed.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect::<Vec<_>>(), want);
    }
}
