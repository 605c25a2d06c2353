//! The judging as a table.
