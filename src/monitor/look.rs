//! Whether table, server and topic still are what the run was prepared for.

use super::database::Seen;
use crate::confirm::Confirm;
use crate::failure::{CallError, Kind};
use crate::progress::LastRecords;
use crate::progress::checks;
use crate::source::Beside;

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
