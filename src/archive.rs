//! The archive job: the changes of a topic as rows in Parquet files, each row once for any reader.
//!
//! ```text
//! source ─ full-row changes ─ batch (rows by date) ─ offsets/N ─ files ─ commits/N ─ the group's offsets
//!                               │                      plan      output
//!                               └─ dead letters
//! ```
//!
//! - this file: the loop, and how an epoch is closed
//! - [`believed`]: the assumptions about table and topic
//! - [`open_batch`]: the rows of the epoch that is being collected
//! - [`parquet`]: rows → the bytes of a file
//! - [`names`]: the names of files
//! - [`output`]: the folder of the files
//! - [`start`]: where to continue, pure
//! - [`recover`]: continues from there

pub mod believed;
pub mod names;
pub mod open_batch;
pub mod output;
pub mod parquet;
pub mod recover;
pub mod start;

use crate::checkpoint::Encoded;
use crate::retry::{Outage, Retry};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use tokio::time::Instant;

use believed::{Believed, LOOK_AGAIN_EVERY, Misread, TABLE_VERSIONS, is_misread};
use names::{Plan, PlannedFile};
use open_batch::{Limits, OpenBatch, Take, Unfit};
use output::{Found, Output};
use parquet::WriteError;

use crate::change::RejectKind;
use crate::change::full_row::FullRowChange;
use crate::change::record::{BadRecord, Batch, Content, DeadLetter, SourceRecord};
use crate::checkpoint::Folder;
use crate::clock::Clock;
use crate::failure::HasKind;
use crate::fault;
use crate::job::gauge::Gauge;
use crate::job::{self, ColumnsError, Ended, Job, JobError};
use crate::model::NextOffset;
use crate::planted;
use crate::progress::{Epoch, EpochRef, LastRecords, Offsets, StartAt, Topics};
use crate::sink::{DeadLetterSink, log_invalid};
use crate::source::{Event, Follow};

/// The wait before the group's offsets are committed again.
const COMMIT_AGAIN: Duration = Duration::from_secs(1);

/// The key in an epoch's `conf` for the column of its rows' dates. Absent for the commit time.
const PARTITION_BY: &str = "partition_by";

/// Settings of the job.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Consumer group.
    pub group: String,
    /// Topic of the changes.
    pub topic: String,
    /// Where to begin if nothing is known about a partition.
    pub start_at: StartAt,
    /// Whether a group without offsets starts over. Otherwise it continues from its folder.
    pub reprocess_without_group: bool,
    /// The limits of an epoch.
    pub limits: Limits,
    /// The longest time before an epoch is closed.
    pub trigger_interval: Duration,
    /// Whether to stop at an invalid record. Otherwise it is copied to the dead-letter topic.
    pub stop_on_bad_record: bool,
    /// Whether to end after all records that existed at the start have been written.
    pub until_end: bool,
}

/// The counts of a run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Records read.
    pub read: u64,
    /// Rows written.
    pub written: u64,
    /// Files published.
    pub files: u64,
    /// Invalid records.
    pub rejected: u64,
    /// Epochs closed.
    pub epochs: u64,
}

/// The parts of the job.
pub struct Archive<S, B, T> {
    /// Settings.
    pub settings: Settings,
    /// The source of the changes.
    pub source: S,
    /// The sink for invalid records.
    pub dead_letters: B,
    /// The clock.
    pub clock: T,
    /// The checkpoint folder.
    pub folder: Folder,
    /// The output folder.
    pub output: Output,
    /// The counts so far.
    pub counts: Counts,
    /// Publishes the progress.
    pub gauge: Arc<Gauge>,
    /// The columns for records without a schema. `None`: every record brings its schema.
    pub believed: Option<Believed>,
}

