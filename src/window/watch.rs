//! Groups that wait for an answer, and the removal of empty groups.

use std::hash::BuildHasher;

use super::{Group, Window};
use crate::model::Key;
use crate::planted;
use crate::rule::Time;
use crate::rule::evaluate::Evaluation;

impl Window {
    /// From here on, a group with a transition gets one at every further change, also in the same micro-batch, until
    /// [`Window::watch`] says that nothing waits for an answer. So the answer does not depend on where polls end.
    pub fn watch_named(&mut self) {
        self.watches_named = true;
    }

    /// Sets whether a touched group gets a transition at every evaluation. It does while it waits for an answer, which
    /// any change may bring nearer.
    pub fn watch(&mut self, key: &Key, watched: bool) {
        // This includes a group without rows: the transactions that emptied it may not be visible yet.
        let index = if watched { self.group_for(key.clone()) } else { self.find_group(key) };
        if let Some(index) = index
            && let Some(group) = self.groups.get_mut(index)
        {
            group.watched = watched;
            self.drop_if_empty(index);
        }
    }

    /// Removes a group without rows. It is kept under event time, for the instant that it has reached. It is also kept
    /// until the database shows the transactions that emptied it: before, the database's answers contain removed rows.
    pub(super) fn drop_if_empty(&mut self, index: u32) {
        let is_of_postgres = self.program.is_of_postgres();
        let is_over = |group: &Group| group.evaluated == Evaluation::Fails || is_of_postgres;
        let empty = |group: &Group| group.rows.is_empty() && !group.touched && !group.watched && is_over(group);
        if self.time == Time::Event {
            return;
        }
        let Some(group) = self.groups.get(index).filter(|group| empty(group)) else { return };
        if !group.unseen.is_seen_by(self.seen.as_ref()) && !planted::bug("emptied-group-forgotten") {
            self.emptied.insert(index);
            return;
        }
        let Some(group) = self.groups.remove(index) else { return };
        self.by_key.remove(self.hasher.hash_one(&group.key), index);
    }
}
