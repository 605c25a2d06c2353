//! A process: a future that is killed or stopped between any two of its steps.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use super::wire::Wire;

/// Steps of a process in one millisecond at most: one of so many turns in circles.
const STEPS_MAX: u32 = 50_000;

/// The fate of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// As by SIGKILL.
    Killed,
    /// As by SIGSTOP, for so many milliseconds.
    Paused(u64),
}

/// How a process is, as seen from outside.
pub(crate) struct Process {
    pub(crate) number: u32,
    pub(crate) machine: usize,
    /// The planned fate, and after how many steps.
    plan: Cell<Option<(u64, Fate)>>,
    /// Whether the process is gone.
    pub(crate) is_gone: Cell<bool>,
    paused: Cell<bool>,
    /// Since when it has sent nothing.
    silent_since: Cell<Option<u64>>,
    /// The millisecond before which the process reaches no server.
    cut_until: Cell<u64>,
    cut_since: Cell<u64>,
    waker: RefCell<Option<Waker>>,
    /// The millisecond of its newest step, and how many it has made in that.
    steps: Cell<(u64, u32)>,
    wire: Rc<Wire>,
}

impl Process {
    pub(crate) fn new(number: u32, machine: usize, wire: &Rc<Wire>) -> Rc<Self> {
        Rc::new(Self {
            number,
            machine,
            plan: Cell::new(None),
            is_gone: Cell::new(false),
            paused: Cell::new(false),
            silent_since: Cell::new(None),
            cut_until: Cell::new(0),
            cut_since: Cell::new(0),
            waker: RefCell::new(None),
            steps: Cell::new((0, 0)),
            wire: Rc::clone(wire),
        })
    }

    /// Plans a fate of the process, after this many steps from now.
    pub(crate) fn plan(&self, steps: u64, fate: Fate) {
        if self.plan.get().is_none() && !self.paused.get() {
            self.plan.set(Some((steps, fate)));
        }
    }

    /// Cancels the plan, and continues the process if it was stopped.
    pub(crate) fn leave_alone(&self) {
        self.plan.set(None);
        self.cut_until.set(0);
        self.go_on();
    }

    pub(crate) fn cut(&self, millis: u64) {
        if !self.is_cut(self.wire.now()) {
            self.cut_since.set(self.wire.now());
            self.cut_until.set(self.wire.now() + millis);
        }
    }

    /// Whether no message gets through at this millisecond.
    pub(crate) fn is_cut(&self, now: u64) -> bool {
        self.cut_until.get() > now
    }

    /// For how long nothing has been heard of it.
    pub(crate) fn silent_for(&self, now: u64) -> u64 {
        let cut = if self.is_cut(now) { now - self.cut_since.get() } else { 0 };
        self.silent_since.get().map_or(0, |since| now - since).max(cut)
    }

    fn step(&self) {
        let (now, (at, before)) = (self.wire.now(), self.steps.get());
        let steps = if at == now { before + 1 } else { 1 };
        assert!(steps < STEPS_MAX, "process {} works, and time does not pass", self.number);
        self.steps.set((now, steps));
    }

    fn silence(&self) {
        if self.silent_since.get().is_none() {
            self.silent_since.set(Some(self.wire.now()));
        }
    }

    pub(crate) fn is_gone(&self) {
        self.is_gone.set(true);
        self.silence();
    }

    fn go_on(&self) {
        if self.paused.replace(false) {
            self.silent_since.set(None);
            if let Some(waker) = self.waker.take() {
                waker.wake();
            }
        }
    }
}

/// Runs a process. `None` after it was killed.
pub(crate) struct Controlled<F> {
    process: Rc<Process>,
    run: Option<Pin<Box<F>>>,
}

impl<F: Future> Controlled<F> {
    pub(crate) fn new(process: &Rc<Process>, run: F) -> Self {
        Self { process: Rc::clone(process), run: Some(Box::pin(run)) }
    }
}

impl<F: Future> Future for Controlled<F> {
    type Output = Option<F::Output>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let process = Rc::clone(&self.process);
        process.step();
        if let Some((steps, fate)) = process.plan.get() {
            process.plan.set(steps.checked_sub(1).map(|left| (left, fate)));
            if steps == 0 {
                let now = process.wire.now();
                process.wire.trace.add(now, &format!("process {} is {fate:?}", process.number));
                match fate {
                    Fate::Killed => {
                        process.is_gone();
                        self.run = None;
                        return Poll::Ready(None);
                    }
                    Fate::Paused(millis) => {
                        process.paused.set(true);
                        process.silence();
                        let woken = Rc::clone(&process);
                        let what = format!("process {} goes on", process.number);
                        process.wire.at(now + millis, what, move || woken.go_on());
                    }
                }
            }
        }
        if process.paused.get() {
            *process.waker.borrow_mut() = Some(context.waker().clone());
            return Poll::Pending;
        }
        let Some(run) = self.run.as_mut() else { return Poll::Ready(None) };
        match run.as_mut().poll(context) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(done) => {
                process.is_gone();
                Poll::Ready(Some(done))
            }
        }
    }
}
