//! The beginning of an assignment: determines where to continue, finishes an unfinished epoch, and continues what
//! another folder began.
//!
//! - this file: determines where to continue, and continues
//! - [`again`]: reads ranges again that may be written in part

mod again;

use crate::progress::checks::{self, Advice, Mismatch};
use crate::retry::Retry;
use std::cmp::Ordering;
use std::collections::BTreeMap;

use super::names::{Owner, Plan, PlannedFile, Range, ranges};
use super::open_batch::{About, Limits, OpenBatch, about};
use super::output::{Entry, Found as File};
use super::parquet::{self, Footer};
use super::start::{self, Folder as FolderSays, Known, Missing, Start, Written};
use super::{Archive, PARTITION_BY, Session, file_of};
use crate::change::full_row::FullRowChange;
use crate::checkpoint::{FORMAT, Lineage};
use crate::clock::Clock;
use crate::fault;
use crate::job::start::{check_same_topic, first_offsets};
use crate::job::{self, JobError};
use crate::planted;
use crate::progress::{Committed, Epoch, EpochRef, LastRecords, Offsets, TopicState, Topics};
use crate::sink::DeadLetterSink;
use crate::source::Follow;

/// What to do if the topic is no longer the one that was archived.
const ADVICE: Advice = Advice { cluster: REREAD, reread: REREAD };
const REREAD: &str = "to archive what is there now: an output_path apart from this one, a checkpoint_dir and a group_id of their own, and starting_offsets = \"earliest\"";

/// The state that was found at start.
struct Found {
    known: Known,
    /// The files of each partition's last range.
    last: BTreeMap<i32, Vec<File>>,
    /// The last record of each partition by the folder or, where the folder does not decide, by a file.
    last_records: LastRecords,
}

impl<S: Follow<Change = FullRowChange>, B: DeadLetterSink, T: Clock> Archive<S, B, T> {
    /// Determines where to continue, finishes an unfinished epoch, and begins to read.
    pub(super) async fn recover(&mut self, partitions: &[i32]) -> Result<Session, JobError> {
        let what = "asking for the group's offsets";
        let topic = Retry::WORKING.run(what, async || self.source.topic_state(partitions).await).await?;
        let group = Committed::of(&topic.partitions);
        let found = self.find(group)?;
        let start = start::plan(&found.known);
        let output = self.output.path().display();
        tracing::info!(group = self.settings.group, plan = plan_text(&start), output = %output, "starting");
        let known = &found.known;
        let mut session = match start {
            Start::Refuse(why) => return Err(JobError::Unsafe(format!("output_path {output}: {why}"))),
            Start::Fresh => {
                let from = first_offsets(&self.source, self.settings.start_at, &topic).await?;
                self.begin(job::new_lineage(), 0, from, LastRecords::new(), known, &topic).await?
            }
            Start::From(offsets) => {
                let from = topic.with_new_partitions(offsets);
                self.check_readable(&from, &topic)?;
                self.begin(job::new_lineage(), 0, from, LastRecords::new(), known, &topic).await?
            }
            Start::Resume => {
                self.check_cluster(known.written.owner.as_ref(), &topic)?;
                self.resume(known, &topic).await?
            }
            Start::Rebuild { lineage, epoch, again, next } => {
                self.check_cluster(known.written.owner.as_ref(), &topic)?;
                self.rebuild(lineage, epoch, &again, next, &found, &topic).await?
            }
        };
        self.check_readable(session.batch.next(), &topic)?;
        session.ends = topic.partitions.iter().map(|p| (p.partition, p.high)).collect();
        fault::point("archive.recovered");
        self.source.start(session.batch.next());
        Ok(session)
    }

