//! Response curves as they are written down.

use serde::{Deserialize, Serialize};

/// Response to spend `x >= 0`: 0 at 0 and never falling. `beta` is in units of response, `kappa` in units of spend.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase", deny_unknown_fields)]
pub enum Curve {
    /// `beta x^slope / (kappa^slope + x^slope)`: half of `beta` at `kappa`; S-shaped where `slope > 1`.
    Hill {
        /// Response at saturation, 0 or more.
        beta: f64,
        /// Spend of half saturation, above 0.
        kappa: f64,
        /// Steepness, above 0.
        slope: f64,
    },
    /// `beta ln(1 + x / kappa)`.
    Log {
        /// Scale of the response, 0 or more.
        beta: f64,
        /// Spend from which returns diminish, above 0.
        kappa: f64,
    },
    /// `beta x^alpha`; increasing returns where `alpha > 1`.
    Power {
        /// Response at a spend of 1, 0 or more.
        beta: f64,
        /// Elasticity, above 0.
        alpha: f64,
    },
    /// `beta (1 - exp(-x / kappa))`.
    Exp {
        /// Response at saturation, 0 or more.
        beta: f64,
        /// Spend that brings 63 % of saturation, above 0.
        kappa: f64,
    },
    /// `beta x`.
    Linear {
        /// Response to a unit of spend, 0 or more.
        beta: f64,
    },
    /// The weighted sum of other curves: the expected response under posterior draws of one campaign's curve.
    Mixture {
        /// The draws, at least one.
        components: Vec<Component>,
    },
}

/// One draw of a mixture.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Component {
    /// Weight, 0 or more; weights need not add up to 1.
    pub weight: f64,
    /// The draw.
    pub curve: Curve,
}
