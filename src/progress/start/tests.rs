use super::*;
use crate::model::NextOffset;
use crate::progress::{LastRecord, PartitionState};

const CRC: u32 = 0xabcd;

fn at(offset: i64) -> Offsets {
    Offsets::from([(0, NextOffset(offset))])
}

fn policy() -> Policy {
    Policy {
        group: "g".into(),
        topics: "t".into(),
        folder: "/checkpoints/g".into(),
        start_at: StartAt::Earliest,
        resume_without_group: false,
    }
}

/// Returns one partition with the offsets 10 to 100.
fn topic(committed: Option<(i64, &str)>) -> TopicState {
    let committed = committed.map(|(next, text)| (NextOffset(next), text.to_owned()));
    let partitions = vec![PartitionState { partition: 0, committed, low: NextOffset(10), high: NextOffset(100) }];
    TopicState { cluster: Some("c".into()), partitions }
}

/// Returns lineage a at epoch 7, offset 70.
fn folder() -> FolderState {
    FolderState {
        lineage: "a".into(),
        topics: "t".into(),
        cluster: Some("c".into()),
        origin: None,
        epoch: 7,
        offsets: at(70),
        kept: Offsets::new(),
        last_records: LastRecords::from([(0, LastRecord { offset: 69, timestamp_ms: 1_069 })]),
        at: Timestamp(0),
        is_starting: false,
    }
}

fn progress(name: &str, offset: i64) -> Progress {
    Progress {
        group: "g".into(),
        name: name.into(),
        topics: "t".into(),
        cluster: Some("c".into()),
        offsets: at(offset),
        kept: Offsets::new(),
        last_records: LastRecords::new(),
        at: Timestamp(0),
    }
}

/// The facts for a decision: the result of each look-up.
struct World {
    policy: Policy,
    folder: Option<FolderState>,
    topic: TopicState,
    now: Timestamp,
    recovery: Option<Progress>,
    retention: Option<Duration>,
    logged: BTreeMap<u64, (u32, Offsets)>,
    timestamp: i64,
}

impl World {
    fn new(folder: Option<FolderState>, committed: Option<(i64, &str)>) -> Self {
        let logged = [(6, (CRC, at(60))), (7, (CRC, at(70)))];
        let recovery = committed.map(|(offset, name)| progress(name, offset));
        Self {
            policy: policy(),
            folder,
            topic: topic(committed),
            now: Timestamp(1_000_000_000),
            recovery,
            retention: Some(Duration::from_secs(3_600)),
            logged: logged.into(),
            timestamp: 1_000,
        }
    }

    fn decide(&self) -> Decision {
        let mut known = Known {
            policy: self.policy.clone(),
            folder: self.folder.clone(),
            topic: self.topic.clone(),
            now: self.now,
            answers: Answers::default(),
        };
        for _ in 0..8 {
            let lookup = match decide(&known) {
                Ok(decision) => return decision,
                Err(lookup) => lookup,
            };
            let answers = &mut known.answers;
            let before = answers.clone();
            match lookup {
                Lookup::Recovery => answers.recovery = Some(self.recovery.clone()),
                Lookup::Retention => answers.retention = Some(self.retention),
                Lookup::Logged(number) => answers.logged = Some(self.logged.get(&number).cloned()),
                Lookup::Timestamps(of) => {
                    let at = |(partition, offset): (&i32, &i64)| (*partition, self.timestamp + offset);
                    answers.timestamps = Some(of.iter().map(at).collect());
                }
                Lookup::Since(_) => answers.since = Some(at(50)),
            }
            assert_ne!(before, *answers, "asked twice");
        }
        panic!("asks for ever");
    }
}

fn epoch(lineage: &str, epoch: u64, crc: u32) -> EpochRef {
    EpochRef { lineage: lineage.into(), epoch, crc }
}

fn resume(committed: Option<u64>) -> &'static str {
    if committed.is_some() { "resume" } else { "resume without group" }
}

fn action(decision: &Decision) -> &'static str {
    match decision.start {
        Start::Resume { committed } if decision.stop.is_none() => resume(committed),
        _ => decision.action(),
    }
}

