//! Reads all rows of a rule's window, for memory to hold.
//!
//! One statement reads them, by the plan that the server chooses. A snapshot that is held for long keeps the server
//! from removing dead rows in any table, so that statement has a limit. A window that takes longer is read again from
//! the beginning, in slices of the table's blocks, each in its own transaction. A row may then be read twice, or move
//! ahead of the reader. Whatever moves a row is a change, and the stream is read up to an end that is determined after
//! all slices.

use std::time::Duration;

use futures_util::TryStreamExt;
use sqlx::postgres::{PgArguments, Postgres};
use sqlx::query::Query;
use sqlx::{AssertSqlSafe, Row};

use super::{PostgresConfirm, catalog, failed, instant};
use crate::failure::CallError;
use crate::fault;
use crate::model::{Lsn, Table, Timestamp};
use crate::postgres::{Session, no_answer, query};
use crate::rule::table_row::TableRow;

/// How long a statement may hold its snapshot.
const SNAPSHOT_MAX: Duration = Duration::from_secs(50);

/// How long a statement may return no row. Longer than the statement's own limit.
const SILENCE_MAX: Duration = Duration::from_secs(120);

/// The number of blocks in a slice: 256 MiB. Within the limit that needs 5 MiB a second.
const SLICE_BLOCKS: i64 = 32_768;

/// The number of blocks of the table, or of its greatest partition. NULL where the storage of one of them has no
/// numbered blocks.
const BLOCKS: &str = "
    with recursive parts(oid) as (
        select format('%I.%I', $1::text, $2::text)::regclass::oid
        union
        select inhrelid from pg_inherits join parts on inhparent = parts.oid
    )
    select case when bool_and(relation.relkind = 'p' or access.amname = 'heap')
        then max(pg_relation_size(relation.oid) / current_setting('block_size')::bigint) end as blocks
    from parts
    join pg_class as relation on relation.oid = parts.oid
    left join pg_am as access on access.oid = relation.relam";

/// The result of a statement.
enum Read {
    /// All rows were read.
    All,
    /// The statement took too long.
    TooLong,
}

impl PostgresConfirm {
    /// Passes all rows of the window to `take`. Returns a position in the WAL from before they were read.
    pub(super) async fn load_all(
        &self,
        rule: usize,
        now: Timestamp,
        take: &mut dyn FnMut(TableRow),
    ) -> Result<Lsn, CallError> {
        let statements = self.statements(rule)?;
        let position = self.position(rule).await?;
        if statements.query.text.is_some() {
            return Ok(position); // it holds no rows
        }
        let (at_once, mut size) = if fault::is_off("load-at-once") { (false, 1) } else { (true, SLICE_BLOCKS) };
        if at_once {
            let whole = query(AssertSqlSafe(statements.all_rows.clone())).bind(instant(now));
            if matches!(self.take_rows(rule, whole, SNAPSHOT_MAX, take).await?, Read::All) {
                return Ok(position);
            }
        }
        let table = &statements.query.table;
        let Some(blocks) = self.blocks(rule, table).await? else {
            tracing::warn!(%table, "its windows are read by one statement without a limit: it is not stored in numbered blocks");
            let whole = query(AssertSqlSafe(statements.all_rows.clone())).bind(instant(now));
            self.take_rows(rule, whole, Duration::ZERO, take).await?;
            return Ok(position);
        };
        tracing::info!(%table, blocks, "windows are read in slices, so that no snapshot is held for longer than a minute");
        let mut from = 0;
        // Rows that are written behind the last block from here on are changes, and so in the stream.
        while from < blocks {
            let to = from.saturating_add(size).min(blocks);
            let slice = query(AssertSqlSafe(statements.all_rows_in.clone())).bind(instant(now));
            let slice = slice.bind(format!("({from},0)")).bind(format!("({to},0)"));
            match self.take_rows(rule, slice, SNAPSHOT_MAX, take).await? {
                Read::All => from = to,
                Read::TooLong if size == 1 => return Err(failed(no_answer(SNAPSHOT_MAX))),
                Read::TooLong => size = (size / 4).max(1),
            }
        }
        Ok(position)
    }

    async fn position(&self, rule: usize) -> Result<Lsn, CallError> {
        let rows = self.fetch(rule, query(catalog::POSITION)).await.map_err(failed)?;
        let position: i64 = rows.first().map_or(Ok(0), |row| row.try_get(0)).map_err(failed)?;
        Ok(Lsn(u64::try_from(position).unwrap_or(0)))
    }

    async fn blocks(&self, rule: usize, table: &Table) -> Result<Option<i64>, CallError> {
        let asked = query(BLOCKS).bind(&table.schema).bind(&table.name);
        let rows = self.fetch(rule, asked).await.map_err(failed)?;
        rows.first().map_or(Ok(None), |row| row.try_get("blocks")).map_err(failed)
    }

    /// Passes the rows of a statement to `take`. A `limit` of zero: no limit, unless the server falls silent.
    async fn take_rows(
        &self,
        rule: usize,
        statement: Query<'_, Postgres, PgArguments>,
        limit: Duration,
        take: &mut dyn FnMut(TableRow),
    ) -> Result<Read, CallError> {
        let statements = self.statements(rule)?;
        let begin = self.begin(Session::Reading(limit), rule);
        let mut transaction = self.pool.begin_with(begin).await.map_err(failed)?;
        let mut rows = statement.fetch(&mut *transaction);
        loop {
            let next = tokio::time::timeout(SILENCE_MAX, rows.try_next()).await;
            match next.unwrap_or_else(|_| Err(no_answer(SILENCE_MAX))) {
                Ok(Some(row)) => take(self.table_row(statements, &row)?),
                Ok(None) => return Ok(Read::All),
                Err(sqlx::Error::Database(error)) if !limit.is_zero() && error.code().as_deref() == Some("57014") => {
                    return Ok(Read::TooLong);
                }
                Err(error) => return Err(failed(error)),
            }
        }
    }
}
