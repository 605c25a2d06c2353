//! The table `tripline.alerts`: alerts as rows, each id once.
//!
//! - [`migrations`]: how the table comes to be
//! - [`stored`]: reading it

pub mod migrations;
pub mod stored;

use std::borrow::Cow;
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgConnection, PgPool, PgPoolOptions, PgRow};
use sqlx::{Connection, Row};

use super::SinkError;
use crate::alert::Alert;
use crate::confirm::postgres;

/// How long a write waits for a free connection.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);
/// How long one statement may run.
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(30);
/// Epochs are written one after the other; the second connection is for the moment in which the first breaks.
const CONNECTIONS_MAX: u32 = 2;
/// Alerts of one statement: a bound on memory in the server.
const ALERTS_PER_STATEMENT: usize = 1_000;

/// The options of a connection that may write; TLS, time zone and name as those that confirm.
///
/// # Errors
/// Not a Postgres URL.
pub fn options(url: &str) -> Result<PgConnectOptions, sqlx::Error> {
    // The last of two settings of one name holds.
    Ok(postgres::options(url, STATEMENT_TIMEOUT)?.options([("default_transaction_read_only", "off")]))
}

/// Writes alerts into the table.
pub struct TableSink {
    pool: PgPool,
}

impl TableSink {
    /// Connects when there is something to write.
    pub fn new(options: PgConnectOptions) -> Self {
        let pool = PgPoolOptions::new()
            .max_connections(CONNECTIONS_MAX)
            .acquire_timeout(ACQUIRE_TIMEOUT)
            .connect_lazy_with(options);
        Self { pool }
    }

    /// Writes all of them, or none. Those that are there already stay as they are.
    ///
    /// # Errors
    /// The database is away, or does not take them: fatal where trying again would not help.
    pub async fn write(&self, alerts: &[Alert]) -> Result<(), SinkError> {
        let refused = |error: sqlx::Error| SinkError {
            sink: "table tripline.alerts",
            problem: problem(&error),
            fatal: is_final(&error),
        };
        let mut connection = self.pool.acquire().await.map_err(refused)?;
        insert(&mut connection, alerts).await.map_err(refused).map(drop)
    }

    /// Closes the connections.
    pub async fn close(&self) {
        self.pool.close().await;
    }
}

/// Inserts alerts in one transaction, and returns how many were new.
///
/// # Errors
/// The database's; nothing has been written then.
pub async fn insert(connection: &mut PgConnection, alerts: &[Alert]) -> Result<u64, sqlx::Error> {
    let mut transaction = connection.begin().await?;
    let mut new = 0;
    for part in alerts.chunks(ALERTS_PER_STATEMENT) {
        let bodies: Vec<Cow<'_, str>> = part.iter().map(|alert| without_nul(&alert.body)).collect();
        let done = sqlx::query(include_str!("postgres/insert.sql")).bind(&bodies).execute(&mut *transaction).await?;
        new += done.rows_affected();
    }
    transaction.commit().await?;
    Ok(new)
}

/// JSON text as `jsonb` takes it: the character NUL, which Postgres's text cannot hold, becomes U+FFFD. Such a key is
/// none of Postgres's, so it comes only from a forged record and without confirmation; it must not block the others.
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

/// What a role may do with the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rights {
    /// The role's name.
    pub role: String,
    /// USAGE on the schema.
    pub usage: bool,
    /// INSERT on the table.
    pub insert: bool,
    /// SELECT on the table.
    pub select: bool,
}

impl Rights {
    /// The statement that gives what writing needs and is not there; `None` when nothing is missing.
    pub fn missing(&self) -> Option<String> {
        let role = crate::rule::render::quote_ident(&self.role);
        let mut grants = Vec::new();
        if !self.usage {
            grants.push(format!("GRANT USAGE ON SCHEMA tripline TO {role}"));
        }
        let wanted = [(self.insert, "INSERT"), (self.select, "SELECT")];
        let rights: Vec<&str> = wanted.iter().filter(|(there, _)| !there).map(|(_, right)| *right).collect();
        if !rights.is_empty() {
            grants.push(format!("GRANT {} ON tripline.alerts TO {role}", rights.join(", ")));
        }
        (!grants.is_empty()).then(|| grants.join("; "))
    }
}

/// Reads what this connection's role may do with the table; `None` when there is no table.
///
/// # Errors
/// The connection fails.
pub async fn rights(connection: &mut PgConnection) -> Result<Option<Rights>, sqlx::Error> {
    let row = sqlx::query(include_str!("postgres/rights.sql")).fetch_optional(connection).await?;
    let read = |row: PgRow| {
        Ok(Rights {
            role: row.try_get("role")?,
            usage: row.try_get("usage")?,
            insert: row.try_get("may_insert")?,
            select: row.try_get("may_select")?,
        })
    };
    row.map(read).transpose()
}

/// Whether trying again is of no use: 42 is a missing table, column or right, 3F a missing schema, 22 and 23 data
/// that the table does not take.
fn is_final(error: &sqlx::Error) -> bool {
    error.as_database_error().and_then(|error| error.code()).is_some_and(|code| is_final_code(&code))
}

fn is_final_code(code: &str) -> bool {
    ["22", "23", "3F", "42"].iter().any(|class| code.starts_with(class))
}

fn problem(error: &sqlx::Error) -> String {
    match error.as_database_error().and_then(|error| error.code()).as_deref() {
        Some("42P01" | "3F000") => format!("{error}; run `tripline migrate`"),
        Some("42501") => format!("{error}; it needs USAGE on schema tripline, INSERT and SELECT on tripline.alerts"),
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

    #[test]
    fn missing_rights_come_as_statements() {
        let check = |usage, insert, select, want: Option<&str>| {
            let rights = Rights { role: "a\"b".to_owned(), usage, insert, select };
            assert_eq!(rights.missing().as_deref(), want);
        };
        check(true, true, true, None);
        check(true, true, false, Some("GRANT SELECT ON tripline.alerts TO \"a\"\"b\""));
        check(
            false,
            false,
            false,
            Some("GRANT USAGE ON SCHEMA tripline TO \"a\"\"b\"; GRANT INSERT, SELECT ON tripline.alerts TO \"a\"\"b\""),
        );
    }
}
