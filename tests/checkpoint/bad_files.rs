//! Invalid files of the folder, each with the program's message. `bad_files.txt` has the messages as they were last
//! reviewed. Run with BAD_INPUTS=write to write it again.
//!
//! Checksums are right here, unless a case is about them: the tests are about the checks after them.

use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;

use tripline::checkpoint::disk::Disk;
use tripline::checkpoint::{Folder, file};
use tripline::fakes::disk::MemoryDisk;
use tripline::unit::stored::Decisions;

/// Stands for personal data in the files. No reason may repeat it.
const SECRET: &str = "4111222233334444";

/// The program's message about a folder with this file.
fn outcome(name: &str, bytes: &[u8]) -> String {
    let (disk, root) = (MemoryDisk::default(), Path::new("/checkpoints/group"));
    let folder = Folder::open_at(Arc::new(disk.clone()), root.to_owned()).unwrap();
    file::make_folder(&disk, &root.join("sources")).unwrap();
    file::replace_unsynced(&disk, &root.join(name), bytes).unwrap();
    let said = match name {
        "lineage.json" => folder.lineage().map(|found| format!("read, of group {:?}", found.map(|found| found.group))),
        "offsets/4" => folder.logged::<Decisions>(4).map(|found| format!("read: {}", found.is_some())),
        "commits/4" => folder.is_finished(4).map(|is_finished| format!("finished: {is_finished}")),
        "sources/0" => folder.source().map(|from| format!("read: {}", from.is_some())),
        _ => folder.newest_state().map(|found| format!("read: {}", found.is_some())),
    };
    let said = said.unwrap_or_else(|error| error.to_string());
    drop(folder);
    // A view from outside never fails harder than the folder itself.
    let _ = tripline::checkpoint::FolderView::read(&disk, root);
    assert!(disk.exists(root).unwrap());
    said
}

fn lines(text: &str) -> Vec<u8> {
    file::with_checksum(text.to_owned())
}

fn state(head: &str, body: &[u8]) -> Vec<u8> {
    let content = [head.as_bytes(), b"\n", body].concat();
    [&content[..], &crc32fast::hash(&content).to_le_bytes()].concat()
}

/// `offsets/4` with these lines.
fn epoch(head: &str, offsets: &str, body: &str) -> Vec<u8> {
    lines(&format!("v3\n{head}\n{offsets}\n{body}\n"))
}

const HEAD: &str =
    r#"{"batchWatermarkMs":0,"batchTimestampMs":1,"at":1,"lineage":"01J","epoch":4,"marks":{},"conf":{}}"#;
const BODY: &str = r#"{"alerts":[],"waiting":[]}"#;
const OFFSETS: &str = r#"{"t":{"0":7}}"#;
const LINEAGE: &str = r#"{"format":3,"id":"01J","group":"g","topic":"t"}"#;
const STATE: &str = r#"{"format":3,"lineage":"01J","epoch":4,"offsets":{"0":7},"rules":[["r","v"]]}"#;

