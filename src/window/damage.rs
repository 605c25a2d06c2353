//! Damages a window in the tests of the audit, as a defect or a change without an event would. Release builds do not
//! have it.

use super::Window;
use crate::model::{Key, Timestamp, Value};
use crate::rule::evaluate::{Args, Parts};

/// How far a row's time is moved: less than the length of the tests' windows.
const HOUR_MICROS: i64 = 3_600_000_000;

impl Window {
    /// Damages up to `count` groups that have rows, in six ways by turns. Returns how many it damaged.
    pub fn damage(&mut self, count: usize) -> usize {
        let step = (self.groups.len() / count.max(1)).max(1);
        let with_rows = self.groups.iter().filter_map(|(index, group)| Some((index, group.rows.first()?)));
        let chosen: Vec<(u32, u32)> = with_rows.step_by(step).take(count).collect();
        for (number, (group, row)) in chosen.iter().enumerate() {
            self.damage_one(number, *group, *row);
        }
        chosen.len()
    }

    fn damage_one(&mut self, number: usize, group: u32, index: u32) {
        let Some(row) = self.rows.get(index) else { return };
        let Some(key) = self.groups.get(group).map(|group| group.key.clone()) else { return };
        let (pk, version, args) = (row.pk().into_owned(), row.version(), row.args());
        let mut parts = Parts { key, time: Some(row.time()), args };
        match number % 6 {
            // A row is lost.
            0 => drop(self.take_out(index)),
            // A row is added.
            1 => {
                let pk = Key::Int(i64::MAX - i64::from(group));
                self.put_in(&pk, parts, None, Timestamp(0), None);
            }
            // The aggregates are not those of the rows.
            2 => {
                if let Some(group) = self.groups.get_mut(group) {
                    group.running.add(&parts.args);
                }
            }
            // The row is moved to another group or another time, or its amount is changed.
            kind => {
                self.take_out(index);
                match kind {
                    3 => parts.key = Key::Int(i64::MAX - i64::from(group)),
                    4 => parts.time = parts.time.map(|time| Timestamp(time.0 - HOUR_MICROS)),
                    _ => parts.args = parts.args.iter().map(other).collect::<Args>(),
                }
                self.put_in(&pk, parts, version, Timestamp(0), None);
            }
        }
    }
}

fn other(value: &Value) -> Value {
    match value {
        Value::Decimal(unscaled) => Value::Decimal(unscaled + 1),
        Value::Int(number) => Value::Int(number.wrapping_add(1)),
        other => other.clone(),
    }
}
