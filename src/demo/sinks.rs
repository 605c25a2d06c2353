//! The sinks of a demo. Its broker has no transactions. So the member itself commits offsets, after the epoch is
//! logged. The run status has the alerts.

use crate::alert::Alert;
use crate::change::record::DeadLetter;
use crate::failure::{CallError, HasKind, Kind};
use crate::kafka::group::Member;
use crate::progress::Offsets;
use crate::sink::{Sinks, Transaction};
use crate::source::CommitOffsets;
use crate::unit::recovery::RecoveryState;

/// Commits offsets as the reading member.
pub struct PlainSinks<C> {
    committer: C,
    prepared: Option<(Offsets, String)>,
}

impl<C> PlainSinks<C> {
    /// Creates sinks that commit through the source's `committer`.
    pub fn new(committer: C) -> Self {
        Self { committer, prepared: None }
    }
}

impl<C: CommitOffsets> Sinks for PlainSinks<C> {
    type Member = Member;

    /// Does nothing: no other instance has worked for this group.
    async fn fence(&mut self) -> Result<(), CallError> {
        Ok(())
    }

    /// Never called: the demo has no invalid records.
    async fn dead_letter(&mut self, dead: &[DeadLetter]) -> Result<(), CallError> {
        for letter in dead {
            tracing::error!(offset = letter.position.offset, reason = ?letter.reject, "an invalid record");
        }
        Ok(())
    }

    async fn prepare(&mut self, _: &Member, transaction: &Transaction<'_>) -> Result<(), CallError> {
        let progress = transaction.progress;
        self.prepared = Some((progress.offsets.clone(), progress.name.clone()));
        Ok(())
    }

    async fn commit(&mut self) -> Result<(), CallError> {
        let Some((offsets, name)) = &self.prepared else { return Ok(()) };
        self.committer.commit(offsets, name).await.map_err(|error| {
            let fenced = !error.is_retried();
            if fenced { error.with_kind(Kind::Fenced) } else { error }
        })
    }

    async fn deliver(&mut self, _: &[Alert]) -> Result<(), CallError> {
        Ok(())
    }

    /// Returns an empty state: the demo has no earlier run.
    async fn recovery(&mut self) -> Result<RecoveryState, CallError> {
        Ok(RecoveryState::default())
    }
}
