//! A unit: from changes over the database's answers to the bytes of alerts.
//!
//! - `episodes`: candidates and what becomes of them
//! - `alerts`: ids and records
//! - `stored`: closing, redoing, restoring
//! - `bench`: a unit with its stream and its clock in one hand

mod alerts;
mod bench;
mod episodes;
mod stored;
