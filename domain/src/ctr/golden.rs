//! Worked examples that ship with a model: raw request in, tensors and outputs out.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::{
    column::{Column, OwnedColumn},
    encoder::Encoder,
    interval::{Level, estimate},
    sheet::Rows,
    spec::GoldenSpec,
};

/// Largest absolute difference of a dense input.
const DENSE_ABS_TOL: f32 = 1e-6;
/// Largest relative difference of a rate or bound.
const RATE_REL_TOL: f64 = 1e-9;
/// Level of the stored bounds.
const BOUNDS_LEVEL: f64 = 0.90;

/// One worked example.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Golden {
    /// The raw request: input name to value, absent or null where it is missing.
    inputs: BTreeMap<String, serde_json::Value>,
    ids: Vec<i64>,
    dense: Vec<f32>,
    /// The model's logit.
    pub logit: f32,
    /// The model's variance, where it gives one.
    pub logit_variance: Option<f32>,
    ctr: f64,
    ctr_lower_90: Option<f64>,
    ctr_upper_90: Option<f64>,
    #[serde(rename = "note")]
    _note: Option<String>,
}

/// A worked example that was not reproduced.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("golden example {line}: {reason}")]
pub struct GoldenError {
    /// Line number, from 1.
    pub line: usize,
    /// What differed.
    pub reason: String,
}

impl GoldenError {
    fn new(index: usize, reason: impl Into<String>) -> Self {
        Self { line: index + 1, reason: reason.into() }
    }
}

/// Reads a golden file, one JSON object a line.
///
/// # Errors
/// [`GoldenError`] for a line that is not an example, or a file without any.
pub fn parse(text: &str) -> Result<Vec<Golden>, GoldenError> {
    let lines = text.lines().enumerate();
    let rows: Vec<Golden> = lines
        .map(|(i, line)| serde_json::from_str(line).map_err(|e| GoldenError::new(i, e.to_string())))
        .collect::<Result<_, _>>()?;
    if rows.is_empty() {
        return Err(GoldenError::new(0, "is missing: the file is empty, so nothing would be checked"));
    }
    Ok(rows)
}

/// Encodes every example from its raw request and compares: ids exactly, dense within 1e-6.
///
/// Returns the rows as encoded, to be run through the model.
///
/// # Errors
/// [`GoldenError`] names the first example that differs and where.
pub fn check_encoding(encoder: &Encoder, golden: &[Golden]) -> Result<Rows, GoldenError> {
    let mut all = Rows::default();
    for (i, example) in golden.iter().enumerate() {
        let owned: Vec<(&str, OwnedColumn)> = example
            .inputs
            .iter()
            .filter_map(|(name, value)| match OwnedColumn::from_json(value) {
                Ok(None) => None,
                Ok(Some(column)) => Some(Ok((name.as_str(), column))),
                Err(reason) => Some(Err(GoldenError::new(i, format!("input {name:?}: {reason}")))),
            })
            .collect::<Result<_, _>>()?;
        let columns: Vec<Column> = owned.iter().map(|(name, column)| column.column(name)).collect();
        let encoded = encoder.encode(&[], &columns, 1).map_err(|e| GoldenError::new(i, e.to_string()))?;
        if let Some(rejected) = encoded.rejected.first() {
            return Err(GoldenError::new(i, format!("{}: {}", rejected.field, rejected.reason)));
        }
        let rows = encoded.rows;
        if rows.ids != example.ids {
            let at = rows.ids.iter().zip(&example.ids).position(|(a, b)| a != b).unwrap_or(example.ids.len());
            let show = |ids: &[i64]| ids.get(at).map_or("nothing".to_owned(), i64::to_string);
            let (got, want) = (show(&rows.ids), show(&example.ids));
            return Err(GoldenError::new(i, format!("ids[{at}] is {got} as encoded here, {want} in the file")));
        }
        let near = |(a, b): (&f32, &f32)| (a - b).abs() <= DENSE_ABS_TOL;
        if rows.dense.len() != example.dense.len() || !rows.dense.iter().zip(&example.dense).all(near) {
            let (got, want) = (&rows.dense, &example.dense);
            return Err(GoldenError::new(i, format!("dense is {got:?} as encoded here, {want:?} in the file")));
        }
        all.len += 1;
        all.ids.extend(rows.ids);
        all.dense.extend(rows.dense);
    }
    Ok(all)
}

/// Compares the model's outputs for every example with the stored ones.
///
/// # Errors
/// [`GoldenError`] names the first example that differs by more than the spec's tolerance.
pub fn check_outputs(
    golden: &[Golden],
    spec: &GoldenSpec,
    logits: &[f32],
    variances: Option<&[f32]>,
) -> Result<(), GoldenError> {
    for (i, example) in golden.iter().enumerate() {
        let logit = logits.get(i).copied().unwrap_or(f32::NAN);
        // A NaN is within no tolerance.
        let near = (logit - example.logit).abs() <= spec.logit_abs_tol;
        if !near {
            let (want, tol) = (example.logit, spec.logit_abs_tol);
            return Err(GoldenError::new(i, format!("logit is {logit}, the file has {want} (tolerance {tol})")));
        }
        match (variances.map(|v| v.get(i).copied().unwrap_or(f32::NAN)), example.logit_variance) {
            (None, None) => {}
            (Some(got), Some(want)) if (got - want).abs() <= spec.variance_rel_tol * want.abs() => {}
            (got, want) => {
                let reason = format!("logit_variance is {got:?}, the file has {want:?}");
                return Err(GoldenError::new(i, reason));
            }
        }
    }
    Ok(())
}

/// Recomputes every example's rate and bounds from its stored outputs and compares within 1e-9.
///
/// # Errors
/// [`GoldenError`] names the first example that differs.
pub fn check_estimates(golden: &[Golden]) -> Result<(), GoldenError> {
    let near = |a: f64, b: f64| (a - b).abs() <= RATE_REL_TOL * b.abs();
    let level = Level::new(BOUNDS_LEVEL).map_err(|e| GoldenError::new(0, e.to_string()))?;
    for (i, example) in golden.iter().enumerate() {
        let Some(got) = estimate(example.logit, example.logit_variance, level) else {
            return Err(GoldenError::new(i, "has outputs that are not finite"));
        };
        let same = near(got.ctr, example.ctr)
            && match (got.bounds, example.ctr_lower_90, example.ctr_upper_90) {
                (None, None, None) => true,
                (Some((lower, upper)), Some(l), Some(u)) => near(lower, l) && near(upper, u),
                _ => false,
            };
        if !same {
            let reason = format!("ctr and bounds are {got:?} as computed here, the file differs");
            return Err(GoldenError::new(i, reason));
        }
    }
    Ok(())
}
