//! A fitted Prophet model: parsed, checked, immutable. There is no unfitted one.

use super::{
    design::{Design, Mode, Source},
    error::ModelError,
    holidays::Holidays,
    raw::{self, Number, Raw},
    season::Fourier,
    time::Timestamp,
    trend::{Growth, Trend},
};

/// A fitted model that can answer.
#[derive(Debug, Clone)]
pub struct Prophet {
    pub(super) growth: Growth,
    start: Timestamp,
    /// Microseconds of the history.
    t_scale: f64,
    pub(super) y_scale: f64,
    pub(super) floor: Floor,
    pub(super) changepoints: Vec<f64>,
    /// One for MAP, many for MCMC.
    pub(super) draws: Vec<Draw>,
    /// The draw that the point forecast uses: the mean of all.
    pub(super) mean: Draw,
    pub(super) design: Design,
    pub(super) regressors: Vec<Standardised>,
    pub(super) conditions: Vec<String>,
    pub(super) interval_width: f64,
    /// 0: the model was made to give no intervals.
    pub(super) samples: usize,
    /// Mean scaled time between rows of the history.
    pub(super) history_step: Option<f64>,
    last: Option<Timestamp>,
}

/// Where the floor comes from.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Floor {
    /// The column `floor`.
    Column,
    Constant(f64),
}

/// One draw of the parameters.
#[derive(Debug, Clone)]
pub(super) struct Draw {
    pub(super) trend: Trend,
    pub(super) k: f64,
    pub(super) m: f64,
    pub(super) delta: Vec<f64>,
    pub(super) beta: Vec<f64>,
    /// Standard deviation of the noise, scaled.
    pub(super) sigma: f64,
}

impl Draw {
    /// Mean size of a change of the rate, the scale of future ones.
    #[allow(clippy::cast_precision_loss)]
    pub(super) fn mean_change(&self) -> f64 {
        self.delta.iter().map(|change| change.abs()).sum::<f64>() / self.delta.len().max(1) as f64 + 1e-8
    }
}

/// A regressor and how its values are standardised.
#[derive(Debug, Clone)]
pub(super) struct Standardised {
    pub(super) name: String,
    pub(super) mean: f64,
    pub(super) deviation: f64,
}

impl Prophet {
    /// Reads what `prophet.serialize.model_to_json` wrote, by any version since 0.6, or the `model.pr` of an
    /// MLflow folder.
    ///
    /// # Errors
    /// [`ModelError`] for anything that Prophet could not have written or that cannot be answered for.
    pub fn parse(text: &str) -> Result<Self, ModelError> {
        let raw = raw::read(text)?;
        let growth = match raw.growth.as_str() {
            "linear" => Growth::Linear,
            "logistic" => Growth::Logistic,
            "flat" => Growth::Flat,
            other => return Err(ModelError::at("growth", format!("`{other}` is not linear, logistic or flat"))),
        };
        let changepoints = finite("changepoints_t", &raw.changepoints_t)?;
        if !changepoints.is_sorted() {
            return Err(ModelError::at("changepoints_t", "must ascend"));
        }
        let draws = draws(&raw, growth, &changepoints)?;
        let mean = mean(&draws, growth, &changepoints);
        let (design, regressors, conditions) = design(&raw, mean.beta.len())?;
        let interval_width = raw.interval_width.0;
        if !(interval_width > 0.0 && interval_width < 1.0) {
            return Err(ModelError::at("interval_width", format!("{interval_width} must be above 0 and below 1")));
        }
        let dates = raw.history_dates.as_deref().map(|text| raw::field::<raw::Table<String>>("history_dates", text));
        let dates = dates.transpose()?.map_or_else(Vec::new, |table| table.data);
        let dates = dates.iter().map(|text| Timestamp::parse_utc(text)).collect::<Result<Vec<_>, _>>();
        let dates = dates.map_err(|error| ModelError::at("history_dates", error.to_string()))?;
        Ok(Self {
            growth,
            start: Timestamp::from_micros(micros("start", raw.start)?),
            t_scale: positive("t_scale", Number(raw.t_scale.0 * 1e6))?.round(),
            y_scale: positive("y_scale", raw.y_scale)?,
            floor: floor(&raw)?,
            changepoints,
            draws,
            mean,
            design,
            regressors,
            conditions,
            interval_width,
            samples: samples(&raw)?,
            history_step: history_step(&raw)?,
            last: dates.into_iter().max(),
        })
    }

