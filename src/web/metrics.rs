//! Prometheus's text format, version 0.0.4. Labels are rules, partitions, reasons and outcomes; never a key.

use std::fmt::{Display, Write};

use crate::board::{Histogram, Phase, Reading};

/// The metrics of a run. `answers`: whether Postgres does.
pub(super) fn text(reading: &Reading, answers: bool) -> String {
    let mut out = Out::default();
    out.one("build_info", "gauge", "The program's version.", &[("version", env!("CARGO_PKG_VERSION"))], 1);
    out.of_run(reading, answers);
    out.of_rules(reading);
    out.of_partitions(reading);
    out.head("rejects_total", "counter", "Records that were not understood, by the kind of reason.");
    for (reason, count) in &reading.rejected {
        out.line("rejects_total", &[("reason", reason)], count);
    }
    out.histogram("alert_delay_seconds", "From a change's commit to the decision that it brought.", &reading.delays);
    out.histogram(
        "statement_duration_seconds",
        "Statements that asked Postgres about candidates.",
        &reading.statements,
    );
    out.text
}

#[derive(Default)]
struct Out {
    text: String,
}

impl Out {
    fn head(&mut self, name: &str, kind: &str, help: &str) {
        // Writing to a String cannot fail.
        let _ = write!(self.text, "# HELP tripline_{name} {help}\n# TYPE tripline_{name} {kind}\n");
    }

    fn line(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        let label = |(name, value): &(&str, &str)| {
            format!("{name}=\"{}\"", value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n"))
        };
        let labels: Vec<String> = labels.iter().map(label).collect();
        let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
        let _ = writeln!(self.text, "tripline_{name}{labels} {value}");
    }

    fn one(&mut self, name: &str, kind: &str, help: &str, labels: &[(&str, &str)], value: impl Display) {
        self.head(name, kind, help);
        self.line(name, labels, value);
    }

    fn gauge(&mut self, name: &str, help: &str, value: impl Display) {
        self.one(name, "gauge", help, &[], value);
    }

    fn of_run(&mut self, reading: &Reading, answers: bool) {
        self.head("phase", "gauge", "What the run does: 1 for the phase that it is in.");
        let phases = [
            (Phase::Joining, "joining"),
            (Phase::Recovering, "recovering"),
            (Phase::Rebuilding, "rebuilding"),
            (Phase::Working, "working"),
            (Phase::Ended, "ended"),
        ];
        for (phase, name) in phases {
            self.line("phase", &[("phase", name)], u8::from(reading.phase == phase));
        }
        self.one("events_total", "counter", "Records read for the first time.", &[], reading.read);
        self.one("replayed_events_total", "counter", "Records read again to rebuild windows.", &[], reading.replayed);
        let lag = reading.lag_millis.and_then(|millis| u64::try_from(millis).ok()).unwrap_or(0);
        self.gauge("lag_seconds", "Age of the last record taken, where there are records to be read.", seconds(lag, 3));
        self.gauge("rows", "Rows held in the windows.", reading.rows);
        self.gauge("keys", "Keys held in the windows.", reading.keys);
        self.gauge("candidates_waiting", "Candidates that wait for an answer.", reading.waiting);
        let resident = reading.resident_mb.unwrap_or(0).saturating_mul(1_048_576);
        self.gauge("resident_memory_bytes", "Resident memory of the process, to a MiB.", resident);
        if let Some(age) = reading.checkpoint_age {
            let millis = u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
            self.gauge(
                "checkpoint_age_seconds",
                "Since an epoch was last closed; none is while nothing comes.",
                seconds(millis, 3),
            );
        }
        if let Some(epoch) = &reading.epoch {
            self.gauge("epoch", "Number of the newest epoch.", epoch.number);
        }
        self.gauge(
            "stalled",
            "Whether there is no progress though there should be.",
            u8::from(reading.stalled.is_some()),
        );
        self.gauge("reading_paused", "Whether reading pauses at a bound.", u8::from(reading.paused.is_some()));
        self.gauge("postgres_up", "Whether Postgres answers.", u8::from(answers));
        self.gauge("uptime_seconds", "Since the run began.", reading.uptime.as_secs());
    }

    fn of_rules(&mut self, reading: &Reading) {
        self.head("candidates_total", "counter", "Keys that became candidates.");
        for rule in &reading.rules {
            self.line("candidates_total", &[("rule", &rule.name)], rule.tally.candidates);
        }
        self.head("confirmations_total", "counter", "Answers of Postgres to candidates, by outcome.");
        for rule in &reading.rules {
            let outcomes = [
                ("confirmed", rule.tally.confirmed),
                ("refuted", rule.tally.refuted),
                ("undecided", rule.tally.undecided),
                ("failed", rule.tally.failed),
            ];
            for (outcome, count) in outcomes {
                self.line("confirmations_total", &[("rule", &rule.name), ("outcome", outcome)], count);
            }
        }
        self.head("alerts_total", "counter", "Alerts that were told.");
        for rule in &reading.rules {
            for (status, count) in [("firing", rule.fired), ("resolved", rule.resolved)] {
                self.line("alerts_total", &[("rule", &rule.name), ("status", status)], count);
            }
        }
        self.head("episodes_open", "gauge", "Open episodes.");
        for rule in &reading.rules {
            self.line("episodes_open", &[("rule", &rule.name)], rule.open);
        }
    }

    fn of_partitions(&mut self, reading: &Reading) {
        let partitions: Vec<(String, _)> = reading.partitions.iter().map(|(n, p)| (n.to_string(), p)).collect();
        self.head("lag_records", "gauge", "Records to be read, by their offsets.");
        for (number, partition) in &partitions {
            self.line("lag_records", &[("partition", number)], partition.lag());
        }
        self.head("next_offset", "gauge", "The next offset to be read.");
        for (number, partition) in &partitions {
            self.line("next_offset", &[("partition", number)], partition.next);
        }
        self.head("committed_offset", "gauge", "The offset that the group has committed.");
        for (number, partition) in &partitions {
            if let Some(committed) = partition.committed {
                self.line("committed_offset", &[("partition", number)], committed);
            }
        }
    }

    fn histogram(&mut self, name: &str, help: &str, histogram: &Histogram) {
        self.head(name, "histogram", help);
        let bucket = format!("{name}_bucket");
        for (bound, count) in histogram.cumulative() {
            self.line(&bucket, &[("le", &seconds(bound, 6))], count);
        }
        self.line(&bucket, &[("le", "+Inf")], histogram.count);
        self.line(&format!("{name}_sum"), &[], seconds(histogram.sum, 6));
        self.line(&format!("{name}_count"), &[], histogram.count);
    }
}

/// Units of 10 to the minus `digits` seconds as seconds.
fn seconds(units: u64, digits: u8) -> String {
    let text = crate::model::decimal_text(i128::from(units), digits);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_labels() {
        assert_eq!(
            ["0", "0.001", "600", "1.5"],
            [seconds(0, 3), seconds(1, 3), seconds(600_000_000, 6), seconds(1_500, 3)].map(|text| text)
        );
        let mut out = Out::default();
        out.line("x", &[("rule", "a\"b\\c")], 1);
        assert_eq!(out.text, "tripline_x{rule=\"a\\\"b\\\\c\"} 1\n");
    }
}
