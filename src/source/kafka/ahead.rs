//! The limit on records that the reading thread has sent and the loop has not taken.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Notify;

use crate::change::record::BYTES_AHEAD_MAX;
use crate::source::Event;

/// An event on its way to the loop.
pub(super) struct Sent<T> {
    pub(super) event: Event<T>,
    pub(super) _weight: Weight,
}

/// The bytes of an event's records, counted until the loop has it.
pub(super) struct Weight {
    bytes: usize,
    ahead: Arc<Ahead>,
}

impl Drop for Weight {
    fn drop(&mut self) {
        self.ahead.bytes.fetch_sub(self.bytes, Ordering::SeqCst);
        self.ahead.taken.notify_one();
    }
}

/// The bytes that were sent and not yet taken by the loop.
#[derive(Default)]
pub(super) struct Ahead {
    bytes: AtomicUsize,
    taken: Notify,
}

impl Ahead {
    pub(super) fn weigh(self: &Arc<Self>, bytes: usize) -> Weight {
        self.bytes.fetch_add(bytes, Ordering::SeqCst);
        Weight { bytes, ahead: Arc::clone(self) }
    }

    /// Waits until there is room for more.
    pub(super) async fn has_room(&self) {
        while self.bytes.load(Ordering::SeqCst) >= BYTES_AHEAD_MAX {
            self.taken.notified().await;
        }
    }
}
