//! The in-memory twin of a query, through the public API.
//!
//! - `evaluate`: one row and one group: edges, verdicts, aggregates
//! - `examples`: what a window does with the changes of a stream, by name
//! - `model`: the same for random histories, against sums taken from scratch
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "tests")]

#[path = "support/changes.rs"]
mod support;

#[path = "window/evaluate.rs"]
mod evaluate;
#[path = "window/examples.rs"]
mod examples;
#[path = "window/model.rs"]
mod model;
