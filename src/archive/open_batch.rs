//! The rows of the epoch that is being collected, by partition and date. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::names::{Date, FileName, Plan, PlannedFile, ranges};
use super::parquet::{FileWriter, WriteError};
use crate::change::full_row::{Cell, Field, FieldType, FullRowChange};
use crate::change::record::{Content, DeadLetter, SourceRecord};
use crate::change::{Op, Reject, RejectKind};
use crate::model::{Lsn, NextOffset, Timestamp};
use crate::progress::{LastRecord, LastRecords, Offsets};

/// How many bytes the rows that are not encoded yet may take, over all files. Beyond that, those of the largest file
/// become a row group.
const PENDING_MAX: usize = 64 << 20;

/// A batch that takes more bytes than this becomes an epoch, even if it has few rows.
pub const MEMORY_MAX: usize = 192 << 20;

/// The keys in each file's footer, beside those of Parquet itself.
pub mod about {
    /// The lineage.
    pub const LINEAGE: &str = "tripline.lineage";
    /// The number of the epoch.
    pub const EPOCH: &str = "tripline.epoch";
    /// The consumer group.
    pub const GROUP: &str = "tripline.group";
    /// The column whose date names the rows' folders. Empty: the commit time.
    pub const PARTITION_BY: &str = "tripline.partition_by";
    /// The last record that the epoch took from the partition, as JSON. It shows whether the topic is still the same,
    /// without the checkpoint folder.
    pub const MARK: &str = "tripline.mark";
}

/// The limits of an epoch, and the column for its dates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The greatest number of records.
    pub records: usize,
    /// The greatest size in memory, in bytes. The last row may exceed it.
    pub memory: usize,
    /// The column whose date names a row's folder. `None`: the commit time of the change.
    pub partition_by: Option<String>,
}

impl Limits {
    /// One epoch without limits, with rows dated by this column.
    pub fn none(partition_by: Option<String>) -> Self {
        Self { records: usize::MAX, memory: usize::MAX, partition_by }
    }
}

/// Why a record cannot be taken into any epoch.
#[derive(Debug, thiserror::Error)]
pub enum Unfit {
    /// `partition_by` does not fit the table.
    #[error("archive.partition_by: {0}")]
    PartitionBy(String),
    /// The row cannot be written.
    #[error(transparent)]
    Row(#[from] WriteError),
}

/// The result of offering a record.
#[derive(Debug)]
pub enum Take {
    /// The record was taken.
    Taken,
    /// The record belongs to the next epoch.
    Full(Box<SourceRecord<FullRowChange>>),
}

/// The values that the footers of all files of a batch have in common.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct About {
    /// The lineage.
    pub lineage: String,
    /// The number of the epoch.
    pub epoch: u64,
    /// The consumer group.
    pub group: String,
    /// The topic.
    pub topic: String,
}

/// The epoch that is being collected.
pub struct OpenBatch {
    about: About,
    limits: Limits,
    from: Offsets,
    next: Offsets,
    last_records: LastRecords,
    records: usize,
    rows: u64,
    dead: Vec<DeadLetter>,
    dead_bytes: usize,
    files: BTreeMap<(Date, i32), FileWriter>,
    /// The columns of each partition. All rows of a file have the same columns.
    fields: BTreeMap<i32, Arc<[Field]>>,
    /// The index of `partition_by` in the columns that were searched last.
    column: Option<(Arc<[Field]>, usize)>,
    memory: usize,
    pending: usize,
    /// The newest position of a change that was decoded by the catalog's columns. `Lsn::MAX` if one of them has no
    /// position.
    by_catalog: Option<Lsn>,
}

impl OpenBatch {
    /// An empty batch that begins at these offsets.
    pub fn new(about: About, limits: Limits, from: Offsets, last_records: LastRecords) -> Self {
        Self {
            about,
            limits,
            next: from.clone(),
            from,
            last_records,
            records: 0,
            rows: 0,
            dead: Vec::new(),
            dead_bytes: 0,
            files: BTreeMap::new(),
            fields: BTreeMap::new(),
            column: None,
            memory: 0,
            pending: 0,
            by_catalog: None,
        }
    }

