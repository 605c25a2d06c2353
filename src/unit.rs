//! A unit: the partitions that are judged together, with the windows, episodes and undelivered decisions of
//! every rule. Pure. One unit holds all partitions for now; where a topic is keyed by the rule's key there
//! can be one per partition.
//!
//! - this file: changes in, verdicts, questions, answers, decisions
//! - [`news`]: what has happened, for whoever shows a run
//! - [`stored`]: epochs closed, windows and episodes stored, and both taken up again
//! - [`backup`]: how far the group has come and how its episodes stand, for Kafka

pub mod backup;
pub mod news;
mod question;
pub mod stored;

pub use question::{Answer, Asked, Question, Reload};

use news::{News, Said};
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use crate::alert::{Alert, Confirmation, Decision, key_texts};
use crate::change::Change;
use crate::checkpoint::Offsets;
use crate::confirm::rows::TableRow;
use crate::episode::{Candidate, EpisodeId, Episodes, Outcome, Raised, Status};
use crate::model::{Key, NextOffset, Position, Timestamp};
use crate::rule::evaluate::{Program, Verdict};
use crate::rule::{Confirm, Rule};
use crate::snapshot::Snapshot;
use crate::window::{Applied, Standing, Transition, Window};

/// What a run has done so far; the closing line of `--until-end`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Records read for the first time in this lineage, of whatever kind.
    pub read: u64,
    /// Records read again to rebuild windows.
    pub replayed: u64,
    /// Groups that became candidates.
    pub candidates: u64,
    /// Candidates that Postgres confirmed.
    pub confirmed: u64,
    /// Answers of Postgres that did not confirm.
    pub refuted: u64,
    /// Firing alerts.
    pub fired: u64,
    /// Resolved alerts.
    pub resolved: u64,
    /// Records that were not understood.
    pub rejected: u64,
}

/// Answers in a row that refute a candidate before its rows are read from the table: with the back-off that is
/// four seconds in which the stream could have caught up.
const REFUSALS_BEFORE_RELOAD: u32 = 5;

/// One rule at work.
#[derive(Debug)]
struct RuleState {
    rule: Rule,
    window: Window,
    episodes: Episodes,
}

/// Windows, episodes and decisions of a set of partitions.
#[derive(Debug)]
pub struct Unit {
    group: String,
    lineage: String,
    topic: String,
    rules: Vec<RuleState>,
    offsets: Offsets,
    /// Whether open episodes go on under a changed rule.
    pub carry: bool,
    /// Number of the epoch that is being built.
    epoch: u64,
    /// Episodes that have fired in it.
    fired: u32,
    /// Decided and not yet logged.
    alerts: Vec<Alert>,
    /// Groups to be read from the table.
    reloads: Vec<Reload>,
    /// Groups that were found to differ from the table and have been reloaded.
    pub drifts: u64,
    /// What was done so far.
    pub counts: Counts,
    /// What has happened since it was last taken from here.
    pub news: News,
}

impl Unit {
    /// An empty unit for these rules, which read `wanted` columns in that order.
    ///
    /// # Errors
    /// A rule that cannot be compiled against the columns.
    pub fn new(group: &str, topic: &str, rules: Vec<Rule>, wanted: &[usize]) -> Result<Self, String> {
        let state = |rule: Rule| -> Result<RuleState, String> {
            let window = Window::new(Program::new(&rule.query, wanted)?, rule.clock);
            Ok(RuleState { rule, window, episodes: Episodes::default() })
        };
        Ok(Self {
            group: group.to_owned(),
            lineage: String::new(),
            topic: topic.to_owned(),
            rules: rules.into_iter().map(state).collect::<Result<_, _>>()?,
            offsets: Offsets::new(),
            carry: true,
            epoch: 0,
            fired: 0,
            alerts: Vec::new(),
            reloads: Vec::new(),
            drifts: 0,
            counts: Counts::default(),
            news: News::default(),
        })
    }

    /// The rule with this index.
    pub fn rule(&self, index: usize) -> Option<&Rule> {
        self.rules.get(index).map(|state| &state.rule)
    }

    /// Names of the rules, in order, each with its version and the columns and types that it groups by:
    /// `4e12056de24a5792 user_id bigint`.
    pub fn versions(&self) -> Vec<(String, String)> {
        let version = |rule: &Rule| {
            let columns = rule.query.group_by.iter().filter_map(|index| rule.query.table.columns.get(*index));
            let keys: Vec<String> = columns.map(|column| format!("{} {}", column.name, column.type_name)).collect();
            (rule.name.clone(), format!("{} {}", rule.version, keys.join(", ")))
        };
        self.rules.iter().map(|state| version(&state.rule)).collect()
    }

