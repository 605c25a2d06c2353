//! The sources of values. Each layer becomes a table of the same shape, and the `config` crate merges them. Every value
//! has its origin, so that an error can name the file or the variable.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use ::config::{FileFormat, Format as _, Map, Source, Value, ValueKind};

use super::reader::{Report, Table, join};
use super::{ConfigError, ENVIRONMENT_PREFIX};

const DEFAULTS: &str = include_str!("../../config/default.toml");

/// Larger files are rejected. No configuration is that large, and a wrong path should not be read into memory.
const FILE_MAX_BYTES: u64 = 1024 * 1024;

/// The greatest number of levels of names. librdkafka's longest names, written without quotes, need nine.
const DEPTH_MAX: usize = 32;

/// This is enough for the deepest nesting that the TOML parser accepts, also without optimisation.
const PARSER_STACK_BYTES: usize = 128 * 1024 * 1024;

/// The beginning of an origin in the environment. Only there `reader` accepts text for numbers.
pub(super) const ENVIRONMENT_ORIGIN: &str = "environment variable ";

/// The sections by path. A plain value in place of a section would silently remove the section's settings during the
/// merge, so it is removed before.
const SECTIONS: [&[&str]; 11] = [
    &["kafka"],
    &["kafka", "properties"],
    &["source"],
    &["postgres"],
    &["checkpoint"],
    &["alerts"],
    &["alerts", "log"],
    &["alerts", "kafka"],
    &["alerts", "postgres"],
    &["archive"],
    &["log"],
];

/// Returns the built-in settings.
pub(super) fn defaults() -> Result<Table, ConfigError> {
    parse(Path::new("the built-in config/default.toml"), DEFAULTS)
}

/// Reads the user's file.
pub(super) fn file(path: &Path) -> Result<Table, ConfigError> {
    let read = |source| ConfigError::Read { path: path.to_owned(), source };
    let mut bytes = Vec::new();
    // The crate's own file source is not used. It would also look for the same name with `.toml`, and replace bytes
    // that are not UTF-8 by U+FFFD.
    File::open(path).map_err(read)?.take(FILE_MAX_BYTES + 1).read_to_end(&mut bytes).map_err(read)?;
    if bytes.len() as u64 > FILE_MAX_BYTES {
        return Err(read(io::Error::other("it is larger than 1 MiB")));
    }
    match String::from_utf8(bytes) {
        Ok(text) => parse(path, text.strip_prefix('\u{feff}').unwrap_or(&text)),
        Err(error) => {
            let valid = error.utf8_error().valid_up_to();
            let line = error.as_bytes().iter().take(valid).filter(|byte| **byte == b'\n').count() + 1;
            let detail = format!("line {line}: not UTF-8; save the file as UTF-8");
            Err(ConfigError::Syntax { path: path.to_owned(), detail })
        }
    }
}

fn parse(path: &Path, text: &str) -> Result<Table, ConfigError> {
    let origin = path.display().to_string();
    // The parser limits headers, dotted keys and nested values each, but not their combination. Inline tables with long
    // dotted keys nest thousands of levels deep and would exhaust an ordinary stack.
    let parsed = std::thread::scope(|scope| {
        let parse = || match FileFormat::Toml.parse(Some(&origin), text) {
            Ok(table) if table.values().any(|value| deeper_than(DEPTH_MAX, value)) => {
                Err(format!("keys nest more than {DEPTH_MAX} deep; no setting does"))
            }
            Ok(table) => Ok(table),
            Err(error) => Err(without_excerpt(&error.to_string())),
        };
        let thread = std::thread::Builder::new().stack_size(PARSER_STACK_BYTES).spawn_scoped(scope, parse);
        thread.map(|thread| thread.join().unwrap_or_else(|_| Err("the TOML parser failed".to_owned())))
    });
    match parsed {
        Ok(Ok(table)) => Ok(table),
        Ok(Err(detail)) => Err(ConfigError::Syntax { path: path.to_owned(), detail }),
        Err(source) => Err(ConfigError::Read { path: path.to_owned(), source }),
    }
}

fn deeper_than(levels: usize, value: &Value) -> bool {
    let Some(left) = levels.checked_sub(1) else { return true };
    match &value.kind {
        ValueKind::Table(table) => table.values().any(|value| deeper_than(left, value)),
        ValueKind::Array(values) => values.iter().any(|value| deeper_than(left, value)),
        _ => false,
    }
}

/// Returns the parser's message without the quoted line, which may contain a password.
/// `TOML parse error at line 3, column 5⏎  |⏎3 | …⏎  | ^⏎message` becomes `line 3, column 5: message`.
fn without_excerpt(message: &str) -> String {
    let mut lines = message.lines();
    let Some(place) = lines.next().and_then(|first| first.strip_prefix("TOML parse error at ")) else {
        return format!("a value cannot be read: {}", message.trim());
    };
    let is_marker = |line: &&str| line.trim_start().strip_prefix('|').is_some_and(|rest| rest.trim().starts_with('^'));
    let reason = lines.skip_while(|line| !is_marker(line)).skip(1).collect::<Vec<_>>().join("; ");
    if reason.is_empty() { place.to_owned() } else { format!("{place}: {reason}") }
}

