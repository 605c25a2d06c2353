//! Groups that wait for an answer, and groups that are worth nothing.

use std::hash::BuildHasher;

use super::{Group, Window};
use crate::model::Key;
use crate::planted;
use crate::rule::Time;
use crate::rule::evaluate::Evaluation;

impl Window {
    /// From here on a group that is named is named at every change that follows, in the same micro-batch too, until
    /// [`Window::watch`] says that nothing waits for an answer: then the answer cannot depend on how polls were cut.
    pub fn watch_named(&mut self) {
        self.watches_named = true;
    }

    /// From here on a touched group is named at every evaluation (or no longer): it waits for an answer, which
    /// any change may bring nearer.
    pub fn watch(&mut self, key: &Key, watched: bool) {
        // A group without rows too: the transactions that emptied it may not be visible yet.
        let index = if watched { self.group_for(key.clone()) } else { self.find_group(key) };
        if let Some(index) = index
            && let Some(group) = self.groups.get_mut(index)
        {
            group.watched = watched;
            self.drop_if_empty(index);
        }
    }

    /// A group without rows is worth nothing, but for the instant that it has reached under event time, and for the
    /// transactions that emptied it: while the database does not show them, its answers are of rows that are gone.
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
