//! The pure core through its public API.
//!
//! - `unit`: from changes over the database's answers to the bytes of alerts
//! - `window`: rows, aggregates and time, against sums taken from scratch
//! - `support`: a table of transactions, rules over it, and changes of its rows in few words
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "tests")]

mod support;
mod unit;
mod window;
