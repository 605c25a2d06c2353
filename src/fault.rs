//! Places where a test can kill or stop the process, to check the state afterwards. A release build has none.
//!
//! `TRIPLINE_FAULT=NAME[:NTH[:stop]]` kills the process as by `kill -9`, or stops it as by SIGSTOP, when the place is
//! reached for the NTH time (1 by default).

/// Marks a place with this name.
#[cfg(not(debug_assertions))]
#[inline(always)]
pub fn point(_name: &str) {}

/// Marks a place with this name.
#[cfg(debug_assertions)]
pub fn point(name: &str) {
    plan::reached(name);
}

/// The number of groups in memory that a test wants to damage: `TRIPLINE_DAMAGE=N`.
#[cfg(debug_assertions)]
pub fn damage() -> Option<usize> {
    std::env::var("TRIPLINE_DAMAGE").ok()?.parse().ok()
}

/// Whether a test has turned a safeguard off, to show its effect: `TRIPLINE_OFF=NAME`.
#[cfg(debug_assertions)]
pub fn is_off(name: &str) -> bool {
    std::env::var("TRIPLINE_OFF").is_ok_and(|off| off == name)
}

/// Whether a test has turned a safeguard off.
#[cfg(not(debug_assertions))]
#[inline(always)]
pub fn is_off(_name: &str) -> bool {
    false
}

/// The id of the next lineage, if a test has asked for ids that are the same in every run.
#[cfg(not(feature = "fakes"))]
#[inline(always)]
pub const fn next_lineage() -> Option<u128> {
    None
}

#[cfg(feature = "fakes")]
pub use lineages::{next_lineage, number_lineages};

#[cfg(feature = "fakes")]
mod lineages {
    use std::cell::Cell;

    thread_local! {
        static NEXT: Cell<Option<u128>> = const { Cell::new(None) };
    }

    /// Sets the ids of the lineages that begin on this thread from now on. `None`: random ids.
    pub fn number_lineages(from: Option<u128>) {
        NEXT.set(from);
    }

    /// The id of the next lineage, if a test has asked for ids that are the same in every run.
    pub fn next_lineage() -> Option<u128> {
        let next = NEXT.get()?;
        NEXT.set(Some(next.wrapping_add(1)));
        Some(next)
    }
}

#[cfg(debug_assertions)]
mod plan {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    struct Plan {
        name: String,
        left: AtomicU64,
        signal: &'static str,
    }

    fn plan() -> Option<&'static Plan> {
        static PLAN: OnceLock<Option<Plan>> = OnceLock::new();
        let read = || {
            let text = std::env::var("TRIPLINE_FAULT").ok()?;
            let mut parts = text.split(':');
            let name = parts.next()?.to_owned();
            let nth = parts.next().and_then(|nth| nth.parse().ok()).unwrap_or(1);
            let signal = if parts.next() == Some("stop") { "-STOP" } else { "-KILL" };
            Some(Plan { name, left: AtomicU64::new(nth), signal })
        };
        PLAN.get_or_init(read).as_ref()
    }

    pub(super) fn reached(name: &str) {
        let Some(plan) = plan().filter(|plan| plan.name == name) else { return };
        if plan.left.fetch_sub(1, Ordering::Relaxed) != 1 {
            return;
        }
        // By the shell's own command: sending a signal to oneself is no part of the standard library.
        let _ = std::process::Command::new("kill").arg(plan.signal).arg(std::process::id().to_string()).status();
    }
}
