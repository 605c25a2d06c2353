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

#[path = "stack/archive.rs"]
mod archive;
#[path = "stack/bad_records.rs"]
mod bad_records;
#[path = "stack/canonical.rs"]
mod canonical;
#[path = "stack/changes.rs"]
mod changes;
#[path = "stack/doctor.rs"]
mod doctor;
#[path = "stack/encodings.rs"]
mod encodings;
#[path = "stack/exactly_once.rs"]
mod exactly_once;
#[path = "stack/harness.rs"]
mod harness;
#[path = "stack/long_running.rs"]
mod long_running;
#[path = "stack/offsets.rs"]
mod offsets;
#[path = "stack/recovery.rs"]
mod recovery;
#[path = "stack/replays.rs"]
mod replays;
#[path = "stack/reprocess.rs"]
mod reprocess;
#[path = "stack/table.rs"]
mod table;
#[path = "stack/truth.rs"]
mod truth;
#[path = "stack/web.rs"]
mod web;
#[path = "stack/wrong.rs"]
mod wrong;
