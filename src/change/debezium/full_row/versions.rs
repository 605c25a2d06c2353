//! Which columns a table had at which positions in the WAL, as far as looks at the catalog tell. Pure.

use serde::{Deserialize, Serialize};

use super::{Declared, FullRowColumn, FullRowTable, Row, reject};
use crate::change::full_row::Field;
use crate::change::{Reject, RejectKind};
use crate::model::Lsn;

/// So many versions are kept: what is older was written long before anything that is still to be read.
const KEPT: usize = 8;

/// What a table looked like over time: versions in the order of their positions.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableVersions(Vec<TableVersion>);

/// A table as several looks found it, one after the other, each of which would read a value as the others do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableVersion {
    /// The position after the first look.
    pub first: Lsn,
    /// The position before the last look: before `first` where there was but one.
    pub last: Lsn,
    /// The table at the last look.
    pub table: FullRowTable,
}

impl TableVersions {
    /// Notes a look at the table, with the positions before and after it. What is different now, a sentence for each column
    /// whose values are written in another way.
    pub fn note(&mut self, (before, after): (Lsn, Lsn), table: &FullRowTable) -> Vec<String> {
        let differences = self.0.last().map(|version| differences(&version.table, table)).unwrap_or_default();
        match self.0.last_mut() {
            Some(version) if differences.is_empty() => {
                version.last = version.last.max(before);
                version.table = table.clone();
            }
            _ => {
                self.0.push(TableVersion { first: after, last: before, table: table.clone() });
                let more = self.0.len().saturating_sub(KEPT);
                self.0.drain(..more);
            }
        }
        differences
    }

    /// The versions.
    pub fn versions(&self) -> &[TableVersion] {
        &self.0
    }

    /// The position before the newest look: changes up to there were written under one of the versions.
    pub fn seen_up_to(&self) -> Option<Lsn> {
        self.0.last().map(|version| version.last)
    }

    /// The versions under which a change at this position may have been written, as indexes: one, or two that follow each
    /// other where it lies between their looks. Without a position it may be any of them.
    pub fn at(&self, position: Option<Lsn>) -> (usize, usize) {
        let newest = self.0.len().saturating_sub(1);
        let Some(position) = position else { return (0, newest) };
        let begun = self.0.iter().rposition(|version| version.first <= position).unwrap_or(0);
        let is_between = begun < newest && self.0.get(begun).is_some_and(|version| version.last < position);
        (begun, if is_between { begun.saturating_add(1) } else { begun })
    }
}

/// How a change is read that lies between two versions of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Between {
    /// By the earlier version.
    Before,
    /// By the later version.
    After,
}

/// Columns of both whose values are written in another way.
fn differences(then: &FullRowTable, now: &FullRowTable) -> Vec<String> {
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
    /// The type, with what else its encoding depends on.
    fn text(&self) -> String {
        match self.declared {
            Declared::Plain => self.field.ty.to_string(),
            Declared::Number { scale: Some(scale) } => format!("a number with scale {scale} that is kept as text"),
            Declared::Number { scale: None } => "numeric".to_owned(),
            Declared::Fraction { digits } => format!("{}({digits})", self.field.ty),
        }
    }
}

/// What a record says that may have been written by either of two versions of the table: by the one of them that can read
/// it, or by both where they agree.
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

    #[test]
    fn a_position_has_one_version_or_lies_between_two() {
        let (one, two) = (table(&[("a", FieldType::Int32)]), table(&[("a", FieldType::Int64)]));
        let mut versions = TableVersions::default();
        assert_eq!(versions.at(Some(Lsn(5))), (0, 0));
        assert_eq!(versions.note((Lsn(10), Lsn(11)), &one), [""; 0]);
        assert_eq!(versions.note((Lsn(20), Lsn(21)), &one), [""; 0]);
        assert_eq!(versions.at(Some(Lsn(99))), (0, 0));
        // It may have been changed before, in or after what lies between the two positions of the look.
        assert_eq!(versions.note((Lsn(25), Lsn(30)), &two), ["column a was integer and is bigint"]);
        assert_eq!((versions.at(Some(Lsn(26))), versions.seen_up_to()), ((0, 1), Some(Lsn(25))));
        assert_eq!(versions.note((Lsn(40), Lsn(41)), &two), [""; 0]);
        let check = |position, want| assert_eq!(versions.at(Some(Lsn(position))), want, "{position}");
        check(1, (0, 0));
        check(20, (0, 0));
        check(21, (0, 1));
        check(29, (0, 1));
        check(30, (1, 1));
        check(99, (1, 1));
        assert_eq!(versions.at(None), (0, 1));
        assert_eq!(versions.seen_up_to(), Some(Lsn(40)));
        let text = serde_json::to_string(&versions).unwrap();
        assert_eq!(serde_json::from_str::<TableVersions>(&text).unwrap(), versions);
    }

    #[test]
    fn columns_that_come_or_go_are_no_other_version() {
        let mut versions = TableVersions::default();
        versions.note((Lsn(10), Lsn(10)), &table(&[("a", FieldType::Int32)]));
        let wide = table(&[("b", FieldType::Text), ("a", FieldType::Int32)]);
        assert_eq!(versions.note((Lsn(20), Lsn(21)), &wide), [""; 0]);
        assert_eq!(versions.versions(), [TableVersion { first: Lsn(10), last: Lsn(20), table: wide }]);
    }

    #[test]
    fn old_versions_are_forgotten() {
        let mut versions = TableVersions::default();
        for position in 0..20 {
            let ty = if position % 2 == 0 { FieldType::Int32 } else { FieldType::Int64 };
            versions.note((Lsn(position), Lsn(position)), &table(&[("a", ty)]));
        }
        assert_eq!((versions.versions().len(), versions.at(Some(Lsn(3)))), (KEPT, (0, 0)));
    }
}
