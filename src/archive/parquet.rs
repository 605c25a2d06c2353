//! A Parquet file of one partition's rows, in memory: rows go in, bytes come out. Pure.
//!
//! - this file: rows → row groups → the file
//! - `schema`: the names, types and encodings of the columns
//! - `column`: the values of one column that wait for their row group
//! - `footer`: the metadata of a file
//!
//! Rows wait column by column, with 1 byte per cell beside the value, and are encoded one row group at a time. The same
//! rows, flushed at the same places, always give the same bytes.

mod column;
mod footer;
mod schema;

use std::sync::Arc;

use parquet::errors::ParquetError;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::types::TypePtr;

use crate::change::Op;
use crate::change::full_row::{Field, FieldType, FullRowChange};
use column::{Column, Values};

pub use footer::{Footer, footer};
pub use schema::{OWN_COLUMNS, column_names};

/// The greatest number of rows in a row group. Readers distribute whole row groups among their threads. Larger row
/// groups take more memory here and save hardly any bytes: 0.2 % of orders at four times as many rows.
const GROUP_ROWS: usize = 128 * 1024;

/// The greatest size of the rows that wait for their row group, in bytes. One row may exceed it.
const GROUP_BYTES: usize = 64 << 20;

/// Why rows could not be written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// A change that does not fit this file's columns. The file is unchanged.
    #[error("the change at offset {offset} of {topic}-{partition} does not fit its archive file: {problem}")]
    Misfit {
        /// Topic of the change.
        topic: Arc<str>,
        /// Partition of the change.
        partition: i32,
        /// Offset of the change.
        offset: i64,
        /// The column, the value's kind, and what the column accepts.
        problem: String,
    },
    /// A column whose type Parquet does not have.
    #[error("column {column:?} cannot be archived: {problem}")]
    Column {
        /// Name in the table.
        column: String,
        /// What is wrong with the type.
        problem: String,
    },
    /// The encoder failed. The rows of the file are lost.
    #[error("rows of {topic}-{partition} cannot be encoded as Parquet: {source}")]
    Encode {
        /// Topic of the rows.
        topic: Arc<str>,
        /// Partition of the rows.
        partition: i32,
        /// The encoder's error.
        source: ParquetError,
    },
}

/// A file that grows row by row.
pub struct FileWriter {
    topic: Arc<str>,
    partition: i32,
    fields: Arc<[Field]>,
    schema: TypePtr,
    columns: Columns,
    waiting: usize,
    pending: usize,
    rows: u64,
    /// Created with the first row group, whose values determine the encodings.
    file: Option<SerializedFileWriter<Vec<u8>>>,
}

/// The rows that wait. Topic and partition are the same for all of them and are not stored.
struct Columns {
    table: Vec<Column>,
    op: Vec<Op>,
    lsn: Column,
    tx_id: Column,
    offset: Vec<i64>,
    event_time: Vec<i64>,
}

impl Columns {
    fn new(fields: &[Field]) -> Self {
        Self {
            table: fields.iter().map(|field| Column::new(field.ty)).collect(),
            op: Vec::new(),
            lsn: Column::new(FieldType::Int64),
            tx_id: Column::new(FieldType::Int64),
            offset: Vec::new(),
            event_time: Vec::new(),
        }
    }

    fn capacity(&self) -> usize {
        let table: usize = self.table.iter().map(Column::capacity).sum();
        let own = self.op.capacity() + 8 * (self.offset.capacity() + self.event_time.capacity());
        table + self.lsn.capacity() + self.tx_id.capacity() + own
    }
}

/// The bytes of a waiting row's own columns: op, offset and event_time, and one each for the marks of lsn and txId.
const OWN_BYTES: usize = 1 + 8 + 8 + 2;

impl FileWriter {
    /// Creates a file for one partition's rows.
    ///
    /// # Errors
    ///
    /// [`WriteError::Column`] for a decimal with a precision outside of 1 to 38, or a scale greater than the precision.
    pub fn new(topic: &str, partition: i32, fields: Arc<[Field]>) -> Result<Self, WriteError> {
        let schema = schema::schema(&fields)?;
        Ok(Self {
            topic: topic.into(),
            partition,
            schema,
            columns: Columns::new(&fields),
            fields,
            waiting: 0,
            pending: 0,
            rows: 0,
            file: None,
        })
    }

    /// The number of rows so far, including those that wait.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// The bytes in memory: rows that wait, with their reserved capacity, and encoded row groups.
    pub fn memory(&self) -> usize {
        let encoded = self.file.as_ref().map_or(0, |file| file.inner().capacity());
        encoded + self.columns.capacity()
    }

    /// The bytes of the rows that wait for their row group.
    pub fn pending(&self) -> usize {
        self.pending
    }

