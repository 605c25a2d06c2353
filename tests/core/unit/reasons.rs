//! Why an episode is over.

use tripline::episode::Reason;
use tripline::model::{Key, Value};
use tripline::rule::evaluate::Evaluation;

use super::bench::{Bench, body, cents, no, yes};

const DAY: i64 = 86_400;

/// User 1 is firing: the row of id 1 alone takes it over the threshold.
fn firing() -> Bench {
    let mut bench = Bench::confirmed();
    bench.put(1, 1, cents(350_000));
    bench.put(2, 1, cents(10_000));
    bench.settle(yes());
    let opened = bench.close().body.alerts;
    assert_eq!(body(&opened[0]).get("reason"), None, "it has only begun");
    bench
}

/// Postgres agrees that it is over.
#[track_caller]
fn over(mut bench: Bench, reason: &str) {
    bench.settle(no());
    let alerts = bench.close().body.alerts;
    let body = body(&alerts[0]);
    assert_eq!((alerts.len(), &body["status"], &body["reason"]), (1, &"resolved".into(), &reason.into()), "{body}");
}

#[test]
fn a_change() {
    let mut bench = firing();
    bench.delete(1);
    over(bench, "condition");
}

#[test]
fn time_alone() {
    let mut bench = firing();
    bench.now = 8 * DAY;
    bench.unit.evaluate(bench.now());
    over(bench, "time");
}

/// Rows leave as a change comes that would have left HAVING as it was.
#[test]
fn time_although_a_change_came_at_the_same_moment() {
    let mut bench = firing();
    bench.now = 8 * DAY;
    bench.put(3, 1, cents(100));
    over(bench, "time");
    // The change that does it is named, whatever leaves beside it.
    let mut bench = Bench::confirmed();
    bench.put(1, 1, cents(100));
    bench.now = DAY;
    bench.put(2, 1, cents(400_000));
    bench.settle(yes());
    bench.close();
    bench.now = 7 * DAY + 1; // row 1 leaves
    bench.delete(2);
    over(bench, "condition");
}

/// Somebody has found in the table that it is over.
#[test]
fn healed() {
    let mut bench = firing();
    bench.unit.found(0, Key::Int(1), Evaluation::Fails, Reason::Healed, bench.now());
    over(bench, "healed");
    // What agrees with the episode, or is of no rule, is nothing.
    let mut bench = firing();
    bench.unit.found(0, Key::Int(1), Evaluation::Holds, Reason::Healed, bench.now());
    bench.unit.found(9, Key::Int(1), Evaluation::Fails, Reason::Healed, bench.now());
    assert_eq!(bench.unit.waiting(), 0);
    // The stream's rows give way to the table's.
    let mut bench = firing();
    let row = crate::support::row(Value::Int(1), cents(1), Value::Time(bench.now()));
    let row = tripline::rule::table_row::TableRow { pk: Key::Int(1), row };
    bench.unit.load(0, &row, bench.now());
    bench.unit.evaluate(bench.now());
    over(bench, "healed");
}

/// Table or server have changed: windows come from the table, and lack what was open.
#[test]
fn healed_where_windows_are_void() {
    for void in [false, true] {
        let epoch = {
            let mut bench = Bench::confirmed();
            bench.put(1, 1, cents(350_000));
            bench.settle(yes());
            bench.close()
        };
        let mut copy = Bench::confirmed();
        copy.unit.redo(&epoch);
        copy.unit.take_over();
        if void {
            copy.unit.windows_are_void();
        }
        copy.unit.evaluate_all(copy.now());
        over(copy, if void { "healed" } else { "time" });
    }
}
