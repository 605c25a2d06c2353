//! Rules that Postgres alone evaluates: which keys are asked about, and when.

use std::collections::BTreeSet;
use std::time::Duration;

use tripline::change::Op;
use tripline::model::{Column, ColumnType, Key, Value};
use tripline::rule::message::Template;
use tripline::rule::text::{Pace, Text};
use tripline::rule::{Confirm, Evaluate, Rule, Time, compile};
use tripline::unit::audit::AuditRequest;

use super::bench::{Bench, answer, body, cents, no};
use crate::support::{row, t, transactions};

const SQL: &str = "SELECT user_id, COUNT(*) AS transactions, SUM(amount) AS total FROM streaming.transactions GROUP BY user_id \
                   HAVING STDDEV(amount) > 5";

/// `touches`: the columns that are a key, for each time that the query reads the table.
pub(crate) fn rule(touches: &[usize]) -> Rule {
    let table = transactions(ColumnType::Int8);
    let output = |name: &str, ty: ColumnType| Column {
        name: name.to_owned(),
        type_name: format!("{ty:?}"),
        ty,
        nullable: true,
        has_default: false,
    };
    let text = Text {
        sql: SQL.to_owned(),
        columns: ["user_id", "transactions", "total"].map(str::to_owned).to_vec(),
        key: vec![0],
        touches: touches.iter().map(|column| vec![*column]).collect(),
        others: Vec::new(),
        pace: Pace {
            max_delay: Duration::from_secs(1),
            recheck: Duration::from_secs(60),
            sweep: Duration::from_secs(300),
        },
    };
    let columns = vec![
        output("user_id", ColumnType::Int8),
        output("transactions", ColumnType::Int8),
        output("total", ColumnType::Numeric { scale: None }),
    ];
    let query = text.query(&table, columns).unwrap();
    Rule {
        name: "outlier".to_owned(),
        version: compile::version(&query, Time::Processing, Confirm::Required),
        severity: "critical".to_owned(),
        message: Template::parse("User {user_id} (${total})", &["user_id", "transactions", "total"]).unwrap(),
        time: Time::Processing,
        confirm: Confirm::Required,
        query,
    }
}

/// The keys that are due.
fn asked(bench: &mut Bench) -> Vec<Key> {
    let question = bench.unit.ask(bench.now(), 100_000);
    question.map(|question| question.asked.into_iter().map(|asked| asked.key).collect()).unwrap_or_default()
}

/// Answers the sweep that is wanted.
fn swept(bench: &mut Bench, keys: &[i64]) -> bool {
    bench.unit.keep_asking(bench.now());
    let Some(AuditRequest::Sweep(rule)) = bench.unit.next_audit(true, bench.now()) else { return false };
    let keys = keys.iter().map(|key| Key::Int(*key)).collect();
    bench.unit.swept(rule, Ok(keys), Duration::from_millis(1), bench.now());
    true
}

#[test]
fn a_touched_key_is_asked_about_once_it_has_waited() {
    let mut bench = Bench::new(rule(&[1]));
    assert_eq!(bench.unit.rule(0).unwrap().query.evaluated_by(), Evaluate::Touched);
    bench.put(1, 7, cents(100));
    assert_eq!(asked(&mut bench), [], "it waits for more of its changes");
    bench.put(2, 7, cents(900));
    bench.put(3, 8, cents(900));
    bench.now = 1;
    let question = bench.ask().unwrap();
    let keys: Vec<Key> = question.asked.iter().map(|asked| asked.key.clone()).collect();
    assert_eq!(keys, [Key::Int(7), Key::Int(8)], "more changes did not make it wait longer");
    let answers = [answer(true, 2, "10.00"), no()];
    bench.unit.answer(&question, &answers, bench.now());
    (0..2).for_each(|_| bench.unit.statements_have_passed());
    let alerts = bench.close().body.alerts;
    let [alert] = alerts.as_slice() else { panic!("{alerts:?}") };
    let alert = body(alert);
    assert_eq!((&alert["key"]["user_id"], &alert["database"]["total"]), (&7.into(), &"10.00".into()));
    assert_eq!(
        (&alert["stream"], &alert["having"], &alert["evaluated_by"]),
        (&().into(), &().into(), &"touched".into())
    );
    assert_eq!(alert["trigger"]["offset"], 0, "{alert}");
    bench.now = 30;
    assert_eq!(asked(&mut bench), [], "nothing has touched them since");
    assert_eq!(bench.unit.keys(), 0, "a key that nobody waits for is not held");
    // Another change of the table's row, whose key is not known: a delete without its image.
    bench.delete(1);
    bench.now = 32;
    assert_eq!(asked(&mut bench), []);
}

