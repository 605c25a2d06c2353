//! Partitions added to the topic: each is read from its beginning, in the same lineage, and nothing is told twice.

use super::run::Run;
use super::world::{World, firing, resolved};

const STARTS: &str = "tripline::monitor::recover: this start";

impl World {
    /// Rows of these ids, in the table and on a partition of the stream.
    fn spend_on(&self, partition: i32, users: std::ops::RangeInclusive<i64>) {
        self.insert(users.clone(), "3500");
        let (first, last) = users.into_inner();
        let records = self.records("c", &format!("id BETWEEN {first} AND {last}"));
        self.cluster.produce(&self.topic, partition, &records);
    }

    /// The group's next offsets.
    fn offsets(&self) -> Vec<i64> {
        self.cluster.committed(&self.group, &self.topic).into_values().map(|(next, _)| next).collect()
    }

    fn wait_for_offsets(&self, want: &[i64]) {
        crate::harness::wait_for(&format!("{want:?} are committed"), || (self.offsets() == want).then_some(()));
    }
}

#[test]
#[ignore = "needs the servers: scripts/test"]
fn added_while_it_is_stopped() {
    let w = World::new("added_stopped");
    w.cluster.create_topic(&w.topic, 1);
    w.spend_on(0, 1..=3);
    w.read("a");
    let lineage = w.lineage("a");
    w.cluster.add_partitions(&w.topic, 3);
    w.spend_on(1, 4..=5);
    w.spend_on(2, 6..=6);
    let run = w.read("a");
    assert_eq!((run.count("read"), run.count("fired")), (3, 3), "{run}");
    assert_eq!(w.offsets(), [3, 2, 1]);
    // Without the folder as well.
    w.cluster.add_partitions(&w.topic, 4);
    std::fs::remove_dir_all(w.checkpoint("a")).unwrap();
    w.spend_on(3, 7..=8);
    let run = w.read("a");
    assert_eq!((run.count("read"), run.count("fired")), (2, 2), "{run}");
    assert_eq!(w.lineage("a"), lineage);
    w.change(4, "1");
    assert_eq!(w.read("a").count("resolved"), 1);
    w.one_each(&[&firing(1..=8), &resolved([4])]);
}

#[test]
#[ignore = "needs the servers: scripts/test"]
fn added_while_it_runs() {
    let mut w = World::new("added_running");
    w.properties.push(("topic.metadata.refresh.interval.ms", "1000"));
    w.cluster.create_topic(&w.topic, 1);
    w.spend_on(0, 1..=3);
    let mut run = Run::start(&w.job("a"));
    run.wait_in_log(STARTS);
    w.wait_for_alerts(3);
    w.wait_for_offsets(&[3]);
    let lineage = w.lineage("a");
    w.cluster.add_partitions(&w.topic, 2);
    // Before the run knows of it.
    w.spend_on(1, 4..=5);
    w.spend_on(0, 6..=6);
    w.wait_for_alerts(6);
    w.wait_for_offsets(&[4, 2]);
    w.spend_on(1, 7..=7);
    w.wait_for_alerts(7);
    w.wait_for_offsets(&[4, 3]);
    run.terminate();
    assert_eq!((w.lineage("a"), w.aside("a")), (lineage, vec![]));
    assert_eq!(w.read("a").count("read"), 0);
    w.one_each(&[&firing(1..=7)]);
}
