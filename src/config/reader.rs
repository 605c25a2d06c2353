//! Typed reading of one section. Each setting is taken by name, and the remaining ones are unknown. Problems are
//! collected with their key and origin, so that all of them can be fixed at once.

use std::cell::RefCell;
use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;

use ::config::{Map, Value, ValueKind};
use rust_decimal::Decimal;
use rust_decimal::prelude::ToPrimitive;
use serde::de::DeserializeOwned;
use serde::de::value::{Error as ChoiceError, StrDeserializer};

use super::layers::ENVIRONMENT_ORIGIN;

/// Settings by name.
pub(super) type Table = Map<String, Value>;

/// A problem with the configuration. It prints as `origin: key: what is wrong and what to do`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The file or the environment variable.
    pub origin: String,
    /// The setting's full name, for example `kafka.group_id`. Empty if there is none.
    pub key: String,
    /// The problem, and what to do.
    pub text: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.key.as_str() {
            "" => write!(f, "{}: {}", self.origin, self.text),
            key => write!(f, "{}: {key}: {}", self.origin, self.text),
        }
    }
}

/// The problems found so far.
pub(super) struct Report {
    file: String,
    problems: RefCell<Vec<Problem>>,
}

impl Report {
    /// Creates an empty report. `file` is the origin of a value without one, such as a missing value.
    pub(super) fn new(file: String) -> Self {
        Self { file, problems: RefCell::new(Vec::new()) }
    }

    pub(super) fn add(&self, origin: Option<&str>, key: &str, text: impl Into<String>) {
        let origin = origin.unwrap_or(&self.file).to_owned();
        self.problems.borrow_mut().push(Problem { origin, key: key.escape_debug().to_string(), text: text.into() });
    }

    pub(super) fn into_problems(self) -> Vec<Problem> {
        self.problems.into_inner()
    }
}

/// Returns `prefix.name`, or `name` alone.
pub(super) fn join(prefix: &str, name: &str) -> String {
    if prefix.is_empty() { name.to_owned() } else { format!("{prefix}.{name}") }
}

/// A table of settings that is being read. Each method takes a setting out. If a method returns `None` for a setting
/// that is not optional, it has reported the reason.
pub(super) struct Section<'r> {
    table: Table,
    /// The prefix of names in errors: empty, `kafka.`, or `rule 1 (name): `.
    prefix: String,
    /// The names that were asked for, in order. They are the known names of the section.
    known: Vec<&'static str>,
    report: &'r Report,
}

impl<'r> Section<'r> {
    pub(super) fn new(table: Table, prefix: impl Into<String>, report: &'r Report) -> Self {
        Self { table, prefix: prefix.into(), known: Vec::new(), report }
    }

    /// Whether a setting with this name exists and was not taken.
    pub(super) fn has(&self, key: &str) -> bool {
        self.table.contains_key(key)
    }

    /// Changes the prefix of names in errors.
    pub(super) fn rename(&mut self, name: impl Fn(&str) -> String) {
        self.prefix = name(&self.prefix);
    }

    fn take(&mut self, key: &'static str) -> Option<Value> {
        self.known.push(key);
        self.table.remove(key)
    }

    /// Reports a problem with a setting.
    pub(super) fn problem(&self, origin: Option<&str>, key: &str, text: impl Into<String>) {
        self.report.add(origin, &format!("{}{key}", self.prefix), text);
    }

    fn wanted(&self, value: &Value, key: &str, wanted: &str) {
        self.problem(value.origin(), key, format!("must be {wanted}; it is {}", kind_of(value)));
    }

    fn missing(&self, key: &str) {
        let text = if self.prefix.contains(' ') {
            "required, and not set; write it in the file".to_owned()
        } else {
            let variable = format!("{}{key}", self.prefix).replace('.', "__").to_uppercase();
            format!("required, and not set; write it in the file or set TRIPLINE__{variable}")
        };
        self.problem(None, key, text);
    }

