//! The effect of a stream's changes on a window, by name.

use tripline::change::{Change, Op};
use tripline::model::{Key, Lsn, Timestamp};
use tripline::rule::Time;
use tripline::rule::evaluate::{Evaluation, Program};
use tripline::window::{Applied, StoredWindow, Transition, Window};

use crate::support::{DAY, SECOND, WANTED, WEEKLY, change, paid, position, query, t};

const OVER: i128 = 350_000;
const UNDER: i128 = 1_000;

/// A window that counts the records.
struct Stream {
    window: Window,
    offset: i64,
}

impl Stream {
    fn new(clock: Time) -> Self {
        Self { window: Window::new(Program::new(&query(WEEKLY), &WANTED).unwrap(), clock), offset: 0 }
    }

    fn apply(&mut self, change: &Change) -> Applied {
        self.offset += 1;
        self.window.apply(change, position(self.offset - 1), t(0))
    }

    /// Total and number of rows of user 1.
    fn total(&mut self) -> (Option<String>, u64) {
        let (_, outputs) = self.window.evaluate(&Key::Int(1), t(0));
        (outputs["total"].as_str().map(str::to_owned), outputs["transactions"].as_u64().unwrap())
    }

    fn stored(&self) -> Self {
        let bytes = postcard::to_extend(&self.window.stored(), Vec::new()).unwrap();
        let stored: StoredWindow = postcard::from_bytes(&bytes).unwrap();
        let mut copy = Self::new(Time::Processing);
        copy.window.refill(stored);
        copy.offset = self.offset;
        copy
    }
}

fn put(op: Op, id: i64, cents: i128, lsn: Option<u64>) -> Change {
    change(op, id, Some(paid(1, cents, t(-DAY))), lsn)
}

fn gone(op: Op, id: i64, lsn: Option<u64>) -> Change {
    change(op, id, None, lsn)
}