#[test]
fn every_combination_of_folder_and_group() {
    let check = |folder: Option<FolderState>, group: Option<(i64, &str)>, reason: Reason, does: &str, from: i64| {
        let decision = World::new(folder, group).decide();
        assert_eq!(decision.reason, reason, "{group:?}");
        assert_eq!(action(&decision), does, "{decision:?}");
        assert_eq!(decision.from, at(from), "{decision:?}");
    };
    let ours = || Some(folder());
    check(None, None, Reason::Nothing, "new-lineage", 10);
    check(None, Some((70, "a:7:0000abcd")), Reason::FolderMissing(epoch("a", 7, CRC)), "rebuild", 70);
    check(None, Some((70, "")), Reason::MovedByHand, "new-lineage", 70);
    check(ours(), None, Reason::GroupDeleted, "new-lineage", 10);
    check(ours(), Some((70, "a:7:0000abcd")), Reason::Agree, "resume", 70);
    check(ours(), Some((60, "a:6:0000abcd")), Reason::FolderAhead(1), "resume", 70);
    check(ours(), Some((80, "a:8:0000abcd")), Reason::FolderBehind(epoch("a", 8, CRC)), "rebuild", 80);
    check(ours(), Some((70, "a:7:0000abce")), Reason::FolderDiverged(epoch("a", 7, 0xabce)), "rebuild", 70);
    check(ours(), Some((80, "b:3:0000abcd")), Reason::OtherLineage(epoch("b", 3, CRC)), "rebuild", 80);
    // The same offsets, but set manually, so the text is not Tripline's.
    check(ours(), Some((70, "")), Reason::MovedByHand, "new-lineage", 70);
    check(ours(), Some((70, "by me")), Reason::MovedByHand, "new-lineage", 70);
    // Other offsets with Tripline's text.
    check(ours(), Some((60, "a:7:0000abcd")), Reason::MovedByHand, "new-lineage", 60);
}

#[test]
fn an_older_epoch_counts_only_with_its_own_content() {
    let decision = World::new(Some(folder()), Some((60, "a:6:0000abce"))).decide();
    assert_eq!(decision.reason, Reason::FolderDiverged(epoch("a", 6, 0xabce)));
    let decision = World::new(Some(folder()), Some((61, "a:6:0000abcd"))).decide();
    assert_eq!(decision.reason, Reason::MovedByHand);
    let mut purged = World::new(Some(folder()), Some((50, "a:5:0000abcd")));
    purged.logged.remove(&5);
    assert_eq!(purged.decide().reason, Reason::FolderBehind(epoch("a", 5, CRC)));
}

#[test]
fn an_interrupted_start_is_completed() {
    for before in [None, Some((70, "")), Some((70, "a:7:0000abcd"))] {
        let origin = before.map(|(next, text)| Committed { offsets: at(next), metadata: text.to_owned() });
        let starting = FolderState {
            lineage: "b".into(),
            origin,
            is_starting: true,
            last_records: LastRecords::new(),
            ..folder()
        };
        let mut world = World::new(Some(starting.clone()), before);
        world.recovery = None;
        let decision = world.decide();
        assert_eq!((&decision.reason, action(&decision)), (&Reason::StartInterrupted, "resume without group"));
        // Once the start is finished, the same offsets were set manually.
        world.folder = Some(FolderState { is_starting: false, ..starting });
        assert_ne!(world.decide().reason, Reason::StartInterrupted, "{before:?}");
    }
}

#[test]
fn a_group_without_offsets_was_deleted_or_has_expired() {
    let mut world = World::new(Some(folder()), None);
    world.recovery = Some(progress("a:7:0000abcd", 70));
    // The last commit is 1,000 s old, and offsets are kept for an hour.
    assert_eq!(world.decide().reason, Reason::GroupDeleted);
    world.retention = Some(Duration::from_secs(1_000));
    let expired = world.decide();
    assert_eq!(
        (&expired.reason, expired.expired, expired.relation()),
        (&Reason::Agree, Some(Timestamp(0)), "group-expired")
    );
    assert_eq!((action(&expired), &expired.from), ("resume", &at(70)));
    // If the broker does not report the retention, the offsets do not count as expired.
    world.retention = None;
    assert_eq!(world.decide().reason, Reason::GroupDeleted);
    // The setting makes them count as expired.
    world.policy.resume_without_group = true;
    assert_eq!(world.decide().expired, Some(Timestamp(0)));
    world.recovery = None;
    let decision = world.decide();
    assert_eq!((&decision.reason, action(&decision)), (&Reason::GroupMissing, "resume without group"));
    // Without a folder, only the recovery topic has the group's progress.
    world.recovery = Some(progress("a:7:0000abcd", 70));
    world.folder = None;
    let rebuilt = world.decide();
    assert_eq!((&rebuilt.reason, action(&rebuilt)), (&Reason::FolderMissing(epoch("a", 7, CRC)), "rebuild"));
}

