//! The plan of a run of the monitor.

use super::random::Random;
use super::workload::Shape;
use super::world::ACTIVE_MS;

/// How a run is disturbed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    pub(crate) shape: Shape,
    pub(crate) machines: usize,
    /// Whether anything is disturbed at all.
    pub(crate) disturbed: bool,
    pub(crate) cuts: u64,
    pub(crate) unknown: u64,
    pub(crate) fails: u64,
    pub(crate) slow: u64,
    /// Milliseconds between two faults at most.
    pub(crate) faults: u64,
    pub(crate) kinds: u64,
    pub(crate) state_interval: u64,
    pub(crate) audit_period: u64,
    pub(crate) keys_per_statement: usize,
    pub(crate) statements_max: usize,
    pub(crate) sweep: bool,
}

impl Plan {
    pub(crate) fn of(seed: u64) -> Self {
        let random = Random::new(seed);
        let is_monotone = random.percent(20);
        let shape = Shape {
            is_monotone,
            users: random.between(2, 5),
            partitions: i32::try_from(random.between(1, 3)).unwrap(),
            pause: random.between(100, 900),
            until: ACTIVE_MS,
            bad: if !is_monotone && random.percent(25) { 6 } else { 0 },
            great: 0,
            unpublished: 0,
            truncates: 1,
        };
        let plan = Self {
            seed,
            shape,
            machines: if random.percent(60) { 2 } else { 1 },
            disturbed: true,
            cuts: *random.pick(&[0, 0, 5, 20]),
            unknown: *random.pick(&[0, 0, 3]),
            fails: *random.pick(&[0, 0, 5, 25]),
            slow: *random.pick(&[1, 5, 5, 40]),
            faults: *random.pick(&[800, 2_000, 6_000]),
            kinds: random.below(8),
            state_interval: *random.pick(&[0, 1, 5, 30]),
            audit_period: if shape.bad > 0 { 8 } else { *random.pick(&[8, 600, 600]) },
            keys_per_statement: *random.pick(&[1, 100]),
            statements_max: *random.pick(&[1, 4]),
            sweep: random.percent(20),
        };
        let great = if random.percent(30) { *random.pick(&[3, 10]) } else { 0 };
        // Drawn last, so that it changes nothing of the other runs.
        let lacks = !is_monotone && shape.bad == 0 && random.percent(12);
        let (unpublished, truncates) = if lacks { (25, 5) } else { (0, shape.truncates) };
        Self { shape: Shape { great, unpublished, truncates, ..shape }, ..plan }
    }

    /// The same without any disturbance.
    pub(crate) fn undisturbed(self) -> Self {
        Self { disturbed: false, machines: 1, cuts: 0, unknown: 0, fails: 0, slow: 1, ..self }
    }
}
