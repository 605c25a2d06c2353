//! The rows of a group, in the order of their times.

use std::collections::BTreeSet;

use crate::model::Timestamp;
use crate::rule::evaluate::Place;

/// Rows by where they stand in time. A row that is compared with NOW() by several of its values stands in a series for each;
/// all rows stand in series 0.
#[derive(Debug, Default)]
pub(super) struct Rows(BTreeSet<(u8, Timestamp, u32)>);

impl Rows {
    pub(super) fn insert(&mut self, row: u32, places: impl IntoIterator<Item = Place>) {
        self.0.extend(places.into_iter().map(|(series, at)| (series, at, row)));
    }

    pub(super) fn remove(&mut self, row: u32, places: impl IntoIterator<Item = Place>) {
        for (series, at) in places {
            self.0.remove(&(series, at, row));
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All of them, what leaves the window first.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Timestamp, u32)> + '_ {
        self.between(0, Timestamp::MIN, Timestamp::MAX)
    }

    /// Those in a stretch of a series, both ends included.
    pub(super) fn between(
        &self,
        series: u8,
        from: Timestamp,
        to: Timestamp,
    ) -> impl Iterator<Item = (Timestamp, u32)> + '_ {
        self.0.range((series, from, 0)..=(series, to, u32::MAX)).map(|(_, at, row)| (*at, *row))
    }

    /// The first place in a series from a time on.
    pub(super) fn first(&self, series: u8, from: Timestamp) -> Option<Timestamp> {
        self.between(series, from, Timestamp::MAX).next().map(|(at, _)| at)
    }
}
