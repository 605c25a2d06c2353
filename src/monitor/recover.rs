//! Where an assignment resumes: the folder, the group, the recovery topic, and the records to read again.

use std::sync::Arc;

use super::Monitor;
use super::assignment::Assignment;
use super::counts::Counts;
use super::epoch::{complete, deliver, progress_of, publish, recommit};
use super::lookups::{RunLookups, folder_state, read_recovery};
use crate::change::Change;
use crate::checkpoint::{FORMAT, Lineage};
use crate::clock::Clock;
use crate::confirm::Confirm;
use crate::contract::gaps::gaps;
use crate::failure::{CallError, Kind};
use crate::fault;
use crate::job::start::decide_with;
use crate::job::{JobError, new_lineage};
use crate::model::NextOffset;
use crate::model::zone::Zone;
use crate::planted;
use crate::progress::start::{Answers, Known, Policy, Start};
use crate::progress::{Committed, Epoch, EpochRef, LastRecords, Offsets, PartitionState, Progress, TopicState};
use crate::retry::Retry;
use crate::rule::table_row::TableRow;
use crate::sink::Sinks;
use crate::source::Source;
use crate::unit::recovery::{EpisodeRecord, RecoveryState};
use crate::unit::stored::Decisions;
use crate::unit::{Unit, UnitSettings};

/// All of one connection's time, in millionths.
const WHOLE_DATABASE: u32 = 1_000_000;

