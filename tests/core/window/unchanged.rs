//! What a comparison with the table needs to know about a group since the question.

use tripline::change::Op;
use tripline::model::Key;
use tripline::rule::Time;
use tripline::rule::evaluate::Program;
use tripline::window::Window;

use crate::support::{DAY, SECOND, WANTED, WEEKLY, change, paid, position, query, t};

/// The table may show a change of a row that leaves the window before the change is read. Then the change touches nothing, and the
/// difference is no drift.
#[test]
fn a_row_that_has_left_is_a_change() {
    let ask = |window: &mut Window, now| {
        window.evaluate(&Key::Int(7), now);
        window.note_changes(&Key::Int(7));
        assert!(window.is_quiet(&Key::Int(7)) && window.is_unchanged(&Key::Int(7)));
    };
    let filled = |rows: &[(i64, i64)]| {
        let mut window = Window::new(Program::new(&query(WEEKLY), &WANTED).unwrap(), Time::Processing);
        for (id, at) in rows {
            window.apply(&change(Op::Create, *id, Some(paid(7, 500, t(*at))), Some(1)), position(*id), t(*at));
        }
        window.evaluate_touched(t(0));
        window
    };

    // The row was here: nothing is known of its delete.
    let mut window = filled(&[(1, 0), (2, SECOND)]);
    ask(&mut window, t(7 * DAY));
    let later = t(7 * DAY + 1);
    window.expire(later);
    window.apply(&change(Op::Delete, 1, None, Some(9)), position(9), later);
    assert!(window.is_quiet(&Key::Int(7)) && !window.is_unchanged(&Key::Int(7)));

    // The row was another group's, or not here at all.
    let mut window = filled(&[(2, SECOND)]);
    ask(&mut window, t(7 * DAY));
    window.apply(&change(Op::Update, 1, Some(paid(7, 900, t(0))), Some(9)), position(9), later);
    assert!(window.is_quiet(&Key::Int(7)) && !window.is_unchanged(&Key::Int(7)));

    // One that is inside of the window touches the group.
    window.note_changes(&Key::Int(7));
    window.apply(&change(Op::Update, 2, Some(paid(7, 900, t(SECOND))), Some(10)), position(10), later);
    assert!(!window.is_quiet(&Key::Int(7)) && !window.is_unchanged(&Key::Int(7)));

    // Time that takes nothing from it changes nothing.
    ask(&mut window, later);
    window.expire(t(7 * DAY + 2));
    assert!(window.is_unchanged(&Key::Int(7)));
}
