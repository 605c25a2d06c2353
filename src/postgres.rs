//! The Postgres server: how a session is opened, and what an error of the driver means.
//!
//! - this file: connecting, transactions with their limits, errors
//! - [`zones`]: the time zones of rules
//! - `plain`: a session whose client names no time zone
//!
//! Every statement is part of a transaction that begins with its own limits ([`Session::begin`]), and is prepared
//! without a name. So nothing depends on the parameters that a pooler such as PgBouncer passes on, or on which of its
//! server connections comes next.

mod plain;
pub mod zones;

use std::future::Future;
use std::str::FromStr;
use std::time::Duration;

use sqlx::postgres::{PgArguments, PgConnectOptions, PgConnection, PgRow, PgSslMode, Postgres};
use sqlx::query::{Query, QueryScalar};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, FromRow, SqlSafeStr, Transaction};

use crate::failure::{CallError, Kind, Server};
use crate::retry::Retry;

/// How long connecting may take.
const CONNECT_MAX: Duration = Duration::from_secs(5);
/// How long an attempt may take in total, unless its own limit is longer. Statements have limits in the server, but a
/// stuck server does not enforce them.
const ATTEMPT_MAX: Duration = Duration::from_secs(120);
/// The upper bound for an attempt, for any limit of its own.
const ATTEMPT_LIMIT: Duration = Duration::from_secs(3_600);
/// How long a writing statement may run.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);

/// The purpose of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Session {
    /// Read only, with this limit on each statement.
    Reading(Duration),
    /// May write.
    Writing,
}

/// The data that the statements of a transaction see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sees {
    /// Each statement sees the data that is committed when it begins.
    Newest,
    /// All statements see the same data.
    Same,
}

impl Session {
    /// The statement that begins a transaction with the limits of this session, in this time zone. It overrides the
    /// settings of the role and the database.
    pub fn begin(self, sees: Sees, zone: &str) -> String {
        let (limit, mode) = match self {
            Self::Reading(limit) => (limit, "read only"),
            Self::Writing => (WRITE_TIMEOUT, "read write"),
        };
        let isolation = match sees {
            Sees::Newest => "read committed",
            Sees::Same => "repeatable read",
        };
        format!(
            "begin isolation level {isolation} {mode} not deferrable; set local statement_timeout = {}; set local datestyle = 'ISO'; set local extra_float_digits = 1; set local timezone = {}",
            limit.as_millis(),
            zones::quoted(zone)
        )
    }
}

/// Parses the options of a session. TLS is verified unless the server is on this machine or the URL disables it. The
/// connection sets only parameters that every pooler passes on.
///
/// # Errors
/// The text is not a Postgres URL.
pub fn options(url: &str) -> Result<PgConnectOptions, sqlx::Error> {
    let mut options = PgConnectOptions::from_str(url)?.application_name("tripline").extra_float_digits(None);
    let host = options.get_host();
    let local = matches!(host, "localhost" | "127.0.0.1" | "::1" | "[::1]") || host.starts_with('/');
    if !local && !names_ssl_mode(url) {
        options = options.ssl_mode(PgSslMode::VerifyFull);
    }
    Ok(options)
}

/// Whether the URL has a parameter for the TLS mode, as the driver parses it.
fn names_ssl_mode(url: &str) -> bool {
    url::Url::parse(url).is_ok_and(|url| url.query_pairs().any(|(name, _)| name == "sslmode" || name == "ssl-mode"))
}

/// Creates a statement that is prepared without a name, because a pooler may give the server connection to others.
pub fn query<'q>(sql: impl SqlSafeStr) -> Query<'q, Postgres, PgArguments> {
    sqlx::query(sql).persistent(false)
}

/// Creates such a statement that returns one value.
pub fn query_scalar<'q, O>(sql: impl SqlSafeStr) -> QueryScalar<'q, Postgres, O, PgArguments>
where
    (O,): for<'r> FromRow<'r, PgRow>,
{
    sqlx::query_scalar(sql).persistent(false)
}

/// Classifies an error of the driver.
///
/// By SQLSTATE class (<https://www.postgresql.org/docs/current/errcodes-appendix.html>):
///
/// - 28 is a failed login, 3D a database that does not exist, 3F a missing schema
/// - 42 is a mistake in the statement, but 42501 a missing right
/// - 08, 53 and 57 come from a server that is starting, stopping or out of resources
/// - 40 asks to retry
pub fn kind(error: &sqlx::Error) -> Kind {
    match error {
        sqlx::Error::Database(error) => error.code().map_or(Kind::Internal, |code| kind_of_code(&code)),
        // Rustls reports a certificate like this.
        sqlx::Error::Io(error) if error.kind() == std::io::ErrorKind::InvalidData => Kind::Refused,
        sqlx::Error::Io(_) | sqlx::Error::PoolTimedOut => Kind::Unreachable,
        sqlx::Error::Protocol(problem) if problem.starts_with(CLOSED_AT_ONCE) => Kind::Unreachable,
        sqlx::Error::Tls(_) => Kind::Refused,
        sqlx::Error::Configuration(_) => Kind::Misconfigured,
        _ => Kind::Internal,
    }
}

/// The driver's message if the connection was accepted and then closed, by a proxy in front of a server that is down.
/// The driver does not notice the end of the stream and takes it for an answer.
const CLOSED_AT_ONCE: &str = "unexpected response from SSLRequest: 0x00";

