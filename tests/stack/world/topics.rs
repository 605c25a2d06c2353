//! The topic is not the one that was read.

use crate::harness::Table;
use crate::recovery::cluster::Cluster;

use super::watching;

/// Deleted and made again at work, with more records than were read: offsets mean nothing there.
#[test]
#[ignore = "needs the servers: scripts/test"]
fn a_topic_that_is_made_again_at_work() {
    let t = Table::new("world_topic");
    t.insert(&[(1, 101, "4000"), (2, 102, "1")]);
    t.wait_in_kafka(2);
    let job = watching(t.job("v1"));
    let mut run = job.start();
    run.wait_for_line("User 101 ($4,000.00)");
    run.wait_committed(2);
    let cluster = Cluster::shared();
    run.signal("STOP");
    cluster.delete_topic(t.topic());
    cluster.create_topic(t.topic(), 1);
    for id in 3..=8 {
        t.insert(&[(id, 103, "1")]);
    }
    t.wait_in_kafka(6);
    run.signal("CONT");
    let ended = run.ended();
    assert_eq!(ended.code, Some(5), "{ended}");
    assert!(ended.log.iter().any(|line| line.contains("is not the one that was read")), "{ended}");
    assert_eq!(job.try_run().code, Some(5), "the next start finds it, too");
}
