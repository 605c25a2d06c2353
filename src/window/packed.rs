//! Storage of rows as 64-bit words. A row with a `bigint` key and one amount takes 40 bytes.
//!
//! A row has words for its primary key, its time, its version, its marks and group, and one for each argument. A value
//! that does not fit into a word is stored elsewhere, and the word has its index: a key of more than one integer, a
//! text, a decimal past 64 bits. All rows of a rule have the same number of words, so they lie in chunks without gaps.
//! Growth does not move the chunks (see [`super::arena`]).

use std::borrow::Cow;

use super::arena::Arena;
use super::version::Version;
use crate::model::{Double, Key, Timestamp, Value};
use crate::rule::evaluate::Args;

/// The number of rows in a chunk.
const CHUNK: usize = 512;
/// The words before the arguments: primary key, time, version, marks.
const HEAD: usize = 4;

// The word of marks has the group in its lower half, then these bits, then the tags of the first arguments.
const USED: u64 = 1 << 32;
/// The key is stored in `wide_keys`.
const WIDE_KEY: u64 = 1 << 33;
/// Memory cannot evaluate WHERE for the row: one more argument follows its arguments.
const DOUBTFUL: u64 = 1 << 34;
const FIRST_TAG: usize = 35;
/// The bits of an argument's tag, which gives the type of its word.
const TAG_BITS: usize = 3;
const TAG: u64 = 0b111;
/// The number of arguments whose tags are in the word of marks. Words behind the arguments hold the other tags.
const TAGS_IN_MARKS: usize = 9;
const TAGS_IN_WORD: usize = 21;

/// The end of the list of free places.
const NO_MORE: u64 = u64::MAX;

/// The rows of a window by small stable index.
#[derive(Debug)]
pub(super) struct Packed {
    arguments: usize,
    /// The number of words of a row.
    words: usize,
    chunks: Vec<Vec<u64>>,
    free: Option<u32>,
    len: usize,
    wide_keys: Arena<Key>,
    wide_values: Arena<Value>,
}

/// A row to store.
pub(super) struct NewRow<'a> {
    pub(super) pk: &'a Key,
    pub(super) group: u32,
    /// The time as the column has it. A local time becomes an instant only in the rule's time zone.
    pub(super) time: Timestamp,
    pub(super) version: Option<Version>,
    pub(super) args: &'a Args,
}

