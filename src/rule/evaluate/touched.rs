//! The keys that a change touches in a rule that Postgres alone evaluates.

use super::Program;
use crate::change::Hole;
use crate::model::{Key, Table, Value};

/// How the changes of one table touch keys.
#[derive(Clone, Debug)]
pub(super) struct Touches {
    /// The slots of each key that a row touches.
    slots: Vec<Vec<usize>>,
    /// The places of each key in the primary key, if all of its columns are there. A delete has only the primary key.
    in_primary_key: Vec<Vec<usize>>,
}

impl Touches {
    /// Creates the touches of a table whose columns `touches` equal the key.
    pub(super) fn new(
        table: &Table,
        touches: &[Vec<usize>],
        slot: &impl Fn(usize) -> Result<usize, String>,
    ) -> Result<Self, String> {
        let in_key = |column: &usize| table.primary_key.iter().position(|of_key| of_key == column);
        Ok(Self {
            slots: touches
                .iter()
                .map(|key| key.iter().map(|column| slot(*column)).collect())
                .collect::<Result<_, _>>()?,
            in_primary_key: touches.iter().filter_map(|key| key.iter().map(in_key).collect()).collect(),
        })
    }
}

impl Program {
    /// Whether Postgres alone evaluates the rule.
    pub fn is_of_postgres(&self) -> bool {
        self.touches.is_some()
    }

    /// Adds another table whose changes touch keys. Its columns `touches` equal the key, and its decoder returns
    /// `wanted`.
    ///
    /// # Errors
    /// A column is not in `wanted`.
    pub fn touching(mut self, table: &Table, touches: &[Vec<usize>], wanted: &[usize]) -> Result<Self, String> {
        let slot = |column: usize| {
            wanted.iter().position(|w| *w == column).ok_or_else(|| format!("column {column} is not decoded"))
        };
        let touches = Touches::new(table, touches, &slot)?;
        self.touches.get_or_insert_default().push(touches);
        Ok(self)
    }

    fn touches(&self, place: usize) -> Option<&Touches> {
        self.touches.as_ref()?.get(place)
    }

    /// Returns the keys that a row of the table at this place touches. A key is `None` if the record lacks one of its
    /// values.
    pub fn touched(&self, place: usize, row: &[Value], holes: &[Hole]) -> Vec<Option<Key>> {
        let value = |slot: &usize| match holes.iter().any(|hole| hole.slot == *slot) {
            true => None,
            false => row.get(*slot).cloned().filter(|value| *value != Value::Opaque),
        };
        let key = |slots: &Vec<usize>| slots.iter().map(value).collect::<Option<Vec<Value>>>().map(Key::new);
        self.touches(place).into_iter().flat_map(|touches| &touches.slots).map(key).collect()
    }

    /// Returns the keys that a deleted row touches, as far as its primary key contains them.
    pub fn touched_by_delete(&self, place: usize, pk: &Key) -> Vec<Option<Key>> {
        let values = pk.values();
        let key = |places: &Vec<usize>| {
            places.iter().map(|place| values.get(*place).cloned()).collect::<Option<Vec<Value>>>().map(Key::new)
        };
        self.touches(place).into_iter().flat_map(|touches| &touches.in_primary_key).map(key).collect()
    }
}
