//! A unit: the partitions that are evaluated together, with the windows, episodes and undelivered decisions of every
//! rule. Pure. So far one unit holds all partitions. Where a topic is keyed by the rule's key, there can be one unit
//! per partition.
//!
//! - this file: evaluations, questions, answers, decisions
//! - [`events`]: what has happened, for status pages
//! - [`audit`]: comparing memory with the table
//! - [`repair`]: reading rows and keys from the table where the stream is incomplete, [`lookups`]: which rows to read
//! - [`stored`]: closing epochs, storing windows and episodes, and restoring both
//! - [`decide`]: from a candidate to its alert
//! - [`log`]: log lines about a key
//! - [`of_postgres`]: rules that Postgres alone evaluates
//! - [`order`]: questions that follow an answer
//! - [`rebuilt`]: the evaluation of every group after a start
//! - [`past`]: what earlier runs left open, under rules that may have changed since
//! - [`stream`]: applying changes
//! - [`seen`]: the snapshots that statements have seen
//! - [`recovery`]: the group's progress and episodes in Kafka

pub mod audit;
mod decide;
pub mod events;
mod log;
mod lookups;
mod of_postgres;
mod order;
pub mod past;
mod question;
mod rebuilt;
pub mod recovery;
mod repair;
mod seen;
pub mod stored;
mod stream;

pub use question::{Answer, Asked, Compared, Question, Reload, SeenRows};

use std::collections::BTreeMap;
use std::time::Duration;

use audit::Audit;
use lookups::Lookups;
use of_postgres::OfPostgres;
use past::{Carried, Left, Moved, Past};
use seen::Seen;

use events::{ConfirmationOutcome, UnitEvents};

use crate::alert::{Alert, key_texts};
use crate::episode::{Episodes, Outcome, Raised};
use crate::failure::CallError;
use crate::model::duration::micros;
use crate::model::{Key, Lsn, Timestamp};
use crate::planted::{self, Outside};
use crate::progress::{Offsets, Topics};
use crate::rule::evaluate::Evaluation;
use crate::rule::watched::Watched;
use crate::rule::{Confirm, Rule, Time};
use crate::snapshot::Snapshot;
use crate::window::{Standing, Transition, Window};

/// How often in a row an answer refutes a candidate before its rows are read from the table. With the back-off that is
/// four seconds, in which the stream could have caught up.
const REFUSALS_BEFORE_RELOAD: u32 = 5;

/// A rule with its state.
#[derive(Debug)]
struct RuleState {
    rule: Rule,
    /// The role of each table for the rule: see [`Watched::place_in`].
    places: Vec<Option<usize>>,
    window: Window,
    episodes: Episodes,
    /// The rule's version in the previous run. Set while it differs from the current one and the open episodes have not
    /// been evaluated by the current one.
    changed_from: Option<String>,
    /// Keys of an unconfirmed rule that are evaluated once their rows have been read from the table.
    held_back: BTreeMap<Key, Transition>,
    /// The state of a rule that Postgres alone evaluates.
    of_postgres: OfPostgres,
}

impl RuleState {
    /// Whether candidates are confirmed one after the other, each as of its own instant.
    fn is_in_order(&self) -> bool {
        self.rule.time == Time::Event && self.rule.confirm == Confirm::Required
    }
}

/// Returns the version of a rule's windows: the rule's version, with its time zone where that matters.
fn version_in_zone(rule: &Rule) -> String {
    let zone = &rule.query.zone;
    if zone.is_utc() || !rule.query.is_zoned() {
        return rule.version.clone();
    }
    format!("{}@{}", rule.version, zone.name().replace(' ', "_"))
}

/// The settings of a unit.
#[derive(Clone, Debug)]
pub struct UnitSettings {
    /// The consumer group.
    pub group: String,
    /// The topics of the changes.
    pub topics: Topics,
    /// Whether open episodes stay open when their rule has changed, instead of firing again.
    pub carry_episodes: bool,
    /// The length of an audit cycle, unless the limit on its cost makes it longer.
    pub audit_period: Duration,
    /// The statement seconds per second that the audit may take, in millionths.
    pub max_database_share: u32,
}

