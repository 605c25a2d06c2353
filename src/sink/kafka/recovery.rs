//! Reads the recovery topic: the group's progress, and the newest record of each key.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use uuid::Uuid;

use crate::change::record::TopicRecord;
use crate::failure::CallError;
use crate::kafka::Cluster;
use crate::kafka::records::OpenTransaction;
use crate::progress::Progress;
use crate::unit::recovery::{EpisodeRecord, KeyPart, RecoveryState};

/// The partition that all records are written to.
const PARTITION: i32 = 0;

/// Reads all committed records of this group. The result is empty if the topic does not exist.
///
/// # Errors
/// The cluster does not answer, or refuses, or another group's transaction does not end in time.
pub async fn read(
    cluster: &Cluster,
    topic: &str,
    group: &str,
    open: OpenTransaction,
) -> Result<RecoveryState, CallError> {
    let mut reading = Reading { topic: topic.to_owned(), group: group.to_owned(), ..Reading::default() };
    reading = cluster.committed_records(topic, PARTITION, group, open, reading, Reading::take).await?;
    Ok(reading.finish())
}

/// The messages of these firing alerts, as far as the topic has them. What an open transaction hides is left out.
///
/// # Errors
/// The cluster does not answer, or refuses.
pub async fn messages(
    cluster: &Cluster,
    topic: &str,
    group: &str,
    wanted: BTreeSet<Uuid>,
) -> Result<BTreeMap<Uuid, String>, CallError> {
    /// The parts of an [`EpisodeRecord`] that are read.
    #[derive(Deserialize)]
    struct Brief {
        group: String,
        alerts: Vec<BriefAlert>,
    }
    #[derive(Deserialize)]
    struct BriefAlert {
        id: Uuid,
        line: String,
    }
    let of = group.to_owned();
    let take = move |found: &mut BTreeMap<Uuid, String>, record: TopicRecord| {
        // Another kind of record, a tombstone, or one that is reported where the topic is read for a start.
        let Ok(Some(brief)) = parse::<Brief>(record.value.as_deref()) else { return };
        let alerts = brief.alerts.into_iter().filter(|alert| brief.group == of && wanted.contains(&alert.id));
        found.extend(alerts.map(|alert| (alert.id, alert.line)));
    };
    cluster.committed_records(topic, PARTITION, group, OpenTransaction::LeaveOut, BTreeMap::new(), take).await
}

#[derive(Default)]
struct Reading {
    topic: String,
    group: String,
    progress: Option<Progress>,
    newest: BTreeMap<Vec<u8>, EpisodeRecord>,
    /// The parts of keys, by their record key and place.
    parts: BTreeMap<(String, usize), KeyPart>,
}

impl Reading {
    fn take(&mut self, record: TopicRecord) {
        let TopicRecord { key, value, offset, .. } = record;
        let (key, body) = (key.unwrap_or_default(), value.as_deref());
        let of_group = key.strip_prefix(self.group.as_bytes());
        let read = match of_group {
            Some([]) => parse::<Progress>(body).map(|progress| self.progress = progress),
            Some([b'|', ..]) => parse::<EpisodeRecord>(body).map(|record| match record {
                Some(record) if record.group == self.group => drop(self.newest.insert(key, record)),
                Some(_) => {} // the name of its group begins with this one's
                None => drop(self.newest.remove(&key)),
            }),
            _ => Ok(()),
        };
        // Where it is none of these, it may be a part of a key.
        let read = read.or_else(|error| match parse::<KeyPart>(body) {
            Ok(Some(part)) => {
                if part.group == self.group {
                    self.parts.insert((part.key_of.clone(), part.part), part);
                }
                Ok(())
            }
            _ => Err(error),
        });
        if let Err(error) = read {
            // The error's text may repeat what the record holds.
            let (line, column) = (error.line(), error.column());
            tracing::warn!(topic = self.topic, offset, line, column, "skipped a record that Tripline did not write");
            tracing::debug!(topic = self.topic, offset, %error, "skipped record");
        }
    }

    fn finish(self) -> RecoveryState {
        let Self { topic, progress, newest, parts, .. } = self;
        let complete = |record: EpisodeRecord| {
            let rule = record.rule.clone();
            let completed = record.completed(&parts);
            if completed.is_none() {
                tracing::warn!(topic, rule, "skipped an episode: a part of its key is missing");
            }
            completed
        };
        RecoveryState { progress, episodes: newest.into_values().filter_map(complete).collect() }
    }
}

fn parse<T: serde::de::DeserializeOwned>(body: Option<&[u8]>) -> Result<Option<T>, serde_json::Error> {
    body.map(serde_json::from_slice).transpose()
}
