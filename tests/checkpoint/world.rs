//! A folder on a disk that can lose power, and beside it what is known of it: what was promised, what may be there,
//! and what may not.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use tripline::checkpoint::disk::Disk;
use tripline::checkpoint::{Encoded, FORMAT, Folder, Lineage, StateHead};
use tripline::fakes::disk::{MemoryDisk, Sync};
use tripline::model::{NextOffset, Timestamp};
use tripline::progress::{Committed, Epoch, LastRecords, Offsets};

pub(crate) const ROOT: &str = "/data/checkpoints/group";

/// SplitMix64.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }
}

/// Which call is under way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum During {
    /// Opening a folder. The path is the deepest existing folder on the way.
    Open(PathBuf),
    Begin,
    Log,
    Finish,
    Store,
}

pub(crate) type Site = fn(&During, &Sync) -> bool;

/// Something that the folder does not promise has happened.
pub(crate) type Violation = String;

macro_rules! ensure {
    ($holds:expr, $($text:tt)+) => { if !$holds { return Err(format!($($text)+)); } };
}

type Files = BTreeMap<u64, Vec<u8>>;

/// The known facts about the lineage in the folder.
#[derive(Clone, Debug, Default)]
struct Known {
    lineage: Option<Lineage>,
    /// Files that were logged without an error, or seen at an opening, because from then on they are relied on.
    logged: Files,
    /// Marked as finished, as far as is known.
    marked: BTreeSet<u64>,
    /// The mark has outlived a loss of power.
    marked_for_good: BTreeSet<u64>,
    /// The bodies of all states that were ever stored or tried.
    states: Files,
    /// The newest state that was stored without an error.
    stored: Option<u64>,
    /// The lineage is aside in part: nothing else than to begin anew may follow.
    must_begin: bool,
}

impl Known {
    /// Whether the rule lets this epoch be removed: it is marked, older than the state before the newest, and older
    /// than 100.
    fn may_be_removed(&self, number: u64) -> bool {
        let mut states = self.states.keys().rev();
        let bound = states.next().map_or(0, |newest| newest.saturating_sub(100)).min(*states.next().unwrap_or(&0));
        self.marked.contains(&number) && number < bound
    }
}

/// The operation at which the process died.
#[derive(Clone, Debug)]
enum Tried {
    Begin(Lineage),
    Log(Encoded),
    Other,
}

pub(crate) struct World {
    pub(crate) disk: MemoryDisk,
    during: Arc<Mutex<During>>,
    random: Random,
    known: Known,
    tried: Tried,
    /// Epochs of earlier lineages, by the lineage.
    aside: Vec<(String, Files)>,
    begun: u64,
    /// Whether there is only one lineage, whose epochs grow old. Otherwise a new one begins now and then.
    steady: bool,
}

impl World {
    /// Leaves out the syncs of this site. What is asked of each sync is told to `seen`.
    pub(crate) fn new(seed: u64, ignored: Option<Site>, seen: impl Fn(&During, &Sync) + Send + 'static) -> Self {
        let disk = MemoryDisk::default();
        let during = Arc::new(Mutex::new(During::Open(PathBuf::from("/"))));
        let (now, seen) = (Arc::clone(&during), Mutex::new(seen));
        disk.ignore_syncs(move |sync| {
            let during = now.lock().unwrap();
            seen.lock().unwrap()(&during, sync);
            ignored.is_some_and(|site| site(&during, sync))
        });
        let (random, known, steady) = (Random(seed), Known::default(), seed % 2 == 1);
        Self { disk, during, random, known, tried: Tried::Other, aside: vec![], begun: 0, steady }
    }

    /// From here on, other things happen.
    pub(crate) fn reseed(&mut self, seed: u64) {
        self.random = Random(seed);
    }

    /// The number of some operation that comes soon.
    pub(crate) fn any_operation(&mut self) -> u64 {
        self.random.below(80)
    }

    pub(crate) fn open(&mut self) -> Result<Folder, Violation> {
        let mut deepest = Path::new(ROOT);
        while deepest.parent().is_some() && !self.disk.exists(deepest).unwrap_or(true) {
            deepest = deepest.parent().unwrap();
        }
        *self.during.lock().unwrap() = During::Open(deepest.to_owned());
        let disk = Arc::new(self.disk.clone());
        Folder::open_on(disk, Path::new("/data/checkpoints"), "group").map_err(|e| format!("open failed: {e}"))
    }

    /// Runs until it dies before this operation, or so many actions are done. On the way it is killed, loses power, or
    /// loses a part of its folder, now and then.
    pub(crate) fn live(&mut self, actions: u64, dies_at: Option<u64>) -> Result<(), Violation> {
        let started = self.disk.operations();
        dies_at.into_iter().for_each(|operation| self.disk.die_at(operation));
        let Ok(mut folder) = self.open() else { return Ok(()) };
        for _ in 0..actions {
            if self.random.below(10) == 0 {
                drop(folder);
                match self.random.below(3) {
                    0 => {
                        self.end(true)?;
                        let left =
                            dies_at.and_then(|operation| (started + operation).checked_sub(self.disk.operations()));
                        left.into_iter().for_each(|operation| self.disk.die_at(operation));
                    }
                    1 if self.lose_states().is_err() => return Ok(()),
                    _ => {}
                }
                let Ok(opened) = self.open() else { return Ok(()) };
                folder = opened;
            }
            if !self.act(&folder) {
                return Ok(());
            }
        }
        Ok(())
    }

