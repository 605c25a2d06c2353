//! Each rule is there for something: without it, the checker finds a way to break a property.

use std::collections::BTreeSet;

use tripline_model::properties::{BEHIND, COMPLETE, COVERED, GOES_ON, LOGGED, NOT_LOST, ONCE};
use tripline_model::{Rule, Rules, refute};

use crate::bounds;

/// Records, crashes, expired sessions, late requests, failures to send, lost folders.
const BOUNDS: [u8; 6] = [2, 1, 1, 1, 0, 0];

/// The properties that break without these rules.
const REMOVED: &[(&[Rule], &[&str])] = &[
    (&[Rule::LogBeforeCommit], &[LOGGED, BEHIND]),
    (&[Rule::SyncBeforeCommit], &[LOGGED, BEHIND]),
    (&[Rule::SyncAtOpen], &[LOGGED]),
    (&[Rule::OffsetsInTransaction], &[ONCE, COVERED]),
    (&[Rule::EpisodesInTransaction], &[ONCE, GOES_ON]),
    (&[Rule::MemberOfAssignment], &[ONCE]),
    (&[Rule::NewProducerAfterDisturbance], &[ONCE, LOGGED, COVERED, BEHIND, NOT_LOST, COMPLETE, GOES_ON]),
    (&[Rule::DoubtDropsMemory], &[ONCE]),
    (&[Rule::CompareWithGroup], &[ONCE]),
    (&[Rule::ChecksumInCommit], &[GOES_ON]),
    (&[Rule::RecoveryReadCommitted], &[GOES_ON]),
    (&[Rule::EpisodesRecalled], &[ONCE]),
    // Each of these two covers for the other.
    (&[Rule::FenceBeforeReading, Rule::StableOffsets], &[ONCE]),
];

fn without(rules: &[Rule]) -> Rules {
    rules.iter().fold(Rules::all(), |kept, rule| kept.without(*rule))
}

#[test]
fn each_rule_removed_breaks_something() {
    for (rules, properties) in REMOVED {
        for property in *properties {
            let found = refute(without(rules), bounds(BOUNDS), property);
            let found = found.unwrap_or_else(|| panic!("without {rules:?} it still holds that {property}"));
            let steps: Vec<String> = found.steps.iter().map(|step| format!("{step:?}")).collect();
            println!("without {rules:?} not: {property} ({} states)\n    {}", found.states, steps.join(" "));
        }
    }
}

#[test]
fn every_rule_is_removed_once() {
    let removed: BTreeSet<Rule> = REMOVED.iter().flat_map(|(rules, _)| rules.iter().copied()).collect();
    assert_eq!(removed, BTreeSet::from(Rule::ALL));
}

/// Of fencing and stable reads one is enough for what is visible. Both are kept: without the fence a start waits for
/// `transaction.timeout.ms`, and without stable reads the commands that only look would show what may be aborted.
#[test]
fn fence_and_stable_reads_cover_for_each_other() {
    for rule in [Rule::FenceBeforeReading, Rule::StableOffsets] {
        let report = tripline_model::visit(without(&[rule]), bounds([2, 1, 1, 1, 0, 0]), crate::THREADS);
        assert_eq!(report.broken, Vec::<&str>::new(), "without {rule:?}");
    }
}

/// A producer that a paused process creates when it wakes up shuts its successor out. It is the generation of the
/// assignment that stops the process then. Where nothing creates producers between two starts, and nothing is late, the
/// producer epoch does that alone.
#[test]
fn the_generation_is_needed_because_producers_are_replaced() {
    let (one_pause, more) = (bounds([2, 0, 1, 0, 0, 0]), bounds([2, 1, 1, 0, 0, 0]));
    let no_generation = without(&[Rule::MemberOfAssignment]);
    assert!(refute(no_generation, one_pause, ONCE).is_some());
    let report = tripline_model::visit(no_generation.without(Rule::NewProducerAfterDisturbance), more, crate::THREADS);
    assert_eq!(report.broken, Vec::<&str>::new());
}

/// The rules on `offsets/N` are there for the folder. What consumers of the alert topic see, the recovery topic saves.
#[test]
fn without_the_log_consumers_still_see_each_alert_once() {
    for rule in [Rule::LogBeforeCommit, Rule::SyncBeforeCommit, Rule::SyncAtOpen] {
        let report = tripline_model::visit(without(&[rule]), bounds([2, 1, 1, 0, 0, 1]), crate::THREADS);
        assert_eq!(report.broken, [LOGGED, BEHIND], "without {rule:?}");
    }
}
