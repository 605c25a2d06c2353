//! The checkpoint folder: two processes on one, files that are damaged, no space left. What the message says is done, and
//! it helps.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::run::Run;
use super::world::{World, copy, firing, resolved};

#[test]
#[ignore = "needs the servers: scripts/test"]
fn two_processes_on_one_folder() {
    let w = World::new("locked");
    w.spend(1..=2, "3500");
    let job = w.job("a");
    let run = Run::start(&job);
    w.wait_for_alerts(2);
    let folder = w.checkpoint("a");
    let parts =
        [folder.to_str().unwrap(), "in use by another process", "stop that one", "a checkpoint folder of its own"];
    Run::start(&job).ended().refused(5, &parts);
    Run::to_the_end(&job).ended().refused(5, &parts);
    w.spend(3..=3, "3500");
    w.wait_for_alerts(3);
    w.wait_committed(3);
    run.terminate();
    w.one_each(&[&firing(1..=3)]);
}

type Damage = fn(&mut Vec<u8>);

/// Kinds of damage by a crash, a disk or a person.
const DAMAGES: [(&str, Damage); 4] = [
    ("empty", Vec::clear),
    ("cut in the middle", |bytes| bytes.truncate(bytes.len() / 2)),
    ("a bit is another", |bytes| {
        let middle = bytes.len() / 2;
        bytes[middle] ^= 4;
    }),
    ("its end was never written", |bytes| {
        let end = bytes.len() * 3 / 4;
        bytes[end..].fill(0);
    }),
];

fn damage(path: &Path, how: Damage) {
    let mut bytes = std::fs::read(path).unwrap();
    how(&mut bytes);
    std::fs::write(path, bytes).unwrap();
}

/// The paths of a part's files, the newest first.
fn newest_first(folder: &Path, part: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder.join(part)).unwrap();
    let mut numbers: Vec<u64> =
        entries.map(|entry| entry.unwrap().file_name().to_str().unwrap().parse().unwrap()).collect();
    numbers.sort_unstable_by(|a, b| b.cmp(a));
    numbers.iter().map(|number| folder.join(part).join(number.to_string())).collect()
}

/// Three runs with something to tell each, so that there are some epochs and two states.
fn three_runs(test: &str) -> World {
    let w = World::new(test);
    for first in [1, 4, 7] {
        w.spend(first..=first + 2, "3500");
        w.read("a");
    }
    assert!(w.epochs("a").len() > 2);
    assert_eq!(newest_first(&w.checkpoint("a"), "state").len(), 2);
    w
}

/// The start does not guess: the file's epoch may have been delivered, and its lineage is not known.
fn refused_until_moved_away(test: &str, file: impl Fn(&Path) -> PathBuf) {
    let w = three_runs(test);
    let folder = w.checkpoint("a");
    let (lineage, file) = (w.lineage("a"), file(&folder));
    let whole = std::fs::read(&file).unwrap();
    for (how, damaged) in DAMAGES {
        damage(&file, damaged);
        let parts = ["checkpoint file", file.to_str().unwrap(), "restore it from a copy", "move the whole folder away"];
        let refused = Run::to_the_end(&w.job("a")).ended();
        eprintln!("{how}: {}", refused.log.last().unwrap());
        refused.refused(5, &parts);
        std::fs::write(&file, &whole).unwrap();
    }
    // From a copy.
    w.change(1, "1");
    let run = w.read("a");
    assert_eq!((run.count("read"), run.count("fired"), run.count("resolved")), (1, 0, 1), "{run}");
    // Moved away.
    let newest = newest_first(&folder, "offsets").remove(0);
    damage(&newest, DAMAGES[1].1);
    Run::to_the_end(&w.job("a")).ended().refused(5, &["move the whole folder away"]);
    std::fs::rename(&folder, folder.with_extension("away")).unwrap();
    w.change(2, "1");
    let run = w.read("a");
    assert_eq!((run.count("read"), run.count("fired"), run.count("resolved")), (1, 0, 1), "{run}");
    assert_eq!(w.lineage("a"), lineage);
    w.one_each(&[&firing(1..=9), &resolved([1, 2])]);
}

#[test]
#[ignore = "needs the servers: scripts/test"]
fn the_newest_epoch_is_damaged() {
    refused_until_moved_away("damaged_epoch", |folder| newest_first(folder, "offsets").remove(0));
}

#[test]
#[ignore = "needs the servers: scripts/test"]
fn the_lineage_is_damaged() {
    refused_until_moved_away("damaged_lineage", |folder| folder.join("lineage.json"));
}

