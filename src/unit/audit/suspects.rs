//! Keys whose answers differ, until it is decided whether that is drift. Pure.

use std::collections::VecDeque;

use crate::contract::Look;
use crate::model::{Key, Lsn, Timestamp};
use crate::progress::Offsets;

/// The greatest number of suspects. While there are as many, no other key is compared.
const SUSPECTS_MAX: usize = 2_000;

/// How long a difference has to last where the connector does not report how far it has read.
const LASTING_MICROS: i64 = 30_000_000;

/// The number of answers that have to differ within that time, including its begin and end.
const LASTING_ANSWERS: u8 = 3;

/// How many answers in a row changes may overtake. After that the key is read from the table anyway, if the stream has
/// caught up.
const OVERTAKEN_MAX: u8 = 6;

/// The ends of the topic at a look.
#[derive(Clone, Debug)]
pub(super) struct Ends {
    /// The next offsets.
    pub(super) offsets: Offsets,
    /// When the look ended.
    pub(super) at: Timestamp,
}

/// A key whose answers differ.
#[derive(Debug)]
struct Suspect {
    rule: usize,
    key: Key,
    since: Timestamp,
    /// The number of looks that had begun when the answer came. A later look has a position after the answer.
    looks: u64,
    /// A WAL position after the statement that was answered.
    position: Option<Lsn>,
    /// The topic's ends. Everything written up to `position` is before them.
    ends: Option<Ends>,
    /// The topic's ends at the newest look, or at the first look after another answer became due.
    newest: Option<Ends>,
    /// How often changes overtook it.
    overtaken: u8,
    /// A WAL position from about the time of the first differing answer.
    first: Option<Lsn>,
    /// The number of differing answers since then, without a change of the key in between.
    answers: u8,
}

impl Suspect {
    /// The time at which the key is asked about again if the difference lasts.
    fn due(&self) -> Timestamp {
        let part = LASTING_MICROS / i64::from(LASTING_ANSWERS - 1);
        Timestamp(self.since.0.saturating_add(part * i64::from(self.answers)))
    }
}

/// The outcome for a suspect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The outcome is open.
    Open,
    /// No transaction explains the difference.
    Drift,
    /// A change came for the key, or a row left it. The key is asked about again.
    Overtaken,
    /// The difference lasts. The key is asked about once more.
    Lasting,
}

/// A key to be asked about again.
#[derive(Debug, Clone)]
pub(super) struct Again {
    pub(super) rule: usize,
    pub(super) key: Key,
    overtaken: u8,
    first: Option<Lsn>,
    /// The time of the first differing answer, and the number of them since.
    lasting: Option<(Timestamp, u8)>,
}

/// A key whose rows are to be read from the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Heal {
    pub(super) rule: usize,
    pub(super) key: Key,
    /// Whether the key has drifted. If not, it changes faster than it can be compared.
    pub(super) is_drift: bool,
}

/// All suspects, and the keys to be healed.
#[derive(Debug, Default)]
pub(in crate::unit) struct Suspects {
    suspects: Vec<Suspect>,
    /// Keys that are asked about again before any other.
    pub(super) again: VecDeque<Again>,
    /// Keys that are being asked about again, with what was known of them.
    asked: Vec<Again>,
    /// Keys whose rows are to be read from the table.
    pub(super) heal: VecDeque<Heal>,
    /// The number of keys whose rows are being read, and whether they have drifted.
    healing: (usize, bool),
    looks: u64,
    /// The WAL position at the newest look.
    position: Option<Lsn>,
    /// Everything before this position is in the topic.
    is_in_topic: Option<Lsn>,
}

impl Suspects {
    /// Whether no other key should be compared for now.
    pub(super) fn is_full(&self) -> bool {
        self.suspects.len() + self.again.len() + self.heal.len() >= SUSPECTS_MAX
    }

    /// Whether a look could settle a suspect.
    pub(super) fn wants_look(&self) -> bool {
        !self.suspects.is_empty()
    }

