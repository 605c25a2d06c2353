//! What a crash, a disk or a hand does to the files of the folder.

use std::fs;

use serde_json::json;
use tripline::checkpoint::{CheckpointError, FORMAT, file};

use crate::{epoch, full, head, lineage, names, open};

/// The epochs have to be refused, and the file named.
fn refused(folder: &tripline::checkpoint::Folder, name: &str, case: &str) {
    let path = folder.path().join("offsets").join(name);
    let error = folder.newest_epoch().expect_err(case);
    assert!(matches!(&error, CheckpointError::Damaged { path: named, .. } if *named == path), "{case}: {error}");
    assert!(error.to_string().contains(path.to_str().unwrap()), "{case}: {error}");
}

#[test]
fn an_epoch_with_any_bit_wrong_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let folder = open(dir.path());
    folder.log(&full(4)).unwrap();
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
    folder.log(&epoch(5)).unwrap();
    assert!(folder.epochs_after(None).is_err() && folder.undelivered().is_err(), "it is not passed over");
    fs::remove_file(folder.path().join("offsets/5")).unwrap();
    fs::write(&path, &whole).unwrap();
    assert_eq!(folder.newest_epoch().unwrap(), Some(full(4)));
}

#[test]
fn an_epoch_that_is_not_one_is_an_error_whatever_its_checksum() {
    let dir = tempfile::tempdir().unwrap();
    let folder = open(dir.path());
    folder.log(&epoch(4)).unwrap();
    let path = folder.path().join("offsets/4");
    let text = fs::read_to_string(&path).unwrap();
    let lines: Vec<&str> = text.lines().take(4).collect();
    let with = |index: usize, line: &str| {
        let mut lines = lines.clone();
        lines[index] = line;
        lines.join("\n") + "\n"
    };
    let cases = [
        ("another version", with(0, "v2")),
        ("no head", with(1, "{}")),
        ("a head with a field of the future", with(1, &lines[1].replacen('{', r#"{"x":1,"#, 1))),
        ("no topic", with(2, "{}")),
        ("an offset that is text", with(2, r#"{"t":{"0":"7"}}"#)),
        ("no JSON", with(3, "nothing")),
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
fn a_lineage_is_read_or_refused() {
    let dir = tempfile::tempdir().unwrap();
    let folder = open(dir.path());
    folder.begin(&lineage("01J")).unwrap();
    let path = folder.path().join("lineage.json");
    let with = |name: &str, value: serde_json::Value| {
        let mut json = serde_json::to_value(lineage("01J")).unwrap();
        json[name] = value;
        json.to_string()
    };
    for found in [u64::from(FORMAT) + 1, u64::MAX] {
        // A later version's file may have fields that this one does not know.
        fs::write(&path, with("format", json!(found)).replacen('{', r#"{"x":1,"#, 1)).unwrap();
        let error = folder.lineage().unwrap_err();
        assert!(matches!(error, CheckpointError::Format { .. }), "{error}");
        assert!(error.to_string().contains("use a newer tripline"), "{error}");
        assert!(folder.begin(&lineage("new")).is_err(), "a folder of a later version is left alone");
    }
    for (case, text) in [
        ("empty", String::new()),
        ("torn", "{\"format\":1,".to_owned()),
        ("an unknown field", with("x", json!(1))),
        ("a wrong type", with("id", json!(1))),
    ] {
        fs::write(&path, text).unwrap();
        let error = folder.lineage().unwrap_err();
        assert!(matches!(&error, CheckpointError::Damaged { path: named, .. } if *named == path), "{case}: {error}");
    }
}

#[test]
fn what_a_crash_left_half_written_is_ignored() {
    let dir = tempfile::tempdir().unwrap();
    let folder = open(dir.path());
    folder.log(&full(3)).unwrap();
    folder.store_state(&head(3), |out| out.write_all(b"body")).unwrap();
    for name in ["offsets/4.tmp", "commits/3.tmp", "state/4.tmp", "lineage.json.tmp"] {
        fs::write(folder.path().join(name), b"v1\n{\"half\":").unwrap();
    }
    assert_eq!(folder.newest_epoch().unwrap(), Some(full(3)));
    assert_eq!(folder.undelivered().unwrap(), [full(3)]);
    assert_eq!(folder.newest_state().unwrap(), Some((head(3), b"body".to_vec())));
    assert_eq!(folder.lineage().unwrap(), None);
    // And is written over.
    folder.log(&epoch(4)).unwrap();
    folder.finish(3).unwrap();
    folder.store_state(&head(4), |out| out.write_all(b"next")).unwrap();
    assert_eq!(folder.newest_epoch().unwrap(), Some(epoch(4)));
    assert_eq!(folder.undelivered().unwrap(), [epoch(4)]);
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
    folder.log(&full(3)).unwrap();
    let offsets = folder.path().join("offsets");
    fs::hard_link(offsets.join("3"), offsets.join("3.tmp")).unwrap();
    assert!(folder.log(&epoch(3)).is_err(), "it is there already");
    assert_eq!(folder.newest_epoch().unwrap(), Some(full(3)));
}

// Once a bug: after a crash part-way, the next `begin` renames the new, empty folders onto
// those moved aside before, which rename(2) refuses (ENOTEMPTY): the group can never start again.
#[test]
fn moving_aside_goes_on_after_a_crash_part_way() {
    for moved in [&["offsets"][..], &["offsets", "commits"], &["offsets", "commits", "state"]] {
        let dir = tempfile::tempdir().unwrap();
        let folder = open(dir.path());
        folder.begin(&lineage("first")).unwrap();
        folder.log(&full(0)).unwrap();
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
