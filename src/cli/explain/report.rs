//! The output of `tripline explain`, as text and as JSON.

use crate::model::Timestamp;
use serde_json::{Map, Value as Json, json};

use crate::alert::record::AlertRecord;
use crate::app::explain::{RowsNow, RuleNow};
use crate::cli::alerts::{pairs, shown};
use crate::cli::terminal::printable;
use crate::confirm::postgres::explain::PresentRow;
use crate::snapshot::Snapshot;

/// The least transaction id of an ordinary transaction. A row with a smaller one is older than any snapshot.
const FIRST_NORMAL_XID: u32 = 3;

/// The explanation.
pub(super) struct Report<'a> {
    record: &'a AlertRecord,
    rule: &'a RuleNow,
    /// The snapshot of the confirmation. `None` without a confirmation.
    snapshot: Option<Snapshot>,
    /// Whether that snapshot includes the trigger's transaction.
    trigger_included: Option<bool>,
    /// Whether that snapshot can be compared with the current rows.
    comparable: bool,
}

impl<'a> Report<'a> {
    pub(super) fn new(record: &'a AlertRecord, rule: &'a RuleNow) -> Self {
        let snapshot = record.confirmation("snapshot").as_str().and_then(Snapshot::parse);
        let tx_id = record.trigger("tx_id").as_i64().and_then(|id| u32::try_from(id.rem_euclid(1 << 32)).ok());
        let trigger_included = snapshot.as_ref().zip(tx_id).map(|(snapshot, id)| snapshot.includes(id));
        let now = rule.found.as_ref().ok().and_then(|found| Snapshot::parse(&found.present.snapshot));
        let comparable = snapshot.as_ref().zip(now).is_some_and(|(then, now)| !then.is_newer_than(&now));
        Self { record, rule, snapshot, trigger_included, comparable }
    }

    /// Whether the confirmation saw this version of a row. `None`: that is not known.
    fn seen(&self, row: &PresentRow) -> Option<bool> {
        let snapshot = self.snapshot.as_ref().filter(|_| self.comparable)?;
        Some(row.xmin < FIRST_NORMAL_XID || snapshot.includes(row.xmin))
    }

    fn newer(&self, found: &RowsNow) -> usize {
        found.present.rows.iter().filter(|row| self.seen(row) == Some(false)).count()
    }

    /// The number of rows that the confirmation counted and that no longer exist in the version that it saw. `None`:
    /// that is not known.
    fn gone(&self, found: &RowsNow) -> Option<u64> {
        let rows = &found.present.rows;
        let all = i64::try_from(rows.len()).is_ok_and(|listed| listed == found.present.rows_total);
        if !all || !self.comparable {
            return None;
        }
        let name = found.outputs.get(found.count?)?;
        let counted = self.record.database.as_ref()?.get(name)?.as_u64()?;
        let seen = rows.iter().filter(|row| self.seen(row) == Some(true)).count();
        Some(counted.saturating_sub(u64::try_from(seen).ok()?))
    }

    /// Milliseconds from the commit of the trigger to the alert.
    fn committed_to_emitted_ms(&self) -> Option<i64> {
        let committed = Timestamp::parse(self.record.trigger("committed_at").as_str()?)?;
        let emitted = Timestamp::parse(&self.record.emitted_at)?;
        Some(emitted.0.saturating_sub(committed.0).div_euclid(1_000))
    }

    fn version_note(&self) -> Option<String> {
        let (then, now) = (&self.record.rule_version, self.rule.version.as_ref()?);
        (then != now).then(|| {
            format!("the rule has changed: the alert is of version {then}, the configuration has {now}; rows and totals below are by the present one")
        })
    }

    pub(super) fn json(&self) -> Json {
        let (then, now) = (&self.record.rule_version, &self.rule.version);
        json!({
            "alert": self.record,
            "rule": {
                "name": self.record.rule,
                "version_then": then,
                "version_now": now,
                "changed": now.as_ref().map(|now| now != then),
            },
            "trigger_included": self.trigger_included,
            "latencies": {
                "committed_to_emitted_ms": self.committed_to_emitted_ms(),
                "confirmation_ms": self.record.confirmation("ms"),
            },
            "present": self.rule.found.as_ref().ok().map(|found| self.present_json(found)),
            "problem": self.rule.found.as_ref().err(),
        })
    }

