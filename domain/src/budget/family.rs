//! One family member with checked parameters: value, slope, curvature, and the spend at which it has a given slope.

/// A curve whose parameters are finite, `beta >= 0` and all others above 0.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Family {
    /// `beta x`.
    Linear { beta: f64 },
    /// `beta x^alpha`.
    Power { beta: f64, alpha: f64 },
    /// `beta ln(1 + x / kappa)`.
    Log { beta: f64, kappa: f64 },
    /// `beta (1 - exp(-x / kappa))`.
    Exp { beta: f64, kappa: f64 },
    /// `beta / (1 + (kappa / x)^slope)`.
    Hill { beta: f64, kappa: f64, slope: f64 },
}

use Family::{Exp, Hill, Linear, Log, Power};

impl Family {
    /// The same curve on an audience of size `potential`: `potential * f(x / potential)`.
    pub(super) fn on_potential(self, potential: f64) -> Self {
        let p = potential;
        match self {
            _ if p == 0.0 => Linear { beta: 0.0 },
            Linear { beta } => Linear { beta },
            Power { beta, alpha } => Power { beta: beta * p.powf(1.0 - alpha), alpha },
            Log { beta, kappa } => Log { beta: beta * p, kappa: kappa * p },
            Exp { beta, kappa } => Exp { beta: beta * p, kappa: kappa * p },
            Hill { beta, kappa, slope } => Hill { beta: beta * p, kappa: kappa * p, slope },
        }
    }

    /// Response at `x >= 0`.
    pub(super) fn value(self, x: f64) -> f64 {
        match self {
            Linear { beta } => beta * x,
            Power { beta, alpha } => beta * x.powf(alpha),
            Log { beta, kappa } => beta * (x / kappa).ln_1p(),
            Exp { beta, kappa } => -beta * (-x / kappa).exp_m1(),
            // Written so that neither end overflows.
            Hill { beta, kappa, slope } => beta / (1.0 + (kappa / x).powf(slope)),
        }
    }

    /// First derivative; infinite at 0 where the curve starts upright.
    pub(super) fn slope(self, x: f64) -> f64 {
        match self {
            Linear { beta } => beta,
            Power { alpha, .. } | Hill { slope: alpha, .. } if x == 0.0 => self.slope_at_zero(alpha),
            Power { beta, alpha } => beta * alpha * x.powf(alpha - 1.0),
            Log { beta, kappa } => beta / (kappa + x),
            Exp { beta, kappa } => beta / kappa * (-x / kappa).exp(),
            Hill { beta, kappa, slope } => {
                let u = (x / kappa).powf(slope);
                // u / (1 + u)^2, symmetric in u and 1 / u.
                let bell = if u > 1.0 { (1.0 / u) / (1.0 + 1.0 / u).powi(2) } else { u / (1.0 + u).powi(2) };
                beta * slope / x * bell
            }
        }
    }

    fn slope_at_zero(self, exponent: f64) -> f64 {
        match self {
            Power { beta, .. } | Hill { beta, .. } if beta == 0.0 || exponent > 1.0 => 0.0,
            Power { beta, .. } if exponent == 1.0 => beta,
            Hill { beta, kappa, .. } if exponent == 1.0 => beta / kappa,
            _ => f64::INFINITY,
        }
    }

    /// Second derivative at `x > 0`.
    pub(super) fn curvature(self, x: f64) -> f64 {
        match self {
            Linear { .. } => 0.0,
            Power { alpha, .. } => self.slope(x) * (alpha - 1.0) / x,
            Log { beta, kappa } => -beta / (kappa + x).powi(2),
            Exp { kappa, .. } => -self.slope(x) / kappa,
            Hill { kappa, slope, .. } => {
                let q = 1.0 / (1.0 + (kappa / x).powf(slope));
                self.slope(x) * (slope * (1.0 - 2.0 * q) - 1.0) / x
            }
        }
    }

    /// Where the curve turns concave, and stays so: 0 for a concave one, infinity for one that never does.
    pub(super) fn inflection(self) -> f64 {
        match self {
            Power { alpha, beta } if alpha > 1.0 && beta > 0.0 => f64::INFINITY,
            Hill { beta, kappa, slope } if slope > 1.0 && beta > 0.0 => {
                kappa * ((slope - 1.0) / (slope + 1.0)).powf(1.0 / slope)
            }
            _ => 0.0,
        }
    }

    /// The spend, on the concave part, at which the slope is `price > 0`. The caller knows that there is one, and may
    /// know one nearby (else 0).
    pub(super) fn spend_at_slope(self, price: f64, near: f64) -> f64 {
        match self {
            Linear { .. } => 0.0,
            Power { beta, alpha } => (price / (beta * alpha)).powf(1.0 / (alpha - 1.0)),
            Log { beta, kappa } => beta / price - kappa,
            Exp { beta, kappa } => kappa * (beta / (kappa * price)).ln(),
            Hill { beta, kappa, slope: 1.0 } => kappa * ((beta / (kappa * price)).sqrt() - 1.0),
            Hill { beta, kappa, slope } => hill_spend(beta / kappa * slope / price, kappa, slope, near),
        }
    }
}

