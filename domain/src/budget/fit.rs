//! A response curve from a campaign's history, by robust least squares.
//!
//! The loss is Huber's (1964) with the scale of the residuals estimated by their median absolute deviation, minimised by
//! Levenberg and Marquardt's method on the logarithms of the parameters, so that these stay positive, from several
//! starts, because the loss of a saturating curve has more than one valley. Standard errors are those of the linearised
//! problem at the solution.

use super::curve::Curve;
use crate::ErrorKind;

mod model;
mod squares;

pub use model::Model;
use squares::{Solution, minimise};

/// One period of a campaign's history.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Observation {
    /// What was spent, 0 or more.
    pub spend: f64,
    /// What came of it, 0 or more.
    pub response: f64,
}

/// Why there is no curve.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
pub enum FitError {
    /// A row that is no history.
    #[error("history row {row}: {field} {value} must be finite and 0 or more")]
    Row {
        /// Index of the row.
        row: usize,
        /// `spend` or `response`.
        field: &'static str,
        /// What it is.
        value: f64,
    },
    /// Fewer rows with spend than the curve has parameters.
    #[error(
        "{rows} history rows with spend cannot tell the curve's {parameters} parameters: give more or a simpler curve"
    )]
    TooFewRows {
        /// Rows with a spend above 0.
        rows: usize,
        /// Parameters of the curve.
        parameters: usize,
    },
    /// Spend brought nothing.
    #[error("no history row has a response above 0: there is no curve to fit")]
    NoResponse,
}

impl FitError {
    /// What the failure means to the caller.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        ErrorKind::Invalid
    }
}

/// What a history cannot tell: the curve follows the rows, but between and beyond them it is a guess.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Warning {
    /// Spends differ by less than 10 % of their mean: any curve through the mean response fits.
    SpendDoesNotVary,
    /// No spend came near saturation: the curve beyond the greatest spend is extrapolated.
    SaturationNotSeen,
    /// Fewer than three rows for each parameter.
    FewRows,
    /// The curve explains less than half of the responses' variance.
    PoorFit,
    /// The rows leave a parameter open by more than half of its value (one standard error).
    ParameterUnclear {
        /// Its name in the curve.
        parameter: &'static str,
        /// Its relative standard error, infinite where rows say nothing of it.
        relative_error: f64,
    },
}

/// A fitted curve and how far to believe it.
#[derive(Debug, Clone, PartialEq)]
pub struct Fit {
    /// The curve.
    pub curve: Curve,
    /// Share of the responses' variance that the curve explains, at most 1; below 0 where the mean explains more.
    pub r_squared: f64,
    /// Robust standard deviation of the residuals, in units of response.
    pub residual_scale: f64,
    /// Rows that were taken with less than half their weight: outliers.
    pub outliers: Vec<usize>,
    /// What the history cannot tell.
    pub warnings: Vec<Warning>,
}

/// Fits `model` to a campaign's history.
///
/// # Errors
/// [`FitError`] names the row that is not finite or negative, or says why no curve can be told.
pub fn fit(model: Model, history: &[Observation]) -> Result<Fit, FitError> {
    for (row, o) in history.iter().enumerate() {
        for (field, value) in [("spend", o.spend), ("response", o.response)] {
            if !(value >= 0.0 && value.is_finite()) {
                return Err(FitError::Row { row, field, value });
            }
        }
    }
    let spends: Vec<f64> = history.iter().map(|o| o.spend).filter(|x| *x > 0.0).collect();
    let parameters = model.parameters().len();
    if spends.len() < parameters {
        return Err(FitError::TooFewRows { rows: spends.len(), parameters });
    }
    if history.iter().all(|o| o.response == 0.0) {
        return Err(FitError::NoResponse);
    }
    let starts = model.starts(&spends);
    let solutions = starts.into_iter().map(|start| minimise(model, history, start));
    let Some(best) = solutions.min_by(|a, b| a.loss.total_cmp(&b.loss)) else { return Err(FitError::NoResponse) };
    let curve = model.curve(&best.theta);
    let r_squared = r_squared(model, &best, history);
    let warnings = warnings(model, &best, &spends, r_squared);
    Ok(Fit { curve, r_squared, residual_scale: best.scale, outliers: best.outliers, warnings })
}

fn r_squared(model: Model, solution: &Solution, history: &[Observation]) -> f64 {
    let count = history.len() as f64;
    let mean = history.iter().map(|o| o.response).sum::<f64>() / count;
    let total: f64 = history.iter().map(|o| (o.response - mean).powi(2)).sum();
    let left: f64 = history.iter().map(|o| (o.response - model.value(&solution.theta, o.spend)).powi(2)).sum();
    // Responses that do not vary are explained by a curve that does not either.
    if total > 0.0 { 1.0 - left / total } else { f64::from(u8::from(left <= 1e-12 * mean * mean * count)) }
}

fn warnings(model: Model, solution: &Solution, spends: &[f64], r_squared: f64) -> Vec<Warning> {
    let mut warnings = Vec::new();
    let count = spends.len() as f64;
    let mean = spends.iter().sum::<f64>() / count;
    let deviation = (spends.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / count).sqrt();
    let names = model.parameters();
    if deviation < 0.1 * mean {
        warnings.push(Warning::SpendDoesNotVary);
    }
    let greatest = spends.iter().copied().fold(0.0, f64::max);
    if model.saturation(&solution.theta).is_some_and(|at| greatest < at) {
        warnings.push(Warning::SaturationNotSeen);
    }
    if spends.len() < 3 * names.len() {
        warnings.push(Warning::FewRows);
    }
    if r_squared < 0.5 {
        warnings.push(Warning::PoorFit);
    }
    for (parameter, &relative_error) in names.iter().zip(&solution.errors) {
        if relative_error > 0.5 {
            warnings.push(Warning::ParameterUnclear { parameter, relative_error });
        }
    }
    warnings
}

#[cfg(test)]
#[path = "fit/tests.rs"]
mod tests;
