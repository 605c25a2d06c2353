//! The invariants of the archive: for every reader at every time, at every commit of the group's offsets, and after
//! quiet.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::RowAccessor;
use parquet::schema::types::Type;
use tripline::archive::names::Plan;
use tripline::archive::open_batch::name_of;
use tripline::archive::output::{self, Entry, Found};
use tripline::change::full_row::FullRowChange;
use tripline::checkpoint::disk::Disk;
use tripline::checkpoint::format;
use tripline::fakes::disk::MemoryDisk;
use tripline::model::NextOffset;
use tripline::progress::{Epoch, EpochRef, Offsets};

use super::workload::Expected;
use super::{CHECKPOINT, OUTPUT, World};
use crate::broker::State;

type Place = (i32, i64);

/// A file that a reader has seen: its name stands for the same rows for ever.
struct File {
    path: PathBuf,
    crc: u32,
    rows: Vec<Place>,
    /// No loss of power can take it.
    is_durable: bool,
    /// Power took it, and the checkpoint folder that goes on may not be the one that says what is in it.
    is_forgotten: bool,
}

/// The files of the output that were seen so far.
#[derive(Default)]
pub(super) struct Seen {
    /// The output has an owner for good: no loss of power takes it.
    pub(super) is_owned: bool,
    files: Vec<File>,
    /// Their places in `files`.
    by_name: BTreeMap<String, usize>,
    /// By partition, all before this has been found to be durable.
    proved: BTreeMap<i32, i64>,
    /// Epochs that were found to be durable, as the group's metadata names them.
    epochs: BTreeMap<String, Offsets>,
    /// Operations of the disk when it was looked at.
    operations: u64,
    /// The rows that were visible then, with the places of their files.
    rows: BTreeMap<Place, usize>,
}

impl Seen {
    /// Rows and files that are visible.
    pub(super) fn totals(&self) -> (usize, usize) {
        (self.rows.len(), self.rows.values().collect::<BTreeSet<_>>().len())
    }

    fn is_durable(&self, place: &Place) -> bool {
        self.rows.get(place).is_some_and(|file| self.files[*file].is_durable)
    }

    /// Looks at a file. Nothing is wrong where it is whole, with the rows that it ever had.
    fn file(&mut self, disk: &MemoryDisk, file: &Found, name: String) -> Result<usize, String> {
        let path = Path::new(OUTPUT).join(&name);
        let bytes = disk.read(&path).map_err(|error| error.to_string())?;
        let crc = crc32fast::hash(&bytes);
        let is_durable = disk.durable(&path).is_some();
        let known = self.by_name.get(&name).copied();
        if let Some(known) = known.map(|known| &mut self.files[known])
            && known.crc == crc
        {
            known.is_durable |= is_durable;
        } else {
            let rows = rows(bytes, file).map_err(|problem| format!("{name} is not whole: {problem}"))?;
            match known {
                Some(known) if self.files[known].rows != rows && !self.files[known].is_forgotten => {
                    return Err(format!("{name} had {:?}, has {rows:?}", self.files[known].rows));
                }
                Some(known) => {
                    let is_durable = is_durable || self.files[known].is_durable;
                    self.files[known] = File { path, crc, rows, is_durable, is_forgotten: false };
                }
                None => {
                    self.by_name.insert(name.clone(), self.files.len());
                    self.files.push(File { path, crc, rows, is_durable, is_forgotten: false });
                }
            }
        }
        Ok(self.by_name[&name])
    }

    /// Notes that the rows of a file are visible.
    fn show(&mut self, world: &World, file: &Found, number: usize) -> Result<(), String> {
        let date = file.date.to_string();
        for place in &self.files[number].rows {
            let name = |number: usize| self.files[number].path.display();
            match world.expected.borrow().get(place) {
                Some(Expected::Row(dates)) if dates.contains(&date) => {}
                other => return Err(format!("{place:?} is in {}: {other:?}", name(number))),
            }
            if let Some(other) = self.rows.insert(*place, number).filter(|other| *other != number) {
                return Err(format!("{place:?} is in {} and in {}", name(other), name(number)));
            }
        }
        Ok(())
    }
}

