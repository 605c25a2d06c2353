//! Folders of other versions: a later one is refused, an earlier one becomes one of this version.
//!
//! `tests/fixtures/checkpoint-v1` was made by the version before: alerts, waiting candidates, two states, and an
//! epoch that was logged and not finished.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::{Value as Json, json};
use tripline::checkpoint::disk::Disk;
use tripline::checkpoint::{CheckpointError, FORMAT, FORMAT_MAX, Folder, FolderView, Lineage, file};
use tripline::fakes::disk::MemoryDisk;
use tripline::model::NextOffset;
use tripline::progress::{Epoch, LastRecord, LastRecords, Offsets, Topics};

use crate::body::Body;
use crate::{epoch, head, lineage, log, newest, open};

const ID: &str = "01a2020b-5b32-7433-94dc-37bd5e8bf657";

fn fixture() -> BTreeMap<PathBuf, Vec<u8>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/checkpoint-v1");
    let mut files = BTreeMap::new();
    for part in ["", "offsets", "commits", "state"] {
        for entry in fs::read_dir(root.join(part)).unwrap() {
            let path = entry.unwrap().path();
            if path.is_file() {
                files.insert(path.strip_prefix(&root).unwrap().to_owned(), fs::read(&path).unwrap());
            }
        }
    }
    assert_eq!(files.len(), 16);
    files
}

fn everything(root: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(root).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(everything(&path));
        } else {
            files.insert(path.clone(), fs::read(&path).unwrap());
        }
    }
    files
}

/// Checks a folder of an earlier version, opened in any way.
fn check_upgraded(folder: &Folder, case: &str) {
    let want = Lineage {
        format: FORMAT,
        id: ID.to_owned(),
        group: "monitor-v3".to_owned(),
        topic: "postgres.public.transactions".to_owned(),
        cluster: None,
        origin: None,
    };
    assert_eq!(folder.lineage().unwrap(), Some(want), "{case}");
    let epochs: Vec<Epoch<Json>> = folder.epochs_after(None).unwrap();
    assert!(epochs.iter().map(|epoch| epoch.number).eq(0..=6), "{case}: numbers come from the names");
    for epoch in &epochs {
        assert_eq!((epoch.lineage.as_str(), &epoch.last_records), (ID, &LastRecords::new()), "{case}");
    }
    let bytes = fixture()[Path::new("offsets/6")].clone();
    let line = String::from_utf8(bytes).unwrap().lines().nth(3).unwrap().to_owned();
    assert_eq!(serde_json::to_string(&epochs[6].body).unwrap(), line, "{case}: the body is passed on as it is");
    let unfinished: Vec<Epoch<Json>> = folder.unfinished().unwrap();
    assert_eq!(unfinished, epochs[6..], "{case}");
    assert_eq!(folder.newest_state().unwrap(), None, "{case}: states of format 1 are passed over");
}

#[test]
fn a_folder_of_format_1_goes_on_in_this_one() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("group");
    for (path, bytes) in fixture() {
        fs::create_dir_all(root.join(&path).parent().unwrap()).unwrap();
        fs::write(root.join(path), bytes).unwrap();
    }
    let looked = FolderView::of_group(dir.path(), "group").unwrap().unwrap();
    assert_eq!((looked.lineage.format, looked.newest.unwrap().state.epoch), (1, 6), "a view changes nothing");
    let folder = open(dir.path());
    check_upgraded(&folder, "opened");
    let text = fs::read_to_string(root.join("lineage.json")).unwrap();
    assert_eq!(serde_json::from_str::<Json>(text.lines().next().unwrap()).unwrap()["format"], json!(FORMAT));
    assert!(file::checked_lines(text.as_bytes()).is_ok());
    log(&folder, &epoch(7)).unwrap();
    folder.store_state(&head(7), |out| out.write_all(b"body")).unwrap();
    drop(folder);
    let folder = open(dir.path());
    assert_eq!(newest(&folder).unwrap(), Some(epoch(7)));
    assert_eq!(folder.newest_state().unwrap(), Some((head(7), b"body".to_vec())));
    assert_eq!(folder.epochs_after::<Json>(Some(3)).unwrap().len(), 4, "both formats beside each other");
}

#[test]
fn a_loss_of_power_on_the_way_up_loses_nothing() {
    let (dir, root) = (Path::new("/data"), Path::new("/data/group"));
    let old = MemoryDisk::default();
    for folder in ["/data", "/data/group", "/data/group/offsets", "/data/group/commits", "/data/group/state"] {
        old.create_dir(Path::new(folder)).unwrap();
    }
    for (path, bytes) in fixture() {
        let mut file = old.create(&root.join(path)).unwrap();
        file.write_all(&bytes).unwrap();
        file.sync().unwrap();
    }
    for folder in ["/", "/data", "/data/group", "/data/group/offsets", "/data/group/commits", "/data/group/state"] {
        old.sync_dir(Path::new(folder)).unwrap();
    }
    let open = |disk: &MemoryDisk| Folder::open_on(Arc::new(disk.clone()), dir, "group");
    let whole = old.copy();
    check_upgraded(&open(&whole).unwrap(), "without a loss");
    let operations = whole.operations() - old.operations();
    assert!(operations > 5, "{operations}");
    for operation in 0..operations {
        for seed in 0..20 {
            let disk = old.copy();
            disk.die_at(operation);
            assert!(open(&disk).is_err());
            disk.crash(seed);
            check_upgraded(&open(&disk).unwrap(), &format!("operation {operation}, seed {seed}"));
        }
    }
}

