//! How a command ends otherwise than well: one message and an exit code.

use super::Exit;
use crate::checkpoint::CheckpointError;
use crate::job::JobError;
use crate::sink::{SinkError, SinkErrorKind};
use crate::source::SourceError;

/// Why a command ends otherwise than well: its exit code and one message.
#[derive(Debug)]
pub struct Failure {
    /// The exit code.
    pub exit: Exit,
    /// What is wrong, where, and what to do.
    pub message: String,
}

impl Failure {
    pub(super) fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into() }
    }
}

/// How the run ends when the server is there and says no; `None` where waiting may help. SQLSTATE class 28
/// is a failed login, 3D a database that does not exist, 42501 a missing right.
pub(super) fn refusal(error: &sqlx::Error) -> Option<Exit> {
    match error {
        sqlx::Error::Database(error) => match error.code().as_deref() {
            Some(code) if code.starts_with("28") || code == "42501" => Some(Exit::Refused),
            Some(code) if code.starts_with("3D") => Some(Exit::Misconfigured),
            Some(code) if code.starts_with("57") || code.starts_with("53") || code.starts_with("08") => None,
            _ => Some(Exit::Failed),
        },
        sqlx::Error::Io(_) | sqlx::Error::PoolTimedOut => None,
        sqlx::Error::Tls(_) => Some(Exit::Refused),
        _ => Some(Exit::Failed),
    }
}

impl From<JobError> for Failure {
    fn from(error: JobError) -> Self {
        let exit = match &error {
            JobError::Checkpoint(CheckpointError::Io { .. }) => Exit::Failed,
            JobError::Checkpoint(_) => Exit::Protected,
            JobError::Source(SourceError::Call(_)) => Exit::Unreachable,
            JobError::Source(SourceError::Fenced(_) | SourceError::Lost(_)) => Exit::Protected,
            JobError::Sink(SinkError { sink: "log", .. }) => Exit::Failed,
            JobError::Sink(SinkError { kind: SinkErrorKind::Fenced, .. }) => Exit::Protected,
            JobError::Sink(_) => Exit::Refused,
            JobError::Columns { .. } => Exit::Misconfigured,
            JobError::BadRecord { .. } | JobError::Unsafe(_) => Exit::Protected,
            JobError::Internal(_) | JobError::Cut | JobError::BeforeTheEnd => Exit::Failed,
        };
        Self::new(exit, error.to_string())
    }
}
