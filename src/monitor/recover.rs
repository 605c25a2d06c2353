//! Where an assignment goes on from: the folder, the group, the backup in Kafka, and what has to be read again.

use super::epoch::{complete, progress_of, publish, recommit, tell};
use super::{Monitor, Session};
use crate::change::Change;
use crate::checkpoint::start::{self, Logged, Missing, Named, Start};
use crate::checkpoint::{Committed, Epoch, FORMAT, Lineage, Marks, Offsets};
use crate::clock::Clock;
use crate::confirm::Confirm;
use crate::confirm::rows::TableRow;
use crate::fault;
use crate::job::{self, ASK_AGAIN, Advice, JobError, new_lineage, patiently, retry, with_new_partitions};
use crate::model::Timestamp;
use crate::sink::Sinks;
use crate::source::{Layers, PartitionState, Source};
use crate::unit::backup::{Backup, EpisodeRecord, Progress};
use crate::unit::stored::Decisions;
use crate::unit::{Counts, Unit};

/// What to do where a topic is not what was read before.
const ADVICE: Advice = Advice {
    cluster: "use a new group id, or move the folder away to go by what the group has committed here",
    anew: "tripline offsets reset --to-earliest --execute, or a new group id",
};

impl<S: Source<Change = Change>, C: Confirm, K: Sinks<Member = S::Member>, T: Clock> Monitor<S, C, K, T> {
    /// Shuts out whoever worked before, finds out where to go on from, completes what was logged and starts to read.
    /// Whatever is not in the folder's state is rebuilt by reading again, without judging; then every group is judged
    /// once.
    pub(super) async fn recover(&mut self, partitions: &[i32], counts: Counts) -> Result<Session, JobError> {
        let settings = self.settings.clone();
        // Only what is read after this can be believed: a transaction may have been under way.
        retry("fencing", async || self.sinks.fence().await).await?;
        fault::point("fenced");
        let layers = patiently(async || self.source.layers(partitions).await).await?;
        let mut unit = Unit::new(&settings.group, &settings.topic, self.rules.clone(), &self.wanted)
            .map_err(JobError::Internal)?;
        unit.carry = settings.carry_episodes;
        unit.counts = counts.clone();
        let newest = self.folder.newest_epoch::<Decisions>()?;
        if let Some(newest) = &newest {
            self.clock.not_before(newest.at);
        }
        let mut backup = None;
        let mut group = job::committed(&layers.partitions);
        if group.is_none() {
            let known = self.backup().await?;
            group = self.expired(known.progress.as_ref(), self.clock.now()).await;
            backup = Some(known);
        }
        let plan = self.plan(newest.as_ref(), group.as_ref())?;
        tracing::info!(group = settings.group, plan = plan_text(&plan), "starting");
        if let (false, Some(newest), Some(lineage)) =
            (matches!(plan, Start::Rebuild(..) | Start::Moved(_)), &newest, self.folder.lineage()?)
        {
            self.check_same_topic(lineage.cluster.as_ref(), &newest.marks, &layers).await?;
        }
        let mut session = match plan {
            Start::Resume(committed) => self.resume(unit, &layers, committed).await?,
            Start::Rebuild(named, offsets) => {
                let known = match backup {
                    Some(known) => known,
                    None => self.backup().await?,
                };
                let progress = self.progress_named(known.progress.as_ref(), &named)?;
                self.check_same_topic(progress.cluster.as_ref(), &progress.marks, &layers).await?;
                self.clock.not_before(progress.at);
                self.recall(&mut unit, &named, &known.episodes).await?;
                let from = with_new_partitions(offsets, &layers);
                let (lineage, marks) = (named.lineage, progress.marks.clone());
                self.begin(unit, lineage, named.epoch + 1, from, marks, &layers, group).await?
            }
            Start::Fresh | Start::Reprocess | Start::Moved(_) => {
                let from = match plan {
                    Start::Moved(offsets) => with_new_partitions(offsets, &layers),
                    _ => job::first_offsets(&self.source, settings.start_at, &layers).await?,
                };
                self.leave_behind().await?;
                self.begin(unit, new_lineage(), 0, from, Marks::new(), &layers, group).await?
            }
        };
        session.counts = counts;
        if settings.until_end {
            session.ends = layers.partitions.iter().map(|p| (p.partition, p.high)).collect();
        }
        self.fill(&mut session, partitions, &layers).await?;
        session.rebuild.retain(|partition, end| session.unit.offsets().get(partition) < Some(&*end));
        if session.rebuild.is_empty() {
            session.unit.judge_all(self.clock.now());
        }
        fault::point("recovered");
        self.source.start(session.unit.offsets());
        Ok(session)
    }

