//! Left edges, evaluations and aggregates.

use chrono::{DateTime, Datelike, Duration, NaiveDate};
use proptest::prelude::*;
use serde_json::{Value as Json, json};
use tripline::model::{DECIMAL_LIMIT, Timestamp, Value};
use tripline::rule::evaluate::{Evaluation, Program, Running};
use tripline::rule::{Expression, Interval};

use crate::support::{DAY, HOUR, WANTED, WEEKLY, instant, query, row, t};

fn program(sql: &str) -> Program {
    Program::new(&query(sql), &WANTED).unwrap()
}

fn reaching_back(months: u32, days: u32, micros: i64) -> Program {
    let mut query = query(WEEKLY);
    query.bound.as_mut().unwrap().edge = Expression::ago(Interval { months, days, micros });
    Program::new(&query, &WANTED).unwrap()
}

#[test]
fn left_edges_are_those_of_postgres() {
    let check = |now: &str, (months, days, micros), want: &str| {
        let got = reaching_back(months, days, micros).left_edge(instant(now)).at();
        assert_eq!(got, instant(want), "{now} − {months} months {days} days {micros} µs: got {got}");
    };
    check("2026-11-22T10:00:00Z", (0, 7, 0), "2026-11-15T10:00:00Z");
    check("2026-11-22T10:00:00.000001Z", (0, 0, 1), "2026-11-22T10:00:00Z");
    check("2026-11-22T10:00:00Z", (0, 0, 36 * HOUR), "2026-11-20T22:00:00Z");
    check("2026-03-31T23:59:59.999999Z", (1, 0, 0), "2026-02-28T23:59:59.999999Z");
    check("2028-03-31T00:00:00Z", (1, 0, 0), "2028-02-29T00:00:00Z");
    check("2028-02-29T12:00:00Z", (12, 0, 0), "2027-02-28T12:00:00Z");
    check("2028-02-29T12:00:00Z", (48, 0, 0), "2024-02-29T12:00:00Z");
    check("2000-03-01T00:00:00Z", (0, 1, 0), "2000-02-29T00:00:00Z");
    check("1900-03-01T00:00:00Z", (0, 1, 0), "1900-02-28T00:00:00Z");
    check("2026-12-31T00:00:00Z", (1, 0, 0), "2026-11-30T00:00:00Z");
    check("2026-01-15T00:00:00Z", (1, 0, 0), "2025-12-15T00:00:00Z");
    // Months first, and only then days and the time: 31 March − 1 month = 28 February, − 1 day = 27.
    check("2026-03-31T00:00:00Z", (1, 1, HOUR), "2026-02-26T23:00:00Z");
    check("1970-01-01T00:00:00Z", (1, 0, 1), "1969-11-30T23:59:59.999999Z");
}

#[test]
fn infinite_instants_stay_infinite() {
    for back in [(1, 0, 0), (0, 7, 0), (0, 0, 1)] {
        let program = reaching_back(back.0, back.1, back.2);
        for now in [Timestamp::MIN, Timestamp::MAX] {
            assert_eq!(program.left_edge(now).at(), now, "{back:?}");
        }
        assert!(program.left_edge(t(0)).admits(Timestamp::MAX), "infinity is after every edge");
        assert!(!program.left_edge(t(0)).admits(Timestamp::MIN), "-infinity is before every edge");
    }
}

#[test]
fn an_edge_is_in_or_out() {
    for (operator, at_edge) in [(">=", true), (">", false)] {
        let edge = program(&WEEKLY.replacen(">=", operator, 1)).left_edge(t(0));
        for (time, want) in [(-1, false), (0, at_edge), (1, true), (8 * DAY, true)] {
            assert_eq!(edge.admits(t(time - 7 * DAY)), want, "{operator} at {time} µs after the edge");
        }
    }
    let unbound = program(&WEEKLY.replace("WHERE timestamp >= NOW() - INTERVAL '7 days' ", ""));
    assert!(unbound.left_edge(t(0)).admits(Timestamp::MIN));
    assert_eq!(unbound.time(&row(Value::Int(1), Value::Null, Value::Null)), Some(Timestamp(0)));
    assert!(!unbound.is_bounded());
    assert_eq!(program(WEEKLY).time(&row(Value::Int(1), Value::Null, Value::Null)), None, "no bound admits NULL");
}

