//! Reading the folder from outside.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use tripline::checkpoint::disk::{Disk, Lock, NewFile};
use tripline::checkpoint::view::NewestEpoch;
use tripline::checkpoint::{CheckpointError, Encoded, Folder, FolderView};
use tripline::fakes::disk::MemoryDisk;
use tripline::progress::start::FolderState;

use crate::body::full;
use crate::{AT, epoch, lineage, log, names, offsets, open};

fn view(dir: &Path) -> Option<FolderView> {
    FolderView::of_group(dir, "group").unwrap()
}

#[test]
fn a_view_shows_the_newest_epoch_and_creates_nothing() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(view(dir.path()), None);
    assert!(!Folder::is_locked(dir.path(), "group").unwrap());
    assert_eq!(names(dir.path()).len(), 0);

    let folder = open(dir.path());
    assert_eq!(view(dir.path()), None, "there is no lineage yet");
    folder.begin(&lineage("01J")).unwrap();
    assert_eq!(view(dir.path()), Some(FolderView { lineage: lineage("01J"), newest: None }));
    for number in [9, 10] {
        log(&folder, &full(number)).unwrap();
    }
    let crc = Encoded::of(&full(10)).unwrap().crc;
    let state = FolderState {
        lineage: "01J".to_owned(),
        topics: crate::TOPIC.into(),
        cluster: lineage("01J").cluster,
        origin: lineage("01J").origin,
        epoch: 10,
        offsets: offsets(10),
        kept: Default::default(),
        last_records: full(10).last_records,
        at: AT,
        is_starting: false,
    };
    let newest = NewestEpoch { state, crc };
    let want = Some(FolderView { lineage: lineage("01J"), newest: Some(newest) });
    assert_eq!(view(dir.path()), want, "10 is after 9");
    assert!(Folder::is_locked(dir.path(), "group").unwrap());
    drop(folder);
    assert_eq!(view(dir.path()), want, "and when nobody has it open");
}

#[test]
fn a_lock_is_seen_and_not_in_the_way() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path()));
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                Folder::is_locked(dir.path(), "group").unwrap();
                (0..100).for_each(|_| std::hint::spin_loop());
            }
        });
        let opened: Vec<_> = (0..100).map(|_| Folder::open(dir.path(), "group").map(drop)).collect();
        done.store(true, Ordering::Relaxed);
        opened.into_iter().for_each(Result::unwrap);
    });
}

#[test]
fn damage_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let folder = open(dir.path());
    folder.begin(&lineage("01J")).unwrap();
    log(&folder, &epoch(4)).unwrap();
    for name in ["offsets/4", "lineage.json"] {
        fs::write(folder.path().join(name), b"").unwrap();
        let error = FolderView::of_group(dir.path(), "group").unwrap_err();
        assert!(matches!(error, CheckpointError::Damaged { .. }), "{error}");
    }
}

#[test]
fn a_folder_at_work_can_be_read() {
    let dir = tempfile::tempdir().unwrap();
    let folder = open(dir.path());
    let lineage_of = |life: u64| lineage(&format!("{life:03}"));
    folder.begin(&lineage_of(0)).unwrap();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for life in 1..30 {
                folder.begin(&lineage_of(life)).unwrap();
                for number in 0..5 {
                    let epoch = tripline::progress::Epoch { lineage: lineage_of(life).id, ..epoch(number) };
                    log(&folder, &epoch).unwrap();
                }
            }
            done.store(true, Ordering::Relaxed);
        });
        let mut last = (String::new(), None);
        while !done.load(Ordering::Relaxed) {
            let Some(seen) = view(dir.path()) else { continue };
            let seen = (seen.lineage.id, seen.newest.map(|newest| newest.state.epoch));
            // Just moved aside, a lineage has no epochs any more.
            assert!(seen >= last || seen == (last.0.clone(), None), "{seen:?} after {last:?}");
            last = seen;
        }
    });
    assert_eq!(view(dir.path()).unwrap().newest.unwrap().state.epoch, 4);
}

/// A disk on which the owner of the folder goes on while it is being read: before its read of this number.
#[derive(Debug)]
struct Meddled<'a> {
    disk: MemoryDisk,
    owner: &'a Folder,
    reads: AtomicU32,
    at: u32,
}

impl Meddled<'_> {
    fn reading(&self) {
        if self.reads.fetch_add(1, Ordering::Relaxed) == self.at {
            self.owner.begin(&lineage("next")).unwrap();
            let epoch = tripline::progress::Epoch { lineage: "next".to_owned(), ..epoch(7) };
            log(self.owner, &epoch).unwrap();
        }
    }
}

#[rustfmt::skip]
impl Disk for Meddled<'_> {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> { self.reading(); self.disk.read(path) }
    fn list(&self, folder: &Path) -> io::Result<Vec<String>> { self.reading(); self.disk.list(folder) }
    fn exists(&self, path: &Path) -> io::Result<bool> { self.reading(); self.disk.exists(path) }
    fn create_dir(&self, _: &Path) -> io::Result<()> { panic!("a look changes nothing") }
    fn create(&self, _: &Path) -> io::Result<Box<dyn NewFile>> { panic!("a look changes nothing") }
    fn link(&self, _: &Path, _: &Path) -> io::Result<()> { panic!("a look changes nothing") }
    fn rename(&self, _: &Path, _: &Path) -> io::Result<()> { panic!("a look changes nothing") }
    fn remove(&self, _: &Path) -> io::Result<()> { panic!("a look changes nothing") }
    fn remove_dir(&self, _: &Path) -> io::Result<()> { panic!("a look changes nothing") }
    fn sync_dir(&self, _: &Path) -> io::Result<()> { panic!("a look changes nothing") }
    fn lock(&self, _: &Path) -> io::Result<Option<Lock>> { panic!("a look changes nothing") }
    fn is_locked(&self, path: &Path) -> io::Result<bool> { self.disk.is_locked(path) }
}

#[test]
fn what_vanishes_in_the_middle_of_a_look_is_looked_for_again() {
    let mut seen = Vec::new();
    for at in 0..5 {
        let disk = MemoryDisk::default();
        let owner = Folder::open_at(Arc::new(disk.clone()), "/group".into()).unwrap();
        owner.begin(&lineage("01J")).unwrap();
        log(&owner, &epoch(4)).unwrap();
        let meddled = Meddled { disk, owner: &owner, reads: AtomicU32::new(0), at };
        let view = FolderView::read(&meddled, Path::new("/group")).unwrap().expect("there always was a lineage");
        seen.push((view.lineage.id, view.newest.map(|newest| newest.state.epoch)));
    }
    let [old, next] = [("01J".to_owned(), Some(4)), ("next".to_owned(), Some(7))];
    assert_eq!(seen, [next.clone(), next.clone(), next.clone(), next, old]);
}