    async fn check_same_topic(&self, cluster: Option<&String>, marks: &Marks, layers: &Layers) -> Result<(), JobError> {
        let place = self.folder.path().display().to_string();
        let known = (cluster, marks);
        job::check_same_topic(&self.source, &self.settings.topic, &place, known, layers, ADVICE).await
    }

    /// Holds the two layers against each other.
    fn plan(&self, newest: Option<&Epoch<Decisions>>, group: Option<&Committed>) -> Result<Start, JobError> {
        let missing = if self.settings.resume_without_group { Missing::Resume } else { Missing::Reprocess };
        // Without an epoch the lineage has had no effect yet.
        let (Some(lineage), Some(newest)) = (self.folder.lineage()?, newest) else {
            return Ok(start::plan(None, group, missing));
        };
        if lineage.topic != self.settings.topic {
            return Err(JobError::Unsafe(format!(
                "{} holds the progress of topic {}, not {}: use another group id or checkpoint.dir",
                self.folder.path().display(),
                lineage.topic,
                self.settings.topic
            )));
        }
        let named = group.and_then(|group| Named::parse(&group.metadata)).filter(|named| named.lineage == lineage.id);
        let named = match named {
            Some(named) => self.folder.logged::<Decisions>(named.epoch)?.map(|(epoch, crc)| (crc, epoch.offsets)),
            None => None,
        };
        let first = self.folder.oldest_epoch()? == Some(newest.number);
        let beginning = first && !self.folder.is_finished(newest.number)?;
        let logged = Logged { lineage: lineage.id, origin: lineage.origin, beginning, named };
        Ok(start::plan(Some(&logged), group, missing))
    }

    /// The group has no offsets. If they have expired rather than been deleted, or are to be taken for it: what they
    /// were, from the backup.
    async fn expired(&self, progress: Option<&Progress>, now: Timestamp) -> Option<Committed> {
        let progress = progress.filter(|progress| progress.topic == self.settings.topic)?;
        let old = now.0.saturating_sub(progress.at.0);
        let kept = self.source.offsets_kept_for().await;
        if !self.settings.resume_without_group && kept.is_none_or(|kept| old < super::micros(kept)) {
            return None;
        }
        tracing::warn!(
            group = self.settings.group,
            last_commit = progress.at.rfc3339(),
            "the group has no offsets; they are taken for expired, so it goes on from where it was; to read everything again, use a new group id"
        );
        Some(progress.committed())
    }

    async fn backup(&mut self) -> Result<Backup, JobError> {
        retry("reading the backup", async || self.sinks.backup().await).await
    }

