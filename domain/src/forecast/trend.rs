//! The trend: piecewise linear, saturating, or flat (Taylor & Letham 2018, section 3.1).

/// How the trend grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Growth {
    /// Straight between changepoints.
    Linear,
    /// Saturates at a capacity and a floor.
    Logistic,
    /// Constant.
    Flat,
}

/// The trend of one draw of parameters: rate and offset between changepoints, in scaled units.
#[derive(Debug, Clone)]
pub(super) struct Trend {
    growth: Growth,
    changepoints: Vec<f64>,
    /// Rate and offset before the first changepoint, after it, and so on.
    pieces: Vec<(f64, f64)>,
}

impl Trend {
    /// `delta` are the changes of the rate `k` at the ascending `changepoints`, `m` the offset.
    pub(super) fn new(growth: Growth, k: f64, m: f64, delta: &[f64], changepoints: &[f64]) -> Self {
        let (mut rate, mut offset, mut gammas) = (k, m, 0.0);
        let mut pieces = vec![(rate, offset)];
        for (change, at) in delta.iter().zip(changepoints).filter(|_| growth != Growth::Flat) {
            let before = rate;
            rate += change;
            if growth == Growth::Logistic {
                // Keeps the curve continuous where its rate changes.
                let gamma = (at - m - gammas) * (1.0 - before / rate);
                gammas += gamma;
                offset += gamma;
            } else {
                offset -= change * at;
            }
            pieces.push((rate, offset));
        }
        let changepoints = if growth == Growth::Flat { Vec::new() } else { changepoints.to_vec() };
        Self { growth, changepoints, pieces }
    }

    /// The scaled trend at scaled time `t`; `cap` is the scaled capacity, used by logistic growth.
    pub(super) fn at(&self, t: f64, cap: f64) -> f64 {
        let passed = match self.changepoints.last() {
            Some(last) if t >= *last => self.changepoints.len(),
            _ => self.changepoints.partition_point(|changepoint| *changepoint <= t),
        };
        let (rate, offset) = self.pieces[passed];
        match self.growth {
            Growth::Linear => rate * t + offset,
            Growth::Logistic => cap / (1.0 + (-rate * (t - offset)).exp()),
            Growth::Flat => offset,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn linear_and_logistic_trends_are_continuous_at_changepoints() {
        for growth in [Growth::Linear, Growth::Logistic] {
            let trend = Trend::new(growth, 2.0, 0.4, &[0.5, -1.0], &[0.25, 0.75]);
            for at in [0.25, 0.75] {
                assert!((trend.at(at, 1.5) - trend.at(at - 1e-12, 1.5)).abs() < 1e-11, "{growth:?} at {at}");
            }
        }
    }

    #[test]
    fn rates_add_up_and_flat_ignores_them() {
        let trend = Trend::new(Growth::Linear, 1.0, 0.1, &[2.0], &[0.5]);
        assert!((trend.at(0.4, 0.0) - 0.5).abs() < 1e-15);
        assert!((trend.at(1.0, 0.0) - 2.1).abs() < 1e-15);
        assert!((Trend::new(Growth::Flat, 1.0, 0.1, &[2.0], &[0.5]).at(0.9, 0.0) - 0.1).abs() < 1e-15);
    }
}
