//! The columns that are read from an image, and their values.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};

use super::Settings;
use super::adjusted::{AdjustedNames, either};
use super::envelope::After;
use super::named::NameSeed;
use super::value::{Form, Placeholder, UNTOUCHED, Unread, ValueSeed};
use crate::change::{Hole, HoleCause, Reject, RejectKind};
use crate::model::{Column, Key, Table, Value};

/// The wanted columns in their order, then those of the primary key that are not among them. A slot is an index into
/// this list.
#[derive(Clone)]
pub(super) struct Columns {
    /// Every column of the table in its order, because images have that order.
    names: Vec<Names>,
    slots: Vec<Slot>,
    wanted: usize,
    /// The slots of the primary key, in key order.
    primary_key: Vec<usize>,
}

/// The names of a column in records, its own name first, and its slot if it is read.
#[derive(Clone)]
struct Names {
    names: Vec<String>,
    slot: Option<usize>,
}

impl Names {
    fn has(&self, name: &str) -> bool {
        self.names.iter().any(|known| known == name)
    }
}

#[derive(Clone)]
struct Slot {
    name: String,
    type_name: String,
    in_key: bool,
    /// Why the column is missing in records that have a name which may also be another column's.
    shared: Option<String>,
}

/// The part of an image that is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    All,
    PrimaryKey,
}

impl Columns {
    /// Selects the columns. Also returns the form of each slot in records without a schema.
    pub(super) fn new(table: &Table, wanted: &[usize], settings: Settings) -> Result<(Self, Vec<Form>), String> {
        let own: Vec<&str> = table.columns.iter().map(|column| column.name.as_str()).collect();
        let adjusted = AdjustedNames::of(&own);
        let mut names: Vec<Names> = own.iter().enumerate().map(|(at, own)| names_of(at, own, &adjusted)).collect();
        let (mut slots, mut forms, mut primary_key) = (Vec::new(), Vec::new(), Vec::new());
        let no_column = |index| format!("table {table} has no column number {index}");
        if table.primary_key.is_empty() {
            return Err(format!("table {table} has no primary key, which tells its rows apart; add one"));
        }
        for &index in wanted.iter().chain(&table.primary_key) {
            let is_wanted = slots.len() < wanted.len();
            let column = table.columns.get(index).ok_or_else(|| no_column(index))?;
            let Names { slot, .. } = names.get_mut(index).ok_or_else(|| no_column(index))?;
            match slot {
                Some(_) if is_wanted => return Err(format!("column {:?} of {table} is wanted twice", column.name)),
                Some(slot) => primary_key.push(*slot),
                None => {
                    *slot = Some(slots.len());
                    if !is_wanted {
                        primary_key.push(slots.len());
                    }
                    let shared = adjusted
                        .shared_by(index)
                        .and_then(|(other, name)| Some(either(name, &column.name, own.get(other)?)));
                    slots.push(Slot::new(column, table.primary_key.contains(&index), shared));
                    let form = Form::from_catalog(column, settings).map_err(|why| match is_wanted {
                        true => format!("table {table}: {why}; leave it out of the rule"),
                        false => format!(
                            "table {table}: {why}; it is of the primary key, by which rows are told apart: a rule needs a \
                             table whose primary key is of integers, numerics, text, uuid, dates or timestamps"
                        ),
                    });
                    forms.push(form?);
                }
            }
        }
        Ok((Self { names, slots, wanted: wanted.len(), primary_key }, forms))
    }

    /// The slot of the column with this name. `next` is the expected index: that after the previous column.
    fn find(&self, name: &str, next: &mut usize) -> Option<usize> {
        if let Some(expected) = self.names.get(*next)
            && expected.has(name)
        {
            *next = next.saturating_add(1);
            return expected.slot;
        }
        self.slot_elsewhere(name, next)
    }

    #[cold]
    fn slot_elsewhere(&self, name: &str, next: &mut usize) -> Option<usize> {
        let (at, found) = self.names.iter().enumerate().find(|(_, known)| known.has(name))?;
        *next = at.saturating_add(1);
        found.slot
    }

