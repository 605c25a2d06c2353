//! Months, and days over a change of the clocks: the left edge does not only go forward.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;
use tripline::change::Op;
use tripline::model::zone::Zone;
use tripline::model::{ColumnType, Key, Timestamp, Value};
use tripline::rule::Time;
use tripline::rule::evaluate::{Evaluation, Program};
use tripline::window::{StoredWindow, Window};

use crate::support::{DAY, HOUR, WANTED, change, instant, position, query_on, row, transactions};

/// Clocks in Berlin, an island whose summer is half an hour, one that went over the date line, and UTC.
fn zones() -> [Zone; 4] {
    let at = |text: &str| instant(text).0 / 1_000_000;
    let summers = |summer: i64, winter: i64| {
        [
            (at("2026-03-29T01:00:00Z"), summer),
            (at("2026-10-25T01:00:00Z"), winter),
            (at("2027-03-28T01:00:00Z"), summer),
            (at("2027-10-31T01:00:00Z"), winter),
        ]
    };
    [
        Zone::new("Europe/Berlin", 3_600, summers(7_200, 3_600)),
        Zone::new("Australia/Lord_Howe", 37_800, summers(39_600, 37_800)),
        Zone::new(
            "Pacific/Apia",
            -36_000,
            [(at("2026-03-30T10:00:00Z"), 50_400), (at("2026-10-26T10:00:00Z"), -36_000)],
        ),
        Zone::default(),
    ]
}

fn program(back: &str, operator: &str, ty: ColumnType, zone: &Zone) -> Program {
    let mut table = transactions(ColumnType::Int8);
    table.columns[3].ty = ty;
    let sql = format!(
        "SELECT user_id, COUNT(*) AS n FROM streaming.transactions WHERE timestamp {operator} NOW() - INTERVAL '{back}' \
         GROUP BY user_id HAVING COUNT(*) >= 2"
    );
    let mut query = query_on(&table, &sql);
    query.zone = Arc::new(zone.clone());
    Program::new(&query, &WANTED).unwrap()
}

#[test]
fn edges_of_postgres() {
    // Each line was asked of PostgreSQL 15; `zones.rs` of the stack's tests asks it at random.
    let [berlin, howe, ..] = zones();
    let check = |zone: &Zone, now: &str, back: &str, want: &str| {
        let edge = program(back, ">=", ColumnType::TimestampTz, zone).left_edge(instant(now));
        assert_eq!(edge.at().rfc3339(), want, "{now} − {back} in {zone:?}");
    };
    check(&berlin, "2026-03-30T10:00:00Z", "1 day", "2026-03-29T10:00:00Z");
    check(&berlin, "2026-03-29T10:00:00Z", "1 day", "2026-03-28T11:00:00Z");
    check(&berlin, "2026-03-30T00:30:00Z", "1 day", "2026-03-29T01:30:00Z"); // 02:30, which was skipped
    check(&berlin, "2026-10-26T01:30:00Z", "1 day", "2026-10-25T01:30:00Z"); // 02:30, which came twice
    check(&berlin, "2026-10-25T00:30:00Z", "1 day", "2026-10-24T00:30:00Z");
    check(&berlin, "2026-10-25T01:30:00Z", "1 day", "2026-10-24T00:30:00Z"); // the same once more
    check(&berlin, "2026-04-15T10:00:00Z", "1 month", "2026-03-15T11:00:00Z");
    check(&berlin, "2026-03-31T22:30:00Z", "1 month 1 hour", "2026-02-28T22:30:00Z"); // 1 April there
    check(&howe, "2026-03-30T02:00:00Z", "1 day", "2026-03-29T02:00:00Z");
}

/// Where a row is put.
#[derive(Clone, Copy, Debug)]
enum Place {
    /// So long before NOW().
    Ago(i64),
    /// So far from the left edge.
    FromEdge(i64),
}

