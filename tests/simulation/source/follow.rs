//! Plain commits of the group's offsets over connections that break, and reading outside of the group.

use std::collections::BTreeSet;
use std::rc::Rc;

use tripline::failure::{CallError, Kind};
use tripline::progress::Offsets;
use tripline::source::{Follow, Source};

use super::SimSource;
use crate::broker::kafka;
use crate::process::Fate;
use crate::sinks::Disturbances;

/// How long a commit goes on.
const CALL_MS: u64 = 5_000;

impl<T: Clone + 'static> SimSource<T> {
    /// Commits are disturbed by these from here on.
    pub(crate) fn disturbed_by(self, disturbances: &Rc<Disturbances>) -> Self {
        Self { disturbances: Rc::clone(disturbances), ..self }
    }
}

impl<T: Clone + 'static> Follow for SimSource<T> {
    /// The client sends the request until it is answered. The first copy may arrive late, after other commits of this
    /// member or after its end. Or it has arrived, and its answer is lost.
    async fn commit(&self, offsets: &Offsets, metadata: &str) -> Result<(), CallError> {
        if self.without_group.is_some() || self.id.is_none() {
            return Err(kafka("this member no longer has the partitions", Kind::Fenced));
        }
        let number = self.process.number;
        let sent = |what: &str| format!("process {number}: OffsetCommit {metadata}{what}");
        let given_up = self.wire.now() + CALL_MS;
        loop {
            if self.wire.now() > given_up {
                return Err(kafka("timed out", Kind::Unreachable));
            }
            if self.process.is_cut(self.wire.now()) {
                self.wire.pass(200).await;
                continue;
            }
            let (broker, member) = (Rc::clone(&self.broker), self.member());
            let (offsets, metadata) = (offsets.clone(), metadata.to_owned());
            let request = move || broker.commit_offsets(&member, &offsets, &metadata);
            if !self.wire.random.percent(self.disturbances.cuts.get()) {
                match self.wire.ask(self.channel, sent(""), request).await {
                    Some(answer) => return answer,
                    None => continue,
                }
            }
            if self.wire.random.percent(self.disturbances.late.get()) {
                if self.wire.random.percent(20) {
                    self.process.plan(self.wire.random.below(8), Fate::Killed);
                }
                let at = self.wire.now() + self.wire.random.below(3_000);
                self.wire.at(at, sent(", late"), move || drop(request()));
            } else if self.wire.random.percent(50) {
                self.wire.ask(self.channel, sent(", unanswered"), request).await;
            }
            self.wire.pass(self.wire.random.below(50)).await;
        }
    }

    fn open_without_group(&self, partitions: Vec<i32>) -> Result<Self, CallError> {
        Ok(Self {
            wire: Rc::clone(&self.wire),
            broker: Rc::clone(&self.broker),
            process: Rc::clone(&self.process),
            channel: self.wire.channel(),
            instance: self.instance.clone(),
            id: None,
            generation: 0,
            reading: None,
            ended: BTreeSet::new(),
            batch_max: self.batch_max,
            polls: 0,
            without_group: Some((partitions, false)),
            disturbances: Rc::clone(&self.disturbances),
        })
    }

    async fn close(self) {}
}
