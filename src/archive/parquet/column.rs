//! The values of one column that wait for their row group. Pure.

use std::collections::HashSet;
use std::hash::Hash;

use parquet::basic::Type as Physical;
use parquet::column::writer::ColumnWriter;
use parquet::data_type::{ByteArray, FixedLenByteArray};
use parquet::errors::ParquetError;
use parquet::file::writer::SerializedRowGroupWriter;

use super::schema::{decimal_bytes, physical};
use crate::change::full_row::{Cell, FieldType};
use crate::model::decimal_text;

/// The number of values in one call of the encoder, where it needs an object for each value.
const BATCH: usize = 1_024;

/// The number of values that decide whether a column repeats itself.
const SAMPLE: usize = 1_024;

/// Microseconds of a day. Postgres has the time 24:00:00.
const DAY: i64 = 86_400_000_000;

type Group<'a> = SerializedRowGroupWriter<'a, Vec<u8>>;

/// The values that are not NULL, as Parquet stores them.
pub(super) enum Values {
    Bool(Vec<bool>),
    Int32(Vec<i32>),
    Int64(Vec<i64>),
    Float(Vec<f32>),
    Double(Vec<f64>),
    /// Decimals of more than 18 digits, and the bytes that each takes.
    Wide(usize, Vec<i128>),
    /// Texts and bytes, concatenated, and where each ends.
    Bytes(Vec<u8>, Vec<usize>),
}

/// One column: which rows have a value, and the values.
pub(super) struct Column {
    ty: FieldType,
    present: Vec<bool>,
    values: Values,
}

impl Column {
    pub(super) fn new(ty: FieldType) -> Self {
        let values = match (physical(ty), ty) {
            (Physical::BOOLEAN, _) => Values::Bool(Vec::new()),
            (Physical::INT32, _) => Values::Int32(Vec::new()),
            (Physical::INT64 | Physical::INT96, _) => Values::Int64(Vec::new()),
            (Physical::FLOAT, _) => Values::Float(Vec::new()),
            (Physical::DOUBLE, _) => Values::Double(Vec::new()),
            (Physical::FIXED_LEN_BYTE_ARRAY, FieldType::Decimal { precision, .. }) => {
                Values::Wide(decimal_bytes(precision), Vec::new())
            }
            (Physical::FIXED_LEN_BYTE_ARRAY | Physical::BYTE_ARRAY, _) => Values::Bytes(Vec::new(), Vec::new()),
        };
        Self { ty, present: Vec::new(), values }
    }

    /// Adds a cell and returns how many bytes it takes. The error says why the cell does not fit.
    pub(super) fn push(&mut self, cell: &Cell) -> Result<usize, String> {
        let Self { ty, values, .. } = self;
        let taken = match (cell, values) {
            (Cell::Null, _) => None,
            (Cell::Bool(value), Values::Bool(values)) => Some(keep(values, *value)),
            (Cell::Int(value), Values::Int32(values)) if !is_decimal(*ty) => Some(keep(values, narrow(*value, *ty)?)),
            (Cell::Int(value), Values::Int64(values)) if !is_decimal(*ty) => {
                if *ty == FieldType::Time && !(0..=DAY).contains(value) {
                    return Err(format!("{value} microseconds are no time of a day"));
                }
                // Postgres's -infinity is i64::MIN. Readers that know infinities take the next one for it, and none that one.
                let least =
                    if matches!(ty, FieldType::Timestamp | FieldType::TimestampTz) { -i64::MAX } else { i64::MIN };
                Some(keep(values, (*value).max(least)))
            }
            (Cell::Float(value), Values::Float(values)) => Some(keep(values, single(*value)?)),
            (Cell::Float(value), Values::Double(values)) => Some(keep(values, *value)),
            (Cell::Decimal(value), values) => Some(keep_decimal(values, *value, *ty)?),
            (Cell::Text(value), Values::Bytes(bytes, ends)) if *ty == FieldType::Text => {
                Some(keep_bytes(bytes, ends, value.as_bytes())?)
            }
            (Cell::Bytes(value), Values::Bytes(bytes, ends)) if *ty == FieldType::Bytes => {
                Some(keep_bytes(bytes, ends, value)?)
            }
            (other, _) => return Err(mismatch(other, *ty)),
        };
        self.present.push(taken.is_some());
        Ok(taken.map_or(1, |bytes| bytes + 1))
    }

    /// Adds an integer to a column of type `Int64`. Returns how many bytes its value takes.
    pub(super) fn push_int(&mut self, value: Option<i64>) -> usize {
        let taken = match (&mut self.values, value) {
            (Values::Int64(values), Some(value)) => Some(keep(values, value)),
            _ => None,
        };
        self.present.push(taken.is_some());
        taken.unwrap_or(0)
    }

