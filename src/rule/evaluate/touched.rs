//! The keys that a change touches, where Postgres alone evaluates the rule.

use super::Program;
use crate::change::Hole;
use crate::model::{Key, Table, Value};

/// How the changes of one table touch keys.
#[derive(Clone, Debug)]
pub(super) struct Touches {
    /// The slots of each key that a row touches.
    slots: Vec<Vec<usize>>,
    /// The same in the primary key, where all columns of the key are in it: a delete says no more of its row.
    in_primary_key: Vec<Vec<usize>>,
}

impl Touches {
    /// Of a table whose columns `touches` equal the key.
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
    /// Whether Postgres alone evaluates it.
    pub fn is_of_postgres(&self) -> bool {
        self.touches.is_some()
    }

    /// The same, where changes of another table touch keys as well: its `touches` columns equal the key, and its decoder yields
    /// `wanted`.
    ///
    /// # Errors
    /// A column that is not among `wanted`.
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

    /// The keys that a row of the table at this place touches, where Postgres alone evaluates. A value that the record does not
    /// say is `None`.
    pub fn touched(&self, place: usize, row: &[Value], holes: &[Hole]) -> Vec<Option<Key>> {
        let value = |slot: &usize| match holes.iter().any(|hole| hole.slot == *slot) {
            true => None,
            false => row.get(*slot).cloned().filter(|value| *value != Value::Opaque),
        };
        let key = |slots: &Vec<usize>| slots.iter().map(value).collect::<Option<Vec<Value>>>().map(Key::new);
        self.touches(place).into_iter().flat_map(|touches| &touches.slots).map(key).collect()
    }

    /// The keys that a deleted row of this primary key has touched, as far as the primary key says.
    pub fn touched_by_delete(&self, place: usize, pk: &Key) -> Vec<Option<Key>> {
        let values = pk.values();
        let key = |places: &Vec<usize>| {
            places.iter().map(|place| values.get(*place).cloned()).collect::<Option<Vec<Value>>>().map(Key::new)
        };
        self.touches(place).into_iter().flat_map(|touches| &touches.in_primary_key).map(key).collect()
    }
}
