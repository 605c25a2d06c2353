//! The settings of a run of the monitor.

use std::time::Duration;

use crate::progress::{StartAt, Topics};

/// The settings of the loop.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The consumer group.
    pub group: String,
    /// The topics of the changes.
    pub topics: Topics,
    /// Where a group without progress in the folder and in Kafka starts.
    pub start_at: StartAt,
    /// Whether a group without offsets resumes from its folder instead of starting again.
    pub resume_without_group: bool,
    /// Whether open episodes stay open when their rule has changed, instead of firing again.
    pub carry_episodes: bool,
    /// The longest time between two epochs while there is progress.
    pub trigger_interval: Duration,
    /// The approximate time between two stored states.
    pub state_interval: Duration,
    /// The greatest number of groups in one statement.
    pub keys_per_statement: usize,
    /// The greatest number of statements under way.
    pub statements_max: usize,
    /// How often the whole rule is run in Postgres to find groups that the stream missed. `None`: never.
    pub sweep_interval: Option<Duration>,
    /// The length of an audit cycle, unless the limit on its cost makes it longer.
    pub audit_period: Duration,
    /// The statement seconds per second that audit, sweep and repairs may take, in millionths.
    pub max_database_share: u32,
    /// The number of rows at which reading pauses.
    pub rows_max: Option<usize>,
    /// The resident memory in MiB at which reading pauses.
    pub rss_max_mb: Option<usize>,
    /// Whether to stop at an invalid record instead of copying it to the dead-letter topic.
    pub stop_on_bad_record: bool,
    /// Whether to end once everything that existed at the start has been read and every candidate was answered.
    pub until_end: bool,
}
