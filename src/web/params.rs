//! Parsing the query of a URL.

use std::collections::BTreeMap;

/// Returns names and values, percent-decoded (<https://url.spec.whatwg.org/#urlencoded-parsing>). If a name occurs
/// several times, the last value counts.
pub(super) fn parse(query: &str) -> BTreeMap<String, String> {
    form_urlencoded::parse(query.as_bytes()).into_owned().collect()
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
