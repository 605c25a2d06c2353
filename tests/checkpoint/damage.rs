//! Damage to the folder's files by a crash, a disk or a person.

use std::fs;

use serde_json::json;
use tripline::checkpoint::{CheckpointError, file};

use crate::body::{Body, full};
use crate::{epoch, head, lineage, log, names, newest, open, unfinished};

/// The epochs have to be refused, and the file named.
fn refused(folder: &tripline::checkpoint::Folder, name: &str, case: &str) {
    let path = folder.path().join("offsets").join(name);
    let error = newest(folder).expect_err(case);
    assert!(matches!(&error, CheckpointError::Damaged { path: named, .. } if *named == path), "{case}: {error}");
    assert!(error.to_string().contains(path.to_str().unwrap()), "{case}: {error}");
}

#[test]
fn an_epoch_with_any_bit_wrong_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let folder = open(dir.path());
    log(&folder, &full(4)).unwrap();
    let path = folder.path().join("offsets/4");
    let whole = fs::read(&path).unwrap();
    for index in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes[index] ^= 1 << (index % 8);
        fs::write(&path, bytes).unwrap();
        refused(&folder, "4", &format!("bit {} of byte {index}", index % 8));
        fs::write(&path, &whole[..index]).unwrap();
        refused(&folder, "4", &format!("cut after {index} bytes"));
    }
    for tail in ["\n", "\0", "v1\n", "{}\n"] {
        fs::write(&path, [&whole, tail.as_bytes()].concat()).unwrap();
        refused(&folder, "4", &format!("{tail:?} behind it"));
    }
    fs::write(&path, vec![0; whole.len()]).unwrap();
    refused(&folder, "4", "zeros, as after a loss of power");
    log(&folder, &epoch(5)).unwrap();
    assert!(
        folder.epochs_after::<Body>(None).is_err() && folder.unfinished::<Body>().is_err(),
        "it is not passed over"
    );
    fs::remove_file(folder.path().join("offsets/5")).unwrap();
    fs::write(&path, &whole).unwrap();
    assert_eq!(newest(&folder).unwrap(), Some(full(4)));
}

