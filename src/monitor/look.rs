//! Whether table, server and topic are still those for which the run was prepared.

use super::database::Seen;
use crate::confirm::Confirm;
use crate::failure::CallError;
use crate::job::start::look_at_topic;
use crate::progress::LastRecords;
use crate::source::Beside;

/// Checks the database, and then the topic with these last records.
///
/// # Errors
/// One of them does not answer.
pub(super) async fn look<C: Confirm, B: Beside>(
    confirm: &C,
    beside: &B,
    last_records: &LastRecords,
) -> Result<Seen, CallError> {
    let look = confirm.look().await?;
    let topic = look_at_topic(beside, last_records).await?.map(|state| state.ends());
    Ok(Seen { look, topic })
}
