//! Reads the metadata in a file's footer. Pure.

use std::collections::BTreeMap;

use parquet::errors::ParquetError;
use parquet::file::metadata::{PageIndexPolicy, ParquetMetaDataReader};
use parquet::file::reader::ChunkReader;

/// The footer of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Footer {
    /// The number of rows in the file.
    pub rows: u64,
    /// The metadata with which the file was written.
    pub about: BTreeMap<String, String>,
}

/// Reads the footer of a file, and nothing else. The file is a `File`, or `Bytes` in memory.
///
/// # Errors
///
/// The file is not Parquet, or is incomplete.
pub fn footer<R: ChunkReader>(file: &R) -> Result<Footer, ParquetError> {
    let reader = ParquetMetaDataReader::new().with_page_index_policy(PageIndexPolicy::Skip);
    let metadata = reader.parse_and_finish(file)?;
    let metadata = metadata.file_metadata();
    let rows = metadata.num_rows();
    let rows = u64::try_from(rows).map_err(|_| ParquetError::General(format!("a footer with {rows} rows")))?;
    let about = metadata.key_value_metadata().into_iter().flatten();
    let about = about.map(|pair| (pair.key.clone(), pair.value.clone().unwrap_or_default())).collect();
    Ok(Footer { rows, about })
}
