//! The sinks of a demo. Its broker has no transactions, so offsets are committed plainly, by the member itself, after the
//! epoch is logged; alerts are in the run status.

use crate::alert::Alert;
use crate::change::record::DeadLetter;
use crate::failure::{CallError, HasKind, Kind};
use crate::kafka::group::Member;
use crate::progress::Offsets;
use crate::sink::{Sinks, Transaction};
use crate::source::CommitOffsets;
use crate::unit::recovery::RecoveryState;

/// Commits offsets as the member does that reads.
pub struct PlainSinks<C> {
    committer: C,
    prepared: Option<(Offsets, String)>,
}

impl<C> PlainSinks<C> {
    /// `committer`: of the source.
    pub fn new(committer: C) -> Self {
        Self { committer, prepared: None }
    }
}

impl<C: CommitOffsets> Sinks for PlainSinks<C> {
    type Member = Member;

    /// Nobody worked for this group before.
    async fn fence(&mut self) -> Result<(), CallError> {
        Ok(())
    }

    /// The demo writes no invalid record.
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

    /// There is nothing of before.
    async fn recovery(&mut self) -> Result<RecoveryState, CallError> {
        Ok(RecoveryState::default())
    }
}
