//! The rows of a request: dates and named columns, and what a model needs of them.

use std::collections::BTreeMap;

use super::{
    error::{FutureError, Role},
    model::{Floor, Prophet},
    time::{Timestamp, civil},
    trend::Growth,
};

/// Values of one column, one a row.
#[derive(Debug, Clone, PartialEq)]
pub enum Column {
    /// Numbers: a regressor, `cap`, `floor`; or a condition as 0 and 1.
    Numbers(Vec<f64>),
    /// Truth values: a condition; or a regressor as 0 and 1.
    Flags(Vec<bool>),
}

impl Column {
    fn len(&self) -> usize {
        match self {
            Self::Numbers(values) => values.len(),
            Self::Flags(values) => values.len(),
        }
    }

    fn number(&self, row: usize) -> f64 {
        match self {
            Self::Numbers(values) => values[row],
            Self::Flags(values) => f64::from(u8::from(values[row])),
        }
    }
}

/// The rows to forecast, in any order. Columns that a model does not need are ignored.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Frame {
    times: Vec<Timestamp>,
    columns: BTreeMap<String, Column>,
}

impl Frame {
    /// Rows of these dates.
    #[must_use]
    pub fn new(times: Vec<Timestamp>) -> Self {
        Self { times, columns: BTreeMap::new() }
    }

    /// Adds a column, or replaces it.
    #[must_use]
    pub fn with(mut self, name: impl Into<String>, column: Column) -> Self {
        self.columns.insert(name.into(), column);
        self
    }

    /// The dates as given.
    #[must_use]
    pub fn times(&self) -> &[Timestamp] {
        &self.times
    }

    fn column(&self, name: &str, role: Role) -> Result<&Column, FutureError> {
        let missing = || FutureError::Missing { column: name.to_owned(), role };
        let column = self.columns.get(name).ok_or_else(missing)?;
        if column.len() == self.times.len() {
            Ok(column)
        } else {
            let (rows, values) = (self.times.len(), column.len());
            Err(FutureError::Length { column: name.to_owned(), rows, values })
        }
    }

    fn numbers(&self, name: &str, role: Role) -> Result<Vec<f64>, FutureError> {
        let column = self.column(name, role)?;
        let check = |row| {
            let value = column.number(row);
            let wrong = || FutureError::NotFinite { column: name.to_owned(), role, row, value };
            value.is_finite().then_some(value).ok_or_else(wrong)
        };
        (0..column.len()).map(check).collect()
    }

    fn flags(&self, name: &str) -> Result<Vec<bool>, FutureError> {
        let column = self.column(name, Role::Condition)?;
        let check = |row| match column.number(row) {
            1.0 => Ok(true),
            0.0 => Ok(false),
            value => Err(FutureError::NotBoolean { column: name.to_owned(), row, value }),
        };
        (0..column.len()).map(check).collect()
    }
}

/// Rows that passed every check, sorted by date, in the model's units.
#[derive(Debug)]
pub(super) struct Rows {
    /// Of each row, its place in the request.
    pub(super) order: Vec<usize>,
    pub(super) times: Vec<Timestamp>,
    /// Scaled time: 0 to 1 over the history.
    pub(super) t: Vec<f64>,
    /// In data units; empty where it is the same for all rows.
    floor: Vec<f64>,
    /// Scaled; empty unless growth is logistic.
    cap: Vec<f64>,
    /// Standardised, in the model's order.
    pub(super) regressors: Vec<Vec<f64>>,
    /// In the model's order.
    pub(super) conditions: Vec<Vec<bool>>,
    floor_of_all: f64,
}

impl Rows {
    pub(super) fn new(model: &Prophet, frame: &Frame) -> Result<Self, FutureError> {
        if frame.times.is_empty() {
            return Err(FutureError::NoRows);
        }
        if let Some(country) = model.design.country() {
            calendar(&frame.times, country)?;
        }
        let mut order: Vec<_> = (0..frame.times.len()).collect();
        order.sort_by_key(|row| frame.times[*row]);
        let sorted = |values: Vec<f64>| -> Vec<f64> { order.iter().map(|row| values[*row]).collect() };

        let mut regressors = Vec::with_capacity(model.regressors.len());
        for regressor in &model.regressors {
            let mut values = sorted(frame.numbers(&regressor.name, Role::Regressor)?);
            values.iter_mut().for_each(|value| *value = (*value - regressor.mean) / regressor.deviation);
            regressors.push(values);
        }
        let mut conditions = Vec::with_capacity(model.conditions.len());
        for name in &model.conditions {
            let flags = frame.flags(name)?;
            conditions.push(order.iter().map(|row| flags[*row]).collect());
        }
        let (floor, floor_of_all) = match model.floor {
            Floor::Column => (frame.numbers("floor", Role::Floor)?, 0.0),
            Floor::Constant(floor) => (Vec::new(), floor),
        };
        let mut cap = Vec::new();
        if model.growth == Growth::Logistic {
            cap = frame.numbers("cap", Role::Capacity)?;
            for (row, cap) in cap.iter_mut().enumerate() {
                let floor = *floor.get(row).unwrap_or(&floor_of_all);
                if *cap <= floor {
                    return Err(FutureError::CapNotAboveFloor { row, cap: *cap, floor });
                }
                *cap = (*cap - floor) / model.y_scale;
            }
            cap = sorted(cap);
        }
        let floor = if floor.is_empty() { floor } else { sorted(floor) };
        let times: Vec<_> = order.iter().map(|row| frame.times[*row]).collect();
        let t = times.iter().map(|time| model.scaled(*time)).collect();
        Ok(Self { order, times, t, floor, cap, regressors, conditions, floor_of_all })
    }

    pub(super) fn len(&self) -> usize {
        self.t.len()
    }

    /// The floor of a row in data units.
    pub(super) fn floor(&self, row: usize) -> f64 {
        *self.floor.get(row).unwrap_or(&self.floor_of_all)
    }

    /// The scaled capacity of a row; 0 where growth is not logistic.
    pub(super) fn cap(&self, row: usize) -> f64 {
        *self.cap.get(row).unwrap_or(&0.0)
    }

    /// Rows up to the end of the history, which come first.
    pub(super) fn past(&self) -> usize {
        self.t.partition_point(|t| *t <= 1.0)
    }
}

fn calendar(times: &[Timestamp], country: &str) -> Result<(), FutureError> {
    use super::holidays::{FIRST_YEAR as first, LAST_YEAR as last};
    let covered = |time: &Timestamp| (first..=last).contains(&civil(time.day()).0);
    match times.iter().position(|time| !covered(time)) {
        Some(row) => Err(FutureError::Calendar { row, date: times[row], country: country.to_owned(), first, last }),
        None => Ok(()),
    }
}
