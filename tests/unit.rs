//! A unit through the public API: from changes over the database's answers to the bytes of alerts.
//!
//! - `episodes`: candidates and what becomes of them
//! - `alerts`: ids and records
//! - `stored`: closing, redoing, restoring
//! - `bench`: a unit with its stream and its clock in one hand
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "tests")]

#[path = "support/changes.rs"]
mod support;

#[path = "unit/alerts.rs"]
mod alerts;
#[path = "unit/bench.rs"]
mod bench;
#[path = "unit/episodes.rs"]
mod episodes;
#[path = "unit/stored.rs"]
mod stored;