    fn act(&mut self, folder: &Folder) -> bool {
        let newest = self.known.logged.last_key_value().map(|(number, _)| *number);
        let unfinished = self.known.logged.keys().find(|number| !self.known.marked.contains(number)).copied();
        let roll = self.random.below(20);
        match (newest, unfinished) {
            _ if self.known.lineage.is_none() || self.known.must_begin => self.begin(folder),
            _ if roll < 2 && !self.steady => self.begin(folder),
            (_, Some(number)) if roll < 15 => self.finish(folder, number),
            (Some(newest), None) if roll < 10 => self.store(folder, newest),
            _ => self.log(folder),
        }
    }

    /// A new lineage, or the same one again, as when it went on elsewhere.
    fn begin(&mut self, folder: &Folder) -> bool {
        self.begun += 1;
        let same = self.known.lineage.as_ref().filter(|_| self.random.below(3) == 0).map(|lineage| lineage.id.clone());
        let lineage = Lineage {
            format: FORMAT,
            id: same.unwrap_or_else(|| format!("lineage-{}", self.begun)),
            group: "group".to_owned(),
            topic: "topic".to_owned(),
            cluster: None,
            origin: Some(Committed { offsets: Offsets::new(), metadata: self.begun.to_string() }),
        };
        *self.during.lock().unwrap() = During::Begin;
        self.tried = Tried::Begin(lineage.clone());
        let begun = folder.begin(&lineage).is_ok();
        if begun {
            self.tried = Tried::Other;
            self.begun(Some(lineage));
        }
        begun
    }

    /// The lineage is another now: what was there has to be aside.
    fn begun(&mut self, lineage: Option<Lineage>) {
        let old = std::mem::replace(&mut self.known, Known { lineage, ..Known::default() });
        if let Some(lineage) = &old.lineage {
            let kept = old.logged.iter().filter(|(number, _)| !old.may_be_removed(**number));
            self.aside.push((lineage.id.clone(), kept.map(|(number, bytes)| (*number, bytes.clone())).collect()));
        }
    }

    fn log(&mut self, folder: &Folder) -> bool {
        // Far apart, so that epochs grow old.
        let step = if self.steady || self.random.below(8) == 0 { 70 } else { 1 };
        let newest = self.known.logged.last_key_value().map(|(number, _)| *number);
        let number = newest.map_or(self.begun, |newest| newest + step);
        let size = if self.random.below(8) == 0 { 9_000 } else { 10 };
        let encoded = Epoch {
            number,
            lineage: self.known.lineage.as_ref().unwrap().id.clone(),
            topics: "topic".into(),
            offsets: Offsets::from([(0, NextOffset(66))]),
            kept: Offsets::new(),
            last_records: LastRecords::new(),
            at: Timestamp(1_795_341_600_000_000),
            conf: BTreeMap::new(),
            body: format!("{} {}", self.random.below(u64::MAX), "x".repeat(size)),
        };
        let encoded = Encoded::of(&encoded).unwrap();
        *self.during.lock().unwrap() = During::Log;
        self.tried = Tried::Log(encoded.clone());
        let logged = folder.log(&encoded).is_ok();
        if logged {
            self.known.logged.insert(number, encoded.bytes);
            self.tried = Tried::Other;
        }
        logged
    }

    fn finish(&mut self, folder: &Folder, number: u64) -> bool {
        *self.during.lock().unwrap() = During::Finish;
        self.known.marked.insert(number);
        folder.finish(number).is_ok()
    }

    fn store(&mut self, folder: &Folder, epoch: u64) -> bool {
        let size = if self.random.below(4) == 0 { 9_000 } else { 10 };
        let body = format!("{} {}", self.random.below(u64::MAX), "y".repeat(size)).into_bytes();
        if self.known.states.contains_key(&epoch) {
            return true;
        }
        let lineage = self.known.lineage.as_ref().unwrap().id.clone();
        let head = StateHead {
            format: FORMAT,
            lineage,
            epoch,
            offsets: Offsets::new(),
            rules: vec![],
            contract: None,
            contracts: BTreeMap::new(),
        };
        self.known.states.insert(epoch, body.clone());
        *self.during.lock().unwrap() = During::Store;
        let stored = folder.store_state(&head, |out| out.write_all(&body)).is_ok();
        if stored {
            self.known.stored = Some(epoch);
        }
        stored
    }

