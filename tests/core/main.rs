//! The pure core through its public API.
//!
//! - `bad_rules`: SQL that is no rule, with what is said of it
//! - `unit`: from changes over the database's answers to the bytes of alerts
//! - `window`: rows, aggregates and time, against sums taken from scratch
//! - `schema`: docs/alert.schema.json, with `tests/docs`
//! - `support`: a table of transactions, rules over it, and changes of its rows in few words
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "tests")]

mod bad_rules;
#[path = "../docs/schema.rs"]
mod schema;
mod support;
mod unit;
mod window;
