//! Bugs of the renderer, planted one at a time (`src/planted.rs`). A start finds each by comparing the plans of the rule's text and of our
//! rendering. Without that comparison, what a confirmation asks has another answer than the text. `SIM_BUG` names some of them.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};

use tripline::planted::{self, BUGS, Bug};

use super::{World, setting};
use crate::harness::{Database, Dice};

/// The invariant that these bugs break.
const RENDERER: &str = "What always holds, 8";
/// Of one seed.
const LOOKS: u64 = 40;

/// How each bug is found first: at which seed, and how many rules that took.
fn find(name: &str, seeds: std::ops::Range<u64>, compares: bool) {
    let wanted = std::env::var("SIM_BUG").ok();
    let is_wanted = |bug: &&Bug| wanted.as_ref().is_none_or(|names| names.split(',').any(|name| name == bug.name));
    let bugs = BUGS.iter().filter(|bug| bug.breaks == RENDERER).filter(is_wanted);
    let database = Database::empty(name);
    let missing: Vec<&str> =
        bugs.filter(|bug| !is_found(bug, &database, seeds.clone(), compares)).map(|bug| bug.name).collect();
    assert!(missing.is_empty(), "not found by the seeds {seeds:?}: {missing:?}");
}

fn is_found(bug: &Bug, database: &Database, seeds: std::ops::Range<u64>, compares: bool) -> bool {
    let tried = Cell::new(0);
    for seed in seeds {
        planted::plant(Some(bug.name));
        let run = catch_unwind(AssertUnwindSafe(|| {
            let mut dice = Dice(seed);
            World::new(database, &mut dice, compares, &tried).run(&mut dice, LOOKS);
        }));
        planted::plant(None);
        if let Err(panic) = run {
            let text = panic.downcast_ref::<String>().map_or("", String::as_str);
            let start = text.floor_char_boundary(300);
            eprintln!("{}: seed {seed}, {} rules: {}", bug.name, tried.get(), text.get(..start).unwrap_or_default());
            return true;
        }
    }
    false
}

#[test]
#[ignore = "needs the servers: scripts/test"]
fn a_planted_bug_of_the_renderer_is_found_by_the_start() {
    find("rules_planted", 1..4, true);
}

#[test]
#[ignore = "needs the servers: scripts/test --all"]
fn slow_a_planted_bug_of_the_renderer_is_found_by_the_answers() {
    find("rules_planted_answers", 1..1 + setting("RULES_SEEDS", 50), false);
}
