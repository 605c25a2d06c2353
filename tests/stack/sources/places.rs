//! Sources that come and go: the lineage goes on, and a topic keeps its offsets.

use serde_json::Value as Json;

use super::{HIGH, SPEND, World, alerts, counted, each_once};
use crate::harness::{Job, kafka};

/// What `tripline offsets` says.
pub(super) fn view(job: &Job) -> Json {
    let done = job.command(&["offsets", "--output", "json"]).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    serde_json::from_slice(&done.stdout).unwrap()
}

fn lineage(job: &Job) -> String {
    view(job)["checkpoint"]["lineage"].as_str().unwrap().to_owned()
}

#[test]
#[ignore = "needs the servers: scripts/test"]
fn a_source_is_added_removed_and_added_again() {
    let world = World::new("sources_places");
    let sql = |text: &str| drop(world.database.sql(text));
    let topic = world.topic("limits");
    // With one source, as ever.
    let alone = world.job(&["transactions"], &[SPEND]);
    sql("INSERT INTO streaming.transactions (user_id, amount) VALUES (1, 6000)");
    kafka::wait_for_end(&world.topic("transactions"), 2);
    alone.run();
    assert_eq!(counted(&alone, "spend", 1), (1, 0));
    let first = lineage(&alone);

    // The other one comes: what it holds is of before, and is evaluated once.
    sql("UPDATE streaming.limits SET daily_limit = 9100 WHERE user_id = 1;
         UPDATE streaming.limits SET daily_limit = 10 WHERE user_id = 1;
         UPDATE streaming.limits SET daily_limit = 9200 WHERE user_id = 2");
    kafka::wait_for_end(&topic, 6);
    let both = world.job(&["transactions", "limits"], &[SPEND, HIGH]);
    let text = view(&both)["text"].to_string();
    assert!(text.contains("resumes") && text.contains(&format!("has not read {topic} before")), "{text}");
    // Killed before it has closed an epoch, it begins so again.
    let mut run = both.start();
    run.wait_in_log("this start");
    run.kill();
    both.run();
    assert_eq!(
        (counted(&both, "high", 1), counted(&both, "high", 2), counted(&both, "spend", 1)),
        ((0, 0), (1, 0), (1, 0))
    );
    assert_eq!(lineage(&both), first);
    assert_eq!(kafka::committed(&both.group, &topic), Some(6));
    // From there on it is read as it comes.
    sql("UPDATE streaming.limits SET daily_limit = 9300 WHERE user_id = 3");
    kafka::wait_for_end(&topic, 7);
    both.run();
    assert_eq!(counted(&both, "high", 3), (1, 0));

    // It goes, with its rule: the episodes end, and its offsets are kept.
    sql("INSERT INTO streaming.transactions (user_id, amount) VALUES (2, 6000)");
    kafka::wait_for_end(&world.topic("transactions"), 3);
    alone.run();
    assert_eq!((counted(&alone, "spend", 2), counted(&alone, "high", 3)), ((1, 0), (1, 1)));
    let seen = view(&alone);
    assert_eq!(
        (seen["checkpoint"]["lineage"].as_str(), seen["relation"].as_str()),
        (Some(&*first), Some("agree")),
        "{seen}"
    );
    assert!(
        seen["text"].as_str().unwrap().contains(&format!("{topic} is no longer read, and its offsets are kept")),
        "{seen}"
    );
    assert_eq!(kafka::committed(&alone.group, &topic), Some(7));

    // It comes again: from where it was, and what has come since alerts.
    sql("UPDATE streaming.limits SET daily_limit = 10 WHERE user_id = 3;
         INSERT INTO streaming.limits VALUES (4, 9400)");
    kafka::wait_for_end(&topic, 9);
    let seen = view(&both);
    let next: Vec<(&Json, &Json)> =
        seen["partitions"].as_array().unwrap().iter().map(|p| (&p["topic"], &p["next"])).collect();
    assert_eq!(next[1], (&Json::from(topic.as_str()), &Json::from(7)), "{seen}");
    let ended = both.run();
    assert_eq!(ended.count("read"), 2, "{ended}");
    assert_eq!((counted(&both, "high", 4), counted(&both, "high", 2)), ((1, 0), (2, 1)));
    assert_eq!(
        (lineage(&both), counted(&both, "spend", 1), counted(&both, "spend", 2)),
        (first.clone(), (1, 0), (1, 0))
    );
    each_once(&both);

    // In another order, nothing is different.
    let turned = world.job(&["limits", "transactions"], &[HIGH, SPEND]);
    let before = alerts(&both).len();
    let ended = turned.run();
    assert_eq!((ended.count("read"), alerts(&turned).len(), lineage(&turned)), (0, before, first), "{ended}");
}
