//! SQL that is not a valid rule, each with the program's message. `bad_rules.txt` has text and reason, line by line.
//! Run with BAD_INPUTS=write to write the reasons again.

use std::fmt::Write as _;

use tripline::model::ColumnType;
use tripline::rule::{compile, parse};

use crate::support::transactions;

/// Texts too long to stand in the file: what they are, and they themselves.
fn made() -> Vec<(&'static str, String)> {
    let with = |having: &str| format!("SELECT user_id FROM streaming.transactions GROUP BY user_id HAVING {having}");
    vec![
        ("a MiB of spaces", " ".repeat(1 << 20)),
        ("60,000 spaces", " ".repeat(60_000)),
        ("10,000 brackets", with(&format!("{}1", "(".repeat(10_000)))),
        ("200 brackets", with(&format!("{}COUNT(*){} > 1", "(".repeat(200), ")".repeat(200)))),
        ("10,000 sums", with(&format!("COUNT(*) > 1{}", " + 1".repeat(10_000)))),
        ("200 sums", with(&format!("COUNT(*) > 1{}", " + 1".repeat(200)))),
        ("200 negations", with(&format!("{}COUNT(*) > 1", "NOT ".repeat(200)))),
        ("200 minus signs", with(&format!("COUNT(*) > {}1", "- ".repeat(200)))),
        ("200 conditions", with(&format!("COUNT(*) > 1{}", " AND COUNT(*) > 1".repeat(100)))),
        ("200 subqueries", "SELECT * FROM (".repeat(200)),
        ("a number of 10,000 digits", with(&format!("COUNT(*) > {}", "9".repeat(10_000)))),
        ("a name of 10,000 letters", with(&format!("SUM({}) > 1", "a".repeat(10_000)))),
        ("a text that does not end", format!("SELECT '{}", "x".repeat(10_000))),
        ("a comment that does not end", format!("SELECT /*{}", "/*".repeat(10_000))),
        ("a dollar quote that does not end", "SELECT $tag$ 1".to_owned()),
        ("a zero byte", "SELECT user_id\0 FROM t".to_owned()),
        ("a byte order mark", format!("\u{feff}{}", with("COUNT(*) > 1"))),
        ("letters that look like others", with("СOUNT(*) > 1")),
    ]
}

fn outcome(sql: &str) -> String {
    let table = transactions(ColumnType::Int8);
    match parse::parse(sql).and_then(|parsed| compile::compile(&parsed, &table)) {
        Ok(_) => unreachable!("a rule: {sql}"),
        Err(error) => tripline::model::text::one_line(&error.to_string()).into_owned(),
    }
}

#[test]
fn what_is_said_of_each() {
    let golden = format!("{}/tests/core/bad_rules.txt", env!("CARGO_MANIFEST_DIR"));
    let kept = std::fs::read_to_string(&golden).unwrap();
    let texts: Vec<&str> = kept.lines().filter(|line| !line.starts_with("    ") && !line.starts_with('#')).collect();
    let mut text =
        String::from("# SQL that is no rule, and the reason under it. Texts in <> are made in bad_rules.rs.\n");
    for sql in texts.iter().filter(|sql| !sql.starts_with('<')) {
        let _ = writeln!(text, "{sql}\n    {}", outcome(&sql.replace('⏎', "\n")));
    }
    for (name, sql) in made() {
        let said = outcome(&sql);
        assert!(said.len() < 500, "{name}: {} bytes", said.len());
        let _ = writeln!(text, "<{name}>\n    {said}");
    }
    if std::env::var("BAD_INPUTS").is_ok_and(|value| value == "write") {
        std::fs::write(&golden, &text).unwrap();
    }
    assert_eq!(text, std::fs::read_to_string(&golden).unwrap());
    assert!(text.lines().all(|line| line != "    it is a rule"));
}
