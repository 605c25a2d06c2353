//! The group from outside: who is in it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rdkafka::client::ClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::KafkaError;

use super::CALL_TIMEOUT;
use crate::source::SourceError;

/// How often a stand-by looks whether the group is free.
const STAND_BY: Duration = Duration::from_millis(500);
/// How long after it was seen free a group is looked at once more.
const SEEN_FREE: Duration = Duration::from_millis(100);

/// How the group knows this instance.
#[derive(Clone, Debug)]
pub struct Membership {
    /// Consumer group.
    pub group: String,
    /// `group.instance.id`: the same after a restart, so that the partitions are given back at once rather than when
    /// the session of the process that died has expired. `None`: the member is gone as soon as it leaves.
    pub instance: Option<String>,
}

impl Membership {
    /// Whether a member is this instance, now or before: its id begins with the instance's name.
    fn is_mine(&self, id: &str) -> bool {
        let rest = self.instance.as_ref().and_then(|instance| id.strip_prefix(instance.as_str()));
        rest.is_some_and(|rest| rest.starts_with('-'))
    }
}

/// Waits until a group has no active member: one that joined beside another would take partitions away from it, and a
/// rule needs them all. A stand-by waits here; a member that was killed is gone when its session has expired. What is
/// left of this very instance, by its `group.instance.id`, is no hindrance: whoever calls holds the instance's lock.
/// Returns whether there is something left of it.
///
/// # Errors
/// The group still has a member after `limit`.
pub async fn wait_until_free(
    base: &ClientConfig,
    membership: &Membership,
    limit: Option<Duration>,
) -> Result<bool, SourceError> {
    wait_telling(base, membership, limit, &AtomicBool::default()).await
}

/// The same. `cut_off` tells meanwhile whether no broker answers.
pub(super) async fn wait_telling(
    base: &ClientConfig,
    membership: &Membership,
    limit: Option<Duration>,
    cut_off: &AtomicBool,
) -> Result<bool, SourceError> {
    let failed = |error: &dyn std::fmt::Display| SourceError::Call(format!("asking for the group's members: {error}"));
    let client = || base.create_with_context(Quiet).map(Arc::new).map_err(|error| failed(&error));
    let mut consumer: Arc<BaseConsumer<Quiet>> = client()?;
    let deadline = limit.map(|limit| tokio::time::Instant::now() + limit);
    let group = &membership.group;
    let mut told = false;
    let mut seen_free = false;
    loop {
        let mut away = None;
        let (asked, looked) = (Arc::clone(&consumer), membership.clone());
        let found = tokio::task::spawn_blocking(move || find(&asked, &looked)).await.map_err(|error| failed(&error))?;
        cut_off.store(found.as_ref().is_err_and(is_away), Ordering::Relaxed);
        match found {
            // Twice: a group whose coordinator has just moved may look empty once.
            Ok(Found::Mine) => return Ok(true),
            Ok(Found::Nobody) if seen_free => return Ok(false),
            Ok(Found::Nobody) => {
                seen_free = true;
                tokio::time::sleep(SEEN_FREE).await;
                continue;
            }
            Ok(Found::Others) => {
                seen_free = false;
                if !std::mem::replace(&mut told, true) {
                    tracing::warn!(group, "the group has an active member; standing by until it is gone");
                }
            }
            Err(error) => {
                seen_free = false;
                tracing::warn!(%error, "asking for the group's members");
                away = Some(failed(&error));
                // A client that was told of a cluster without brokers, as one is for a moment that comes back, can ask
                // nobody for minutes.
                let before = std::mem::replace(&mut consumer, client()?);
                tokio::task::spawn_blocking(move || drop(before));
            }
        }
        if deadline.is_some_and(|deadline| tokio::time::Instant::now() >= deadline) {
            return Err(away.unwrap_or_else(|| SourceError::Fenced(format!(
                "group {group} has an active member: stop that one, or use a group id of its own; a member that was killed counts as active until its session has expired"
            ))));
        }
        tokio::time::sleep(STAND_BY).await;
    }
}

/// Whether nobody answered, rather than refused.
fn is_away(error: &KafkaError) -> bool {
    use rdkafka::error::RDKafkaErrorCode as Code;
    let away = [Code::BrokerTransportFailure, Code::AllBrokersDown, Code::OperationTimedOut, Code::RequestTimedOut];
    error.rdkafka_error_code().is_some_and(|code| away.contains(&code))
}

/// Who is in a group.
enum Found {
    Nobody,
    /// Only what is left of this instance.
    Mine,
    Others,
}

fn find(consumer: &BaseConsumer<Quiet>, membership: &Membership) -> Result<Found, KafkaError> {
    let list = consumer.fetch_group_list(Some(&membership.group), CALL_TIMEOUT)?;
    // A group that is not known has no member.
    let Some(found) = list.groups().first() else { return Ok(Found::Nobody) };
    let members = found.members();
    Ok(if members.is_empty() && matches!(found.state(), "Empty" | "Dead") {
        Found::Nobody
    } else if !members.is_empty() && members.iter().all(|member| membership.is_mine(member.id())) {
        Found::Mine
    } else {
        Found::Others
    })
}

/// Whether the first of the group's members by their ids is this instance.
pub(super) fn is_first<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    membership: &Membership,
) -> Result<bool, KafkaError> {
    let list = consumer.fetch_group_list(Some(&membership.group), CALL_TIMEOUT)?;
    let ids = list.groups().iter().flat_map(|found| found.members()).map(|member| member.id());
    Ok(ids.min().is_some_and(|first| membership.is_mine(first)))
}

/// A client that looks something up: what it is told meanwhile is no news.
#[derive(Clone, Copy, Debug, Default)]
pub struct Quiet;

impl ClientContext for Quiet {
    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, reason, "Kafka client");
    }
}

impl ConsumerContext for Quiet {}

/// The settings that every client of the cluster shares.
pub fn client_config(bootstrap_servers: &str, properties: &BTreeMap<String, String>) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", bootstrap_servers).set("client.id", "tripline");
    for (name, value) in properties {
        config.set(name, value);
    }
    config
}