/// Memory against counting from scratch at every step of time, whatever time does to the edge.
fn history(program: &Program, local: Option<&Zone>, start: i64, acts: &[(i64, Option<(i64, Place)>)], store: usize) {
    let mut window = Window::new(program.clone(), Time::Processing);
    let mut table: BTreeMap<i64, i64> = BTreeMap::new();
    let mut known: BTreeMap<Key, Evaluation> = BTreeMap::new();
    let mut now = start;
    for (index, (passes, put)) in acts.iter().enumerate() {
        now += passes;
        if let Some((id, place)) = put {
            let at = match place {
                Place::Ago(age) => now - age,
                Place::FromEdge(delta) => program.left_edge(Timestamp(now)).at().0 + delta,
            };
            let time = local.map_or(at, |zone| zone.local(Timestamp(at)));
            let op = if table.insert(*id, time).is_some() { Op::Update } else { Op::Create };
            let row = row(Value::Int(1), Value::Decimal(1), Value::Time(Timestamp(time)));
            window.apply(
                &change(op, *id, Some(row), Some(1 + index as u64)),
                position(i64::try_from(index).unwrap()),
                Timestamp(now),
            );
        }
        if index == store {
            let bytes = postcard::to_allocvec(&window.stored()).unwrap();
            window = Window::new(program.clone(), Time::Processing);
            window.refill(postcard::from_bytes::<StoredWindow>(&bytes).unwrap());
        }
        let mut transitions = window.evaluate_touched(Timestamp(now));
        transitions.extend(window.expire(Timestamp(now)));
        known.extend(transitions.into_iter().map(|transition| (transition.key, transition.evaluation)));
        let edge = program.left_edge(Timestamp(now));
        let inside = table.values().filter(|time| edge.admits(program.instant(Timestamp(**time)))).count();
        let want = if inside >= 2 { Evaluation::Holds } else { Evaluation::Fails };
        let told = known.get(&Key::Int(1)).copied().unwrap_or_default();
        assert_eq!(told, want, "step {index} at {}, {inside} inside of {edge:?}", Timestamp(now));
        let (_, outputs) = window.evaluate(&Key::Int(1), Timestamp(now));
        assert_eq!(outputs["n"], inside, "step {index} at {}", Timestamp(now));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn a_row_comes_back_when_the_edge_does(
        zone in 0_usize..4,
        back in prop_oneof![
            Just("1 day"), Just("1 month"), Just("2 days 3 hours"), Just("1 month 1 day"), Just("2 months"), Just("1 hour"),
        ],
        operator in prop_oneof![Just(">"), Just(">=")],
        ty in prop_oneof![
            Just(ColumnType::TimestampTz), Just(ColumnType::Timestamp { precision: 6 }), Just(ColumnType::Date),
        ],
        // Around the changes of the clocks and the ends of February and October.
        start in prop_oneof![
            Just("2026-03-28T20:00:00Z"), Just("2026-03-27T00:00:00Z"), Just("2026-10-24T00:00:00Z"),
            Just("2026-10-25T20:00:00Z"), Just("2026-03-29T20:00:00Z"), Just("2026-10-30T12:00:00Z"), Just("2026-04-28T00:00:00Z"), Just("2026-11-25T00:00:00Z"),
        ],
        acts in prop::collection::vec(
            (
                prop_oneof![4 => 0..3 * HOUR, 4 => 0..HOUR / 2, 1 => 0..20 * HOUR, 1 => 0..20 * DAY, 1 => Just(HOUR / 2), 1 => Just(1)],
                prop::option::weighted(0.5, (0_i64..6, prop_oneof![
                    2 => (-2 * HOUR..40 * HOUR).prop_map(Place::Ago),
                    4 => (-2 * HOUR..3 * HOUR).prop_map(Place::FromEdge),
                    3 => (0..3 * DAY).prop_map(Place::FromEdge),
                    1 => Just(Place::FromEdge(0)),
                ])),
            ),
            1..60,
        ),
        store in 0_usize..120,
    ) {
        let zone = &zones()[zone];
        let program = program(back, operator, ty.clone(), zone);
        history(&program, ty.is_local().then_some(zone), instant(start).0, &acts, store);
    }
}

/// 28 February is a month before 28, 29, 30 and 31 March.
#[test]
fn a_row_of_february_comes_back_at_the_end_of_march() {
    let program = program("1 month", ">=", ColumnType::TimestampTz, &Zone::default());
    let start = instant("2026-03-01T00:00:00Z").0;
    let at = |text: &str| instant(text).0 - start;
    let mut passed = 0;
    let mut step = |text: &str| {
        let step = at(text) - passed;
        passed = at(text);
        (step, None)
    };
    let put = |id: i64| (0, Some((id, Place::Ago(start - instant("2026-02-28T12:00:00Z").0))));
    let steps = ["2026-03-28T11:59:00Z", "2026-03-28T13:00:00Z", "2026-03-29T00:00:00Z", "2026-03-29T12:00:01Z"];
    let mut acts = vec![put(1), put(2)];
    acts.extend(steps.map(&mut step));
    acts.extend(["2026-03-31T01:00:00Z", "2026-03-31T13:00:00Z", "2026-04-01T00:00:00Z"].map(&mut step));
    history(&program, None, start, &acts, 3);
}
