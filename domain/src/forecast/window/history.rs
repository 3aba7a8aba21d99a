//! From the values that a request brings to the window that a model sees.

use crate::{
    ErrorKind,
    forecast::{FrequencyError, Timestamp, frequency::MAX_HORIZON},
};

use super::spec::{ForecastSpec, Missing, Step};

/// The last values of a series, one a step; NaN where one is missing.
#[derive(Debug, Clone, PartialEq)]
pub struct History {
    pub(super) values: Vec<f64>,
    pub(super) last: Timestamp,
}

/// Values that a model cannot forecast from, and what to mend. Places count from 0 in the request's order.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum HistoryError {
    /// Nothing at all.
    #[error("there are no values: send the last {context_length} of the series, oldest first")]
    Empty {
        /// How many the model sees.
        context_length: usize,
    },
    /// Dates and values do not pair.
    #[error("{values} values for {dates} dates: give each value its date, or only the date of the last one")]
    Length {
        /// How many dates there are.
        dates: usize,
        /// How many values there are.
        values: usize,
    },
    /// A date that no step leads to.
    #[error("date {place}, {date}, is not on a step of `{step}`, by which the model goes")]
    OffStep {
        /// Its place.
        place: usize,
        /// The date.
        date: Timestamp,
        /// The step.
        step: String,
    },
    /// Dates that do not ascend.
    #[error("date {place}, {date}, does not come after the one before: send them in ascending order, each once")]
    Order {
        /// Its place.
        place: usize,
        /// The date.
        date: Timestamp,
    },
    /// Dates too far from each other.
    #[error("the dates span more than {MAX_HORIZON} steps: send the last values only")]
    Span,
    /// Infinite, or beyond what the model takes.
    #[error("value {place} is {value}, which float32, the model's type, does not hold")]
    NotFinite {
        /// Its place.
        place: usize,
        /// The value.
        value: f64,
    },
    /// A missing value where the model takes none.
    #[error(
        "the value {back} steps before the last one is missing, and the model takes no missing values: fill it, or \
         send the date of each value if it stands elsewhere"
    )]
    Missing {
        /// How many steps lie between it and the last one.
        back: usize,
    },
    /// Too few values.
    #[error("{present} values are there of the last {context_length}, and the model needs {needed}: send more history")]
    Short {
        /// How many are there.
        present: usize,
        /// How many there must be.
        needed: usize,
        /// How many the model sees.
        context_length: usize,
    },
}

impl HistoryError {
    /// What the failure means to the caller: the request is wrong and will stay wrong.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        ErrorKind::Invalid
    }

    /// Whether the dates are at fault, not the values.
    #[must_use]
    pub fn is_about_dates(&self) -> bool {
        matches!(self, Self::Length { .. } | Self::OffStep { .. } | Self::Order { .. } | Self::Span)
    }
}

impl History {
    /// Values at consecutive steps, oldest first, of which the last has this date.
    ///
    /// # Errors
    /// [`HistoryError::OffStep`].
    pub fn ending(values: Vec<f64>, last: Timestamp, step: &Step) -> Result<Self, HistoryError> {
        let place = values.len().saturating_sub(1);
        check_date(place, last, step)?;
        Ok(Self { values, last })
    }

    /// Values with their dates; steps between that have none are missing.
    ///
    /// # Errors
    /// [`HistoryError`] names the first date that is wrong.
    pub fn dated(dates: &[Timestamp], values: &[f64], step: &Step) -> Result<Self, HistoryError> {
        if dates.len() != values.len() {
            return Err(HistoryError::Length { dates: dates.len(), values: values.len() });
        }
        let Some((&first, &last)) = dates.first().zip(dates.last()) else {
            return Ok(Self { values: Vec::new(), last: Timestamp::from_micros(0) });
        };
        check_date(0, first, step)?;
        let mut expected = first;
        let mut every = Vec::with_capacity(values.len());
        for (place, (&date, &value)) in dates.iter().zip(values).enumerate() {
            if place > 0 && date <= dates[place - 1] {
                return Err(HistoryError::Order { place, date });
            }
            while expected < date {
                if every.len() >= MAX_HORIZON {
                    return Err(HistoryError::Span);
                }
                every.push(f64::NAN);
                expected = step.frequency.next(expected);
            }
            if expected != date {
                return Err(HistoryError::OffStep { place, date, step: step.to_string() });
            }
            every.push(value);
            expected = step.frequency.next(expected);
        }
        Ok(Self { values: every, last })
    }

    /// The window that a model sees: the last values; NaN where one is missing, and before the first.
    ///
    /// # Errors
    /// [`HistoryError`] where there are too few values, or one that the model does not take.
    pub fn window(&self, spec: &ForecastSpec) -> Result<Vec<f32>, HistoryError> {
        let context_length = spec.context_length;
        if self.values.is_empty() {
            return Err(HistoryError::Empty { context_length });
        }
        let begin = self.values.len().saturating_sub(context_length);
        let mut window = vec![f32::NAN; context_length.saturating_sub(self.values.len())];
        let mut present = 0;
        for (place, &value) in self.values.iter().enumerate().skip(begin) {
            #[allow(clippy::cast_possible_truncation)] // what does not fit becomes infinite
            let narrow = value as f32;
            match narrow {
                narrow if narrow.is_infinite() => return Err(HistoryError::NotFinite { place, value }),
                narrow if narrow.is_nan() && spec.missing == Missing::Reject {} => {
                    return Err(HistoryError::Missing { back: self.values.len() - 1 - place });
                }
                narrow => present += usize::from(!narrow.is_nan()),
            }
            window.push(narrow);
        }
        let needed = spec.min_values();
        if present < needed {
            return Err(HistoryError::Short { present, needed, context_length });
        }
        Ok(window)
    }

