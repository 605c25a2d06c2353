//! Tripline: threshold alerts over a Debezium change stream. Postgres confirms each alert before it is raised. A rule
//! is one SQL aggregate query with two evaluators: memory, kept up to date over the stream, and the database itself.
//!
//! ```text
//! Kafka topic ─ source ─ change ─ window ─ episode ─┬─ confirm (Postgres) ─ alert ─ offsets/N ─┬─ alert topic, log
//!  (Debezium)                       │               │                                          └─ commits/N
//!                                state/N            └─ what still waits ── offsets/N
//! ```
//!
//! In reading order:
//!
//! - [`model`]: the types that every stage shares
//! - [`progress`]: the progress of a group, and where a start continues
//! - [`change`]: bytes from Kafka → changes of rows
//! - [`rule`]: SQL → typed rule → program over rows, and SQL again
//! - [`window`]: rows by key and time, running aggregates
//! - [`episode`]: evaluation in memory → candidate → the database's answer → decision
//! - [`snapshot`]: the transactions that a statement has seen
//! - [`alert`]: a decision's bytes and id
//! - [`mod@unit`]: the partitions that are evaluated together
//! - [`failure`]: the consequences of an error: retried or not, exit code, hint
//! - [`planted`]: bugs that a test can switch on
//! - [`checkpoint`], [`retry`], [`clock`], [`telemetry`], [`host`], [`fault`]: the base of every layer above
//! - [`source`], [`confirm`], [`sink`]: the ports, and their adapters
//! - [`kafka`], [`postgres`]: access to each server
//! - [`job`]: the common part of the jobs
//! - [`monitor`]: the main job's loop
//! - [`run_status`]: the status that the loop shows
//! - [`archive`]: the loop of the archive, which writes every change of a table to Parquet
//! - [`app`]: the work of each command
//! - [`config`]: the settings
//! - [`cli`], [`web`]: the interfaces for people and programs
//! - [`demo`]: servers and shoppers for a first try
//!
//! ARCHITECTURE.md describes the layers. `tests/tidy` checks that every module is in its layer.

pub mod contract;
pub mod failure;
pub mod model;
pub mod planted;
pub mod progress;
pub mod retry;

pub mod change;
pub mod rule;

pub mod window;

pub mod episode;
pub mod snapshot;

pub mod alert;

pub mod unit;

pub mod checkpoint;

pub mod clock;
pub mod confirm;
pub mod sink;
pub mod source;

pub mod app;
pub mod archive;
pub mod job;
pub mod monitor;
pub mod run_status;

pub mod cli;
pub mod config;
pub mod demo;
#[cfg(feature = "fakes")]
pub mod fakes;
pub mod fault;
pub mod host;
pub mod http;
pub mod kafka;
pub mod postgres;
pub mod telemetry;
pub mod web;
