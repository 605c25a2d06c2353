//! Offsets for people and as JSON. Pure.

use std::collections::BTreeMap;

use serde_json::{Value as Json, json};

use super::layers::{self, Agreement, Checkpoint, Group, Member, Partition};
use super::plan::Move;
use crate::checkpoint::Offsets;
use crate::cli::alerts::printable;
use crate::model::{NextOffset, Timestamp};

/// Everything that `tripline offsets` shows.
pub(super) struct View<'a> {
    pub(super) group_id: &'a str,
    pub(super) topic: &'a str,
    /// Where the checkpoint is, or would be.
    pub(super) folder: &'a str,
    /// `kafka.auto_offset_reset`
    pub(super) reset: &'a str,
    pub(super) group: &'a Group,
    pub(super) checkpoint: Option<&'a Checkpoint>,
    pub(super) partitions: &'a [Partition],
    pub(super) agreement: &'a Agreement,
    /// Where the next start goes on.
    pub(super) next: &'a Offsets,
    /// Seconds since the oldest unread record, where there is one; `None` where it could not be read.
    pub(super) ages: &'a BTreeMap<i32, Option<i64>>,
    pub(super) now: Timestamp,
}

impl View<'_> {
    /// Head lines, an empty one, and the table.
    pub(super) fn table(&self) -> Vec<String> {
        let mut lines = vec![
            format!("group       {}, {}", self.group_id, described(self.group)),
            match self.checkpoint {
                Some(Checkpoint { lineage, epoch, at, .. }) => {
                    let age = age(since(*at, self.now));
                    format!("checkpoint  {}: lineage {lineage}, epoch {epoch}, {age} old", self.folder)
                }
                None => format!("checkpoint  none in {}", self.folder),
            },
            match layers::metadata(self.partitions) {
                Some("") => "metadata    none: set by hand".to_owned(),
                Some(text) => format!("metadata    {}", printable(text)),
                None => "metadata    none: the group has no offsets".to_owned(),
            },
            format!("next start  {}", self.sentence()),
            String::new(),
        ];
        let head =
            ["TOPIC", "PARTITION", "OLDEST", "CHECKPOINT", "GROUP", "END", "LAG", "LAG-SECONDS"].map(str::to_owned);
        let rows = self.partitions.iter().map(|partition| {
            let number = partition.partition;
            [
                self.topic.to_owned(),
                number.to_string(),
                partition.oldest.0.to_string(),
                shown(self.stored(number)),
                shown(partition.group.as_ref().map(|(next, _)| *next)),
                partition.end.0.to_string(),
                layers::lag(self.next, partition).to_string(),
                self.age(number).map_or_else(|| "?".to_owned(), |age| age.to_string()),
            ]
        });
        let rows: Vec<_> = std::iter::once(head).chain(rows).collect();
        lines.extend(aligned(&rows, &[0]));
        lines
    }

    pub(super) fn json(&self) -> Json {
        let partition = |partition: &Partition| {
            let number = partition.partition;
            json!({
                "partition": number,
                "oldest": partition.oldest,
                "checkpoint": self.stored(number),
                "group": partition.group.as_ref().map(|(next, _)| next),
                "metadata": partition.group.as_ref().map(|(_, text)| text),
                "end": partition.end,
                "next": self.next.get(&number),
                "lag": layers::lag(self.next, partition),
                "lag_seconds": self.age(number),
            })
        };
        json!({
            "group": self.group_id,
            "state": self.group.state,
            "members": members(self.group),
            "topic": self.topic,
            "checkpoint": self.checkpoint.map(|Checkpoint { lineage, epoch, at, .. }| json!({
                "folder": self.folder,
                "lineage": lineage,
                "epoch": epoch,
                "at": at.rfc3339(),
                "age_seconds": since(*at, self.now),
            })),
            "metadata": layers::metadata(self.partitions),
            "layers": self.agreement.name(),
            "next_start": if self.unreadable().is_empty() { self.agreement.next_start() } else { "stop" },
            "text": self.sentence(),
            "partitions": self.partitions.iter().map(partition).collect::<Vec<_>>(),
        })
    }

    fn stored(&self, partition: i32) -> Option<NextOffset> {
        self.checkpoint.and_then(|checkpoint| checkpoint.offsets.get(&partition).copied())
    }

    /// 0 where nothing is unread.
    fn age(&self, partition: i32) -> Option<i64> {
        self.ages.get(&partition).copied().unwrap_or(Some(0))
    }

    fn unreadable(&self) -> Vec<String> {
        layers::unreadable(self.next, self.partitions)
    }

    fn sentence(&self) -> String {
        let sentence = self.agreement.sentence(self.reset);
        match self.unreadable().as_slice() {
            [] => sentence,
            problems => format!(
                "{sentence}. But it will stop there, to protect data: {}; `tripline offsets reset --to-earliest --execute` goes on with what there is",
                problems.join("; ")
            ),
        }
    }
}

