//! The log above DEBUG: rules, places and counts, but no key and no amount.

use std::io::Write;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::support::World;
use tracing_subscriber::filter::LevelFilter;
use tripline::change::{Op, RejectKind};

const USER: i64 = 271_828;
const AMOUNT: &str = "314159.26";
const SMALL: &str = "1618.03";

#[derive(Clone, Default)]
struct Buffer(Arc<Mutex<Vec<u8>>>);

impl Write for Buffer {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// The log of a run at this level and above.
async fn logged(level: LevelFilter) -> String {
    let buffer = Buffer::default();
    let out = buffer.clone();
    let subscriber = tracing_subscriber::fmt().with_max_level(level).with_ansi(false);
    let subscriber = subscriber.with_writer(move || out.clone()).finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    let mut world = World::new();
    world.settings.until_end = false;
    world.settings.audit_period = Duration::from_secs(60);
    // The table never has it.
    world.stream(Op::Create, 1, USER, AMOUNT, world.now());
    // The stream never brings it.
    world.create(2, USER + 1, "1.00");
    world.put(2, USER + 1, AMOUNT, world.now());
    // The same, and neither side is over the threshold.
    world.create(3, USER + 3, "10.00");
    world.put(3, USER + 3, SMALL, world.now());
    world.topic.push_reject(0, RejectKind::Json, "it is no record");
    world.create(4, USER + 2, AMOUNT);
    drop(world.monitor().run(tokio::time::sleep(Duration::from_secs(1_800))).await);
    world.settings.until_end = true;
    world.read().await;
    let bytes = buffer.0.lock().unwrap().clone();
    String::from_utf8(bytes).unwrap()
}

/// In a process of its own: what a place logs is decided once for all threads, while other tests log nothing.
#[test]
fn no_key_and_no_amount_is_logged_above_debug() {
    let mut alone = Command::new(std::env::current_exe().unwrap());
    let ended = alone.args(["log::alone", "--exact", "--ignored", "--nocapture"]).output().unwrap();
    let said = String::from_utf8_lossy(&ended.stdout);
    assert!(ended.status.success() && said.contains("1 passed"), "{said}{}", String::from_utf8_lossy(&ended.stderr));
}

#[tokio::test(start_paused = true)]
#[ignore = "run by the test before it"]
async fn alone() {
    let mut values = [0, 1, 2, 3].map(|user| (USER + user).to_string()).to_vec();
    values.extend([AMOUNT.to_owned(), SMALL.to_owned()]);
    let info = logged(LevelFilter::INFO).await;
    for what in ["refuted: ", "drift: memory", "drift: the stream's", "invalid record", "partition=0 offset=0"] {
        assert!(info.contains(what), "{what} is not in the log:\n{info}");
    }
    for value in &values {
        let line = info.lines().find(|line| line.contains(value));
        assert_eq!(line, None, "{value}");
    }
    let debug = logged(LevelFilter::DEBUG).await;
    for what in ["refuted key", "drifted key"] {
        let line = debug.lines().find(|line| line.contains(what) && line.contains(" DEBUG "));
        assert!(line.is_some_and(|line| values.iter().any(|value| line.contains(value))), "{what}: {line:?}");
    }
}