impl<S: Source<Change = Change>, C: Confirm, K: Sinks<Member = S::Member>, T: Clock> Monitor<S, C, K, T> {
    /// Fences out earlier instances, decides where to resume, completes logged epochs, and starts to read. Windows that
    /// the folder's state lacks are rebuilt by reading again without evaluating. Then every key is evaluated once.
    pub(super) async fn recover(&mut self, partitions: &[i32], counts: Counts) -> Result<Assignment, JobError> {
        let settings = self.settings.clone();
        // Only data read after this is reliable, because a transaction may have been open.
        Retry::WORKING.run("fencing out earlier instances", async || self.sinks.fence().await).await?;
        fault::point("fenced");
        let topic = self.topic_state(partitions).await?;
        let of_unit = UnitSettings {
            group: settings.group.clone(),
            topics: settings.topics.clone(),
            carry_episodes: settings.carry_episodes,
            audit_period: settings.audit_period,
            // A run to the end does not wait for a share.
            max_database_share: if settings.until_end { WHOLE_DATABASE } else { settings.max_database_share },
        };
        let mut unit = Unit::new(of_unit, self.rules.clone(), &self.tables).map_err(JobError::Internal)?;
        let newest = self.folder.newest_epoch::<Decisions>()?;
        if let Some(newest) = &newest {
            self.clock.not_before(newest.at);
        }
        let mut known = Known {
            policy: self.policy(),
            folder: folder_state(&self.folder, newest)?,
            topic,
            now: self.clock.now(),
            answers: Answers::default(),
        };
        let mut lookups = RunLookups {
            source: &self.source,
            sinks: &mut self.sinks,
            folder: &self.folder,
            topics: settings.topics.clone(),
            partitions,
            recovery: None,
        };
        let decision = decide_with(&mut known, &mut lookups).await?;
        let recovery = lookups.recovery.unwrap_or_default();
        tracing::info!(group = settings.group, "this start {}", decision.text(&known.policy));
        if let Some(stop) = &decision.stop {
            // Another instance may have made progress between the look-ups of the decision.
            let again = self.topic_state(partitions).await?;
            if Committed::of(&again.partitions) != Committed::of(&known.topic.partitions) {
                return Err(overtaken().into());
            }
            return Err(JobError::Unsafe(stop.text(&known.policy)));
        }
        let (topic, from) = (&known.topic, decision.from);
        // A topic that is new to the group becomes part of its progress once it has been read to its end.
        let mut read_from = from.clone();
        read_from.retain(|lane, _| !decision.fresh.contains(lane));
        unit.keep(decision.kept);
        let mut windows = Windows::Incomplete;
        let mut assignment = match decision.start {
            Start::Resume { committed } => {
                let (assignment, restored) = self.resume(unit, topic, from, committed).await?;
                windows = restored;
                assignment
            }
            Start::Rebuild { epoch, progress } => {
                let last_records = progress.as_ref().map(|progress| progress.last_records.clone()).unwrap_or_default();
                if let Some(progress) = progress {
                    self.clock.not_before(progress.at);
                }
                self.recall(&mut unit, &epoch, &recovery.episodes).await?;
                let (lineage, number) = (epoch.lineage, epoch.epoch + 1);
                let begin = Begin { lineage, number, from, read_from, last_records, origin: decision.committed };
                self.begin(unit, begin, topic).await?
            }
            Start::NewLineage => {
                self.leave_behind().await?;
                let (lineage, last_records) = (new_lineage(), LastRecords::new());
                let begin = Begin { lineage, number: 0, from, read_from, last_records, origin: decision.committed };
                self.begin(unit, begin, topic).await?
            }
        };
        assignment.durable.counts = counts.clone();
        assignment.counts = counts;
        if settings.until_end {
            assignment.intake.ends = topic.ends();
        }
        // Older changes of a deleted row may still come from another partition.
        let several = topic.has_topic_of_several();
        assignment.unit.remember_deletes(several);
        if several {
            assignment.intake.catch_up = topic.ends();
        }
        if !self.changes.is_empty() {
            assignment.unit.skip_to(&assignment.rebuild);
            windows = Windows::Void(self.changes.clone());
        }
        if let Windows::Void(_) = &windows {
            assignment.unit.windows_are_void();
        }
        // The existing records of a topic that is new to the group only fill windows. Then every key is evaluated once.
        for (lane, end) in topic.ends().into_iter().filter(|(lane, _)| decision.fresh.contains(lane)) {
            let until = assignment.rebuild.entry(lane).or_insert(end);
            *until = (*until).max(end);
        }
        if windows == Windows::Incomplete && settings.until_end {
            // It is not known whether the topic has all of the table, and there is no time for a cycle of the audit.
            assignment.intake.sweep_at = Some(topic.ends());
        }
        if let Some(reason) = self.why_from_table(&assignment, &windows, topic) {
            self.fill(&mut assignment, partitions, &reason).await?;
        }
        assignment.rebuild.retain(|partition, end| assignment.unit.offsets().get(partition) < Some(&*end));
        if !assignment.rebuilds() {
            assignment.unit.evaluate_all(self.clock.now());
        }
        self.changes.clear();
        fault::point("recovered");
        #[cfg(debug_assertions)]
        if let Some(groups) = fault::damage() {
            assignment.unit.damage(groups);
        }
        self.source.start(assignment.unit.offsets());
        Ok(assignment)
    }

    fn policy(&self) -> Policy {
        Policy {
            group: self.settings.group.clone(),
            topics: self.settings.topics.clone(),
            folder: self.folder.path().display().to_string(),
            start_at: self.settings.start_at,
            resume_without_group: self.settings.resume_without_group,
        }
    }

    async fn topic_state(&self, partitions: &[i32]) -> Result<TopicState, CallError> {
        let what = "asking for the group's offsets";
        Retry::WORKING.run(what, async || self.source.topic_state(partitions).await).await
    }

    async fn recovery(&mut self) -> Result<RecoveryState, CallError> {
        read_recovery(&mut self.sinks).await
    }

