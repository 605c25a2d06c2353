//! What a file says of itself. Pure.

use std::collections::BTreeMap;

use parquet::errors::ParquetError;
use parquet::file::metadata::{PageIndexPolicy, ParquetMetaDataReader};
use parquet::file::reader::ChunkReader;

/// The footer of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Footer {
    /// Rows of the file.
    pub rows: u64,
    /// The metadata that the file was made with.
    pub about: BTreeMap<String, String>,
}

/// Reads the footer, and nothing else, of a file: a `File`, or `Bytes` in memory.
///
/// # Errors
///
/// What is wrong with a file that is no Parquet, or not all of it.
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
