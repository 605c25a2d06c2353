//! `tripline migrate`: creates the table of alerts, or brings it up to date.

use sqlx::Connection;

use super::MigrateArgs;
use super::terminal::print;
use crate::app;
use crate::app::alerts_table::AlertsTable;
use crate::failure::Failure;
use crate::retry::Retry;

/// Runs the migrations and prints what was done.
///
/// # Errors
/// A [`Failure`] that says how the process is to end.
pub async fn migrate(args: &MigrateArgs) -> Result<(), Failure> {
    let config = app::load(&args.config)?;
    let table = match &args.url {
        Some(url) => AlertsTable::at(url, "--url")?,
        None => AlertsTable::of(&config)?,
    };
    let mut connection = table.connect(Retry::for_at_most(config.startup_wait)).await?;
    let done = table.migrate(&mut connection).await?;
    let _ = connection.close().await;
    let shown = table.shown();
    let lines: Vec<String> = match done.applied.as_slice() {
        [] => vec![format!("tripline.alerts at {shown} is up to date: migrations applied: {}", done.all)],
        applied => applied.iter().map(|name| format!("applied migration {name} at {shown}")).collect(),
    };
    print(&lines)
}
