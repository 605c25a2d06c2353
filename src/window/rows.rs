//! The rows of a group in the order of their times.
//!
//! A row is only its index, in four bytes. Its time is looked up in the row where an order is needed. Most rows come in
//! the order of time, and rows leave from the front: neither looks at more than one row. A group with many rows has a
//! tree of lists, so the cost of a row in the middle grows with the logarithm of the group.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use crate::model::Timestamp;
use crate::rule::evaluate::Place;

/// The greatest number of rows in a list.
const LIST_MAX: usize = 128;
/// A list with fewer rows is joined with the next one, if both together have no more than [`JOINED_MAX`].
const LIST_MIN: usize = 32;
const JOINED_MAX: usize = 96;

/// Lists of rows in order. The key of a list is a (time, row) that none of its rows is before. The key of the first
/// list does not matter.
type Lists = BTreeMap<(Timestamp, u32), Vec<u32>>;

/// The rows of a group by time, and by index within one time. `time_of` returns the time of a row.
#[derive(Debug)]
pub(super) enum Rows {
    Few(Vec<u32>),
    Many(Box<Lists>),
}

impl Default for Rows {
    fn default() -> Self {
        Self::Few(Vec::new())
    }
}

impl Rows {
    /// Adds a row whose time is `at`.
    pub(super) fn insert(&mut self, row: u32, at: Timestamp, time_of: impl Fn(u32) -> Timestamp) {
        match self {
            Self::Few(rows) if rows.len() < LIST_MAX => put_in(rows, (at, row), &time_of),
            Self::Few(rows) => {
                let mut lists = Lists::from([((Timestamp::MIN, 0), std::mem::take(rows))]);
                insert(&mut lists, (at, row), &time_of);
                *self = Self::Many(Box::new(lists));
            }
            Self::Many(lists) => insert(lists, (at, row), &time_of),
        }
    }

    /// Removes a row whose time is `at`.
    pub(super) fn remove(&mut self, row: u32, at: Timestamp) {
        match self {
            Self::Few(rows) => take_out(rows, row),
            Self::Many(lists) => {
                remove(lists, (at, row));
                if lists.len() <= 1 {
                    let left = lists.pop_first().map(|(_, rows)| rows);
                    *self = Self::Few(left.unwrap_or_default());
                }
            }
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        matches!(self, Self::Few(rows) if rows.is_empty())
    }

    /// The row that leaves the window first.
    pub(super) fn first(&self) -> Option<u32> {
        match self {
            Self::Few(rows) => rows.first().copied(),
            Self::Many(lists) => lists.first_key_value().and_then(|(_, rows)| rows.first().copied()),
        }
    }

    /// All rows, in the order in which they leave the window.
    pub(super) fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        let (few, many) = match self {
            Self::Few(rows) => (Some(rows), None),
            Self::Many(lists) => (None, Some(lists.values())),
        };
        few.into_iter().chain(many.into_iter().flatten()).flatten().copied()
    }

    /// The rows from a time on, each with its time.
    pub(super) fn since<F: Fn(u32) -> Timestamp>(
        &self,
        from: Timestamp,
        time_of: F,
    ) -> impl Iterator<Item = (Timestamp, u32)> + use<'_, F> {
        let (first, others) = match self {
            Self::Few(rows) => (rows.as_slice(), None),
            Self::Many(lists) => match list_of(lists, (from, 0)) {
                Some((key, rows)) => (rows.as_slice(), Some(lists.range((Bound::Excluded(key), Bound::Unbounded)))),
                None => (&[][..], None),
            },
        };
        let is_whole = first.first().is_none_or(|row| time_of(*row) >= from);
        let start = if is_whole { 0 } else { first.partition_point(|row| time_of(*row) < from) };
        let others = others.into_iter().flatten().flat_map(|(_, rows)| rows);
        first.iter().skip(start).chain(others).map(move |row| (time_of(*row), *row))
    }
}

/// The list that a place belongs to, with its key.
fn list_of(lists: &Lists, place: (Timestamp, u32)) -> Option<((Timestamp, u32), &Vec<u32>)> {
    let before = lists.range(..=place).next_back();
    before.or_else(|| lists.first_key_value()).map(|(key, rows)| (*key, rows))
}

