//! Memory proposes. Only what Postgres confirms is delivered.

use std::time::Duration;

use super::support::{World, firing, resolved};
use super::timeline::Timeline;
use tripline::change::Op;
use tripline::model::{Key, Timestamp};
use tripline::monitor::counts::Counts;

#[tokio::test(start_paused = true)]
async fn refuted_is_never_told() {
    let world = World::new();
    world.stream(Op::Create, 1, 7, "4000.00", world.now());
    let counts = world.read().await;
    assert_eq!(counts, Counts { read: 1, candidates: 1, refuted: counts.refuted, ..Counts::default() });
    assert!(counts.refuted >= 1);
    world.want(&[]);
}

#[tokio::test(start_paused = true)]
async fn undecided_is_asked_again_with_back_off() {
    let mut world = World::new();
    world.settings.until_end = false;
    world.db.hide(1);
    world.stream(Op::Create, 1, 7, "4000.00", world.now());
    world.monitor().run(tokio::time::sleep(Duration::from_secs(200))).await.unwrap();
    let asked: Vec<i64> = world.db.asked().iter().map(|asked| asked.now.0 / 1_000).collect();
    let waits: Vec<i64> = asked.windows(2).map(|pair| pair[1] - pair[0]).collect();
    let want = [250, 500, 1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000, 30_000, 30_000, 30_000];
    assert_eq!(waits.len(), want.len(), "{waits:?}");
    assert!(waits.iter().zip(want).all(|(got, want)| (want..=want + 5).contains(got)), "{waits:?}");
    world.want(&[]);
}