    /// Begins a look. Returns its number.
    pub(super) fn begin_look(&mut self) -> u64 {
        self.looks += 1;
        self.looks
    }

    /// Whether the newest answers about a key differed and the cause is not decided.
    pub(super) fn is_suspect(&self, rule: usize, key: &Key) -> bool {
        self.suspects.iter().any(|suspect| suspect.rule == rule && suspect.key == *key)
    }

    /// Takes up to `limit` keys of one rule to be asked about again, without those that have become suspects.
    pub(super) fn take_again(&mut self, limit: usize) -> Option<(usize, Vec<Key>)> {
        let rule = self.again.front()?.rule;
        let mut keys = Vec::new();
        while keys.len() < limit
            && let Some(again) = self.again.pop_front_if(|again| again.rule == rule)
        {
            if !self.is_suspect(rule, &again.key) {
                keys.push(again.key.clone());
                self.asked.push(again);
            }
        }
        Some((rule, keys))
    }

    /// Takes up to `limit` keys of one rule to be healed.
    pub(super) fn take_heal(&mut self, limit: usize) -> Option<(usize, Vec<Key>)> {
        let Heal { rule, is_drift, .. } = *self.heal.front()?;
        let mut keys = Vec::new();
        while keys.len() < limit
            && let Some(heal) = self.heal.pop_front_if(|heal| heal.rule == rule && heal.is_drift == is_drift)
        {
            keys.push(heal.key);
        }
        self.healing = (keys.len(), is_drift);
        Some((rule, keys))
    }

    /// Ends the reading of rows, with or without an answer. Returns whether the keys have drifted.
    pub(super) fn healed(&mut self) -> bool {
        std::mem::take(&mut self.healing).1
    }

    /// The number of keys with known drift that do not hold the table's rows yet.
    pub(super) fn unhealed(&self) -> usize {
        self.heal.iter().filter(|heal| heal.is_drift).count() + if self.healing.1 { self.healing.0 } else { 0 }
    }

    /// Notes a key to be asked about, which the table has and memory does not.
    pub(in crate::unit) fn ask_again(&mut self, rule: usize, key: Key) {
        if self.again.iter().any(|again| again.rule == rule && again.key == key) {
            return;
        }
        self.again.push_back(Again { rule, key, overtaken: 0, first: None, lasting: None });
    }

    /// Notes that the answers about a key agree.
    pub(super) fn agrees(&mut self, rule: usize, key: &Key) {
        self.asked.retain(|again| again.rule != rule || again.key != *key);
    }

    /// Notes that the answers about a key differ.
    pub(super) fn differs(&mut self, rule: usize, key: &Key, now: Timestamp) {
        let known = self.asked.iter().position(|again| again.rule == rule && again.key == *key);
        let known = known.map(|index| self.asked.swap_remove(index));
        if self.is_suspect(rule, key) {
            return;
        }
        let (since, before) = known.as_ref().and_then(|again| again.lasting).unwrap_or((now, 0));
        self.suspects.push(Suspect {
            rule,
            key: key.clone(),
            since,
            looks: self.looks,
            position: None,
            ends: None,
            newest: None,
            overtaken: known.as_ref().map_or(0, |again| again.overtaken),
            first: known.and_then(|again| again.first).or(self.position),
            answers: before.saturating_add(1),
        });
    }

    /// Takes the result of a look. `streamed` is the greatest position in the stream when the look began. `ends` are
    /// the topic's ends, read after the look.
    pub(super) fn looked(&mut self, number: u64, look: &Look, streamed: Lsn, ends: &Ends) {
        self.position = Some(look.position);
        self.is_in_topic = self.is_in_topic.max(Some(streamed)).max(look.flushed);
        for suspect in &mut self.suspects {
            if number <= suspect.looks {
                continue;
            }
            let position = *suspect.position.get_or_insert(look.position);
            let is_read = look.flushed.is_some_and(|flushed| flushed >= position) || streamed > position;
            if is_read && suspect.ends.is_none() {
                suspect.ends = Some(ends.clone());
            }
            // Later looks must not extend the wait, since there is one each second.
            let due = suspect.due();
            if suspect.newest.as_ref().is_none_or(|newest| newest.at < due) {
                suspect.newest = Some(ends.clone());
            }
        }
    }