fn insert(lists: &mut Lists, place: (Timestamp, u32), time_of: &impl Fn(u32) -> Timestamp) {
    let Some((key, _)) = list_of(lists, place) else { return };
    let is_last = lists.last_key_value().is_some_and(|(last, _)| *last == key);
    let Some(rows) = lists.get_mut(&key) else { return };
    if rows.len() < LIST_MAX {
        return put_in(rows, place, time_of);
    }
    let standing = |row: u32| (time_of(row), row);
    if is_last && rows.last().is_some_and(|last| standing(*last) < place) {
        lists.insert(place, vec![place.1]);
        return;
    }
    // From here on the first row of each half is its key. The key of a first list may be after its rows.
    let Some(mut lower) = lists.remove(&key) else { return };
    let mut upper = lower.split_off(LIST_MAX / 2);
    let first = |rows: &[u32]| rows.first().map_or(place, |row| standing(*row));
    let half = if place < first(&upper) { &mut lower } else { &mut upper };
    put_in(half, place, time_of);
    for rows in [lower, upper] {
        lists.insert(first(&rows), rows);
    }
}

fn remove(lists: &mut Lists, place: (Timestamp, u32)) {
    let Some((key, _)) = list_of(lists, place) else { return };
    let Some(rows) = lists.get_mut(&key) else { return };
    take_out(rows, place.1);
    let count = rows.len();
    if count == 0 {
        lists.remove(&key);
    } else if count < LIST_MIN
        && let Some((next, others)) = lists.range((Bound::Excluded(key), Bound::Unbounded)).next()
        && others.len() + count <= JOINED_MAX
    {
        let next = *next;
        let others = lists.remove(&next).unwrap_or_default();
        if let Some(rows) = lists.get_mut(&key) {
            rows.reserve_exact(others.len());
            rows.extend(others);
        }
    }
}

/// Adds a row at its place in a list.
fn put_in(rows: &mut Vec<u32>, place: (Timestamp, u32), time_of: &impl Fn(u32) -> Timestamp) {
    let is_before = |other: &u32| (time_of(*other), *other) < place;
    let index = if rows.last().is_none_or(is_before) { rows.len() } else { rows.partition_point(is_before) };
    if rows.len() == rows.capacity() {
        // There are as many lists as keys, so a list grows by a quarter instead of doubling.
        rows.reserve_exact((rows.len() / 4 + 2).min(LIST_MAX.saturating_sub(rows.len())).max(1));
    }
    rows.insert(index, place.1);
}

fn take_out(rows: &mut Vec<u32>, row: u32) {
    if let Some(index) = rows.iter().position(|other| *other == row) {
        rows.remove(index);
    }
    if rows.len() * 2 + 4 < rows.capacity() {
        rows.shrink_to(rows.len() + rows.len() / 4);
    }
}

/// Values of rows that are compared with NOW() beside their place in series 0. Each such value is a series by group.
/// Most rules have none.
#[derive(Debug, Default)]
pub(super) struct OtherPlaces(BTreeSet<(u32, u8, Timestamp, u32)>);

impl OtherPlaces {
    pub(super) fn insert(&mut self, group: u32, row: u32, places: impl IntoIterator<Item = Place>) {
        self.0.extend(places.into_iter().map(|(series, at)| (group, series, at, row)));
    }

    pub(super) fn remove(&mut self, group: u32, row: u32, places: impl IntoIterator<Item = Place>) {
        for (series, at) in places {
            self.0.remove(&(group, series, at, row));
        }
    }

    /// The rows of a group in a series from a time on.
    pub(super) fn since(&self, group: u32, series: u8, from: Timestamp) -> impl Iterator<Item = (Timestamp, u32)> + '_ {
        let all = (group, series, from, 0)..=(group, series, Timestamp::MAX, u32::MAX);
        self.0.range(all).map(|(.., at, row)| (*at, *row))
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    /// Returns numbers that look random and are the same in every run (splitmix64).
    struct Draw(u64);

    impl Draw {
        fn below(&mut self, limit: usize) -> usize {
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            usize::try_from((mixed ^ (mixed >> 31)) % u64::try_from(limit).unwrap()).unwrap()
        }
    }

    /// Rows beside a plain set of the same rows, with a count of how often a time was looked up.
    #[derive(Default)]
    struct Both {
        rows: Rows,
        plain: BTreeSet<(Timestamp, u32)>,
        times: Vec<Timestamp>,
        looked_up: Cell<u64>,
    }

    impl Both {
        fn time_of(&self, row: u32) -> Timestamp {
            self.looked_up.set(self.looked_up.get() + 1);
            self.times[usize::try_from(row).unwrap()]
        }

        fn insert(&mut self, at: i64) {
            let row = u32::try_from(self.times.len()).unwrap();
            self.times.push(Timestamp(at));
            let mut rows = std::mem::take(&mut self.rows);
            rows.insert(row, Timestamp(at), |row| self.time_of(row));
            self.rows = rows;
            self.plain.insert((Timestamp(at), row));
        }

