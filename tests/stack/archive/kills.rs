//! Killed at random while orders are inserted, updated and deleted: two partitions, three dates, some kills in a row,
//! some with the checkpoint folder lost. After each undisturbed restart the files hold Kafka's records. A reader reads
//! them all the time.
//!
//! `TRIPLINE_KILLS` (20) is how often, `TRIPLINE_SEED` repeats changes and moments as they were. More of it:
//!
//! ```text
//! TRIPLINE_KILLS=300 scripts/test --test stack archive::kills -- --nocapture
//! ```

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection};

use super::books::{Topic, check, committed, same_places};
use crate::exactly_once::load::Seed;
use crate::exactly_once::number;
use crate::harness::orders::{Archive, ORDERS, Orders};
use crate::harness::readers::Watch;
use crate::harness::{Dice, Stack, wait_for};

/// Kills of one table, so that the files of a long run stay few enough to be read again and again.
const ROUND: usize = 20;
/// Between two transactions.
const PACE: Duration = Duration::from_millis(5);
/// A process lives between these, in milliseconds: some do not come to their first file.
const LIVES: (u64, u64) = (50, 2_000);
/// Every so many-th kill takes the checkpoint folder along.
const LOST_EVERY: usize = 5;
const IDS: u64 = 200;

/// Changes the table until it is dropped. The table belongs to it while it is not held.
struct Writer {
    /// How many records there are by what it wrote. Held, nothing is written.
    gate: Arc<Mutex<()>>,
    records: Arc<AtomicI64>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    fn start(database: &str, dice: Dice) -> Self {
        let (gate, records, stop) =
            (Arc::new(Mutex::new(())), Arc::new(AtomicI64::new(0)), Arc::new(AtomicBool::new(false)));
        let url = Stack::get().url(database);
        let thread = std::thread::spawn({
            let (gate, records, stop) = (Arc::clone(&gate), Arc::clone(&records), Arc::clone(&stop));
            move || write(&url, dice, &gate, &records, &stop)
        });
        Self { gate, records, stop, thread: Some(thread) }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            eprintln!("the writer has panicked");
        }
    }
}

/// One transaction, and how many records each of the rows that it touches makes.
fn change(dice: &mut Dice, serial: &mut u64) -> (String, i64) {
    let id = dice.below(IDS);
    let at = format!("timestamptz '2026-03-01Z' + interval '{} seconds'", dice.below(3 * 86_400));
    let condition = format!("order_id BETWEEN {id} AND {id} + {}", dice.below(3));
    match dice.below(10) {
        0 => (format!("DELETE FROM public.orders WHERE {condition}"), 2),
        1 => {
            *serial += 1;
            (format!("UPDATE public.orders SET order_id = 1000000 + {serial} WHERE order_id = {id}"), 3)
        }
        2 | 3 => (format!("UPDATE public.orders SET created_at = {at} WHERE {condition}"), 1),
        4 | 5 => (format!("UPDATE public.orders SET price = {id}.25, item = NULL WHERE {condition}"), 1),
        _ => (
            format!(
                "INSERT INTO public.orders SELECT n, 'Customer', 'Restaurant', 'Item ' || n, 2, n * 1.5, NULL, {at}
                 FROM generate_series({id}, {id} + 9) AS n ON CONFLICT DO NOTHING"
            ),
            1,
        ),
    }
}

fn write(url: &str, mut dice: Dice, gate: &Mutex<()>, records: &AtomicI64, stop: &AtomicBool) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut connection = runtime.block_on(PgConnection::connect(url)).unwrap();
    let mut serial = 0;
    while !stop.load(Ordering::Relaxed) {
        let (sql, each) = change(&mut dice, &mut serial);
        {
            let Ok(_open) = gate.lock() else { return }; // the test has failed
            let done = sqlx::raw_sql(AssertSqlSafe(sql.clone())).execute(&mut connection);
            let done = runtime.block_on(done).unwrap_or_else(|error| panic!("{sql}: {error}"));
            records.fetch_add(each * i64::try_from(done.rows_affected()).unwrap(), Ordering::Relaxed);
        }
        std::thread::sleep(PACE);
    }
}

