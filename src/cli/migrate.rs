//! `tripline migrate`: makes the table of alerts, or brings it up to date.

use std::io::Write;

use sqlx::Connection;

use super::failure::Failure;
use super::table::Place;
use super::{Exit, MigrateArgs};
use crate::{config, telemetry};

/// Runs the migrations and says what was done.
///
/// # Errors
/// A [`Failure`] that says how the process is to end.
pub async fn migrate(args: &MigrateArgs) -> Result<(), Failure> {
    let wrong = |message: String| Failure::new(Exit::Misconfigured, message);
    let config = config::load(&args.config, config::process_environment()).map_err(|e| wrong(e.to_string()))?;
    telemetry::init(&config.log.level, config.log.format).map_err(wrong)?;
    let place = match &args.url {
        Some(url) => Place::new(url, "--url")?,
        None => Place::of_table(&config)?,
    };
    let mut connection = place.connect(config.startup_wait).await?;
    let done = place.migrate(&mut connection).await?;
    let _ = connection.close().await;
    let mut out = std::io::stdout();
    let written = match done.applied.as_slice() {
        [] => writeln!(out, "tripline.alerts at {} is up to date: migrations applied: {}", place.shown(), done.all),
        applied => applied.iter().try_for_each(|name| writeln!(out, "applied migration {name} at {}", place.shown())),
    };
    written.map_err(|error| Failure::new(Exit::Failed, format!("standard output: {error}")))
}
