//! The real file system and its in-memory fake do the same. Also the fake's losses of power, and a full disk.

use std::collections::BTreeSet;
use std::io::{ErrorKind, Write};
use std::path::Path;
use std::sync::Arc;

use tripline::checkpoint::Folder;
use tripline::checkpoint::disk::{Disk, RealDisk};
use tripline::fakes::disk::MemoryDisk;

use crate::body::Body;
use crate::world::{ROOT, Random, World};
use crate::{epoch, head, lineage, log};

/// Does something to a disk, and tells what came of it.
fn act(disk: &dyn Disk, root: &Path, random: &mut Random) -> String {
    const NAMES: [&str; 8] = ["a", "b", "a/a", "a/b", "b/a", "b/b", "a/a/a", "c"];
    let mut path = || root.join(NAMES[usize::try_from(random.below(8)).unwrap()]);
    let (one, other) = (path(), path());
    let write = |path: &Path| -> std::io::Result<()> {
        let mut file = disk.create(path)?;
        file.write_all(other.file_name().unwrap().as_encoded_bytes())?;
        file.sync()
    };
    let list = |path: &Path| disk.list(path).map(|names| names.into_iter().collect::<BTreeSet<_>>());
    let kind = |error: std::io::Error| error.kind();
    let what = random.below(10);
    let came = match what {
        0 => format!("{:?}", disk.read(&one).map_err(kind)),
        1 => format!("{:?}", list(&one).map_err(kind)),
        2 => format!("{:?}", disk.exists(&one).unwrap_or(false)),
        3 => format!("{:?}", disk.create_dir(&one).map_err(kind)),
        4 | 5 => format!("{:?}", write(&one).map_err(kind)),
        // Of errors with two causes, either may be told; and a folder has no second name.
        6 if disk.list(&one).is_err() => format!("{:?}", disk.link(&one, &other).is_ok()),
        7 if !other.starts_with(&one) => format!("{:?}", disk.rename(&one, &other).is_ok()),
        8 if disk.list(&one).is_err() => format!("{:?}", disk.remove(&one).is_ok()),
        9 => format!("{:?}", disk.remove_dir(&one).is_ok()),
        _ => format!("{:?}", disk.list(&one).is_ok() && disk.sync_dir(&one).is_ok()),
    };
    let [one, other] = [&one, &other].map(|path| path.strip_prefix(root).unwrap());
    format!("{what} {one:?} {other:?} {came}")
}

#[test]
fn both_disks_do_the_same() {
    for seed in 0..50 {
        let dir = tempfile::tempdir().unwrap();
        let memory = MemoryDisk::default();
        let (mut one, mut other) = (Random(seed), Random(seed));
        for step in 0..100 {
            let real = act(&RealDisk, dir.path(), &mut one);
            let twin = act(&memory, Path::new("/"), &mut other);
            assert_eq!(real, twin, "seed {seed}, step {step}");
        }
    }
}

/// Everything that can be left of what `work` does, over many losses of power: the files in `/a` with their content.
fn left(work: impl Fn(&MemoryDisk) -> std::io::Result<()>) -> BTreeSet<String> {
    let after = |seed| {
        let disk = MemoryDisk::default();
        disk.create_dir(Path::new("/a")).unwrap();
        disk.sync_dir(Path::new("/")).unwrap();
        work(&disk).unwrap();
        disk.crash(seed);
        let file = |name: String| {
            let bytes = disk.read(&Path::new("/a").join(&name)).unwrap();
            format!("{name}={}", String::from_utf8(bytes).unwrap().replace('\0', "0"))
        };
        disk.list(Path::new("/a")).unwrap().into_iter().map(file).collect::<Vec<_>>().join(" ")
    };
    (0..500).map(after).collect()
}