/// Returns the variables that start with [`ENVIRONMENT_PREFIX`]. `__` separates section and key. After
/// `KAFKA__PROPERTIES__` the rest is one librdkafka name: `_` stands for a dot, `__` for a `_`.
pub(super) fn environment(env: impl IntoIterator<Item = (String, String)>, report: &Report) -> Table {
    let mut variables: Vec<(String, String)> =
        env.into_iter().filter(|(name, _)| name.starts_with(ENVIRONMENT_PREFIX)).collect();
    // The order of the process's variables is arbitrary. That of errors should not be.
    variables.sort();
    let mut table = Table::new();
    for (name, value) in variables {
        let origin = format!("{ENVIRONMENT_ORIGIN}{name}");
        let key = name.strip_prefix(ENVIRONMENT_PREFIX).unwrap_or_default().to_lowercase();
        let path: Vec<String> = match key.strip_prefix("kafka__properties__") {
            Some(property) => vec!["kafka".to_owned(), "properties".to_owned(), property_name(property)],
            None => key.split("__").map(str::to_owned).collect(),
        };
        match path.first() {
            _ if path.len() > DEPTH_MAX || path.iter().any(String::is_empty) => {
                report.add(Some(&origin), "", "not of the form TRIPLINE__SECTION__KEY; correct or unset it");
            }
            Some(first) if first == "rules" || first == "sources" => {
                let text = format!("cannot be set by the environment; write [[{first}]] in the file");
                report.add(Some(&origin), first, text);
            }
            _ => {
                let value = Value::new(Some(&origin), value);
                if let Err(problem) = insert(&mut table, &path, value) {
                    report.add(Some(&origin), &path.join("."), problem);
                }
            }
        }
    }
    table
}

fn property_name(text: &str) -> String {
    text.split("__").map(|part| part.replace('_', ".")).collect::<Vec<_>>().join("_")
}

/// Puts a value at a path of names.
fn insert(table: &mut Table, path: &[String], value: Value) -> Result<(), &'static str> {
    match path {
        [] => Ok(()),
        [last] => match table.insert(last.clone(), value) {
            None => Ok(()),
            Some(_) => Err("given twice, in capitals and in small letters; unset one"),
        },
        [first, rest @ ..] => {
            let inner = table.entry(first.clone()).or_insert_with(|| Value::new(None, Table::new()));
            match &mut inner.kind {
                ValueKind::Table(inner) => insert(inner, rest, value),
                _ => Err("the part before it is set as a value by another variable; unset one"),
            }
        }
    }
}

/// Merges the layers. A later layer takes precedence key by key. An array is replaced as a whole.
pub(super) fn merge(layers: [Table; 3], report: &Report) -> Result<Table, ConfigError> {
    let mut builder = ::config::Config::builder();
    for mut layer in layers {
        for section in SECTIONS {
            take_misplaced_value(&mut layer, section, report);
        }
        flatten_properties(&mut layer, report);
        builder = builder.add_source(Layer(layer));
    }
    let mut root = builder.build()?.cache.into_table()?;
    match root.remove(Layer::ROOT).map(|value| value.kind) {
        Some(ValueKind::Table(table)) => Ok(table),
        _ => Ok(Table::new()),
    }
}

fn take_misplaced_value(table: &mut Table, path: &[&str], report: &Report) {
    let mut table = table;
    for (depth, name) in path.iter().enumerate() {
        let last = depth + 1 == path.len();
        if last && table.get(*name).is_some_and(|value| !matches!(value.kind, ValueKind::Table(_))) {
            if let Some(value) = table.remove(*name) {
                let path = path.join(".");
                report.add(value.origin(), &path, format!("a section, not a value; write [{path}] in the file"));
            }
            return;
        }
        match table.get_mut(*name).map(|value| &mut value.kind) {
            Some(ValueKind::Table(inner)) => table = inner,
            _ => return,
        }
    }
}

/// Makes `security.protocol = "SSL"` (which TOML nests) and `"security.protocol" = "SSL"` the same before the layers
/// are merged. Otherwise a variable could not override the file's value.
fn flatten_properties(layer: &mut Table, report: &Report) {
    let Some(ValueKind::Table(kafka)) = layer.get_mut("kafka").map(|value| &mut value.kind) else {
        return;
    };
    let Some(ValueKind::Table(nested)) = kafka.remove("properties").map(|value| value.kind) else {
        return;
    };
    let mut flat = Table::new();
    flatten(nested, "", &mut flat, report);
    kafka.insert("properties".to_owned(), Value::new(None, flat));
}

fn flatten(nested: Table, prefix: &str, flat: &mut Table, report: &Report) {
    for (name, value) in nested {
        let name = join(prefix, &name);
        match value.kind {
            ValueKind::Table(inner) => flatten(inner, &name, flat, report),
            _ => {
                let origin = value.origin().map(str::to_owned);
                if flat.insert(name.clone(), value).is_some() {
                    let key = format!("kafka.properties.{name}");
                    report.add(origin.as_deref(), &key, "given twice, with and without quotes; keep one");
                }
            }
        }
    }
}

/// A layer in the form of the `config` crate.
#[derive(Clone, Debug)]
struct Layer(Table);

impl Layer {
    /// The crate reads the names at the root of a source as paths (`a.b`, `a[7]`), and creates arrays as long as an
    /// index says. `"rules[99999999999]" = 1` would exhaust the memory. Below the root, names are plain.
    const ROOT: &'static str = "root";
}

impl Source for Layer {
    fn clone_into_box(&self) -> Box<dyn Source + Send + Sync> {
        Box::new(self.clone())
    }

    fn collect(&self) -> Result<Map<String, Value>, ::config::ConfigError> {
        Ok(Map::from([(Self::ROOT.to_owned(), Value::new(None, self.0.clone()))]))
    }
}
