//! A unit with its stream and its clock in one hand.

use serde_json::{Map, Value as Json, json};
use std::time::Duration;
use tripline::alert::Alert;
use tripline::change::{Change, Op};
use tripline::failure::CallError;
use tripline::model::{ColumnType, NextOffset, Table, Timestamp, Value};
use tripline::monitor::counts::Counts;
use tripline::progress::{Epoch, LastRecords, Offsets};
use tripline::rule::watched::Watched;
use tripline::rule::{Confirm, Rule, Time};
use tripline::unit::stored::Decisions;
use tripline::unit::{Answer, Question, Unit, UnitSettings};

use crate::schema;
use crate::support::{SECOND, WANTED, WEEKLY, change, position, row, rule_on, t, transactions};

pub(crate) const GROUP: &str = "flink-monitor-group-v3";
pub(crate) const TOPIC: &str = "postgres.streaming.transactions";

pub(crate) struct Bench {
    pub(crate) unit: Unit,
    /// Seconds since the test began.
    pub(crate) now: i64,
    pub(crate) offset: i64,
    counts: Counts,
}

/// The usual rule over integer users.
pub(crate) fn weekly(confirm: Confirm) -> Rule {
    rule_on(&transactions(ColumnType::Int8), WEEKLY, Time::Processing, confirm)
}

pub(crate) fn of(rules: Vec<Rule>) -> Unit {
    let settings = UnitSettings {
        group: GROUP.to_owned(),
        topics: TOPIC.into(),
        carry_episodes: true,
        audit_period: Duration::from_secs(600),
        max_database_share: 1_000_000,
    };
    let tables = Watched::one(&rules, &WANTED);
    let mut unit = Unit::new(settings, rules, &tables).unwrap();
    unit.begin("01J", 0, Offsets::from([(0, NextOffset(0))]));
    unit
}

pub(crate) fn cents(cents: i128) -> Value {
    Value::Decimal(cents)
}

pub(crate) fn answer(holds: bool, transactions: u64, total: &str) -> Result<Answer, CallError> {
    let Json::Object(outputs) = json!({"transactions": transactions, "total": total}) else { unreachable!() };
    Ok(Answer { holds, outputs, snapshot: "758:758:".to_owned(), millis: 2 })
}

pub(crate) fn yes() -> Result<Answer, CallError> {
    answer(true, 7, "3441.50")
}

pub(crate) fn no() -> Result<Answer, CallError> {
    answer(false, 0, "0.00")
}

impl Bench {
    pub(crate) fn new(rule: Rule) -> Self {
        Self::with(of(vec![rule]))
    }

    pub(crate) fn with(unit: Unit) -> Self {
        Self { unit, now: 0, offset: 0, counts: Counts::default() }
    }

    pub(crate) fn confirmed() -> Self {
        Self::new(weekly(Confirm::Required))
    }

    /// Everything that was counted so far.
    pub(crate) fn counts(&mut self) -> &Counts {
        self.counts.add(&self.unit.take_events());
        &self.counts
    }

    pub(crate) fn now(&self) -> Timestamp {
        t(self.now * SECOND)
    }

    /// The row `id` of a user is written, dated so many seconds after the test began, in a step of its own.
    pub(crate) fn put_at(&mut self, id: i64, user: Value, amount: Value, second: i64) {
        let row = row(user, amount, Value::Time(t(second * SECOND)));
        self.take(Op::Create, id, Some(row));
    }

    pub(crate) fn put(&mut self, id: i64, user: i64, amount: Value) {
        self.put_at(id, Value::Int(user), amount, self.now);
    }

    pub(crate) fn delete(&mut self, id: i64) {
        self.take(Op::Delete, id, None);
    }

    pub(crate) fn take(&mut self, op: Op, id: i64, row: Option<Box<[Value]>>) {
        self.take_with(op, id, None, row);
    }

    /// The same with the row before the change.
    pub(crate) fn take_with(&mut self, op: Op, id: i64, before: Option<Box<[Value]>>, row: Option<Box<[Value]>>) {
        let lsn = 1_000 + u64::try_from(self.offset).unwrap();
        let change = Change { before, ..change(op, id, row, Some(lsn)) };
        self.unit.apply(&change, position(self.offset), self.now());
        self.unit.advance(0, NextOffset::after(self.offset));
        self.offset += 1;
        self.unit.evaluate(self.now());
    }

    pub(crate) fn ask(&mut self) -> Option<Question> {
        self.unit.ask(self.now(), 100)
    }

    pub(crate) fn answer(&mut self, question: &Question, answer: Result<Answer, CallError>) {
        let answers = vec![answer; question.asked.len()];
        self.unit.answer(question, &answers, self.now());
    }

    /// Asks what is due and answers all of it.
    pub(crate) fn settle(&mut self, with: Result<Answer, CallError>) {
        let question = self.ask().expect("a candidate is due");
        self.answer(&question, with);
    }

    pub(crate) fn close(&mut self) -> Epoch<Decisions> {
        self.unit.close(&LastRecords::new(), self.now())
    }

    /// The alerts decided since the last time, as their log lines.
    pub(crate) fn lines(&mut self) -> Vec<String> {
        self.close().body.alerts.into_iter().map(|alert| alert.line).collect()
    }
}

/// The record's value, which holds to docs/alert.schema.json and has no field that is not in it.
pub(crate) fn body(alert: &Alert) -> Json {
    let body = serde_json::from_str(&alert.body).unwrap();
    let schema = schema::schema();
    assert_eq!(schema::violations(&schema, &body, "alert"), Vec::<String>::new(), "{body}");
    let unknown = body.as_object().unwrap().keys().find(|field| schema["properties"].get(field.as_str()).is_none());
    assert_eq!(unknown, None, "docs/alert.schema.json lacks a field");
    body
}

pub(crate) fn outputs(transactions: u64, total: &str) -> Map<String, Json> {
    answer(true, transactions, total).unwrap().outputs
}

/// A table whose users are text.
pub(crate) fn named() -> Table {
    transactions(ColumnType::Text)
}