#[test]
fn histories_end_as_the_table_does() {
    use Applied::{Incomplete, Stale, Taken};
    use Op::{Create, Delete, Read, Tombstone, Truncate, Update};
    let check = |name: &str, history: &[(Change, Applied)], total: Option<&str>, rows: u64| {
        // As it is, and stored and read back before each of its changes.
        for cut in 0..=history.len() {
            let mut stream = Stream::new(Time::Processing);
            for (index, (change, want)) in history.iter().enumerate() {
                if index == cut {
                    stream.window.evaluate_touched(t(0));
                    stream = stream.stored();
                }
                assert_eq!(stream.apply(change), *want, "{name}: change {index}, stored before {cut}");
            }
            assert_eq!(stream.total(), (total.map(str::to_owned), rows), "{name}, stored before {cut}");
            assert_eq!(stream.window.rows() as u64, rows, "{name}, stored before {cut}");
        }
    };
    let create = |id, cents, lsn| put(Create, id, cents, Some(lsn));
    let update = |id, cents, lsn| put(Update, id, cents, Some(lsn));
    let delete = |id, lsn| gone(Delete, id, Some(lsn));

    check("an exact duplicate", &[(create(1, 5, 10), Taken), (create(1, 5, 10), Taken)], Some("0.05"), 1);
    check(
        "a stale duplicate is ignored",
        &[(create(1, 5, 10), Taken), (update(1, 7, 12), Taken), (create(1, 5, 10), Stale)],
        Some("0.07"),
        1,
    );
    check(
        "a snapshot's read overwrites, and an older transaction that was open across it still applies",
        &[
            (create(1, 5, 10), Taken),
            (put(Read, 1, 6, Some(50)), Taken),
            (update(1, 7, 20), Taken),
            (create(1, 5, 10), Stale),
        ],
        Some("0.07"),
        1,
    );
    check(
        "a read keeps the streamed version that it overwrites",
        &[(update(1, 7, 20), Taken), (put(Read, 1, 6, None), Taken), (create(1, 5, 10), Stale)],
        Some("0.06"),
        1,
    );
    check(
        "a read of a row that is not there carries no version",
        &[(put(Read, 1, 6, Some(50)), Taken), (create(1, 5, 10), Taken)],
        Some("0.05"),
        1,
    );
    check("a delete of an unknown row", &[(delete(9, 10), Taken), (gone(Delete, 8, None), Taken)], None, 0);
    check("a delete without lsn", &[(create(1, 5, 10), Taken), (gone(Delete, 1, None), Taken)], None, 0);
    check(
        "a stale delete",
        &[(create(1, 5, 10), Taken), (delete(1, 9), Stale), (delete(1, 10), Stale)],
        Some("0.05"),
        1,
    );
    check(
        "a tombstone of a row that no delete has taken out: the table is to be asked whose it is",
        &[(create(1, 5, 10), Taken), (gone(Tombstone, 1, None), Incomplete), (gone(Tombstone, 2, None), Taken)],
        Some("0.05"),
        1,
    );
    check(
        "a primary-key change is a delete and a create with one lsn",
        &[
            (create(1, 5, 10), Taken),
            (delete(1, 11), Taken),
            (gone(Tombstone, 1, None), Taken),
            (create(2, 5, 11), Taken),
            // And again, from its create on.
            (create(1, 5, 10), Taken),
            (delete(1, 11), Taken),
            (gone(Tombstone, 1, None), Taken),
            (create(2, 5, 11), Taken),
        ],
        Some("0.05"),
        1,
    );
    check(
        "a delete comes before a create at one lsn",
        &[(delete(1, 11), Taken), (create(1, 5, 11), Taken), (delete(1, 11), Stale)],
        Some("0.05"),
        1,
    );
    check(
        "a truncate is a floor",
        &[
            (create(1, 5, 10), Taken),
            (create(2, 6, 11), Taken),
            (gone(Truncate, 0, Some(20)), Taken),
            (create(1, 5, 10), Stale),
            (delete(1, 12), Stale),
            (gone(Truncate, 0, Some(15)), Stale),
            (create(3, 7, 21), Taken),
            (put(Read, 4, 8, Some(5)), Stale),
            (put(Create, 5, 9, None), Taken),
        ],
        Some("0.16"),
        2,
    );
    check(
        "a truncate keeps what is newer, which came before it from another partition",
        &[
            (create(1, 5, 10), Taken),
            (create(2, 6, 30), Taken),
            (put(Read, 3, 7, Some(25)), Taken),
            (put(Read, 4, 8, Some(15)), Taken),
            (gone(Truncate, 0, Some(20)), Taken),
        ],
        Some("0.13"),
        2,
    );
    check(
        "a snapshot's read is older than what was written after its snapshot",
        &[(update(1, 7, 60), Taken), (put(Read, 1, 6, Some(50)), Stale), (put(Read, 1, 8, Some(70)), Taken)],
        Some("0.08"),
        1,
    );
    check(
        "a row that leaves for another group",
        &[
            (create(1, 5, 10), Taken),
            (create(2, 6, 11), Taken),
            (change(Update, 2, Some(paid(2, 6, t(-9 * DAY))), Some(12)), Taken),
        ],
        Some("0.05"),
        1,
    );
}

/// A topic of several partitions brings the changes of a row in any order, while it is read from long ago.
#[test]
fn deleted_rows_are_remembered_while_older_changes_may_come() {
    use Applied::{Stale, Taken};
    let mut stream = Stream::new(Time::Processing);
    stream.window.remember_deletes(true);
    assert_eq!(stream.apply(&gone(Op::Delete, 1, Some(20))), Taken);
    assert_eq!(stream.apply(&put(Op::Create, 1, 5, Some(10))), Stale);
    assert_eq!(stream.apply(&put(Op::Read, 1, 5, Some(15))), Stale);
    let mut stream = stream.stored();
    assert_eq!(stream.apply(&put(Op::Update, 1, 5, Some(11))), Stale, "a restart does not forget");
    assert_eq!(stream.apply(&put(Op::Create, 1, 7, Some(30))), Taken);
    assert_eq!(stream.total(), (Some("0.07".to_owned()), 1));
    assert_eq!(stream.apply(&gone(Op::Delete, 1, Some(40))), Taken);
    stream.window.remember_deletes(false);
    assert_eq!(stream.apply(&put(Op::Create, 1, 9, Some(10))), Taken, "forgotten");
}

