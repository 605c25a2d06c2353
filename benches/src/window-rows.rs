//! Fills the window of one rule with made-up transactions, and says what memory and CPU that took: one numeric, one time, and
//! `bigint` keys. Rows and keys are drawn as `fill-topic` has them: few users have many rows.
//!
//! ```text
//! cargo run --release -p tripline-bench --bin window-rows -- ROWS [USERS]
//! ```
//!
//! USERS are 100,000. After the fill come four parts of a million changes each: `slide` (a row comes, and time takes one), `update` (any
//! row gets another amount), `move` (any row goes to another user and another time) and `delete` (any row goes, and comes again). At last
//! the window is written as `state/N` has it, and read again.

#![expect(clippy::print_stdout, reason = "a command-line tool")]

use std::fs;

use tripline::change::{Change, Op};
use tripline::model::{Column, ColumnType, Key, Lsn, Position, Table, Timestamp, Value};
use tripline::rule::evaluate::Program;
use tripline::rule::{Time, compile, parse};
use tripline::snapshot::Snapshot;
use tripline::window::{StoredWindow, Window};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

type Failure = Box<dyn std::error::Error>;

const SQL: &str = "SELECT user_id, COUNT(*) AS transactions, SUM(ABS(amount)) AS total FROM streaming.transactions \
    WHERE timestamp >= NOW() - INTERVAL '7 days' GROUP BY user_id HAVING SUM(ABS(amount)) > 3000";

/// 2026-11-22 00:00 UTC, in microseconds.
const START: i64 = 1_795_305_600_000_000;
const WEEK_MICROS: i64 = 7 * 86_400_000_000;
/// Changes of a micro-batch, and of a part.
const BATCH: i64 = 500;
const PART: i64 = 1_000_000;

/// Numbers that look drawn, and are the same in every run: splitmix64.
struct Draw(u64);

impl Draw {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, limit: i64) -> i64 {
        i64::try_from(self.next() % limit.max(1).unsigned_abs()).unwrap_or(0)
    }

    /// A user: the product of two draws.
    fn user(&mut self, users: i64) -> i64 {
        10_000_000 + self.below(1 << 20) * self.below(1 << 20) / (1 << 20) * users / (1 << 20)
    }
}

fn table() -> Table {
    let columns = [
        ("id", ColumnType::Int8, "bigint"),
        ("user_id", ColumnType::Int8, "bigint"),
        ("amount", ColumnType::Numeric { scale: Some(2) }, "numeric(12,2)"),
        ("timestamp", ColumnType::TimestampTz, "timestamp with time zone"),
    ];
    let column = |(name, ty, type_name): (&str, ColumnType, &str)| Column {
        name: name.to_owned(),
        ty,
        type_name: type_name.to_owned(),
        nullable: false,
        has_default: false,
    };
    Table {
        schema: "streaming".to_owned(),
        name: "transactions".to_owned(),
        columns: columns.into_iter().map(column).collect(),
        primary_key: vec![0],
    }
}

struct Bench {
    window: Window,
    draw: Draw,
    users: i64,
    /// Changes so far.
    count: i64,
    now: i64,
    named: usize,
}

impl Bench {
    fn apply(&mut self, op: Op, id: i64, row: Option<(i64, i64)>) {
        let amount = 100 + self.draw.below(20_000);
        let row = row.map(|(user, at)| {
            let values = [Value::Int(user), Value::Decimal(amount.into()), Value::Time(Timestamp(at))];
            Box::new(values) as Box<[Value]>
        });
        self.count += 1;
        let change = Change {
            op,
            pk: Some(Key::Int(id)),
            row,
            before: None,
            lsn: Some(Lsn(22_270_736 + self.count.unsigned_abs() * 120)),
            tx_id: u32::try_from(700 + self.count).ok(),
            committed_at: Some(Timestamp(self.now)),
            holes: Vec::new(),
        };
        let now = Timestamp(self.now);
        self.window.apply(&change, Position { partition: 0, offset: self.count }, now);
        if self.count % BATCH == 0 {
            self.named += self.window.evaluate_touched(now).len();
            while self.window.next_edge().is_some_and(|edge| edge <= now) {
                self.named += self.window.expire(now).len();
            }
        }
        if self.count % (BATCH * 20) == 0 {
            let next = 701 + self.count;
            if let Some(snapshot) = Snapshot::parse(&format!("{next}:{next}:")) {
                self.window.saw(&snapshot);
            }
        }
    }

