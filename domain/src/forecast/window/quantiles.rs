//! From what a model gives to quantiles that are quantiles.

use super::spec::{ForecastSpec, MEDIAN};

/// Probabilities this near to each other are the same: `(1 - 0.8) / 2` is not quite 0.1.
const SAME: f64 = 1e-9;

/// A quantile that the model does not give.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("the model does not give the quantile {probability}, and none is made up: it gives {}", list(.given))]
pub struct UnknownQuantile {
    /// What was asked for.
    pub probability: f64,
    /// What there is.
    pub given: Vec<f64>,
}

fn list(probabilities: &[f64]) -> String {
    probabilities.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// Quantiles of one series at the next steps.
#[derive(Debug, Clone, PartialEq)]
pub struct Quantiles {
    steps: usize,
    width: usize,
    /// By step, then ascending.
    values: Vec<f32>,
}

impl Quantiles {
    /// The first `steps` of what a model gave for one window: steps, then quantiles.
    ///
    /// A network may give quantiles that cross. Each step's values are sorted, which brings them no further from the
    /// true quantiles (Chernozhukov, Fernández-Val and Galichon, "Quantile and Probability Curves Without Crossing",
    /// Econometrica 78, 2010).
    ///
    /// `None` where a value is not a finite number, or there are too few.
    #[must_use]
    pub fn read(spec: &ForecastSpec, outputs: &[f32], steps: usize) -> Option<Self> {
        let width = spec.quantiles.len();
        let mut values = outputs.get(..steps * width)?.to_vec();
        if !values.iter().all(|value| value.is_finite()) {
            return None;
        }
        values.chunks_exact_mut(width).for_each(|step| step.sort_by(f32::total_cmp));
        Some(Self { steps, width, values })
    }

    /// The quantile at a place of the spec's list, one value a step.
    #[must_use]
    pub fn at(&self, place: usize) -> Vec<f64> {
        (0..self.steps).filter_map(|step| self.values.get(step * self.width + place).copied().map(f64::from)).collect()
    }
}

impl ForecastSpec {
    /// The place of a quantile in the spec's list.
    ///
    /// # Errors
    /// [`UnknownQuantile`] says which there are. Between two quantiles the law of a network is not known, so nothing
    /// is interpolated.
    pub fn place_of(&self, probability: f64) -> Result<usize, UnknownQuantile> {
        let place = self.quantiles.iter().position(|given| (given - probability).abs() <= SAME);
        place.ok_or_else(|| UnknownQuantile { probability, given: self.quantiles.clone() })
    }

    /// The place of the point forecast.
    #[must_use]
    pub fn median(&self) -> usize {
        self.quantiles.partition_point(|probability| *probability < MEDIAN)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::{super::spec::example, *};

    fn spec() -> ForecastSpec {
        ForecastSpec::parse(example().to_string().as_bytes()).unwrap()
    }

    #[test]
    fn crossing_quantiles_are_put_in_order() {
        let quantiles = Quantiles::read(&spec(), &[1.0, 3.0, 2.0, -1.0, -2.0, 5.0], 2).unwrap();
        assert_eq!(quantiles.at(0), [1.0, -2.0]);
        assert_eq!(quantiles.at(spec().median()), [2.0, -1.0]);
        assert_eq!(quantiles.at(2), [3.0, 5.0]);
        let first = Quantiles::read(&spec(), &[1.0, 3.0, 2.0, f32::NAN, 0.0, 0.0], 1).unwrap();
        assert_eq!(first.at(1), [2.0]);
    }

    #[test]
    fn what_is_no_number_is_no_forecast() {
        for outputs in [&[1.0, f32::NAN, 2.0][..], &[1.0, f32::INFINITY, 2.0], &[1.0, 2.0]] {
            assert_eq!(Quantiles::read(&spec(), outputs, 1), None);
        }
    }

    #[test]
    fn a_quantile_that_is_not_there_is_not_made_up() {
        assert_eq!(spec().place_of(0.5 * (1.0 - 0.8)), Ok(0));
        assert_eq!(spec().place_of(0.9), Ok(2));
        let error = spec().place_of(0.25).unwrap_err();
        assert!(
            error.to_string().ends_with("the quantile 0.25, and none is made up: it gives 0.1, 0.5, 0.9"),
            "{error}"
        );
    }
}
