//! Functions that the laws need, made so that the compiler can compute several at a time.

use std::f64::consts::{FRAC_1_SQRT_2, LOG2_E, PI};

/// exp(-x) for `x >= 0` to a few units in the last place; beyond 700, of 700.
#[inline]
pub(super) fn exp_neg(x: f64) -> f64 {
    // Adding and taking away 1.5 x 2^52 rounds to a whole number and leaves it in the low bits.
    const ROUND: f64 = 6_755_399_441_055_744.0;
    const LN_2_HIGH: f64 = 0.693_147_180_369_123_8;
    const LN_2_LOW: f64 = 1.908_214_929_270_587_7e-10;
    let x = if x > 700.0 { 700.0 } else { x };
    let shifted = -x * LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = (-x - n * LN_2_HIGH) - n * LN_2_LOW;
    let mut sum = 1.0 / 6_227_020_800.0;
    for coefficient in [479_001_600.0, 39_916_800.0, 3_628_800.0, 362_880.0, 40_320.0, 5_040.0, 720.0, 120.0, 24.0, 6.0]
    {
        sum = sum * r + 1.0 / coefficient;
    }
    let value = ((sum * r + 0.5) * r + 1.0) * r + 1.0;
    let power = f64::from_bits(shifted.to_bits().wrapping_add(1023) << 52);
    value * power
}

/// The standard normal probability of more than `z`.
pub(super) fn normal_tail(z: f64) -> f64 {
    0.5 * libm::erfc(z * FRAC_1_SQRT_2)
}

/// The standard normal density.
pub(super) fn normal_density(z: f64) -> f64 {
    (-0.5 * z * z).exp() / (2.0 * PI).sqrt()
}

/// exp(y^2) erfc(y) for `y >= 0`.
pub(super) fn erfcx(y: f64) -> f64 {
    if y < 20.0 {
        return (y * y).exp() * libm::erfc(y);
    }
    let z = 1.0 / (2.0 * y * y);
    let series = 1.0 - z * (1.0 - 3.0 * z * (1.0 - 5.0 * z * (1.0 - 7.0 * z)));
    series / (y * PI.sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_neg_is_the_exponential() {
        let mut x = 0.0;
        while x < 699.0 {
            assert!((exp_neg(x) / (-x).exp() - 1.0).abs() < 1e-14, "{x}: {} {}", exp_neg(x), (-x).exp());
            x += 0.173;
        }
        assert!(exp_neg(1e300) < 1e-300 && exp_neg(0.0) == 1.0);
    }

    #[test]
    fn erfcx_is_smooth_where_its_formulas_meet() {
        assert!((erfcx(20.0 - 1e-12) / erfcx(20.0) - 1.0).abs() < 1e-10);
        assert!((erfcx(1.0) - 0.427_583_576_155_807).abs() < 1e-15);
    }
}
