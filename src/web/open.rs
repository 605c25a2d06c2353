//! What is open now, also of earlier processes: the episodes from memory, their messages from what this process has
//! delivered, or else from the table of alerts.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value as Json, json};
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};
use uuid::Uuid;

use super::Site;
use crate::app::alerts_table::AlertsTable;
use crate::config::Config;
use crate::sink::postgres::stored;

/// How long the table may take, and how long it is left alone after that.
const PATIENCE: Duration = Duration::from_secs(3);
const ASKED_EVERY: Duration = Duration::from_secs(5);

/// Messages of firing alerts that earlier processes have delivered.
#[derive(Debug)]
pub(super) struct Messages {
    /// The table of alerts, where the run writes one.
    table: Option<AlertsTable>,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    messages: BTreeMap<Uuid, String>,
    asked: Option<Instant>,
}

impl Messages {
    /// From the table of this configuration, if it has one.
    pub(super) fn of(config: &Config) -> Self {
        let table = config.alerts.postgres.as_ref().and_then(|_| AlertsTable::of(config).ok());
        Self { table, known: Mutex::default() }
    }

    /// Those of these alerts, as far as the table has them and answers.
    async fn find(&self, ids: &[Uuid]) -> BTreeMap<Uuid, String> {
        let Some(table) = self.table.as_ref().filter(|_| !ids.is_empty()) else { return BTreeMap::new() };
        let mut known = self.known.lock().await;
        known.messages.retain(|id, _| ids.contains(id));
        let missing: Vec<Uuid> = ids.iter().filter(|id| !known.messages.contains_key(id)).copied().collect();
        let is_due = known.asked.is_none_or(|asked| asked.elapsed() >= ASKED_EVERY);
        if !missing.is_empty() && is_due {
            match timeout(PATIENCE, ask(table, &missing)).await {
                Ok(Ok(found)) => known.messages.extend(found),
                Ok(Err(problem)) => tracing::debug!(problem, "the table of alerts has no messages for the page"),
                Err(_) => tracing::debug!("the table of alerts does not answer the page"),
            }
            known.asked = Some(Instant::now());
        }
        known.messages.clone()
    }
}

async fn ask(table: &AlertsTable, ids: &[Uuid]) -> Result<Vec<(Uuid, String)>, String> {
    let mut connection = table.try_connect().await.map_err(|error| error.to_string())?;
    let found = stored::messages(&mut connection, ids).await;
    drop(connection);
    found.map_err(|error| table.failed(error).to_string())
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
                    "message": one.message.as_ref().or(found.get(&one.alert)),
                })
            })
            .collect();
        json!({ "run": self.run, "list": list, "open": open })
    }
}
