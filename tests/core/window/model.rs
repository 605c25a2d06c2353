//! Random histories of a table, as Debezium would stream them, against sums taken from scratch over the
//! table itself. The model knows nothing of versions: at any moment that is not inside a replay of
//! duplicates, memory has to say what the table says.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use serde_json::{Map, Value as Json};
use tripline::change::{Change, Op};
use tripline::episode::Reason;
use tripline::model::{Key, Timestamp, Value, decimal_text};
use tripline::rule::Time;
use tripline::rule::evaluate::{Evaluation, Program};
use tripline::window::{Applied, StoredWindow, Transition, Window};

use crate::support::{HOUR, SECOND, WANTED, change, position, query, row, t};

/// One act upon the table or of the reader.
#[derive(Clone, Debug)]
enum Act {
    /// Create or update, with a new key, amount and age in seconds (`None`: NULL).
    Put {
        id: i64,
        user: Option<i64>,
        amount: Value,
        age: Option<i64>,
        later: u64,
    },
    Rekey {
        id: i64,
        to: i64,
    },
    Delete {
        id: i64,
        lsn: bool,
        delete: bool,
        tombstone: bool,
    },
    Read {
        id: i64,
        lsn: bool,
    },
    Truncate,
    /// The connector crashed and writes so many of its last changes once more.
    Replay(usize),
    Step {
        seconds: i64,
        look: bool,
        expire: bool,
        store: bool,
    },
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let user = prop::option::weighted(0.9, 0_i64..3);
    let amount = prop_oneof![
        12 => (-5_000_i128..5_000).prop_map(Value::Decimal),
        1 => Just(Value::Null),
        1 => Just(Value::Opaque),
    ];
    let age = prop::option::weighted(0.95, prop_oneof![4 => 0_i64..3_600, 1 => -600_i64..7_200, 1 => Just(3_600)]);
    let act = prop_oneof![
        10 => (0_i64..8, user, amount, age, 1_u64..40)
            .prop_map(|(id, user, amount, age, later)| Act::Put { id, user, amount, age, later }),
        1 => (0_i64..8, 0_i64..8).prop_map(|(id, to)| Act::Rekey { id, to }),
        3 => (0_i64..8, any::<bool>(), any::<bool>(), any::<bool>())
            .prop_map(|(id, lsn, delete, tombstone)| Act::Delete { id, lsn, delete, tombstone: tombstone || !delete }),
        2 => (0_i64..8, any::<bool>()).prop_map(|(id, lsn)| Act::Read { id, lsn }),
        1 => Just(Act::Truncate),
        2 => (1_usize..30).prop_map(Act::Replay),
        6 => (0_i64..1_500, any::<bool>(), any::<bool>(), prop::bool::weighted(0.2))
            .prop_map(|(seconds, look, expire, store)| Act::Step { seconds, look, expire, store }),
    ];
    prop::collection::vec(act, 1..80)
}

/// A rule, said twice: as SQL and as a function of count and sum.
#[derive(Clone, Copy, Debug)]
struct Twin {
    sql: &'static str,
    bounded: bool,
    inclusive: bool,
    absolute: bool,
    holds: fn(u64, Option<i128>) -> bool,
    /// Whether HAVING looks at the sum, so that memory cannot evaluate a value that it cannot add.
    sums: bool,
}

