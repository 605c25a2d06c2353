//! Parquet as others read it: DuckDB and pyarrow, in Python's hands (`scripts/stack.d/readers.py`).

use std::io::Write;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde::Deserialize;

use super::{poll, variable};

fn python(arguments: &[&str]) -> Command {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/stack.d/readers.py");
    let interpreter = variable("STACK_READERS");
    assert!(
        Path::new(&interpreter).exists(),
        "{interpreter} is not there: run scripts/test, or scripts/stack readers first"
    );
    let mut command = Command::new(interpreter);
    command.arg(script).args(arguments);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Closes its standard input after `text`, and waits for its end.
fn finish(mut child: Child, text: &str) -> Result<String, String> {
    child.stdin.take().unwrap().write_all(text.as_bytes()).map_err(|error| error.to_string())?;
    let done = child.wait_with_output().unwrap();
    let out = String::from_utf8_lossy(&done.stdout).into_owned();
    if done.status.success() { Ok(out) } else { Err(format!("{out}{}", String::from_utf8_lossy(&done.stderr))) }
}

fn parsed<T: for<'de> Deserialize<'de>>(text: &str) -> T {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

fn shown(rows: Vec<Vec<Option<String>>>) -> Vec<Vec<String>> {
    rows.into_iter().map(|row| row.into_iter().map(Option::unwrap_or_default).collect()).collect()
}

/// The rows that a query of DuckDB gives, all as text, NULL as "". Times are those of UTC.
pub fn try_duckdb(sql: &str) -> Result<Vec<Vec<String>>, String> {
    let text = finish(python(&["duckdb"]).spawn().unwrap(), sql).map_err(|error| format!("{sql}\n{error}"))?;
    Ok(shown(parsed(&text)))
}

pub fn duckdb(sql: &str) -> Vec<Vec<String>> {
    try_duckdb(sql).unwrap_or_else(|error| panic!("{error}"))
}

/// The argument of `FROM` for all Parquet files of a folder, by a pattern, including later columns.
pub fn files(folder: &Path) -> String {
    format!("read_parquet('{}/**/*.parquet', union_by_name = true, filename = true)", folder.display())
}

/// A folder of Parquet files as pyarrow's dataset.
pub struct Dataset {
    /// Name and type.
    pub columns: Vec<(String, String)>,
    /// As text, NULL as "".
    pub rows: Vec<Vec<String>>,
}

impl Dataset {
    /// The type of a column.
    pub fn type_of(&self, column: &str) -> &str {
        &self.columns[self.position(column)].1
    }

    /// The values of some columns.
    pub fn of<const N: usize>(&self, columns: [&str; N]) -> Vec<[String; N]> {
        let places = columns.map(|column| self.position(column));
        self.rows.iter().map(|row| places.map(|place| row[place].clone())).collect()
    }

    fn position(&self, column: &str) -> usize {
        let found = self.columns.iter().position(|(name, _)| name == column);
        found.unwrap_or_else(|| panic!("no column {column} in {:?}", self.columns))
    }
}

pub fn arrow(folder: &Path) -> Dataset {
    #[derive(Deserialize)]
    struct Found {
        columns: Vec<(String, String)>,
        rows: Vec<Vec<Option<String>>>,
    }
    let child = python(&["arrow", folder.to_str().unwrap()]).spawn().unwrap();
    let text = finish(child, "").unwrap_or_else(|error| panic!("{error}"));
    let Found { columns, rows } = parsed(&text);
    Dataset { columns, rows: shown(rows) }
}

/// Somebody who reads a folder all the while, by a bare pattern, and must never see a row twice, nor half a file, nor a
/// row gone again.
pub struct Watch(Option<Child>);

impl Watch {
    pub fn start(folder: &Path) -> Self {
        Self(Some(python(&["watch", folder.to_str().unwrap()]).spawn().unwrap()))
    }

    /// Checks that the reader has seen no problem so far.
    pub fn check(&mut self) {
        let ended = self.0.as_mut().unwrap().try_wait().unwrap();
        if ended.is_some() {
            let problem = finish(self.0.take().unwrap(), "");
            panic!("a reader: {problem:?}");
        }
    }

    /// How often it has looked, and how many rows it saw last.
    pub fn stop(mut self) -> (u64, u64) {
        #[derive(Deserialize)]
        struct Seen {
            looks: u64,
            rows: u64,
        }
        let mut child = self.0.take().unwrap();
        drop(child.stdin.take());
        let done = poll(|| child.try_wait().unwrap());
        let _ = child.kill();
        let out = child.wait_with_output().unwrap();
        let text = String::from_utf8_lossy(&out.stdout).into_owned();
        let told = String::from_utf8_lossy(&out.stderr).into_owned();
        assert!(done.is_some_and(|status| status.success()), "a reader: {text}{told}");
        let Seen { looks, rows } = parsed(&text);
        (looks, rows)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
