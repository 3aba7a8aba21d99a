//! Seeded random numbers, so that a simulation is a function of its arguments.

use std::f64::consts::PI;

/// xoshiro256++ (Blackman & Vigna 2019), seeded by splitmix64.
#[derive(Debug, Clone)]
pub(super) struct Random {
    state: [u64; 4],
}

impl Random {
    pub(super) fn new(mut seed: u64) -> Self {
        let state = std::array::from_fn(|_| {
            seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let z = (seed ^ (seed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            z ^ (z >> 31)
        });
        Self { state }
    }

    fn next(&mut self) -> u64 {
        let [a, b, c, d] = self.state;
        let result = a.wrapping_add(d).rotate_left(23).wrapping_add(a);
        let (c2, d2) = (c ^ a, d ^ b);
        self.state = [a ^ d2, b ^ c2, c2 ^ (b << 17), d2.rotate_left(45)];
        result
    }

    /// Uniform, above 0 and at most 1.
    #[allow(clippy::cast_precision_loss)]
    pub(super) fn uniform(&mut self) -> f64 {
        ((self.next() >> 11) + 1) as f64 * (1.0 / 9_007_199_254_740_992.0)
    }

    /// Two independent standard normal numbers (Box & Muller 1958).
    pub(super) fn normals(&mut self) -> [f64; 2] {
        let radius = (-2.0 * self.uniform().ln()).sqrt();
        let (sin, cos) = (2.0 * PI * self.uniform()).sin_cos();
        [radius * cos, radius * sin]
    }

    /// Laplace of scale 1.
    pub(super) fn laplace(&mut self) -> f64 {
        let size = -self.uniform().ln();
        if self.next() >> 63 == 0 { size } else { -size }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_right_and_seeds_repeat() {
        let mut random = Random::new(7);
        let count = 200_000;
        let mut sums = [0.0; 4];
        for _ in 0..count / 2 {
            for z in random.normals() {
                sums[0] += z;
                sums[1] += z * z;
            }
            for x in [random.laplace(), random.laplace()] {
                sums[2] += x;
                sums[3] += x * x;
            }
        }
        let [mean, square, laplace_mean, laplace_square] = sums.map(|sum| sum / f64::from(count));
        assert!(mean.abs() < 0.01 && (square - 1.0).abs() < 0.02);
        assert!(laplace_mean.abs() < 0.02 && (laplace_square - 2.0).abs() < 0.06);
        assert_eq!(Random::new(3).next(), Random::new(3).next());
    }
}