    /// How the trend grows.
    #[must_use]
    pub fn growth(&self) -> Growth {
        self.growth
    }

    /// The last date of the history, if the file has it.
    #[must_use]
    pub fn last_date(&self) -> Option<Timestamp> {
        self.last
    }

    /// Probability content of the interval that the model was made to give; `None` if it was made to give none.
    #[must_use]
    pub fn interval_width(&self) -> Option<f64> {
        (self.samples > 0).then_some(self.interval_width)
    }

    /// Names of the columns that rows need besides their dates: `cap`, `floor`, regressors, conditions.
    pub fn needed_columns(&self) -> impl Iterator<Item = &str> {
        let cap = (self.growth == Growth::Logistic).then_some("cap");
        let floor = (self.floor == Floor::Column).then_some("floor");
        let regressors = self.regressors.iter().map(|regressor| regressor.name.as_str());
        cap.into_iter().chain(floor).chain(regressors).chain(self.conditions.iter().map(String::as_str))
    }

    /// Scaled time: 0 at the first date of the history, 1 at the last.
    #[allow(clippy::cast_precision_loss)]
    pub(super) fn scaled(&self, time: Timestamp) -> f64 {
        time.micros().saturating_sub(self.start.micros()) as f64 / self.t_scale
    }
}

fn finite(field: &str, numbers: &[Number]) -> Result<Vec<f64>, ModelError> {
    let number = |number: &Number| match number.0.is_finite() {
        true => Ok(number.0),
        false => Err(ModelError::at(field, "has a value that is not a finite number: fit the model again")),
    };
    numbers.iter().map(number).collect()
}

fn positive(field: &str, number: Number) -> Result<f64, ModelError> {
    if number.0.is_finite() && number.0 > 0.0 {
        Ok(number.0)
    } else {
        Err(ModelError::at(field, format!("{} must be a positive number", number.0)))
    }
}

fn micros(field: &str, seconds: Number) -> Result<i64, ModelError> {
    // Ten thousand years either way.
    if seconds.0.abs() < 3.2e11 {
        #[allow(clippy::cast_possible_truncation)]
        Ok((seconds.0 * 1e6).round() as i64)
    } else {
        Err(ModelError::at(field, format!("{} is no time in seconds since 1970", seconds.0)))
    }
}

