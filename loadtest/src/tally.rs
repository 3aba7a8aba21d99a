//! What a load measured.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use hdrhistogram::Histogram;

use crate::{client::Answer, code::Code, process::Usage};

/// Kinds of failure that are told apart; more are counted together.
const MESSAGES: usize = 50;
/// Beyond it, latencies count as this long.
const LONGEST: Duration = Duration::from_secs(600);

/// Latencies, three significant digits from 1 µs on.
#[derive(Debug, Clone)]
pub struct Latencies(Histogram<u64>);

impl Default for Latencies {
    fn default() -> Self {
        let histogram = Histogram::new_with_bounds(1_000, nanos(LONGEST), 3);
        Self(histogram.expect("bounds and digits that the histogram takes"))
    }
}

impl Latencies {
    /// Adds one.
    pub fn record(&mut self, latency: Duration) {
        self.0.saturating_record(nanos(latency));
    }

    /// How many.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.len()
    }

    /// The latency that `percent` of calls do not exceed.
    #[must_use]
    pub fn percentile(&self, percent: f64) -> Duration {
        Duration::from_nanos(self.0.value_at_percentile(percent).min(self.0.max()))
    }

    /// The arithmetic mean.
    #[must_use]
    pub fn mean(&self) -> Duration {
        Duration::from_secs_f64(self.0.mean() / 1e9)
    }

    /// The least and the greatest.
    #[must_use]
    pub fn range(&self) -> (Duration, Duration) {
        let least = if self.0.is_empty() { 0 } else { self.0.min_nz() };
        (Duration::from_nanos(least), Duration::from_nanos(self.0.max()))
    }

    /// Latencies that were seen and how many of each, ascending.
    pub fn recorded(&self) -> impl Iterator<Item = (Duration, u64)> {
        self.0.iter_recorded().map(|v| (Duration::from_nanos(v.value_iterated_to()), v.count_at_value()))
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Counts of one load, while it runs and after.
#[derive(Debug, Clone, Default)]
pub struct Tally {
    /// Of calls that succeeded.
    pub latency: Latencies,
    /// From the moment a call was due to the moment it was sent: the generator's own delay, part of `latency`.
    pub lag: Latencies,
    /// Calls by outcome.
    pub codes: BTreeMap<Code, u64>,
    /// Failures by code and message.
    pub errors: BTreeMap<(Code, String), u64>,
    /// Calls that were due while too many were outstanding; never sent.
    pub dropped: u64,
    /// Bytes of replies.
    pub bytes: u64,
    /// Calls without an answer yet.
    pub outstanding: u64,
    /// Each call by itself, in the order of the answers, where that is wanted.
    pub calls: Option<Vec<Call>>,
}

/// One call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Call {
    /// When it was due, from the start of the load.
    pub due: Duration,
    /// From then to its answer.
    pub latency: Duration,
    /// Its outcome.
    pub code: Code,
}

impl Tally {
    /// Counts an answer.
    pub fn record(&mut self, answer: Answer, latency: Duration) {
        *self.codes.entry(answer.code).or_default() += 1;
        self.bytes += answer.bytes as u64;
        if answer.code == Code::OK {
            self.latency.record(latency);
            return;
        }
        let known = self.errors.len() < MESSAGES;
        let message = if known { answer.message } else { "other messages".to_owned() };
        *self.errors.entry((answer.code, message)).or_default() += 1;
    }

    /// Counts the answer to a call that was due at `due`, and keeps the call where that is wanted.
    pub fn record_call(&mut self, due: Duration, answer: Answer, latency: Duration) {
        if let Some(calls) = &mut self.calls {
            calls.push(Call { due, latency, code: answer.code });
        }
        self.record(answer, latency);
    }

    /// Calls that were sent and answered, or failed.
    #[must_use]
    pub fn sent(&self) -> u64 {
        self.codes.values().sum()
    }

    /// Calls that succeeded.
    #[must_use]
    pub fn succeeded(&self) -> u64 {
        self.codes.get(&Code::OK).copied().unwrap_or_default()
    }

    /// Share of the calls sent that failed.
    #[must_use]
    pub fn error_ratio(&self) -> f64 {
        ratio(self.sent() - self.succeeded(), self.sent())
    }

    /// Share of the calls due that were never sent.
    #[must_use]
    pub fn dropped_ratio(&self) -> f64 {
        ratio(self.dropped, self.sent() + self.dropped)
    }
}

fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

/// A tally that calls write and a progress line reads.
#[derive(Debug, Clone, Default)]
pub struct Shared(Arc<Mutex<Tally>>);

impl Shared {
    /// An empty tally that keeps each call by itself.
    #[must_use]
    pub fn with_calls() -> Self {
        Self(Arc::new(Mutex::new(Tally { calls: Some(Vec::new()), ..Tally::default() })))
    }

    /// The tally, for a moment.
    pub fn lock(&self) -> MutexGuard<'_, Tally> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A load that ended.
#[derive(Debug, Clone)]
pub struct Measured {
    /// When it started.
    pub started: SystemTime,
    /// From the start to the last answer, or to the end of the schedule if that is later.
    pub elapsed: Duration,
    /// What was counted.
    pub tally: Tally,
    /// What the server used of the machine meanwhile.
    pub server: Option<Usage>,
    /// What this process used.
    pub client: Option<Usage>,
}

impl Measured {
    /// Calls that succeeded, a second.
    #[must_use]
    pub fn rate(&self) -> f64 {
        self.tally.succeeded() as f64 / self.elapsed.as_secs_f64().max(1e-9)
    }

    /// Processor time a call, in microseconds, of `usage`.
    #[must_use]
    pub fn micros_per_call(&self, usage: Option<Usage>) -> Option<f64> {
        let calls = self.tally.sent();
        usage.filter(|_| calls > 0).map(|u| u.cpu.as_secs_f64() * 1e6 / calls as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(code: Code, message: &str) -> Answer {
        Answer { code, message: message.to_owned(), bytes: 10 }
    }

    #[test]
    fn only_calls_that_succeed_have_a_latency() {
        let mut tally = Tally::default();
        for ms in 1..=100 {
            tally.record(answer(Code::OK, ""), Duration::from_millis(ms));
        }
        tally.record(answer(Code::UNAVAILABLE, "gone"), Duration::from_secs(5));
        tally.dropped = 101;
        assert_eq!((tally.sent(), tally.succeeded(), tally.latency.count()), (101, 100, 100));
        assert_eq!(tally.errors[&(Code::UNAVAILABLE, "gone".to_owned())], 1);
        assert!((tally.error_ratio() - 1.0 / 101.0).abs() < 1e-12);
        assert!((tally.dropped_ratio() - 0.5).abs() < 1e-12);
        let p99 = tally.latency.percentile(99.0).as_secs_f64();
        assert!((p99 / 0.099 - 1.0).abs() < 2e-3, "{p99}");
    }

    #[test]
    fn messages_are_bounded() {
        let mut tally = Tally::default();
        for i in 0..1000 {
            tally.record(answer(Code::UNKNOWN, &i.to_string()), Duration::ZERO);
        }
        assert_eq!(tally.errors.len(), MESSAGES + 1);
        assert_eq!(tally.errors.values().sum::<u64>(), 1000);
    }
}
