//! The decoder against records captured from Debezium 3.7 (`tests/fixtures`), against every edge known, and
//! against nonsense.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    missing_docs,
    unreachable_pub,
    reason = "tests"
)]

mod adjusted;
mod avro;
mod bad_inputs;
mod captures;
mod envelopes;
mod full_row;
mod properties;
mod replay;
mod sources;
mod support;
mod unwrapped;
mod values;