    /// The slot of the column with this name.
    pub(super) fn slot(&self, name: &str) -> Option<usize> {
        self.slot_elsewhere(name, &mut 0)
    }

    /// Whether the image of a record's key has every column of the primary key, even with a value that could not be
    /// read.
    pub(super) fn has_key(&self, image: &Image) -> bool {
        self.primary_key.iter().all(|slot| image.values.get(*slot).is_some_and(Option::is_some))
            || image.unread.iter().any(|(slot, _)| self.slots.get(*slot).is_some_and(|slot| slot.in_key))
    }

    /// Whether an image has every wanted column, even with a value that could not be read.
    pub(super) fn is_whole(&self, image: &Image) -> bool {
        let is_there = |slot: usize| {
            image.values.get(slot).is_some_and(Option::is_some) || image.unread.iter().any(|(at, _)| *at == slot)
        };
        (0..self.wanted).all(is_there)
    }

    /// The primary key from an image. `place` names the image in a reject.
    pub(super) fn key(&self, image: &Image, place: &str) -> Result<Key, Reject> {
        if let Some((slot, why)) = image.unread.iter().find(|(slot, _)| self.is_in_key(*slot)) {
            return Err(self.reject(*slot, place, why.as_str()));
        }
        if let [slot] = self.primary_key.as_slice()
            && let Some(Some(Value::Int(id))) = image.values.get(*slot)
        {
            return Ok(Key::Int(*id));
        }
        let mut values = Vec::with_capacity(self.primary_key.len());
        for &slot in &self.primary_key {
            match image.values.get(slot) {
                Some(None) | None => return Err(self.reject(slot, place, self.missing(slot))),
                Some(Some(Value::Null | Value::Opaque)) => {
                    let why = "null, NaN, an infinity or a number too great identifies no row; take this row out";
                    return Err(self.reject(slot, place, why));
                }
                Some(Some(value)) => values.push(value.clone()),
            }
        }
        Ok(Key::new(values))
    }

    fn is_in_key(&self, slot: usize) -> bool {
        self.slots.get(slot).is_some_and(|slot| slot.in_key)
    }

    /// Takes the wanted columns out of an image.
    pub(super) fn row(&self, image: &mut Image, place: &str) -> Row {
        let (mut holes, mut reject, mut lacks_column) = (Vec::new(), None, false);
        let values = image.values.iter_mut().take(self.wanted).enumerate();
        let values = values.map(|(slot, value)| {
            value.take().unwrap_or_else(|| {
                let unread = image.unread.iter().find(|(at, _)| *at == slot).map(|(_, why)| why);
                let cause = match unread {
                    Some(Unread::Unchanged) => HoleCause::Unchanged,
                    Some(Unread::Misfit(_)) | None => HoleCause::Unreadable,
                };
                if cause == HoleCause::Unreadable && reject.is_none() {
                    lacks_column = unread.is_none();
                    reject = Some(self.reject(slot, place, unread.map_or_else(|| self.missing(slot), Unread::as_str)));
                }
                holes.push(Hole { slot, cause });
                Value::Opaque
            })
        });
        Row { values: values.collect(), holes, reject, lacks_column }
    }

    /// Why a column is missing.
    fn missing(&self, slot: usize) -> &str {
        self.slots.get(slot).and_then(|slot| slot.shared.as_deref()).unwrap_or(MISSING)
    }

    fn reject(&self, slot: usize, place: &str, why: &str) -> Reject {
        let column = match self.slots.get(slot) {
            Some(slot) => format!("column {:?} ({}) of {place}: ", slot.name, slot.type_name),
            None => String::new(),
        };
        Reject {
            kind: if place == super::RECORD_KEY { RejectKind::Key } else { RejectKind::Value },
            detail: format!("{column}{why}"),
        }
    }
}

impl Unread {
    fn as_str(&self) -> &str {
        match self {
            Self::Unchanged => UNTOUCHED,
            Self::Misfit(why) => why,
        }
    }
}

