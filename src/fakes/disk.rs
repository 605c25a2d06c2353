//! A file system in memory that can lose power.
//!
//! It distinguishes visible and durable state. After [`MemoryDisk::crash`] it guarantees no more than ext4, xfs and
//! fsync(2) promise:
//!
//! - A file's content is durable up to its last sync. Later writes may be there completely, in part (any prefix), with
//!   zeros in place of their bytes or after a prefix, or not at all.
//! - A name (created, linked, renamed, removed, of a file or a folder) is durable after a folder that the operation
//!   changed has been synced. Syncing a file or folder does not make its own name durable.
//! - Of the operations on names that were not synced, any may have happened, in any combination and order. Only two
//!   operations on the same name in the same folder keep their order.
//! - A rename is one operation, also between two folders: either the old name exists, or the new one.
//!
//! A killed process loses nothing but its locks.

mod durable;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io::{self, ErrorKind, Write};
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::checkpoint::disk::{Disk, Lock, NewFile};

/// The object of a sync.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sync {
    /// The content of a file.
    Content(PathBuf),
    /// A folder, with the names in it that are not durable yet.
    Folder(PathBuf, BTreeSet<String>),
}

/// Decides whether a sync is ignored.
type Ignores = Arc<dyn Fn(&Sync) -> bool + Send + std::marker::Sync>;

/// A handle to the file system. Its clones are the same disk. Paths are absolute.
#[derive(Clone)]
pub struct MemoryDisk(Arc<Mutex<State>>);

#[derive(Clone)]
struct State {
    /// Files and folders by id. The first is `/`. None is ever removed.
    nodes: Vec<Node>,
    /// Operations on names that are visible and not durable, in order.
    pending: Vec<Renaming>,
    /// The number of operations so far.
    operations: u64,
    dies_at: Option<u64>,
    fails_at: Option<(u64, ErrorKind)>,
    dead: bool,
    free: Option<usize>,
    ignores: Option<Ignores>,
    locked: BTreeSet<PathBuf>,
    /// Increased when all locks are released, so that the locks of a dead process release nothing later.
    life: u64,
}

#[derive(Clone)]
enum Node {
    File { visible: Vec<u8>, durable: Vec<u8> },
    Folder { visible: Names, durable: Names },
}

type Names = BTreeMap<String, usize>;

/// The effect of an operation on names: folder, name, and the new target of the name.
type Renaming = Vec<(usize, String, Option<usize>)>;

impl Default for MemoryDisk {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(State {
            nodes: vec![Node::Folder { visible: Names::new(), durable: Names::new() }],
            pending: Vec::new(),
            operations: 0,
            dies_at: None,
            fails_at: None,
            dead: false,
            free: None,
            ignores: None,
            locked: BTreeSet::new(),
            life: 0,
        })))
    }
}

impl fmt::Debug for MemoryDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MemoryDisk")
    }
}

impl MemoryDisk {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns another disk with the same content.
    #[must_use]
    pub fn copy(&self) -> Self {
        Self(Arc::new(Mutex::new(self.state().clone())))
    }

    /// Power is lost and comes back. The seed decides which unsynced changes remain.
    pub fn crash(&self, seed: u64) {
        self.kill();
        self.state().lose_power(&mut Random(seed));
    }

    /// The process dies, and another can start. Everything remains visible, and unsynced changes remain not durable.
    /// Planned deaths and failures are cancelled.
    pub fn kill(&self) {
        let mut state = self.state();
        state.locked.clear();
        state.life += 1;
        state.dead = false;
        state.dies_at = None;
        state.fails_at = None;
    }

    /// The number of operations so far: changes of the disk, and syncs.
    pub fn operations(&self) -> u64 {
        self.state().operations
    }

    /// Plans the process's death before the operation with this number, from 0 for the next one. That one and all later
    /// ones fail.
    pub fn die_at(&self, operation: u64) {
        let mut state = self.state();
        state.dies_at = Some(state.operations + operation);
    }

    /// Cancels planned deaths and failures. Returns whether the process is alive.
    pub fn spare(&self) -> bool {
        let mut state = self.state();
        (state.dies_at, state.fails_at) = (None, None);
        !state.dead
    }

    /// Makes the operation with this number, from 0 for the next one, fail. Later ones succeed.
    pub fn fail_at(&self, operation: u64, kind: ErrorKind) {
        let mut state = self.state();
        state.fails_at = Some((state.operations + operation, kind));
    }

    /// Sets how many bytes can still be written before the disk is full. `None`: no limit. Removals free nothing.
    pub fn set_free(&self, bytes: Option<usize>) {
        self.state().free = bytes;
    }

    /// Makes the syncs that `which` accepts report success without effect, from now on.
    pub fn ignore_syncs(&self, which: impl Fn(&Sync) -> bool + Send + std::marker::Sync + 'static) {
        self.state().ignores = Some(Arc::new(which));
    }

