//! How an epoch is closed: logged, delivered, committed, in this order and no other.

use std::time::Duration;

use super::{MonitorError, Session, Settings};
use crate::alert::Alert;
use crate::checkpoint::{Folder, StateHead, start};
use crate::model::Timestamp;
use crate::sink::{SinkError, Sinks};
use crate::source::{Source, SourceError};

/// The first wait before a sink is tried again.
const RETRY_FIRST: Duration = Duration::from_millis(100);
/// The longest wait before a sink is tried again.
const RETRY_MAX: Duration = Duration::from_secs(10);

/// Closes the epoch that the session stands in.
///
/// 1. Records that were not understood are copied to the dead-letter topic.
/// 2. `offsets/N` is durable: next offsets, finished alerts, waiting candidates. No alert leaves before.
/// 3. Every sink has the alerts.
/// 4. The group's offsets are committed, marked with lineage and epoch; `commits/N`.
/// 5. Every so often, and at the end (`last`), the windows.
///
/// A crash between 2 and 4 delivers the logged bytes again: at least once, with the same ids.
///
/// # Errors
/// The folder, a sink that refuses for good, or the partitions are no longer this member's. A broker that
/// is merely away is waited for at 1 and 3, and passed over at 4: the next epoch commits as well.
pub(super) async fn close<S: Source, K: Sinks>(
    settings: &Settings,
    sinks: &mut K,
    source: &S,
    folder: &Folder,
    session: &mut Session,
    now: Timestamp,
    last: bool,
) -> Result<(), MonitorError> {
    if !session.rebuild.is_empty() {
        return Ok(()); // nothing has been read that was not there before
    }
    let state_due = now.0.saturating_sub(session.stored_at.0) >= super::micros(settings.state_interval);
    let dead = std::mem::take(&mut session.dead);
    if !dead.is_empty() {
        retry("dead letters", async || sinks.bury(&dead).await).await?;
    }
    if *session.unit.offsets() != session.logged || session.unit.undelivered() > 0 {
        let epoch = session.unit.close(session.epoch, now);
        folder.log(&epoch)?;
        deliver(sinks, &epoch.alerts).await?;
        commit(source, session, epoch.number, &epoch.offsets).await?;
        folder.finish(epoch.number)?;
        session.logged = epoch.offsets;
        session.counts = session.unit.counts.clone();
        session.epoch += 1;
    }
    session.closed_at = now;
    if state_due || last {
        store(folder, session, now)?;
    }
    Ok(())
}

/// Delivers alerts, however long the sinks are away.
pub(super) async fn deliver<K: Sinks>(sinks: &mut K, alerts: &[Alert]) -> Result<(), MonitorError> {
    if alerts.is_empty() {
        return Ok(());
    }
    retry("alerts", async || sinks.deliver(alerts).await).await
}

async fn retry(what: &str, mut attempt: impl AsyncFnMut() -> Result<(), SinkError>) -> Result<(), MonitorError> {
    let mut wait = RETRY_FIRST;
    loop {
        match attempt().await {
            Ok(()) => return Ok(()),
            Err(error) if error.fatal => return Err(error.into()),
            Err(error) => {
                tracing::warn!(%error, "{what} could not be delivered; tried again in {wait:?}");
                tokio::time::sleep(wait).await;
                wait = (wait * 2).min(RETRY_MAX);
            }
        }
    }
}

/// Commits to the group. The folder is the primary layer, so a failure is no reason to stop.
pub(super) async fn commit<S: Source>(
    source: &S,
    session: &Session,
    epoch: u64,
    offsets: &crate::checkpoint::Offsets,
) -> Result<(), MonitorError> {
    match source.commit(offsets, &start::metadata(&session.lineage, epoch)).await {
        Ok(()) => Ok(()),
        Err(error @ SourceError::Fenced(_)) => Err(error.into()),
        Err(error) => {
            tracing::warn!(%error, epoch, "the group's offsets are not committed; the next epoch will");
            Ok(())
        }
    }
}

fn store(folder: &Folder, session: &mut Session, now: Timestamp) -> Result<(), MonitorError> {
    session.stored_at = now;
    if session.stored.as_ref() == Some(&session.logged) || session.epoch == 0 {
        return Ok(());
    }
    let head = StateHead {
        lineage: session.lineage.clone(),
        epoch: session.epoch - 1,
        offsets: session.logged.clone(),
        rules: session.unit.versions(),
    };
    folder.store_state(&head, |out| session.unit.store(out).map_err(std::io::Error::other))?;
    session.stored = Some(session.logged.clone());
    Ok(())
}
