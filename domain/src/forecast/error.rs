//! What can be wrong with a model's file or with the rows asked for.

use super::{frequency::FrequencyError, time::TimeError, time::Timestamp};
use crate::ErrorKind;

/// A Prophet file that cannot be served, and what to mend.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// Not JSON of the expected shape.
    #[error("Prophet model: {field} is not what Prophet writes: {source}")]
    Json {
        /// Which part.
        field: String,
        /// Where it went wrong.
        source: serde_json::Error,
    },
    /// A value that contradicts Prophet's rules or another value.
    #[error("Prophet model: {field}: {reason}")]
    Invalid {
        /// Which part.
        field: String,
        /// What is wrong and what to do.
        reason: String,
    },
    /// The model needs the public holidays of a country that has no calendar here.
    #[error(
        "Prophet model: country_holidays names `{0}`, for which there is no calendar: add its holidays as `holidays`"
    )]
    Country(String),
}

impl ModelError {
    pub(super) fn at(field: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Invalid { field: field.into(), reason: reason.into() }
    }

    /// What the failure means to the caller: the file is wrong and will stay wrong.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        ErrorKind::Invalid
    }
}

/// Rows that the model cannot answer for, and what to mend. Rows count from 0 in the order they were given.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum FutureError {
    /// Nothing to forecast.
    #[error("no rows: give at least one date")]
    NoRows,
    /// The model needs a column that is not there.
    #[error("column `{column}` is missing: the model needs it as {role}, one value a row")]
    Missing {
        /// Its name.
        column: String,
        /// What it is to the model.
        role: Role,
    },
    /// A column of another length than the dates.
    #[error("column `{column}` has {values} values for {rows} dates: give one a row")]
    Length {
        /// Its name.
        column: String,
        /// How many dates there are.
        rows: usize,
        /// How many values it has.
        values: usize,
    },
    /// NaN or infinite.
    #[error("column `{column}`, row {row}: {value} is not a finite number, which a {role} must be")]
    NotFinite {
        /// Its name.
        column: String,
        /// What it is to the model.
        role: Role,
        /// The row.
        row: usize,
        /// The value.
        value: f64,
    },
    /// A condition that is neither true nor false.
    #[error("column `{column}`, row {row}: {value} is not true or false (1 or 0), which a condition must be")]
    NotBoolean {
        /// Its name.
        column: String,
        /// The row.
        row: usize,
        /// The value.
        value: f64,
    },
    /// A saturation below or at the floor.
    #[error("column `cap`, row {row}: cap {cap} must be greater than the floor, {floor}")]
    CapNotAboveFloor {
        /// The row.
        row: usize,
        /// The capacity.
        cap: f64,
        /// The floor of that row.
        floor: f64,
    },
    /// A date for which the holiday calendar knows nothing.
    #[error("row {row}: the holidays of {country} are known for {first} to {last} only, not for {date}")]
    Calendar {
        /// The row.
        row: usize,
        /// The date.
        date: Timestamp,
        /// The country's code.
        country: String,
        /// First year of the calendar.
        first: i64,
        /// Last year of the calendar.
        last: i64,
    },
    /// A probability that is none.
    #[error("quantile {0} must be above 0 and below 1")]
    Probability(f64),
    /// Text that is no date.
    #[error(transparent)]
    Time(#[from] TimeError),
    /// A frequency or horizon that cannot be used.
    #[error(transparent)]
    Frequency(#[from] FrequencyError),
}

impl FutureError {
    /// What the failure means to the caller: the request is wrong and will stay wrong.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        ErrorKind::Invalid
    }

    /// The column at fault, where there is one.
    #[must_use]
    pub fn column(&self) -> Option<&str> {
        match self {
            Self::Missing { column, .. }
            | Self::Length { column, .. }
            | Self::NotFinite { column, .. }
            | Self::NotBoolean { column, .. } => Some(column),
            Self::CapNotAboveFloor { .. } => Some("cap"),
            Self::NoRows | Self::Calendar { .. } => Some("ds"),
            Self::Probability(_) | Self::Time(_) | Self::Frequency(_) => None,
        }
    }
}

/// What a column of a request is to the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Saturation of logistic growth.
    Capacity,
    /// Lower saturation of logistic growth.
    Floor,
    /// An extra regressor.
    Regressor,
    /// Switches a seasonality on and off.
    Condition,
}

impl std::fmt::Display for Role {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Capacity => "capacity",
            Self::Floor => "floor",
            Self::Regressor => "regressor",
            Self::Condition => "condition of a seasonality",
        })
    }
}
