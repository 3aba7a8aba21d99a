//! Probabilities far out, where inversion has no digits left.

use super::{
    numeric::{normal_density, normal_tail},
    shifts::{Shifts, scale},
};

/// The probability of `V + r Z` above `x`, by the saddle-point formula of Lugannani & Rice (1980).
pub(super) fn lugannani_rice(shifts: Shifts, rows: usize, r: f64, x: f64) -> f64 {
    let pole = 1.0 / scale(rows.saturating_sub(1));
    // The slope of the cumulant function grows from 0 to infinity: bisection finds where it is x.
    let (mut low, mut high) = (0.0, pole);
    for _ in 0..60 {
        let middle = 0.5 * (low + high);
        if cumulant(shifts, rows, r, middle).1 < x { low = middle } else { high = middle }
    }
    let (value, _, curvature) = cumulant(shifts, rows, r, low);
    let w = (2.0 * (low * x - value)).max(0.0).sqrt();
    let u = low * curvature.sqrt();
    if !(w > 0.0 && u > 0.0) {
        return 0.0;
    }
    (normal_tail(w) + normal_density(w) * (1.0 / u - 1.0 / w)).clamp(0.0, 0.5)
}

/// The cumulant function at `a`, its slope and curvature.
fn cumulant(shifts: Shifts, rows: usize, r: f64, a: f64) -> (f64, f64, f64) {
    let (p, stay) = (shifts.p, 1.0 - shifts.p);
    let mut sums = (0.5 * (a * r) * (a * r), a * r * r, r * r);
    for l in 0..rows {
        let square = scale(l) * scale(l);
        let free = 1.0 - square * a * a;
        // The factor is stay + p / free; g and h are its first and second derivative over itself.
        let factor = stay + p / free;
        let g = 2.0 * p * square * a / (free * free) / factor;
        let h = 2.0 * p * square * (1.0 + 3.0 * square * a * a) / (free * free * free) / factor;
        sums.0 += factor.ln();
        sums.1 += g;
        sums.2 += h - g * g;
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_law_that_is_nearly_normal_has_the_normal_tail() {
        let tail = lugannani_rice(Shifts { p: 1e-12 }, 3, 1.0, 0.3);
        assert!((tail / normal_tail(0.3) - 1.0).abs() < 1e-6, "{tail}");
    }

    #[test]
    fn the_tail_of_one_laplace_change_is_about_right() {
        for x in [10.0, 20.0_f64] {
            let (tail, exact) = (lugannani_rice(Shifts { p: 1.0 }, 1, 0.0, x), 0.5 * (-2.0 * x).exp());
            assert!((tail / exact - 1.0).abs() < 0.15, "{x}: {tail} {exact}");
        }
    }
}
