//! Bugs that a test can switch on, to check that the simulation finds them. Pure. The shipped program contains none of
//! them (feature `fakes`): there [`bug`] is the constant `false`.
//!
//! To plant another one: add it to `BUGS`, and check for it at its place, e.g.
//! `if planted::bug("group-committed-first") { … }`. `tests/simulation` then has to find it within a stated number of
//! seeds.

use crate::model::Timestamp;

/// A bug that can be planted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bug {
    /// The argument of [`bug`].
    pub name: &'static str,
    /// The invariant of ARCHITECTURE.md that it breaks, or the section.
    pub breaks: &'static str,
    /// The behaviour of the program with the bug.
    pub what: &'static str,
}

/// A source of values that an impure core would use. They do not depend on the core's arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outside {
    /// The machine's clock, in microseconds.
    Clock,
    /// A counter of the whole process, which outlives simulated processes.
    Count,
    /// A hash with random keys.
    Chance,
}

#[cfg(feature = "fakes")]
pub use switch::{BUGS, outside, plant, use_clock};

#[cfg(feature = "fakes")]
mod switch {
    use std::cell::Cell;
    use std::hash::{BuildHasher, RandomState};
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::{Bug, Outside};

    static COUNT: AtomicU64 = AtomicU64::new(0);

    thread_local! {
        static PLANTED: Cell<Option<&'static str>> = const { Cell::new(None) };
        static CLOCK: Cell<fn() -> u64> = const { Cell::new(|| 0) };
    }

    /// Sets the machine's clock for this thread, because the core cannot name one.
    pub fn use_clock(clock: fn() -> u64) {
        CLOCK.set(clock);
    }

    /// Returns a value from outside.
    pub fn outside(what: Outside) -> u64 {
        match what {
            Outside::Clock => CLOCK.get()(),
            Outside::Count => COUNT.fetch_add(1, Ordering::Relaxed),
            Outside::Chance => RandomState::new().hash_one(0),
        }
    }

    /// Sets the bug of this thread, or none.
    pub fn plant(name: Option<&'static str>) {
        PLANTED.set(name);
    }

    pub(super) fn is_planted(name: &str) -> bool {
        PLANTED.get().is_some_and(|planted| planted == name)
    }

