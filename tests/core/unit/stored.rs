//! Closing, redoing, restoring.

use tripline::checkpoint::FORMAT;
use tripline::checkpoint::{Encoded, Folder};
use tripline::model::{ColumnType, Key, NextOffset, Value};
use tripline::progress::Offsets;
use tripline::rule::{Confirm, Rule, Time};
use tripline::unit::stored::Decisions;

type Epoch = tripline::progress::Epoch<Decisions>;

use super::bench::{Bench, TOPIC, cents, named, no, of, weekly, yes};
use crate::support::{SECOND, WEEKLY, rule_on, t, transactions};

/// User 1 is firing, user 2 a refuted candidate, user 3 a candidate that is being asked, user 4 quiet.
fn busy(rule: Rule) -> Bench {
    let mut bench = Bench::new(rule);
    bench.put(1, 1, cents(400_000));
    bench.settle(yes());
    bench.put(2, 2, cents(400_000));
    bench.settle(no());
    bench.put(3, 3, cents(400_000));
    bench.ask().unwrap();
    bench.put(4, 4, cents(1));
    bench
}

/// The epoch as it is read from its file.
fn logged(epoch: &Epoch) -> Epoch {
    let dir = tempfile::tempdir().unwrap();
    let folder = Folder::open(dir.path(), "group").unwrap();
    folder.log(&Encoded::of(epoch).unwrap()).unwrap();
    folder.newest_epoch().unwrap().unwrap()
}

fn candidates(epoch: &Epoch) -> Vec<(&str, &Key, u32)> {
    epoch.body.waiting.iter().map(|(rule, key, candidate)| (rule.as_str(), key, candidate.attempts)).collect()
}

fn body(bench: &Bench) -> Vec<u8> {
    let mut body = Vec::new();
    bench.unit.store(&mut body).unwrap();
    body
}

#[test]
fn an_epoch_has_what_was_decided_and_what_waits() {
    let mut bench = busy(weekly(Confirm::Required));
    bench.now = 9;
    let epoch = bench.close();
    assert_eq!(
        (epoch.number, epoch.lineage.as_str(), epoch.topics.text().as_str(), epoch.at),
        (0, "01J", TOPIC, t(9 * SECOND))
    );
    assert_eq!(epoch.offsets, Offsets::from([(0, NextOffset(4))]));
    assert_eq!(epoch.body.alerts.len(), 1);
    assert_eq!(candidates(&epoch), [("weekly-spend", &Key::Int(2), 1), ("weekly-spend", &Key::Int(3), 1)]);
    let next = bench.close();
    assert_eq!(
        (next.number, next.body.alerts.len(), next.body.waiting),
        (1, 0, epoch.body.waiting),
        "alerts are said once"
    );
}

#[test]
fn offsets_never_go_back() {
    let mut bench = Bench::confirmed();
    for (partition, next, want) in [(0, 7, 7), (0, 5, 7), (3, 2, 2), (0, 8, 8)] {
        bench.unit.advance(partition, NextOffset(next));
        assert_eq!(bench.unit.offsets()[&partition], NextOffset(want));
    }
}

#[test]
fn a_restored_unit_goes_on_as_if_nothing_had_happened() {
    let mut bench = busy(weekly(Confirm::Required));
    bench.close();
    let (versions, body) = (bench.unit.versions(), body(&bench));
    let mut copy = of(vec![weekly(Confirm::Required)]);
    copy.restore(FORMAT, &versions, &body, true).unwrap();
    assert!(copy.take_over(), "its windows are there");
    assert_eq!((copy.rows(), copy.waiting()), (4, 2));
    let mut copy = Bench::with(copy);
    copy.offset = bench.offset;
    copy.unit.evaluate_all(copy.now());
    assert_eq!((copy.unit.waiting(), copy.counts().candidates), (2, 0), "no second candidate");
    // The statement under way died with the process: asked again.
    let question = copy.unit.ask(t(SECOND), 100).unwrap();
    assert_eq!(question.asked.iter().map(|asked| &asked.key).collect::<Vec<_>>(), [&Key::Int(2), &Key::Int(3)]);
    copy.answer(&question, yes());
    assert_eq!(copy.lines(), ["User 2 ($3,441.50)", "User 3 ($3,441.50)"]);
    // User 1 is still firing, and resolves.
    copy.put(5, 1, cents(1));
    assert_eq!(copy.unit.waiting(), 0);
    copy.delete(1);
    copy.settle(no());
    assert_eq!(copy.lines(), ["Resolved: User 1 ($0.00)"]);
}