    /// The backup's progress, if it is that of the group's own offsets: otherwise the episodes in it may be old.
    fn progress_named<'a>(&self, found: Option<&'a Progress>, named: &Named) -> Result<&'a Progress, JobError> {
        let name = named.to_string();
        found.filter(|progress| progress.name == name).ok_or_else(|| {
            let found = found.map_or("nothing of this group", |progress| progress.name.as_str());
            JobError::Unsafe(format!(
                "the checkpoint folder {} does not have epoch {name}, which group {} has committed, and the topic of episodes (checkpoint.episodes_topic), from which it could go on, has {found}: put the folder back, or go on as a new lineage, which tells anew what is over its threshold: tripline offsets reset --shift-by 0 --execute",
                self.folder.path().display(),
                self.settings.group,
            ))
        })
    }

    /// The lineage in the folder ends here. What Kafka has of it the table and the log get as well.
    async fn leave_behind(&mut self) -> Result<(), JobError> {
        let unfinished = self.folder.unfinished::<Decisions>()?;
        if unfinished.iter().all(|epoch| epoch.body.alerts.is_empty()) {
            return Ok(());
        }
        let newest = self.backup().await?.progress.and_then(|progress| progress.named());
        for epoch in unfinished {
            if newest.as_ref().is_some_and(|newest| newest.lineage == epoch.lineage && newest.epoch >= epoch.number) {
                tell(&mut self.sinks, &self.folder, &epoch).await?;
            } else {
                let alerts = epoch.body.alerts.len();
                tracing::warn!(
                    epoch = epoch.number,
                    alerts,
                    "was logged and not committed: it is left behind with its lineage"
                );
            }
        }
        Ok(())
    }

    /// The episodes of a lineage whose folder is not here, from Kafka. Alerts of its newest epoch may have reached Kafka
    /// and nothing else.
    async fn recall(&mut self, unit: &mut Unit, named: &Named, episodes: &[EpisodeRecord]) -> Result<(), JobError> {
        let mine = || episodes.iter().filter(|record| record.lineage == named.lineage);
        let newest = mine().filter(|record| record.epoch == named.epoch);
        let alerts: Vec<_> = newest.flat_map(|record| record.alerts.iter().cloned()).collect();
        if !alerts.is_empty() {
            retry("alerts", async || self.sinks.tell(&alerts).await).await?;
        }
        unit.recall(mine().filter_map(EpisodeRecord::open));
        fault::point("recalled");
        Ok(())
    }

    /// A lineage comes into this folder: its start is an epoch, committed at once.
    #[expect(clippy::too_many_arguments, reason = "all that a start consists of")]
    async fn begin(
        &mut self,
        mut unit: Unit,
        lineage: String,
        number: u64,
        from: Offsets,
        marks: Marks,
        layers: &Layers,
        origin: Option<Committed>,
    ) -> Result<Session, JobError> {
        job::check_readable(&self.settings.topic, &from, &layers.partitions, ADVICE)?;
        let (group, topic) = (self.settings.group.clone(), self.settings.topic.clone());
        let cluster = layers.cluster.clone();
        self.folder.begin(&Lineage { format: FORMAT, id: lineage.clone(), group, topic, cluster, origin })?;
        fault::point("begun");
        let now = self.clock.now();
        unit.begin(&lineage, number, from.clone());
        let mut first = unit.close(&marks, now);
        first.body.open = Some(unit.open());
        let member = self.source.member();
        let group = &self.settings.group;
        let progress = publish(group, &layers.cluster, &mut self.sinks, &member, &self.folder, &first).await?;
        unit.begin(&lineage, number + 1, lows(layers));
        Ok(Session::new(unit, from, progress, now))
    }

    /// Goes on from the folder's newest epoch. `committed`: the group's offsets are those of this epoch.
    async fn resume(&mut self, mut unit: Unit, layers: &Layers, committed: Option<u64>) -> Result<Session, JobError> {
        let missing = || JobError::Internal("the newest epoch is gone".to_owned());
        let newest = self.folder.newest_epoch::<Decisions>()?.ok_or_else(missing)?;
        let target = with_new_partitions(newest.offsets.clone(), layers);
        job::check_readable(&self.settings.topic, &target, &layers.partitions, ADVICE)?;
        let (from, whole) = self.restore(&mut unit, &newest, layers).await?;
        let member = self.source.member();
        let mut last = committed;
        for epoch in self.folder.unfinished::<Decisions>()? {
            let in_kafka = committed.is_some_and(|newest| epoch.number <= newest);
            let alerts = epoch.body.alerts.len();
            tracing::info!(epoch = epoch.number, alerts, in_kafka, "completing what was logged before");
            let progress = if in_kafka { None } else { self.progress_at(epoch.number, layers)? };
            complete(&mut self.sinks, &member, &self.folder, &epoch, progress.as_ref()).await?;
            self.board.told(&epoch);
            if progress.is_some() {
                last = Some(epoch.number);
            }
        }
        unit.begin(&newest.lineage, newest.number + 1, from);
        let progress = self.progress_at(newest.number, layers)?.ok_or_else(missing)?;
        let mut session = Session::new(unit, target, progress, self.clock.now());
        session.whole = whole;
        if last != Some(newest.number) || layers.partitions.iter().all(|p| p.committed.is_none()) {
            recommit(&mut self.sinks, &member, &session.progress).await?;
        }
        Ok(session)
    }

    /// Windows that are read again from a topic whose first records retention has removed would lack rows: the table has
    /// them. It may be ahead of the topic, so nothing is judged before the topic's end as it is after that.
    async fn fill(&mut self, session: &mut Session, partitions: &[i32], layers: &Layers) -> Result<(), JobError> {
        if session.whole {
            return Ok(());
        }
        let offsets = session.unit.offsets();
        let cut = |p: &&PartitionState| p.low.0 > 0 && offsets.get(&p.partition) == Some(&p.low);
        let Some(cut) = layers.partitions.iter().find(cut) else { return Ok(()) };
        let (topic, low) = (&self.settings.topic, cut.low.0);
        tracing::info!(
            topic,
            partition = cut.partition,
            low,
            "the topic's first records are gone: windows are filled from the table"
        );
        let mut rows = 0_u64;
        for rule in 0..self.rules.len() {
            let now = self.clock.now();
            let unit = &mut session.unit;
            let mut take = |row: TableRow| {
                rows += 1;
                unit.load(rule, &row, now);
            };
            while let Err(problem) = self.confirm.load(rule, now, &mut take).await {
                tracing::warn!(problem, "filling the windows from the table; tried again");
                tokio::time::sleep(ASK_AGAIN).await;
            }
        }
        tracing::info!(rows, "windows are filled from the table");
        for after in patiently(async || self.source.layers(partitions).await).await?.partitions {
            let end = session.rebuild.entry(after.partition).or_insert(after.high);
            *end = (*end).max(after.high);
        }
        Ok(())
    }

    /// How far the group has come with an epoch that is in the log.
    fn progress_at(&self, number: u64, layers: &Layers) -> Result<Option<Progress>, JobError> {
        let logged = self.folder.logged::<Decisions>(number)?;
        Ok(logged.map(|(epoch, crc)| progress_of(&self.settings.group, &layers.cluster, &epoch, crc)))
    }

    /// Windows and episodes as of the newest state, and the decisions since. Returns from where the windows have to be
    /// read again, and whether they are whole up to there.
    async fn restore(
        &mut self,
        unit: &mut Unit,
        newest: &Epoch<Decisions>,
        layers: &Layers,
    ) -> Result<(Offsets, bool), JobError> {
        let mut from = lows(layers);
        let state = self.folder.newest_state()?.filter(|(head, _)| head.lineage == newest.lineage);
        let Some((head, body)) = state else {
            let log = self.folder.epochs_after::<Decisions>(None)?;
            if log.first().is_some_and(|first| first.body.open.is_some()) {
                log.iter().for_each(|epoch| unit.redo(epoch));
            } else {
                tracing::warn!(
                    "no stored state is whole, and the log does not reach back: episodes are taken from Kafka"
                );
                let known = self.backup().await?;
                let mine = known.episodes.iter().filter(|record| record.lineage == newest.lineage);
                unit.recall(mine.filter_map(EpisodeRecord::open));
                unit.redo(newest);
            }
            return Ok((from, false));
        };
        let complete = unit.restore(&head.rules, &body).map_err(|error| {
            JobError::Internal(format!("state/{}: {error}; move it away to rebuild from Kafka", head.epoch))
        })?;
        let mut whole = complete;
        if complete {
            for (partition, low) in &mut from {
                let Some(held) = head.offsets.get(partition) else { continue };
                whole &= held >= low;
                *low = (*low).max(*held);
            }
        }
        for epoch in self.folder.epochs_after::<Decisions>(Some(head.epoch))? {
            unit.redo(&epoch);
        }
        Ok((from, whole))
    }
}

fn lows(layers: &Layers) -> Offsets {
    layers.partitions.iter().map(|p| (p.partition, p.low)).collect()
}

fn plan_text(plan: &Start) -> &'static str {
    match plan {
        Start::Fresh => "a new group: from auto_offset_reset",
        Start::Reprocess => {
            "the group's offsets were deleted: everything again, from auto_offset_reset, as a new lineage"
        }
        Start::Resume(_) => "on from the last epoch",
        Start::Rebuild(..) => {
            "the checkpoint folder is missing, or has not what the group has: on from the group's offsets, windows rebuilt from the topic, episodes taken from Kafka"
        }
        Start::Moved(_) => {
            "the group's offsets were set by hand: on from there, as a new lineage; what is over its threshold is told anew"
        }
    }
}
