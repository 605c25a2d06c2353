//! Offsets as a table and as JSON. Pure.

use serde_json::{Value as Json, json};

use crate::app::offsets::Reset;
use crate::app::offsets::plan::Move;
use crate::app::progress::view::ProgressView;
use crate::cli::terminal::{aligned, printable};
use crate::model::NextOffset;
use crate::progress::group::{GroupMember, GroupState};
use crate::progress::topics::partition_of;
use crate::progress::{Committed, PartitionState, Topics, lag};

/// The output of `tripline offsets`.
pub(super) struct ViewReport<'a>(pub(super) &'a ProgressView);

impl ViewReport<'_> {
    /// Returns head lines, an empty line, and the table.
    pub(super) fn table(&self) -> Vec<String> {
        let ProgressView { policy, folder, topic, group, now, .. } = self.0;
        let mut lines = vec![
            format!("group       {}, {}", policy.group, described(group)),
            match folder {
                Some(state) => format!(
                    "checkpoint  {}: lineage {}, epoch {}, {} old",
                    policy.folder,
                    state.lineage,
                    state.epoch,
                    age(lag::seconds_since(state.at, *now))
                ),
                None => format!("checkpoint  none in {}", policy.folder),
            },
            match self.metadata().as_deref() {
                Some("") => "metadata    none: the offsets were set by hand".to_owned(),
                Some(text) => format!("metadata    {}", printable(text)),
                None => "metadata    none: the group has no offsets".to_owned(),
            },
            format!("next start  {}", self.0.text()),
            String::new(),
        ];
        let head =
            ["TOPIC", "PARTITION", "OLDEST", "CHECKPOINT", "GROUP", "END", "LAG", "LAG-SECONDS"].map(str::to_owned);
        let rows = topic.partitions.iter().map(|state| {
            [
                policy.topics.name(state.partition).to_owned(),
                partition_of(state.partition).to_string(),
                state.low.0.to_string(),
                shown(self.stored(state.partition)),
                shown(state.committed.as_ref().map(|(next, _)| *next)),
                state.high.0.to_string(),
                self.lag(state).to_string(),
                self.age(state.partition).map_or_else(|| "?".to_owned(), |age| age.to_string()),
            ]
        });
        let rows: Vec<_> = std::iter::once(head).chain(rows).collect();
        lines.extend(aligned(&rows, &[0]));
        lines
    }

    pub(super) fn json(&self) -> Json {
        let ProgressView { policy, folder, topic, group, decision, now, .. } = self.0;
        let partition = |state: &PartitionState| {
            of_topic(
                &policy.topics,
                state.partition,
                json!({
                    "partition": partition_of(state.partition),
                    "oldest": state.low,
                    "checkpoint": self.stored(state.partition),
                    "group": state.committed.as_ref().map(|(next, _)| next),
                    "metadata": state.committed.as_ref().map(|(_, text)| text),
                    "end": state.high,
                    "next": decision.from.get(&state.partition),
                    "lag": self.lag(state),
                    "lag_seconds": self.age(state.partition),
                }),
            )
        };
        json!({
            "group": policy.group,
            "state": group.state,
            "members": members(group),
            "topic": policy.topics.text(),
            "checkpoint": folder.as_ref().map(|state| json!({
                "folder": policy.folder,
                "topic": state.topics.text(),
                "lineage": state.lineage,
                "epoch": state.epoch,
                "at": state.at.rfc3339(),
                "age_seconds": lag::seconds_since(state.at, *now),
            })),
            "metadata": self.metadata(),
            "relation": decision.relation(),
            "next_start": decision.action(),
            "text": self.0.text(),
            "partitions": topic.partitions.iter().map(partition).collect::<Vec<_>>(),
        })
    }

    /// The metadata of the group's offsets. `None`: the partitions have different ones.
    fn metadata(&self) -> Option<String> {
        Committed::of(&self.0.topic.partitions).map(|committed| committed.metadata)
    }

    fn stored(&self, partition: i32) -> Option<NextOffset> {
        self.0.folder.as_ref().and_then(|state| state.offsets.get(&partition).copied())
    }

    fn lag(&self, state: &PartitionState) -> i64 {
        lag::of_partition(&self.0.decision.from, state)
    }

    /// The age of the oldest unread record, in seconds. 0 if there is none.
    fn age(&self, partition: i32) -> Option<i64> {
        self.0.ages.get(&partition).copied().unwrap_or(Some(0))
    }
}

/// The effect of a reset, planned or done.
pub(super) struct ResetReport<'a> {
    pub(super) group_id: &'a str,
    pub(super) reset: &'a Reset,
    pub(super) executed: bool,
    /// The command that puts the previous offsets back.
    pub(super) undo: Option<&'a str>,
}

