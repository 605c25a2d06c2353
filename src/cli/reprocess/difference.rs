//! What is open in one group and not in another, or otherwise. Pure.

use std::collections::BTreeMap;

use serde_json::{Map, Value as Json, json};

use crate::cli::alerts::{pairs, printable, shown};
use crate::cli::offsets::aligned;
use crate::model::{Key, Timestamp};
use crate::sink::postgres::stored::Record;
use crate::unit::Counts;
use crate::unit::backup::Backup;

/// Open episodes by rule and key, each by the alert that opened it.
pub(super) type Open = BTreeMap<(String, Key), Record>;

/// The open episodes of a group's newest lineage.
pub(super) fn open(backup: &Backup) -> Open {
    let named = backup.progress.as_ref().and_then(|progress| progress.named());
    let Some(named) = named else { return Open::new() };
    let mine = backup.episodes.iter().filter(|record| record.lineage == named.lineage && !record.is_resolved());
    mine.filter_map(|record| {
        let alert = Record::parse(&record.alerts.last()?.body).ok()?; // written by this program
        Some(((record.rule.clone(), record.key.clone()), alert))
    })
    .collect()
}

/// The open episodes of two groups, held against each other.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Difference {
    /// Open in the new group only.
    new: Vec<Record>,
    /// Open in the old group only.
    gone: Vec<Record>,
    /// Open in both, with other totals or by another version of the rule: the old one and the new one.
    changed: Vec<(Record, Record)>,
    /// Open in both, and nothing else to say.
    same: usize,
}

impl Difference {
    pub(super) fn between(old: Open, mut new: Open) -> Self {
        let mut found = Self::default();
        for (key, old) in old {
            match new.remove(&key) {
                None => found.gone.push(old),
                Some(new) if totals(&old) == totals(&new) && old.rule_version == new.rule_version => found.same += 1,
                Some(new) => found.changed.push((old, new)),
            }
        }
        found.new = new.into_values().collect();
        found
    }

    /// What differs, each with its word, and as it was and is.
    fn each(&self) -> impl Iterator<Item = (&'static str, Option<&Record>, Option<&Record>)> {
        let new = self.new.iter().map(|new| ("new", None, Some(new)));
        let gone = self.gone.iter().map(|old| ("gone", Some(old), None));
        let changed = self.changed.iter().map(|(old, new)| ("changed", Some(old), Some(new)));
        new.chain(gone).chain(changed)
    }
}

/// Postgres's aggregates, or memory's under a rule that is not confirmed.
fn totals(record: &Record) -> &Map<String, Json> {
    record.database.as_ref().unwrap_or(&record.stream)
}

/// What the command shows.
pub(super) struct Report<'a> {
    pub(super) old_group: &'a str,
    pub(super) new_group: &'a str,
    pub(super) shadow: bool,
    /// When the old group was last heard of; `None`: nothing is known of it.
    pub(super) as_of: Option<Timestamp>,
    pub(super) counts: &'a Counts,
    pub(super) open: &'a Difference,
}