impl Packed {
    /// Creates a store for rows with this many arguments.
    pub(super) fn new(arguments: usize) -> Self {
        let more_tags = arguments.saturating_sub(TAGS_IN_MARKS).div_ceil(TAGS_IN_WORD);
        Self {
            arguments,
            words: HEAD + arguments + more_tags,
            chunks: Vec::new(),
            free: None,
            len: 0,
            wide_keys: Arena::new(),
            wide_values: Arena::new(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Stores a row. `None`: every index is in use.
    pub(super) fn insert(&mut self, row: NewRow<'_>) -> Option<u32> {
        let mut marks = u64::from(row.group) | USED;
        let pk = match row.pk {
            Key::Int(n) => n.cast_unsigned(),
            wide @ Key::Values(_) => {
                marks |= WIDE_KEY;
                u64::from(self.wide_keys.insert(wide.clone())?)
            }
        };
        if row.args.len() > self.arguments {
            marks |= DOUBTFUL;
        }
        let index = self.place()?;
        let Self { chunks, words: size, arguments, wide_values, .. } = self;
        let words = words_mut(chunks, *size, index)?;
        let (head, rest) = words.split_first_chunk_mut::<HEAD>()?;
        let (values, tags) = rest.split_at_mut_checked(*arguments)?;
        tags.fill(0);
        for (number, word) in values.iter_mut().enumerate() {
            let (tag, value) = packed(row.args.get(number).unwrap_or(&Value::Null), wide_values);
            *word = value;
            match number.checked_sub(TAGS_IN_MARKS) {
                None => marks |= tag << (FIRST_TAG + number * TAG_BITS),
                Some(behind) => {
                    if let Some(tags) = tags.get_mut(behind / TAGS_IN_WORD) {
                        *tags |= tag << (behind % TAGS_IN_WORD * TAG_BITS);
                    }
                }
            }
        }
        *head = [pk, row.time.0.cast_unsigned(), Version::bits(row.version), marks];
        self.len += 1;
        Some(index)
    }

    pub(super) fn remove(&mut self, index: u32) {
        let Some(row) = self.get(index) else { return };
        let ([pk, ..], marks) = (*row.head, row.marks());
        let is_wide = |number: &usize| tag(*number, marks, row.rest, self.arguments) == Tag::ELSEWHERE;
        let word = |number: usize| row.rest.get(number).and_then(|word| u32::try_from(*word).ok());
        let wide: Vec<u32> = (0..self.arguments).filter(is_wide).filter_map(word).collect();
        for value in wide {
            self.wide_values.remove(value);
        }
        if marks & WIDE_KEY != 0
            && let Ok(key) = u32::try_from(pk)
        {
            self.wide_keys.remove(key);
        }
        let next = self.free.map_or(NO_MORE, u64::from);
        if let Some([first, _, _, marks, ..]) = words_mut(&mut self.chunks, self.words, index) {
            (*first, *marks) = (next, 0);
            self.free = Some(index);
            self.len -= 1;
        }
    }

    /// Replaces a row by another at the same index. This holds since the place that was freed last is used first.
    pub(super) fn exchange(&mut self, index: u32, row: NewRow<'_>) {
        self.remove(index);
        self.insert(row);
    }

    /// Returns the row at an index, if that place is in use.
    #[inline]
    pub(super) fn get(&self, index: u32) -> Option<Row<'_>> {
        let index = usize::try_from(index).ok()?;
        let start = index % CHUNK * self.words;
        let words = self.chunks.get(index / CHUNK)?.get(start..start + self.words)?;
        let (head, rest) = words.split_first_chunk()?;
        let row = Row { rows: self, head, rest };
        (row.marks() & USED != 0).then_some(row)
    }

    pub(super) fn set_time(&mut self, index: u32, at: Timestamp) {
        if let Some([_, time, ..]) = words_mut(&mut self.chunks, self.words, index) {
            *time = at.0.cast_unsigned();
        }
    }

    /// Removes the versions of all rows.
    pub(super) fn forget_versions(&mut self) {
        for row in self.chunks.iter_mut().flat_map(|chunk| chunk.chunks_exact_mut(self.words)) {
            if let [_, _, version, ..] = row {
                *version = Version::bits(None);
            }
        }
    }

    /// Indexes and rows, by index.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, Row<'_>)> {
        let places = u32::try_from(self.chunks.len() * CHUNK).unwrap_or(u32::MAX);
        (0..places).filter_map(|index| Some((index, self.get(index)?)))
    }

    /// Returns a free place for one more row.
    fn place(&mut self) -> Option<u32> {
        if let Some(index) = self.free {
            let [next, ..] = words_mut(&mut self.chunks, self.words, index)? else { return None };
            self.free = u32::try_from(*next).ok();
            return Some(index);
        }
        let full = CHUNK * self.words;
        if self.chunks.last().is_none_or(|chunk| chunk.len() == full) {
            // The first chunk grows as needed, since most small windows never need a second.
            let capacity = if self.chunks.is_empty() { 0 } else { full };
            self.chunks.push(Vec::with_capacity(capacity));
        }
        let before = (self.chunks.len() - 1) * CHUNK;
        let chunk = self.chunks.last_mut()?;
        let index = u32::try_from(before + chunk.len() / self.words).ok()?;
        chunk.resize(chunk.len() + self.words, 0);
        Some(index)
    }
}

/// A stored row.
#[derive(Clone, Copy, Debug)]
pub(super) struct Row<'a> {
    rows: &'a Packed,
    head: &'a [u64; HEAD],
    rest: &'a [u64],
}

impl<'a> Row<'a> {
    fn marks(self) -> u64 {
        let [.., marks] = self.head;
        *marks
    }