    /// Takes a record, if there is room for it.
    ///
    /// # Errors
    /// The record fits no epoch: [`Unfit`].
    pub fn take(&mut self, record: SourceRecord<FullRowChange>) -> Result<Take, Unfit> {
        if self.is_full() {
            return Ok(Take::Full(Box::new(record)));
        }
        let position = record.position;
        match record.content {
            Content::Change(change) => {
                let fields = self.fields.entry(position.partition).or_insert_with(|| Arc::clone(&change.fields));
                if !Arc::ptr_eq(fields, &change.fields) && *fields != change.fields {
                    let content = Content::Change(change);
                    return Ok(Take::Full(Box::new(SourceRecord {
                        position,
                        table: record.table,
                        timestamp_ms: record.timestamp_ms,
                        content,
                    })));
                }
                if !change.is_described {
                    self.by_catalog = self.by_catalog.max(Some(change.lsn.unwrap_or(Lsn::MAX)));
                }
                let date = self.date(&change)?;
                match self.push(date, position.partition, position.offset, &change) {
                    Ok(()) => {}
                    // No file can hold the record's value. That is no reason to stop for good.
                    Err(WriteError::Misfit { problem, .. }) => {
                        let reject = Reject { kind: RejectKind::Value, detail: problem }.bounded();
                        self.dead.push(DeadLetter::new(position, reject, None, None, []));
                    }
                    Err(error) => return Err(error.into()),
                }
            }
            Content::Ignored(_) => {}
            Content::Partial(_, letter) | Content::Rejected(letter) => {
                self.dead_bytes = self.dead_bytes.saturating_add(letter.bytes());
                self.dead.push(*letter);
            }
        }
        self.records += 1;
        self.next.insert(position.partition, NextOffset::after(position.offset));
        let mark = LastRecord { offset: position.offset, timestamp_ms: record.timestamp_ms };
        self.last_records.insert(position.partition, mark);
        Ok(Take::Taken)
    }

    fn push(&mut self, date: Date, partition: i32, offset: i64, change: &FullRowChange) -> Result<(), WriteError> {
        let file = match self.files.entry((date, partition)) {
            std::collections::btree_map::Entry::Occupied(file) => file.into_mut(),
            std::collections::btree_map::Entry::Vacant(place) => {
                place.insert(FileWriter::new(&self.about.topic, partition, Arc::clone(&change.fields))?)
            }
        };
        let (memory, pending) = (file.memory(), file.pending());
        if let Err(error) = file.push(offset, change) {
            if file.rows() == 0 {
                self.files.remove(&(date, partition));
            }
            return Err(error);
        }
        self.memory = self.memory.saturating_sub(memory).saturating_add(file.memory());
        self.pending = self.pending.saturating_sub(pending).saturating_add(file.pending());
        self.rows += 1;
        if self.pending >= PENDING_MAX {
            self.flush_largest()?;
        }
        Ok(())
    }

    fn flush_largest(&mut self) -> Result<(), WriteError> {
        let Some(largest) = self.files.values_mut().max_by_key(|file| file.pending()) else { return Ok(()) };
        largest.flush()?;
        self.memory = self.files.values().map(FileWriter::memory).sum();
        self.pending = self.files.values().map(FileWriter::pending).sum();
        Ok(())
    }

    /// The date of a row: that of the column, if the row has one. The commit's date for a truncate, and for a delete,
    /// because its image is made up.
    fn date(&mut self, change: &FullRowChange) -> Result<Date, Unfit> {
        let by_column = match (&self.limits.partition_by, change.op) {
            (Some(name), Op::Create | Op::Update | Op::Read) => {
                let index = match &self.column {
                    Some((fields, index)) if Arc::ptr_eq(fields, &change.fields) => *index,
                    _ => {
                        let index = time_column(name, &change.fields).map_err(Unfit::PartitionBy)?;
                        self.column = Some((Arc::clone(&change.fields), index));
                        index
                    }
                };
                instant(change, index).and_then(Date::of)
            }
            _ => None,
        };
        let impossible = || Unfit::PartitionBy(format!("the change was committed at {}", change.committed_at));
        by_column.or_else(|| Date::of(change.committed_at)).ok_or_else(impossible)
    }

