//! The effect of a change, or of time alone, on an episode.

use super::support::{World, firing, resolved};
use super::timeline::{Timeline, statuses};
use tripline::episode::Status::{Firing, Resolved};
use tripline::model::Timestamp;

#[tokio::test(start_paused = true)]
async fn fires_and_resolves() {
    let mut world = World::new();
    let mut line = Timeline::default();
    line.at(1).create(1, 7, "2000.00");
    line.at(2).create(2, 7, "1000.00"); // not over yet
    line.at(3).create(3, 7, "0.01");
    line.want(3, firing(7));
    line.at(4).create(4, 7, "50.00");
    line.at(5).update(1, 7, "100.00");
    line.want(5, resolved(7));
    line.at(6).update(1, 7, "-2000.00");
    line.want(6, firing(7));
    line.at(8).delete(1);
    line.want(8, resolved(7));
    line.play(&mut world, 60).await;
}

#[tokio::test(start_paused = true)]
async fn row_moves_to_another_user() {
    let mut world = World::new();
    let mut line = Timeline::default();
    line.at(1).create(1, 7, "4000.00");
    line.want(1, firing(7));
    line.at(3).update(1, 8, "4000.00");
    line.want(3, resolved(7));
    line.want(3, firing(8));
    line.play(&mut world, 30).await;
}

#[tokio::test(start_paused = true)]
async fn delete_without_a_before_image_avoids_a_breach() {
    let world = World::new();
    world.create(1, 7, "2000.00");
    world.create(2, 7, "900.00");
    world.delete(1);
    world.create(3, 7, "2000.00");
    assert_eq!(world.read().await.candidates, 0);
    world.create(4, 7, "100.01");
    world.read().await;
    world.want(&[firing(7)]);
}

#[tokio::test(start_paused = true)]
async fn replayed_suffix_changes_nothing() {
    let world = World::new();
    for id in 0..30 {
        world.create(id, id % 3, "299.00");
    }
    world.create(30, 0, "100.00");
    world.delete(4);
    world.update(5, 2, "1.00");
    world.read().await;
    world.want(&[firing(0)]);
    world.topic.repeat_from(0, 10);
    let counts = world.read().await;
    assert_eq!(counts.read, 24);
    world.want(&[firing(0)]);
    // The sums are still exact.
    world.create(31, 1, "308.99");
    world.create(32, 2, "308.00");
    world.read().await;
    world.want(&[firing(0)]);
    world.create(33, 1, "0.02");
    world.create(34, 2, "0.01");
    world.read().await;
    world.want(&[firing(0), firing(1), firing(2)]);
}

#[tokio::test(start_paused = true)]
async fn once_per_episode_over_many_restarts() {
    let world = World::new();
    let mut id = 0;
    let mut write = |amount| {
        id += 1;
        world.create(id, 7, amount);
        id
    };
    let mut over = write("3000.01");
    for round in 0..20 {
        world.read().await;
        write("1.00");
        world.read().await;
        if round % 5 == 4 {
            world.delete(over);
            world.read().await;
            over = write("3100.00");
        }
    }
    world.read().await;
    let want: Vec<_> = (0..5).flat_map(|n| if n == 0 { vec![Firing] } else { vec![Resolved, Firing] }).collect();
    assert_eq!(statuses(&world, 7), want);
    assert_eq!(world.told().len(), want.len(), "nothing is repeated");
}

#[tokio::test(start_paused = true)]
async fn row_that_leaves_the_window_resolves_within_the_state_interval() {
    let mut world = World::new();
    let week = 7 * 86_400 * 1_000_000;
    // Leaves 100 s from now.
    world.create_at(1, 7, "2000.00", Timestamp(world.now().0 - week + 100_000_000));
    world.create(2, 7, "2000.00");
    world.read().await;
    world.want(&[firing(7)]);
    world.settings.until_end = false;
    world.monitor().run(tokio::time::sleep(std::time::Duration::from_secs(300))).await.unwrap();
    world.want(&[firing(7), resolved(7)]);
    let alert = &world.sinks.alerts()[1];
    let late = alert.emitted_at.0 - (world.sinks.alerts()[0].emitted_at.0 + 100_000_000);
    assert!((0..=32_000_000).contains(&late), "late by {late} µs");
    assert!(alert.body.contains(r#""trigger":null"#), "time alone: {}", alert.body);
}

#[tokio::test(start_paused = true)]
async fn row_that_leaves_the_window_resolves_in_a_quiet_topic() {
    let mut world = World::new();
    world.settings.until_end = false;
    let week = 7 * 86_400 * 1_000_000;
    world.create_at(1, 7, "4000.00", Timestamp(world.now().0 - week + 600_000_000));
    world.monitor().run(tokio::time::sleep(std::time::Duration::from_secs(900))).await.unwrap();
    world.want(&[firing(7), resolved(7)]);
}

#[tokio::test(start_paused = true)]
async fn row_that_left_while_nobody_looked_resolves_at_the_next_start() {
    let world = World::new();
    let week = 7 * 86_400 * 1_000_000;
    world.create_at(1, 7, "4000.00", Timestamp(world.now().0 - week + 100_000_000));
    world.read().await;
    tokio::time::sleep(std::time::Duration::from_secs(200)).await;
    world.read().await;
    world.want(&[firing(7), resolved(7)]);
}