    /// The next offsets.
    pub fn offsets(&self) -> &Offsets {
        &self.offsets
    }

    /// Starts to count from these offsets, in this lineage; the next epoch to be closed has this number.
    pub fn begin(&mut self, lineage: &str, epoch: u64, offsets: Offsets) {
        lineage.clone_into(&mut self.lineage);
        self.epoch = epoch;
        self.offsets = offsets;
    }

    /// Id of the lineage.
    pub fn lineage(&self) -> &str {
        &self.lineage
    }

    /// Number of the epoch that is being built.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Rows held, over all rules.
    pub fn rows(&self) -> usize {
        self.rules.iter().map(|state| state.window.rows()).sum()
    }

    /// Groups held, over all rules.
    pub fn keys(&self) -> usize {
        self.rules.iter().map(|state| state.window.groups()).sum()
    }

    /// Open episodes by rule, in order.
    pub fn firing(&self) -> impl Iterator<Item = usize> {
        self.rules.iter().map(|state| state.episodes.firing().len())
    }

    /// Of each rule the groups that are nearest to its threshold, or furthest over it.
    pub fn top(&self, count: usize) -> impl Iterator<Item = (&Rule, Vec<Standing>)> {
        self.rules.iter().map(move |state| (&state.rule, state.window.top(count)))
    }

    /// Candidates that wait for an answer.
    pub fn waiting(&self) -> usize {
        self.rules.iter().map(|state| state.episodes.candidate_count()).sum()
    }

    /// Alerts that wait for their epoch.
    pub fn undelivered(&self) -> usize {
        self.alerts.len()
    }

    /// Takes one record's change into every rule's windows.
    pub fn apply(&mut self, change: &Change, position: Position, now: Timestamp) {
        for state in &mut self.rules {
            if state.window.apply(change, position, now) == Applied::Stale {
                tracing::trace!(?position, "duplicate of a newer version");
            }
        }
    }

    /// The record before this offset has been taken.
    pub fn advance(&mut self, partition: i32, next: NextOffset) {
        let held = self.offsets.entry(partition).or_insert(next);
        *held = (*held).max(next);
    }

    /// Ends a step: every group that a change or time has touched is judged once at `now`.
    pub fn judge(&mut self, now: Timestamp) {
        for index in 0..self.rules.len() {
            let Some(state) = self.rules.get_mut(index) else { continue };
            let mut transitions = state.window.judge(now);
            transitions.extend(state.window.expire(now));
            self.take(index, transitions, now);
        }
    }

    /// When time alone will change a group next.
    pub fn next_edge(&self) -> Option<Timestamp> {
        self.rules.iter().filter_map(|state| state.window.next_edge()).min()
    }

    /// Whether any rule is confirmed, so that it matters what the database shows.
    pub fn is_confirmed(&self) -> bool {
        self.rules.iter().any(|state| state.rule.confirm == Confirm::Required)
    }

    /// A statement has seen this much of the database.
    pub fn saw(&mut self, snapshot: &Snapshot) {
        for state in &mut self.rules {
            state.window.saw(snapshot);
        }
    }

    /// Windows were rebuilt without judging: every group is judged once, and every open episode held
    /// against its window.
    pub fn judge_all(&mut self, now: Timestamp) {
        for index in 0..self.rules.len() {
            let Some(state) = self.rules.get_mut(index) else { continue };
            for key in state.episodes.firing() {
                // Named whatever its verdict, and kept although it may be empty: the transactions that emptied it may
                // not be visible yet.
                state.window.watch(key, true);
            }
            let transitions = state.window.judge_all(now);
            self.take(index, transitions, now);
        }
    }

    fn take(&mut self, index: usize, transitions: Vec<Transition>, now: Timestamp) {
        for transition in transitions {
            let Some(state) = self.rules.get_mut(index) else { return };
            let raised = state.episodes.raise(&transition, now);
            tracing::debug!(rule = state.rule.name, key = ?transition.key, verdict = ?transition.verdict, ?raised, "judged");
            state.window.watch(&transition.key, matches!(raised, Raised::Candidate | Raised::Again));
            if raised == Raised::Candidate {
                self.counts.candidates += 1;
                self.news.raised(index);
            }
            if state.rule.confirm == Confirm::Off && matches!(raised, Raised::Candidate | Raised::Again) {
                self.decide_unconfirmed(index, transition, now);
            }
        }
    }

