//! The transactions that a statement of Postgres has seen. Pure.
//!
//! The order of commits does not show it. A change can be in Kafka before it is visible in the database (a commit that
//! waits for a synchronous standby), and transactions become visible out of order. Only the snapshot itself shows it.

/// The oldest version of PostgreSQL that has `pg_current_snapshot()`.
pub const OLDEST_SERVER: i32 = 13;

/// The oldest version of PostgreSQL on which the tests are run (docs/versions.md).
pub const OLDEST_TESTED: i32 = 14;

/// A snapshot in the format of `pg_current_snapshot()`: `xmin:xmax:xip,…`, with 64-bit transaction ids.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// All transactions before it are visible or rolled back.
    xmin: u64,
    /// All transactions from it on are invisible.
    xmax: u64,
    /// The transactions between them that were in progress, ascending.
    in_progress: Vec<u64>,
}

impl Snapshot {
    /// Parses the text form. `None`: the text is not a snapshot.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split(':');
        let (xmin, xmax, list) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?, parts.next()?);
        let ids = list.split(',').filter(|id| !id.is_empty()).map(|id| id.parse().ok());
        let mut in_progress = ids.collect::<Option<Vec<u64>>>()?;
        in_progress.sort_unstable();
        parts.next().is_none().then_some(Self { xmin, xmax, in_progress })
    }

    /// Whether a transaction's changes are visible in this snapshot. `tx_id` is Debezium's 32-bit `source.txId`. It is
    /// widened to the 64-bit id nearest to this snapshot (by signed 32-bit distance, as Postgres compares ids).
    pub fn includes(&self, tx_id: u32) -> bool {
        let xid = self.widen(tx_id);
        xid < self.xmin || (xid < self.xmax && self.in_progress.binary_search(&xid).is_err())
    }

    /// Whether this snapshot was taken after the other, as far as the ids show.
    pub fn is_newer_than(&self, other: &Self) -> bool {
        (self.xmax, self.xmin) > (other.xmax, other.xmin)
    }

    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_possible_wrap,
        reason = "the low 32 bits, and their distance as a signed number, are what is meant"
    )]
    fn widen(&self, tx_id: u32) -> u64 {
        let distance = tx_id.wrapping_sub(self.xmax as u32) as i32;
        self.xmax.wrapping_add_signed(i64::from(distance))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EPOCH: u64 = 1 << 32;

    #[test]
    fn inclusion() {
        let check = |text: &str, tx_id: u32, want: bool| {
            let snapshot = Snapshot::parse(text).unwrap();
            assert_eq!(snapshot.includes(tx_id), want, "{tx_id} in {text}");
        };
        check("757:757:", 756, true);
        check("757:757:", 757, false);
        check("759:761:759", 758, true);
        check("759:761:759", 759, false);
        check("759:761:759", 760, true);
        check("759:761:759", 761, false);
        check("765:765:", 765, false);
        // Epoch 3, and a transaction of the epoch before.
        check(&format!("{0}:{0}:", 3 * EPOCH + 10), 9, true);
        check(&format!("{0}:{0}:", 3 * EPOCH + 10), 10, false);
        check(&format!("{0}:{0}:", 3 * EPOCH + 10), u32::MAX - 5, true);
        // A transaction past the wrap, seen from just before it.
        check(&format!("{0}:{0}:", 3 * EPOCH - 10), 5, false);
        check(&format!("{}:{}:{}", 3 * EPOCH - 10, 3 * EPOCH + 3, 3 * EPOCH + 1), 1, false);
        check(&format!("{}:{}:{}", 3 * EPOCH - 10, 3 * EPOCH + 3, 3 * EPOCH + 1), 2, true);
    }

    #[test]
    fn what_is_no_snapshot() {
        for text in ["", "1", "1:2", "a:2:", "1:2:x", "1:2:3:4", "1:2:3,,x"] {
            assert_eq!(Snapshot::parse(text), None, "{text}");
        }
        assert!(Snapshot::parse("1:2:1,1").is_some());
    }
}
