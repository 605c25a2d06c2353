//! What can happen next.

use crate::kafka::Part;
use crate::process::{At, Epoch, Process, Producer, Stage};
use crate::rules::Rule;
use crate::start::Start;
use crate::system::{Action, State, System, Way};

impl System {
    /// Everything that can happen next.
    pub(crate) fn possible(&self, state: &State, actions: &mut Vec<Action>) {
        for p in 0..state.processes.len() {
            self.own_steps(state, p, actions);
            self.mishaps(state, p, actions);
        }
        let is_owned = state.processes.iter().any(|process| {
            process.producer.is_newest && matches!(process.at, At::Publishing(..) | At::Fenced | At::Reading(_))
        });
        if state.broker.is_open() && !is_owned {
            actions.push(Action::TimeOut);
        }
        actions.extend((0..state.broker.late.len()).map(Action::Deliver));
    }

    /// What a process can do next.
    fn own_steps(&self, state: &State, p: usize, actions: &mut Vec<Action>) {
        let Process { at, producer, .. } = &state.processes[p];
        let broker = &state.broker;
        match *at {
            At::Down => actions.push(Action::Run(p)),
            At::StandBy if broker.member.is_none() => actions.push(Action::Join(p)),
            At::Joined if self.rules.keep(Rule::FenceBeforeReading) => actions.push(Action::Fence(p)),
            At::Joined | At::Fenced => {
                // Only a start that rebuilds reads the recovery topic, and waits there for the end of what is open.
                let rebuilds = matches!(self.decide(state, p), Start::Rebuild { .. } | Start::Stop);
                let waits = self.rules.keep(Rule::StableOffsets) && broker.has_pending_offsets()
                    || self.rules.keep(Rule::RecoveryReadCommitted) && broker.is_open() && rebuilds;
                if !waits {
                    actions.push(Action::Start(p));
                }
            }
            At::Reading(memory) => {
                let ends = memory.next..=self.bounds.records;
                let closes = ends.filter(|next| *next > memory.next || memory.due(*next) != 0);
                actions.extend(closes.map(|next| Action::Close(p, next)));
            }
            At::Publishing(_, epoch, stage) => self.publishing(state, p, producer, epoch, stage, actions),
            At::StandBy | At::Stopped | At::BeganAgain => {}
        }
    }

    fn publishing(
        &self,
        state: &State,
        p: usize,
        producer: &Producer,
        epoch: Epoch,
        stage: Stage,
        actions: &mut Vec<Action>,
    ) {
        let can_be_late = state.left.late > 0 && producer.is_newest;
        let logs_first = self.rules.keep(Rule::LogBeforeCommit);
        match stage {
            Stage::Closed => {
                let must = producer.is_disturbed && self.rules.keep(Rule::NewProducerAfterDisturbance);
                if must || !producer.is_ready {
                    actions.push(Action::NewProducer(p));
                } else if producer.is_open {
                    actions.push(Action::Abort(p, Way::Once));
                    if can_be_late {
                        actions.push(Action::Abort(p, Way::HeldBack));
                    }
                } else {
                    actions.push(Action::Begin(p));
                }
            }
            Stage::Sending(parts) => {
                let mut is_prepared = true;
                for part in parts.missing(epoch.sent, true, self.rules) {
                    is_prepared = false;
                    actions.push(Action::Send(p, part, Way::Once));
                    if can_be_late && part == Part::Offsets {
                        actions.push(Action::Send(p, part, Way::HeldBack));
                    }
                    if producer.is_torn {
                        actions.push(Action::Send(p, part, Way::Refused));
                    }
                }
                if !is_prepared && state.left.failures > 0 {
                    actions.push(Action::FailToSend(p, false));
                    actions.push(Action::FailToSend(p, true));
                }
                if is_prepared && logs_first && !epoch.is_logged {
                    actions.push(Action::Link(p));
                } else if is_prepared {
                    commits(state, p, can_be_late, actions);
                }
            }
            Stage::Linked if self.rules.keep(Rule::SyncBeforeCommit) => actions.push(Action::Sync(p)),
            Stage::Linked | Stage::Logged if logs_first => commits(state, p, can_be_late, actions),
            Stage::Linked | Stage::Logged => actions.push(Action::Finish(p)),
            Stage::Committed(parts) => {
                let missing = parts.missing(epoch.sent, false, self.rules).next();
                actions.push(match missing {
                    Some(part) => Action::Write(p, part),
                    None if logs_first || epoch.is_logged => Action::Finish(p),
                    None => Action::Link(p),
                });
            }
        }
    }

    /// What can go wrong with a process.
    fn mishaps(&self, state: &State, p: usize, actions: &mut Vec<Action>) {
        let process = &state.processes[p];
        match process.at {
            At::Down => {
                if state.left.folders_lost > 0 && !process.folder.files.is_empty() {
                    actions.push(Action::LoseFolder(p));
                }
                return;
            }
            At::StandBy | At::Stopped | At::BeganAgain => return,
            _ => {}
        }
        if state.left.crashes > 0 {
            actions.push(Action::Kill(p));
            if process.folder.has_unsynced() {
                actions.push(Action::LosePower(p));
            }
        }
        if state.left.expiries > 0 && state.broker.member == Some(p) {
            actions.push(Action::Expire(p, false));
            if process.producer.is_ready {
                actions.push(Action::Expire(p, true));
            }
        }
    }
}

fn commits(state: &State, p: usize, can_be_late: bool, actions: &mut Vec<Action>) {
    actions.push(Action::Commit(p, Way::Once));
    if can_be_late {
        actions.push(Action::Commit(p, Way::HeldBack));
    }
    if state.left.crashes > 0 {
        actions.push(Action::Commit(p, Way::Unheard));
        if can_be_late {
            actions.push(Action::Commit(p, Way::Posthumous));
        }
    }
}
