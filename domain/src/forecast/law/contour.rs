//! The drift's law where it has too little noise for nodes on the real axis and too many terms for partial fractions:
//! a contour integral of the moment generating function.
//!
//! `P(V > x) = 1/(2 pi i) * integral of M(s) exp(-s x) / s` along any path between the pole at 0 and the poles of `M` at
//! `1 / (l + 1/2)`. On a parabola around the latter the integrand falls off like a normal density, and the midpoint
//! rule converges geometrically (Weideman & Trefethen 2007): at this step it is right to about 1e-11.

use std::f64::consts::PI;

use super::{
    numeric::exp_neg,
    root::Curve,
    shifts::{Shifts, scale},
};

const STEP: f64 = 0.11;

/// The moment generating function after some rows, at the nodes of a path.
#[derive(Debug, Clone)]
pub(super) struct Contour {
    shifts: Shifts,
    rows: usize,
    nodes: Vec<Complex>,
    /// Factor of the midpoint rule times the function.
    values: Vec<Complex>,
    noisy: Path,
}

#[derive(Debug, Clone, Copy)]
struct Complex {
    re: f64,
    im: f64,
}

impl Complex {
    fn times(self, other: Self) -> Self {
        Self { re: self.re * other.re - self.im * other.im, im: self.re * other.im + self.im * other.re }
    }

    fn over(self, other: Self) -> Self {
        let norm = 1.0 / (other.re * other.re + other.im * other.im);
        self.times(Self { re: other.re * norm, im: -other.im * norm })
    }
}

impl Contour {
    /// After `rows` rows and good for up to `last`, for arguments of `least` and more.
    #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    pub(super) fn new(shifts: Shifts, rows: usize, last: usize, least: f64) -> Self {
        let pole = 1.0 / scale(last.max(1) - 1);
        let width = 0.25 * pole;
        let end = (27.0 / (width * least) + 1.0).sqrt().min(300.0);
        let count = (end / STEP) as usize + 1;
        let (mut nodes, mut values) = (Vec::with_capacity(count), Vec::with_capacity(count));
        for k in 0..count {
            let theta = (k as f64 + 0.5) * STEP;
            // pole - width (1 + i theta)^2
            let node = Complex { re: pole - width * (1.0 - theta * theta), im: -2.0 * width * theta };
            let front = 2.0 * width * STEP / PI;
            nodes.push(node);
            values.push(Complex { re: front, im: front * theta }.over(node));
        }
        let noisy = Path { nodes: Vec::new(), values: Vec::new() };
        let mut contour = Self { shifts, rows: 0, nodes, values, noisy };
        (0..rows).for_each(|_| contour.advance());
        contour
    }

    /// Accounts for one more row.
    pub(super) fn advance(&mut self) {
        let square = scale(self.rows) * scale(self.rows);
        let stay = 1.0 - self.shifts.p;
        for (value, node) in self.values.iter_mut().zip(&self.nodes) {
            let z = node.times(*node);
            let (re, im) = (square * z.re, square * z.im);
            let factor = Complex { re: 1.0 - stay * re, im: -stay * im }.over(Complex { re: 1.0 - re, im: -im });
            *value = value.times(factor);
        }
        self.rows += 1;
    }

    /// The law of the last row's `V + r Z`, right for arguments beyond some `20 r`.
    pub(super) fn path(&mut self, r: f64) -> &Path {
        let half = 0.5 * r * r;
        self.noisy.nodes.clear();
        self.noisy.values.clear();
        for (node, value) in self.nodes.iter().zip(&self.values) {
            let square = node.times(*node);
            // Further out exp(-s x) has done its work.
            if half * square.re > 2.0 {
                break;
            }
            let size = (half * square.re).exp();
            let (sin, cos) = (half * square.im).sin_cos();
            self.noisy.nodes.push(*node);
            self.noisy.values.push(value.times(Complex { re: size * cos, im: size * sin }));
        }
        &self.noisy
    }
}

/// The terms of the midpoint rule.
#[derive(Debug, Clone)]
pub(super) struct Path {
    nodes: Vec<Complex>,
    values: Vec<Complex>,
}

impl Curve for Path {
    fn at(&self, x: f64) -> (f64, f64, f64) {
        let (mut tail, mut density, mut slope) = (0.0, 0.0, 0.0);
        for (node, value) in self.nodes.iter().zip(&self.values) {
            let size = exp_neg(node.re * x);
            let (sin, cos) = (node.im * x).sin_cos();
            let term = value.times(Complex { re: size * cos, im: -size * sin });
            let first = term.times(*node);
            tail += term.re;
            density += first.re;
            slope -= first.times(*node).re;
        }
        (0.5 - tail, density, slope)
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{fourier, mixture::Mixture},
        *,
    };

    #[test]
    fn it_is_the_mixture_where_that_is_good() {
        for p in [0.02, 0.3, 0.9] {
            let shifts = Shifts { p };
            let mut mixture = Mixture::new(shifts);
            for rows in 1..15 {
                assert!(mixture.advance());
                for x in [0.2, 1.0, 5.0, 30.0] {
                    let ours = Contour::new(shifts, rows, rows + 3, x).path(0.0).at(x);
                    let theirs = mixture.with_noise(0.0).at(x);
                    assert!((ours.0 - theirs.0).abs() < 1e-9, "p {p}, {rows} rows, {x}: {ours:?} {theirs:?}");
                    assert!((ours.1 - theirs.1).abs() < 1e-8, "p {p}, {rows} rows, {x}: {ours:?} {theirs:?}");
                }
            }
        }
    }

    #[test]
    fn it_is_the_inversion_on_the_real_axis_where_there_is_noise() {
        let shifts = Shifts { p: 0.1 };
        let (rows, r) = (120, 2.0);
        let reach = shifts.reach(rows, r, 26.0);
        let size = fourier::Size::new(reach, reach, fourier::last_node(shifts, rows, r));
        let mut grid = fourier::Grid::new(shifts, size);
        (0..rows).for_each(|_| grid.advance());
        for x in [60.0, 200.0, 700.0] {
            let (ours, theirs) = (Contour::new(shifts, rows, rows, x).path(r).at(x), grid.series(r).at(x));
            assert!((ours.0 - theirs.0).abs() < 1e-9, "{x}: {ours:?} {theirs:?}");
            assert!((ours.1 - theirs.1).abs() < 1e-9 && (ours.2 - theirs.2).abs() < 1e-9);
        }
    }
}