const TWINS: [Twin; 4] = [
    Twin {
        sql: "SELECT user_id, COUNT(*) AS n, SUM(ABS(amount)) AS total FROM streaming.transactions \
              WHERE timestamp >= NOW() - INTERVAL '1 hour' GROUP BY user_id HAVING SUM(ABS(amount)) > 60",
        bounded: true,
        inclusive: true,
        absolute: true,
        holds: |_, sum| sum.is_some_and(|sum| sum > 6_000),
        sums: true,
    },
    Twin {
        sql: "SELECT user_id, COUNT(*) AS n, SUM(amount) AS total FROM streaming.transactions \
              WHERE timestamp > NOW() - INTERVAL '1 hour' GROUP BY user_id HAVING SUM(amount) <= 0.005",
        bounded: true,
        inclusive: false,
        absolute: false,
        holds: |_, sum| sum.is_some_and(|sum| sum <= 0),
        sums: true,
    },
    Twin {
        sql: "SELECT user_id, COUNT(*) AS n, SUM(amount) AS total FROM streaming.transactions \
              WHERE timestamp >= NOW() - INTERVAL '1 hour' GROUP BY user_id HAVING COUNT(*) <> 2",
        bounded: true,
        inclusive: true,
        absolute: false,
        holds: |count, _| count != 2,
        sums: false,
    },
    Twin {
        sql: "SELECT user_id, COUNT(*) AS n, SUM(amount) AS total FROM streaming.transactions \
              GROUP BY user_id HAVING SUM(amount) > 20",
        bounded: false,
        inclusive: true,
        absolute: false,
        holds: |_, sum| sum.is_some_and(|sum| sum > 2_000),
        sums: true,
    },
];

/// The table, and what the connector has written of it.
#[derive(Default)]
struct Table {
    rows: BTreeMap<i64, Box<[Value]>>,
    log: Vec<Change>,
    /// The newest LSN of each row: only within a row do they ascend.
    newest: BTreeMap<i64, u64>,
    floor: u64,
    /// The greatest event time written for each group.
    seen: BTreeMap<Key, Timestamp>,
}

impl Table {
    fn next_lsn(&mut self, id: i64, later: u64) -> u64 {
        let newest = self.newest.entry(id).or_default();
        *newest = (*newest).max(self.floor) + later;
        *newest
    }

    /// The changes that an act writes. The rows are those after it.
    fn act(&mut self, act: &Act, now: Timestamp) -> Vec<Change> {
        let written = match *act {
            Act::Put { id, user, ref amount, age, later } => {
                let user = user.map_or(Value::Null, Value::Int);
                let time = age.map_or(Value::Null, |age| Value::Time(Timestamp(now.0 - age * SECOND)));
                let row = row(user, amount.clone(), time);
                let op = if self.rows.insert(id, row.clone()).is_some() { Op::Update } else { Op::Create };
                vec![change(op, id, Some(row), Some(self.next_lsn(id, later)))]
            }
            Act::Rekey { id, to } if !self.rows.contains_key(&to) => {
                let Some(row) = self.rows.remove(&id) else { return vec![] };
                self.rows.insert(to, row.clone());
                let lsn = self.next_lsn(id, 1).max(self.next_lsn(to, 1));
                self.newest.extend([(id, lsn), (to, lsn)]);
                vec![
                    change(Op::Delete, id, None, Some(lsn)),
                    change(Op::Tombstone, id, None, None),
                    change(Op::Create, to, Some(row), Some(lsn)),
                ]
            }
            Act::Delete { id, lsn, delete, tombstone } => {
                self.rows.remove(&id);
                let lsn = self.next_lsn(id, 1).checked_mul(u64::from(lsn)).filter(|lsn| *lsn > 0);
                let delete = delete.then(|| change(Op::Delete, id, None, lsn));
                delete.into_iter().chain(tombstone.then(|| change(Op::Tombstone, id, None, None))).collect()
            }
            Act::Read { id, lsn } => {
                let Some(row) = self.rows.get(&id) else { return vec![] };
                // The whole snapshot is at one position: after all that was written before.
                let snapshot = self.newest.values().max().copied().unwrap_or(0).max(self.floor) + 1;
                vec![change(Op::Read, id, Some(row.clone()), lsn.then_some(snapshot))]
            }
            Act::Truncate => {
                self.rows.clear();
                self.floor = self.newest.values().max().copied().unwrap_or(0).max(self.floor) + 1;
                vec![change(Op::Truncate, 0, None, Some(self.floor))]
            }
            Act::Rekey { .. } | Act::Replay(_) | Act::Step { .. } => vec![],
        };
        self.log.extend(written.iter().cloned());
        written
    }

