//! The Postgres server: how a session is opened, and what an error of the driver means.

use std::future::Future;
use std::str::FromStr;
use std::time::Duration;

use sqlx::ConnectOptions;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgSslMode};

use crate::failure::{CallError, Kind, Server};
use crate::retry::Retry;

/// How long connecting may take.
const CONNECT_MAX: Duration = Duration::from_secs(5);
/// How long an attempt may take in all, unless its patience is longer: statements have limits of their own in the server,
/// which a server that is stuck does not keep.
const ATTEMPT_MAX: Duration = Duration::from_secs(120);
/// How long a writing statement may run.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);

/// What a session is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Session {
    /// Read only, with this limit on each statement.
    Reading(Duration),
    /// May write.
    Writing,
}

/// The options of a session: in UTC, with a statement timeout; TLS is verified unless the server is on this machine or
/// the URL says otherwise.
///
/// # Errors
/// Not a Postgres URL.
pub fn options(url: &str, session: Session) -> Result<PgConnectOptions, sqlx::Error> {
    let (limit, read_only) = match session {
        Session::Reading(limit) => (limit, "on"),
        Session::Writing => (WRITE_TIMEOUT, "off"),
    };
    let timeout = limit.as_millis().to_string();
    let mut options = PgConnectOptions::from_str(url)?.application_name("tripline").options([
        ("statement_timeout", timeout.as_str()),
        ("default_transaction_read_only", read_only),
        ("timezone", "UTC"),
    ]);
    let host = options.get_host();
    let local = matches!(host, "localhost" | "127.0.0.1" | "::1" | "[::1]") || host.starts_with('/');
    if !local && !names_ssl_mode(url) {
        options = options.ssl_mode(PgSslMode::VerifyFull);
    }
    Ok(options)
}

/// Whether the URL has a parameter for the TLS mode: as the driver reads it, not anywhere in its text.
fn names_ssl_mode(url: &str) -> bool {
    url::Url::parse(url).is_ok_and(|url| url.query_pairs().any(|(name, _)| name == "sslmode" || name == "ssl-mode"))
}

/// What follows from an error of the driver.
///
/// By SQLSTATE class (<https://www.postgresql.org/docs/current/errcodes-appendix.html>): 28 is a failed login, 3D a
/// database that does not exist, 42 a mistake in the statement (but 42501 a missing right), 3F a missing schema; 08, 53
/// and 57 are said by a server that is starting, stopping or out of resources, 40 by one that asks to try again.
pub fn kind(error: &sqlx::Error) -> Kind {
    match error {
        sqlx::Error::Database(error) => match error.code().as_deref() {
            Some(code) if code.starts_with("28") || code == "42501" => Kind::Refused,
            Some(code) if ["3D", "3F", "42"].iter().any(|class| code.starts_with(class)) => Kind::Misconfigured,
            Some(code) if ["08", "40", "53", "57"].iter().any(|class| code.starts_with(class)) => Kind::Unreachable,
            _ => Kind::Internal,
        },
        sqlx::Error::Io(_) | sqlx::Error::PoolTimedOut => Kind::Unreachable,
        sqlx::Error::Tls(_) => Kind::Refused,
        sqlx::Error::Configuration(_) => Kind::Misconfigured,
        _ => Kind::Internal,
    }
}

/// Waits for an answer that a server may never give: it has accepted the connection, and is stopped or stuck.
///
/// # Errors
/// The server's, or that there was none within `limit`.
pub async fn answered<T, E: From<sqlx::Error>>(
    limit: Duration,
    answer: impl Future<Output = Result<T, E>>,
) -> Result<T, E> {
    tokio::time::timeout(limit, answer).await.unwrap_or_else(|_| Err(no_answer(limit).into()))
}

/// The error of an answer that did not come in time.
pub fn no_answer(limit: Duration) -> sqlx::Error {
    let silent = std::io::Error::new(std::io::ErrorKind::TimedOut, format!("no answer within {limit:?}"));
    sqlx::Error::Io(silent)
}

/// A database of the configuration, as errors name it.
#[derive(Clone, Debug)]
pub struct Database {
    options: PgConnectOptions,
    /// The URL without its password.
    shown: String,
    /// The setting that the URL comes from.
    setting: &'static str,
}

impl Database {
    /// Nothing is connected yet. `shown` is the URL without secrets, `setting` where it comes from.
    ///
    /// # Errors
    /// Not a Postgres URL.
    pub fn new(url: &str, shown: String, setting: &'static str, session: Session) -> Result<Self, CallError> {
        let options =
            options(url, session).map_err(|error| CallError::from_source(setting, error, Kind::Misconfigured))?;
        Ok(Self { options, shown, setting })
    }

    /// The options of its sessions.
    pub fn options(&self) -> &PgConnectOptions {
        &self.options
    }

    /// The URL without its password.
    pub fn shown(&self) -> &str {
        &self.shown
    }

    /// The setting that the URL comes from.
    pub fn setting(&self) -> &'static str {
        self.setting
    }

    /// Connects, trying again by this rule.
    ///
    /// # Errors
    /// The server cannot be reached, or refuses.
    pub async fn connect(&self, retry: Retry) -> Result<PgConnection, CallError> {
        retry.run(&format!("connecting to Postgres at {}", self.shown), async || self.try_connect().await).await
    }

    /// Connects, once.
    ///
    /// # Errors
    /// The server cannot be reached, or refuses.
    pub async fn try_connect(&self) -> Result<PgConnection, CallError> {
        answered(CONNECT_MAX, self.options.connect()).await.map_err(|error| self.failed(error))
    }

    /// Repeats an attempt on a new connection for as long as its error may pass, at most for `patience`.
    ///
    /// # Errors
    /// The last attempt's.
    pub async fn attempt<T, E: crate::failure::HasKind + std::fmt::Display + From<CallError>>(
        &self,
        patience: Duration,
        mut attempt: impl AsyncFnMut(&mut PgConnection) -> Result<T, E>,
    ) -> Result<T, E> {
        let limit = patience.max(ATTEMPT_MAX);
        let what = format!("asking Postgres at {}", self.shown);
        Retry::for_at_most(patience)
            .run(&what, async || {
                let mut connection = self.try_connect().await?;
                let done = tokio::time::timeout(limit, attempt(&mut connection)).await;
                done.unwrap_or_else(|_| Err(self.failed(no_answer(limit)).into()))
            })
            .await
    }

    /// An error of this database, and what follows from it.
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
            let options = options(url, Session::Writing).unwrap();
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
