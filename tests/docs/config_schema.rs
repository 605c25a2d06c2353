//! docs/config.schema.json: the JSON schema of the configuration, for editors. Which settings there are, their types, bounds
//! and choices are what the program itself says of a wrong file; texts and defaults are those of config/default.toml.
//!
//! `DOCS=write cargo test --test docs` writes the file.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use config::{Config as Toml, File, FileFormat};
use serde_json::{Map, Value as Json, json};
use tripline::config::{ConfigError, load};

use super::configuration::page;
use super::schema::violations;
use super::{root, text};

/// A setting or a section as config/default.toml explains it.
#[derive(Clone, Debug, Default)]
struct Explained {
    words: String,
    /// The value, as TOML, and whether it is the default.
    value: Option<(String, bool)>,
}

/// Settings and sections by their full names.
fn explained() -> BTreeMap<String, Explained> {
    let mut found: BTreeMap<String, Explained> = BTreeMap::new();
    let mut name = String::new();
    let page = page(&text("config/default.toml"));
    for line in page.lines().skip_while(|line| !line.starts_with("### ")) {
        if let Some(setting) = line.strip_prefix("### ") {
            setting.trim_matches('`').clone_into(&mut name);
        } else if let Some(section) = line.strip_prefix("## ") {
            section.trim_matches(['[', ']']).clone_into(&mut name);
        } else if let Some((kind @ ("Default" | "Example"), value)) = line.split_once(": `") {
            let value = value.trim_end_matches('`').to_owned();
            found.entry(name.clone()).or_default().value = Some((value, kind == "Default"));
        } else if !line.is_empty() {
            found.entry(name.clone()).or_default().words = line.to_owned();
        }
    }
    found
}

/// A file of TOML as JSON.
fn parsed(toml: &str) -> Json {
    let read = Toml::builder().add_source(File::from_str(toml, FileFormat::Toml)).build();
    read.unwrap().try_deserialize().unwrap()
}

/// What the program says of each key of a file.
fn said(toml: &str) -> Vec<(String, String)> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("tripline.toml");
    fs::write(&file, toml).unwrap();
    match load(&file, []) {
        Ok(_) => Vec::new(),
        Err(ConfigError::Invalid(problems)) => problems
            .into_iter()
            .map(|problem| (problem.key.replace("rule 1: ", "rules.").replace("source 1: ", "sources."), problem.text))
            .collect(),
        Err(other) => panic!("{toml}: {other}"),
    }
}

/// Sections that a file may have several times.
const LISTS: [&str; 2] = ["rules", "sources"];

/// `name`, or `section.name`.
fn full(section: &str, name: &str) -> String {
    if section.is_empty() { name.to_owned() } else { format!("{section}.{name}") }
}

/// A file with this section, and a line in it.
fn file(section: &str, line: &str) -> String {
    match section {
        "" => line.to_owned(),
        _ if LISTS.contains(&section) => format!("[[{section}]]\n{line}"),
        section => format!("[{section}]\n{line}"),
    }
}

/// What the program says of a setting that has this value.
fn probed(section: &str, name: &str, value: &str) -> Option<String> {
    let full = full(section, name);
    said(&file(section, &format!("{name} = {value}"))).into_iter().find(|(key, _)| *key == full).map(|(_, text)| text)
}

/// The names that a section knows, settings and sections.
fn known(section: &str) -> Vec<String> {
    let said = probed(section, "no_such_setting", "1").unwrap();
    let names = said.strip_prefix("unknown key; known here: ").unwrap_or_else(|| panic!("{section}: {said}"));
    names.split(", ").filter(|name| *name != "nothing").map(str::to_owned).collect()
}

/// Words in backticks.
fn quoted(text: &str) -> Vec<&str> {
    text.split('`').skip(1).step_by(2).collect()
}

