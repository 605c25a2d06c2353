//! Changes in: each goes to the rules that read its table.

use super::{RuleState, Unit};
use crate::change::{Change, Op};
use crate::model::{Lsn, NextOffset, Position, Timestamp};
use crate::progress::Offsets;
use crate::rule::Query;
use crate::rule::evaluate::Program;
use crate::rule::watched::Watched;
use crate::window::Applied;

/// What a query takes from the changes of these tables.
///
/// # Errors
/// A column that no decoder yields.
pub(super) fn program(query: &Query, tables: &[Watched]) -> Result<Program, String> {
    let wanted = |place: usize| {
        let table = tables.iter().find(|table| table.place_in(query) == Some(place));
        table.map(|table| table.wanted.as_slice()).unwrap_or_default()
    };
    let mut program = Program::new(query, wanted(0))?;
    for (place, other) in query.text.iter().flat_map(|text| text.others.iter().enumerate()) {
        program = program.touching(&other.table, &other.touches, wanted(place + 1))?;
    }
    Ok(program)
}

impl RuleState {
    /// What a change of the table is to the rule.
    pub(super) fn place_of(&self, table: usize) -> Option<usize> {
        self.places.get(table).copied().flatten()
    }
}

impl Unit {
    /// Takes one record's change of the only table into every rule's windows.
    pub fn apply(&mut self, change: &Change, position: Position, now: Timestamp) {
        self.apply_of(0, change, position, now);
    }

    /// Takes one record's change of the table at this place into the windows of the rules that read it.
    pub fn apply_of(&mut self, table: usize, change: &Change, position: Position, now: Timestamp) {
        if let Some(lsn) = change.lsn.filter(|_| change.op != Op::Read) {
            let newest = self.streamed_in.entry(position.partition).or_insert(lsn);
            *newest = lsn.max(*newest);
        }
        let Some(lookups) = self.lookups.get_mut(table) else { return };
        let mut applied = Applied::Stale;
        for state in &mut self.rules {
            let Some(place) = state.place_of(table) else { continue };
            applied = applied.max(state.window.apply_of(place, change, position, now));
            if change.op == Op::Truncate {
                state.window.take_in_doubt().iter().for_each(|pk| lookups.add(pk));
            }
        }
        match (applied, &change.pk) {
            (Applied::Stale, _) => tracing::trace!(?position, "duplicate of a newer version"),
            (Applied::Incomplete, Some(pk)) => lookups.add(pk),
            (Applied::Taken, Some(pk)) => lookups.settle(pk),
            (Applied::Taken | Applied::Incomplete, None) => {}
        }
    }

    /// The position in the WAL that the stream is past: a partition has everything up to its newest change, and says nothing
    /// of the others.
    pub(super) fn streamed(&self) -> Lsn {
        let in_each = self.offsets.keys().map(|partition| self.streamed_in.get(partition).copied());
        in_each.min().flatten().unwrap_or(Lsn(0))
    }

    /// Whether a change is a snapshot's read from a server whose WAL is not the one that the partition's changes before were
    /// of: a server's positions only grow, and a snapshot is taken at the newest one. Incremental snapshots have none.
    pub fn begins_era(&self, change: &Change, position: Position) -> bool {
        if change.op != Op::Read {
            return false;
        }
        let newest = self.streamed_in.get(&position.partition);
        change.lsn.zip(newest.copied()).is_some_and(|(read, newest)| read < newest)
    }

    /// Versions of rows mean nothing any more: the changes that come are of another server.
    pub fn begin_era(&mut self) {
        self.streamed_in.clear();
        for state in &mut self.rules {
            state.window.forget_versions();
        }
    }

    /// Everything before these offsets is done with, though not read.
    pub fn skip_to(&mut self, offsets: &Offsets) {
        self.offsets.extend(offsets.iter().map(|(partition, next)| (*partition, *next)));
    }

    /// From here on deleted rows are remembered, or (with `false`) no longer: see [`crate::window::Window::remember_deletes`].
    pub fn remember_deletes(&mut self, remember: bool) {
        for state in &mut self.rules {
            state.window.remember_deletes(remember);
        }
    }

    /// The record before this offset has been taken.
    pub fn advance(&mut self, partition: i32, next: NextOffset) {
        let held = self.offsets.entry(partition).or_insert(next);
        *held = (*held).max(next);
    }
}
