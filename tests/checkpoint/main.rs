//! The checkpoint folder.
//!
//! - this file: the folder's contents and its owner, on a real file system
//! - `bad_files`: each file invalid, with the message
//! - `body`: an epoch with every kind of field
//! - `damage`: damage to the files by a crash, a disk or a person
//! - `formats`: folders of other versions
//! - `view`: reading the folder from outside
//! - `disks`: the real file system and its in-memory fake do the same, and a full disk
//! - `crash`, `world`: power is lost at every operation, and each sync is left out once
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value as Json, json};
use tripline::checkpoint::{CheckpointError, Encoded, FORMAT, Folder, Lineage, StateHead, file};
use tripline::model::{NextOffset, Timestamp};
use tripline::progress::{Committed, Epoch, LastRecord, LastRecords, Offsets};

mod bad_files;
mod body;
mod crash;
mod damage;
mod disks;
mod formats;
mod view;
mod world;

use body::{Body, full};

const TOPIC: &str = "postgres.streaming.transactions";
const AT: Timestamp = Timestamp(1_795_341_600_123_456);

/// Opens the folder. Where another test starts a process just now, the child has a copy of every lock of this one
/// until it executes its program: so long is waited, and no longer than a second.
fn open(dir: &Path) -> Folder {
    for _ in 0..1_000 {
        match Folder::open(dir, "group") {
            Err(CheckpointError::Locked(_)) => std::thread::sleep(std::time::Duration::from_millis(1)),
            other => return other.unwrap(),
        }
    }
    Folder::open(dir, "group").unwrap()
}

fn lineage(id: &str) -> Lineage {
    Lineage {
        format: FORMAT,
        id: id.to_owned(),
        group: "group".to_owned(),
        topic: TOPIC.to_owned(),
        cluster: Some("4L6g3nShT-eMCtK--X86sw".to_owned()),
        origin: Some(Committed { offsets: offsets(0), metadata: "o'b\"r\n".to_owned() }),
    }
}

fn offsets(number: u64) -> Offsets {
    let next = NextOffset(66 + i64::try_from(number).unwrap());
    Offsets::from([(0, next), (11, NextOffset(0)), (2, NextOffset(i64::MAX))])
}

fn epoch(number: u64) -> Epoch<Body> {
    Epoch {
        number,
        lineage: "01J".to_owned(),
        topics: TOPIC.into(),
        offsets: offsets(number),
        kept: Offsets::new(),
        last_records: LastRecords::from([(2, LastRecord { offset: i64::MAX - 1, timestamp_ms: -1 })]),
        at: AT,
        conf: [("weekly-spend".to_owned(), "4e12 user_id bigint".to_owned())].into(),
        body: Body::default(),
    }
}

/// Logs what comes back the same.
fn log(folder: &Folder, epoch: &Epoch<Body>) -> Result<(), CheckpointError> {
    folder.log(&Encoded::of(epoch).unwrap())
}

fn newest(folder: &Folder) -> Result<Option<Epoch<Body>>, CheckpointError> {
    folder.newest_epoch()
}

fn unfinished(folder: &Folder) -> Vec<Epoch<Body>> {
    folder.unfinished().unwrap()
}

fn head(epoch: u64) -> StateHead {
    let rules = vec![("weekly-spend".to_owned(), "9f3a".to_owned())];
    StateHead {
        format: FORMAT,
        lineage: "01J".to_owned(),
        epoch,
        offsets: offsets(epoch),
        rules,
        contract: None,
        contracts: Default::default(),
    }
}