    /// Removes this row and all later ones.
    pub(super) fn truncate(&mut self, rows: usize) {
        let gone = self.present.iter().skip(rows).filter(|present| **present).count();
        self.present.truncate(rows);
        match &mut self.values {
            Values::Bool(values) => values.truncate(values.len().saturating_sub(gone)),
            Values::Int32(values) => values.truncate(values.len().saturating_sub(gone)),
            Values::Int64(values) => values.truncate(values.len().saturating_sub(gone)),
            Values::Float(values) => values.truncate(values.len().saturating_sub(gone)),
            Values::Double(values) => values.truncate(values.len().saturating_sub(gone)),
            Values::Wide(_, values) => values.truncate(values.len().saturating_sub(gone)),
            Values::Bytes(bytes, ends) => {
                ends.truncate(ends.len().saturating_sub(gone));
                bytes.truncate(ends.last().copied().unwrap_or(0));
            }
        }
    }

    /// The bytes that are reserved.
    pub(super) fn capacity(&self) -> usize {
        let values = match &self.values {
            Values::Bool(values) => values.capacity(),
            Values::Int32(values) => 4 * values.capacity(),
            Values::Int64(values) => 8 * values.capacity(),
            Values::Float(values) => 4 * values.capacity(),
            Values::Double(values) => 8 * values.capacity(),
            Values::Wide(_, values) => 16 * values.capacity(),
            Values::Bytes(bytes, ends) => bytes.capacity() + 8 * ends.capacity(),
        };
        self.present.capacity() + values
    }

    /// Whether the first values hardly repeat. A dictionary would then be useless: it holds each value and is abandoned
    /// at 1 MiB.
    pub(super) fn mostly_distinct(&self) -> bool {
        match &self.values {
            Values::Bool(_) => false,
            Values::Int32(values) => distinct(values.iter()),
            Values::Int64(values) => distinct(values.iter()),
            Values::Float(values) => distinct(values.iter().map(|value| value.to_bits())),
            Values::Double(values) => distinct(values.iter().map(|value| value.to_bits())),
            Values::Wide(_, values) => distinct(values.iter()),
            Values::Bytes(bytes, ends) => distinct(slices(bytes, ends)),
        }
    }

    /// Writes the next column of the row group.
    pub(super) fn encode(self, group: &mut Group<'_>) -> Result<(), ParquetError> {
        let levels: Vec<i16> = self.present.iter().map(|present| i16::from(*present)).collect();
        encode(group, self.values, Some(&levels))
    }
}

fn is_decimal(ty: FieldType) -> bool {
    matches!(ty, FieldType::Decimal { .. })
}

fn keep<T>(values: &mut Vec<T>, value: T) -> usize {
    values.push(value);
    size_of::<T>()
}

fn keep_bytes(bytes: &mut Vec<u8>, ends: &mut Vec<usize>, value: &[u8]) -> Result<usize, String> {
    if i32::try_from(value.len()).is_err() {
        return Err(format!("{} bytes are more than a value of Parquet has", value.len()));
    }
    bytes.extend_from_slice(value);
    ends.push(bytes.len());
    Ok(value.len() + size_of::<usize>())
}

fn keep_decimal(values: &mut Values, value: i128, ty: FieldType) -> Result<usize, String> {
    let FieldType::Decimal { precision, scale } = ty else { return Err(mismatch(&Cell::Decimal(value), ty)) };
    let misfit = || format!("{} does not fit numeric({precision},{scale})", decimal_text(value, scale));
    let limit = 10_u128.checked_pow(precision.into()).ok_or_else(misfit)?;
    if value.unsigned_abs() >= limit {
        return Err(misfit());
    }
    match values {
        Values::Int32(values) => Ok(keep(values, i32::try_from(value).map_err(|_| misfit())?)),
        Values::Int64(values) => Ok(keep(values, i64::try_from(value).map_err(|_| misfit())?)),
        Values::Wide(_, values) => Ok(keep(values, value)),
        _ => Err(misfit()),
    }
}

/// An integer or a date in 32 bits.
fn narrow(value: i64, ty: FieldType) -> Result<i32, String> {
    let fits = match ty {
        FieldType::Int16 => i16::try_from(value).ok().map(i32::from),
        _ => i32::try_from(value).ok(),
    };
    fits.ok_or_else(|| match ty {
        FieldType::Int16 => format!("{value} does not fit smallint"),
        FieldType::Date => format!("{value} days from 1970-01-01 are past every date"),
        _ => format!("{value} does not fit integer"),
    })
}

/// The `real` that is nearest to a number from JSON.
#[expect(clippy::cast_possible_truncation, reason = "no other conversion rounds; what leaves the range is refused")]
fn single(value: f64) -> Result<f32, String> {
    let single = value as f32;
    if value.is_finite() && !single.is_finite() { Err(format!("{value:e} does not fit real")) } else { Ok(single) }
}

fn mismatch(cell: &Cell, ty: FieldType) -> String {
    let found = match cell {
        Cell::Null => "NULL",
        Cell::Bool(_) => "a boolean",
        Cell::Int(_) => "an integer",
        Cell::Float(_) => "a float",
        Cell::Decimal(_) => "a decimal",
        Cell::Text(_) => "a text",
        Cell::Bytes(_) => "bytes",
    };
    format!("{found} in a column of {ty:?}")
}