    fn decide_unconfirmed(&mut self, index: usize, transition: Transition, now: Timestamp) {
        let Some(state) = self.rules.get_mut(index) else { return };
        let Some(candidate) = state.episodes.take(&transition.key) else { return };
        let status = match transition.verdict {
            Verdict::Holds => Status::Firing,
            Verdict::Fails => Status::Resolved,
            Verdict::Unknown => {
                let (rule, key) = (&state.rule.name, &transition.key);
                tracing::warn!(rule, ?key, "memory cannot judge this group, and confirm is off: no alert either way");
                return;
            }
        };
        let asked = Asked { key: transition.key, text: None, now: transition.now, stream: transition.outputs };
        self.decide(index, &asked, status, &candidate, None, now);
    }

    /// The candidates that are due, up to `limit` of one rule; they count as being asked from here on.
    pub fn ask(&mut self, now: Timestamp, limit: usize) -> Option<Question> {
        for (rule, state) in self.rules.iter_mut().enumerate() {
            let due = state.episodes.due(now, limit);
            if due.is_empty() {
                continue;
            }
            let asked = due.into_iter().map(|key| {
                let overdue = state.episodes.candidate(&key).filter(|candidate| candidate.overdue);
                let (now, stream) = match overdue {
                    Some(candidate) => {
                        (candidate.raised_at, serde_json::from_str(&candidate.stream).unwrap_or_default())
                    }
                    None => {
                        let now = state.window.now_for(&key, now);
                        (now, state.window.look(&key, now).1)
                    }
                };
                let text = key_texts(&state.rule.query, &key).into_iter().next().flatten();
                Asked { key, text, now, stream }
            });
            return Some(Question { rule, asked: asked.collect() });
        }
        None
    }

    /// Takes Postgres's answers, in the order asked; a group whose statement failed is asked again later.
    pub fn answer(&mut self, question: &Question, answers: &[Result<Answer, String>], now: Timestamp) {
        for (asked, answer) in question.asked.iter().zip(answers) {
            let Some(state) = self.rules.get_mut(question.rule) else { return };
            let answer = match answer {
                Ok(answer) => answer,
                Err(problem) => {
                    tracing::warn!(rule = state.rule.name, key = ?asked.key, problem, "not confirmed yet; asked again");
                    state.episodes.failed(&asked.key, now);
                    self.news.heard(question.rule, &state.rule, asked, None, Said::Failed, now);
                    continue;
                }
            };
            let snapshot = Snapshot::parse(&answer.snapshot);
            let unseen =
                snapshot.as_ref().map(|snapshot| state.window.unseen(&asked.key, snapshot)).unwrap_or_default();
            if let Some(snapshot) = &snapshot {
                state.window.saw(snapshot);
            }
            let (verdict, _) = state.window.look(&asked.key, now);
            let insists = match verdict {
                Verdict::Holds => !state.episodes.is_firing(&asked.key),
                Verdict::Fails => state.episodes.is_firing(&asked.key),
                Verdict::Unknown => false,
            };
            let decided = unseen.is_empty();
            let mut heard = |said| self.news.heard(question.rule, &state.rule, asked, Some(answer), said, now);
            match state.episodes.answer(&asked.key, answer.holds, decided, insists, now) {
                Outcome::Confirmed(status, candidate) => {
                    self.counts.confirmed += 1;
                    heard(Said::Confirmed);
                    self.decide(question.rule, asked, status, &candidate, Some(answer), now);
                    if candidate.overdue {
                        // It held then, and no longer does: Postgres is asked about that as well.
                        self.resolve_overdue(question.rule, asked, now);
                    }
                }
                Outcome::Refuted(again_at) => {
                    self.counts.refuted += 1;
                    heard(Said::Refuted);
                    let (rule, key) = (&state.rule.name, &asked.key);
                    let again = again_at.map(Timestamp::rfc3339);
                    if refusals(&state.episodes, &asked.key) == REFUSALS_BEFORE_RELOAD {
                        self.reloads.push(Reload { rule: question.rule, asked: asked.clone() });
                    }
                    tracing::info!(
                        rule, ?key, stream = %Json::from(asked.stream.clone()), database = %Json::from(answer.outputs.clone()),
                        snapshot = answer.snapshot, again, "refuted: Postgres does not agree with the stream"
                    );
                }
                Outcome::Undecided(again_at) => {
                    heard(Said::Undecided);
                    let (rule, key, again) = (&state.rule.name, &asked.key, again_at.rfc3339());
                    tracing::info!(
                        rule,
                        ?key,
                        snapshot = answer.snapshot,
                        ?unseen,
                        again,
                        "undecided: Postgres does not show yet what the stream has brought"
                    );
                }
                Outcome::Withdrawn => {
                    tracing::debug!(rule = state.rule.name, key = ?asked.key, "answer to a candidate withdrawn meanwhile");
                }
            }
        }
    }

