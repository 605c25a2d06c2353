//! The groups that are nearest to their threshold, for show.

use super::Window;
use crate::model::Key;
use crate::rule::evaluate::Evaluation;

/// A group as memory holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// The group.
    pub key: Key,
    /// The aggregate that HAVING compares, as text.
    pub measure: String,
    /// The group's evaluation by memory.
    pub evaluation: Evaluation,
    /// The number of rows in its window.
    pub rows: u64,
}

impl Window {
    /// Returns up to `count` groups, those furthest over the threshold or nearest to it. Looks at every group.
    pub fn top(&self, count: usize) -> Vec<Standing> {
        let mut best: Vec<(i128, u32)> = Vec::with_capacity(count.saturating_add(1));
        for (index, group) in self.groups.iter() {
            let Some(rank) = self.program.rank(&group.running) else { continue };
            if best.len() >= count && best.last().is_some_and(|(last, _)| *last >= rank) {
                continue;
            }
            let place = best.partition_point(|(other, _)| *other >= rank);
            best.insert(place, (rank, index));
            best.truncate(count);
        }
        let standing = |(_, index): (i128, u32)| {
            let group = self.groups.get(index)?;
            let measure = self.program.measure(&group.running)?;
            Some(Standing { key: group.key.clone(), measure, evaluation: group.evaluation, rows: group.running.rows() })
        };
        best.into_iter().filter_map(standing).collect()
    }
}