    /// Collects the states of folder, output and group.
    fn find(&self, group: Option<Committed>) -> Result<Found, JobError> {
        let lineage = self.folder.lineage()?;
        if let Some(lineage) = &lineage
            && (lineage.group != self.settings.group || lineage.topic != self.settings.topic)
        {
            return Err(JobError::Unsafe(format!(
                "checkpoint_dir {} holds the progress of group {} in topic {}: give group {} in topic {} one of its own",
                self.folder.path().display(),
                lineage.group,
                lineage.topic,
                self.settings.group,
                self.settings.topic
            )));
        }
        let mut folder = None;
        let mut last_records = LastRecords::new();
        if let (Some(lineage), Some(began)) = (&lineage, self.folder.source()?) {
            let newest = self.folder.newest_epoch::<Plan>()?;
            let named = group.as_ref().and_then(|group| EpochRef::parse(&group.metadata));
            let named = match named.filter(|named| named.lineage == lineage.id) {
                Some(named) => self.folder.logged::<Plan>(named.epoch)?.map(|(_, crc)| crc),
                None => None,
            };
            let number = newest.as_ref().map(|epoch| epoch.number);
            let (next, from) = match newest {
                Some(newest) => {
                    last_records = newest.last_records;
                    (newest.offsets, Some(newest.body.from))
                }
                None => (began, None),
            };
            folder = Some(FolderSays { lineage: lineage.id.clone(), newest: number, from, next, named });
        }
        let (written, last) = self.written(folder.as_ref(), &mut last_records)?;
        let missing = if self.settings.reprocess_without_group { Missing::Reprocess } else { Missing::Resume };
        let (group_id, topic) = (self.settings.group.clone(), self.settings.topic.clone());
        Ok(Found { known: Known { group_id, topic, folder, written, group, missing }, last, last_records })
    }

    /// Reads the names in the output, and finds the files of each partition's last range. Where the folder does not
    /// decide, the footers of these files give the epoch and the last record as well.
    fn written(
        &self,
        folder: Option<&FolderSays>,
        last_records: &mut LastRecords,
    ) -> Result<(Written, BTreeMap<i32, Vec<File>>), JobError> {
        let owner = self.output.owner()?;
        let lineage = owner.as_ref().map(|owner| &owner.lineage).or(folder.map(|folder| &folder.lineage));
        let mut written = Written::default();
        let mut last: BTreeMap<i32, Vec<File>> = BTreeMap::new();
        self.output.each(|entry| match entry {
            Entry::File(file) if Some(&file.name.lineage) == lineage => {
                let held = last.entry(file.name.partition).or_default();
                match held.first().map(|first| first.name.range.to.cmp(&file.name.range.to)) {
                    Some(Ordering::Greater) => {}
                    Some(Ordering::Equal) => held.push(file),
                    Some(Ordering::Less) | None => *held = vec![file],
                }
            }
            Entry::File(file) => {
                written.stranger.get_or_insert(format!("{}/{}", file.date.folder(), file.name));
            }
            Entry::Stranger(path) => {
                written.stranger.get_or_insert(path);
            }
        })?;
        let first = |(partition, files): (&i32, &Vec<File>)| Some((*partition, files.first()?.name.range));
        written.last = last.iter().filter_map(first).collect();
        if folder.is_none() || owner.is_none() {
            for file in last.values().flatten() {
                match self.footer(file) {
                    Ok(footer) => {
                        let epoch = footer.about.get(about::EPOCH).and_then(|epoch| epoch.parse().ok());
                        written.epoch = written.epoch.max(epoch);
                        let mark = footer.about.get(about::MARK).and_then(|mark| serde_json::from_str(mark).ok());
                        last_records.extend(mark.map(|mark| (file.name.partition, mark)));
                    }
                    // The rows of this file are not needed here.
                    Err(error) => tracing::warn!(%error, "passed over"),
                }
            }
        }
        written.owner = owner;
        Ok((written, last))
    }

    /// Reads the metadata in a file's footer.
    fn footer(&self, file: &File) -> Result<Footer, JobError> {
        let damaged = |problem: ::parquet::errors::ParquetError| {
            JobError::Unsafe(format!(
                "{}/{}/{} is damaged: {problem}; put it back from a copy",
                self.output.path().display(),
                file.date.folder(),
                file.name
            ))
        };
        parquet::footer(&bytes::Bytes::from(self.output.read(file)?)).map_err(damaged)
    }

    /// Checks that the cluster is the same: offsets have no meaning in another one.
    fn check_cluster(&self, owner: Option<&Owner>, topic: &TopicState) -> Result<(), JobError> {
        let then = owner.and_then(|owner| owner.cluster.as_ref());
        let place = format!("output_path {}", self.output.path().display());
        checks::same_cluster(then, topic.cluster.as_ref()).map_err(|mismatch| self.stop(&mismatch, &place))
    }

    pub(super) fn stop(&self, mismatch: &Mismatch, place: &str) -> JobError {
        JobError::Unsafe(mismatch.text(&Topics::from(self.settings.topic.as_str()), place, ADVICE))
    }

    /// Checks that the topic was not deleted and re-created: offsets have no meaning in the new one either.
    async fn check_same_topic(
        &self,
        place: &str,
        cluster: Option<&String>,
        last_records: &LastRecords,
        topic: &TopicState,
    ) -> Result<(), JobError> {
        check_same_topic(&self.source, &self.settings.topic, place, (cluster, last_records), topic, ADVICE).await
    }

