//! The alerts that a step raises, on the topic, in the table and on standard output, and the episodes open after it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::SystemTime;

use serde::Deserialize;
use serde_json::{Value as Json, json};

use crate::harness::{Record, Stack, kafka};
use crate::recovery::run::Done;

use super::scenario::{Scenario, Step, form, read};

/// The fields of an alert that are the same at every start from the same folder.
#[rustfmt::skip]
const SAME: [&str; 11] = [
    "rule", "key", "status", "id", "episode", "rule_version", "severity", "message", "stream", "database", "trigger",
];

#[derive(Deserialize)]
pub(super) struct Outcome {
    lines: Vec<String>,
    alerts: Vec<Json>,
    rows_added_to_table: Vec<String>,
    open_episodes: Vec<Json>,
}

pub(super) struct Monitor {
    scenario: Scenario,
    /// All alerts on the topic, those of the scenario first.
    alerts: Vec<Record>,
    /// The ids in the table.
    ids: BTreeSet<String>,
    /// The forms of the values that the scenario has on the recovery topic.
    forms: BTreeSet<(bool, String)>,
}

impl Monitor {
    pub(super) fn restore(name: &str, test: &str) -> Self {
        let mut scenario = Scenario::restore(name, test);
        scenario.add_alert_topic();
        scenario.add_recovery_topic();
        scenario.database.sql(&read(&scenario.data.join("alerts-table.sql")));
        scenario.environment.extend([
            ("TRIPLINE__ALERTS__POSTGRES__URL", Stack::get().url(&scenario.database.name)),
            ("TRIPLINE__ALERTS__KAFKA__TOPIC", scenario.topic("alerts")),
            ("TRIPLINE__CHECKPOINT__EPISODES_TOPIC", scenario.topic("episodes")),
        ]);
        let mut monitor = Self { scenario, alerts: Vec::new(), ids: BTreeSet::new(), forms: BTreeSet::new() };
        monitor.forms = monitor.check_recovery_topic();
        let (alerts, ids) = (monitor.new_alerts(), monitor.new_ids());
        assert!(!alerts.is_empty() && alerts.len() == ids.len());
        monitor
    }

    pub(super) fn steps(&self) -> Vec<Step<Outcome>> {
        self.scenario.steps()
    }

    pub(super) fn lose_folder(&self) {
        std::fs::remove_dir_all(&self.scenario.checkpoints).unwrap();
    }

    /// How many alerts the topic has.
    pub(super) fn told(&self) -> usize {
        self.alerts.len()
    }

    /// The alerts on the topic, as their bytes are.
    pub(super) fn bodies(&self) -> Vec<String> {
        self.alerts.iter().map(value).collect()
    }

    /// The alerts that an epoch of the folder holds, as their bytes are.
    pub(super) fn logged(&self, epoch: u64) -> Vec<String> {
        let text = read(&self.scenario.checkpoints.join("offsets").join(epoch.to_string()));
        let body: Json = serde_json::from_str(text.lines().nth(3).unwrap()).unwrap();
        body["alerts"].as_array().unwrap().iter().map(|alert| alert["body"].as_str().unwrap().to_owned()).collect()
    }

    /// The head of a file with windows and episodes, and when it was written.
    pub(super) fn state(&self, epoch: u64) -> (Json, SystemTime) {
        let path = self.scenario.checkpoints.join("state").join(epoch.to_string());
        let written = std::fs::metadata(&path).unwrap().modified().unwrap();
        let bytes = std::fs::read(path).unwrap();
        let head = bytes.split(|byte| *byte == b'\n').next().unwrap();
        (serde_json::from_slice(head).unwrap(), written)
    }

    /// From the folder: it does what it did then.
    pub(super) fn resume(&mut self, step: &Step<Outcome>) {
        let done = self.scenario.take(step);
        let (counts, lines) = done.out.split_last().unwrap_or_else(|| panic!("{done}"));
        let counts: Json = serde_json::from_str(counts).unwrap_or_else(|error| panic!("{error}: {done}"));
        assert_eq!(of_the_answer(counts), of_the_answer(step.counts.clone()), "{done}");
        assert_eq!(lines, step.outcome.lines, "{done}");
        if self.scenario.divided(step) > 0 {
            self.check_but_names(step, &done);
        } else {
            let alerts = self.new_alerts();
            assert_eq!(alerts.iter().map(brief).collect::<Vec<_>>(), step.outcome.alerts, "{done}");
            assert_eq!(self.new_ids(), step.outcome.rows_added_to_table.iter().cloned().collect(), "{done}");
            assert_eq!(self.open(), step.outcome.open_episodes, "{done}");
        }
        let forms = self.check_recovery_topic();
        assert!(forms.is_subset(&self.forms), "{forms:?} on the recovery topic, and before {:?}", self.forms);
        self.scenario.check_progress(step);
    }

    /// From the group and the recovery topic: it tells the same. The rebuild takes an epoch, so what fires after it is named
    /// after another one.
    pub(super) fn rebuild(&mut self, step: &Step<Outcome>) {
        let done = self.scenario.take(step);
        self.check_but_names(step, &done);
    }