/// The state of one assignment of partitions.
struct Session {
    batch: OpenBatch,
    /// Records that arrived after the batch was full.
    ahead: VecDeque<SourceRecord<FullRowChange>>,
    /// When the batch's first record arrived.
    since: Option<Instant>,
    /// Offsets that could not be committed because the group's broker was unreachable.
    uncommitted: Option<(Offsets, String)>,
    /// The ends of the partitions at the start, until they are reached.
    ends: Offsets,
    /// The outage in which commits fail.
    outage: Outage,
    /// Whether other columns of the table may explain the invalid records in `ahead`.
    misread: Misread,
    /// When the table's columns were last read for that reason.
    looked_at: Option<Instant>,
    /// When they are next read in any case.
    look_due: Instant,
    /// The last written records at the time when a check last found them in the topic.
    seen: LastRecords,
}

impl Session {
    fn new(batch: OpenBatch) -> Self {
        let (ahead, ends) = (VecDeque::new(), Offsets::new());
        let outage = Outage::new("committing the group's offsets");
        let (misread, look_due) = (Misread::No, Instant::now() + LOOK_AGAIN_EVERY);
        let seen = batch.last_records().clone();
        Self { batch, ahead, since: None, uncommitted: None, ends, outage, misread, looked_at: None, look_due, seen }
    }

    fn take_in(&mut self, batch: Batch<FullRowChange>) {
        if self.misread == Misread::No && batch.records.iter().any(is_misread) {
            self.misread = Misread::Perhaps;
        }
        self.ahead.extend(batch.records);
        // Offsets before the end that hold no record will never arrive.
        self.ends.retain(|partition, _| !batch.ended.contains(partition));
    }

    fn left(&mut self) -> u64 {
        let next = self.batch.next();
        self.ends.retain(|partition, end| next.get(partition).is_none_or(|next| next < end));
        let left = |(partition, end): (&i32, &NextOffset)| {
            u64::try_from(end.0.saturating_sub(next.get(partition).map_or(0, |next| next.0))).unwrap_or(0)
        };
        self.ends.iter().map(left).sum()
    }
}

impl<S: Follow<Change = FullRowChange>, B: DeadLetterSink, T: Clock> Archive<S, B, T> {
    /// Runs until `stop` is ready, or until the end with `until_end`.
    ///
    /// # Errors
    /// Errors that the job cannot recover from. [`JobError::Cut`] if it does not end in time after `stop`.
    /// [`JobError::BeforeTheEnd`] if `stop` came before the end that it was to reach.
    pub async fn run(&mut self, stop: impl Future<Output = ()>) -> Result<(), JobError> {
        job::run(self, stop).await
    }

    async fn work_on(
        &mut self,
        session: &mut Session,
        mut stop: Pin<&mut impl Future<Output = ()>>,
    ) -> Result<Ended, JobError> {
        let partition_by = self.settings.limits.partition_by.clone();
        loop {
            self.gauge.report(session.left(), 0);
            if session.misread == Misread::Perhaps {
                let looked = tokio::select! {
                    biased;
                    () = &mut stop => None,
                    looked = self.look(session.looked_at) => Some(looked?),
                };
                let Some(looked) = looked else {
                    self.close(session, partition_by).await?;
                    self.commit_last(session).await?;
                    return Ok(Ended::Stopped);
                };
                (session.misread, session.looked_at) = (looked, Some(Instant::now()));
            }
            if session.look_due <= Instant::now() {
                session.look_due = Instant::now() + LOOK_AGAIN_EVERY;
                self.look_once().await?;
            }
            let bad = self.fill(session)?;
            let read = self.settings.until_end && session.left() == 0 && session.ahead.is_empty();
            let due = session.since.is_some_and(|since| since.elapsed() >= self.settings.trigger_interval);
            if due || read || bad.is_some() || session.batch.is_full() || !session.ahead.is_empty() {
                self.close(session, partition_by.clone()).await?;
            }
            if let Some(bad) = bad {
                return Err(bad);
            }
            if read {
                self.commit_last(session).await?;
                return Ok(Ended::Read);
            }
            let due = session.since.map(|since| self.settings.trigger_interval.saturating_sub(since.elapsed()));
            let again = session.uncommitted.is_some().then_some(COMMIT_AGAIN);
            let look = self.believed.is_some().then(|| session.look_due.saturating_duration_since(Instant::now()));
            let wait = due.into_iter().chain(again).chain(look).min().unwrap_or(Duration::MAX);
            tokio::select! {
                biased;
                () = &mut stop => {
                    self.close(session, partition_by).await?;
                    self.commit_last(session).await?;
                    return Ok(Ended::Stopped);
                }
                () = std::future::ready(()), if !session.ahead.is_empty() => {}
                event = self.source.next() => match event {
                    Event::Batch(batch) => session.take_in(batch),
                    Event::Revoked => return Ok(Ended::Revoked),
                    Event::Failed(error) => return Err(error.into()),
                    Event::Assigned(_) => {
                        return Err(JobError::Internal("partitions were assigned twice".to_owned()));
                    }
                },
                () = tokio::time::sleep(wait) => self.commit(session).await?,
            }
        }
    }