    /// Settles the suspects that can be settled. `is_unchanged`: whether no change has come for the key and no row has
    /// left it. `is_read`: whether everything before these ends has been read. Returns the keys that are no longer
    /// suspects.
    pub(super) fn settle(
        &mut self,
        now: Timestamp,
        is_unchanged: impl Fn(usize, &Key) -> bool,
        is_read: impl Fn(&Ends) -> bool,
    ) -> Vec<(usize, Key, Verdict)> {
        let mut settled = Vec::new();
        let (again, heal, is_in_topic) = (&mut self.again, &mut self.heal, self.is_in_topic);
        self.suspects.retain(|suspect| {
            let lasts = now >= suspect.due() && suspect.newest.as_ref().is_some_and(&is_read);
            let has_lasted = suspect.answers >= LASTING_ANSWERS;
            let verdict = if !is_unchanged(suspect.rule, &suspect.key) {
                Verdict::Overtaken
            } else if has_lasted || suspect.ends.as_ref().is_some_and(&is_read) {
                Verdict::Drift
            } else if lasts {
                Verdict::Lasting
            } else {
                Verdict::Open
            };
            let (rule, key) = (suspect.rule, suspect.key.clone());
            let first = suspect.first;
            let mut ask =
                |overtaken, lasting| again.push_back(Again { rule, key: key.clone(), overtaken, first, lasting });
            let is_behind = first.is_none_or(|first| Some(first) > is_in_topic);
            match verdict {
                Verdict::Open => return true,
                Verdict::Drift => heal.push_back(Heal { rule, key: key.clone(), is_drift: true }),
                // Changes come faster than answers. The table's rows are right whenever they are read. But a stream
                // that has not caught up would then bring older rows.
                Verdict::Overtaken if suspect.overtaken >= OVERTAKEN_MAX && !is_behind => {
                    heal.push_back(Heal { rule, key: key.clone(), is_drift: false });
                }
                Verdict::Overtaken => ask(suspect.overtaken.saturating_add(1), None),
                Verdict::Lasting => ask(suspect.overtaken, Some((suspect.since, suspect.answers))),
            }
            settled.push((rule, key, verdict));
            false
        });
        settled
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::model::NextOffset;

    fn look(position: u64, flushed: Option<u64>) -> Look {
        Look { position: Lsn(position), flushed: flushed.map(Lsn), ..Look::default() }
    }

    fn ends(end: i64) -> Ends {
        Ends { offsets: BTreeMap::from([(0, NextOffset(end))]), at: Timestamp(0) }
    }

    fn settle(suspects: &mut Suspects, now: i64, quiet: bool, read: i64) -> Vec<Verdict> {
        let settled = suspects.settle(Timestamp(now), |_, _| quiet, |to| to.offsets <= ends(read).offsets);
        settled.into_iter().map(|(_, _, verdict)| verdict).collect()
    }

    #[test]
    fn it_is_drift_once_all_that_the_statement_saw_is_read() {
        let mut suspects = Suspects::default();
        let early = suspects.begin_look();
        suspects.differs(0, &Key::Int(1), Timestamp(0));
        suspects.looked(early, &look(100, Some(100)), Lsn(900), &ends(5));
        assert_eq!(settle(&mut suspects, 1, true, 9), [], "the look began before the answer came");
        let number = suspects.begin_look();
        suspects.looked(number, &look(200, Some(150)), Lsn(150), &ends(6));
        assert_eq!(settle(&mut suspects, 2, true, 9), [], "not everything is in the topic yet");
        let number = suspects.begin_look();
        suspects.looked(number, &look(300, Some(200)), Lsn(150), &ends(7));
        assert_eq!(settle(&mut suspects, 3, true, 6), [], "not everything was read yet");
        assert_eq!(settle(&mut suspects, 4, true, 7), [Verdict::Drift]);
        assert_eq!(suspects.take_heal(9), Some((0, vec![Key::Int(1)])));
    }

    #[test]
    fn a_change_explains_it_and_it_is_asked_about_again() {
        let mut suspects = Suspects::default();
        let number = suspects.begin_look();
        suspects.looked(number, &look(200, None), Lsn(150), &ends(6));
        suspects.differs(0, &Key::Int(1), Timestamp(0));
        let overtaken = |suspects: &mut Suspects| {
            assert_eq!(settle(suspects, 1, false, 9), [Verdict::Overtaken]);
            assert_eq!(suspects.take_again(9), Some((0, vec![Key::Int(1)])));
            suspects.differs(0, &Key::Int(1), Timestamp(1));
        };
        for _ in 0..=OVERTAKEN_MAX {
            overtaken(&mut suspects); // the stream is behind
        }
        let number = suspects.begin_look();
        suspects.looked(number, &look(300, Some(200)), Lsn(150), &ends(6));
        assert_eq!(settle(&mut suspects, 1, false, 9), [Verdict::Overtaken]);
        assert_eq!(suspects.take_again(9), None);
        assert_eq!(suspects.take_heal(9), Some((0, vec![Key::Int(1)])), "its rows are read all the same");
        assert_eq!(suspects.unhealed(), 0, "that is no drift");
    }

    /// Whether a change since the answer is noted once a key.
    #[test]
    fn a_suspect_is_not_asked_about_again() {
        let mut suspects = Suspects::default();
        suspects.differs(0, &Key::Int(1), Timestamp(0));
        suspects.ask_again(0, Key::Int(1));
        suspects.ask_again(0, Key::Int(2));
        assert_eq!(suspects.take_again(9), Some((0, vec![Key::Int(2)])));
        assert!(suspects.is_suspect(0, &Key::Int(1)) && !suspects.is_suspect(1, &Key::Int(1)));
    }

    #[test]
    fn without_a_slot_it_has_to_last() {
        let mut suspects = Suspects::default();
        suspects.differs(0, &Key::Int(1), Timestamp(0));
        let number = suspects.begin_look();
        suspects.looked(number, &look(200, None), Lsn(150), &ends(6));
        assert_eq!(settle(&mut suspects, LASTING_MICROS / 2 - 1, true, 9), []);
        assert_eq!(settle(&mut suspects, LASTING_MICROS / 2, true, 5), [], "the reader is not at the end");
        for due in [LASTING_MICROS / 2, LASTING_MICROS] {
            assert_eq!(settle(&mut suspects, due, true, 9), [Verdict::Lasting]);
            assert_eq!(suspects.take_again(9), Some((0, vec![Key::Int(1)])));
            suspects.differs(0, &Key::Int(1), Timestamp(due + 1));
            let number = suspects.begin_look();
            suspects.looked(number, &look(200, None), Lsn(150), &ends(6));
        }
        assert_eq!(settle(&mut suspects, LASTING_MICROS + 1, true, 9), [Verdict::Drift]);
    }

    /// If the topic ends with something other than a record, its ends count as read one second after the look.
    #[test]
    fn a_look_each_second_does_not_hold_it_up() {
        let mut suspects = Suspects::default();
        suspects.differs(0, &Key::Int(1), Timestamp(0));
        let mut verdicts = Vec::new();
        for second in 0..LASTING_MICROS / 1_000_000 {
            let now = Timestamp(second * 1_000_000);
            let number = suspects.begin_look();
            suspects.looked(number, &look(200, None), Lsn(150), &Ends { at: now, ..ends(6) });
            let settled = suspects.settle(now, |_, _| true, |ends| now.0 - ends.at.0 >= 1_000_000);
            verdicts.extend(settled.into_iter().map(|(_, _, verdict)| verdict));
        }
        assert_eq!(verdicts, [Verdict::Lasting]);
    }
}
