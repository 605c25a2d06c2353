//! The steps of a unit's audit: the next request, and the effect of an answer.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use rust_decimal::Decimal;
use serde_json::{Map, Value as Json};

use super::suspects::{Ends, Heal, Verdict};
use super::{AUDIT_KEYS, AuditRequest, AuditStatus, NEAR_KEYS, Stage, bits, next_place};
use crate::alert::key_texts;
use crate::contract::Look;
use crate::failure::{CallError, HasKind};
use crate::model::{Key, Lsn, Timestamp};
use crate::planted;
use crate::progress::Offsets;
use crate::rule::table_row::TableRow;
use crate::snapshot::Snapshot;
use crate::unit::{Asked, Compared, Question, SeenRows, Unit, log};
use crate::window::Fingerprint;

/// The greatest number of places of memory in one step, where few of them are used.
const PLACES_MAX: usize = 10_000;

impl Unit {
    /// Returns the audit's next request, which counts as being asked from here on. `is_at_end`: whether everything in
    /// the topic has been read. Before that, a difference has no meaning.
    pub fn next_audit(&mut self, is_at_end: bool, now: Timestamp) -> Option<AuditRequest> {
        if self.audit.is_held(now) {
            return None;
        }
        let request = match self.next_repair(now) {
            Some(repair) => repair,
            None if is_at_end => self.next_comparison(now)?,
            None => return None,
        };
        self.audit.begin();
        Some(request)
    }

    /// The time of the next request. `None` while the audit waits for an answer.
    pub fn next_audit_at(&self) -> Option<Timestamp> {
        self.audit.next_at()
    }

    /// Returns the next request that repairs something known. It comes before comparisons.
    fn next_repair(&mut self, now: Timestamp) -> Option<AuditRequest> {
        if let Some((rule, keys)) = self.audit.suspects.take_heal(AUDIT_KEYS) {
            return Some(AuditRequest::Heal(self.question(rule, keys, now)));
        }
        self.audit.sweeps.pop_first().map(AuditRequest::Sweep)
    }

    fn next_comparison(&mut self, now: Timestamp) -> Option<AuditRequest> {
        if let Some((rule, keys)) = self.audit.suspects.take_again(AUDIT_KEYS)
            && let Some(request) = self.comparison(rule, keys, now)
        {
            return Some(request);
        }
        if now < self.audit.step_at || self.audit.suspects.is_full() {
            return None;
        }
        self.audit.pace(self.keys(), self.rules.len(), now);
        if matches!(self.audit.stage, None | Some(Stage::Rest)) {
            self.audit.begin_cycle(now);
            self.audit.stage = Some(self.first_keys(0));
        }
        loop {
            let Some(state) = self.rules.get(self.audit.rule) else {
                self.audit.rest();
                return None;
            };
            let rule = self.audit.rule;
            if state.rule.query.text.is_some() {
                // Memory holds nothing to compare.
                self.audit.rule = rule + 1;
                self.audit.stage = Some(self.first_keys(rule + 1));
                continue;
            }
            match self.audit.stage.take() {
                None | Some(Stage::Rest) => return None,
                Some(Stage::First(mut keys)) => {
                    let batch: Vec<Key> = keys.drain(..keys.len().min(AUDIT_KEYS)).collect();
                    self.audit.stage = Some(if keys.is_empty() {
                        let bits = bits(state.window.places());
                        Stage::Memory { bits, visited: 0, at: self.audit.seed() & ((1 << bits) - 1) }
                    } else {
                        Stage::First(keys)
                    });
                    if let Some(request) = self.comparison(rule, batch, now) {
                        return Some(request);
                    }
                }
                Some(Stage::Memory { bits, mut visited, mut at }) => {
                    let (mut batch, mut looked) = (Vec::new(), 0);
                    while visited < 1 << bits && batch.len() < AUDIT_KEYS && looked < PLACES_MAX {
                        batch.extend(u32::try_from(at).ok().and_then(|place| state.window.group_at(place)).cloned());
                        (at, visited, looked) = (next_place(at, bits), visited + 1, looked + 1);
                    }
                    let is_done = visited >= 1 << bits;
                    self.audit.stage =
                        Some(if is_done { Stage::Table(None) } else { Stage::Memory { bits, visited, at } });
                    if let Some(request) = self.comparison(rule, batch, now) {
                        return Some(request);
                    }
                    if !is_done {
                        return None;
                    }
                }
                Some(Stage::Table(after)) => {
                    // The answer brings the key from which to continue.
                    self.audit.stage = Some(Stage::Table(after.clone()));
                    return Some(AuditRequest::Page(rule, after));
                }
            }
        }
    }

