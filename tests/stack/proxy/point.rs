//! A point: where the proxy does something, what, and what came of it.

use std::time::Duration;

use super::wire;

/// Something that happens to one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// The request is held back for this long.
    Delay(Duration),
    /// The answer is held back for this long.
    DelayAnswer(Duration),
    /// The connection is cut, and the broker never gets it.
    LoseRequest,
    /// The broker gets it, and the connection is cut before its answer.
    LoseAnswer,
    /// The request is held back, the client's connection is cut, and the broker gets the request during the next
    /// transaction.
    Late,
    /// The same, but the connection is not cut: the client waits until it times out.
    LateByTimeout,
    /// The broker gets it, the client's connection is cut, and the broker gets it again during the next transaction.
    Twice,
}

/// Where, and what.
#[derive(Clone, Copy, Debug)]
pub struct Point {
    /// The API of the request.
    pub key: i16,
    /// The first of its kind, the second and so on.
    pub nth: u32,
    pub act: Act,
    /// A late request goes to the broker when it has answered the first request of this kind in the next transaction, before the
    /// client has that answer.
    pub until: i16,
    /// A transaction is over when the broker has answered well to this kind: [`wire::END_TXN`], or where there are no
    /// transactions [`wire::OFFSET_COMMIT`].
    pub ends: i16,
    /// And so long after.
    pub wait: Duration,
}

/// The outcome of a point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The broker's answer to the late request. 0 if it accepted the request. `None`: nothing was late, or there was no
    /// answer.
    pub late: Option<i16>,
    /// A late request has changed another transaction than its own: it ended that, or moved its offsets back.
    pub is_torn: bool,
}

/// The action before an answer is passed on.
pub enum Step<H> {
    Nothing,
    Release(H, Duration),
}

enum Phase<H> {
    /// So many of the kind are still to come, this one included.
    Armed(u32),
    /// Done to a request, and the transaction of that time has yet to be committed.
    Acted(Option<H>),
    /// The next transaction is to come, or at work.
    Next(H),
    /// The held request has gone to the broker.
    Released,
    Done(Option<i16>),
}

/// How far a point has come. `H`: what is held back.
pub struct Progress<H> {
    point: Point,
    phase: Phase<H>,
}

impl<H> Progress<H> {
    pub fn new(point: Point) -> Self {
        Self { phase: Phase::Armed(point.nth), point }
    }

    /// A request has come.
    pub fn request(&mut self, key: i16) -> Option<Act> {
        let Phase::Armed(left) = &mut self.phase else { return None };
        if key != self.point.key {
            return None;
        }
        *left -= 1;
        if *left > 0 {
            return None;
        }
        self.phase = Phase::Acted(None);
        Some(self.point.act)
    }

    /// A request is held back.
    pub fn hold(&mut self, held: H) {
        self.phase = Phase::Acted(Some(held));
    }

    /// The broker has answered.
    pub fn answer(&mut self, key: i16, code: Option<i16>) -> Step<H> {
        let is_committed = key == self.point.ends && code == Some(0);
        self.phase = match std::mem::replace(&mut self.phase, Phase::Released) {
            Phase::Acted(Some(held)) if is_committed => Phase::Next(held),
            Phase::Acted(None) if is_committed => Phase::Done(None),
            Phase::Next(held) if key == self.point.until => return Step::Release(held, self.point.wait),
            other => other,
        };
        Step::Nothing
    }

    pub fn is_released(&self) -> bool {
        matches!(self.phase, Phase::Released)
    }

    /// The broker has answered to what came late.
    pub fn late_answer(&mut self, code: Option<i16>) {
        self.phase = Phase::Done(code);
    }

    /// Records that the broker will not answer any more.
    pub fn give_up(&mut self) {
        if self.is_released() {
            self.phase = Phase::Done(None);
        }
    }

    pub fn outcome(&self) -> Option<Outcome> {
        let Phase::Done(late) = self.phase else { return None };
        // The next transaction was open then; and its own offsets were there, where the late ones could replace them.
        let replaces = self.point.key == wire::TXN_OFFSET_COMMIT && self.point.until == wire::TXN_OFFSET_COMMIT;
        let is_torn = late == Some(0) && (self.point.key == wire::END_TXN || replaces);
        Some(Outcome { late, is_torn })
    }

    pub fn describe(&self) -> String {
        let phase = match &self.phase {
            Phase::Armed(left) => format!("{left} still to come"),
            Phase::Acted(held) => format!("not committed yet, held back: {}", held.is_some()),
            Phase::Next(_) => "waits for the next transaction".to_owned(),
            Phase::Released => "waits for the late answer".to_owned(),
            Phase::Done(code) => format!("done, late answer {code:?}"),
        };
        format!("{:?}: {phase}", self.point)
    }
}
