//! Keys whose answers differ, until it is known whether that is drift. Pure.

use std::collections::VecDeque;

use crate::contract::Look;
use crate::model::{Key, Lsn, Timestamp};
use crate::progress::Offsets;

/// Suspects at most; while there are as many, no other key is compared.
const SUSPECTS_MAX: usize = 2_000;

/// How long a difference has to last where the connector does not tell how far it has read.
const LASTING_MICROS: i64 = 30_000_000;

/// So many answers have to differ over that time, the first and the last at its ends.
const LASTING_ANSWERS: u8 = 3;

/// Answers in a row that changes overtook before the key is read from the table anyway, if the stream is not behind.
const OVERTAKEN_MAX: u8 = 6;

/// Where the topic ended at a look.
#[derive(Clone, Debug)]
pub(super) struct Ends {
    /// Next offsets.
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
    /// Looks that had been begun when the answer came: a later one knows a position that is after it.
    looks: u64,
    /// The position in the WAL after the statement that was answered.
    position: Option<Lsn>,
    /// What was written up to there is in the topic before these.
    ends: Option<Ends>,
    /// Where the topic ended at the newest look, or at the first one after another answer has become due.
    newest: Option<Ends>,
    /// How often changes overtook it.
    overtaken: u8,
    /// A position in the WAL from about when its answer differed first.
    first: Option<Lsn>,
    /// Answers that differed since then, with no change of the key between.
    answers: u8,
}

impl Suspect {
    /// When it is asked about again, if the difference lasts until then.
    fn due(&self) -> Timestamp {
        let part = LASTING_MICROS / i64::from(LASTING_ANSWERS - 1);
        Timestamp(self.since.0.saturating_add(part * i64::from(self.answers)))
    }
}

/// What became of a suspect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is still open.
    Open,
    /// No transaction explains it.
    Drift,
    /// A change came for the key, or a row left it: it is asked about again.
    Overtaken,
    /// It lasts: it is asked about once more.
    Lasting,
}

/// A key that is to be asked about again.
#[derive(Debug, Clone)]
pub(super) struct Again {
    pub(super) rule: usize,
    pub(super) key: Key,
    overtaken: u8,
    first: Option<Lsn>,
    /// When an answer differed first, and how many have since.
    lasting: Option<(Timestamp, u8)>,
}

/// A key whose rows are to be read from the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Heal {
    pub(super) rule: usize,
    pub(super) key: Key,
    /// It has drifted; else it changes faster than it can be compared.
    pub(super) is_drift: bool,
}

/// All suspects, and the keys to be healed.
#[derive(Debug, Default)]
pub(in crate::unit) struct Suspects {
    suspects: Vec<Suspect>,
    /// Keys that are asked about again before any other.
    pub(super) again: VecDeque<Again>,
    /// What was known of keys that are being asked about again.
    asked: Vec<Again>,
    /// Keys whose rows are to be read from the table.
    pub(super) heal: VecDeque<Heal>,
    /// Keys whose rows are being read, and whether they have drifted.
    healing: (usize, bool),
    looks: u64,
    /// The position in the WAL at the newest look.
    position: Option<Lsn>,
    /// What is before this position is in the topic.
    is_in_topic: Option<Lsn>,
}

impl Suspects {
    /// Whether no other key should be compared for now.
    pub(super) fn is_full(&self) -> bool {
        self.suspects.len() + self.again.len() + self.heal.len() >= SUSPECTS_MAX
    }

    /// Whether there is something that a look could settle.
    pub(super) fn wants_look(&self) -> bool {
        !self.suspects.is_empty()
    }

    /// A look begins. Returns its number.
    pub(super) fn begin_look(&mut self) -> u64 {
        self.looks += 1;
        self.looks
    }

    /// Whether the newest answers about a key differed, and it is open why.
    pub(super) fn is_suspect(&self, rule: usize, key: &Key) -> bool {
        self.suspects.iter().any(|suspect| suspect.rule == rule && suspect.key == *key)
    }

    /// Takes up to `limit` keys of one rule that are asked about again. Those that are suspects meanwhile are left out.
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

    /// Takes up to `limit` keys of one rule that are to be healed.
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

    /// The rows of the keys that were taken are there, or could not be read. Returns whether these keys have drifted.
    pub(super) fn healed(&mut self) -> bool {
        std::mem::take(&mut self.healing).1
    }

    /// Keys that are known to have drifted, and do not hold the table's rows yet.
    pub(super) fn unhealed(&self) -> usize {
        self.heal.iter().filter(|heal| heal.is_drift).count() + if self.healing.1 { self.healing.0 } else { 0 }
    }

    /// A key is asked about: the table has it, and memory does not.
    pub(in crate::unit) fn ask_again(&mut self, rule: usize, key: Key) {
        if self.again.iter().any(|again| again.rule == rule && again.key == key) {
            return;
        }
        self.again.push_back(Again { rule, key, overtaken: 0, first: None, lasting: None });
    }

    /// The answers are the same.
    pub(super) fn agrees(&mut self, rule: usize, key: &Key) {
        self.asked.retain(|again| again.rule != rule || again.key != *key);
    }

    /// The answers differ.
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

    /// A look of this number has ended. `streamed`: the greatest position that had come in the stream when it began;
    /// `ends`: the topic's, asked for after it.
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
            // What comes in with the looks after it may not be waited for: there is another one each second.
            let due = suspect.due();
            if suspect.newest.as_ref().is_none_or(|newest| newest.at < due) {
                suspect.newest = Some(ends.clone());
            }
        }
    }

    /// Settles what can be settled. `is_unchanged`: no change has come for the key, and no row has left it; `is_read`: everything before these ends
    /// has been read. Returns the keys that are no longer suspects.
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
                // Changes come faster than answers. The table's rows are right whenever they are read; but a stream that is
                // behind would bring rows of before.
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

    /// Whether a change has come since its answer is noted once a key.
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

    /// Where a topic ends in what is no record, its ends count as read a second after the look that found them.
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
