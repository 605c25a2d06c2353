//! The changes of the tables: statements of every kind, in transactions of every kind.

use std::io::Write as _;
use std::process::{Command, Stdio};

use super::tables::Shape;
use crate::harness::{Dice, Stack};

/// Rows that a table has at most, by number.
const ROWS: u64 = 60;

/// One statement that changes some rows of a table.
fn statement(dice: &mut Dice, shape: &Shape) -> String {
    let table = format!("streaming.{}", shape.name);
    let row = dice.below(ROWS);
    let is = shape.is(row);
    match dice.below(10) {
        0..=3 => {
            let count = 1 + dice.below(8);
            let rows: Vec<String> =
                (0..count).map(|n| format!("({})", shape.row(dice, (row + n * 7) % ROWS))).collect();
            format!("INSERT INTO {table} VALUES {} ON CONFLICT DO NOTHING;\n", rows.join(", "))
        }
        4 => format!("UPDATE {table} SET amount = {} WHERE {is};\n", shape.amount_value(dice)),
        5 => format!("UPDATE {table} SET k = {} WHERE {is};\n", shape.key_value(dice)),
        6 => format!("UPDATE {table} SET \"at\" = {} WHERE {is};\n", shape.time_value(dice)),
        7 => format!("UPDATE {table} SET tags = tags || '{{\"b\": {row}}}', amount = amount + 1;\n"),
        8 => {
            let (to, there) = (shape.renumbered((row + 31) % ROWS), shape.is((row + 31) % ROWS));
            format!("UPDATE {table} SET {to} WHERE {is} AND NOT EXISTS (SELECT FROM {table} WHERE {there});\n")
        }
        _ => format!("DELETE FROM {table} WHERE {is};\n"),
    }
}

/// Runs a script as one session, which has to succeed.
fn script(database: &str, text: &str) {
    try_script(database, text).unwrap_or_else(|error| panic!("{text}\n{error}"));
}

fn try_script(database: &str, text: &str) -> Result<(), String> {
    let mut session = Command::new("psql")
        .args(["-X", "-q", "-w", "-v", "ON_ERROR_STOP=1", "-d", &Stack::get().url(database), "-f", "-"])
        .env("PGOPTIONS", "-c client_min_messages=error")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    session.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let done = session.wait_with_output().unwrap();
    if done.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&done.stderr).into_owned()) }
}

/// One change of the world. `truncates`: whether the format has records of them.
pub(super) fn change(dice: &mut Dice, database: &str, shapes: &[Shape], truncates: bool) {
    let any = |dice: &mut Dice| &shapes[usize::try_from(dice.below(shapes.len() as u64)).unwrap()];
    let shape = any(dice);
    let table = format!("streaming.{}", shape.name);
    let some = |dice: &mut Dice, n: u64| -> String {
        (0..n)
            .map(|_| {
                let shape = any(dice);
                statement(dice, shape)
            })
            .collect()
    };
    match dice.below(16) {
        0..=5 => script(database, &some(dice, 4)),
        6..=7 => script(database, &format!("BEGIN;\n{}COMMIT;\n", some(dice, 6))),
        8 => script(database, &format!("BEGIN;\n{}ROLLBACK;\n", some(dice, 4))),
        9 => script(
            database,
            &format!(
                "BEGIN;\n{}SAVEPOINT a;\n{}SAVEPOINT b;\n{}ROLLBACK TO b;\n{}ROLLBACK TO a;\n{}COMMIT;\n",
                some(dice, 2),
                some(dice, 2),
                some(dice, 2),
                some(dice, 1),
                some(dice, 2)
            ),
        ),
        10 => {
            // A table filled by COPY, beside what it has.
            let copy = format!(
                "CREATE TEMP TABLE new (LIKE {table});\nINSERT INTO new SELECT * FROM {table};\nUPDATE new SET k = {};\n\
                 DELETE FROM {table};\n\\copy new TO '/tmp/{database}_{}.copy'\n\\copy {table} FROM '/tmp/{database}_{}.copy'\n",
                shape.key_value(dice),
                shape.name,
                shape.name
            );
            script(database, &format!("BEGIN;\n{copy}COMMIT;\n"));
            let _ = std::fs::remove_file(format!("/tmp/{database}_{}.copy", shape.name));
        }
        11 if truncates && dice.one_in(2) => script(database, &format!("TRUNCATE {table};\n{}", some(dice, 2))),
        11..=12 => {
            let signal = format!(
                "INSERT INTO streaming.signals VALUES (gen_random_uuid()::text, 'execute-snapshot', \
                 '{{\"type\": \"incremental\", \"data-collections\": [\"{table}\"]}}');\n"
            );
            script(database, &signal);
        }
        // Transactions that overlap. One of them may be ended by a deadlock, and then has not been.
        _ => {
            let sessions: Vec<String> = (0..3)
                .map(|_| {
                    let wait = dice.below(150);
                    format!("BEGIN;\n{}SELECT pg_sleep(0.{wait:03});\n{}COMMIT;\n", some(dice, 2), some(dice, 2))
                })
                .collect();
            std::thread::scope(|scope| {
                for text in &sessions {
                    scope.spawn(move || match try_script(database, text) {
                        Err(error) if !error.contains("deadlock") => panic!("{text}\n{error}"),
                        _ => {}
                    });
                }
            });
        }
    }
}
