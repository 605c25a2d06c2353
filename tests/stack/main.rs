//! The binary on real servers: Postgres, Debezium and Kafka. `scripts/test` starts them and runs these tests.
//!
//! Every test but `canonical` has a database, a connector, a topic and groups of its own, so that they may run at
//! the same time. The servers' addresses come from the variables that `scripts/stack env` prints.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "tests"
)]
#![allow(missing_docs, unreachable_pub, reason = "tests")]

mod archive;
mod bad_records;
mod candidates;
mod canonical;
mod changes;
mod differential;
mod doctor;
mod encodings;
mod event_time;
mod exactly_once;
mod examples;
mod first_steps;
mod formats;
mod golden;
mod harness;
mod large;
mod long_running;
mod offsets;
mod proxies;
mod proxy;
mod recovery;
mod replays;
mod reprocess;
mod rules;
mod secrets;
mod secured;
mod sources;
mod table;
mod truth;
mod web;
mod whose;
mod world;
mod wrong;
mod zones;