#[test]
fn an_epoch_that_is_not_one_is_an_error_whatever_its_checksum() {
    let dir = tempfile::tempdir().unwrap();
    let folder = open(dir.path());
    log(&folder, &epoch(4)).unwrap();
    let path = folder.path().join("offsets/4");
    let text = fs::read_to_string(&path).unwrap();
    let lines: Vec<&str> = text.lines().take(4).collect();
    let with = |index: usize, line: &str| {
        let mut lines = lines.clone();
        lines[index] = line;
        lines.join("\n") + "\n"
    };
    let cases = [
        ("no version", with(0, "2")),
        ("another epoch", with(1, &lines[1].replacen("\"epoch\":4", "\"epoch\":5", 1))),
        ("no head", with(1, "{}")),
        ("a head with a field of the future", with(1, &lines[1].replacen('{', r#"{"x":1,"#, 1))),
        ("no topic", with(2, "{}")),
        ("an offset that is text", with(2, r#"{"t":{"0":"7"}}"#)),
        ("no JSON", with(3, "nothing")),
        ("no number", with(1, &lines[1].replacen("\"epoch\":4,", "", 1))),
        ("a line more", text.clone()),
        ("a line less", lines[..3].join("\n") + "\n"),
        ("empty", String::new()),
    ];
    for (case, text) in cases {
        fs::write(&path, file::with_checksum(text)).unwrap();
        refused(&folder, "4", case);
    }
}

#[test]
fn a_damaged_state_falls_back_to_the_one_before() {
    let dir = tempfile::tempdir().unwrap();
    let folder = open(dir.path());
    folder.store_state(&head(1), |out| out.write_all(b"older")).unwrap();
    folder.store_state(&head(2), |out| out.write_all(b"newer\n")).unwrap();
    let path = folder.path().join("state/2");
    let whole = fs::read(&path).unwrap();
    let older = Some((head(1), b"older".to_vec()));
    for index in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes[index] ^= 0x10;
        fs::write(&path, bytes).unwrap();
        assert_eq!(folder.newest_state().unwrap(), older, "byte {index}");
        fs::write(&path, &whole[..index]).unwrap();
        assert_eq!(folder.newest_state().unwrap(), older, "cut after {index} bytes");
    }
    fs::write(folder.path().join("state/1"), b"").unwrap();
    assert_eq!(folder.newest_state().unwrap(), None, "both are damaged");
    fs::write(&path, &whole).unwrap();
    assert_eq!(folder.newest_state().unwrap(), Some((head(2), b"newer\n".to_vec())));
}

#[test]
fn a_lineage_with_any_bit_wrong_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let folder = open(dir.path());
    folder.begin(&lineage("01J")).unwrap();
    let path = folder.path().join("lineage.json");
    let whole = fs::read(&path).unwrap();
    let check = |case: &str, bytes: &[u8]| {
        fs::write(&path, bytes).unwrap();
        let error = folder.lineage().expect_err(case);
        assert!(matches!(&error, CheckpointError::Damaged { path: named, .. } if *named == path), "{case}: {error}");
        assert!(error.to_string().contains("restore it from a copy, or move the whole folder away"), "{case}: {error}");
    };
    for index in 0..whole.len() {
        for bit in 0..8 {
            let mut bytes = whole.clone();
            bytes[index] ^= 1 << bit;
            check(&format!("bit {bit} of byte {index}"), &bytes);
        }
        check(&format!("cut after {index} bytes"), &whole[..index]);
    }
    let with = |name: &str, value: serde_json::Value| {
        let mut json = serde_json::to_value(lineage("01J")).unwrap();
        json[name] = value;
        file::with_checksum(json.to_string() + "\n")
    };
    check("zeros", &vec![0; whole.len()]);
    check("an unknown field", &with("x", json!(1)));
    check("a wrong type", &with("id", json!(1)));
    check("no object", &file::with_checksum("[1]\n".to_owned()));
    drop(folder);
    let refused = tripline::checkpoint::Folder::open(dir.path(), "group").unwrap_err();
    assert!(matches!(refused, CheckpointError::Damaged { .. }), "{refused}");
    fs::write(&path, &whole).unwrap();
    assert_eq!(open(dir.path()).lineage().unwrap(), Some(lineage("01J")));
}

// A bit that the checksum follows is read as it stands: so it is the checksum that finds the others, in every file.
#[test]
fn nothing_but_the_checksum_finds_a_digit_that_changed() {
    let dir = tempfile::tempdir().unwrap();
    let folder = open(dir.path());
    folder.begin(&lineage("01J")).unwrap();
    log(&folder, &epoch(4)).unwrap();
    folder.store_state(&head(4), |out| out.write_all(b"body 7")).unwrap();
    let check = |name: &str, from: &str, to: &str, readable: &dyn Fn() -> bool| {
        let path = folder.path().join(name);
        let whole = fs::read(&path).unwrap();
        let at = whole.windows(from.len()).position(|part| part == from.as_bytes()).unwrap();
        let changed = [&whole[..at], to.as_bytes(), &whole[at + from.len()..]].concat();
        fs::write(&path, &changed).unwrap();
        assert!(!readable(), "{name}: found by the checksum");
        let end = if name.starts_with("state") { 4 } else { "{\"crc32\":\"00000000\"}\n".len() };
        let content = changed[..changed.len() - end].to_vec();
        let followed = if name.starts_with("state") {
            [&content[..], &crc32fast::hash(&content).to_le_bytes()].concat()
        } else {
            file::with_checksum(String::from_utf8(content).unwrap())
        };
        fs::write(&path, followed).unwrap();
        assert!(readable(), "{name}: and by nothing else");
        fs::write(&path, whole).unwrap();
    };
    check("lineage.json", "01J", "01K", &|| folder.lineage().is_ok());
    check("offsets/4", "\"0\":70", "\"0\":71", &|| newest(&folder).is_ok());
    check("state/4", "body 7", "body 6", &|| folder.newest_state().unwrap().is_some());
}

#[test]
fn a_mark_that_is_damaged_is_none() {
    let dir = tempfile::tempdir().unwrap();
    let folder = open(dir.path());
    log(&folder, &epoch(4)).unwrap();
    folder.finish(4).unwrap();
    let path = folder.path().join("commits/4");
    let whole = fs::read(&path).unwrap();
    for (case, bytes) in [("empty", vec![]), ("zeros", vec![0; whole.len()]), ("torn", whole[..9].to_vec())] {
        fs::write(&path, bytes).unwrap();
        assert!(!folder.is_finished(4).unwrap(), "{case}");
        assert_eq!(unfinished(&folder), [epoch(4)], "{case}");
        folder.finish(4).unwrap();
        assert_eq!(unfinished(&folder), [], "{case}");
    }
}

// As the loss of power after a long run leaves it: the marks are not synced.
#[test]
fn epochs_whose_marks_are_lost_are_finished_again_and_then_removed() {
    let dir = tempfile::tempdir().unwrap();
    let folder = open(dir.path());
    for number in 0..3 {
        log(&folder, &epoch(number)).unwrap();
        folder.finish(number).unwrap();
    }
    fs::remove_file(folder.path().join("commits/1")).unwrap();
    fs::write(folder.path().join("commits/2"), b"").unwrap();
    folder.store_state(&head(200), |_| Ok(())).unwrap();
    folder.store_state(&head(201), |_| Ok(())).unwrap();
    assert_eq!(names(&folder.path().join("offsets")).len(), 2, "what is not finished stays");
    for epoch in unfinished(&folder) {
        folder.finish(epoch.number).unwrap();
    }
    folder.store_state(&head(202), |_| Ok(())).unwrap();
    for part in ["offsets", "commits"] {
        assert_eq!(names(&folder.path().join(part)).len(), 0, "{part}");
    }
}

#[test]
fn what_a_crash_left_half_written_is_ignored() {
    let dir = tempfile::tempdir().unwrap();
    let folder = open(dir.path());
    log(&folder, &full(3)).unwrap();
    folder.store_state(&head(3), |out| out.write_all(b"body")).unwrap();
    for name in ["offsets/4.tmp", "commits/3.tmp", "state/4.tmp", "lineage.json.tmp"] {
        fs::write(folder.path().join(name), b"v1\n{\"half\":").unwrap();
    }
    assert_eq!(newest(&folder).unwrap(), Some(full(3)));
    assert_eq!(unfinished(&folder), [full(3)]);
    assert_eq!(folder.newest_state().unwrap(), Some((head(3), b"body".to_vec())));
    assert_eq!(folder.lineage().unwrap(), None);
    drop(folder);
    let folder = open(dir.path());
    for part in ["", "offsets", "commits", "state"] {
        let left = names(&folder.path().join(part));
        assert!(left.iter().all(|name| !name.ends_with(".tmp")), "{part:?} has {left:?}");
    }
    // What comes while it is open is written over.
    for name in ["offsets/4.tmp", "commits/3.tmp", "state/4.tmp"] {
        fs::write(folder.path().join(name), b"v1\n{\"half\":").unwrap();
    }
    log(&folder, &epoch(4)).unwrap();
    folder.finish(3).unwrap();
    folder.store_state(&head(4), |out| out.write_all(b"next")).unwrap();
    assert_eq!(newest(&folder).unwrap(), Some(epoch(4)));
    assert_eq!(unfinished(&folder), [epoch(4)]);
    let left: Vec<String> =
        ["offsets", "commits", "state"].iter().flat_map(|part| names(&folder.path().join(part))).collect();
    assert!(left.iter().all(|name| !name.ends_with(".tmp")), "{left:?}");
}

// Once a bug: after a crash between link and remove, N.tmp is another name of
// offsets/N. Opening it with truncate writes into the linked epoch, before the link is refused.
#[test]
fn a_temporary_name_left_on_a_linked_epoch_does_not_let_it_be_overwritten() {
    let dir = tempfile::tempdir().unwrap();
    let folder = open(dir.path());
    log(&folder, &full(3)).unwrap();
    let offsets = folder.path().join("offsets");
    fs::hard_link(offsets.join("3"), offsets.join("3.tmp")).unwrap();
    assert!(log(&folder, &epoch(3)).is_err(), "it is there already");
    assert_eq!(newest(&folder).unwrap(), Some(full(3)));
}

// Once a bug: after a crash part-way, the next `begin` renames the new, empty folders onto
// those moved aside before, which rename(2) refuses (ENOTEMPTY): the group can never start again.
#[test]
fn moving_aside_goes_on_after_a_crash_part_way() {
    for moved in [&["offsets"][..], &["offsets", "commits"], &["offsets", "commits", "state"]] {
        let dir = tempfile::tempdir().unwrap();
        let folder = open(dir.path());
        folder.begin(&lineage("first")).unwrap();
        log(&folder, &full(0)).unwrap();
        folder.finish(0).unwrap();
        folder.store_state(&head(0), |out| out.write_all(b"body")).unwrap();
        let aside = folder.path().join("lineages/first");
        fs::create_dir_all(&aside).unwrap();
        for part in moved {
            fs::rename(folder.path().join(part), aside.join(part)).unwrap();
        }
        drop(folder); // the crash
        let folder = open(dir.path());
        folder.begin(&lineage("second")).unwrap_or_else(|error| panic!("{moved:?} moved: {error}"));
        assert_eq!(folder.lineage().unwrap(), Some(lineage("second")), "{moved:?} moved");
        assert_eq!(names(&aside.join("offsets")).len(), 1, "{moved:?} moved");
    }
}

// Its files would be taken for those of the next lineage.
#[test]
fn a_folder_without_its_lineage_is_moved_aside_whole() {
    let dir = tempfile::tempdir().unwrap();
    let folder = open(dir.path());
    let lost = |part: &str, number: u64| {
        match part {
            "offsets" => log(&folder, &epoch(number)).unwrap(),
            "commits" => folder.finish(number).unwrap(),
            _ => folder.store_state(&head(number), |_| Ok(())).unwrap(),
        }
        folder.begin(&lineage("next")).unwrap();
        assert!(names(&folder.path().join(part)).is_empty(), "{part}");
        fs::remove_file(folder.path().join("lineage.json")).unwrap();
    };
    lost("offsets", 1);
    lost("commits", 2);
    lost("state", 3);
    lost("offsets", 4);
    let lineages = folder.path().join("lineages");
    let mut found: Vec<String> = Vec::new();
    for name in names(&lineages) {
        for part in ["offsets", "commits", "state"] {
            found.extend(names(&lineages.join(&name).join(part)).iter().map(|number| format!("{part}/{number}")));
        }
    }
    found.sort();
    assert_eq!(found, ["commits/2", "offsets/1", "offsets/4", "state/3"], "nothing is lost, and nothing is replaced");
}