/// Type, bounds and choices of a setting, by what the program says of wrong values.
fn type_of(section: &str, name: &str) -> Json {
    let wrong = probed(section, name, "[]").or_else(|| probed(section, name, "1")).unwrap();
    let wanted = wrong.strip_prefix("must be ").and_then(|rest| rest.split("; ").next()).unwrap_or(&wrong);
    let bounds = wanted.split_once(" from ").map(|(_, rest)| rest.split(',').next().unwrap().split(" to "));
    let bounds: Vec<Json> = bounds.into_iter().flatten().map(|bound| serde_json::from_str(bound).unwrap()).collect();
    if wanted.starts_with("a whole number from ") {
        json!({ "type": "integer", "minimum": bounds[0], "maximum": bounds[1] })
    } else if wanted.starts_with("a number from ") {
        json!({ "type": "number", "minimum": bounds[0], "maximum": bounds[1] })
    } else if wanted == "true or false" {
        json!({ "type": "boolean" })
    } else if wanted.starts_with("a list of texts") {
        json!({ "type": "array", "items": { "type": "string" } })
    } else if wanted == "text in quotes" {
        let refused = probed(section, name, "\"no such choice\"").unwrap_or_default();
        match refused.strip_prefix("unknown value ").and_then(|rest| rest.split_once("expected ")) {
            None => json!({ "type": "string", "minLength": 1 }),
            Some((_, choices)) if choices.contains("an instant") => {
                let names = quoted(choices).join("|");
                json!({ "type": "string", "minLength": 1, "pattern": format!("^({names}|[0-9]{{4}}-.+)$") })
            }
            Some((_, choices)) => json!({ "type": "string", "enum": quoted(choices) }),
        }
    } else {
        panic!("{section}.{name}: {wrong}")
    }
}

/// The schema of a section, by what the program says of it.
fn section(name: &str, explained: &BTreeMap<String, Explained>) -> Json {
    let (mut properties, mut required) = (Map::new(), Vec::new());
    let missing: BTreeSet<String> = said(&file(name, ""))
        .into_iter()
        .filter(|(_, text)| text.starts_with("required"))
        .map(|(key, _)| key)
        .collect();
    for known in known(name) {
        let full = full(name, &known);
        let is_section = explained.contains_key(&full) && explained[&full].value.is_none() || full == "alerts";
        let mut property = if full == "kafka.properties" {
            let kinds = ["string", "integer", "number", "boolean", "object"];
            json!({ "type": "object", "additionalProperties": { "type": kinds } })
        } else if LISTS.contains(&full.as_str()) {
            json!({ "type": "array", "minItems": 1, "items": section(&full, explained) })
        } else if is_section || has_settings(&full, explained) {
            section(&full, explained)
        } else {
            type_of(name, &known)
        };
        let of = explained.get(&full).cloned().unwrap_or_default();
        if !of.words.is_empty() {
            property["description"] = of.words.into();
        }
        if let Some((value, is_default)) = of.value.filter(|(value, _)| *value != "\"…\"") {
            let value = parsed(&format!("value = {value}"))["value"].clone();
            if is_default {
                property["default"] = value;
            } else {
                property["examples"] = json!([value]);
            }
        }
        if missing.contains(&full) {
            required.push(known.clone());
        }
        properties.insert(known, property);
    }
    let mut made = json!({ "type": "object", "additionalProperties": false, "properties": properties });
    // All but rules can come from the environment, too.
    if !required.is_empty() {
        made[if LISTS.contains(&name) { "required" } else { "x-required" }] = required.into();
    }
    made
}

fn has_settings(name: &str, explained: &BTreeMap<String, Explained>) -> bool {
    explained.keys().any(|key| key.strip_prefix(name).is_some_and(|rest| rest.starts_with('.')))
}

fn made() -> Json {
    let mut schema = section("", &explained());
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema".into();
    schema["title"] = "Configuration of Tripline".into();
    schema["description"] = "Settings in x-required are required in the file or in the environment.".into();
    schema["anyOf"] = json!([{ "required": ["rules"] }, { "required": ["archive"] }]);
    schema
}

fn schema() -> Json {
    serde_json::from_str(&text("docs/config.schema.json")).unwrap()
}

#[test]
fn the_schema_is_what_the_program_says() {
    let wanted = format!("{}\n", serde_json::to_string_pretty(&made()).unwrap());
    if std::env::var_os("DOCS").is_some_and(|what| what == "write") {
        fs::write(root().join("docs/config.schema.json"), &wanted).unwrap();
    }
    assert!(
        text("docs/config.schema.json") == wanted,
        "DOCS=write cargo test --test docs writes docs/config.schema.json"
    );
}