/// Where a record has the row before the change, the key that the row leaves is asked about as well.
#[test]
fn a_row_that_leaves_a_key_touches_it_where_the_row_before_is_known() {
    let mut bench = Bench::new(rule(&[1]));
    let of = |user: Value| Some(row(user, cents(100), Value::Time(t(0))));
    bench.take_with(Op::Update, 1, of(Value::Int(7)), of(Value::Int(8)));
    bench.take_with(Op::Delete, 2, of(Value::Int(9)), None);
    bench.take_with(Op::Update, 3, of(Value::Int(10)), of(Value::Int(10)));
    // A value that the record does not have is no key.
    bench.take_with(Op::Update, 4, of(Value::Opaque), of(Value::Int(10)));
    bench.now = 1;
    assert_eq!(asked(&mut bench), [7, 8, 9, 10].map(Key::Int));
}

#[test]
fn an_answer_that_does_not_show_the_change_decides_nothing() {
    let mut bench = Bench::new(rule(&[1]));
    bench.put(1, 7, cents(100));
    bench.now = 1;
    let question = bench.ask().unwrap();
    let before = no().map(|answer| tripline::unit::Answer { snapshot: "757:757:".to_owned(), ..answer });
    bench.answer(&question, before);
    bench.now = 2;
    assert_eq!(asked(&mut bench), [Key::Int(7)], "it is asked again");
}

#[test]
fn what_no_change_says_is_found_at_intervals() {
    let mut bench = Bench::new(rule(&[1]));
    assert!(swept(&mut bench, &[7, 9]), "the whole query is run after a start");
    let question = bench.ask().unwrap();
    bench.unit.answer(&question, &[answer(true, 2, "10.00"), answer(true, 3, "11.00")], bench.now());
    assert_eq!(bench.lines(), ["User 7 ($10.00)", "User 9 ($11.00)"]);
    // Open episodes are asked about again.
    bench.now = 60;
    bench.unit.keep_asking(bench.now());
    let question = bench.ask().unwrap();
    bench.unit.answer(&question, &[no(), answer(true, 4, "12.00")], bench.now());
    let alerts = bench.close().body.alerts;
    let [alert] = alerts.as_slice() else { panic!("{alerts:?}") };
    let alert = body(alert);
    assert_eq!((&alert["status"], &alert["reason"]), (&"resolved".into(), &"condition".into()));
    // What its query returned last, and when.
    assert_eq!((&alert["database"]["total"], &alert["database_as_of"]), (&"10.00".into(), &t(0).rfc3339().into()));
    // The whole query again: what it lacks is asked about, and what is new.
    bench.now = 299;
    assert!(!swept(&mut bench, &[]), "not before its time");
    let _ = asked(&mut bench);
    bench.now = 301;
    assert!(swept(&mut bench, &[8]));
    assert_eq!(bench.unit.waiting(), 2);
}

#[test]
fn a_query_as_a_whole_is_touched_by_no_change() {
    let mut bench = Bench::new(rule(&[]));
    assert_eq!(bench.unit.rule(0).unwrap().query.evaluated_by(), Evaluate::Whole);
    bench.put(1, 7, cents(100));
    bench.now = 5;
    assert_eq!((asked(&mut bench), bench.unit.keys(), bench.unit.rows()), (Vec::new(), 0, 0));
    assert!(swept(&mut bench, &[7]));
    assert_eq!(asked(&mut bench), [Key::Int(7)]);
}

#[test]
fn a_change_touches_each_key_that_it_is_part_of() {
    // The table joined with itself, by two of its columns.
    let mut bench = Bench::new(rule(&[1, 4]));
    bench.take(Op::Create, 1, Some(row(Value::Int(7), cents(5), Value::Null)));
    bench.now = 1;
    assert_eq!(asked(&mut bench), [Key::Int(1), Key::Int(7)]);
}

#[test]
fn more_keys_than_can_wait_are_left_to_the_whole_query() {
    let mut bench = Bench::new(rule(&[1]));
    assert!(swept(&mut bench, &[]));
    for user in 0..10_050 {
        bench.put(user, user, cents(100));
    }
    assert_eq!((bench.unit.keys(), bench.unit.waiting()), (10_000, 10_000));
    assert!(swept(&mut bench, &[10_040]), "the whole query is run at once");
    bench.now = 1;
    let question = bench.unit.ask(bench.now(), 100_000).unwrap();
    let keys: BTreeSet<&Key> = question.asked.iter().map(|asked| &asked.key).collect();
    assert_eq!(keys.len(), 10_000);
    bench.answer(&question, no());
    (0..2).for_each(|_| bench.unit.statements_have_passed());
    assert_eq!((bench.unit.keys(), bench.unit.waiting()), (0, 0));
    // A truncate may have emptied every key.
    bench.take(Op::Truncate, 0, None);
    assert!(swept(&mut bench, &[10_040]));
    assert_eq!(asked(&mut bench), [Key::Int(10_040)]);
}