fn name(file: &Found) -> String {
    format!("{}/{}", file.date.folder(), file.name)
}

/// The places of a file's rows, if it is whole: what a loss of power leaves of one has no footer.
fn rows(bytes: Vec<u8>, file: &Found) -> Result<Vec<Place>, String> {
    let problem = |error: parquet::errors::ParquetError| error.to_string();
    let reader = SerializedFileReader::new(bytes::Bytes::from(bytes)).map_err(problem)?;
    let schema = reader.metadata().file_metadata().schema();
    let offset = schema.get_fields().iter().filter(|field| field.name() == "offset").cloned().collect();
    let offset = Type::group_type_builder(schema.name()).with_fields(offset).build().map_err(problem)?;
    let range = file.name.range.from.0..file.name.range.to.0;
    let mut places = Vec::new();
    for row in reader.get_row_iter(Some(offset)).map_err(problem)? {
        let offset = row.and_then(|row| row.get_long(0)).map_err(problem)?;
        if !range.contains(&offset) {
            return Err(format!("it has {offset}"));
        }
        places.push((file.name.partition, offset));
    }
    Ok(places)
}

/// Checks what a reader finds that lists the output now: complete files, no row twice, and each in the folder of its
/// date.
pub(super) fn readers(world: &World, when: &str) {
    let disk = &world.output;
    let mut seen = world.seen.borrow_mut();
    // A disk that fails is looked at when its process has ended.
    if !disk.exists(Path::new(OUTPUT)).unwrap_or(false)
        || disk.operations() == seen.operations
        || !world.violations.borrow().is_empty()
    {
        return;
    }
    seen.operations = disk.operations();
    seen.is_owned |= disk.durable(&Path::new(OUTPUT).join("_tripline/owner.json")).is_some();
    let (mut files, mut strange) = (Vec::new(), Vec::new());
    let listed = output::each(disk, Path::new(OUTPUT), |entry| match entry {
        Entry::File(file) => files.push(file),
        Entry::Stranger(path) => strange.push(path),
    });
    if let (Err(_), _) | (_, Some(_)) = (listed, strange.first()) {
        return world.violation(format!("{when}: the output has {strange:?}"));
    }
    seen.rows.clear();
    for file in files {
        let looked = seen.file(disk, &file, name(&file)).and_then(|number| seen.show(world, &file, number));
        if let Err(problem) = looked {
            return world.violation(format!("{when}: {problem}"));
        }
    }
}

/// Power took files that were visible and not durable, and the folder that planned them is gone. Their rows come back
/// by the settings of another time, which may give them other dates.
pub(super) fn forget_what_is_gone(world: &World) {
    let is_gone = |file: &File| !file.is_durable && world.output.read(&file.path).is_err();
    world.seen.borrow_mut().files.iter_mut().filter(|file| is_gone(file)).for_each(|file| file.is_forgotten = true);
}

/// Checks that durable files survive a loss of power.
pub(super) fn kept(world: &World) {
    world.seen.borrow_mut().operations = 0;
    readers(world, "after a loss of power");
    let seen = world.seen.borrow();
    for file in seen.files.iter().filter(|file| file.is_durable) {
        if world.output.read(&file.path).map(|bytes| crc32fast::hash(&bytes)).ok() != Some(file.crc) {
            return world.violation(format!("{} was durable, and is another or gone", file.path.display()));
        }
    }
}

