//! The sinks of a demo. Its broker has no transactions, so offsets are committed plainly, by the member itself, after the
//! epoch is logged; alerts stand on the board.

use crate::alert::Alert;
use crate::checkpoint::Offsets;
use crate::sink::{SinkError, SinkErrorKind, Sinks, Transaction};
use crate::source::kafka::{Committer, Member};
use crate::source::{DeadLetter, SourceError};
use crate::unit::backup::Backup;

/// Commits offsets as the member does that reads.
pub struct PlainSinks {
    committer: Committer,
    prepared: Option<(Offsets, String)>,
}

impl PlainSinks {
    /// `committer`: of the source.
    pub fn new(committer: Committer) -> Self {
        Self { committer, prepared: None }
    }
}

impl Sinks for PlainSinks {
    type Member = Member;

    /// Nobody worked for this group before.
    async fn fence(&mut self) -> Result<(), SinkError> {
        Ok(())
    }

    /// The demo writes no record that is not understood.
    async fn bury(&mut self, dead: &[DeadLetter]) -> Result<(), SinkError> {
        for letter in dead {
            tracing::error!(offset = letter.position.offset, reason = ?letter.reject, "a record was not understood");
        }
        Ok(())
    }

    async fn prepare(&mut self, _: &Member, transaction: &Transaction<'_>) -> Result<(), SinkError> {
        let progress = transaction.progress;
        self.prepared = Some((progress.offsets.clone(), progress.name.clone()));
        Ok(())
    }

    async fn commit(&mut self) -> Result<(), SinkError> {
        let Some((offsets, name)) = &self.prepared else { return Ok(()) };
        self.committer.commit(offsets, name).await.map_err(|error| SinkError {
            sink: "kafka",
            problem: error.to_string(),
            kind: match error {
                SourceError::Call(_) => SinkErrorKind::Away,
                SourceError::Fenced(_) | SourceError::Lost(_) => SinkErrorKind::Fenced,
            },
        })
    }

    async fn tell(&mut self, _: &[Alert]) -> Result<(), SinkError> {
        Ok(())
    }

    /// There is nothing of before.
    async fn backup(&mut self) -> Result<Backup, SinkError> {
        Ok(Backup::default())
    }
}