#[test]
fn a_stored_body_that_is_torn_is_an_error() {
    let bench = busy(weekly(Confirm::Required));
    let (versions, body) = (bench.unit.versions(), body(&bench));
    for len in 0..body.len() {
        let mut copy = of(vec![weekly(Confirm::Required)]);
        assert!(copy.restore(FORMAT, &versions, &body[..len], true).is_err(), "{len} of {} bytes", body.len());
    }
}

/// A count of 2^60 or more, wherever a body may have one: memory for so many would end the test.
#[test]
fn a_body_that_claims_more_than_it_holds_is_an_error() {
    let bench = busy(weekly(Confirm::Required));
    let (versions, body) = (bench.unit.versions(), body(&bench));
    let restored =
        |format: u32, body: &[u8]| of(vec![weekly(Confirm::Required)]).restore(format, &versions, body, true);
    let great = [0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x10];
    for at in 0..body.len() {
        for format in [FORMAT, 2] {
            // Where it stands for a number, or in a text, it may be read.
            let _ = restored(format, &[&body[..at], &great[..], &body[at + 1..]].concat());
            let _ = restored(format, &[&body[..at], &[0xff; 9][..], &[1]].concat());
        }
    }
    let check = |versions: &[(String, String)], body: &[u8], want: &str| {
        let why = of(vec![weekly(Confirm::Required)]).restore(FORMAT, versions, body, true).unwrap_err();
        assert!(why.contains(want), "{why}, expected {want}");
    };
    check(&versions, &[&body[..], b"x"].concat(), "1 bytes stand behind its end");
    check(&[], &body, "it holds 1 rules, and its head names 0");
    check(&versions, &[0, 0, 0], "it holds 0 rules, and its head names 1");
    check(&versions, &great, "its body cannot be read");
}

#[test]
fn redone_epochs_give_back_episodes_and_candidates() {
    let mut bench = busy(weekly(Confirm::Required));
    let first = logged(&bench.close());
    let question = {
        bench.now = 1;
        bench.unit.ask(bench.now(), 100).unwrap()
    };
    bench.answer(&question, yes()); // user 2 fires
    bench.delete(1);
    bench.settle(no()); // user 1 resolves
    let second = logged(&bench.close());
    assert_eq!(second.body.alerts.len(), 2);

    let mut copy = Bench::confirmed();
    copy.unit.redo(&first);
    copy.unit.redo(&second);
    copy.unit.take_over();
    assert_eq!(candidates(&copy.close()), [("weekly-spend", &Key::Int(3), 1)]);
    assert_eq!(copy.unit.undelivered(), 0, "nothing is decided anew");
    // The windows are rebuilt without evaluating, then everything is evaluated once.
    for (id, user) in [(2, 2), (3, 3), (4, 1)] {
        let row = crate::support::paid(user, 400_000, t(0));
        let change = crate::support::change(tripline::change::Op::Create, id, Some(row), Some(1));
        copy.unit.apply(&change, crate::support::position(id), t(0));
    }
    copy.now = 60;
    copy.unit.evaluate_all(copy.now());
    let question = copy.ask().unwrap();
    let asked: Vec<&Key> = question.asked.iter().map(|asked| &asked.key).collect();
    assert_eq!(asked, [&Key::Int(1), &Key::Int(3)], "1 had resolved and is over again, 3 waited, 2 is open");
}

#[test]
fn an_open_episode_without_rows_is_held_against_its_window() {
    let mut bench = busy(weekly(Confirm::Required));
    let epoch = logged(&bench.close());
    let mut copy = Bench::confirmed();
    copy.unit.redo(&Epoch { body: Decisions { waiting: vec![], ..epoch.body.clone() }, ..epoch });
    copy.unit.take_over();
    copy.unit.evaluate_all(copy.now());
    copy.settle(no());
    assert_eq!(copy.lines(), ["Resolved: User 1 ($0.00)"]);
}

