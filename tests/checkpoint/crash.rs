//! Power is lost at every operation of the disk: what the folder promises is there afterwards. And each sync is left
//! out once, to see that these tests would notice.
//!
//! A failure names seed, operation and way: `run(seed, Some(operation), way, …)` does the same again.

use std::path::Path;
use std::sync::mpsc::channel;

use tripline::fakes::disk::Sync;

use crate::world::{During, ROOT, Site, Violation, World};

/// Lives, each with other actions.
const SEEDS: u64 = 12;
/// Ways in which a life goes on after its death: killed or without power, and what is left then.
const WAYS: u64 = 3;
/// Lives tried until a missing sync has to be noticed.
const SEEDS_MAX: u64 = 200;

/// Runs one folder's life: it dies before an operation, or after its actions, continues, dies again, and continues.
/// Returns the number of operations of the first part.
fn run(
    seed: u64,
    dies_at: Option<u64>,
    way: u64,
    ignored: Option<Site>,
    seen: impl Fn(&During, &Sync) + Send + 'static,
) -> Result<u64, Violation> {
    let mut world = World::new(seed, ignored, seen);
    world.live(20, dies_at)?;
    let operations = world.disk.operations();
    world.reseed(seed ^ (way << 32) ^ (dies_at.unwrap_or(0) << 40));
    world.end(way > 0)?;
    let then = world.any_operation();
    world.live(10, Some(then))?;
    world.end(true)?;
    // And nothing is in the way of going on.
    world.live(2, None)?;
    world.end(true)?;
    Ok(operations)
}

/// Runs one life with every operation and way of dying. Returns the place and kind of the first violation.
fn search(seed: u64, ignored: Option<Site>) -> Option<(Option<u64>, u64, Violation)> {
    let operations = match run(seed, None, 0, ignored, |_, _| ()) {
        Ok(operations) => operations,
        Err(violation) => return Some((None, 0, violation)),
    };
    let deaths = (0..operations).flat_map(|operation| (0..WAYS).map(move |way| (Some(operation), way)));
    let mut violations =
        deaths.filter_map(|(at, way)| run(seed, at, way, ignored, |_, _| ()).err().map(|found| (at, way, found)));
    violations.next()
}

#[test]
fn whatever_is_lost_with_the_power_what_was_promised_is_there() {
    let mut tried = 0;
    for seed in 0..SEEDS {
        tried += run(seed, None, 0, None, |_, _| ()).unwrap();
        let found = search(seed, None);
        assert!(found.is_none(), "seed {seed}: {found:?}");
    }
    println!("seeds 0 to {SEEDS}, {tried} operations, {WAYS} ways each");
    assert!(tried > 100 * SEEDS, "only {tried} operations: do the lives still do anything?");
}

fn content(sync: &Sync, of: &str) -> bool {
    matches!(sync, Sync::Content(path) if path.strip_prefix(ROOT).is_ok_and(|path| path.starts_with(of)))
}

fn folder(sync: &Sync, of: &str, holds: &[&str]) -> bool {
    let holds =
        |names: &std::collections::BTreeSet<String>| holds.is_empty() || holds.iter().any(|name| names.contains(*name));
    matches!(sync, Sync::Folder(path, names) if path == Path::new(of) && holds(names))
}

fn aside(sync: &Sync, holds: &str) -> bool {
    let lineages = Path::new(ROOT).join("lineages");
    matches!(sync, Sync::Folder(path, names) if path.parent() == Some(&lineages) && names.contains(holds))
}

/// Whether it is the folder of the lowest one that was there before an opening.
fn above_what_was_there(during: &During, sync: &Sync) -> bool {
    let During::Open(deepest) = during else { return false };
    matches!(sync, Sync::Folder(path, _) if deepest.parent() == Some(path) && !deepest.starts_with(ROOT))
}

fn in_root(name: &str) -> String {
    format!("{ROOT}/{name}")
}

/// Every place that syncs, and what the sync is for.
const SITES: [(&str, Site); 17] = [
    ("an epoch's bytes", |during, sync| *during == During::Log && content(sync, "offsets")),
    ("an epoch's name", |during, sync| *during == During::Log && folder(sync, &in_root("offsets"), &[])),
    ("a state's bytes", |during, sync| *during == During::Store && content(sync, "state")),
    ("a state's name", |during, sync| *during == During::Store && folder(sync, &in_root("state"), &[])),
    ("old epochs go before their marks", |during, sync| {
        *during == During::Store && folder(sync, &in_root("offsets"), &[])
    }),
    ("a lineage's bytes", |during, sync| *during == During::Begin && content(sync, "lineage.json.tmp")),
    ("a lineage's name, and the parts made with it", |during, sync| {
        *during == During::Begin && folder(sync, ROOT, &["lineage.json"])
    }),
    ("the folder of earlier lineages", |during, sync| *during == During::Begin && folder(sync, ROOT, &["lineages"])),
    ("the folder of an earlier lineage", |during, sync| {
        *during == During::Begin && folder(sync, &in_root("lineages"), &[])
    }),
    ("epochs are aside before last_records and states", |during, sync| {
        *during == During::Begin && aside(sync, "offsets") && !aside(sync, "state")
    }),
    ("marks and states are aside before the name", |during, sync| *during == During::Begin && aside(sync, "state")),
    ("the folder of all, in /", |during, sync| matches!(during, During::Open(_)) && folder(sync, "/", &["data"])),
    ("the folder of checkpoints", |during, sync| {
        matches!(during, During::Open(_)) && folder(sync, "/data", &["checkpoints"])
    }),
    ("the folder of the group", |during, sync| {
        matches!(during, During::Open(_)) && folder(sync, "/data/checkpoints", &["group"])
    }),
    ("parts made at opening", |during, sync| {
        let parts = folder(sync, ROOT, &["offsets", "commits", "state"]);
        matches!(during, During::Open(_)) && parts && !folder(sync, ROOT, &["lineage.json"])
    }),
    ("a lineage's name, of a killed process", |during, sync| {
        matches!(during, During::Open(_)) && folder(sync, ROOT, &["lineage.json"])
    }),
    ("an epoch's name, of a killed process", |during, sync| {
        matches!(during, During::Open(_)) && folder(sync, &in_root("offsets"), &[])
    }),
];

#[test]
fn a_sync_that_is_missing_is_noticed() {
    let check = |name: &str, site: Site| {
        for seed in 0..SEEDS_MAX {
            if let Some((operation, way, violation)) = search(seed, Some(site)) {
                println!("without the sync for {name}: seed {seed}, operation {operation:?}, way {way}: {violation}");
                return;
            }
        }
        panic!("nobody misses the sync for {name}");
    };
    for (name, site) in SITES {
        check(name, site);
    }
    check("a folder that a killed process made", above_what_was_there);
}

#[test]
fn every_sync_is_known_to_the_test_above() {
    let (told, syncs) = channel();
    for seed in 0..SEEDS {
        let told = told.clone();
        run(seed, None, 1, None, move |during, sync| told.send((during.clone(), sync.clone())).unwrap()).unwrap();
    }
    drop(told);
    let mut seen = 0;
    for (during, sync) in syncs {
        seen += 1;
        let pointless = matches!(&sync, Sync::Folder(_, names) if names.is_empty());
        let known = SITES.iter().any(|(_, site)| site(&during, &sync)) || above_what_was_there(&during, &sync);
        assert!(known || pointless || during == During::Finish, "{during:?} {sync:?} is in no test");
    }
    assert!(seen > 50 * SEEDS, "only {seen} syncs");
}
