//! A checked response curve: one family member or a mixture, and where it is concave.

use super::{curve::Curve, family::Family};

/// A checked curve. All of a mixture's weights are inside its members' `beta`.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Response {
    One(Family),
    Sum(Vec<Family>),
}

/// A field that is out of range: its path, and why.
pub(super) struct Bad {
    pub(super) path: String,
    pub(super) reason: String,
}

impl Response {
    /// Checks `curve`'s parameters.
    pub(super) fn new(curve: &Curve) -> Result<Self, Bad> {
        let mut members = Vec::new();
        flatten(curve, 1.0, "curve", &mut members)?;
        Ok(if let [one] = members[..] { Self::One(one) } else { Self::Sum(members) })
    }

    /// The same curve on an audience of size `potential`, 0 or more.
    pub(super) fn on_potential(&self, potential: f64) -> Self {
        match self {
            Self::One(f) => Self::One(f.on_potential(potential)),
            Self::Sum(all) => Self::Sum(all.iter().map(|f| f.on_potential(potential)).collect()),
        }
    }

    fn sum(&self, of: impl Fn(Family) -> f64) -> f64 {
        match self {
            Self::One(f) => of(*f),
            Self::Sum(all) => all.iter().map(|f| of(*f)).sum(),
        }
    }

    /// Response at `x >= 0`.
    pub(super) fn value(&self, x: f64) -> f64 {
        self.sum(|f| f.value(x))
    }

    /// First derivative.
    pub(super) fn slope(&self, x: f64) -> f64 {
        self.sum(|f| f.slope(x))
    }

    /// Second derivative at `x > 0`.
    pub(super) fn curvature(&self, x: f64) -> f64 {
        self.sum(|f| f.curvature(x))
    }

    /// The parts of `[lo, hi]` on which the curve is concave, in order.
    ///
    /// Exact for a family member. A mixture with S-shaped members is scanned at [`SCAN`] points up to its last member's
    /// inflection and each change of sign refined: parts narrower than a step of the scan are not seen.
    pub(super) fn concave_parts(&self, lo: f64, hi: f64) -> Vec<(f64, f64)> {
        let last = match self {
            Self::One(f) => f.inflection(),
            Self::Sum(all) => all.iter().map(|f| f.inflection()).fold(0.0, f64::max),
        };
        let mut parts = match self {
            Self::Sum(_) if last > lo => self.scan(lo, last.min(hi)),
            _ => Vec::new(),
        };
        if last < hi {
            let from = last.max(lo);
            match parts.last_mut() {
                Some(part) if part.1 >= from => part.1 = hi,
                _ => parts.push((from, hi)),
            }
        }
        parts
    }

    fn scan(&self, lo: f64, hi: f64) -> Vec<(f64, f64)> {
        // Geometric steps, because curves change on the scale of their argument.
        let floor = lo.max(hi * 1e-9);
        let step = (hi / floor).ln() / f64::from(SCAN);
        let at = |i: u32| if i == SCAN { hi } else { floor * (step * f64::from(i)).exp() };
        let concave = |x: f64| self.curvature(x) <= 0.0;
        let mut parts = Vec::new();
        let mut open = concave(floor).then_some(lo);
        for i in 1..=SCAN {
            let inside = concave(at(i));
            if inside == open.is_some() {
                continue;
            }
            let (mut left, mut right) = (at(i - 1), at(i));
            for _ in 0..60 {
                let middle = 0.5 * (left + right);
                if concave(middle) == inside {
                    right = middle;
                } else {
                    left = middle;
                }
            }
            // The last point known to be concave.
            match open.take() {
                Some(from) => parts.push((from, left)),
                None => open = Some(right),
            }
        }
        parts.extend(open.map(|from| (from, hi)));
        parts
    }

    /// The spend in `[lo, hi]`, a concave part, at which the slope is `price`; the caller knows that the slope is above
    /// `price` at `lo` and below it at `hi`, and may know a spend nearby (else 0).
    pub(super) fn spend_at_slope(&self, price: f64, lo: f64, hi: f64, near: f64) -> f64 {
        match self {
            Self::One(f) => f.spend_at_slope(price, near).clamp(lo, hi),
            Self::Sum(_) => self.newton(price, lo, hi),
        }
    }

