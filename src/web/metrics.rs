//! Prometheus's text format, version 0.0.4. Labels are rules, partitions, reasons and outcomes, never a key.

use std::fmt::{Display, Write};

use crate::run_status::{Histogram, PartitionStatus, Pause, Phase, StatusSnapshot};

/// Returns the metrics of a run. `answers`: whether Postgres answers.
pub(super) fn text(snapshot: &StatusSnapshot, answers: bool) -> String {
    let mut out = Out::default();
    out.one("build_info", "gauge", "The program's version.", &[("version", env!("CARGO_PKG_VERSION"))], 1);
    out.of_run(snapshot, answers);
    out.of_rules(snapshot);
    out.of_partitions(snapshot);
    out.head("rejects_total", "counter", "Rejected records: those that cannot be decoded, by the kind of reason.");
    for (reason, count) in &snapshot.rejected {
        out.line("rejects_total", &[("reason", reason)], count);
    }
    out.histogram("alert_delay_seconds", "From a change's commit to the decision that it brought.", &snapshot.delays);
    out.histogram(
        "statement_duration_seconds",
        "Statements that asked Postgres about candidates.",
        &snapshot.statements,
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

    fn of_run(&mut self, snapshot: &StatusSnapshot, answers: bool) {
        self.head("phase", "gauge", "What the run does: 1 for the phase that it is in.");
        let phases = [
            (Phase::Joining, "joining"),
            (Phase::Recovering, "recovering"),
            (Phase::Rebuilding, "rebuilding"),
            (Phase::Working, "working"),
            (Phase::Ended, "ended"),
        ];
        for (phase, name) in phases {
            self.line("phase", &[("phase", name)], u8::from(snapshot.phase == phase));
        }
        self.one("events_total", "counter", "Records read for the first time.", &[], snapshot.read);
        self.one("replayed_events_total", "counter", "Records read again to rebuild windows.", &[], snapshot.replayed);
        let none = (snapshot.lag_records() == 0).then_some(0);
        if let Some(lag) = snapshot.lag_millis.or(none) {
            let lag = seconds(u64::try_from(lag).unwrap_or(0), 3);
            self.gauge("lag_seconds", "Age of the last record taken, where there are records to be read.", lag);
        }
        self.gauge("rows", "Rows held in the windows.", snapshot.rows);
        self.gauge("keys", "Keys held in the windows.", snapshot.keys);
        self.gauge("candidates_waiting", "Candidates that wait for an answer.", snapshot.waiting);
        let resident = snapshot.resident_mb.unwrap_or(0).saturating_mul(1_048_576);
        self.gauge("resident_memory_bytes", "Resident memory of the process, to a MiB.", resident);
        if let Some(age) = snapshot.checkpoint_age {
            let millis = u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
            self.gauge(
                "checkpoint_age_seconds",
                "Since an epoch was last closed; none is while nothing comes.",
                seconds(millis, 3),
            );
        }
        if let Some(epoch) = &snapshot.epoch {
            self.gauge("epoch", "Number of the newest epoch.", epoch.number);
        }
        self.gauge(
            "stalled",
            "Whether there is no progress though there should be.",
            u8::from(snapshot.stalled.is_some()),
        );
        self.head("reading_paused", "gauge", "Whether reading pauses, by the bound that is reached.");
        for why in Pause::ALL {
            let reason = match why {
                Pause::Candidates => "candidates",
                Pause::Rows => "max_rows",
                Pause::Memory => "max_rss_mb",
            };
            self.line("reading_paused", &[("reason", reason)], u8::from(snapshot.paused == Some(why)));
        }
        let audit = &snapshot.audit;
        if let Some(micros) = audit.cycle_micros {
            let took = seconds(u64::try_from(micros).unwrap_or(0), 6);
            self.gauge("audit_cycle_seconds", "How long the audit's last cycle over all keys took.", took);
        }
        self.one("audited_keys_total", "counter", "Keys that were compared with the table.", &[], audit.keys);
        let help = "Keys whose rows differed from the table's though all was read, and were replaced by them.";
        self.one("drifts_total", "counter", help, &[], audit.drifts);
        self.gauge("drifts_unhealed", "Keys whose drift is known and not healed yet.", audit.unhealed);
        let spent = seconds(audit.statement_micros, 6);
        self.one("audit_statement_seconds_total", "counter", "Time that statements of the audit took.", &[], spent);
        self.gauge("postgres_up", "Whether Postgres answers.", u8::from(answers));
        self.gauge("kafka_up", "Whether a broker of Kafka answers.", u8::from(!snapshot.cut_off));
        self.gauge("uptime_seconds", "Since the run began.", snapshot.uptime.as_secs());
    }

    fn of_rules(&mut self, snapshot: &StatusSnapshot) {
        self.head("candidates_total", "counter", "Keys that became candidates.");
        for rule in &snapshot.rules {
            self.line("candidates_total", &[("rule", &rule.name)], rule.counts.candidates);
        }
        self.head("confirmations_total", "counter", "Answers of Postgres to candidates, by outcome.");
        for rule in &snapshot.rules {
            let outcomes = [
                ("confirmed", rule.counts.confirmed),
                ("refuted", rule.counts.refuted),
                ("undecided", rule.counts.undecided),
                ("failed", rule.counts.failed),
            ];
            for (outcome, count) in outcomes {
                self.line("confirmations_total", &[("rule", &rule.name), ("outcome", outcome)], count);
            }
        }
        self.head("alerts_total", "counter", "Alerts that were delivered.");
        for rule in &snapshot.rules {
            for (status, count) in [("firing", rule.fired), ("resolved", rule.resolved)] {
                self.line("alerts_total", &[("rule", &rule.name), ("status", status)], count);
            }
        }
        self.head("episodes_open", "gauge", "Open episodes.");
        for rule in &snapshot.rules {
            self.line("episodes_open", &[("rule", &rule.name)], rule.open);
        }
    }

    fn of_partitions(&mut self, snapshot: &StatusSnapshot) {
        let labels = |partition: &PartitionStatus| {
            let topic = partition.topic.iter().map(|topic| ("topic", topic.clone()));
            topic.chain([("partition", partition.number.to_string())]).collect::<Vec<_>>()
        };
        let partitions: Vec<_> = snapshot.partitions.values().map(|one| (labels(one), one)).collect();
        type Value = fn(&PartitionStatus) -> Option<i64>;
        let all: [(&str, &str, Value); 3] = [
            ("lag_records", "Records to be read, by their offsets.", |one| i64::try_from(one.lag()).ok()),
            ("next_offset", "The next offset to be read.", |one| Some(one.next)),
            ("committed_offset", "The offset that the group has committed.", |one| one.committed),
        ];
        for (name, help, value) in all {
            self.head(name, "gauge", help);
            for (labels, partition) in &partitions {
                let labels: Vec<(&str, &str)> = labels.iter().map(|(name, value)| (*name, value.as_str())).collect();
                if let Some(value) = value(partition) {
                    self.line(name, &labels, value);
                }
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

/// Returns units of 10 to the minus `digits` seconds as seconds.
fn seconds(units: u64, digits: u8) -> String {
    let text = crate::model::decimal_text(i128::from(units), digits);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};
    use std::time::Duration;

    use super::*;
    use crate::model::Timestamp;
    use crate::run_status::{ClosedEpoch, RuleStatus};

    const RULES: &str = include_str!("../../docs/prometheus-rules.yml");
    const PAGE: &str = include_str!("../../docs/page.md");

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

    /// Returns the status of a run with a value for everything.
    fn everything() -> String {
        let epoch = ClosedEpoch { number: 1, lineage: "l".to_owned(), name: "l:1:0".to_owned(), at: Timestamp(0) };
        let partition = PartitionStatus {
            next: 1,
            end: Some(1),
            logged: Some(1),
            committed: Some(1),
            ..PartitionStatus::default()
        };
        let snapshot = StatusSnapshot {
            rejected: BTreeMap::from([("json", 1)]),
            rules: vec![RuleStatus { name: "r".to_owned(), ..RuleStatus::default() }],
            partitions: BTreeMap::from([(0, partition)]),
            lag_millis: Some(1),
            resident_mb: Some(1),
            audit: crate::unit::audit::AuditStatus { cycle_micros: Some(1), ..Default::default() },
            epoch: Some(epoch),
            checkpoint_age: Some(Duration::from_secs(1)),
            ..StatusSnapshot::default()
        };
        text(&snapshot, true)
    }

    /// A metric in Prometheus: the kind, and the names of the labels in order.
    type Metrics = BTreeMap<String, (String, Vec<String>)>;

    /// Returns name and labels of a line, each label with its value.
    fn sample(line: &str) -> (&str, Vec<(&str, &str)>) {
        let series = line.rsplit_once(' ').map_or(line, |(series, _)| series);
        let (name, labels) = series.split_once('{').unwrap_or((series, ""));
        (name, labels.trim_end_matches('}').split(',').filter_map(|label| label.split_once('=')).collect())
    }

    fn written(text: &str) -> Metrics {
        let mut metrics = Metrics::new();
        let mut last = String::new();
        for line in text.lines() {
            if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) {
                last = name.to_owned();
                let before = metrics.insert(last.clone(), (kind.to_owned(), Vec::new()));
                assert_eq!(before, None, "{name} twice");
            } else if !line.starts_with('#') {
                let (name, labels) = sample(line);
                assert!(name.starts_with(&last), "{name} is among the samples of {last}");
                let known = metrics.get_mut(&last).map(|(_, labels)| labels).into_iter();
                known.for_each(|known| {
                    *known = labels
                        .iter()
                        .map(|(label, _)| *label)
                        .filter(|label| *label != "le")
                        .map(str::to_owned)
                        .collect();
                });
            }
        }
        metrics
    }

    #[test]
    fn the_documentation_has_every_metric_and_no_other() {
        let rows = PAGE.lines().filter_map(|line| line.strip_prefix("| `tripline_"));
        let documented: Metrics = rows
            .map(|row| {
                let cells: Vec<&str> = row.split('|').map(str::trim).collect();
                let [name, kind, labels, what, _] = cells.as_slice() else { panic!("{row}") };
                assert!(!what.is_empty(), "{row}");
                let labels = labels.split(", ").filter(|label| !label.is_empty());
                let labels = labels.map(|label| label.trim_matches('`').to_owned()).collect();
                (format!("tripline_{}", name.trim_end_matches('`')), ((*kind).to_owned(), labels))
            })
            .collect();
        assert_eq!(documented, written(&everything()));
    }

    #[test]
    fn the_alert_rules_ask_for_what_is_written() {
        let text = everything();
        let samples: Vec<_> = text.lines().filter(|line| !line.starts_with('#')).map(sample).collect();
        let mut asked = BTreeSet::new();
        for expression in RULES.lines().filter_map(|line| line.trim().strip_prefix("expr: ")) {
            for (at, _) in expression.match_indices("tripline_") {
                let rest = expression.get(at..).unwrap_or_default();
                let end = rest.find(|c: char| !c.is_ascii_lowercase() && c != '_').unwrap_or(rest.len());
                let (name, rest) = rest.split_at(end);
                asked.insert(name);
                let selector = rest.strip_prefix('{').and_then(|rest| rest.split_once('}')).map(|(labels, _)| labels);
                let wanted: Vec<_> =
                    selector.unwrap_or_default().split(',').filter_map(|l| l.split_once('=')).collect();
                let found =
                    samples.iter().any(|(known, labels)| *known == name && wanted.iter().all(|l| labels.contains(l)));
                assert!(found, "nothing is {name} with {wanted:?}: {expression}");
            }
        }
        assert!(asked.len() > 8, "{asked:?}");
    }
}
