//! How fast requests come.

use std::time::{Duration, Instant};

/// A pause this long says no more than that nobody comes.
const QUIET: Duration = Duration::from_millis(100);

/// A moving average of the gaps between requests.
#[derive(Debug)]
pub(super) struct Pace {
    last: Option<Instant>,
    gap: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self { last: None, gap: QUIET }
    }
}

impl Pace {
    /// Takes note of a request.
    pub(super) fn arrived(&mut self, now: Instant) {
        let gap = self.last.map_or(QUIET, |last| now.saturating_duration_since(last)).min(QUIET);
        self.gap = (self.gap * 7 + gap) / 8;
        self.last = Some(now);
    }

    /// When somebody should have come by: later than this, nobody is likely to.
    pub(super) fn next_by(&self) -> Option<Instant> {
        self.last.map(|last| last + self.gap * 2)
    }

    /// The average gap.
    pub(super) fn gap(&self) -> Duration {
        self.gap
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn follows_the_gaps() {
        let mut now = Instant::now();
        let mut pace = Pace::default();
        assert_eq!(pace.gap(), QUIET, "nobody comes until somebody came");
        for _ in 0..100 {
            now += Duration::from_micros(50);
            pace.arrived(now);
        }
        assert!((49..60).contains(&pace.gap().as_micros()), "{:?}", pace.gap());
        pace.arrived(now + Duration::from_secs(60));
        assert!(pace.gap() > Duration::from_millis(10), "a long silence counts at once");
    }
}
