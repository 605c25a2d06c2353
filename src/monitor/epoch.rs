//! Closing an epoch. The order is always the same: prepare, log, commit, deliver.

use std::collections::BTreeMap;

use super::Settings;
use super::assignment::Assignment;
use super::durable::Durable;
use crate::checkpoint::{Encoded, Folder, StateHead};
use crate::contract::Contracts;
use crate::fault;
use crate::job::JobError;
use crate::model::Timestamp;
use crate::planted;
use crate::progress::{Epoch, EpochRef, Progress};
use crate::retry::Retry;
use crate::sink::{Sinks, Transaction, log_invalid};
use crate::unit::Unit;
use crate::unit::recovery::EpisodeRecord;
use crate::unit::stored::Decisions;

/// Closes the epoch of an assignment. Returns it, unless it is empty.
///
/// 1. Invalid records are written to the dead-letter topic.
/// 2. A Kafka transaction is prepared: alerts, episodes, and the group's offsets with the name of the epoch. It fails
///    if this instance no longer works for the group.
/// 3. `offsets/N` is durable. From here on the epoch takes effect, whatever happens.
/// 4. The transaction is committed.
/// 5. The alerts are delivered to the table and the log. Then `commits/N` is written.
/// 6. At intervals, and at the end (`last`), the windows are stored.
///
/// # Errors
/// The folder fails, a sink refuses permanently, or [`Kind::Fenced`](crate::failure::Kind::Fenced). The state in memory
/// is invalid then. An unreachable server is not an error: the call waits for it.
pub(super) async fn close<K: Sinks>(
    settings: &Settings,
    sinks: &mut K,
    member: &K::Member,
    folder: &Folder,
    assignment: &mut Assignment,
    now: Timestamp,
    last: bool,
) -> Result<Option<Epoch<Decisions>>, JobError> {
    if assignment.rebuilds() {
        return Ok(None); // nothing has been read that was not there before
    }
    let dead_letters = assignment.intake.take_dead_letters();
    if !dead_letters.is_empty() {
        log_invalid(&settings.topics, &dead_letters);
        let written =
            if planted::bug("dead-letters-cut") { dead_letters.get(1..).unwrap_or(&[]) } else { &dead_letters };
        if !planted::bug("dead-letters-dropped") {
            Retry::WORKING.run("writing dead letters", async || sinks.dead_letter(written).await).await?;
        }
        fault::point("buried");
    }
    let Assignment { unit, intake, durable, counts, contracts, .. } = assignment;
    let mut closed = None;
    if *unit.offsets() != durable.progress.offsets || unit.undelivered() > 0 {
        let epoch = unit.close(&intake.last_records, now);
        durable.progress = publish(&settings.group, &durable.progress.cluster, sinks, member, folder, &epoch).await?;
        durable.counts = counts.clone();
        closed = Some(epoch);
    }
    durable.closed_at = now;
    if durable.is_state_due(now, settings) || last {
        durable.stored_at = now;
        if closed.is_none() {
            // An instance that no longer works for the group must not write, so it has to show that it does. The commit
            // also shows that the group is alive although no records come.
            durable.progress.at = now;
            recommit(sinks, member, &durable.progress).await?;
        }
        store(folder, unit, durable, contracts.as_ref())?;
        fault::point("state.stored");
    }
    Ok(closed)
}

/// Publishes an epoch: steps 2 to 5 of [`close`]. Returns the group's progress afterwards.
pub(super) async fn publish<K: Sinks>(
    group: &str,
    cluster: &Option<String>,
    sinks: &mut K,
    member: &K::Member,
    folder: &Folder,
    epoch: &Epoch<Decisions>,
) -> Result<Progress, JobError> {
    let encoded = Encoded::of(epoch)?;
    let progress = progress_of(group, cluster, epoch, encoded.crc);
    fault::point("epoch.closed");
    prepare(sinks, member, epoch, &progress).await?;
    fault::point("prepared");
    if planted::bug("commit-before-log") {
        commit(sinks).await?;
    }
    if planted::bug("delivery-before-log") {
        sinks.deliver(&epoch.body.alerts).await?;
    }
    folder.log(&encoded)?;
    fault::point("logged");
    if planted::bug("finished-before-commit") {
        folder.finish(epoch.number)?;
    }
    if planted::bug("delivery-before-commit") {
        deliver(sinks, folder, epoch).await?;
    }
    if !planted::bug("commit-before-log") {
        commit(sinks).await?;
    }
    fault::point("committed");
    deliver(sinks, folder, epoch).await?;
    Ok(progress)
}

