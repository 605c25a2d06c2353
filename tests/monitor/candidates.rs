//! A candidate that waits survives whatever ends the run, with the instant at which it was raised.

use std::time::Duration;

use super::crash::read_or_die;
use super::support::{SPEND, World, firing, resolved, rule};
use super::timeline::Timeline;
use tripline::model::Timestamp;
use tripline::rule::{Confirm, Time, compile};

fn fifteen_seconds() -> World {
    let mut world = World::new();
    world.rules = vec![rule("weekly-spend", &SPEND.replace("7 days", "15 seconds"))];
    world
}

/// The database is away, and when it is back the candidate's rows have left the window: Postgres is asked as of then.
#[tokio::test(start_paused = true)]
async fn its_rows_have_left_the_window_by_the_next_start() {
    for (name, crash, lose_state) in [("stopped", false, false), ("killed", true, false), ("no state", false, true)] {
        let mut world = fifteen_seconds();
        let raised = world.now().0 + 2_000_000;
        let mut line = Timeline::default();
        line.at(1).does(|world| world.db.go_away(Some("away")));
        line.at(2).create(1, 7, "4000.00");
        if crash {
            line.at(5).crash_until(20);
        } else {
            line.at(5).stop_until(20);
        }
        line.at(19).does(move |world| {
            world.db.go_away(None);
            if lose_state {
                std::fs::remove_dir_all(world.folder_path().join("state")).unwrap();
            }
        });
        line.want(20, firing(7));
        line.want(20, resolved(7));
        line.play(&mut world, 40).await;
        let bodies: Vec<serde_json::Value> =
            world.sinks.alerts().iter().map(|alert| serde_json::from_str(&alert.body).unwrap()).collect();
        let as_of = Timestamp::parse(bodies[0]["confirmation"]["as_of"].as_str().unwrap()).unwrap();
        assert!((raised..raised + 100_000).contains(&as_of.0), "{name}: as of then: {}", bodies[0]);
        assert_eq!(bodies[0]["trigger"]["offset"], 0, "{name}");
        assert_eq!(bodies[1]["reason"], "time", "{name}");
        assert_eq!(bodies[0].get("reason"), None, "{name}");
    }
}

/// The transaction remains invisible for longer than the window, so Postgres has not decided.
#[tokio::test(start_paused = true)]
async fn its_transaction_is_visible_only_after_its_rows_have_left() {
    let mut world = fifteen_seconds();
    world.db.hide(1);
    let mut line = Timeline::default();
    line.at(2).stream(1, 7, "4000.00");
    line.at(30).does(|world| {
        world.db.show_all();
        world.put(1, 7, "4000.00", Timestamp(world.now().0 - 28_000_000));
    });
    // Asked about 2, 2.25, 2.75, 3.75, 5.75, 9.75, 17.75 and 33.75.
    line.want(33, firing(7));
    line.want(33, resolved(7));
    line.play(&mut world, 60).await;
}

/// Under event time: the customer that SQL names fires, whatever else its history brings, in each run.
#[tokio::test(start_paused = true)]
async fn a_backlog_under_event_time_tells_what_a_window_function_gives() {
    const CUSTOMERS: i64 = 60;
    let day = |n: i64| Timestamp(1_700_000_000_000_000 + n * 86_400_000_000);
    let mut told = Vec::new();
    for (batch, delay, killed) in [(1, 0, false), (7, 40, false), (500, 3, false), (7, 3, true), (100, 0, true)] {
        let mut world = World::new();
        let mut event = rule("weekly-spend", &SPEND.replace("7 days", "30 days"));
        event.time = Time::Event;
        event.version = compile::version(&event.query, Time::Event, Confirm::Required);
        world.rules = vec![event];
        world.topic.set_batch_records(batch);
        world.db.set_delay(Duration::from_millis(delay));
        let mut history: Vec<Vec<(i64, i64)>> = vec![Vec::new(); usize::try_from(CUSTOMERS).unwrap()];
        let mut seed = 5_u64;
        let mut random = |end: u64| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            i64::try_from((seed >> 33) % end).unwrap()
        };
        for id in 0..2_000 {
            let customer = random(60);
            let amount = random(100 + 20 * u64::try_from(customer).unwrap());
            let mine = &mut history[usize::try_from(customer).unwrap()];
            let date = mine.last().map_or(0, |(date, _)| *date) + random(12);
            mine.push((date, amount));
            world.create_at(id, customer, &format!("{amount}.00"), day(date));
        }
        let fires = |mine: &Vec<(i64, i64)>| {
            let total =
                |to: i64| mine.iter().filter(|(at, _)| *at <= to && *at >= to - 30).map(|(_, n)| n).sum::<i64>();
            mine.iter().any(|(date, _)| total(*date) > 3_000)
        };
        let want: Vec<i64> = (0..CUSTOMERS).zip(&history).filter(|(_, mine)| fires(mine)).map(|(id, _)| id).collect();
        assert!((10..CUSTOMERS - 5).contains(&i64::try_from(want.len()).unwrap()), "{}", want.len());
        let mut polls = 60;
        while killed && read_or_die(&world, polls).await.is_none() {
            polls += 17;
        }
        world.read().await;
        let alerts = world.sinks.alerts();
        let mut fired: Vec<i64> =
            world.told().into_iter().filter(|told| *told == firing(told.0)).map(|told| told.0).collect();
        fired.sort_unstable();
        fired.dedup();
        assert_eq!(fired, want, "batches of {batch}");
        let mut all: Vec<_> = world
            .told()
            .into_iter()
            .zip(&alerts)
            .map(|(told, alert)| {
                (told.0, serde_json::from_str::<serde_json::Value>(&alert.body).unwrap()["window"].to_string(), told.1)
            })
            .collect();
        all.sort_by_key(|(user, ..)| *user); // stable: each customer's in their order
        told.push(all);
    }
    assert!(told.iter().all(|all| *all == told[0]), "the same alerts however it is read");
}
