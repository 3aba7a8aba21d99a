//! The summary for a terminal, and how figures are written everywhere.

use std::{fmt::Write as _, time::Duration};

use super::{Report, Step};

/// Percentiles that reports show.
pub(super) const PERCENTILES: [(&str, f64); 4] = [("p50", 50.0), ("p90", 90.0), ("p99", 99.0), ("p99.9", 99.9)];

impl Report {
    /// One step, in a few lines.
    #[must_use]
    pub fn summary(&self, step: &Step) -> String {
        let (measured, tally) = (&step.measured, &step.measured.tally);
        let (rows_ratio, requests_ratio) = self.ratios(step);
        let mut text = format!("{}\n", step.label);
        let line = |text: &mut String, name: &str, value: String| {
            // To a string, which does not fail.
            let _ = writeln!(text, "  {name:<12} {value}");
        };
        let beside =
            |ratio: Option<f64>, ceiling: &str| ratio.map_or(String::new(), |r| format!(" = {r:.2} of {ceiling}"));
        let requests = format!("{}/s{}", grouped(measured.rate()), beside(requests_ratio, "bare tonic"));
        line(&mut text, "answered", requests);
        if let Some(rows) = step.rows_per_second(self.rows) {
            let rows = format!("{}/s{}", grouped(rows), beside(rows_ratio, "ONNX Runtime in process"));
            line(&mut text, "rows", rows);
        }
        let percentiles = PERCENTILES.map(|(name, p)| format!("{name} {}", latency(tally.latency.percentile(p))));
        line(&mut text, "latency", format!("{}, max {}", percentiles.join(", "), latency(tally.latency.range().1)));
        if tally.lag.count() > 0 {
            let lag = [50.0, 99.0].map(|p| latency(tally.lag.percentile(p)));
            line(
                &mut text,
                "send lag",
                format!("p50 {}, p99 {} (the generator's own, within the latency)", lag[0], lag[1]),
            );
        }
        let outcome = format!(
            "{} of {} ({:.3} %), {} dropped",
            tally.sent() - tally.succeeded(),
            tally.sent(),
            tally.error_ratio() * 100.0,
            tally.dropped
        );
        line(&mut text, "failed", outcome);
        for ((code, message), n) in &tally.errors {
            line(&mut text, "", format!("{n} × {code}: {message}"));
        }
        let micros = |usage| measured.micros_per_call(usage).map(|m| format!("{m:.0} µs/request"));
        if let Some(server) = micros(measured.server) {
            let resident = measured.server.map_or(0, |u| u.resident) / 1_000_000;
            line(&mut text, "server CPU", format!("{server}, {resident} MB in memory"));
        }
        if let Some(client) = micros(measured.client) {
            line(&mut text, "client CPU", client);
        }
        for verdict in &step.verdict {
            let _ = writeln!(text, "  {verdict}");
        }
        text
    }
}

/// Three significant digits and a unit.
#[must_use]
pub fn latency(duration: Duration) -> String {
    let micros = duration.as_secs_f64() * 1e6;
    let (value, unit) = match micros {
        m if m < 1e3 => (m, "µs"),
        m if m < 1e6 => (m / 1e3, "ms"),
        m => (m / 1e6, "s"),
    };
    let digits = if value < 10.0 { 2 } else { usize::from(value < 100.0) };
    let digits = if unit == "µs" { 0 } else { digits };
    format!("{value:.digits$} {unit}")
}

/// A whole number with commas between thousands.
pub(super) fn grouped(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_readable() {
        let micros = |m| latency(Duration::from_micros(m));
        assert_eq!(
            [micros(940), micros(1_234), micros(12_345), micros(123_456)],
            ["940 µs", "1.23 ms", "12.3 ms", "123 ms"]
        );
        assert_eq!(micros(2_500_000), "2.50 s");
        assert_eq!([grouped(999.4), grouped(1_000.0), grouped(1_234_567.0)], ["999", "1,000", "1,234,567"]);
    }
}
