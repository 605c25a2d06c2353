//! A table's columns at different positions in the WAL, as far as reads of the catalog show. Pure.

use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};

use super::{Declared, FullRowColumn, FullRowTable, Row, reject};
use crate::change::debezium::TableSource;
use crate::change::full_row::Field;
use crate::change::{Reject, RejectKind};
use crate::model::Lsn;

/// The greatest number of versions that are kept. Changes under older ones were written long before anything that is
/// still to be read.
const KEPT: usize = 8;

/// The versions of a table over time.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TableVersions {
    /// `system_identifier` of the server. Positions of two servers cannot be compared.
    server: String,
    /// The versions in the order of their positions.
    versions: Vec<TableVersion>,
}

/// One read of a table's description.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableLook {
    /// `system_identifier` of the server.
    pub server: String,
    /// The position in the WAL before the read.
    pub before: Lsn,
    /// The position in the WAL after the read.
    pub after: Lsn,
    /// The table.
    pub table: FullRowTable,
    /// The table's other properties that its changes depend on.
    pub source: TableSource,
}

/// A table as several consecutive reads found it. All of them decode a value in the same way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableVersion {
    /// The position after the first read.
    pub first: Lsn,
    /// The position before the last read. It is before `first` if there was only one.
    pub last: Lsn,
    /// The table at the last read.
    pub table: FullRowTable,
}

impl TableVersions {
    /// Adds a read of the table. Returns a sentence for each column whose values are encoded differently now. If the
    /// server is another one, the earlier versions are dropped.
    pub fn note(&mut self, look: &TableLook) -> Vec<String> {
        let mut differences = Vec::new();
        if !self.server.is_empty() && self.server != look.server {
            differences.push(format!("the server (system identifier) was {} and is {}", self.server, look.server));
            self.versions.clear();
        }
        self.server.clone_from(&look.server);
        if let Some(version) = self.versions.last_mut() {
            differences = retyped(&version.table, &look.table);
            if differences.is_empty() {
                version.last = version.last.max(look.before);
                version.table = look.table.clone();
                return differences;
            }
        }
        self.versions.push(TableVersion { first: look.after, last: look.before, table: look.table.clone() });
        let more = self.versions.len().saturating_sub(KEPT);
        self.versions.drain(..more);
        differences
    }

    /// The versions, oldest first.
    pub fn versions(&self) -> &[TableVersion] {
        &self.versions
    }

    /// The position before the newest read. Changes up to there were written under one of the versions.
    pub fn seen_up_to(&self) -> Option<Lsn> {
        self.versions.last().map(|version| version.last)
    }

    /// The indexes of the versions under which a change at this position may have been written. There is one, or two
    /// consecutive ones if the change lies between their reads. Without a position it may be any version.
    pub fn at(&self, position: Option<Lsn>) -> RangeInclusive<usize> {
        let newest = self.versions.len().saturating_sub(1);
        let Some(position) = position else { return 0..=newest };
        let begun = self.versions.iter().rposition(|version| version.first <= position).unwrap_or(0);
        let is_between = begun < newest && self.versions.get(begun).is_some_and(|version| version.last < position);
        begun..=(if is_between { begun.saturating_add(1) } else { begun })
    }
}

/// The version for a change that lies between two versions of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Between {
    /// The earlier version.
    Before,
    /// The later version.
    After,
}

/// The columns of both whose values are encoded differently.
fn retyped(then: &FullRowTable, now: &FullRowTable) -> Vec<String> {
    let mut found = Vec::new();
    for column in &then.fields {
        let same_name = now.fields.iter().find(|other| other.field.name == column.field.name);
        if let Some(other) = same_name.filter(|other| *other != column) {
            let (name, was, is) = (&column.field.name, column.text(), other.text());
            found.push(format!("column {name} was {was} and is {is}"));
        }
    }
    found
}

impl FullRowColumn {
    /// The type, with the rest of the declaration on which the encoding depends.
    fn text(&self) -> String {
        match self.declared {
            Declared::Plain => self.field.ty.to_string(),
            Declared::Number { scale: Some(scale) } => format!("a number with scale {scale} that is kept as text"),
            Declared::Number { scale: None } => "numeric".to_owned(),
            Declared::Fraction { digits } => format!("{}({digits})", self.field.ty),
        }
    }
}

/// Combines the readings of a record that may have been written under either of two versions of the table. Returns the
/// one that succeeded, or both if they agree.
pub(super) fn either(before: Result<Row, Reject>, after: Result<Row, Reject>) -> Result<Row, Reject> {
    match (before, after) {
        (Ok(before), Ok(after)) => match disagreement(&before, &after) {
            None => Ok(after),
            Some(column) => Err(reject(
                RejectKind::Between,
                format!(
                    "column {column:?} can be read in two ways: its type was changed at about the time of this change, and \
                     the record does not bring its schema"
                ),
            )),
        },
        (Err(reject), _) if reject.kind == RejectKind::Between => Err(reject),
        (Ok(row), Err(_)) | (Err(_), Ok(row)) => Ok(row),
        (Err(_), Err(reject)) => Err(reject),
    }
}

