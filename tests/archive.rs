//! The archive: its files, and the whole loop in memory on virtual time.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::cast_possible_truncation,
    clippy::disallowed_methods,
    reason = "tests"
)]
#![allow(missing_docs, unreachable_pub, reason = "tests")]

#[path = "archive/again.rs"]
mod again;
#[path = "archive/crash.rs"]
mod crash;
#[path = "archive/layers.rs"]
mod layers;
#[path = "archive/parquet.rs"]
mod parquet_file;
#[path = "archive/world.rs"]
mod world;