    /// Returns a request to compare these keys, without those that already differ. A new request for such a key would
    /// lose the record of whether a change has come since its answer.
    fn comparison(&mut self, rule: usize, mut keys: Vec<Key>, now: Timestamp) -> Option<AuditRequest> {
        keys.retain(|key| !self.audit.suspects.is_suspect(rule, key));
        (!keys.is_empty()).then(|| AuditRequest::Compare(self.question(rule, keys, now)))
    }

    /// Returns the open episodes and the keys nearest to the threshold.
    fn first_keys(&self, rule: usize) -> Stage {
        let mut keys = VecDeque::new();
        if let Some(state) = self.rules.get(rule) {
            keys.extend(state.episodes.firing().cloned());
            let near = state.window.top(NEAR_KEYS).into_iter().map(|standing| standing.key);
            keys.extend(near.filter(|key| !state.episodes.is_firing(key)));
        }
        Stage::First(keys)
    }

    /// Returns a question about these keys, with memory's current values.
    fn question(&mut self, rule: usize, keys: Vec<Key>, now: Timestamp) -> Question {
        let mut question = Question { rule, asked: Vec::with_capacity(keys.len()) };
        self.audit.fingerprints.clear();
        let Some(state) = self.rules.get_mut(rule) else { return question };
        for key in keys {
            let now = state.window.now_for(&key, now);
            let (_, stream) = state.window.evaluate(&key, now);
            let fingerprint = state.window.fingerprint(&key);
            self.audit.fingerprints.insert(key.clone(), fingerprint);
            state.window.note_changes(&key);
            let texts = key_texts(&state.rule.query, &key);
            question.asked.push(Asked { key, texts, now, stream });
        }
        question
    }

    /// Takes the table's values of the keys in a question.
    pub fn compared(
        &mut self,
        question: &Question,
        answers: &[Result<Compared, CallError>],
        took: Duration,
        now: Timestamp,
    ) {
        self.audit.ended(took, now);
        let Some(state) = self.rules.get_mut(question.rule) else { return };
        for (asked, answer) in question.asked.iter().zip(answers) {
            let key = &asked.key;
            let known = self.audit.fingerprints.remove(key);
            let agrees = match (answer, known) {
                (Ok(answer), Some(fingerprint)) => {
                    self.audit.status.keys += 1;
                    let snapshot = Snapshot::parse(&answer.answer.snapshot);
                    let is_visible =
                        snapshot.as_ref().is_some_and(|snapshot| state.window.unseen(key, snapshot).is_empty());
                    if let Some(snapshot) = &snapshot {
                        self.seen.saw(snapshot);
                    }
                    !is_visible || agrees(fingerprint, &asked.stream, answer)
                }
                (Err(error), _) => {
                    self.audit.unread(&state.rule.name, "a key", error);
                    true // it comes again in the next cycle
                }
                (Ok(_), None) => true,
            };
            if agrees {
                self.audit.suspects.agrees(question.rule, key);
                state.window.forget_changes(key);
            } else {
                tracing::debug!(rule = state.rule.name, ?key, stream = ?asked.stream, ?answer, "answers differ");
                self.audit.suspects.differs(question.rule, key, now);
            }
        }
    }