/// The windows, episodes and decisions of a set of partitions.
#[derive(Debug)]
pub struct Unit {
    settings: UnitSettings,
    lineage: String,
    /// The tables whose changes are read.
    tables: Vec<Watched>,
    rules: Vec<RuleState>,
    offsets: Offsets,
    /// The next offsets of topics that are no longer read.
    kept: Offsets,
    /// The number of the open epoch.
    epoch: u64,
    /// The number of episodes that have fired in the open epoch.
    fired: u32,
    /// Alerts that are decided but not logged yet.
    alerts: Vec<Alert>,
    /// Open episodes that continue under another name of their rule, not logged yet.
    carried: Vec<Carried>,
    /// The state that earlier runs have left, until [`Unit::take_over`].
    past: Past,
    /// Open episodes of earlier runs that end, until [`Unit::settle`].
    left: Vec<Left>,
    /// Open episodes of earlier runs that are carried, until [`Unit::settle`].
    moved: Vec<Moved>,
    /// Whether the stored windows were invalid. Then time is not the reason for an episode that does not hold in the
    /// windows from the table.
    is_void: bool,
    /// Groups to be read from the table.
    reloads: Vec<Reload>,
    /// The rows to read from each table.
    lookups: Vec<Lookups>,
    /// Compares memory with the table.
    audit: Audit,
    /// The greatest WAL position of each lane's changes, since the lane is read without a gap.
    streamed_in: BTreeMap<i32, Lsn>,
    /// Whether rows were deleted and the stream does not say which.
    in_doubt: bool,
    /// The snapshots that statements have seen.
    seen: Seen,
    /// The events since they were last taken.
    events: UnitEvents,
}

impl Unit {
    /// Creates an empty unit for these rules and tables of changes.
    ///
    /// # Errors
    /// A rule cannot be compiled against the columns.
    pub fn new(settings: UnitSettings, rules: Vec<Rule>, tables: &[Watched]) -> Result<Self, String> {
        let state = |rule: Rule| -> Result<RuleState, String> {
            let window = Window::new(stream::program(&rule.query, tables)?, rule.time);
            let places = tables.iter().map(|table| table.place_in(&rule.query)).collect();
            let (episodes, held_back) = (Episodes::default(), BTreeMap::new());
            let of_postgres = OfPostgres::default();
            let mut state = RuleState { rule, places, window, episodes, changed_from: None, held_back, of_postgres };
            if state.is_in_order() {
                state.window.watch_named();
            }
            Ok(state)
        };
        let audit = Audit::new(settings.audit_period, settings.max_database_share);
        Ok(Self {
            settings,
            lineage: String::new(),
            rules: rules.into_iter().map(state).collect::<Result<_, _>>()?,
            lookups: tables.iter().map(|_| Lookups::default()).collect(),
            tables: tables.to_vec(),
            offsets: Offsets::new(),
            kept: Offsets::new(),
            epoch: 0,
            fired: 0,
            alerts: Vec::new(),
            carried: Vec::new(),
            past: Past::default(),
            left: Vec::new(),
            moved: Vec::new(),
            is_void: false,
            reloads: Vec::new(),
            audit,
            streamed_in: BTreeMap::new(),
            in_doubt: false,
            seen: Seen::default(),
            events: UnitEvents::default(),
        })
    }

    /// Takes the events since the last call.
    pub fn take_events(&mut self) -> UnitEvents {
        std::mem::take(&mut self.events)
    }

    /// Returns the rule with this index.
    pub fn rule(&self, index: usize) -> Option<&Rule> {
        self.rules.get(index).map(|state| &state.rule)
    }

    /// Returns the names of the rules in order, each with its version. The version ends with the columns and types of
    /// GROUP BY. The time zone is part of it where the rule depends on it and it is not UTC:
    /// `4e12056de24a5792@Europe/Berlin user_id bigint`.
    pub fn versions(&self) -> Vec<(String, String)> {
        let version = |rule: &Rule| {
            let columns = rule.query.group_by.iter().filter_map(|index| rule.query.table.columns.get(*index));
            let keys: Vec<String> = columns.map(|column| format!("{} {}", column.name, column.type_name)).collect();
            (rule.name.clone(), format!("{} {}", version_in_zone(rule), keys.join(", ")))
        };
        self.rules.iter().map(|state| version(&state.rule)).collect()
    }

    /// The next offsets.
    pub fn offsets(&self) -> &Offsets {
        &self.offsets
    }

    /// Starts at these offsets in this lineage. The next closed epoch gets the number `epoch`.
    pub fn begin(&mut self, lineage: &str, epoch: u64, offsets: Offsets) {
        lineage.clone_into(&mut self.lineage);
        self.epoch = epoch;
        self.offsets = offsets;
    }

    /// Sets the next offsets of topics that are no longer read.
    pub fn keep(&mut self, kept: Offsets) {
        self.kept = kept;
    }

