//! What the commands on the table of alerts share: connecting, preparing it, and saying what is wrong.

use std::borrow::Cow;

use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{ConnectOptions, Connection};
use tokio::time::{Duration, Instant};

use super::Exit;
use super::database::{CONNECT_MAX, RETRY_FIRST, RETRY_MAX, answered};
use super::failure::{Failure, refusal};
use crate::config::{self, Config};
use crate::sink::postgres::migrations::{self, Migrated};
use crate::sink::postgres::rights::{Found, rights};
use crate::sink::postgres::{self, TableSink};

/// A database of the configuration's, as errors name it.
#[derive(Clone, Debug)]
pub(super) struct Place {
    options: PgConnectOptions,
    /// The URL without its password.
    shown: String,
    /// Where the URL comes from.
    setting: &'static str,
}

impl Place {
    pub(super) fn new(url: &str, setting: &'static str) -> Result<Self, Failure> {
        let wrong = |problem: String| Failure::new(Exit::Misconfigured, format!("{setting}: {problem}"));
        config::check_url(url).map_err(wrong)?;
        let options = postgres::options(url).map_err(|error| wrong(error.to_string()))?;
        Ok(Self { options, shown: config::redact_url(url), setting })
    }

    /// The database of the table.
    pub(super) fn of_table(config: &Config) -> Result<Self, Failure> {
        let (url, setting) = config.table_url();
        Self::new(url, setting)
    }

    /// The database of the rules' tables, read only.
    pub(super) fn of_rules(config: &Config) -> Result<Self, Failure> {
        let options = crate::confirm::postgres::options(&config.postgres.url, config.postgres.statement_timeout)
            .map_err(|error| Failure::new(Exit::Misconfigured, format!("postgres.url: {error}")))?;
        Ok(Self { options, shown: config::redact_url(&config.postgres.url), setting: "postgres.url" })
    }

    pub(super) fn shown(&self) -> &str {
        &self.shown
    }

    /// Connects, once.
    pub(super) async fn try_connect(&self) -> Result<PgConnection, sqlx::Error> {
        answered(CONNECT_MAX, self.options.connect()).await
    }

    /// Connects, waiting for a server that is not there yet.
    pub(super) async fn connect(&self, patience: Duration) -> Result<PgConnection, Failure> {
        let deadline = Instant::now() + patience;
        let mut wait = RETRY_FIRST;
        loop {
            let error = match self.try_connect().await {
                Ok(connection) => return Ok(connection),
                Err(error) if refusal(&error).is_some() || Instant::now() + wait > deadline => {
                    return Err(self.failed(&error));
                }
                Err(error) => error,
            };
            tracing::warn!(url = self.shown, %error, "waiting for Postgres");
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(RETRY_MAX);
        }
    }

    /// How a command ends after this error.
    pub(super) fn failed(&self, error: &sqlx::Error) -> Failure {
        let Self { shown, setting, .. } = self;
        match code(error).as_deref() {
            Some("42P01" | "3F000") => return self.no_table(),
            Some("42703") => return self.old_table(),
            _ => {}
        }
        match refusal(error) {
            Some(exit) => Failure::new(exit, format!("Postgres at {shown} refused: {error}")),
            None => Failure::new(
                Exit::Unreachable,
                format!("Postgres at {shown} could not be reached: {error}; is it running, and is {setting} right?"),
            ),
        }
    }

    pub(super) fn no_table(&self) -> Failure {
        Failure::new(
            Exit::Misconfigured,
            format!(
                "there is no table tripline.alerts at {} ({}): configure [alerts.postgres], or run `tripline migrate`",
                self.shown, self.setting
            ),
        )
    }

    /// The table lacks what a later migration adds.
    fn old_table(&self) -> Failure {
        Failure::new(
            Exit::Misconfigured,
            format!(
                "the table tripline.alerts at {} ({}) is of an older version of this program: run `tripline migrate`",
                self.shown, self.setting
            ),
        )
    }

    /// Brings the table up to date.
    pub(super) async fn migrate(&self, connection: &mut PgConnection) -> Result<Migrated, Failure> {
        use sqlx::migrate::MigrateError;
        migrations::run(connection).await.map_err(|error| match error {
            MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => match refusal(&error) {
                Some(Exit::Refused) => Failure::new(
                    Exit::Refused,
                    format!(
                        "the table tripline.alerts at {} could not be made or brought up to date: {error}; run \
                         `tripline migrate` with a role that may, and set alerts.postgres.migrate = false here",
                        self.shown
                    ),
                ),
                _ => self.failed(&error),
            },
            other => Failure::new(Exit::Protected, format!("the migrations at {} do not fit: {other}", self.shown)),
        })
    }
}

/// The SQLSTATE of what the server says.
fn code(error: &sqlx::Error) -> Option<Cow<'_, str>> {
    error.as_database_error()?.code()
}

/// The table sink of a configuration, its table there and writable.
pub(super) async fn sink(config: &Config) -> Result<Option<TableSink>, Failure> {
    let Some(settings) = &config.alerts.postgres else {
        return Ok(None);
    };
    let place = Place::of_table(config)?;
    let mut connection = place.connect(config.startup_wait).await?;
    if settings.migrate {
        let done = place.migrate(&mut connection).await?;
        if !done.applied.is_empty() {
            tracing::info!(url = place.shown, applied = done.applied.join(", "), "the table of alerts is up to date");
        }
    }
    let found = rights(&mut connection).await.map_err(|error| place.failed(&error))?;
    let _ = connection.close().await;
    let rights = match found {
        Found::Nothing => return Err(place.no_table()),
        Found::Older => return Err(place.old_table()),
        Found::Tables(rights) => rights,
    };
    if let Some(grants) = rights.missing() {
        let (role, shown) = (&rights.role, &place.shown);
        return Err(Failure::new(
            Exit::Refused,
            format!("role {role} may not write to tripline.alerts at {shown}; have its owner run: {grants}"),
        ));
    }
    Ok(Some(TableSink::new(place.options, &config.kafka.group_id)))
}