/// Files that are not needed, or can be restored, are skipped.
#[test]
#[ignore = "needs the servers: scripts/test"]
fn files_that_are_not_needed_are_damaged() {
    let w = three_runs("damaged_others");
    let folder = w.checkpoint("a");
    let lineage = w.lineage("a");
    let mut user = 0;
    let mut check = |what: &str, files: &[PathBuf], how: Damage, says: Option<&str>| {
        files.iter().for_each(|file| damage(file, how));
        user += 1;
        w.change(user, "1");
        let run = w.read("a");
        assert_eq!((run.count("read"), run.count("fired"), run.count("resolved")), (1, 0, 1), "{what}: {run}");
        if let Some(text) = says {
            run.said(text);
        }
    };
    let part = |part| newest_first(&folder, part);
    check("the newest state", &part("state")[..1], DAMAGES[2].1, None);
    check("both states", &part("state"), DAMAGES[1].1, None);
    check("the newest mark", &part("commits")[..1], DAMAGES[0].1, Some("completing what was logged before"));
    check("an old epoch", &part("offsets")[part("offsets").len() - 1..], DAMAGES[2].1, None);
    // Then the log does not reach back to the beginning any more.
    std::fs::remove_file(newest_first(&folder, "offsets").pop().unwrap()).unwrap();
    check("the log has no beginning", &part("state"), DAMAGES[3].1, Some("episodes are taken from Kafka"));
    assert_eq!((w.lineage("a"), w.aside("a")), (lineage, vec![]));
    w.one_each(&[&firing(1..=9), &resolved(1..=5)]);
}

/// A file system of 256 KiB at a checkpoint folder.
struct Small(PathBuf);

impl Small {
    /// `None` where this user may not mount one.
    fn at(folder: PathBuf) -> Option<Self> {
        std::fs::create_dir_all(&folder).unwrap();
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=256k", "tmpfs"]).arg(&folder).output();
        match mounted {
            Ok(done) if done.status.success() => Some(Self(folder)),
            other => {
                eprintln!("skipped: no file system can be mounted here: {other:?}");
                None
            }
        }
    }

    fn filler(&self) -> PathBuf {
        self.0.join("filler")
    }

    /// Until nothing fits any more, not even an empty file's name and byte.
    fn fill(&self) {
        use std::io::Write as _;
        let mut file = std::fs::File::create(self.filler()).unwrap();
        while file.write_all(&[0; 512]).is_ok() {}
    }

    fn free(&self) {
        std::fs::remove_file(self.filler()).unwrap();
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let done = Command::new("umount").arg("-l").arg(&self.0).output();
        if !done.as_ref().is_ok_and(|done| done.status.success()) {
            eprintln!("not unmounted: {done:?}");
        }
    }
}

/// The space ends before an epoch is logged, before it is marked as finished, and before the state is stored.
#[test]
#[ignore = "needs the servers: scripts/test"]
fn no_space_is_left() {
    let w = World::new("space");
    let folder = w.checkpoint("a");
    let Some(small) = Small::at(folder) else { return };
    w.spend(1..=2, "3500");
    w.read("a");
    let full = ["cannot write", "No space left", "nothing is lost: free space and start again"];

    let mut told = 2;
    for (turn, fault) in ["epoch.closed", "logged", "finished"].into_iter().enumerate() {
        let user = 3 + i64::try_from(turn).unwrap();
        let mut run = Run::with_fault(&w.job("a"), &format!("{fault}:1:stop"));
        run.wait_in_log("this start");
        w.spend(user..=user, "3500");
        run.wait_stopped();
        small.fill();
        if fault == "finished" {
            run.signal("TERM"); // what is left to do is the state
        }
        run.signal("CONT");
        run.ended().refused(1, &full);
        // It is not told before it is logged.
        let before = if fault == "epoch.closed" { told } else { told + 1 };
        eprintln!("{fault}: {} alerts", w.alerts().len());
        assert!(w.alerts().len() <= before, "{fault}");
        // And still.
        w.spend(user + 10..=user + 10, "3500");
        let code = Run::to_the_end(&w.job("a")).ended().code();
        assert_eq!(code, Some(1), "{fault}");
        small.free();
        w.read("a");
        told += 2;
        assert_eq!(w.alerts().len(), told, "{fault}");
    }
    w.change(3, "1");
    assert_eq!(w.read("a").count("resolved"), 1);
    w.one_each(&[&firing([1, 2, 3, 4, 5, 13, 14, 15]), &resolved([3])]);
    // The folder is whole.
    copy(&w.checkpoint("a"), &w.checkpoint("b"));
    drop(small);
    std::fs::remove_dir_all(w.checkpoint("a")).unwrap();
    std::fs::rename(w.checkpoint("b"), w.checkpoint("a")).unwrap();
    assert_eq!(w.read("a").count("read"), 0);
    w.one_each(&[&firing([1, 2, 3, 4, 5, 13, 14, 15]), &resolved([3])]);
}
