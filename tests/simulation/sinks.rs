//! How a process writes: a client that repeats its requests by itself, over connections that break, and a table that takes
//! the alerts of one generation.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

use tripline::alert::Alert;
use tripline::change::record::DeadLetter;
use tripline::failure::{CallError, Kind, Server};
use tripline::planted;
use tripline::sink::{Sinks, Transaction};
use tripline::unit::recovery::RecoveryState;
use uuid::Uuid;

use super::broker::{Broker, kafka};
use super::process::{Fate, Process};
use super::wire::Wire;

/// How long a call goes on.
const CALL_MS: u64 = 5_000;

/// The table of alerts, and the log: what outlives the processes that write.
#[derive(Default)]
pub(crate) struct Delivered {
    pub(crate) generation: Cell<u64>,
    pub(crate) table: RefCell<BTreeMap<Uuid, Alert>>,
    pub(crate) log: RefCell<Vec<Alert>>,
    pub(crate) away_until: Cell<u64>,
    watcher: RefCell<Option<Watcher>>,
}

/// Called when alerts reach the table or the log.
type Watcher = Box<dyn Fn(&[Alert])>;

impl Delivered {
    pub(crate) fn watch(&self, watcher: impl Fn(&[Alert]) + 'static) {
        *self.watcher.borrow_mut() = Some(Box::new(watcher));
    }

    fn show(&self, alerts: &[Alert]) {
        if let Some(watcher) = &*self.watcher.borrow() {
            watcher(alerts);
        }
    }
}

/// The disturbances of connections, in hundredths of the requests.
#[derive(Default)]
pub(crate) struct Disturbances {
    /// The connection breaks, and the request is repeated.
    pub(crate) cuts: Cell<u64>,
    /// Of those, the request arrives nevertheless, late.
    pub(crate) late: Cell<u64>,
    /// The caller does not learn the outcome of a commit.
    pub(crate) unknown: Cell<u64>,
}

pub(crate) struct SimSinks {
    wire: Rc<Wire>,
    broker: Rc<Broker>,
    delivered: Rc<Delivered>,
    disturbances: Rc<Disturbances>,
    process: Rc<Process>,
    channel: u64,
    table: u64,
    epoch: Option<u32>,
    generation: u64,
    open: bool,
    /// A connection was cut since the producer was made: a request of it may still come.
    disturbed: Rc<Cell<bool>>,
}

/// A request to the broker, which may be sent again, and whether it is late.
type Request<T> = Rc<dyn Fn(&Broker, bool) -> Result<T, CallError>>;

impl SimSinks {
    pub(crate) fn new(
        wire: &Rc<Wire>,
        broker: &Rc<Broker>,
        delivered: &Rc<Delivered>,
        disturbances: &Rc<Disturbances>,
        process: &Rc<Process>,
    ) -> Self {
        Self {
            wire: Rc::clone(wire),
            broker: Rc::clone(broker),
            delivered: Rc::clone(delivered),
            disturbances: Rc::clone(disturbances),
            process: Rc::clone(process),
            channel: wire.channel(),
            table: wire.channel(),
            epoch: None,
            generation: 0,
            open: false,
            disturbed: Rc::default(),
        }
    }

    fn what(&self, request: &str) -> String {
        format!("process {}: {request}", self.process.number)
    }

    /// Sends a request until it is answered, like the client. A connection that breaks may have sent the request: it
    /// arrives late, or not at all. If it has arrived, its answer may be lost.
    async fn call<T: 'static>(&self, what: &str, may_be_late: bool, request: Request<T>) -> Result<T, CallError> {
        let given_up = self.wire.now() + CALL_MS;
        loop {
            if self.wire.now() > given_up {
                return Err(kafka("timed out", Kind::Unreachable));
            }
            if self.process.is_cut(self.wire.now()) {
                self.disturbed.set(true);
                self.wire.pass(200).await;
                continue;
            }
            let (broker, sent) = (Rc::clone(&self.broker), Rc::clone(&request));
            if self.wire.random.percent(self.disturbances.cuts.get()) {
                self.disturbed.set(true);
                if may_be_late && self.wire.random.percent(self.disturbances.late.get()) {
                    if self.wire.random.percent(20) {
                        self.process.plan(self.wire.random.below(8), Fate::Killed);
                    }
                    let at = self.wire.now() + self.wire.random.below(3_000);
                    self.wire.at(at, self.what(&format!("{what}, late")), move || drop(sent(&broker, true)));
                } else if self.wire.random.percent(50) {
                    // It has come, and its answer is lost.
                    self.wire
                        .ask(self.channel, self.what(&format!("{what}, unanswered")), move || {
                            drop(sent(&broker, false))
                        })
                        .await;
                }
                self.wire.pass(self.wire.random.below(50)).await;
                continue;
            }
            let answer = self.wire.ask(self.channel, self.what(what), move || sent(&broker, false)).await;
            if let Some(answer) = answer {
                return answer;
            }
        }
    }

    /// A new producer: earlier ones are refused, and so is what still comes of them.
    async fn make_producer(&mut self) -> Result<(), CallError> {
        (self.epoch, self.open) = (None, false);
        self.disturbed.set(false);
        let machine = self.process.machine;
        let made = self.call("InitProducerId", false, Rc::new(move |broker, _| Ok(broker.init(machine)))).await?;
        self.epoch = Some(made);
        Ok(())
    }

    async fn end(&self, epoch: u32, commit: bool) -> Result<(), CallError> {
        let what = if commit { "EndTxn commit" } else { "EndTxn abort" };
        self.call(what, true, Rc::new(move |broker, _| broker.end(epoch, commit))).await
    }

    /// Asks the database of the table.
    async fn in_table<T: 'static>(
        &self,
        what: &str,
        serve: impl FnOnce(&Delivered) -> T + 'static,
    ) -> Result<T, CallError> {
        let now = self.wire.now();
        let away = || CallError::new("the table", "connection refused", Kind::Unreachable).at(Server::Postgres);
        if self.delivered.away_until.get() > now || self.process.is_cut(now) {
            if self.wire.random.percent(10) {
                self.process.plan(self.wire.random.below(8), Fate::Killed);
            }
            return Err(away());
        }
        let delivered = Rc::clone(&self.delivered);
        let answer = self.wire.ask(self.table, self.what(what), move || serve(&delivered)).await.ok_or_else(away)?;
        // What was done may not be heard of.
        if self.wire.random.percent(self.disturbances.cuts.get()) { Err(away()) } else { Ok(answer) }
    }
}

