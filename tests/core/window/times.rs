//! Rules that go by NOW() elsewhere than in the lower bound, by name. On a clock and against Postgres they are compared in
//! `tests/stack/rules/times.rs`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use tripline::change::{Change, Op};
use tripline::model::zone::Zone;
use tripline::model::{Key, Lsn, Position, Timestamp, Value};
use tripline::rule::Time;
use tripline::rule::evaluate::{Evaluation, Program};
use tripline::window::Window;

use crate::support::{DAY, HOUR, SECOND, WANTED, instant, query, row, t};

const MINUTE: i64 = 60 * SECOND;

struct Stream(Window, i64);

impl Stream {
    fn new(conditions: &str, having: &str) -> Self {
        Self::under(Time::Processing, conditions, having)
    }

    fn under(time: Time, conditions: &str, having: &str) -> Self {
        let sql = format!("SELECT user_id FROM streaming.transactions {conditions} GROUP BY user_id HAVING {having}");
        Self(Window::new(Program::new(&query(&sql), &WANTED).unwrap(), time), 0)
    }

    /// A row of a user, dated `at`, that comes at `now`.
    fn put(&mut self, id: i64, user: i64, at: Timestamp, now: Timestamp) {
        self.1 += 1;
        let change = Change {
            op: Op::Update,
            pk: Some(Key::Int(id)),
            row: Some(row(Value::Int(user), Value::Decimal(100), Value::Time(at))),
            before: None,
            lsn: Some(Lsn(self.1.unsigned_abs())),
            tx_id: None,
            committed_at: None,
            holes: Vec::new(),
        };
        self.0.apply(&change, Position { partition: 0, offset: self.1 }, now);
    }

    /// The evaluations at `now`, as user and whether HAVING holds.
    fn named(&mut self, now: Timestamp) -> Vec<(Key, bool)> {
        let named: Vec<_> = self.0.evaluate_touched(now).into_iter().chain(self.0.expire(now)).collect();
        // None of them waits for an answer.
        named.iter().for_each(|named| self.0.watch(&named.key, false));
        named.into_iter().map(|named| (named.key, named.evaluation == Evaluation::Holds)).collect()
    }
}

#[test]
fn a_silent_key_fires_at_the_instant() {
    let mut stream = Stream::new("", "MAX(timestamp) < NOW() - INTERVAL '15 minutes'");
    stream.put(1, 7, t(0), t(0));
    assert_eq!(stream.named(t(0)), []);
    assert_eq!(stream.0.next_edge(), Some(t(15 * MINUTE + 1)), "no row need come");
    assert_eq!(stream.named(t(15 * MINUTE)), []);
    assert_eq!(stream.named(t(15 * MINUTE + 1)), [(Key::Int(7), true)]);
    stream.put(2, 7, t(16 * MINUTE), t(16 * MINUTE));
    assert_eq!(stream.named(t(16 * MINUTE)), [(Key::Int(7), false)]);
}

#[test]
fn rows_come_in_by_time_alone_under_an_upper_bound() {
    let mut stream = Stream::new("WHERE timestamp < NOW() - INTERVAL '30 minutes'", "COUNT(*) >= 2");
    stream.put(1, 7, t(0), t(0));
    stream.put(2, 7, t(MINUTE), t(MINUTE));
    assert_eq!(stream.named(t(MINUTE)), []);
    assert_eq!(stream.named(t(31 * MINUTE)), []);
    assert_eq!(stream.named(t(31 * MINUTE + 1)), [(Key::Int(7), true)]);
    assert_eq!(stream.0.rows(), 2);
}

#[test]
fn two_windows_in_one_rule() {
    let mut stream = Stream::new(
        "WHERE timestamp >= NOW() - INTERVAL '10 days'",
        "COUNT(*) FILTER (WHERE timestamp >= NOW() - INTERVAL '1 day') > COUNT(*) FILTER (WHERE timestamp < NOW() - INTERVAL '1 day')",
    );
    stream.put(1, 7, t(0), t(0));
    assert_eq!(stream.named(t(0)), [(Key::Int(7), true)]);
    assert_eq!(stream.named(t(DAY)), []);
    assert_eq!(stream.named(t(DAY + 1)), [(Key::Int(7), false)], "today's is yesterday's now");
    assert_eq!((stream.0.rows(), stream.named(t(10 * DAY + 1)), stream.0.rows()), (1, vec![], 0));
}