/// Classifies an SQLSTATE.
fn kind_of_code(code: &str) -> Kind {
    let is_of = |classes: &[&str]| classes.iter().any(|class| code.starts_with(class));
    match code {
        "42501" => Kind::Refused,
        _ if is_of(&["28"]) => Kind::Refused,
        _ if is_of(&["3D", "3F", "42"]) => Kind::Misconfigured,
        _ if is_of(&["08", "40", "53", "57"]) => Kind::Unreachable,
        _ => Kind::Internal,
    }
}

/// Waits for an answer that may never come, because the server has accepted the connection and is stopped or stuck.
///
/// # Errors
/// The server's error, or that there was no answer within `limit`.
pub async fn answered<T, E: From<sqlx::Error>>(
    limit: Duration,
    answer: impl Future<Output = Result<T, E>>,
) -> Result<T, E> {
    tokio::time::timeout(limit, answer).await.unwrap_or_else(|_| Err(no_answer(limit).into()))
}

/// The error for an answer that did not come in time.
pub fn no_answer(limit: Duration) -> sqlx::Error {
    let silent = std::io::Error::new(std::io::ErrorKind::TimedOut, format!("no answer within {limit:?}"));
    sqlx::Error::Io(silent)
}

/// A configured database, with its name for errors.
#[derive(Clone, Debug)]
pub struct Database {
    options: PgConnectOptions,
    session: Session,
    /// The URL without its password.
    shown: String,
    /// The setting that the URL comes from.
    setting: &'static str,
}

impl Database {
    /// Creates a database without connecting. `shown` is the URL without secrets. `setting` is the setting that it
    /// comes from.
    ///
    /// # Errors
    /// The text is not a Postgres URL.
    pub fn new(url: &str, shown: String, setting: &'static str, session: Session) -> Result<Self, CallError> {
        let options = options(url).map_err(|error| CallError::from_source(setting, error, Kind::Misconfigured))?;
        Ok(Self { options, session, shown, setting })
    }

    /// The options of the database's sessions.
    pub fn options(&self) -> &PgConnectOptions {
        &self.options
    }

    /// Begins a transaction in this time zone. A read-only one is best rolled back by dropping it.
    ///
    /// # Errors
    /// The server's error.
    pub async fn begin<'c>(
        &self,
        connection: &'c mut PgConnection,
        sees: Sees,
        zone: &str,
    ) -> Result<Transaction<'c, Postgres>, sqlx::Error> {
        connection.begin_with(AssertSqlSafe(self.session.begin(sees, zone))).await
    }

    /// The URL without its password.
    pub fn shown(&self) -> &str {
        &self.shown
    }

    /// The setting that the URL comes from.
    pub fn setting(&self) -> &'static str {
        self.setting
    }

    /// Connects, with these retries.
    ///
    /// # Errors
    /// The server is unreachable or refuses.
    pub async fn connect(&self, retry: Retry) -> Result<PgConnection, CallError> {
        retry.run(&format!("connecting to Postgres at {}", self.shown), async || self.try_connect().await).await
    }

    /// Connects, without a retry.
    ///
    /// # Errors
    /// The server is unreachable or refuses.
    pub async fn try_connect(&self) -> Result<PgConnection, CallError> {
        answered(CONNECT_MAX, self.options.connect()).await.map_err(|error| self.failed(error))
    }

    /// Repeats an attempt in a transaction of a new connection while its error may be temporary, for at most
    /// `patience`. The transaction is rolled back.
    ///
    /// # Errors
    /// The last attempt's error.
    pub async fn attempt<T, E: crate::failure::HasKind + std::fmt::Display + From<CallError>>(
        &self,
        patience: Duration,
        mut attempt: impl AsyncFnMut(&mut PgConnection) -> Result<T, E>,
    ) -> Result<T, E> {
        let limit = patience.clamp(ATTEMPT_MAX, ATTEMPT_LIMIT);
        let what = format!("asking Postgres at {}", self.shown);
        Retry::for_at_most(patience)
            .run(&what, async || {
                let mut connection = self.try_connect().await?;
                let done = tokio::time::timeout(limit, async {
                    let begun = self.begin(&mut connection, Sees::Newest, "UTC").await;
                    let mut transaction = begun.map_err(|error| self.failed(error))?;
                    attempt(&mut transaction).await
                });
                done.await.unwrap_or_else(|_| Err(self.failed(no_answer(limit)).into()))
            })
            .await
    }

    /// Converts an error of this database, with its classification.
    pub fn failed(&self, error: sqlx::Error) -> CallError {
        let Self { shown, setting, .. } = self;
        let kind = kind(&error);
        let problem = match kind {
            Kind::Unreachable => format!("could not be reached: {error}"),
            _ => format!("refused: {error}"),
        };
        CallError::from_source(format!("Postgres at {shown} ({setting})"), error, kind)
            .with_problem(problem)
            .at(Server::Postgres)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tls_is_verified_unless_the_url_names_a_mode() {
        let check = |url: &str, want: PgSslMode| {
            let options = options(url).unwrap();
            assert!(matches!((options.get_ssl_mode(), want), (a, b) if format!("{a:?}") == format!("{b:?}")), "{url}");
        };
        check("postgres://reader@host/db", PgSslMode::VerifyFull);
        check("postgres://reader@127.0.0.1/db", PgSslMode::Prefer);
        check("postgres://reader@host/db?sslmode=require", PgSslMode::Require);
        check("postgres://reader@host/db?ssl-mode=disable", PgSslMode::Disable);
        // Text that looks like the parameter, in a password or a name.
        check("postgres://reader:a-sslmode=b@host/db", PgSslMode::VerifyFull);
        check("postgres://reader@host/ssl-mode=x", PgSslMode::VerifyFull);
        check("postgres://reader@host/db?application_name=sslmode%3Ddisable", PgSslMode::VerifyFull);
    }
}
