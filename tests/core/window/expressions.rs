//! Conditions and aggregates over rows, in memory alone. What Postgres says of the same is compared in `tests/stack/rules`.

use tripline::change::{Hole, HoleCause};
use tripline::model::{Key, Timestamp, Value};
use tripline::rule::evaluate::{Evaluation, Parts, Program, Running};

use crate::support::{WANTED, query, row, t};

fn program(sql: &str) -> Program {
    Program::new(&query(sql), &WANTED).unwrap()
}

/// One group with rows of these amounts.
fn running(program: &Program, amounts: &[Value]) -> Running {
    let mut running = program.start();
    for amount in amounts {
        let parts = program.parts(&row(Value::Int(1), amount.clone(), Value::Time(t(0))));
        if parts.time.is_some() {
            running.add(&parts.args);
        }
    }
    running
}

fn cents(cents: &[i128]) -> Vec<Value> {
    cents.iter().map(|cents| Value::Decimal(*cents)).collect()
}

#[test]
fn having_over_rows() {
    let check = |having: &str, amounts: &[Value], want: Evaluation| {
        let sql = format!("SELECT user_id FROM streaming.transactions GROUP BY user_id HAVING {having}");
        let program = program(&sql);
        assert_eq!(program.evaluate(&running(&program, amounts), &[]), want, "{having} over {amounts:?}");
    };
    use Evaluation::{Fails, Holds, Unknown};
    let some = cents(&[100, 250, 250]);
    check("COUNT(DISTINCT amount) = 2", &some, Holds);
    check("MIN(amount) = 1 AND MAX(amount) = 2.50", &some, Holds);
    check("AVG(amount) = 2", &some, Holds);
    check("AVG(amount) BETWEEN 1.99 AND 2.01", &some, Holds);
    check("SUM(amount) / COUNT(*) > 2", &some, Fails);
    check("SUM(amount) FILTER (WHERE amount > 2) = 5", &some, Holds);
    check("COUNT(*) FILTER (WHERE amount > 9) = 0", &some, Holds);
    check("SUM(amount) FILTER (WHERE amount > 9) > 0", &some, Fails);
    check("SUM(amount) FILTER (WHERE amount > 9) IS NULL", &some, Holds);
    check("BOOL_OR(amount > 2) AND NOT BOOL_AND(amount > 2)", &some, Holds);
    check("SUM(CASE WHEN amount > 2 THEN amount ELSE -1 END) = 4", &some, Holds);
    check("COUNT(*) / 2 = 1 AND COUNT(*) / 2.0 = 1.5", &some, Holds);
    check("COUNT(*) % 2 = 1 OR COUNT(*) / 0 = 1", &some, Holds);
    // Postgres raises an error.
    check("COUNT(*) / 0 = 1", &some, Unknown);
    // A group that is not there.
    check("COUNT(*) = 0", &[], Fails);
    let doubtful = [Value::Decimal(100), Value::Opaque, Value::Null];
    check("COUNT(*) = 3", &doubtful, Holds);
    check("SUM(amount) > 0", &doubtful, Unknown);
    check("COUNT(*) = 3 OR SUM(amount) > 0", &doubtful, Holds);
    check("COUNT(*) = 4 AND SUM(amount) > 0", &doubtful, Fails);
    check("COUNT(*) FILTER (WHERE amount IS NULL) = 1", &[Value::Null, Value::Decimal(1)], Holds);
}