/// The stream has a row that the table does not show, although it shows the row's transaction: after five answers
/// the group's rows are read from the table, and memory says the same as Postgres.
#[tokio::test(start_paused = true)]
async fn drift_is_mended() {
    let mut world = World::new();
    let mut line = Timeline::default();
    line.at(1).create(2, 7, "100.00");
    line.at(2).stream(1, 7, "4000.00");
    line.at(60).update(1, 7, "3500.00"); // now the table has it as well
    line.want(60, firing(7));
    line.play(&mut world, 100).await;
    let early = world.db.asked().iter().filter(|asked| asked.now.0 < world.now().0 - 41_000_000).count();
    assert_eq!(early, 5, "asked no more once the table's rows are held");
    assert!(world.sinks.alerts()[0].body.contains(r#""stream":{"transactions":2,"total":"3600.00"}"#));
}

/// The database is away when a group crosses, and when time takes it back: Postgres is asked as of the crossing.
#[tokio::test(start_paused = true)]
async fn what_time_took_while_the_database_was_away_is_told() {
    let mut world = World::new();
    let leaves_soon = Timestamp(world.now().0 - 7 * 86_400 * 1_000_000 + 10_000_000);
    let mut line = Timeline::default();
    line.at(1).does(|world| world.db.go_away(Some("away")));
    line.at(2).does(move |world| {
        world.create_at(1, 7, "4000.00", leaves_soon);
    });
    line.at(20).does(|world| world.db.go_away(None));
    line.want(33, firing(7));
    line.want(33, resolved(7));
    line.play(&mut world, 100).await;
    let body = &world.sinks.alerts()[0].body;
    assert!(body.contains(r#""database":{"transactions":1,"total":"4000.00"}"#), "{body}");
    assert!(body.contains(r#""stream":{"transactions":1,"total":"4000.00"}"#), "{body}");
}

#[tokio::test(start_paused = true)]
async fn reading_pauses_at_the_bound_of_rows() {
    let mut world = World::new();
    world.settings.rows_max = Some(3);
    let leaves_soon = Timestamp(world.now().0 - 7 * 86_400 * 1_000_000 + 30_000_000);
    let mut line = Timeline::default();
    for id in 1..=3 {
        line.at(id).does(move |world| {
            world.create_at(i64::try_from(id).unwrap(), 1, "1.00", leaves_soon);
        });
    }
    line.at(10).create(4, 7, "4000.00"); // not read before the rows have left
    line.want(30, firing(7));
    line.play(&mut world, 100).await;
}

#[tokio::test(start_paused = true)]
async fn a_sweep_finds_what_the_stream_has_missed() {
    let mut world = World::new();
    world.settings.sweep_interval = Some(Duration::from_secs(30));
    let mut line = Timeline::default();
    line.at(1).create(1, 8, "1.00");
    line.at(5).put(2, 7, "4000.00"); // in the table only
    line.want(30, firing(7));
    line.play(&mut world, 100).await;
    assert!(world.sinks.alerts()[0].body.contains(r#""trigger":null"#));
}

#[tokio::test(start_paused = true)]
async fn database_catches_up_without_another_change() {
    let mut world = World::new();
    world.db.hide(1);
    let mut line = Timeline::default();
    line.at(1).stream(1, 7, "4000.00");
    line.at(10).does(|world| world.db.show_all());
    line.at(10).put(1, 7, "4000.00");
    // Asked at about 1, 1.25, 1.75, 2.75, 4.75, 8.75, 16.75.
    line.want(16, firing(7));
    line.play(&mut world, 100).await;
    assert_eq!(world.db.asked().len(), 7);
}

#[tokio::test(start_paused = true)]
async fn database_behind_the_stream() {
    let mut world = World::new();
    let mut line = Timeline::default();
    line.at(1).does(|world| world.db.freeze());
    line.at(2).create(1, 7, "4000.00");
    line.at(3).create(2, 8, "4000.00");
    line.at(4).delete(2); // withdrawn, whatever the database says later
    line.at(5).does(|world| world.db.thaw());
    line.want(5, firing(7));
    line.play(&mut world, 60).await;
}

#[tokio::test(start_paused = true)]
async fn resolving_is_confirmed_as_well() {
    let mut world = World::new();
    let mut line = Timeline::default();
    line.at(1).create(1, 7, "4000.00");
    line.want(1, firing(7));
    line.at(3).does(|world| world.db.freeze());
    line.at(4).delete(1);
    // In the stream half a transaction: what makes up for it comes a second later.
    line.at(5).create(2, 7, "5000.00");
    line.at(6).does(|world| world.db.thaw());
    line.at(20).does(|world| world.db.freeze());
    line.at(21).delete(2);
    line.at(22).does(|world| world.db.thaw());
    line.want(22, resolved(7));
    line.play(&mut world, 60).await;
}

#[tokio::test(start_paused = true)]
async fn database_away_for_a_while() {
    let mut world = World::new();
    let mut line = Timeline::default();
    line.at(1).does(|world| world.db.go_away(Some("connection refused")));
    line.at(60).does(|world| world.db.go_away(None));
    // Asked for the eighth time 63.75 s after each was raised.
    for (user, second) in [(0, 2), (1, 3), (2, 4), (3, 5), (4, 6)] {
        line.at(second).create(user, user, "3000.01");
        line.want(second + 61, firing(user));
    }
    line.play(&mut world, 120).await;
}

#[tokio::test(start_paused = true)]
async fn slow_database() {
    let mut world = World::new();
    world.db.set_delay(Duration::from_millis(2_500));
    let mut line = Timeline::default();
    line.at(1).create(1, 7, "4000.00");
    line.at(2).create(2, 8, "4000.00");
    line.want(3, firing(7));
    line.want(4, firing(8));
    line.at(10).create(3, 9, "4000.00");
    line.at(11).delete(3); // while it is asked for: no longer so in memory when the answer comes
    line.at(20).delete(1);
    line.want(22, resolved(7));
    line.play(&mut world, 60).await;
}

#[tokio::test(start_paused = true)]
async fn candidate_outlives_a_stop_with_its_trigger() {
    for crash in [false, true] {
        let mut world = World::new();
        world.db.hide(1);
        let mut line = Timeline::default();
        line.at(1).stream(1, 7, "4000.00");
        if crash {
            line.at(5).crash_until(10);
        } else {
            line.at(5).stop_until(10);
        }
        // Over with it as well; no trigger of its own.
        line.at(12).stream(2, 7, "10.00");
        line.at(20).put(1, 7, "4000.00");
        // Asked at 10 on starting, at 12 with the change, then with back-off: a stop keeps the attempts made since
        // the last epoch as well.
        line.want(if crash { 24 } else { 28 }, firing(7));
        line.play(&mut world, 100).await;
        assert!(world.sinks.alerts()[0].body.contains(r#""offset":0,"op":"c""#));
    }
}

#[tokio::test(start_paused = true)]
async fn until_end_asks_once_more_after_the_last_record() {
    let world = World::new();
    world.topic.set_batch_records(1);
    world.stream(Op::Create, 1, 7, "4000.00", world.now());
    // The table has it only once the stream has been read on a little.
    for id in 2..50 {
        world.create(id, 100 + id, "1.00");
    }
    world.db.set_delay(Duration::from_millis(50));
    let reading = async {
        tokio::time::sleep(Duration::from_millis(20)).await;
        world.put(1, 7, "4000.00", world.now());
    };
    let (counts, ()) = tokio::join!(world.read(), reading);
    assert_eq!(counts.read, 49);
    // Asked before the last record was read, answered after it: that is no look at the end.
    world.want(&[firing(7)]);
}

#[tokio::test(start_paused = true)]
async fn until_end_waits_for_the_database() {
    let world = World::new();
    world.db.go_away(Some("connection refused"));
    world.create(1, 7, "4000.00");
    let back = async {
        tokio::time::sleep(Duration::from_secs(90)).await;
        world.db.go_away(None);
    };
    let (counts, ()) = tokio::join!(world.read(), back);
    assert_eq!(counts, Counts { read: 1, candidates: 1, confirmed: 1, fired: 1, ..Counts::default() });
}

#[tokio::test(start_paused = true)]
async fn counts_add_up() {
    let world = World::new();
    for id in 0..100 {
        world.create(id, id % 10, "310.00");
    }
    world.topic.push_ignored(0);
    world.topic.push_bad(0, "not JSON");
    world.stream(Op::Create, 500, 50, "9999.00", world.now()); // refuted
    let counts = world.read().await;
    assert_eq!((counts.read, counts.replayed, counts.rejected), (103, 0, 1));
    assert_eq!((counts.candidates, counts.confirmed, counts.fired, counts.resolved), (11, 10, 10, 0));
    for id in 0..10 {
        world.delete(id);
    }
    let counts = world.read().await;
    assert_eq!((counts.read, counts.fired, counts.resolved), (20, 0, 10));
    assert_eq!(counts.confirmed, 10);
    let json = serde_json::to_string(&counts).unwrap();
    assert!(json.starts_with(r#"{"read":20,"replayed":"#), "{json}");
}

/// A sweep finds what the table still shows, and the stream has taken away already: it fires, as it is true, and is resolved
/// once the table shows the end of it, although no change comes any more.
#[tokio::test(start_paused = true)]
async fn what_only_a_sweep_has_found_is_resolved() {
    let mut world = World::new();
    world.settings.until_end = false;
    world.settings.sweep_interval = Some(Duration::from_secs(10));
    world.db.hide(1);
    world.create(1, 7, "4000.00");
    world.topic.push(0, world.change(Op::Delete, 1, None)); // the table does not show it yet
    let mut monitor = world.monitor();
    let run = monitor.run(tokio::time::sleep(Duration::from_secs(120)));
    let shown = async {
        tokio::time::sleep(Duration::from_secs(30)).await;
        world.db.delete(&Key::Int(1));
        world.db.show_all();
    };
    tokio::join!(run, shown).0.unwrap();
    world.want(&[firing(7), resolved(7)]);
}
