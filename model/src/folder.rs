//! The checkpoint folder of a process.

use crate::kafka::Alerts;

/// The file `offsets/N`. Two files are equal where their bytes, and so their checksums, are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct File {
    /// The lineage, named after the process that began it.
    pub lineage: u8,
    /// The number of the epoch.
    pub epoch: u8,
    /// The next offset after it.
    pub next: u8,
    /// The alerts that were decided in it.
    pub alerts: Alerts,
    /// All alerts whose episodes are open after it.
    pub open: Alerts,
    /// The process that wrote it: two processes never write the same bytes, since each confirms for itself.
    pub author: u8,
}

/// A folder.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Folder {
    /// The files of `offsets`, in order.
    pub files: Vec<File>,
    /// So many of them survive a loss of power.
    pub durable: usize,
    /// `commits/N` is there for the newest file, and for all before it. It is not synced.
    pub is_finished: bool,
    /// What the group had committed when the lineage came into this folder (`lineage.json`).
    pub origin: Option<File>,
}

impl Folder {
    /// The newest file.
    pub fn newest(&self) -> Option<File> {
        self.files.last().copied()
    }

    /// The file of this number.
    pub fn logged(&self, epoch: u8) -> Option<File> {
        self.files.iter().copied().find(|file| file.epoch == epoch)
    }

    /// Links a file. It is there for every reader, and may be gone after a loss of power.
    pub fn link(&mut self, file: File) {
        self.files.push(file);
        self.is_finished = false;
    }

    /// Whether a loss of power would take anything.
    pub fn has_unsynced(&self) -> bool {
        self.durable < self.files.len() || self.is_finished
    }

    /// Power is lost, and every mark of `commits` with it.
    pub fn lose_power(&mut self) {
        self.is_finished = false;
        self.files.truncate(self.durable);
    }

    /// Moves what is here aside. A lineage comes in.
    pub fn begin(&mut self, origin: Option<File>) {
        *self = Self { origin, ..Self::default() };
    }
}
