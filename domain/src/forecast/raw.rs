//! Prophet's JSON as it is written, by any version: nothing here is checked beyond its shape.

use std::{borrow::Cow, collections::BTreeMap};

use serde::{Deserialize, Deserializer, de::DeserializeOwned};

use super::error::ModelError;

/// What `prophet.serialize.model_to_json` writes, less what prediction does not use.
#[derive(Debug, Deserialize)]
pub(super) struct Raw {
    pub(super) growth: String,
    pub(super) start: Number,
    pub(super) t_scale: Number,
    pub(super) y_scale: Number,
    /// Absent before 1.1.5, as is `scaling`.
    pub(super) y_min: Option<Number>,
    pub(super) scaling: Option<String>,
    #[serde(default)]
    pub(super) logistic_floor: bool,
    pub(super) changepoints_t: Vec<Number>,
    pub(super) params: Params,
    pub(super) seasonalities: Ordered<Seasonality>,
    pub(super) seasonality_mode: String,
    /// Absent before 1.1.5.
    pub(super) holidays_mode: Option<String>,
    pub(super) holidays: Option<String>,
    pub(super) train_holiday_names: Option<String>,
    pub(super) country_holidays: Option<String>,
    pub(super) extra_regressors: Ordered<Regressor>,
    pub(super) train_component_cols: Option<String>,
    pub(super) interval_width: Number,
    pub(super) uncertainty_samples: Option<Samples>,
    pub(super) history: Option<String>,
    pub(super) history_dates: Option<String>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Params {
    pub(super) k: Draws,
    pub(super) m: Draws,
    pub(super) sigma_obs: Draws,
    pub(super) delta: Vec<Vec<Number>>,
    pub(super) beta: Vec<Vec<Number>>,
}

/// One number a draw: `[[x]]` for MAP, `[x1, ..., xn]` for MCMC.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum Draws {
    Nested(Vec<Vec<Number>>),
    Flat(Vec<Number>),
}

impl Draws {
    pub(super) fn values(&self) -> Vec<Number> {
        match self {
            Self::Nested(rows) => rows.iter().flatten().copied().collect(),
            Self::Flat(values) => values.clone(),
        }
    }
}

/// A number; `null`, which stands for what Python wrote as NaN or infinity, reads as NaN.
#[derive(Debug, Clone, Copy)]
pub(super) struct Number(pub(super) f64);

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Option::<f64>::deserialize(deserializer).map(|number| Self(number.unwrap_or(f64::NAN)))
    }
}

/// `uncertainty_samples`: a count, or a truth value.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(untagged)]
pub(super) enum Samples {
    Given(bool),
    Count(f64),
}

/// An `OrderedDict`: the names in order, then the entries by name.
#[derive(Debug, Deserialize)]
pub(super) struct Ordered<T>(Vec<String>, BTreeMap<String, T>);

impl<T> Ordered<T> {
    /// The entries in order; `field` is for the error.
    pub(super) fn entries(&self, field: &str) -> Result<Vec<(&str, &T)>, ModelError> {
        let missing = |name: &str| ModelError::at(field, format!("`{name}` is named but not described"));
        self.0
            .iter()
            .map(|name| self.1.get(name).map(|entry| (name.as_str(), entry)).ok_or_else(|| missing(name)))
            .collect()
    }
}

#[derive(Debug, Deserialize)]
pub(super) struct Seasonality {
    pub(super) period: Number,
    pub(super) fourier_order: f64,
    pub(super) mode: String,
    pub(super) condition_name: Option<String>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Regressor {
    pub(super) mu: Number,
    pub(super) std: Number,
    pub(super) mode: String,
}

/// A pandas frame or series in JSON; only its rows matter.
#[derive(Debug, Deserialize)]
pub(super) struct Table<T> {
    pub(super) data: Vec<T>,
}

#[derive(Debug, Deserialize)]
pub(super) struct HolidayRow {
    pub(super) holiday: String,
    pub(super) ds: String,
    pub(super) lower_window: Option<f64>,
    pub(super) upper_window: Option<f64>,
}

#[derive(Debug, Deserialize)]
pub(super) struct HistoryRow {
    pub(super) t: Number,
}

/// Reads the content of a model file: JSON, or a JSON string that holds JSON, which is what MLflow writes.
pub(super) fn read(text: &str) -> Result<Raw, ModelError> {
    let text = text.trim_start();
    if !text.starts_with('"') {
        return field("model", text);
    }
    let inner: String = field("model", text)?;
    field("model", &inner)
}

/// Reads JSON that stands in a string; `name` is for the error.
pub(super) fn field<T: DeserializeOwned>(name: &str, text: &str) -> Result<T, ModelError> {
    serde_json::from_str(&without_nan(text)).map_err(|source| ModelError::Json { field: name.to_owned(), source })
}

/// Python writes NaN and Infinity bare, which is no JSON: they become null.
fn without_nan(text: &str) -> Cow<'_, str> {
    const TOKENS: [&str; 3] = ["NaN", "-Infinity", "Infinity"];
    if !TOKENS.iter().any(|token| text.contains(token)) {
        return Cow::Borrowed(text);
    }
    let mut clean = String::with_capacity(text.len());
    let (mut rest, mut quoted) = (text, false);
    while let Some(first) = rest.chars().next() {
        let token = (!quoted).then(|| TOKENS.iter().find(|token| rest.starts_with(**token))).flatten();
        let taken = match (token, first) {
            (Some(token), _) => token.len(),
            (None, '\\') => 1 + rest[1..].chars().next().map_or(0, char::len_utf8),
            (None, _) => first.len_utf8(),
        };
        quoted ^= first == '"';
        clean.push_str(if token.is_some() { "null" } else { &rest[..taken] });
        rest = &rest[taken..];
    }
    Cow::Owned(clean)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bare_nan_becomes_null_and_text_stays() {
        let text = r#"{"a": [NaN, -Infinity, Infinity, 1], "NaN \" NaN": "Infinity\\"}"#;
        assert_eq!(without_nan(text), r#"{"a": [null, null, null, 1], "NaN \" NaN": "Infinity\\"}"#);
        assert!(matches!(without_nan("[1, 2]"), Cow::Borrowed(_)));
    }
}
