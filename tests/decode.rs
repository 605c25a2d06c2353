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

#[path = "decode/envelopes.rs"]
mod envelopes;
#[path = "decode/properties.rs"]
mod properties;
#[path = "decode/replay.rs"]
mod replay;
#[path = "decode/support.rs"]
mod support;
#[path = "decode/values.rs"]
mod values;
#[path = "decode/whole.rs"]
mod whole;
