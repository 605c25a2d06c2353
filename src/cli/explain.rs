//! `tripline explain`: why an alert fired, and what has changed since.
//!
//! - this file: the command
//! - `report`: the output, pure

mod report;

use std::io::{Read, Write};
use std::path::Path;

use serde_json::Value as Json;
use uuid::Uuid;

use super::terminal::finish;
use super::{ExplainArgs, Explanation};
use crate::alert::record::AlertRecord;
use crate::app::{self, explain as application};
use crate::failure::Failure;
use report::Report;

/// The greatest size of a file in bytes. Records are small, and a wrong file should not be read into memory.
const FILE_MAX_BYTES: u64 = 256 * 1024 * 1024;

/// Explains an alert.
///
/// # Errors
/// A [`Failure`] that says how the process is to end.
pub async fn explain(args: &ExplainArgs) -> Result<(), Failure> {
    let config = app::load(&args.config)?;
    let record = match &args.from {
        Some(path) => from_file(path, args.id).map_err(Failure::misconfigured)?,
        None => application::find(&config, args.id.unwrap_or_default()).await?,
    };
    let rule = application::explain(&config, &record).await?;
    let report = Report::new(&record, &rule);
    let text = match args.output {
        Explanation::Text => report.text(),
        Explanation::Json => format!("{}\n", report.json()),
    };
    finish(std::io::stdout().write_all(text.as_bytes()))
}

fn from_file(path: &Path, id: Option<Uuid>) -> Result<AlertRecord, String> {
    let mut text = String::new();
    let read = if path.as_os_str() == "-" {
        std::io::stdin().take(FILE_MAX_BYTES).read_to_string(&mut text)
    } else {
        std::fs::File::open(path).and_then(|file| file.take(FILE_MAX_BYTES).read_to_string(&mut text))
    };
    let name = path.display();
    read.map_err(|error| format!("{name} cannot be read: {error}"))?;
    pick(&text, id).map_err(|problem| format!("{name}: {problem}"))
}

/// Finds the record with this id among JSON values that follow one another. Without an id, there must be only one.
fn pick(text: &str, id: Option<Uuid>) -> Result<AlertRecord, String> {
    let mut found: Option<AlertRecord> = None;
    for value in serde_json::Deserializer::from_str(text).into_iter::<Json>() {
        let value = value.map_err(|error| format!("not JSON: {error}"))?;
        let text = value.get("id").and_then(Json::as_str).and_then(|text| Uuid::parse_str(text).ok());
        if id.is_some() && text != id {
            continue;
        }
        let record = AlertRecord::parse(&value.to_string()).map_err(|error| format!("not an alert record: {error}"))?;
        // A retry repeats a record byte for byte.
        if found.as_ref().is_some_and(|found| found.id != record.id) {
            return Err("there are several alerts in it; give the id of one".to_owned());
        }
        found = Some(record);
    }
    found.ok_or_else(|| match id {
        Some(id) => format!("there is no alert {id} in it"),
        None => "there is no alert in it".to_owned(),
    })
}

#[cfg(test)]
mod tests;