impl Report<'_> {
    /// Head lines, and a table of what differs.
    pub(super) fn table(&self) -> Vec<String> {
        let Counts { read, candidates, confirmed, refuted, fired, resolved, rejected, .. } = self.counts;
        let Difference { new, gone, changed, same } = self.open;
        let mut lines = vec![
            match self.as_of {
                Some(at) => format!("old group  {}, as of {at}", self.old_group),
                None => format!("old group  {}, of which Kafka knows nothing", self.old_group),
            },
            format!("new group  {}{}", self.new_group, if self.shadow { ", a shadow" } else { "" }),
            format!(
                "done       {read} records, {rejected} of them not understood; {candidates} candidates, {confirmed} confirmed, {refuted} refuted; {fired} fired, {resolved} resolved"
            ),
            format!("open       {} new, {} gone, {} changed, {same} the same", new.len(), gone.len(), changed.len()),
        ];
        let head = ["OPEN", "RULE", "KEY", "MESSAGE", "OLD", "NEW", "OLD-ALERT", "NEW-ALERT"].map(str::to_owned);
        let mut rows = vec![head];
        rows.extend(self.open.each().filter_map(|(word, old, new)| {
            let shown_by = new.or(old)?;
            let key: Vec<String> = shown_by.key.values().map(shown).collect();
            let cell = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
            Some([
                word.to_owned(),
                printable(&shown_by.rule),
                key.join(" | "),
                printable(&shown_by.message),
                cell(old.map(|old| pairs(totals(old)))),
                cell(new.map(|new| pairs(totals(new)))),
                cell(old.map(|old| old.id.to_string())),
                cell(new.filter(|_| !self.shadow).map(|new| new.id.to_string())),
            ])
        }));
        if rows.len() > 1 {
            lines.push(String::new());
            lines.extend(aligned(&rows, &[0, 1, 2, 3, 4, 5, 6, 7]));
        }
        lines
    }

    pub(super) fn json(&self) -> Json {
        let side = |record: Option<&Record>, told: bool| {
            let side = |record: &Record| {
                json!({
                    "alert": told.then_some(record.id),
                    "rule_version": record.rule_version,
                    "database": record.database,
                    "stream": record.stream,
                })
            };
            record.map(side)
        };
        let all = |wanted: &str| -> Vec<Json> {
            let found = self.open.each().filter(|(word, ..)| *word == wanted);
            let entry = found.filter_map(|(_, old, new)| {
                let shown_by = new.or(old)?;
                Some(json!({
                    "rule": shown_by.rule,
                    "key": shown_by.key,
                    "message": shown_by.message,
                    "old": side(old, true),
                    // A shadow's alert was never sent: nobody would find its id anywhere.
                    "new": side(new, !self.shadow),
                }))
            });
            entry.collect()
        };
        json!({
            "old_group": self.old_group,
            "new_group": self.new_group,
            "shadow": self.shadow,
            "old_as_of": self.as_of.map(Timestamp::rfc3339),
            "counts": self.counts,
            "open": {"new": all("new"), "gone": all("gone"), "changed": all("changed"), "same": self.open.same},
        })
    }
}

#[cfg(test)]
mod tests {
    use std::slice::from_ref;

    use super::*;
    use crate::unit::backup::{EpisodeRecord, Progress};

    const LINEAGE: &str = "0199";

    /// An alert on a user, `total` as Postgres has it.
    fn alert(user: i64, version: &str, total: Option<&str>) -> Record {
        let database = total.map(|total| json!({"total": total}));
        let alert = json!({
            "id": uuid::Uuid::from_u128(u128::try_from(user).unwrap()), "group": "g", "lineage": LINEAGE, "rule": "spend",
            "rule_version": version, "episode": "1.0", "status": "firing", "severity": "critical",
            "key": {"user_id": user}, "message": format!("User {user}"), "stream": {"total": "1.00"},
            "database": database, "having": "", "window": {"from": null, "to": ""}, "trigger": null,
            "confirmation": {}, "emitted_at": "2026-11-22T10:00:00Z",
        });
        Record::parse(&alert.to_string()).unwrap()
    }

    fn of(alerts: &[Record]) -> Open {
        let key = |alert: &Record| ("spend".to_owned(), Key::Int(alert.key["user_id"].as_i64().unwrap()));
        alerts.iter().map(|alert| (key(alert), alert.clone())).collect()
    }

    #[test]
    fn what_differs() {
        let total = |user, total| alert(user, "v", Some(total));
        let check = |old: &[Record], new: &[Record], want: Difference| {
            assert_eq!(Difference::between(of(old), of(new)), want, "{old:?} {new:?}");
        };
        let none = Difference::default;
        check(&[], &[], none());
        check(&[], &[total(1, "5.00")], Difference { new: vec![total(1, "5.00")], ..none() });
        check(&[total(1, "5.00")], &[], Difference { gone: vec![total(1, "5.00")], ..none() });
        check(&[total(1, "5.00")], &[total(1, "5.00")], Difference { same: 1, ..none() });
        let pair = (total(1, "5.00"), total(1, "6.00"));
        check(from_ref(&pair.0), from_ref(&pair.1), Difference { changed: vec![pair.clone()], ..none() });
        let pair = (alert(1, "v", Some("5.00")), alert(1, "w", Some("5.00")));
        check(from_ref(&pair.0), from_ref(&pair.1), Difference { changed: vec![pair.clone()], ..none() });
        // Without Postgres's, memory's totals count.
        check(&[alert(1, "v", None)], &[alert(1, "v", None)], Difference { same: 1, ..none() });
        // Keys are in their own order.
        let new = [total(9, "1.00"), total(10, "1.00")];
        check(&[], &new, Difference { new: new.to_vec(), ..none() });
    }

