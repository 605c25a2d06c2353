//! The step from a candidate to its alert.

use super::{Answer, Asked, Unit, log};
use crate::alert::{Alert, Confirmation, Decision};
use crate::episode::{Candidate, EpisodeId, Status};
use crate::model::{Table, Timestamp};
use crate::planted::{self, Outside};
use crate::rule::evaluate::Evaluation;
use crate::window::Transition;

impl Unit {
    /// Returns the table of a rule's trigger in this lane. `None` where it could be one of several.
    fn trigger_table(&self, rule: usize, lane: i32) -> Option<Table> {
        let state = self.rules.get(rule)?;
        if state.rule.query.text.as_ref().is_none_or(|text| text.others.is_empty()) {
            return Some(state.rule.query.table.clone());
        }
        let topic = self.settings.topics.name(lane);
        let tables =
            self.tables.iter().zip(&state.places).filter(|(table, place)| place.is_some() && table.topic == topic);
        let mut tables = tables.map(|(table, _)| table.table.clone());
        tables.next().filter(|_| tables.next().is_none())
    }

    pub(super) fn decide_unconfirmed(&mut self, index: usize, transition: Transition, now: Timestamp) {
        let Some(state) = self.rules.get_mut(index) else { return };
        let Some(candidate) = state.episodes.take(&transition.key) else { return };
        let status = match transition.evaluation {
            Evaluation::Holds => Status::Firing,
            Evaluation::Fails => Status::Resolved,
            Evaluation::Unknown => {
                let place = log::place(&self.settings.topics, Some(&candidate));
                log::not_evaluated(&state.rule.name, &transition.key, &place);
                return;
            }
        };
        let asked = Asked { key: transition.key, texts: Vec::new(), now: transition.now, stream: transition.outputs };
        self.decide(index, &asked, status, &candidate, None, now);
    }

    pub(super) fn decide(
        &mut self,
        index: usize,
        asked: &Asked,
        status: Status,
        candidate: &Candidate,
        answer: Option<&Answer>,
        now: Timestamp,
    ) {
        let trigger = candidate.trigger.as_deref();
        let trigger_table = trigger.and_then(|trigger| self.trigger_table(index, trigger.position.partition));
        let topics = self.settings.topics.clone();
        let Some(state) = self.rules.get_mut(index) else { return };
        let episode = match (status, state.episodes.open_of(&asked.key)) {
            (Status::Resolved, Some(open)) => open.episode,
            _ => {
                let counted = planted::bug("static-outlives-a-death").then(|| planted::outside(Outside::Count));
                let ordinal = counted.and_then(|count| u32::try_from(count).ok()).unwrap_or(self.fired);
                self.fired += 1;
                EpisodeId { epoch: self.epoch, ordinal }
            }
        };
        let last = (status == Status::Resolved).then(|| state.of_postgres.last(&asked.key)).flatten();
        let alert = Alert::new(&Decision {
            group: &self.settings.group,
            lineage: &self.lineage,
            topic: trigger.map_or("", |trigger| topics.name(trigger.position.partition)),
            trigger_table: trigger_table.as_ref(),
            rule: &state.rule,
            key: &asked.key,
            status,
            reason: candidate.reason(),
            episode,
            trigger,
            stream: &asked.stream,
            // For a key that the query no longer returns, only the last returned values can be shown.
            database: last.as_ref().map(|last| &last.outputs).or_else(|| {
                answer.map(|answer| if planted::bug("figures-of-memory") { &asked.stream } else { &answer.outputs })
            }),
            database_as_of: last.as_ref().map(|last| last.as_of),
            window: state.window.bounds(asked.now),
            confirmation: answer.map(|answer| Confirmation {
                as_of: if planted::bug("instant-of-the-answer") { now } else { asked.now },
                snapshot: &answer.snapshot,
                attempts: candidate.attempts,
                millis: answer.millis,
            }),
            emitted_at: now,
        });
        state.episodes.decide(&asked.key, status, alert.open());
        state.window.watch(&asked.key, false);
        self.events.decided(status, candidate, now);
        self.alerts.push(alert);
    }
}
