//! The table `tripline.alerts`: alerts as rows, each id once.
//!
//! - this file: writing, by one instance of a group at a time
//! - [`migrations`]: the table's schema and its changes
//! - [`rights`]: the rights of a role on it
//! - [`stored`]: reading it

pub mod migrations;
pub mod rights;
pub mod stored;

use std::borrow::Cow;
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgConnection, PgPool, PgPoolOptions, PgRow};
use sqlx::{AssertSqlSafe, Connection, Row};

use crate::alert::Alert;
use crate::failure::{CallError, Kind, Server};
use crate::fault;
use crate::postgres::{Sees, Session, query, query_scalar};

/// How long a write waits for a free connection.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a transaction of a suspended process can hold the group's generation.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a read-only statement may run.
const READ_TIMEOUT: Duration = Duration::from_secs(30);
/// The greatest number of connections. Epochs are written one after the other. The second connection is for the moment
/// in which the first breaks.
const CONNECTIONS_MAX: u32 = 2;
/// The greatest number of alerts in a statement: a limit on memory in the server.
const ALERTS_PER_STATEMENT: usize = 1_000;

/// Writes alerts into the table, for one instance of a consumer group.
///
/// Each instance raises the group's generation before it writes. Every transaction checks that the generation is still
/// its own. So an instance that was suspended, and resumes after another has taken over, can no longer write.
pub struct TableSink {
    pool: PgPool,
    group: String,
    /// Host name and process id, for people.
    owner: String,
    /// The generation that [`TableSink::fence`] has set for the group.
    generation: Option<i64>,
}

impl TableSink {
    /// Creates a sink for this consumer group. It connects when it is first used, and writes only after
    /// [`TableSink::fence`].
    pub fn new(options: PgConnectOptions, group: &str) -> Self {
        let pool = PgPoolOptions::new()
            .max_connections(CONNECTIONS_MAX)
            .acquire_timeout(ACQUIRE_TIMEOUT)
            .acquire_slow_threshold(ACQUIRE_TIMEOUT) // says nothing of its own: an outage has its three lines
            .connect_lazy_with(options);
        Self { pool, group: group.to_owned(), owner: owner(), generation: None }
    }

    /// Raises the group's generation. From here on other instances of the group are rejected. Waits until a transaction
    /// that holds the generation has ended. The transaction of a suspended process ends after [`IDLE_TIMEOUT`].
    ///
    /// After an error the raise may have happened, or may still happen. Raising again is safe. Nothing is written until
    /// it succeeds.
    ///
    /// # Errors
    /// The database is down, a transaction does not end within the statement timeout, or a table or right is missing.
    pub async fn fence(&mut self) -> Result<(), CallError> {
        self.generation = None;
        let mut connection = self.pool.acquire().await.map_err(failed)?;
        let mut transaction = connection.begin_with(begin()).await.map_err(failed)?;
        let statement = query_scalar(include_str!("postgres/fence.sql")).bind(&self.group).bind(&self.owner);
        let generation = statement.fetch_one(&mut *transaction).await.map_err(failed)?;
        transaction.commit().await.map_err(failed)?;
        self.generation = Some(generation);
        Ok(())
    }

    /// Writes all of the alerts, or none. Rows that exist are not changed.
    ///
    /// # Errors
    /// The database is down or rejects the alerts, or another instance of the group has raised the generation.
    pub async fn write(&mut self, alerts: &[Alert]) -> Result<(), CallError> {
        if alerts.is_empty() {
            return Ok(());
        }
        let mut connection = self.pool.acquire().await.map_err(failed)?;
        let mut transaction = connection.begin_with(begin()).await.map_err(failed)?;
        match self.write_in(&mut transaction, alerts).await {
            Ok(()) => {
                fault::point("table.inserted");
                transaction.commit().await.map_err(failed)
            }
            Err(error) => {
                // At once, as it holds up who raises the generation. Where it fails the server does it.
                let _ = transaction.rollback().await;
                Err(error)
            }
        }
    }

    async fn write_in(&self, transaction: &mut PgConnection, alerts: &[Alert]) -> Result<(), CallError> {
        let group = &self.group;
        let Some(own) = self.generation else {
            return Err(fenced(format!("this instance has not raised the generation of group {group}")));
        };
        match newest(transaction, group).await.map_err(failed)? {
            Some((newest, _)) if newest == own => insert(transaction, alerts).await.map_err(failed),
            Some((newest, raised)) => Err(fenced(format!(
                "another instance of group {group} has taken over: generation {newest} was raised by {raised}, this \
                 one has {own}"
            ))),
            None => Err(fenced(format!(
                "the row of group {group} in tripline.generations is gone, so this instance may not be the only one"
            ))),
        }
    }

    /// Closes the connections. A connection that does not answer remains until the process ends.
    pub async fn close(&self) {
        if tokio::time::timeout(ACQUIRE_TIMEOUT, self.pool.close()).await.is_err() {
            tracing::warn!("a connection to the table of alerts did not close in time");
        }
    }
}

