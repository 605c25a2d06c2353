//! Where an assignment goes on from: finding out, finishing what was begun, and reading again what may be half written.

use std::collections::{BTreeMap, BTreeSet};

use super::draft::{About, Draft, Limits, Take};
use super::names::{Owner, Plan, Range, ranges};
use super::output::Found;
use super::parquet;
use super::start::{self, Folder as FolderSays, Known, Start, Written};
use super::{Archive, PARTITION_BY, Session, file_of};
use crate::change::whole::WholeChange;
use crate::checkpoint::start::{Missing, Named};
use crate::checkpoint::{Committed, Epoch, FORMAT, Lineage, Marks, Offsets};
use crate::clock::Clock;
use crate::fault;
use crate::job::{self, JobError, patiently};
use crate::model::NextOffset;
use crate::sink::Bury;
use crate::source::{Event, Follow, Layers};

/// What to do where the topic no longer is what was archived.
const ANEW: &str = "to archive what is there now: an output_path, a checkpoint_dir and a group_id of their own";

impl<S: Follow<Change = WholeChange>, B: Bury, T: Clock> Archive<S, B, T> {
    /// Finds out where to go on from, finishes what was begun, and starts to read.
    pub(super) async fn recover(&mut self, partitions: &[i32]) -> Result<Session, JobError> {
        let layers = patiently(async || self.source.layers(partitions).await).await?;
        let group = job::committed(&layers.partitions);
        let known = self.known(group)?;
        let start = start::plan(&known);
        let output = self.output.path().display();
        tracing::info!(group = self.settings.group, plan = plan_text(&start), output = %output, "starting");
        self.check_cluster(known.written.owner.as_ref(), &layers)?;
        let mut session = match start {
            Start::Refuse(why) => return Err(JobError::Unsafe(format!("output_path {output}: {why}"))),
            Start::Fresh => {
                let from = job::first_offsets(&self.source, self.settings.start_at, &layers).await?;
                self.begin(job::new_lineage(), 0, from, &known, &layers)?
            }
            Start::From(offsets) => {
                let from = job::with_new_partitions(offsets, &layers);
                self.begin(job::new_lineage(), 0, from, &known, &layers)?
            }
            Start::Resume => self.resume(&known, &layers).await?,
            Start::Rebuild { lineage, epoch, again, next } => {
                self.rebuild(lineage, epoch, &again, next, &known, &layers).await?
            }
        };
        self.check_readable(session.draft.next(), &layers)?;
        if self.settings.until_end {
            session.ends = layers.partitions.iter().map(|p| (p.partition, p.high)).collect();
        }
        fault::point("archive.recovered");
        self.source.start(session.draft.next());
        Ok(session)
    }

    /// What the three layers say.
    fn known(&self, group: Option<Committed>) -> Result<Known, JobError> {
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
        if let (Some(lineage), Some(began)) = (&lineage, self.folder.source()?) {
            let newest = self.folder.newest_epoch::<Plan>()?;
            let named = group.as_ref().and_then(|group| Named::parse(&group.metadata));
            let named = match named.filter(|named| named.lineage == lineage.id) {
                Some(named) => self.folder.logged::<Plan>(named.epoch)?.map(|(_, crc)| crc),
                None => None,
            };
            folder = Some(FolderSays {
                lineage: lineage.id.clone(),
                newest: newest.as_ref().map(|epoch| epoch.number),
                next: newest.map_or(began, |epoch| epoch.offsets),
                named,
            });
        }
        let written = self.written(folder.as_ref())?;
        let missing = if self.settings.reprocess_without_group { Missing::Reprocess } else { Missing::Resume };
        let (group_id, topic) = (self.settings.group.clone(), self.settings.topic.clone());
        Ok(Known { group_id, topic, folder, written, group, missing })
    }

