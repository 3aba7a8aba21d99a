//! Predicted against observed clicks.

/// Cells of similar scores. A cell is a group of impressions with one score, of which it is known how many were clicked.
#[derive(Debug, Clone, PartialEq)]
pub struct Bin {
    /// Impressions of its cells, above 0.
    pub impressions: u64,
    /// How many of them were clicked.
    pub clicks: u64,
    /// Clicks that the scores predict: the sum of impressions times score.
    pub predicted_clicks: f64,
    /// Log loss summed over impressions, in nats: of a cell with score p,
    /// `-clicks ln p - (impressions - clicks) ln(1 - p)`.
    pub loss: f64,
}

impl Bin {
    /// Mean score of its impressions.
    #[must_use]
    pub fn predicted(&self) -> f64 {
        self.predicted_clicks / number(self.impressions)
    }

    /// Share of its impressions that were clicked.
    #[must_use]
    pub fn observed(&self) -> f64 {
        number(self.clicks) / number(self.impressions)
    }
}

/// Figures over all bins, each impression with the same weight.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Quality {
    /// Impressions.
    pub impressions: u64,
    /// Clicks.
    pub clicks: u64,
    /// Clicks that the scores predict.
    pub predicted_clicks: f64,
    /// Mean log loss of an impression, in nats.
    pub log_loss: f64,
    /// The same of a model that gives each impression the observed rate of all: the entropy of the base rate.
    pub base_log_loss: f64,
    /// Log loss by that of the base rate; below 1 the model knows more than the rate (He et al. 2014). `None` where the
    /// base rate is 0 or 1 and leaves nothing to know.
    pub normalized_entropy: Option<f64>,
    /// Expected calibration error: mean distance of predicted and observed rate of the bins, by impressions.
    pub calibration_error: f64,
    /// Predicted by observed clicks; `None` without clicks.
    pub predicted_over_observed: Option<f64>,
}

/// Figures of bins; `None` where they hold no impression.
#[must_use]
pub fn quality(bins: &[Bin]) -> Option<Quality> {
    let impressions: u64 = bins.iter().map(|bin| bin.impressions).sum();
    if impressions == 0 {
        return None;
    }
    let all = number(impressions);
    let clicks: u64 = bins.iter().map(|bin| bin.clicks).sum();
    let predicted_clicks: f64 = bins.iter().map(|bin| bin.predicted_clicks).sum();
    let log_loss = bins.iter().map(|bin| bin.loss).sum::<f64>() / all;
    let rate = number(clicks) / all;
    let base_log_loss = if clicks == 0 || clicks == impressions {
        0.0
    } else {
        -(rate * libm::log(rate) + (1.0 - rate) * libm::log1p(-rate))
    };
    // Of a bin the distance of the rates times its impressions: the distance of the clicks.
    let missed: f64 = bins.iter().map(|bin| (bin.predicted_clicks - number(bin.clicks)).abs()).sum();
    Some(Quality {
        impressions,
        clicks,
        predicted_clicks,
        log_loss,
        base_log_loss,
        normalized_entropy: (base_log_loss > 0.0).then(|| log_loss / base_log_loss),
        calibration_error: missed / all,
        predicted_over_observed: (clicks > 0).then(|| predicted_clicks / number(clicks)),
    })
}

/// Wilson's 95 % interval for a rate of which `successes` of `trials` were seen; the whole of 0 to 1 without a trial.
#[must_use]
pub fn wilson(successes: u64, trials: u64) -> (f64, f64) {
    /// Quantile 0.975 of the normal law.
    const Z: f64 = 1.959_963_984_540_054;
    if trials == 0 {
        return (0.0, 1.0);
    }
    let n = number(trials);
    let rate = number(successes) / n;
    let middle = rate + Z * Z / (2.0 * n);
    let half = Z * (rate * (1.0 - rate) / n + Z * Z / (4.0 * n * n)).sqrt();
    let scale = 1.0 + Z * Z / n;
    // Rounding must not take the rate itself out of its interval.
    (((middle - half) / scale).clamp(0.0, rate), ((middle + half) / scale).clamp(rate, 1.0))
}

