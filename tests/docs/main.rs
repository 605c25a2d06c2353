//! The documentation is held to the code.
//!
//! - this file: pages, links, commands, runbooks, the dashboard, the unit for systemd, the schema of the alert record
//! - `configuration`: the page of all settings
//! - `config_schema`: docs/config.schema.json
//! - `schema`: alerts against docs/alert.schema.json, for the tests of the core too

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod config_schema;
mod configuration;
mod schema;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use schema::{schema, violations};
use serde_json::Value as Json;
use tripline::failure::Kind;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn text(file: &str) -> String {
    fs::read_to_string(root().join(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

/// All pages: those of the book, and those of the root that strangers read.
fn pages() -> BTreeMap<String, String> {
    let book = fs::read_dir(root().join("docs")).unwrap().map(|entry| entry.unwrap().file_name());
    let book = book.map(|name| format!("docs/{}", name.to_string_lossy())).filter(|name| name.ends_with(".md"));
    let others = ["README.md", "CONTRIBUTING.md", "SECURITY.md", "CODE_OF_CONDUCT.md"].map(str::to_owned);
    book.chain(others).map(|name| (name.clone(), text(&name))).collect()
}

/// Lines outside of fenced blocks, and the fences, each with the line before it that is not empty.
fn lines(page: &str) -> (Vec<&str>, Vec<(&str, &str)>) {
    let (mut outside, mut fences, mut is_inside, mut before) = (Vec::new(), Vec::new(), false, "");
    for line in page.lines() {
        if let Some(language) = line.trim_start().strip_prefix("```") {
            if !is_inside {
                fences.push((language, before));
            }
            is_inside = !is_inside;
        } else if !is_inside {
            outside.push(line);
            if !line.trim().is_empty() {
                before = line;
            }
        }
    }
    assert!(!is_inside, "a fence is not closed");
    (outside, fences)
}

/// The anchor of a heading, as GitHub and mdBook make it.
fn anchor(heading: &str) -> String {
    let kept = heading.trim().to_lowercase();
    let kept = kept.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

fn headings(page: &str) -> BTreeSet<String> {
    let (outside, _) = lines(page);
    let headings = outside.into_iter().filter(|line| line.starts_with('#'));
    headings.map(|line| line.trim_start_matches('#').trim().to_owned()).collect()
}

/// Targets of `[text](target)` and `![text](target)`, outside of fences and code.
fn links(page: &str) -> Vec<String> {
    let (outside, _) = lines(page);
    let mut found = Vec::new();
    for line in outside {
        let prose: String = line.split('`').step_by(2).collect::<Vec<_>>().join("`");
        let targets = prose.split("](").skip(1).filter_map(|rest| rest.split_once(')'));
        found.extend(targets.map(|(target, _)| target.to_owned()));
    }
    found
}

/// Relative links and anchors that lead nowhere.
fn broken(pages: &BTreeMap<String, String>) -> Vec<String> {
    let mut found = Vec::new();
    for (page, text) in pages {
        for link in links(text).into_iter().filter(|link| !link.contains("://")) {
            let (file, part) = link.split_once('#').unwrap_or((&link, ""));
            let target =
                if file.is_empty() { PathBuf::from(page) } else { Path::new(page).parent().unwrap().join(file) };
            let Ok(path) = root().join(&target).canonicalize() else {
                found.push(format!("{page}: {link}: no such file"));
                continue;
            };
            let name = path.strip_prefix(root().canonicalize().unwrap()).unwrap().to_string_lossy().into_owned();
            if !part.is_empty() {
                let text = pages.get(&name).cloned().unwrap_or_else(|| self::text(&name));
                if !headings(&text).iter().any(|heading| anchor(heading) == part) {
                    found.push(format!("{page}: {link}: no such heading"));
                }
            }
        }
    }
    found
}

#[test]
fn links_lead_somewhere() {
    let found = broken(&pages());
    assert!(found.is_empty(), "{}", found.join("\n"));
    let planted = "[a](docs/none.md) [b](docs/rules.md#none) [c](docs/rules.md#recipes) `[d](none)`".to_owned();
    assert_eq!(
        broken(&BTreeMap::from([("README.md".to_owned(), planted)])),
        ["README.md: docs/none.md: no such file", "README.md: docs/rules.md#none: no such heading"]
    );
}

#[test]
fn every_page_is_in_the_summary_once() {
    let listed = links(&text("docs/SUMMARY.md"));
    let unique: BTreeSet<String> = listed.iter().map(|link| format!("docs/{link}")).collect();
    assert_eq!(listed.len(), unique.len(), "a page is listed twice");
    let pages: BTreeSet<String> =
        pages().into_keys().filter(|page| page.starts_with("docs/") && page != "docs/SUMMARY.md").collect();
    assert_eq!(unique, pages);
}

#[test]
fn the_index_for_programs_links_to_pages() {
    for link in links(&text("docs/llms.txt")) {
        assert!(root().join("docs").join(&link).is_file(), "docs/llms.txt: {link}");
    }
}

/// A fenced block of commands has the line `<!-- tested by … -->` or `<!-- not tested … -->` before it. The README's two
/// commands are tested by `the_quick_start_has_two_commands`.
#[test]
fn commands_say_whether_they_are_tested() {
    for (page, text) in pages().into_iter().filter(|(page, _)| page != "README.md") {
        for (language, before) in lines(&text).1 {
            if matches!(language, "sh" | "bash" | "shell" | "console") {
                let is_marked = before.starts_with("<!-- tested by ") || before.starts_with("<!-- not tested");
                assert!(is_marked, "{page}: a block of commands after {before:?} does not say whether it is tested");
                for file in before.split([' ', ':', ',']).filter(|word| word.starts_with("tests/")) {
                    assert!(root().join(file).exists(), "{page}: {file} is not there");
                }
            }
        }
    }
}

/// `tests/demo.rs` runs the first one, and `.ci/run` the second.
#[test]
fn the_quick_start_has_two_commands() {
    let readme = text("README.md");
    let quick = readme.split("## Quick start").nth(1).unwrap().split("\n## ").next().unwrap();
    let commands: Vec<&str> = quick.split("```sh\n").skip(1).filter_map(|rest| rest.lines().next()).collect();
    assert_eq!(commands, ["cargo run --release -- demo", "scripts/test"]);
    assert!(text(".ci/run").contains("scripts/test") && text("tests/demo.rs").contains("\"demo\""));
}

#[test]
fn every_alert_and_exit_code_has_a_runbook() {
    let headings = headings(&text("docs/operations.md"));
    let rules = text("docs/prometheus-rules.yml");
    let alerts: Vec<&str> = rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    assert!(alerts.len() > 10, "{alerts:?}");
    for alert in &alerts {
        assert!(headings.contains(*alert), "docs/operations.md has no runbook of {alert}");
    }
    let old = headings.iter().find(|heading| heading.starts_with("Tripline") && !alerts.contains(&heading.as_str()));
    assert_eq!(old, None, "a runbook of an alert that is not there");
    let codes: BTreeSet<u8> = Kind::ALL.iter().map(|kind| kind.policy().exit.code()).chain([0]).collect();
    let documented: BTreeSet<u8> =
        headings.iter().filter_map(|heading| heading.strip_prefix("Exit code ")?.parse().ok()).collect();
    assert_eq!(documented, codes);
}

/// The workflows build with the oldest supported compiler, and call scripts that are there. No workflow was run by this test.
#[test]
fn workflows_fit_the_project() {
    let (mut images, mut scripts) = (0, 0);
    for name in ["test", "fuzz", "release"] {
        let workflow = text(&format!(".github/workflows/{name}.yml"));
        for line in workflow.lines().map(str::trim) {
            if let Some(image) = line.strip_prefix("container: ") {
                assert_eq!(image, format!("rust:{}-bookworm", env!("CARGO_PKG_RUST_VERSION")), "{name}");
                images += 1;
            }
            let command = line.strip_prefix("- run: ").unwrap_or_default();
            for word in command.split(' ').filter(|word| word.starts_with("scripts/") || word.starts_with(".ci/")) {
                assert!(root().join(word).is_file(), "{name}: {word}");
                scripts += 1;
            }
        }
    }
    assert_eq!((images, scripts), (2, 3));
}

/// A failure that is retried at once is restarted. One that needs an operator is not.
#[test]
fn the_unit_does_not_restart_what_needs_an_operator() {
    let unit = text("docs/tripline.service");
    let line = unit.lines().find_map(|line| line.strip_prefix("RestartPreventExitStatus=")).unwrap();
    let stopped: BTreeSet<u8> = line.split(' ').map(|code| code.parse().unwrap()).collect();
    let of = |kinds: &[Kind]| kinds.iter().map(|kind| kind.policy().exit.code()).collect::<BTreeSet<u8>>();
    assert_eq!(stopped, of(&[Kind::Misconfigured, Kind::Refused, Kind::Unsafe, Kind::Fenced]));
    assert!(stopped.is_disjoint(&of(&[Kind::Unreachable, Kind::Internal])));
}

/// `src/web/metrics.rs` compares docs/page.md with the metrics that are written. This test compares the dashboard with
/// that page.
#[test]
fn the_dashboard_asks_for_metrics_that_there_are() {
    let page = text("docs/page.md");
    let known: BTreeSet<&str> = page.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next()).collect();
    let dashboard: Json = serde_json::from_str(&text("docs/grafana-dashboard.json")).unwrap();
    let mut asked = BTreeSet::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        for target in panel["targets"].as_array().unwrap() {
            let expression = target["expr"].as_str().unwrap();
            let words = expression.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
            for word in words.filter(|word| word.starts_with("tripline_")) {
                let name = word.strip_suffix("_bucket").unwrap_or(word);
                assert!(known.contains(name), "{}: there is no {name}", panel["title"]);
                asked.insert(name.to_owned());
            }
        }
    }
    assert!(asked.len() > 10, "{asked:?}");
}

/// Also those of an earlier program: that is the rule of compatibility.
#[test]
fn recorded_alerts_hold_to_the_schema() {
    let schema = schema();
    let (mut alerts, mut statuses) = (0, BTreeSet::new());
    for case in ["monitor", "monitor-unfinished", "monitor-waiting"] {
        for line in text(&format!("tests/golden/37c39c8/{case}/alerts.ndjson")).lines() {
            let record: Json = serde_json::from_str(line).unwrap();
            let alert: Json = serde_json::from_str(record["value"].as_str().unwrap()).unwrap();
            assert_eq!(violations(&schema, &alert, "alert"), Vec::<String>::new(), "{alert}");
            let fields: Vec<&String> = alert.as_object().unwrap().keys().collect();
            let known = schema["properties"].as_object().unwrap();
            assert!(fields.iter().all(|field| known.contains_key(*field)), "{fields:?}");
            statuses.insert(alert["status"].to_string());
            alerts += 1;
        }
    }
    assert_eq!((alerts, statuses.len()), (19, 2));
    let example = text("docs/alerts.md");
    let example = example.split("```json\n").nth(1).unwrap().split("```").next().unwrap();
    let mut alert: Json = serde_json::from_str(example).unwrap();
    assert_eq!(violations(&schema, &alert, "alert"), Vec::<String>::new());
    alert["status"] = "open".into();
    alert["window"] = serde_json::json!({ "from": 1 });
    let found = violations(&schema, &alert, "alert");
    assert_eq!(found, ["alert.status is \"open\"", "alert.window.to is missing", "alert.window.from is integer"]);
}

/// The schema has the fields that the program reads back, and no other.
#[test]
fn the_schema_has_every_field() {
    let file = syn::parse_file(&text("src/alert/record.rs")).unwrap();
    let record = file.items.iter().find_map(|item| match item {
        syn::Item::Struct(found) if found.ident == "AlertRecord" => Some(found),
        _ => None,
    });
    let fields: BTreeSet<String> =
        record.unwrap().fields.iter().filter_map(|field| Some(field.ident.as_ref()?.to_string())).collect();
    let known: BTreeSet<String> = schema()["properties"].as_object().unwrap().keys().cloned().collect();
    assert_eq!(known, fields);
}
