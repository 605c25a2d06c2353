//! The table of alerts: connecting to it, preparing it, and reporting what is wrong with it.

use sqlx::Connection;
use sqlx::migrate::MigrateError;
use sqlx::postgres::PgConnection;

use crate::config::{self, Config};
use crate::failure::{CallError, Exit, Failure, Kind};
use crate::postgres::{Database, Session, kind};
use crate::retry::Retry;
use crate::sink::postgres::TableSink;
use crate::sink::postgres::migrations::{self, Migrated};
use crate::sink::postgres::rights::{Found, rights};

/// The database with the table of alerts.
#[derive(Clone, Debug)]
pub struct AlertsTable(Database);

impl AlertsTable {
    /// Returns the database of a configuration.
    ///
    /// # Errors
    /// The setting is not a Postgres URL.
    pub fn of(config: &Config) -> Result<Self, Failure> {
        let (url, setting) = config.table_url();
        Self::at(url, setting)
    }

    /// Returns the database at this URL, which `setting` gave.
    ///
    /// # Errors
    /// The setting is not a Postgres URL.
    pub fn at(url: &str, setting: &'static str) -> Result<Self, Failure> {
        config::check_url(url).map_err(|problem| Failure::misconfigured(format!("{setting}: {problem}")))?;
        Ok(Self(Database::new(url, config::redact_url(url), setting, Session::Writing)?))
    }

    /// The URL without its password.
    pub fn shown(&self) -> &str {
        self.0.shown()
    }

    /// Connects, and retries by this rule.
    ///
    /// # Errors
    /// The server cannot be reached, or refuses.
    pub async fn connect(&self, retry: Retry) -> Result<PgConnection, CallError> {
        self.0.connect(retry).await
    }

    /// Connects once.
    ///
    /// # Errors
    /// The server cannot be reached, or refuses.
    pub async fn try_connect(&self) -> Result<PgConnection, CallError> {
        self.0.try_connect().await
    }

    /// Returns the error of a failed statement on the table.
    pub fn failed(&self, error: sqlx::Error) -> CallError {
        let code = error.as_database_error().and_then(|error| error.code().map(|code| code.into_owned()));
        match code.as_deref() {
            Some("42P01" | "3F000") => self.no_table(),
            Some("42703") => self.old_table(),
            _ => self.0.failed(error),
        }
    }

    fn wrong(&self, problem: &str) -> CallError {
        let call = format!("tripline.alerts at {} ({})", self.0.shown(), self.0.setting());
        CallError::new(call, problem, Kind::Misconfigured)
    }

    fn no_table(&self) -> CallError {
        self.wrong("there is no such table: configure [alerts.postgres], or run `tripline migrate`")
    }

    fn old_table(&self) -> CallError {
        self.wrong("the table is of an older version of this program: run `tripline migrate`")
    }

    /// Brings the table up to date.
    ///
    /// # Errors
    /// The role may not do this, or the migrations do not fit.
    pub async fn migrate(&self, connection: &mut PgConnection) -> Result<Migrated, Failure> {
        migrations::run(connection).await.map_err(|error| match error {
            MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) if kind(&error) == Kind::Refused => {
                Failure::new(
                    Exit::Refused,
                    format!(
                        "the table tripline.alerts at {} could not be created or brought up to date: {error}; run `tripline migrate` with a role that may, and set alerts.postgres.migrate = false here",
                        self.shown()
                    ),
                )
            }
            MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => self.failed(error).into(),
            other => {
                Failure::new(Exit::Protected, format!("the migrations at {} do not fit: {other}", self.shown()))
            }
        })
    }
}

/// Returns the table sink of a configuration, after checking that the table exists and can be written.
///
/// # Errors
/// The table does not exist, or a right is missing.
pub(super) async fn sink(config: &Config) -> Result<Option<TableSink>, Failure> {
    let Some(settings) = &config.alerts.postgres else { return Ok(None) };
    let table = AlertsTable::of(config)?;
    let mut connection = table.connect(Retry::for_at_most(config.startup_wait)).await?;
    if settings.migrate {
        let done = table.migrate(&mut connection).await?;
        if !done.applied.is_empty() {
            tracing::info!(url = table.shown(), applied = done.applied.join(", "), "the table of alerts is up to date");
        }
    }
    let found = rights(&mut connection).await.map_err(|error| table.failed(error))?;
    let _ = connection.close().await;
    let rights = match found {
        Found::Nothing => return Err(table.no_table().into()),
        Found::Older => return Err(table.old_table().into()),
        Found::Tables(rights) => rights,
    };
    if let Some(grants) = rights.missing() {
        return Err(Failure::new(
            Exit::Refused,
            format!(
                "role {} may not write to tripline.alerts at {}; have its owner run: {grants}",
                rights.role,
                table.shown()
            ),
        ));
    }
    Ok(Some(TableSink::new(table.0.options().clone(), &config.kafka.group_id)))
}
