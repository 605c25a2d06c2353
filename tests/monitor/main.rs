//! The main loop against in-memory twins of Kafka, Postgres and the sinks, on virtual time: what is told,
//! when, and what is told again, whatever ends a run in between.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]
#![allow(missing_docs, unreachable_pub, reason = "tests")]

mod audit;
mod candidates;
mod confirmation;
mod crash;
mod episodes;
mod faults;
mod incomplete;
mod layers;
mod log;
mod partitions;
mod power;
mod rebuilding;
mod recovery_topic;
mod rules;
mod run_status;
mod support;
mod timeline;