/// What a reset does, or has done.
pub(super) struct Reset<'a> {
    pub(super) group_id: &'a str,
    pub(super) topic: &'a str,
    pub(super) group: &'a Group,
    pub(super) plan: &'a [Move],
    pub(super) executed: bool,
    /// Where the offsets of before are, and the command that puts them back.
    pub(super) kept: Option<(&'a str, &'a str)>,
}

impl Reset<'_> {
    pub(super) fn table(&self) -> Vec<String> {
        let head =
            ["TOPIC", "PARTITION", "OLDEST", "FROM", "TO", "END", "READ-AGAIN", "SKIPPED", "NOTE"].map(str::to_owned);
        let count = |count: Option<i64>| count.map_or_else(|| "?".to_owned(), |count| count.to_string());
        let rows = self.plan.iter().map(|one| {
            [
                self.topic.to_owned(),
                one.partition.to_string(),
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
            json!({
                "partition": one.partition,
                "oldest": one.oldest,
                "from": one.from,
                "to": one.to,
                "end": one.end,
                "read_again": one.read_again(),
                "skipped": one.skipped(),
                "note": note(one),
            })
        };
        json!({
            "group": self.group_id,
            "state": self.group.state,
            "members": members(self.group),
            "topic": self.topic,
            "executed": self.executed,
            "kept_in": self.kept.map(|(file, _)| file),
            "undo": self.kept.map(|(_, command)| command),
            "partitions": self.plan.iter().map(partition).collect::<Vec<_>>(),
        })
    }
}

fn note(one: &Move) -> Option<String> {
    match (one.clamped, one.to) {
        (Some(wanted), Some(to)) if to == one.oldest => Some(format!("{} is no longer there: at the oldest", wanted.0)),
        (Some(wanted), _) => Some(format!("{} is not there yet: at the end", wanted.0)),
        (None, None) => Some("stays without an offset: read from its beginning".to_owned()),
        (None, Some(to)) if to < one.oldest || to > one.end => Some("stays, though there is no such offset".to_owned()),
        (None, Some(_)) if !one.chosen => Some("stays".to_owned()),
        (None, Some(_)) => None,
    }
}

/// `state Stable, members: tripline at 127.0.0.1 (rdkafka-…)`
pub(super) fn described(group: &Group) -> String {
    let state = match &group.state {
        Some(state) => format!("state {state}"),
        None => "which is not there".to_owned(),
    };
    match names(group).as_slice() {
        [] => format!("{state}, no active member"),
        names => format!("{state}, active: {}", names.join(", ")),
    }
}

/// Its members, each with client id, address and id.
pub(super) fn names(group: &Group) -> Vec<String> {
    let name = |member: &Member| {
        format!("{} at {} ({})", printable(&member.client), printable(&member.host), printable(&member.id))
    };
    group.members.iter().map(name).collect()
}

fn members(group: &Group) -> Vec<Json> {
    let member = |member: &Member| json!({"id": member.id, "client": member.client, "host": member.host});
    group.members.iter().map(member).collect()
}

fn since(at: Timestamp, now: Timestamp) -> i64 {
    now.0.saturating_sub(at.0).max(0) / 1_000_000
}

/// `17 s`, `5 min`, `3 h`, `9 d`: at least two of the next smaller unit.
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

/// Lines with columns as wide as their widest cell: those in `text` from the left, the others, which are numbers, from
/// the right.
pub(in crate::cli) fn aligned<const N: usize>(rows: &[[String; N]], text: &[usize]) -> Vec<String> {
    let mut widths = [0; N];
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let line = |row: &[String; N]| {
        let cells = row.iter().zip(widths).enumerate().map(|(index, (cell, width))| {
            if text.contains(&index) { format!("{cell:<width$}") } else { format!("{cell:>width$}") }
        });
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::super::plan::{Goal, plan};
    use super::*;

    fn group(members: &[&str]) -> Group {
        let member =
            |id: &&str| Member { id: (*id).to_owned(), client: "tripline".to_owned(), host: "127.0.0.1".to_owned() };
        let state = if members.is_empty() { "Empty" } else { "Stable" };
        Group { state: Some(state.to_owned()), members: members.iter().map(member).collect() }
    }

    fn partition(number: i32, oldest: i64, end: i64, group: Option<(i64, &str)>) -> Partition {
        let group = group.map(|(next, text)| (NextOffset(next), text.to_owned()));
        Partition { partition: number, oldest: NextOffset(oldest), end: NextOffset(end), group }
    }

    /// The lines and the JSON of a view.
    fn view(checkpoint: Option<&Checkpoint>, partitions: &[Partition], ages: &[(i32, Option<i64>)]) -> (String, Json) {
        let agreement = Agreement::of(checkpoint, partitions);
        let view = View {
            group_id: "g",
            topic: "db.s.t",
            folder: "checkpoints/g",
            reset: "earliest",
            group: &group(&["m-1"]),
            checkpoint,
            partitions,
            agreement: &agreement,
            next: &agreement.next(checkpoint, partitions, false),
            ages: &ages.iter().copied().collect(),
            now: Timestamp(400_000_000),
        };
        (view.table().join("\n"), view.json())
    }

    #[test]
    fn both_layers_side_by_side() {
        let offsets = Offsets::from([(0, NextOffset(66)), (1, NextOffset(7))]);
        let checkpoint =
            Checkpoint { lineage: "0199".to_owned(), epoch: 12, offsets, at: Timestamp(100_000_000), crc: 0x00c0_ffee };
        let text = "0199:12:00c0ffee";
        let partitions = [partition(0, 0, 70, Some((66, text))), partition(1, 5, 7, Some((7, text)))];
        let (table, json) = view(Some(&checkpoint), &partitions, &[(0, Some(3))]);
        assert_eq!(
            table,
            "group       g, state Stable, active: tripline at 127.0.0.1 (m-1)\n\
             checkpoint  checkpoints/g: lineage 0199, epoch 12, 5 min old\n\
             metadata    0199:12:00c0ffee\n\
             next start  the layers agree: the next start resumes here\n\
             \n\
             TOPIC   PARTITION  OLDEST  CHECKPOINT  GROUP  END  LAG  LAG-SECONDS\n\
             db.s.t          0       0          66     66   70    4            3\n\
             db.s.t          1       5           7      7    7    0            0"
        );
        assert_eq!(json["next_start"], "resume");
        assert_eq!(json["checkpoint"]["age_seconds"], 300);
        assert_eq!(
            json["partitions"][0].to_string(),
            r#"{"partition":0,"oldest":0,"checkpoint":66,"group":66,"metadata":"0199:12:00c0ffee","end":70,"next":66,"lag":4,"lag_seconds":3}"#
        );
    }

    #[test]
    fn what_is_not_there_or_not_known() {
        let (table, json) = view(None, &[partition(0, 2, 5, None)], &[(0, None)]);
        assert!(table.contains("checkpoint  none in checkpoints/g\nmetadata    none: the group has no"), "{table}");
        assert!(table.ends_with("db.s.t          0       2           -      -    5    3            ?"), "{table}");
        assert_eq!((&json["checkpoint"], &json["metadata"]), (&Json::Null, &Json::Null));
        assert_eq!(json["partitions"][0]["lag_seconds"], Json::Null);
    }

    #[test]
    fn a_start_that_will_stop_is_said() {
        let (table, json) = view(None, &[partition(0, 20, 30, Some((5, "")))], &[]);
        assert!(table.contains("will stop there, to protect data: partition 0 goes on at 5"), "{table}");
        assert!(table.contains("15 offsets are gone"), "{table}");
        assert_eq!((&json["layers"], &json["next_start"]), (&Json::from("moved-by-hand"), &Json::from("stop")));
    }

    #[test]
    fn a_plan_line_by_line() {
        let partitions =
            [partition(0, 10, 100, Some((50, ""))), partition(1, 0, 9, Some((9, ""))), partition(2, 0, 4, None)];
        let plan = plan(&partitions, &[0], &Goal::Offset(NextOffset(200))).unwrap();
        let group = group(&[]);
        let reset = Reset { group_id: "g", topic: "db.s.t", group: &group, plan: &plan, executed: false, kept: None };
        assert_eq!(
            reset.table().join("\n"),
            "TOPIC   PARTITION  OLDEST  FROM   TO  END  READ-AGAIN  SKIPPED  NOTE\n\
             db.s.t          0      10    50  100  100           0       50  200 is not there yet: at the end\n\
             db.s.t          1       0     9    9    9           0        0  stays\n\
             db.s.t          2       0     -    -    4           ?        ?  stays without an offset: read from its beginning"
        );
        let json = reset.json();
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
