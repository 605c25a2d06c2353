//! The database of record: Postgres evaluates the rule's own query for each candidate.
//!
//! - [`postgres`]: the adapter

pub mod postgres;

use std::sync::Arc;

use crate::contract::Look;
use crate::failure::CallError;
use crate::model::zone::Zone;
use crate::model::{Key, Lsn, Timestamp};
use crate::rule::table_row::TableRow;
use crate::unit::{Answer, Asked, Compared, Question};

/// Asks the database about candidates.
#[expect(async_fn_in_trait, reason = "used by generic code on one task only")]
pub trait Confirm {
    /// Answers a question. Returns one result for each group asked, in order. An error concerns one group, or all of
    /// them if the database is down. In both cases the caller asks again.
    async fn ask(&self, question: &Question) -> Vec<Result<Answer, CallError>>;

    /// Reads the current contracts of the tables and their server, with the columns that the rules need.
    async fn look(&self) -> Result<Look, CallError>;

    /// Reads the database's current snapshot: `pg_current_snapshot()`.
    async fn snapshot(&self) -> Result<String, CallError>;

    /// Answers a question of the audit, like [`Self::ask`].
    async fn compare(&self, question: &Question) -> Vec<Result<Compared, CallError>>;

    /// Returns keys of a rule that have rows inside the window, in the table's order: the first ones, or those after
    /// `after`. An empty list: there are no more.
    async fn page(&self, rule: usize, after: Option<&Key>, now: Timestamp) -> Result<Vec<Key>, CallError>;

    /// Returns the rows of all these groups inside their windows.
    async fn rows_of(&self, question: &Question) -> Result<Vec<TableRow>, CallError>;

    /// Returns the rows of a group inside its window. They replace the rows that memory holds.
    async fn rows(&self, rule: usize, asked: &Asked) -> Result<Vec<TableRow>, CallError>;

    /// The rows of these primary keys that the table at this place has.
    async fn lookup(&self, table: usize, pks: &[Key]) -> Result<Vec<TableRow>, CallError>;

    /// Passes the rows of all groups inside the rule's window to `take`. Returns a position in the WAL from before they
    /// were read. After an error the call can be repeated.
    async fn load(&self, rule: usize, now: Timestamp, take: &mut dyn FnMut(TableRow)) -> Result<Lsn, CallError>;

    /// Returns the current time zone of each rule. Empty: the zones cannot change.
    async fn zones(&self) -> Result<Vec<Arc<Zone>>, CallError> {
        Ok(Vec::new())
    }

    /// Sets the time zone in which each rule is evaluated from now on.
    fn use_zones(&self, _zones: &[Arc<Zone>]) {}

    /// Returns the keys for which HAVING holds in the whole table.
    async fn sweep(&self, rule: usize, now: Timestamp) -> Result<Vec<Key>, CallError>;
}
