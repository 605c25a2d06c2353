//! A run's progress to the end that it reads to. The loop reports it, and a progress bar reads it.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Shared between the loop and a reader. The numbers are of about the same moment.
#[derive(Debug, Default)]
pub struct Gauge {
    all: AtomicU64,
    left: AtomicU64,
    waiting: AtomicU64,
    reported: AtomicBool,
}

/// The values of a gauge.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GaugeReading {
    /// The number of all records to read, counted by their offsets. 0 before it is known.
    pub all: u64,
    /// The number of records that have been read.
    pub read: u64,
    /// The number of candidates that wait for an answer.
    pub waiting: u64,
}

impl Gauge {
    /// Reports the number of remaining records, and of waiting candidates.
    pub fn report(&self, left: u64, waiting: usize) {
        self.reported.store(true, Ordering::Relaxed);
        self.all.fetch_max(left, Ordering::Relaxed); // at the beginning all of them are left
        self.left.store(left, Ordering::Relaxed);
        self.waiting.store(u64::try_from(waiting).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// Whether all records have been read.
    pub fn is_read(&self) -> bool {
        let GaugeReading { all, read, .. } = self.read();
        self.reported.load(Ordering::Relaxed) && read >= all
    }

    /// Returns the current values.
    pub fn read(&self) -> GaugeReading {
        let all = self.all.load(Ordering::Relaxed);
        let read = all.saturating_sub(self.left.load(Ordering::Relaxed));
        GaugeReading { all, read, waiting: self.waiting.load(Ordering::Relaxed) }
    }
}
