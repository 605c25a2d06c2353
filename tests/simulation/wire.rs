//! Messages under way: each is delivered at its instant, in an order that the seed alone decides. And what is recorded of a
//! run.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::time::Duration;

use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

use super::random::Random;

type Delivery = Box<dyn FnOnce()>;

/// The messages under way, by the millisecond of delivery and the order of sending.
pub(crate) struct Wire {
    started: Instant,
    queue: RefCell<BTreeMap<(u64, u64), (String, Delivery)>>,
    sent: Cell<u64>,
    /// When the newest message of each channel is delivered: the next one is not delivered before.
    channels: RefCell<BTreeMap<u64, u64>>,
    next_channel: Cell<u64>,
    changed: Notify,
    pub(crate) random: Random,
    /// How long a message takes at most, in milliseconds.
    pub(crate) slow: Cell<u64>,
    pub(crate) trace: Trace,
}

impl Wire {
    pub(crate) fn new(random: Random, trace: Trace) -> Self {
        Self {
            started: Instant::now(),
            queue: RefCell::default(),
            sent: Cell::new(0),
            channels: RefCell::default(),
            next_channel: Cell::new(0),
            changed: Notify::new(),
            random,
            slow: Cell::new(5),
            trace,
        }
    }

    /// Milliseconds since the start.
    pub(crate) fn now(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap()
    }

    /// Another channel: its messages keep their order.
    pub(crate) fn channel(&self) -> u64 {
        self.next_channel.set(self.next_channel.get() + 1);
        self.next_channel.get()
    }

    /// How long the next message takes: mostly little.
    pub(crate) fn delay(&self) -> u64 {
        match self.random.below(20) {
            0 => self.random.below(20 * self.slow.get() + 1),
            1..=6 => self.random.below(self.slow.get() + 1),
            _ => self.random.below(2),
        }
    }

    /// Delivers after so many milliseconds, and after what was sent over the channel before.
    pub(crate) fn send(&self, channel: u64, delay: u64, what: impl Into<String>, deliver: impl FnOnce() + 'static) {
        let mut channels = self.channels.borrow_mut();
        let last = channels.entry(channel).or_default();
        let at = (self.now() + delay).max(*last);
        *last = at;
        drop(channels);
        self.at(at, what, deliver);
    }

    /// Delivers at this millisecond, whatever else is under way.
    pub(crate) fn at(&self, at: u64, what: impl Into<String>, deliver: impl FnOnce() + 'static) {
        let number = self.sent.get();
        self.sent.set(number + 1);
        self.queue.borrow_mut().insert((at, number), (what.into(), Box::new(deliver)));
        self.changed.notify_one();
    }

    /// Asks over a channel. The answer takes its time as well.
    pub(crate) async fn ask<T: 'static>(
        self: &std::rc::Rc<Self>,
        channel: u64,
        what: impl Into<String>,
        serve: impl FnOnce() -> T + 'static,
    ) -> Option<T> {
        let (reply, answer) = oneshot::channel();
        self.send(channel, self.delay(), what, move || drop(reply.send(serve())));
        let answer = answer.await.ok()?;
        self.pass(self.delay()).await;
        Some(answer)
    }

    /// Time passes.
    pub(crate) async fn pass(&self, millis: u64) {
        if millis == 0 {
            tokio::task::yield_now().await;
        } else {
            tokio::time::sleep(Duration::from_millis(millis)).await;
        }
    }

    /// Delivers, for ever.
    pub(crate) async fn run(&self) {
        loop {
            let next = self.queue.borrow().keys().next().copied();
            match next {
                Some((at, number)) if at <= self.now() => {
                    let (what, deliver) = self.queue.borrow_mut().remove(&(at, number)).unwrap();
                    self.trace.add(self.now(), &what);
                    deliver();
                    tokio::task::yield_now().await;
                }
                next => {
                    let at = next.map_or(u64::MAX / 4, |(at, _)| at);
                    let wait = Duration::from_millis(at.saturating_sub(self.now()).min(3_600_000));
                    tokio::select! {
                        biased;
                        () = self.changed.notified() => {}
                        () = tokio::time::sleep(wait) => {}
                    }
                }
            }
        }
    }
}

/// The events so far, as a hash, and in words if they are printed.
pub(crate) struct Trace {
    hash: Cell<u64>,
    prints: bool,
}

impl Trace {
    pub(crate) fn new(prints: bool) -> Self {
        Self { hash: Cell::new(0xcbf2_9ce4_8422_2325), prints }
    }

    pub(crate) fn add(&self, now: u64, what: &str) {
        if what.is_empty() {
            return;
        }
        let mut hash = self.hash.get();
        for byte in now.to_le_bytes().iter().chain(what.as_bytes()) {
            hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
        self.hash.set(hash);
        if self.prints {
            println!("{:>4}.{:03} {what}", now / 1_000, now % 1_000);
        }
    }

    pub(crate) fn hash(&self) -> u64 {
        self.hash.get()
    }
}
