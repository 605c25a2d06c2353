//! The source of truth: a candidate is asked of Postgres by the rule's own query.
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
    /// Answers a question: one result per group asked, in order. An error is of that group alone, or
    /// stands at all of them when the database is down; either way it is asked again.
    async fn ask(&self, question: &Question) -> Vec<Result<Answer, CallError>>;

    /// What the tables and their server are at present, with the columns that the rules need.
    async fn look(&self) -> Result<Look, CallError>;

    /// What the database shows at present: `pg_current_snapshot()`.
    async fn snapshot(&self) -> Result<String, CallError>;

    /// Answers a question for the audit, as [`Self::ask`] does.
    async fn compare(&self, question: &Question) -> Vec<Result<Compared, CallError>>;

    /// Keys of a rule that the table has inside of the window, in its order: the first ones, or those after this one. None:
    /// there are no more.
    async fn page(&self, rule: usize, after: Option<&Key>, now: Timestamp) -> Result<Vec<Key>, CallError>;

    /// The rows of all these groups inside of their windows.
    async fn rows_of(&self, question: &Question) -> Result<Vec<TableRow>, CallError>;

    /// The rows of a group inside of its window, for memory to hold instead of its own.
    async fn rows(&self, rule: usize, asked: &Asked) -> Result<Vec<TableRow>, CallError>;

    /// The rows of these primary keys that the table at this place has.
    async fn lookup(&self, table: usize, pks: &[Key]) -> Result<Vec<TableRow>, CallError>;

    /// Hands over the rows of all groups inside of the rule's window. Returns a position in the WAL from before they were
    /// read. After an error it can be done again.
    async fn load(&self, rule: usize, now: Timestamp, take: &mut dyn FnMut(TableRow)) -> Result<Lsn, CallError>;

    /// The time zone of each rule as it is now; none where it cannot change.
    async fn zones(&self) -> Result<Vec<Arc<Zone>>, CallError> {
        Ok(Vec::new())
    }

    /// From here on each rule is asked in this time zone.
    fn use_zones(&self, _zones: &[Arc<Zone>]) {}

    /// The groups that HAVING holds for in the whole table.
    async fn sweep(&self, rule: usize, now: Timestamp) -> Result<Vec<Key>, CallError>;
}
