//! The application: from the configuration to the result of each command, without arguments and printing.
//!
//! Each job is put together in a straight line: load → connect → compile rules → check → wire → run. Each step is a
//! function that returns a value. Only this module names jobs and adapters together.
//!
//! - [`run`]: the main job
//! - [`archive`]: the archive job, and its status
//! - [`rules`]: rules compiled against the catalog
//! - [`sinks`]: the sinks of a configuration
//! - [`servers`]: the servers of a configuration, and waiting for them, for topics and for the group
//! - [`alerts_table`]: the table of alerts: migrations, rights, reading
//! - [`progress`]: what the next start does, found out without disturbing a run
//! - [`offsets`]: moving the group manually
//! - [`reprocess`]: reading everything again as another group
//! - [`explain`]: why an alert fired
//! - [`doctor`]: checks of everything that a run needs
//! - [`health`]: whether a run is alive
//! - [`demo`]: the main job on servers that the demo starts itself

pub mod alerts_table;
pub mod archive;
pub mod demo;
pub mod doctor;
pub mod explain;
pub mod health;
pub mod offsets;
pub mod progress;
pub mod reprocess;
pub mod rules;
pub mod run;
pub mod servers;
pub mod sinks;

use std::path::Path;

use crate::config::{self, ArchiveConfig, Config};
use crate::failure::Failure;
use crate::telemetry;

/// Reads the configuration and starts the log.
///
/// # Errors
/// The configuration is wrong. The message has all problems.
pub fn load(file: &Path) -> Result<Config, Failure> {
    let config = config::load(file, config::process_environment());
    let config = config.map_err(|error| Failure::misconfigured(error.to_string()))?;
    telemetry::init(&config.log.level, config.log.format).map_err(Failure::misconfigured)?;
    Ok(config)
}

/// Reads the configuration of the archive and starts the log.
///
/// # Errors
/// The configuration is wrong. The message has all problems.
pub fn load_archive(file: &Path) -> Result<ArchiveConfig, Failure> {
    let config = config::load_archive(file, config::process_environment());
    let config = config.map_err(|error| Failure::misconfigured(error.to_string()))?;
    telemetry::init(&config.log.level, config.log.format).map_err(Failure::misconfigured)?;
    Ok(config)
}
