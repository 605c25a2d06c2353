//! House words that a stranger has to learn. Each has a standard term.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use super::{files, none};

/// The word, and what to write instead.
const WORDS: [(&str, &str); 20] = [
    ("told", "delivered (alerts), reported (progress)"),
    ("tells", "says, shows, reports"),
    ("mend", "fix"),
    ("mends", "fixes"),
    ("anew", "again, re-created"),
    ("away", "unreachable, down"),
    ("lest", "so that … not"),
    ("towards", "to"),
    ("whoever", "the role by its name"),
    ("whosoever", "the role by its name"),
    ("twin", "in-memory fake"),
    ("twins", "in-memory fakes"),
    ("bury", "dead-letter"),
    ("buried", "dead-lettered"),
    ("glance", "snapshot, refresh"),
    ("verdict", "evaluation"),
    ("patiently", "retry until answered"),
    ("hurry", "make due now"),
    ("heeded", "respected"),
    ("manieth", "which occurrence"),
];

/// How often a word still stands in a part of the project: these numbers only go down. What is not here is 0.
const LEFT: &[(&str, &str, usize)] = &[
    ("CHANGELOG.md", "mend", 1),
    ("src/app", "away", 2),
    ("src/app", "told", 3),
    ("src/archive", "away", 3),
    ("src/archive", "told", 4),
    ("src/change", "tells", 1),
    ("src/change", "told", 1),
    ("src/checkpoint", "away", 1),
    ("src/cli", "told", 18),
    ("src/cli", "verdict", 2),
    ("src/clock", "told", 33),
    ("src/confirm", "told", 1),
    ("src/demo", "told", 4),
    ("src/fakes", "away", 6),
    ("src/fakes", "told", 4),
    ("src/job", "away", 1),
    ("src/monitor", "away", 1),
    ("src/monitor", "buried", 1),
    ("src/monitor", "told", 1),
    ("src/progress", "away", 1),
    ("src/retry", "away", 6),
    ("src/rule", "away", 2),
    ("src/source", "told", 4),
    ("src/unit", "verdict", 29),
    ("src/web", "told", 4),
];

/// `src/unit/audit.rs` → `src/unit`. Files of the root and of other folders stand alone.
fn part(file: &str) -> String {
    match file.strip_prefix("src/").map(|rest| rest.split(['/', '.']).next().unwrap_or(rest)) {
        Some(module) => format!("src/{module}"),
        None => file.to_owned(),
    }
}

/// Words of a text, by letters alone: `told_alerts` is a name, and has none of them.
fn words(text: &str) -> impl Iterator<Item = String> {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    text.split(move |c: char| !is_word(c)).filter(|word| !word.is_empty()).map(str::to_lowercase)
}

fn found(texts: &[(String, String)]) -> BTreeMap<(String, &'static str), usize> {
    let mut found = BTreeMap::new();
    for (file, text) in texts {
        for word in words(text) {
            if let Some((banned, _)) = WORDS.iter().find(|(banned, _)| *banned == word) {
                *found.entry((part(file), *banned)).or_insert(0) += 1;
            }
        }
    }
    found
}

/// Words that stand somewhere more often than is allowed, and allowances that are no longer used.
fn wrong(found: &BTreeMap<(String, &'static str), usize>, left: &[(&'static str, &'static str, usize)]) -> Vec<String> {
    let mut allowed: BTreeMap<(String, &str), usize> =
        left.iter().map(|(part, word, count)| ((part.to_string(), *word), *count)).collect();
    let mut lines = Vec::new();
    for ((part, word), count) in found {
        let allowed = allowed.remove(&(part.clone(), *word)).unwrap_or(0);
        if *count > allowed {
            let instead = WORDS.iter().find(|(banned, _)| banned == word).map_or("", |(_, instead)| instead);
            lines.push(format!("{part}: \"{word}\" stands there {count} times, {allowed} allowed: write {instead}"));
        } else if *count < allowed {
            lines.push(format!("{part}: \"{word}\" stands there {count} times, and LEFT has {allowed}: lower it"));
        }
    }
    lines.extend(allowed.keys().map(|(part, word)| format!("{part}: \"{word}\" is gone: take it out of LEFT")));
    lines
}

#[test]
fn house_words_are_on_their_way_out() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut paths: Vec<_> = [
        ("src", ".rs"),
        ("src", ".html"),
        ("src", ".js"),
        ("docs", ".md"),
        ("docs", ".yml"),
        ("docs", ".txt"),
        ("config", ".toml"),
    ]
    .into_iter()
    .flat_map(|(folder, ending)| files(folder, ending))
    .collect();
    paths.extend(
        ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md"].map(|file| root.join(file)),
    );
    let texts: Vec<(String, String)> = paths
        .into_iter()
        .map(|path| {
            (path.strip_prefix(root).unwrap().to_string_lossy().into_owned(), fs::read_to_string(&path).unwrap())
        })
        .collect();
    let found = found(&texts);
    if std::env::var_os("WORDS").is_some() {
        for ((part, word), count) in &found {
            println!("    (\"{part}\", \"{word}\", {count}),");
        }
    }
    none(&wrong(&found, LEFT));
}

#[test]
fn a_planted_house_word_is_found() {
    let text = |file: &str, text: &str| found(&[(file.to_owned(), text.to_owned())]);
    assert_eq!(wrong(&text("docs/x.md", "told_alerts, storytelling, a Way"), &[]), Vec::<String>::new());
    let lines = wrong(&text("docs/x.md", "It is Told.\nNot anew."), &[]);
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(lines[1].starts_with("docs/x.md: \"told\" stands there 1 times, 0 allowed"), "{lines:?}");
    let left = [("src/x", "told", 2), ("src/y", "anew", 1)];
    assert_eq!(
        wrong(&text("src/x/y.rs", "told"), &left),
        [
            "src/x: \"told\" stands there 1 times, and LEFT has 2: lower it",
            "src/y: \"anew\" is gone: take it out of LEFT"
        ]
    );
}