    /// What the names in the output tell.
    fn written(&self, folder: Option<&FolderSays>) -> Result<Written, JobError> {
        let owner = self.output.owner()?;
        let lineage = owner.as_ref().map(|owner| &owner.lineage).or(folder.map(|folder| &folder.lineage));
        let files = self.output.files()?;
        let mut written = Written { stranger: files.stranger, ..Written::default() };
        let mut newest: BTreeMap<i32, Found> = BTreeMap::new();
        for found in files.found {
            if Some(&found.name.lineage) != lineage {
                written.stranger.get_or_insert(format!("{}/{}", found.date.folder(), found.name));
                continue;
            }
            match newest.get(&found.name.partition) {
                Some(held) if held.name.range.to >= found.name.range.to => {}
                _ => drop(newest.insert(found.name.partition, found)),
            }
        }
        written.last = newest.iter().map(|(partition, found)| (*partition, found.name.range)).collect();
        if folder.is_none() || owner.is_none() {
            for found in newest.values() {
                let epoch = self.footer(found)?.get("tripline.epoch").and_then(|epoch| epoch.parse().ok());
                written.epoch = written.epoch.max(epoch);
            }
        }
        written.owner = owner;
        Ok(written)
    }

    /// What a file's footer says of it.
    fn footer(&self, found: &Found) -> Result<BTreeMap<String, String>, JobError> {
        let read = parquet::footer(&bytes::Bytes::from(self.output.read(found)?));
        let (path, name) = (self.output.path().display(), &found.name);
        let damaged = |problem: ::parquet::errors::ParquetError| {
            JobError::Unsafe(format!(
                "{path}/{}/{name} is damaged: {problem}; put it back from a copy, or take it out to have its rows written again",
                found.date.folder()
            ))
        };
        read.map(|footer| footer.about).map_err(damaged)
    }

    /// Offsets mean nothing in another cluster.
    fn check_cluster(&self, owner: Option<&Owner>, layers: &Layers) -> Result<(), JobError> {
        if let (Some(then), Some(now)) = (owner.and_then(|owner| owner.cluster.as_ref()), &layers.cluster)
            && then != now
        {
            let output = self.output.path().display();
            return Err(JobError::Unsafe(format!(
                "output_path {output} holds what was read in Kafka cluster {then}, and this is cluster {now}; {ANEW}"
            )));
        }
        Ok(())
    }

    fn check_readable(&self, from: &Offsets, layers: &Layers) -> Result<(), JobError> {
        job::check_readable(&self.settings.topic, from, &layers.partitions, ANEW)
    }

    /// A lineage comes into this folder, to begin with the epoch of this number.
    fn begin(
        &mut self,
        lineage: String,
        number: u64,
        from: Offsets,
        known: &Known,
        layers: &Layers,
    ) -> Result<Session, JobError> {
        self.check_readable(&from, layers)?;
        let (group, topic) = (self.settings.group.clone(), self.settings.topic.clone());
        let (cluster, origin) = (layers.cluster.clone(), known.group.clone());
        self.folder.begin(&Lineage { format: FORMAT, id: lineage.clone(), group, topic, cluster, origin })?;
        fault::point("archive.lineage");
        // Without it the folder counts for nothing: the output is not this lineage's yet.
        self.folder.set_source(&self.settings.topic, &from)?;
        fault::point("archive.source");
        let own = known.written.owner.as_ref().is_none_or(|owner| owner.lineage != lineage);
        if own {
            self.own(&lineage, &from, layers)?;
        }
        fault::point("archive.begun");
        Ok(self.session(lineage, number, from, Marks::new()))
    }

    fn own(&self, lineage: &str, start: &Offsets, layers: &Layers) -> Result<(), JobError> {
        let owner = Owner {
            lineage: lineage.to_owned(),
            group: self.settings.group.clone(),
            topic: self.settings.topic.clone(),
            cluster: layers.cluster.clone(),
            start: start.clone(),
        };
        Ok(self.output.own(&owner)?)
    }