    /// Does so many changes, and says what they cost.
    fn part(&mut self, name: &str, changes: i64, mut one: impl FnMut(&mut Self, i64)) -> Result<(), Failure> {
        let before = cpu()?;
        for number in 0..changes {
            one(self, number);
        }
        let spent = cpu()?.saturating_sub(before) / changes.unsigned_abs().max(1);
        let (rows, groups) = (self.window.rows(), self.window.groups());
        let (rss, peak) = (memory("VmRSS")?, memory("VmHWM")?);
        println!("{name:8} {spent:5} ns a change, {rows} rows, {groups} keys, {rss} KiB resident, {peak} KiB at most");
        Ok(())
    }
}

/// A figure of this process's memory, in KiB.
fn memory(name: &str) -> Result<u64, Failure> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    Ok(line.and_then(|line| line.split_whitespace().next()).ok_or("no such figure")?.parse()?)
}

/// Nanoseconds that this process was on a CPU.
fn cpu() -> Result<u64, Failure> {
    let all = fs::read_to_string("/proc/self/schedstat")?;
    Ok(all.split_whitespace().next().ok_or("no such figure")?.parse()?)
}

fn main() -> Result<(), Failure> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [rows, rest @ ..] = args.as_slice() else { return Err("usage: window-rows ROWS [USERS]".into()) };
    let rows: i64 = rows.parse()?;
    let users = rest.first().map_or(Ok(100_000), |users| users.parse())?;
    let query =
        compile::compile(&parse::parse(SQL).map_err(|e| e.to_string())?, &table()).map_err(|e| e.to_string())?;
    let program = Program::new(&query, &[1, 2, 3])?;
    let window = Window::new(program.clone(), Time::Processing);
    let mut bench = Bench { window, draw: Draw(1), users, count: 0, now: START, named: 0 };
    let empty = memory("VmRSS")?;
    // The window is full at the end: each row after it takes the place of one.
    let step = WEEK_MICROS / rows.max(1);
    let insert = |bench: &mut Bench, id: i64| {
        let user = bench.draw.user(bench.users);
        bench.now += step;
        let at = bench.now;
        bench.apply(Op::Create, id, Some((user, at)));
    };
    let mut filled = 0;
    while filled < rows {
        let part = PART.min(rows - filled);
        bench.part("fill", part, |bench, number| insert(bench, filled + number))?;
        filled += part;
    }
    let (resident, peak) = (memory("VmRSS")?.saturating_sub(empty), memory("VmHWM")?.saturating_sub(empty));
    let a_row = |kib: u64| kib * 1024 * 10 / u64::try_from(bench.window.rows()).unwrap_or(1).max(1);
    let tenths = |tenths: u64| format!("{}.{}", tenths / 10, tenths % 10);
    println!("{} bytes a row resident, {} at most", tenths(a_row(resident)), tenths(a_row(peak)));
    bench.part("slide", PART, |bench, number| insert(bench, rows + number))?;
    // Rows of these numbers are held; time stands still from here on.
    let (first, count) = (PART + rows / 100, rows - rows / 50);
    bench.part("update", PART, |bench, _| {
        let id = first + bench.draw.below(count);
        let at = START + (id + 1) * step;
        // The user is drawn from the row's number.
        let user = Draw(id.unsigned_abs()).user(bench.users);
        bench.apply(Op::Update, id, Some((user, at)));
    })?;
    bench.part("move", PART, |bench, _| {
        let id = first + bench.draw.below(count);
        let user = bench.draw.user(bench.users);
        let at = bench.now - bench.draw.below(WEEK_MICROS - 1);
        bench.apply(Op::Update, id, Some((user, at)));
    })?;
    bench.part("delete", PART, |bench, number| {
        if number % 2 == 0 {
            let id = first + bench.draw.below(count);
            bench.apply(Op::Delete, id, None);
        } else {
            let user = bench.draw.user(bench.users);
            let at = bench.now - bench.draw.below(WEEK_MICROS - 1);
            bench.apply(Op::Create, rows + PART + number, Some((user, at)));
        }
    })?;
    let named = bench.named;
    let before = cpu()?;
    let stored = postcard::to_allocvec(&bench.window.stored())?;
    let written = cpu()?.saturating_sub(before) / 1_000_000;
    drop(bench);
    let before = cpu()?;
    let mut window = Window::new(program, Time::Processing);
    window.refill(postcard::from_bytes::<StoredWindow>(&stored)?);
    let read = cpu()?.saturating_sub(before) / 1_000_000;
    println!("named {named}; state: {} bytes, written in {written} ms, read in {read} ms", stored.len());
    Ok(())
}