    /// Every bug that can be planted.
    #[rustfmt::skip]
    pub const BUGS: &[Bug] = &[
        bug("clock-read", "What always holds, 1", "the core reads the machine's clock when it decides when to ask again"),
        bug("counter-of-the-process", "What always holds, 1", "when a candidate is asked depends on how many the whole process has had"),
        bug("order-of-a-hasher", "What always holds, 1", "candidates are asked in the order of a hasher whose keys are of chance"),
        bug("static-outlives-a-death", "What always holds, 1", "episodes are numbered by a static, which outlives their process"),
        bug("commit-before-log", "What always holds, 2", "the transaction is committed before `offsets/N` is written"),
        bug("epoch-not-synced", "What always holds, 2", "the content of `offsets/N` is not synced"),
        bug("epoch-name-not-synced", "What always holds, 2", "the name of `offsets/N` is not synced"),
        bug("delivery-before-log", "What always holds, 2", "alerts go to table and log before `offsets/N` is written"),
        bug("delivery-before-commit", "What always holds, 2", "alerts go to table and log before the transaction is committed"),
        bug("offsets-ahead", "What always holds, 3", "an epoch has offsets one past what was read"),
        bug("first-alert-not-sent", "What always holds, 3", "the first alert of an epoch is not in its transaction"),
        bug("episodes-not-sent", "What always holds, 3", "the episodes of an epoch are not in its transaction"),
        bug("producer-kept-after-disturbance", "What always holds, 3", "a producer goes on after its connection was cut, although a request of it may come late"),
        bug("producer-not-fenced", "What always holds, 3", "a new producer leaves the one before its epoch"),
        bug("dead-letters-dropped", "What always holds, 4", "invalid records are not copied"),
        bug("dead-letters-cut", "What always holds, 4", "the first invalid record of an epoch is not copied"),
        bug("bad-records-not-kept", "What always holds, 4", "invalid records are counted and forgotten"),
        bug("old-row-kept", "What always holds, 5", "the row that a change replaces stays"),
        bug("delete-ignored", "What always holds, 5", "a delete takes nothing out"),
        bug("left-key-not-evaluated", "What always holds, 5", "the key that a row has left is not evaluated"),
        bug("opaque-counts-as-nothing", "What always holds, 6", "a value that memory cannot add counts as none"),
        bug("opaque-not-asked", "What always holds, 6", "Postgres is not asked about a key that memory cannot evaluate"),
        bug("opaque-not-taken-out", "What always holds, 6", "a value that memory cannot add is counted for ever"),
        bug("opaque-lost-in-the-state", "What always holds, 6", "a value that memory cannot add is NULL in a stored window"),
        bug("opaque-compared", "What always holds, 6", "the audit compares what memory cannot calculate"),
        bug("open-episodes-not-restored", "What always holds, 7", "a start forgets the open episodes of the stored state"),
        bug("replay-not-muted", "What always holds, 7", "keys are evaluated while windows are rebuilt"),
        bug("rebuilt-too-early", "What always holds, 7", "windows count as rebuilt when one partition has been read"),
        bug("rebuilt-not-evaluated", "What always holds, 7", "nothing is evaluated after windows were rebuilt"),
        bug("open-episodes-not-held", "What always holds, 7", "open episodes are not held against the windows that were rebuilt"),
        bug("or-not-in-parentheses", "What always holds, 8", "no parentheses stand around OR"),
        bug("not-not-in-parentheses", "What always holds, 8", "no parentheses stand around NOT"),
        bug("subtrahend-not-in-parentheses", "What always holds, 8", "no parentheses stand around what is subtracted"),
        bug("quotes-not-doubled", "What always holds, 8", "a quote inside of a text is not doubled"),
        bug("names-not-quoted", "What always holds, 8", "names stand without quotes"),
        bug("key-of-a-failure-logged", "What always holds, 9", "the line of a statement that failed has the key"),
        bug("key-of-a-refutation-logged", "What always holds, 9", "the line of a refuted candidate has the key"),
        bug("key-of-an-undecided-one-logged", "What always holds, 9", "the line of an undecided candidate has the key"),
        bug("figures-of-a-drift-logged", "What always holds, 9", "the line of a drift has the figures of memory"),
        bug("control-characters-kept", "What always holds, 10", "what a server says reaches the log with its control characters"),
        bug("direction-marks-kept", "What always holds, 10", "what a server says can turn the direction of a log line"),
        bug("fields-not-cut", "What always holds, 10", "what a server says reaches the log at any length"),
        bug("finished-before-commit", "Progress, and exactly once", "`commits/N` is there before the transaction is committed"),
        bug("finished-before-delivery", "Progress, and exactly once", "`commits/N` is there before the alerts are delivered"),
        bug("logged-not-completed", "Progress, and exactly once", "what was logged before a crash is not completed"),
        bug("sent-again", "Progress, and exactly once", "what is in Kafka is sent again after a crash"),
        bug("decisions-not-redone", "Progress, and exactly once", "decisions since the stored state are not redone"),
        bug("windows-not-caught-up", "Progress, and exactly once", "what lies between the stored state and the newest epoch is not read again"),
        bug("episodes-not-recalled", "Progress, and exactly once", "open episodes are not taken from the recovery topic"),
        bug("recalled-not-delivered", "Progress, and exactly once", "the alerts of the epoch that is gone on from do not reach the table"),
        bug("truncate-floor-ignored", "Versions", "a change from before a truncate is applied after it"),
        bug("table-watermark-ignored", "Versions", "rows that were read after a truncate are taken out by it"),
        bug("visibility-ignored", "Confirmed, refuted, undecided", "an answer counts although it does not show what memory has applied"),
        bug("emptied-group-forgotten", "Confirmed, refuted, undecided", "a key without rows forgets the transactions that the table does not show yet"),
        bug("refutation-ignored", "Confirmed, refuted, undecided", "an answer that does not agree confirms"),
        bug("refuted-not-asked-again", "Confirmed, refuted, undecided", "a refuted candidate is not asked about again"),
        bug("failed-not-asked-again", "Confirmed, refuted, undecided", "a candidate whose statement failed is not asked about again"),
        bug("figures-of-memory", "Confirmed, refuted, undecided", "an alert shows the figures of memory for those of the table"),
        bug("instant-of-the-answer", "Confirmed, refuted, undecided", "an alert names the instant of the answer for that of the question"),
        bug("expiry-not-scheduled", "Time is a trigger", "nothing happens when a row leaves its window"),
        bug("expiry-not-restored", "Time is a trigger", "nothing happens when a row of a stored window leaves it"),
        bug("jump-believed", "Time is a trigger", "a jump of the wall clock is believed at once"),
        bug("archive-old-folder-believed", "The archive, 1", "the checkpoint folder decides though the output or the group knows of more"),
        bug("archive-names-not-compared", "The archive, 1", "a rebuild goes on from the group alone, whatever the output has"),
        bug("archive-group-believed", "The archive, 1", "a rebuild believes offsets that somebody else has committed"),
        bug("archive-output-not-locked", "The archive, 1", "a second process opens the output"),
        bug("archive-file-not-synced", "The archive, 2", "a file gets its name before its bytes are durable"),
        bug("archive-file-linked-first", "The archive, 2", "a file gets its name before its bytes"),
        bug("archive-file-in-place", "The archive, 2", "a file is written under its own name"),
        bug("archive-names-not-synced", "The archive, 3", "the names of files are not synced"),
        bug("archive-dates-not-synced", "The archive, 3", "the names of the folders of dates are not synced"),
        bug("archive-group-first", "The archive, 3", "the group is committed before the files are there"),
        bug("archive-epoch-ahead", "The archive, 3", "an epoch has offsets one past what was read"),
        bug("archive-not-finished", "The archive, 4", "an epoch that was begun is not finished by the next start"),
        bug("archive-finished-first", "The archive, 4", "`commits/N` is there before the files"),
        bug("archive-part-taken-for-all", "The archive, 4", "an epoch of which one file is there counts as written"),
        bug("archive-settings-of-now", "The archive, 4", "an epoch is finished by the settings of now"),
        bug("archive-last-range-not-read", "The archive, 4", "a rebuild does not complete the last range of a partition"),
        bug("archive-dead-letters-dropped", "The archive, 5", "invalid records are not copied"),
        bug("archive-dead-letters-cut", "The archive, 5", "the first invalid record of an epoch is not copied"),
        bug("archive-dead-letters-late", "The archive, 5", "invalid records are copied after the epoch is logged"),
    ];

    const fn bug(name: &'static str, breaks: &'static str, what: &'static str) -> Bug {
        Bug { name, breaks, what }
    }
}

/// Whether this bug is planted.
#[cfg(feature = "fakes")]
#[inline]
pub fn bug(name: &str) -> bool {
    switch::is_planted(name)
}

/// Whether this bug is planted. It never is.
#[cfg(not(feature = "fakes"))]
#[inline(always)]
pub const fn bug(_name: &str) -> bool {
    false
}

/// Returns 0: there is no value from outside.
#[cfg(not(feature = "fakes"))]
#[inline(always)]
pub const fn outside(_what: Outside) -> u64 {
    0
}

/// An instant up to a tenth of a second later, by a value from outside.
pub fn later(at: Timestamp, by: Outside) -> Timestamp {
    // A prime, so that numbers in a row lie apart.
    Timestamp(at.0.saturating_add(i64::try_from(outside(by).wrapping_mul(7_919) % 100_000).unwrap_or(0)))
}
