//! What an audit compares a group's rows by, and how it comes to every group once.

use std::collections::BTreeMap;

use super::Window;
use crate::model::{Key, Timestamp, Value};
use crate::snapshot::Snapshot;

/// What a group's rows are, beside their aggregates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fingerprint {
    /// Rows inside of the window.
    pub rows: u64,
    /// The sum of their times in microseconds since 1970, infinities left out; 0 for a rule without a bound.
    pub times: i128,
    /// How much less that may be than the sum of the table's times.
    pub slack: i128,
    /// Whether the aggregates are those of the rows.
    pub is_sound: bool,
    /// Whether memory cannot tell of some rows if WHERE admits them: which rows the window has, only the table knows.
    pub is_doubtful: bool,
    /// Whether there are outputs that memory cannot calculate, which are null in it.
    pub has_unknown: bool,
}

/// A group that no change has touched since it was noted.
#[derive(Debug)]
pub(super) struct Quiet {
    /// Whether it has all the rows that it had then.
    is_whole: bool,
}

impl Window {
    /// What the rows of a group are. Evaluate it first, so that what time has taken is gone.
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

    /// The group that a row of the wanted columns belongs to.
    pub fn key_of(&self, row: &[Value]) -> Key {
        self.program.key(row)
    }

    /// How many places groups have: a group stands at one of them.
    pub fn places(&self) -> u32 {
        self.groups.places()
    }

    /// The group at a place, if there is one.
    pub fn group_at(&self, place: u32) -> Option<&Key> {
        self.groups.get(place).map(|group| &group.key)
    }

    /// Whether memory has a row of this group.
    pub fn has_rows(&self, key: &Key) -> bool {
        self.find_group(key).and_then(|index| self.groups.get(index)).is_some_and(|group| !group.rows.is_empty())
    }

    /// Whether the group that a row stands in was changed by a transaction that this snapshot does not show.
    pub fn is_hidden(&self, pk: &Key, snapshot: &Snapshot) -> bool {
        let group = self.find_row(pk).and_then(|row| self.rows.get(row)).and_then(|row| self.groups.get(row.group()));
        group.is_some_and(|group| !self.unseen(&group.key, snapshot).is_empty())
    }

    /// From here on it is noted whether a change touches this group, and whether a row leaves it.
    pub fn note_changes(&mut self, key: &Key) {
        self.quiet.insert(key.clone(), Quiet { is_whole: true });
    }

    /// Whether no change has touched the group since [`Self::note_changes`].
    pub fn is_quiet(&self, key: &Key) -> bool {
        self.quiet.contains_key(key)
    }

    /// Whether, besides, no row has left the group by time since then. The change of such a row may come after it has left, and
    /// touches nothing.
    pub fn is_unchanged(&self, key: &Key) -> bool {
        self.quiet.get(key).is_some_and(|quiet| quiet.is_whole)
    }

    /// It is no longer noted.
    pub fn forget_changes(&mut self, key: &Key) {
        self.quiet.remove(key);
    }

    /// A change has touched a group.
    pub(super) fn touched(quiet: &mut BTreeMap<Key, Quiet>, key: &Key) {
        if !quiet.is_empty() {
            quiet.remove(key);
        }
    }

    /// A row has left a group by time, or has changed after that.
    pub(super) fn row_left(quiet: &mut BTreeMap<Key, Quiet>, key: &Key) {
        if !quiet.is_empty()
            && let Some(quiet) = quiet.get_mut(key)
        {
            quiet.is_whole = false;
        }
    }
}