/// Newton's method on the logarithm of the slope in `z = slope ln(x / kappa)`,
/// `h(z) = ln ratio + (1 - 1/slope) z - 2 ln(1 + e^z)`. `h` is concave and falls on the concave part of the curve, so
/// that from any start there the second step is right of the root, and every further one stays there and comes nearer.
fn hill_spend(ratio: f64, kappa: f64, slope: f64, near: f64) -> f64 {
    let c = ratio.ln();
    let lead = 1.0 - 1.0 / slope;
    let mut z = if c > 2.0 * std::f64::consts::LN_2 { c * slope / (slope + 1.0) } else { 0.0 };
    if near > 0.0 {
        let start = slope * (near / kappa).ln();
        // Where `h` is nearly level, as around the inflection, a step would lead far away.
        if lead - 2.0 / (1.0 + (-start).exp()) < -0.1 {
            z = start;
        }
    }
    for _ in 0..60 {
        let e = (-z.abs()).exp();
        let (softplus, logistic) = if z > 0.0 { (z + e.ln_1p(), 1.0 / (1.0 + e)) } else { (e.ln_1p(), e / (1.0 + e)) };
        let step = (c + lead * z - 2.0 * softplus) / (lead - 2.0 * logistic);
        z -= step;
        // Quadratic: the next step would be below rounding.
        if step.abs() <= 1e-9 * (1.0 + z.abs()) {
            break;
        }
    }
    kappa * (z / slope).exp()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_family() -> impl Strategy<Value = Family> {
        let beta = 0.1f64..1e4;
        let kappa = 0.01f64..1e4;
        prop_oneof![
            beta.clone().prop_map(|beta| Linear { beta }),
            (beta.clone(), 0.1f64..2.0).prop_map(|(beta, alpha)| Power { beta, alpha }),
            (beta.clone(), kappa.clone()).prop_map(|(beta, kappa)| Log { beta, kappa }),
            (beta.clone(), kappa.clone()).prop_map(|(beta, kappa)| Exp { beta, kappa }),
            (beta, kappa, 0.2f64..6.0).prop_map(|(beta, kappa, slope)| Hill { beta, kappa, slope }),
        ]
    }

    proptest! {
        #[test]
        fn derivatives_agree_with_differences(f in any_family(), x in 0.05f64..50.0) {
            let h = x * 1e-5;
            let slope = (f.value(x + h) - f.value(x - h)) / (2.0 * h);
            prop_assert!((f.slope(x) - slope).abs() <= 1e-5 * slope.abs() + 1e-9 * f.value(x) / x, "{} {slope}", f.slope(x));
            let curvature = (f.slope(x + h) - f.slope(x - h)) / (2.0 * h);
            prop_assert!((f.curvature(x) - curvature).abs() <= 1e-5 * f.slope(x) / x, "{} {curvature}", f.curvature(x));
        }

        #[test]
        fn spend_at_slope_inverts_the_slope_on_the_concave_part(f in any_family(), beyond in 1.01f64..100.0) {
            let at = match f { Linear { .. } => return Ok(()), _ if f.inflection().is_infinite() => return Ok(()), f => f.inflection() };
            let x = if at == 0.0 { beyond } else { at * beyond };
            let price = f.slope(x);
            prop_assume!(price > 1e-200);
            if let Power { alpha, .. } = f { prop_assume!((alpha - 1.0).abs() > 0.01); }
            let found = f.spend_at_slope(price, 0.0);
            let off = (f.slope(found) - price).abs() / price;
            prop_assert!(off < 1e-9, "{x} {found} {off}");
            for near in [0.5, 0.9, 1.2, 30.0] {
                let again = f.spend_at_slope(price, x * near);
                prop_assert!((again - found).abs() <= 1e-9 * found, "{again} {found}");
            }
        }

        #[test]
        fn potential_scales_spend_and_response(f in any_family(), p in 0.1f64..10.0, x in 0.0f64..100.0) {
            let scaled = f.on_potential(p).value(x);
            let plain = p * f.value(x / p);
            prop_assert!((scaled - plain).abs() <= 1e-9 * plain.abs() + 1e-300);
        }
    }

    #[test]
    fn ends_are_exact() {
        let s = Hill { beta: 5.0, kappa: 2.0, slope: 3.0 };
        assert_eq!((s.value(0.0), s.slope(0.0), s.value(f64::MAX)), (0.0, 0.0, 5.0));
        assert_eq!(Hill { beta: 5.0, kappa: 2.0, slope: 0.5 }.slope(0.0), f64::INFINITY);
        assert_eq!(Power { beta: 5.0, alpha: 0.5 }.on_potential(0.0).value(7.0), 0.0);
        assert!(s.slope(1e200) >= 0.0 && s.slope(1e-200) >= 0.0);
        assert!((s.curvature(s.inflection())).abs() < 1e-12);
    }
}