/// The statement that begins a transaction for writing. Without a statement the transaction does not hold the group's
/// generation for long.
fn begin() -> AssertSqlSafe<String> {
    let begin = Session::Writing.begin(Sees::Newest, "UTC");
    AssertSqlSafe(format!("{begin}; set local idle_in_transaction_session_timeout = {}", IDLE_TIMEOUT.as_millis()))
}

/// The statement that begins a read-only transaction.
fn begin_reading() -> AssertSqlSafe<String> {
    AssertSqlSafe(Session::Reading(READ_TIMEOUT).begin(Sees::Newest, "UTC"))
}

/// Host name and process id, as `db1:4711`.
fn owner() -> String {
    format!("{}:{}", crate::host::name(), std::process::id())
}

/// Reads the group's newest generation, and who raised it when. No other instance can raise it before the transaction
/// ends.
async fn newest(transaction: &mut PgConnection, group: &str) -> Result<Option<(i64, String)>, sqlx::Error> {
    let row = query(include_str!("postgres/generation.sql")).bind(group).fetch_optional(transaction).await?;
    let read = |row: PgRow| {
        let (owner, raised_at): (&str, &str) = (row.try_get("owner")?, row.try_get("raised_at")?);
        Ok((row.try_get("generation")?, format!("{owner} at {raised_at}")))
    };
    row.map(read).transpose()
}

/// Inserts alerts. Rows that exist are not changed.
async fn insert(transaction: &mut PgConnection, alerts: &[Alert]) -> Result<(), sqlx::Error> {
    for part in alerts.chunks(ALERTS_PER_STATEMENT) {
        let bodies: Vec<Cow<'_, str>> = part.iter().map(|alert| without_nul(&alert.body)).collect();
        query(include_str!("postgres/insert.sql")).bind(&bodies).execute(&mut *transaction).await?;
    }
    Ok(())
}

/// Makes JSON text fit for `jsonb`: the character NUL, which Postgres's text cannot hold, becomes U+FFFD. Such a key
/// cannot exist in Postgres, so it comes only from a forged record without confirmation. It must not block other
/// alerts.
fn without_nul(json: &str) -> Cow<'_, str> {
    const NUL: &str = "\\u0000";
    if !json.contains(NUL) {
        return Cow::Borrowed(json);
    }
    let mut parts = json.split(NUL);
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        // After an odd number of backslashes this one is escaped, and the rest is plain text.
        let backslashes = out.bytes().rev().take_while(|byte| *byte == b'\\').count();
        out.push_str(if backslashes % 2 == 0 { "\u{fffd}" } else { NUL });
        out.push_str(part);
    }
    Cow::Owned(out)
}

/// The sink's name in errors.
const SINK: &str = "table tripline.alerts";

fn fenced(problem: String) -> CallError {
    CallError::new(SINK, problem, Kind::Fenced)
}

fn failed(error: sqlx::Error) -> CallError {
    let kind = if is_final(&error) { Kind::Refused } else { Kind::Unreachable };
    let problem = problem(&error);
    CallError::from_source(SINK, error, kind).with_problem(problem).at(Server::Postgres)
}

/// Whether a retry is useless: 42 is a missing table, column or right, 3F a missing schema, 22 and 23 data that the
/// table does not accept.
fn is_final(error: &sqlx::Error) -> bool {
    error.as_database_error().and_then(|error| error.code()).is_some_and(|code| is_final_code(&code))
}

fn is_final_code(code: &str) -> bool {
    ["22", "23", "3F", "42"].iter().any(|class| code.starts_with(class))
}

fn problem(error: &sqlx::Error) -> String {
    match error.as_database_error().and_then(|error| error.code()).as_deref() {
        Some("42P01" | "42703" | "3F000") => format!("{error}; run `tripline migrate`"),
        Some("42501") => format!(
            "{error}; it needs USAGE on schema tripline, INSERT and SELECT on tripline.alerts, and INSERT, SELECT and \
             UPDATE on tripline.generations"
        ),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ends_a_run() {
        let check = |code: &str, want: bool| assert_eq!(is_final_code(code), want, "{code}");
        check("42P01", true); // no such table
        check("42501", true); // no right
        check("3F000", true); // no such schema
        check("22P05", true); // a character that text cannot hold
        check("57P01", false); // shutting down
        check("25P03", false); // a transaction that was idle for too long
        check("57014", false); // statement timeout
        check("53300", false); // too many connections
        check("25006", false); // read only: a standby, before it is promoted
        check("28P01", false); // a password that is being changed
        check("40P01", false); // deadlock
        assert!(!is_final(&sqlx::Error::PoolTimedOut));
    }

    #[test]
    fn nul_is_replaced() {
        let check = |json: &str, want: &str| assert_eq!(without_nul(json), want, "{json}");
        check(r#"{"a":"b"}"#, r#"{"a":"b"}"#);
        check(r#"{"a":"x\u0000\u0000y"}"#, "{\"a\":\"x\u{fffd}\u{fffd}y\"}");
        check(r#"{"a":"\\u0000"}"#, r#"{"a":"\\u0000"}"#); // a backslash, and then text
        check(r#"{"a":"\\\u0000"}"#, "{\"a\":\"\\\\\u{fffd}\"}"); // a backslash, and then NUL
    }
}
