//! Whether memory is full: `limits.max_rss_mb`. Pure.

/// How far resident memory may exceed its limit while the windows do not grow, in MB.
pub(super) const SLACK_MB: usize = 128;
/// By how many rows windows may grow at the limit, besides a sixteenth of their rows.
const ROWS: usize = 2_048;

/// The number of rows at the time when resident memory reached its limit.
///
/// Memory is filled not only by rows but also by large records under way. Those are freed only once they have been
/// read. So reading continues at the limit as long as that adds few rows and memory is not far over it.
#[derive(Debug, Default)]
pub(super) struct MemoryBound {
    rows: Option<usize>,
}

impl MemoryBound {
    /// Whether reading has to pause with this number of rows.
    pub(super) fn is_reached(&mut self, max_mb: Option<usize>, rss_mb: Option<usize>, rows: usize) -> bool {
        let Some((max, rss)) = max_mb.zip(rss_mb).filter(|(max, rss)| rss >= max) else {
            self.rows = None;
            return false;
        };
        let then = *self.rows.get_or_insert(rows);
        rows > then.saturating_add(then / 16).saturating_add(ROWS) || rss >= max.saturating_add(SLACK_MB)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reading_pauses_for_rows_and_not_for_what_is_on_its_way() {
        let mut bound = MemoryBound::default();
        let steps = [
            // rss, rows, whether it pauses
            (Some(99), 50_000, false),
            (Some(100), 160_000, false),
            (Some(140), 172_048, false),
            (Some(140), 172_049, true),
            (Some(140), 172_048, false),
            (Some(228), 160_000, true),
            (Some(227), 160_000, false),
            (Some(99), 172_049, false),
            (Some(100), 172_049, false),
            (None, 900_000, false),
        ];
        for (step, (rss, rows, want)) in steps.into_iter().enumerate() {
            assert_eq!(bound.is_reached(Some(100), rss, rows), want, "step {step}");
        }
        assert!(!bound.is_reached(None, Some(9_999), 1));
    }
}
