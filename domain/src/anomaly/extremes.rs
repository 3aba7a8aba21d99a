//! What a channel's greatest values usually are.

use serde::{Deserialize, Serialize};

/// Blocks of time whose greatest values are remembered.
const BLOCKS: usize = 18;

/// Fewest whole blocks that say anything.
const FEWEST: usize = 2;

/// The standard deviation of the logarithms is pulled towards this, with the weight of three blocks: two maxima that
/// happen to agree are no proof of regularity.
const PRIOR_DEVIATION: f64 = 0.15;
const PRIOR_WEIGHT: f64 = 3.0;

/// A value scores at most this much more than it exceeds all that is remembered.
const RECORD: f64 = 3.0;

/// Logarithms of the greatest values of the latest blocks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Extremes {
    /// The latest whole blocks, a ring.
    maxima: [f64; BLOCKS],
    /// Whole blocks so far.
    blocks: u64,
    /// The block that is being filled.
    current: f64,
    filled: u32,
    mean: f64,
    deviation: f64,
    greatest: f64,
}

/// The logarithm of nothing.
const NOTHING: f64 = -99.0;

impl Extremes {
    pub(super) fn new() -> Self {
        Self {
            maxima: [NOTHING; BLOCKS],
            blocks: 0,
            current: NOTHING,
            filled: 0,
            mean: 0.0,
            deviation: 1.0,
            greatest: NOTHING,
        }
    }

    /// How far `value` lies above what the blocks' greatest values usually are, in standard deviations; 0 where it does
    /// not. A value that came near in memory is no great news again. Then remembers it.
    pub(super) fn push(&mut self, value: f64, block: u32) -> f64 {
        let log = value.max(1e-9).ln();
        let score = if self.blocks < FEWEST as u64 {
            0.0
        } else {
            let usual = (log - self.mean) / self.deviation;
            let record = (log - self.greatest.max(self.current)) / self.deviation;
            usual.min(record + RECORD).max(0.0)
        };
        self.current = self.current.max(log);
        self.filled += 1;
        if self.filled >= block {
            self.close();
        }
        score
    }

    fn close(&mut self) {
        let blocks = usize::try_from(self.blocks).unwrap_or(usize::MAX);
        self.maxima[blocks % BLOCKS] = self.current;
        (self.blocks, self.current, self.filled) = (self.blocks + 1, NOTHING, 0);
        let known = &self.maxima[..(blocks + 1).min(BLOCKS)];
        let count = known.len() as f64;
        self.mean = known.iter().sum::<f64>() / count;
        let squares: f64 = known.iter().map(|m| (m - self.mean).powi(2)).sum();
        let prior = PRIOR_WEIGHT * PRIOR_DEVIATION * PRIOR_DEVIATION;
        self.deviation = ((squares + prior) / (count + PRIOR_WEIGHT - 1.0)).sqrt();
        self.greatest = known.iter().copied().fold(NOTHING, f64::max);
    }
}
