//! Five ways of being unusual, each as a non-negative number without unit.

use serde::{Deserialize, Serialize};

/// A way of being unusual.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Channel {
    /// The value is far from the one before, against the usual step.
    Jump,
    /// The value is far from the long-run level, against the long-run deviation.
    Distance,
    /// The short-run level is far from the long-run one.
    Shift,
    /// Steps have become larger or smaller than they used to be.
    Error,
    /// The level of the last few values leaves the short-run level, against the usual step.
    Departure,
}

pub(super) const CHANNELS: [Channel; 5] =
    [Channel::Jump, Channel::Distance, Channel::Shift, Channel::Error, Channel::Departure];

/// No measure says more than this: beyond, one wild value is like another.
const CAP: f64 = 100.0;
/// Values after which long-run figures are believed enough to clip what they learn from.
const SETTLED: u64 = 50;
/// Deviations and usual steps beyond which a value is clipped before it is learned from.
const CLIP: f64 = 8.0;
/// How much shorter the shortest window is than the short one.
const SHORTEST: f64 = 6.0;
/// Least deviation, as a share of the range of values so far: what never moved is not infinitely regular.
const FLOOR: f64 = 1e-6;

/// Exponentially weighted figures of a series.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Measures {
    count: u64,
    last: f64,
    least: f64,
    greatest: f64,
    /// Usual size of a step.
    step: f64,
    /// Long-run level and variance.
    level: f64,
    variance: f64,
    short: f64,
    shortest: f64,
    /// Short- and long-run mean and long-run variance of the logarithm of a step's relative size.
    error_short: f64,
    error: f64,
    error_variance: f64,
}

/// Lengths of the windows, in values.
#[derive(Debug, Clone, Copy)]
pub(super) struct Windows {
    pub(super) short: f64,
    pub(super) step: f64,
    pub(super) long: f64,
}

impl Measures {
    pub(super) fn new() -> Self {
        Self {
            count: 0,
            last: 0.0,
            least: f64::MAX,
            greatest: f64::MIN,
            step: 0.0,
            level: 0.0,
            variance: 0.0,
            short: 0.0,
            shortest: 0.0,
            error_short: 0.0,
            error: 0.0,
            error_variance: 0.0,
        }
    }

    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// The long-run level so far.
    pub(super) fn level(&self) -> Option<f64> {
        (self.count > 0).then_some(self.level)
    }

    /// Measures `x` against the past, in the order of [`CHANNELS`], and learns from it.
    pub(super) fn push(&mut self, x: f64, windows: Windows) -> [f64; 5] {
        self.count += 1;
        if self.count == 1 {
            (self.last, self.level) = (x, x);
        }
        (self.least, self.greatest) = (self.least.min(x), self.greatest.max(x));
        let young = 1.0 / self.count as f64;
        let rate = |length: f64| (1.0 / length).max(young);
        let (short, long) = (rate(windows.short), rate(windows.long));
        let floor = FLOOR * (self.greatest - self.least) + f64::MIN_POSITIVE;
        let deviation = self.variance.max(0.0).sqrt() + floor;
        let usual = self.step + floor;
        let against = |distance: f64, unit: f64| (distance.abs() / unit).min(CAP);

        let step = x - self.last;
        let early = self.count < 3;
        let jump = if early { 0.0 } else { against(step, usual) };
        let distance = if early { 0.0 } else { against(x - self.level, deviation) };
        self.short += short * (x - self.short);
        self.shortest += (SHORTEST / windows.short).clamp(young, 1.0) * (x - self.shortest);
        let shift = against(self.short - self.level, deviation);
        let departure = against(self.shortest - self.short, usual);
        let log = jump.ln_1p();
        self.error_short += short * (log - self.error_short);
        let error = if self.count < 10 {
            0.0
        } else {
            // 0.02: relative sizes of steps are never more regular than that.
            (self.error_short - self.error).abs() / (self.error_variance.sqrt() + 0.02)
        };
        self.error += long * (log - self.error);
        self.error_variance += long * ((log - self.error).powi(2) - self.error_variance);

        let settled = self.count >= SETTLED;
        let clip = |v: f64, unit: f64| if settled { v.clamp(-CLIP * unit, CLIP * unit) } else { v };
        let away = clip(x - self.level, deviation);
        self.level += long * away;
        self.variance += long * (away * away - self.variance);
        self.step += rate(windows.step) * (clip(step.abs(), usual) - self.step);
        self.last = x;
        [jump, distance, shift, error, departure]
    }
}