    /// Changes a file durably and without counting, as a person or a failing disk would.
    ///
    /// # Errors
    /// The file does not exist.
    pub fn overwrite(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.state();
        let id = state.find(path)?;
        match state.nodes.get_mut(id) {
            Some(Node::File { visible, durable }) => {
                bytes.clone_into(visible);
                bytes.clone_into(durable);
                Ok(())
            }
            _ => Err(ErrorKind::IsADirectory.into()),
        }
    }
}

impl State {
    /// Counts a change before it is made.
    fn operation(&mut self) -> io::Result<()> {
        self.alive()?;
        let number = self.operations;
        if self.dies_at == Some(number) {
            self.dead = true;
            return self.alive();
        }
        self.operations += 1;
        match self.fails_at {
            Some((at, kind)) if at == number => Err(kind.into()),
            _ => Ok(()),
        }
    }

    fn alive(&self) -> io::Result<()> {
        if self.dead { Err(io::Error::other("the process is dead")) } else { Ok(()) }
    }

    fn names(&self, folder: usize) -> io::Result<&Names> {
        match self.nodes.get(folder) {
            Some(Node::Folder { visible, .. }) => Ok(visible),
            _ => Err(ErrorKind::NotADirectory.into()),
        }
    }

    fn find(&self, path: &Path) -> io::Result<usize> {
        let mut at = 0;
        for part in path.components() {
            if let Component::Normal(name) = part {
                let name = name.to_str().ok_or(ErrorKind::InvalidFilename)?;
                at = *self.names(at)?.get(name).ok_or(ErrorKind::NotFound)?;
            }
        }
        Ok(at)
    }

    /// The folder of the path, and the name in it.
    fn place(&self, path: &Path) -> io::Result<(usize, String)> {
        let name = path.file_name().and_then(|name| name.to_str()).ok_or(ErrorKind::InvalidFilename)?;
        Ok((self.find(path.parent().ok_or(ErrorKind::InvalidFilename)?)?, name.to_owned()))
    }

    /// Creates a file or folder with a new name.
    fn add(&mut self, path: &Path, node: Node) -> io::Result<usize> {
        let (folder, name) = self.place(path)?;
        if self.names(folder)?.contains_key(&name) {
            return Err(ErrorKind::AlreadyExists.into());
        }
        let id = self.nodes.len();
        self.nodes.push(node);
        self.change(vec![(folder, name, Some(id))]);
        Ok(id)
    }

    /// Changes names, visibly.
    fn change(&mut self, renaming: Renaming) {
        for (folder, name, id) in &renaming {
            if let Some(Node::Folder { visible, .. }) = self.nodes.get_mut(*folder) {
                set(visible, name, *id);
            }
        }
        self.pending.push(renaming);
    }

    /// Makes pending operations durable: the chosen ones (by their index), and earlier ones on the same names. The
    /// others remain pending.
    fn settle(&mut self, mut chosen: impl FnMut(usize, &Renaming) -> bool) {
        let mut touched = BTreeSet::new();
        let mut settled = vec![false; self.pending.len()];
        for (index, (renaming, settled)) in self.pending.iter().zip(&mut settled).enumerate().rev() {
            let follows = renaming.iter().any(|(folder, name, _)| touched.contains(&(*folder, name.clone())));
            *settled = chosen(index, renaming) || follows;
            if *settled {
                touched.extend(renaming.iter().map(|(folder, name, _)| (*folder, name.clone())));
            }
        }
        let pending = std::mem::take(&mut self.pending);
        for (renaming, settled) in pending.into_iter().zip(settled) {
            if !settled {
                self.pending.push(renaming);
                continue;
            }
            for (folder, name, id) in renaming {
                if let Some(Node::Folder { durable, .. }) = self.nodes.get_mut(folder) {
                    set(durable, &name, id);
                }
            }
        }
    }

    fn lose_power(&mut self, random: &mut Random) {
        // Nothing, everything, what came first, or any part of it.
        let (way, first) = (random.below(4), random.below(self.pending.len() + 1));
        self.settle(|index, _| match way {
            0 => false,
            1 => true,
            2 => index < first,
            _ => random.below(2) == 0,
        });
        self.pending.clear();
        for node in &mut self.nodes {
            match node {
                Node::Folder { visible, durable } => visible.clone_from(durable),
                Node::File { visible, durable } if visible != durable => {
                    let (length, cut) = (visible.len(), random.below(visible.len() + 1));
                    match random.below(5) {
                        0 => visible.clone_from(durable),
                        1 => visible.truncate(cut),
                        2 => visible.fill(0),
                        3 => {
                            visible.truncate(cut);
                            visible.resize(length, 0);
                        }
                        _ => {}
                    }
                    durable.clone_from(visible);
                }
                Node::File { .. } => {}
            }
        }
    }

    fn ignores(&self, sync: &Sync) -> bool {
        self.ignores.as_ref().is_some_and(|which| which(sync))
    }
}

fn set(names: &mut Names, name: &str, id: Option<usize>) {
    match id {
        Some(id) => names.insert(name.to_owned(), id),
        None => names.remove(name),
    };
}

