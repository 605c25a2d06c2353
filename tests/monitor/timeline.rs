//! Timelines on virtual time: what happens at which second, and what is told in which.

use std::time::Duration;

use super::support::{Told, World, told};
use tripline::change::Op;
use tripline::episode::Status;

/// A script against a world with a monitor that runs on.
#[derive(Default)]
pub(crate) struct Timeline {
    steps: Vec<(u64, Step)>,
    wants: Vec<(u64, Told)>,
}

enum Step {
    Do(Box<dyn Fn(&World)>),
    /// The process is killed, and there is none until this second.
    Crash(u64),
    /// The process is told to stop, and there is none until this second.
    Stop(u64),
}

/// One second of a timeline.
pub(crate) struct At<'t> {
    second: u64,
    line: &'t mut Timeline,
}

impl Timeline {
    pub(crate) fn at(&mut self, second: u64) -> At<'_> {
        At { second, line: self }
    }

    /// Told within this second.
    pub(crate) fn want(&mut self, second: u64, told: Told) {
        self.wants.push((second, told));
    }

    /// Plays the script up to a second, then holds what was told against what is wanted.
    pub(crate) async fn play(mut self, world: &mut World, until: u64) {
        world.settings.until_end = false;
        let before = world.sinks.alerts().len();
        let started = tokio::time::Instant::now();
        let first = world.now();
        let second = |second: u64| started + Duration::from_secs(second);
        self.steps.sort_by_key(|(at, _)| *at);
        let mut steps = self.steps.into_iter();
        let mut ended = false;
        while !ended {
            let mut monitor = world.monitor();
            let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
            let mut run = Box::pin(monitor.run(async move { drop(stopped.await) }));
            let down_until = loop {
                let step = steps.next();
                let at = step.as_ref().map_or(until, |(at, _)| *at);
                tokio::select! {
                    result = &mut run => panic!("the run ended by itself: {result:?}"),
                    () = tokio::time::sleep_until(second(at)) => {}
                }
                match step {
                    Some((_, Step::Do(action))) => action(world),
                    Some((_, Step::Crash(down))) => break down,
                    Some((_, Step::Stop(down))) => {
                        stop.send(()).unwrap();
                        run.as_mut().await.unwrap();
                        break down;
                    }
                    None => {
                        ended = true;
                        break until;
                    }
                }
            };
            drop(run);
            drop(monitor);
            while !ended && steps.as_slice().first().is_some_and(|(at, _)| *at < down_until) {
                let Some((at, Step::Do(action))) = steps.next() else { panic!("there is no process to end") };
                tokio::time::sleep_until(second(at)).await;
                action(world);
            }
            tokio::time::sleep_until(second(down_until)).await;
        }
        world.settings.until_end = true;
        let passed = |alert: &tripline::alert::Alert| alert.emitted_at.0 - first.0;
        let got: Vec<(u64, Told)> = world
            .sinks
            .alerts()
            .iter()
            .skip(before)
            .map(|alert| (u64::try_from(passed(alert)).unwrap() / 1_000_000, told(alert)))
            .collect();
        assert_eq!(got, self.wants);
    }
}

impl At<'_> {
    pub(crate) fn does(self, action: impl Fn(&World) + 'static) {
        self.line.steps.push((self.second, Step::Do(Box::new(action))));
    }

    pub(crate) fn create(self, id: i64, user: i64, amount: &'static str) {
        self.does(move |world| _ = world.create(id, user, amount));
    }

    pub(crate) fn update(self, id: i64, user: i64, amount: &'static str) {
        self.does(move |world| _ = world.update(id, user, amount));
    }

    pub(crate) fn delete(self, id: i64) {
        self.does(move |world| world.delete(id));
    }

    /// On the topic, and not in the table yet.
    pub(crate) fn stream(self, id: i64, user: i64, amount: &'static str) {
        self.does(move |world| _ = world.stream(Op::Create, id, user, amount, world.now()));
    }

    /// In the table only.
    pub(crate) fn put(self, id: i64, user: i64, amount: &'static str) {
        self.does(move |world| world.put(id, user, amount, world.now()));
    }

    pub(crate) fn crash_until(self, second: u64) {
        self.line.steps.push((self.second, Step::Crash(second)));
    }

    pub(crate) fn stop_until(self, second: u64) {
        self.line.steps.push((self.second, Step::Stop(second)));
    }
}

/// The statuses told of a user, repetitions left out.
pub(crate) fn statuses(world: &World, user: i64) -> Vec<Status> {
    let mut seen = std::collections::BTreeSet::new();
    let alerts = world.sinks.alerts();
    let mine = alerts.iter().filter(|alert| told(alert).0 == user && seen.insert(alert.id));
    mine.map(|alert| alert.status).collect()
}
