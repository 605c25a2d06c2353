//! The names of the output's files, and the file that records its owner. Pure.
//!
//! ```text
//! <output_path>/
//!   date=2026-11-22/part-00000-<from>-<last>-<lineage>.parquet
//!   _tripline/owner.json            the lineage that the files belong to
//!   _tripline/lock                  held by the one process that writes
//!   _tripline/unfinished/           files that are being written
//! ```
//!
//! A file's name has the range of offsets that its epoch took from its partition, including those that fall on other
//! dates. So an epoch that is finished after a crash creates the same names, and the names alone show which ranges have
//! been written.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::model::{NextOffset, Timestamp};
use crate::progress::Offsets;

/// The beginning of a folder's name.
const DATE: &str = "date=";

/// A range of offsets in one partition. The end is exclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Range {
    /// The first offset to read.
    pub from: NextOffset,
    /// The next offset after the range.
    pub to: NextOffset,
}

impl Range {
    /// Whether the range has no offset.
    pub fn is_empty(self) -> bool {
        self.from >= self.to
    }
}

/// A UTC date, from which a folder has its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Date(chrono::NaiveDate);

impl Date {
    /// The UTC date of an instant. `None` outside of the years 1 to 9999, for which there is no such name.
    pub fn of(at: Timestamp) -> Option<Self> {
        at.date().map(Self)
    }

    /// The name of its folder.
    pub fn folder(self) -> String {
        format!("{DATE}{self}")
    }

    /// Parses the name of a folder.
    pub fn parse_folder(name: &str) -> Option<Self> {
        name.strip_prefix(DATE).and_then(|text| Self::try_from(text.to_owned()).ok())
    }
}

impl TryFrom<String> for Date {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let date = text.parse().ok().map(Self).filter(|date| text.len() == 10 && date.to_string() == text);
        date.ok_or_else(|| format!("{text:?} is no date of the form 2026-11-22"))
    }
}

impl From<Date> for String {
    fn from(date: Date) -> Self {
        date.to_string()
    }
}

impl fmt::Display for Date {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.format("%Y-%m-%d"))
    }
}

/// The name of a file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FileName {
    /// The partition of its rows.
    pub partition: i32,
    /// The offsets that its epoch took from this partition. Never empty.
    pub range: Range,
    /// The lineage.
    pub lineage: String,
}

impl FileName {
    /// Parses a name. `None`: it is not the name of an archive file.
    pub fn parse(name: &str) -> Option<Self> {
        let rest = name.strip_prefix("part-")?.strip_suffix(".parquet")?;
        let mut parts = rest.splitn(4, '-');
        let (partition, from, last, lineage) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let range = Range { from: NextOffset(from.parse().ok()?), to: NextOffset::after(last.parse().ok()?) };
        let parsed = Self { partition: partition.parse().ok()?, range, lineage: lineage.to_owned() };
        (!range.is_empty() && parsed.to_string() == name).then_some(parsed)
    }
}

/// Numbers have leading zeros, so that names sort by offset.
impl fmt::Display for FileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let last = self.range.to.0.saturating_sub(1);
        write!(f, "part-{:05}-{:020}-{last:020}-{}.parquet", self.partition, self.range.from.0, self.lineage)
    }
}

/// `owner.json`: the owner of the files. The owner is one lineage, for the life of the output.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Owner {
    /// The lineage.
    pub lineage: String,
    /// The consumer group.
    pub group: String,
    /// The topic.
    pub topic: String,
    /// The Kafka cluster's id, if it was known.
    pub cluster: Option<String>,
    /// The offsets at which the lineage began.
    pub start: Offsets,
}

/// The files that an epoch writes: the body of `offsets/N`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// The offsets at which it begins. It ends at those of the epoch.
    pub from: Offsets,
    /// Every file.
    pub files: Vec<PlannedFile>,
}

/// One file of a plan.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlannedFile {
    /// The date of its folder.
    pub date: Date,
    /// The partition of its rows.
    pub partition: i32,
    /// The number of rows.
    pub rows: u64,
}

/// The ranges between two sets of next offsets, without the empty ones.
pub fn ranges(from: &Offsets, to: &Offsets) -> BTreeMap<i32, Range> {
    let range = |(partition, to): (&i32, &NextOffset)| {
        let from = *from.get(partition)?;
        Some((*partition, Range { from, to: *to })).filter(|(_, range)| !range.is_empty())
    };
    to.iter().filter_map(range).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(from: i64, to: i64) -> Range {
        Range { from: NextOffset(from), to: NextOffset(to) }
    }

    #[test]
    fn names_read_back_and_sort_as_offsets_do() {
        let lineage = "019ab1c2-0000-7000-8000-000000000001";
        let name = FileName { partition: 3, range: range(9, 120), lineage: lineage.to_owned() };
        let text = name.to_string();
        assert_eq!(
            text,
            "part-00003-00000000000000000009-00000000000000000119-019ab1c2-0000-7000-8000-000000000001.parquet"
        );
        assert_eq!(FileName::parse(&text), Some(name.clone()));
        let later = FileName { range: range(120, 121), ..name };
        assert!(text < later.to_string());
        let long = FileName { partition: i32::MAX, range: range(i64::MAX - 1, i64::MAX), lineage: lineage.to_owned() };
        assert_eq!(FileName::parse(&long.to_string()), Some(long));
    }

    #[test]
    fn other_names_are_none_of_ours() {
        let ours = "part-00003-00000000000000000009-00000000000000000119-a.parquet";
        assert!(FileName::parse(ours).is_some());
        for name in [
            "",
            "part-00000-1-2-a.parquet",
            "part-00000.parquet",
            &ours.replace("part", "x"),
            &ours.replace("119", "007"),
            &ours.replace(".parquet", ".parquet.tmp"),
            &ours.replace("00009", "-0009"),
            "part-00000-00000000000000000009-99999999999999999999-a.parquet",
        ] {
            assert_eq!(FileName::parse(name), None, "{name}");
        }
    }

    #[test]
    fn dates_name_folders() {
        let date = |micros| Date::of(Timestamp(micros)).map(Date::folder);
        assert_eq!(date(0).as_deref(), Some("date=1970-01-01"));
        assert_eq!(date(-1).as_deref(), Some("date=1969-12-31"));
        assert_eq!(date(1_795_305_600_000_000).as_deref(), Some("date=2026-11-22"));
        assert_eq!(date(-62_135_596_800_000_000).as_deref(), Some("date=0001-01-01"));
        for none in [-62_135_596_800_000_001, 253_402_300_800_000_000, i64::MAX, i64::MIN] {
            assert_eq!(date(none), None, "{none}");
        }
        assert_eq!(Date::parse_folder("date=2026-11-22").map(Date::folder).as_deref(), Some("date=2026-11-22"));
        for name in ["2026-11-22", "date=2026-11-2", "date=2026-13-01", "date=x", "_tripline", "date=+12026-01-01"] {
            assert_eq!(Date::parse_folder(name), None, "{name}");
        }
    }

    #[test]
    fn ranges_of_a_plan() {
        let offsets = |list: &[(i32, i64)]| list.iter().map(|(p, n)| (*p, NextOffset(*n))).collect::<Offsets>();
        let got = ranges(&offsets(&[(0, 5), (1, 7)]), &offsets(&[(0, 9), (1, 7), (2, 3)]));
        assert_eq!(got, BTreeMap::from([(0, range(5, 9))]));
    }
}