    /// Takes records into the batch until it is full. If the run has to stop before a record, it returns the error, so
    /// that the records before it are written first.
    fn fill(&mut self, session: &mut Session) -> Result<Option<JobError>, JobError> {
        while let Some(record) = session.ahead.pop_front() {
            if let Some(bad) = self.stops_at(&record, session.misread) {
                session.ahead.clear();
                return Ok(Some(bad));
            }
            match session.batch.take(record)? {
                Take::Taken => drop(session.since.get_or_insert_with(Instant::now)),
                Take::Full(record) => {
                    session.ahead.push_front(*record);
                    break;
                }
            }
        }
        Ok(None)
    }

    /// Why the run ends at a record: it is invalid, and the settings or missing columns forbid to skip it.
    fn stops_at(&self, record: &SourceRecord<FullRowChange>, misread: Misread) -> Option<JobError> {
        let Content::Rejected(letter) = &record.content else { return None };
        if misread == Misread::Yes && is_misread(record) {
            return Some(ColumnsError::Changed(letter.reject.detail.clone()).into());
        }
        if letter.reject.kind == RejectKind::Between {
            return Some(self.between(record, &letter.reject.detail));
        }
        if self.settings.stop_on_bad_record {
            let (topic, reason) = (self.settings.topic.clone(), letter.reject.detail.clone());
            return Some(BadRecord { topic, position: record.position, reason }.into());
        }
        self.columns_missing(record)
    }

    /// The error for a record whose only problem is that its columns are not known.
    fn columns_missing(&self, record: &SourceRecord<FullRowChange>) -> Option<JobError> {
        let Content::Rejected(letter) = &record.content else { return None };
        let reason = letter.reject.detail.clone();
        match &letter.reject.kind {
            RejectKind::Schemaless => Some(ColumnsError::Schemaless(reason).into()),
            RejectKind::Unwrapped => Some(ColumnsError::Unwrapped(reason).into()),
            RejectKind::UnknownColumn(column) => Some(ColumnsError::Unknown { column: column.clone(), reason }.into()),
            _ => None,
        }
    }

    /// Makes an epoch of the batch:
    ///
    /// 1. Invalid records are copied to the dead-letter topic.
    /// 2. `offsets/N`, the plan, becomes durable. From here on the epoch has exactly these records.
    /// 3. Its files are published, each of them complete.
    /// 4. `commits/N` is written.
    /// 5. The group's offsets are committed, if the broker is reachable.
    async fn close(&mut self, session: &mut Session, partition_by: Option<String>) -> Result<(), JobError> {
        if session.batch.is_empty() {
            return Ok(());
        }
        self.check_columns(&session.batch).await?;
        self.check_topic(session).await?;
        self.epoch(session, partition_by).await
    }

