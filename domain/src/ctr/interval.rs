//! From a model's logit and its variance to a click-through rate with bounds.

use statrs::distribution::{ContinuousCDF, Normal};

/// Probability content of an interval, strictly between 0 and 1, with the normal quantile it needs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Level {
    level: f64,
    quantile: f64,
}

/// A level outside (0, 1).
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
#[error("interval level {0} must be above 0 and below 1; 0.90 is usual")]
pub struct LevelError(f64);

impl Level {
    /// The level `level`, for example 0.90.
    ///
    /// # Errors
    /// [`LevelError`] unless `0 < level < 1`, and for a level so near 1 that its quantile is infinite.
    pub fn new(level: f64) -> Result<Self, LevelError> {
        if !(level > 0.0 && level < 1.0) {
            return Err(LevelError(level));
        }
        let quantile = Normal::standard().inverse_cdf(0.5 * (1.0 + level));
        if quantile.is_finite() { Ok(Self { level, quantile }) } else { Err(LevelError(level)) }
    }

    /// The probability content.
    #[must_use]
    pub fn get(self) -> f64 {
        self.level
    }
}

/// A click-through rate and, where the model gives a variance, the bounds of its interval.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Estimate {
    /// Expected click-through rate, in (0, 1).
    pub ctr: f64,
    /// Lower and upper bound, in (0, 1), with `lower <= ctr <= upper`.
    pub bounds: Option<(f64, f64)>,
}

/// Largest variance that is believed: beyond it the log-odds are as good as unknown.
const MAX_VARIANCE: f64 = 9.0;

/// Reads a model's output for one row; `None` when it is not finite.
///
/// `logit` is the log-odds of the *mean* rate; the rate itself is taken as logit-normal with variance
/// `variance`, so the interval is centred on the median, `z - V/2 (1 - 2 ctr)` to second order (delta
/// method), and `variance` is clamped to [0, 9].
#[must_use]
pub fn estimate(logit: f32, variance: Option<f32>, level: Level) -> Option<Estimate> {
    let z = f64::from(logit);
    if !z.is_finite() {
        return None;
    }
    let Some(variance) = variance else {
        return Some(Estimate { ctr: sigmoid(z), bounds: None });
    };
    if !variance.is_finite() {
        return None;
    }
    let (ctr, lower, upper) = logit_normal(z, f64::from(variance), level);
    Some(Estimate { ctr, bounds: Some((lower, upper)) })
}

/// Mean, lower and upper bound of a logit-normal rate, in double precision.
fn logit_normal(z: f64, variance: f64, level: Level) -> (f64, f64, f64) {
    let ctr = sigmoid(z);
    let v = variance.clamp(0.0, MAX_VARIANCE);
    let centre = z - 0.5 * v * (1.0 - 2.0 * ctr);
    let half = level.quantile * v.sqrt();
    (ctr, sigmoid(centre - half).min(ctr), sigmoid(centre + half).max(ctr))
}

/// The logistic function, kept strictly inside (0, 1): beyond these arguments a double rounds to 0 or 1.
fn sigmoid(z: f64) -> f64 {
    1.0 / (1.0 + (-z.clamp(-700.0, 36.0)).exp())
}

#[cfg(test)]
#[allow(clippy::cast_possible_truncation)] // model outputs are float32
mod tests {
    use proptest::prelude::*;
    use serde::Deserialize;

    use super::*;

    #[derive(Deserialize)]
    struct Vectors {
        rel_tol: f64,
        vectors: Vec<Vector>,
    }

    #[derive(Deserialize)]
    struct Vector {
        logit: f64,
        logit_variance: f64,
        level: f64,
        ctr: f64,
        lower: f64,
        upper: f64,
    }

    #[test]
    fn reproduces_every_published_vector() {
        let text = include_str!("../../testdata/interval_vectors.json");
        let vectors: Vectors = serde_json::from_str(text).expect("interval_vectors.json");
        assert_eq!(vectors.vectors.len(), 12);
        let near = |a: f64, b: f64, tol: f64| (a - b).abs() <= tol * b.abs();
        for v in vectors.vectors {
            let level = Level::new(v.level).expect("level");
            let (ctr, lower, upper) = logit_normal(v.logit, v.logit_variance, level);
            assert!(near(ctr, v.ctr, vectors.rel_tol), "ctr {ctr} {}", v.ctr);
            assert!(near(lower, v.lower, vectors.rel_tol), "lower {lower} {}", v.lower);
            assert!(near(upper, v.upper, vectors.rel_tol), "upper {upper} {}", v.upper);
            // And the float32 entry agrees to float32 precision of its inputs.
            let e = estimate(v.logit as f32, Some(v.logit_variance as f32), level).expect("finite");
            let (lower, upper) = e.bounds.expect("bounds");
            for (got, want) in [(e.ctr, v.ctr), (lower, v.lower), (upper, v.upper)] {
                assert!(near(got, want, 1e-5), "{got} {want}");
            }
        }
    }

    #[test]
    fn levels_outside_the_open_unit_interval_are_refused() {
        for bad in [0.0, 1.0, -0.1, 1.1, f64::NAN, f64::INFINITY] {
            assert!(Level::new(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn outputs_that_are_not_finite_have_no_estimate() {
        let level = Level::new(0.9).expect("level");
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            assert_eq!(estimate(bad, None, level), None);
            assert_eq!(estimate(0.0, Some(bad), level), None);
        }
    }

    proptest! {
        #[test]
        fn bounds_hold_the_rate_and_stay_inside_the_unit_interval(
            logit in -1e30f32..1e30, variance in -1f32..1e6, level in 0.001f64..0.999,
        ) {
            let level = Level::new(level).expect("level");
            let e = estimate(logit, Some(variance), level).expect("finite");
            let (lower, upper) = e.bounds.expect("bounds");
            prop_assert!(0.0 < lower && lower <= e.ctr && e.ctr <= upper && upper < 1.0);
        }
    }
}