    fn resolve_overdue(&mut self, rule: usize, asked: &Asked, now: Timestamp) {
        let Some(state) = self.rules.get_mut(rule) else { return };
        let (verdict, outputs) = state.window.look(&asked.key, now);
        let transition = Transition { key: asked.key.clone(), verdict, now, trigger: None, outputs };
        self.take(rule, vec![transition], now);
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
        let (_, before) = state.window.look(key, now);
        state.window.reload(key, rows.iter().map(|row| (&row.pk, &*row.row)), now);
        let (_, after) = state.window.look(key, now);
        if before != after {
            self.drifts += 1;
            tracing::warn!(
                rule = state.rule.name, ?key, stream = %Json::from(before), database = %Json::from(after), drifts = self.drifts,
                "drift: the stream's rows differ from the table's, although it shows all that was applied; the table's are held from here on"
            );
        }
        self.judge(now);
    }

    /// Takes a row of a rule's window as the table has it, before anything is judged.
    pub fn load(&mut self, rule: usize, row: &TableRow, now: Timestamp) {
        if let Some(state) = self.rules.get_mut(rule) {
            state.window.load(&row.pk, &row.row, now);
        }
    }

    /// Takes the groups that HAVING holds for in the whole table: one that memory does not know of becomes a
    /// candidate, and is read from the table.
    pub fn swept(&mut self, rule: usize, keys: Vec<Key>, now: Timestamp) {
        let Some(state) = self.rules.get_mut(rule) else { return };
        let mut missed = Vec::new();
        for key in keys {
            let (verdict, outputs) = state.window.look(&key, now);
            if verdict == Verdict::Fails && !state.episodes.is_firing(&key) {
                missed.push(Transition { key, verdict: Verdict::Holds, now, trigger: None, outputs });
            }
        }
        if !missed.is_empty() {
            tracing::warn!(
                rule = state.rule.name,
                groups = missed.len(),
                "the sweep found groups that the stream has missed"
            );
        }
        self.take(rule, missed, now);
    }

    /// When the next waiting candidate is due.
    pub fn next_due(&self) -> Option<Timestamp> {
        self.rules.iter().filter_map(|state| state.episodes.next_due()).min()
    }

    /// Whether every candidate has had an answer at or after this instant.
    pub fn all_answered_since(&self, then: Timestamp) -> bool {
        self.rules.iter().all(|state| state.episodes.all_answered_since(then))
    }

    /// Makes every waiting candidate due at once.
    pub fn hurry(&mut self, now: Timestamp) {
        for state in &mut self.rules {
            state.episodes.hurry(now);
        }
    }

    fn decide(
        &mut self,
        index: usize,
        asked: &Asked,
        status: Status,
        candidate: &Candidate,
        answer: Option<&Answer>,
        now: Timestamp,
    ) {
        let Some(state) = self.rules.get_mut(index) else { return };
        let episode = match (status, state.episodes.open_of(&asked.key)) {
            (Status::Resolved, Some(open)) => open.episode,
            _ => {
                let ordinal = self.fired;
                self.fired += 1;
                EpisodeId { epoch: self.epoch, ordinal }
            }
        };
        let alert = Alert::new(&Decision {
            group: &self.group,
            lineage: &self.lineage,
            topic: &self.topic,
            rule: &state.rule,
            key: &asked.key,
            status,
            episode,
            trigger: candidate.trigger.as_deref(),
            stream: &asked.stream,
            database: answer.map(|answer| &answer.outputs),
            window: state.window.bounds(asked.now),
            confirmation: answer.map(|answer| Confirmation {
                as_of: asked.now,
                snapshot: &answer.snapshot,
                attempts: candidate.attempts,
                millis: answer.millis,
            }),
            emitted_at: now,
        });
        state.episodes.decide(&asked.key, status, alert.open());
        state.window.watch(&asked.key, false);
        self.news.decided(candidate, now);
        match status {
            Status::Firing => self.counts.fired += 1,
            Status::Resolved => self.counts.resolved += 1,
        }
        self.alerts.push(alert);
    }
}

/// Answers in a row that refuted this candidate, though they showed all that memory had applied.
fn refusals(episodes: &Episodes, key: &Key) -> u32 {
    episodes.candidate(key).map_or(0, |candidate| candidate.refusals)
}
