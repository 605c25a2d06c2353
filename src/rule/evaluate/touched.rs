//! The keys that a row touches, where Postgres alone evaluates the rule.

use super::Program;
use crate::change::Hole;
use crate::model::{Key, Value};
use crate::rule::text::Text;

impl Program {
    /// Whether Postgres alone evaluates it.
    pub fn is_of_postgres(&self) -> bool {
        self.touches.is_some()
    }

    /// The keys that a row touches, where Postgres alone evaluates. A value that the record does not say is `None`.
    pub fn touched(&self, row: &[Value], holes: &[Hole]) -> Vec<Option<Key>> {
        let value = |slot: &usize| match holes.iter().any(|hole| hole.slot == *slot) {
            true => None,
            false => row.get(*slot).cloned().filter(|value| *value != Value::Opaque),
        };
        let key = |slots: &Vec<usize>| slots.iter().map(value).collect::<Option<Vec<Value>>>().map(Key::new);
        self.touches.iter().flatten().map(key).collect()
    }
}

/// The slots of each key that a row touches.
pub(super) fn slots(text: &Text, slot: &impl Fn(usize) -> Result<usize, String>) -> Result<Vec<Vec<usize>>, String> {
    text.touches.iter().map(|key| key.iter().map(|column| slot(*column)).collect()).collect()
}
