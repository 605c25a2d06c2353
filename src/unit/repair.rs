//! Repairing memory from the table, where the stream is incomplete or differs.

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

/// The greatest number of rows that one statement asks for.
const LOOKUP_KEYS_MAX: usize = 1_000;

impl Unit {
    /// Returns the primary keys of rows to read from a table now, with the table's place.
    pub fn next_lookup(&mut self, now: Timestamp) -> Option<(usize, Vec<Key>)> {
        let next = |lookups: &mut Lookups| Some(lookups.next(now, LOOKUP_KEYS_MAX)).filter(|keys| !keys.is_empty());
        self.lookups.iter_mut().enumerate().find_map(|(table, lookups)| Some((table, next(lookups)?)))
    }

    /// Requests a row of the table at this place. If no rule holds the table's rows, the whole query is requested
    /// instead.
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

    /// Takes the answer about the rows that were last asked for in the table at this place. A row that the table does
    /// not have is removed. If a transaction wrote a row and the answer does not show it, the row is asked for again.
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

    /// Returns the transition if it is to be taken now. Without confirmation, a key is evaluated only when all its rows
    /// are known. A tombstone, for example, does not say whose row was deleted.
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

    /// Takes the transitions that were held back and whose rows are known now.
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

    /// Notes that the table did not answer.
    pub fn lookup_failed(&mut self, table: usize, now: Timestamp) {
        if let Some(lookups) = self.lookups.get_mut(table) {
            lookups.failed(now);
        }
    }

    /// The number of rows to read from the tables.
    pub fn incomplete(&self) -> usize {
        self.lookups.iter().map(Lookups::len).sum()
    }

    /// Notes that a row was deleted and its record does not say which one. At the end of the micro-batch, Postgres is
    /// asked about every open episode. Other rows that memory holds in excess are found when a candidate is refuted,
    /// and its rows are then read from the table.
    pub fn doubt(&mut self) {
        self.in_doubt = true;
    }

    /// Asks Postgres about the open episodes, because memory cannot evaluate them.
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

    /// Takes a group whose rows are to be read from the table.
    pub fn next_reload(&mut self) -> Option<Reload> {
        self.reloads.pop()
    }

    /// Replaces a group's rows by the table's, unless the stream has changed the group meanwhile.
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

    /// Takes a row of a rule's window from the table, before anything is evaluated.
    pub fn load(&mut self, rule: usize, row: &TableRow, now: Timestamp) {
        if let Some(state) = self.rules.get_mut(rule) {
            state.window.load(&row.pk, &row.row, now);
        }
    }

    /// Notes that all rows of a rule's window were loaded from the table, which was read after this WAL position.
    pub fn loaded(&mut self, rule: usize, at: Lsn) {
        if let Some(state) = self.rules.get_mut(rule) {
            state.window.loaded(at);
        }
    }

    /// Takes an evaluation of a group from elsewhere as if it were memory's. If it disagrees with the group's episode,
    /// the group becomes a candidate. An alert that resolves the episode has `reason`.
    pub fn found(&mut self, rule: usize, key: Key, evaluation: Evaluation, reason: Reason, now: Timestamp) {
        let Some(state) = self.rules.get_mut(rule) else { return };
        let (_, outputs) = state.window.evaluate(&key, now);
        let then = state.window.now_for(&key, now);
        self.take(rule, vec![Transition { key, evaluation, now: then, trigger: None, reason, outputs }], now);
    }

    /// Sets the time zones of the rules. Afterwards, rows that the windows no longer hold have to be loaded, and then
    /// every key has to be evaluated.
    ///
    /// # Errors
    /// A rule cannot be compiled.
    pub fn use_zones(&mut self, zones: &[Arc<Zone>]) -> Result<(), String> {
        for (state, zone) in self.rules.iter_mut().zip(zones) {
            if state.rule.query.zone != *zone {
                state.rule.query.zone = Arc::clone(zone);
                state.window.exchange_program(program(&state.rule.query, &self.tables)?);
            }
        }
        Ok(())
    }

    /// Takes the groups for which HAVING holds in the whole table. A group that memory does not know becomes a
    /// candidate and is compared. An open episode that the table does not support is compared, too. For a rule without
    /// confirmation only the comparison counts, because the sweep's result may already be outdated and nothing would
    /// end such an episode.
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
