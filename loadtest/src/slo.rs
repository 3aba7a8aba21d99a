//! Service-level objectives and the verdict on a load.

use std::{fmt, fs, path::Path, time::Duration};

use serde::Deserialize;

use crate::tally::Measured;

/// Limits that a load must keep, read from TOML. Latencies are of calls that succeeded.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Slo {
    p50: Option<Limit>,
    p90: Option<Limit>,
    p99: Option<Limit>,
    p999: Option<Limit>,
    min_rate: Option<f64>,
    max_error_ratio: Option<f64>,
    max_dropped_ratio: Option<f64>,
}

/// A latency, written `1.5ms` or `800us`.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(try_from = "String")]
struct Limit(Duration);

impl TryFrom<String> for Limit {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let nanos = ["ms", "us", "s"].iter().zip([1e6, 1e3, 1e9]).find_map(|(unit, nanos)| {
            let number: f64 = text.strip_suffix(unit)?.trim_end().parse().ok()?;
            Some(number * nanos)
        });
        let seconds = nanos.filter(|n| *n > 0.0).map(|n| n / 1e9);
        let limit = seconds.and_then(|s| Duration::try_from_secs_f64(s).ok());
        limit.map(Self).ok_or_else(|| format!("`{text}` is not a latency; write one such as \"2.5ms\" or \"800us\""))
    }
}

/// Why a file of objectives cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("objectives in {path}: {reason}")]
pub struct SloError {
    path: String,
    reason: String,
}

/// One objective, judged.
#[derive(Debug, Clone, PartialEq)]
pub struct Line {
    /// The key in the file.
    pub objective: &'static str,
    /// What was measured, with its unit.
    pub measured: String,
    /// What was allowed, with its unit.
    pub limit: String,
    /// Whether it was kept.
    pub kept: bool,
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = if self.kept { "pass" } else { "FAIL" };
        write!(f, "{verdict}  {:<18} {:>12}  limit {:>12}", self.objective, self.measured, self.limit)
    }
}

impl Slo {
    /// Reads a file.
    ///
    /// # Errors
    /// The file cannot be read, has a key that is none, a value out of range, or no objective at all.
    pub fn read(path: &Path) -> Result<Self, SloError> {
        let failed = |reason: String| SloError { path: path.display().to_string(), reason };
        Self::parse(&fs::read_to_string(path).map_err(|e| failed(e.to_string()))?).map_err(failed)
    }

    fn parse(text: &str) -> Result<Self, String> {
        let slo: Self = toml::from_str(text).map_err(|e| e.to_string())?;
        if slo == Self::default() {
            return Err("no objective in it; for example: p99 = \"10ms\"".to_owned());
        }
        if slo.min_rate.is_some_and(|rate| rate.is_nan() || rate <= 0.0) {
            return Err("min_rate must be above 0".to_owned());
        }
        for (key, ratio) in [("max_error_ratio", slo.max_error_ratio), ("max_dropped_ratio", slo.max_dropped_ratio)] {
            if ratio.is_some_and(|r| !(0.0..=1.0).contains(&r)) {
                return Err(format!("{key} must be from 0 to 1: it is a share, not a percentage"));
            }
        }
        Ok(slo)
    }

    /// Judges a load, one line an objective. Percentiles of a load in which no call succeeded are not kept.
    #[must_use]
    pub fn judge(&self, measured: &Measured) -> Vec<Line> {
        let tally = &measured.tally;
        let mut lines = Vec::new();
        let latencies =
            [("p50", 50.0, self.p50), ("p90", 90.0, self.p90), ("p99", 99.0, self.p99), ("p999", 99.9, self.p999)];
        for (objective, percent, limit) in latencies {
            if let Some(Limit(limit)) = limit {
                let latency = tally.latency.percentile(percent);
                let any = tally.latency.count() > 0;
                let measured = if any { millis(latency) } else { "no answer".to_owned() };
                lines.push(Line { objective, measured, limit: millis(limit), kept: any && latency <= limit });
            }
        }
        if let Some(limit) = self.min_rate {
            let rate = measured.rate();
            let (measured, kept) = (format!("{rate:.0}/s"), rate >= limit);
            lines.push(Line { objective: "min_rate", measured, limit: format!("{limit:.0}/s"), kept });
        }
        let ratios = [
            ("max_error_ratio", tally.error_ratio(), self.max_error_ratio),
            ("max_dropped_ratio", tally.dropped_ratio(), self.max_dropped_ratio),
        ];
        for (objective, ratio, limit) in ratios {
            if let Some(limit) = limit {
                let (measured, kept) = (format!("{ratio:.5}"), ratio <= limit);
                lines.push(Line { objective, measured, limit: limit.to_string(), kept });
            }
        }
        lines
    }
}

/// A latency in milliseconds.
fn millis(latency: Duration) -> String {
    format!("{:.3} ms", latency.as_secs_f64() * 1e3)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::{client::Answer, code::Code, tally::Tally};

    /// 99 calls of 1 ms, one of 10 ms, one failure, one dropped, in a second.
    fn measured() -> Measured {
        let mut tally = Tally { dropped: 1, ..Tally::default() };
        let answer = |code| Answer { code, message: String::new(), bytes: 0 };
        for _ in 0..99 {
            tally.record(answer(Code::OK), Duration::from_millis(1));
        }
        tally.record(answer(Code::OK), Duration::from_millis(10));
        tally.record(answer(Code::UNAVAILABLE), Duration::from_millis(1));
        let elapsed = Duration::from_secs(1);
        Measured { started: SystemTime::UNIX_EPOCH, elapsed, tally, server: None, client: None }
    }

    fn verdict(toml: &str) -> Vec<bool> {
        Slo::parse(toml).unwrap().judge(&measured()).iter().map(|l| l.kept).collect()
    }

    #[test]
    fn each_objective_is_judged() {
        assert_eq!(verdict("p50 = \"1.01ms\"\np99 = \"1.1 ms\"\np999 = \"5ms\""), [true, true, false]);
        assert_eq!(verdict("p90 = \"900us\""), [false]);
        assert_eq!(verdict("min_rate = 100\nmax_error_ratio = 0.01\nmax_dropped_ratio = 0.01"), [true, true, true]);
        assert_eq!(verdict("min_rate = 101\nmax_error_ratio = 0.009\nmax_dropped_ratio = 0"), [false, false, false]);
        let line = &Slo::parse("p999 = \"5ms\"").unwrap().judge(&measured())[0];
        assert_eq!(line.to_string(), "FAIL  p999                  10.002 ms  limit     5.000 ms".to_string().as_str());
    }

    #[test]
    fn silence_keeps_no_latency() {
        let silent = Measured { tally: Tally::default(), ..measured() };
        assert!(!Slo::parse("p99 = \"1s\"").unwrap().judge(&silent)[0].kept);
    }

    #[test]
    fn faults_of_a_file_are_named() {
        for (toml, reason) in [
            ("p95 = \"1ms\"", "unknown field `p95`"),
            ("p99 = 10", "p99"),
            ("p99 = \"10\"", "`10` is not a latency"),
            ("p99 = \"-1ms\"", "`-1ms` is not a latency"),
            ("max_error_ratio = 5", "max_error_ratio must be from 0 to 1"),
            ("min_rate = 0", "min_rate must be above 0"),
            ("", "no objective"),
        ] {
            let error = Slo::parse(toml).unwrap_err();
            assert!(error.contains(reason), "{toml}: {error}");
        }
        let error = Slo::read(Path::new("no.toml")).unwrap_err().to_string();
        assert!(error.starts_with("objectives in no.toml: "), "{error}");
    }
}