#[test]
fn another_topic_stops_whatever_the_group_says() {
    for group in [None, Some((70, "a:7:0000abcd")), Some((70, ""))] {
        let other = FolderState { topics: "other".into(), ..folder() };
        let decision = World::new(Some(other), group).decide();
        assert_eq!(decision.stop, Some(Stop::OtherTopic("other".into())), "{group:?}");
        assert_eq!(decision.action(), "stop");
        let text = decision.text(&policy());
        assert!(text.contains("/checkpoints/g holds the progress of topic other, not t"), "{text}");
    }
}

#[test]
fn a_topic_that_is_not_the_one_that_was_read_stops() {
    let world = || World::new(Some(folder()), Some((70, "a:7:0000abcd")));
    let stop = |world: World| world.decide().stop.map(|stop| stop.text(&policy())).unwrap_or_default();
    assert_eq!(stop(world()), "");
    let mut other = world();
    other.topic.cluster = Some("d".into());
    assert!(stop(other).contains("cluster c, and this is cluster d"));
    let mut recreated = world();
    recreated.timestamp = 2_000;
    assert!(stop(recreated).contains("offset 69 was read, and another record is there"));
    let mut shorter = world();
    shorter.topic.partitions[0].high = NextOffset(60);
    assert!(stop(shorter).contains("offset 69 was read, and the partition ends at offset 60"));
    let mut cut = world();
    cut.topic.partitions[0].low = NextOffset(80);
    assert!(stop(cut).contains("offsets 70 to 79 were removed by retention"));
    let mut fewer = world();
    let offsets = Offsets::from([(0, NextOffset(70)), (1, NextOffset(5))]);
    fewer.logged.insert(7, (CRC, offsets.clone()));
    fewer.folder.as_mut().unwrap().offsets = offsets;
    assert!(stop(fewer).contains("offset 4 was read, and there is no such partition"));
    // For offsets that were set manually, the only check is whether they can be read.
    let mut moved = World::new(Some(folder()), Some((70, "")));
    moved.timestamp = 2_000;
    assert_eq!(stop(moved), "");
}

#[test]
fn a_rebuild_needs_the_group_s_epoch_in_the_recovery_topic() {
    let mut world = World::new(None, Some((70, "a:7:0000abcd")));
    assert_eq!(world.decide().stop, None);
    world.recovery = Some(progress("a:6:0000abcd", 60));
    let decision = world.decide();
    assert_eq!(decision.action(), "stop");
    let text = decision.text(&policy());
    assert!(text.contains("has a:6:0000abcd: put the folder back"), "{text}");
    world.recovery = None;
    assert!(world.decide().text(&policy()).contains("has nothing of this group"));
}

#[test]
fn a_partition_new_to_the_topic_is_read_from_its_beginning() {
    let mut world = World::new(Some(folder()), Some((70, "a:7:0000abcd")));
    let new = PartitionState { partition: 1, committed: None, low: NextOffset(3), high: NextOffset(9) };
    world.topic.partitions.push(new);
    let decision = world.decide();
    assert_eq!((&decision.reason, decision.stop), (&Reason::Agree, None));
    assert_eq!(decision.from, Offsets::from([(0, NextOffset(70)), (1, NextOffset(3))]));
}

#[test]
fn a_group_without_progress_starts_where_it_is_told() {
    let from = |start_at| {
        let mut world = World::new(None, None);
        world.policy.start_at = start_at;
        world.decide().from
    };
    assert_eq!(from(StartAt::Earliest), at(10));
    assert_eq!(from(StartAt::Latest), at(100));
    assert_eq!(from(StartAt::Time(Timestamp(5))), at(50));
}

#[test]
fn what_a_run_or_its_crash_leaves_is_expected() {
    let expected = |folder, group| World::new(folder, group).decide().is_expected();
    assert!(expected(None, None));
    assert!(expected(Some(folder()), Some((70, "a:7:0000abcd"))));
    assert!(expected(Some(folder()), Some((60, "a:6:0000abcd"))));
    assert!(!expected(Some(folder()), Some((80, "a:8:0000abcd"))));
    assert!(!expected(Some(folder()), None));
    assert!(!expected(Some(folder()), Some((70, ""))));
}

