//! The cost of the fence: the time from a change in Kafka to its alert on the topic, for readers of committed records.
//!
//! `TRIPLINE_SECONDS` (20) is for how long each rate is measured.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rdkafka::message::Message;
use serde_json::Value as Json;

use super::super::number;
use super::super::run::{Run, Setup, assign, consumer, key_of};
use super::started;
use crate::harness::Database;

/// More than there are alerts in the time that one takes.
const USERS: i64 = 200;
/// Alerts a second.
const RATES: [u32; 2] = [1, 50];

/// Changes one user after the other at this rate, and returns how long their alerts took, in order.
fn measure(run: &mut Run, changes: &mut i64, rate: u32, lasts: Duration) -> Vec<Duration> {
    let (sent, took) = (Mutex::new(HashMap::new()), Mutex::new(Vec::new()));
    let (alerts, is_over) = (consumer("tests"), AtomicBool::new(false));
    assign(&alerts, &run.alert_topic);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                let Some(Ok(message)) = alerts.poll(Duration::from_millis(10)) else { continue };
                let alert: Json = serde_json::from_slice(message.payload().unwrap()).unwrap();
                let at: Option<Instant> = sent.lock().unwrap().remove(&key_of(&alert).1);
                took.lock().unwrap().extend(at.map(|at| at.elapsed()));
            }
        });
        thread::sleep(Duration::from_secs(1)); // those that are there already are of no change here
        let begun = Instant::now();
        let mut next = begun;
        while begun.elapsed() < lasts {
            let (user, round) = (*changes % USERS + 1, *changes / USERS);
            let amount = if round % 2 == 0 { 2_000 } else { 1 };
            run.feed.update(&format!("amount = {amount}"), &format!("id = {user}"));
            sent.lock().unwrap().insert(user, Instant::now());
            run.feed.tell();
            *changes += 1;
            next += Duration::from_secs(1) / rate;
            thread::sleep(next.saturating_duration_since(Instant::now()));
        }
        thread::sleep(Duration::from_secs(2));
        is_over.store(true, Ordering::Relaxed);
    });
    let left = sent.into_inner().unwrap();
    assert!(left.is_empty(), "no alerts of {left:?}");
    let mut took = took.into_inner().unwrap();
    took.sort_unstable();
    took
}

#[test]
#[ignore = "needs the servers: scripts/test"]
fn slow_latency_with_the_fence_and_without() {
    let lasts = Duration::from_secs(u64::try_from(number("TRIPLINE_SECONDS", 20)).unwrap());
    let database = Database::new("latency");
    let mut worlds = ["fence", "none"].map(|off| {
        let environment = vec![("TRIPLINE_OFF", off)];
        let run = started(&database, &format!("off_{off}"), USERS, Setup { environment, ..Setup::default() });
        (off, run, 0)
    });
    // In turn, so that what else the machine does meets both.
    for _ in 0..2 {
        for (off, run, changes) in &mut worlds {
            for rate in RATES {
                let took = measure(run, changes, rate, lasts);
                let part = |percent: usize| took[(took.len() - 1) * percent / 100];
                let (p50, p99, count) = (part(50), part(99), took.len());
                eprintln!("without {off}: {rate} a second: p50 {p50:?}, p99 {p99:?} of {count} alerts");
            }
        }
    }
}