    async fn epoch(&mut self, session: &mut Session, partition_by: Option<String>) -> Result<(), JobError> {
        let is_late = planted::bug("archive-dead-letters-late");
        if !is_late {
            self.dead_letter(session.batch.dead()).await?;
        }
        let (batch, about) = (&session.batch, session.batch.about().clone());
        let mut offsets = batch.next().clone();
        if planted::bug("archive-epoch-ahead") && batch.records() > 0 {
            offsets.values_mut().for_each(|next| next.0 += 1);
        }
        let epoch = Epoch {
            number: about.epoch,
            lineage: about.lineage.clone(),
            topics: Topics::from(about.topic.as_str()),
            offsets,
            kept: Offsets::new(),
            last_records: batch.last_records().clone(),
            at: self.clock.now(),
            conf: self.conf(partition_by)?,
            body: batch.plan(),
        };
        let encoded = Encoded::of(&epoch)?;
        self.check_owned(&about.lineage)?;
        let name = EpochRef { lineage: about.lineage.clone(), epoch: epoch.number, crc: encoded.crc };
        self.folder.log(&encoded)?;
        fault::point("archive.logged");
        if is_late {
            self.dead_letter(session.batch.dead()).await?;
        }
        if planted::bug("archive-group-first") {
            session.uncommitted = Some((epoch.offsets.clone(), name.to_string()));
            self.commit(session).await?;
        }
        if planted::bug("archive-finished-first") {
            self.folder.finish(epoch.number)?;
        }
        let batch = &mut session.batch;
        let (records, rows, rejected) = (batch.records(), batch.rows(), batch.dead().len());
        self.publish(&epoch, |planned| batch.encode(planned))?;
        self.folder.finish(epoch.number)?;
        fault::point("archive.finished");
        self.folder.forget_before(epoch.number)?;
        tracing::debug!(epoch = epoch.number, records, rows, files = epoch.body.files.len(), "written");
        for (count, more) in [(&mut self.counts.read, records), (&mut self.counts.rejected, rejected)] {
            *count += u64::try_from(more).unwrap_or(u64::MAX);
        }
        self.counts.written += rows;
        if records > 0 {
            self.counts.epochs += 1; // the one that a lineage begins with has none
        }
        let next = open_batch::About { epoch: epoch.number.saturating_add(1), ..about };
        session.batch = OpenBatch::new(next, self.settings.limits.clone(), epoch.offsets.clone(), epoch.last_records);
        session.since = None;
        session.uncommitted = Some((epoch.offsets, name.to_string()));
        self.commit(session).await?;
        fault::point("archive.committed");
        Ok(())
    }

    /// Copies invalid records to the dead-letter topic, at least once.
    async fn dead_letter(&self, dead: &[DeadLetter]) -> Result<(), JobError> {
        if dead.is_empty() || planted::bug("archive-dead-letters-dropped") {
            return Ok(());
        }
        let dead = dead.get(usize::from(planted::bug("archive-dead-letters-cut"))..).unwrap_or_default();
        log_invalid(&Topics::from(self.settings.topic.as_str()), dead);
        Ok(Retry::WORKING.run("writing dead letters", async || self.dead_letters.dead_letter(dead).await).await?)
    }

    /// Checks that both folders are still ours. They may have been removed and re-created while the process was
    /// suspended.
    fn check_owned(&self, lineage: &str) -> Result<(), JobError> {
        if self.output.owner()?.is_some_and(|owner| owner.lineage == lineage) {
            return Ok(());
        }
        let output = self.output.path().display();
        Err(JobError::Unsafe(format!(
            "output_path {output} is no longer lineage {lineage}'s: somebody has exchanged or re-created it while this run was going on; start again"
        )))
    }