    /// The id of the lineage.
    pub fn lineage(&self) -> &str {
        &self.lineage
    }

    /// The number of the open epoch.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// The number of rows held by all rules.
    pub fn rows(&self) -> usize {
        self.rules.iter().map(|state| state.window.rows()).sum()
    }

    /// The number of groups held by all rules.
    pub fn keys(&self) -> usize {
        self.rules.iter().map(|state| state.window.groups()).sum()
    }

    /// The number of open episodes of each rule, in order.
    pub fn firing(&self) -> impl Iterator<Item = usize> {
        self.rules.iter().map(|state| state.episodes.firing().len())
    }

    /// Returns for each rule the groups that are furthest over its threshold or nearest to it.
    pub fn top(&self, count: usize) -> impl Iterator<Item = (&Rule, Vec<Standing>)> {
        self.rules.iter().map(move |state| (&state.rule, state.window.top(count)))
    }

    /// The number of candidates that wait for an answer.
    pub fn waiting(&self) -> usize {
        self.rules.iter().map(|state| state.episodes.candidate_count()).sum()
    }

    /// The number of alerts and carried episodes that wait for their epoch to be closed.
    pub fn undelivered(&self) -> usize {
        self.alerts.len() + self.carried.len()
    }

    /// Ends a micro-batch: evaluates every group that a change or time has touched once at `now`.
    pub fn evaluate(&mut self, now: Timestamp) {
        for index in 0..self.rules.len() {
            let Some(state) = self.rules.get_mut(index) else { continue };
            let mut transitions = state.window.evaluate_touched(now);
            transitions.extend(state.window.expire(now));
            if state.window.take_missed() {
                self.audit.sweeps.insert(index);
            }
            self.take(index, transitions, now);
        }
        self.take_held_back(now);
        if std::mem::take(&mut self.in_doubt) {
            self.ask_open_episodes(now);
        }
    }

    /// The instant at which time alone will change a group next.
    pub fn next_edge(&self) -> Option<Timestamp> {
        self.rules.iter().filter_map(|state| state.window.next_edge()).min()
    }

    /// Whether any rule is confirmed. Only then the snapshots of the database matter.
    pub fn is_confirmed(&self) -> bool {
        self.rules.iter().any(|state| state.rule.confirm == Confirm::Required)
    }

    fn take(&mut self, index: usize, transitions: Vec<Transition>, now: Timestamp) {
        for transition in transitions {
            let Some(transition) = self.hold_back(index, transition) else { continue };
            let Some(state) = self.rules.get_mut(index) else { return };
            let raised = if state.is_in_order() {
                state.episodes.raise_in_order(&transition, now)
            } else if let Some(text) = &state.rule.query.text {
                let delay = micros(text.pace.max_delay);
                // A transition without a change as its cause has already waited.
                let delay = if transition.trigger.is_some() { delay } else { 0 };
                state.episodes.raise_after(&transition, Timestamp(now.0.saturating_add(delay)))
            } else {
                state.episodes.raise(&transition, now)
            };
            tracing::debug!(rule = state.rule.name, key = ?transition.key, evaluation = ?transition.evaluation, ?raised, "evaluated a key");
            let waits = !matches!(raised, Raised::Withdrawn | Raised::Nothing);
            state.window.watch(&transition.key, waits);
            if raised == Raised::Candidate {
                self.events.raised(index);
            }
            if state.rule.confirm == Confirm::Off && matches!(raised, Raised::Candidate | Raised::Again) {
                self.decide_unconfirmed(index, transition, now);
            }
        }
    }

    /// Returns the due candidates of one rule, up to `limit`. From here on they count as being asked.
    pub fn ask(&mut self, now: Timestamp, limit: usize) -> Option<Question> {
        for (rule, state) in self.rules.iter_mut().enumerate() {
            let mut due = state.episodes.due(now, limit);
            if planted::bug("order-of-a-hasher") {
                due.sort_by_cached_key(|_| planted::outside(Outside::Chance));
            }
            if due.is_empty() {
                continue;
            }
            let asked = due.into_iter().map(|key| {
                let is_in_order = state.is_in_order();
                let then = state.episodes.candidate(&key).filter(|candidate| is_in_order || candidate.overdue);
                let (now, stream) = match then {
                    Some(candidate) => {
                        (candidate.raised_at, serde_json::from_str(&candidate.stream).unwrap_or_default())
                    }
                    None => {
                        let now = state.window.now_for(&key, now);
                        (now, state.window.evaluate(&key, now).1)
                    }
                };
                let texts = key_texts(&state.rule.query, &key);
                Asked { key, texts, now, stream }
            });
            return Some(Question { rule, asked: asked.collect() });
        }
        None
    }