fn days_in(year: i32, month: u32) -> u32 {
    (28..=31).rev().find(|day| NaiveDate::from_ymd_opt(year, month, *day).is_some()).unwrap()
}

proptest! {
    #[test]
    fn left_edges_agree_with_the_calendar(
        now in -2_000_000_000_000_000_i64..5_000_000_000_000_000,
        months in 0_u32..1_300, days in 0_u32..40_000, micros in 0..400 * DAY,
    ) {
        let got = reaching_back(months, days, micros).left_edge(Timestamp(now)).at();
        let at = DateTime::from_timestamp_micros(now).unwrap().naive_utc();
        let month = at.year() * 12 + at.month0().cast_signed() - months.cast_signed();
        let (year, month) = (month.div_euclid(12), month.rem_euclid(12) as u32 + 1);
        let date = NaiveDate::from_ymd_opt(year, month, at.day().min(days_in(year, month))).unwrap();
        let want = date.and_time(at.time()) - Duration::days(days.into()) - Duration::microseconds(micros);
        prop_assert_eq!(got.0, want.and_utc().timestamp_micros());
    }

    #[test]
    fn what_is_taken_out_leaves_nothing_behind(
        kept in prop::collection::vec(amount(), 0..6), gone in prop::collection::vec(amount(), 0..6),
    ) {
        let program = program(WEEKLY);
        let mut running = program.start();
        let args = |amount: &Value| program.parts(&row(Value::Int(1), amount.clone(), Value::Time(t(0)))).args;
        gone.iter().chain(&kept).for_each(|amount| running.add(&args(amount)));
        gone.iter().for_each(|amount| running.remove(&args(amount)));
        let mut fresh = program.start();
        kept.iter().for_each(|amount| fresh.add(&args(amount)));
        prop_assert_eq!(running, fresh);
    }
}

fn amount() -> impl Strategy<Value = Value> {
    prop_oneof![
        6 => (-1_000_000_i128..1_000_000).prop_map(Value::Decimal),
        1 => Just(Value::Null),
        1 => Just(Value::Opaque),
        1 => Just(Value::Decimal(DECIMAL_LIMIT)),
    ]
}

fn filled(program: &Program, amounts: &[Value], points: &[i64]) -> Running {
    let mut running = program.start();
    for (index, amount) in amounts.iter().enumerate() {
        let mut row = row(Value::Int(1), amount.clone(), Value::Time(t(0)));
        row[3] = Value::Int(points.get(index).copied().unwrap_or(1));
        running.add(&program.parts(&row).args);
    }
    running
}

fn sql(having: &str) -> String {
    format!(
        "SELECT user_id, COUNT(*) AS n, SUM(amount) AS total, SUM(ABS(points)) AS points \
         FROM streaming.transactions GROUP BY user_id HAVING {having}"
    )
}

fn cents(amounts: &[i128]) -> Vec<Value> {
    amounts.iter().map(|cents| Value::Decimal(*cents)).collect()
}

#[test]
fn every_comparison_at_every_scale() {
    // For 29.99, 30.00 and 30.01: does the comparison hold?
    let check = |having: &str, want: [bool; 3]| {
        let program = program(&sql(having));
        for (total, want) in [2_999, 3_000, 3_001].into_iter().zip(want) {
            let want = if want { Evaluation::Holds } else { Evaluation::Fails };
            let got = program.evaluate(&filled(&program, &cents(&[total - 1_000, 1_000]), &[]), &[]);
            assert_eq!(got, want, "{having} with {total} cents");
        }
    };
    for threshold in ["30", "30.00", "30.0000"] {
        check(&format!("SUM(amount) > {threshold}"), [false, false, true]);
        check(&format!("SUM(amount) >= {threshold}"), [false, true, true]);
        check(&format!("SUM(amount) < {threshold}"), [true, false, false]);
        check(&format!("SUM(amount) <= {threshold}"), [true, true, false]);
        check(&format!("SUM(amount) = {threshold}"), [false, true, false]);
        check(&format!("SUM(amount) <> {threshold}"), [true, false, true]);
    }
    // A threshold finer than the column: no sum equals it.
    check("SUM(amount) > 30.0001", [false, false, true]);
    check("SUM(amount) >= 30.0001", [false, false, true]);
    check("SUM(amount) > 29.9999", [false, true, true]);
    check("SUM(amount) < 30.0001", [true, true, false]);
    check("SUM(amount) = 30.0001", [false, false, false]);
    check("SUM(amount) <> 30.0001", [true, true, true]);
    check("SUM(amount) > -30.5", [true, true, true]);
    check("COUNT(*) = 2", [true, true, true]);
    check("COUNT(*) > 1.9999", [true, true, true]);
    check("COUNT(*) > 2", [false, false, false]);
}