    /// On from the folder. An epoch that was begun is finished as it was planned, whatever the settings are now.
    async fn resume(&mut self, known: &Known, layers: &Layers) -> Result<Session, JobError> {
        let missing = || JobError::Internal("the checkpoint folder has changed".to_owned());
        let folder = known.folder.as_ref().ok_or_else(missing)?;
        let newest = self.folder.newest_epoch::<Plan>()?;
        if let Some(newest) = &newest {
            let cluster = self.folder.lineage()?.and_then(|lineage| lineage.cluster);
            let place = self.folder.path().display().to_string();
            let known = (cluster.as_ref(), &newest.marks);
            job::check_same_topic(&self.source, &self.settings.topic, &place, known, layers, ANEW).await?;
        }
        let unfinished = self.folder.unfinished::<Plan>()?;
        if known.written.owner.is_none() {
            if let Some(epoch) = unfinished.first() {
                return Err(JobError::Unsafe(format!(
                    "epoch {} was begun in another output_path than {}: set it back for one run with --until-end, which finishes it",
                    epoch.number,
                    self.output.path().display()
                )));
            }
            self.own(&folder.lineage, &folder.next, layers)?;
        }
        let mut marks = Marks::new();
        for epoch in unfinished {
            // One before the newest has happened, else there would be none after it; only its mark was lost.
            if newest.as_ref().is_some_and(|newest| newest.number == epoch.number) {
                tracing::info!(epoch = epoch.number, "finishing what was begun before");
                self.finish(&epoch, layers).await?;
            }
            self.folder.finish(epoch.number)?;
            fault::point("archive.finished");
        }
        let number = newest.as_ref().map_or(0, |newest| newest.number.saturating_add(1));
        if let Some(newest) = newest {
            marks = newest.marks.clone();
            let name = self.name(&newest)?;
            let held = known.group.as_ref();
            if held.is_none_or(|group| group.metadata != name || group.offsets != newest.offsets) {
                if held.is_some_and(|group| Named::parse(&group.metadata).is_none()) {
                    tracing::warn!(
                        group = self.settings.group,
                        "the group's offsets were set by hand; the checkpoint folder decides, and what output_path has is not written again: the group is set back"
                    );
                }
                patiently(async || self.source.commit(&newest.offsets, &name).await).await?;
                fault::point("archive.committed");
            }
        }
        let next = job::with_new_partitions(folder.next.clone(), layers);
        Ok(self.session(folder.lineage.clone(), number, next, marks))
    }

    /// How the group's metadata names an epoch of the folder.
    fn name(&self, epoch: &Epoch<Plan>) -> Result<String, JobError> {
        let gone = || JobError::Internal(format!("epoch {} is gone from the checkpoint folder", epoch.number));
        let (_, crc) = self.folder.logged::<Plan>(epoch.number)?.ok_or_else(gone)?;
        Ok(Named { lineage: epoch.lineage.clone(), epoch: epoch.number, crc }.to_string())
    }

    /// Writes what is missing of an epoch that was logged.
    async fn finish(&mut self, epoch: &Epoch<Plan>, layers: &Layers) -> Result<(), JobError> {
        let mut missing = Vec::new();
        for planned in &epoch.body.files {
            if !self.output.has(&file_of(epoch, planned)?)? {
                missing.push(planned.clone());
            }
        }
        let mut draft = None;
        if !missing.is_empty() {
            let read = ranges(&epoch.body.from, &epoch.offsets);
            let wanted: BTreeSet<i32> = missing.iter().map(|file| file.partition).collect();
            let read = read.into_iter().filter(|(partition, _)| wanted.contains(partition)).collect();
            let partition_by = epoch.conf.get(PARTITION_BY).cloned();
            let again = self.read_again(epoch.number, &epoch.lineage, partition_by, &read, layers).await?;
            let found = again.plan().files;
            if let Some(lost) = missing.iter().find(|file| !found.contains(file)) {
                return Err(JobError::Unsafe(format!(
                    "epoch {} was to write {} rows of partition {} dated {}, and the topic no longer has these records: they were removed by retention before they were written; to go on without them, move {} away",
                    epoch.number,
                    lost.rows,
                    lost.partition,
                    lost.date,
                    self.folder.path().display()
                )));
            }
            draft = Some(again);
        }
        self.publish(epoch, draft.as_mut())
    }

