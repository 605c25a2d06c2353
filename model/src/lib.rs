//! A model of how Tripline publishes its epochs, small enough that every one of its states can be visited.
//!
//! Two processes of one consumer group, each with a checkpoint folder of its own, read a topic of a few records. Each
//! record raises one alert. The model has the steps of one epoch, the start after a crash, the Kafka broker as far as these
//! steps see it, and what goes wrong: kills, loss of power, lost folders, sessions that expire while a process is paused, and
//! requests that the network delivers late. The checker visits every order in which these can happen, within [`Bounds`].
//!
//! Each rule that the protocol depends on is a [`Rule`]; without it the model does what a program without that rule would
//! do. So one can see which rule is there for what.
//!
//! - [`rules`]: the rules, and where the code keeps them
//! - [`kafka`]: the broker: one transactional id, one group, the alert topic, the recovery topic
//! - [`folder`]: the checkpoint folder, and what a loss of power leaves of it
//! - [`start`]: where a start goes on from
//! - [`process`]: what a process is at
//! - [`system`]: all of it together, and what each step does
//! - `choices`: what can happen next
//! - [`properties`]: what has to hold in every state
//!
//! What the model leaves out is listed in `docs/guarantees.md`.

#![allow(clippy::indexing_slicing, reason = "a process is a place in an array of two; only tests run this")]

mod choices;
pub mod folder;
pub mod kafka;
pub mod process;
pub mod properties;
pub mod rules;
pub mod start;
pub mod system;

use stateright::{Checker, HasDiscoveries, Model};

pub use rules::{Rule, Rules};
pub use system::{Bounds, System};

/// What a visit of all states has found.
#[derive(Clone, Debug)]
pub struct Report {
    /// Distinct states.
    pub states: usize,
    /// Steps from one state to another.
    pub steps: usize,
    /// Steps of the longest path.
    pub depth: usize,
    /// The properties that do not hold.
    pub broken: Vec<&'static str>,
    /// What was to be reached, and was.
    pub reached: Vec<&'static str>,
}

/// Visits every state within the bounds.
pub fn visit(rules: Rules, bounds: Bounds, threads: usize) -> Report {
    let checker = System { rules, bounds }.checker().threads(threads).spawn_bfs().join();
    let mut found: Vec<&'static str> = checker.discoveries().into_keys().collect();
    found.sort_unstable();
    let (reached, broken) = found.into_iter().partition(|name| properties::REACHED.contains(name));
    let (states, steps, depth) = (checker.unique_state_count(), checker.state_count(), checker.max_depth());
    Report { states, steps, depth, broken, reached }
}

/// A way to a state where a property does not hold.
#[derive(Clone, Debug)]
pub struct Counterexample {
    /// The steps, as few as there can be.
    pub steps: Vec<system::Action>,
    /// Distinct states that were visited until the first such way was found.
    pub states: usize,
}

/// Looks for a state where a property does not hold.
pub fn refute(rules: Rules, bounds: Bounds, property: &'static str) -> Option<Counterexample> {
    let mut found: Option<Counterexample> = None;
    loop {
        let until = HasDiscoveries::AllOf([property].into());
        let mut checker = System { rules, bounds }.checker().finish_when(until);
        if let Some(found) = &found {
            // The checker names the last way that it has found before it stops, so there may be a shorter one.
            checker = checker.target_max_depth(found.steps.len() + 1);
        }
        let checker = checker.spawn_bfs().join();
        let Some(path) = checker.discoveries().remove(property) else { return found };
        let states = found.map_or_else(|| checker.unique_state_count(), |found| found.states);
        found = Some(Counterexample { steps: path.into_actions(), states });
    }
}