    /// The row's primary key.
    #[inline]
    pub(super) fn pk(self) -> Cow<'a, Key> {
        let [pk, ..] = *self.head;
        match self.wide_key() {
            Some(key) => Cow::Borrowed(key),
            None => Cow::Owned(Key::Int(pk.cast_signed())),
        }
    }

    /// Whether the row has this primary key.
    #[inline]
    pub(super) fn has_pk(self, key: &Key) -> bool {
        let [pk, ..] = *self.head;
        match key {
            Key::Int(n) => self.marks() & WIDE_KEY == 0 && pk == n.cast_unsigned(),
            Key::Values(_) => self.wide_key() == Some(key),
        }
    }

    fn wide_key(self) -> Option<&'a Key> {
        let [pk, ..] = *self.head;
        if self.marks() & WIDE_KEY == 0 {
            return None;
        }
        self.rows.wide_keys.get(u32::try_from(pk).ok()?)
    }

    #[inline]
    pub(super) fn time(self) -> Timestamp {
        let [_, time, ..] = *self.head;
        Timestamp(time.cast_signed())
    }

    #[inline]
    pub(super) fn group(self) -> u32 {
        u32::try_from(self.marks() & u64::from(u32::MAX)).unwrap_or(u32::MAX)
    }

    #[inline]
    pub(super) fn version(self) -> Option<Version> {
        let [_, _, version, _] = *self.head;
        Version::of_bits(version)
    }

    /// The row's arguments.
    #[inline]
    pub(super) fn args(self) -> Args {
        let mut args = Args::new();
        for (number, word) in self.rest.iter().take(self.rows.arguments).enumerate() {
            args.push(self.value(tag(number, self.marks(), self.rest, self.rows.arguments), *word));
        }
        if self.marks() & DOUBTFUL != 0 {
            args.push(Value::Opaque);
        }
        args
    }

    #[inline]
    fn value(self, tag: u64, word: u64) -> Value {
        let elsewhere = || self.rows.wide_values.get(u32::try_from(word).ok()?).cloned();
        match tag {
            Tag::NULL => Value::Null,
            Tag::BOOL => Value::Bool(word != 0),
            Tag::INT => Value::Int(word.cast_signed()),
            Tag::DECIMAL => Value::Decimal(word.cast_signed().into()),
            Tag::TIME => Value::Time(Timestamp(word.cast_signed())),
            Tag::DOUBLE => Double::new(f64::from_bits(word)).map_or(Value::Opaque, Value::Double),
            Tag::ELSEWHERE => elsewhere().unwrap_or(Value::Opaque),
            _ => Value::Opaque,
        }
    }
}

#[inline]
fn words_mut(chunks: &mut [Vec<u64>], size: usize, index: u32) -> Option<&mut [u64]> {
    let index = usize::try_from(index).ok()?;
    let start = index % CHUNK * size;
    chunks.get_mut(index / CHUNK)?.get_mut(start..start + size)
}

/// The types that an argument's word can have.
struct Tag;

impl Tag {
    const NULL: u64 = 0;
    const BOOL: u64 = 1;
    const INT: u64 = 2;
    const DECIMAL: u64 = 3;
    const TIME: u64 = 4;
    const DOUBLE: u64 = 5;
    const OPAQUE: u64 = 6;
    const ELSEWHERE: u64 = 7;
}

/// Returns the tag of an argument. `rest` has the words after the head.
#[inline]
fn tag(number: usize, marks: u64, rest: &[u64], arguments: usize) -> u64 {
    match number.checked_sub(TAGS_IN_MARKS) {
        None => (marks >> (FIRST_TAG + number * TAG_BITS)) & TAG,
        Some(behind) => {
            let tags = rest.get(arguments + behind / TAGS_IN_WORD).copied().unwrap_or(0);
            (tags >> (behind % TAGS_IN_WORD * TAG_BITS)) & TAG
        }
    }
}