    /// Goes on with a lineage that the folder does not hold, or holds an old copy of.
    async fn rebuild(
        &mut self,
        lineage: String,
        number: u64,
        again: &BTreeMap<i32, Range>,
        next: Offsets,
        known: &Known,
        layers: &Layers,
    ) -> Result<Session, JobError> {
        let next = job::with_new_partitions(next, layers);
        let mut from = next.clone();
        from.extend(again.iter().map(|(partition, range)| (*partition, range.from)));
        // Read before the folder is touched: it may not be possible.
        let partition_by = self.partition_by_of(&lineage, again)?;
        let draft = self.read_again(number, &lineage, partition_by.clone(), again, layers).await?;
        let mut session = self.begin(lineage, number, from.clone(), known, layers)?;
        if again.is_empty() {
            return Ok(session);
        }
        session.draft = draft;
        for (partition, next) in &next {
            session.draft.skip_to(*partition, *next);
        }
        session.draft.set_from(from);
        self.close(&mut session, partition_by).await?;
        Ok(session)
    }

    /// What the files of these ranges were dated by.
    fn partition_by_of(&self, lineage: &str, again: &BTreeMap<i32, Range>) -> Result<Option<String>, JobError> {
        let is_again = |found: &Found| {
            found.name.lineage == lineage && again.get(&found.name.partition) == Some(&found.name.range)
        };
        let Some(found) = self.output.files()?.found.into_iter().find(is_again) else { return Ok(None) };
        Ok(self.footer(&found)?.remove("tripline.partition_by").filter(|column| !column.is_empty()))
    }

    /// Reads ranges of the topic once more, beside the group.
    async fn read_again(
        &self,
        epoch: u64,
        lineage: &str,
        partition_by: Option<String>,
        read: &BTreeMap<i32, Range>,
        layers: &Layers,
    ) -> Result<Draft, JobError> {
        let about = self.about(lineage.to_owned(), epoch);
        let limits = Limits { records: usize::MAX, memory: usize::MAX, partition_by };
        let from: Offsets = read.iter().map(|(partition, range)| (*partition, range.from)).collect();
        let mut draft = Draft::new(about, limits, from.clone(), Marks::new());
        if read.is_empty() {
            return Ok(draft);
        }
        for layer in &layers.partitions {
            if let Some(range) = read.get(&layer.partition).filter(|range| range.from < layer.low) {
                return Err(JobError::Unsafe(format!(
                    "{} partition {}: offsets {} to {} may have been written in part, and {} is the first that the topic still has; if output_path has their rows, commit the group at {} and move the checkpoint folder away, else take their files out and do the same",
                    self.settings.topic,
                    layer.partition,
                    range.from.0,
                    range.to.0 - 1,
                    layer.low.0,
                    range.to.0,
                )));
            }
        }
        let mut left: BTreeSet<i32> = read.keys().copied().collect();
        let mut reader = self.source.alone(left.iter().copied().collect())?;
        while !left.is_empty() {
            match reader.next().await {
                Event::Assigned(_) => reader.start(&from),
                Event::Batch(batch) => {
                    for record in batch.records {
                        let partition = record.position.partition;
                        let Some(range) = read.get(&partition).filter(|_| left.contains(&partition)) else { continue };
                        let next = NextOffset::after(record.position.offset);
                        if next <= range.to
                            && let Take::Full(record) = draft.take(record)?
                        {
                            return Err(JobError::Internal(format!(
                                "offset {} of partition {partition} does not go with the rows before it",
                                record.position.offset
                            )));
                        }
                        if next >= range.to {
                            left.remove(&partition);
                        }
                    }
                    left.retain(|partition| !batch.ended.contains(partition));
                }
                Event::Revoked => {}
                Event::Failed(error) => return Err(error.into()),
            }
        }
        reader.close().await;
        for (partition, range) in read {
            draft.skip_to(*partition, range.to);
        }
        Ok(draft)
    }

    fn session(&self, lineage: String, number: u64, from: Offsets, marks: Marks) -> Session {
        let limits = self.settings.limits.clone();
        Session::new(Draft::new(self.about(lineage, number), limits, from, marks))
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