    fn see(&mut self, change: &Change) {
        if let Some(row) = &change.row
            && let Value::Time(time) = row[2]
        {
            let seen = self.seen.entry(Key::new(vec![row[0].clone()])).or_insert(time);
            *seen = time.max(*seen);
        }
    }

    /// The amounts of a group's rows inside its window.
    fn inside(&self, twin: &Twin, key: &Key, time: Time, now: Timestamp) -> Vec<&Value> {
        let now = if time == Time::Event { self.seen.get(key).copied().unwrap_or(now) } else { now };
        let edge = Timestamp(now.0 - HOUR);
        let admits = |row: &[Value]| match row[2] {
            _ if !twin.bounded => true,
            Value::Time(time) => time > edge || (twin.inclusive && time == edge),
            _ => false,
        };
        let rows = self.rows.values().filter(|row| Key::new(vec![row[0].clone()]) == *key && admits(row));
        rows.map(|row| &row[1]).collect()
    }

    /// The query's result for a group.
    fn look(&self, twin: &Twin, key: &Key, time: Time, now: Timestamp) -> (Evaluation, Map<String, Json>) {
        let amounts = self.inside(twin, key, time, now);
        let mut sum = None;
        let mut opaque = false;
        for amount in &amounts {
            match amount {
                Value::Decimal(n) => *sum.get_or_insert(0) += if twin.absolute { n.abs() } else { *n },
                Value::Opaque => opaque = true,
                _ => {}
            }
        }
        let count = amounts.len() as u64;
        let evaluation = match () {
            () if count == 0 => Evaluation::Fails,
            () if opaque && twin.sums => Evaluation::Unknown,
            () if (twin.holds)(count, sum) => Evaluation::Holds,
            () => Evaluation::Fails,
        };
        let total = sum.filter(|_| !opaque).map_or(Json::Null, |sum| decimal_text(sum, 2).into());
        (evaluation, Map::from_iter([("n".to_owned(), count.into()), ("total".to_owned(), total)]))
    }
}

fn keys() -> Vec<Key> {
    (0..3).map(Value::Int).chain([Value::Null]).map(|user| Key::new(vec![user])).collect()
}

struct Run {
    twin: Twin,
    time: Time,
    table: Table,
    window: Window,
    /// A window with the same changes that is stored and read back now and then. Under event time it is evaluated only
    /// at the end of a step.
    copy: Window,
    copy_owes: Vec<Transition>,
    evaluated: BTreeMap<Key, Evaluation>,
    /// Groups that a change of this step certainly touched.
    touched: BTreeSet<Key>,
    now: Timestamp,
    offset: i64,
}

fn empty(twin: &Twin, time: Time) -> Window {
    Window::new(Program::new(&query(twin.sql), &WANTED).unwrap(), time)
}

/// A window that is read back knows why a group crossed only as far as its newest change tells, and names no change for what
/// memory cannot evaluate.
fn without_provenance(mut transitions: Vec<Transition>) -> Vec<Transition> {
    for transition in &mut transitions {
        transition.reason = Reason::default();
        if transition.evaluation == Evaluation::Unknown {
            transition.trigger = None;
        }
    }
    by_key(transitions)
}

fn by_key(mut transitions: Vec<Transition>) -> Vec<Transition> {
    transitions.sort_by(|a, b| a.key.cmp(&b.key)); // stable: one key's stay in order
    transitions
}

impl Run {
    fn new(twin: Twin, time: Time) -> Self {
        let evaluated = keys().into_iter().map(|key| (key, Evaluation::Fails)).collect();
        let (window, copy) = (empty(&twin, time), empty(&twin, time));
        let table = Table::default();
        let (copy_owes, touched) = (Vec::new(), BTreeSet::new());
        Self { twin, time, table, window, copy, copy_owes, evaluated, touched, now: t(0), offset: 0 }
    }