/// The keys of another GROUP BY mean nothing to the rule as it is now: neither to be resolved nor asked for.
#[test]
fn episodes_of_another_group_by_are_dropped() {
    let mut bench = busy(weekly(Confirm::Required));
    let mut table = transactions(ColumnType::Text);
    table.columns[1].type_name = "text".to_owned();
    let epoch = logged(&bench.close());
    let (versions, body) = (bench.unit.versions(), body(&bench));

    let mut copy = Bench::new(rule_on(&table, WEEKLY, Time::Processing, Confirm::Required));
    copy.unit.restore(FORMAT, &versions, &body, true).unwrap();
    copy.unit.redo(&epoch);
    assert!(!copy.unit.take_over(), "its windows are to be rebuilt");
    copy.unit.evaluate_all(copy.now());
    assert_eq!(copy.unit.waiting(), 0, "no key of the old kind is held against the windows, and none waits");

    let mut same = Bench::confirmed();
    same.unit.restore(FORMAT, &versions, &body, true).unwrap();
    same.unit.redo(&epoch);
    assert!(same.unit.take_over());
    assert!(same.unit.waiting() > 0, "where GROUP BY is the same they are kept");
}

#[test]
fn a_rule_of_another_version_keeps_its_episodes_and_asks_for_its_windows() {
    let table = transactions(ColumnType::Int8);
    let other = || rule_on(&table, &WEEKLY.replace("3000", "2000"), Time::Processing, Confirm::Required);
    let renamed = |name: &str| Rule { name: name.to_owned(), ..other() };
    let bench = busy(weekly(Confirm::Required));
    let (versions, body) = (bench.unit.versions(), body(&bench));
    let check = |name: &str, rules: Vec<Rule>, complete: bool, rows: usize, waiting: usize| {
        let mut copy = of(rules);
        copy.restore(FORMAT, &versions, &body, true).unwrap();
        assert_eq!(copy.take_over(), complete, "{name}");
        assert_eq!((copy.rows(), copy.waiting()), (rows, waiting), "{name}");
        copy
    };
    check("the same", vec![weekly(Confirm::Required)], true, 4, 2);
    check("a rule gone", vec![], true, 0, 0);
    check("another name", vec![renamed("daily")], false, 0, 0);
    check("one more", vec![weekly(Confirm::Required), renamed("daily")], false, 0, 2);
    let changed = check("another threshold", vec![other()], false, 0, 2);
    let mut changed = Bench::with(changed);
    changed.put(1, 1, cents(400_000));
    let question = changed.unit.ask(t(SECOND), 100).unwrap();
    let asked: Vec<&Key> = question.asked.iter().map(|asked| &asked.key).collect();
    assert_eq!(asked, [&Key::Int(2), &Key::Int(3)], "user 1 has its episode");
}

#[test]
fn rules_are_told_apart_and_keys_of_every_kind_come_back() {
    let table = named();
    let rule = |name: &str, sql: &str| Rule {
        name: name.to_owned(),
        ..rule_on(&table, sql, Time::Processing, Confirm::Required)
    };
    let rules = || vec![rule("high", WEEKLY), rule("higher", &WEEKLY.replace("3000", "4000"))];
    let users = [Value::Text("o'b\"r".into()), Value::Null, Value::Text("".into())];
    let mut bench = Bench::with(of(rules()));
    for (id, user) in (1..).zip(&users) {
        bench.put_at(id, user.clone(), cents(350_000), 0);
    }
    bench.settle(yes());
    bench.put_at(9, Value::Null, cents(100_000), 0);
    let epoch = bench.close();
    assert_eq!(epoch.body.alerts.iter().map(|alert| alert.rule.as_str()).collect::<Vec<_>>(), ["high"; 3]);
    assert_eq!(candidates(&epoch), [("higher", &Key::new(vec![Value::Null]), 0)]);
    assert_eq!(logged(&epoch), epoch);

    let mut copy = of(rules());
    copy.restore(FORMAT, &bench.unit.versions(), &body(&bench), true).unwrap();
    assert!(copy.take_over());
    assert_eq!((copy.rows(), copy.waiting()), (8, 1));
    copy.evaluate_all(t(0));
    let question = copy.ask(t(0), 100).unwrap();
    assert_eq!((question.rule, question.asked.len(), question.asked[0].texts.clone()), (1, 1, vec![None]));
    assert_eq!(copy.ask(t(0), 100), None, "the open episodes came back with their keys");
}
