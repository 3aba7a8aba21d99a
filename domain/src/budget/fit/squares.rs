//! Levenberg and Marquardt's method with Huber's weights.

use super::{
    Observation,
    model::{Model, Theta},
};

/// Huber's constant: 95 % efficient where errors are normal.
const HUBER: f64 = 1.345;

/// A local minimum of the loss.
pub(super) struct Solution {
    pub(super) theta: Theta,
    pub(super) loss: f64,
    /// Robust standard deviation of the residuals.
    pub(super) scale: f64,
    /// Standard errors of the logarithms, which are relative errors of the parameters.
    pub(super) errors: Theta,
    pub(super) outliers: Vec<usize>,
}

struct Rows<'a> {
    model: Model,
    history: &'a [Observation],
    limits: [(f64, f64); 3],
}

impl Rows<'_> {
    fn residuals(&self, theta: &Theta) -> Vec<f64> {
        self.history.iter().map(|o| o.response - self.model.value(theta, o.spend)).collect()
    }

    fn loss(&self, theta: &Theta, scale: f64) -> f64 {
        let cut = HUBER * scale;
        let huber = |r: &f64| if r.abs() <= cut { 0.5 * r * r } else { cut * (r.abs() - 0.5 * cut) };
        self.residuals(theta).iter().map(huber).sum()
    }

    /// `beta` by plain least squares, all else given.
    fn with_beta(&self, theta: Theta) -> Theta {
        let unit = [0.0, theta[1], theta[2]];
        let (mut xy, mut xx) = (0.0, 0.0);
        for o in self.history {
            let f = self.model.value(&unit, o.spend);
            (xy, xx) = (xy + f * o.response, xx + f * f);
        }
        if xy > 0.0 && xx > 0.0 { [(xy / xx).ln(), theta[1], theta[2]] } else { unit }
    }

    /// Weighted normal equations: `J'WJ` and `J'Wr`.
    fn normal(&self, theta: &Theta, scale: f64) -> ([[f64; 3]; 3], Theta) {
        let (mut square, mut right) = ([[0.0; 3]; 3], [0.0; 3]);
        for (o, r) in self.history.iter().zip(self.residuals(theta)) {
            let weight = weight(r, scale);
            let g = self.model.gradient(theta, o.spend);
            for i in 0..3 {
                right[i] += weight * g[i] * r;
                for j in 0..3 {
                    square[i][j] += weight * g[i] * g[j];
                }
            }
        }
        (square, right)
    }
}

fn weight(residual: f64, scale: f64) -> f64 {
    (HUBER * scale / residual.abs().max(f64::MIN_POSITIVE)).min(1.0)
}

/// The normal-consistent median absolute deviation, never quite 0.
fn spread(residuals: &[f64], history: &[Observation]) -> f64 {
    let mut sizes: Vec<f64> = residuals.iter().map(|r| r.abs()).collect();
    let middle = sizes.len() / 2;
    let median = *sizes.select_nth_unstable_by(middle, f64::total_cmp).1;
    let floor = 1e-10 * history.iter().map(|o| o.response).fold(0.0, f64::max);
    (1.4826 * median).max(floor)
}

/// The minimum that is reached from `start`.
pub(super) fn minimise(model: Model, history: &[Observation], start: Theta) -> Solution {
    let spends: Vec<f64> = history.iter().map(|o| o.spend).filter(|x| *x > 0.0).collect();
    let rows = Rows { model, history, limits: model.limits(&spends) };
    let mut theta = rows.with_beta(start);
    let mut scale = spread(&rows.residuals(&theta), history);
    // The scale and the weights follow the residuals, so both are found by turns.
    for _ in 0..20 {
        descend(&rows, &mut theta, scale);
        let next = spread(&rows.residuals(&theta), history);
        let settled = (next - scale).abs() <= 1e-6 * scale;
        scale = next;
        if settled {
            break;
        }
    }
    let residuals = rows.residuals(&theta);
    let outliers = residuals.iter().enumerate().filter(|(_, r)| weight(**r, scale) < 0.5).map(|(i, _)| i).collect();
    let errors = errors(&rows, &theta, scale);
    // Scales differ between minima: compared is a loss that does not depend on them.
    let loss = residuals.iter().map(|r| r.abs()).sum();
    Solution { theta, loss, scale, errors, outliers }
}

fn descend(rows: &Rows<'_>, theta: &mut Theta, scale: f64) {
    let (mut damping, mut loss) = (1e-3, rows.loss(theta, scale));
    for _ in 0..100 {
        let (square, right) = rows.normal(theta, scale);
        let mut damped = square;
        for (i, row) in damped.iter_mut().enumerate() {
            // A parameter that the model lacks keeps its place.
            row[i] = if row[i] > 0.0 { row[i] * (1.0 + damping) } else { 1.0 };
        }
        let Some(step) = solve(damped, right) else { return };
        let mut next = *theta;
        for i in 0..3 {
            next[i] = (theta[i] + step[i].clamp(-2.0, 2.0)).clamp(rows.limits[i].0, rows.limits[i].1);
        }
        let reached = rows.loss(&next, scale);
        if reached < loss {
            let small = loss - reached <= 1e-14 * loss;
            (*theta, loss, damping) = (next, reached, (damping * 0.2_f64).max(1e-12));
            if small {
                return;
            }
        } else {
            damping *= 5.0;
            if damping > 1e12 {
                return;
            }
        }
    }
}

/// Relative standard errors; infinite where the rows say nothing of a parameter.
fn errors(rows: &Rows<'_>, theta: &Theta, scale: f64) -> Theta {
    let (square, _) = rows.normal(theta, scale);
    let count = rows.model.parameters().len();
    let mut errors = [0.0; 3];
    for (i, error) in errors.iter_mut().enumerate().take(count) {
        let mut padded = square;
        for (k, row) in padded.iter_mut().enumerate().skip(count) {
            row[k] = 1.0;
        }
        let mut unit = [0.0; 3];
        unit[i] = 1.0;
        let variance = solve(padded, unit).map_or(f64::INFINITY, |column| column[i]);
        let at_limit = theta[i] <= rows.limits[i].0 || theta[i] >= rows.limits[i].1;
        *error = if at_limit || variance.is_nan() || variance < 0.0 { f64::INFINITY } else { scale * variance.sqrt() };
    }
    errors
}

/// Solves a positive definite system of three by Cholesky's method; `None` for one that is singular to rounding.
fn solve(a: [[f64; 3]; 3], b: Theta) -> Option<Theta> {
    let mut l = [[0.0; 3]; 3];
    for i in 0..3 {
        for j in 0..=i {
            let rest = a[i][j] - (0..j).map(|k| l[i][k] * l[j][k]).sum::<f64>();
            if i != j {
                l[i][j] = rest / l[j][j];
            } else if rest > 1e-13 * a[i][i] {
                l[i][i] = rest.sqrt();
            } else {
                return None;
            }
        }
    }
    let mut x = b;
    for i in 0..3 {
        x[i] = (x[i] - (0..i).map(|k| l[i][k] * x[k]).sum::<f64>()) / l[i][i];
    }
    for i in (0..3).rev() {
        x[i] = (x[i] - (i + 1..3).map(|k| l[k][i] * x[k]).sum::<f64>()) / l[i][i];
    }
    Some(x)
}
