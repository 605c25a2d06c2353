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
//! - [`change`]: bytes of Kafka → changes of rows
//! - [`rule`]: SQL → typed rule → program over rows, and SQL again
//! - [`window`]: rows by key and time, running aggregates
//! - [`episode`]: verdict in memory → candidate → the database's answer → decision
//! - [`snapshot`]: which transactions a statement has seen
//! - [`alert`]: a decision's bytes and id
//! - [`unit`]: the partitions that are judged together
//! - [`checkpoint`]: progress in two layers
//! - [`source`], [`confirm`], [`sink`], [`clock`]: the adapters
//! - [`board`]: what a run shows of itself
//! - [`job`]: what the jobs share
//! - [`monitor`]: the main job's loop
//! - [`archive`]: the loop of the archive, which writes every change of a table to Parquet
//! - [`web`]: the page, health and metrics
//! - [`config`], [`telemetry`], [`host`], [`cli`]: how it is started
//! - [`fault`]: where tests end the process
//!
//! The modules from `model` to `unit` are pure: no clock, no socket, no runtime; `tests/tidy.rs` sees to it.

pub mod model;

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

pub mod archive;
pub mod board;
pub mod job;
pub mod monitor;

pub mod cli;
pub mod config;
pub mod fault;
pub mod host;
pub mod telemetry;
pub mod web;
