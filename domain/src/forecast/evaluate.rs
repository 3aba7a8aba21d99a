//! From a model and rows to a forecast.

use super::{
    design::Mode,
    drift::Drift,
    error::FutureError,
    frame::{Frame, Rows},
    law::{Law, Sample, percentile, sorted},
    model::Prophet,
    simulate::simulate,
    time::Timestamp,
    trend::Growth,
};

/// What to compute besides the point forecast.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Options {
    /// Probabilities above 0 and below 1, in any order: quantiles of each row's value.
    pub quantiles: Vec<f64>,
    /// Whether to give the trend's quantiles too.
    pub trend: bool,
    /// Whether to give each component.
    pub components: bool,
    /// Values of a run of the simulation, where there is no exact law; 0: as many as the model was made for, or 1000.
    /// A model with many draws takes five runs, and the median of their quantiles.
    pub samples: usize,
    /// Seed of such a simulation.
    pub seed: u64,
}

impl Options {
    /// The two ends of a central interval with this probability content, such as 0.8.
    #[must_use]
    pub fn interval(width: f64) -> Self {
        Self { quantiles: vec![0.5 * (1.0 - width), 0.5 * (1.0 + width)], ..Self::default() }
    }
}

/// How quantiles were found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// From the law itself, to 1e-9 in probability.
    Exact,
    /// By simulation.
    MonteCarlo {
        /// Values for each row, in all runs.
        samples: usize,
    },
}

/// The answer, rows in ascending order of time; everything in data units.
#[derive(Debug, Clone, PartialEq)]
pub struct Forecast {
    /// The dates.
    pub times: Vec<Timestamp>,
    /// Where each row stood in the request.
    pub order: Vec<usize>,
    /// The forecast.
    pub yhat: Vec<f64>,
    /// The trend.
    pub trend: Vec<f64>,
    /// Quantiles of the value, for each probability asked for one column.
    pub quantiles: Vec<Vec<f64>>,
    /// Quantiles of the trend, if asked for.
    pub trend_quantiles: Vec<Vec<f64>>,
    /// The components, if asked for.
    pub components: Vec<Component>,
    /// How the quantiles were found.
    pub method: Method,
}

/// A part of the forecast: a seasonality, holiday or regressor, or a sum of such (`additive_terms`,
/// `multiplicative_terms`, `holidays`, `extra_regressors_additive`, `extra_regressors_multiplicative`).
#[derive(Debug, Clone, PartialEq)]
pub struct Component {
    /// Its name in Prophet.
    pub name: String,
    /// In data units if additive, as a fraction of the trend if multiplicative.
    pub mode: Mode,
    /// One a row.
    pub values: Vec<f64>,
    /// For each probability asked for one column: over the draws of the parameters, so of one draw the values.
    pub quantiles: Vec<Vec<f64>>,
}

/// Point forecasts of all rows.
struct Points {
    trend: Vec<f64>,
    yhat: Vec<f64>,
    multiplicative: Vec<f64>,
}

impl Prophet {
    /// Answers for the rows of `frame`, in any order.
    ///
    /// # Errors
    /// [`FutureError`] for what Prophet refuses too: missing columns, values that are no number, a capacity at or
    /// below the floor; for a probability outside (0, 1); and for holidays outside the calendar.
    pub fn forecast(&self, frame: &Frame, options: &Options) -> Result<Forecast, FutureError> {
        let wrong = options.quantiles.iter().find(|probability| !(**probability > 0.0 && **probability < 1.0));
        if let Some(probability) = wrong {
            return Err(FutureError::Probability(*probability));
        }
        let rows = Rows::new(self, frame)?;
        let points = self.points(&rows);
        let mut forecast = Forecast {
            quantiles: Vec::new(),
            trend_quantiles: Vec::new(),
            components: if options.components { self.components(&rows, &options.quantiles) } else { Vec::new() },
            method: Method::Exact,
            times: Vec::new(),
            order: Vec::new(),
            yhat: Vec::new(),
            trend: Vec::new(),
        };
        if !options.quantiles.is_empty() {
            if self.has_exact_law() {
                let scales = points.multiplicative.iter().map(|term| (1.0 + term).abs());
                let drift = Drift::of(self, &rows);
                forecast.quantiles = drift.quantiles(&points.yhat, scales, self.noise(), &options.quantiles);
                if options.trend {
                    let scales = points.trend.iter().map(|_| 1.0);
                    forecast.trend_quantiles = drift.quantiles(&points.trend, scales, 0.0, &options.quantiles);
                }
            } else {
                let simulation = simulate(self, &rows, self.samples(options), options.seed);
                forecast.method = Method::MonteCarlo { samples: simulation.values };
                forecast.quantiles = columns(&simulation.yhat, &options.quantiles);
                if options.trend {
                    forecast.trend_quantiles = columns(&simulation.trend, &options.quantiles);
                }
            }
        }
        (forecast.times, forecast.order) = (rows.times, rows.order);
        (forecast.yhat, forecast.trend) = (points.yhat, points.trend);
        Ok(forecast)
    }