    /// Takes a page of the table's keys. Asks about those of which memory has no row. An empty page is the end.
    pub fn paged(&mut self, rule: usize, page: Result<Vec<Key>, CallError>, took: Duration, now: Timestamp) {
        self.audit.ended(took, now);
        let Some(state) = self.rules.get(rule) else { return };
        let page = page.unwrap_or_else(|error| {
            self.audit.unread(&state.rule.name, "a page of the table's keys", &error);
            Vec::new()
        });
        let Some(last) = page.last().cloned() else {
            self.audit.rule = rule + 1;
            self.audit.stage = Some(self.first_keys(rule + 1));
            return;
        };
        for key in page {
            if !state.window.has_rows(&key) {
                self.audit.suspects.ask_again(rule, key);
            }
        }
        self.audit.stage = Some(Stage::Table(Some(last)));
    }

    /// Takes the table's rows of keys that have drifted. If a change has come for a key meanwhile, its rows are asked
    /// for again.
    pub fn healed(&mut self, question: &Question, rows: Result<SeenRows, CallError>, took: Duration, now: Timestamp) {
        let is_drift = self.audit.suspects.healed();
        self.audit.ended(took, now);
        let rule = question.rule;
        let Some(state) = self.rules.get_mut(rule) else { return };
        let SeenRows { rows, snapshot } = match rows {
            Ok(seen) => seen,
            Err(error) => {
                if !error.is_retried() {
                    tracing::warn!(%error, keys = question.asked.len(), "rows of keys that have drifted could not be read");
                }
                let again = question.asked.iter().map(|asked| Heal { rule, key: asked.key.clone(), is_drift });
                self.audit.suspects.heal.extend(again);
                return;
            }
        };
        let mut by_key: BTreeMap<Key, Vec<&TableRow>> = BTreeMap::new();
        for row in &rows {
            by_key.entry(state.window.key_of(&row.row)).or_default().push(row);
        }
        for asked in &question.asked {
            let key = &asked.key;
            if !state.window.is_quiet(key) || !state.window.unseen(key, &snapshot).is_empty() {
                self.audit.suspects.heal.push_back(Heal { rule, key: key.clone(), is_drift });
                continue;
            }
            state.window.forget_changes(key);
            let (_, before) = state.window.evaluate(key, asked.now);
            let fingerprint = state.window.fingerprint(key);
            let mine = by_key.remove(key).unwrap_or_default();
            state.window.reload(key, mine.iter().map(|row| (&row.pk, &*row.row)), now);
            let (_, after) = state.window.evaluate(key, asked.now);
            if before == after && fingerprint == state.window.fingerprint(key) {
                continue;
            }
            if !is_drift {
                tracing::debug!(
                    rule = state.rule.name,
                    ?key,
                    "changes faster than it can be compared: it holds the table's rows"
                );
                continue;
            }
            self.audit.status.drifts += 1;
            self.events.drifts += 1;
            let what = "memory differed from the table though all that was written had been read; it holds the table's rows from here on";
            log::drift(&state.rule.name, key, before, after, what);
        }
    }

    /// Begins a look at table and topic. Returns its number and the stream's position.
    pub fn begin_look(&mut self) -> (u64, Lsn) {
        (self.audit.suspects.begin_look(), self.streamed())
    }

    /// Whether a look could settle a suspect.
    pub fn wants_look(&self) -> bool {
        self.audit.suspects.wants_look()
    }

    /// Ends a look. `ends` are the topic's ends, which were read after it.
    pub fn looked(&mut self, (number, streamed): (u64, Lsn), look: &Look, ends: &Offsets, now: Timestamp) {
        tracing::debug!(number, ?streamed, position = ?look.position, flushed = ?look.flushed, ?ends, "looked at table and topic");
        self.audit.suspects.looked(number, look, streamed, &Ends { offsets: ends.clone(), at: now });
    }

    /// Decides which differences are drift. `is_read`: whether everything before these offsets has been read.
    pub fn settle_suspects(&mut self, now: Timestamp, is_read: impl Fn(&Offsets) -> bool) {
        let rules = &self.rules;
        let is_unchanged = |rule: usize, key: &Key| rules.get(rule).is_some_and(|state| state.window.is_unchanged(key));
        for (rule, key, verdict) in self.audit.suspects.settle(now, is_unchanged, |ends| is_read(&ends.offsets)) {
            if let Some(state) = self.rules.get_mut(rule).filter(|_| verdict == Verdict::Overtaken) {
                state.window.forget_changes(&key);
            }
        }
    }

