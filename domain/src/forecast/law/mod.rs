//! The predictive law of a row: what Prophet estimates by simulation, computed.
//!
//! A row's value is its point forecast, plus normal noise, plus the drift of the trend by rate changes to come,
//! whose law [`shifts`] describes. Where the parameters are one draw and growth is linear or flat, distribution
//! function and quantiles follow without simulation: by inversion of the characteristic function ([`fourier`]),
//! or where noise is small in closed form ([`mixture`]) or by a contour integral ([`contour`]). Elsewhere a law is the sample of a simulation.

mod contour;
mod fourier;
mod mixture;
mod numeric;
mod root;
mod sample;
mod shifts;
mod tail;
mod walk;

use statrs::distribution::{ContinuousCDF, Normal};

use contour::Contour;
use fourier::Series;
use mixture::Mixture;
use root::{Bounds, Curve, solve};

pub(super) use sample::{Sample, percentile, sorted};
pub(super) use shifts::Shifts;
pub(super) use walk::{Targets, Walk};

/// The predictive law of one row, in data units.
#[derive(Debug, Clone)]
pub struct Law {
    centre: f64,
    kind: Kind,
}

#[derive(Debug, Clone)]
enum Kind {
    /// Normal; the standard deviation may be 0.
    Normal(f64),
    /// Drift and noise; `unit` is the drift's unit in data units.
    Drift { unit: f64, drift: Drift },
    /// Simulated.
    Sample(Sample),
}

/// The law of `V + r Z`.
#[derive(Debug, Clone)]
struct Drift {
    shifts: Shifts,
    rows: usize,
    r: f64,
    reach: f64,
    form: Form,
}

#[derive(Debug, Clone)]
enum Form {
    Series(Series),
    Mixture(Mixture),
    /// Along a path that depends on the argument.
    Path,
}

impl Curve for Drift {
    fn at(&self, x: f64) -> (f64, f64, f64) {
        match &self.form {
            Form::Series(series) => series.at(x),
            Form::Mixture(mixture) => mixture.with_noise(self.r).at(x),
            Form::Path => Contour::new(self.shifts, self.rows, self.rows, x).path(self.r).at(x),
        }
    }

    fn jump(&self) -> f64 {
        match &self.form {
            Form::Series(_) | Form::Path => 0.0,
            Form::Mixture(mixture) => mixture.with_noise(self.r).jump(),
        }
    }
}

impl Drift {
    /// The probability of more than `x >= 0`: absolute error 1e-10; below 1e-8 by an approximation of the tail
    /// that is good to some per cent.
    fn tail(&self, x: f64) -> f64 {
        if x < self.reach {
            let tail = (0.5 - self.at(x).0).min(0.5);
            if tail > 1e-8 {
                return tail;
            }
        }
        tail::lugannani_rice(self.shifts, self.rows, self.r, x)
    }
}

impl Law {
    pub(super) fn normal(centre: f64, deviation: f64) -> Self {
        Self { centre, kind: Kind::Normal(deviation) }
    }

    pub(super) fn sample(centre: f64, sample: Sample) -> Self {
        Self { centre, kind: Kind::Sample(sample) }
    }

    /// The point forecast, which is the median and the mean of an exact law.
    #[must_use]
    pub fn centre(&self) -> f64 {
        self.centre
    }

    /// Whether the law is computed rather than simulated.
    #[must_use]
    pub fn is_exact(&self) -> bool {
        !matches!(self.kind, Kind::Sample(_))
    }

    /// The value that is not exceeded with `probability`, which must lie between 0 and 1; NaN elsewhere.
    #[must_use]
    pub fn quantile(&self, probability: f64) -> f64 {
        if !(probability > 0.0 && probability < 1.0) {
            return f64::NAN;
        }
        let target = (probability - 0.5).abs();
        match &self.kind {
            Kind::Sample(sample) => sample.quantile(probability),
            _ if target == 0.0 => self.centre,
            Kind::Normal(deviation) => self.centre + deviation * Normal::standard().inverse_cdf(probability),
            Kind::Drift { unit, drift } => {
                let spread = (drift.shifts.variance(drift.rows) + drift.r * drift.r).sqrt();
                let shape = Bounds { spread, grain: drift.r, reach: drift.reach };
                let guess = spread * Normal::standard().inverse_cdf(0.5 + target);
                self.centre + (unit * solve(drift, target, guess, shape)).copysign(probability - 0.5)
            }
        }
    }

    /// The probability of a value of at most `x`.
    #[must_use]
    #[allow(clippy::cast_precision_loss)]
    pub fn cdf(&self, x: f64) -> f64 {
        let from_centre = x - self.centre;
        let above = match &self.kind {
            Kind::Sample(sample) => {
                let (all, _, most) = sample.counts(x);
                return most as f64 / all as f64;
            }
            Kind::Normal(deviation) if *deviation == 0.0 => return f64::from(u8::from(from_centre >= 0.0)),
            Kind::Normal(deviation) => numeric::normal_tail(from_centre.abs() / deviation),
            Kind::Drift { unit, drift } => drift.tail(from_centre.abs() / unit),
        };
        if from_centre < 0.0 { above } else { 1.0 - above }
    }

    /// The two-sided p-value of an observation: the probability of a value that is at least as unusual, twice the
    /// smaller of the probabilities of at most `x` and of at least `x`. Of a simulated law it is at least
    /// `2 / (n + 1)` with `n` values.
    #[must_use]
    #[allow(clippy::cast_precision_loss)]
    pub fn p_value(&self, x: f64) -> f64 {
        let distance = (x - self.centre).abs();
        let tail = match &self.kind {
            Kind::Sample(sample) => {
                let (all, below, most) = sample.counts(x);
                (most.min(all - below) + 1) as f64 / (all + 1) as f64
            }
            Kind::Normal(deviation) if *deviation == 0.0 => return f64::from(u8::from(distance == 0.0)),
            Kind::Normal(deviation) => numeric::normal_tail(distance / deviation),
            Kind::Drift { unit, drift } => drift.tail(distance / unit),
        };
        (2.0 * tail).min(1.0)
    }
}