#[test]
fn a_folder_of_a_later_version_is_left_alone() {
    for found in [u64::from(FORMAT_MAX) + 1, u64::MAX] {
        let mut json = serde_json::to_value(lineage("01J")).unwrap();
        json["format"] = json!(found);
        json["x"] = json!("a field of the future");
        // However that version may write it.
        let texts = [json.to_string().into_bytes(), file::with_checksum(json.to_string() + "\n")];
        for text in texts {
            let dir = tempfile::tempdir().unwrap();
            let folder = open(dir.path());
            let root = folder.path().to_owned();
            fs::write(root.join("lineage.json"), text).unwrap();
            fs::write(root.join("offsets/4.tmp"), b"").unwrap();
            let before = everything(&root);
            let begun = folder.begin(&lineage("new")).unwrap_err();
            drop(folder);
            let opened = Folder::open(dir.path(), "group").unwrap_err();
            let looked = FolderView::of_group(dir.path(), "group").unwrap_err();
            for error in [begun, opened, looked] {
                assert!(matches!(error, CheckpointError::Format { .. }), "{error}");
                assert!(error.to_string().contains("use a newer tripline"), "{error}");
            }
            assert_eq!(everything(&root), before);
        }
    }
}

#[test]
fn a_file_of_a_later_version_is_refused_or_passed_over() {
    let dir = tempfile::tempdir().unwrap();
    let folder = open(dir.path());
    log(&folder, &epoch(4)).unwrap();
    let path = folder.path().join("offsets/4");
    let text = fs::read_to_string(&path).unwrap().replacen(&format!("v{FORMAT}"), &format!("v{}", FORMAT_MAX + 1), 1);
    let content = &text[..text[..text.len() - 1].rfind('\n').unwrap() + 1];
    fs::write(&path, file::with_checksum(content.to_owned())).unwrap();
    let error = folder.newest_epoch::<Body>().unwrap_err();
    assert!(
        matches!(&error, CheckpointError::Format { path: named, found } if *named == path && *found == FORMAT_MAX + 1),
        "{error}"
    );
    for (number, format) in [(4, FORMAT), (5, FORMAT_MAX + 1)] {
        let head = tripline::checkpoint::StateHead { format, ..head(number) };
        folder.store_state(&head, |_| Ok(())).unwrap();
    }
    assert_eq!(folder.newest_state().unwrap(), Some((head(4), vec![])));
}

#[test]
fn an_epoch_of_several_topics_comes_back_with_their_places() {
    let dir = tempfile::tempdir().unwrap();
    let folder = open(dir.path());
    let names = ["s.b", "s.a", "s.c"].map(str::to_owned);
    let topics = Topics::new(names.clone()).reading(&names[1..]);
    let at = |topic: &str, partition: i32| topics.lane(topic, partition).unwrap();
    let several = Epoch {
        offsets: Offsets::from([(at("s.a", 0), NextOffset(5)), (at("s.c", 2), NextOffset(7))]),
        kept: Offsets::from([(at("s.b", 1), NextOffset(3))]),
        last_records: LastRecords::from([(at("s.b", 1), LastRecord { offset: 2, timestamp_ms: 9 })]),
        topics: topics.clone(),
        ..epoch(4)
    };
    log(&folder, &several).unwrap();
    assert_eq!(newest(&folder).unwrap(), Some(several));
    let text = fs::read_to_string(folder.path().join("offsets/4")).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!((lines[0], lines[2]), ("v4", r#"{"s.a":{"0":5},"s.b":{"1":3},"s.c":{"2":7}}"#));
    assert!(lines[1].contains(r#""topics":["s.b","s.a","s.c"],"kept":["s.b"],"marks":{"s.b":{"1":"#), "{}", lines[1]);
    // With a topic that its head does not name it is not guessed where that stands.
    let other = text.replacen(r#""topics":["s.b","s.a","#, r#""topics":["s.b","s.x","#, 1);
    let content = &other[..other[..other.len() - 1].rfind('\n').unwrap() + 1];
    fs::write(folder.path().join("offsets/4"), file::with_checksum(content.to_owned())).unwrap();
    let error = folder.newest_epoch::<Body>().unwrap_err().to_string();
    assert!(error.contains("its head does not name topic s.a"), "{error}");
}