    /// A hand removes state/, for good, while nobody has the folder open.
    fn lose_states(&mut self) -> std::io::Result<()> {
        let state = Path::new(ROOT).join("state");
        for name in self.disk.list(&state)? {
            self.disk.remove(&state.join(name))?;
            self.known.stored = None;
        }
        *self.during.lock().unwrap() = During::Finish; // no site's
        self.disk.remove_dir(&state)?;
        self.disk.sync_dir(Path::new(ROOT))
    }

    /// Kills the process. With `power`, power is lost as well. Then another process checks the folder.
    pub(crate) fn end(&mut self, power: bool) -> Result<(), Violation> {
        self.disk.kill();
        if power {
            self.disk.crash(self.random.below(u64::MAX));
        }
        let folder = self.open()?;
        self.check(&folder, power)
    }

    fn check(&mut self, folder: &Folder, power: bool) -> Result<(), Violation> {
        let said = |e: &dyn std::fmt::Display| format!("not readable: {e}");
        let lineage = folder.lineage().map_err(|e| said(&e))?;
        let files = self.files(Path::new(ROOT).join("offsets"));
        let epochs = folder.epochs_after::<String>(None).map_err(|e| said(&e))?;
        ensure!(epochs.iter().map(|epoch| epoch.number).eq(files.keys().copied()), "{:?} are there", files.keys());
        let state = folder.newest_state().map_err(|e| said(&e))?;
        let finished = |number: &u64| folder.is_finished(*number).unwrap();
        let last_records = self.names(&Path::new(ROOT).join("commits")).len();
        self.check_aside()?;
        self.check_temporary()?;

        let tried = std::mem::replace(&mut self.tried, Tried::Other);
        if let Tried::Begin(new) = &tried {
            let nothing = files.is_empty() && state.is_none() && last_records == 0;
            if lineage.as_ref() == Some(new) || (lineage.is_none() && self.known.lineage.is_some()) {
                ensure!(nothing, "the new lineage has something of the old one's");
                self.begun(lineage);
                return self.check_aside();
            }
            ensure!(lineage == self.known.lineage, "another lineage is there: {lineage:?}");
            if files.is_empty() && !self.known.logged.is_empty() {
                let must_begin = Known { must_begin: true, ..Known::default() };
                self.begun(lineage.clone());
                self.known = Known { lineage, ..must_begin };
                return self.check_aside();
            }
        }
        ensure!(lineage == self.known.lineage, "the lineage is {lineage:?}");
        if self.known.must_begin {
            ensure!(files.is_empty(), "epochs that were moved aside are back");
            return Ok(());
        }
        if let Tried::Log(tried) = tried
            && files.get(&tried.number) == Some(&tried.bytes)
        {
            self.known.logged.insert(tried.number, tried.bytes);
        }
        let known = &mut self.known;
        for (number, bytes) in &files {
            ensure!(known.logged.get(number) == Some(bytes), "epoch {number} is there with other bytes");
            ensure!(!finished(number) || known.marked.contains(number), "epoch {number} is marked and was not");
        }
        for number in known.logged.keys() {
            ensure!(files.contains_key(number) || known.may_be_removed(*number), "epoch {number} is gone");
        }
        known.logged.retain(|number, _| files.contains_key(number));
        for number in &known.marked_for_good {
            let back = files.contains_key(number) && !finished(number);
            ensure!(!back, "epoch {number} is there again without its mark");
        }
        let newest = state.as_ref().map(|(head, _)| head.epoch);
        ensure!(newest >= known.stored, "state {:?} is gone; {newest:?} is there", known.stored);
        if let Some((head, body)) = state {
            ensure!(known.states.get(&head.epoch) == Some(&body), "state {} is not what was stored", head.epoch);
        }
        known.marked.retain(|number| finished(number));
        if power {
            known.marked_for_good.clone_from(&known.marked);
        }
        Ok(())
    }

    /// Checks that the files of earlier lineages are in their folders, except those that the rule removes.
    fn check_aside(&self) -> Result<(), Violation> {
        let lineages = Path::new(ROOT).join("lineages");
        let names = self.names(&lineages);
        for (lineage, files) in &self.aside {
            let of_it = names.iter().filter(|name| name.split('.').next() == Some(lineage));
            let there: BTreeSet<Vec<u8>> =
                of_it.flat_map(|name| self.files(lineages.join(name).join("offsets")).into_values()).collect();
            for (number, bytes) in files {
                ensure!(there.contains(bytes), "epoch {number} of {lineage} is not where it was moved to");
            }
        }
        Ok(())
    }

    fn check_temporary(&self) -> Result<(), Violation> {
        for part in ["", "offsets", "commits", "state"] {
            let names = self.names(&Path::new(ROOT).join(part));
            ensure!(!names.iter().any(|name| name.ends_with(".tmp")), "{part:?} has {names:?}");
        }
        Ok(())
    }

    fn names(&self, folder: &Path) -> Vec<String> {
        self.disk.list(folder).unwrap_or_default()
    }

    fn files(&self, folder: PathBuf) -> Files {
        let file = |name: String| Some((name.parse().ok()?, self.disk.read(&folder.join(&name)).unwrap()));
        self.names(&folder).into_iter().filter_map(file).collect()
    }
}
