//! What is restored if the folder is gone or behind, and what the table adds if the topic is cut.

use std::time::Duration;

use super::support::{World, firing, resolved};
use tripline::monitor::counts::Counts;

const DAY: Duration = Duration::from_secs(86_400);

/// Users 3 and 7 are over.
fn twenty(world: &World) {
    for id in 0..20 {
        world.create(id, id, if id == 3 || id == 7 { "3000.01" } else { "1000.00" });
    }
}

/// The machine died after the transaction, and its folder with it: the table and the log had nothing yet.
#[tokio::test(start_paused = true)]
async fn table_gets_what_only_kafka_had() {
    let mut world = World::new();
    world.settings.until_end = false;
    twenty(&world);
    world.sinks.table_is_down(true);
    let mut monitor = world.monitor();
    drop(monitor.run(tokio::time::sleep(Duration::from_secs(60))).await);
    drop(monitor);
    world.want(&[firing(3), firing(7)]);
    assert_eq!(world.sinks.table(), []);
    world.lose_folder();
    world.sinks.table_is_down(false);
    world.settings.until_end = true;
    assert_eq!(world.read().await.fired, 0);
    world.want(&[firing(3), firing(7)]);
    assert_eq!((world.sinks.table().len(), world.sinks.log().len()), (2, 2));
}

#[tokio::test(start_paused = true)]
async fn what_fell_while_the_folder_was_lost_is_resolved() {
    let world = World::new();
    twenty(&world);
    world.read().await;
    world.lose_folder();
    world.delete(3);
    world.update(7, 7, "3000.02");
    world.read().await;
    world.want(&[firing(3), firing(7), resolved(3)]);
    let alerts = world.sinks.alerts();
    assert_eq!(alerts[0].episode, alerts[2].episode, "it is the same episode");
}

#[tokio::test(start_paused = true)]
async fn candidates_waited_when_the_folder_was_lost() {
    let world = World::new();
    twenty(&world);
    world.db.go_away(Some("away"));
    let mut monitor = world.monitor();
    drop(monitor.run(tokio::time::sleep(Duration::from_secs(60))).await);
    drop(monitor);
    world.want(&[]);
    world.lose_folder();
    world.db.go_away(None);
    world.read().await;
    world.want(&[firing(3), firing(7)]);
}

/// Without folder and backup nobody knows what is open: said, and what it says to do goes on.
#[tokio::test(start_paused = true)]
async fn folder_and_backup_lost() {
    let world = World::new();
    twenty(&world);
    world.read().await;
    world.lose_folder();
    world.sinks.lose_recovery_topic();
    let error = world.error().await;
    assert!(error.contains("does not have epoch"), "{error}");
    assert!(error.contains("tripline offsets reset --shift-by 0 --execute"), "{error}");
    world.topic.move_group("monitor-v3", 0, 20);
    assert_eq!(world.read().await.fired, 2, "as a new lineage");
}

#[tokio::test(start_paused = true)]
async fn expired_offsets_go_on() {
    for folder in [true, false] {
        let world = World::new();
        twenty(&world);
        world.read().await;
        let lineage = world.lineage();
        world.topic.keep_offsets_for(Some(7 * DAY));
        world.topic.delete_group("monitor-v3");
        tokio::time::sleep(8 * DAY).await;
        if !folder {
            world.lose_folder();
        }
        world.create(20, 8, "4000.00");
        let counts = world.read().await;
        // What was over has left the window meanwhile.
        assert_eq!((counts.read, counts.fired, counts.resolved), (1, 1, 2), "folder: {folder}");
        assert_eq!(world.lineage(), lineage);
        assert_eq!(world.committed(), 21, "and the group has offsets again");
    }
}

#[tokio::test(start_paused = true)]
async fn deleted_offsets_are_not_taken_for_expired() {
    let world = World::new();
    twenty(&world);
    world.read().await;
    world.topic.keep_offsets_for(Some(7 * DAY));
    world.topic.delete_group("monitor-v3");
    tokio::time::sleep(6 * DAY).await;
    assert_eq!(world.read().await.read, 20);
}

