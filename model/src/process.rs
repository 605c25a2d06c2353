//! What a process is at.

use crate::folder::{File, Folder};
use crate::kafka::{Alerts, Part, Sent};
use crate::rules::{Rule, Rules};

/// A process, and the folder on its machine.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Process {
    /// What it does.
    pub at: At,
    /// Its producer.
    pub producer: Producer,
    /// Its folder.
    pub folder: Folder,
}

/// Where a process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum At {
    /// Not running.
    Down,
    /// It stands by until the group has no member.
    StandBy,
    /// The group has given it the partitions.
    Joined,
    /// It has shut out earlier producers, and may read how far the group has come.
    Fenced,
    /// It stopped with exit code 5.
    Stopped,
    /// It has begun a new lineage although there was one.
    BeganAgain,
    /// It reads records.
    Reading(Memory),
    /// It publishes an epoch.
    Publishing(Memory, Epoch, Stage),
}

/// What it has in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Memory {
    /// The lineage.
    pub lineage: u8,
    /// The next epoch.
    pub epoch: u8,
    /// The next offset.
    pub next: u8,
    /// The alerts whose episodes are open.
    pub open: Alerts,
}

impl Memory {
    /// The alerts that are to fire once records up to this offset have been read.
    pub fn due(&self, next: u8) -> Alerts {
        !self.open & ((1 << next) - 1)
    }
}

/// The epoch that it publishes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Epoch {
    /// What goes to Kafka.
    pub sent: Sent,
    /// `offsets/N` is there from before.
    pub is_logged: bool,
}

/// How far it has come with that.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stage {
    /// The transaction is to begin.
    Closed,
    /// The transaction has begun, and these parts are acknowledged.
    Sending(Parts),
    /// `offsets/N` is linked.
    Linked,
    /// `offsets/N` is synced.
    Logged,
    /// The transaction is committed, and these parts, which are not in it, are written.
    Committed(Parts),
}

/// Its producer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Producer {
    /// `init_transactions` has been called.
    pub is_ready: bool,
    /// It has the newest producer epoch.
    pub is_newest: bool,
    /// Its connections were disturbed since it was created.
    pub is_disturbed: bool,
    /// A transaction was begun, and neither committed nor aborted.
    pub is_open: bool,
    /// A late request has ended the transaction that it has begun. It does not know.
    pub is_torn: bool,
}

/// A set of parts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Parts(u8);

impl Parts {
    /// With one more.
    #[must_use]
    pub fn with(self, part: Part) -> Self {
        Self(self.0 | (1 << part as u8))
    }

    /// Whether a part is in it.
    pub fn has(self, part: Part) -> bool {
        self.0 & (1 << part as u8) != 0
    }

    /// The parts that are still to be sent in the transaction (`inside`), or after it.
    pub fn missing(self, sent: Sent, inside: bool, rules: Rules) -> impl Iterator<Item = Part> {
        let is_inside = move |part: Part| match part {
            Part::Alerts => true,
            Part::Episodes => rules.keep(Rule::EpisodesInTransaction),
            Part::Offsets => rules.keep(Rule::OffsetsInTransaction),
        };
        let parts = [Part::Alerts, Part::Episodes, Part::Offsets].into_iter();
        let parts = parts.filter(move |part| *part != Part::Alerts || sent.alerts != 0);
        parts.filter(move |part| is_inside(*part) == inside && !self.has(*part))
    }
}

impl Process {
    /// Not running, on a machine that it never ran on.
    pub fn new() -> Self {
        Self { at: At::StandBy, producer: Producer::default(), folder: Folder::default() }
    }

    /// It begins to publish what is in a file.
    pub fn publishes(&mut self, memory: Memory, file: File, alerts: Alerts, is_logged: bool) {
        self.at = At::Publishing(memory, Epoch { sent: Sent { file, alerts }, is_logged }, Stage::Closed);
    }
}

impl Default for Process {
    fn default() -> Self {
        Self::new()
    }
}
