//! A key with thousands of rows, primary keys of all kinds, and values of all widths, against a plain table.

use std::collections::BTreeMap;

use tripline::change::{Change, Op};
use tripline::model::{Key, Lsn, Timestamp, Value, decimal_text};
use tripline::rule::Time;
use tripline::rule::evaluate::Program;
use tripline::window::{StoredWindow, Window};

use crate::support::{HOUR, SECOND, WANTED, position, query, t};

const SQL: &str = "SELECT user_id, COUNT(*) AS n, SUM(amount) AS total, SUM(points) AS points, MAX(points) AS most \
     FROM streaming.transactions WHERE timestamp >= NOW() - INTERVAL '1 hour' \
     GROUP BY user_id HAVING COUNT(*) > 1000000";

/// The same with a condition that time changes: rows stand in two series.
const TWO_WINDOWS: &str = "SELECT user_id, COUNT(*) AS n, SUM(amount) AS total, SUM(points) AS points, MAX(points) AS most, \
     COUNT(*) FILTER (WHERE timestamp >= NOW() - INTERVAL '10 minutes') AS late \
     FROM streaming.transactions WHERE timestamp >= NOW() - INTERVAL '1 hour' \
     GROUP BY user_id HAVING COUNT(*) > 1000000";

/// Numbers that look drawn, and are the same in every run: splitmix64.
struct Draw(u64);

impl Draw {
    fn below(&mut self, limit: i64) -> i64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        i64::try_from((mixed ^ (mixed >> 31)) % limit.unsigned_abs()).unwrap()
    }
}

#[derive(Clone)]
struct Paid {
    user: i64,
    amount: Option<i128>,
    points: i64,
    at: Timestamp,
}

fn pk(id: i64) -> Key {
    match id % 4 {
        0 => Key::Values(vec![Value::Text(format!("row-{id}").into()), Value::Int(id)].into()),
        1 => Key::Values(vec![Value::Text(id.to_string().into())].into()),
        _ => Key::Int(id),
    }
}

fn program(sql: &str) -> Program {
    Program::new(&query(sql), &WANTED).unwrap()
}

/// What Postgres would say of a user.
fn wanted(table: &BTreeMap<i64, Paid>, user: i64, now: Timestamp, is_late: bool) -> serde_json::Value {
    let since = |micros: i64| move |paid: &&Paid| paid.user == user && paid.at.0 >= now.0 - micros;
    let inside: Vec<&Paid> = table.values().filter(since(HOUR)).collect();
    let amounts: Vec<i128> = inside.iter().filter_map(|paid| paid.amount).collect();
    let total = (!amounts.is_empty()).then(|| decimal_text(amounts.iter().sum(), 2));
    let points = (!inside.is_empty()).then(|| inside.iter().map(|paid| paid.points).sum::<i64>().to_string());
    let most = inside.iter().map(|paid| paid.points).max().map(|most| most.to_string());
    let mut wanted = serde_json::json!({ "n": inside.len(), "total": total, "points": points, "most": most });
    if is_late {
        wanted["late"] = table.values().filter(since(HOUR / 6)).count().into();
    }
    wanted
}

fn check(window: &mut Window, table: &BTreeMap<i64, Paid>, now: Timestamp, is_late: bool, seed: u64) {
    for user in 0..4 {
        let (_, outputs) = window.evaluate(&Key::Int(user), now);
        let wanted = wanted(table, user, now, is_late);
        assert_eq!(serde_json::Value::Object(outputs), wanted, "seed {seed}, user {user}");
        let print = window.fingerprint(&Key::Int(user));
        assert!(print.is_sound && wanted["n"] == print.rows, "seed {seed}, user {user}: {print:?}");
    }
}

fn run(sql: &str, seed: u64) {
    let mut draw = Draw(seed);
    let is_late = sql == TWO_WINDOWS;
    let mut window = Window::new(program(sql), Time::Processing);
    let mut table: BTreeMap<i64, Paid> = BTreeMap::new();
    let mut now = t(0);
    for step in 0..6_000_i64 {
        // Rows come mostly at the end, and at last time takes most of them.
        now = if step < 5_000 { t(step * SECOND / 4) } else { t(step * SECOND + HOUR / 4) };
        let held = || table.keys().nth(usize::try_from(step).unwrap() * 7 % table.len().max(1)).copied();
        let (id, op) = match (draw.below(10), held()) {
            (0, Some(id)) => (id, Op::Delete),
            (1..4, Some(id)) => (id, Op::Update),
            _ => (step, Op::Create),
        };
        let before = table.remove(&id);
        if op != Op::Delete {
            let amount = match draw.below(10) {
                0 => None,
                1 => Some(i128::from(draw.below(1_000)) * 10_i128.pow(20)),
                _ => Some(i128::from(draw.below(20_000)) - 10_000),
            };
            let at = match draw.below(4) {
                0 => Timestamp(now.0 - draw.below(HOUR)),
                // An update mostly leaves the time as it is.
                _ => before.as_ref().map_or(now, |before| before.at),
            };
            let user =
                before.as_ref().filter(|_| draw.below(4) > 0).map_or((draw.below(12) - 8).max(0), |paid| paid.user);
            table.insert(id, Paid { user, amount, points: draw.below(50), at });
        }
        let row = table.get(&id).map(|paid| {
            let amount = paid.amount.map_or(Value::Null, Value::Decimal);
            Box::new([Value::Int(paid.user), amount, Value::Time(paid.at), Value::Int(paid.points)]) as Box<[Value]>
        });
        let lsn = Some(Lsn(1_000 + step.unsigned_abs()));
        let change =
            Change { op, pk: Some(pk(id)), row, before: None, lsn, tx_id: None, committed_at: None, holes: Vec::new() };
        window.apply(&change, position(step), now);
        if step % 50 == 0 {
            window.evaluate_touched(now);
            while window.next_edge().is_some_and(|edge| edge <= now) {
                window.expire(now);
            }
        }
        if step % 1_500 == 1_499 {
            check(&mut window, &table, now, is_late, seed);
            let bytes = postcard::to_extend(&window.stored(), Vec::new()).unwrap();
            let mut copy = Window::new(program(sql), Time::Processing);
            copy.refill(postcard::from_bytes::<StoredWindow>(&bytes).unwrap());
            check(&mut copy, &table, now, is_late, seed);
            assert!(seed.is_multiple_of(2) || copy.rows() == window.rows(), "seed {seed}");
            if seed.is_multiple_of(2) {
                window = copy; // it goes on from what was stored
            }
        }
    }
    assert!(table.len() > 2_000, "seed {seed}: {} rows", table.len());
    let end = Timestamp(now.0 + 2 * HOUR);
    while window.next_edge().is_some_and(|edge| edge <= end) {
        window.expire(end);
    }
    assert_eq!(window.rows(), 0, "seed {seed}");
}

#[test]
fn a_window_of_many_rows_is_as_its_table() {
    for seed in 0..4 {
        run(SQL, seed);
        run(TWO_WINDOWS, seed);
    }
}
