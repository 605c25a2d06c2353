//! The columns of an image, found but not yet read. Their types are known only after the whole record was read.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::layout::Layout;
use crate::change::debezium::named::NameSeed;

/// The values of an image.
pub(super) struct Unread<'de> {
    /// The values of the layout's columns. `None`: the column is missing.
    pub(super) values: Vec<Option<&'de RawValue>>,
    /// A column that the layout does not have.
    pub(super) unknown: Option<String>,
}

/// Finds the columns of an image: `None` for null.
pub(super) struct RowSeed<'a>(pub(super) &'a Layout);

impl<'de> DeserializeSeed<'de> for RowSeed<'_> {
    type Value = Option<Unread<'de>>;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Self::Value, D::Error> {
        json.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for RowSeed<'_> {
    type Value = Option<Unread<'de>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of a row's columns, or null")
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut columns: A) -> Result<Self::Value, A::Error> {
        let (mut values, mut unknown) = (vec![None; self.0.fields.len()], None);
        let mut next = 0;
        while let Some(found) = columns.next_key_seed(NameSeed(|name: &str| {
            let slot = self.0.find_written(name, &mut next);
            slot.map(|slot| slot.ok_or_else(|| name.to_owned()))
        }))? {
            let found = found.map_err(A::Error::custom)?;
            let value: &RawValue = columns.next_value()?;
            match found {
                Ok(slot) => {
                    if let Some(place) = values.get_mut(slot)
                        && place.replace(value).is_some()
                    {
                        let name = self.0.fields.get(slot).map_or("", |field| field.name.as_str());
                        return Err(A::Error::custom(format_args!("column {name:?} is there twice")));
                    }
                }
                Err(name) => {
                    unknown.get_or_insert(name);
                }
            }
        }
        Ok(Some(Unread { values, unknown }))
    }
}
