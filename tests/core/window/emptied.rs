//! Groups without rows, and the transactions that emptied them.

use tripline::change::{Change, Op};
use tripline::model::Key;
use tripline::rule::Time;
use tripline::rule::evaluate::Program;
use tripline::snapshot::Snapshot;
use tripline::window::Window;

use crate::support::{WANTED, WEEKLY, change, paid, position, query, t};

/// A group that a change has emptied is kept until the database shows that: what it answers meanwhile is of the rows that
/// are gone, also where the group has got others since.
#[test]
fn an_emptied_group_remembers_what_emptied_it() {
    let mut window = Window::new(Program::new(&query(WEEKLY), &WANTED).unwrap(), Time::Processing);
    let apply = |window: &mut Window, op, id, user: Option<i64>, tx| {
        let row = user.map(|user| paid(user, 100_000, t(0)));
        let change = Change { tx_id: Some(tx), ..change(op, id, row, Some(u64::from(tx))) };
        window.apply(&change, position(i64::from(tx)), t(1));
        window.evaluate_touched(t(1));
    };
    let snapshot = |text| Snapshot::parse(text).unwrap();
    apply(&mut window, Op::Create, 1, Some(7), 757);
    apply(&mut window, Op::Create, 2, Some(8), 757);
    window.saw(&snapshot("758:758:"));
    apply(&mut window, Op::Delete, 1, None, 758);
    apply(&mut window, Op::Update, 2, Some(9), 759);
    apply(&mut window, Op::Create, 3, Some(7), 760);
    assert_eq!(window.unseen(&Key::Int(7), &snapshot("758:761:758")), [758]);
    assert_eq!(window.unseen(&Key::Int(8), &snapshot("759:761:759")), [759]);
    window.saw(&snapshot("761:761:"));
    assert_eq!(window.groups(), 2, "users 7 and 9: nothing is left of user 8");
}

/// A truncate empties every group, also one of which memory has no row yet: an older insert of another partition comes
/// later and is ignored. Until the database shows the truncate, its answers contain that row.
#[test]
fn what_a_truncate_took_is_remembered_for_every_key() {
    let mut window = Window::new(Program::new(&query(WEEKLY), &WANTED).unwrap(), Time::Processing);
    let truncate = Change { tx_id: Some(760), pk: None, ..change(Op::Truncate, 1, None, Some(760)) };
    window.apply(&truncate, position(1), t(1));
    let older = change(Op::Create, 1, Some(paid(7, 100_000, t(0))), Some(757));
    window.apply(&Change { tx_id: Some(757), ..older }, position(2), t(1));
    assert_eq!(window.rows(), 0);
    let snapshot = |text| Snapshot::parse(text).unwrap();
    assert_eq!(window.unseen(&Key::Int(7), &snapshot("760:761:760")), [760]);
    assert_eq!(window.unseen(&Key::Int(7), &snapshot("761:761:")), [0; 0]);
}
