//! Time as a trigger: a row that leaves the window changes its group without any change of the table.
//!
//! Each group stands in a heap with the instant at which its oldest row leaves, or earlier where its edge may jump. Entries are not taken out when that
//! changes; an entry that its group no longer stands by is passed over.

use std::cmp::Reverse;

use super::{Group, Transition, Window};
use crate::episode::Reason;
use crate::model::Timestamp;
use crate::planted;
use crate::rule::Time;
use crate::rule::evaluate::Evaluation;

impl Window {
    /// Judges the groups that time has changed by `now`: rows left their windows. Under event time time
    /// does not pass by itself.
    pub fn expire(&mut self, now: Timestamp) -> Vec<Transition> {
        let mut transitions = Vec::new();
        while let Some(Reverse((at, index))) = self.edges.peek().copied().filter(|Reverse((at, _))| *at <= now) {
            self.edges.pop();
            let Some(group) = self.groups.get_mut(index).filter(|group| group.edge == Some(at)) else { continue };
            group.edge = None;
            // What is watched is asked again by its back-off, not because time passes; what memory cannot evaluate is
            // asked whenever rows have left.
            let (evaluated, touched) = (group.evaluated, group.touched);
            // A window that was read back looks at its groups once, though no time has passed for them.
            let has_passed = at > Timestamp::MIN;
            if group.evaluation == Evaluation::Unknown && has_passed {
                (group.since, group.reason) = (None, Reason::Time); // no change is to be named for what time does
            }
            let named = self.evaluate_group(index, now);
            let named = named.filter(|named| {
                named.evaluation != evaluated || (named.evaluation == Evaluation::Unknown && has_passed)
            });
            let is_named = named.is_some();
            transitions.extend(named);
            if let Some(group) = self.groups.get_mut(index) {
                group.touched = touched; // it stays listed
            }
            self.schedule(index, now);
            if !is_named {
                self.drop_if_empty(index);
            }
        }
        transitions
    }

    /// When time alone will change a group next.
    pub fn next_edge(&self) -> Option<Timestamp> {
        self.edges.peek().map(|Reverse((at, _))| *at)
    }

    /// Lists when the group is to be looked at next, unless something earlier stands there already. Its aggregates are those
    /// of `now`.
    pub(super) fn schedule(&mut self, index: u32, now: Timestamp) {
        if self.time == Time::Event || planted::bug("expiry-not-scheduled") {
            return;
        }
        let Some(group) = self.groups.get_mut(index) else { return };
        let times = |from: Timestamp| group.rows.range((from, 0)..).map(|(at, _)| *at);
        let inside = times(group.left.at()).find(|at| group.left.admits(*at));
        let outside = times(Timestamp::MIN).next().filter(|at| !group.left.admits(*at));
        let Some(next) = self.program.next_look(now, inside, outside) else { return };
        if group.edge.is_none_or(|edge| next < edge) {
            group.edge = Some(next);
            self.edges.push(Reverse((next, index)));
        }
    }

    /// Brings a group's aggregates to what is inside of the window at `now`. Rows that no later window admits are forgotten.
    pub(super) fn evict(&mut self, index: u32, now: Timestamp) {
        let edge = self.program.left_edge(now);
        let Some(group) = self.groups.get_mut(index) else { return };
        let Group { rows, running, left, .. } = group;
        let before = std::mem::replace(left, edge);
        for (at, row) in rows.range((before.at().min(edge.at()), 0)..) {
            let (was_inside, is_inside) = (before.admits(*at), edge.admits(*at));
            if was_inside && is_inside {
                break;
            }
            let Some(row) = self.rows.get(*row) else { continue };
            match (was_inside, is_inside) {
                (true, false) => running.remove(&row.args),
                (false, true) => running.add(&row.args),
                _ => {}
            }
        }
        while let Some(&(at, row)) = self.groups.get(index).and_then(|group| group.rows.first())
            && !self.program.holds(edge, at)
        {
            if let Some(group) = self.groups.get_mut(index) {
                group.rows.pop_first();
            }
            self.forget(row);
        }
    }
}
