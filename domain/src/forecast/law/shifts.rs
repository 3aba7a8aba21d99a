//! How far the trend may have drifted after some future rows, in units of (mean rate change × row spacing).
//!
//! Prophet lets the rate change at every future row with probability `p`, by a Laplace amount of scale 1 in
//! these units, in the middle between two rows. After rows 0 to n - 1 the trend has moved by
//! `V = sum over l < n of (l + 1/2) s_l`, `s_l` independent: 0 with probability `1 - p`, else Laplace. So `V` has
//! the characteristic function `product over l < n of 1 - p + p / (1 + (l + 1/2)^2 v^2)`.

/// ln of 1e11: what is less likely than 1e-11 is neglected.
pub(super) const NEGLIGIBLE: f64 = 25.33;

/// The law of future rate changes.
#[derive(Debug, Clone, Copy)]
pub(in crate::forecast) struct Shifts {
    /// Probability of a change at a row.
    pub(in crate::forecast) p: f64,
}

/// Scale of the `l`-th of the terms that make up `V`.
#[allow(clippy::cast_precision_loss)]
pub(super) fn scale(l: usize) -> f64 {
    l as f64 + 0.5
}

impl Shifts {
    /// Variance after `n` rows.
    #[allow(clippy::cast_precision_loss)]
    pub(super) fn variance(self, n: usize) -> f64 {
        let n = n as f64;
        // The sum of (l + 1/2)^2 is n (4 n^2 - 1) / 12; a Laplace law of scale 1 has variance 2.
        self.p * n * (4.0 * n * n - 1.0) / 6.0
    }

    /// Minus the logarithm of the probability that nothing changed in `n` rows.
    #[allow(clippy::cast_precision_loss)]
    pub(super) fn rarity_of_none(self, n: usize) -> f64 {
        -(n as f64) * (1.0 - self.p).ln()
    }

    /// Minus the logarithm of the characteristic function after `n` rows at `v`.
    pub(super) fn decay(self, n: usize, v: f64) -> f64 {
        self.log_product(n, v * v)
    }

    /// A bound that |V + r Z| passes with a probability below `2 exp(-rarity)`; `Z` is standard normal, independent.
    ///
    /// By Chernoff: `P(X > x) <= E exp(a X) / exp(a x)` for every `a`; a few are tried.
    pub(super) fn reach(self, n: usize, r: f64, rarity: f64) -> f64 {
        let pole = 1.0 / scale(n.saturating_sub(1));
        let normal = (2.0 * rarity).sqrt() / (self.variance(n) + r * r).sqrt();
        let tries = [0.1, 0.25, 0.45, 0.65, 0.8, 0.9, 0.95].map(|part| part * pole);
        tries.into_iter().chain([normal.min(0.97 * pole), 0.6 * normal.min(pole)]).fold(f64::INFINITY, |best, a| {
            let log_mgf = 0.5 * (a * r) * (a * r) - self.log_product(n, -a * a);
            best.min((log_mgf + rarity) / a)
        })
    }

    /// Minus the logarithm of the product of `1 - p + p / (1 + scale^2 square)`.
    fn log_product(self, n: usize, square: f64) -> f64 {
        let (mut log, mut product) = (0.0, 1.0);
        for l in 0..n {
            let z = scale(l) * scale(l) * square;
            product *= (1.0 + (1.0 - self.p) * z) / (1.0 + z);
            // A factor is at most 17 here, and underflow needs hundreds.
            if l % 64 == 63 {
                log -= product.ln();
                product = 1.0;
            }
        }
        log - product.ln()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_variance_is_the_curvature_of_the_characteristic_function() {
        let shifts = Shifts { p: 0.07 };
        for n in [1, 30, 400] {
            let v = 1e-4 / scale(n);
            assert!((shifts.decay(n, v) / (0.5 * v * v * shifts.variance(n)) - 1.0).abs() < 1e-5);
        }
    }

    #[test]
    fn reach_of_a_normal_law_is_the_normal_bound() {
        let reach = Shifts { p: 0.0 }.reach(1, 3.0, NEGLIGIBLE);
        assert!(reach >= 3.0 * (2.0 * NEGLIGIBLE).sqrt() - 1e-9 && reach < 3.0 * 12.0, "{reach}");
    }
}
