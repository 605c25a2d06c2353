//! What the table has, for memory to hold: where the stream does not say all, or something else.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::lookups::Lookups;
use super::stream::program;
use super::{REFUSALS_BEFORE_RELOAD, Reload, RuleState, SeenRows, Unit, log, refusals};
use crate::episode::Reason;
use crate::failure::CallError;
use crate::model::zone::Zone;
use crate::model::{Key, Lsn, Timestamp};
use crate::rule::evaluate::Evaluation;
use crate::rule::table_row::TableRow;
use crate::rule::{Confirm, Time};
use crate::window::Transition;

/// Rows that one statement asks for at most.
const LOOKUP_KEYS_MAX: usize = 1_000;

impl Unit {
    /// Primary keys of rows to be read from a table now, with the table's place.
    pub fn next_lookup(&mut self, now: Timestamp) -> Option<(usize, Vec<Key>)> {
        let next = |lookups: &mut Lookups| Some(lookups.next(now, LOOKUP_KEYS_MAX)).filter(|keys| !keys.is_empty());
        self.lookups.iter_mut().enumerate().find_map(|(table, lookups)| Some((table, next(lookups)?)))
    }

    /// A row of the table at this place is to be read from it. Where no rule holds its rows, the whole query says more.
    pub fn look_up(&mut self, table: usize, pk: &Key) {
        let mut is_held = false;
        for state in &mut self.rules {
            match state.place_of(table) {
                Some(0) => is_held = true,
                Some(_) => state.window.miss(),
                None => {}
            }
        }
        if let Some(lookups) = self.lookups.get_mut(table).filter(|_| is_held) {
            lookups.add(pk);
        }
    }

    /// Takes the rows that the table at this place has of the keys that were last asked for. One that it does not have is gone.
    /// One that was written by a transaction that the table did not show is asked for again.
    pub fn looked_up(&mut self, table: usize, seen: &SeenRows, now: Timestamp) {
        let Some(lookups) = self.lookups.get_mut(table) else { return };
        let mut asked = lookups.answered();
        let found: BTreeMap<&Key, &TableRow> = seen.rows.iter().map(|row| (&row.pk, row)).collect();
        let holds = |state: &&mut RuleState| state.place_of(table) == Some(0);
        let is_hidden = |pk: &Key| {
            let mut holding = self.rules.iter().filter(|state| state.place_of(table) == Some(0));
            holding.any(|state| state.window.is_hidden(pk, &seen.snapshot))
        };
        let hidden: Vec<Key> = asked.iter().filter(|pk| is_hidden(pk)).cloned().collect();
        for pk in &hidden {
            asked.remove(pk);
            lookups.add(pk);
        }
        if !hidden.is_empty() {
            lookups.failed(now);
        }
        for state in self.rules.iter_mut().filter(holds) {
            for pk in &asked {
                match found.get(pk) {
                    Some(row) => state.window.load(pk, &row.row, now),
                    None => {
                        tracing::debug!(
                            rule = state.rule.name,
                            "a row that a record did not say all of is not in the table: it is forgotten"
                        );
                        state.window.remove(pk, now);
                    }
                }
            }
        }
        self.take_held_back(now);
    }

    /// Whether a transition is to be taken now. Where nobody is asked before an alert, a key is evaluated with rows that
    /// are known: a tombstone, for one, does not say whose row is gone.
    pub(super) fn hold_back(&mut self, index: usize, transition: Transition) -> Option<Transition> {
        let state = self.rules.get_mut(index).filter(|state| state.rule.confirm == Confirm::Off);
        let Some(state) = state.filter(|state| state.rule.time == Time::Processing) else { return Some(transition) };
        let lookups = state.places.iter().position(|place| *place == Some(0)).and_then(|table| self.lookups.get(table));
        let Some(lookups) = lookups.filter(|lookups| lookups.len() > 0) else { return Some(transition) };
        if !state.window.may_have_any(&transition.key, lookups.keys()) {
            return Some(transition);
        }
        state.held_back.insert(transition.key.clone(), transition);
        None
    }

    /// Takes what was held back, as far as its rows are known now.
    pub(super) fn take_held_back(&mut self, now: Timestamp) {
        if self.rules.iter().all(|state| state.held_back.is_empty()) {
            return;
        }
        for index in 0..self.rules.len() {
            let Some(state) = self.rules.get_mut(index) else { return };
            let held_back = std::mem::take(&mut state.held_back);
            let evaluated = held_back.into_values().map(|transition| {
                let (evaluation, outputs) = state.window.evaluate(&transition.key, now);
                Transition { evaluation, outputs, now: state.window.now_for(&transition.key, now), ..transition }
            });
            let evaluated = evaluated.collect();
            self.take(index, evaluated, now);
        }
    }

    /// The table did not answer.
    pub fn lookup_failed(&mut self, table: usize, now: Timestamp) {
        if let Some(lookups) = self.lookups.get_mut(table) {
            lookups.failed(now);
        }
    }

    /// Rows that are to be read from a table.
    pub fn incomplete(&self) -> usize {
        self.lookups.iter().map(Lookups::len).sum()
    }

