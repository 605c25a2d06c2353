//! Keys of a rule that Postgres alone evaluates: no row is held, and a change names the keys that it touches. A group is such a key while
//! it waits for an answer.

use super::{Trigger, Window};
use crate::change::{Change, Op};
use crate::model::{Position, Timestamp};

/// Touched keys of a rule that wait for an answer at most. Where there are more, the whole query is run instead.
pub const TOUCHED_MAX: usize = 10_000;

impl Window {
    pub(super) fn touch(&mut self, change: &Change, position: Position, now: Timestamp) {
        let Some(row) = change.row.as_deref() else {
            // A row is gone, and the record does not say whose it was.
            self.has_missed |= change.op == Op::Truncate;
            return;
        };
        for key in self.program.touched(row, &change.holes) {
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

    /// Whether changes have touched keys that are not known here, since this was last asked: the whole query says more.
    pub fn take_missed(&mut self) -> bool {
        std::mem::take(&mut self.has_missed)
    }
}