/// Adds a second topic: `u` with the offsets 20 to 200, beside `t`.
fn two(world: &mut World, committed: Option<(i64, &str)>) -> i32 {
    let lane = crate::progress::topics::lane(1, 0).unwrap();
    world.policy.topics = Topics::from("t").reading(&["t".to_owned(), "u".to_owned()]);
    let committed = committed.map(|(next, text)| (NextOffset(next), text.to_owned()));
    world.topic.partitions.push(PartitionState {
        partition: lane,
        committed,
        low: NextOffset(20),
        high: NextOffset(200),
    });
    lane
}

#[test]
fn a_topic_that_comes_is_fresh_and_the_lineage_goes_on() {
    let name = epoch("a", 7, CRC).to_string();
    for start_at in [StartAt::Earliest, StartAt::Latest, StartAt::Time(Timestamp(5))] {
        let mut world = World::new(Some(folder()), Some((70, &name)));
        let lane = two(&mut world, None);
        world.policy.start_at = start_at;
        let decision = world.decide();
        assert_eq!((action(&decision), &decision.reason), ("resume", &Reason::Agree), "{start_at}");
        let first = match start_at {
            StartAt::Earliest => 20,
            StartAt::Latest => 200,
            StartAt::Time(_) => 20, // the lookup has nothing of it
        };
        assert_eq!(decision.from, Offsets::from([(0, NextOffset(70)), (lane, NextOffset(first))]), "{start_at}");
        let fresh = !matches!(start_at, StartAt::Time(_));
        assert_eq!(decision.fresh.contains(&lane), fresh, "{start_at}");
        assert_eq!(decision.text(&world.policy).contains("has not read u before"), fresh, "{start_at}");
    }
    // If the folder is lost, the group's commit has the same effect.
    let mut world = World::new(None, Some((70, &name)));
    let lane = two(&mut world, None);
    let decision = world.decide();
    assert_eq!((action(&decision), decision.fresh.contains(&lane)), ("rebuild", true));
    // Offsets that were set manually before are where the topic begins.
    let mut world = World::new(Some(folder()), Some((70, &name)));
    let lane = two(&mut world, Some((50, "")));
    let decision = world.decide();
    assert_eq!((action(&decision), decision.from.get(&lane)), ("resume", Some(&NextOffset(50))));
    assert_eq!(decision.fresh, BTreeSet::new());
}

#[test]
fn a_topic_that_goes_keeps_its_offsets() {
    let (now, then) = (epoch("a", 7, CRC).to_string(), epoch("a", 3, CRC).to_string());
    let lane = crate::progress::topics::lane(1, 0).unwrap();
    let both = Topics::new(["t".to_owned(), "u".to_owned()]);
    let offsets = Offsets::from([(0, NextOffset(70)), (lane, NextOffset(90))]);
    let mark = LastRecord { offset: 89, timestamp_ms: 5 };
    let last_records = LastRecords::from([(lane, mark)]);
    let read = FolderState { topics: both.clone(), offsets: offsets.clone(), last_records, ..folder() };
    let mut world = World::new(Some(read.clone()), Some((70, &now)));
    world.logged.insert(7, (CRC, offsets));
    world.policy.topics = both.reading(&["t".to_owned()]);
    let decision = world.decide();
    assert_eq!((action(&decision), &decision.reason, &decision.stop), ("resume", &Reason::Agree, &None));
    assert_eq!((&decision.from, &decision.kept), (&at(70), &Offsets::from([(lane, NextOffset(90))])));
    assert!(decision.text(&world.policy).contains("u is no longer read, and its offsets are kept"));

    // The topic is added again. The group's commit of it is from an earlier epoch.
    let unread = FolderState {
        topics: both.reading(&["t".to_owned()]),
        offsets: at(70),
        kept: Offsets::from([(lane, NextOffset(90))]),
        last_records: LastRecords::new(),
        ..read
    };
    let mut world = World::new(Some(unread), Some((70, &now)));
    two(&mut world, Some((90, &then)));
    let decision = world.decide();
    assert_eq!((action(&decision), &decision.reason), ("resume", &Reason::Agree));
    assert_eq!(decision.from, Offsets::from([(0, NextOffset(70)), (lane, NextOffset(90))]));
    assert_eq!((decision.fresh, decision.kept), (BTreeSet::new(), Offsets::new()));
    // It stops if the topic no longer has the next records.
    if let Some(state) = world.topic.partitions.last_mut() {
        state.low = NextOffset(95);
    }
    assert!(matches!(world.decide().stop, Some(Stop::Mismatch(Mismatch::Removed { .. }))));
}
