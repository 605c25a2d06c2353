//! The rules of the protocol, each with its place in the code.

/// A rule that the protocol depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rule {
    /// `offsets/N` is written before its transaction is committed.
    LogBeforeCommit,
    /// `offsets/N` is synced before its transaction is committed.
    SyncBeforeCommit,
    /// Opening the folder syncs what an earlier process has linked there.
    SyncAtOpen,
    /// A start calls `init_transactions` before it reads how far the group has come.
    FenceBeforeReading,
    /// The group's offsets are read as stable: pending ones of an open transaction are waited for.
    StableOffsets,
    /// The group's offsets are part of the transaction that has the alerts.
    OffsetsInTransaction,
    /// Episodes and progress on the recovery topic are part of that transaction too.
    EpisodesInTransaction,
    /// Offsets are added with the member and generation of the assignment, which the broker compares (KIP-447).
    MemberOfAssignment,
    /// No transaction begins, and none is aborted, on a producer whose connections were disturbed since it was created: a new
    /// one is created instead, which bumps the producer epoch.
    NewProducerAfterDisturbance,
    /// When it is not known what a commit has done, all that is in memory is dropped, and the process starts again.
    DoubtDropsMemory,
    /// A start compares the folder with what the group has committed.
    CompareWithGroup,
    /// The group's commit has the checksum of the file `offsets/N`, and a start compares it.
    ChecksumInCommit,
    /// The recovery topic is read as `read_committed`.
    RecoveryReadCommitted,
    /// A start that goes on in the lineage of the group takes the open episodes from the recovery topic.
    EpisodesRecalled,
}

impl Rule {
    /// Every rule.
    pub const ALL: [Self; 14] = [
        Self::LogBeforeCommit,
        Self::SyncBeforeCommit,
        Self::SyncAtOpen,
        Self::FenceBeforeReading,
        Self::StableOffsets,
        Self::OffsetsInTransaction,
        Self::EpisodesInTransaction,
        Self::MemberOfAssignment,
        Self::NewProducerAfterDisturbance,
        Self::DoubtDropsMemory,
        Self::CompareWithGroup,
        Self::ChecksumInCommit,
        Self::RecoveryReadCommitted,
        Self::EpisodesRecalled,
    ];

    /// Where the code keeps it: a file, and a text that is in it.
    pub fn places(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::LogBeforeCommit => &[("src/monitor/epoch.rs", "async fn publish")],
            Self::SyncBeforeCommit => {
                &[("src/checkpoint.rs", "pub fn log"), ("src/checkpoint/file.rs", "pub fn create_new")]
            }
            Self::SyncAtOpen => &[("src/checkpoint.rs", "pub fn open_at")],
            Self::FenceBeforeReading => {
                &[("src/monitor/recover.rs", "async fn recover"), ("src/sink/kafka.rs", "pub async fn fence")]
            }
            Self::StableOffsets => {
                &[("src/source/kafka.rs", "Isolation::Committed"), ("src/kafka/topic.rs", "pub async fn committed")]
            }
            Self::OffsetsInTransaction => &[("src/sink/kafka.rs", "send_offsets_to_transaction")],
            Self::EpisodesInTransaction => &[("src/sink/kafka.rs", "fn records")],
            Self::MemberOfAssignment => {
                &[("src/source/kafka.rs", "next_member"), ("src/sink/kafka.rs", "pub async fn prepare")]
            }
            Self::NewProducerAfterDisturbance => &[("src/sink/kafka.rs", "async fn undisturbed")],
            Self::DoubtDropsMemory => {
                &[("src/sink/kafka.rs", "fn unless_retriable"), ("src/job.rs", "async fn run_until")]
            }
            Self::CompareWithGroup => {
                &[("src/progress/start.rs", "fn compare"), ("src/monitor/recover.rs", "in_kafka")]
            }
            Self::ChecksumInCommit => {
                &[("src/progress/start.rs", "fn compare"), ("src/progress.rs", "struct EpochRef")]
            }
            Self::RecoveryReadCommitted => &[("src/sink/kafka.rs", "OpenTransaction::Wait")],
            Self::EpisodesRecalled => &[("src/monitor/recover.rs", "async fn recall")],
        }
    }
}

/// The rules that are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules(u16);

impl Rules {
    /// All of them.
    pub fn all() -> Self {
        Self(u16::MAX)
    }

    /// These without one.
    #[must_use]
    pub fn without(self, rule: Rule) -> Self {
        Self(self.0 & !(1 << rule as u16))
    }

    /// Whether a rule is kept.
    pub fn keep(self, rule: Rule) -> bool {
        self.0 & (1 << rule as u16) != 0
    }
}