    /// Takes the section with this name, if it exists.
    pub(super) fn section_if(&mut self, name: &'static str) -> Option<Section<'r>> {
        match self.take(name)?.kind {
            ValueKind::Table(table) => Some(Section::new(table, format!("{}{name}.", self.prefix), self.report)),
            // A plain value in its place was reported when the layers were merged.
            _ => None,
        }
    }

    /// Takes the section with this name. It is empty if it does not exist.
    pub(super) fn section(&mut self, name: &'static str) -> Section<'r> {
        let prefix = format!("{}{name}.", self.prefix);
        self.section_if(name).unwrap_or_else(|| Section::new(Table::new(), prefix, self.report))
    }

    /// Takes the `[[name]]` tables. Empty if there are none.
    pub(super) fn tables(&mut self, name: &'static str) -> Option<Vec<Table>> {
        let wanted = format!("a list of tables; write [[{name}]]");
        let Some(value) = self.take(name) else {
            return Some(Vec::new());
        };
        let ValueKind::Array(entries) = value.kind else {
            self.wanted(&value, name, &wanted);
            return None;
        };
        let mut tables = Vec::with_capacity(entries.len());
        let mut all = true;
        for entry in entries {
            match entry.kind {
                ValueKind::Table(table) => tables.push(table),
                _ => {
                    all = false;
                    self.wanted(&entry, name, &wanted);
                }
            }
        }
        all.then_some(tables)
    }

    /// Takes a text that is not blank and passes `check`, if the setting exists.
    pub(super) fn text_if(&mut self, key: &'static str, check: impl Fn(&str) -> Result<(), String>) -> Option<String> {
        let value = self.take(key)?;
        let ValueKind::String(text) = &value.kind else {
            self.wanted(&value, key, "text in quotes");
            return None;
        };
        let checked = match text.trim() {
            "" => Err("must not be empty".to_owned()),
            _ if text.contains('\0') => Err("must not contain a NUL character".to_owned()),
            _ => check(text),
        };
        match checked {
            Ok(()) => Some(text.clone()),
            Err(problem) => {
                self.problem(value.origin(), key, problem);
                None
            }
        }
    }

    /// Takes a text that is not blank and passes `check`.
    pub(super) fn text(&mut self, key: &'static str, check: impl Fn(&str) -> Result<(), String>) -> Option<String> {
        if !self.has(key) {
            self.known.push(key);
            self.missing(key);
            return None;
        }
        self.text_if(key, check)
    }

    /// Takes a text that is not blank and passes `check`, or `default` if the setting does not exist.
    pub(super) fn text_or(
        &mut self,
        key: &'static str,
        default: &str,
        check: impl Fn(&str) -> Result<(), String>,
    ) -> Option<String> {
        if self.has(key) {
            return self.text_if(key, check);
        }
        self.known.push(key);
        Some(default.to_owned())
    }

    /// Takes a list of texts. Empty if the setting does not exist.
    pub(super) fn texts_or_none(&mut self, key: &'static str) -> Option<Vec<String>> {
        let Some(value) = self.take(key) else { return Some(Vec::new()) };
        let ValueKind::Array(entries) = &value.kind else {
            self.wanted(&value, key, "a list of texts, such as [\"user_id\"]");
            return None;
        };
        let text = |entry: &Value| match &entry.kind {
            ValueKind::String(text) => Some(text.clone()),
            _ => {
                self.wanted(entry, key, "a list of texts, such as [\"user_id\"]");
                None
            }
        };
        entries.iter().map(text).collect()
    }

    /// Takes a time in milliseconds within `range`, or `default` if the setting does not exist.
    pub(super) fn millis_or(
        &mut self,
        key: &'static str,
        default: u32,
        range: RangeInclusive<u32>,
    ) -> Option<Duration> {
        self.number_or(key, default, range).map(|millis| Duration::from_millis(u64::from(millis)))
    }

    /// Takes a whole number within `range`.
    pub(super) fn number(&mut self, key: &'static str, range: RangeInclusive<u32>) -> Option<u32> {
        let Some(value) = self.take(key) else {
            self.missing(key);
            return None;
        };
        let wanted = format!("a whole number from {} to {}", range.start(), range.end());
        let number = match &value.kind {
            ValueKind::I64(number) => Some(*number),
            ValueKind::String(text) if is_environment(&value) => text.trim().parse().ok(),
            _ => None,
        };
        let Some(number) = number else {
            self.wanted(&value, key, &wanted);
            return None;
        };
        let admitted = u32::try_from(number).ok().filter(|number| range.contains(number));
        if admitted.is_none() {
            self.problem(value.origin(), key, format!("must be {wanted}; it is {number}"));
        }
        admitted
    }

    /// Takes a time in milliseconds within `range`.
    pub(super) fn millis(&mut self, key: &'static str, range: RangeInclusive<u32>) -> Option<Duration> {
        self.number(key, range).map(|millis| Duration::from_millis(u64::from(millis)))
    }

    /// Takes a share of the whole in millionths: more than 0, at most 1.
    pub(super) fn share(&mut self, key: &'static str) -> Option<u32> {
        const MILLION: u32 = 1_000_000;
        let Some(value) = self.take(key) else {
            self.missing(key);
            return None;
        };
        let text = match &value.kind {
            ValueKind::I64(number) => number.to_string(),
            ValueKind::Float(number) => number.to_string(),
            ValueKind::String(text) if is_environment(&value) => text.trim().to_owned(),
            _ => String::new(),
        };
        let millionths = text.parse().ok().and_then(|share: Decimal| {
            share.checked_mul(Decimal::from(MILLION))?.to_u32().filter(|share| (1..=MILLION).contains(share))
        });
        if millionths.is_none() {
            self.wanted(&value, key, "a number from 0.000001 to 1, a share of the whole");
        }
        millionths
    }

    /// Takes `true` or `false`.
    pub(super) fn flag(&mut self, key: &'static str) -> Option<bool> {
        let Some(value) = self.take(key) else {
            self.missing(key);
            return None;
        };
        let flag = match &value.kind {
            ValueKind::Boolean(flag) => Some(*flag),
            ValueKind::String(text) if is_environment(&value) => text.trim().to_lowercase().parse().ok(),
            _ => None,
        };
        if flag.is_none() {
            self.wanted(&value, key, "true or false");
        }
        flag
    }

    /// Takes `true` or `false`, or `default` if the setting does not exist.
    pub(super) fn flag_or(&mut self, key: &'static str, default: bool) -> Option<bool> {
        if self.has(key) {
            return self.flag(key);
        }
        self.known.push(key);
        Some(default)
    }

    /// Takes a whole number within `range`, or `default` if the setting does not exist.
    pub(super) fn number_or(&mut self, key: &'static str, default: u32, range: RangeInclusive<u32>) -> Option<u32> {
        if self.has(key) {
            return self.number(key, range);
        }
        self.known.push(key);
        Some(default)
    }

    /// Takes one of the names of an enum, or `default` if the setting does not exist.
    pub(super) fn choice_or<T: DeserializeOwned>(&mut self, key: &'static str, default: T) -> Option<T> {
        if self.has(key) {
            return self.choice(key);
        }
        self.known.push(key);
        Some(default)
    }

    /// Takes one of the names of an enum.
    pub(super) fn choice<T: DeserializeOwned>(&mut self, key: &'static str) -> Option<T> {
        let Some(value) = self.take(key) else {
            self.missing(key);
            return None;
        };
        let ValueKind::String(text) = &value.kind else {
            self.wanted(&value, key, "text in quotes");
            return None;
        };
        match T::deserialize(StrDeserializer::<ChoiceError>::new(text)) {
            Ok(choice) => Some(choice),
            Err(error) => {
                let text = error.to_string().replacen("unknown variant", "unknown value", 1);
                self.problem(value.origin(), key, text);
                None
            }
        }
    }

    /// Reports a setting with an old name. `to` is the new form.
    pub(super) fn renamed(&mut self, old: &'static str, to: &str) {
        if let Some(value) = self.table.remove(old) {
            self.problem(value.origin(), old, format!("was renamed; write {to}"));
        }
    }

    /// Takes everything in the section as text, ordered by name. This is for sections with names of another program.
    pub(super) fn properties(mut self, check: impl Fn(&str) -> Result<(), String>) -> Option<Vec<(String, String)>> {
        let mut sorted: Vec<(String, Value)> = std::mem::take(&mut self.table).into_iter().collect();
        sorted.sort_by(|(a, _), (b, _)| a.cmp(b));
        let mut properties = Vec::new();
        let mut all = true;
        for (name, value) in sorted {
            let text = match &value.kind {
                ValueKind::String(text) if text.contains('\0') => Err("must not contain a NUL character".to_owned()),
                ValueKind::String(_) | ValueKind::Boolean(_) | ValueKind::I64(_) | ValueKind::Float(_) => {
                    check(&name).map(|()| value.to_string())
                }
                _ => Err(format!("must be text, a number, true or false; it is {}", kind_of(&value))),
            };
            match text {
                Ok(text) => properties.push((name, text)),
                Err(problem) => {
                    all = false;
                    self.problem(value.origin(), &name, problem);
                }
            }
        }
        all.then_some(properties)
    }

    /// Reports the settings that were not taken. Since nothing reads them, they are misspelt or misplaced.
    pub(super) fn finish(self) {
        let mut unknown: Vec<(&String, &Value)> = self.table.iter().collect();
        unknown.sort_by_key(|(name, _)| *name);
        let known = if self.known.is_empty() { "nothing".to_owned() } else { self.known.join(", ") };
        for (name, value) in unknown {
            let what = match value.kind {
                ValueKind::Table(_) => "section",
                _ => "key",
            };
            self.problem(origin_of(value), name, format!("unknown {what}; known here: {known}"));
        }
    }
}

fn is_environment(value: &Value) -> bool {
    value.origin().is_some_and(|origin| origin.starts_with(ENVIRONMENT_ORIGIN))
}

/// Returns a value's origin, or that of a value inside, because merging keeps the origins of values but not of tables.
fn origin_of(value: &Value) -> Option<&str> {
    value.origin().or_else(|| match &value.kind {
        ValueKind::Table(table) => table.values().find_map(origin_of),
        _ => None,
    })
}

/// Returns the type of a value without showing it, because it may be a misplaced secret.
fn kind_of(value: &Value) -> &'static str {
    match &value.kind {
        ValueKind::Boolean(_) => "true or false",
        ValueKind::I64(_) | ValueKind::I128(_) | ValueKind::U64(_) | ValueKind::U128(_) => "a whole number",
        ValueKind::Float(_) => "a number with a fraction",
        ValueKind::String(_) => "text",
        ValueKind::Table(_) => "a table",
        ValueKind::Array(_) => "a list",
        ValueKind::Nil => "nothing",
    }
}