#[test]
fn outputs_that_memory_cannot_tell() {
    let check = |output: &str, amounts: &[Value], want: (Option<&str>, bool)| {
        let sql =
            format!("SELECT user_id, {output} AS o FROM streaming.transactions GROUP BY user_id HAVING COUNT(*) > 1");
        let program = program(&sql);
        let running = running(&program, amounts);
        let shown = program.outputs(&running, &[]);
        assert_eq!((shown["o"].as_str(), program.has_unknown(&running, &[])), want, "{output} over {amounts:?}");
    };
    let some = cents(&[100, 250]);
    check("SUM(amount)", &some, (Some("3.50"), false));
    check("SUM(amount) FILTER (WHERE amount > 9)", &some, (None, false));
    check("SUM(amount) / 0", &some, (None, true));
    check("SUM(amount)", &[Value::Decimal(100), Value::Opaque], (None, true));
    check("MAX(timestamp)", &some, (Some("2026-11-22 10:00:00+00"), false));
}

#[test]
fn rows_that_where_does_not_admit_are_not_held() {
    let sql = "SELECT user_id FROM streaming.transactions WHERE amount > 2 OR amount IS NULL GROUP BY user_id HAVING COUNT(*) = 1";
    let program = program(sql);
    let held = |amount: Value| program.parts(&row(Value::Int(1), amount, Value::Time(t(0)))).time.is_some();
    assert!(held(Value::Decimal(250)) && held(Value::Null) && !held(Value::Decimal(100)));
    let mut running = running(&program, &cents(&[100, 250]));
    assert_eq!(program.evaluate(&running, &[]), Evaluation::Holds);
    // Of NaN memory cannot tell, and what it cannot tell of one row it cannot of the group, until that row is gone.
    let opaque = program.parts(&row(Value::Int(1), Value::Opaque, Value::Time(t(0)))).args;
    running.add(&opaque);
    assert!(running.is_doubtful());
    assert_eq!(program.evaluate(&running, &[]), Evaluation::Unknown);
    running.remove(&opaque);
    assert_eq!(program.evaluate(&running, &[]), Evaluation::Holds);
}

#[test]
fn rows_that_do_not_say_all_of_their_columns() {
    let amount = WANTED.iter().position(|column| *column == 2).unwrap();
    let holes = |cause| [Hole { slot: amount, cause }];
    let held = Parts { key: Key::Int(1), time: Some(Timestamp(0)), args: vec![Value::Decimal(700)].into() };
    let check = |sql: &str, cause, want: Option<Value>, want_complete: bool| {
        let program = program(sql);
        let row = row(Value::Int(1), Value::Opaque, Value::Time(t(0)));
        let (parts, is_complete) = program.parts_of(&row, &holes(cause), Some((&Key::Int(1), &held)));
        let parts = parts.unwrap();
        let got = parts.time.and_then(|_| parts.args.first().cloned());
        assert_eq!((got, is_complete), (want, want_complete), "{sql} {cause:?}");
    };
    let sum = |argument: &str, condition: &str| {
        format!("SELECT user_id FROM streaming.transactions {condition} GROUP BY user_id HAVING SUM({argument}) > 1")
    };
    let (kept, opaque) = (Some(Value::Decimal(700)), Some(Value::Opaque));
    // Of that column alone: as it was.
    check(&sum("ABS(amount)", ""), HoleCause::Unchanged, kept.clone(), true);
    // Of others too, which may have changed.
    check(&sum("amount * user_id", ""), HoleCause::Unchanged, opaque.clone(), false);
    check(&sum("amount", ""), HoleCause::Unreadable, opaque, false);
    // Whether WHERE admits it is not known.
    check(&sum("amount", "WHERE amount > 2"), HoleCause::Unchanged, kept, false);
    // It is: whatever the amount is.
    check(&sum("amount", "WHERE amount > 2 AND user_id > 5"), HoleCause::Unchanged, None, true);
}

#[test]
fn keys_of_several_columns() {
    let sql = "SELECT user_id, amount, COUNT(*) FROM streaming.transactions GROUP BY 1, 2 HAVING COUNT(*) > 0";
    let key = program(sql).key(&row(Value::Int(1), Value::Decimal(250), Value::Time(t(0))));
    assert_eq!(key, Key::new(vec![Value::Int(1), Value::Decimal(250)]));
}
