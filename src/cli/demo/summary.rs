//! What a demo says at the end.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::time::Duration;

use serde_json::json;

use super::console::{Seen, millis};
use crate::board::Reading;
use crate::cli::bar::grouped;

/// Keys by rule.
type Keys = BTreeMap<String, BTreeSet<String>>;

/// What is told.
pub(super) struct Summary {
    reading: Reading,
    changed: u64,
    seen: Seen,
    open_in_sql: Keys,
}

impl Summary {
    /// `open_in_sql`: what the rules' own queries find at the end.
    pub(super) fn new(reading: Reading, changed: u64, seen: Seen, open_in_sql: Keys) -> Self {
        Self { reading, changed, seen, open_in_sql }
    }

    /// Whether what is open is what the queries find.
    pub(super) fn agrees(&self) -> bool {
        *self.seen.open() == self.open_in_sql && self.reading.read == self.changed
    }

    fn counted(&self) -> (u64, u64, u64) {
        let tallies = || self.reading.rules.iter().map(|rule| &rule.tally);
        (
            tallies().map(|t| t.candidates).sum(),
            tallies().map(|t| t.confirmed).sum(),
            tallies().map(|t| t.refuted).sum(),
        )
    }

    /// One object.
    pub(super) fn json(&self) -> String {
        let (candidates, confirmed, refuted) = self.counted();
        let quantile = |histogram: &crate::board::Histogram, percent| histogram.quantile(percent);
        let rejected: u64 = self.reading.rejected.values().sum();
        json!({
            "changed": self.changed,
            "read": self.reading.read,
            "rejected": rejected,
            "candidates": candidates,
            "confirmed": confirmed,
            "refuted": refuted,
            "fired": self.seen.fired,
            "resolved": self.seen.resolved,
            "open": self.seen.open(),
            "open_in_sql": self.open_in_sql,
            "agrees": self.agrees(),
            "first_alert_ms": self.seen.first_alert.map(whole_millis),
            "commit_to_decision_us": { "p50": quantile(&self.reading.delays, 50), "p99": quantile(&self.reading.delays, 99) },
            "statement_us": { "p50": quantile(&self.reading.statements, 50), "p99": quantile(&self.reading.statements, 99) },
        })
        .to_string()
    }

    /// For people.
    pub(super) fn text(&self, colour: bool) -> String {
        let bold = |text: &str| if colour { format!("\x1b[1m{text}\x1b[0m") } else { text.to_owned() };
        let (candidates, confirmed, refuted) = self.counted();
        let open: usize = self.seen.open().values().map(BTreeSet::len).sum();
        let in_sql: usize = self.open_in_sql.values().map(BTreeSet::len).sum();
        let mut text = format!("\n{}\n", bold("What happened"));
        let mut line = |what: &str, told: String| {
            let _ = writeln!(text, "  {what:<11} {told}");
        };
        line(
            "changes",
            format!("{} written by SQL, {} read from the topic", grouped(self.changed), grouped(self.reading.read)),
        );
        line(
            "candidates",
            format!("{candidates}; PostgreSQL confirmed {confirmed} times, and refuted {refuted} times"),
        );
        line("alerts", format!("{}, of which {} were resolved", self.seen.fired, self.seen.resolved));
        line(
            "open",
            format!(
                "{open}; the rules' own queries, run by hand, find {}",
                same(open, in_sql, *self.seen.open() == self.open_in_sql)
            ),
        );
        let delays = &self.reading.delays;
        if let (Some(half), Some(most)) = (delays.quantile(50), delays.quantile(99)) {
            line(
                "latency",
                format!("from commit to decision: half within {}, 99 % within {}", millis(half), millis(most)),
            );
        }
        if let Some(first) = self.seen.first_alert {
            line("first alert", format!("{} ms after the program was started", grouped(whole_millis(first))));
        }
        let _ = write!(
            text,
            "\n{}\n  \
             The broker was a stand-in: what survives a crash, and alerts exactly once, needs a real Kafka:\n\n    \
             scripts/stack up                                      PostgreSQL, Kafka and Debezium on this machine\n    \
             scripts/insert-transactions                           200 transactions\n    \
             cargo run --release -- run --config config/example.toml\n\n  \
             On your own servers: README.md, and every setting in config/default.toml.",
            bold("What is next")
        );
        text
    }
}

fn same(open: usize, in_sql: usize, equal: bool) -> String {
    if equal {
        "the same".to_owned()
    } else if open == in_sql {
        "as many, but not the same".to_owned()
    } else {
        in_sql.to_string()
    }
}

fn whole_millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_is_told() {
        let reading = Reading { read: 5, ..Reading::default() };
        let keys: Keys = [("r".to_owned(), BTreeSet::from(["7".to_owned()]))].into();
        let good = Summary::new(reading.clone(), 5, Seen::default(), Keys::new());
        assert!(good.agrees() && good.text(false).contains("find the same"), "{}", good.text(false));
        for bad in [
            Summary::new(reading.clone(), 5, Seen::default(), keys),
            Summary::new(reading, 6, Seen::default(), Keys::new()),
        ] {
            assert!(!bad.agrees());
            let told: serde_json::Value = serde_json::from_str(&bad.json()).unwrap();
            assert_eq!(told["agrees"], false);
        }
    }
}