impl Disk for MemoryDisk {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let state = self.state();
        state.alive()?;
        match state.nodes.get(state.find(path)?) {
            Some(Node::File { visible, .. }) => Ok(visible.clone()),
            _ => Err(ErrorKind::IsADirectory.into()),
        }
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<String>> {
        let state = self.state();
        state.alive()?;
        Ok(state.names(state.find(folder)?)?.keys().cloned().collect())
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        let state = self.state();
        state.alive()?;
        match state.find(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            found => found.map(|_| true),
        }
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.operation()?;
        state.add(path, Node::Folder { visible: Names::new(), durable: Names::new() }).map(drop)
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn NewFile>> {
        let mut state = self.state();
        state.operation()?;
        let id = state.add(path, Node::File { visible: Vec::new(), durable: Vec::new() })?;
        Ok(Box::new(MemoryFile { disk: self.clone(), path: path.to_owned(), id }))
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.operation()?;
        let (id, (folder, name)) = (state.find(from)?, state.place(to)?);
        if state.names(folder)?.contains_key(&name) {
            return Err(ErrorKind::AlreadyExists.into());
        }
        state.change(vec![(folder, name, Some(id))]);
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.operation()?;
        let id = state.find(from)?;
        let ((old_folder, old), (folder, name)) = (state.place(from)?, state.place(to)?);
        match state.names(folder)?.get(&name) {
            Some(replaced) if *replaced == id => return Ok(()), // two names of one file both stay
            Some(replaced) => match (state.names(id).is_ok(), state.names(*replaced)) {
                (true, Err(_)) => return Err(ErrorKind::NotADirectory.into()),
                (false, Ok(_)) => return Err(ErrorKind::IsADirectory.into()),
                (true, Ok(names)) if !names.is_empty() => return Err(ErrorKind::DirectoryNotEmpty.into()),
                _ => {}
            },
            None => {}
        }
        state.change(vec![(old_folder, old, None), (folder, name, Some(id))]);
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.operation()?;
        let id = state.find(path)?;
        if state.names(id).is_ok() {
            return Err(ErrorKind::IsADirectory.into());
        }
        let (folder, name) = state.place(path)?;
        state.change(vec![(folder, name, None)]);
        Ok(())
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.operation()?;
        let id = state.find(path)?;
        if !state.names(id)?.is_empty() {
            return Err(ErrorKind::DirectoryNotEmpty.into());
        }
        let (folder, name) = state.place(path)?;
        state.change(vec![(folder, name, None)]);
        Ok(())
    }

    fn sync_dir(&self, folder: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.operation()?;
        let id = state.find(folder)?;
        state.names(id)?;
        let effects = state.pending.iter().flatten().filter(|(folder, ..)| *folder == id);
        let names = effects.map(|(_, name, _)| name.clone()).collect();
        if !state.ignores(&Sync::Folder(folder.to_owned(), names)) {
            state.settle(|_, renaming| renaming.iter().any(|(folder, ..)| *folder == id));
        }
        Ok(())
    }

    fn lock(&self, path: &Path) -> io::Result<Option<Lock>> {
        let mut state = self.state();
        if state.find(path).is_err() {
            state.operation()?;
            state.add(path, Node::File { visible: Vec::new(), durable: Vec::new() })?;
        }
        let (life, new) = (state.life, state.locked.insert(path.to_owned()));
        Ok(new.then(|| Box::new(MemoryLock { disk: self.clone(), path: path.to_owned(), life }) as Lock))
    }

    fn is_locked(&self, path: &Path) -> io::Result<bool> {
        Ok(self.state().locked.contains(path))
    }
}

struct MemoryFile {
    disk: MemoryDisk,
    path: PathBuf,
    id: usize,
}

impl Write for MemoryFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut state = self.disk.state();
        state.operation()?;
        let fits = state.free.map_or(bytes.len(), |free| free.min(bytes.len()));
        if fits == 0 && !bytes.is_empty() {
            return Err(ErrorKind::StorageFull.into());
        }
        state.free = state.free.map(|free| free - fits);
        if let Some(Node::File { visible, .. }) = state.nodes.get_mut(self.id) {
            visible.extend(bytes.iter().take(fits));
        }
        Ok(fits)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl NewFile for MemoryFile {
    fn sync(&mut self) -> io::Result<()> {
        let mut state = self.disk.state();
        state.operation()?;
        if state.ignores(&Sync::Content(self.path.clone())) {
            return Ok(());
        }
        if let Some(Node::File { visible, durable }) = state.nodes.get_mut(self.id) {
            durable.clone_from(visible);
        }
        Ok(())
    }
}

#[derive(Debug)]
struct MemoryLock {
    disk: MemoryDisk,
    path: PathBuf,
    life: u64,
}

impl Drop for MemoryLock {
    fn drop(&mut self) {
        let mut state = self.disk.state();
        if state.life == self.life {
            state.locked.remove(&self.path);
        }
    }
}

/// SplitMix64: the same seed always gives the same numbers.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        usize::try_from(mixed % u64::try_from(bound.max(1)).unwrap_or(u64::MAX)).unwrap_or(0)
    }
}