    fn act(&mut self, act: &Act) {
        let inside = |run: &Self| -> Vec<(Key, usize)> {
            let count = |key: Key| {
                let rows = run.table.inside(&run.twin, &key, Time::Processing, run.now).len();
                (key, rows)
            };
            keys().into_iter().map(count).collect()
        };
        match *act {
            Act::Replay(last) => {
                let from = self.table.log.len().saturating_sub(last);
                let again = self.table.log[from..].to_vec();
                let end = again.len();
                // Rows that are still held ignore their old versions, so that nothing changes on the way either.
                let held = |change: &Change| matches!(change.op, Op::Create | Op::Update);
                let steady = !self.twin.bounded && again.iter().all(held);
                for (index, change) in again.iter().enumerate() {
                    self.take(change, steady || index + 1 == end);
                    if steady {
                        self.agree();
                    }
                }
            }
            Act::Step { seconds, look, expire, store } => self.step(seconds, look, expire, store),
            _ => {
                let before = inside(self);
                let written = self.table.act(act, self.now);
                let end = written.len();
                for (index, change) in written.iter().enumerate() {
                    self.take(change, index + 1 == end);
                }
                let changed = before.into_iter().zip(inside(self)).filter(|(before, after)| before != after);
                self.touched.extend(changed.map(|((key, _), _)| key));
            }
        }
    }

    /// `whole`: the window has what the table has, so that the two are to agree.
    fn take(&mut self, change: &Change, whole: bool) {
        self.table.see(change);
        for window in [&mut self.window, &mut self.copy] {
            if window.apply(change, position(self.offset), self.now) == Applied::Incomplete {
                // The table is asked.
                let pk = change.pk.clone().unwrap();
                let row = self.table.rows.iter().find(|(id, _)| Key::Int(**id) == pk).map(|(_, row)| row);
                match row {
                    Some(row) => window.load(&pk, row, self.now),
                    None => window.remove(&pk, self.now),
                }
            }
        }
        self.offset += 1;
        if self.time == Time::Event {
            let transitions = self.window.evaluate_touched(self.now);
            let looks = if whole { self.agree() } else { self.looks() };
            self.told(&transitions, &looks, true);
            self.copy_owes.extend(transitions);
        }
    }

    fn step(&mut self, seconds: i64, look: bool, expire: bool, store: bool) {
        let transitions = self.window.evaluate_touched(self.now);
        let owed = std::mem::take(&mut self.copy_owes);
        let want = if self.time == Time::Event { owed } else { transitions.clone() };
        let copied = self.copy.evaluate_touched(self.now);
        assert_eq!(without_provenance(copied), without_provenance(want), "however it is cut and stored");
        if self.time == Time::Processing {
            let truth: BTreeMap<Key, (Evaluation, Map<String, Json>)> = keys()
                .into_iter()
                .map(|key| (key.clone(), self.table.look(&self.twin, &key, self.time, self.now)))
                .collect();
            self.told(&transitions, &truth, false);
            if expire {
                let transitions = self.window.expire(self.now);
                // What memory cannot evaluate may be named once too often, by an edge that a change has overtaken.
                let evaluated = |mut named: Vec<Transition>| {
                    named.retain(|named| named.evaluation != Evaluation::Unknown);
                    by_key(named)
                };
                assert_eq!(evaluated(self.copy.expire(self.now)), evaluated(transitions.clone()));
                self.told(&transitions, &truth, true);
                self.holds_no_more_than_the_table();
            }
            if look {
                assert_eq!(self.agree(), truth);
                self.holds_no_more_than_the_table();
            }
        } else {
            assert_eq!(transitions, self.window.expire(self.now), "time does not pass by itself: nothing");
        }
        if store {
            let bytes = postcard::to_extend(&self.copy.stored(), Vec::new()).unwrap();
            let stored: StoredWindow = postcard::from_bytes(&bytes).unwrap();
            self.copy = empty(&self.twin, self.time);
            self.copy.refill(stored);
            assert_eq!(self.copy.rows(), self.window.rows());
        }
        self.touched.clear();
        self.now = Timestamp(self.now.0 + seconds * SECOND);
    }