    fn check_readable(&self, from: &Offsets, topic: &TopicState) -> Result<(), JobError> {
        checks::readable(from, topic).map_err(|mismatch| self.stop(&mismatch, ""))
    }

    /// Begins a lineage in this folder. Its start is an epoch without a file, which the group gets at once.
    async fn begin(
        &mut self,
        lineage: String,
        number: u64,
        from: Offsets,
        last_records: LastRecords,
        known: &Known,
        topic: &TopicState,
    ) -> Result<Session, JobError> {
        let (group, name) = (self.settings.group.clone(), self.settings.topic.clone());
        let (cluster, origin) = (topic.cluster.clone(), known.group.clone());
        let record = Lineage { format: FORMAT, id: lineage.clone(), group, topic: name, cluster, origin };
        self.folder.begin(&record)?;
        fault::point("archive.lineage");
        if known.written.owner.as_ref().is_none_or(|owner| owner.lineage != lineage) {
            self.own(&lineage, &from, topic)?;
        }
        fault::point("archive.owned");
        // Without it the folder counts for nothing, and the output decides.
        self.folder.set_source(&self.settings.topic, &from)?;
        fault::point("archive.begun");
        let mut session = self.session(lineage, number, from, last_records);
        self.epoch(&mut session, None).await?;
        Ok(session)
    }

    fn own(&self, lineage: &str, start: &Offsets, topic: &TopicState) -> Result<(), JobError> {
        let owner = Owner {
            lineage: lineage.to_owned(),
            group: self.settings.group.clone(),
            topic: self.settings.topic.clone(),
            cluster: topic.cluster.clone(),
            start: start.clone(),
        };
        Ok(self.output.own(&owner)?)
    }

    /// Continues from the folder. An unfinished epoch is finished as it was planned, without regard to the current
    /// settings.
    async fn resume(&mut self, known: &Known, topic: &TopicState) -> Result<Session, JobError> {
        let missing = || JobError::Internal("the checkpoint folder has changed".to_owned());
        let folder = known.folder.as_ref().ok_or_else(missing)?;
        let newest = self.folder.newest_epoch::<Plan>()?;
        if let Some(newest) = &newest {
            let cluster = self.folder.lineage()?.and_then(|lineage| lineage.cluster);
            let place = self.folder.path().display().to_string();
            self.check_same_topic(&place, cluster.as_ref(), &newest.last_records, topic).await?;
        }
        let unfinished = self.folder.unfinished::<Plan>()?;
        let name = newest.as_ref().map(|newest| self.name(newest)).transpose()?;
        // The group names the epoch only after all its files were written.
        let told = known.group.as_ref().is_some_and(|group| Some(&group.metadata) == name.as_ref());
        if known.written.owner.is_none() {
            // The output has files of this lineage. Otherwise the start would have been refused.
            let begun = unfinished.last().filter(|epoch| !told && !epoch.body.files.is_empty());
            let start = begun.map_or(&folder.next, |epoch| &epoch.body.from);
            self.own(&folder.lineage, start, topic)?;
        }
        for epoch in unfinished {
            // An epoch before the newest was finished, or there would be none after it. Only its entry in `commits` was
            // lost.
            let last = newest.as_ref().is_some_and(|newest| newest.number == epoch.number);
            if last && !told && !planted::bug("archive-not-finished") {
                tracing::info!(epoch = epoch.number, "finishing what was begun before");
                self.finish(&epoch, topic).await?;
            }
            self.folder.finish(epoch.number)?;
            fault::point("archive.finished");
        }
        let number = newest.as_ref().map_or(0, |newest| newest.number.saturating_add(1));
        let mut last_records = LastRecords::new();
        if let (Some(newest), Some(name)) = (newest, name) {
            let held = known.group.as_ref();
            if !told || held.is_none_or(|group| group.offsets != newest.offsets) {
                if held
                    .is_some_and(|group| EpochRef::parse(&group.metadata).is_none_or(|n| n.lineage != newest.lineage))
                {
                    tracing::warn!(
                        group = self.settings.group,
                        "the group's offsets were set by hand; the checkpoint folder decides, and what output_path has is not written again: the group is set back"
                    );
                }
                Retry::WORKING
                    .run("committing the group's offsets", async || self.source.commit(&newest.offsets, &name).await)
                    .await?;
                fault::point("archive.committed");
            }
            last_records = newest.last_records;
        }
        let next = topic.with_new_partitions(folder.next.clone());
        Ok(self.session(folder.lineage.clone(), number, next, last_records))
    }

