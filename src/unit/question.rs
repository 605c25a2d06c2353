//! What is asked of Postgres, and what it says.

use serde_json::{Map, Value as Json};

use crate::model::{Key, Timestamp};
use crate::rule::table_row::TableRow;
use crate::snapshot::Snapshot;

/// Candidates of one rule to be asked of Postgres in one statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// Index of the rule.
    pub rule: usize,
    /// The groups asked for, with what memory knew of them.
    pub asked: Vec<Asked>,
}

/// One group of a [`Question`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// The group.
    pub key: Key,
    /// The values of its GROUP BY columns as Postgres reads them; `None` for NULL.
    pub texts: Vec<Option<String>>,
    /// NOW() for it.
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

/// What Postgres says of one group.
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

/// What the table has of one group, for the audit.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Compared {
    /// What Postgres says of it.
    pub answer: Answer,
    /// Rows inside of the window.
    pub rows: u64,
    /// The sum of their times in microseconds since 1970, infinities left out; 0 for a rule without a bound.
    pub times: i128,
}

/// Rows of the table, with a snapshot of the database from before they were read.
#[derive(Clone, Debug)]
pub struct SeenRows {
    /// The rows.
    pub rows: Vec<TableRow>,
    /// What this shows, the rows show.
    pub snapshot: Snapshot,
}

/// A group whose rows are to be read from the table, because memory and database stay apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reload {
    /// Index of the rule.
    pub rule: usize,
    /// The group.
    pub asked: Asked,
}