/// Nothing more is written, all of it is in Kafka, and the process has come to the end of it.
fn settle(run: &mut crate::recovery::run::Run, job: &Archive, topic: &mut Topic, writer: &Writer) {
    let records = writer.records.load(Ordering::Relaxed);
    wait_for(&format!("Kafka has {records} records"), || {
        topic.read();
        let found: i64 = topic.ends.iter().sum();
        assert!(found <= records, "{found} records in Kafka, {records} written");
        (found == records).then_some(())
    });
    let ends: Vec<(i32, i64)> = (0..).zip(topic.ends.iter().copied()).collect();
    run.wait("all of it is archived", |_| committed(job) == ends);
}

/// How many records there were, and how often the reader looked.
fn round(name: &str, kills: usize, dice: &mut Dice) -> (i64, u64) {
    let t = Orders::of(name, ORDERS, 2, &[]);
    let job = Archive { limit: 150, ..t.job("a") };
    let mut topic = Topic::of(t.topic());
    let mut reader = Watch::start(&job.output);
    let writer = Writer::start(&t.database.name, Dice(dice.below(u64::MAX)));
    let mut run = job.start();
    for kill in 1..=kills {
        let dies = Instant::now() + Duration::from_millis(LIVES.0 + dice.below(LIVES.1 - LIVES.0));
        while let Some(left) = dies.checked_duration_since(Instant::now()) {
            reader.check();
            std::thread::sleep(left.min(Duration::from_millis(100)));
        }
        run.kill();
        if kill.is_multiple_of(LOST_EVERY) && job.checkpoints.exists() {
            job.lose_checkpoints();
        }
        run = job.start();
        if kill < kills && dice.below(4) == 0 {
            continue; // killed again, wherever it is
        }
        let held = writer.gate.lock().unwrap();
        settle(&mut run, &job, &mut topic, &writer);
        same_places(&job, topic.changes("orders").keys());
        reader.check();
        drop(held);
    }
    let held = writer.gate.lock().unwrap();
    settle(&mut run, &job, &mut topic, &writer);
    run.terminate();
    let (looks, _) = reader.stop();
    check(&job, &topic);
    let columns = "order_id, customer_name, restaurant, item, quantity, price, status, created_at";
    let table = t.sql(&format!("SELECT {columns} FROM public.orders ORDER BY order_id"));
    assert_eq!(super::changes::current_state(&job, columns), table);
    drop(held);
    (topic.ends.iter().sum(), looks)
}

#[test]
#[ignore = "needs the servers: scripts/test"]
fn killed_at_random_every_record_is_there_once_for_whoever_reads() {
    let kills = number("TRIPLINE_KILLS", ROUND);
    let now = SystemTime::UNIX_EPOCH.elapsed().unwrap().as_millis();
    let seed = Seed(u64::try_from(number("TRIPLINE_SEED", usize::try_from(now).unwrap())).unwrap());
    let started = Instant::now();
    let mut dice = Dice(seed.0);
    let (mut records, mut looks) = (0, 0);
    for first in (0..kills).step_by(ROUND) {
        let (more, looked) = round(&format!("kills_{first}"), ROUND.min(kills - first), &mut dice);
        (records, looks) = (records + more, looks + looked);
        eprintln!(
            "{} kills, {records} records, {looks} looks, {} s",
            (first + ROUND).min(kills),
            started.elapsed().as_secs()
        );
    }
    eprintln!("TRIPLINE_SEED={}", seed.0);
    let kills = u64::try_from(kills).unwrap();
    assert!(looks > kills && u64::try_from(records).unwrap() > 20 * kills, "only {records} records, {looks} looks");
}