/// Returns the group's progress with this epoch, whose file has this checksum.
pub(super) fn progress_of(group: &str, cluster: &Option<String>, epoch: &Epoch<Decisions>, crc: u32) -> Progress {
    Progress {
        group: group.to_owned(),
        name: EpochRef { lineage: epoch.lineage.clone(), epoch: epoch.number, crc }.to_string(),
        topics: epoch.topics.clone(),
        cluster: cluster.clone(),
        offsets: epoch.offsets.clone(),
        kept: epoch.kept.clone(),
        last_records: epoch.last_records.clone(),
        at: epoch.at,
    }
}

/// Completes an epoch that was logged before. `progress` is given if its transaction was not committed.
pub(super) async fn complete<K: Sinks>(
    sinks: &mut K,
    member: &K::Member,
    folder: &Folder,
    epoch: &Epoch<Decisions>,
    progress: Option<&Progress>,
) -> Result<(), JobError> {
    if let Some(progress) = progress {
        prepare(sinks, member, epoch, progress).await?;
        fault::point("again.prepared");
        commit(sinks).await?;
        fault::point("again.committed");
    }
    deliver(sinks, folder, epoch).await
}

async fn prepare<K: Sinks>(
    sinks: &mut K,
    member: &K::Member,
    epoch: &Epoch<Decisions>,
    progress: &Progress,
) -> Result<(), JobError> {
    let episodes = EpisodeRecord::of(&progress.group, epoch);
    let first = usize::from(planted::bug("first-alert-not-sent"));
    let alerts = epoch.body.alerts.get(first..).unwrap_or(&[]);
    let transaction = Transaction { alerts, episodes: &episodes, progress };
    Retry::WORKING.run("preparing an epoch", async || sinks.prepare(member, &transaction).await).await?;
    Ok(())
}

async fn commit<K: Sinks>(sinks: &mut K) -> Result<(), JobError> {
    Retry::WORKING.run("committing a transaction", async || sinks.commit().await).await?;
    Ok(())
}

/// Step 5 of [`close`].
pub(super) async fn deliver<K: Sinks>(
    sinks: &mut K,
    folder: &Folder,
    epoch: &Epoch<Decisions>,
) -> Result<(), JobError> {
    let alerts = &epoch.body.alerts;
    if planted::bug("finished-before-delivery") {
        folder.finish(epoch.number)?;
    }
    if !alerts.is_empty() {
        Retry::WORKING.run("delivering alerts", async || sinks.deliver(alerts).await).await?;
        fault::point("told");
    }
    folder.finish(epoch.number)?;
    fault::point("finished");
    Ok(())
}

/// Commits the group's offsets again without a change.
pub(super) async fn recommit<K: Sinks>(sinks: &mut K, member: &K::Member, progress: &Progress) -> Result<(), JobError> {
    let transaction = Transaction { alerts: &[], episodes: &[], progress };
    Retry::WORKING.run("preparing the group's offsets", async || sinks.prepare(member, &transaction).await).await?;
    commit(sinks).await
}

fn store(folder: &Folder, unit: &Unit, durable: &mut Durable, contracts: Option<&Contracts>) -> Result<(), JobError> {
    let Some(epoch) = unit.epoch().checked_sub(1) else { return Ok(()) };
    if durable.stored == Some(epoch) && contracts.is_some() {
        return Ok(());
    }
    let head = StateHead {
        format: unit.format(),
        lineage: unit.lineage().to_owned(),
        epoch,
        offsets: durable.progress.offsets.clone(),
        rules: unit.versions(),
        contract: None,
        contracts: BTreeMap::new(),
    };
    let head = head.with(contracts);
    folder.store_state(&head, |out| unit.store(out).map_err(std::io::Error::other))?;
    durable.stored = Some(epoch);
    Ok(())
}