    fn present_json(&self, found: &RowsNow) -> Json {
        let present = &found.present;
        let named = |values: &[Option<String>]| -> Map<String, Json> {
            found.outputs.iter().zip(values).map(|(name, value)| (name.clone(), json!(value))).collect()
        };
        let differences: Vec<Option<String>> =
            present.differences.iter().zip(&found.known).map(|(text, known)| known.then(|| text.clone())).collect();
        let row = |row: &PresentRow| {
            let columns: Map<String, Json> =
                found.columns.iter().zip(&row.values).map(|(name, value)| (name.clone(), json!(value))).collect();
            json!({ "columns": columns, "transaction": row.xmin, "seen_by_confirmation": self.seen(row) })
        };
        json!({
            "snapshot": present.snapshot,
            "holds": present.holds,
            "totals": named(&present.totals),
            "differences": named(&differences),
            "rows_total": present.rows_total,
            "rows_newer": self.comparable.then(|| self.newer(found)),
            "rows_gone": self.gone(found),
            "rows": present.rows.iter().map(row).collect::<Vec<_>>(),
        })
    }

    pub(super) fn text(&self) -> String {
        let mut lines = self.head();
        lines.extend(self.totals());
        lines.extend(self.causes());
        match &self.rule.found {
            Ok(found) => {
                lines.extend(self.rows(found));
                lines.extend(self.since(found));
            }
            Err(problem) => lines.extend([String::new(), format!("Rows now: not asked for: {problem}")]),
        }
        lines.push(String::new());
        lines.join("\n")
    }

    fn head(&self) -> Vec<String> {
        let record = self.record;
        let verb = if record.status == "firing" { "fired" } else { "resolved" };
        let window = match &record.window.from {
            Some(from) => format!("{from} to {}", record.window.to),
            None => format!("all rows, at {}", record.window.to),
        };
        let mut lines = vec![
            format!("{} {verb} for {} at {}", printable(&record.rule), pairs(&record.key), record.emitted_at),
            format!("  message   {}", printable(&record.message)),
            format!("  severity  {}", printable(&record.severity)),
            format!("  alert     {}", record.id),
            format!("  group     {}, lineage {}", printable(&record.group), printable(&record.lineage)),
            match &record.having {
                Some(having) => format!("  having    {}", printable(having)),
                None => format!(
                    "  evaluated by Postgres ({})",
                    printable(record.evaluated_by.as_deref().unwrap_or_default())
                ),
            },
            format!("  window    {window}"),
            format!("  version   {}", printable(&record.rule_version)),
        ];
        lines.extend(self.version_note().map(|note| format!("  note      {note}")));
        lines
    }

    /// The lines with memory's numbers, Postgres's numbers in the alert, and Postgres's current numbers.
    fn totals(&self) -> Vec<String> {
        let (record, found) = (self.record, self.rule.found.as_ref().ok());
        let names: Vec<String> = match found {
            Some(found) => found.outputs.clone(),
            None => record.numbers().into_iter().flat_map(Map::keys).cloned().collect(),
        };
        let of = |map: Option<&Map<String, Json>>| -> Vec<String> {
            names.iter().map(|name| map.and_then(|map| map.get(name)).map(shown).unwrap_or_default()).collect()
        };
        let mut table = vec![("Totals".to_owned(), names.iter().map(|name| printable(name)).collect::<Vec<_>>())];
        table.push(("  stream".to_owned(), of(record.stream.as_ref())));
        let database = if record.database.is_some() { "  database" } else { "  database (not asked)" };
        table.push((database.to_owned(), of(record.database.as_ref())));
        if let Some(found) = found {
            let present = found.present.totals.iter().map(|total| total.clone().unwrap_or_else(|| "NULL".to_owned()));
            let differences = found.present.differences.iter().zip(&found.known);
            table.push(("  rows now".to_owned(), present.collect()));
            table.push((
                "  difference".to_owned(),
                differences.map(|(text, known)| if *known { signed(text) } else { String::new() }).collect(),
            ));
        }
        let rows = table.into_iter().map(|(label, cells)| std::iter::once(label).chain(cells).collect()).collect();
        std::iter::once(String::new()).chain(aligned(rows)).collect()
    }