impl ResetReport<'_> {
    pub(super) fn table(&self) -> Vec<String> {
        let head =
            ["TOPIC", "PARTITION", "OLDEST", "FROM", "TO", "END", "READ-AGAIN", "SKIPPED", "NOTE"].map(str::to_owned);
        let count = |count: Option<i64>| count.map_or_else(|| "?".to_owned(), |count| count.to_string());
        let rows = self.reset.moves.iter().map(|one| {
            [
                self.reset.topics.name(one.partition).to_owned(),
                partition_of(one.partition).to_string(),
                one.oldest.0.to_string(),
                shown(one.from),
                shown(one.to),
                one.end.0.to_string(),
                count(one.read_again()),
                count(one.skipped()),
                note(one).unwrap_or_default(),
            ]
        });
        let rows: Vec<_> = std::iter::once(head).chain(rows).collect();
        aligned(&rows, &[0, 8])
    }

    pub(super) fn json(&self) -> Json {
        let partition = |one: &Move| {
            of_topic(
                &self.reset.topics,
                one.partition,
                json!({
                    "partition": partition_of(one.partition),
                    "oldest": one.oldest,
                    "from": one.from,
                    "to": one.to,
                    "end": one.end,
                    "read_again": one.read_again(),
                    "skipped": one.skipped(),
                    "note": note(one),
                }),
            )
        };
        json!({
            "group": self.group_id,
            "state": self.reset.group.state,
            "members": members(&self.reset.group),
            "topic": self.reset.topics.text(),
            "executed": self.executed,
            "saved_in": self.reset.saved,
            "undo": self.undo,
            "partitions": self.reset.moves.iter().map(partition).collect::<Vec<_>>(),
        })
    }
}

/// With the topic of a lane before it, where there are several.
fn of_topic(topics: &Topics, lane: i32, json: Json) -> Json {
    match json {
        Json::Object(fields) if topics.read().count() > 1 => {
            let topic = std::iter::once(("topic".to_owned(), Json::from(topics.name(lane))));
            Json::Object(topic.chain(fields).collect())
        }
        json => json,
    }
}

fn note(one: &Move) -> Option<String> {
    match (one.clamped, one.to) {
        (Some(wanted), Some(to)) if to == one.oldest => Some(format!("{} no longer exists: at the oldest", wanted.0)),
        (Some(wanted), _) => Some(format!("{} does not exist yet: at the end", wanted.0)),
        (None, None) => Some("keeps no offset: read from its beginning".to_owned()),
        (None, Some(to)) if to < one.oldest || to > one.end => {
            Some("unchanged, though there is no such offset".to_owned())
        }
        (None, Some(_)) if !one.chosen => Some("unchanged".to_owned()),
        (None, Some(_)) => None,
    }
}

/// `state Stable, active: tripline at 127.0.0.1 (rdkafka-…)`
fn described(group: &GroupState) -> String {
    let state = match &group.state {
        Some(state) => format!("state {state}"),
        None => "which does not exist".to_owned(),
    };
    let names: Vec<String> = group.members.iter().map(ToString::to_string).collect();
    if names.is_empty() {
        format!("{state}, no active member")
    } else {
        format!("{state}, active: {}", names.join(", "))
    }
}

fn members(group: &GroupState) -> Vec<Json> {
    let member = |member: &GroupMember| json!({"id": member.id, "client": member.client, "host": member.host});
    group.members.iter().map(member).collect()
}

/// Formats an age as `17 s`, `5 min`, `3 h` or `9 d`: at least two of the unit.
fn age(seconds: i64) -> String {
    let of = |unit: i64| seconds / unit;
    match seconds {
        ..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", of(60)),
        7_200..172_800 => format!("{} h", of(3_600)),
        _ => format!("{} d", of(86_400)),
    }
}

