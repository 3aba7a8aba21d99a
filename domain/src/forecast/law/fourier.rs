//! Inversion of the characteristic function by the midpoint rule.
//!
//! For a symmetric law, `F(x) - 1/2 = 1/pi * integral over v > 0 of phi(v) sin(v x) / v`. With nodes
//! `(k + 1/2) h` the error is at most twice the probability beyond `2 pi / h - |x|`, plus what is cut off at the
//! last node (Abate & Whitt 1992, section 5). All rows share the nodes, and the function of the next row is that of the
//! last times one factor.

use std::f64::consts::PI;

use super::{
    numeric::exp_neg,
    root::Curve,
    shifts::{NEGLIGIBLE, Shifts, scale},
};

/// Nodes are handled in groups of this many.
const LANES: usize = 4;

/// Nodes, and the characteristic function of the drift after some rows at each.
#[derive(Debug, Clone)]
pub(super) struct Grid {
    shifts: Shifts,
    step: f64,
    squares: Vec<f64>,
    /// Rows that `phi` accounts for.
    rows: usize,
    phi: Vec<f64>,
    /// `exp(-r^2 v^2 / 2) step / (pi v)` for the `r` beside it.
    noise: (f64, Vec<f64>),
    series: Series,
}

/// How many nodes a grid needs.
#[derive(Debug, Clone, Copy)]
pub(super) struct Size {
    step: f64,
    nodes: f64,
}

impl Size {
    /// For arguments up to `reach` and rows that differ from `reach` by more than `tail` with negligible
    /// probability; the characteristic function is negligible from `last` on.
    pub(super) fn new(reach: f64, tail: f64, last: f64) -> Self {
        let step = 2.0 * PI / (reach + tail);
        Self { step, nodes: (last / step + 1.0).ceil() }
    }

    pub(super) fn nodes(self) -> f64 {
        self.nodes
    }
}

/// Where the characteristic function of `V + r Z` after `n` rows becomes negligible.
pub(super) fn last_node(shifts: Shifts, n: usize, r: f64) -> f64 {
    // Without noise the function does not fall below the probability that nothing changed; where that is rare it
    // is cut off too.
    let unchanged = shifts.rarity_of_none(n);
    let negligible = |v: f64| {
        let decay = shifts.decay(n, v);
        decay + 0.5 * (r * v) * (r * v) > NEGLIGIBLE || (unchanged > 16.0 && decay > unchanged - 0.7)
    };
    let (mut low, mut high) = (0.0, 1.0 / scale(n));
    while !negligible(high) && high < 1e9 {
        (low, high) = (high, 2.0 * high);
    }
    for _ in 0..6 {
        let middle = 0.5 * (low + high);
        if negligible(middle) { high = middle } else { low = middle }
    }
    high
}

impl Grid {
    /// Nodes of this size, before any row.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
    pub(super) fn new(shifts: Shifts, size: Size) -> Self {
        // Beyond any case known; what is cut off then is a matter of accuracy, not of memory.
        let nodes = (size.nodes.min(262_144.0) as usize).next_multiple_of(LANES);
        let squares = (0..nodes).map(|k| ((k as f64 + 0.5) * size.step).powi(2)).collect();
        let series = Series { step: size.step, weights: Vec::new() };
        let noise = (f64::NAN, vec![0.0; nodes]);
        Self { shifts, step: size.step, squares, rows: 0, phi: vec![1.0; nodes], noise, series }
    }

    /// Accounts for one more row.
    pub(super) fn advance(&mut self) {
        let square = scale(self.rows) * scale(self.rows);
        let stay = 1.0 - self.shifts.p;
        for (phi, node) in self.phi.iter_mut().zip(&self.squares) {
            let z = square * node;
            *phi *= (1.0 + stay * z) / (1.0 + z);
        }
        self.rows += 1;
    }

    /// The law of the last row's `V + r Z`.
    pub(super) fn series(&mut self, r: f64) -> &Series {
        if self.noise.0.to_bits() != r.to_bits() {
            let (half, front) = (0.5 * r * r, self.step / PI);
            for (noise, square) in self.noise.1.iter_mut().zip(&self.squares) {
                *noise = exp_neg(half * square) * front / square.sqrt();
            }
            self.noise.0 = r;
        }
        let weights = &mut self.series.weights;
        weights.clear();
        weights.extend(self.phi.iter().zip(&self.noise.1).map(|(phi, noise)| phi * noise));
        let used = weights.chunks_exact(LANES).rposition(|group| group.iter().any(|weight| *weight > 1e-14));
        weights.truncate(LANES * used.map_or(1, |last| last + 1));
        &self.series
    }
}

/// `F(x) - 1/2` as a sum of sines.
#[derive(Debug, Clone)]
pub(super) struct Series {
    step: f64,
    weights: Vec<f64>,
}

impl Curve for Series {
    fn at(&self, x: f64) -> (f64, f64, f64) {
        let step = self.step;
        // Node k has the angle (2 k + 1) half; four neighbours go on together, each by 8 half a turn.
        let half = 0.5 * step * x;
        let (s1, c1) = half.sin_cos();
        let (s2, c2) = turn((s1, c1), (s1, c1));
        let (s3, c3) = turn((s1, c1), (s2, c2));
        let (s5, c5) = turn((s3, c3), (s2, c2));
        let (s7, c7) = turn((s5, c5), (s2, c2));
        let (s4, c4) = turn((s2, c2), (s2, c2));
        let (s8, c8) = turn((s4, c4), (s4, c4));
        let (mut s, mut c) = ([s1, s3, s5, s7], [c1, c3, c5, c7]);
        let mut v = [0.5 * step, 1.5 * step, 2.5 * step, 3.5 * step];
        let (mut value, mut slope, mut bend) = ([0.0; LANES], [0.0; LANES], [0.0; LANES]);
        #[allow(clippy::cast_precision_loss)]
        let stride = LANES as f64 * step;
        for weights in self.weights.chunks_exact(LANES) {
            for i in 0..LANES {
                let wave = weights[i] * s[i];
                value[i] += wave;
                slope[i] += weights[i] * v[i] * c[i];
                bend[i] -= wave * v[i] * v[i];
                (s[i], c[i]) = (s[i] * c8 + c[i] * s8, c[i] * c8 - s[i] * s8);
                v[i] += stride;
            }
        }
        let sum = |lanes: [f64; LANES]| (lanes[0] + lanes[1]) + (lanes[2] + lanes[3]);
        (sum(value), sum(slope), sum(bend))
    }
}

/// Sine and cosine of the sum of two angles.
fn turn(one: (f64, f64), other: (f64, f64)) -> (f64, f64) {
    (one.0 * other.1 + one.1 * other.0, one.1 * other.1 - one.0 * other.0)
}
