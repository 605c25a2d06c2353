//! The difference between the open episodes of two groups, as a table and as JSON. Pure.

use serde_json::{Value as Json, json};

use crate::alert::record::AlertRecord;
use crate::app::reprocess::difference::{Difference, totals};
use crate::cli::alerts::{pairs, shown};
use crate::cli::terminal::{aligned, printable};
use crate::model::Timestamp;
use crate::monitor::counts::Counts;

/// The output of the command.
pub(super) struct Report<'a> {
    pub(super) old_group: &'a str,
    pub(super) new_group: &'a str,
    pub(super) dry_run: bool,
    /// When the old group last reported. `None`: nothing is known about it.
    pub(super) as_of: Option<Timestamp>,
    pub(super) counts: &'a Counts,
    pub(super) open: &'a Difference,
}

impl Report<'_> {
    /// Returns head lines, and a table of the differences.
    pub(super) fn table(&self) -> Vec<String> {
        let Counts { read, candidates, confirmed, refuted, fired, resolved, rejected, .. } = self.counts;
        let Difference { new, gone, changed, same } = self.open;
        let mut lines = vec![
            match self.as_of {
                Some(at) => format!("old group  {}, as of {at}", self.old_group),
                None => format!("old group  {}, of which the recovery topic has nothing", self.old_group),
            },
            format!("new group  {}{}", self.new_group, if self.dry_run { ", dry run" } else { "" }),
            format!(
                "done       {read} records, {rejected} of them rejected; {candidates} candidates, {confirmed} confirmed, {refuted} refuted; {fired} fired, {resolved} resolved"
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
                cell(old.and_then(totals).map(pairs)),
                cell(new.and_then(totals).map(pairs)),
                cell(old.map(|old| old.id.to_string())),
                cell(new.filter(|_| !self.dry_run).map(|new| new.id.to_string())),
            ])
        }));
        if rows.len() > 1 {
            lines.push(String::new());
            lines.extend(aligned(&rows, &[0, 1, 2, 3, 4, 5, 6, 7]));
        }
        lines
    }

    pub(super) fn json(&self) -> Json {
        let side = |record: Option<&AlertRecord>, sent: bool| {
            let side = |record: &AlertRecord| {
                json!({
                    "alert": sent.then_some(record.id),
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
                    // The alert of a dry run is never sent: nobody would find its id anywhere.
                    "new": side(new, !self.dry_run),
                }))
            });
            entry.collect()
        };
        json!({
            "old_group": self.old_group,
            "new_group": self.new_group,
            "dry_run": self.dry_run,
            "old_as_of": self.as_of.map(Timestamp::rfc3339),
            "counts": self.counts,
            "open": {"new": all("new"), "gone": all("gone"), "changed": all("changed"), "same": self.open.same},
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::reprocess::difference::Open;
    use crate::model::Key;

    const LINEAGE: &str = "0199";

    /// An alert about a user, whose `total` is Postgres's.
    fn alert(user: i64, version: &str, total: Option<&str>) -> AlertRecord {
        let database = total.map(|total| json!({"total": total}));
        let alert = json!({
            "id": uuid::Uuid::from_u128(u128::try_from(user).unwrap()), "group": "g", "lineage": LINEAGE, "rule": "spend",
            "rule_version": version, "episode": "1.0", "status": "firing", "severity": "critical",
            "key": {"user_id": user}, "message": format!("User {user}"), "stream": {"total": "1.00"},
            "database": database, "having": "", "window": {"from": null, "to": ""}, "trigger": null,
            "confirmation": {}, "emitted_at": "2026-11-22T10:00:00Z",
        });
        AlertRecord::parse(&alert.to_string()).unwrap()
    }

    fn of(alerts: &[AlertRecord]) -> Open {
        let key = |alert: &AlertRecord| ("spend".to_owned(), Key::Int(alert.key["user_id"].as_i64().unwrap()));
        alerts.iter().map(|alert| (key(alert), alert.clone())).collect()
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
            dry_run: true,
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
                 new group  g-v4, dry run\n\
                 done       5 records, 0 of them rejected; 3 candidates, 3 confirmed, 0 refuted; 3 fired, 0 resolved\n\
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
            (&json["old_group"], &json["new_group"], &json["dry_run"]),
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

        report.dry_run = false;
        assert_eq!(report.json()["open"]["changed"][0]["new"]["alert"], id(2));
        assert!(report.table()[5..].iter().any(|line| line.starts_with("changed") && line.ends_with(&id(2))));
        let (open, none) = (Difference::default(), None);
        let empty = Report { open: &open, as_of: none, ..report };
        assert_eq!(empty.table().len(), 4);
        assert_eq!(empty.json()["old_as_of"], Json::Null);
    }
}
