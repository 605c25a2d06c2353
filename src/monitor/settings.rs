//! What a run of the monitor is asked to do.

use std::time::Duration;

use crate::progress::{StartAt, Topics};

/// Settings of the loop.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Consumer group.
    pub group: String,
    /// The topics of the changes.
    pub topics: Topics,
    /// Where a group starts that has no progress in either layer.
    pub start_at: StartAt,
    /// A group without offsets goes on from its folder, rather than starting anew.
    pub resume_without_group: bool,
    /// Open episodes go on when their rule has changed, rather than firing anew.
    pub carry_episodes: bool,
    /// An epoch is closed at least this often while there is progress.
    pub trigger_interval: Duration,
    /// The windows are stored about this often.
    pub state_interval: Duration,
    /// Groups asked in one statement at most.
    pub keys_per_statement: usize,
    /// Statements under way at most.
    pub statements_max: usize,
    /// How often the whole rule is run in Postgres, to find groups that the stream missed; `None`: never.
    pub sweep_interval: Option<Duration>,
    /// How long a cycle of the audit takes, unless the bound on its cost makes it longer.
    pub audit_period: Duration,
    /// Statement seconds per second that audit, sweep and repairs may take, in millionths.
    pub max_database_share: u32,
    /// Rows held at most; then reading pauses.
    pub rows_max: Option<usize>,
    /// Resident memory at most, in MiB; then reading pauses.
    pub rss_max_mb: Option<usize>,
    /// Stop at a record that is not understood, rather than copying it to the dead-letter topic.
    pub stop_on_bad_record: bool,
    /// End once everything that was there at the start has been read and every candidate answered.
    pub until_end: bool,
}