    fn causes(&self) -> Vec<String> {
        let record = self.record;
        let mut lines = vec![String::new()];
        if record.trigger.is_null() {
            lines.push("Trigger: time alone; no change brought it".to_owned());
        } else {
            let field = |name: &str| shown(record.trigger(name));
            let place = format!("{}, partition {}, offset {}", field("topic"), field("partition"), field("offset"));
            lines.push(format!("Trigger: {} in {place}", operation(record.trigger("op"))));
            let pk = record.trigger("pk").as_object().map(pairs).unwrap_or_else(|| "unknown".to_owned());
            lines.push(format!("  row {pk}, transaction {}, LSN {}", field("tx_id"), field("lsn")));
            lines.push(format!("  event time {}, committed {}", field("event_time"), field("committed_at")));
        }
        let field = |name: &str| shown(record.confirmation(name));
        match &self.snapshot {
            None => lines.push("Confirmation: none was made; the totals are those of the stream".to_owned()),
            Some(_) => {
                lines.push(format!(
                    "Confirmation: as of {}, snapshot {}, attempts {}",
                    field("as_of"),
                    field("snapshot"),
                    field("attempts")
                ));
                let included = match self.trigger_included {
                    Some(true) => "was included in the snapshot",
                    Some(false) => "was not yet included in the snapshot",
                    None => "is not known, so whether the snapshot included it cannot be told",
                };
                lines.push(format!("  the trigger's transaction {included}"));
            }
        }
        let millis = |ms: Option<String>| ms.map_or_else(|| "unknown".to_owned(), |ms| format!("{ms} ms"));
        let total = millis(self.committed_to_emitted_ms().map(|ms| ms.to_string()));
        let asked = millis(record.confirmation("ms").as_u64().map(|ms| ms.to_string()));
        lines.push(format!("Latencies: committed to emitted {total}, confirmation {asked}"));
        lines
    }

    fn rows(&self, found: &RowsNow) -> Vec<String> {
        let present = &found.present;
        let mut lines = vec![String::new(), format!("Rows now that the alert's window admits: {}", present.rows_total)];
        let mut table = Vec::new();
        let names = found.columns.iter().map(|name| printable(name));
        table.push(names.chain(["transaction".to_owned(), "confirmation".to_owned()]).collect::<Vec<_>>());
        for row in &present.rows {
            let seen = match self.seen(row) {
                Some(true) => "seen by it",
                Some(false) => "newer",
                None => "unknown",
            };
            let cells = row.values.iter().map(|value| value.as_deref().map_or("NULL".to_owned(), printable));
            table.push(cells.chain([row.xmin.to_string(), seen.to_owned()]).collect());
        }
        if present.rows_total > 0 {
            lines.extend(aligned(table).into_iter().map(|line| format!("  {line}")));
        }
        let listed = i64::try_from(present.rows.len()).unwrap_or(i64::MAX);
        if listed < present.rows_total {
            lines.push(format!("  … and {} earlier ones", present.rows_total.saturating_sub(listed)));
        }
        lines
    }

    /// The lines about the changes since the alert.
    fn since(&self, found: &RowsNow) -> Vec<String> {
        let differences: Vec<String> = found
            .outputs
            .iter()
            .zip(&found.present.differences)
            .zip(&found.known)
            .filter(|((_, text), known)| **known && !is_zero(text))
            .map(|((name, text), _)| format!("{} {}", printable(name), signed(text)))
            .collect();
        let (newer, gone) = (self.newer(found), self.gone(found).unwrap_or_default());
        let mut lines = vec![String::new(), "Since the alert".to_owned()];
        match differences.as_slice() {
            [] => lines.push("  the totals are those of the alert".to_owned()),
            some => lines.push(format!("  the totals differ: {}", some.join(", "))),
        }
        if newer > 0 {
            lines.push(format!("  newer than the confirmation (inserted or updated): {newer}"));
        }
        if gone > 0 {
            lines.push(format!("  no longer as the confirmation saw them (deleted, updated, or moved): {gone}"));
        }
        if self.snapshot.is_some() && !self.comparable {
            let problem = "the database's transactions are behind the alert's: it was restored or is another one";
            lines.push(format!("  {problem}, so which rows are newer cannot be told"));
        }
        let verdict = if found.present.holds { "still holds" } else { "does not hold" };
        lines.push(format!("  HAVING {verdict} over these rows"));
        lines
    }
}

fn operation(op: &Json) -> &'static str {
    match op.as_str() {
        Some("c") => "insert",
        Some("u") => "update",
        Some("d") => "delete",
        Some("r") => "snapshot read",
        Some("t") => "truncate",
        _ => "change",
    }
}

fn is_zero(number: &str) -> bool {
    number.bytes().all(|byte| matches!(byte, b'0' | b'.' | b'-'))
}

/// `+500.00`, `-1`, `0`
fn signed(number: &str) -> String {
    if is_zero(number) || number.starts_with('-') { number.to_owned() } else { format!("+{number}") }
}

/// Lines with columns as wide as their widest cell.
fn aligned(rows: Vec<Vec<String>>) -> Vec<String> {
    let mut widths: Vec<usize> = Vec::new();
    for row in &rows {
        widths.resize(widths.len().max(row.len()), 0);
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let line = |row: Vec<String>| {
        let cells: Vec<String> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        cells.join("  ").trim_end().to_owned()
    };
    rows.into_iter().map(line).collect()
}