    /// Returns the settings in `offsets/N`. Recovery after a crash needs the column and the table's versions.
    fn conf(&self, partition_by: Option<String>) -> Result<BTreeMap<String, String>, JobError> {
        let limit = self.settings.limits.records.to_string();
        let mut conf = BTreeMap::from([("max_offsets_per_trigger".to_owned(), limit)]);
        conf.extend(partition_by.map(|column| (PARTITION_BY.to_owned(), column)));
        if let Some(believed) = &self.believed {
            let text = serde_json::to_string(&believed.versions);
            let text = text.map_err(|error| JobError::Internal(format!("the table's versions: {error}")))?;
            conf.insert(TABLE_VERSIONS.to_owned(), text);
        }
        Ok(conf)
    }

    /// Step 3 of [`Archive::close`]. A file that exists is kept. `encode` makes the bytes of the others.
    fn publish(
        &mut self,
        epoch: &Epoch<Plan>,
        mut encode: impl FnMut(&PlannedFile) -> Result<Option<Vec<u8>>, WriteError>,
    ) -> Result<(), JobError> {
        for planned in &epoch.body.files {
            let file = file_of(epoch, planned)?;
            if self.output.has(&file)? {
                continue;
            }
            let bytes = encode(planned).map_err(|error| JobError::Internal(format!("{}: {error}", file.name)))?;
            let bytes = bytes.ok_or_else(|| JobError::Internal(format!("the rows of {} are not there", file.name)))?;
            self.output.publish(&file, &bytes)?;
            self.counts.files += 1;
        }
        let dates: BTreeSet<names::Date> = epoch.body.files.iter().map(|file| file.date).collect();
        self.output.sync(&dates)?;
        fault::point("archive.published");
        Ok(())
    }

    /// Commits the group's offsets. The folder has them already, so an unreachable broker does not hold up the archive.
    async fn commit(&mut self, session: &mut Session) -> Result<(), JobError> {
        let Some((offsets, name)) = &session.uncommitted else { return Ok(()) };
        match self.source.commit(offsets, name).await {
            Ok(()) => {
                session.outage.is_over();
                session.uncommitted = None;
            }
            Err(error) if error.is_retried() => session.outage.goes_on(&error),
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    async fn commit_last(&mut self, session: &mut Session) -> Result<(), JobError> {
        if let Some((offsets, name)) = session.uncommitted.take() {
            Retry::WORKING
                .run("committing the group's offsets", async || self.source.commit(&offsets, &name).await)
                .await?;
        }
        Ok(())
    }
}

impl<S: Follow<Change = FullRowChange>, B: DeadLetterSink, T: Clock> Job for Archive<S, B, T> {
    type Source = S;

    fn source(&mut self) -> &mut S {
        &mut self.source
    }

    fn group(&self) -> String {
        self.settings.group.clone()
    }

    fn until_end(&self) -> bool {
        self.settings.until_end
    }

    async fn work(
        &mut self,
        partitions: &[i32],
        mut stop: Pin<&mut impl Future<Output = ()>>,
    ) -> Result<Ended, JobError> {
        let recovered = tokio::select! {
            recovered = self.recover(partitions) => recovered,
            // Wherever it is left, it is as after a crash.
            () = &mut stop => {
                let whole = self.folder.unfinished::<Plan>()?.is_empty();
                return if whole { Ok(Ended::Stopped) } else { Err(JobError::Cut) };
            }
        };
        self.work_on(&mut recovered?, stop).await
    }
}

/// The file of a planned entry.
fn file_of(epoch: &Epoch<Plan>, planned: &PlannedFile) -> Result<Found, JobError> {
    let name = open_batch::name_of(&epoch.lineage, &epoch.body, &epoch.offsets, planned);
    let name = name.ok_or_else(|| {
        JobError::Internal(format!(
            "epoch {} plans a file of partition {}, of which it has no range",
            epoch.number, planned.partition
        ))
    })?;
    Ok(Found { name, date: planned.date })
}

impl From<Unfit> for JobError {
    fn from(unfit: Unfit) -> Self {
        match unfit {
            Unfit::PartitionBy(problem) => ColumnsError::PartitionBy(problem).into(),
            Unfit::Row(_) => Self::Internal(unfit.to_string()),
        }
    }
}
