//! Why an episode is over.

use serde::{Deserialize, Serialize};

/// Why an episode is over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// HAVING no longer holds because of a change.
    #[default]
    Condition,
    /// Rows have left the window because of time, not because of a change.
    Time,
    /// The table has other rows than those that the stream brought.
    Healed,
    /// The rule is no longer configured.
    RuleRemoved,
    /// The rule's query or one of its settings has changed.
    RuleChanged,
}

impl Reason {
    /// The name in the alert record.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Condition => "condition",
            Self::Time => "time",
            Self::Healed => "healed",
            Self::RuleRemoved => "rule_removed",
            Self::RuleChanged => "rule_changed",
        }
    }
}
