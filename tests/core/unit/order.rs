//! Under event time each candidate is asked as of its own instant, one after the other, whatever the backlog brings later.

use tripline::change::Op;
use tripline::checkpoint::FORMAT;
use tripline::failure::CallError;
use tripline::model::{ColumnType, Key, Value};
use tripline::rule::{Confirm, Rule, Time};
use tripline::unit::Answer;

use super::bench::{Bench, body, cents, no, of, yes};
use crate::support::{SECOND, WEEKLY, change, paid, position, rule_on, t, transactions};

const DAY: i64 = 86_400;

fn rule() -> Rule {
    rule_on(&transactions(ColumnType::Int8), WEEKLY, Time::Event, Confirm::Required)
}

/// One user is over on day 0, no longer on day 8, and over again on day 9. The database has not answered yet.
fn backlog() -> Bench {
    let mut bench = Bench::new(rule());
    for (id, amount, day) in [(1, 400_000, 0), (2, 100, 8), (3, 300_000, 9)] {
        bench.put_at(id, Value::Int(1), cents(amount), day * DAY);
    }
    bench
}

/// Asks until nothing waits, and answers as the table would: returns the days asked about.
fn answers(bench: &mut Bench, with: impl Fn(i64) -> Result<Answer, CallError>) -> Vec<i64> {
    let mut days = Vec::new();
    while let Some(question) = bench.ask() {
        assert_eq!(question.asked.len(), 1, "one of a key at a time");
        let day = (question.asked[0].now.0 - t(0).0) / (DAY * SECOND);
        days.push(day);
        bench.answer(&question, with(day));
    }
    days
}

fn of_the_table(day: i64) -> Result<Answer, CallError> {
    if day == 8 { no() } else { yes() }
}

/// Status, instant and reason of each alert.
fn told(bench: &mut Bench) -> Vec<(String, String, Option<String>)> {
    let text = |json: &serde_json::Value| json.as_str().map(str::to_owned);
    let alerts = bench.close().body.alerts;
    let told = alerts.iter().map(body);
    told.map(|alert| (text(&alert["status"]).unwrap(), text(&alert["window"]["to"]).unwrap(), text(&alert["reason"])))
        .collect()
}

fn alternating() -> Vec<(String, String, Option<String>)> {
    let told = |status: &str, day: i64, reason: Option<&str>| {
        (status.to_owned(), t(day * DAY * SECOND).rfc3339(), reason.map(str::to_owned))
    };
    // On day 8 the row of day 0 is out; the row of day 8 took nothing away.
    vec![told("firing", 0, None), told("resolved", 8, Some("time")), told("firing", 9, None)]
}

#[test]
fn a_backlog_is_asked_change_by_change() {
    let mut bench = backlog();
    assert_eq!(bench.unit.waiting(), 3);
    assert_eq!(answers(&mut bench, of_the_table), [0, 8, 9]);
    assert_eq!(told(&mut bench), alternating());
    assert_eq!(bench.unit.waiting(), 0);
}

/// However the records are cut into polls, and whenever the answers come.
#[test]
fn the_same_without_a_backlog() {
    let mut bench = Bench::new(rule());
    let mut days = Vec::new();
    for (id, amount, day) in [(1, 400_000, 0), (2, 100, 8), (3, 300_000, 9)] {
        bench.put_at(id, Value::Int(1), cents(amount), day * DAY);
        days.extend(answers(&mut bench, of_the_table));
    }
    assert_eq!(days, [0, 8, 9]);
    assert_eq!(told(&mut bench), alternating());
}

/// Evaluations during a statement wait for its answer.
#[test]
fn the_same_while_a_statement_is_under_way() {
    let mut bench = Bench::new(rule());
    bench.put_at(1, Value::Int(1), cents(400_000), 0);
    let question = bench.ask().unwrap();
    bench.put_at(2, Value::Int(1), cents(100), 8 * DAY);
    bench.put_at(3, Value::Int(1), cents(300_000), 9 * DAY);
    bench.answer(&question, yes());
    assert_eq!(answers(&mut bench, of_the_table), [8, 9]);
    assert_eq!(told(&mut bench), alternating());
}

/// Postgres refutes day 0 (the row has been changed since): day 8 is no question then, and day 9 is one.
#[test]
fn a_refuted_one_gives_way_to_the_next_that_disagrees() {
    let mut bench = backlog();
    assert_eq!(answers(&mut bench, |day| if day == 9 { yes() } else { no() }), [0, 9]);
    assert_eq!(told(&mut bench), alternating()[2..]);
}

/// Memory holds on days 0 and 1, the table only on day 1: asked about each.
#[test]
fn every_instant_at_which_memory_insists_is_asked_about() {
    for cut in [false, true] {
        let mut bench = Bench::new(rule());
        bench.put_at(1, Value::Int(1), cents(400_000), 0);
        let mut days = if cut { answers(&mut bench, |_| no()) } else { Vec::new() };
        bench.put_at(2, Value::Int(1), cents(400_000), DAY);
        days.extend(answers(&mut bench, |day| if day == 1 { yes() } else { no() }));
        assert_eq!((days, told(&mut bench).len()), (vec![0, 1], 1), "cut: {cut}");
    }
}

#[test]
fn what_waits_in_order_survives_a_restart() {
    let mut bench = backlog();
    let question = bench.ask().unwrap();
    bench.answer(&question, yes());
    assert_eq!(bench.unit.waiting(), 2);
    let epoch = bench.close();
    let mut stored = Vec::new();
    bench.unit.store(&mut stored).unwrap();
    let waiting: Vec<_> = epoch.body.waiting.iter().map(|(_, key, waits)| (key, waits.raised_at)).collect();
    assert_eq!(waiting, [(&Key::Int(1), t(8 * DAY * SECOND)), (&Key::Int(1), t(9 * DAY * SECOND))]);
    for from_state in [false, true] {
        let mut copy = of(vec![rule()]);
        if from_state {
            copy.restore(FORMAT, &bench.unit.versions(), &stored, true).unwrap();
        }
        copy.redo(&epoch);
        copy.take_over();
        let mut copy = Bench::with(copy);
        if !from_state {
            for (id, cents, day) in [(1, 400_000, 0), (2, 100, 8), (3, 300_000, 9)] {
                let row = paid(1, cents, t(day * DAY * SECOND));
                copy.unit.apply(&change(Op::Create, id, Some(row), Some(1)), position(id), t(0));
            }
        }
        copy.unit.evaluate_all(copy.now());
        assert_eq!(answers(&mut copy, of_the_table), [8, 9], "state: {from_state}");
        assert_eq!(told(&mut copy), alternating()[1..], "state: {from_state}");
    }
}
