//! Time as a trigger: a row that leaves the window changes its group without any change of the table.
//!
//! Each group stands in a heap with the instant at which its oldest row leaves. Entries are not taken out when that
//! changes; an entry that its group no longer stands by is passed over.

use std::cmp::Reverse;

use super::{Transition, Window};
use crate::episode::Reason;
use crate::model::Timestamp;
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
            if group.evaluation == Evaluation::Unknown {
                (group.since, group.reason) = (None, Reason::Time); // no change is to be named for what time does
            }
            let named = self.evaluate_group(index, now);
            let named = named.filter(|named| named.evaluation != evaluated || named.evaluation == Evaluation::Unknown);
            let is_named = named.is_some();
            transitions.extend(named);
            if let Some(group) = self.groups.get_mut(index) {
                group.touched = touched; // it stays listed
            }
            self.schedule(index);
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

    /// Lists when the group's oldest row leaves the window, unless something earlier stands there already.
    pub(super) fn schedule(&mut self, index: u32) {
        if self.time == Time::Event {
            return;
        }
        let Some(group) = self.groups.get_mut(index) else { return };
        let Some(leaves) = group.rows.first().and_then(|(time, _)| self.program.leaves_at(*time)) else { return };
        if group.edge.is_none_or(|edge| leaves < edge) {
            group.edge = Some(leaves);
            self.edges.push(Reverse((leaves, index)));
        }
    }
}
