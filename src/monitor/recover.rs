//! Where an assignment goes on from: the folder, the group, and what has to be read again.

use super::{Monitor, MonitorError, Session, patiently};
use crate::checkpoint::start::{self, Committed, Logged, Start};
use crate::checkpoint::{FORMAT, Lineage, Offsets};
use crate::clock::Clock;
use crate::confirm::Confirm;
use crate::model::Timestamp;
use crate::sink::Sinks;
use crate::source::{PartitionState, Source};
use crate::unit::{Counts, Unit};

impl<S: Source, C: Confirm, K: Sinks, T: Clock> Monitor<S, C, K, T> {
    /// Puts a session together for these partitions and starts to read. Whatever is not in the folder's
    /// state is rebuilt by reading again, without judging; then every group is judged once.
    pub(super) async fn recover(&mut self, partitions: &[i32], counts: Counts) -> Result<Session, MonitorError> {
        let layers = patiently(async || self.source.layers(partitions).await).await?;
        let settings = self.settings.clone();
        let mut unit = Unit::new(&settings.group, &settings.topic, self.rules.clone(), &self.wanted)
            .map_err(MonitorError::Internal)?;
        unit.counts = counts;
        if let Some(newest) = self.folder.newest_epoch()? {
            self.clock.not_before(newest.at);
        }
        let now = self.clock.now();
        let logged = self.logged()?;
        let committed = committed(&layers);
        let plan = start::plan(logged.as_ref(), committed.as_ref());
        tracing::info!(group = settings.group, plan = plan_text(&plan), "starting");
        let counts = unit.counts.clone();
        let mut session = match plan {
            Start::Resume => self.resume(unit, &layers, now).await?,
            Start::Fresh | Start::Reprocess => {
                let from = layers.iter().map(|p| (p.partition, if settings.from_latest { p.high } else { p.low }));
                self.begin(unit, new_lineage(), 0, from.collect(), &layers, now).await?
            }
            Start::Rebuild(named, offsets) => {
                let (lineage, epoch) =
                    named.map_or_else(|| (new_lineage(), 0), |(lineage, epoch)| (lineage, epoch + 1));
                self.begin(unit, lineage, epoch, with_new_partitions(offsets, &layers), &layers, now).await?
            }
            Start::Moved(offsets) => {
                self.begin(unit, new_lineage(), 0, with_new_partitions(offsets, &layers), &layers, now).await?
            }
        };
        session.counts = counts;
        if settings.until_end {
            session.ends = layers.iter().map(|p| (p.partition, p.high)).collect();
        }
        session.rebuild.retain(|partition, end| session.unit.offsets().get(partition) < Some(&*end));
        if session.rebuild.is_empty() {
            session.unit.judge_all(now);
        }
        warn_of_gaps(&settings.topic, session.unit.offsets(), &layers);
        self.source.start(session.unit.offsets());
        Ok(session)
    }

    fn logged(&self) -> Result<Option<Logged>, MonitorError> {
        let Some(lineage) = self.folder.lineage()? else { return Ok(None) };
        if lineage.topic != self.settings.topic {
            return Err(MonitorError::Unsafe(format!(
                "{} holds the progress of topic {}, not {}: use another group id or checkpoint.dir",
                self.folder.path().display(),
                lineage.topic,
                self.settings.topic
            )));
        }
        let newest = self.folder.newest_epoch()?;
        Ok(newest.map(|epoch| Logged { lineage: lineage.id, epoch: epoch.number, offsets: epoch.offsets }))
    }

    /// A new lineage, or the rest of one whose folder is gone: its start is committed as an epoch at once.
    async fn begin(
        &mut self,
        mut unit: Unit,
        lineage: String,
        epoch: u64,
        from: Offsets,
        layers: &[PartitionState],
        now: Timestamp,
    ) -> Result<Session, MonitorError> {
        check_readable(&self.settings.topic, &from, layers)?;
        let settings = &self.settings;
        self.folder.begin(&Lineage {
            format: FORMAT,
            id: lineage.clone(),
            group: settings.group.clone(),
            topic: settings.topic.clone(),
        })?;
        unit.begin(&lineage, from.clone());
        let first = unit.close(epoch, now);
        self.folder.log(&first)?;
        let low: Offsets = layers.iter().map(|p| (p.partition, p.low)).collect();
        unit.begin(&lineage, low);
        let session = Session::new(unit, lineage, epoch + 1, from.clone(), from.clone(), now);
        // This first commit must not be passed over: without it, the group would look deleted at the next start.
        let text = start::metadata(&session.lineage, epoch);
        patiently(async || self.source.commit(&from, &text).await).await?;
        self.folder.finish(epoch)?;
        Ok(session)
    }