    /// The predictive law of each row, in ascending order of time, with the rows' places in the request.
    /// `options` matter where laws are simulated: `samples` and `seed`.
    ///
    /// # Errors
    /// As [`Self::forecast`].
    pub fn laws(&self, frame: &Frame, options: &Options) -> Result<Vec<(usize, Law)>, FutureError> {
        let rows = Rows::new(self, frame)?;
        let points = self.points(&rows);
        let laws: Vec<Law> = if self.has_exact_law() {
            let scales = points.multiplicative.iter().map(|term| (1.0 + term).abs());
            Drift::of(self, &rows).laws(&points.yhat, scales, self.noise())
        } else {
            let samples = simulate(self, &rows, self.samples(options), options.seed).yhat;
            points.yhat.iter().zip(samples).map(|(centre, sample)| Law::sample(*centre, sample)).collect()
        };
        Ok(rows.order.into_iter().zip(laws).collect())
    }

    /// Whether intervals are computed rather than simulated.
    #[must_use]
    pub fn has_exact_law(&self) -> bool {
        self.draws.len() == 1 && self.growth != Growth::Logistic
    }

    fn samples(&self, options: &Options) -> usize {
        match (options.samples, self.samples) {
            (0, 0) => 1_000,
            (0, samples) | (samples, _) => samples,
        }
    }

    /// Standard deviation of the noise in data units.
    fn noise(&self) -> f64 {
        self.mean.sigma * self.y_scale
    }

    fn points(&self, rows: &Rows) -> Points {
        let mut points = Points {
            trend: Vec::with_capacity(rows.len()),
            yhat: Vec::with_capacity(rows.len()),
            multiplicative: Vec::with_capacity(rows.len()),
        };
        let mut columns = vec![0.0; self.design.columns()];
        let of = |mode| -> Vec<f64> {
            let mine = self.design.modes().iter().zip(&self.mean.beta);
            mine.map(|(known, beta)| if *known == mode { *beta } else { 0.0 }).collect()
        };
        let (additive, multiplicative) = (of(Mode::Additive), of(Mode::Multiplicative));
        for row in 0..rows.len() {
            self.design.write(rows, row, &mut columns);
            let trend = self.mean.trend.at(rows.t[row], rows.cap(row)) * self.y_scale + rows.floor(row);
            let multiplicative = dot(&columns, &multiplicative);
            points.yhat.push(trend * (1.0 + multiplicative) + dot(&columns, &additive) * self.y_scale);
            points.trend.push(trend);
            points.multiplicative.push(multiplicative);
        }
        points
    }

    fn components(&self, rows: &Rows, probabilities: &[f64]) -> Vec<Component> {
        let parts = self.design.parts();
        let empty = |part: &super::design::Part| Component {
            name: part.name.clone(),
            mode: part.mode,
            values: Vec::with_capacity(rows.len()),
            quantiles: vec![Vec::with_capacity(rows.len()); probabilities.len()],
        };
        let mut components: Vec<_> = parts.iter().map(empty).collect();
        let mut columns = vec![0.0; self.design.columns()];
        for row in 0..rows.len() {
            self.design.write(rows, row, &mut columns);
            for (part, component) in parts.iter().zip(&mut components) {
                let scale = if part.mode == Mode::Additive { self.y_scale } else { 1.0 };
                let effect = |beta: &[f64]| {
                    scale * part.columns.iter().map(|column| columns[*column] * beta[*column]).sum::<f64>()
                };
                let value = effect(&self.mean.beta);
                component.values.push(value);
                if self.draws.len() == 1 {
                    component.quantiles.iter_mut().for_each(|column| column.push(value));
                } else if !probabilities.is_empty() {
                    let effects = sorted(self.draws.iter().map(|draw| effect(&draw.beta)).collect());
                    for (probability, column) in probabilities.iter().zip(&mut component.quantiles) {
                        column.push(percentile(&effects, *probability));
                    }
                }
            }
        }
        components
    }
}

fn dot(columns: &[f64], beta: &[f64]) -> f64 {
    columns.iter().zip(beta).map(|(column, beta)| column * beta).sum()
}

fn columns(rows: &[Sample], probabilities: &[f64]) -> Vec<Vec<f64>> {
    probabilities.iter().map(|probability| rows.iter().map(|row| row.quantile(*probability)).collect()).collect()
}
