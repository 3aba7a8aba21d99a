//! The design of a model: which columns its coefficients multiply, and which components they make up.

use std::collections::BTreeSet;

use serde::Deserialize;
use serde_json::{Map, Value};

use super::{error::ModelError, frame::Rows, holidays::Holidays, raw, season::Fourier};

/// Whether an effect adds to the trend or multiplies it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Adds to the trend, in data units.
    Additive,
    /// Multiplies the trend: 0.1 is 10 % of it.
    Multiplicative,
}

impl Mode {
    pub(super) fn parse(field: &str, text: &str) -> Result<Self, ModelError> {
        match text {
            "additive" => Ok(Self::Additive),
            "multiplicative" => Ok(Self::Multiplicative),
            _ => Err(ModelError::at(field, format!("mode `{text}` is neither additive nor multiplicative"))),
        }
    }
}

/// What fills a block of neighbouring columns.
#[derive(Debug, Clone)]
pub(super) enum Source {
    /// A Fourier series; `condition` is an index into the model's conditions.
    Seasonality {
        fourier: Fourier,
        condition: Option<usize>,
    },
    Holidays(Holidays),
    /// An index into the model's regressors.
    Regressor(usize),
}

/// A named part of the forecast: the columns whose effects it sums.
#[derive(Debug, Clone)]
pub(super) struct Part {
    pub(super) name: String,
    pub(super) mode: Mode,
    pub(super) columns: Vec<usize>,
}

/// The columns in the order of the coefficients.
#[derive(Debug, Clone, Default)]
pub(super) struct Design {
    blocks: Vec<(usize, Source)>,
    modes: Vec<Mode>,
    parts: Vec<Part>,
}

impl Design {
    /// Adds a seasonality or a regressor behind the columns that are there.
    pub(super) fn push(&mut self, name: &str, mode: Mode, source: Source) {
        let from = self.modes.len();
        let names = match &source {
            Source::Seasonality { fourier, .. } => vec![name.to_owned(); fourier.columns()],
            Source::Holidays(holidays) => holidays.names().to_vec(),
            Source::Regressor(_) => vec![name.to_owned()],
        };
        let group = match (&source, mode) {
            (Source::Seasonality { .. }, _) => None,
            (Source::Holidays(_), _) => Some("holidays"),
            (Source::Regressor(_), Mode::Additive) => Some("extra_regressors_additive"),
            (Source::Regressor(_), Mode::Multiplicative) => Some("extra_regressors_multiplicative"),
        };
        for (at, name) in names.iter().enumerate() {
            self.join(name, mode, from + at);
            if let Some(group) = group {
                self.join(group, mode, from + at);
            }
        }
        self.modes.resize(from + names.len(), mode);
        self.blocks.push((from, source));
    }

    fn join(&mut self, name: &str, mode: Mode, column: usize) {
        match self.parts.iter_mut().find(|part| part.name == name) {
            Some(part) => part.columns.push(column),
            None => self.parts.push(Part { name: name.to_owned(), mode, columns: vec![column] }),
        }
    }

    /// Adds the sums by mode, and checks the whole against what the training saw, where the file says it.
    pub(super) fn finish(mut self, coefficients: usize, trained: Option<&str>) -> Result<Self, ModelError> {
        for (name, mode) in [("additive_terms", Mode::Additive), ("multiplicative_terms", Mode::Multiplicative)] {
            let columns = (0..self.modes.len()).filter(|column| self.modes[*column] == mode).collect();
            self.parts.push(Part { name: name.to_owned(), mode, columns });
        }
        // A model without any column has one coefficient that multiplies nothing.
        if coefficients != self.modes.len().max(1) {
            let columns = self.modes.len();
            return Err(ModelError::at(
                "params.beta",
                format!("{coefficients} coefficients for {columns} columns of seasonalities, holidays and regressors"),
            ));
        }
        if let Some(text) = trained {
            let Table { data } = raw::field("train_component_cols", text)?;
            self.check(&data)?;
            let named = |name: &str| data.first().is_none_or(|row| row.contains_key(name));
            self.parts.retain(|part| named(&part.name));
        }
        Ok(self)
    }

    /// Each component that the training knew must sum the same columns here.
    fn check(&self, trained: &[Map<String, Value>]) -> Result<(), ModelError> {
        let names: BTreeSet<_> = trained.iter().flat_map(Map::keys).filter(|name| *name != "zeros").collect();
        for name in names {
            let theirs = (0..trained.len()).filter(|row| trained[*row].get(name).and_then(Value::as_f64) == Some(1.0));
            let ours = self.parts.iter().find(|part| part.name == *name).map_or(&[][..], |part| &part.columns);
            if !theirs.eq(ours.iter().copied()) {
                let reason = format!("`{name}` had other columns in training: the file's parts contradict each other");
                return Err(ModelError::at("train_component_cols", reason));
            }
        }
        Ok(())
    }

    pub(super) fn columns(&self) -> usize {
        self.modes.len()
    }

    pub(super) fn modes(&self) -> &[Mode] {
        &self.modes
    }

    pub(super) fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// The country whose holidays the rows need.
    pub(super) fn country(&self) -> Option<&str> {
        self.blocks.iter().find_map(|(_, source)| match source {
            Source::Holidays(holidays) => holidays.country(),
            _ => None,
        })
    }

    /// Writes the columns of one row.
    pub(super) fn write(&self, rows: &Rows, row: usize, columns: &mut [f64]) {
        for (from, source) in &self.blocks {
            match source {
                Source::Seasonality { fourier, condition } => {
                    let columns = &mut columns[*from..from + fourier.columns()];
                    if condition.is_none_or(|condition| rows.conditions[condition][row]) {
                        fourier.write(rows.times[row].days(), columns);
                    } else {
                        columns.fill(0.0);
                    }
                }
                Source::Holidays(holidays) => {
                    let columns = &mut columns[*from..from + holidays.names().len()];
                    columns.fill(0.0);
                    holidays.on(rows.times[row]).for_each(|column| columns[column] = 1.0);
                }
                Source::Regressor(regressor) => columns[*from] = rows.regressors[*regressor][row],
            }
        }
    }
}

#[derive(Deserialize)]
struct Table {
    data: Vec<Map<String, Value>>,
}