/// Counts beyond 2^53 lose their last digits, which no rate has.
#[allow(clippy::cast_precision_loss)]
pub(super) fn number(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A bin of one cell.
    fn cell(score: f64, impressions: u64, clicks: u64) -> Bin {
        let (shown, clicked) = (number(impressions), number(clicks));
        let loss = -clicked * score.ln() - (shown - clicked) * (1.0 - score).ln();
        Bin { impressions, clicks, predicted_clicks: score * shown, loss }
    }

    fn close(a: f64, b: f64) -> bool {
        (a - b).abs() <= 1e-12 * (1.0 + b.abs())
    }

    #[test]
    fn figures_computed_by_hand() {
        // Scores 0.1 and 0.4; 8 of 100 and 50 of 100 clicked.
        let quality = quality(&[cell(0.1, 100, 8), cell(0.4, 100, 50)]).unwrap();
        assert_eq!((quality.impressions, quality.clicks), (200, 58));
        // -(8 ln 0.1 + 92 ln 0.9 + 50 ln 0.4 + 50 ln 0.6) / 200
        assert!(close(quality.log_loss, 0.497_348_329_832_398_4), "{}", quality.log_loss);
        // -(0.29 ln 0.29 + 0.71 ln 0.71)
        assert!(close(quality.base_log_loss, 0.602_151_682_592_68), "{}", quality.base_log_loss);
        assert!(close(quality.normalized_entropy.unwrap(), 0.825_951_905_823_744_1));
        // (100 * 0.02 + 100 * 0.1) / 200
        assert!(close(quality.calibration_error, 0.06), "{}", quality.calibration_error);
        assert!(close(quality.predicted_over_observed.unwrap(), 50.0 / 58.0));
    }

    #[test]
    fn nothing_to_know_and_nothing_seen() {
        assert_eq!(quality(&[]), None);
        let none = quality(&[cell(0.5, 10, 0)]).unwrap();
        assert_eq!((none.base_log_loss, none.normalized_entropy, none.predicted_over_observed), (0.0, None, None));
        let all = quality(&[cell(0.5, 10, 10)]).unwrap();
        assert_eq!((all.normalized_entropy, all.predicted_over_observed), (None, Some(0.5)));
    }

    #[test]
    fn wilson_of_a_textbook() {
        // 8 of 10: Newcombe's method 3 without continuity correction.
        let (lower, upper) = wilson(8, 10);
        assert!((lower - 0.490_2).abs() < 5e-5 && (upper - 0.943_3).abs() < 5e-5, "{lower} {upper}");
        assert_eq!(wilson(0, 0), (0.0, 1.0));
        assert_eq!((wilson(0, 9).0, wilson(9, 9).1), (0.0, 1.0));
    }

    proptest! {
        #[test]
        fn an_interval_holds_its_rate(trials in 1_u64..1_000_000, share in 0.0..=1.0_f64) {
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // within the trials
            let successes = (number(trials) * share) as u64;
            let (lower, upper) = wilson(successes, trials);
            let rate = number(successes) / number(trials);
            prop_assert!(0.0 <= lower && lower <= rate && rate <= upper && upper <= 1.0 && lower < upper);
        }

        /// Scores that are the observed rates: no error, and never worse than the base rate.
        #[test]
        fn perfect_scores_have_no_error(cells in prop::collection::vec((1_u64..1000, 0.0..1.0_f64), 1..20)) {
            let bins: Vec<Bin> = cells.iter().map(|(shown, share)| {
                #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // within the impressions
                let clicks = 1 + (number(*shown) * share) as u64;
                let impressions = shown + 1;
                cell(number(clicks) / number(impressions), impressions, clicks)
            }).filter(|bin| bin.clicks < bin.impressions).collect();
            let Some(quality) = quality(&bins) else { return Ok(()) };
            prop_assert!(quality.calibration_error < 1e-9);
            prop_assert!(close(quality.predicted_over_observed.unwrap(), 1.0));
            prop_assert!(quality.normalized_entropy.unwrap() <= 1.0 + 1e-9);
        }

        /// How cells fall into bins changes the calibration error alone.
        #[test]
        fn loss_does_not_depend_on_the_bins(cells in prop::collection::vec((1_u64..1000, 0.01..0.99_f64), 2..20)) {
            let bins: Vec<Bin> = cells.iter().map(|(shown, score)| cell(*score, *shown, shown / 3)).collect();
            let one = Bin {
                impressions: bins.iter().map(|b| b.impressions).sum(),
                clicks: bins.iter().map(|b| b.clicks).sum(),
                predicted_clicks: bins.iter().map(|b| b.predicted_clicks).sum(),
                loss: bins.iter().map(|b| b.loss).sum(),
            };
            let (fine, coarse) = (quality(&bins).unwrap(), quality(&[one]).unwrap());
            prop_assert!(close(fine.log_loss, coarse.log_loss));
            prop_assert!(coarse.calibration_error <= fine.calibration_error + 1e-12);
        }
    }
}
