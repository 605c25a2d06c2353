//! The model's start decides as the code's, for every combination of a few files.

use tripline::model::{NextOffset, Timestamp};
use tripline::progress::start::{Answers, FolderState, Known, Policy, Reason, Start as Real, Stop, decide};
use tripline::progress::{Committed, EpochRef, LastRecords, Offsets, PartitionState, Progress, StartAt, TopicState};
use tripline_model::Rules;
use tripline_model::folder::{File, Folder};
use tripline_model::start::{self, Start};

const TOPIC: &str = "changes";
const GROUP: &str = "g";

/// The name of an epoch: its checksum is equal where the files are.
fn name(file: File) -> EpochRef {
    let crc =
        [file.epoch, file.next, file.alerts, file.author].into_iter().fold(7, |crc, part| crc * 10 + u32::from(part));
    EpochRef { lineage: format!("lineage-{}", file.lineage), epoch: file.epoch.into(), crc }
}

fn offsets(file: File) -> Offsets {
    Offsets::from([(0, NextOffset(file.next.into()))])
}

fn committed(file: File) -> Committed {
    Committed { offsets: offsets(file), metadata: name(file).to_string() }
}

/// The code's decision.
fn real(folder: &Folder, group: Option<File>, progress: Option<File>) -> Start {
    let partition = PartitionState {
        partition: 0,
        committed: group.map(|file| (NextOffset(file.next.into()), name(file).to_string())),
        low: NextOffset(0),
        high: NextOffset(9),
    };
    let state = folder.newest().map(|newest| FolderState {
        lineage: name(newest).lineage,
        topics: TOPIC.into(),
        cluster: None,
        origin: folder.origin.map(committed),
        epoch: newest.epoch.into(),
        offsets: offsets(newest),
        kept: Default::default(),
        last_records: LastRecords::new(),
        at: Timestamp(0),
        is_starting: folder.files.len() == 1 && !folder.is_finished,
    });
    let recovery = progress.map(|file| Progress {
        group: GROUP.into(),
        name: name(file).to_string(),
        topics: TOPIC.into(),
        cluster: None,
        offsets: offsets(file),
        kept: Default::default(),
        last_records: LastRecords::new(),
        at: Timestamp(0),
    });
    let logged = group.and_then(|group| folder.logged(group.epoch));
    let known = Known {
        policy: Policy {
            group: GROUP.into(),
            topics: TOPIC.into(),
            folder: "folder".into(),
            start_at: StartAt::Earliest,
            resume_without_group: false,
        },
        folder: state,
        topic: TopicState { cluster: None, partitions: vec![partition] },
        now: Timestamp(0),
        answers: Answers {
            recovery: Some(recovery),
            retention: Some(None),
            logged: Some(logged.map(|file| (name(file).crc, offsets(file)))),
            timestamps: None,
            since: None,
        },
    };
    let decision = decide(&known).expect("everything is known");
    match (decision.start, decision.stop) {
        (_, Some(Stop::NotInRecoveryTopic { .. })) => Start::Stop,
        (_, Some(stop)) => panic!("not in the model: {stop:?}"),
        (Real::Resume { committed }, None) => {
            Start::Resume { committed: committed.map(|epoch| epoch.try_into().unwrap()) }
        }
        (Real::Rebuild { .. }, None) => Start::Rebuild { from: group.expect("it goes on from the group's epoch") },
        (Real::NewLineage, None) if decision.reason == Reason::Nothing => Start::First,
        (Real::NewLineage, None) => Start::Again,
    }
}

#[test]
fn the_model_starts_as_the_code_does() {
    let file = |lineage, epoch, next, author| File { lineage, epoch, next, alerts: 0, open: 0, author };
    let mut files = Vec::new();
    for (lineage, epoch, next, author) in [0, 1]
        .into_iter()
        .flat_map(|l| (0..3).flat_map(move |e| (1..3).flat_map(move |n| [0, 1].map(|a| (l, e, n, a)))))
    {
        files.push(file(lineage, epoch, next, author));
    }
    let mut folders = vec![Vec::new()];
    for first in &files {
        folders.push(vec![*first]);
        let after = files.iter().filter(|next| next.lineage == first.lineage && next.epoch == first.epoch + 1);
        folders.extend(after.map(|next| vec![*first, *next]));
    }
    let other = file(0, 2, 2, 1);
    let any = || std::iter::once(None).chain(files.iter().copied().map(Some));
    let mut compared = 0;
    for files in folders {
        for (is_finished, group) in
            [false, true].into_iter().flat_map(|finished| any().map(move |group| (finished, group)))
        {
            for (origin, progress) in [None, group, Some(other)]
                .into_iter()
                .flat_map(|origin| [None, group, Some(other)].map(|p| (origin, p)))
            {
                let folder = Folder { files: files.clone(), durable: files.len(), is_finished, origin };
                let model = start::decide(&folder, group, progress, Rules::all());
                assert_eq!(model, real(&folder, group, progress), "{folder:?}\n{group:?}\n{progress:?}");
                compared += 1;
            }
        }
    }
    println!("{compared} starts compared");
    assert!(compared > 10_000);
}
