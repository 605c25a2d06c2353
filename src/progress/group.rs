//! A consumer group, seen from outside. Pure.

use std::fmt;

/// A consumer group as its coordinator describes it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupState {
    /// `Stable`, `Empty` and so on. `None` if there is no such group.
    pub state: Option<String>,
    /// The active members of the group.
    pub members: Vec<GroupMember>,
}

/// A member of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupMember {
    /// The id from the coordinator. It begins with the member's `group.instance.id`, if it has one.
    pub id: String,
    /// `client.id`
    pub client: String,
    /// The address of the member.
    pub host: String,
}

/// Writes `tripline at 127.0.0.1 (rdkafka-…)`, without control characters.
impl fmt::Display for GroupMember {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { id, client, host } = self;
        let text = format!("{client} at {host} ({id})");
        text.chars().try_for_each(|c| write!(out, "{}", if c.is_control() { '\u{fffd}' } else { c }))
    }
}

impl GroupMember {
    /// Whether this member is the instance with this name. The coordinator's id is the name, a dash, and a random part.
    pub fn is_of(&self, instance: &str) -> bool {
        self.id.strip_prefix(instance).is_some_and(|rest| rest.starts_with('-'))
    }
}