impl Slot {
    fn new(column: &Column, in_key: bool, shared: Option<String>) -> Self {
        Self { name: column.name.clone(), type_name: column.type_name.clone(), in_key, shared }
    }
}

fn names_of(column: usize, own: &str, adjusted: &AdjustedNames) -> Names {
    let is_own = adjusted.meant(own).is_none();
    let names = is_own.then(|| own.to_owned()).into_iter().chain(adjusted.of_column(column).map(str::to_owned));
    Names { names: names.collect(), slot: None }
}

/// The reason for a column without a value in the record.
const MISSING: &str = "it is not there: the record is older or newer than the table's present columns, or the connector \
                       or the publication leaves the column out, or it is a generated column";

/// The reason for a column with two values.
pub(super) const TWICE: &str = "it is there twice, and which value is meant is not known; is this topic Debezium's?";

/// The wanted columns of a row.
pub(super) struct Row {
    pub(super) values: Box<[Value]>,
    /// The columns whose values are not known.
    pub(super) holes: Vec<Hole>,
    /// The reason for the first column that the record should have had.
    pub(super) reject: Option<Reject>,
    /// Whether the record lacks that column entirely.
    pub(super) lacks_column: bool,
}

/// The values read from one image, by slot. The allocation is reused for every record.
#[derive(Clone, Default)]
pub(super) struct Image {
    values: Vec<Option<Value>>,
    /// The values that could not be read, and why.
    unread: Vec<(usize, Unread)>,
}

impl Image {
    pub(super) fn clear(&mut self, columns: &Columns) {
        self.values.clear();
        self.values.resize(columns.slots.len(), None);
        self.unread.clear();
    }

    /// Sets a value. A column that appears twice has no value, because the record does not show which one is meant.
    fn set(&mut self, slot: usize, read: Result<Value, Unread>) {
        let Some(place) = self.values.get_mut(slot) else { return };
        let is_there = place.is_some() || self.unread.iter().any(|(at, _)| *at == slot);
        match read {
            Ok(value) if !is_there => *place = Some(value),
            Err(why) if !is_there => self.unread.push((slot, why)),
            _ => {
                *place = None;
                self.unread.retain(|(at, _)| *at != slot);
                self.unread.push((slot, Unread::Misfit(TWICE.to_owned())));
            }
        }
    }
}

/// Reads an image into `image`. Returns `true` for a row, `false` for null.
pub(super) struct ImageSeed<'a> {
    pub(super) columns: &'a Columns,
    pub(super) forms: &'a [Form],
    pub(super) part: Part,
    pub(super) placeholder: &'a Placeholder,
    pub(super) image: &'a mut Image,
}

/// The complete `after`: whether it is a row.
impl<'de> After<'de> for ImageSeed<'_> {
    type Read = bool;
    const TIMES: bool = false;

    fn read<D: Deserializer<'de>>(&mut self, json: D) -> Result<bool, D::Error> {
        let Self { columns, forms, part, placeholder, ref mut image } = *self;
        ImageSeed { columns, forms, part, placeholder, image }.deserialize(json)
    }
}

impl<'de> DeserializeSeed<'de> for ImageSeed<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<bool, D::Error> {
        json.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for ImageSeed<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of a row's columns, or null")
    }

    fn visit_unit<E>(self) -> Result<bool, E> {
        Ok(false)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<bool, A::Error> {
        // An image given twice counts as the last one, like any name given twice.
        self.image.clear(self.columns);
        let mut next = 0;
        while let Some(slot) = fields.next_key_seed(NameSeed(|name: &str| self.columns.find(name, &mut next)))? {
            let read = slot.and_then(|at| Some((at, self.columns.slots.get(at)?, self.forms.get(at)?)));
            match read {
                Some((at, slot, form)) if self.part == Part::All || slot.in_key => {
                    let read = fields.next_value_seed(ValueSeed(form, self.placeholder))?;
                    self.image.set(at, read);
                }
                _ => _ = fields.next_value::<IgnoredAny>()?,
            }
        }
        Ok(true)
    }
}
