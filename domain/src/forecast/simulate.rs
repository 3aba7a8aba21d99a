//! Seeded simulation of future values by Prophet's own scheme (`sample_posterior_predictive`, vectorised).

use super::{
    design::Mode,
    frame::Rows,
    law::Sample,
    model::{Draw, Prophet},
    rng::Random,
    trend::Growth,
};

/// Runs for a model with many draws; see [`Sample`].
const RUNS: usize = 5;

/// Simulated values in data units, for each row.
#[derive(Debug)]
pub(super) struct Simulation {
    pub(super) trend: Vec<Sample>,
    pub(super) yhat: Vec<Sample>,
    /// Values of each row.
    pub(super) values: usize,
}

/// One run: for each row the values.
struct Run {
    trend: Vec<Vec<f64>>,
    yhat: Vec<Vec<f64>>,
}

/// Future rate changes: how likely one is at a row, and the rows' distance in scaled time.
#[derive(Debug, Clone, Copy)]
pub(super) struct Change {
    pub(super) likelihood: f64,
    pub(super) step: f64,
}

impl Change {
    /// Of the rows of a request; a single future row takes the distance from the history.
    #[allow(clippy::cast_precision_loss)]
    pub(super) fn of(model: &Prophet, rows: &Rows) -> Self {
        let future = &rows.t[rows.past()..];
        let step = match future {
            [first, .., last] => (last - first) / (future.len() - 1) as f64,
            _ => model.history_step.unwrap_or(0.0),
        };
        let likelihood = (model.changepoints.len() as f64 * step).clamp(0.0, 1.0);
        Self { likelihood, step }
    }
}

/// Simulates at least `samples` values a row and run, the same number from each draw.
pub(super) fn simulate(model: &Prophet, rows: &Rows, samples: usize, seed: u64) -> Simulation {
    let each = samples.div_ceil(model.draws.len()).max(1);
    let mut random = Random::new(seed);
    let columns = model.design.columns();
    let mut design = vec![0.0; rows.len() * columns];
    for (row, columns) in design.chunks_exact_mut(columns.max(1)).enumerate() {
        model.design.write(rows, row, columns);
    }
    let count = if model.draws.len() > 1 { RUNS } else { 1 };
    let mut trend = vec![Vec::with_capacity(count); rows.len()];
    let mut yhat = trend.clone();
    for _ in 0..count {
        let run = run(model, rows, &design, each, &mut random);
        trend.iter_mut().zip(run.trend).for_each(|(runs, values)| runs.push(values));
        yhat.iter_mut().zip(run.yhat).for_each(|(runs, values)| runs.push(values));
    }
    let samples = |rows: Vec<Vec<Vec<f64>>>| rows.into_iter().map(Sample::new).collect();
    Simulation { trend: samples(trend), yhat: samples(yhat), values: count * each * model.draws.len() }
}

/// One run of `each` values from each draw.
fn run(model: &Prophet, rows: &Rows, design: &[f64], each: usize, random: &mut Random) -> Run {
    let change = Change::of(model, rows);
    let columns = model.design.columns();
    let empty = || vec![Vec::with_capacity(each * model.draws.len()); rows.len()];
    let mut run = Run { trend: empty(), yhat: empty() };
    let mut drift = vec![0.0; each * rows.len()];
    for draw in &model.draws {
        drifts(model, draw, rows, change, random, &mut drift);
        for row in 0..rows.len() {
            let columns = &design[row * columns..(row + 1) * columns];
            let (additive, multiplicative) = terms(model, draw, columns);
            let expected = draw.trend.at(rows.t[row], rows.cap(row));
            let mut spare = None;
            for sample in 0..each {
                let trend = (expected + drift[sample * rows.len() + row]) * model.y_scale + rows.floor(row);
                let noise = spare.take().unwrap_or_else(|| {
                    let [one, other] = random.normals();
                    spare = Some(other);
                    one
                });
                let noise = noise * draw.sigma * model.y_scale;
                run.trend[row].push(trend);
                run.yhat[row].push(trend * (1.0 + multiplicative) + additive + noise);
            }
        }
    }
    run
}