    /// Takes Postgres's answers in the order of the question. A group whose statement failed is asked about again
    /// later.
    pub fn answer(&mut self, question: &Question, answers: &[Result<Answer, CallError>], now: Timestamp) {
        for (asked, answer) in question.asked.iter().zip(answers) {
            let Some(state) = self.rules.get_mut(question.rule) else { return };
            let answer = match answer {
                Ok(answer) => answer,
                Err(error) => {
                    let place = log::place(&self.settings.topics, state.episodes.candidate(&asked.key));
                    log::failed(&state.rule.name, asked, &place, error);
                    state.episodes.failed(&asked.key, now);
                    self.events.answered(question.rule, &state.rule, asked, None, ConfirmationOutcome::Failed, now);
                    continue;
                }
            };
            let snapshot = Snapshot::parse(&answer.snapshot);
            let unseen =
                snapshot.as_ref().map(|snapshot| state.window.unseen(&asked.key, snapshot)).unwrap_or_default();
            if let Some(snapshot) = &snapshot {
                self.seen.saw(snapshot);
            }
            let (evaluation, _) = state.window.evaluate(&asked.key, now);
            let insists = match evaluation {
                Evaluation::Holds => !state.episodes.is_firing(&asked.key),
                Evaluation::Fails => state.episodes.is_firing(&asked.key),
                Evaluation::Unknown => false,
            };
            let candidate = state.episodes.candidate(&asked.key);
            let is_in_grace = candidate.is_some_and(|candidate| candidate.is_in_grace(now));
            let decided = unseen.is_empty() && !is_in_grace || planted::bug("visibility-ignored");
            let is_overruled =
                answer.holds == state.episodes.is_firing(&asked.key) && planted::bug("refutation-ignored");
            let place = log::place(&self.settings.topics, candidate);
            let was_overdue = candidate.is_some_and(|candidate| candidate.overdue);
            let mut report =
                |outcome| self.events.answered(question.rule, &state.rule, asked, Some(answer), outcome, now);
            match state.episodes.answer(&asked.key, answer.holds ^ is_overruled, decided, insists, now) {
                Outcome::Confirmed(status, candidate) => {
                    report(ConfirmationOutcome::Confirmed);
                    self.decide(question.rule, asked, status, &candidate, Some(answer), now);
                    if candidate.overdue {
                        // HAVING held then and no longer does, so Postgres is asked about that as well.
                        self.resolve_overdue(question.rule, asked, now);
                    } else if !insists {
                        self.ask_where_memory_disagrees(question.rule, &asked.key, unseen.is_empty(), now);
                    }
                    self.next_in_order(question.rule, &asked.key, now);
                }
                Outcome::Refuted(again_at) => {
                    report(ConfirmationOutcome::Refuted);
                    if again_at.is_none() && (was_overdue || state.rule.query.text.is_some()) {
                        state.window.watch(&asked.key, false); // it has been empty since
                    }
                    let refusals = refusals(&state.episodes, &asked.key);
                    if refusals == REFUSALS_BEFORE_RELOAD {
                        self.reloads.push(Reload { rule: question.rule, asked: asked.clone() });
                    }
                    log::refuted(&state.rule.name, asked, &place, answer, refusals, again_at);
                    self.next_in_order(question.rule, &asked.key, now);
                }
                Outcome::Undecided(again_at) => {
                    report(ConfirmationOutcome::Undecided);
                    log::undecided(&state.rule.name, asked, &place, &answer.snapshot, &unseen, again_at);
                }
                Outcome::Withdrawn => {
                    tracing::debug!(rule = state.rule.name, key = ?asked.key, "answer to a candidate withdrawn meanwhile");
                }
            }
            self.note_returned(question.rule, asked, answer);
        }
    }

    /// The instant at which the next waiting candidate is due.
    pub fn next_due(&self) -> Option<Timestamp> {
        self.rules.iter().filter_map(|state| state.episodes.next_due()).min()
    }

    /// Whether every candidate was answered at or after this instant.
    pub fn all_answered_since(&self, then: Timestamp) -> bool {
        self.rules.iter().all(|state| state.episodes.all_answered_since(then))
    }
}

/// Returns how many answers in a row refuted this candidate although they showed everything that memory had applied.
fn refusals(episodes: &Episodes, key: &Key) -> u32 {
    episodes.candidate(key).map_or(0, |candidate| candidate.refusals)
}
