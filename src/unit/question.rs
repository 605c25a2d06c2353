//! Questions to Postgres, and the answers.

use serde_json::{Map, Value as Json};

use crate::model::{Key, Timestamp};
use crate::rule::table_row::TableRow;
use crate::snapshot::Snapshot;

/// Candidates of one rule for one statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// The index of the rule.
    pub rule: usize,
    /// The groups, with memory's values.
    pub asked: Vec<Asked>,
}

/// One group of a [`Question`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// The group.
    pub key: Key,
    /// The values of the GROUP BY columns as Postgres reads them. `None` for NULL.
    pub texts: Vec<Option<String>>,
    /// NOW() for this group.
    pub now: Timestamp,
    /// The aggregates in memory.
    pub stream: Map<String, Json>,
}

impl Asked {
    /// Whether there is a NULL among the values.
    pub fn has_null(&self) -> bool {
        self.texts.iter().any(Option::is_none)
    }
}

/// Postgres's answer about one group.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Answer {
    /// Whether HAVING holds.
    pub holds: bool,
    /// The aggregates: counts as numbers, the rest as text.
    pub outputs: Map<String, Json>,
    /// `pg_current_snapshot()`.
    pub snapshot: String,
    /// The statement's duration in milliseconds.
    pub millis: u64,
}

/// The table's values of one group, for the audit.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Compared {
    /// Postgres's answer.
    pub answer: Answer,
    /// The number of rows inside of the window.
    pub rows: u64,
    /// The sum of their times in microseconds since 1970, without infinities. 0 for a rule without a time bound.
    pub times: i128,
}

/// Rows of the table, with a snapshot of the database from before they were read.
#[derive(Clone, Debug)]
pub struct SeenRows {
    /// The rows.
    pub rows: Vec<TableRow>,
    /// The rows show everything that this snapshot shows.
    pub snapshot: Snapshot,
}

/// A group whose rows are to be read from the table, because memory and database keep differing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reload {
    /// The index of the rule.
    pub rule: usize,
    /// The group.
    pub asked: Asked,
}
