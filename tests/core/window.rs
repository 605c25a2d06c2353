//! A rule's rows and aggregates in memory.
//!
//! - `evaluate`: one row and one group: edges, evaluations, aggregates
//! - `examples`: what a window does with the changes of a stream, by name
//! - `many_rows`: a key with thousands of rows, keys and values of all kinds, against a plain table
//! - `model`: the same for random histories, against sums taken from scratch
//! - `times`: rules that go by NOW() elsewhere than in the lower bound
//! - `zones`: months, and days over a change of the clocks, whose edges do not only go forward

mod emptied;
mod evaluate;
mod examples;
mod expressions;
mod many_rows;
mod model;
mod times;
mod unchanged;
mod zones;
