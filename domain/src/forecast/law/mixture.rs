//! The drift's law in closed form: partial fractions of its characteristic function.
//!
//! The product over `l` of `1 - p + p / (1 + c_l^2 v^2)` is `(1 - p)^n + sum of a_l / (1 + c_l^2 v^2)`: with
//! probability `(1 - p)^n` nothing changed, else a mixture of Laplace laws with weights `a_l` of either sign. Exact
//! where noise is small, which the inversion by nodes finds hard; useless once the weights cancel.

use super::{
    numeric::{erfcx, exp_neg, normal_density, normal_tail},
    root::Curve,
    shifts::{Shifts, scale},
};

/// The mixture after some rows.
#[derive(Debug, Clone)]
pub(super) struct Mixture {
    shifts: Shifts,
    atom: f64,
    /// Of the Laplace law of scale `l + 1/2`.
    weights: Vec<f64>,
    inverse_scales: Vec<f64>,
}

impl Mixture {
    /// Before any row.
    pub(super) fn new(shifts: Shifts) -> Self {
        Self { shifts, atom: 1.0, weights: Vec::new(), inverse_scales: Vec::new() }
    }

    /// Accounts for one more row; false once rounding shows in the result.
    pub(super) fn advance(&mut self) -> bool {
        let stay = 1.0 - self.shifts.p;
        let next = scale(self.weights.len());
        let (mut weight, mut sum, mut size) = (self.shifts.p * self.atom, 0.0, 0.0);
        let square = next * next;
        for (old, inverse) in self.weights.iter_mut().zip(&self.inverse_scales) {
            let ratio = square * inverse * inverse;
            // What the new row takes from the old law goes to the new one's weight.
            weight += self.shifts.p * *old * ratio / (ratio - 1.0);
            *old *= (1.0 - stay * ratio) / (1.0 - ratio);
            sum += *old;
            size += old.abs();
        }
        self.atom *= stay;
        self.weights.push(weight);
        self.inverse_scales.push(1.0 / next);
        size += weight.abs();
        size < 1e5 && (sum + weight + self.atom - 1.0).abs() < 1e-11
    }

    /// The law of `V + r Z`.
    pub(super) fn with_noise(&self, r: f64) -> Noisy<'_> {
        Noisy { mixture: self, r }
    }
}

/// A mixture with normal noise of standard deviation `r`, which may be 0.
#[derive(Debug, Clone, Copy)]
pub(super) struct Noisy<'a> {
    mixture: &'a Mixture,
    r: f64,
}

impl Noisy<'_> {
    pub(super) fn mixture(&self) -> &Mixture {
        self.mixture
    }

    /// Probability, density and its slope beyond `x` of a Laplace law with noise where the noise shows.
    fn near(&self, x: f64, inverse: f64) -> (f64, f64, f64) {
        let (z, kappa) = (x / self.r, self.r * inverse);
        let bell = (-0.5 * z * z).exp();
        let down = if z > kappa {
            (0.5 * kappa * kappa - z * kappa).exp() * (1.0 - normal_tail(z - kappa))
        } else {
            0.5 * bell * erfcx((kappa - z) * std::f64::consts::FRAC_1_SQRT_2)
        };
        let up = 0.5 * bell * erfcx((kappa + z) * std::f64::consts::FRAC_1_SQRT_2);
        let tail = normal_tail(z) + 0.5 * (down - up);
        (tail, 0.5 * inverse * (down + up), 0.5 * inverse * inverse * (up - down))
    }
}

impl Curve for Noisy<'_> {
    fn at(&self, x: f64) -> (f64, f64, f64) {
        let Mixture { atom, weights, inverse_scales, .. } = self.mixture;
        let (mut tail, mut density, mut slope) = (0.0, 0.0, 0.0);
        let z = if self.r > 0.0 { x / self.r } else { f64::INFINITY };
        // Where noise is out of sight a Laplace law with noise is a Laplace law times exp(kappa^2 / 2).
        let clear = |inverse: f64| z > 9.0 + self.r * inverse;
        let first = inverse_scales.partition_point(|inverse| !clear(*inverse));
        for (weight, inverse) in weights.iter().zip(inverse_scales).take(first) {
            let near = self.near(x, *inverse);
            tail += weight * near.0;
            density += weight * near.1;
            slope += weight * near.2;
        }
        let half = 0.5 * self.r * self.r;
        for (weight, inverse) in weights[first..].iter().zip(&inverse_scales[first..]) {
            let part = 0.5 * weight * exp_neg((x - half * inverse) * inverse);
            tail += part;
            density += part * inverse;
            slope -= part * inverse * inverse;
        }
        if z < 40.0 {
            let bell = normal_density(z) / self.r;
            tail += atom * normal_tail(z);
            density += atom * bell;
            slope -= atom * bell * z / self.r;
        }
        (0.5 - tail, density, slope)
    }

    fn jump(&self) -> f64 {
        if self.r > 0.0 { 0.0 } else { 0.5 * self.mixture.atom }
    }
}
