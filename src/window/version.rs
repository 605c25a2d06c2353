//! The order of two versions of a row.
//!
//! LSNs order the streamed changes of one row, as its row lock does. A snapshot read has the position of its whole
//! snapshot. A change written after that position is newer than the read. A change written before it may be newer too,
//! if its transaction was open then. So a streamed change always applies over a read.

use std::num::NonZeroU64;

use serde::{Deserialize, Serialize};

use crate::change::Op;
use crate::model::Lsn;

/// Marks the version of a snapshot read.
const READ: u64 = 1 << 63;
/// Positions in the WAL are below this.
const LSN_LIMIT: u64 = 1 << 62;

/// The version of a row: the LSN, and at the same LSN (a primary-key change) a delete before a create. It is packed,
/// since every row holds one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Version(NonZeroU64);

impl Version {
    /// Returns the version of a streamed change.
    pub(super) fn streamed(lsn: Lsn, op: Op) -> Option<Self> {
        if lsn.0 >= LSN_LIMIT {
            return None;
        }
        NonZeroU64::new((lsn.0 << 1) | u64::from(op != Op::Delete)).map(Self)
    }

    /// Returns the version of a row that a snapshot read at this position.
    pub(super) fn read(lsn: Lsn) -> Option<Self> {
        if lsn.0 >= LSN_LIMIT {
            return None;
        }
        NonZeroU64::new(READ | (lsn.0 << 1)).map(Self)
    }

    /// Returns the version as a word, or 0 for none.
    pub(super) fn bits(version: Option<Self>) -> u64 {
        version.map_or(0, |version| version.0.get())
    }

    /// Returns the version of such a word.
    pub(super) fn of_bits(bits: u64) -> Option<Self> {
        NonZeroU64::new(bits).map(Self)
    }

    fn is_read(self) -> bool {
        self.0.get() & READ != 0
    }

    pub(super) fn lsn(self) -> Lsn {
        Lsn((self.0.get() & !READ) >> 1)
    }

    /// Whether a record of this version changes nothing, because the row is held in a newer version.
    pub(super) fn is_stale(self, held: Self) -> bool {
        match (self.is_read(), held.is_read()) {
            (false, false) => self.0 < held.0,
            (true, false) => self.lsn() < held.lsn(),
            (_, true) => false,
        }
    }

    /// Returns the version of a row after a record of version `new`. A read that overwrites a streamed change keeps
    /// that change's version, so that repetitions of the change are recognised.
    pub(super) fn after(new: Option<Self>, held: Option<Self>) -> Option<Self> {
        match (new, held) {
            (Some(new), Some(held)) if new.is_read() && !held.is_read() => Some(held),
            (Some(new), Some(held)) if new.is_read() && held.lsn() > new.lsn() => Some(held),
            (None, held) => held,
            (new, _) => new,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streamed_changes_by_lsn_and_reads_by_their_snapshot() {
        let streamed = |lsn| Version::streamed(Lsn(lsn), Op::Update).unwrap();
        let read = |lsn| Version::read(Lsn(lsn)).unwrap();
        let deleted = Version::streamed(Lsn(10), Op::Delete).unwrap();
        assert!(streamed(9).is_stale(streamed(10)) && !streamed(10).is_stale(streamed(10)));
        assert!(deleted.is_stale(streamed(10)) && !streamed(10).is_stale(deleted));
        assert!(read(9).is_stale(streamed(10)), "what was written after the snapshot is newer");
        assert!(!read(11).is_stale(streamed(10)));
        assert!(!streamed(9).is_stale(read(10)), "its transaction was open when the snapshot was taken");
        assert!(!read(9).is_stale(read(10)));
        assert_eq!(Version::after(Some(read(20)), Some(streamed(10))), Some(streamed(10)));
        assert_eq!(Version::after(Some(streamed(5)), Some(read(10))), Some(streamed(5)));
        assert_eq!(Version::after(None, Some(read(10))), Some(read(10)));
        assert_eq!((read(7).lsn(), streamed(7).lsn()), (Lsn(7), Lsn(7)));
        assert_eq!((Version::read(Lsn(u64::MAX)), Version::streamed(Lsn(1 << 62), Op::Create)), (None, None));
    }
}