/// The tag and the word of a value.
#[inline]
fn packed(value: &Value, elsewhere: &mut Arena<Value>) -> (u64, u64) {
    let mut wide = |value: &Value| match elsewhere.insert(value.clone()) {
        Some(index) => (Tag::ELSEWHERE, u64::from(index)),
        None => (Tag::OPAQUE, 0),
    };
    match value {
        Value::Null => (Tag::NULL, 0),
        Value::Bool(value) => (Tag::BOOL, u64::from(*value)),
        Value::Int(n) => (Tag::INT, n.cast_unsigned()),
        Value::Decimal(n) => match i64::try_from(*n) {
            Ok(n) => (Tag::DECIMAL, n.cast_unsigned()),
            Err(_) => wide(value),
        },
        Value::Time(at) => (Tag::TIME, at.0.cast_unsigned()),
        Value::Double(value) => (Tag::DOUBLE, value.get().to_bits()),
        Value::Opaque => (Tag::OPAQUE, 0),
        Value::Text(_) => wide(value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::change::Op;
    use crate::model::Lsn;

    fn text(text: &str) -> Value {
        Value::Text(text.into())
    }

    fn kinds() -> Vec<Value> {
        let double = |value| Value::Double(Double::new(value).unwrap());
        vec![
            Value::Null,
            Value::Bool(true),
            Value::Bool(false),
            Value::Int(i64::MIN),
            Value::Decimal(-1),
            Value::Decimal(i128::from(i64::MAX) + 1),
            Value::Decimal(i128::MIN),
            Value::Time(Timestamp::MIN),
            double(-1.5),
            double(f64::NAN),
            double(f64::NEG_INFINITY),
            Value::Opaque,
            text(""),
            text("a text"),
        ]
    }

    #[test]
    fn rows_come_out_as_they_went_in() {
        let kinds = kinds();
        for arguments in [0, 1, 2, 8, 9, 10, 30, 31, 52] {
            let mut rows = Packed::new(arguments);
            let mut want = Vec::new();
            for number in 0..kinds.len() * 2 {
                let pk = match number % 3 {
                    0 => Key::Values(vec![text(&number.to_string()), Value::Null].into()),
                    1 => Key::Values(Box::default()),
                    _ => Key::Int(-i64::try_from(number).unwrap()),
                };
                let is_doubtful = number % 5 == 0;
                let mut args: Args =
                    (0..arguments).map(|place| kinds[(number + place * 3) % kinds.len()].clone()).collect();
                args.extend(is_doubtful.then_some(Value::Opaque));
                let version = (number % 2 == 0).then(|| Version::read(Lsn(number.try_into().unwrap())).unwrap());
                let group = u32::MAX - u32::try_from(number).unwrap();
                let time = Timestamp(-i64::try_from(number).unwrap());
                let index = rows.insert(NewRow { pk: &pk, group, time, version, args: &args }).unwrap();
                want.push((index, pk, group, time, version, args));
            }
            for (number, (index, ..)) in want.iter().enumerate().filter(|(number, _)| number % 4 == 0) {
                rows.remove(*index);
                assert!(rows.get(*index).is_none(), "{number}");
            }
            let left: Vec<_> =
                want.iter().enumerate().filter(|(number, _)| number % 4 != 0).map(|(_, row)| row).collect();
            assert_eq!(rows.len(), left.len());
            assert!(rows.iter().map(|(index, _)| index).eq(left.iter().map(|(index, ..)| *index)));
            for (index, pk, group, time, version, args) in left {
                let row = rows.get(*index).unwrap();
                assert_eq!(*row.pk(), *pk);
                assert!(row.has_pk(pk) && !row.has_pk(&Key::Int(7)));
                assert_eq!((row.group(), row.time()), (*group, *time));
                assert_eq!((row.version(), &row.args()), (*version, args));
            }
        }
    }

    #[test]
    fn what_lies_elsewhere_goes_with_its_row() {
        let mut rows = Packed::new(2);
        let (pk, args) = (Key::Values(vec![text("key")].into()), Args::from_iter([text("value"), Value::Int(1)]));
        let version = Version::streamed(Lsn(1), Op::Create);
        let insert = |rows: &mut Packed| {
            rows.insert(NewRow { pk: &pk, group: 0, time: Timestamp(0), version, args: &args }).unwrap()
        };
        let held: Vec<u32> = (0..10).map(|_| insert(&mut rows)).collect();
        held.iter().for_each(|index| rows.remove(*index));
        held.iter().for_each(|index| rows.remove(*index));
        assert_eq!((rows.len(), rows.wide_keys.len(), rows.wide_values.len()), (0, 0, 0));
        let again: Vec<u32> = (0..10).map(|_| insert(&mut rows)).collect();
        assert!(again.iter().rev().eq(&held), "free places come first");
        assert_eq!((rows.wide_keys.len(), rows.wide_values.len()), (10, 10));
        assert_eq!(insert(&mut rows), 10);
    }
}
