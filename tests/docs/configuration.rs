//! docs/configuration.md is made of config/default.toml, which has every setting that the program reads.
//!
//! `DOCS=write cargo test --test docs` writes the page.

use std::fs;

use super::{root, text};

const HEAD: &str = "# Configuration

This page is made of [config/default.toml](../config/default.toml); a test keeps both equal.

Your own file, given by `--config`, needs only what differs. Precedence: environment variable, then your file, then the defaults. An environment
variable is called `TRIPLINE__SECTION__KEY`, such as `TRIPLINE__KAFKA__GROUP_ID` for `kafka.group_id`. Any setting but the rules can be given that
way. Passwords belong there.

[config.schema.json](config.schema.json) is a JSON Schema of the file: names, types, bounds and choices, for editors that check TOML by one. Settings
that are required in the file or in the environment are in its `x-required`. What it lets through, `tripline doctor --config FILE` still checks.

A value under *Example* is commented out in that file: the setting is required, or optional as its text or the text of its section says.
";

/// A name of a setting, if the line is `name = value`: name and the rest.
fn assignment(line: &str) -> Option<(&str, &str)> {
    let (name, rest) = line.split_once(" = ")?;
    let is_name = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.\"".contains(&b));
    is_name.then_some((name, rest))
}

/// The value and the remark behind it. A `#` inside of a text is none.
fn remark(rest: &str) -> (&str, &str) {
    let mut is_text = false;
    for (at, c) in rest.char_indices() {
        match c {
            '"' => is_text = !is_text,
            '#' if !is_text => return (rest[..at].trim(), rest[at + 1..].trim()),
            _ => {}
        }
    }
    (rest.trim(), "")
}

/// The page of a file of defaults.
pub(crate) fn page(defaults: &str) -> String {
    let mut out = HEAD.to_owned();
    let (mut section, mut words, mut is_sql) = (String::new(), Vec::<String>::new(), false);
    let mut last: Option<(String, Vec<String>, String)> = None;
    let flush = |out: &mut String, last: &mut Option<(String, Vec<String>, String)>| {
        if let Some((name, words, value)) = last.take() {
            let text = if words.is_empty() { String::new() } else { format!("{}\n\n", words.join(" ")) };
            out.push_str(&format!("\n### `{name}`\n\n{text}{value}\n"));
        }
    };
    for line in defaults.lines().skip_while(|line| !line.is_empty()) {
        let (code, is_commented) = match line.strip_prefix("# ") {
            Some(code) => (code, true),
            None => (line, false),
        };
        if is_sql {
            is_sql = code.trim() != "\"\"\"";
        } else if line.is_empty() || line == "#" {
            flush(&mut out, &mut last);
            if !words.is_empty() {
                out.push_str(&format!("\n{}\n", std::mem::take(&mut words).join(" ")));
            }
        } else if code.starts_with('[') {
            flush(&mut out, &mut last);
            let (name, said) = remark(code);
            section = name.trim_matches(['[', ']']).to_owned();
            words.extend(Some(said.to_owned()).filter(|said| !said.is_empty()));
            out.push_str(&format!("\n## {name}\n"));
            if !words.is_empty() {
                out.push_str(&format!("\n{}\n", std::mem::take(&mut words).join(" ")));
            }
        } else if let Some((name, rest)) = assignment(code) {
            flush(&mut out, &mut last);
            let (value, said) = remark(rest);
            is_sql = value == "\"\"\"";
            words.extend(Some(said.to_owned()).filter(|said| !said.is_empty()));
            let value = if is_sql { "\"…\"" } else { value };
            let kind = if is_commented { "Example" } else { "Default" };
            let name = if section.is_empty() { name.to_owned() } else { format!("{section}.{name}") };
            last = Some((name, std::mem::take(&mut words), format!("{kind}: `{value}`")));
        } else if let (Some(more), Some((_, said, _))) = (code.trim_start().strip_prefix("# "), &mut last) {
            said.push(more.trim().to_owned());
        } else if let Some(more) = line.strip_prefix("# ") {
            flush(&mut out, &mut last);
            words.push(more.trim().to_owned());
        }
    }
    flush(&mut out, &mut last);
    out
}

#[test]
fn the_page_is_that_of_the_defaults() {
    let wanted = page(&text("config/default.toml"));
    if std::env::var_os("DOCS").is_some_and(|what| what == "write") {
        fs::write(root().join("docs/configuration.md"), &wanted).unwrap();
    }
    assert!(text("docs/configuration.md") == wanted, "DOCS=write cargo test --test docs writes docs/configuration.md");
}

/// Every key that `src/config/settings.rs` reads has a heading.
#[test]
fn the_page_has_every_setting() {
    let (settings, page) = (text("src/config/settings.rs"), text("docs/configuration.md"));
    let readers = [
        "text",
        "text_if",
        "text_or",
        "texts_or_none",
        "choice",
        "choice_or",
        "number",
        "number_or",
        "millis",
        "millis_or",
        "share",
        "flag",
        "flag_or",
    ];
    let mut seen = 0;
    for reader in readers {
        for (at, found) in settings.match_indices(&format!(".{reader}(")) {
            let rest = settings[at + found.len()..].trim_start();
            let Some(key) = rest.strip_prefix('"').and_then(|rest| rest.split('"').next()) else { continue };
            let is_there = page.lines().any(|line| {
                line == format!("### `{key}`") || line.starts_with("### `") && line.ends_with(&format!(".{key}`"))
            });
            assert!(is_there, "{key} is read, and not in config/default.toml");
            seen += 1;
        }
    }
    assert!(seen > 50, "{seen}");
}