    /// Records that the partition has no more records before this offset.
    pub fn skip_to(&mut self, partition: i32, next: NextOffset) {
        let held = self.next.entry(partition).or_insert(next);
        *held = (*held).max(next);
    }

    /// The values that its files have in common.
    pub fn about(&self) -> &About {
        &self.about
    }

    /// The number of records taken so far, including those that are no rows.
    pub fn records(&self) -> usize {
        self.records
    }

    /// Whether a limit has been reached.
    pub fn is_full(&self) -> bool {
        self.records >= self.limits.records || self.memory.saturating_add(self.dead_bytes) >= self.limits.memory
    }

    /// Whether nothing has been read since the batch began.
    pub fn is_empty(&self) -> bool {
        self.from == self.next
    }

    /// The newest position of a change that was decoded by the catalog's columns. `None`: there is no such change.
    pub fn by_catalog(&self) -> Option<Lsn> {
        self.by_catalog
    }

    /// The number of rows so far.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// The next offset of each partition.
    pub fn next(&self) -> &Offsets {
        &self.next
    }

    /// The last record of each partition.
    pub fn last_records(&self) -> &LastRecords {
        &self.last_records
    }

    /// The invalid records.
    pub fn dead(&self) -> &[DeadLetter] {
        &self.dead
    }

    /// The files that the batch will write.
    pub fn plan(&self) -> Plan {
        let file = |((date, partition), file): (&(Date, i32), &FileWriter)| PlannedFile {
            date: *date,
            partition: *partition,
            rows: file.rows(),
        };
        Plan { from: self.from.clone(), files: self.files.iter().map(file).collect() }
    }

    /// Encodes a file of the plan. It can be called once for each file. `None`: no row of the file was taken.
    ///
    /// # Errors
    /// The file cannot be encoded.
    pub fn encode(&mut self, file: &PlannedFile) -> Result<Option<Vec<u8>>, WriteError> {
        let Some(writer) = self.files.remove(&(file.date, file.partition)) else { return Ok(None) };
        let About { lineage, epoch, group, .. } = &self.about;
        let epoch = epoch.to_string();
        let mark = serde_json::json!(self.last_records.get(&file.partition)).to_string();
        let about = [
            (about::LINEAGE, lineage.as_str()),
            (about::EPOCH, &epoch),
            (about::GROUP, group),
            (about::PARTITION_BY, self.limits.partition_by.as_deref().unwrap_or_default()),
            (about::MARK, &mark),
        ];
        writer.finish(&about).map(Some)
    }
}

/// The name of a planned file. `to` has the offsets at which its epoch ends.
pub fn name_of(lineage: &str, plan: &Plan, to: &Offsets, file: &PlannedFile) -> Option<FileName> {
    let range = *ranges(&plan.from, to).get(&file.partition)?;
    Some(FileName { partition: file.partition, range, lineage: lineage.to_owned() })
}

/// The index of a column of dates or timestamps.
fn time_column(name: &str, fields: &[Field]) -> Result<usize, String> {
    let Some(index) = fields.iter().position(|field| field.name == name) else {
        let names: Vec<&str> = fields.iter().map(|field| field.name.as_str()).collect();
        return Err(format!(
            "the table has no column {name:?}; it has {}; name one that all records have, or leave the setting out for the commit time",
            names.join(", ")
        ));
    };
    match fields.get(index).map(|field| field.ty) {
        Some(FieldType::Date | FieldType::Timestamp | FieldType::TimestampTz) => Ok(index),
        Some(other) => Err(format!(
            "column {name:?} is {other}, not a date or timestamp; leave the setting out for the commit time"
        )),
        None => Err(format!("column {name:?} is gone")),
    }
}

/// The instant in this column. A timestamp without a zone counts as UTC.
fn instant(change: &FullRowChange, index: usize) -> Option<Timestamp> {
    const DAY_MICROS: i64 = 86_400_000_000;
    match (change.cells.get(index)?, change.fields.get(index)?.ty) {
        (Cell::Int(days), FieldType::Date) => days.checked_mul(DAY_MICROS).map(Timestamp),
        (Cell::Int(micros), _) => Some(Timestamp(*micros)),
        _ => None,
    }
}
