//! Seasonality: a partial Fourier series of the date (Taylor & Letham 2018, section 3.2).

use std::f64::consts::PI;

/// The frequencies of one seasonality.
#[derive(Debug, Clone)]
pub(super) struct Fourier {
    /// `n / period` for n = 1 to the order, as Prophet rounds it.
    frequencies: Vec<f64>,
}

impl Fourier {
    /// A period in days and the number of harmonics, at least 1.
    #[allow(clippy::cast_precision_loss)]
    pub(super) fn new(period: f64, order: usize) -> Self {
        Self { frequencies: (1..=order).map(|n| n as f64 / period).collect() }
    }

    /// Columns it fills: a sine and a cosine for each harmonic.
    pub(super) fn columns(&self) -> usize {
        2 * self.frequencies.len()
    }

    /// Writes sine and cosine of each harmonic at `days` since 1970-01-01.
    ///
    /// Prophet rounds each angle by itself, and angles are large: what rounding moves an angle by, against the
    /// multiple of the first, is computed exactly and put back, so that one sine and cosine serve all harmonics.
    pub(super) fn write(&self, days: f64, columns: &mut [f64]) {
        let turn = PI * 2.0 * days;
        let first = self.frequencies[0] * turn;
        let (sin, cos) = first.sin_cos();
        let high = f64::from_bits(first.to_bits() & !0x07ff_ffff);
        let low = first - high;
        let (mut s, mut c, mut n) = (sin, cos, 1.0);
        for (frequency, pair) in self.frequencies.iter().zip(columns.chunks_exact_mut(2)) {
            let moved = (frequency * turn - n * high) - n * low;
            pair[0] = s + moved * c;
            pair[1] = c - moved * s;
            (s, c) = (s * cos + c * sin, c * cos - s * sin);
            n += 1.0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn harmonics_are_the_sines_of_prophets_own_angles() {
        for (period, order) in [(365.25, 10), (7.0, 3), (1.0, 4), (30.5, 5), (1.0 / 24.0, 20)] {
            let fourier = Fourier::new(period, order);
            let mut columns = vec![0.0; fourier.columns()];
            for days in [0.0, 1.0, 16_435.25, 19_782.0, 20_000.123_456, -3_000.0] {
                fourier.write(days, &mut columns);
                for (n, pair) in columns.chunks_exact(2).enumerate() {
                    #[allow(clippy::cast_precision_loss)]
                    let angle = ((n + 1) as f64 / period) * (PI * 2.0 * days);
                    let wrong = (pair[0] - angle.sin()).abs().max((pair[1] - angle.cos()).abs());
                    assert!(wrong < 2e-14, "period {period}, harmonic {n}, day {days}: {wrong}");
                }
            }
        }
    }
}
