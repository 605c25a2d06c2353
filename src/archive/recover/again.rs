//! Reads a range again, to write the files that are missing.

use std::time::Duration;

use tokio::time::Instant;

use super::REREAD;
use crate::archive::Archive;
use crate::archive::names::{PlannedFile, Range};
use crate::archive::open_batch::{Limits, OpenBatch, Take, about};
use crate::archive::output::Found as File;
use crate::change::full_row::FullRowChange;
use crate::change::record::{Content, SourceRecord};
use crate::clock::Clock;
use crate::job::JobError;
use crate::progress::checks::{Found, Mismatch};
use crate::progress::{Offsets, TopicState};
use crate::sink::DeadLetterSink;
use crate::source::{Event, Follow};

/// How long a partition has to be at its end before the offsets between the last record and the end of a range count as
/// empty. A broker that has just taken over may report an earlier end for a moment.
const END_HOLDS: Duration = Duration::from_secs(2);

impl<S: Follow<Change = FullRowChange>, B: DeadLetterSink, T: Clock> Archive<S, B, T> {
    /// Collects the rows of a range that has files already, as the batch that follows `before`. Returns also the column
    /// for their dates. For each date, the number of rows must be the same as in the files.
    pub(super) async fn write_again(
        &self,
        before: &OpenBatch,
        partition: i32,
        range: Range,
        files: &[File],
        state: &TopicState,
    ) -> Result<(OpenBatch, Option<String>), JobError> {
        let mut partition_by = None;
        let mut written = Vec::new();
        for file in files {
            let mut footer = self.footer(file)?;
            partition_by = footer.about.remove(about::PARTITION_BY).filter(|column| !column.is_empty());
            written.push(PlannedFile { date: file.date, partition, rows: footer.rows });
        }
        let limits = Limits::none(partition_by.clone());
        let batch =
            OpenBatch::new(before.about().clone(), limits, before.next().clone(), before.last_records().clone());
        let batch = self.read_again(batch, partition, range, state).await?;
        let planned = batch.plan().files;
        match written.iter().find(|file| !planned.contains(file)) {
            None => Ok((batch, partition_by)),
            Some(file) => {
                let found = planned.iter().find(|other| other.date == file.date).map_or(0, |other| other.rows);
                Err(self.reads_otherwise(file, found, range, state))
            }
        }
    }

    /// Reads a range of the topic into a batch again, without joining the group.
    pub(super) async fn read_again(
        &self,
        mut batch: OpenBatch,
        partition: i32,
        range: Range,
        state: &TopicState,
    ) -> Result<OpenBatch, JobError> {
        let Some(layer) = state.partitions.iter().find(|layer| layer.partition == partition) else {
            let found = Found::NoPartition;
            return Err(self.stop(&Mismatch::Recreated { partition, offset: range.to.0 - 1, found }, ""));
        };
        if range.to > layer.high {
            let found = Found::End(layer.high);
            return Err(self.stop(&Mismatch::Recreated { partition, offset: range.to.0 - 1, found }, ""));
        }
        // If some of the records have been deleted, the counts show whether they are needed.
        let from = Offsets::from([(partition, range.from.max(layer.low))]);
        let mut reader = self.source.open_without_group(vec![partition])?;
        let mut ended: Option<Instant> = None;
        let done = loop {
            let event = tokio::select! {
                event = reader.next() => event,
                () = tokio::time::sleep(END_HOLDS), if ended.is_some_and(|since| since.elapsed() < END_HOLDS) => continue,
                () = std::future::ready(()), if ended.is_some_and(|since| since.elapsed() >= END_HOLDS) => break Ok(()),
            };
            match event {
                Event::Assigned(_) => reader.start(&from),
                Event::Batch(polled) => {
                    if !polled.records.is_empty() {
                        ended = None;
                    }
                    match self.take_again(&mut batch, polled.records, range) {
                        Ok(true) => break Ok(()),
                        Ok(false) => {}
                        Err(error) => break Err(error),
                    }
                    if polled.ended.contains(&partition) {
                        ended = Some(Instant::now());
                    }
                }
                Event::Revoked => {}
                Event::Failed(error) => break Err(error.into()),
            }
        };
        reader.close().await;
        done?;
        batch.skip_to(partition, range.to);
        Ok(batch)
    }

    /// Takes records of the range. Returns whether its end has been reached.
    fn take_again(
        &self,
        batch: &mut OpenBatch,
        records: Vec<SourceRecord<FullRowChange>>,
        range: Range,
    ) -> Result<bool, JobError> {
        for mut record in records {
            let (partition, offset) = (record.position.partition, record.position.offset);
            if offset >= range.to.0 {
                return Ok(true);
            }
            if let Some(error) = self.columns_missing(&record) {
                return Err(error);
            }
            if let Content::Rejected(_) = record.content {
                record.content = Content::Ignored("it is on the dead-letter topic already");
            }
            let place = || format!("{} partition {partition} offset {offset}", self.settings.topic);
            match batch.take(record) {
                Ok(Take::Taken) => {}
                Ok(Take::Full(_)) => {
                    return Err(JobError::Unsafe(format!(
                        "{} was archived in one file with those before it, and does not go with them any more: its columns, or [source], are others than when that was begun; set them back for one run with --until-end",
                        place()
                    )));
                }
                Err(unfit) => {
                    return Err(JobError::Unsafe(format!(
                        "{} belongs to what was begun with other settings, and cannot be finished with them: {unfit}. To write it by the present ones: move the files part-{partition:05}-{:020}-… out of all date folders, and the checkpoint folder {} away",
                        place(),
                        range.from.0,
                        self.folder.path().display()
                    )));
                }
            }
            if offset.saturating_add(1) >= range.to.0 {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The error for a range whose records now give other rows than before, or are gone.
    pub(super) fn reads_otherwise(&self, file: &PlannedFile, found: u64, range: Range, state: &TopicState) -> JobError {
        let PlannedFile { partition, date, rows } = file;
        let low = state.partitions.iter().find(|layer| layer.partition == *partition).map_or(range.from, |p| p.low);
        let (topic, first, last) = (&self.settings.topic, range.from.0, range.to.0 - 1);
        JobError::Unsafe(if range.from < low {
            format!(
                "{topic} partition {partition}: the offsets {first} to {last} make {rows} rows dated {date}, and {found} of them are still in the topic, which begins at {} now: retention has removed the others before it was certain that all files of these offsets had been written; {REREAD}",
                low.0
            )
        } else {
            format!(
                "{topic} partition {partition}: the offsets {first} to {last} made {rows} rows dated {date}, and make {found} now: a column they are dated by, or [source], was changed in the middle of an epoch; set it back for one run with --until-end; or, where the topic is compacted, records are gone: {REREAD}"
            )
        })
    }
}
