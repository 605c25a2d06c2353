//! The main loop against in-memory twins of Kafka, Postgres and the sinks, on virtual time: what is told,
//! when, and what is told again, whatever ends a run in between.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]
#![allow(missing_docs, unreachable_pub, reason = "tests")]

#[path = "monitor/backup.rs"]
mod backup;
#[path = "monitor/board.rs"]
mod board;
#[path = "monitor/confirmation.rs"]
mod confirmation;
#[path = "monitor/crash.rs"]
mod crash;
#[path = "monitor/episodes.rs"]
mod episodes;
#[path = "monitor/faults.rs"]
mod faults;
#[path = "monitor/layers.rs"]
mod layers;
#[path = "monitor/partitions.rs"]
mod partitions;
#[path = "monitor/power.rs"]
mod power;
#[path = "monitor/support.rs"]
mod support;
#[path = "monitor/timeline.rs"]
mod timeline;
