//! Whether table, server and topic still are what the run was prepared for.

use crate::confirm::Confirm;
use crate::contract::Look;
use crate::failure::{CallError, Kind};
use crate::progress::checks::{self, Mismatch};
use crate::progress::{LastRecords, Offsets};
use crate::source::Beside;

/// What one look has found.
pub(super) struct Seen {
    /// Of the database.
    pub(super) look: Look,
    /// The topic's ends, asked for after that; or why it is not the topic that was read.
    pub(super) topic: Result<Offsets, Mismatch>,
}

/// Looks at the database, and then at the topic, whose last records were these.
///
/// # Errors
/// One of them does not answer.
pub(super) async fn look<C: Confirm, B: Beside>(
    confirm: &C,
    beside: &B,
    last_records: &LastRecords,
) -> Result<Seen, CallError> {
    let look = confirm.look().await?;
    let state = beside.state().await?;
    if state.partitions.is_empty() {
        // It may be about to be made again.
        return Err(CallError::new("Kafka", "the topic of changes does not exist at present", Kind::Unreachable));
    }
    let compared = match checks::to_compare(last_records, &state) {
        Ok(compared) => compared,
        Err(mismatch) => return Ok(Seen { look, topic: Err(mismatch) }),
    };
    let timestamps = beside.timestamps(&compared).await?;
    let topic = checks::same_records(last_records, &timestamps).map(|()| state.ends());
    Ok(Seen { look, topic })
}
