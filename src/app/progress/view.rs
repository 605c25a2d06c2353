//! The next start of a group, and its progress. Pure.

use std::collections::BTreeMap;

use crate::model::Timestamp;
use crate::progress::group::GroupState;
use crate::progress::start::{Decision, FolderState, Policy};
use crate::progress::{TopicState, lag};

/// A group seen from outside.
#[derive(Clone, Debug)]
pub struct ProgressView {
    /// The settings for a start.
    pub policy: Policy,
    /// The topic, with the group's offsets.
    pub topic: TopicState,
    /// State and members of the group.
    pub group: GroupState,
    /// The state of the checkpoint folder.
    pub folder: Option<FolderState>,
    /// The decision of the next start.
    pub decision: Decision,
    /// The age in seconds of each partition's oldest unread record. `None` where it could not be read.
    pub ages: BTreeMap<i32, Option<i64>>,
    /// When all this was read.
    pub now: Timestamp,
}

impl ProgressView {
    /// The number of unread records.
    pub fn lag(&self) -> i64 {
        lag::of_topic(&self.decision.from, &self.topic)
    }

    /// The age in seconds of the oldest unread record, where it is known.
    pub fn oldest_age(&self) -> Option<i64> {
        self.ages.values().copied().flatten().max()
    }

    /// Returns what the next start does and why, in words.
    pub fn text(&self) -> String {
        self.decision.text(&self.policy)
    }
}
