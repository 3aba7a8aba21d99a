//! What a run costs, by its rows: learned at warm-up, refreshed by every run.
//!
//! Knowing it replaces the window that other batchers ask their users to tune: TensorFlow's batch scheduler
//! (`MINIMIZE_TPU_COST_PER_REQUEST`) compares costs of batch sizes likewise, from a fixed table.

use std::time::Duration;

/// Weight of a new run against all before it.
const LEARNING: f64 = 0.1;
/// A run that took longer than this many times its estimate was interrupted: it counts as this many.
const SURPRISE: f64 = 3.0;

/// Estimates the time of a run.
///
/// Holds one figure for each bucket and interpolates between them.
#[derive(Debug, Clone)]
pub struct CostModel {
    /// Ascending by rows; never empty.
    buckets: Vec<Bucket>,
}

#[derive(Debug, Clone, Copy)]
struct Bucket {
    rows: usize,
    nanos: f64,
}

impl CostModel {
    /// A model of measured runs: rows, 1 or more, and time. Of several measurements of one size the least
    /// counts: the others were disturbed.
    ///
    /// `None` without any measurement.
    #[must_use]
    pub fn new(measured: &[(usize, Duration)]) -> Option<Self> {
        let mut buckets: Vec<Bucket> =
            measured.iter().map(|(rows, took)| Bucket { rows: (*rows).max(1), nanos: nanos(*took) }).collect();
        buckets.sort_by(|a, b| a.rows.cmp(&b.rows).then(a.nanos.total_cmp(&b.nanos)));
        buckets.dedup_by_key(|b| b.rows);
        (!buckets.is_empty()).then_some(Self { buckets })
    }

    /// Predicted time of one run of `rows`.
    #[must_use]
    pub fn estimate(&self, rows: usize) -> Duration {
        duration(self.nanos(rows))
    }

    /// Time that a run costs whatever its rows are, as the two smallest buckets show it.
    #[must_use]
    pub fn overhead(&self) -> Duration {
        let one = self.nanos(1);
        duration((2.0 * one - self.nanos(2)).clamp(0.0, one))
    }

    /// The smallest bucket that holds `rows`; the largest if none does.
    #[must_use]
    pub fn bucket(&self, rows: usize) -> usize {
        let larger = self.buckets.iter().find(|b| b.rows >= rows);
        larger.or(self.buckets.last()).map_or(rows, |b| b.rows)
    }

    /// How many of `rows` to run as one batch: all, or those of a smaller bucket where two runs cost less
    /// than one. `padded` runs cost as much as the bucket that holds them.
    #[must_use]
    pub fn cut(&self, rows: usize, padded: bool) -> usize {
        let cost = |n: usize| self.nanos(if padded { self.bucket(n) } else { n });
        // The largest first: of equal ones it is taken.
        let smaller = self.buckets.iter().rev().map(|b| b.rows).filter(|b| *b < rows);
        // Two runs must be clearly cheaper, for they make the later rows wait.
        let best = smaller.map(|b| (b, (cost(b) + cost(rows - b)) * 1.1)).min_by(|a, b| a.1.total_cmp(&b.1));
        best.filter(|(_, nanos)| *nanos < cost(rows)).map_or(rows, |(b, _)| b)
    }

    /// Every measured size, ascending, and what one run of it is predicted to take.
    pub fn measured(&self) -> impl Iterator<Item = (usize, Duration)> {
        self.buckets.iter().map(|b| (b.rows, duration(b.nanos)))
    }

    /// Takes note of a run.
    pub fn learn(&mut self, rows: usize, took: Duration) {
        let estimate = self.nanos(rows).max(1.0);
        let off = (nanos(took) / estimate).min(SURPRISE) - 1.0;
        let (low, share) = self.place(rows);
        self.buckets[low].nanos *= 1.0 + LEARNING * (1.0 - share) * off;
        if let Some(high) = self.buckets.get_mut(low + 1) {
            high.nanos *= 1.0 + LEARNING * share * off;
        }
    }

    fn nanos(&self, rows: usize) -> f64 {
        let (low, share) = self.place(rows);
        let at = self.buckets[low];
        match self.buckets.get(low + 1) {
            Some(next) => at.nanos + (next.nanos - at.nanos) * share,
            // Beyond the last bucket every row costs as much as one of its rows.
            None => at.nanos * (rows as f64 / at.rows as f64).max(1.0),
        }
    }

    /// The bucket at or below `rows`, and how far `rows` is on the way to the next one, 0 to 1.
    fn place(&self, rows: usize) -> (usize, f64) {
        let low = self.buckets.partition_point(|b| b.rows <= rows).saturating_sub(1);
        let at = self.buckets[low].rows;
        match self.buckets.get(low + 1) {
            Some(next) if rows > at => (low, (rows - at) as f64 / (next.rows - at) as f64),
            _ => (low, 0.0),
        }
    }
}

fn duration(nanos: f64) -> Duration {
    Duration::from_secs_f64(nanos * 1e-9)
}

fn nanos(duration: Duration) -> f64 {
    duration.as_nanos() as f64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn micros(n: u64) -> Duration {
        Duration::from_micros(n)
    }

    /// The Criteo shape on one core of a small machine.
    fn measured() -> CostModel {
        let table = [(1, 57), (8, 142), (32, 475), (64, 861), (64, 2000)];
        CostModel::new(&table.map(|(rows, us)| (rows, micros(us)))).unwrap_or_else(|| unreachable!())
    }

    #[test]
    fn interpolates_and_extends() {
        let cost = measured();
        assert_eq!(cost.estimate(1), micros(57));
        assert_eq!(cost.estimate(20), Duration::from_nanos(308_500));
        assert_eq!(cost.estimate(64), micros(861));
        assert_eq!(cost.estimate(128), micros(1722));
        assert_eq!((cost.bucket(1), cost.bucket(9), cost.bucket(99)), (1, 32, 64));
        assert!(CostModel::new(&[]).is_none());
    }

    #[test]
    fn cuts_where_two_runs_cost_less_than_a_padded_one() {
        let flat =
            CostModel::new(&[(1, micros(50)), (16, micros(60)), (32, micros(70))]).unwrap_or_else(|| unreachable!());
        assert_eq!(flat.cut(17, true), 17, "a padded run of 32 costs less than 16 and 1");
        let steep =
            CostModel::new(&[(1, micros(10)), (16, micros(100)), (32, micros(200))]).unwrap_or_else(|| unreachable!());
        assert_eq!(steep.cut(17, true), 16, "16 and 1 cost less than 32");
        assert_eq!(steep.cut(17, false), 17, "nothing is padded");
        assert_eq!(steep.cut(32, true), 32, "two of 16 cost the same and make some wait");
    }

    proptest! {
        /// Whatever was believed before, runs of one size make the estimate of that size true, and no single
        /// run changes any estimate by more than the surprise it is allowed.
        #[test]
        fn learns_what_runs_cost(rows in 1usize..100, us in 1u64..10_000) {
            let mut cost = measured();
            let before = cost.estimate(rows);
            cost.learn(rows, micros(us));
            let after = cost.estimate(rows).as_secs_f64() / before.as_secs_f64();
            prop_assert!((0.89..=1.21).contains(&after), "{after}");
            for _ in 0..1000 {
                cost.learn(rows, micros(us));
            }
            let ratio = cost.estimate(rows).as_secs_f64() / micros(us).as_secs_f64();
            prop_assert!((0.95..=1.05).contains(&ratio), "{ratio}");
        }
    }
}
