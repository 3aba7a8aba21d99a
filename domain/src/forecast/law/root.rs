//! Quantiles: the root of a distribution function.

/// The distribution of a symmetric unimodal law around 0, for arguments of 0 and more.
pub(super) trait Curve {
    /// `F(x) - 1/2`, the density, and its slope at `x >= 0`.
    fn at(&self, x: f64) -> (f64, f64, f64);

    /// `F(0) - 1/2`: half the probability of 0 itself.
    fn jump(&self) -> f64 {
        0.0
    }
}

/// What is known of a law's width.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// Standard deviation.
    pub(super) spread: f64,
    /// Width of the finest feature.
    pub(super) grain: f64,
    /// No quantile asked for lies beyond; may be infinite.
    pub(super) reach: f64,
}

/// The `x >= 0` with `F(x) - 1/2 = target`, for a target above 0 and below 1/2, by Halley's method in a bracket.
/// `guess` is where to start, `shape` bounds the law.
pub(super) fn solve(curve: &impl Curve, target: f64, guess: f64, shape: Bounds) -> f64 {
    let Bounds { spread, grain, reach } = shape;
    if target <= curve.jump() {
        return 0.0;
    }
    let (mut low, mut high) = (0.0, reach);
    let mut x = if guess > 0.0 && guess.is_finite() { guess.min(reach) } else { spread };
    for _ in 0..200 {
        let (value, slope, bend) = curve.at(x);
        let miss = value - target;
        if miss < 0.0 {
            low = x;
        } else {
            high = x;
        }
        let step = -2.0 * miss * slope / (2.0 * slope * slope - miss * bend);
        let next = x + step;
        if next > low && next < high || next == x {
            // The error of such a step is of third order in it.
            if step.abs() <= 2e-4 * spread.min(grain.max(0.125 * x)) {
                return next;
            }
            x = next;
        } else if high.is_finite() {
            if high - low <= 1e-13 * spread {
                return 0.5 * (low + high);
            }
            x = 0.5 * (low + high);
        } else {
            x = 2.0 * x.max(spread);
            if x > 1e6 * spread {
                return low;
            }
        }
    }
    x
}