/// An incremental snapshot's reads say nothing of when they were: whether a truncate of another partition came before them, the
/// table knows.
#[test]
fn rows_without_a_position_are_in_doubt_after_another_partitions_truncate() {
    use Applied::{Incomplete, Taken};
    for several in [false, true] {
        let mut stream = Stream::new(Time::Processing);
        stream.window.remember_deletes(several);
        assert_eq!(stream.apply(&put(Op::Read, 1, 5, None)), Taken);
        assert_eq!(stream.apply(&put(Op::Create, 2, 7, Some(10))), Taken);
        assert_eq!(stream.apply(&put(Op::Create, 3, 9, Some(30))), Taken);
        let truncate = Change { pk: None, ..gone(Op::Truncate, 0, Some(20)) };
        assert_eq!(stream.apply(&truncate), Taken);
        let (in_doubt, rows) = if several { (vec![Key::Int(1)], 2) } else { (vec![], 1) };
        assert_eq!(stream.window.take_in_doubt(), in_doubt);
        assert_eq!(stream.total().1, rows, "{several}");
        // The partition of the reads may also come after that of the truncate.
        let read = if several { Incomplete } else { Taken };
        assert_eq!(stream.apply(&put(Op::Read, 4, 5, None)), read);
        assert_eq!(stream.apply(&put(Op::Read, 3, 9, None)), Taken, "what was streamed after the truncate stays");
    }
}

/// Windows come from the table, while an older insert is still to be read in another partition than the truncate after it was.
#[test]
fn what_a_load_did_not_bring_is_in_doubt_while_older_changes_may_come() {
    use Applied::{Incomplete, Taken};
    for several in [false, true] {
        let mut stream = Stream::new(Time::Processing);
        stream.window.remember_deletes(several);
        stream.window.load(&Key::Int(1), &paid(1, 5, t(-DAY)), t(0));
        stream.window.loaded(Lsn(20));
        let mut stream = stream.stored();
        stream.window.remember_deletes(several);
        assert_eq!(stream.apply(&put(Op::Create, 1, 5, Some(9))), Taken, "the load brought it");
        let doubted = if several { Incomplete } else { Taken };
        assert_eq!(stream.apply(&put(Op::Create, 2, 7, Some(20))), doubted, "{several}");
        assert_eq!(stream.apply(&put(Op::Create, 3, 9, Some(21))), Taken, "it is newer");
        let outside = Change { row: Some(paid(1, 9, t(-9 * DAY))), ..put(Op::Create, 4, 9, Some(10)) };
        assert_eq!(stream.apply(&outside), Taken, "no load would bring it");
    }
}

fn evaluated(transitions: &[Transition]) -> Vec<(Evaluation, Option<i64>, Option<Timestamp>)> {
    let trigger = |t: &Transition| t.trigger.as_ref().map(|trigger| trigger.position.offset);
    let time = |t: &Transition| t.trigger.as_ref().and_then(|trigger| trigger.event_time);
    transitions.iter().map(|t| (t.evaluation, trigger(t), time(t))).collect()
}

#[test]
fn a_crossing_inside_one_step_is_an_event_under_the_event_clock_only() {
    for (clock, want) in [
        (Time::Processing, vec![]),
        (Time::Event, vec![(Evaluation::Holds, Some(0), Some(t(-DAY))), (Evaluation::Fails, Some(1), None)]),
    ] {
        let mut stream = Stream::new(clock);
        stream.apply(&put(Op::Create, 1, OVER, Some(10)));
        stream.apply(&gone(Op::Delete, 1, Some(11)));
        let transitions = stream.window.evaluate_touched(t(0));
        assert_eq!(evaluated(&transitions), want, "{clock:?}");
        assert_eq!(stream.window.evaluate_touched(t(0)), [], "{clock:?}: said once");
    }
}