    /// The same alerts and episodes, where what fires has its name from another epoch.
    fn check_but_names(&mut self, step: &Step<Outcome>, done: &Done) {
        let alerts = self.new_alerts();
        let want: Vec<Json> = step.outcome.alerts.iter().cloned().map(unnamed).collect();
        assert_eq!(alerts.iter().map(brief).map(unnamed).collect::<Vec<_>>(), want, "{done}");
        let ids: BTreeSet<String> = alerts.iter().map(|alert| text(&alert.json(), "id").to_owned()).collect();
        assert_eq!(self.new_ids(), ids, "{done}");
        let keys = |episodes: &[Json]| episodes.iter().map(|open| open["record_key"].clone()).collect::<Vec<_>>();
        assert_eq!(keys(&self.open()), keys(&step.outcome.open_episodes), "{done}");
    }

    /// The topic's new records since the last call.
    fn new_alerts(&mut self) -> Vec<Record> {
        let mut all = kafka::records(&self.scenario.topic("alerts"), 0);
        let new = all.split_off(self.alerts.len());
        assert!(all == self.alerts);
        all.extend(new.iter().cloned());
        self.alerts = all;
        self.check_form();
        new
    }

    /// The table's new ids since the last call.
    fn new_ids(&mut self) -> BTreeSet<String> {
        let rows = self.scenario.database.sql("SELECT id FROM tripline.alerts");
        rows.into_iter().flatten().filter(|id| self.ids.insert(id.clone())).collect()
    }

    /// The bytes of all alerts of a rule, old and new, differ in their values alone.
    fn check_form(&self) {
        let mut forms: BTreeMap<String, String> = BTreeMap::new();
        for alert in &self.alerts {
            let (body, form) = (alert.json(), form(&without_reason(alert)));
            let first = forms.entry(text(&body, "rule").to_owned()).or_insert_with(|| form.clone());
            assert_eq!(*first, form, "{body}");
            let headers = [
                ("ce_specversion", "1.0"),
                ("ce_id", text(&body, "id")),
                ("ce_source", &format!("tripline/{}", text(&body, "group"))),
                ("ce_type", &format!("tripline.alert.{}.v1", text(&body, "status"))),
                ("ce_subject", alert.key_text()),
                ("ce_time", text(&body, "emitted_at")),
                ("content-type", "application/json"),
            ];
            assert_eq!(alert.headers, headers.map(|(name, value)| (name.to_owned(), value.to_owned())), "{body}");
        }
    }

    /// The recovery topic ends with the epoch that the group has committed. Returns the form of each value, progress apart
    /// from episodes.
    fn check_recovery_topic(&self) -> BTreeSet<(bool, String)> {
        let records = kafka::records(&self.scenario.topic("episodes"), 0);
        let is_progress = |record: &Record| record.key_text() == self.scenario.group.group;
        let newest = records.iter().rfind(|record| is_progress(record)).unwrap();
        assert_eq!(text(&newest.json(), "name"), self.scenario.committed_name());
        let with_value = records.iter().filter(|record| record.value.is_some());
        with_value.map(|record| (is_progress(record), form(&value(record)))).collect()
    }

    /// The episodes that have fired and not resolved, by all that was ever told.
    fn open(&self) -> Vec<Json> {
        let mut open = BTreeMap::new();
        for alert in &self.alerts {
            let (key, body) = (alert.key_text(), alert.json());
            let episode = json!({ "record_key": key, "episode": body["episode"], "id": body["id"] });
            if body["status"] == "firing" {
                open.insert(key, episode)
            } else {
                open.remove(key)
            };
        }
        open.into_values().collect()
    }
}

fn value(record: &Record) -> String {
    String::from_utf8(record.value.clone().unwrap()).unwrap()
}

/// The text of an alert, as that commit would have written it: a resolved one had no reason, and no other field is new.
fn without_reason(alert: &Record) -> String {
    let (text, body) = (value(alert), alert.json());
    // What has come to records since.
    let text = text.replace(",\"evaluated_by\":\"memory\"", "");
    let Some(reason) = body.get("reason") else { return text };
    assert_eq!(body["status"], "resolved", "{body}");
    let field = format!(",\"reason\":{reason}");
    assert_eq!(text.matches(&field).count(), 1, "{body}");
    text.replace(&field, "")
}

/// The counts of what was read and told. That commit took a row with one unreadable value for no row, so it asked Postgres
/// less.
fn of_the_answer(mut counts: Json) -> Json {
    for name in ["candidates", "refuted"] {
        assert!(counts[name].take().is_u64());
    }
    counts
}

/// The part of an alert that is the same at every start from the same folder.
fn brief(alert: &Record) -> Json {
    let body = alert.json();
    let mut brief = json!({ "record_key": alert.key_text() });
    for field in SAME {
        brief[field] = body[field].clone();
    }
    brief
}

/// Without what a firing alert has from the number of its epoch.
fn unnamed(mut brief: Json) -> Json {
    if brief["status"] == "firing" {
        brief["id"].take();
        brief["episode"].take();
    }
    brief
}

fn text<'a>(value: &'a Json, field: &str) -> &'a str {
    value[field].as_str().unwrap_or_else(|| panic!("no {field} in {value}"))
}
