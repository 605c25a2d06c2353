//! The checkpoint folder: two processes on one.

use super::run::Run;
use super::world::{World, firing};

#[test]
#[ignore = "needs the servers: scripts/test"]
fn two_processes_on_one_folder() {
    let w = World::new("locked");
    w.spend(1..=2, "3500");
    let job = w.job("a");
    let run = Run::start(&job);
    w.wait_for_alerts(2);
    let folder = w.checkpoint("a");
    let parts = [folder.to_str().unwrap(), "in use by another process", "stop that one", "checkpoint.dir of its own"];
    Run::start(&job).ended().refused(5, &parts);
    Run::to_the_end(&job).ended().refused(5, &parts);
    w.spend(3..=3, "3500");
    w.wait_for_alerts(3);
    w.wait_committed(3);
    run.terminate();
    w.one_each(&[&firing(1..=3)]);
}