/// The group's offsets are about to be committed: all before them is durable.
pub(super) fn committed(
    world: &World,
    state: &State<FullRowChange>,
    machine: usize,
    offsets: &Offsets,
    metadata: &str,
) {
    if !world.violations.borrow().is_empty() {
        return;
    }
    let Some(named) = EpochRef::parse(metadata) else {
        return world.violation(format!("the group is committed as {metadata:?}"));
    };
    if !world.seen.borrow().epochs.contains_key(metadata) {
        let here = &world.machines[machine];
        let logged = Path::new(CHECKPOINT).join("offsets").join(named.epoch.to_string());
        let before = here.before.borrow();
        let found = std::iter::once(&*here.disk.borrow()).chain(&*before).find_map(|disk| {
            let epoch: (Epoch<Plan>, u32) = format::decode(&disk.durable(&logged)?, named.epoch, &logged).ok()?;
            (epoch.1 == named.crc && epoch.0.lineage == named.lineage).then_some(epoch.0)
        });
        let Some(epoch) = found else {
            return world.violation(format!("{metadata} is committed, and not durable on machine {machine}"));
        };
        let mut seen = world.seen.borrow_mut();
        for planned in &epoch.body.files {
            let file = name_of(&epoch.lineage, &epoch.body, &epoch.offsets, planned);
            let file = Found { name: file.unwrap(), date: planned.date };
            let looked =
                seen.file(&world.output, &file, name(&file)).and_then(|number| seen.show(world, &file, number));
            if let Err(problem) = looked {
                return world.violation(format!("{metadata} is committed: {problem}"));
            }
        }
        seen.epochs.insert(metadata.to_owned(), epoch.offsets);
    }
    if world.seen.borrow().epochs[metadata] != *offsets {
        return world.violation(format!("{metadata} is committed as {offsets:?}, which are not its offsets"));
    }
    for (partition, next) in offsets {
        if state.partitions.get(partition).is_none_or(|log| next.0 > log.high) {
            return world.violation(format!("{metadata}: partition {partition} is committed past its end"));
        }
    }
    if missing(world, state, offsets).is_some() {
        // Epochs before this one were not committed by themselves.
        world.seen.borrow_mut().operations = 0;
        readers(world, "at a commit");
    }
    if let Some(missing) = missing(world, state, offsets) {
        return world.violation(format!("{metadata} is committed past {missing}"));
    }
    let mut seen = world.seen.borrow_mut();
    for (partition, next) in offsets {
        let proved = seen.proved.entry(*partition).or_default();
        *proved = next.0.max(*proved);
    }
}

/// A record before these offsets that is in no durable file, or not among the dead letters.
fn missing(world: &World, state: &State<FullRowChange>, offsets: &Offsets) -> Option<String> {
    let seen = world.seen.borrow();
    let is_dead =
        |place: &Place| state.dead.iter().any(|letter| (letter.position.partition, letter.position.offset) == *place);
    for (partition, next) in offsets {
        let from = seen.proved.get(partition).copied().unwrap_or(0);
        for (place, expected) in world.expected.borrow().range((*partition, from)..(*partition, next.0.max(from))) {
            match expected {
                Expected::Row(_) if !seen.is_durable(place) => {
                    return Some(format!("{place:?}, which is in no durable file"));
                }
                Expected::Dead if !is_dead(place) => return Some(format!("{place:?}, which is no dead letter")),
                _ => {}
            }
        }
    }
    None
}

/// Every change is in a file, every invalid record among the dead letters.
pub(super) fn complete(world: &World, when: &str) {
    world.seen.borrow_mut().operations = 0;
    readers(world, when);
    if !world.violations.borrow().is_empty() {
        return;
    }
    let ends =
        world.broker.state().partitions.iter().map(|(partition, log)| (*partition, NextOffset(log.high))).collect();
    world.seen.borrow_mut().proved.clear();
    if let Some(missing) = missing(world, &world.broker.state(), &ends) {
        world.violation(format!("{when}: not archived is {missing}"));
    }
}

/// The group is where the topic ends.
pub(super) fn group(world: &World) {
    if !world.violations.borrow().is_empty() {
        return;
    }
    let state = world.broker.state();
    let mut ends = BTreeMap::new();
    for (partition, offset) in world.expected.borrow().keys() {
        ends.insert(*partition, offset + 1);
    }
    for (partition, end) in ends {
        let next = state.committed.get(&partition).map(|(next, _)| next.0);
        if next != Some(end) {
            world.violation(format!("partition {partition} of the group is at {next:?}, its last record before {end}"));
        }
    }
}
