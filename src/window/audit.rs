//! The values by which an audit compares a group's rows, and the order in which it comes to every group once.

use std::collections::BTreeMap;

use super::Window;
use crate::model::{Key, Timestamp, Value};
use crate::snapshot::Snapshot;

/// A summary of a group's rows, beside their aggregates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fingerprint {
    /// The number of rows inside of the window.
    pub rows: u64,
    /// The sum of their times in microseconds since 1970, without infinities. 0 for a rule without a time bound.
    pub times: i128,
    /// By how much `times` may be less than the sum of the table's times.
    pub slack: i128,
    /// Whether the aggregates agree with the rows.
    pub is_sound: bool,
    /// Whether there are rows for which memory cannot evaluate WHERE. Only the table knows whether they are in the
    /// window.
    pub is_doubtful: bool,
    /// Whether there are outputs that memory cannot calculate. Such an output is null.
    pub has_unknown: bool,
}

/// A group that no change has touched since it was noted.
#[derive(Debug)]
pub(super) struct Quiet {
    /// Whether no row has left the group since then.
    is_whole: bool,
}

impl Window {
    /// Returns the summary of a group's rows. Call [`Self::evaluate`] first, so that expired rows are gone.
    pub fn fingerprint(&self, key: &Key) -> Fingerprint {
        let group = self.find_group(key).and_then(|index| self.groups.get(index));
        let Some(group) = group else { return Fingerprint { is_sound: true, ..Fingerprint::default() } };
        let mut running = self.program.start();
        let mut times = 0_i128;
        for row in group.rows.iter() {
            let Some(row) = self.rows.get(row) else { continue };
            let (time, args) = (row.time(), row.args());
            let at = self.program.position(time);
            let Some(args) = self.program.contribution(at, &args, &group.edges) else { continue };
            if self.program.is_bounded() && !matches!(time, Timestamp::MIN | Timestamp::MAX) {
                times = times.saturating_add(i128::from(time.0));
            }
            running.add(&args);
        }
        let slack = self.program.time_slack().saturating_mul(i128::from(running.rows()));
        let (rows, is_doubtful) = (running.rows(), running.is_doubtful());
        let has_unknown = self.program.has_unknown(&group.running, &group.edges);
        Fingerprint { rows, times, slack, is_sound: running == group.running, is_doubtful, has_unknown }
    }

    /// Returns the key of the group that a row of the wanted columns belongs to.
    pub fn key_of(&self, row: &[Value]) -> Key {
        self.program.key(row)
    }

    /// The number of places for groups. Each group has one of them.
    pub fn places(&self) -> u32 {
        self.groups.places()
    }

    /// The key of the group at a place, if there is one.
    pub fn group_at(&self, place: u32) -> Option<&Key> {
        self.groups.get(place).map(|group| &group.key)
    }

    /// Whether memory has a row of this group.
    pub fn has_rows(&self, key: &Key) -> bool {
        self.find_group(key).and_then(|index| self.groups.get(index)).is_some_and(|group| !group.rows.is_empty())
    }

    /// Whether the group that holds a row was changed by a transaction that this snapshot does not show.
    pub fn is_hidden(&self, pk: &Key, snapshot: &Snapshot) -> bool {
        let group = self.find_row(pk).and_then(|row| self.rows.get(row)).and_then(|row| self.groups.get(row.group()));
        group.is_some_and(|group| !self.unseen(&group.key, snapshot).is_empty())
    }

    /// Starts to record whether a change touches this group, and whether a row leaves it.
    pub fn note_changes(&mut self, key: &Key) {
        self.quiet.insert(key.clone(), Quiet { is_whole: true });
    }

    /// Whether no change has touched the group since [`Self::note_changes`].
    pub fn is_quiet(&self, key: &Key) -> bool {
        self.quiet.contains_key(key)
    }

    /// Whether the group is quiet and no row has left it by time since [`Self::note_changes`]. A change of a row that
    /// has left touches nothing.
    pub fn is_unchanged(&self, key: &Key) -> bool {
        self.quiet.get(key).is_some_and(|quiet| quiet.is_whole)
    }

    /// Stops recording what [`Self::note_changes`] records.
    pub fn forget_changes(&mut self, key: &Key) {
        self.quiet.remove(key);
    }

    /// Records that a change has touched a group.
    pub(super) fn touched(quiet: &mut BTreeMap<Key, Quiet>, key: &Key) {
        if !quiet.is_empty() {
            quiet.remove(key);
        }
    }

    /// Records that a row has left a group by time, or has changed after that.
    pub(super) fn row_left(quiet: &mut BTreeMap<Key, Quiet>, key: &Key) {
        if !quiet.is_empty()
            && let Some(quiet) = quiet.get_mut(key)
        {
            quiet.is_whole = false;
        }
    }
}