    fn looks(&mut self) -> BTreeMap<Key, (Evaluation, Map<String, Json>)> {
        keys().into_iter().map(|key| (key.clone(), self.window.evaluate(&key, self.now))).collect()
    }

    /// Every group looks as the table says, in both windows.
    fn agree(&mut self) -> BTreeMap<Key, (Evaluation, Map<String, Json>)> {
        let looks = self.looks();
        for (key, look) in &looks {
            assert_eq!(*look, self.table.look(&self.twin, key, self.time, self.now), "{key:?}");
            assert_eq!(self.copy.evaluate(key, self.now), *look, "{key:?} stored and read back");
        }
        if self.time == Time::Event {
            self.holds_no_more_than_the_table();
        }
        looks
    }

    fn holds_no_more_than_the_table(&self) {
        let inside = |key: &Key| self.table.inside(&self.twin, key, self.time, self.now).len();
        assert_eq!(self.window.rows(), keys().iter().map(inside).sum::<usize>());
    }

    /// The transitions are exactly the groups whose evaluation is another than when last evaluated. `all`: every
    /// group was evaluated, not only those touched.
    fn told(&mut self, transitions: &[Transition], looks: &BTreeMap<Key, (Evaluation, Map<String, Json>)>, all: bool) {
        let mut told = BTreeSet::new();
        for transition in transitions {
            let (evaluation, outputs) = &looks[&transition.key];
            assert!(told.insert(&transition.key), "told twice: {transition:?}");
            assert_eq!((transition.evaluation, &transition.outputs), (*evaluation, outputs), "{transition:?}");
            let before = self.evaluated.insert(transition.key.clone(), *evaluation);
            assert!(before != Some(*evaluation) || *evaluation == Evaluation::Unknown, "nothing new: {transition:?}");
            if self.time == Time::Processing {
                assert_eq!(transition.now, self.now);
            } else if self.twin.bounded {
                assert_eq!(transition.now, self.table.seen[&transition.key]);
            }
        }
        for (key, (evaluation, _)) in looks {
            if all || self.touched.contains(key) {
                assert_eq!(self.evaluated[key], *evaluation, "not told of {key:?}");
            }
            if *evaluation == Evaluation::Unknown && self.touched.contains(key) && self.time == Time::Processing {
                assert!(
                    told.contains(key) || all,
                    "what memory cannot evaluate is named whenever it was touched: {key:?}"
                );
            }
        }
    }
}

fn check(acts: &[Act], time: Time) {
    for twin in TWINS {
        let mut run = Run::new(twin, time);
        acts.iter().for_each(|act| run.act(act));
        run.act(&Act::Step { seconds: 2_000, look: false, expire: true, store: true });
        run.act(&Act::Step { seconds: 0, look: true, expire: true, store: false });
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn memory_says_what_the_table_says_under_the_wall_clock(acts in acts()) {
        check(&acts, Time::Processing);
    }

    #[test]
    fn memory_says_what_the_table_says_under_the_event_clock(acts in acts()) {
        check(&acts, Time::Event);
    }

    /// Where a group crosses once, the change named for it does not depend on how polls cut the stream.
    #[test]
    fn the_trigger_does_not_depend_on_the_steps(
        amounts in prop::collection::vec((0_i64..3, 1_i128..4_000), 1..20), cuts in any::<u32>(),
    ) {
        let told = |cuts: u32| {
            let mut window = empty(&TWINS[0], Time::Processing);
            let mut transitions = Vec::new();
            for (id, (user, cents)) in (0..).zip(&amounts) {
                let row = crate::support::paid(*user, *cents, t(0));
                let change = change(Op::Create, id, Some(row), Some(10));
                window.apply(&change, position(id), t(0));
                if cuts & (1 << id) != 0 {
                    transitions.extend(window.evaluate_touched(t(0)));
                }
            }
            transitions.extend(window.evaluate_touched(t(0)));
            by_key(transitions).into_iter().map(|t| (t.key, t.evaluation, t.trigger)).collect::<Vec<_>>()
        };
        prop_assert_eq!(told(cuts), told(0));
    }
}
