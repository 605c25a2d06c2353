//! Where the archive's invalid records go.

use std::rc::Rc;

use tripline::change::full_row::FullRowChange;
use tripline::change::record::DeadLetter;
use tripline::failure::{CallError, Kind};
use tripline::sink::DeadLetterSink;

use crate::broker::{Broker, kafka};
use crate::process::Process;
use crate::sinks::Disturbances;
use crate::wire::Wire;

/// The topic of dead letters.
pub(super) struct DeadLetters {
    pub(super) wire: Rc<Wire>,
    pub(super) broker: Rc<Broker<FullRowChange>>,
    pub(super) process: Rc<Process>,
    pub(super) channel: u64,
    pub(super) disturbances: Rc<Disturbances>,
}

impl DeadLetterSink for DeadLetters {
    async fn dead_letter(&self, dead: &[DeadLetter]) -> Result<(), CallError> {
        let away = || kafka("timed out", Kind::Unreachable);
        if self.process.is_cut(self.wire.now()) {
            self.wire.pass(500).await;
            return Err(away());
        }
        let (broker, dead) = (Rc::clone(&self.broker), dead.to_vec());
        let what = format!("process {}: {} dead letters", self.process.number, dead.len());
        let copied = self.wire.ask(self.channel, what, move || broker.state().dead.extend(dead)).await;
        // They have come, and nobody knows.
        if self.wire.random.percent(self.disturbances.cuts.get()) { Err(away()) } else { copied.ok_or_else(away) }
    }
}
