//! The transactions applied to a group that a statement may not show. If such a statement does not confirm the group,
//! the answer is undecided, not refuted.

use smallvec::SmallVec;

use super::Window;
use crate::model::Key;
use crate::snapshot::Snapshot;

/// 32-bit transaction ids in the order applied. Answers of the database prune them, so there are a few.
#[derive(Debug, Default)]
pub(super) struct Unseen(SmallVec<[u32; 2]>);

impl Unseen {
    pub(super) fn push(&mut self, tx_id: u32, seen: Option<&Snapshot>) {
        if self.0.last() == Some(&tx_id) {
            return;
        }
        if self.0.len() == self.0.capacity()
            && let Some(seen) = seen
        {
            self.0.retain(|tx_id| !seen.includes(*tx_id));
        }
        self.0.push(tx_id);
    }

    /// Whether this snapshot includes all of them.
    pub(super) fn is_seen_by(&self, seen: Option<&Snapshot>) -> bool {
        self.0.iter().all(|tx_id| seen.is_some_and(|seen| seen.includes(*tx_id)))
    }

    pub(super) fn ids(&self) -> &[u32] {
        &self.0
    }
}

impl FromIterator<u32> for Unseen {
    fn from_iter<I: IntoIterator<Item = u32>>(ids: I) -> Self {
        Self(ids.into_iter().collect())
    }
}

impl Window {
    /// Records that every statement still to be answered shows at least this snapshot. Transactions that it includes
    /// need not be remembered.
    pub fn saw(&mut self, snapshot: &Snapshot) {
        if self.seen.as_ref().is_none_or(|seen| snapshot.is_newer_than(seen)) {
            self.seen = Some(snapshot.clone());
            for group in std::mem::take(&mut self.emptied) {
                self.drop_if_empty(group);
            }
        }
    }

    /// The transactions applied to a group that this snapshot does not include. Those of truncates were applied to every
    /// group, also to one that memory does not hold.
    pub fn unseen(&self, key: &Key, snapshot: &Snapshot) -> Vec<u32> {
        let group = self.find_group(key).and_then(|index| self.groups.get(index));
        let of_group = group.map(|group| group.unseen.ids()).unwrap_or_default();
        let truncates = self.truncates.ids().iter().filter(|tx_id| !of_group.contains(tx_id));
        of_group.iter().chain(truncates).copied().filter(|tx_id| !snapshot.includes(*tx_id)).collect()
    }
}