#[test]
fn the_trigger_is_the_change_that_crossed() {
    let history: Vec<Change> = (0..6).map(|id| put(Op::Create, id, 100_001, Some(10 + id.cast_unsigned()))).collect();
    for clock in [Time::Processing, Time::Event] {
        for cuts in 0..1_u32 << history.len() {
            let mut stream = Stream::new(clock);
            let mut transitions = Vec::new();
            for (index, change) in history.iter().enumerate() {
                stream.apply(change);
                if cuts & (1 << index) != 0 {
                    transitions.extend(stream.window.evaluate_touched(t(0)));
                }
            }
            transitions.extend(stream.window.evaluate_touched(t(0)));
            assert_eq!(
                evaluated(&transitions),
                [(Evaluation::Holds, Some(2), Some(t(-DAY)))],
                "{clock:?}, cuts {cuts:b}"
            );
            let trigger = transitions[0].trigger.as_ref().unwrap();
            assert_eq!((trigger.op.as_str(), &trigger.pk, trigger.tx_id), ("c", &Some(Key::Int(2)), Some(757)));
        }
    }
}

#[test]
fn time_alone_resolves_and_names_no_change() {
    let mut stream = Stream::new(Time::Processing);
    stream.apply(&put(Op::Create, 1, OVER, Some(10)));
    stream.apply(&change(Op::Create, 2, Some(paid(1, UNDER, t(0))), Some(11)));
    assert_eq!(evaluated(&stream.window.evaluate_touched(t(0))), [(Evaluation::Holds, Some(0), Some(t(-DAY)))]);
    let edge = 6 * DAY;
    assert_eq!(stream.window.expire(t(edge)), [], "the row stands on the edge, which is inclusive");
    assert_eq!(evaluated(&stream.window.expire(t(edge + 1))), [(Evaluation::Fails, None, None)]);
    assert_eq!((stream.window.rows(), stream.window.groups()), (1, 1));
    assert_eq!(stream.window.expire(t(7 * DAY + SECOND)), [], "a group that is quiet leaves without a word");
    assert_eq!((stream.window.rows(), stream.window.groups()), (0, 1), "no snapshot has shown its transactions yet");
    stream.window.saw(&tripline::snapshot::Snapshot::parse("758:758:").unwrap());
    assert_eq!((stream.window.rows(), stream.window.groups()), (0, 0));
}

#[test]
fn the_instant_of_the_event_clock_never_goes_back() {
    let mut stream = Stream::new(Time::Event);
    stream.apply(&change(Op::Create, 1, Some(paid(1, OVER, t(30 * DAY))), Some(10)));
    stream.apply(&gone(Op::Delete, 1, Some(11)));
    stream.apply(&change(Op::Create, 2, Some(paid(1, OVER, t(0))), Some(12)));
    let transitions = stream.window.evaluate_touched(t(0));
    assert_eq!(transitions.iter().map(|t| t.now).collect::<Vec<_>>(), [t(30 * DAY), t(30 * DAY)]);
    assert_eq!(stream.window.now_for(&Key::Int(1), t(0)), t(30 * DAY));
    assert_eq!(stream.window.now_for(&Key::Int(2), t(0)), t(0), "a group never seen");
    assert_eq!((stream.window.rows(), stream.total()), (0, (None, 0)), "row 2 is out of the window");
    assert_eq!(stream.window.bounds(t(0)), (Some(t(-7 * DAY)), t(0)));
}

#[test]
fn judging_everything_names_what_holds_whatever_was_judged_before() {
    let mut stream = Stream::new(Time::Processing);
    for user in [3, 1, 2] {
        stream.apply(&change(
            Op::Create,
            user,
            Some(paid(user, OVER - 100_000 * i128::from(user == 2), t(0))),
            Some(1),
        ));
    }
    assert_eq!(stream.window.evaluate_touched(t(0)).len(), 2);
    for _ in 0..2 {
        let keys: Vec<Key> = stream.window.evaluate_all(t(0)).into_iter().map(|t| t.key).collect();
        assert_eq!(keys, [Key::Int(1), Key::Int(3)]);
    }
}
