//! Progress that commit 37c39c8 wrote is resumed: checkpoint folder, consumer group, recovery topic, table of alerts
//! and Parquet files. `tests/golden` has them, and the next results of that commit itself. Its README describes the
//! contents.
//!
//! - `scenario`: a scenario restored on the servers, and its steps
//! - `monitor`: the alerts that a step raises, and the episodes that are open after it
//! - `archive`: the files that a step adds, and their rows

mod archive;
mod monitor;
mod scenario;

use std::sync::{Mutex, PoisonError};

use archive::Archive;
use monitor::Monitor;

/// Two tests restore the scenario `monitor`, and its topic and group have the same names in both.
static MONITOR: Mutex<()> = Mutex::new(());

/// The first step has nothing new to read, and writes a state of the same progress, in this build's format.
#[test]
#[ignore = "needs the servers: scripts/test"]
fn a_monitor_that_ended_well() {
    let _alone = MONITOR.lock().unwrap_or_else(PoisonError::into_inner);
    let mut monitor = Monitor::restore("monitor", "monitor");
    let steps = monitor.steps();
    let (mut head, written) = monitor.state(6);
    monitor.resume(&steps[0]);
    let (head_again, written_again) = monitor.state(6);
    assert!(written_again > written, "the first step writes no state");
    for new in ["format", "contract"] {
        head[new] = head_again[new].clone();
    }
    assert_eq!(head_again, head);
    for step in &steps[1..] {
        monitor.resume(step);
    }
}

#[test]
#[ignore = "needs the servers: scripts/test"]
fn a_monitor_whose_folder_is_lost() {
    let _alone = MONITOR.lock().unwrap_or_else(PoisonError::into_inner);
    let mut monitor = Monitor::restore("monitor", "rebuilt");
    monitor.lose_folder();
    for step in monitor.steps() {
        monitor.rebuild(&step);
    }
}

/// The first step tells the logged epoch, byte for byte as it was logged.
#[test]
#[ignore = "needs the servers: scripts/test"]
fn a_monitor_with_an_epoch_that_was_logged_and_not_committed() {
    let mut monitor = Monitor::restore("monitor-unfinished", "unfinished");
    let logged = monitor.logged(3);
    let told = monitor.told();
    for step in monitor.steps() {
        monitor.resume(&step);
    }
    assert_eq!(logged.len(), 3);
    assert_eq!(monitor.bodies()[told..told + 3], logged);
}

#[test]
#[ignore = "needs the servers: scripts/test"]
fn a_monitor_that_was_stopped_while_candidates_waited() {
    let mut monitor = Monitor::restore("monitor-waiting", "waiting");
    for step in monitor.steps() {
        monitor.resume(&step);
    }
}

#[test]
#[ignore = "needs the servers: scripts/test"]
fn an_archive_that_ended_well() {
    let mut archive = Archive::restore();
    for step in archive.steps() {
        archive.resume(&step);
    }
}