    /// Adds a row. At 128 Ki waiting rows, or 64 MiB of them, they become a row group.
    ///
    /// # Errors
    ///
    /// [`WriteError::Misfit`] for a change with other columns than the file's, for a value that its column does not
    /// accept, and for a tombstone. The file is then unchanged. [`WriteError::Encode`] as in [`flush`](Self::flush).
    pub fn push(&mut self, offset: i64, change: &FullRowChange) -> Result<(), WriteError> {
        if let Err(problem) = self.add(offset, change) {
            self.undo();
            return Err(WriteError::Misfit {
                topic: Arc::clone(&self.topic),
                partition: self.partition,
                offset,
                problem,
            });
        }
        self.waiting += 1;
        self.rows += 1;
        if self.waiting >= GROUP_ROWS || self.pending >= GROUP_BYTES { self.flush() } else { Ok(()) }
    }

    /// Adds a row's cells to their columns. On an error some of them have been added.
    fn add(&mut self, offset: i64, change: &FullRowChange) -> Result<(), String> {
        if !Arc::ptr_eq(&change.fields, &self.fields) && change.fields != self.fields {
            return Err("its table has other columns than the file".to_owned());
        }
        if change.cells.len() != self.fields.len() {
            return Err(format!("{} values for {} columns", change.cells.len(), self.fields.len()));
        }
        if change.op == Op::Tombstone {
            return Err("a tombstone is no row".to_owned());
        }
        let columns = &mut self.columns;
        let mut bytes = OWN_BYTES;
        for ((column, cell), field) in columns.table.iter_mut().zip(&change.cells).zip(self.fields.iter()) {
            let added = column.push(cell).map_err(|problem| format!("column {:?}: {problem}", field.name))?;
            bytes += added;
        }
        let lsn = match change.lsn {
            Some(lsn) => Some(i64::try_from(lsn.0).map_err(|_| format!("LSN {} is past 2^63", lsn.0))?),
            None => None,
        };
        bytes += columns.lsn.push_int(lsn) + columns.tx_id.push_int(change.tx_id.map(i64::from));
        columns.op.push(change.op);
        columns.offset.push(offset);
        columns.event_time.push(change.committed_at.0);
        self.pending += bytes;
        Ok(())
    }

    /// Removes the cells of a row that did not fit. The table's columns come first, and the own ones cannot fail.
    fn undo(&mut self) {
        for column in &mut self.columns.table {
            column.truncate(self.waiting);
        }
    }

    /// Makes a row group of the rows that wait, if there are any.
    ///
    /// # Errors
    ///
    /// [`WriteError::Encode`]: the rows of the file are lost.
    pub fn flush(&mut self) -> Result<(), WriteError> {
        if self.waiting == 0 {
            return Ok(());
        }
        let columns = std::mem::replace(&mut self.columns, Columns::new(&self.fields));
        let rows = std::mem::take(&mut self.waiting);
        self.pending = 0;
        self.encode(columns, rows).map_err(|source| self.failed(source))
    }

    fn encode(&mut self, columns: Columns, rows: usize) -> Result<(), ParquetError> {
        let properties = || {
            let distinct = columns.table.iter().map(Column::mostly_distinct);
            schema::properties(&self.schema, &self.fields, distinct)
        };
        let mut file = match self.file.take() {
            Some(file) => file,
            None => open(&self.schema, properties()?)?,
        };
        let mut group = file.next_row_group()?;
        let Columns { table, op, lsn, tx_id, offset, event_time } = columns;
        for column in table {
            column.encode(&mut group)?;
        }
        column::encode_texts(&mut group, op.into_iter().map(Op::as_str))?;
        lsn.encode(&mut group)?;
        tx_id.encode(&mut group)?;
        column::encode_texts(&mut group, std::iter::repeat_n(&*self.topic, rows))?;
        column::encode_all(&mut group, Values::Int32(vec![self.partition; rows]))?;
        column::encode_all(&mut group, Values::Int64(offset))?;
        column::encode_all(&mut group, Values::Int64(event_time))?;
        group.close()?;
        self.file = Some(file);
        Ok(())
    }

    /// Encodes the rows that wait and completes the file. `about` becomes the key-value metadata of its footer.
    ///
    /// # Errors
    ///
    /// [`WriteError::Encode`].
    pub fn finish(mut self, about: &[(&str, &str)]) -> Result<Vec<u8>, WriteError> {
        self.flush()?;
        self.end(about).map_err(|source| self.failed(source))
    }

    fn end(&mut self, about: &[(&str, &str)]) -> Result<Vec<u8>, ParquetError> {
        let mut file = match self.file.take() {
            Some(file) => file,
            None => open(&self.schema, schema::properties(&self.schema, &self.fields, std::iter::repeat(false))?)?,
        };
        for (key, value) in about {
            file.append_key_value_metadata(KeyValue::new((*key).to_owned(), Some((*value).to_owned())));
        }
        file.into_inner()
    }

    fn failed(&self, source: ParquetError) -> WriteError {
        WriteError::Encode { topic: Arc::clone(&self.topic), partition: self.partition, source }
    }
}

fn open(schema: &TypePtr, properties: WriterProperties) -> Result<SerializedFileWriter<Vec<u8>>, ParquetError> {
    SerializedFileWriter::new(Vec::new(), Arc::clone(schema), Arc::new(properties))
}