    /// Goes on from the folder's newest epoch, delivering what was logged and not delivered.
    async fn resume(
        &mut self,
        mut unit: Unit,
        layers: &[PartitionState],
        now: Timestamp,
    ) -> Result<Session, MonitorError> {
        let missing = || MonitorError::Internal("the newest epoch is gone".to_owned());
        let newest = self.folder.newest_epoch()?.ok_or_else(missing)?;
        let target = with_new_partitions(newest.offsets.clone(), layers);
        check_readable(&self.settings.topic, &target, layers)?;
        let state = self.folder.newest_state()?.filter(|(head, _)| head.lineage == newest.lineage);
        let low: Offsets = layers.iter().map(|p| (p.partition, p.low)).collect();
        let mut from = low;
        let mut redone = None;
        if let Some((head, body)) = state {
            let complete = unit.restore(&head.rules, &body).map_err(|error| {
                MonitorError::Internal(format!("state/{}: {error}; move it away to rebuild from Kafka", head.epoch))
            })?;
            if complete {
                // Never before what can still be read; what is gone by then has left the windows or the topic.
                for (partition, low) in &mut from {
                    *low = head.offsets.get(partition).map_or(*low, |held| (*low).max(*held));
                }
            }
            redone = Some(head.epoch);
        }
        for epoch in self.folder.epochs_after(redone)? {
            unit.redo(&epoch);
        }
        for epoch in self.folder.undelivered()? {
            tracing::info!(epoch = epoch.number, alerts = epoch.alerts.len(), "delivering what was logged before");
            super::epoch::deliver(&mut self.sinks, &epoch.alerts).await?;
            self.folder.finish(epoch.number)?;
        }
        unit.begin(&newest.lineage, from);
        let session = Session::new(unit, newest.lineage, newest.number + 1, target.clone(), target.clone(), now);
        super::epoch::commit(&self.source, &session, newest.number, &target).await?;
        Ok(session)
    }
}

impl Session {
    fn new(unit: Unit, lineage: String, epoch: u64, rebuild: Offsets, logged: Offsets, now: Timestamp) -> Self {
        Self {
            unit,
            lineage,
            epoch,
            rebuild,
            ends: Offsets::new(),
            ended: std::collections::BTreeSet::new(),
            all_read_at: None,
            full: None,
            looked_at: None,
            looked_from: None,
            swept_at: now,
            backlog: false,
            dead: Vec::new(),
            stopped_by: None,
            counts: Counts::default(),
            logged,
            closed_at: now,
            stored_at: now,
            stored: None,
        }
    }
}

fn new_lineage() -> String {
    uuid::Uuid::now_v7().to_string()
}

/// What the group committed, where it committed anything.
fn committed(layers: &[PartitionState]) -> Option<Committed> {
    let mut offsets = Offsets::new();
    let mut metadata = None;
    for layer in layers {
        if let Some((next, text)) = &layer.committed {
            offsets.insert(layer.partition, *next);
            // Any foreign text is a sign of a hand; ours stands on all partitions.
            let first = metadata.get_or_insert_with(|| text.clone());
            if first != text {
                first.clear();
            }
        }
    }
    metadata.map(|metadata| Committed { offsets, metadata })
}

/// A partition that is new to the topic is read from its beginning.
fn with_new_partitions(mut offsets: Offsets, layers: &[PartitionState]) -> Offsets {
    for layer in layers {
        offsets.entry(layer.partition).or_insert(layer.low);
    }
    offsets
}

/// Going on from an offset that is gone, or not there yet, would lose or repeat changes in silence.
fn check_readable(topic: &str, from: &Offsets, layers: &[PartitionState]) -> Result<(), MonitorError> {
    for layer in layers {
        let Some(next) = from.get(&layer.partition) else { continue };
        let partition = layer.partition;
        if *next < layer.low {
            return Err(MonitorError::Unsafe(format!(
                "{topic} partition {partition}: offsets {} to {} were removed by retention before they were read; to go on with what is left, reset the group to the earliest offset with Kafka's tools, or use a new group id",
                next.0,
                layer.low.0 - 1
            )));
        }
        if *next > layer.high {
            return Err(MonitorError::Unsafe(format!(
                "{topic} partition {partition} ends at offset {}, but the group has already read up to {}: the topic was truncated or made anew; use a new group id to read it from the beginning",
                layer.high.0, next.0
            )));
        }
    }
    Ok(())
}

/// Windows that are rebuilt from a topic whose beginning is gone may lack rows: totals are too low until those rows would
/// have left the window.
fn warn_of_gaps(topic: &str, from: &Offsets, layers: &[PartitionState]) {
    for layer in layers {
        let (partition, low) = (layer.partition, layer.low.0);
        if low > 0 && from.get(&partition) == Some(&layer.low) {
            tracing::warn!(
                topic,
                partition,
                low,
                "windows are rebuilt from a topic whose first records retention has removed: rows that only they held are missing, and totals may be too low; a fresh snapshot by the connector brings them back, and postgres.sweep_interval_ms finds what is missed"
            );
        }
    }
}

fn plan_text(plan: &Start) -> &'static str {
    match plan {
        Start::Fresh => "a new group: from auto_offset_reset",
        Start::Reprocess => "the group's offsets were deleted: everything again, from auto_offset_reset",
        Start::Resume => "on from the last epoch",
        Start::Rebuild(..) => {
            "the checkpoint folder is missing or older than the group's offsets: windows are rebuilt from the topic, and what is still over its threshold is told again"
        }
        Start::Moved(_) => "the group's offsets were moved by hand: on from there, as a new lineage",
    }
}