#[tokio::test(start_paused = true)]
async fn deleted_offsets_go_on_where_that_is_wanted() {
    for folder in [true, false] {
        let mut world = World::new();
        twenty(&world);
        world.read().await;
        world.settings.resume_without_group = true;
        world.topic.delete_group("monitor-v3");
        if !folder {
            world.lose_folder();
        }
        let counts = world.read().await;
        assert_eq!((counts.read, counts.fired), (0, 0), "folder: {folder}");
        assert_eq!(world.committed(), 20);
    }
}

/// The group's offsets expired while another instance, with another folder, was the last to work: this one's is old.
#[tokio::test(start_paused = true)]
async fn missing_group_and_an_old_folder() {
    let mut world = World::new();
    twenty(&world);
    world.read().await;
    let (mine, kept) = (world.folder_path(), world.dir.path().join("kept"));
    std::fs::rename(&mine, &kept).unwrap();
    world.create(20, 8, "4000.00");
    world.read().await;
    std::fs::remove_dir_all(&mine).unwrap();
    std::fs::rename(&kept, &mine).unwrap();
    world.topic.delete_group("monitor-v3");
    world.settings.resume_without_group = true;
    let counts = world.read().await;
    assert_eq!((counts.read, counts.fired), (0, 0), "the backup knows better than the folder");
    world.want(&[firing(3), firing(7), firing(8)]);
}

/// Rows that only trimmed records held come from the table.
#[tokio::test(start_paused = true)]
async fn trimmed_topic() {
    let world = World::new();
    for id in 0..10 {
        world.create(id, 7, "299.00");
    }
    world.delete(9);
    world.read().await;
    world.topic.retain_from(0, 8);
    world.lose_folder();
    // 2,691.00 so far.
    world.create(10, 7, "309.00");
    world.create(11, 8, "3000.01");
    let counts = world.read().await;
    assert_eq!(counts.rejected, 0);
    world.want(&[firing(8)]);
    world.create(12, 7, "0.01");
    assert_eq!(world.read().await, Counts { read: 1, candidates: 1, confirmed: 1, fired: 1, ..Counts::default() });
    world.want(&[firing(8), firing(7)]);
    // A group that is new to the topic sees as much.
    let mut world = world;
    world.settings.group = "monitor-v4".into();
    world.read().await;
    world.want(&[firing(8), firing(7), firing(7), firing(8)]);
}

/// Dead letters behind the offsets that the group had are copied, although what stands there is not evaluated one by one.
#[tokio::test(start_paused = true)]
async fn trimmed_topic_with_a_bad_record() {
    let world = World::new();
    for id in 0..10 {
        world.create(id, 7, "1.00");
    }
    world.topic.retain_from(0, 5);
    world.topic.push_bad(0, "not JSON");
    world.db.go_away(None);
    let counts = world.read().await;
    assert_eq!((counts.rejected, world.sinks.dead().len()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn changed_rule_fires_anew_where_that_is_wanted() {
    let mut world = World::new();
    twenty(&world);
    world.read().await;
    world.rules = vec![super::support::rule("weekly-spend", &super::support::SPEND.replace("3000", "2999"))];
    world.settings.carry_episodes = false;
    assert_eq!(world.read().await.fired, 2);
    world.want(&[firing(3), firing(7), resolved(3), resolved(7), firing(3), firing(7)]);
    assert!(world.sinks.alerts()[2].body.contains(r#""reason":"rule_changed""#));
    assert_eq!(world.read().await.fired, 0);
}

#[tokio::test(start_paused = true)]
async fn start_at_an_instant() {
    let mut world = World::new();
    twenty(&world);
    world.settings.start_at = tripline::progress::StartAt::Time(world.topic.timestamp(15));
    let counts = world.read().await;
    assert_eq!((counts.read, counts.replayed, counts.fired), (5, 15, 2));
}
