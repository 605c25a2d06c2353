//! Changes of several tables in one unit: each goes to the rules that read its table.

use tripline::change::Op;
use tripline::model::{ColumnType, Key, Position, Table, Value};
use tripline::progress::{Topics, topics};
use tripline::rule::text::Touched;
use tripline::rule::watched::Watched;
use tripline::rule::{Confirm, Rule, Time};
use tripline::unit::{Unit, UnitSettings};

use super::bench::{cents, no};
use super::of_postgres;
use crate::support::{WANTED, change, row, rule_on, t, transactions};

const SECOND: i64 = 1_000_000;

fn limits() -> Table {
    // Its primary key is the user.
    Table { name: "limits".to_owned(), primary_key: vec![1], ..transactions(ColumnType::Int8) }
}

/// A rule in memory on each table, and one that Postgres evaluates on both.
fn unit() -> Unit {
    let weekly = "SELECT user_id, COUNT(*) AS n FROM streaming.transactions GROUP BY user_id HAVING COUNT(*) > 1";
    let on_limits = "SELECT user_id, COUNT(*) AS n FROM streaming.limits GROUP BY user_id HAVING COUNT(*) > 0";
    let of = |table: &Table, sql: &str| rule_on(table, sql, Time::Processing, Confirm::Required);
    let mut joined: Rule = of_postgres::rule(&[1]);
    let mut text = (**joined.query.text.as_ref().unwrap()).clone();
    text.others = vec![Touched { table: limits(), touches: vec![vec![1]] }];
    joined.query.text = Some(std::sync::Arc::new(text));
    let rules = vec![of(&transactions(ColumnType::Int8), weekly), of(&limits(), on_limits), joined];
    let queries: Vec<_> = rules.iter().map(|rule| &rule.query).collect();
    let first = Watched { wanted: WANTED.to_vec(), ..Watched::of(&transactions(ColumnType::Int8), "p.s.t", &queries) };
    let second = Watched::of(&limits(), "p.s.l", &queries);
    assert_eq!(second.wanted, [1]);
    let places = |table: &Watched| queries.iter().map(|query| table.place_in(query)).collect::<Vec<_>>();
    assert_eq!((places(&first), places(&second)), (vec![Some(0), None, Some(0)], vec![None, Some(0), Some(1)]));
    let settings = UnitSettings {
        group: "g".to_owned(),
        topics: Topics::new(["p.s.t".to_owned(), "p.s.l".to_owned()]),
        carry_episodes: true,
        audit_period: std::time::Duration::from_secs(600),
        max_database_share: 1_000_000,
    };
    Unit::new(settings, rules.clone(), &[first, second]).unwrap()
}

/// The keys that are asked about, by rule; none of them holds.
fn asked(unit: &mut Unit, second: i64) -> Vec<(usize, Key)> {
    let mut asked = Vec::new();
    while let Some(question) = unit.ask(t(second * SECOND), 100) {
        asked.extend(question.asked.iter().map(|asked| (question.rule, asked.key.clone())));
        unit.answer(&question, &vec![no(); question.asked.len()], t(second * SECOND));
    }
    asked
}

#[test]
fn a_change_goes_to_the_rules_that_read_its_table() {
    let mut unit = unit();
    let lane = topics::lane(1, 0).unwrap();
    let of_limits = |unit: &mut Unit, op: Op, row: Option<Box<[Value]>>, lsn: u64, second: i64| {
        let position = Position { partition: lane, offset: i64::try_from(lsn).unwrap() };
        unit.apply_of(1, &change(op, 7, row, Some(lsn)), position, t(second * SECOND));
        unit.evaluate(t(second * SECOND));
    };
    of_limits(&mut unit, Op::Create, Some(Box::new([Value::Int(7)])), 1, 0);
    assert_eq!((unit.rows(), asked(&mut unit, 1)), (1, vec![(1, Key::Int(7)), (2, Key::Int(7))]));
    // Its primary key says whose row is gone.
    of_limits(&mut unit, Op::Delete, None, 2, 10);
    let after = asked(&mut unit, 20);
    assert!(after.contains(&(2, Key::Int(7))), "{after:?}");
    assert_eq!(unit.rows(), 0);
    // The other table's says nothing of the user, and its rows are no rows of this one.
    let position = Position { partition: 0, offset: 0 };
    let paid = row(Value::Int(9), cents(100), Value::Time(t(30 * SECOND)));
    unit.apply_of(0, &change(Op::Create, 7, Some(paid), Some(3)), position, t(30 * SECOND));
    unit.evaluate(t(30 * SECOND));
    assert_eq!(unit.rows(), 1);
    assert!(asked(&mut unit, 40).contains(&(2, Key::Int(9))));
    // A row of one table is looked up there.
    unit.look_up(1, &Key::Int(7));
    assert_eq!(unit.next_lookup(t(41 * SECOND)), Some((1, vec![Key::Int(7)])));
    unit.look_up(0, &Key::Int(7));
    assert_eq!(unit.next_lookup(t(41 * SECOND)), Some((0, vec![Key::Int(7)])));
    assert_eq!(unit.incomplete(), 2);
}

/// What is stored of two tables comes back, each in its place.
#[test]
fn lookups_come_back_by_table() {
    let mut first = unit();
    first.look_up(1, &Key::Int(7));
    let mut body = Vec::new();
    first.store(&mut body).unwrap();
    assert_eq!(first.format(), 4);
    let mut second = unit();
    second.restore(4, &first.versions(), &body, true).unwrap();
    assert_eq!(second.next_lookup(t(0)), Some((1, vec![Key::Int(7)])));
}
