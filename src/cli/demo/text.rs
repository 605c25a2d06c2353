//! The summary at the end of a demo, for people.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::time::Duration;

use super::console::millis;
use crate::app::demo::summary::Summary;
use crate::cli::progress_bar::grouped;

/// The summary for people.
pub(super) fn summary(summary: &Summary, colour: bool) -> String {
    let bold = |text: &str| if colour { format!("\x1b[1m{text}\x1b[0m") } else { text.to_owned() };
    let (candidates, confirmed, refuted) = summary.counted();
    let open: usize = summary.seen.open().values().map(BTreeSet::len).sum();
    let in_sql: usize = summary.open_in_sql.values().map(BTreeSet::len).sum();
    let mut text = format!("\n{}\n", bold("What happened"));
    let mut line = |what: &str, told: String| {
        let _ = writeln!(text, "  {what:<11} {told}");
    };
    line(
        "changes",
        format!("{} written by SQL, {} read from the topic", grouped(summary.changed), grouped(summary.snapshot.read)),
    );
    line("candidates", format!("{candidates}; PostgreSQL confirmed {confirmed} times, and refuted {refuted} times"));
    line("alerts", format!("{}, of which {} were resolved", summary.seen.fired, summary.seen.resolved));
    line(
        "open",
        format!(
            "{open}; the rules' own queries, run by hand, find {}",
            same(open, in_sql, *summary.seen.open() == summary.open_in_sql)
        ),
    );
    let delays = &summary.snapshot.delays;
    if let (Some(half), Some(most)) = (delays.quantile(50), delays.quantile(99)) {
        line("latency", format!("from commit to decision: half within {}, 99 % within {}", millis(half), millis(most)));
    }
    if let Some(first) = summary.seen.first_alert {
        line("first alert", format!("{} ms after the program was started", grouped(whole_millis(first))));
    }
    let _ = write!(
        text,
        "\n{}\n  \
         The broker was a stand-in: what survives a crash, and alerts exactly once, needs a real Kafka:\n\n    \
         scripts/stack up                                      PostgreSQL, Kafka and Debezium on this machine\n    \
         scripts/insert-transactions                           200 transactions\n    \
         cargo run --release -- run --config config/example.toml\n\n  \
         On your own servers: README.md, config/your-stack.toml to copy, and every setting in config/default.toml.",
        bold("What is next")
    );
    text
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
    use crate::app::demo::seen::Seen;
    use crate::app::demo::summary::Keys;
    use crate::run_status::StatusSnapshot;

    #[test]
    fn whether_alerts_and_queries_agree_is_said() {
        let shown = |open_in_sql: Keys| {
            summary(&Summary::new(StatusSnapshot::default(), 0, Seen::default(), open_in_sql), false)
        };
        assert!(shown(Keys::new()).contains("find the same"));
        let more = Keys::from([("r".to_owned(), BTreeSet::from(["7".to_owned()]))]);
        assert!(shown(more).contains("find 1\n"));
    }
}
