//! Small deserializers that neither build a tree nor fail: a key by its meaning, an integer, a text.

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// A key of an object, converted by the function. Escaped names work too.
pub(super) struct NameSeed<F>(pub(super) F);

impl<'de, T, F: FnOnce(&str) -> T> DeserializeSeed<'de> for NameSeed<F> {
    type Value = T;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<T, D::Error> {
        json.deserialize_str(self)
    }
}

impl<T, F: FnOnce(&str) -> T> Visitor<'_> for NameSeed<F> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_str<E>(self, name: &str) -> Result<T, E> {
        Ok((self.0)(name))
    }
}

/// The names that an object has had so far. A field that appears twice has no meaning.
pub(super) struct Once<'a> {
    /// The names. The first stands for all names that do not count.
    names: &'a [&'a str],
    /// One bit for each name, in order.
    had: u32,
}

impl<'a> Once<'a> {
    pub(super) fn new(names: &'a [&'a str]) -> Self {
        Self { names, had: 0 }
    }

    /// Rejects a name that appears for the second time.
    pub(super) fn first<E: Error>(&mut self, place: usize) -> Result<(), E> {
        let bit = u32::try_from(place).ok().filter(|place| *place > 0).and_then(|place| 1_u32.checked_shl(place));
        let bit = bit.unwrap_or(0);
        if self.had & bit != 0 {
            let name = self.names.get(place).copied().unwrap_or_default();
            return Err(E::custom(format_args!("{name} is there twice")));
        }
        self.had |= bit;
        Ok(())
    }
}

/// A number in an envelope.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Number {
    /// Missing, or null.
    #[default]
    Absent,
    Signed(i64),
    Unsigned(u64),
    /// Present, and not an integer of 64 bits.
    Unusable,
}

impl Number {
    pub(super) fn to_i32(self) -> Option<i32> {
        self.to_i64().and_then(|number| i32::try_from(number).ok())
    }

    pub(super) fn to_i64(self) -> Option<i64> {
        match self {
            Self::Signed(number) => Some(number),
            Self::Unsigned(number) => i64::try_from(number).ok(),
            Self::Absent | Self::Unusable => None,
        }
    }
}

/// Reads a [`Number`] from any value.
pub(super) struct NumberSeed;

impl<'de> DeserializeSeed<'de> for NumberSeed {
    type Value = Number;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Number, D::Error> {
        json.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for NumberSeed {
    type Value = Number;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number")
    }

    fn visit_unit<E>(self) -> Result<Number, E> {
        Ok(Number::Absent)
    }

    fn visit_i64<E>(self, number: i64) -> Result<Number, E> {
        Ok(Number::Signed(number))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Number, E> {
        Ok(Number::Unsigned(number))
    }

    fn visit_f64<E>(self, _: f64) -> Result<Number, E> {
        Ok(Number::Unusable)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Number, E> {
        Ok(Number::Unusable)
    }

    fn visit_str<E>(self, _: &str) -> Result<Number, E> {
        Ok(Number::Unusable)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Number, A::Error> {
        while items.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Number::Unusable)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Number, A::Error> {
        while fields.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Number::Unusable)
    }
}

/// Reads a text, or `None` for null. Any other value gives serde's error, which names the expected text.
pub(super) struct TextSeed(pub(super) &'static str);

impl<'de> DeserializeSeed<'de> for TextSeed {
    type Value = Option<Cow<'de, str>>;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Self::Value, D::Error> {
        json.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for TextSeed {
    type Value = Option<Cow<'de, str>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} to be a text or null", self.0)
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Some(Cow::Borrowed(text)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Some(Cow::Owned(text.to_owned())))
    }
}
