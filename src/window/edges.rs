//! Time as a trigger: a row that leaves the window changes its group without any change of the table.
//!
//! A heap has an entry for each group: the instant at which its oldest row leaves, or an earlier one at which its edge
//! may jump. When that instant changes, the old entry stays in the heap. It is skipped once it is due.

use std::cmp::Reverse;

use super::{Group, Transition, Window, time_of};
use crate::episode::Reason;
use crate::model::{Key, Timestamp};
use crate::planted;
use crate::rule::Time;
use crate::rule::evaluate::{Evaluation, Moments};

/// The greatest number of groups in one call of [`Window::expire`]: some ten milliseconds.
const EXPIRED_MAX: usize = 10_000;

impl Window {
    /// Evaluates groups that time has changed by `now`, because rows left their windows or came into them. Many groups
    /// may be due at one instant, such as midnight. A call evaluates 10,000 at most. Once all are done,
    /// [`Window::next_edge`] is after `now`. Under event time, time alone changes nothing.
    pub fn expire(&mut self, now: Timestamp) -> Vec<Transition> {
        let mut transitions = Vec::new();
        let mut looked_at = 0;
        while looked_at < EXPIRED_MAX
            && let Some(Reverse((at, index))) = self.edges.peek().copied().filter(|Reverse((at, _))| *at <= now)
        {
            self.edges.pop();
            looked_at += 1;
            let Some(group) = self.groups.get_mut(index).filter(|group| group.edge == Some(at)) else { continue };
            group.edge = None;
            // A watched group is asked about again by its back-off, not because time passes. A group that memory cannot
            // evaluate is asked about whenever rows have left.
            let (evaluated, touched) = (group.evaluated, group.touched);
            // After a window was restored, each group has one entry although no time has passed for it.
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

    /// The instant at which time alone will change a group next.
    pub fn next_edge(&self) -> Option<Timestamp> {
        self.edges.peek().map(|Reverse((at, _))| *at)
    }

    /// Schedules the next evaluation of the group, unless an earlier one is scheduled. The group's aggregates must be
    /// those at `now`.
    pub(super) fn schedule(&mut self, index: u32, now: Timestamp) {
        if self.time == Time::Event || planted::bug("expiry-not-scheduled") {
            return;
        }
        let moments = self.moments_at(now);
        let Some(group) = self.groups.get_mut(index) else { return };
        let first = |series, from| match series {
            0 => group.rows.since(from, time_of(&self.rows, &self.program)).next(),
            _ => self.others.since(index, series, from).next(),
        };
        let first = |series, from| first(series, from).map(|(at, _)| at);
        let Some(next) = self.program.next_look(&moments, &group.edges, &group.running, first) else { return };
        if group.edge.is_none_or(|edge| next < edge) {
            group.edge = Some(next);
            self.edges.push(Reverse((next, index)));
        }
    }

    /// NOW() for a group: `now` under processing time, else the greatest event time seen for the group.
    pub fn now_for(&self, key: &Key, now: Timestamp) -> Timestamp {
        match self.time {
            Time::Processing => now,
            Time::Event => self.find_group(key).and_then(|group| self.groups.get(group)).map_or(now, |g| g.event_time),
        }
    }

    /// The bounds of the window at `now`: its left edge, and NOW() itself.
    pub fn bounds(&self, now: Timestamp) -> (Option<Timestamp>, Timestamp) {
        (self.program.left_instant(now), now)
    }

    /// The edges at `now`. The changes of a micro-batch share one NOW().
    pub(super) fn moments_at(&mut self, now: Timestamp) -> Moments {
        match &self.moments {
            Some(known) if known.now() == now => known.clone(),
            _ => self.moments.insert(self.program.moments(now)).clone(),
        }
    }

    /// Brings a group's aggregates to those of the rows inside of the window at `now`. Forgets rows that no later
    /// window admits.
    pub(super) fn evict(&mut self, index: u32, now: Timestamp) {
        if !self.program.is_timed() {
            return;
        }
        let edges = self.moments_at(now).edges();
        let Some(group) = self.groups.get_mut(index) else { return };
        let before = std::mem::replace(&mut group.edges, edges);
        if self.program.is_simple() {
            self.cross(index, &before);
        } else {
            self.judge_crossed(index, &before);
        }
        while let Some(group) = self.groups.get_mut(index)
            && let Some(oldest) = group.rows.first()
            && let Some(row) = self.rows.get(oldest)
        {
            let at = self.program.position(row.time());
            if self.program.holds(&group.edges, at) {
                return;
            }
            if !self.program.is_simple() {
                self.others.remove(index, oldest, self.program.other_places(&row.args()));
            }
            group.rows.remove(oldest, at);
            Self::row_left(&mut self.quiet, &group.key);
            self.forget(oldest);
        }
    }

    /// Adds and removes the contributions of rows that an edge has passed.
    fn cross(&mut self, index: u32, before: &[Timestamp]) {
        let Some(group) = self.groups.get_mut(index) else { return };
        let Group { rows, running, edges, .. } = group;
        // Only the rows' place in series 0 is compared with NOW().
        for (_, from, to) in self.program.crossed(before, edges) {
            let passed = rows.since(from, time_of(&self.rows, &self.program)).take_while(|(at, _)| *at <= to);
            for (at, row) in passed {
                let Some(row) = self.rows.get(row) else { continue };
                match (self.program.is_inside(at, before), self.program.is_inside(at, edges)) {
                    (true, false) => running.remove(&row.args()),
                    (false, true) => running.add(&row.args()),
                    _ => {}
                }
            }
        }
    }

    /// Does the same where a row's contribution changes with time: evaluates again each row that an edge has passed.
    fn judge_crossed(&mut self, index: u32, before: &[Timestamp]) {
        let Some(group) = self.groups.get_mut(index) else { return };
        let Group { rows, running, edges, .. } = group;
        let stretches = self.program.crossed(before, edges);
        let mut crossed: Vec<u32> = Vec::new();
        for (series, from, to) in stretches {
            let is_passed = |(at, _): &(Timestamp, u32)| *at <= to;
            match series {
                0 => {
                    let passed = rows.since(from, time_of(&self.rows, &self.program)).take_while(is_passed);
                    crossed.extend(passed.map(|(_, row)| row));
                }
                _ => {
                    let passed = self.others.since(index, series, from).take_while(is_passed);
                    crossed.extend(passed.map(|(_, row)| row));
                }
            }
        }
        crossed.sort_unstable();
        crossed.dedup();
        for row in crossed {
            let Some(row) = self.rows.get(row) else { continue };
            let (at, args) = (self.program.position(row.time()), row.args());
            let was = self.program.contribution(at, &args, before);
            let is = self.program.contribution(at, &args, edges);
            if was == is {
                continue;
            }
            if let Some(args) = was {
                running.remove(&args);
            }
            if let Some(args) = is {
                running.add(&args);
            }
        }
    }
}
