//! A value against the law that was predicted of it.

/// The law of a value that is still to come.
pub trait PredictiveLaw {
    /// Probability of a value of at most `value`.
    fn cdf(&self, value: f64) -> f64;
    /// The value below which a share `probability`, in (0, 1), lies.
    fn quantile(&self, probability: f64) -> f64;
    /// Two-sided p-value of `value`: twice the smaller of the probabilities of at most and of at least it.
    fn p_value(&self, value: f64) -> f64 {
        let below = self.cdf(value);
        (2.0 * below.min(1.0 - below)).clamp(0.0, 1.0)
    }
}

impl PredictiveLaw for crate::forecast::Law {
    fn cdf(&self, value: f64) -> f64 {
        self.cdf(value)
    }
    fn quantile(&self, probability: f64) -> f64 {
        self.quantile(probability)
    }
    /// Keeps its precision far out on both sides.
    fn p_value(&self, value: f64) -> f64 {
        self.p_value(value)
    }
}

/// On which side of what was expected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// Above.
    High,
    /// Below.
    Low,
}

/// How unlikely, in powers of ten.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Inside the bounds.
    Normal,
    /// Outside the bounds, and no more than that.
    Low,
    /// A tenth of the chance of leaving the bounds, or less.
    Medium,
    /// A hundredth of it, or less.
    High,
    /// A thousandth of it, or less.
    Critical,
}

/// Share of values that the bounds hold; strictly between 0 and 1.
pub type Level = crate::ctr::Level;

/// What a law says of one value.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Judgement {
    /// The law's median.
    pub expected: f64,
    /// Lower bound: as much probability lies below it as above the upper one.
    pub lower: f64,
    /// Upper bound.
    pub upper: f64,
    /// The value against the law; `None` for a missing one.
    pub surprise: Option<Surprise>,
}

/// How a value stands to its law.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Surprise {
    /// Two-sided p-value: the probability of a value as far out on either side, in [0, 1].
    pub p_value: f64,
    /// On which side of the median; `None` on it.
    pub direction: Option<Direction>,
    /// How unlikely.
    pub severity: Severity,
}

/// Judges `value` by `law`, with bounds that hold a share `level`. A missing value (`None` or not finite) has expected
/// value and bounds and is no anomaly.
#[must_use]
pub fn judge(law: &impl PredictiveLaw, value: Option<f64>, level: Level) -> Judgement {
    let tail = 0.5 * (1.0 - level.get());
    let (lower, expected, upper) = (law.quantile(tail), law.quantile(0.5), law.quantile(1.0 - tail));
    let surprise = value.filter(|v| v.is_finite()).map(|v| {
        let p_value = law.p_value(v);
        let direction = match v {
            v if v > expected => Some(Direction::High),
            v if v < expected => Some(Direction::Low),
            _ => None,
        };
        // The bounds decide: for a law with atoms their cdf may not be the level's.
        let outside = v < lower || v > upper;
        Surprise { p_value, direction, severity: severity(outside, p_value / (2.0 * tail)) }
    });
    Judgement { expected, lower, upper, surprise }
}

fn severity(outside: bool, chance: f64) -> Severity {
    match chance {
        _ if !outside => Severity::Normal,
        c if c <= 1e-3 => Severity::Critical,
        c if c <= 1e-2 => Severity::High,
        c if c <= 1e-1 => Severity::Medium,
        _ => Severity::Low,
    }
}

#[cfg(test)]
mod tests {
    use statrs::distribution::{ContinuousCDF, Normal};

    use super::*;

    impl PredictiveLaw for Normal {
        fn cdf(&self, value: f64) -> f64 {
            ContinuousCDF::cdf(self, value)
        }
        fn quantile(&self, probability: f64) -> f64 {
            self.inverse_cdf(probability)
        }
    }

    fn at(value: f64) -> Judgement {
        let level = Level::new(0.9).expect("a level");
        judge(&Normal::new(10.0, 2.0).expect("a law"), Some(value), level)
    }

    #[test]
    fn bounds_and_p_value_are_the_laws() {
        let seen = at(10.0 + 2.0 * 1.959_963_984_540_054);
        assert!((seen.expected - 10.0).abs() < 1e-9);
        assert!((seen.upper - 13.289_707).abs() < 1e-5 && (seen.lower - 6.710_293).abs() < 1e-5);
        let surprise = seen.surprise.expect("a value");
        assert!((surprise.p_value - 0.05).abs() < 1e-9);
        assert_eq!((surprise.direction, surprise.severity), (Some(Direction::High), Severity::Low));
    }

    #[test]
    fn severity_grows_with_distance_on_both_sides() {
        let of = |z: f64| at(10.0 + 2.0 * z).surprise.expect("a value");
        let severities = [0.0, 1.6, 1.7, 2.6, 3.3, 3.9].map(|z| of(z).severity);
        use Severity::{Critical, High, Low, Medium, Normal};
        assert_eq!(severities, [Normal, Normal, Low, Medium, High, Critical]);
        assert_eq!(severities, [0.0, 1.6, 1.7, 2.6, 3.3, 3.9].map(|z| of(-z).severity));
        assert_eq!(of(-3.0).direction, Some(Direction::Low));
        assert!(of(-60.0).p_value >= 0.0 && of(60.0).p_value >= 0.0);
    }

    #[test]
    fn a_missing_value_is_no_anomaly() {
        for missing in [f64::NAN, f64::INFINITY] {
            assert_eq!(at(missing).surprise, None);
        }
    }
}