    /// The dates of the next steps.
    ///
    /// # Errors
    /// [`FrequencyError`] for no or too many steps.
    pub fn dates(&self, spec: &ForecastSpec, steps: usize) -> Result<Vec<Timestamp>, FrequencyError> {
        spec.frequency.frequency.dates_after(self.last, steps)
    }
}

fn check_date(place: usize, date: Timestamp, step: &Step) -> Result<(), HistoryError> {
    match step.frequency.falls_on(date) {
        true => Ok(()),
        false => Err(HistoryError::OffStep { place, date, step: step.to_string() }),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::{super::spec::example, *};

    fn spec(edit: impl FnOnce(&mut serde_json::Value)) -> ForecastSpec {
        let mut json = example();
        edit(&mut json);
        ForecastSpec::parse(json.to_string().as_bytes()).unwrap()
    }

    fn day(text: &str) -> Timestamp {
        Timestamp::parse(text).unwrap()
    }

    /// NaN shown as such, so that windows can be compared.
    fn shown(window: &[f32]) -> String {
        format!("{window:?}")
    }

    #[test]
    fn the_last_values_are_the_window_and_short_ones_begin_with_nan() {
        let spec = spec(|_| {});
        let window = |values: &[f64]| {
            History::ending(values.to_vec(), day("2024-01-01T05:00"), &spec.frequency).unwrap().window(&spec)
        };
        assert_eq!(window(&[1.0, 2.0, 3.0, 4.0, 5.0]).unwrap(), [2.0, 3.0, 4.0, 5.0]);
        assert_eq!(shown(&window(&[1.0, 2.0]).unwrap()), "[NaN, NaN, 1.0, 2.0]");
        assert_eq!(shown(&window(&[1.0, f64::NAN, 2.0]).unwrap()), "[NaN, 1.0, NaN, 2.0]");
        let short = HistoryError::Short { present: 1, needed: 2, context_length: 4 };
        assert_eq!(window(&[7.0, 7.0, f64::NAN, f64::NAN, 1.0, f64::NAN]).unwrap_err(), short);
        assert_eq!(window(&[1.0]).unwrap_err(), short);
        assert_eq!(window(&[]).unwrap_err(), HistoryError::Empty { context_length: 4 });
        assert_eq!(window(&[1.0, 1e39, 1.0]).unwrap_err(), HistoryError::NotFinite { place: 1, value: 1e39 });
        // One that the model does not see harms nobody.
        assert_eq!(window(&[f64::INFINITY, 1.0, 2.0, 3.0, 4.0]).unwrap(), [1.0, 2.0, 3.0, 4.0]);
    }

    #[test]
    fn a_model_without_missing_values_gets_none() {
        let spec = spec(|json| json["missing"] = serde_json::json!({"policy": "reject"}));
        let window = |values: &[f64]| {
            History::ending(values.to_vec(), day("2024-01-01T05:00"), &spec.frequency).unwrap().window(&spec)
        };
        assert_eq!(window(&[1.0, 2.0, f64::NAN, 4.0]).unwrap_err(), HistoryError::Missing { back: 1 });
        assert_eq!(
            window(&[1.0, 2.0, 3.0]).unwrap_err(),
            HistoryError::Short { present: 3, needed: 4, context_length: 4 }
        );
        assert_eq!(window(&[f64::NAN, 1.0, 2.0, 3.0, 4.0]).unwrap(), [1.0, 2.0, 3.0, 4.0]);
    }

    #[test]
    fn dates_that_are_left_out_are_missing_values() {
        let spec = spec(|json| json["frequency"] = "D".into());
        let dates = |texts: &[&str]| texts.iter().map(|text| day(text)).collect::<Vec<_>>();
        let dated = |texts: &[&str], values: &[f64]| History::dated(&dates(texts), values, &spec.frequency);
        let history = dated(&["2024-02-27", "2024-02-29", "2024-03-01"], &[1.0, 2.0, 3.0]).unwrap();
        assert_eq!(shown(&history.window(&spec).unwrap()), "[1.0, NaN, 2.0, 3.0]");
        assert_eq!(history.dates(&spec, 2).unwrap(), dates(&["2024-03-02", "2024-03-03"]));
        let errors = [
            (dated(&["2024-02-27"], &[]), "0 values for 1 dates"),
            (dated(&["2024-02-27", "2024-02-27"], &[1.0, 2.0]), "date 1, 2024-02-27T00:00:00, does not come after"),
            (dated(&["2024-02-27", "2024-02-28T01:00"], &[1.0, 2.0]), "is not on a step of `D`"),
            (dated(&["1600-02-27", "2024-02-28"], &[1.0, 2.0]), "more than 100000 steps"),
        ];
        for (result, part) in errors {
            let error = result.unwrap_err();
            assert!(error.is_about_dates() && error.to_string().contains(part), "{part}: {error}");
        }
        assert!(dated(&[], &[]).unwrap().window(&spec).is_err());
    }

    #[test]
    fn a_last_date_between_steps_is_refused() {
        let monthly = spec(|json| json["frequency"] = "MS".into());
        let error = History::ending(vec![1.0, 2.0], day("2024-03-02"), &monthly.frequency).unwrap_err();
        assert!(error.to_string().contains("date 1, 2024-03-02T00:00:00, is not on a step of `MS`"), "{error}");
        let history = History::ending(vec![1.0, 2.0], day("2024-03-01"), &monthly.frequency).unwrap();
        assert_eq!(history.dates(&monthly, 1).unwrap(), [day("2024-04-01")]);
    }
}
