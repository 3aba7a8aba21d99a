//! The families that can be fitted, in the logarithms of their parameters.

use crate::budget::{curve::Curve, family::Family};

/// A family of curves to fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Model {
    /// [`Curve::Hill`].
    Hill,
    /// [`Curve::Log`].
    Log,
    /// [`Curve::Power`].
    Power,
    /// [`Curve::Exp`].
    Exp,
    /// [`Curve::Linear`].
    Linear,
}

/// Logarithms of the parameters, in the order of [`Model::parameters`]; what a model lacks is 0.
pub(super) type Theta = [f64; 3];

impl Model {
    /// The names of its parameters.
    pub(super) fn parameters(self) -> &'static [&'static str] {
        match self {
            Self::Hill => &["beta", "kappa", "slope"],
            Self::Log | Self::Exp => &["beta", "kappa"],
            Self::Power => &["beta", "alpha"],
            Self::Linear => &["beta"],
        }
    }

    fn family(self, theta: &Theta) -> Family {
        let [beta, second, slope] = theta.map(f64::exp);
        match self {
            Self::Hill => Family::Hill { beta, kappa: second, slope },
            Self::Log => Family::Log { beta, kappa: second },
            Self::Power => Family::Power { beta, alpha: second },
            Self::Exp => Family::Exp { beta, kappa: second },
            Self::Linear => Family::Linear { beta },
        }
    }

    /// The curve of these parameters.
    pub(super) fn curve(self, theta: &Theta) -> Curve {
        match self.family(theta) {
            Family::Hill { beta, kappa, slope } => Curve::Hill { beta, kappa, slope },
            Family::Log { beta, kappa } => Curve::Log { beta, kappa },
            Family::Power { beta, alpha } => Curve::Power { beta, alpha },
            Family::Exp { beta, kappa } => Curve::Exp { beta, kappa },
            Family::Linear { beta } => Curve::Linear { beta },
        }
    }

    pub(super) fn value(self, theta: &Theta, x: f64) -> f64 {
        self.family(theta).value(x)
    }

    /// Derivatives of the value by each logarithm.
    pub(super) fn gradient(self, theta: &Theta, x: f64) -> Theta {
        let family = self.family(theta);
        let value = family.value(x);
        if x == 0.0 {
            return [0.0; 3];
        }
        // A curve of x / kappa falls with ln kappa as it grows with ln x.
        let scale = -x * family.slope(x);
        match family {
            Family::Hill { kappa, .. } => [value, scale, -scale * (x / kappa).ln()],
            Family::Log { .. } | Family::Exp { .. } => [value, scale, 0.0],
            Family::Power { alpha, .. } => [value, value * alpha * x.ln(), 0.0],
            Family::Linear { .. } => [value, 0.0, 0.0],
        }
    }

    /// Where each logarithm but that of `beta` may lie: beyond, the rows cannot tell one value from another.
    pub(super) fn limits(self, spends: &[f64]) -> [(f64, f64); 3] {
        let anything = (f64::NEG_INFINITY, f64::INFINITY);
        let least = spends.iter().copied().fold(f64::INFINITY, f64::min);
        let greatest = spends.iter().copied().fold(0.0, f64::max);
        let kappa = ((least / 1e3).ln(), (greatest * 1e3).ln());
        match self {
            Self::Hill => [anything, kappa, (0.1_f64.ln(), 10_f64.ln())],
            Self::Log | Self::Exp => [anything, kappa, anything],
            Self::Power => [anything, (0.01_f64.ln(), 3_f64.ln()), anything],
            Self::Linear => [anything; 3],
        }
    }

    /// Where to start from, but for `beta`, which follows from the rows.
    pub(super) fn starts(self, spends: &[f64]) -> Vec<Theta> {
        let greatest = spends.iter().copied().fold(0.0, f64::max);
        let kappas = [0.03, 0.1, 0.3, 1.0, 3.0].map(|part| (greatest * part).ln());
        match self {
            Self::Hill => {
                let slopes = [0.7_f64, 1.5, 3.0].map(f64::ln);
                kappas.iter().flat_map(|&k| slopes.map(|s| [0.0, k, s])).collect()
            }
            Self::Log | Self::Exp => kappas.map(|k| [0.0, k, 0.0]).to_vec(),
            Self::Power => [0.3_f64, 0.6, 1.0].map(|a| [0.0, a.ln(), 0.0]).to_vec(),
            Self::Linear => vec![[0.0; 3]],
        }
    }

    /// The spend by which most of the bend is past: twice that of half saturation, or 86 % of it.
    pub(super) fn saturation(self, theta: &Theta) -> Option<f64> {
        match self {
            Self::Hill | Self::Exp | Self::Log => Some(2.0 * theta[1].exp()),
            Self::Power | Self::Linear => None,
        }
    }
}