#[test]
fn verdicts_and_outputs() {
    let check = |having: &str, amounts: &[Value], points: &[i64], want: Evaluation, outputs: Json| {
        let program = program(&sql(having));
        let running = filled(&program, amounts, points);
        assert_eq!(program.evaluate(&running, &[]), want, "{having} over {amounts:?} {points:?}");
        assert_eq!(Json::from(program.outputs(&running, &[])), outputs, "{having} over {amounts:?} {points:?}");
    };
    use Evaluation::{Fails, Holds, Unknown};
    let decimal = Value::Decimal;
    // A group without rows is not in the result, whatever HAVING says of it.
    for having in ["COUNT(*) = 0", "COUNT(*) < 5", "SUM(amount) < 5"] {
        check(having, &[], &[], Fails, json!({"n": 0, "total": null, "points": null}));
    }
    // A sum over NULLs only is NULL, and no comparison with NULL holds.
    for having in ["SUM(amount) < 5", "SUM(amount) = 0", "SUM(amount) <> 0"] {
        check(having, &[Value::Null, Value::Null], &[], Fails, json!({"n": 2, "total": null, "points": "2"}));
    }
    check("COUNT(*) = 2", &[Value::Null, Value::Null], &[], Holds, json!({"n": 2, "total": null, "points": "2"}));
    check("SUM(amount) > 1", &[Value::Null, decimal(101)], &[], Holds, json!({"n": 2, "total": "1.01", "points": "2"}));
    check("SUM(amount) = 0", &cents(&[5, -5]), &[], Holds, json!({"n": 2, "total": "0.00", "points": "2"}));
    check("SUM(amount) < 0", &cents(&[-5]), &[], Holds, json!({"n": 1, "total": "-0.05", "points": "1"}));
    // What memory cannot add, Postgres has to.
    let unknown = json!({"n": 2, "total": null, "points": "2"});
    check("SUM(amount) > 1", &[Value::Opaque, decimal(500)], &[], Unknown, unknown.clone());
    check("SUM(amount) > 1", &[decimal(DECIMAL_LIMIT), decimal(500)], &[], Unknown, unknown.clone());
    check("SUM(amount) > 1", &[decimal(-DECIMAL_LIMIT), decimal(500)], &[], Unknown, unknown.clone());
    check("COUNT(*) = 2", &[Value::Opaque, decimal(500)], &[], Holds, unknown);
    let most = decimal(DECIMAL_LIMIT - 1);
    let total = "99999999999999999999999999.99";
    check("SUM(amount) > 1", std::slice::from_ref(&most), &[], Holds, json!({"n": 1, "total": total, "points": "1"}));
    // Brought to 28 digits, the sum is past an i128.
    let fine = "SUM(amount) > 0.0000000000000000000000000001";
    check(fine, &[most], &[], Unknown, json!({"n": 1, "total": total, "points": "1"}));
    // Postgres raises an error for ABS of the least integer.
    check("SUM(ABS(points)) > 1", &cents(&[1]), &[i64::MIN], Unknown, json!({"n": 1, "total": "0.01", "points": null}));
    let greatest = json!({"n": 2, "total": "0.02", "points": "18446744073709551614"});
    check("SUM(ABS(points)) > 1", &cents(&[1, 1]), &[i64::MIN + 1, i64::MAX], Holds, greatest);
    check("SUM(points) < -1", &cents(&[1]), &[i64::MIN], Holds, json!({"n": 1, "total": "0.01", "points": null}));
}

#[test]
fn a_column_that_is_not_decoded_is_an_error() {
    assert!(Program::new(&query(WEEKLY), &[1, 2]).unwrap_err().contains("column 3"));
}
