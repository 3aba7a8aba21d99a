//! Laws known by samples.

/// Simulated values of one row, from one or more independent runs.
///
/// Where a model has many draws, a percentile of one run can hang on which of a few draws lie above it; the median
/// over runs does not.
#[derive(Debug, Clone)]
pub(in crate::forecast) struct Sample {
    /// Each ascending.
    runs: Vec<Vec<f64>>,
}

impl Sample {
    /// From the values of each run.
    pub(in crate::forecast) fn new(runs: Vec<Vec<f64>>) -> Self {
        Self { runs: runs.into_iter().map(sorted).collect() }
    }

    /// The median over runs of each run's percentile.
    pub(in crate::forecast) fn quantile(&self, probability: f64) -> f64 {
        percentile(&sorted(self.runs.iter().map(|run| percentile(run, probability)).collect()), 0.5)
    }

    /// How many values there are, how many are below `x`, how many at most `x`.
    pub(super) fn counts(&self, x: f64) -> (usize, usize, usize) {
        let sum = |count: &dyn Fn(&Vec<f64>) -> usize| self.runs.iter().map(count).sum();
        let below = sum(&|run| run.partition_point(|value| *value < x));
        (sum(&Vec::len), below, sum(&|run| run.partition_point(|value| *value <= x)))
    }
}

/// The values in ascending order, without those that are no number, as numpy's `nanpercentile` takes them.
pub(in crate::forecast) fn sorted(mut values: Vec<f64>) -> Vec<f64> {
    values.retain(|value| !value.is_nan());
    values.sort_unstable_by(f64::total_cmp);
    values
}

/// The quantile of ascending values, interpolated as numpy's `percentile` does by default; NaN of none.
#[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
pub(in crate::forecast) fn percentile(sorted: &[f64], probability: f64) -> f64 {
    let Some(last) = sorted.len().checked_sub(1) else { return f64::NAN };
    let at = probability * last as f64;
    let below = at.floor() as usize;
    let (low, high) = (sorted[below], sorted[(below + 1).min(last)]);
    if low == high { low } else { low + (high - low) * (at - below as f64) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_numpys() {
        let values = sorted(vec![4.0, 1.0, f64::NAN, 2.0, 3.0]);
        assert_eq!([0.0, 0.1, 0.5, 1.0].map(|p| percentile(&values, p)), [1.0, 1.3, 2.5, 4.0]);
        assert!(percentile(&[], 0.5).is_nan());
    }

    #[test]
    fn a_run_that_stands_alone_does_not_move_a_quantile() {
        let sample = Sample::new(vec![vec![1.0, 2.0, 3.0], vec![3.0, 2.0, 1.0], vec![7.0, 8.0, 9.0]]);
        assert_eq!((sample.quantile(0.5), sample.counts(3.0)), (2.0, (9, 4, 6)));
    }
}
