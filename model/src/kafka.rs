//! The broker, as far as the protocol sees it. What it has acknowledged it keeps.
//!
//! Producer epochs, generations and member ids are compared and never counted, so that the model has no counters: a process
//! holds the newest producer epoch or an old one, and is the group's member or is not.

use crate::folder::File;

/// Records of the topic at most.
pub const RECORDS_MAX: usize = 4;

/// The alerts of some records: one bit each.
pub type Alerts = u8;

/// A part of an epoch's transaction. Each is a request of its own, to another broker or partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Part {
    /// Alerts, on their topic.
    Alerts,
    /// Episodes and progress, on the recovery topic.
    Episodes,
    /// The group's offsets, with the name of the epoch (TxnOffsetCommit).
    Offsets,
}

/// What a process sends to the broker for one epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sent {
    /// The epoch: the group's commit names its bytes.
    pub file: File,
    /// The alerts that go with it: none when progress is only committed once more.
    pub alerts: Alerts,
}

/// The transaction under the group's transactional id, in the broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Transaction {
    /// None since the producer epoch was bumped.
    Fresh,
    /// The last one was committed.
    Committed,
    /// The last one was aborted.
    Aborted,
    /// One is open.
    Open {
        /// Alerts that it holds.
        alerts: Alerts,
        /// Episodes and progress that it holds.
        episodes: Option<Sent>,
        /// The group's pending offsets.
        offsets: Option<File>,
    },
}

/// A request that the client has repeated after its connection was cut. The copy that the broker has not seen yet arrives some
/// time later. It has the producer epoch that is still the newest: those of an older one are refused (47) and left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Late {
    /// EndTxn of protocol version 0 or 1: it names no transaction, so it ends the one that is open.
    End {
        /// Commit or abort.
        commit: bool,
    },
    /// TxnOffsetCommit.
    Offsets {
        /// The epoch that it names.
        file: File,
        /// Whether its sender is still the member whose generation it has.
        is_member: bool,
    },
}

/// The broker.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Broker {
    /// The transaction.
    pub transaction: Transaction,
    /// What the group has committed.
    pub group: Option<File>,
    /// The process that is the member of the newest generation.
    pub member: Option<usize>,
    /// How often each alert can be seen by readers of committed records, up to 2.
    pub alerts: [u8; RECORDS_MAX],
    /// The newest progress on the recovery topic, committed.
    pub progress: Option<File>,
    /// The same for a reader who reads uncommitted; kept only where there is one.
    pub progress_uncommitted: Option<File>,
    /// The alerts whose episodes are on the recovery topic.
    pub episodes: Alerts,
    /// Requests that are late, in order.
    pub late: Vec<Late>,
}

impl Broker {
    /// With an empty topic of alerts and a group that does not exist.
    pub fn new() -> Self {
        Self {
            transaction: Transaction::Fresh,
            group: None,
            member: None,
            alerts: [0; RECORDS_MAX],
            progress: None,
            progress_uncommitted: None,
            episodes: 0,
            late: Vec::new(),
        }
    }

    /// Whether a transaction is open.
    pub fn is_open(&self) -> bool {
        matches!(self.transaction, Transaction::Open { .. })
    }

    /// Whether the group has offsets that are pending: a stable read waits for their end.
    pub fn has_pending_offsets(&self) -> bool {
        matches!(self.transaction, Transaction::Open { offsets: Some(_), .. })
    }

    /// InitProducerId: an open transaction is aborted, and what has an older producer epoch is refused from here on.
    pub fn bump_epoch(&mut self) {
        self.transaction = Transaction::Fresh;
        self.late.clear();
    }

    /// Adds a part to the transaction, and opens one where none is open.
    pub fn add(&mut self, part: Part, sent: Sent) {
        let (mut alerts, mut episodes, mut offsets) = match self.transaction {
            Transaction::Open { alerts, episodes, offsets } => (alerts, episodes, offsets),
            Transaction::Fresh | Transaction::Committed | Transaction::Aborted => (0, None, None),
        };
        match part {
            Part::Alerts => alerts |= sent.alerts,
            Part::Episodes => episodes = Some(sent),
            Part::Offsets => offsets = Some(sent.file),
        }
        self.transaction = Transaction::Open { alerts, episodes, offsets };
    }

    /// Ends the open transaction.
    pub fn end(&mut self, commit: bool) {
        if let (Transaction::Open { alerts, episodes, offsets }, true) = (self.transaction, commit) {
            self.publish(alerts);
            if let Some(sent) = episodes {
                self.progress = Some(sent.file);
                self.episodes |= sent.alerts;
            }
            self.group = offsets.or(self.group);
        }
        self.transaction = if commit { Transaction::Committed } else { Transaction::Aborted };
    }

    /// Writes a part outside of any transaction.
    pub fn write(&mut self, part: Part, sent: Sent) {
        match part {
            Part::Alerts => self.publish(sent.alerts),
            Part::Episodes => {
                self.progress = Some(sent.file);
                self.episodes |= sent.alerts;
            }
            Part::Offsets => self.group = Some(sent.file),
        }
    }

    fn publish(&mut self, alerts: Alerts) {
        for (record, seen) in self.alerts.iter_mut().enumerate() {
            if alerts & (1 << record) != 0 {
                *seen = (*seen + 1).min(2);
            }
        }
    }

    /// The group's member is gone: what was sent with its generation is refused from here on.
    pub fn expel(&mut self) {
        self.member = None;
        for late in &mut self.late {
            if let Late::Offsets { is_member, .. } = late {
                *is_member = false;
            }
        }
        self.late.sort_unstable();
    }

    /// A copy of a request will arrive late.
    pub fn hold_back(&mut self, late: Late) {
        self.late.push(late);
        self.late.sort_unstable();
    }
}

impl Default for Broker {
    fn default() -> Self {
        Self::new()
    }
}
