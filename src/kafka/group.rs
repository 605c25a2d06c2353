//! Reads and moves consumer groups without joining them.

use std::sync::atomic::Ordering;
use std::time::Duration;

use rdkafka::TopicPartitionList;
use rdkafka::consumer::{CommitMode, Consumer};
use rdkafka::{Offset, consumer};

use super::topic::OFFSETS_TOPIC;
use super::{CALL_TIMEOUT, Client};
use crate::failure::{CallError, HasKind, Kind};
use crate::progress::group::{GroupMember, GroupState};
use crate::progress::topics::partition_of;
use crate::progress::{Offsets, Topics};
use crate::retry::Outage;

/// How often a standby checks whether the group is free.
const STANDBY_INTERVAL: Duration = Duration::from_millis(500);
/// How long to wait before a group that had no members is checked a second time.
const SEEN_FREE: Duration = Duration::from_millis(100);

/// This instance as a member of its group.
#[derive(Clone, Debug)]
pub struct Membership {
    /// Consumer group.
    pub group: String,
    /// `group.instance.id`: it is the same after a restart, so that the partitions are assigned again at once.
    /// Otherwise the session of the killed process has to expire first. `None`: the member is gone as soon as it
    /// leaves.
    pub instance: Option<String>,
}

impl Membership {
    /// Whether a member is this instance, or an earlier process of it.
    pub fn is_mine(&self, member: &GroupMember) -> bool {
        self.instance.as_ref().is_some_and(|instance| member.is_of(instance))
    }
}

impl Client {
    /// Reads the state and the members of the client's group.
    ///
    /// # Errors
    /// The cluster does not answer, or refuses.
    pub async fn group_state(&self) -> Result<GroupState, CallError> {
        let what = format!("asking for the members of group {}", self.group);
        let group = self.group.clone();
        let is_new = !self.is_connected.swap(true, Ordering::Relaxed);
        self.call(&what, move |consumer| {
            // A client that is new connects for this, and not for what follows: that waits until it happens to connect, up to a
            // second.
            if is_new {
                consumer.fetch_metadata(Some(OFFSETS_TOPIC), CALL_TIMEOUT)?;
            }
            let list = consumer.fetch_group_list(Some(&group), CALL_TIMEOUT)?;
            let found = list.groups().iter().find(|found| found.name() == group);
            let members = found.map(|found| found.members()).unwrap_or_default().iter().map(|member| GroupMember {
                id: member.id().to_owned(),
                client: member.client_id().to_owned(),
                host: member.client_host().trim_start_matches('/').to_owned(),
            });
            // A group that does not exist is called dead.
            let state = found.map(|found| found.state()).filter(|state| *state != "Dead");
            Ok(GroupState { state: state.map(str::to_owned), members: members.collect() })
        })
        .await
    }

    /// Commits these offsets without joining the group and without metadata, and checks that they were stored.
    ///
    /// # Errors
    /// The group has an active member, or the cluster does not answer, or refuses.
    pub async fn move_group(&self, topics: &Topics, offsets: &Offsets) -> Result<(), CallError> {
        let what = format!("committing the offsets of group {}", self.group);
        let list = offsets_list(topics, offsets, "");
        self.call(&what, move |consumer| consumer.commit(&list, CommitMode::Sync)).await?;
        let lanes: Vec<i32> = offsets.keys().copied().collect();
        let state = self.topic_state(topics, &lanes).await?;
        let wrong = state.partitions.iter().find(|found| {
            let wanted = offsets.get(&found.partition).copied();
            found.committed.as_ref().is_none_or(|(next, text)| Some(*next) != wanted || !text.is_empty())
        });
        match wrong {
            None => Ok(()),
            Some(found) => {
                let next = offsets.get(&found.partition).map_or(0, |next| next.0);
                let problem = format!(
                    "the group was not moved as asked: {} is not at {next}; has an instance just been started? Look again with `tripline offsets`",
                    topics.place_text(found.partition)
                );
                Err(CallError::new(what, problem, Kind::Unsafe))
            }
        }
    }

    /// Waits until the group has no active member. A member that joined beside another would take partitions from it,
    /// and a rule needs all of them. A standby waits here. A killed member is gone when its session has expired.
    ///
    /// An earlier process of this very instance, by its `group.instance.id`, is no obstacle, because the caller holds
    /// the instance's lock. Returns whether the group still has such a member. Calls `reachable` with whether the
    /// cluster answers.
    ///
    /// # Errors
    /// The cluster refuses, the group still has a member after `limit`, or the cluster does not answer until then.
    pub async fn wait_until_free(
        &self,
        membership: &Membership,
        limit: Option<Duration>,
        mut reachable: impl FnMut(bool),
    ) -> Result<bool, CallError> {
        let deadline = limit.map(|limit| tokio::time::Instant::now() + limit);
        let group = &self.group;
        let mut outage = Outage::new("asking for the group's members");
        let mut logged = false;
        let mut seen_free = false;
        loop {
            let found = self.group_state().await;
            reachable(found.as_ref().err().is_none_or(|error| error.kind != Kind::Unreachable));
            let failed = match found {
                Ok(state) => {
                    outage.is_over();
                    if !state.members.is_empty() && state.members.iter().all(|member| membership.is_mine(member)) {
                        return Ok(true);
                    }
                    if state.members.is_empty() && state.state.as_deref().is_none_or(|state| state == "Empty") {
                        // Twice: a group whose coordinator has just moved may look empty once.
                        if seen_free {
                            return Ok(false);
                        }
                        seen_free = true;
                        tokio::time::sleep(SEEN_FREE).await;
                        continue;
                    }
                    if !std::mem::replace(&mut logged, true) {
                        tracing::warn!(group, "the group has an active member: standing by until it is gone");
                    }
                    None
                }
                // A login that is refused now, or a right that is gone, does not come back by waiting.
                Err(error) if !error.is_retried() => return Err(error),
                Err(error) => {
                    outage.goes_on(&error);
                    Some(error)
                }
            };
            seen_free = false;
            if deadline.is_some_and(|deadline| tokio::time::Instant::now() >= deadline) {
                return Err(failed.unwrap_or_else(|| {
                    let problem = format!(
                        "group {group} has an active member: stop that one, or use a group id of its own; a member that was killed counts as active until its session has expired"
                    );
                    CallError::new("Kafka", problem, Kind::Fenced)
                }));
            }
            tokio::time::sleep(STANDBY_INTERVAL).await;
        }
    }
}

/// Next offsets with a text on every partition.
pub fn offsets_list(topics: &Topics, offsets: &Offsets, metadata: &str) -> TopicPartitionList {
    let mut list = TopicPartitionList::new();
    for (lane, next) in offsets {
        let mut element = list.add_partition(topics.name(*lane), partition_of(*lane));
        let _ = element.set_offset(Offset::Offset(next.0)); // cannot fail: it is a plain number
        element.set_metadata(metadata);
    }
    list
}

/// Proof for the broker that a member is assigned its partitions. `None` without a group.
pub type Member = Option<std::sync::Arc<consumer::ConsumerGroupMetadata>>;