    #[test]
    fn only_what_is_open_in_the_newest_lineage() {
        let episode = |lineage: &str, user: i64, status| {
            let alert = alert(user, "v", Some("5.00"));
            EpisodeRecord {
                group: "g".into(),
                lineage: lineage.into(),
                epoch: 1,
                rule: "spend".into(),
                version: "v user_id bigint".into(),
                key: Key::Int(user),
                alerts: vec![crate::alert::Alert {
                    id: alert.id,
                    rule: "spend".into(),
                    key: Key::Int(user),
                    status,
                    episode: crate::episode::EpisodeId { epoch: 1, ordinal: 0 },
                    record_key: format!("spend|{user}"),
                    line: String::new(),
                    emitted_at: Timestamp(0),
                    body: serde_json::to_string(&alert).unwrap(),
                }],
            }
        };
        use crate::episode::Status::{Firing, Resolved};
        let progress = Progress {
            group: "g".into(),
            name: format!("{LINEAGE}:7:0000000c"),
            topic: "t".into(),
            cluster: None,
            offsets: Default::default(),
            marks: Default::default(),
            at: Timestamp(0),
        };
        let episodes = vec![episode(LINEAGE, 1, Firing), episode(LINEAGE, 2, Resolved), episode("0198", 3, Firing)];
        let known = Backup { progress: Some(progress), episodes: episodes.clone() };
        assert_eq!(open(&known), of(&[alert(1, "v", Some("5.00"))]));
        assert_eq!(open(&Backup { progress: None, episodes }), Open::new());
    }

    #[test]
    fn shown_to_people_and_to_programs() {
        let old = [alert(1, "v", Some("5.00")), alert(2, "v", Some("5.00")), alert(3, "v", Some("5.00"))];
        let new = [alert(2, "v", Some("6.00")), alert(3, "v", Some("5.00")), alert(4, "v", None)];
        let open = Difference::between(of(&old), of(&new));
        let counts = Counts { read: 5, candidates: 3, confirmed: 3, fired: 3, ..Counts::default() };
        let mut report = Report {
            old_group: "g-v3",
            new_group: "g-v4",
            shadow: true,
            as_of: Some(Timestamp(0)),
            counts: &counts,
            open: &open,
        };
        let id = |user: i64| uuid::Uuid::from_u128(u128::try_from(user).unwrap()).to_string();
        let dash = format!("{:36}", "-");
        assert_eq!(
            report.table().join("\n"),
            format!(
                "old group  g-v3, as of 1970-01-01T00:00:00Z\n\
                 new group  g-v4, a shadow\n\
                 done       5 records, 0 of them not understood; 3 candidates, 3 confirmed, 0 refuted; 3 fired, 0 resolved\n\
                 open       1 new, 1 gone, 1 changed, 1 the same\n\
                 \n\
                 OPEN     RULE   KEY  MESSAGE  OLD         NEW         {:36}  NEW-ALERT\n\
                 new      spend  4    User 4   -           total 1.00  {dash}  -\n\
                 gone     spend  1    User 1   total 5.00  -           {}  -\n\
                 changed  spend  2    User 2   total 5.00  total 6.00  {}  -",
                "OLD-ALERT",
                id(1),
                id(2)
            )
        );
        let json = report.json();
        assert_eq!(
            (&json["old_group"], &json["new_group"], &json["shadow"]),
            (&"g-v3".into(), &"g-v4".into(), &true.into())
        );
        assert_eq!((&json["counts"]["read"], &json["open"]["same"]), (&5.into(), &1.into()));
        let side = |alert: Json, total: &str| json!({"alert": alert, "rule_version": "v", "database": {"total": total}, "stream": {"total": "1.00"}});
        assert_eq!(
            json["open"]["changed"],
            json!([{"rule": "spend", "key": {"user_id": 2}, "message": "User 2",
                    "old": side(id(2).into(), "5.00"), "new": side(Json::Null, "6.00")}])
        );
        assert_eq!((&json["open"]["gone"][0]["new"], &json["open"]["new"][0]["old"]), (&Json::Null, &Json::Null));

        report.shadow = false;
        assert_eq!(report.json()["open"]["changed"][0]["new"]["alert"], id(2));
        assert!(report.table()[5..].iter().any(|line| line.starts_with("changed") && line.ends_with(&id(2))));
        let (open, none) = (Difference::default(), None);
        let empty = Report { open: &open, as_of: none, ..report };
        assert_eq!(empty.table().len(), 4);
        assert_eq!(empty.json()["old_as_of"], Json::Null);
    }
}
