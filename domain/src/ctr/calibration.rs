//! What the trainer measured about a model's intervals: shown to people, never used in a computation.

use std::collections::BTreeMap;

use serde::Deserialize;

/// `calibration.json`: how the variances were fitted and what coverage they reached on held-out units.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Calibration {
    /// How the parameters below were fitted.
    pub method: String,
    /// Scale of the id variance: row variance is `a / (information + lam)`.
    pub a: f64,
    /// Prior information of a row.
    pub lam: f64,
    /// Variance that no id explains, on the log-odds scale.
    pub tau2: f64,
    /// Fitted variance of a field's unknown row, by field.
    #[serde(default)]
    pub oov_variance: BTreeMap<String, f64>,
    /// Share of held-out units with known ids inside their 90 % interval; absent where there were none.
    pub coverage_test: Option<f64>,
    /// Share of held-out units with never-seen ids inside their 90 % interval; absent where there were none.
    pub coverage_cold: Option<f64>,
    /// Sizes of the calibration and test sets, in units.
    pub units: BTreeMap<String, u64>,
    /// Share of negatives kept in training; the correction is already in the logit.
    pub sampling_rate_negatives: f64,
}
