//! The kinds of failure, and their consequences: one table. Pure.
//!
//! Every error that reaches a job or a command has a [`Kind`]. Only the kind determines whether a retry may help, the
//! process's exit code, and what an operator can do. Texts are for people and determine nothing.

use std::error::Error;
use std::fmt;
use std::sync::Arc;

/// The kind of a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A server is unreachable, does not answer in time, or is starting or stopping.
    Unreachable,
    /// A server refused: password, rights, certificate, or data that it does not accept.
    Refused,
    /// The settings or the SQL are wrong, or name something that does not exist.
    Misconfigured,
    /// Another instance may work for this group by now, or the outcome of a step is not known.
    Fenced,
    /// Continuing would lose or repeat something.
    Unsafe,
    /// The process was asked to stop before its work was done.
    Interrupted,
    /// Any other failure: the machine, or a defect of this program.
    Internal,
}

impl Kind {
    /// All kinds. A kind that hides others comes first.
    pub const ALL: [Self; 7] = [
        Self::Unreachable,
        Self::Refused,
        Self::Misconfigured,
        Self::Unsafe,
        Self::Fenced,
        Self::Interrupted,
        Self::Internal,
    ];

    /// The consequences of this kind.
    pub const fn policy(self) -> Policy {
        let (is_retried, exit, hint) = match self {
            Self::Unreachable => (true, Exit::Unreachable, Some("is it running, and is its address right?")),
            Self::Refused => (false, Exit::Refused, Some("check user, password, rights and certificates")),
            Self::Misconfigured => (false, Exit::Misconfigured, None),
            Self::Fenced => (false, Exit::Protected, Some("another instance may work for this group")),
            Self::Unsafe => (false, Exit::Protected, None),
            Self::Interrupted | Self::Internal => (false, Exit::Failed, None),
        };
        Policy { is_retried, exit, hint }
    }
}

/// The consequences of a [`Kind`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Whether a retry may help.
    pub is_retried: bool,
    /// How the process exits, if there is no retry or no further one.
    pub exit: Exit,
    /// What an operator can do, if the error's own text does not say it.
    pub hint: Option<&'static str>,
}

/// How the process exits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// 0: success.
    Done,
    /// 1: unexpected failure.
    Failed,
    /// 2: the command line or the configuration is wrong. Clap's own errors end with this code, too.
    Misconfigured,
    /// 3: a server was unreachable.
    Unreachable,
    /// 4: a server refused: password or rights.
    Refused,
    /// 5: stopped to protect data.
    Protected,
}

impl Exit {
    /// The process's exit code.
    pub const fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Misconfigured => 2,
            Self::Unreachable => 3,
            Self::Refused => 4,
            Self::Protected => 5,
        }
    }
}

/// A server that a run depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Server {
    /// The Kafka cluster.
    Kafka,
    /// The database that confirms, or the one with the table of alerts.
    Postgres,
}

impl Server {
    /// The name in the log.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Kafka => "Kafka",
            Self::Postgres => "Postgres",
        }
    }
}

/// The part of a login that a server refused, if that can be determined. Each has another fix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusedLogin {
    /// A certificate, the server's or ours, or TLS itself.
    Certificate,
    /// A token, or the issuer refused to issue one.
    Token,
    /// A name and its password.
    Password,
}

/// An error that has a kind.
pub trait HasKind {
    /// Returns the kind.
    fn kind(&self) -> Kind;

    /// The server that was called, if it was one.
    fn server(&self) -> Option<Server> {
        None
    }

    /// The part of a login that was refused, if it is known.
    fn refused_login(&self) -> Option<RefusedLogin> {
        None
    }

    /// Whether a retry may help.
    fn is_retried(&self) -> bool {
        self.kind().policy().is_retried
    }
}

/// A failed call to something outside of the process.
#[derive(Clone, Debug)]
pub struct CallError {
    /// The server and the purpose of the call: `Kafka: committing the group's offsets`.
    pub call: String,
    /// The reported problem.
    pub problem: String,
    /// The kind of failure.
    pub kind: Kind,
    server: Option<Server>,
    refused_login: Option<RefusedLogin>,
    source: Option<Arc<dyn Error + Send + Sync>>,
}

impl CallError {
    /// Creates an error without an underlying one.
    pub fn new(call: impl Into<String>, problem: impl Into<String>, kind: Kind) -> Self {
        Self { call: call.into(), problem: problem.into(), kind, server: None, refused_login: None, source: None }
    }

    /// Creates an error from a library's error.
    pub fn from_source(call: impl Into<String>, source: impl Error + Send + Sync + 'static, kind: Kind) -> Self {
        let problem = source.to_string();
        Self { source: Some(Arc::new(source)), ..Self::new(call, problem, kind) }
    }

    /// Returns the error with another text.
    #[must_use]
    pub fn with_problem(self, problem: impl Into<String>) -> Self {
        Self { problem: problem.into(), ..self }
    }

    /// Returns the error as one of a call to this server.
    #[must_use]
    pub fn at(self, server: Server) -> Self {
        Self { server: Some(server), ..self }
    }

    /// Returns the error with the part of a login that was refused.
    #[must_use]
    pub fn of_login(self, refused_login: Option<RefusedLogin>) -> Self {
        Self { refused_login, ..self }
    }

    /// Returns the error with another kind: the step determines the meaning of a library's error.
    #[must_use]
    pub fn with_kind(self, kind: Kind) -> Self {
        Self { kind, ..self }
    }
}

impl fmt::Display for CallError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}: {}", self.call, self.problem)
    }
}

impl Error for CallError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        // The text already has what the library said.
        self.source.as_ref().and_then(|source| source.source())
    }
}

impl PartialEq for CallError {
    fn eq(&self, other: &Self) -> bool {
        (&self.call, &self.problem, self.kind) == (&other.call, &other.problem, other.kind)
    }
}

impl Eq for CallError {}

impl HasKind for CallError {
    fn kind(&self) -> Kind {
        self.kind
    }

    fn server(&self) -> Option<Server> {
        self.server
    }

    fn refused_login(&self) -> Option<RefusedLogin> {
        self.refused_login
    }
}

/// Why a command fails: its exit code and one message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// How the process exits.
    pub exit: Exit,
    /// The problem, its place, and what to do.
    pub message: String,
    /// The part of a login that was refused, if it is known.
    pub refused_login: Option<RefusedLogin>,
}

impl Failure {
    /// Creates a failure with this exit code and message.
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into(), refused_login: None }
    }

    /// Creates a failure because the settings or the command line are wrong, or name something that does not exist.
    pub fn misconfigured(message: impl Into<String>) -> Self {
        Self::new(Exit::Misconfigured, message)
    }

    /// Creates a failure from an error, with the hint of its kind.
    pub fn of(error: &(impl HasKind + fmt::Display)) -> Self {
        let policy = error.kind().policy();
        let hint = policy.hint.map(|hint| format!("; {hint}")).unwrap_or_default();
        Self { refused_login: error.refused_login(), ..Self::new(policy.exit, format!("{error}{hint}")) }
    }
}

impl From<CallError> for Failure {
    fn from(error: CallError) -> Self {
        Self::of(&error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_may_pass_is_retried() {
        for kind in Kind::ALL {
            assert_eq!(kind.policy().is_retried, kind == Kind::Unreachable, "{kind:?}");
            assert_ne!(kind.policy().exit, Exit::Done, "{kind:?}");
        }
    }

    #[test]
    fn exit_codes() {
        let codes = Kind::ALL.map(|kind| kind.policy().exit.code());
        assert_eq!(codes, [3, 4, 2, 5, 5, 1, 1]);
    }
}