fn shown(next: Option<NextOffset>) -> String {
    next.map_or_else(|| "-".to_owned(), |next| next.0.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::offsets::plan::{Goal, plan};
    use crate::model::Timestamp;
    use crate::progress::start::{Answers, FolderState, Known, Policy, decide};
    use crate::progress::{LastRecords, Offsets, Progress, StartAt, TopicState};

    fn group(members: &[&str]) -> GroupState {
        let member = |id: &&str| GroupMember {
            id: (*id).to_owned(),
            client: "tripline".to_owned(),
            host: "127.0.0.1".to_owned(),
        };
        let state = if members.is_empty() { "Empty" } else { "Stable" };
        GroupState { state: Some(state.to_owned()), members: members.iter().map(member).collect() }
    }

    fn partition(number: i32, oldest: i64, end: i64, group: Option<(i64, &str)>) -> PartitionState {
        let committed = group.map(|(next, text)| (NextOffset(next), text.to_owned()));
        PartitionState { partition: number, committed, low: NextOffset(oldest), high: NextOffset(end) }
    }

    /// The lines and the JSON of a view.
    fn view(folder: Option<FolderState>, partitions: &[PartitionState], ages: &[(i32, Option<i64>)]) -> (String, Json) {
        let policy = Policy {
            group: "g".to_owned(),
            topics: "db.s.t".into(),
            folder: "checkpoints/g".to_owned(),
            start_at: StartAt::Earliest,
            resume_without_group: false,
        };
        let topic = TopicState { cluster: None, partitions: partitions.to_vec() };
        let logged = folder.as_ref().map(|state| (0x00c0_ffee, state.offsets.clone()));
        let answers = Answers { recovery: Some(None::<Progress>), logged: Some(logged), ..Answers::default() };
        let now = Timestamp(400_000_000);
        let known = Known { policy, folder, topic, now, answers };
        let decision = decide(&known).unwrap();
        let Known { policy, folder, topic, .. } = known;
        let ages = ages.iter().copied().collect();
        let view = ProgressView { policy, topic, group: group(&["m-1"]), folder, decision, ages, now };
        (ViewReport(&view).table().join("\n"), ViewReport(&view).json())
    }

    #[test]
    fn checkpoint_and_group_side_by_side() {
        let offsets = Offsets::from([(0, NextOffset(66)), (1, NextOffset(7))]);
        let folder = FolderState {
            lineage: "0199".to_owned(),
            topics: "db.s.t".into(),
            cluster: None,
            origin: None,
            epoch: 12,
            offsets,
            kept: Offsets::new(),
            last_records: LastRecords::new(),
            at: Timestamp(100_000_000),
            is_starting: false,
        };
        let text = "0199:12:00c0ffee";
        let partitions = [partition(0, 0, 70, Some((66, text))), partition(1, 5, 7, Some((7, text)))];
        let (table, json) = view(Some(folder), &partitions, &[(0, Some(3))]);
        assert_eq!(
            table,
            "group       g, state Stable, active: tripline at 127.0.0.1 (m-1)\n\
             checkpoint  checkpoints/g: lineage 0199, epoch 12, 5 min old\n\
             metadata    0199:12:00c0ffee\n\
             next start  resumes: checkpoint and group agree\n\
             \n\
             TOPIC   PARTITION  OLDEST  CHECKPOINT  GROUP  END  LAG  LAG-SECONDS\n\
             db.s.t          0       0          66     66   70    4            3\n\
             db.s.t          1       5           7      7    7    0            0"
        );
        assert_eq!((&json["relation"], &json["next_start"]), (&Json::from("agree"), &Json::from("resume")));
        assert_eq!(json["checkpoint"]["age_seconds"], 300);
        assert_eq!(
            json["partitions"][0].to_string(),
            r#"{"partition":0,"oldest":0,"checkpoint":66,"group":66,"metadata":"0199:12:00c0ffee","end":70,"next":66,"lag":4,"lag_seconds":3}"#
        );
    }

    #[test]
    fn what_does_not_exist_or_is_not_known() {
        let (table, json) = view(None, &[partition(0, 2, 5, None)], &[(0, None)]);
        assert!(table.contains("checkpoint  none in checkpoints/g\nmetadata    none: the group has no"), "{table}");
        assert!(table.ends_with("db.s.t          0       2           -      -    5    3            ?"), "{table}");
        assert_eq!((&json["checkpoint"], &json["metadata"]), (&Json::Null, &Json::Null));
        assert_eq!(json["partitions"][0]["lag_seconds"], Json::Null);
    }

    #[test]
    fn a_start_that_will_stop_is_shown() {
        let (table, json) = view(None, &[partition(0, 20, 30, Some((5, "")))], &[]);
        assert!(table.contains("next start  stops with exit code 5, to protect data: db.s.t partition 0"), "{table}");
        assert!(table.contains("offsets 5 to 19 were removed"), "{table}");
        assert_eq!((&json["relation"], &json["next_start"]), (&Json::from("moved-by-hand"), &Json::from("stop")));
    }

    #[test]
    fn a_plan_line_by_line() {
        let partitions =
            [partition(0, 10, 100, Some((50, ""))), partition(1, 0, 9, Some((9, ""))), partition(2, 0, 4, None)];
        let moves = plan(&partitions, &[0], &Goal::Offset(NextOffset(200))).unwrap();
        let reset = Reset { topics: "db.s.t".into(), group: group(&[]), moves, saved: None, refused: None };
        let report = ResetReport { group_id: "g", reset: &reset, executed: false, undo: None };
        assert_eq!(
            report.table().join("\n"),
            "TOPIC   PARTITION  OLDEST  FROM   TO  END  READ-AGAIN  SKIPPED  NOTE\n\
             db.s.t          0      10    50  100  100           0       50  200 does not exist yet: at the end\n\
             db.s.t          1       0     9    9    9           0        0  unchanged\n\
             db.s.t          2       0     -    -    4           ?        ?  keeps no offset: read from its beginning"
        );
        let json = report.json();
        assert_eq!((&json["executed"], &json["undo"]), (&Json::from(false), &Json::Null));
        assert_eq!(json["partitions"][0]["skipped"], 50);
    }

    #[test]
    fn ages_in_words() {
        let check = |seconds: i64, want: &str| assert_eq!(age(seconds), want);
        check(0, "0 s");
        check(119, "119 s");
        check(120, "2 min");
        check(7_200, "2 h");
        check(172_800, "2 d");
    }
}