fn floor(raw: &Raw) -> Result<Floor, ModelError> {
    match raw.scaling.as_deref() {
        _ if raw.logistic_floor => Ok(Floor::Column),
        None | Some("absmax") => Ok(Floor::Constant(0.0)),
        Some("minmax") => match raw.y_min {
            Some(Number(floor)) if floor.is_finite() => Ok(Floor::Constant(floor)),
            _ => Err(ModelError::at("y_min", "must be a number where scaling is minmax")),
        },
        Some(other) => Err(ModelError::at("scaling", format!("`{other}` is not absmax or minmax"))),
    }
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn samples(raw: &Raw) -> Result<usize, ModelError> {
    match raw.uncertainty_samples {
        None => Ok(0),
        Some(raw::Samples::Given(given)) => Ok(usize::from(given)),
        Some(raw::Samples::Count(count)) if (0.0..=1e6).contains(&count) => Ok(count as usize),
        Some(raw::Samples::Count(count)) => {
            Err(ModelError::at("uncertainty_samples", format!("{count} must be 0 to a million")))
        }
    }
}

#[allow(clippy::cast_precision_loss)]
fn history_step(raw: &Raw) -> Result<Option<f64>, ModelError> {
    let Some(text) = &raw.history else { return Ok(None) };
    let rows = raw::field::<raw::Table<raw::HistoryRow>>("history", text)?.data;
    Ok(match (rows.first(), rows.last()) {
        (Some(first), Some(last)) if rows.len() > 1 => Some((last.t.0 - first.t.0) / (rows.len() - 1) as f64),
        _ => None,
    })
}

fn draws(raw: &Raw, growth: Growth, changepoints: &[f64]) -> Result<Vec<Draw>, ModelError> {
    let params = &raw.params;
    let k = finite("params.k", &params.k.values())?;
    let m = finite("params.m", &params.m.values())?;
    let sigma = finite("params.sigma_obs", &params.sigma_obs.values())?;
    let lengths = [m.len(), sigma.len(), params.delta.len(), params.beta.len()];
    if k.is_empty() || lengths.iter().any(|length| *length != k.len()) {
        return Err(ModelError::at("params", "k, m, sigma_obs, delta and beta must have one entry a draw"));
    }
    let columns = params.beta[0].len();
    let mut draws = Vec::with_capacity(k.len());
    for (at, (delta, beta)) in params.delta.iter().zip(&params.beta).enumerate() {
        let (delta, beta) = (finite("params.delta", delta)?, finite("params.beta", beta)?);
        if delta.len() != changepoints.len() {
            let reason = format!("{} changes for {} changepoints", delta.len(), changepoints.len());
            return Err(ModelError::at("params.delta", reason));
        }
        if beta.len() != columns {
            return Err(ModelError::at("params.beta", "draws differ in length"));
        }
        if sigma[at] < 0.0 {
            return Err(ModelError::at("params.sigma_obs", format!("{} must not be negative", sigma[at])));
        }
        let trend = Trend::new(growth, k[at], m[at], &delta, changepoints);
        draws.push(Draw { trend, k: k[at], m: m[at], delta, beta, sigma: sigma[at] });
    }
    Ok(draws)
}

#[allow(clippy::cast_precision_loss)]
fn mean(draws: &[Draw], growth: Growth, changepoints: &[f64]) -> Draw {
    let count = draws.len() as f64;
    let mean = |of: &dyn Fn(&Draw) -> f64| draws.iter().map(of).sum::<f64>() / count;
    let (k, m, sigma) = (mean(&|draw| draw.k), mean(&|draw| draw.m), mean(&|draw| draw.sigma));
    let delta: Vec<_> = (0..draws[0].delta.len()).map(|at| mean(&|draw| draw.delta[at])).collect();
    let beta = (0..draws[0].beta.len()).map(|at| mean(&|draw| draw.beta[at])).collect();
    Draw { trend: Trend::new(growth, k, m, &delta, changepoints), k, m, delta, beta, sigma }
}

fn design(raw: &Raw, coefficients: usize) -> Result<(Design, Vec<Standardised>, Vec<String>), ModelError> {
    let mut design = Design::default();
    let mut conditions: Vec<String> = Vec::new();
    for (name, season) in raw.seasonalities.entries("seasonalities")? {
        let field = format!("seasonalities.{name}");
        let period = positive(&field, season.period)?;
        let order = season.fourier_order;
        #[allow(clippy::cast_precision_loss)]
        if !(order >= 1.0 && order.fract() == 0.0 && order <= coefficients as f64) {
            return Err(ModelError::at(field, format!("fourier_order {order} does not fit params.beta")));
        }
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let fourier = Fourier::new(period, order as usize);
        let condition = season.condition_name.as_ref().map(|name| {
            conditions.iter().position(|known| known == name).unwrap_or_else(|| {
                conditions.push(name.clone());
                conditions.len() - 1
            })
        });
        design.push(name, Mode::parse(&field, &season.mode)?, Source::Seasonality { fourier, condition });
    }
    let country = raw.country_holidays.clone();
    let holidays = Holidays::new(raw.holidays.as_deref(), country, raw.train_holiday_names.as_deref(), coefficients)?;
    if let Some(holidays) = holidays {
        let mode = raw.holidays_mode.as_deref().unwrap_or(&raw.seasonality_mode);
        design.push("holidays", Mode::parse("holidays_mode", mode)?, Source::Holidays(holidays));
    }
    let mut regressors = Vec::new();
    for (name, regressor) in raw.extra_regressors.entries("extra_regressors")? {
        let field = format!("extra_regressors.{name}");
        let mean = finite(&field, &[regressor.mu])?[0];
        let deviation = positive(&field, regressor.std)?;
        design.push(name, Mode::parse(&field, &regressor.mode)?, Source::Regressor(regressors.len()));
        regressors.push(Standardised { name: name.to_owned(), mean, deviation });
    }
    Ok((design.finish(coefficients, raw.train_component_cols.as_deref())?, regressors, conditions))
}