fn cases() -> Vec<(&'static str, &'static str, Vec<u8>)> {
    let deep = "[".repeat(100_000);
    vec![
        ("lineage.json", "good", lines(&format!("{LINEAGE}\n"))),
        ("lineage.json", "no bytes", vec![]),
        ("lineage.json", "zeros", vec![0; 64]),
        ("lineage.json", "cut", lines(LINEAGE)[..30].to_vec()),
        ("lineage.json", "no UTF-8", vec![0xff, 0xfe, b'\n']),
        ("lineage.json", "a wrong checksum", format!("{LINEAGE}\n{{\"crc32\":\"00000000\"}}\n").into_bytes()),
        ("lineage.json", "no checksum", format!("{LINEAGE}\n").into_bytes()),
        ("lineage.json", "a checksum alone", lines("")),
        ("lineage.json", "a list", lines("[]\n")),
        ("lineage.json", "100,000 lists", lines(&format!("{deep}\n"))),
        ("lineage.json", "a later format", lines("{\"format\":5}\n")),
        ("lineage.json", "a format past 64 bits", lines("{\"format\":99999999999999999999}\n")),
        ("lineage.json", "a format below zero", lines(&format!("{}\n", LINEAGE.replace('3', "-3")))),
        ("lineage.json", "a format as text", lines(&format!("{}\n", LINEAGE.replace('3', &format!("\"{SECRET}\""))))),
        ("lineage.json", "a field of the future", lines(&format!("{}\n", LINEAGE.replace("\"id\"", "\"x\":1,\"id\"")))),
        ("lineage.json", "an id that is a number", lines(&format!("{}\n", LINEAGE.replace("\"01J\"", SECRET)))),
        ("lineage.json", "a field twice", lines(&format!("{}\n", LINEAGE.replace("\"id\"", "\"id\":\"a\",\"id\"")))),
        ("offsets/4", "good", epoch(HEAD, OFFSETS, BODY)),
        ("offsets/4", "no bytes", vec![]),
        ("offsets/4", "zeros", vec![0; 64]),
        ("offsets/4", "cut", epoch(HEAD, OFFSETS, BODY)[..100].to_vec()),
        ("offsets/4", "a later format", lines("v5\n{}\n")),
        ("offsets/4", "a format past 32 bits", lines("v99999999999\n{}\n{}\n{}\n")),
        ("offsets/4", "a format that is a text", lines(&format!("v{SECRET}x\n{{}}\n{{}}\n{{}}\n"))),
        ("offsets/4", "a line less", lines(&format!("v3\n{HEAD}\n{OFFSETS}\n"))),
        ("offsets/4", "another epoch", epoch(&HEAD.replace("\"epoch\":4", "\"epoch\":5"), OFFSETS, BODY)),
        ("offsets/4", "an epoch below zero", epoch(&HEAD.replace("\"epoch\":4", "\"epoch\":-4"), OFFSETS, BODY)),
        (
            "offsets/4",
            "a time as text",
            epoch(&HEAD.replace("\"at\":1", &format!("\"at\":\"{SECRET}\"")), OFFSETS, BODY),
        ),
        ("offsets/4", "no topic", epoch(HEAD, "{}", BODY)),
        ("offsets/4", "two topics", epoch(HEAD, r#"{"t":{"0":7},"u":{"0":8}}"#, BODY)),
        ("offsets/4", "an offset as text", epoch(HEAD, &format!(r#"{{"t":{{"0":"{SECRET}"}}}}"#), BODY)),
        ("offsets/4", "an offset below zero", epoch(HEAD, r#"{"t":{"0":-7}}"#, BODY)),
        ("offsets/4", "an offset past 64 bits", epoch(HEAD, r#"{"t":{"0":9223372036854775808}}"#, BODY)),
        ("offsets/4", "a partition that is a text", epoch(HEAD, &format!(r#"{{"t":{{"{SECRET}x":7}}}}"#), BODY)),
        ("offsets/4", "a partition below zero", epoch(HEAD, r#"{"t":{"-1":7}}"#, BODY)),
        ("offsets/4", "decisions that are a list", epoch(HEAD, OFFSETS, "[]")),
        ("offsets/4", "decisions that are cut", epoch(HEAD, OFFSETS, &BODY[..10])),
        (
            "offsets/4",
            "alerts that are a text",
            epoch(HEAD, OFFSETS, &BODY.replacen("[]", &format!("\"{SECRET}\""), 1)),
        ),
        (
            "offsets/4",
            "an alert that is a number",
            epoch(HEAD, OFFSETS, &BODY.replacen("[]", &format!("[{SECRET}]"), 1)),
        ),
        ("offsets/4", "an alert of nothing", epoch(HEAD, OFFSETS, &BODY.replacen("[]", "[{}]", 1))),
        ("offsets/4", "a candidate of nothing", epoch(HEAD, OFFSETS, r#"{"alerts":[],"waiting":[["r"]]}"#)),
        ("offsets/4", "100,000 lists", epoch(HEAD, OFFSETS, &deep)),
        ("commits/4", "good", lines("v3\n{}\n")),
        ("commits/4", "no bytes", vec![]),
        ("commits/4", "cut", b"v3\n{".to_vec()),
        ("commits/4", "zeros", vec![0; 64]),
        ("sources/0", "good", lines(&format!("v3\n{OFFSETS}\n"))),
        ("sources/0", "no bytes", vec![]),
        ("sources/0", "a line less", lines("v3\n")),
        ("sources/0", "a later format", lines(&format!("v9\n{OFFSETS}\n"))),
        ("sources/0", "no format", lines(&format!("{SECRET}\n{OFFSETS}\n"))),
        ("sources/0", "no topic", lines("v3\n{}\n")),
        ("sources/0", "two topics", lines("v3\n{\"t\":{\"0\":7},\"u\":{\"0\":8}}\n")),
        ("sources/0", "offsets that are a text", lines(&format!("v3\n{{\"t\":\"{SECRET}\"}}\n"))),
        ("state/4", "good", state(STATE, b"body")),
        ("state/4", "no bytes", vec![]),
        ("state/4", "three bytes", vec![1, 2, 3]),
        ("state/4", "a checksum alone", crc32fast::hash(b"").to_le_bytes().to_vec()),
        ("state/4", "zeros", vec![0; 64]),
        ("state/4", "no end of its head", {
            let content = STATE.as_bytes();
            [content, &crc32fast::hash(content).to_le_bytes()].concat()
        }),
        ("state/4", "a head that is no JSON", state(SECRET, b"body")),
        ("state/4", "a head of a later format", state(&STATE.replace("\"format\":3", "\"format\":5"), b"body")),
        ("state/4", "a head of the first format", state(&STATE.replace("\"format\":3,", ""), b"body")),
        ("state/4", "another epoch", state(&STATE.replace("\"epoch\":4", "\"epoch\":5"), b"body")),
        ("state/4", "100,000 lists", state(&deep, b"body")),
    ]
}

#[test]
fn what_is_said_of_each() {
    let mut text = String::new();
    for (name, case, bytes) in cases() {
        let said = outcome(name, &bytes);
        assert!(!said.contains(&SECRET[..12]), "{name}, {case} repeats a value: {said}");
        let _ = writeln!(text, "{name}: {case}\n    {said}");
    }
    let golden = format!("{}/tests/checkpoint/bad_files.txt", env!("CARGO_MANIFEST_DIR"));
    if std::env::var("BAD_INPUTS").is_ok_and(|value| value == "write") {
        std::fs::write(&golden, &text).unwrap();
    }
    assert_eq!(text, std::fs::read_to_string(&golden).unwrap());
}
