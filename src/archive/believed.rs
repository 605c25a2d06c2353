//! The archive's assumptions about table and topic: checks them again, and handles a change.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use tokio::time::Instant;

use super::names::Plan;
use super::open_batch::OpenBatch;
use super::{Archive, Session};
use crate::change::RejectKind;
use crate::change::debezium::TableSource;
use crate::change::debezium::full_row::FullRowTable;
use crate::change::debezium::full_row::versions::{TableLook, TableVersions};
use crate::change::full_row::FullRowChange;
use crate::change::record::{Content, SourceRecord};
use crate::checkpoint::Folder;
use crate::clock::Clock;
use crate::failure::{CallError, HasKind};
use crate::job::start::look_at_topic;
use crate::job::{ColumnsError, JobError};
use crate::retry::Retry;
use crate::sink::DeadLetterSink;
use crate::source::Follow;

/// The shortest time between two reads of the table's columns.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The longest time between two reads of the table's columns. If two reads differ, records written between them may be
/// of either.
pub(super) const LOOK_AGAIN_EVERY: Duration = Duration::from_secs(60);

/// The key in an epoch's `conf` for [`TableVersions`], as JSON.
pub(super) const TABLE_VERSIONS: &str = "table_versions";

const LOOKING: &str = "reading the table's columns";

/// The assumptions about the table, and how to check them again.
pub struct Believed {
    /// The table by which records are decoded.
    pub table: FullRowTable,
    /// The table's other properties that its changes depend on.
    pub source: TableSource,
    /// The table's versions by their positions. `table` is the newest.
    pub versions: TableVersions,
    /// Reads the table from the catalog.
    pub look: LookAgain,
}

impl Believed {
    /// Records that a read of the catalog found the expected table.
    fn note(&mut self, found: Option<TableLook>) -> Result<(), ColumnsError> {
        let Some(found) = found else { return Ok(()) };
        let mut versions = self.versions.clone();
        let changed = versions.note(&found);
        if !changed.is_empty() {
            return Err(ColumnsError::Retyped(changed.join(", ")));
        }
        self.versions = versions;
        Ok(())
    }
}

/// Reads the table from the catalog. `None`: no table has this name any more, so the catalog has nothing new about its
/// records.
pub type LookAgain = Box<dyn Fn() -> Pin<Box<dyn Future<Output = Result<Option<TableLook>, CallError>>>>>;

/// Whether there are records that the assumed columns cannot decode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Misread {
    /// There are none, or the columns were read again after such a record and have not changed.
    No,
    /// The columns may have changed.
    Perhaps,
    /// The columns have changed.
    Yes,
}

impl<S: Follow<Change = FullRowChange>, B: DeadLetterSink, T: Clock> Archive<S, B, T> {
    /// Reads the table's columns again, because records cannot be decoded by the known ones. Waits until a second after
    /// the last such read, so that one read covers all records that arrive meanwhile.
    pub(super) async fn look(&self, looked_at: Option<Instant>) -> Result<Misread, JobError> {
        let Some(believed) = &self.believed else { return Ok(Misread::No) };
        if let Some(at) = looked_at {
            tokio::time::sleep_until(at + LOOK_EVERY).await;
        }
        let found = Retry::WORKING.run(LOOKING, async || (believed.look)().await).await?;
        let changed =
            found.is_some_and(|found| (found.table, found.source) != (believed.table.clone(), believed.source.clone()));
        Ok(if changed { Misread::Yes } else { Misread::No })
    }

    /// Checks the columns before rows are written that were decoded by them. A later read of the catalog must still
    /// find the same columns, because a column of another type may be decoded wrongly without an error.
    pub(super) async fn check_columns(&mut self, batch: &OpenBatch) -> Result<(), JobError> {
        let Some(believed) = &mut self.believed else { return Ok(()) };
        let Some(newest) = batch.by_catalog() else { return Ok(()) };
        if believed.versions.seen_up_to() >= Some(newest) {
            return Ok(());
        }
        let found = Retry::WORKING.run(LOOKING, async || (believed.look)().await).await?;
        Ok(believed.note(found)?)
    }

    /// Checks that the topic still has the last records that were written. In a topic that was deleted and re-created,
    /// reading continues at the old offsets. If the broker does not answer, the rows are written anyway, and the next
    /// check compares with the records of the last successful one.
    pub(super) async fn check_topic(&self, session: &mut Session) -> Result<(), JobError> {
        match look_at_topic(&self.source.beside(), &session.seen).await {
            Ok(Ok(_)) => session.seen = session.batch.last_records().clone(),
            Ok(Err(mismatch)) => return Err(self.stop(&mismatch, "")),
            Err(error) if error.is_retried() => {}
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    /// Reads the table once. If the database is unreachable, the table is read when an epoch is closed.
    pub(super) async fn look_once(&mut self) -> Result<(), JobError> {
        let Some(believed) = &mut self.believed else { return Ok(()) };
        match (believed.look)().await {
            Ok(found) => Ok(believed.note(found)?),
            Err(error) if error.is_retried() => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// The error for a record that can be decoded in two ways.
    pub(super) fn between(&self, record: &SourceRecord<FullRowChange>, reason: &str) -> JobError {
        let (topic, position) = (&self.settings.topic, record.position);
        JobError::Unsafe(format!(
            "{topic} partition {} offset {}: {reason}. `tripline archive --config FILE --changed-columns before` (or `after`) \
             reads such records as before (or after) that change, and goes on; a connector whose converters have \
             schemas.enable = true leaves no doubt",
            position.partition, position.offset
        ))
    }
}

/// Reads the table's versions from the newest epoch of a folder. They are empty if the epoch has none, or if an earlier
/// program version wrote it.
///
/// # Errors
/// The folder is damaged.
pub fn table_versions(folder: &Folder) -> Result<TableVersions, JobError> {
    let newest = folder.newest_epoch::<Plan>()?;
    let Some(text) = newest.as_ref().and_then(|epoch| epoch.conf.get(TABLE_VERSIONS)) else {
        return Ok(TableVersions::default());
    };
    serde_json::from_str(text)
        .map_err(|error| JobError::Internal(format!("{TABLE_VERSIONS} of the newest epoch: {error}")))
}

/// Whether other columns of the table might explain why a record is invalid.
pub(super) fn is_misread(record: &SourceRecord<FullRowChange>) -> bool {
    matches!(&record.content, Content::Rejected(letter) if matches!(
        letter.reject.kind,
        RejectKind::Value | RejectKind::Key | RejectKind::Identity
    ))
}
