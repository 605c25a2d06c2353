//! How far a run is on its way to the end that it reads to: reported by the loop, read by a progress bar.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Shared between the loop and a reader; each number is of about the same moment.
#[derive(Debug, Default)]
pub struct Gauge {
    all: AtomicU64,
    left: AtomicU64,
    waiting: AtomicU64,
    reported: AtomicBool,
}

/// What a gauge shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GaugeReading {
    /// Records to be read in all, counted by their offsets; 0 before that is known.
    pub all: u64,
    /// How many of them have been read.
    pub read: u64,
    /// Candidates that wait for an answer.
    pub waiting: u64,
}

impl Gauge {
    /// Says how many records are left, and how many candidates wait.
    pub fn report(&self, left: u64, waiting: usize) {
        self.reported.store(true, Ordering::Relaxed);
        self.all.fetch_max(left, Ordering::Relaxed); // at the beginning all of them are left
        self.left.store(left, Ordering::Relaxed);
        self.waiting.store(u64::try_from(waiting).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// Whether everything that there was to be read has been read.
    pub fn is_read(&self) -> bool {
        let GaugeReading { all, read, .. } = self.read();
        self.reported.load(Ordering::Relaxed) && read >= all
    }

    /// What it shows now.
    pub fn read(&self) -> GaugeReading {
        let all = self.all.load(Ordering::Relaxed);
        let read = all.saturating_sub(self.left.load(Ordering::Relaxed));
        GaugeReading { all, read, waiting: self.waiting.load(Ordering::Relaxed) }
    }
}
