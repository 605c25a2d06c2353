//! The open alerts, including those of earlier processes. The episodes come from memory. Their messages come from this
//! process's deliveries, or else from the table of alerts. Without a table they come from the recovery topic.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value as Json, json};
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};
use uuid::Uuid;

use super::Site;
use crate::app::alerts_table::AlertsTable;
use crate::config::Config;
use crate::failure::CallError;
use crate::kafka::Cluster;
use crate::sink::kafka::recovery;
use crate::sink::postgres::stored;

/// How long an answer waits for messages. Later messages are in the next answer.
const PATIENCE: Duration = Duration::from_secs(3);
/// The wait before table or topic are asked again.
const ASKED_EVERY: Duration = Duration::from_secs(5);

/// Messages of firing alerts that earlier processes have delivered.
#[derive(Debug)]
pub(super) struct Messages {
    origin: Arc<Origin>,
    known: Arc<Mutex<Known>>,
}

/// The source of messages.
#[derive(Debug)]
enum Origin {
    Table(Box<AlertsTable>),
    /// The recovery topic, which has the alert of each open episode.
    Topic {
        cluster: Cluster,
        topic: String,
        group: String,
    },
}

#[derive(Debug, Default)]
struct Known {
    /// The messages by alert. `None`: there is no message.
    messages: BTreeMap<Uuid, Option<String>>,
    asked: Option<Instant>,
}

impl Messages {
    /// Creates the messages, with the table of this configuration as the source, or the recovery topic if it has none.
    pub(super) fn of(config: &Config, cluster: &Cluster) -> Self {
        let topic = || Origin::Topic {
            cluster: cluster.clone(),
            topic: config.checkpoint.episodes_topic.clone(),
            group: config.kafka.group_id.clone(),
        };
        let table = config.alerts.postgres.as_ref().and_then(|_| AlertsTable::of(config).ok());
        Self {
            origin: Arc::new(table.map_or_else(topic, |table| Origin::Table(Box::new(table)))),
            known: Arc::default(),
        }
    }

    /// Returns the messages of these alerts that are known by now. One request is under way at a time.
    async fn find(&self, ids: &[Uuid]) -> BTreeMap<Uuid, Option<String>> {
        if ids.is_empty() {
            return BTreeMap::new();
        }
        let Ok(mut known) = Arc::clone(&self.known).try_lock_owned() else { return BTreeMap::new() };
        known.messages.retain(|id, _| ids.contains(id));
        let missing: Vec<Uuid> = ids.iter().filter(|id| !known.messages.contains_key(id)).copied().collect();
        if missing.is_empty() || known.asked.is_some_and(|asked| asked.elapsed() < ASKED_EVERY) {
            return known.messages.clone();
        }
        let origin = Arc::clone(&self.origin);
        // The request continues if the answer does not wait for it.
        let asking = tokio::spawn(async move {
            match origin.ask(&missing).await {
                Ok(found) => known.messages.extend(found),
                Err(error) => tracing::debug!(%error, "messages of open episodes cannot be read for the page"),
            }
            known.asked = Some(Instant::now());
            known.messages.clone()
        });
        timeout(PATIENCE, asking).await.ok().and_then(Result::ok).unwrap_or_default()
    }
}

impl Origin {
    async fn ask(&self, ids: &[Uuid]) -> Result<BTreeMap<Uuid, Option<String>>, CallError> {
        match self {
            // A missing message may still come, because the table is written after the topic.
            Self::Table(table) => {
                let mut connection = table.try_connect().await?;
                let found = stored::messages(&mut connection, ids).await.map_err(|error| table.failed(error))?;
                Ok(found.into_iter().map(|(id, message)| (id, Some(message))).collect())
            }
            Self::Topic { cluster, topic, group } => {
                let mut found = recovery::messages(cluster, topic, group, ids.iter().copied().collect()).await?;
                Ok(ids.iter().map(|id| (*id, found.remove(id))).collect())
            }
        }
    }
}

impl Site {
    /// `/api/open`: open episodes, the newest first.
    pub(super) async fn open(&self) -> Json {
        let list = self.status.snapshot().open_lists;
        let open = self.status.open();
        let unknown: Vec<Uuid> = open.iter().filter(|one| one.message.is_none()).map(|one| one.alert).collect();
        let found = self.messages.find(&unknown).await;
        let open: Vec<Json> = open
            .iter()
            .map(|one| {
                json!({
                    "rule": one.rule,
                    "severity": one.severity,
                    "key": one.key,
                    "label": one.label,
                    "since": one.since.rfc3339(),
                    "alert": one.alert,
                    "message": one.message.as_ref().or(found.get(&one.alert).and_then(Option::as_ref)),
                })
            })
            .collect();
        json!({ "run": self.run, "list": list, "open": open })
    }
}
