//! How an epoch is closed: prepared, logged, committed, told, in this order and no other.

use super::{Session, Settings};
use crate::checkpoint::start::Named;
use crate::checkpoint::{Epoch, FORMAT, Folder, StateHead};
use crate::fault;
use crate::job::{JobError, retry};
use crate::model::Timestamp;
use crate::sink::{Sinks, Transaction};
use crate::unit::backup::{EpisodeRecord, Progress};
use crate::unit::stored::Decisions;

/// Closes the epoch that the session stands in, and returns it, if there was anything to it.
///
/// 1. Records that were not understood are copied to the dead-letter topic.
/// 2. A Kafka transaction is prepared: alerts, episodes, and the group's offsets with the name of the epoch. It fails
///    where this instance is no longer the one that works for the group.
/// 3. `offsets/N` is durable. From here on the epoch will happen, whatever comes.
/// 4. The transaction is committed.
/// 5. Table and log have the alerts; `commits/N`.
/// 6. Every so often, and at the end (`last`), the windows are stored.
///
/// # Errors
/// The folder, a sink that refuses for good, or [`SinkErrorKind::Fenced`](crate::sink::SinkErrorKind::Fenced): what is in memory is worth nothing then. A
/// server that is merely away is waited for.
pub(super) async fn close<K: Sinks>(
    settings: &Settings,
    sinks: &mut K,
    member: &K::Member,
    folder: &Folder,
    session: &mut Session,
    now: Timestamp,
    last: bool,
) -> Result<Option<Epoch<Decisions>>, JobError> {
    if !session.rebuild.is_empty() {
        return Ok(None); // nothing has been read that was not there before
    }
    let dead = std::mem::take(&mut session.dead);
    if !dead.is_empty() {
        retry("dead letters", async || sinks.bury(&dead).await).await?;
        fault::point("buried");
    }
    let mut closed = None;
    if *session.unit.offsets() != session.progress.offsets || session.unit.undelivered() > 0 {
        let epoch = session.unit.close(&session.marks, now);
        session.progress = publish(&settings.group, &session.progress.cluster, sinks, member, folder, &epoch).await?;
        session.counts = session.unit.counts.clone();
        closed = Some(epoch);
    }
    session.closed_at = now;
    let state_due = now.0.saturating_sub(session.stored_at.0) >= super::micros(settings.state_interval);
    if state_due || last {
        session.stored_at = now;
        if closed.is_none() {
            // Nothing may be written by an instance that is no longer the group's: it has to show that it is. And it
            // says that the group is alive, though nothing comes.
            session.progress.at = now;
            recommit(sinks, member, &session.progress).await?;
        }
        store(folder, session)?;
        fault::point("state.stored");
    }
    Ok(closed)
}

/// Makes an epoch happen: steps 2 to 5 of [`close`]. Returns how far the group has come then.
pub(super) async fn publish<K: Sinks>(
    group: &str,
    cluster: &Option<String>,
    sinks: &mut K,
    member: &K::Member,
    folder: &Folder,
    epoch: &Epoch<Decisions>,
) -> Result<Progress, JobError> {
    let encoded = epoch.encode()?;
    let progress = progress_of(group, cluster, epoch, encoded.crc);
    fault::point("epoch.closed");
    prepare(sinks, member, epoch, &progress).await?;
    fault::point("prepared");
    folder.log(&encoded)?;
    fault::point("logged");
    commit(sinks).await?;
    fault::point("committed");
    tell(sinks, folder, epoch).await?;
    Ok(progress)
}

/// How far the group has come with this epoch, whose file has this checksum.
pub(super) fn progress_of(group: &str, cluster: &Option<String>, epoch: &Epoch<Decisions>, crc: u32) -> Progress {
    Progress {
        group: group.to_owned(),
        name: Named { lineage: epoch.lineage.clone(), epoch: epoch.number, crc }.to_string(),
        topic: epoch.topic.clone(),
        cluster: cluster.clone(),
        offsets: epoch.offsets.clone(),
        marks: epoch.marks.clone(),
        at: epoch.at,
    }
}

/// Makes an epoch happen that was logged before. `progress`: where its transaction was not committed.
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
    tell(sinks, folder, epoch).await
}

async fn prepare<K: Sinks>(
    sinks: &mut K,
    member: &K::Member,
    epoch: &Epoch<Decisions>,
    progress: &Progress,
) -> Result<(), JobError> {
    let episodes = EpisodeRecord::of(&progress.group, epoch);
    let transaction = Transaction { alerts: &epoch.body.alerts, episodes: &episodes, progress };
    retry("an epoch", async || sinks.prepare(member, &transaction).await).await
}

async fn commit<K: Sinks>(sinks: &mut K) -> Result<(), JobError> {
    retry("a transaction", async || sinks.commit().await).await
}

/// Step 5 of [`close`].
pub(super) async fn tell<K: Sinks>(sinks: &mut K, folder: &Folder, epoch: &Epoch<Decisions>) -> Result<(), JobError> {
    let alerts = &epoch.body.alerts;
    if !alerts.is_empty() {
        retry("alerts", async || sinks.tell(alerts).await).await?;
        fault::point("told");
    }
    folder.finish(epoch.number)?;
    fault::point("finished");
    Ok(())
}

/// Commits the group's offsets once more, as they stand.
pub(super) async fn recommit<K: Sinks>(sinks: &mut K, member: &K::Member, progress: &Progress) -> Result<(), JobError> {
    let transaction = Transaction { alerts: &[], episodes: &[], progress };
    retry("the group's offsets", async || sinks.prepare(member, &transaction).await).await?;
    commit(sinks).await
}

fn store(folder: &Folder, session: &mut Session) -> Result<(), JobError> {
    let Some(epoch) = session.unit.epoch().checked_sub(1) else { return Ok(()) };
    if session.stored == Some(epoch) {
        return Ok(());
    }
    let head = StateHead {
        format: FORMAT,
        lineage: session.unit.lineage().to_owned(),
        epoch,
        offsets: session.progress.offsets.clone(),
        rules: session.unit.versions(),
    };
    folder.store_state(&head, |out| session.unit.store(out).map_err(std::io::Error::other))?;
    session.stored = Some(epoch);
    Ok(())
}
