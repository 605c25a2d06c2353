//! A unit: from changes over the database's answers to the bytes of alerts.
//!
//! - `episodes`: candidates and what becomes of them
//! - `alerts`: ids and records
//! - `stored`: closing, redoing, restoring
//! - `of_postgres`: rules that Postgres alone evaluates
//! - `order`: candidates under event time, one after the other
//! - `reasons`: why an episode is over
//! - `bench`: a unit with its stream and its clock in one hand

mod alerts;
mod bench;
mod episodes;
mod of_postgres;
mod order;
mod reasons;
mod stored;
mod tables;