    /// Newton's method on `ln slope` in `ln x`, kept inside a shrinking bracket.
    fn newton(&self, price: f64, lo: f64, hi: f64) -> f64 {
        let (mut left, mut right) = (lo, hi);
        if left == 0.0 {
            left = right;
            while left > 1e-290 && self.slope(left) <= price {
                right = left;
                left /= 16.0;
            }
        }
        let mut x = (left * right).sqrt();
        for _ in 0..200 {
            let slope = self.slope(x);
            if slope > price {
                left = x;
            } else {
                right = x;
            }
            let next = x * ((price / slope).ln() * slope / (self.curvature(x) * x)).exp();
            let next = if next > left && next < right { next } else { 0.5 * (left + right) };
            let done = (next - x).abs() <= 1e-15 * x || right - left <= 1e-15 * right;
            x = next;
            if done {
                break;
            }
        }
        x.clamp(lo, hi)
    }
}

/// Points of a scan for parts where a mixture is concave.
const SCAN: u32 = 512;

/// Appends the members of `curve`, each with `weight` inside its `beta`.
fn flatten(curve: &Curve, weight: f64, path: &str, into: &mut Vec<Family>) -> Result<(), Bad> {
    let at = |name: &str| format!("{path}.{name}");
    let beta = |v: f64| not_negative(v, at("beta")).map(|v| v * weight);
    let positive = |v: f64, name: &str| {
        if v > 0.0 && v.is_finite() {
            return Ok(v);
        }
        Err(Bad { path: at(name), reason: format!("{v} must be finite and above 0") })
    };
    into.push(match curve {
        Curve::Linear { beta: b } | Curve::Power { beta: b, alpha: 1.0 } => Family::Linear { beta: beta(*b)? },
        Curve::Power { beta: b, alpha } => Family::Power { beta: beta(*b)?, alpha: positive(*alpha, "alpha")? },
        Curve::Log { beta: b, kappa } => Family::Log { beta: beta(*b)?, kappa: positive(*kappa, "kappa")? },
        Curve::Exp { beta: b, kappa } => Family::Exp { beta: beta(*b)?, kappa: positive(*kappa, "kappa")? },
        Curve::Hill { beta: b, kappa, slope } => {
            let (kappa, slope) = (positive(*kappa, "kappa")?, positive(*slope, "slope")?);
            Family::Hill { beta: beta(*b)?, kappa, slope }
        }
        Curve::Mixture { components } if components.is_empty() => {
            return Err(Bad { path: at("components"), reason: "is empty: give at least one draw".into() });
        }
        Curve::Mixture { components } => {
            for (i, component) in components.iter().enumerate() {
                let path = at(&format!("components[{i}]"));
                let w = not_negative(component.weight, format!("{path}.weight"))?;
                flatten(&component.curve, weight * w, &format!("{path}.curve"), into)?;
            }
            return Ok(());
        }
    });
    Ok(())
}

fn not_negative(v: f64, path: String) -> Result<f64, Bad> {
    if v >= 0.0 && v.is_finite() {
        return Ok(v);
    }
    Err(Bad { path, reason: format!("{v} must be finite and 0 or more") })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hill(beta: f64, kappa: f64, slope: f64) -> Family {
        Family::Hill { beta, kappa, slope }
    }

    #[test]
    fn a_mixture_of_two_steps_is_concave_in_two_parts() {
        let two = Response::Sum(vec![hill(1.0, 1.0, 6.0), hill(1.0, 50.0, 6.0)]);
        let parts = two.concave_parts(0.0, 1e3);
        assert_eq!(parts.len(), 2, "{parts:?}");
        for (from, to) in &parts {
            for i in 1..100 {
                let x = from + (to - from) * f64::from(i) / 100.0;
                assert!(two.curvature(x) <= 0.0, "{x}");
            }
        }
        assert!(parts[0].1 < 50.0 && parts[1].0 > parts[0].1 && parts[1].1 == 1e3);
    }

    #[test]
    fn concave_curves_are_one_part_and_convex_ones_none() {
        let parts = |f| Response::One(f).concave_parts(2.0, 9.0);
        assert_eq!(parts(hill(1.0, 1.0, 0.7)), [(2.0, 9.0)]);
        assert_eq!(parts(Family::Power { beta: 1.0, alpha: 1.5 }), []);
        assert_eq!(Response::Sum(vec![hill(1.0, 1.0, 0.7); 3]).concave_parts(0.0, 9.0), [(0.0, 9.0)]);
    }

    #[test]
    fn a_mixtures_slope_is_inverted_from_zero_on() {
        let f = Response::Sum(vec![hill(3.0, 1.0, 0.4), Family::Power { beta: 2.0, alpha: 0.3 }]);
        for x in [1e-12, 1e-3, 0.7, 40.0, 999.0] {
            let found = f.spend_at_slope(f.slope(x), 0.0, 1e3, 0.0);
            assert!((found - x).abs() <= 1e-12 * x, "{x} {found}");
        }
    }
}
