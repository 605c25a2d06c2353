//! The protocol of epochs as a model (the package in `model/`), every state of which is visited.
//!
//! - this file: with all rules every property holds, and the rules are where the model says they are
//! - `removed`: without one of the rules something breaks
//! - `start`: the model decides like the code where a start continues
//!
//! `TRIPLINE_MODEL` sets the bounds of `slow_every_state_within_given_bounds`, as six numbers in the order of
//! [`tripline_model::Bounds`], for example `TRIPLINE_MODEL="2 2 1 1 1 1"`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "tests; what was counted is shown"
)]

mod removed;
mod start;

use std::fs;
use std::path::Path;

use tripline_model::properties::REACHED;
use tripline_model::{Bounds, Rule, Rules, visit};

/// Threads of one search.
const THREADS: usize = 2;

/// Records, crashes, expired sessions, late requests, failures to send, lost folders.
fn bounds([records, crashes, expiries, late, failures, folders_lost]: [u8; 6]) -> Bounds {
    Bounds { records, crashes, expiries, late, failures, folders_lost }
}

/// Visits every state, and prints how many there are.
fn holds(numbers: [u8; 6]) {
    let report = visit(Rules::all(), bounds(numbers), THREADS);
    println!("{:?}: {} states, {} steps, depth {}", bounds(numbers), report.states, report.steps, report.depth);
    assert_eq!(report.broken, Vec::<&str>::new());
    assert!(report.states > 1_000, "the model hardly moves");
    let mut reached = report.reached;
    reached.sort_unstable();
    let mut expected = REACHED.to_vec();
    expected.sort_unstable();
    assert_eq!(reached, expected);
}

#[test]
fn every_state_with_two_records_and_failures_to_send() {
    holds([2, 1, 1, 1, 1, 0]);
}

#[test]
fn every_state_with_two_records_and_lost_folders() {
    holds([2, 1, 1, 1, 0, 1]);
}

#[test]
fn every_state_with_three_records() {
    holds([3, 1, 1, 1, 0, 0]);
}

#[test]
#[ignore = "slow, no servers: minutes, and gigabytes of memory"]
fn slow_every_state_within_given_bounds() {
    let default = "2 1 1 1 1 1, 2 1 1 2 1 0, 2 2 1 1 0 1, 2 1 2 1 0 1";
    let given = std::env::var("TRIPLINE_MODEL").unwrap_or_else(|_| default.to_owned());
    for bounds in given.split(',') {
        let numbers: Vec<u8> = bounds.split_whitespace().map(|number| number.parse().unwrap()).collect();
        holds(numbers.try_into().expect("six numbers"));
    }
}

/// A reader can hold model and code together: the places that the model names are there.
#[test]
fn the_code_has_the_rules_where_the_model_says() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for rule in Rule::ALL {
        assert!(!rule.places().is_empty(), "{rule:?} has no place");
        for (file, text) in rule.places() {
            let source = fs::read_to_string(root.join(file)).unwrap_or_default();
            assert!(source.contains(text), "{rule:?} should be at `{text}` in {file}: say where it is now");
        }
    }
}