#[test]
fn what_can_be_lost_with_the_power() {
    let check = |name: &str, work: &dyn Fn(&MemoryDisk) -> std::io::Result<()>, want: &[&str]| {
        assert_eq!(left(work), want.iter().map(|text| (*text).to_owned()).collect(), "{name}");
    };
    let (old, new, folder) = (Path::new("/a/old"), Path::new("/a/new"), Path::new("/a"));
    let write = |disk: &MemoryDisk, sync: bool| {
        let mut file = disk.create(old)?;
        file.write_all(b"xy")?;
        if sync { file.sync() } else { Ok(()) }
    };
    let half = ["", "old=", "old=00", "old=x", "old=x0", "old=xy"];
    check("nothing synced", &|disk| write(disk, false), &half[..]);
    check("the content synced", &|disk| write(disk, true), &["", "old=xy"]);
    let named = |disk: &MemoryDisk| write(disk, false).and_then(|()| disk.sync_dir(folder));
    check("the name synced", &named, &half[1..]);
    let both = |disk: &MemoryDisk| write(disk, true).and_then(|()| disk.sync_dir(folder));
    check("both synced", &both, &["old=xy"]);
    check("a rename", &|disk| both(disk).and_then(|()| disk.rename(old, new)), &["new=xy", "old=xy"]);
    let linked = |disk: &MemoryDisk| both(disk).and_then(|()| disk.link(old, new)).and_then(|()| disk.remove(old));
    check("a link, then a removal", &linked, &["", "new=xy", "new=xy old=xy", "old=xy"]);
    check("and a sync", &|disk| linked(disk).and_then(|()| disk.sync_dir(folder)), &["new=xy"]);
}

#[test]
fn a_full_disk_says_so_and_loses_nothing() {
    let disk = MemoryDisk::default();
    let open = || Folder::open_on(Arc::new(disk.clone()), Path::new("/data/checkpoints"), "group").unwrap();
    let folder = open();
    folder.begin(&lineage("01J")).unwrap();
    log(&folder, &epoch(3)).unwrap();
    disk.set_free(Some(100));
    let errors = [
        ("offsets/4", log(&folder, &epoch(4)).unwrap_err()),
        ("commits/3", folder.finish(3).unwrap_err()),
        ("state/3", folder.store_state(&head(3), |out| out.write_all(&[7; 100])).unwrap_err()),
        ("lineage.json", folder.begin(&lineage("next")).unwrap_err()),
    ];
    for (name, error) in errors {
        let text = error.to_string();
        assert!(text.starts_with(&format!("cannot write {ROOT}/{name}: ")), "{text}");
        assert!(text.ends_with("; nothing is lost: free space and start again"), "{text}");
        let temporary = Path::new(ROOT).join(format!("{name}.tmp"));
        assert!(!disk.exists(&temporary).unwrap(), "{name} still takes space");
    }
    drop(folder);
    open();
    disk.set_free(None);
    let folder = open();
    assert_eq!(folder.lineage().unwrap(), None, "it had been moved aside");
    folder.begin(&lineage("next")).unwrap();
    assert_eq!(folder.newest_epoch::<Body>().unwrap(), None);
}

#[test]
fn whatever_fails_what_was_promised_is_there() {
    for seed in 0..10 {
        let life = |prepare: &dyn Fn(&MemoryDisk), case: &str| {
            let mut world = World::new(seed, None, |_, _| ());
            prepare(&world.disk);
            world.live(20, None).unwrap_or_else(|violation| panic!("seed {seed}, {case}: {violation}"));
            let operations = world.disk.operations();
            world.disk.set_free(None);
            for power in [false, true] {
                world.end(power).unwrap_or_else(|violation| panic!("seed {seed}, {case}: {violation}"));
            }
            operations
        };
        let operations = life(&|_| (), "nothing fails");
        for operation in 0..operations {
            life(&|disk| disk.fail_at(operation, ErrorKind::StorageFull), &format!("operation {operation} fails"));
        }
        for free in (0..10_000).step_by(97) {
            life(&|disk| disk.set_free(Some(free)), &format!("{free} bytes are free"));
        }
    }
}