/// The schema of a setting or section by its full name.
fn at<'s>(schema: &'s Json, name: &str) -> &'s Json {
    name.split('.').fold(schema, |schema, part| {
        let of = if schema["type"] == "array" { &schema["items"] } else { schema };
        &of["properties"][part]
    })
}

#[test]
fn the_schema_has_every_setting_with_the_type_of_its_default() {
    let schema = schema();
    let (mut settings, mut defaults) = (0, 0);
    for (name, of) in explained() {
        if name.starts_with("kafka.properties.") {
            continue;
        }
        let found = at(&schema, &name);
        assert!(found.is_object(), "{name} is not in the schema");
        let Some((value, is_default)) = of.value.filter(|(value, _)| *value != "\"…\"") else { continue };
        let value = parsed(&format!("value = {value}"))["value"].clone();
        assert_eq!(violations(found, &value, &name), Vec::<String>::new());
        settings += 1;
        if is_default {
            assert_eq!(found["default"], value, "{name}");
            defaults += 1;
        }
    }
    assert!(settings > 55 && defaults > 25, "{settings} settings, {defaults} defaults");
    for (section, names) in [
        ("kafka", json!(["group_id"])),
        ("source", json!(["topic"])),
        ("postgres", json!(["url"])),
        ("archive", json!(["topic", "group_id", "checkpoint_dir", "output_path"])),
    ] {
        assert_eq!(at(&schema, section)["x-required"], names, "{section}");
    }
    assert_eq!(schema["properties"]["rules"]["items"]["required"], json!(["name", "sql"]));
    assert_eq!(schema["properties"]["sources"]["items"]["required"], json!(["topic"]));
}

#[test]
fn the_configurations_of_this_project_hold_to_the_schema() {
    let schema = schema();
    for name in [
        "config/example.toml",
        "config/your-stack.toml",
        "config/archive.toml",
        "config/compose.toml",
        "src/demo/rules.toml",
    ] {
        assert_eq!(violations(&schema, &parsed(&text(name)), name), Vec::<String>::new());
    }
}

#[test]
fn the_schema_is_strict() {
    let schema = schema();
    let example = text("config/example.toml");
    let broken = |from: &str, to: &str| {
        assert!(example.contains(from), "{from}");
        violations(&schema, &parsed(&example.replacen(from, to, 1)), "file")
    };
    let check = |from: &str, to: &str, want: &str| assert_eq!(broken(from, to), [want], "{from} → {to}");
    check("[source]\ntopic", "[source]\ntopik", "file.source.topik is unknown");
    check("severity =", "severty =", "file.rules[0].severty is unknown");
    check("name = \"weekly-spend\"\n", "", "file.rules[0].name is missing");
    check("[alerts.log]", "[alerts.lug]", "file.alerts.lug is unknown");
    check("[alerts.log]", "[alerts.log]\nlevel = 1", "file.alerts.log.level is unknown");
    check("trigger_interval_ms = 1000", "trigger_interval_ms = 9", "file.checkpoint.trigger_interval_ms is 9");
    check(
        "trigger_interval_ms = 1000",
        "trigger_interval_ms = \"1s\"",
        "file.checkpoint.trigger_interval_ms is string",
    );
    check("[source]", "[source]\nformat = \"xml\"", "file.source.format is \"xml\"");
    check("[kafka]", "[kafak]\n[kafka]", "file.kafak is unknown");
    // A misspelt name is unknown in every section.
    let mut sections = 0;
    let mut waiting = vec![("file".to_owned(), &schema)];
    while let Some((name, of)) = waiting.pop() {
        let of = if of["type"] == "array" { &of["items"] } else { of };
        let Some(properties) = of["properties"].as_object() else { continue };
        let found = violations(of, &json!({ "no_such_setting": 1 }), &name);
        assert!(found.contains(&format!("{name}.no_such_setting is unknown")), "{found:?}");
        waiting.extend(properties.iter().map(|(key, property)| (format!("{name}.{key}"), property)));
        sections += 1;
    }
    assert!(sections >= 14, "{sections}");
}