fn distinct<T: Hash + Eq>(values: impl ExactSizeIterator<Item = T>) -> bool {
    let sample = values.len().min(SAMPLE);
    let found: HashSet<T> = values.take(sample).collect();
    found.len() > sample / 2
}

/// The separate texts of a column.
fn slices<'a>(bytes: &'a [u8], ends: &'a [usize]) -> impl ExactSizeIterator<Item = &'a [u8]> {
    let mut start = 0;
    ends.iter().map(move |end| bytes.get(std::mem::replace(&mut start, *end)..*end).unwrap_or_default())
}

/// Writes the next column of the row group. The column has no NULL.
pub(super) fn encode_all(group: &mut Group<'_>, values: Values) -> Result<(), ParquetError> {
    encode(group, values, None)
}

/// Writes the next column of the row group: texts without NULL and with few distinct values.
pub(super) fn encode_texts<'a>(
    group: &mut Group<'_>,
    texts: impl Iterator<Item = &'a str>,
) -> Result<(), ParquetError> {
    let mut known: Vec<(&str, ByteArray)> = Vec::new();
    let texts = texts.map(|text| match known.iter().find(|(other, _)| *other == text) {
        Some((_, array)) => array.clone(),
        None => {
            let array = ByteArray::from(text);
            known.push((text, array.clone()));
            array
        }
    });
    let Some(mut column) = group.next_column()? else { return Err(odd()) };
    let ColumnWriter::ByteArrayColumnWriter(writer) = column.untyped() else { return Err(odd()) };
    batches(texts, None, |values, levels| writer.write_batch(values, levels, None))?;
    column.close()
}

/// Writes the next column of the row group: its values, and for each row whether it has one.
fn encode(group: &mut Group<'_>, values: Values, levels: Option<&[i16]>) -> Result<(), ParquetError> {
    let Some(mut column) = group.next_column()? else { return Err(odd()) };
    match (column.untyped(), values) {
        (ColumnWriter::BoolColumnWriter(writer), Values::Bool(values)) => writer.write_batch(&values, levels, None)?,
        (ColumnWriter::Int32ColumnWriter(writer), Values::Int32(values)) => {
            writer.write_batch(&values, levels, None)?
        }
        (ColumnWriter::Int64ColumnWriter(writer), Values::Int64(values)) => {
            writer.write_batch(&values, levels, None)?
        }
        (ColumnWriter::FloatColumnWriter(writer), Values::Float(values)) => {
            writer.write_batch(&values, levels, None)?
        }
        (ColumnWriter::DoubleColumnWriter(writer), Values::Double(values)) => {
            writer.write_batch(&values, levels, None)?
        }
        (ColumnWriter::FixedLenByteArrayColumnWriter(writer), Values::Wide(width, values)) => {
            let values = values.iter().map(|value| big_endian(*value, width));
            batches(values, levels, |values, levels| writer.write_batch(values, levels, None))?
        }
        (ColumnWriter::ByteArrayColumnWriter(writer), Values::Bytes(bytes, ends)) => {
            let all = ByteArray::from(bytes);
            let mut start = 0;
            let values = ends.iter().map(|end| {
                let from = std::mem::replace(&mut start, *end);
                all.slice(from, *end - from)
            });
            batches(values, levels, |values, levels| writer.write_batch(values, levels, None))?
        }
        _ => return Err(odd()),
    };
    column.close()
}

/// Passes values in batches, with their levels.
fn batches<T>(
    mut values: impl Iterator<Item = T>,
    levels: Option<&[i16]>,
    mut write: impl FnMut(&[T], Option<&[i16]>) -> Result<usize, ParquetError>,
) -> Result<usize, ParquetError> {
    let mut written = 0;
    let mut batch = Vec::with_capacity(BATCH);
    if let Some(levels) = levels {
        for levels in levels.chunks(BATCH) {
            let present = levels.iter().filter(|level| **level == 1).count();
            batch.extend(values.by_ref().take(present));
            written += write(&batch, Some(levels))?;
            batch.clear();
        }
        return Ok(written);
    }
    loop {
        batch.extend(values.by_ref().take(BATCH));
        if batch.is_empty() {
            return Ok(written);
        }
        written += write(&batch, None)?;
        batch.clear();
    }
}

/// The last bytes of a two's complement, which hold the whole value.
fn big_endian(value: i128, width: usize) -> FixedLenByteArray {
    let bytes = value.to_be_bytes();
    let start = bytes.len().saturating_sub(width);
    FixedLenByteArray::from(bytes.get(start..).unwrap_or_default().to_vec())
}

/// An error that cannot occur: schema and columns are made from the same list, in the same order.
fn odd() -> ParquetError {
    ParquetError::General("the columns do not follow the schema".to_owned())
}
