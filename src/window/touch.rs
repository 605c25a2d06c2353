//! Keys of a rule that Postgres alone evaluates: no row is held, and a change names the keys that it touches. A group is such a key while
//! it waits for an answer.

use super::{Trigger, Window};
use crate::change::{Change, Op};
use crate::model::{Position, Timestamp};

/// Touched keys of a rule that wait for an answer at most. Where there are more, the whole query is run instead.
pub const TOUCHED_MAX: usize = 10_000;

impl Window {
    /// `place`: of the changed table, that of the query being 0.
    pub(super) fn touch(&mut self, place: usize, change: &Change, position: Position, now: Timestamp) {
        self.has_missed |= change.op == Op::Truncate;
        let keys = match (change.row.as_deref(), &change.pk) {
            (Some(row), _) => self.program.touched(place, row, &change.holes),
            // A row is gone, and the record says its primary key alone.
            (None, Some(pk)) if change.op == Op::Delete => self.program.touched_by_delete(place, pk),
            (None, _) => Vec::new(),
        };
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

    /// A change may have touched keys that are not known here.
    pub fn miss(&mut self) {
        self.has_missed = true;
    }

    /// Whether changes have touched keys that are not known here, since this was last asked: the whole query says more.
    pub fn take_missed(&mut self) -> bool {
        std::mem::take(&mut self.has_missed)
    }
}
