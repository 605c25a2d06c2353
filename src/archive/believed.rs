//! What is believed of table and topic: looked at again, and what follows where it is no longer so.

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

/// How often the table's columns are looked at at most.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// How often the table is looked at in any case: what is written between two looks that differ may be of either.
pub(super) const LOOK_AGAIN_EVERY: Duration = Duration::from_secs(60);

/// The name in an epoch's `conf` of [`TableVersions`], as JSON.
pub(super) const TABLE_VERSIONS: &str = "table_versions";

const LOOKING: &str = "reading the table's columns";

/// What is believed of the table, and how to look at it again.
pub struct Believed {
    /// The table as records are read by it.
    pub table: FullRowTable,
    /// What else its changes depend on.
    pub source: TableSource,
    /// What the table was at which positions; `table` is the newest.
    pub versions: TableVersions,
    /// Looks at it.
    pub look: LookAgain,
}

impl Believed {
    /// Notes a look that found the table as records are read by it.
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

/// Looks at the table; `None`: there is none of this name any more, so that the catalog says nothing new of its records.
pub type LookAgain = Box<dyn Fn() -> Pin<Box<dyn Future<Output = Result<Option<TableLook>, CallError>>>>>;

/// Records that cannot be read by the columns as they were believed to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Misread {
    /// There is none; or the columns were looked at since it was read, and are the same.
    No,
    /// The columns may be others by now.
    Perhaps,
    /// The columns are others by now.
    Yes,
}

impl<S: Follow<Change = FullRowChange>, B: DeadLetterSink, T: Clock> Archive<S, B, T> {
    /// Looks at the table's columns, if records are there that cannot be read by them as they were: a second after the last
    /// look at the earliest, so that all that has come meanwhile is covered by one.
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

    /// Rows that were read by what the catalog said are written once a later look finds that it still says the same: a
    /// column of another type may be read without an error, as something else.
    pub(super) async fn check_columns(&mut self, batch: &OpenBatch) -> Result<(), JobError> {
        let Some(believed) = &mut self.believed else { return Ok(()) };
        let Some(newest) = batch.by_catalog() else { return Ok(()) };
        if believed.versions.seen_up_to() >= Some(newest) {
            return Ok(());
        }
        let found = Retry::WORKING.run(LOOKING, async || (believed.look)().await).await?;
        Ok(believed.note(found)?)
    }

    /// Rows are written once a look finds that the topic still has the last records that were written: in a topic that was deleted
    /// and created again, reading goes on at the old offsets. Without an answer of the broker they are written all the same, and the
    /// next look compares with what was there at the last one.
    pub(super) async fn check_topic(&self, session: &mut Session) -> Result<(), JobError> {
        match look_at_topic(&self.source.beside(), &session.seen).await {
            Ok(Ok(_)) => session.seen = session.batch.last_records().clone(),
            Ok(Err(mismatch)) => return Err(self.stop(&mismatch, "")),
            Err(error) if error.is_retried() => {}
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    /// Looks at the table once. Where the database cannot be reached, it is asked again when an epoch is closed.
    pub(super) async fn look_once(&mut self) -> Result<(), JobError> {
        let Some(believed) = &mut self.believed else { return Ok(()) };
        match (believed.look)().await {
            Ok(found) => Ok(believed.note(found)?),
            Err(error) if error.is_retried() => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Stops before a record that can be read in two ways.
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

/// What the newest epoch of a folder says of the table; nothing where it has none, or was written by an earlier version.
///
/// # Errors
/// A damaged folder.
pub fn table_versions(folder: &Folder) -> Result<TableVersions, JobError> {
    let newest = folder.newest_epoch::<Plan>()?;
    let Some(text) = newest.as_ref().and_then(|epoch| epoch.conf.get(TABLE_VERSIONS)) else {
        return Ok(TableVersions::default());
    };
    serde_json::from_str(text)
        .map_err(|error| JobError::Internal(format!("{TABLE_VERSIONS} of the newest epoch: {error}")))
}

/// Whether a record may be one that other columns of the table would explain.
pub(super) fn is_misread(record: &SourceRecord<FullRowChange>) -> bool {
    matches!(&record.content, Content::Rejected(letter) if matches!(
        letter.reject.kind,
        RejectKind::Value | RejectKind::Key | RejectKind::Identity
    ))
}
