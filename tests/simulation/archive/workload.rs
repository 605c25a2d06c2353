//! The records in the archive's topic: changes of every kind, records that are not rows, and offsets without a record.

use std::collections::BTreeSet;
use std::rc::Rc;
use std::sync::Arc;

use tripline::change::full_row::{Cell, Field, FieldType, FullRowChange};
use tripline::change::record::{Content, DeadLetter};
use tripline::change::{Op, Reject, RejectKind};
use tripline::model::{Lsn, Position, Timestamp};

use super::{BORN, World};
use crate::random::Random;

const DAY_MICROS: i64 = 86_400_000_000;

/// A column of dates, by which some runs sort the rows.
pub(super) const CREATED_AT: &str = "created_at";

/// The expected result of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Expected {
    /// A row, in the folder of one of these dates: by commit, or by the column.
    Row(BTreeSet<String>),
    /// A dead letter.
    Dead,
    /// Nothing.
    Nothing,
}

/// Fills the topic until `until`.
pub(super) async fn run(world: Rc<World>, random: Random, until: u64) {
    let field = |name: &str, ty| Field { name: name.to_owned(), ty };
    let narrow: Arc<[Field]> = [field("order_id", FieldType::Int64), field(CREATED_AT, FieldType::TimestampTz)].into();
    let wide: Arc<[Field]> = narrow.iter().cloned().chain([field("tip", FieldType::Int32)]).collect();
    let mut fields = Arc::clone(&narrow);
    let mut order = 0;
    while world.wire.now() < until {
        world.wire.pass(1 + random.below(world.plan.pause)).await;
        if random.percent(3) {
            fields = Arc::clone(if random.percent(50) { &wide } else { &narrow });
        }
        for _ in 0..random.between(1, 6) {
            let partition = i32::try_from(random.below(u64::try_from(world.plan.partitions).unwrap())).unwrap();
            order += 1;
            match random.below(100) {
                0..5 => push(&world, partition, Expected::Nothing, |_| Content::Ignored("heartbeat")),
                5..10 => world.broker.state().partitions.get_mut(&partition).unwrap().high += 1,
                10..100 if random.percent(world.plan.bad) => push(&world, partition, Expected::Dead, |position| {
                    let reject = Reject { kind: RejectKind::Json, detail: "not JSON".to_owned() };
                    Content::Rejected(Box::new(DeadLetter::new(position, reject, None, Some(b"value"), [])))
                }),
                _ => row(&world, partition, &fields, order, &random),
            }
        }
    }
}

fn row(world: &World, partition: i32, fields: &Arc<[Field]>, order: i64, random: &Random) {
    let day = |random: &Random| i64::try_from(random.below(3)).unwrap() * DAY_MICROS;
    let (created, committed_at) = (BORN.0 + day(random), Timestamp(BORN.0 + day(random)));
    let op = *random.pick(&[Op::Create, Op::Create, Op::Create, Op::Update, Op::Read, Op::Delete, Op::Truncate]);
    let is_dated = matches!(op, Op::Create | Op::Update | Op::Read);
    let mut cells = vec![Cell::Int(order), if is_dated { Cell::Int(created) } else { Cell::Null }];
    cells.resize(fields.len(), Cell::Int(5));
    let dates = [Some(committed_at), is_dated.then_some(Timestamp(created))].into_iter().flatten();
    let dates = dates.map(|at| at.date().unwrap().to_string()).collect();
    let (fields, cells) = (Arc::clone(fields), cells.into());
    let lsn = Some(Lsn(u64::try_from(order).unwrap()));
    let change = FullRowChange { op, lsn, tx_id: Some(7), committed_at, is_described: true, fields, cells };
    push(world, partition, Expected::Row(dates), |_| Content::Change(change));
}

fn push(world: &World, partition: i32, expected: Expected, content: impl FnOnce(Position) -> Content<FullRowChange>) {
    let offset = world.broker.append(partition, |offset| content(Position { partition, offset }));
    world.expected.borrow_mut().insert((partition, offset), expected);
}
