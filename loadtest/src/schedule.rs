//! When calls are due: offsets from the start of the load, in order.

use std::{path::Path, time::Duration};

use rand::{SeedableRng as _, rngs::Xoshiro256PlusPlus};
use rand_distr::{Distribution as _, Exp1};

/// Arrival times of an open loop.
#[derive(Debug, Clone, PartialEq)]
pub enum Schedule {
    /// Evenly spaced.
    Constant {
        /// Calls a second.
        rate: f64,
        /// How long.
        length: Duration,
    },
    /// Independent callers: exponential gaps, the same for the same seed.
    Poisson {
        /// Calls a second, on average.
        rate: f64,
        /// How long.
        length: Duration,
        /// Chooses the gaps.
        seed: u64,
    },
    /// Recorded.
    Trace(Vec<Duration>),
}

/// Why a trace cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("trace {path}: {reason}")]
pub struct TraceError {
    path: String,
    reason: String,
}

impl Schedule {
    /// Reads a trace: one offset in seconds a line, ascending; empty lines and `#` comments are skipped.
    ///
    /// # Errors
    /// The file cannot be read, or a line is not an offset; the line is named.
    pub fn trace(path: &Path) -> Result<Self, TraceError> {
        let failed = |reason: String| TraceError { path: path.display().to_string(), reason };
        let text = std::fs::read_to_string(path).map_err(|e| failed(e.to_string()))?;
        parse_trace(&text).map(Self::Trace).map_err(failed)
    }

    /// Calls a second that the schedule asks for.
    #[must_use]
    pub fn rate(&self) -> f64 {
        match self {
            Self::Constant { rate, .. } | Self::Poisson { rate, .. } => *rate,
            Self::Trace(offsets) => {
                let seconds = offsets.last().map_or(0.0, Duration::as_secs_f64);
                if seconds > 0.0 { offsets.len() as f64 / seconds } else { 0.0 }
            }
        }
    }

    /// From the start to the end of arrivals.
    #[must_use]
    pub fn length(&self) -> Duration {
        match self {
            Self::Constant { length, .. } | Self::Poisson { length, .. } => *length,
            Self::Trace(offsets) => offsets.last().copied().unwrap_or_default(),
        }
    }

    /// The offsets.
    pub fn arrivals(self) -> Box<dyn Iterator<Item = Duration> + Send> {
        match self {
            Self::Constant { rate, length } => {
                let nth = move |n: u64| Duration::from_secs_f64(n as f64 / rate);
                Box::new((0..).map(nth).take_while(move |at| *at < length))
            }
            Self::Poisson { rate, length, seed } => {
                let mut random = Xoshiro256PlusPlus::seed_from_u64(seed);
                let mut at = 0.0;
                let next = move || {
                    let gap: f64 = Exp1.sample(&mut random);
                    at += gap / rate;
                    Some(Duration::from_secs_f64(at))
                };
                Box::new(std::iter::from_fn(next).take_while(move |at| *at < length))
            }
            Self::Trace(offsets) => Box::new(offsets.into_iter()),
        }
    }
}

fn parse_trace(text: &str) -> Result<Vec<Duration>, String> {
    let mut offsets: Vec<Duration> = Vec::new();
    for (line, number) in text.lines().zip(1..) {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let seconds: f64 = line.parse().map_err(|_| format!("line {number}: `{line}` is not a number of seconds"))?;
        let offset = Duration::try_from_secs_f64(seconds).map_err(|_| {
            format!("line {number}: {line} is not an offset; offsets are seconds from the start, 0 or more")
        })?;
        if offsets.last().is_some_and(|last| *last > offset) {
            return Err(format!("line {number}: {line} is before the line above; sort the trace"));
        }
        offsets.push(offset);
    }
    if offsets.is_empty() {
        Err("no arrivals in it; write one offset in seconds a line".to_owned())
    } else {
        Ok(offsets)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const LENGTH: Duration = Duration::from_secs(10);

    fn poisson(seed: u64) -> Vec<Duration> {
        Schedule::Poisson { rate: 1000.0, length: LENGTH, seed }.arrivals().collect()
    }

    #[test]
    fn constant_arrivals_are_even() {
        let arrivals: Vec<_> = Schedule::Constant { rate: 4.0, length: Duration::from_secs(1) }.arrivals().collect();
        assert_eq!(arrivals, [0, 250, 500, 750].map(Duration::from_millis));
    }

    #[test]
    fn poisson_arrivals_follow_the_seed_and_the_rate() {
        let arrivals = poisson(1);
        assert_eq!(arrivals, poisson(1));
        assert_ne!(arrivals, poisson(2));
        assert!(arrivals.is_sorted() && *arrivals.last().unwrap() < LENGTH);
        // 10,000 expected, standard deviation 100.
        assert!((9_500..10_500).contains(&arrivals.len()), "{}", arrivals.len());
        // Exponential gaps: the standard deviation is the mean, and 1/e of them exceed it.
        let gaps: Vec<f64> = arrivals.windows(2).map(|w| (w[1] - w[0]).as_secs_f64()).collect();
        let long = gaps.iter().filter(|g| **g > 1e-3).count() as f64 / gaps.len() as f64;
        assert!((long - (-1f64).exp()).abs() < 0.02, "{long}");
    }

    #[test]
    fn traces_are_read_and_their_faults_named() {
        assert_eq!(parse_trace("# two\n0\n\n0.5\n").unwrap(), [Duration::ZERO, Duration::from_millis(500)]);
        for (text, reason) in [
            ("0\nsoon\n", "line 2: `soon` is not a number"),
            ("-1\n", "line 1: -1 is not an offset"),
            ("NaN\n", "line 1: NaN is not an offset"),
            ("1\n0.5\n", "line 2: 0.5 is before"),
            ("# nothing\n", "no arrivals"),
        ] {
            let error = parse_trace(text).unwrap_err();
            assert!(error.contains(reason), "{text:?}: {error}");
        }
        let error = Schedule::trace(Path::new("no/such.trace")).unwrap_err().to_string();
        assert!(error.starts_with("trace no/such.trace: "), "{error}");
    }

    #[test]
    fn a_trace_has_the_rate_of_its_arrivals() {
        let trace = Schedule::Trace((1..=10).map(|i| Duration::from_millis(i * 100)).collect());
        assert_eq!((trace.rate(), trace.length()), (10.0, Duration::from_secs(1)));
    }
}
