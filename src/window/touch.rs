//! Keys of a rule that Postgres alone evaluates. The window holds no rows. A change names the keys that it touches, and
//! a group is such a key while it waits for an answer.

use super::{Trigger, Window};
use crate::change::{Change, Op};
use crate::model::{Position, Timestamp};

/// The greatest number of touched keys of a rule that wait for an answer. Where there are more, the whole query is run
/// instead.
pub const TOUCHED_MAX: usize = 10_000;

impl Window {
    /// Notes the keys that a change touches. `place` is that of the changed table. The table of the query is at place
    /// 0.
    pub(super) fn touch(&mut self, place: usize, change: &Change, position: Position, now: Timestamp) {
        self.has_missed |= change.op == Op::Truncate;
        let before = change.before.as_deref().map(|row| self.program.touched(place, row, &[])).unwrap_or_default();
        let mut keys = match (change.row.as_deref(), &change.pk) {
            (Some(row), _) => self.program.touched(place, row, &change.holes),
            // The row is deleted, and the record has only its primary key.
            (None, Some(pk)) if change.op == Op::Delete => self.program.touched_by_delete(place, pk),
            (None, _) => Vec::new(),
        };
        // A row that moves to another key, or is deleted, touches the key that it had as well.
        for key in before.into_iter().filter(Option::is_some) {
            if !keys.contains(&key) {
                keys.push(key);
            }
        }
        for key in keys {
            let is_full = self.groups.len() >= TOUCHED_MAX;
            let group = key.and_then(|key| match self.find_group(&key) {
                None if !is_full => self.group_for(key),
                known => known,
            });
            match group {
                Some(group) => self.settle(group, now, change.tx_id, &|| Trigger::new(change, position, None)),
                None => self.has_missed = true,
            }
        }
    }

    /// Records that a change may have touched keys that are not known here.
    pub fn miss(&mut self) {
        self.has_missed = true;
    }

    /// Whether changes have touched keys that are not known here since the last call. If so, the whole query has to be
    /// run.
    pub fn take_missed(&mut self) -> bool {
        std::mem::take(&mut self.has_missed)
    }
}