#[test]
fn under_event_time_a_later_row_moves_the_edges() {
    let conditions = "WHERE timestamp >= NOW() - INTERVAL '10 days'";
    let mut stream =
        Stream::under(Time::Event, conditions, "COUNT(*) FILTER (WHERE timestamp < NOW() - INTERVAL '1 day') >= 1");
    stream.put(1, 7, t(0), t(0));
    assert_eq!(stream.named(t(0)), []);
    stream.put(2, 7, t(DAY), t(0));
    assert_eq!(stream.named(t(5 * DAY)), [], "the time of day does not count");
    stream.put(3, 7, t(DAY + 1), t(0));
    assert_eq!(stream.named(t(0)), [(Key::Int(7), true)]);
    stream.put(4, 7, t(12 * DAY), t(0));
    assert_eq!(stream.named(t(0)), [(Key::Int(7), false)], "all but the last have left");
}

#[test]
fn a_condition_that_is_no_bound_of_a_column_lets_rows_go() {
    for condition in
        ["NOW() - timestamp < INTERVAL '2 hours'", "date_trunc('day', timestamp) = date_trunc('day', NOW())"]
    {
        let mut stream = Stream::new(&format!("WHERE {condition}"), "COUNT(*) >= 1");
        stream.put(1, 7, t(0), t(0));
        assert_eq!(stream.named(t(0)), [(Key::Int(7), true)], "{condition}");
        let mut at = t(0);
        while let Some(next) = stream.0.next_edge().filter(|next| *next > at) {
            at = next;
            stream.named(at);
        }
        assert_eq!((stream.0.rows(), stream.0.groups()), (0, 0), "{condition}");
    }
}

/// `KEYS=1000000` prints what a million take.
#[test]
#[expect(clippy::disallowed_methods, reason = "a stopwatch")]
fn many_keys_turn_at_one_midnight() {
    let keys: i64 = std::env::var("KEYS").ok().and_then(|keys| keys.parse().ok()).unwrap_or(30_000);
    let change = |text: &str| instant(text).0 / SECOND;
    let berlin = Zone::new(
        "Europe/Berlin",
        3_600,
        [(change("2026-03-29T01:00:00Z"), 7_200), (change("2026-10-25T01:00:00Z"), 3_600)],
    );
    let mut query = query(
        "SELECT user_id FROM streaming.transactions WHERE timestamp >= date_trunc('month', NOW() AT TIME ZONE 'Europe/Berlin') \
         AT TIME ZONE 'Europe/Berlin' GROUP BY user_id HAVING COUNT(*) >= 2",
    );
    let berlin = Arc::new(berlin);
    query.change_zones(&mut |zone| *zone = Arc::clone(&berlin));
    let mut stream = Stream(Window::new(Program::new(&query, &WANTED).unwrap(), Time::Processing), 0);
    let open = keys / 100;
    for user in 0..keys {
        stream.put(user, user, t(0), t(0));
        if user < open {
            stream.put(keys + user, user, t(HOUR), t(HOUR));
        }
    }
    assert_eq!(stream.named(t(HOUR)).len(), usize::try_from(open).unwrap());
    let midnight = instant("2026-11-30T23:00:00Z");
    assert_eq!(stream.0.next_edge(), Some(midnight));
    let mut resolved: BTreeMap<Key, u64> = BTreeMap::new();
    let (mut calls, mut longest, begun) = (0, 0, Instant::now());
    while stream.0.next_edge().is_some_and(|edge| edge <= midnight) {
        let call = Instant::now();
        for (key, holds) in stream.named(midnight) {
            assert!(!holds);
            *resolved.entry(key).or_default() += 1;
        }
        calls += 1;
        longest = longest.max(call.elapsed().as_millis());
    }
    assert_eq!(resolved.len(), usize::try_from(open).unwrap());
    assert!(resolved.values().all(|times| *times == 1), "each once");
    assert!(calls >= keys / 10_000, "in slices: {calls} calls");
    assert_eq!(stream.0.groups(), 0, "nothing of the month before is held");
    eprintln!("{keys} keys: {calls} calls in {} ms, the longest {longest} ms", begun.elapsed().as_millis());
}
