//! The differences between the open alerts of two groups. Pure.

use std::collections::BTreeMap;

use serde_json::{Map, Value as Json};

use crate::alert::record::AlertRecord;
use crate::model::Key;
use crate::unit::recovery::RecoveryState;

/// Open episodes by rule and key, each by the alert that opened it.
pub type Open = BTreeMap<(String, Key), AlertRecord>;

/// Returns the open episodes of a group's newest lineage.
pub fn open(recovery: &RecoveryState) -> Open {
    let newest = recovery.progress.as_ref().and_then(|progress| progress.epoch());
    let Some(newest) = newest else { return Open::new() };
    let mine = recovery.episodes.iter().filter(|record| record.lineage == newest.lineage && !record.is_resolved());
    mine.filter_map(|record| {
        let alert = AlertRecord::parse(&record.alerts.last()?.body).ok()?; // written by this program
        Some(((record.rule.clone(), record.key.clone()), alert))
    })
    .collect()
}

/// The comparison of two groups' open episodes.
#[derive(Debug, Default, PartialEq)]
pub struct Difference {
    /// Those open only in the new group.
    pub new: Vec<AlertRecord>,
    /// Those open only in the old group.
    pub gone: Vec<AlertRecord>,
    /// Those open in both, with different totals or another version of the rule: old and new.
    pub changed: Vec<(AlertRecord, AlertRecord)>,
    /// The number of those open in both without a difference.
    pub same: usize,
}

impl Difference {
    /// Compares what is open in two groups.
    pub fn between(old: Open, mut new: Open) -> Self {
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

    /// Returns each difference: the word for it, the old alert and the new one.
    pub fn each(&self) -> impl Iterator<Item = (&'static str, Option<&AlertRecord>, Option<&AlertRecord>)> {
        let new = self.new.iter().map(|new| ("new", None, Some(new)));
        let gone = self.gone.iter().map(|old| ("gone", Some(old), None));
        let changed = self.changed.iter().map(|(old, new)| ("changed", Some(old), Some(new)));
        new.chain(gone).chain(changed)
    }
}

/// Returns Postgres's aggregates. For a rule without confirmation they are memory's.
pub fn totals(record: &AlertRecord) -> Option<&Map<String, Json>> {
    record.numbers()
}

#[cfg(test)]
mod tests {
    use std::slice::from_ref;

    use super::*;
    use serde_json::json;

    use crate::model::Timestamp;
    use crate::progress::Progress;
    use crate::unit::recovery::EpisodeRecord;

    const LINEAGE: &str = "0199";

    /// Returns an alert on a user with `total` by Postgres.
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
    fn what_differs() {
        let total = |user, total| alert(user, "v", Some(total));
        let check = |old: &[AlertRecord], new: &[AlertRecord], want: Difference| {
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
        // Without Postgres's totals, memory's are compared.
        check(&[alert(1, "v", None)], &[alert(1, "v", None)], Difference { same: 1, ..none() });
        // Keys have their own order.
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
                moved_from: None,
            }
        };
        use crate::episode::Status::{Firing, Resolved};
        let progress = Progress {
            group: "g".into(),
            name: format!("{LINEAGE}:7:0000000c"),
            topics: "t".into(),
            cluster: None,
            offsets: Default::default(),
            kept: Default::default(),
            last_records: Default::default(),
            at: Timestamp(0),
        };
        let episodes = vec![episode(LINEAGE, 1, Firing), episode(LINEAGE, 2, Resolved), episode("0198", 3, Firing)];
        let known = RecoveryState { progress: Some(progress), episodes: episodes.clone() };
        assert_eq!(open(&known), of(&[alert(1, "v", Some("5.00"))]));
        assert_eq!(open(&RecoveryState { progress: None, episodes }), Open::new());
    }
}
