//! Records that do not say all of their row: what they do say counts, and the table is asked for the rest.

use tripline::change::{Change, Hole, HoleCause, Op};
use tripline::model::{Key, Value};
use tripline::rule::Confirm;

use super::support::{World, firing, resolved};

/// Slots of user and amount.
const USER: usize = 0;
const AMOUNT: usize = 1;

impl World {
    /// Writes a row that the table has completely, with a record that lacks this column.
    fn write_without(&self, op: Op, id: i64, user: i64, amount: &str, slot: usize, cause: HoleCause) {
        self.put(id, user, amount, self.now());
        let mut row = Self::row(user, amount, self.now());
        row[slot] = Value::Opaque;
        let change = self.change(op, id, Some(row));
        self.topic.push(0, Change { holes: vec![Hole { slot, cause }], ..change });
    }
}

#[tokio::test(start_paused = true)]
async fn the_table_is_asked_for_what_a_record_does_not_say() {
    for (slot, cause) in [(USER, HoleCause::Unreadable), (AMOUNT, HoleCause::Unreadable), (USER, HoleCause::Unchanged)]
    {
        let world = World::new();
        world.create(1, 7, "2000.00");
        world.write_without(Op::Create, 2, 7, "1500.00", slot, cause);
        world.create(3, 8, "100.00");
        world.read().await;
        world.want(&[firing(7)]);
        assert!(world.sinks.alerts()[0].body.contains(r#""total":"3500.00""#), "{slot} {cause:?}");
        // The row is known from here on.
        world.update(2, 7, "500.00");
        world.read().await;
        world.want(&[firing(7), resolved(7)]);
    }
}

/// Unchanged values are known, so Postgres is not asked.
#[tokio::test(start_paused = true)]
async fn what_a_change_left_alone_is_taken_from_the_row_before() {
    let world = World::new();
    world.create(1, 7, "2000.00");
    world.create(2, 7, "1000.00");
    world.write_without(Op::Update, 2, 7, "1500.00", USER, HoleCause::Unchanged);
    let counts = world.read().await;
    assert_eq!((counts.fired, world.db.looked_up()), (1, Vec::<Key>::new()));
    world.want(&[firing(7)]);
}

#[tokio::test(start_paused = true)]
async fn a_restart_does_not_forget_what_is_to_be_asked() {
    let mut world = World::new();
    world.create(1, 7, "2000.00");
    world.write_without(Op::Create, 2, 7, "1500.00", USER, HoleCause::Unreadable);
    world.db.go_away(Some("away"));
    world.settings.until_end = false;
    world.monitor().run(tokio::time::sleep(std::time::Duration::from_secs(5))).await.unwrap();
    world.want(&[]);
    world.db.go_away(None);
    world.settings.until_end = true;
    let counts = world.read().await;
    assert_eq!((counts.read, counts.replayed, counts.fired), (0, 0, 1));
    world.want(&[firing(7)]);
}

/// Where nobody is asked before an alert, a key waits for what the table says of its rows.
#[tokio::test(start_paused = true)]
async fn what_is_not_confirmed_is_not_evaluated_with_rows_in_doubt() {
    let mut world = World::new();
    world.rules[0].confirm = Confirm::Off;
    world.create(1, 7, "2000.00");
    world.create(2, 7, "1500.00");
    world.create(3, 8, "4000.00");
    world.create(4, 9, "4000.00");
    // Unwrapped records say no more of a delete than this.
    world.db.delete(&Key::Int(1));
    world.tombstone(1);
    // This one is of another table.
    world.tombstone(4);
    world.read().await;
    let mut told = world.told();
    told.sort_unstable();
    assert_eq!(told, [firing(8), firing(9)]);
    world.create(5, 7, "1600.00");
    world.read().await;
    assert_eq!(world.told().last(), Some(&firing(7)));
}

/// A tombstone names a key, and no table: the rows of another table in the same topic are not ours.
#[tokio::test(start_paused = true)]
async fn a_tombstone_takes_out_only_what_the_table_does_not_have() {
    let world = World::new();
    for id in 1..=5 {
        world.create(id, 7, "500.00");
    }
    world.create(6, 8, "4000.00");
    world.read().await;
    world.want(&[firing(8)]);
    for id in 1..=5 {
        world.tombstone(id);
    }
    world.db.delete(&Key::Int(6));
    world.tombstone(6);
    world.create(7, 7, "600.00");
    world.read().await;
    world.want(&[firing(8), firing(7), resolved(8)]);
}