impl Sinks for SimSinks {
    type Member = (String, u64);

    async fn fence(&mut self) -> Result<(), CallError> {
        self.make_producer().await?;
        let raise = |delivered: &Delivered| {
            delivered.generation.set(delivered.generation.get() + 1);
            delivered.generation.get()
        };
        self.generation = self.in_table("raise the generation", raise).await?;
        Ok(())
    }

    async fn dead_letter(&mut self, dead: &[DeadLetter]) -> Result<(), CallError> {
        let dead = dead.to_vec();
        self.call(
            "dead letters",
            false,
            Rc::new(move |broker, _| {
                broker.state().dead.extend_from_slice(&dead);
                Ok(())
            }),
        )
        .await
    }

    async fn prepare(&mut self, member: &Self::Member, transaction: &Transaction<'_>) -> Result<(), CallError> {
        let lost = || kafka("no producer has been fenced in", Kind::Fenced);
        if self.disturbed.get() && !planted::bug("producer-kept-after-disturbance") {
            self.make_producer().await?;
        } else if self.open {
            self.end(self.epoch.ok_or_else(lost)?, false).await?;
        }
        let epoch = self.epoch.ok_or_else(lost)?;
        self.open = true;
        let (alerts, episodes) = (transaction.alerts.to_vec(), transaction.episodes.to_vec());
        let progress = transaction.progress.clone();
        let produced: Request<()> = {
            let (progress, done) = (progress.clone(), Cell::new(false));
            Rc::new(move |broker, _| {
                // Repeated records are known by their sequence.
                if done.get() {
                    return Ok(());
                }
                broker.produce(epoch, true, &alerts, &episodes, &progress).inspect(|()| done.set(true))
            })
        };
        let produce = self.call("Produce", false, produced);
        let (member, offsets, name) = (member.clone(), progress.offsets.clone(), progress.name.clone());
        let added: Request<()> =
            Rc::new(move |broker, late| broker.add_offsets(epoch, &member, &offsets, &name, !late));
        let add = self.call("TxnOffsetCommit", true, added);
        let (produced, added) = tokio::join!(produce, add);
        produced?;
        added
    }

    async fn commit(&mut self) -> Result<(), CallError> {
        let epoch = self.epoch.ok_or_else(|| kafka("no producer has been fenced in", Kind::Fenced))?;
        let ended = self.end(epoch, true).await;
        if self.wire.random.percent(self.disturbances.unknown.get()) {
            return Err(kafka("what became of the transaction is not known", Kind::Fenced));
        }
        ended?;
        self.open = false;
        Ok(())
    }

    async fn deliver(&mut self, alerts: &[Alert]) -> Result<(), CallError> {
        let (own, writes) = (self.generation, alerts.to_vec());
        let written = self.in_table("insert alerts", move |delivered| {
            if delivered.generation.get() != own {
                return Err(CallError::new("the table", "another instance has taken over", Kind::Fenced));
            }
            delivered.show(&writes);
            let mut table = delivered.table.borrow_mut();
            for alert in writes {
                table.entry(alert.id).or_insert(alert);
            }
            Ok(())
        });
        written.await??;
        self.delivered.log.borrow_mut().extend_from_slice(alerts);
        self.delivered.show(alerts);
        Ok(())
    }

    /// Waits for the open transactions of all groups.
    async fn recovery(&mut self) -> Result<RecoveryState, CallError> {
        let given_up = self.wire.now() + CALL_MS;
        loop {
            let read: Request<Option<RecoveryState>> = Rc::new(|broker, _| {
                let state = broker.state();
                let recovery = RecoveryState {
                    progress: state.progress.clone(),
                    episodes: state.episodes.values().cloned().collect(),
                };
                match &state.producer.open {
                    Some(_) => Ok(None),
                    None => Ok(Some(recovery)),
                }
            });
            match self.call("read the recovery topic", false, read).await? {
                Some(recovery) => return Ok(recovery),
                None if self.wire.now() > given_up => return Err(kafka("timed out", Kind::Unreachable)),
                None => self.wire.pass(100).await,
            }
        }
    }
}
