//! Tripline: threshold alerts over a Debezium change stream, each one confirmed by Postgres before it is
//! raised. A rule is one SQL aggregate query, with two evaluators: memory, kept up to date over the stream,
//! and the database itself.
//!
//! ```text
//! Kafka topic ─ source ─ change ─ window ─ episode ─┬─ confirm (Postgres) ─ alert ─ offsets/N ─┬─ alert topic, log
//!  (Debezium)                       │               │                                          └─ commits/N
//!                                state/N            └─ what still waits ── offsets/N
//! ```
//!
//! In reading order:
//!
//! - [`model`]: the words that every stage shares
//! - [`progress`]: how far a group has come, and where a start goes on from
//! - [`change`]: bytes of Kafka → changes of rows
//! - [`rule`]: SQL → typed rule → program over rows, and SQL again
//! - [`window`]: rows by key and time, running aggregates
//! - [`episode`]: evaluation in memory → candidate → the database's answer → decision
//! - [`snapshot`]: which transactions a statement has seen
//! - [`alert`]: a decision's bytes and id
//! - [`mod@unit`]: the partitions that are evaluated together
//! - [`failure`]: what an error means: retried or not, exit code, hint
//! - [`planted`]: bugs that a test can switch on
//! - [`checkpoint`], [`retry`], [`clock`], [`telemetry`], [`host`], [`fault`]: what every layer above needs
//! - [`source`], [`confirm`], [`sink`]: the ports, and their adapters
//! - [`kafka`], [`postgres`]: the one door to each server
//! - [`job`]: what the jobs share
//! - [`monitor`]: the main job's loop; [`run_status`]: what it shows
//! - [`archive`]: the loop of the archive, which writes every change of a table to Parquet
//! - [`app`]: what each command does; [`config`]: its settings
//! - [`cli`], [`web`]: what people and programs see
//! - [`demo`]: servers and shoppers for a first look
//!
//! ARCHITECTURE.md has the layers; `tests/tidy` holds every module to them.

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
