//! Where a run goes on from: the folder, the group's offsets, and what a hand did to either.

use std::path::Path;

use super::support::{Told, World, firing, resolved};
use tripline::monitor::counts::Counts;

/// 200 transactions of 20 users. Users 3 and 7 are over.
fn two_hundred(world: &World) {
    for id in 0..200 {
        let user = id % 20;
        world.create(id, user, if user == 3 || user == 7 { "300.01" } else { "299.99" });
    }
}

fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_folder(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

fn ids_of(world: &World, which: Told) -> Vec<uuid::Uuid> {
    let alerts = world.sinks.alerts();
    alerts.iter().filter(|alert| super::support::told(alert) == which).map(|alert| alert.id).collect()
}

#[tokio::test(start_paused = true)]
async fn first_run_tells_exactly_the_users_over() {
    let world = World::new();
    two_hundred(&world);
    let counts = world.read().await;
    let want = Counts { read: 200, candidates: 2, confirmed: 2, fired: 2, ..Counts::default() };
    assert_eq!(counts, want);
    world.want(&[firing(3), firing(7)]);
    assert_eq!(world.committed(), 200);
    let alert = &world.sinks.alerts()[0];
    assert_eq!((alert.line.as_str(), alert.record_key.as_str()), ("User 3 ($3,000.10)", "weekly-spend|3"));
}

#[tokio::test(start_paused = true)]
async fn second_run_reads_only_what_is_new() {
    let world = World::new();
    two_hundred(&world);
    world.read().await;
    let counts = world.read().await;
    assert_eq!((counts.read, counts.candidates, counts.fired), (0, 0, 0));
    world.create(200, 5, "0.10");
    world.create(201, 5, "0.10");
    world.create(202, 3, "9.00");
    let counts = world.read().await;
    assert_eq!(counts, Counts { read: 3, candidates: 1, confirmed: 1, fired: 1, ..Counts::default() });
    world.want(&[firing(3), firing(7), firing(5)]);
}

#[tokio::test(start_paused = true)]
async fn new_group_reads_everything() {
    let mut world = World::new();
    two_hundred(&world);
    world.read().await;
    world.settings.group = "monitor-v4".into();
    assert_eq!(world.read().await.read, 200);
    world.want(&[firing(3), firing(7), firing(3), firing(7)]);
    let ids: std::collections::BTreeSet<_> = world.sinks.alerts().iter().map(|alert| alert.id).collect();
    assert_eq!(ids.len(), 4, "ids of another group are its own");
}

#[tokio::test(start_paused = true)]
async fn new_group_from_latest_tells_what_is_over_already() {
    let mut world = World::new();
    two_hundred(&world);
    world.settings.start_at = tripline::progress::StartAt::Latest;
    let counts = world.read().await;
    assert_eq!((counts.read, counts.replayed, counts.fired), (0, 200, 2));
    assert_eq!(world.committed(), 200);
    world.create(200, 5, "0.20");
    let counts = world.read().await;
    assert_eq!((counts.read, counts.fired), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn deleted_group_offsets_read_everything_again() {
    let world = World::new();
    two_hundred(&world);
    world.read().await;
    let old = world.lineage();
    world.topic.delete_group("monitor-v3");
    assert_eq!(world.read().await.read, 200);
    world.want(&[firing(3), firing(7), firing(3), firing(7)]);
    assert_ne!(world.lineage(), old);
    assert_eq!(world.aside(), std::slice::from_ref(&old));
    let aside = world.folder_path().join("lineages").join(old);
    assert!(aside.join("offsets/1").is_file() && aside.join("lineage.json").is_file());
    // And that again.
    world.topic.delete_group("monitor-v3");
    assert_eq!(world.read().await.read, 200);
    assert_eq!(world.aside().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn lost_folder_rebuilds_and_tells_nothing_again() {
    let world = World::new();
    two_hundred(&world);
    world.read().await;
    let old = world.lineage();
    let epoch = world.epochs().last().unwrap().number;
    world.lose_folder();
    let counts = world.read().await;
    assert_eq!((counts.read, counts.replayed, counts.fired), (0, 200, 0));
    world.want(&[firing(3), firing(7)]);
    assert_eq!(world.lineage(), old, "the group's text names it");
    assert!(world.epochs()[0].number > epoch, "numbers never come back");
    // What is open is known: a resolve is told.
    world.delete(3);
    let counts = world.read().await;
    assert_eq!((counts.read, counts.fired, counts.resolved), (2, 0, 1));
}

#[tokio::test(start_paused = true)]
async fn lost_folder_goes_on_with_what_is_new() {
    let world = World::new();
    two_hundred(&world);
    world.read().await;
    world.lose_folder();
    world.create(200, 5, "0.20");
    let counts = world.read().await;
    assert_eq!((counts.read, counts.replayed, counts.fired), (1, 200, 1));
    world.want(&[firing(3), firing(7), firing(5)]);
    assert_eq!(world.committed(), 201);
}

#[tokio::test(start_paused = true)]
async fn offsets_moved_back_by_hand_are_read_from_there() {
    let world = World::new();
    two_hundred(&world);
    world.read().await;
    let old = world.lineage();
    world.topic.move_group("monitor-v3", 0, 150);
    let counts = world.read().await;
    assert_eq!((counts.read, counts.replayed), (50, 150));
    assert_ne!(world.lineage(), old);
    assert_eq!(world.aside(), [old]);
    assert_eq!((counts.fired, world.committed()), (2, 200));
}

#[tokio::test(start_paused = true)]
async fn offsets_moved_forth_by_hand_are_read_from_there() {
    let world = World::new();
    two_hundred(&world);
    world.read().await;
    let old = world.lineage();
    for id in 200..300 {
        world.create(id, 100 + id, "1.00");
    }
    world.topic.move_group("monitor-v3", 0, 290);
    let counts = world.read().await;
    assert_eq!((counts.read, counts.replayed), (10, 290));
    assert_eq!(world.aside(), [old]);
}

#[tokio::test(start_paused = true)]
async fn offsets_set_by_hand_to_what_they_were_are_an_order_too() {
    let world = World::new();
    two_hundred(&world);
    world.read().await;
    let old = world.lineage();
    world.topic.move_group("monitor-v3", 0, 200);
    let counts = world.read().await;
    assert_eq!((counts.read, counts.replayed), (0, 200));
    assert_eq!(world.aside(), [old]);
}

#[tokio::test(start_paused = true)]
async fn folder_restored_from_an_older_copy_is_as_if_lost() {
    let world = World::new();
    two_hundred(&world);
    world.read().await;
    let copy = tempfile::tempdir().unwrap();
    copy_folder(&world.folder_path(), copy.path());
    world.create(200, 5, "0.20");
    world.read().await;
    for user in [3, 7, 5] {
        assert_eq!(ids_of(&world, firing(user)).len(), 1);
    }
    world.lose_folder();
    copy_folder(copy.path(), &world.folder_path());
    let counts = world.read().await;
    assert_eq!((counts.read, counts.replayed, counts.fired), (0, 201, 0));
    world.want(&[firing(3), firing(7), firing(5)]);
    assert_eq!(world.read().await, Counts::default());
}

/// Two machines with folders of their own take turns in one group.
#[tokio::test(start_paused = true)]
async fn folder_behind_the_group_twice() {
    let world = World::new();
    two_hundred(&world);
    world.read().await;
    let (mine, other) = (world.folder_path(), world.dir.path().join("other"));
    for turn in 0..4 {
        world.create(200 + turn, 5, "0.20");
        std::fs::create_dir_all(&other).unwrap();
        let kept = world.dir.path().join("kept");
        std::fs::rename(&mine, &kept).unwrap();
        std::fs::rename(&other, &mine).unwrap();
        std::fs::rename(&kept, &other).unwrap();
        let counts = world.read().await;
        assert_eq!((counts.read, world.committed()), (1, 201 + turn), "turn {turn}");
    }
}

#[tokio::test(start_paused = true)]
async fn folder_of_another_topic_is_refused() {
    let mut world = World::new();
    two_hundred(&world);
    world.read().await;
    world.settings.topics = "another".into();
    let error = world.error().await;
    assert!(error.contains("holds the progress of topic postgres.public.transactions"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn changed_rule_is_rebuilt_without_telling_twice() {
    let mut world = World::new();
    two_hundred(&world);
    world.read().await;
    world.rules = vec![super::support::rule("weekly-spend", &super::support::SPEND.replace("3000", "2999"))];
    let counts = world.read().await;
    assert_eq!((counts.read, counts.replayed, counts.fired), (0, 200, 18));
    let mut users: Vec<Told> = world.told();
    users.sort_unstable();
    users.dedup();
    assert_eq!((users.len(), world.told().len()), (20, 20), "open episodes go by the rule's name");
}

/// The batch that ends a rebuild holds the change that is to be told as well.
#[tokio::test(start_paused = true)]
async fn rebuild_that_ends_within_a_batch_keeps_the_trigger() {
    let world = World::new();
    world.create(1, 7, "4000.00");
    world.read().await;
    std::fs::remove_dir_all(world.folder_path().join("state")).unwrap();
    world.delete(1);
    let counts = world.read().await;
    assert_eq!((counts.replayed, counts.read), (1, 2));
    world.want(&[firing(7), resolved(7)]);
    let body = &world.sinks.alerts()[1].body;
    assert!(body.contains(r#""offset":1,"op":"d""#), "a change brought it: {body}");
}