    /// A row is gone, and its record does not say which: at the end of the micro-batch, Postgres is asked about every open
    /// episode. What memory holds too much of otherwise is refuted, and read from the table.
    pub fn doubt(&mut self) {
        self.in_doubt = true;
    }

    /// Memory cannot say whether the open episodes hold.
    pub(super) fn ask_open_episodes(&mut self, now: Timestamp) {
        for index in 0..self.rules.len() {
            let Some(state) = self.rules.get_mut(index) else { continue };
            if state.rule.confirm == Confirm::Off {
                continue;
            }
            let firing: Vec<Key> = state.episodes.firing().cloned().collect();
            for key in firing {
                self.found(index, key, Evaluation::Unknown, Reason::Healed, now);
            }
        }
    }

    /// A group to be read from the table, once.
    pub fn next_reload(&mut self) -> Option<Reload> {
        self.reloads.pop()
    }

    /// Takes a group's rows from the table, unless the stream has changed it meanwhile.
    pub fn reload(&mut self, reload: &Reload, rows: &[TableRow], now: Timestamp) {
        let Some(state) = self.rules.get_mut(reload.rule) else { return };
        let key = &reload.asked.key;
        if refusals(&state.episodes, key) < REFUSALS_BEFORE_RELOAD {
            return;
        }
        let (_, before) = state.window.evaluate(key, now);
        state.window.reload(key, rows.iter().map(|row| (&row.pk, &*row.row)), now);
        let (_, after) = state.window.evaluate(key, now);
        if before != after {
            self.events.drifts += 1;
            self.audit.count_drift();
            let what = "the stream's rows differ from the table's, although it shows all that was applied; the table's are held from here on";
            log::drift(&state.rule.name, key, before, after, what);
        }
        self.evaluate(now);
    }

    /// Takes a row of a rule's window as the table has it, before anything is evaluated.
    pub fn load(&mut self, rule: usize, row: &TableRow, now: Timestamp) {
        if let Some(state) = self.rules.get_mut(rule) {
            state.window.load(&row.pk, &row.row, now);
        }
    }

    /// All rows of a rule's window were loaded from the table, which was read after this position in the WAL.
    pub fn loaded(&mut self, rule: usize, at: Lsn) {
        if let Some(state) = self.rules.get_mut(rule) {
            state.window.loaded(at);
        }
    }

    /// Takes what somebody has found of a group, as if memory had evaluated it so: where that disagrees with the group's
    /// episode, it becomes a candidate. `reason` is in the alert, if an episode is resolved by it.
    pub fn found(&mut self, rule: usize, key: Key, evaluation: Evaluation, reason: Reason, now: Timestamp) {
        let Some(state) = self.rules.get_mut(rule) else { return };
        let (_, outputs) = state.window.evaluate(&key, now);
        let then = state.window.now_for(&key, now);
        self.take(rule, vec![Transition { key, evaluation, now: then, trigger: None, reason, outputs }], now);
    }

    /// Rules are run in these time zones from here on. Rows that the windows do not hold any more have to be loaded; then every
    /// key has to be evaluated.
    ///
    /// # Errors
    /// A rule that cannot be compiled.
    pub fn use_zones(&mut self, zones: &[Arc<Zone>]) -> Result<(), String> {
        for (state, zone) in self.rules.iter_mut().zip(zones) {
            if state.rule.query.zone != *zone {
                state.rule.query.zone = Arc::clone(zone);
                state.window.exchange_program(program(&state.rule.query, &self.tables)?);
            }
        }
        Ok(())
    }

    /// Takes the groups that HAVING holds for in the whole table: one that memory does not know of becomes a candidate, and
    /// is compared. An open episode that the table does not bear is compared, too. Where nobody is asked before an alert, the
    /// comparison alone counts: what the table had when it was read may be over, and nothing would bring that episode's end.
    pub fn swept(&mut self, rule: usize, keys: Result<Vec<Key>, CallError>, took: Duration, now: Timestamp) {
        self.audit.ended(took, now);
        let Some(state) = self.rules.get_mut(rule) else { return };
        let keys: BTreeSet<Key> = match keys {
            Ok(keys) => keys.into_iter().collect(),
            Err(error) if state.rule.query.text.is_some() => return self.sweep_of_postgres_failed(rule, &error),
            Err(error) => return self.audit.sweep_failed(rule, &state.rule.name, &error, now),
        };
        self.audit.swept();
        if state.rule.query.text.is_some() {
            return self.swept_by_postgres(rule, &keys, now);
        }
        let is_confirmed = state.rule.confirm == Confirm::Required;
        let open = state.episodes.firing().filter(|key| !keys.contains(key));
        open.for_each(|key| self.audit.suspects.ask_again(rule, key.clone()));
        let is_missed =
            |key: &Key| !state.episodes.is_firing(key) && state.window.evaluate(key, now).0 == Evaluation::Fails;
        let missed: Vec<Key> = keys.into_iter().filter(is_missed).collect();
        if !missed.is_empty() {
            tracing::warn!(
                rule = state.rule.name,
                groups = missed.len(),
                "the sweep found groups that the stream has missed"
            );
        }
        for key in missed {
            self.audit.suspects.ask_again(rule, key.clone());
            if is_confirmed {
                self.found(rule, key, Evaluation::Holds, Reason::Healed, now);
            }
        }
    }
}