    /// The name of an epoch of the folder in the group's metadata.
    fn name(&self, epoch: &Epoch<Plan>) -> Result<String, JobError> {
        let gone = || JobError::Internal(format!("epoch {} is gone from the checkpoint folder", epoch.number));
        let (_, crc) = self.folder.logged::<Plan>(epoch.number)?.ok_or_else(gone)?;
        Ok(EpochRef { lineage: epoch.lineage.clone(), epoch: epoch.number, crc }.to_string())
    }

    /// Writes the missing files of a logged epoch.
    async fn finish(&mut self, epoch: &Epoch<Plan>, topic: &TopicState) -> Result<(), JobError> {
        let mut missing = Vec::new();
        for planned in &epoch.body.files {
            if !self.output.has(&file_of(epoch, planned)?)? {
                missing.push(planned.clone());
            }
        }
        if planted::bug("archive-part-taken-for-all") && missing.len() < epoch.body.files.len() {
            return Ok(());
        }
        let mut batches = BTreeMap::new();
        for (partition, range) in ranges(&epoch.body.from, &epoch.offsets) {
            let missing: Vec<&PlannedFile> = missing.iter().filter(|file| file.partition == partition).collect();
            if missing.is_empty() {
                continue;
            }
            let mut limits = Limits::none(epoch.conf.get(PARTITION_BY).cloned());
            if planted::bug("archive-settings-of-now") {
                limits.partition_by.clone_from(&self.settings.limits.partition_by);
            }
            let about = self.about(epoch.lineage.clone(), epoch.number);
            let from = Offsets::from([(partition, range.from)]);
            let again = OpenBatch::new(about, limits, from, LastRecords::new());
            let again = self.read_again(again, partition, range, topic).await?;
            let found = again.plan().files;
            if let Some(file) = missing.iter().find(|file| !found.contains(file)) {
                let rows = found.iter().find(|other| other.date == file.date).map_or(0, |other| other.rows);
                return Err(self.reads_otherwise(file, rows, range, topic));
            }
            batches.insert(partition, again);
        }
        self.publish(epoch, |planned| {
            batches.get_mut(&planned.partition).map_or(Ok(None), |batch: &mut OpenBatch| batch.encode(planned))
        })
    }

    /// Continues a lineage that the folder does not have, or has only as an old copy. Each range that may be written in
    /// part becomes an epoch.
    async fn rebuild(
        &mut self,
        lineage: String,
        number: u64,
        again: &BTreeMap<i32, Range>,
        next: Offsets,
        found: &Found,
        topic: &TopicState,
    ) -> Result<Session, JobError> {
        let output = self.output.path().display();
        let next = topic.with_new_partitions(next);
        self.check_same_topic(&format!("output_path {output}"), None, &found.last_records, topic).await?;
        self.check_readable(&next, topic)?;
        let mut from = next;
        from.extend(again.iter().map(|(partition, range)| (*partition, range.from)));
        let files = |partition| found.last.get(partition).map(Vec::as_slice).unwrap_or_default();
        // First only to see that it is possible, before the folder is touched. The rows of all partitions at once could
        // be too many to be kept meanwhile.
        let blank = self.session(lineage.clone(), number, from.clone(), LastRecords::new()).batch;
        for (partition, range) in again {
            drop(self.write_again(&blank, *partition, *range, files(partition), topic).await?);
        }
        let mut session = self.begin(lineage, number, from, found.last_records.clone(), &found.known, topic).await?;
        for (partition, range) in again {
            let again = self.write_again(&session.batch, *partition, *range, files(partition), topic).await?;
            session.batch = again.0;
            self.close(&mut session, again.1).await?;
        }
        Ok(session)
    }

    fn session(&self, lineage: String, number: u64, from: Offsets, last_records: LastRecords) -> Session {
        let limits = self.settings.limits.clone();
        Session::new(OpenBatch::new(self.about(lineage, number), limits, from, last_records))
    }

    fn about(&self, lineage: String, epoch: u64) -> About {
        About { lineage, epoch, group: self.settings.group.clone(), topic: self.settings.topic.clone() }
    }
}

fn plan_text(start: &Start) -> &'static str {
    match start {
        Start::Fresh => "nothing is known of this group: from starting_offsets",
        Start::From(_) => "from the group's offsets, into an output_path of its own",
        Start::Resume => "on from the checkpoint folder",
        Start::Rebuild { .. } => {
            "the checkpoint folder is missing, or behind: on from what output_path and the group have"
        }
        Start::Refuse(_) => "not at all",
    }
}
