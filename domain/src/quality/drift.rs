//! How far a feature's values have moved from those of the training.

use super::outcome::number;

/// A share below it counts as this much: an empty group is rare, not impossible, and its logarithm finite.
const FLOOR: f64 = 1e-4;

/// What a population stability index is usually taken to mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reading {
    /// Below 0.1.
    Stable,
    /// 0.1 to 0.25: worth a look.
    Shifted,
    /// Above 0.25: another population.
    Drifted,
}

/// How far a feature has moved.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Drift {
    /// Population stability index: the sum over groups of `(observed - expected) ln(observed / expected)`, shares below
    /// 1e-4 taken as 1e-4.
    pub psi: f64,
    /// What that means.
    pub reading: Reading,
}

/// The drift between expected shares and what was counted of the same groups; `None` where nothing was counted.
#[must_use]
pub fn drift(expected: &[f64], counted: &[u64]) -> Option<Drift> {
    let total: u64 = counted.iter().sum();
    if total == 0 {
        return None;
    }
    let psi = expected.iter().zip(counted).map(|(expected, counted)| {
        let (expected, observed) = (expected.max(FLOOR), (number(*counted) / number(total)).max(FLOOR));
        (observed - expected) * libm::log(observed / expected)
    });
    let psi = psi.sum();
    let reading = match psi {
        psi if psi > 0.25 => Reading::Drifted,
        psi if psi >= 0.1 => Reading::Shifted,
        _ => Reading::Stable,
    };
    Some(Drift { psi, reading })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn indices_computed_by_hand() {
        for (expected, counted, psi, reading) in [
            (&[0.5, 0.5][..], &[50, 50][..], 0.0, Reading::Stable),
            // 0.2 ln 1.4 - 0.2 ln 0.6
            (&[0.5, 0.5], &[7, 3], 0.169_459_572_077_440_72, Reading::Shifted),
            // 0.4 ln 1.8 - 0.4 ln 0.2
            (&[0.5, 0.5], &[90, 10], 0.878_889_830_934_487_8, Reading::Drifted),
            // (0.5 - 1) ln 0.5 + (0.5 - 0.0001) ln 5000: a value that the training never had
            (&[1.0, 0.0], &[1, 1], 4.604_318_466_668_95, Reading::Drifted),
        ] {
            let drift = drift(expected, counted).unwrap();
            assert!((drift.psi - psi).abs() < 1e-12, "{expected:?} {counted:?}: {}", drift.psi);
            assert_eq!(drift.reading, reading);
        }
        assert_eq!(drift(&[1.0], &[0]), None);
    }

    proptest! {
        #[test]
        fn it_is_never_negative_and_nothing_where_shares_agree(counts in prop::collection::vec(0_u64..1000, 1..20),
                                                               others in prop::collection::vec(0_u64..1000, 20)) {
            let total = counts.iter().sum::<u64>().max(1);
            let shares: Vec<f64> = counts.iter().map(|count| number(*count) / number(total)).collect();
            if let Some(same) = drift(&shares, &counts) {
                prop_assert!(same.psi.abs() < 1e-12);
            }
            if let Some(other) = drift(&shares, &others[..counts.len()]) {
                prop_assert!(other.psi >= 0.0 && other.psi.is_finite());
            }
        }
    }
}
