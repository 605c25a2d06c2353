//! A histogram over fixed bounds, in integers.

use serde::Serialize;

/// Upper bounds of the buckets in microseconds, 1 ms to 10 min.
pub const BOUNDS: [u64; 16] = [
    1_000,
    2_500,
    5_000,
    10_000,
    25_000,
    50_000,
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    30_000_000,
    60_000_000,
    600_000_000,
];

/// Durations counted in the buckets of [`BOUNDS`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Histogram {
    /// The number of durations in each bucket (not cumulative). Those past the last bound are in none.
    buckets: [u64; BOUNDS.len()],
    /// The number of all durations.
    pub count: u64,
    /// The sum of all durations in microseconds.
    pub sum: u64,
}

impl Histogram {
    /// Counts a duration.
    pub fn observe(&mut self, micros: u64) {
        let place = BOUNDS.partition_point(|bound| *bound < micros);
        if let Some(bucket) = self.buckets.get_mut(place) {
            *bucket += 1;
        }
        self.count += 1;
        self.sum = self.sum.saturating_add(micros);
    }

    /// Each bound in microseconds, with the number of durations up to it.
    pub fn cumulative(&self) -> impl Iterator<Item = (u64, u64)> {
        let mut below = 0;
        BOUNDS.iter().zip(&self.buckets).map(move |(bound, count)| {
            below += count;
            (*bound, below)
        })
    }

    /// The bound up to which this percentage of the durations lies. `None` without durations, or if it is past the last
    /// bound.
    pub fn quantile(&self, percent: u64) -> Option<u64> {
        let wanted = self.count.saturating_mul(percent).div_ceil(100);
        self.cumulative().find(|(_, below)| self.count > 0 && *below >= wanted).map(|(bound, _)| bound)
    }
}

#[cfg(test)]
mod tests {
    use super::Histogram;

    #[test]
    fn buckets_and_quantiles() {
        let mut histogram = Histogram::default();
        assert_eq!(histogram.quantile(50), None);
        for micros in [0, 1_000, 1_001, 40_000, 700_000_000] {
            histogram.observe(micros);
        }
        let counts: Vec<u64> = histogram.cumulative().map(|(_, below)| below).collect();
        assert_eq!(counts, [2, 3, 3, 3, 3, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4]);
        assert_eq!((histogram.count, histogram.sum), (5, 700_042_001));
        assert_eq!(
            (histogram.quantile(50), histogram.quantile(80), histogram.quantile(81)),
            (Some(2_500), Some(50_000), None)
        );
    }
}