/// A column of both whose values differ.
fn disagreement<'r>(before: &'r Row, after: &Row) -> Option<&'r str> {
    let value = |row: &Row, name: &str| {
        let slot = row.0.iter().position(|field| field.name == name)?;
        Some((row.0.get(slot)?.ty, row.1.get(slot)?.clone()))
    };
    let differs = |field: &&Field| match (value(before, &field.name), value(after, &field.name)) {
        (Some((ty, cell)), Some((other, now))) => !cell.says_the_same(ty, &now, other),
        _ => false,
    };
    before.0.iter().find(differs).map(|field| field.name.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::change::full_row::{Field, FieldType};

    fn table(columns: &[(&str, FieldType)]) -> FullRowTable {
        let column = |(name, ty): &(&str, FieldType)| FullRowColumn {
            field: Field { name: (*name).to_owned(), ty: *ty },
            declared: Declared::Plain,
        };
        let fields = columns.iter().map(column).collect();
        FullRowTable { schema: "public".into(), name: "orders".into(), fields, primary_key: vec![0] }
    }

    fn look(before: u64, after: u64, table: &FullRowTable) -> TableLook {
        let source = TableSource { database: "d".into(), key_is_made_up: false, is_full: false };
        TableLook { server: "7".into(), before: Lsn(before), after: Lsn(after), table: table.clone(), source }
    }

    #[test]
    fn a_position_has_one_version_or_lies_between_two() {
        let (one, two) = (table(&[("a", FieldType::Int32)]), table(&[("a", FieldType::Int64)]));
        let mut versions = TableVersions::default();
        assert_eq!(versions.at(Some(Lsn(5))), 0..=0);
        assert_eq!(versions.note(&look(10, 11, &one)), [""; 0]);
        assert_eq!(versions.note(&look(20, 21, &one)), [""; 0]);
        assert_eq!(versions.at(Some(Lsn(99))), 0..=0);
        // The change may have happened before, during or after the interval between the read's two positions.
        assert_eq!(versions.note(&look(25, 30, &two)), ["column a was integer and is bigint"]);
        assert_eq!((versions.at(Some(Lsn(26))), versions.seen_up_to()), (0..=1, Some(Lsn(25))));
        assert_eq!(versions.note(&look(40, 41, &two)), [""; 0]);
        for (position, want) in [(1, 0..=0), (20, 0..=0), (21, 0..=1), (29, 0..=1), (30, 1..=1), (99, 1..=1)] {
            assert_eq!(versions.at(Some(Lsn(position))), want, "{position}");
        }
        assert_eq!(versions.at(None), 0..=1);
        assert_eq!(versions.seen_up_to(), Some(Lsn(40)));
        let text = serde_json::to_string(&versions).unwrap();
        assert_eq!(serde_json::from_str::<TableVersions>(&text).unwrap(), versions);
    }

    #[test]
    fn another_server_begins_again() {
        let (one, two) = (table(&[("a", FieldType::Int32)]), table(&[("a", FieldType::Int64)]));
        let mut versions = TableVersions::default();
        versions.note(&look(1_000, 1_000, &one));
        versions.note(&look(2_000, 2_000, &two));
        let moved = TableLook { server: "8".into(), ..look(10, 10, &two) };
        assert_eq!(versions.note(&moved), ["the server (system identifier) was 7 and is 8"]);
        assert_eq!((versions.at(Some(Lsn(11))), versions.versions().len()), (0..=0, 1));
        assert_eq!((&versions.versions()[0].table, versions.seen_up_to()), (&two, Some(Lsn(10))));
        assert_eq!(versions.note(&moved), [""; 0]);
    }

    #[test]
    fn columns_that_come_or_go_are_no_other_version() {
        let mut versions = TableVersions::default();
        versions.note(&look(10, 10, &table(&[("a", FieldType::Int32)])));
        let wide = table(&[("b", FieldType::Text), ("a", FieldType::Int32)]);
        assert_eq!(versions.note(&look(20, 21, &wide)), [""; 0]);
        assert_eq!(versions.versions(), [TableVersion { first: Lsn(10), last: Lsn(20), table: wide }]);
    }

    #[test]
    fn old_versions_are_forgotten() {
        let mut versions = TableVersions::default();
        for position in 0..20 {
            let ty = if position % 2 == 0 { FieldType::Int32 } else { FieldType::Int64 };
            versions.note(&look(position, position, &table(&[("a", ty)])));
        }
        assert_eq!((versions.versions().len(), versions.at(Some(Lsn(3)))), (KEPT, 0..=0));
    }
}