    /// Ends the lineage in the folder. Alerts of it that are in Kafka are delivered to the table and the log as well.
    async fn leave_behind(&mut self) -> Result<(), JobError> {
        let unfinished = self.folder.unfinished::<Decisions>()?;
        if unfinished.iter().all(|epoch| epoch.body.alerts.is_empty()) {
            return Ok(());
        }
        let newest = self.recovery().await?.progress.and_then(|progress| progress.epoch());
        for epoch in unfinished {
            if newest.as_ref().is_some_and(|newest| newest.lineage == epoch.lineage && newest.epoch >= epoch.number) {
                deliver(&mut self.sinks, &self.folder, &epoch).await?;
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

    /// Takes the episodes of a lineage without a folder here from Kafka. Alerts of its newest epoch may have reached
    /// only Kafka.
    async fn recall(&mut self, unit: &mut Unit, epoch: &EpochRef, episodes: &[EpisodeRecord]) -> Result<(), JobError> {
        let mine = || episodes.iter().filter(|record| record.lineage == epoch.lineage);
        let newest = mine().filter(|record| record.epoch == epoch.epoch);
        let alerts: Vec<_> = newest.flat_map(|record| record.alerts.iter().cloned()).collect();
        if !alerts.is_empty() && !planted::bug("recalled-not-delivered") {
            Retry::WORKING.run("delivering alerts", async || self.sinks.deliver(&alerts).await).await?;
        }
        unit.recall(mine().filter_map(EpisodeRecord::open).filter(|_| !planted::bug("episodes-not-recalled")));
        fault::point("recalled");
        Ok(())
    }

    /// Ends the open episodes of removed rules, and carries those of renamed ones.
    async fn settle(&mut self, unit: &mut Unit) -> Result<(), JobError> {
        if unit.is_unsettled() {
            let known = self.recovery().await?;
            unit.settle(&known.episodes, self.clock.now());
        }
        Ok(())
    }

    /// Begins a lineage in this folder. The start is an epoch that is committed at once.
    async fn begin(&mut self, mut unit: Unit, begin: Begin, topic: &TopicState) -> Result<Assignment, JobError> {
        let Begin { lineage, number, from, read_from, last_records, origin } = begin;
        let cluster = topic.cluster.clone();
        let (group, name) = (self.settings.group.clone(), self.settings.topics.text());
        let record = Lineage { format: FORMAT, id: lineage.clone(), group, topic: name, cluster, origin };
        self.folder.begin(&record)?;
        fault::point("begun");
        let now = self.clock.now();
        unit.take_over();
        unit.begin(&lineage, number, read_from);
        self.settle(&mut unit).await?;
        let mut first = unit.close(&last_records, now);
        first.body.open = Some(unit.open());
        let member = self.source.member();
        let group = &self.settings.group;
        let progress = publish(group, &topic.cluster, &mut self.sinks, &member, &self.folder, &first).await?;
        unit.begin(&lineage, number + 1, topic.lows());
        Ok(Assignment::new(unit, from, progress, &self.contracts, now))
    }

    /// Resumes after the folder's newest epoch. `committed` is the epoch of the group's offsets.
    async fn resume(
        &mut self,
        mut unit: Unit,
        topic: &TopicState,
        target: Offsets,
        committed: Option<u64>,
    ) -> Result<(Assignment, Windows), JobError> {
        let missing = || JobError::Internal("the newest epoch is gone".to_owned());
        let newest = self.folder.newest_epoch::<Decisions>()?.ok_or_else(missing)?;
        let (from, windows) = self.restore(&mut unit, &newest, topic).await?;
        let member = self.source.member();
        let mut last = committed;
        for epoch in self.folder.unfinished::<Decisions>()? {
            let in_kafka = committed.is_some_and(|newest| epoch.number <= newest) && !planted::bug("sent-again");
            if planted::bug("logged-not-completed") {
                continue;
            }
            let alerts = epoch.body.alerts.len();
            tracing::info!(epoch = epoch.number, alerts, in_kafka, "completing what was logged before");
            let progress = if in_kafka { None } else { self.progress_at(epoch.number, topic)? };
            complete(&mut self.sinks, &member, &self.folder, &epoch, progress.as_ref()).await?;
            self.status.delivered(&epoch);
            if progress.is_some() {
                last = Some(epoch.number);
            }
        }
        unit.begin(&newest.lineage, newest.number + 1, from);
        self.settle(&mut unit).await?;
        let progress = self.progress_at(newest.number, topic)?.ok_or_else(missing)?;
        let assignment = Assignment::new(unit, target, progress, &self.contracts, self.clock.now());
        if last != Some(newest.number) || topic.partitions.iter().all(|p| p.committed.is_none()) {
            recommit(&mut self.sinks, &member, &assignment.durable.progress).await?;
        }
        Ok((assignment, windows))
    }

    /// Returns why the windows have to come from the table. `None` where the topic has all of them.
    fn why_from_table(&self, assignment: &Assignment, windows: &Windows, topic: &TopicState) -> Option<String> {
        match windows {
            Windows::Complete => return None,
            Windows::Void(changes) => return Some(changes.join(", ")),
            Windows::Incomplete => {}
        }
        let offsets = assignment.unit.offsets();
        let cut = |p: &&PartitionState| p.low.0 > 0 && offsets.get(&p.partition) == Some(&p.low);
        let cut = topic.partitions.iter().find(cut);
        let cut = cut.map(|cut| {
            format!(
                "the topic's first records are gone: {} begins at offset {}",
                self.settings.topics.place_text(cut.partition),
                cut.low.0
            )
        });
        let begins = topic.partitions.iter().any(|p| offsets.get(&p.partition) == Some(&p.low));
        cut.or_else(|| self.contracts.0.values().flat_map(gaps).next().filter(|_| begins))
    }

    /// Fills the windows from the table. The table may be ahead of the topic, so nothing is evaluated before the
    /// topic's end after that.
    async fn fill(&mut self, assignment: &mut Assignment, partitions: &[i32], reason: &str) -> Result<(), JobError> {
        tracing::info!(topic = self.settings.topics.text(), reason, "windows are filled from the table");
        self.load(assignment).await?;
        for after in self.topic_state(partitions).await?.partitions {
            let end = assignment.rebuild.entry(after.partition).or_insert(after.high);
            *end = (*end).max(after.high);
        }
        Ok(())
    }

    /// Sets other time zones for the rules. The windows are loaded from the table, and every key is evaluated once the
    /// stream has reached that point.
    pub(super) async fn use_zones(&self, assignment: &mut Assignment, zones: &[Arc<Zone>]) -> Result<(), JobError> {
        for (rule, zone) in self.rules.iter().zip(zones).filter(|(rule, zone)| rule.query.zone != **zone) {
            let (before, now) = (rule.query.zone.name(), zone.name());
            tracing::warn!(
                rule = rule.name,
                before,
                now,
                "the time zone of the rule has changed: its windows are loaded from the table"
            );
        }
        assignment.unit.use_zones(zones).map_err(JobError::Internal)?;
        self.confirm.use_zones(zones);
        self.load(assignment).await?;
        let partitions: Vec<i32> = assignment.unit.offsets().keys().copied().collect();
        let state = self.topic_state(&partitions).await?;
        let ends = state.partitions.iter().map(|partition| (partition.partition, partition.high));
        assignment.rebuild_up_to(ends.collect(), self.clock.now());
        Ok(())
    }

    /// Loads the windows of all rules from the table.
    async fn load(&self, assignment: &mut Assignment) -> Result<(), JobError> {
        let mut rows = 0_u64;
        for rule in 0..self.rules.len() {
            let now = self.clock.now();
            let unit = &mut assignment.unit;
            let mut take = |row: TableRow| {
                rows += 1;
                unit.load(rule, &row, now);
            };
            let what = "filling the windows from the table";
            let at = Retry::WORKING.run(what, async || self.confirm.load(rule, now, &mut take).await).await?;
            assignment.unit.loaded(rule, at);
        }
        tracing::info!(rows, "windows are filled from the table");
        Ok(())
    }

    /// Returns the group's progress with a logged epoch.
    fn progress_at(&self, number: u64, topic: &TopicState) -> Result<Option<Progress>, JobError> {
        let logged = self.folder.logged::<Decisions>(number)?;
        Ok(logged.map(|(epoch, crc)| progress_of(&self.settings.group, &topic.cluster, &epoch, crc)))
    }

    /// Restores windows and episodes from the newest state, and repeats the decisions since. Returns the offsets from
    /// which the windows have to be read again, and how complete they are up to there.
    async fn restore(
        &mut self,
        unit: &mut Unit,
        newest: &Epoch<Decisions>,
        topic: &TopicState,
    ) -> Result<(Offsets, Windows), JobError> {
        let mut from = topic.lows();
        let state = self.folder.newest_state()?.filter(|(head, _)| head.lineage == newest.lineage);
        let Some((head, body)) = state else {
            let log = self.folder.epochs_after::<Decisions>(None)?;
            if log.first().is_some_and(|first| first.body.open.is_some()) {
                log.iter().for_each(|epoch| unit.redo(epoch));
            } else {
                tracing::warn!(
                    "no stored state is complete, and the log does not reach back: episodes are taken from Kafka"
                );
                let known = self.recovery().await?;
                let mine = known.episodes.iter().filter(|record| record.lineage == newest.lineage);
                unit.recall(mine.filter_map(EpisodeRecord::open));
                unit.redo(newest);
            }
            unit.take_over();
            return Ok((from, Windows::Incomplete));
        };
        let changes = match &head.believed(&self.contracts) {
            _ if !self.changes.is_empty() => self.changes.clone(),
            Some(then) => then.differences(&self.contracts),
            None if head.has_contract() => vec!["the table or its server had changed when they were stored".to_owned()],
            None => Vec::new(),
        };
        // Otherwise a row that was deleted in between would be kept forever, since neither the topic nor the table
        // mentions it.
        let reaches = |(partition, low): (&i32, &NextOffset)| {
            head.offsets.get(partition).copied().unwrap_or(NextOffset(0)) >= *low
        };
        let is_whole = from.iter().all(reaches);
        unit.restore(head.format, &head.rules, &body, changes.is_empty() && is_whole).map_err(|error| {
            JobError::Internal(format!("state/{}: {error}; move it away to rebuild from Kafka", head.epoch))
        })?;
        for epoch in self.folder.epochs_after::<Decisions>(Some(head.epoch))? {
            unit.redo(&epoch);
        }
        let restored = unit.take_over();
        if restored || !changes.is_empty() {
            for (partition, low) in &mut from {
                let Some(held) = head.offsets.get(partition) else { continue };
                let newest = newest.offsets.get(partition).filter(|_| planted::bug("windows-not-caught-up"));
                *low = (*low).max(*newest.unwrap_or(held));
            }
        }
        let windows = match (restored, changes.is_empty()) {
            (_, false) => Windows::Void(changes),
            (true, true) => Windows::Complete,
            (false, true) => Windows::Incomplete,
        };
        Ok((from, windows))
    }
}

/// How complete the windows are up to the offsets from which reading continues.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Windows {
    /// They are complete.
    Complete,
    /// They are incomplete. The parts that the topic no longer has come from the table.
    Incomplete,
    /// They are invalid, because table or server have changed in these ways since they were stored.
    Void(Vec<String>),
}

/// A lineage that begins in the folder.
struct Begin {
    lineage: String,
    /// The number of its first epoch here.
    number: u64,
    from: Offsets,
    /// The offsets in `from` that its first epoch contains.
    read_from: Offsets,
    last_records: LastRecords,
    /// The group's previous commit.
    origin: Option<Committed>,
}

/// Returns the error for facts that were read at different moments.
fn overtaken() -> CallError {
    CallError::new("Kafka", "another instance has gone on while this one was starting", Kind::Fenced)
}