    /// Requests a sweep of every rule, because something was missed. It runs as soon as the budget allows.
    pub fn sweep_soon(&mut self) {
        self.audit.sweeps.extend(0..self.rules.len());
    }

    /// Damages up to this number of groups of every rule, for tests of the audit.
    #[cfg(debug_assertions)]
    pub fn damage(&mut self, count: usize) {
        for state in &mut self.rules {
            let damaged = state.window.damage(count);
            tracing::warn!(rule = state.rule.name, damaged, "memory is damaged, as a test has asked");
        }
    }

    /// Whether a sweep is wanted or under way.
    pub fn is_sweeping(&self) -> bool {
        self.audit.is_sweeping()
    }

    /// Returns the state of the audit.
    pub fn audit_status(&self) -> AuditStatus {
        AuditStatus { unhealed: self.audit.suspects.unhealed(), ..self.audit.status }
    }
}

/// Whether memory and table have the same rows of a key, as far as the aggregates show.
fn agrees(fingerprint: Fingerprint, stream: &Map<String, Json>, table: &Compared) -> bool {
    let Fingerprint { rows, times, slack, is_sound, is_doubtful, has_unknown } = fingerprint;
    if is_sound && is_doubtful {
        return true;
    }
    if !is_sound || rows != table.rows || !(0..=slack).contains(&table.times.saturating_sub(times)) {
        return false;
    }
    // Values that memory cannot calculate are not compared.
    let same = |(name, value): (&String, &Json)| {
        has_unknown && value.is_null() && !planted::bug("opaque-compared")
            || table.answer.outputs.get(name).is_some_and(|other| same_value(value, other))
    };
    stream.iter().all(same)
}

fn same_value(one: &Json, other: &Json) -> bool {
    let number = |value: &Json| value.as_str().and_then(|text| text.parse::<Decimal>().ok());
    one == other || number(one).is_some_and(|one| number(other) == Some(one))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::unit::Answer;

    #[test]
    fn times_may_lack_what_the_connector_rounds_down() {
        let check = |times, slack, table, want| {
            let stream = Fingerprint { rows: 2, times, slack, is_sound: true, ..Fingerprint::default() };
            let table = Compared { rows: 2, times: table, ..Compared::default() };
            assert_eq!(agrees(stream, &Map::new(), &table), want, "{times} {slack} {table:?}");
        };
        check(5_000, 0, 5_000, true);
        check(5_000, 0, 5_001, false);
        check(5_000, 1_998, 6_998, true);
        check(5_000, 1_998, 6_999, false);
        check(5_000, 1_998, 4_999, false);
    }

    #[test]
    fn what_memory_cannot_calculate_is_not_compared() {
        let check = |has_unknown, is_doubtful, memory: Json, table: Json, want| {
            let of = |value: Json| Map::from_iter([("last".to_owned(), value)]);
            let stream = Fingerprint { rows: 2, is_sound: true, has_unknown, is_doubtful, ..Fingerprint::default() };
            let answer = Answer { outputs: of(table.clone()), ..Answer::default() };
            let table = Compared { rows: 2, answer, ..Compared::default() };
            assert_eq!(agrees(stream, &of(memory), &table), want, "{has_unknown} {is_doubtful} {table:?}");
        };
        check(false, false, Json::Null, "de".into(), false);
        check(true, false, Json::Null, "de".into(), true);
        check(true, false, "3".into(), "4".into(), false);
        check(false, true, "3".into(), "4".into(), true);
    }

    #[test]
    fn values_are_the_same_whatever_their_digits() {
        let check = |one: Json, other: Json, want: bool| assert_eq!(same_value(&one, &other), want, "{one} {other}");
        check(Json::from(3), Json::from(3), true);
        check(Json::from("25.00"), Json::from("25.0000"), true);
        check(Json::from("25.00"), Json::from("25.01"), false);
        check(Json::Null, Json::Null, true);
        check(Json::Null, Json::from("0"), false);
        check(Json::from("NaN"), Json::from("NaN"), true);
    }
}
