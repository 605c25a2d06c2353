//! Reads the properties of the rules' table and of its server.

use sqlx::postgres::{PgConnection, PgRow};
use sqlx::{Error, Row};

use crate::contract::{Contract, Look};
use crate::model::Lsn;
use crate::postgres::query;

/// The statement. `$1` is the schema and `$2` the table. It returns no row if there is no such table.
pub(super) const STATEMENT: &str = include_str!("contract.sql");

/// Reads the properties of a table and its server.
///
/// # Errors
/// The connection fails.
pub async fn look(connection: &mut PgConnection, schema: &str, table: &str) -> Result<Option<(Contract, Look)>, Error> {
    let row = query(STATEMENT).bind(schema).bind(table).fetch_optional(connection).await?;
    row.as_ref().map(read).transpose()
}

/// Reads the one row of [`STATEMENT`]: the contract, and the positions of the look.
pub(super) fn read(row: &PgRow) -> Result<(Contract, Look), Error> {
    let text: &str = row.try_get("contract")?;
    let contract: Contract = serde_json::from_str(text).map_err(|error| Error::Decode(error.into()))?;
    let lsn = |position: i64| u64::try_from(position).ok().map(Lsn);
    let position = lsn(row.try_get("position")?).unwrap_or(Lsn(0));
    let flushed: Option<i64> = row.try_get("flushed")?;
    Ok((contract, Look { position, flushed: flushed.and_then(lsn), ..Look::default() }))
}