/// Additive effect in data units and multiplicative effect of one draw.
fn terms(model: &Prophet, draw: &Draw, columns: &[f64]) -> (f64, f64) {
    let mut sums = (0.0, 0.0);
    for ((value, beta), mode) in columns.iter().zip(&draw.beta).zip(model.design.modes()) {
        match mode {
            Mode::Additive => sums.0 += value * beta,
            Mode::Multiplicative => sums.1 += value * beta,
        }
    }
    (sums.0 * model.y_scale, sums.1)
}

/// What future rate changes move the scaled trend by, sample by sample.
fn drifts(model: &Prophet, draw: &Draw, rows: &Rows, change: Change, random: &mut Random, drift: &mut [f64]) {
    let past = rows.past();
    if past == rows.len() || model.growth == Growth::Flat {
        return drift.fill(0.0);
    }
    let size = draw.mean_change();
    let logistic = (model.growth == Growth::Logistic).then(|| Logistic::at_end_of_history(model, draw, change));
    for path in drift.chunks_exact_mut(rows.len()) {
        path[..past].fill(0.0);
        let mut before = 0.0;
        let mut slopes = path[past..].iter_mut();
        for slope in &mut slopes {
            let now = if random.uniform() <= change.likelihood { size * random.laplace() } else { 0.0 };
            // A change in the middle between two rows counts half for each.
            *slope = 0.5 * (before + now);
            before = now;
        }
        match &logistic {
            None => linear(&mut path[past..], change.step),
            Some(logistic) => logistic.path(&mut path[past..], |row| (rows.t[past + row], rows.cap(past + row))),
        }
    }
    if logistic.is_some() {
        centre(drift, rows.len(), past);
    }
}

/// From changes of the slope to the sum of what they do.
fn linear(path: &mut [f64], step: f64) {
    let (mut slope, mut value) = (0.0, 0.0);
    for change in path {
        slope += *change;
        value += slope;
        *change = value * step;
    }
}

/// Takes each row's mean away: only the width around the forecast counts.
#[allow(clippy::cast_precision_loss)]
fn centre(drift: &mut [f64], rows: usize, past: usize) {
    let samples = (drift.len() / rows) as f64;
    for row in past..rows {
        let mean = drift.iter().skip(row).step_by(rows).sum::<f64>() / samples;
        drift.iter_mut().skip(row).step_by(rows).for_each(|value| *value -= mean);
    }
}

/// The saturating trend at the end of the history, on Prophet's grid of equal steps.
struct Logistic {
    k: f64,
    m: f64,
    /// Sum of the rate's changes, and the rate after the last of them.
    sum: f64,
    rate: f64,
    gammas: f64,
}

impl Logistic {
    #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    fn at_end_of_history(model: &Prophet, draw: &Draw, change: Change) -> Self {
        let mut state = Self { k: draw.k, m: draw.m, sum: 0.0, rate: draw.k, gammas: 0.0 };
        // Each change falls on the first step after its changepoint; of two on one step the last counts.
        let mut steps: Vec<(f64, f64)> = Vec::with_capacity(draw.delta.len());
        for (changepoint, delta) in model.changepoints.iter().zip(&draw.delta) {
            let mut at = (changepoint / change.step).floor();
            while at * change.step <= *changepoint {
                at += 1.0;
            }
            match steps.last_mut() {
                Some(last) if last.0 == at => last.1 = *delta,
                _ => steps.push((at, *delta)),
            }
        }
        for (at, delta) in steps {
            state.change(delta, at * change.step);
        }
        state
    }

    /// Lets the rate change at time `t`, the curve staying continuous.
    fn change(&mut self, delta: f64, t: f64) {
        if delta != 0.0 {
            self.sum += delta;
            let rate = self.sum + self.k;
            self.gammas += (t - self.m - self.gammas) * (1.0 - self.rate / rate);
            self.rate = rate;
        }
    }

    /// From changes of the rate to the scaled trend.
    fn path(&self, path: &mut [f64], row: impl Fn(usize) -> (f64, f64)) {
        let mut state = Self { ..*self };
        for (at, value) in path.iter_mut().enumerate() {
            let (t, cap) = row(at);
            state.change(*value, t);
            *value = cap / (1.0 + (-(state.k + state.sum) * (t - (state.m + state.gammas))).exp());
        }
    }
}