        fn remove(&mut self, (at, row): (Timestamp, u32)) {
            self.rows.remove(row, at);
            self.plain.remove(&(at, row));
        }

        /// Removes the first row at or after a random place.
        fn remove_drawn(&mut self, at: i64) {
            let drawn = self.plain.range((Timestamp(at), 0)..).next().or_else(|| self.plain.first());
            if let Some(drawn) = drawn.copied() {
                self.remove(drawn);
            }
        }

        fn check(&self, seed: u64) {
            assert!(self.rows.iter().eq(self.plain.iter().map(|(_, row)| *row)), "seed {seed}");
            assert_eq!(self.rows.first(), self.plain.first().map(|(_, row)| *row), "seed {seed}");
            assert_eq!(self.rows.is_empty(), self.plain.is_empty(), "seed {seed}");
            let lists = match &self.rows {
                Rows::Few(rows) => vec![rows.len()],
                Rows::Many(lists) => lists.values().map(Vec::len).collect(),
            };
            assert!(lists.iter().all(|count| *count <= LIST_MAX), "seed {seed}: {lists:?}");
            let is_poor = |pair: &[usize]| pair.iter().sum::<usize>() < LIST_MIN;
            assert!(!lists.windows(2).any(is_poor), "seed {seed}: {lists:?}");
        }

        fn check_since(&self, from: i64, seed: u64) {
            let since = self.rows.since(Timestamp(from), |row| self.time_of(row));
            assert!(since.eq(self.plain.range((Timestamp(from), 0)..).copied()), "seed {seed}, from {from}");
        }

        /// The number of look-ups since the last call.
        fn take_looked_up(&self) -> u64 {
            self.looked_up.take()
        }
    }

    #[test]
    fn rows_are_those_of_a_plain_set() {
        for seed in 0..200 {
            let mut draw = Draw(seed);
            let mut both = Both::default();
            // Many rows of one time, or few; the group grows, shrinks to nothing, and grows again.
            let span = [3, 50, 5_000][draw.below(3)];
            let at = |draw: &mut Draw| i64::try_from(draw.below(span)).unwrap();
            for part in 0..6 {
                for _ in 0..draw.below(600) {
                    match (part % 3, draw.below(10)) {
                        (0 | 1, 0..6) | (2, 0..2) => both.insert(at(&mut draw)),
                        (0, _) => both.remove_drawn(at(&mut draw)),
                        (1, _) => {
                            let last = both.plain.last().map_or(0, |(at, _)| at.0);
                            both.insert(last + i64::try_from(draw.below(2)).unwrap());
                        }
                        (_, 2..6) => both.remove_drawn(i64::MIN),
                        _ => both.remove_drawn(at(&mut draw)),
                    }
                }
                both.check(seed);
                for _ in 0..10 {
                    both.check_since(at(&mut draw), seed);
                }
            }
            while let Some(first) = both.plain.first().copied() {
                both.remove(first);
            }
            both.check(seed);
        }
    }

    /// One hot key: the number of rows that a change looks at grows only with the logarithm of the key's rows.
    #[test]
    fn a_group_of_100_000_rows_costs_a_change_no_more_than_its_logarithm() {
        const COUNT: i64 = 100_000;
        let mut draw = Draw(1);
        let mut drawn = || i64::try_from(draw.below(1_000_000)).unwrap();
        let per_change = |both: &Both| both.take_looked_up() / COUNT.unsigned_abs();
        let mut both = Both::default();
        (0..COUNT).for_each(|number| both.insert(number * 10));
        assert!(per_change(&both) <= 1, "at the end: the last row alone is looked at");
        (0..COUNT).for_each(|_| both.insert(drawn()));
        let in_the_midst = per_change(&both);
        assert!(in_the_midst <= 9, "{in_the_midst} for a row in the midst: a search in one list of {LIST_MAX}");
        (0..COUNT).for_each(|_| both.remove_drawn(drawn()));
        assert_eq!(both.take_looked_up(), 0, "a row that leaves is found by its time");
        both.check(1);
        for _ in 0..1_000 {
            let from = Timestamp(drawn());
            let first = both.rows.since(from, |row| both.time_of(row)).next();
            assert_eq!(first, both.plain.range((from, 0)..).next().copied());
        }
        let searched = both.take_looked_up() / 1_000;
        assert!(searched <= 11, "{searched} for the first row from a time on");
        while let Some(first) = both.plain.first().copied() {
            assert_eq!(both.rows.first(), Some(first.1));
            both.remove(first);
        }
        assert_eq!(both.take_looked_up(), 0, "time takes the first row");
        assert!(both.rows.is_empty());
    }
}
