//! Writes made-up changes of food orders to one Parquet file, like the archive, and prints how long that took. The rows
//! are in memory before the clock starts. `scripts/bench-archive` has other writers write the same rows.
//!
//! ```text
//! cargo run --release -p tripline-bench --bin archive-rows -- COUNT FILE
//! ```

#![expect(clippy::print_stdout, reason = "a command-line tool")]

use std::fs;
use std::sync::Arc;

use tripline::archive::parquet::FileWriter;
use tripline::change::Op;
use tripline::change::full_row::{Cell, Field, FieldType, FullRowChange};
use tripline::model::{Lsn, Timestamp};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

type Failure = Box<dyn std::error::Error>;

/// Restaurant, item, price in cents.
const MENU: [(&str, &str, i128); 16] = [
    ("Spice Route", "Chicken Biryani", 1250),
    ("Spice Route", "Paneer Tikka", 980),
    ("Spice Route", "Garlic Naan", 290),
    ("Napoli Corner", "Pizza Margherita", 1090),
    ("Napoli Corner", "Pizza Diavola", 1340),
    ("Napoli Corner", "Tiramisu", 560),
    ("Sakura Sushi", "Salmon Nigiri", 820),
    ("Sakura Sushi", "Rainbow Roll", 1490),
    ("Sakura Sushi", "Miso Soup", 350),
    ("Burger Yard", "Cheeseburger", 940),
    ("Burger Yard", "Sweet Potato Fries", 470),
    ("Taqueria Sol", "Tacos al Pastor", 890),
    ("Taqueria Sol", "Burrito Bowl", 1120),
    ("Green Bowl", "Falafel Salad", 990),
    ("Green Bowl", "Lentil Soup", 630),
    ("Dragon Wok", "Kung Pao Chicken", 1170),
];

const FIRST: [&str; 12] =
    ["Aisha", "Ben", "Chloe", "Daniel", "Elena", "Farid", "Grace", "Hiro", "Ines", "Jonas", "Kavya", "Liam"];

const STATUSES: [&str; 5] = ["placed", "preparing", "out_for_delivery", "delivered", "cancelled"];

/// 2026-11-22 00:00 UTC, in microseconds.
const START: i64 = 1_795_305_600_000_000;

fn fields() -> Arc<[Field]> {
    let field = |name: &str, ty| Field { name: name.to_owned(), ty };
    Arc::new([
        field("order_id", FieldType::Int32),
        field("customer_name", FieldType::Text),
        field("restaurant", FieldType::Text),
        field("item", FieldType::Text),
        field("quantity", FieldType::Int32),
        field("price", FieldType::Decimal { precision: 10, scale: 2 }),
        field("status", FieldType::Text),
        field("created_at", FieldType::TimestampTz),
    ])
}

/// Numbers that look drawn, and are the same in every run: splitmix64.
struct Draw(u64);

impl Draw {
    fn below(&mut self, limit: u32) -> u32 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        u32::try_from((mixed ^ (mixed >> 31)) % u64::from(limit.max(1))).unwrap_or(0)
    }

    fn of<T: Copy>(&mut self, these: &[T]) -> Option<T> {
        let at = self.below(u32::try_from(these.len()).unwrap_or(u32::MAX));
        these.get(usize::try_from(at).ok()?).copied()
    }
}

/// Half of the changes are new orders. A third updates one of the last thousand, and the rest deletes one.
fn changes(count: u32) -> Option<Vec<FullRowChange>> {
    let fields = fields();
    let mut draw = Draw(1);
    let mut orders: u32 = 0;
    let mut changes = Vec::new();
    for n in 0..count {
        let op = match draw.below(100) {
            _ if orders < 1_000 => Op::Create,
            0..60 => Op::Create,
            60..97 => Op::Update,
            _ => Op::Delete,
        };
        let order = if op == Op::Create { orders } else { orders - 1 - draw.below(1_000) };
        orders += u32::from(op == Op::Create);
        let committed_at = START + i64::from(n) * 40_000 + i64::from(draw.below(40_000));
        let age = if op == Op::Create { i64::from(draw.below(900)) } else { i64::from(draw.below(3_600_000)) * 1_000 };
        let (restaurant, item, price) = draw.of(&MENU)?;
        let quantity = 1 + draw.below(4);
        let text = |text: &str| Cell::Text(text.into());
        let mut cells = vec![
            Cell::Int(i64::from(order) + 1),
            Cell::Text(format!("{} {}{}", draw.of(&FIRST)?, draw.of(&FIRST)?, draw.below(500)).into()),
            text(restaurant),
            text(item),
            Cell::Int(quantity.into()),
            Cell::Decimal(price * i128::from(quantity)),
            if draw.below(50) == 0 { Cell::Null } else { text(draw.of(&STATUSES)?) },
            Cell::Int(committed_at - age),
        ];
        if op == Op::Delete {
            cells.iter_mut().skip(1).for_each(|cell| *cell = Cell::Null);
        }
        changes.push(FullRowChange {
            op,
            lsn: Some(Lsn(22_270_736 + u64::from(n) * 344)),
            tx_id: Some(700 + n),
            committed_at: Timestamp(committed_at),
            is_described: false,
            fields: Arc::clone(&fields),
            cells: cells.into(),
        });
    }
    Some(changes)
}

/// A figure of this process's memory, in KiB.
fn memory(name: &str) -> Result<u64, Failure> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    Ok(line.and_then(|line| line.split_whitespace().next()).ok_or("no such figure")?.parse()?)
}

#[expect(clippy::disallowed_methods, reason = "a stopwatch")]
fn main() -> Result<(), Failure> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [count, path] = args.as_slice() else {
        return Err("usage: archive_rows COUNT FILE".into());
    };
    let changes = changes(count.parse()?).ok_or("nothing to draw from")?;
    fs::write("/proc/self/clear_refs", "5")?; // the peak begins anew
    let before = memory("VmRSS")?;
    let start = std::time::Instant::now();
    let mut file = FileWriter::new("2025em1100102_food_orders_raw", 0, fields())?;
    for (offset, change) in (0..).zip(&changes) {
        file.push(offset, change)?;
    }
    let pushed = start.elapsed().as_millis();
    let rows = file.rows();
    let bytes = file.finish(&[("tripline.example", "orders")])?;
    let millis = start.elapsed().as_millis();
    let peak = memory("VmHWM")?.saturating_sub(before);
    fs::write(path, &bytes)?;
    println!("rows={rows} bytes={} millis={millis} pushed_millis={pushed} peak_kib={peak}", bytes.len());
    Ok(())
}
