//! What has to hold in every state.

use stateright::{Model, Property};

use crate::process::{At, Stage};
use crate::system::{State, System};

/// No alert can be seen twice.
pub const ONCE: &str = "each alert is visible at most once";
/// What can be seen is in a durable `offsets/N`.
pub const LOGGED: &str = "no alert is visible before the offsets/N that has it is durable";
/// What can be seen is behind the group's offset.
pub const COVERED: &str = "no alert is visible without the group's progress";
/// The group is never ahead of the folders.
pub const BEHIND: &str = "the group is never committed past the newest durable offsets/N";
/// What the group has passed can be seen.
pub const NOT_LOST: &str = "no progress is committed without its alerts";
/// Once everything was read, everything can be seen.
pub const COMPLETE: &str = "every alert is visible once everything was read";
/// A start goes on, in the same lineage.
pub const GOES_ON: &str = "every start goes on from where the group is";
/// Something can always be done until everything was read.
pub const NOT_STUCK: &str = "some process can always go on until everything was read";

/// All of them.
pub fn all() -> Vec<Property<System>> {
    vec![
        Property::always(ONCE, |_, state: &State| state.broker.alerts.iter().all(|seen| *seen <= 1)),
        Property::always(LOGGED, |system: &System, state: &State| {
            let logged = state.durable.iter().fold(0, |all, file| all | file.alerts);
            records(system).filter(|record| is_visible(state, *record)).all(|record| logged & (1 << record) != 0)
        }),
        Property::always(COVERED, |system: &System, state: &State| {
            records(system).filter(|record| is_visible(state, *record)).all(|record| record < committed(state))
        }),
        Property::always(BEHIND, |_, state: &State| {
            state.broker.group.is_none_or(|file| state.durable.contains(&file))
        }),
        Property::always(NOT_LOST, |_, state: &State| (0..committed(state)).all(|record| is_visible(state, record))),
        Property::always(COMPLETE, |system: &System, state: &State| {
            !has_read_all(system, state) || records(system).all(|record| is_visible(state, record))
        }),
        Property::always(GOES_ON, |_, state: &State| {
            state.processes.iter().all(|process| !matches!(process.at, At::Stopped | At::BeganAgain))
        }),
        Property::always(NOT_STUCK, |system: &System, state: &State| {
            let mut actions = Vec::new();
            system.actions(state, &mut actions);
            !actions.is_empty() || has_read_all(system, state)
        }),
        // The model reaches what it is about.
        Property::sometimes(DELIVERED, |system: &System, state: &State| {
            has_read_all(system, state) && state.broker.late.is_empty()
        }),
        Property::sometimes(
            TAKEN_OVER,
            |_, state: &State| matches!(state.processes, [_, ref other] if matches!(other.at, At::Reading(memory) if memory.next > 0)),
        ),
        Property::sometimes(WOKEN, |_, state: &State| {
            let publishing = |at: At| matches!(at, At::Publishing(_, _, Stage::Logged));
            state.processes.iter().all(|process| publishing(process.at))
        }),
    ]
}

/// Everything was read.
pub const DELIVERED: &str = "a process reads to the end";
/// The second process goes on where the first one was.
pub const TAKEN_OVER: &str = "the other process takes over";
/// Two processes are both past their `offsets/N`.
pub const WOKEN: &str = "two processes have both logged an epoch and are about to commit it";

/// The names of what the model has to reach. The checker calls these discoveries too.
pub const REACHED: [&str; 3] = [DELIVERED, TAKEN_OVER, WOKEN];

fn records(system: &System) -> std::ops::Range<u8> {
    0..system.bounds.records
}

fn is_visible(state: &State, record: u8) -> bool {
    state.broker.alerts.get(usize::from(record)).is_some_and(|seen| *seen > 0)
}

/// The next offset that the group has committed.
fn committed(state: &State) -> u8 {
    state.broker.group.map_or(0, |file| file.next)
}

/// A process has nothing left to do.
fn has_read_all(system: &System, state: &State) -> bool {
    let done = |at: At| matches!(at, At::Reading(memory) if memory.next == system.bounds.records && memory.due(memory.next) == 0);
    state.processes.iter().any(|process| done(process.at))
}
