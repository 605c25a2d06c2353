//! The Parquet files that a step adds, and their rows.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;
use serde_json::{Map, Value as Json};

use crate::archive::books::parquet;
use crate::harness::readers::{Dataset, arrow};

use super::scenario::{Scenario, Step, read};

/// A row by its columns.
type Row = Map<String, Json>;

#[derive(Deserialize)]
pub(super) struct Outcome {
    files_added: Vec<String>,
    rows: usize,
    rows_added: Vec<Row>,
}

pub(super) struct Archive {
    scenario: Scenario,
    output: PathBuf,
    /// By name, as their bytes are.
    files: BTreeMap<String, Vec<u8>>,
    /// Name and type.
    columns: Vec<(String, String)>,
    rows: Vec<Vec<String>>,
}

impl Archive {
    pub(super) fn restore() -> Self {
        let scenario = Scenario::restore("archive", "archive");
        let output = scenario.path("output");
        scenario.put("files", &output);
        scenario.name_cluster(&output.join("_tripline/owner.json"));
        let mut archive = Self { scenario, output, files: BTreeMap::new(), columns: Vec::new(), rows: Vec::new() };
        archive.check_saved();
        archive
    }

    /// The readers find in the files of then what they found then.
    fn check_saved(&mut self) {
        #[derive(Deserialize)]
        struct Found {
            columns: Vec<(String, String)>,
            rows: Vec<Row>,
        }
        let found: Found = serde_json::from_str(&read(&self.scenario.data.join("rows.json"))).unwrap();
        let data = arrow(&self.output);
        assert_eq!(data.columns, found.columns);
        assert_eq!(in_order(&data), texts(&data, &found.rows));
        self.rows = in_order(&data);
        self.columns = data.columns;
        self.new_files();
    }

    pub(super) fn steps(&self) -> Vec<Step<Outcome>> {
        self.scenario.steps()
    }

    /// The step has the same results as then.
    pub(super) fn resume(&mut self, step: &Step<Outcome>) {
        let done = self.scenario.take(step);
        let counts: Json =
            serde_json::from_str(done.out.last().unwrap()).unwrap_or_else(|error| panic!("{error}: {done}"));
        assert_eq!(counts, step.counts, "{done}");
        assert_eq!(self.new_files(), step.outcome.files_added, "{done}");
        let data = arrow(&self.output);
        assert_eq!(data.columns, self.columns, "{done}");
        let rows = in_order(&data);
        assert_eq!(rows.len(), step.outcome.rows, "{done}");
        assert_eq!(rows[..self.rows.len()], self.rows, "{done}");
        assert_eq!(rows[self.rows.len()..], texts(&data, &step.outcome.rows_added), "{done}");
        self.rows = rows;
        self.scenario.check_progress(step);
    }

    /// The names of the files that were added since the last call. All others are unchanged.
    fn new_files(&mut self) -> Vec<String> {
        let bytes = |name: String| (name.clone(), std::fs::read(self.output.join(name)).unwrap());
        let files: BTreeMap<String, Vec<u8>> = parquet(&self.output).into_iter().map(bytes).collect();
        for (name, bytes) in &self.files {
            assert!(files.get(name) == Some(bytes), "{name} is another, or gone");
        }
        let new = files.keys().filter(|name| !self.files.contains_key(*name)).cloned().collect();
        self.files = files;
        new
    }
}

/// The rows in the order of their records.
fn in_order(data: &Dataset) -> Vec<Vec<String>> {
    let places =
        data.of(["partition", "offset"]).into_iter().map(|place| place.map(|text| text.parse::<i64>().unwrap()));
    let mut rows: Vec<_> = places.zip(data.rows.clone()).collect();
    rows.sort_unstable();
    rows.into_iter().map(|(_, row)| row).collect()
}

/// The same rows as the readers would show them.
fn texts(data: &Dataset, rows: &[Row]) -> Vec<Vec<String>> {
    let text = |value: &Json| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let shown = |value: &Json| if value.is_null() { String::new() } else { text(value) };
    let row = |row: &Row| data.columns.iter().map(|(name, _)| shown(&row[name])).collect();
    rows.iter().map(row).collect()
}
