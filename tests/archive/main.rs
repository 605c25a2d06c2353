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

mod again;
mod crash;
mod layers;
mod parquet_file;
mod world;