fn names(path: &Path) -> BTreeSet<String> {
    fs::read_dir(path).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

fn numbers(path: &Path) -> Vec<u64> {
    let mut numbers: Vec<u64> = names(path).iter().map(|name| name.parse().unwrap()).collect();
    numbers.sort_unstable();
    numbers
}

#[test]
fn a_new_folder_is_empty() {
    let dir = tempfile::tempdir().unwrap();
    let folder = open(dir.path());
    assert_eq!(folder.path(), dir.path().join("group"));
    assert_eq!(folder.lineage().unwrap(), None);
    assert_eq!(newest(&folder).unwrap(), None);
    assert_eq!(unfinished(&folder), []);
    assert_eq!(folder.newest_state().unwrap(), None);
}

#[test]
fn epochs_come_back_as_they_were_logged() {
    let dir = tempfile::tempdir().unwrap();
    let folder = open(dir.path());
    for number in [0, 1, 2, 9, 10, 11] {
        log(&folder, &if number % 2 == 0 { full(number) } else { epoch(number) }).unwrap();
    }
    drop(folder);
    let folder = open(dir.path());
    assert_eq!(newest(&folder).unwrap(), Some(epoch(11)), "11 is after 9");
    assert_eq!(folder.epochs_after(Some(9)).unwrap(), [full(10), epoch(11)]);
    assert_eq!(folder.epochs_after::<Body>(None).unwrap().len(), 6);
    for number in [0, 2, 11] {
        folder.finish(number).unwrap();
        folder.finish(number).unwrap();
    }
    assert_eq!(unfinished(&folder), [epoch(1), epoch(9), full(10)]);
    assert_eq!([0, 1, 12].map(|number| folder.is_finished(number).unwrap()), [true, false, false]);
    assert_eq!(folder.oldest_epoch().unwrap(), Some(0));
    assert_eq!(names(&folder.path().join("offsets")).len(), 6, "no temporary file is left");
}

#[test]
fn an_epoch_reads_as_in_sparks_offset_log() {
    let dir = tempfile::tempdir().unwrap();
    let folder = open(dir.path());
    log(&folder, &epoch(7)).unwrap();
    let text = fs::read_to_string(folder.path().join("offsets/7")).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!((lines.len(), lines[0]), (5, "v3"));
    let head: Json = serde_json::from_str(lines[1]).unwrap();
    assert_eq!((&head["batchWatermarkMs"], &head["batchTimestampMs"]), (&json!(0), &json!(1_795_341_600_123_i64)));
    let conf = json!({"weekly-spend": "4e12 user_id bigint"});
    assert_eq!((&head["conf"], &head["lineage"]), (&conf, &json!("01J")));
    assert_eq!(
        (&head["epoch"], &head["marks"]),
        (&json!(7), &json!({"2": {"offset": 9_223_372_036_854_775_806_i64, "timestamp_ms": -1}}))
    );
    assert_eq!(lines[2], format!(r#"{{"{TOPIC}":{{"0":73,"2":9223372036854775807,"11":0}}}}"#));
    let crc: Json = serde_json::from_str(lines[4]).unwrap();
    let content = text.strip_suffix(&format!("{}\n", lines[4])).unwrap();
    let of_content = crc32fast::hash(content.as_bytes());
    assert_eq!(crc, json!({"crc32": format!("{of_content:08x}")}));
    assert_eq!(Encoded::of(&epoch(7)).unwrap().crc, of_content);
    assert_eq!(folder.logged(7).unwrap(), Some((epoch(7), of_content)));
    assert_eq!(folder.logged::<Body>(8).unwrap(), None);
}

#[test]
fn an_epoch_is_never_overwritten() {
    let dir = tempfile::tempdir().unwrap();
    let folder = open(dir.path());
    log(&folder, &full(3)).unwrap();
    assert!(matches!(log(&folder, &epoch(3)), Err(CheckpointError::Io { action: "link", .. })));
    assert_eq!(newest(&folder).unwrap(), Some(full(3)));
    assert_eq!(names(&folder.path().join("offsets")), BTreeSet::from(["3".to_owned()]));
}

#[test]
fn states_come_back_the_newest_first() {
    let dir = tempfile::tempdir().unwrap();
    let folder = open(dir.path());
    for (number, body) in [(9, &b"\n\0\xff\n"[..]), (10, b""), (8, b"older, stored later")] {
        folder.store_state(&head(number), |out| out.write_all(body)).unwrap();
    }
    assert_eq!(folder.newest_state().unwrap(), Some((head(10), vec![])));
    assert_eq!(numbers(&folder.path().join("state")), [9, 10]);
    folder.store_state(&head(10), |out| out.write_all(b"again")).unwrap();
    assert_eq!(folder.newest_state().unwrap(), Some((head(10), b"again".to_vec())), "a state may be replaced");
}

#[test]
fn a_new_lineage_moves_the_old_one_aside_whole() {
    let dir = tempfile::tempdir().unwrap();
    let folder = open(dir.path());
    for id in ["first", "second", "third"] {
        folder.begin(&lineage(id)).unwrap();
        assert_eq!(folder.lineage().unwrap(), Some(lineage(id)));
        assert_eq!((newest(&folder).unwrap(), folder.newest_state().unwrap()), (None, None), "{id}");
        log(&folder, &full(0)).unwrap();
        log(&folder, &epoch(1)).unwrap();
        folder.finish(0).unwrap();
        folder.store_state(&head(1), |out| out.write_all(id.as_bytes())).unwrap();
    }
    for id in ["first", "second"] {
        let aside = folder.path().join("lineages").join(id);
        assert_eq!(numbers(&aside.join("offsets")), [0, 1], "{id}");
        assert_eq!((numbers(&aside.join("commits")), numbers(&aside.join("state"))), (vec![0], vec![1]), "{id}");
        let text = fs::read_to_string(aside.join("lineage.json")).unwrap();
        assert_eq!(serde_json::from_str::<Lineage>(text.lines().next().unwrap()).unwrap(), lineage(id));
        assert!(fs::read(aside.join("state/1")).unwrap().windows(id.len()).any(|part| part == id.as_bytes()));
    }
    drop(folder);
    assert_eq!(newest(&open(dir.path())).unwrap(), Some(epoch(1)), "the third goes on");
}

#[test]
fn what_is_old_and_finished_is_removed() {
    let check = |name: &str, states: &[u64], unfinished: &[u64], want: &dyn Fn(u64) -> bool| {
        let dir = tempfile::tempdir().unwrap();
        let folder = open(dir.path());
        for number in 0..=250 {
            // As `log` and `finish` do, without the disk's waits.
            fs::write(folder.path().join(format!("offsets/{number}")), b"").unwrap();
            if !unfinished.contains(&number) {
                fs::write(folder.path().join(format!("commits/{number}")), file::with_checksum("v2\n{}\n".into()))
                    .unwrap();
            }
            if states.contains(&number) {
                folder.store_state(&head(number), |out| out.write_all(b"")).unwrap();
            }
        }
        let want: Vec<u64> = (0..=250).filter(|number| want(*number)).collect();
        assert_eq!(numbers(&folder.path().join("offsets")), want, "{name}");
        let finished: Vec<u64> = want.into_iter().filter(|number| !unfinished.contains(number)).collect();
        assert_eq!(numbers(&folder.path().join("commits")), finished, "{name}");
        let two: Vec<u64> = states.iter().rev().take(2).rev().copied().collect();
        assert_eq!(numbers(&folder.path().join("state")), two, "{name}");
    };
    check("no state", &[], &[], &|_| true);
    check("one state only", &[250], &[], &|_| true);
    check("the last 100 and their own", &[100, 249, 250], &[], &|number| number >= 150);
    check("what the older state still needs", &[10, 20, 30, 250], &[], &|number| number >= 30);
    check("never an unfinished one", &[249, 250], &[0, 7, 149, 200], &|n| n >= 150 || [0, 7, 149].contains(&n));
    check("states close together, early", &[1, 2, 3], &[], &|_| true);
}

#[test]
fn a_folder_has_one_owner_in_this_process() {
    let dir = tempfile::tempdir().unwrap();
    let folder = open(dir.path());
    let refused = Folder::open(dir.path(), "group").unwrap_err();
    assert!(matches!(&refused, CheckpointError::Locked(path) if path == folder.path()), "{refused}");
    assert!(refused.to_string().contains("in use by another process"), "{refused}");
    Folder::open(dir.path(), "another").unwrap();
    drop(folder);
    open(dir.path());
}

const HOLDER: &str = "TRIPLINE_TEST_HOLDS_FOLDER";

/// Run by the next test in a process of its own: holds the folder until its input ends.
#[test]
fn holder() {
    let Some(dir) = std::env::var_os(HOLDER) else { return };
    let _folder = open(Path::new(&dir));
    println!("\nheld");
    std::io::stdout().flush().unwrap();
    std::io::stdin().lines().for_each(drop);
}

#[test]
fn a_folder_has_one_owner_among_processes() {
    let dir = tempfile::tempdir().unwrap();
    for kill in [false, true] {
        let mut holder = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "holder", "--nocapture"])
            .env(HOLDER, dir.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let output = BufReader::new(holder.stdout.take().unwrap());
        let mut lines = output.lines();
        assert!(lines.any(|line| line.unwrap() == "held"));
        assert!(matches!(Folder::open(dir.path(), "group"), Err(CheckpointError::Locked(_))));
        if kill {
            holder.kill().unwrap();
        }
        drop(holder.stdin.take());
        lines.for_each(drop);
        holder.wait().unwrap();
        open(dir.path()); // a dead process holds nothing
    }
}

/// The paths below a folder, with their permissions.
fn modes(folder: &Path) -> BTreeSet<(String, u32)> {
    let mut found = BTreeSet::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(&next).unwrap().map(Result::unwrap) {
            let meta = entry.metadata().unwrap();
            found.insert((entry.path().display().to_string(), meta.permissions().mode() & 0o777));
            if meta.is_dir() {
                folders.push(entry.path());
            }
        }
    }
    found
}

/// The folder holds keys and amounts, so only its owner may read it.
#[test]
fn a_folder_is_its_owners_alone() {
    let dir = tempfile::tempdir().unwrap();
    let base = dir.path().join("data");
    let folder = open(&base.join("checkpoints"));
    folder.begin(&lineage("one")).unwrap();
    folder.set_source(TOPIC, &offsets(0)).unwrap();
    log(&folder, &epoch(0)).unwrap();
    let root = folder.path().to_owned();
    let own = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let is_private = || {
        let odd: Vec<_> = modes(&root).into_iter().filter(|(_, mode)| mode & 0o077 != 0).collect();
        assert!(odd.is_empty() && own(&root) == 0o700, "{odd:?} {:o}", own(&root));
        assert!(modes(&root).len() >= 6, "{:?}", modes(&root));
    };
    is_private();
    // The folders above may be others' as well: an archive's output, for example.
    assert_ne!(own(&base) & 0o055, 0);

    // What an earlier version left. A link's end is not this folder's.
    drop(folder);
    let outside = dir.path().join("outside");
    fs::write(&outside, "x").unwrap();
    std::os::unix::fs::symlink(&outside, root.join("link")).unwrap();
    for (path, _) in modes(&root) {
        if !Path::new(&path).is_symlink() {
            let mode = if Path::new(&path).is_dir() { 0o755 } else { 0o644 };
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        }
    }
    fs::set_permissions(&root, fs::Permissions::from_mode(0o755)).unwrap();
    let before = own(&outside);
    drop(open(&base.join("checkpoints")));
    fs::remove_file(root.join("link")).unwrap();
    is_private();
    assert_eq!(own(&outside), before);
}
