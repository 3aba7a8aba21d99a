//! Exact laws of a request's rows: what drifts, by how much, around which centre.

use statrs::distribution::{ContinuousCDF, Normal};

use super::{
    frame::Rows,
    law::{Law, Shifts, Targets, Walk},
    model::Prophet,
    simulate::Change,
    trend::Growth,
};

/// The drift of the trend of one draw, by rate changes to come.
pub(super) struct Drift {
    /// Rows before the first that drifts.
    past: usize,
    shifts: Shifts,
    /// What [`Shifts`] counts in, in data units.
    unit: f64,
}

impl Drift {
    pub(super) fn of(model: &Prophet, rows: &Rows) -> Self {
        let change = Change::of(model, rows);
        let still = model.growth == Growth::Flat || change.likelihood == 0.0;
        let unit = if still { 0.0 } else { model.mean.mean_change() * change.step * model.y_scale };
        Self { past: rows.past(), shifts: Shifts { p: change.likelihood }, unit }
    }

    /// The noise of each future row against its drift.
    fn ratios(&self, scales: impl Iterator<Item = f64>, noise: f64) -> Vec<f64> {
        let ratio = |scale: f64| match self.unit * scale {
            unit if unit > 0.0 => noise / unit,
            _ => f64::INFINITY,
        };
        scales.skip(self.past).map(ratio).collect()
    }

    /// One column for each probability.
    pub(super) fn quantiles(
        &self,
        centres: &[f64],
        scales: impl Iterator<Item = f64> + Clone,
        noise: f64,
        probabilities: &[f64],
    ) -> Vec<Vec<f64>> {
        let mut distances: Vec<_> = probabilities.iter().map(|probability| (probability - 0.5).abs()).collect();
        distances.sort_unstable_by(f64::total_cmp);
        distances.dedup_by(|one, other| (*one - *other).abs() < 1e-15);
        let normal: Vec<_> = distances.iter().map(|d| noise * Normal::standard().inverse_cdf(0.5 + d)).collect();
        let of = |probability: f64| {
            let distance = (probability - 0.5).abs();
            let at = distances.iter().position(|known| (known - distance).abs() < 1e-15).unwrap_or(0);
            (at, (probability - 0.5).signum())
        };
        let places: Vec<_> = probabilities.iter().map(|probability| of(*probability)).collect();
        let mut targets = Targets::new(&distances);
        let mut walk = Walk::new(self.shifts, self.ratios(scales.clone(), noise), &targets);
        let mut columns = vec![Vec::with_capacity(centres.len()); probabilities.len()];
        for (row, (centre, scale)) in centres.iter().zip(scales).enumerate() {
            let drifts = if row < self.past { None } else { walk.quantiles(&mut targets) };
            for (column, (at, sign)) in columns.iter_mut().zip(&places) {
                let far = drifts.map_or(normal[*at], |far| far[*at] * self.unit * scale);
                column.push(centre + sign * far);
            }
        }
        columns
    }

    pub(super) fn laws(&self, centres: &[f64], scales: impl Iterator<Item = f64> + Clone, noise: f64) -> Vec<Law> {
        let mut walk = Walk::new(self.shifts, self.ratios(scales.clone(), noise), &Targets::new(&[]));
        let law = |(row, (centre, scale)): (usize, (&f64, f64))| {
            let drifts = if row < self.past { None } else { walk.law(*centre, self.unit * scale) };
            drifts.unwrap_or_else(|| Law::normal(*centre, noise))
        };
        centres.iter().zip(scales).enumerate().map(law).collect()
    }
}
